"""The task of fine-tuning: the model with a head, and the loss of a batch of notes."""

import os
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from ..._nn.chunk_pooling import pool_chunks, pool_tokens
from .._language_model.backbone import ModelParts, add_adapter, pad_rows
from .._language_model.windows import packed_batches

# Tokens of like length that are run together in a batch
_RUN_TOKENS = 1024
# Devlin et al. 2019, section 3.1
_MASKED_SHARE = 0.15
# Tokens of a window up to which its scores of attention are few enough to be kept
_LONGEST_EAGER = 512
# Inverse strengths of the penalty on weights of standardised vectors; notes held out choose
_STRENGTHS = (0.001, 0.003, 0.01, 0.1, 1.0)


class TuningSettings(NamedTuple):
    """How to fine-tune; `LLMNoteEncoder` documents the parameters of these names."""

    fine_tuning: str
    objective: str
    lora_rank: int
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
    checkpoint_dir: str | os.PathLike | None
    verbose: int
    bfloat16: bool
    device: torch.device
    seed: int


class TuningData(NamedTuple):
    """Notes that have tokens.

    Attributes
    ----------
    windows : list of lists of rows
        Token ids of each note's windows, special tokens included.
    y : float32 array of shape (n_notes, n_labels) or None
        Labels; None for language modelling.
    groups : array of shape (n_notes,) or None
        Groups that the validation split must not part.
    """

    windows: list[list[list[int]]]
    y: np.ndarray | None
    groups: np.ndarray | None


