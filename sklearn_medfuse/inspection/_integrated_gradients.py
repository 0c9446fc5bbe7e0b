"""Integrated gradients of a pipeline's log-odds along the tokens of its notes, with captum.

This file alone reads the private gradients of `fusion` and `notes`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline

from ..fusion import MEDFuseClassifier
from ..fusion._insight import differentiable_logits
from ..notes import LLMNoteEncoder
from ..notes._language_model.gradients import TokenWindows
from ._variants import VariantModel, column_names

# Number of copies of a text whose gradients are in memory at once
_COPIES = 8

Attributed = tuple[list[list[tuple[int, int]]], list[np.ndarray], np.ndarray, np.ndarray]


def integrate_gradients(
    model: VariantModel, note_columns: list[str], chosen: list[int], n_steps: int
) -> dict[str, Attributed]:
    """Attribute log-odds of the `chosen` labels to tokens of columns that one encoder reads.

    Returns spans, effects, base and predictions as in `NoteAttributions`, by column.
    """
    try:
        from captum.attr import IntegratedGradients
    except ImportError as error:
        raise ImportError(
            "method='integrated_gradients' needs captum, which is not installed: run "
            '`pip install "sklearn-medfuse[inspection]"`.'
        ) from error
    path = _Path(model, note_columns)
    base, predicted = (np.empty((len(model.X), len(chosen))) for _ in range(2))
    found: dict[str, Attributed] = {name: ([], [], base, predicted) for name in note_columns}
    for row in range(len(model.X)):
        windows = path.windows(row)
        if windows is None:
            base[row] = predicted[row] = path.without_note(row)[chosen]
            placed, effects = [], np.zeros((0, len(chosen)))
        else:
            forward = path.forward(row, windows)
            end, start = path.notes.embeddings(windows)
            with torch.no_grad():
                ends = forward(torch.stack([start, end]))[:, chosen]
            base[row], predicted[row] = ends.cpu().numpy()
            placed = windows.placed
            gradients = [
                IntegratedGradients(forward).attribute(
                    end[None],
                    start[None],
                    target=label,
                    n_steps=n_steps,
                    method="gausslegendre",
                    internal_batch_size=_COPIES,
                )[0]
                for label in chosen
                if placed
            ]
            effects = _sum_by_token(gradients, windows)
        column = np.array([place.column for place in placed], dtype=int)
        for name, (spans, effects_of_column, *_) in found.items():
            here = np.flatnonzero(column == path.columns.index(name))
            spans.append([(placed[i].start, placed[i].stop) for i in here])
            effects_of_column.append(effects[here])
    return found


def _sum_by_token(gradients: list[torch.Tensor], windows: TokenWindows) -> np.ndarray:
    """Add up the gradients of each label by token of the note; windows share some tokens."""
    total = np.zeros((len(windows.placed), len(gradients)))
    of_note = windows.token >= 0
    for i, gradient in enumerate(gradients):
        values = gradient.sum(dim=-1).detach().cpu().numpy()
        np.add.at(total[:, i], windows.token[of_note], values[of_note])
    return total


class _Path:
    """From the embeddings of a note, with the rest of its stay fixed, to log-odds of all labels."""

    def __init__(self, model: VariantModel, note_columns: list[str]) -> None:
        pipe = model.estimator
        usual = (
            isinstance(pipe, Pipeline)
            and len(pipe.steps) == 2
            and isinstance(pipe[0], ColumnTransformer)
            and isinstance(pipe[1], MEDFuseClassifier)
        )
        readers: list[tuple[str, Any, list[str]]] = [
            (name, transformer, column_names(columns) or [])
            for name, transformer, columns in (pipe[0].transformers_ if usual else [])
            if transformer != "drop" and set(note_columns) & set(column_names(columns) or [])
        ]
        name, encoder, self.columns = readers[0] if len(readers) == 1 else ("", None, [])
        if not isinstance(encoder, LLMNoteEncoder) or not set(note_columns) <= set(self.columns):
            raise ValueError(
                "method='integrated_gradients' needs a pipeline of a ColumnTransformer, in which "
                f"one LLMNoteEncoder alone reads {' and '.join(map(repr, note_columns))}, and a "
                "MEDFuseClassifier. The views 'words', 'naive_bayes' and 'lab_text' of "
                "make_medfuse_pipeline read notes too: fit one with views={'boosted': True}, or "
                "use method='leave_out'."
            )
        self.n_labels = len(model.label_names)
        self.cells = model.X[self.columns]
        self.attributed = {self.columns.index(column) for column in note_columns}
        self.notes = encoder._differentiable()
        self.classifier = pipe[1]
        self.place = pipe[0].output_indices_[name]
        self.encoded = np.asarray(pipe[0].transform(model.X), dtype=np.float64)

    def windows(self, row: int) -> TokenWindows | None:
        """Cut the text of a stay; None if it has no token."""
        return self.notes.windows(self.cells.iloc[row].tolist(), self.attributed)

    def without_note(self, row: int) -> np.ndarray:
        """Return log-odds (n_labels,) of a stay without a note."""
        with torch.no_grad():
            return self._log_odds(self._rest(row))[0].cpu().numpy()

    def forward(self, row: int, windows: TokenWindows) -> Callable[[torch.Tensor], torch.Tensor]:
        """Return log-odds as a function of embeddings (n_copies, n_windows, length, d)."""
        rest = self._rest(row)

        def log_odds(embeddings: torch.Tensor) -> torch.Tensor:
            vectors = self.notes.vectors(embeddings, windows).double()
            around = rest.expand(len(vectors), -1)
            before, after = around[:, : self.place.start], around[:, self.place.stop :]
            return self._log_odds(torch.cat([before, vectors, after], dim=1))

        return log_odds

    def _rest(self, row: int) -> torch.Tensor:
        return torch.from_numpy(self.encoded[[row]]).to(self.notes.device)

    def _log_odds(self, X: torch.Tensor) -> torch.Tensor:
        logits = differentiable_logits(self.classifier, X)
        kind = self.classifier._target_kind
        if kind == "binary" and self.n_labels == 2:
            return torch.cat([-logits, logits], dim=1)
        if kind == "multiclass":
            log_p = logits.log_softmax(dim=1)
            return log_p - torch.log(-torch.expm1(log_p))
        return logits
