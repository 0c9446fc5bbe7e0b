"""What fine-tuning leaves: a LoRA adapter or all weights, as safetensors bytes, and their use."""

import functools
import hashlib
import warnings
from typing import Any, NamedTuple

import safetensors.torch
import torch
from peft import (
    LoraConfig,
    PeftModel,
    get_peft_model,
    get_peft_model_state_dict,
    set_peft_model_state_dict,
)

from .._generators import generators_put_back
from ._backbone import Backbone, ModelParts, base_fingerprint, load_parts
from ._model_source import BackboneSpec


class TunedWeights(NamedTuple):
    """Weights that fine-tuning changed.

    Attributes
    ----------
    method : {"lora", "full"}
        Whether they are an adapter or the whole model.
    rank : int
        Of the adapter.
    data : bytes
        safetensors.
    base : str
        Fingerprint of the model before.
    """

    method: str
    rank: int
    data: bytes
    base: str


def add_adapter(model: torch.nn.Module, rank: int) -> PeftModel:
    """Put a LoRA adapter (Hu et al. 2021) that changes nothing yet on every linear layer."""
    # the states do not pass through it
    has_pooler = any("pooler" in name for name, _ in model.named_modules())
    config = LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        lora_dropout=0.0,
        target_modules="all-linear",
        exclude_modules=r".*pooler.*" if has_pooler else None,
    )
    with warnings.catch_warnings():
        # peft's own call of a name that transformers is about to drop
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        return get_peft_model(model, config)


def write_weights(model: torch.nn.Module, method: str) -> bytes:
    """What was trained, as safetensors bytes in float32."""
    if method == "lora":
        # else peft asks the hub whether the vocabulary was resized
        tensors = get_peft_model_state_dict(model, save_embedding_layers=False)
    else:
        tensors = model.state_dict()
    return safetensors.torch.save(
        {name: tensor.detach().float().cpu().contiguous() for name, tensor in tensors.items()}
    )


def apply_weights(parts: ModelParts, tuned: TunedWeights) -> ModelParts:
    """The model with what was trained, in the form that it had before."""
    tensors = safetensors.torch.load(tuned.data)
    if tuned.method == "lora":
        # initial weights are drawn, only to be overwritten: not at the cost of the user's draws
        with generators_put_back():
            adapted: Any = add_adapter(parts.model, tuned.rank)
        set_peft_model_state_dict(adapted, tensors)
        model = adapted.merge_and_unload()
    else:
        parts.model.load_state_dict(tensors)
        model = parts.model
    return parts._replace(model=model.eval().requires_grad_(False))


@functools.lru_cache(maxsize=2)
def load_tuned_backbone(spec: BackboneSpec, tuned: TunedWeights) -> Backbone:
    """Load a fine-tuned model once per process.

    The adapter is added to the weights in float32, whatever the dtype in which the sum runs.
    """
    parts = load_parts(spec._replace(dtype="float32"))
    if base_fingerprint(parts) != tuned.base:
        raise ValueError(
            f"The weights or the tokenizer behind model={spec.model!r} are not those that were "
            "fine-tuned; give the folder or revision that was used in fit, or fit again."
        )
    parts = apply_weights(parts, tuned)
    torch.nn.Module.to(parts.model, dtype=getattr(torch, spec.dtype))
    backbone = Backbone(*parts, compile=spec.compile)
    # a digest of samples may miss a small change of the weights; one of all that was trained not
    digest = hashlib.sha256(backbone.fingerprint.encode() + tuned.data)
    backbone.fingerprint = digest.hexdigest()
    return backbone
