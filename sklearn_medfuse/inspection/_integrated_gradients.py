"""Integrated gradients of a pipeline's log-odds along the tokens of its notes, by captum."""

from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline

from ..fusion import MEDFuseClassifier
from ..fusion._insight import differentiable_logits
from ..notes import LLMNoteEncoder
from ..notes._differentiable import DifferentiableNotes, Placed, TokenWindows
from ._note_units import Span
from ._variants import VariantModel, column_names

# copies of a row's text whose gradients are in memory at once
_COPIES = 8


class Attributed(NamedTuple):
    """What `NoteAttributions` holds, of one column."""

    spans: list[list[Span]]
    effects: list[np.ndarray]
    base: np.ndarray
    predicted: np.ndarray


def integrate_gradients(
    model: VariantModel, note_columns: list[str], chosen: list[int], n_steps: int
) -> dict[str, Attributed]:
    """Attribute log-odds to the tokens of the columns of notes.

    Parameters
    ----------
    model : VariantModel
        Of a pipeline as `make_medfuse_pipeline` builds it.
    note_columns : list of str
        The columns, all of one encoder.
    chosen : list of int
        Labels.
    n_steps : int
        Steps of the path.

    Returns
    -------
    dict of str to Attributed
        By column; base and predicted are the same of all.
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
    found = {name: Attributed([], [], base, predicted) for name in note_columns}
    for row in range(len(model.X)):
        windows = path.windows(row)
        placed: list[Placed] = []
        effects = np.zeros((0, len(chosen)))
        if windows is None:
            base[row] = predicted[row] = path.without_note(row)[chosen]
        else:
            placed = windows.placed
            start, end = path.notes.embeddings(windows)[::-1]
            forward = path.forward(row, windows)
            with torch.no_grad():
                ends = forward(torch.stack([start, end]))[:, chosen].cpu().numpy()
            base[row], predicted[row] = ends
        if windows is not None and placed:
            gradients = IntegratedGradients(forward)
            values = [
                gradients.attribute(
                    end[None],
                    start[None],
                    target=label,
                    n_steps=n_steps,
                    method="gausslegendre",
                    internal_batch_size=_COPIES,
                )[0].sum(dim=-1)
                for label in chosen
            ]
            effects = _by_token(torch.stack(values, dim=-1).detach().cpu().numpy(), windows)
        column = np.array([place.column for place in placed], dtype=int)
        for name, attributed in found.items():
            here = np.flatnonzero(column == path.columns.index(name))
            attributed.spans.append([(placed[i].start, placed[i].stop) for i in here])
            attributed.effects.append(effects[here])
    return found


class _Path:
    """From a row's embeddings, with the rest of its stay fixed, to the log-odds of all labels."""

    def __init__(self, model: VariantModel, note_columns: list[str]):
        pipe = model.estimator
        usual = (
            isinstance(pipe, Pipeline)
            and len(pipe.steps) == 2
            and isinstance(pipe[0], ColumnTransformer)
            and isinstance(pipe[1], MEDFuseClassifier)
        )
        readers = {}
        if usual:
            readers = {
                name: (transformer, column_names(columns) or [])
                for name, transformer, columns in pipe[0].transformers_
                if transformer != "drop" and set(note_columns) & set(column_names(columns) or [])
            }
        encoder: Any
        self.columns: list[str]
        encoder, self.columns = next(iter(readers.values()), (None, []))
        one = len(readers) == 1 and set(note_columns) <= set(self.columns)
        if not one or not isinstance(encoder, LLMNoteEncoder):
            raise ValueError(
                "method='integrated_gradients' needs a pipeline of a ColumnTransformer, in which "
                f"one LLMNoteEncoder alone reads {' and '.join(map(repr, note_columns))}, and a "
                "MEDFuseClassifier; use method='leave_out'."
            )
        self.cells = model.X[self.columns]
        self.attributed = {self.columns.index(name) for name in note_columns}
        self.notes = DifferentiableNotes(encoder)
        self.classifier = pipe[1]
        self.place = pipe[0].output_indices_[next(iter(readers))]
        self.encoded = np.asarray(pipe[0].transform(model.X), dtype=np.float64)

    def windows(self, row: int) -> TokenWindows | None:
        """Cut the text of a stay, None where it has no token."""
        return self.notes.windows(self.cells.iloc[row].tolist(), self.attributed)

    def without_note(self, row: int) -> np.ndarray:
        """Log-odds (n_labels,) of a stay that has no note."""
        with torch.no_grad():
            logits = differentiable_logits(
                self.classifier, torch.from_numpy(self.encoded[[row]]).to(self.notes.device)
            )
        return self._log_odds(logits)[0].cpu().numpy()

    def forward(self, row: int, windows: TokenWindows):
        """Return the function of embeddings (n_copies, n_windows, length, d)."""
        rest = torch.from_numpy(self.encoded[[row]]).to(self.notes.device)

        def log_odds(embeddings):
            vectors = self.notes.vectors(embeddings, windows).double()
            before, after = rest[:, : self.place.start], rest[:, self.place.stop :]
            n_copies = len(vectors)
            X = torch.cat([before.expand(n_copies, -1), vectors, after.expand(n_copies, -1)], dim=1)
            return self._log_odds(differentiable_logits(self.classifier, X))

        return log_odds

    def _log_odds(self, logits: torch.Tensor) -> torch.Tensor:
        kind = self.classifier._target_kind
        if kind == "binary":
            return torch.cat([-logits, logits], dim=1)
        if kind == "multiclass":
            log_p = logits.log_softmax(dim=1)
            return log_p - torch.log(-torch.expm1(log_p))
        return logits


def _by_token(values: np.ndarray, windows: TokenWindows) -> np.ndarray:
    """Add up (n_windows, length, n_labels) by token of the note; windows share some."""
    total = np.zeros((len(windows.placed), values.shape[-1]))
    of_note = windows.token >= 0
    np.add.at(total, windows.token[of_note], values[of_note])
    return total
