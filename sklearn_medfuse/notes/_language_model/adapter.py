"""What fine-tuning changes in a model, an adapter or all weights: make, write and apply it."""

import warnings
from typing import Any

import safetensors.torch
import torch

from ..._training import generators_put_back
from .source import TunedWeights


def add_adapter(
    model: torch.nn.Module, rank: int, targets: str | tuple[str, ...] | None = None
) -> Any:
    """Add a LoRA adapter (Hu et al. 2021) to layers, by default all; it changes nothing yet."""
    # Importing peft takes longer than embedding with a frozen model
    from peft import LoraConfig, get_peft_model

    # NOTE[DIFF] (LoRA targets): the paper names none; rank 8 on every layer suits all families
    how: dict[str, Any] = {"target_modules": targets}
    if targets is None:
        how = {"target_modules": "all-linear", "exclude_modules": _not_adapted(model) or None}
    elif not isinstance(targets, str):
        names = [f".{name}" for name, _ in model.named_modules()]
        how["target_modules"] = list(targets)
        if not all(any(name.endswith(f".{end}") for name in names) for end in targets):
            # If it finds another name, peft silently leaves this one out
            raise ValueError(_no_layer(model, targets))
    config = LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.0, **how)
    with warnings.catch_warnings():
        # peft itself uses a name that transformers is about to drop
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        # Its own patterns, for experts that are one tensor
        warnings.filterwarnings("ignore", "The following .*_pattern keys", RuntimeWarning)
        warnings.filterwarnings("ignore", "target_parameters=", RuntimeWarning)
        # It corrects the setting that it warns about
        warnings.filterwarnings("ignore", "fan_in_fan_out is set to", UserWarning)
        # The adapter of a grouped convolution cannot be merged
        warnings.filterwarnings("error", "LoRA adapter added to ConvNd", UserWarning)
        try:
            return get_peft_model(model, config)
        except (ValueError, UserWarning) as error:
            raise ValueError(_no_layer(model, targets)) from error


def _no_layer(model: torch.nn.Module, targets: str | tuple[str, ...] | None) -> str:
    layers = {
        f"{name.rpartition('.')[2]} ({type(module).__name__})"
        for name, module in model.named_modules()
        if any(weight.ndim > 1 for weight in module.parameters(recurse=False))
    }
    return (
        f"fine_tuning='lora' with target_modules={targets!r} names no layer that peft can adapt. "
        f"The model's layers are {', '.join(sorted(layers))}: name others of them, or use "
        "fine_tuning='full' or None."
    )


def _not_adapted(model: torch.nn.Module) -> list[str]:
    """Names of layers that an adapter would not reach or that the states do not depend on."""
    found = []
    for name, module in model.named_modules():
        # Fused kernels of Mamba read the weights directly
        parent, _, last = name.rpartition(".")
        is_fused = last == "out_proj" and hasattr(model.get_submodule(parent), "conv1d")
        if "pooler" in name or is_fused or _gives_other(module):
            found.append(name)
    return found


def _gives_other(layer: torch.nn.Module) -> bool:
    """Whether a linear layer returns something other than a product, as routers do."""
    if not isinstance(layer, torch.nn.Linear) or type(layer).forward is torch.nn.Linear.forward:
        return False
    try:
        with torch.no_grad():
            found = layer(layer.weight.new_zeros(1, layer.in_features))
    except RuntimeError:
        return True
    return getattr(found, "shape", None) != (1, layer.out_features)


def write_weights(model: torch.nn.Module, method: str) -> bytes:
    """The trained weights as safetensors bytes in float32."""
    if method == "lora":
        from peft import get_peft_model_state_dict

        # Otherwise peft asks the hub whether the vocabulary was resized
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

        # Initial weights, drawn only to be overwritten, must not advance the user's generators
        with generators_put_back():
            model = add_adapter(model, tuned.rank, tuned.targets)
        set_peft_model_state_dict(model, tensors)
        model = model.merge_and_unload()
    else:
        model.load_state_dict(tensors)
    return model.eval().requires_grad_(False)
