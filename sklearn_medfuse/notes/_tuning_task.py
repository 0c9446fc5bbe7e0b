"""What fine-tuning trains and for what: the model with a head, and the loss of a batch of notes."""

import os
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._nn.chunk_pooling import pool_chunks, pool_tokens
from ._adapter import add_adapter
from ._backbone import ModelParts, pad_rows
from ._chunking import packed_batches
from ._tuning_head import LogisticHead

# tokens of like length that are run together in a batch
_RUN_TOKENS = 1024
# Devlin et al. 2019, section 3.1
_MASKED_SHARE = 0.15
# tokens of a chunk up to which its scores of attention are few enough to be kept
_LONGEST_EAGER = 512


class TuningSettings(NamedTuple):
    """How to fine-tune; `LLMNoteEncoder` documents the parameters of these names."""

    method: str
    objective: str
    rank: int
    max_epochs: int
    learning_rate: float
    batch_size: int
    gradient_accumulation: int
    gradient_checkpointing: bool
    warmup: float
    validation_fraction: float
    n_iter_no_change: int
    class_weight: str | None
    max_chunks: int
    pooling: str
    chunk_pooling: str
    bfloat16: bool
    device: torch.device
    checkpoint_dir: str | os.PathLike | None
    seed: int
    verbose: int


class TuningData(NamedTuple):
    """Notes that have tokens.

    Attributes
    ----------
    chunks : list of lists of rows
        Token ids of each note's chunks, special tokens included.
    y : float32 array of shape (n_notes, n_labels) or None
        Labels; None for language modelling.
    groups : array of shape (n_notes,) or None
        What the validation split must not part.
    """

    chunks: list[list[list[int]]]
    y: np.ndarray | None
    groups: np.ndarray | None


class TuningBatch(NamedTuple):
    """A batch that can be computed in parts.

    Attributes
    ----------
    n_rows : int
        Its notes, or in language modelling its windows.
    loss : callable
        ``loss(rows)`` is what a slice of the rows adds to the batch's mean loss.
    """

    n_rows: int
    loss: Callable[[slice], Tensor]


