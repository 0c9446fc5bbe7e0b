"""What an encoder's parameters, notes and labels mean for fine-tuning."""

from functools import partial

import numpy as np
from sklearn.utils import column_or_1d

from .._private_errors import no_values_in_errors
from .._training import resolve_device
from ._backbone import ModelParts, tokenize
from ._chunking import chunk_tokens, split_notes, tokenize_in_parts
from ._labels import check_length, label_matrix
from ._special_tokens import prompt_tokens, special_tokens
from ._tuning_task import TuningData, TuningSettings

_LEARNING_RATES = {"lora": 1e-3, "full": 3e-5}


def tuning_settings(encoder, y, seed: int) -> TuningSettings:
    """Read an `LLMNoteEncoder`'s parameters."""
    objective = encoder.objective
    if objective == "auto":
        objective = "language" if y is None else "supervised"
    if objective == "supervised" and y is None:
        raise ValueError("objective='supervised' needs y; give y or use objective='language'.")
    device = resolve_device(encoder.device)
    return TuningSettings(
        method=encoder.fine_tuning,
        objective=objective,
        rank=encoder.lora_rank,
        max_epochs=encoder.max_epochs,
        learning_rate=encoder.learning_rate or _LEARNING_RATES[encoder.fine_tuning],
        batch_size=encoder.batch_size,
        gradient_accumulation=encoder.gradient_accumulation,
        gradient_checkpointing=encoder.gradient_checkpointing,
        warmup=encoder.warmup,
        validation_fraction=encoder.validation_fraction,
        n_iter_no_change=encoder.n_iter_no_change,
        class_weight=encoder.class_weight,
        max_chunks=encoder.max_chunks,
        pooling=encoder.pooling,
        chunk_pooling=encoder.chunk_pooling,
        bfloat16=encoder.dtype_ == "bfloat16",
        device=device,
        checkpoint_dir=encoder.checkpoint_dir,
        seed=seed,
        verbose=encoder.verbose,
    )


def tuning_data(
    parts: ModelParts, texts, y, groups, window: int, encoder, settings: TuningSettings
) -> TuningData:
    """Chunks, labels and groups of the notes that have tokens."""
    n_notes = len(texts)
    targets = None
    if settings.objective == "supervised":
        targets = label_matrix(y, n_notes)
    if groups is not None:
        with no_values_in_errors():
            groups = column_or_1d(groups)
        check_length("groups", len(groups), n_notes)
    prefix, suffix = special_tokens(parts.tokenizer)
    before, after = prompt_tokens(parts.tokenizer, encoder.prompt)
    prefix, suffix = [*prefix, *before], [*after, *suffix]
    pieces, note_of = split_notes(texts, encoder.split_on)
    ids = tokenize_in_parts(partial(tokenize, parts.tokenizer), pieces)
    chunks = chunk_tokens(ids, note_of, window, encoder.stride)
    rows: list[list[list[int]]] = [[] for _ in texts]
    for tokens, note in zip(chunks.tokens, chunks.note, strict=True):
        rows[note].append([*prefix, *tokens, *suffix])
    kept = np.array([i for i, note in enumerate(rows) if note], dtype=np.int64)
    return TuningData(
        [rows[i] for i in kept],
        None if targets is None else targets[kept],
        None if groups is None else groups[kept],
    )
