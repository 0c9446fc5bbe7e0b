"""Which sentences, words or tokens of a note move its stay's prediction."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import pandas as pd

from ._variants import Labels, VariantModel, check_row

Span = tuple[int, int]

_METHODS = ("leave_out", "integrated_gradients")
# A full stop ends a sentence if a blank and no lower-case letter follow, and so does a line break
_BREAKS = {
    "sentence": re.compile(r"(?<=[.!?;])\s+(?=[^a-z\s])|\s*\n\s*"),
    "word": re.compile(r"\s+"),
    "section": re.compile(r"\s*\n\s*\n\s*"),
}
# Colours of what raises and what lowers the prediction, the depth of the largest attribution, on
# which black text stays readable, and the depth from which what lowers is underlined
_RAISES, _LOWERS = "230,159,0", "86,180,233"
_STRONGEST = 0.62
_UNDERLINED = 0.1


@dataclass(repr=False, eq=False)
class NoteAttributions:
    """Contribution of parts of notes to predictions; returned by :func:`note_attributions`.

    It contains positions of characters, no text.

    Parameters
    ----------
    spans : list of list of (int, int)
        For each stay, where its units begin and end in the note; empty without a note.
    effects : list of ndarray of shape (n_units, n_labels)
        Attributions of each stay's units.
    base : ndarray of shape (n_stays, n_labels)
        Predictions without the note; for integrated gradients, with the tokens of the note replaced
        by padding, the prompt and headings unchanged.
    predicted : ndarray of shape (n_stays, n_labels)
        Predictions of the unchanged stays.
    note_column : str
        The column of the notes.
    label_names : list of str
        The labels.
    output : {"log_odds", "probability"}, default="log_odds"
        Scale of the attributions.
    unit : str, default="sentence"
        Kind of the units.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_medfuse.inspection import NoteAttributions
    >>> attributions = NoteAttributions(
    ...     [[(0, 11), (12, 21)]], [np.array([[0.8], [-0.1]])], np.zeros((1, 1)),
    ...     np.ones((1, 1)), "note", ["COPD"],
    ... )
    >>> attributions
    NoteAttributions(1 stays, 2 sentences, 1 labels, log_odds)
    >>> attributions.to_frame(0, "Known COPD. No fever.")
              text  COPD
    0  Known COPD.   0.8
    1    No fever.  -0.1
    """

    spans: list[list[Span]]
    effects: list[np.ndarray]
    base: np.ndarray
    predicted: np.ndarray
    note_column: str
    label_names: list[str]
    output: str = "log_odds"
    unit: str = "sentence"

    def __repr__(self) -> str:
        """Show counts only."""
        n_units = sum(map(len, self.spans))
        counts = f"{len(self.spans)} stays, {n_units} {self.unit}s, {len(self.label_names)} labels"
        return f"{type(self).__name__}({counts}, {self.output})"

    def to_frame(self, row: int | None = None, note: str | None = None) -> pd.DataFrame:
        """Return the attributions of one stay.

        Parameters
        ----------
        row : int or None, default=None
            Its position; None if there is one stay only.
        note : str, default=None
            The note, to include the text of each unit.

        Returns
        -------
        DataFrame of shape (n_units, n_labels) or (n_units, n_labels + 1)
            Attributions by unit and label, preceded by the `text` if a note is given.
        """
        row = check_row(row, len(self.effects))
        frame = pd.DataFrame(self.effects[row], columns=self.label_names)
        if note is not None:
            spans = self._spans_in(row, note)
            frame.insert(0, "text", [note[start:stop] for start, stop in spans])
        return frame

    def to_html(self, note: str, label: str, *, row: int | None = None) -> str:
        """Write a note as HTML, its units marked, for a report or `IPython.display.HTML`.

        Units that raise the prediction are orange, units that lower it blue and, for print without
        colours, underlined. The depth of the colour is the size of the attribution relative to the
        largest in the note. The HTML holds the whole note and belongs where the note belongs.

        Parameters
        ----------
        note : str
            The note of the stay.
        label : str
            Name of the label.
        row : int or None, default=None
            Position of the stay; None if there is one stay only.

        Returns
        -------
        str
            A ``<div>`` with the whole note; each unit's attribution is its tooltip.
        """
        if label not in self.label_names:
            raise ValueError(f"label={label!r} must be one of {self.label_names}.")
        row = check_row(row, len(self.effects))
        if not self.spans[row]:
            raise ValueError(f"The stay at position {row} has no note.")
        effects = np.asarray(self.effects[row])[:, self.label_names.index(label)]
        depths = _STRONGEST * effects / (np.abs(effects).max(initial=0.0) or 1.0)
        parts, end = [], 0
        spans = self._spans_in(row, note)
        for (start, stop), value, depth in zip(spans, effects, depths, strict=True):
            color = _RAISES if value >= 0 else _LOWERS
            line = "underline dotted" if depth < -_UNDERLINED else "none"
            parts += [
                escape(note[end:start]),
                f'<mark style="color:inherit;background:rgba({color},{abs(depth):.2f});'
                f'text-decoration:{line}" title="{value:+.3f}">{escape(note[start:stop])}</mark>',
            ]
            end = stop
        parts.append(escape(note[end:]))
        style = "white-space:pre-wrap;line-height:1.5;max-width:46em"
        return f'<div style="{style}">{"".join(parts)}</div>'

    def _spans_in(self, row: int, note: str) -> list[Span]:
        """Return the spans of a stay, unless its note was another one."""
        spans = self.spans[row]
        if spans and spans[-1][1] > len(note):
            raise ValueError(
                f"note has {len(note)} characters, fewer than the note that was attributed; pass "
                f"that of the stay at position {row}."
            )
        return spans


def note_attributions(
    estimator: Any,
    X: pd.DataFrame,
    note_column: str | Sequence[str],
    *,
    unit: str = "sentence",
    labels: Labels = None,
    method: str = "leave_out",
    output: str = "log_odds",
    n_steps: int = 16,
) -> NoteAttributions | dict[str, NoteAttributions]:
    """Attribute the prediction of each stay to the sentences, words or tokens of its note.

    "leave_out" embeds the note again without each unit, with any classifier and any encoder that
    accepts None for no note. If a note says something twice, neither statement seems to matter. In
    long notes sentences are the better unit: single words hardly change the prediction.

    "integrated_gradients" [1]_ moves from padding tokens to those of the note and integrates the
    gradients through language model, pooling and fusion. The attributions of all attributed
    columns add up to ``predicted - base``, up to the error of `n_steps`. Special tokens, prompt and
    headings are the same at both ends: their effect is in `base`. The method requires captum (the
    extra `inspection`), the unit "token", and a pipeline in which an `LLMNoteEncoder` alone reads
    the note: `make_medfuse_pipeline` with ``views={}`` or ``{"boosted": True}``, as the other views
    count words and have no gradient. It loads the language model a second time, in float32.

    Parameters
    ----------
    estimator : estimator
        Fitted pipeline or other classifier of `X` with `predict_proba`.
    X : DataFrame of shape (n_stays, n_columns)
        Stays with the columns of fit.
    note_column : str or list of str
        One or several columns of notes in X. A stay without a note has no units.
    unit : {"sentence", "word", "section", "token"}, default="sentence"
        Unit of the attributions. A "section" ends with a blank line; a "token" is one of the
        language model, for integrated gradients only.
    labels : str, list of str or None, default=None
        Labels by name; None takes all. Integrated gradients take time for each label.
    method : {"leave_out", "integrated_gradients"}, default="leave_out"
        How effects are computed.
    output : {"log_odds", "probability"}, default="log_odds"
        Scale. Integrated gradients are of log-odds only, before any isotonic calibration.
    n_steps : int, default=16
        Number of steps of integrated gradients.

    Returns
    -------
    NoteAttributions, or dict of str to NoteAttributions
        For a list of columns, by column. Integrated gradients pad all columns in their common
        `base`; leaving out treats each column separately.

    Raises
    ------
    ImportError
        If integrated gradients are requested and captum is not installed.
    ValueError
        If a column or label is unknown, or method, unit and estimator do not match.

    See Also
    --------
    lab_attributions : The same for labs.
    deletion_curve : Tests whether the attributions are faithful.

    References
    ----------
    .. [1] M. Sundararajan, A. Taly, Q. Yan, "Axiomatic attribution for deep networks", ICML 2017.

    Examples
    --------
    >>> from sklearn.compose import make_column_transformer
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn_medfuse import NoteWordEncoder
    >>> from sklearn_medfuse.datasets import make_ehr_cohort
    >>> from sklearn_medfuse.inspection import note_attributions
    >>> cohort = make_ehr_cohort(200, share_without_notes=0, random_state=0)
    >>> words = make_column_transformer((NoteWordEncoder(20, absent="zero"), "note"))
    >>> model = make_pipeline(words, LogisticRegression()).fit(cohort.X, cohort.y["disease 1"])
    >>> note_attributions(model, cohort.X[:2], "note", labels="1")
    NoteAttributions(2 stays, 17 sentences, 1 labels, log_odds)
    """
    _check_method(method, unit, output, n_steps)
    model = VariantModel(estimator, X, output)
    columns = model.choose_columns("note_column", note_column)
    chosen = model.choose_labels(labels)
    names = [model.label_names[label] for label in chosen]
    if method == "integrated_gradients":
        from ._integrated_gradients import integrate_gradients

        found = integrate_gradients(model, columns, chosen, n_steps)
    else:
        found = {name: _leave_out(model, name, unit, chosen) for name in columns}
    attributions = {
        name: NoteAttributions(*of_column, name, names, output, unit)
        for name, of_column in found.items()
    }
    return attributions[note_column] if isinstance(note_column, str) else attributions


def _check_method(method: str, unit: str, output: str, n_steps: int) -> None:
    if method not in _METHODS:
        raise ValueError(f"method={method!r} must be one of {list(_METHODS)}.")
    if method == "leave_out" and unit not in _BREAKS:
        raise ValueError(f"unit={unit!r} must be one of {list(_BREAKS)} for method='leave_out'.")
    if method == "integrated_gradients":
        if unit != "token":
            raise ValueError("method='integrated_gradients' requires unit='token'.")
        if output != "log_odds":
            raise ValueError("method='integrated_gradients' requires output='log_odds'.")
        if n_steps < 1:
            raise ValueError(f"n_steps={n_steps} must be at least 1.")


def _leave_out(
    model: VariantModel, note_column: str, unit: str, chosen: list[int]
) -> tuple[list[list[Span]], list[np.ndarray], np.ndarray, np.ndarray]:
    """Return spans, effects, base and predictions."""
    notes = model.X[note_column].tolist()
    spans = [split_units(note, unit) if has_note(note) else [] for note in notes]
    rows = np.repeat(np.arange(len(notes)), [len(of_note) for of_note in spans])
    place = [position for of_note in spans for position in range(len(of_note))]
    texts = [
        without_units(notes[row], spans[row], [position])
        for row, position in zip(rows, place, strict=True)
    ]
    predicted = model.predict_rows()[:, chosen]
    left = predict_with_notes(model, note_column, rows, texts)[:, chosen]
    everyone = np.arange(len(notes))
    base = predict_with_notes(model, note_column, everyone, [None] * len(notes))[:, chosen]
    ends = np.cumsum([len(of_note) for of_note in spans])[:-1]
    return spans, np.split(predicted[rows] - left, ends), base, predicted


def predict_with_notes(
    model: VariantModel, note_column: str, rows: np.ndarray, notes: list[Any]
) -> np.ndarray:
    """Predict copies of rows with other notes; a blank note counts as none."""
    copies = model.X.iloc[rows].reset_index(drop=True)
    kept = [note if has_note(note) else None for note in notes]
    copies[note_column] = pd.Series(kept, dtype=model.X[note_column].dtype, index=copies.index)
    return model.predict(rows, copies, [note_column])


def has_note(note: Any) -> bool:
    """Return whether a cell holds a note that is not blank."""
    return isinstance(note, str) and bool(note.strip())


def split_units(text: str, unit: str) -> list[Span]:
    """Return the positions of the units of a note, between which the text is blank.

    Examples
    --------
    >>> text = "Known COPD. No fever, temp. of 37.2 C.\\nOn oxygen"
    >>> [text[start:stop] for start, stop in split_units(text, "sentence")]
    ['Known COPD.', 'No fever, temp. of 37.2 C.', 'On oxygen']
    """
    spans = []
    start = 0
    for cut in _BREAKS[unit].finditer(text):
        spans.append((start, cut.start()))
        start = cut.end()
    spans.append((start, len(text)))
    return [(a, b) for a, b in spans if text[a:b].strip()]


def without_units(text: str, spans: list[Span], removed: Iterable[int]) -> str:
    """Remove units from a note; the blanks around them remain."""
    parts, start = [], 0
    for unit in sorted(removed):
        parts.append(text[start : spans[unit][0]])
        start = spans[unit][1]
    return "".join([*parts, text[start:]])