class TuningTask(nn.Module):
    """The model with the head of its objective."""

    model: Any
    head: Any
    rate: Tensor

    def __init__(self, parts: ModelParts, data: TuningData, settings: TuningSettings):
        super().__init__()
        self.settings = settings
        self.normalize = parts.normalize
        self.pad = parts.tokenizer.pad_token_id
        self.mask_token = parts.tokenizer.mask_token_id
        model = parts.model
        width = model.config.get_text_config().hidden_size
        if settings.method == "lora":
            self.model = add_adapter(model, settings.rank)
        else:
            self.model = model.requires_grad_(True)
        if settings.device.type == "cpu" and _longest(data) <= _LONGEST_EAGER:
            # on a CPU torch's fused attention takes a third of the time of all, in its gradient
            model.set_attn_implementation("eager")
        if settings.gradient_checkpointing:
            _checkpoint_activations(model)
        if settings.objective == "supervised":
            assert data.y is not None
            rate = torch.tensor(data.y.mean(axis=0)).clamp(1e-3, 1 - 1e-3)
            self.register_buffer("rate", rate)
            self.head = LogisticHead(width, data.y.shape[1])
        # logits are products with the embeddings of the vocabulary
        elif self.mask_token is None:
            self.head = nn.Identity()
        else:
            self.head = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width))

    def batch(
        self, chunks: list[list[list[int]]], y: Tensor | None, generator: torch.Generator
    ) -> "TuningBatch":
        """Notes whose loss is asked for; all that is drawn of it is drawn here."""
        if self.settings.objective == "supervised":
            return TuningBatch(len(chunks), lambda rows: self._supervised(chunks, y, rows))
        rows = [row for note in chunks for row in note]
        ids, visible = pad_rows(rows, max(map(len, rows)), self.pad, self.settings.device)
        shown, targets, guessed = self._hide(ids, visible, generator)
        return TuningBatch(
            len(rows), lambda rows: self._language(shown, visible, targets, guessed, rows)
        )

    def precision(self):
        """Context of a forward pass."""
        kind = self.settings.device.type
        return torch.autocast(kind, dtype=torch.bfloat16, enabled=self.settings.bfloat16)

    def _states(self, ids: Tensor, visible: Tensor) -> Tensor:
        return self.model(input_ids=ids, attention_mask=visible.long()).last_hidden_state

    def _vectors(self, rows: list[list[int]]) -> Tensor:
        """Pooled states of rows, those of like length run together: most padding is saved."""
        lengths = np.array([len(row) for row in rows])
        parts = packed_batches(lengths, _RUN_TOKENS)
        vectors = []
        for part in parts:
            width = int(lengths[part].max())
            part_rows = [rows[i] for i in part]
            ids, visible = pad_rows(part_rows, width, self.pad, self.settings.device)
            states = self._states(ids, visible).float()
            vectors.append(pool_tokens(states, visible, self.settings.pooling))
        # back to the order of the rows
        return torch.cat(vectors)[np.argsort(np.concatenate(parts))]

    def note_vectors(self, chunks: list[list[list[int]]]) -> Tensor:
        """Vectors of notes, pooled over their chunks."""
        rows = [row for note in chunks for row in note]
        vectors = self._vectors(rows)
        if self.normalize:
            vectors = F.normalize(vectors, dim=1)
        note = torch.tensor(
            [i for i, note in enumerate(chunks) for _ in note], device=vectors.device
        )
        lengths = torch.tensor([float(len(row)) for row in rows], device=vectors.device)
        how = "mean" if self.settings.chunk_pooling == "attention" else self.settings.chunk_pooling
        return pool_chunks(vectors, note, len(chunks), lengths, how)

    def _supervised(self, chunks, y, rows: slice) -> Tensor:
        """Share that some notes have in the mean loss over notes and labels."""
        y, share = y[rows], (rows.stop - rows.start) / len(chunks)
        logits = self.head(self.note_vectors(chunks[rows])).float()
        weight = None
        if self.settings.class_weight == "balanced":
            # both classes of a label weigh one half, as in scikit-learn's "balanced"
            weight = torch.where(y > 0, 0.5 / self.rate, 0.5 / (1 - self.rate))
        loss = F.binary_cross_entropy_with_logits(logits, y, weight)
        return (loss + self.head.penalty() if self.training else loss) * share

    def _hide(self, ids: Tensor, visible: Tensor, generator) -> tuple[Tensor, Tensor, Tensor]:
        """Token ids that are shown, those that are right, and where they are to be guessed."""
        if self.mask_token is None:
            return ids, ids[:, 1:], visible[:, 1:]
        n_tokens = len(self.model.get_input_embeddings().weight)
        draw = torch.rand(ids.shape, generator=generator).to(ids.device)
        guessed = visible & (draw < _MASKED_SHARE)
        # of these, 8 in 10 are hidden, 1 in 10 is another token and 1 in 10 stays
        other = torch.randint(n_tokens, ids.shape, generator=generator).to(ids.device)
        shown = torch.where(guessed & (draw < 0.8 * _MASKED_SHARE), self.mask_token, ids)
        shown = torch.where(guessed & (draw > 0.9 * _MASKED_SHARE), other, shown)
        return shown, ids, guessed

    def _language(self, shown, visible, targets, guessed, rows: slice) -> Tensor:
        """Share that some windows have in the mean loss over the tokens that are to be guessed."""
        states = self._states(shown[rows], visible[rows])[:, : targets.shape[1]]
        own = guessed[rows]
        if not own.any():
            return states.sum() * 0.0
        logits = self.head(states[own]) @ self.model.get_input_embeddings().weight.T
        loss = F.cross_entropy(logits.float(), targets[rows][own])
        return loss * (own.sum() / guessed.sum())

    def trained(self) -> dict[str, Tensor]:
        """Parameters that training changes, by name."""
        return {name: p for name, p in self.named_parameters() if p.requires_grad}

    def kept(self) -> dict[str, Tensor]:
        """Copies of what training changes, as they are now."""
        return {name: p.detach().clone() for name, p in self.trained().items()}


def _longest(data: TuningData) -> int:
    return max(len(row) for note in data.chunks for row in note)


def _checkpoint_activations(model: Any) -> None:
    # a frozen embedding's output needs a gradient, or none flows back through a recomputed layer
    model.enable_input_require_grads()
    # renamed in transformers 5
    name = "activation_checkpointing_enable"
    enable = getattr(model, name, None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})
