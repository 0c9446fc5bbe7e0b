"""What an encoder's parameters and fitted state mean for its model: which, on what, in what pieces.

Each function takes an `LLMNoteEncoder`.
"""

from collections.abc import Callable
from functools import partial

from .._training import resolve_fitted_device
from ._backbone import Backbone, choose_dtype, load_backbone
from ._compiled import resolve_compile
from ._embedding import NoteEmbedder
from ._embedding_cache import Cache, LayeredCache, process_cache
from ._folder_cache import open_folder_cache
from ._model_checks import refuse_changed_files
from ._model_files import load_files
from ._model_source import BackboneSpec, find_model
from ._special_tokens import prompt_tokens, special_tokens
from ._workers import Recipe


def backbone_spec(encoder) -> BackboneSpec:
    """What identifies the encoder's model in this process."""
    # fit has refused a device that is not there
    device = resolve_fitted_device(encoder.device)
    placed = encoder.quantization is not None or encoder.device_map is not None
    return BackboneSpec(
        encoder.model,
        encoder.revision,
        getattr(encoder, "dtype_", None) or choose_dtype(encoder.dtype, device),
        str(device),
        encoder.local_files_only,
        encoder.trust_remote_code,
        encoder.quantization,
        encoder.device_map,
        resolve_compile(encoder.compile, device, placed),
    )


def tuned_fields(encoder) -> tuple | None:
    """Fields of `TunedWeights`, None for a frozen model."""
    if not hasattr(encoder, "tuned_data_"):
        return None
    return (
        encoder.tuned_method_,
        encoder.tuned_rank_,
        encoder.tuned_data_,
        encoder.base_fingerprint_,
    )


def encoder_recipe(encoder) -> Recipe:
    """How any process gets the model, whose files have to be those of fit."""
    spec = backbone_spec(encoder)
    if expected := getattr(encoder, "model_sha256_", None):
        refuse_changed_files(encoder.model, find_model(spec), expected)
    load: Callable[[BackboneSpec], Backbone] = load_backbone
    if hasattr(encoder, "model_files_"):
        load = partial(load_files, files=tuple(encoder.model_files_.items()))
    elif (tuned := tuned_fields(encoder)) is not None:
        # peft takes longer to import than a frozen encoder to work
        from ._adapter import TunedWeights, load_tuned_backbone

        load = partial(load_tuned_backbone, tuned=TunedWeights(*tuned))
    return Recipe(load, spec)


def note_embedder(encoder, recipe: Recipe) -> NoteEmbedder:
    """What embeds notes with the model."""
    backbone = recipe.backbone()
    return NoteEmbedder(
        recipe,
        pooling=backbone.pooling if encoder.pooling == "auto" else encoder.pooling,
        window=tokens_per_window(encoder, backbone.tokenizer, backbone.max_length),
        stride=encoder.stride,
        split_on=encoder.split_on,
        prompt=encoder.prompt or "",
        batch_tokens=encoder.batch_tokens,
        cache=vector_cache(encoder),
        n_jobs=None if encoder.device_map else encoder.n_jobs,
    )


def tokens_per_window(encoder, tokenizer, longest: int) -> int:
    """Tokens of a note per window: what special tokens and the prompt leave of the length."""
    special = sum(map(len, special_tokens(tokenizer)))
    prompt = sum(map(len, prompt_tokens(tokenizer, encoder.prompt)))
    window = (encoder.max_length or longest) - special - prompt
    if window <= encoder.stride:
        raise ValueError(
            f"max_length={encoder.max_length} leaves {window} tokens per window beside {special} "
            f"special ones and {prompt} of the prompt, not more than stride={encoder.stride}; "
            "raise max_length or lower stride, or look at the settings in the files of "
            f"model={encoder.model!r}."
        )
    return window


def vector_cache(encoder) -> Cache:
    """Where vectors are kept: in memory, and in a folder where one is named."""
    if encoder.cache is None:
        return process_cache
    folder = open_folder_cache(encoder.cache, encoder.cache_max_bytes)
    return LayeredCache(process_cache, folder)