class TuningBatch(NamedTuple):
    """A batch that can be computed in parts.

    Attributes
    ----------
    n_rows : int
        Its notes, or in language modelling its windows.
    loss : callable
        ``loss(rows)`` is the share of a slice of rows in the batch's mean loss.
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
        self.pooling = parts.pooling if settings.pooling == "auto" else settings.pooling
        self.pad = parts.tokenizer.pad_token_id
        self.mask_token = parts.tokenizer.mask_token_id
        model: Any = parts.model
        width = model.config.get_text_config().hidden_size
        if settings.fine_tuning == "lora":
            self.model = add_adapter(model, settings.lora_rank)
        else:
            self.model = model.requires_grad_(True)
        longest = max(len(row) for note in data.windows for row in note)
        if settings.device.type == "cpu" and longest <= _LONGEST_EAGER:
            # On a CPU torch's fused attention takes a third of the time of all, in its gradient
            model.set_attn_implementation("eager")
        if settings.gradient_checkpointing:
            # A frozen embedding's output needs a gradient, or none flows back through a layer that
            # is computed again
            model.enable_input_require_grads()
            # Renamed in transformers 5
            name = "activation_checkpointing_enable"
            enable = getattr(model, name, None) or model.gradient_checkpointing_enable
            enable({"use_reentrant": False})
        if data.y is not None:
            rate = torch.tensor(data.y.mean(axis=0)).clamp(1e-3, 1 - 1e-3)
            self.register_buffer("rate", rate)
            self.head = LogisticHead(width, data.y.shape[1])
        # Logits are products with the embeddings of the vocabulary
        elif self.mask_token is None:
            self.head = nn.Identity()
        else:
            self.head = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width))

    def batch(
        self, notes: list[list[list[int]]], y: Tensor | None, generator: torch.Generator
    ) -> TuningBatch:
        """Prepare notes for `loss`; all random draws happen here."""
        if y is not None:
            return TuningBatch(len(notes), lambda rows: self._supervised(notes, y, rows))
        rows = [row for note in notes for row in note]
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
            vectors.append(pool_tokens(states, visible, self.pooling))
        # Back to the order of the rows
        return torch.cat(vectors)[np.argsort(np.concatenate(parts))]

    def note_vectors(self, notes: list[list[list[int]]]) -> Tensor:
        """Vectors of notes, pooled over their windows."""
        rows = [row for note in notes for row in note]
        vectors = self._vectors(rows)
        if self.normalize:
            vectors = F.normalize(vectors, dim=1)
        note_of = torch.tensor(
            [i for i, note in enumerate(notes) for _ in note], device=vectors.device
        )
        lengths = torch.tensor([float(len(row)) for row in rows], device=vectors.device)
        how = "mean" if self.settings.chunk_pooling == "attention" else self.settings.chunk_pooling
        return pool_chunks(vectors, note_of, len(notes), lengths, how)

    def _supervised(self, notes, y: Tensor, rows: slice) -> Tensor:
        """Share that some notes have in the mean loss over notes and labels."""
        y, share = y[rows], (rows.stop - rows.start) / len(notes)
        logits = self.head(self.note_vectors(notes[rows])).float()
        weight = None
        if self.settings.class_weight == "balanced":
            # Both classes of a label weigh one half, as in scikit-learn's "balanced"
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
        # Of these, 8 in 10 are hidden, 1 in 10 is another token and 1 in 10 stays
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
        """Copies of the parameters that training changes."""
        return {name: p.detach().clone() for name, p in self.trained().items()}


class LogisticHead(nn.Module):
    """A penalised logistic regression on standardised vectors, which begins at its optimum.

    A head that begins at zero learns the training notes by heart while the model has hardly moved,
    and its first gradients distort what the model knew (Kumar et al. 2022).
    """

    center: Tensor
    scale: Tensor
    strength: Tensor

    def __init__(self, width: int, n_labels: int):
        super().__init__()
        self.linear = nn.Linear(width, n_labels)
        self.register_buffer("center", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))
        self.register_buffer("strength", torch.zeros(()))

    def start(
        self,
        vectors: np.ndarray,
        y: np.ndarray,
        held_out: tuple[np.ndarray, np.ndarray],
        class_weight: str | None,
    ) -> None:
        """Fit to the vectors and labels of the notes to train on, before the model is trained.

        Vectors and labels held out choose the strength of the penalty.
        """
        center, scale = vectors.mean(axis=0), vectors.std(axis=0)
        scale[scale < 1e-6] = 1.0
        standard, others = (vectors - center) / scale, (held_out[0] - center) / scale
        best = np.inf
        for strength in _STRENGTHS:
            coef, intercept = _fit_labels(standard, y, strength, class_weight)
            logits = others @ coef.T + intercept
            # Mean binary cross-entropy
            loss = float(np.mean(np.logaddexp(0, logits) - held_out[1] * logits))
            if loss < best:
                best, chosen = loss, (coef, intercept, strength)
        coef, intercept, strength = chosen
        with torch.no_grad():
            self.center.copy_(torch.tensor(center))
            self.scale.copy_(torch.tensor(scale))
            self.linear.weight.copy_(torch.tensor(coef))
            self.linear.bias.copy_(torch.tensor(intercept))
            # Of the mean over notes and labels, as the loss is
            self.strength.fill_(1 / (2 * strength * y.size))

    def forward(self, vectors: Tensor) -> Tensor:
        """Give logits (n_notes, n_labels) of vectors (n_notes, width)."""
        return self.linear((vectors - self.center) / self.scale)

    def penalty(self) -> Tensor:
        """Give the penalty on the weights."""
        return self.strength * self.linear.weight.square().sum()


def _fit_labels(X, y, strength: float, class_weight) -> tuple[np.ndarray, np.ndarray]:
    coef = np.zeros((y.shape[1], X.shape[1]), dtype=np.float32)
    rate = y.mean(axis=0).clip(1e-3, 1 - 1e-3)
    intercept = np.log(rate / (1 - rate)).astype(np.float32)
    for label, target in enumerate(y.T):
        # A label that all or none have is left to its rate
        if target.min() < target.max():
            model = LogisticRegression(C=strength, class_weight=class_weight, max_iter=1000)
            model.fit(X, target)
            coef[label], intercept[label] = model.coef_[0], model.intercept_[0]
    return coef, intercept
