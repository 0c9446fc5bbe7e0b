"""Integrated gradients of a pipeline's log-odds along the tokens of its notes, by captum."""

import numpy as np
import torch
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline

from ..fusion import MEDFuseClassifier
from ..fusion._differentiable import differentiable_logits
from ..notes import LLMNoteEncoder
from ..notes._differentiable import DifferentiableNotes, TokenWindows
from ._note_units import Span, has_note
from ._variants import VariantModel

# copies of a note whose gradients are in memory at once
_COPIES = 8


def integrate_gradients(model: VariantModel, note_column: str, chosen: list[int], n_steps: int):
    """Attribute log-odds to the tokens of each note.

    Parameters
    ----------
    model : VariantModel
        Of a pipeline as `make_medfuse_pipeline` builds it.
    note_column : str
        The column of notes.
    chosen : list of int
        Labels.
    n_steps : int
        Steps of the path.

    Returns
    -------
    spans, effects, base, predicted
        As `NoteAttributions` has them.
    """
    try:
        from captum.attr import IntegratedGradients
    except ImportError as error:
        raise ImportError(
            "method='integrated_gradients' needs captum, which is not installed: run "
            '`pip install "sklearn-medfuse[inspection]"`.'
        ) from error
    path = _Path(model, note_column)
    spans: list[list[Span]] = []
    effects = []
    base, predicted = (np.empty((len(model.X), len(chosen))) for _ in range(2))
    for row, note in enumerate(model.X[note_column]):
        if not has_note(note):
            spans.append([])
            effects.append(np.zeros((0, len(chosen))))
            base[row] = predicted[row] = path.without_note(row)[chosen]
            continue
        windows = path.notes.windows(note)
        start, end = path.notes.embeddings(windows)[::-1]
        forward = path.forward(row, windows)
        with torch.no_grad():
            base[row], predicted[row] = forward(torch.stack([start, end]))[:, chosen].cpu().numpy()
        gradients = IntegratedGradients(forward)
        found = [
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
        spans.append(windows.spans)
        effects.append(_by_token(torch.stack(found, dim=-1).detach().cpu().numpy(), windows))
    return spans, effects, base, predicted


class _Path:
    """From a note's embeddings, with the rest of its stay fixed, to the log-odds of all labels."""

    def __init__(self, model: VariantModel, note_column: str):
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
                name: transformer
                for name, transformer, columns in pipe[0].transformers_
                if transformer != "drop" and note_column in np.atleast_1d(columns)
            }
        encoder = next(iter(readers.values()), None)
        if len(readers) != 1 or not isinstance(encoder, LLMNoteEncoder):
            raise ValueError(
                "method='integrated_gradients' needs a pipeline of a ColumnTransformer, in which "
                f"one LLMNoteEncoder alone reads {note_column!r}, and a MEDFuseClassifier; use "
                "method='leave_out'."
            )
        if encoder.n_features_in_ != 1:
            raise ValueError(
                "method='integrated_gradients' takes an LLMNoteEncoder of one column; use "
                "method='leave_out'."
            )
        self.notes = DifferentiableNotes(encoder)
        self.classifier = pipe[1]
        self.place = pipe[0].output_indices_[next(iter(readers))]
        self.encoded = np.asarray(pipe[0].transform(model.X), dtype=np.float64)

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
    total = np.zeros((len(windows.spans), values.shape[-1]))
    of_note = windows.token >= 0
    np.add.at(total, windows.token[of_note], values[of_note])
    return total
