"""What fine-tuning changes of a model: an adapter or all weights, made, written and put back."""

import warnings
from typing import Any

import safetensors.torch
import torch

from ..._training import generators_put_back
from .source import TunedWeights


def add_adapter(model: torch.nn.Module, rank: int) -> Any:
    """Put a LoRA adapter (Hu et al. 2021) that changes nothing yet on every linear layer."""
    # peft takes longer to import than a frozen model to work
    from peft import LoraConfig, get_peft_model

    # The states do not pass through the pooler
    has_pooler = any("pooler" in name for name, _ in model.named_modules())
    # NOTE[DIFF] (LoRA targets): the paper names none; rank 8 on every layer suits all families
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
        try:
            return get_peft_model(model, config)
        except ValueError as error:
            kinds = sorted({type(module).__name__ for module in model.modules()})
            raise ValueError(
                "fine_tuning='lora' finds no linear layer that peft can adapt in this model, whose "
                f"modules are {', '.join(kinds)}; use fine_tuning='full' or None."
            ) from error


def write_weights(model: torch.nn.Module, method: str) -> bytes:
    """The trained weights as safetensors bytes in float32."""
    if method == "lora":
        from peft import get_peft_model_state_dict

        # Else peft asks the hub whether the vocabulary was resized
        tensors = get_peft_model_state_dict(model, save_embedding_layers=False)
    else:
        tensors = model.state_dict()
    return safetensors.torch.save(
        {name: tensor.detach().float().cpu().contiguous() for name, tensor in tensors.items()}
    )


def apply_weights(model: Any, tuned: TunedWeights) -> Any:
    """The model with the trained weights, in its original form."""
    tensors = safetensors.torch.load(tuned.data)
    if tuned.method == "lora":
        from peft import set_peft_model_state_dict

        # Initial weights are drawn, only to be overwritten: not at the cost of the user's draws
        with generators_put_back():
            model = add_adapter(model, tuned.rank)
        set_peft_model_state_dict(model, tensors)
        model = model.merge_and_unload()
    else:
        model.load_state_dict(tensors)
    return model.eval().requires_grad_(False)
