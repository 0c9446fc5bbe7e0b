"""Which sentences, words or tokens of a note move its stay's prediction."""

import numpy as np
import pandas as pd

from ._note_units import UNITS, has_note, split_units, without_units
from ._variants import VariantModel

METHODS = ("leave_out", "integrated_gradients")


class NoteAttributions:
    """What the units of each note add to the prediction; made by :func:`note_attributions`.

    It holds positions of characters, no text: with the notes that its maker has, `to_frame` and
    the displays give the texts back to that caller alone.

    Parameters
    ----------
    spans : list of list of (int, int)
        For each stay where its units begin and end in the note; empty without a note.

    effects : list of ndarray of shape (n_units, n_labels)
        Attributions of each stay's units.

    base : ndarray of shape (n_stays, n_labels)
        Predictions without the note; for integrated gradients with blank tokens in place of the
        note's, the prompt and headings around them as they are.

    predicted : ndarray of shape (n_stays, n_labels)
        Predictions of the stays as they are.

    note_column : str
        The column of the notes.

    label_names : list of str
        The labels.

    output : {"log_odds", "probability"}, default="log_odds"
        What is attributed.

    unit : str, default="sentence"
        What a unit is.

    See Also
    --------
    sklearn_medfuse.plotting.NoteAttributionDisplay : Draws one note.

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

    def __init__(
        self,
        spans,
        effects,
        base,
        predicted,
        note_column,
        label_names,
        output="log_odds",
        unit="sentence",
    ):
        self.spans = spans
        self.effects = effects
        self.base = base
        self.predicted = predicted
        self.note_column = note_column
        self.label_names = label_names
        self.output = output
        self.unit = unit

    def __repr__(self):
        """Counts only."""
        n_units = sum(map(len, self.spans))
        counts = f"{len(self.spans)} stays, {n_units} {self.unit}s, {len(self.label_names)} labels"
        return f"{type(self).__name__}({counts}, {self.output})"

    def to_frame(self, row, note=None):
        """Give the attributions of one stay.

        Parameters
        ----------
        row : int
            Its position.

        note : str, default=None
            The note, to have the text of each unit too.

        Returns
        -------
        DataFrame of shape (n_units, n_labels) or (n_units, n_labels + 1)
            Attributions by unit and label, after the `text` where there is one.
        """
        frame = pd.DataFrame(self.effects[row], columns=self.label_names)
        if note is not None:
            frame.insert(0, "text", [note[start:stop] for start, stop in self.spans[row]])
        return frame


def note_attributions(
    estimator,
    X,
    note_column,
    *,
    unit="sentence",
    labels=None,
    method="leave_out",
    output="log_odds",
    n_steps=16,
):
    """Attribute the prediction of each stay to the sentences, words or tokens of its note.

    "leave_out" embeds the note again without each unit: a prediction per unit with any classifier
    and any encoder that takes None for no note. A note that says the same twice seems to need
    neither. Single words of a long note hardly move it; sentences are the better unit there.

    "integrated_gradients" [1]_ goes from blank tokens to those of the note and adds up gradients
    through language model, pooling and fusion; the attributions of a note add up to the difference
    of both predictions, ``predicted - base``, but for what `n_steps` leaves. Special tokens, those
    of a `prompt` and the headings of several columns are the same at both ends: they have no share,
    and what they do by themselves is in `base`. It needs captum, the extra `inspection`,
    a pipeline as `make_medfuse_pipeline` builds it, in which one note encoder alone reads the note,
    and the unit "token". The language model is loaded once more, in float32.

    Where the encoder reads several columns, one of them is attributed to with the others as they
    are, or several along one path: then the attributions of all of them add up to the difference.

    Parameters
    ----------
    estimator : estimator
        Fitted pipeline or other classifier of `X` with `predict_proba`.

    X : DataFrame of shape (n_stays, n_columns)
        Stays in the columns of fit.

    note_column : str or list of str
        The column of notes in X, or several. A stay without a note has no units.

    unit : {"sentence", "word", "section", "token"}, default="sentence"
        What is attributed to: "section" ends with a blank line, "token" is the language model's,
        for integrated gradients only.

    labels : str, list of str or None, default=None
        Labels by name; None takes all. Integrated gradients take time for each.

    method : {"leave_out", "integrated_gradients"}, default="leave_out"
        How.

    output : {"log_odds", "probability"}, default="log_odds"
        What is attributed; integrated gradients know log-odds alone, before any isotonic
        calibration.

    n_steps : int, default=16
        Steps of integrated gradients.

    Returns
    -------
    NoteAttributions, or dict of str to NoteAttributions
        Attributions with the units' positions in the notes; for a list of columns by column. Of
        integrated gradients all columns have the same `base`, which blanks them all; leaving out
        takes each column by itself.

    Raises
    ------
    ImportError
        If captum is asked for and not installed.
    ValueError
        If a column or label is unknown, or method, unit and estimator do not go together.

    See Also
    --------
    lab_attributions : The same for labs.
    deletion_curve : Whether the attributions are faithful.

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
    columns = _check_columns(model, note_column)
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


def _check_columns(model: VariantModel, note_column) -> list[str]:
    columns = [note_column] if isinstance(note_column, str) else list(note_column)
    unknown = [name for name in columns if name not in model.X.columns]
    if unknown:
        raise ValueError(f"note_column={note_column!r} names no column of X: {unknown}.")
    if not columns or len(set(columns)) < len(columns):
        raise ValueError(f"note_column={note_column!r} has to name one column or more, each once.")
    return columns


def _check_method(method: str, unit: str, output: str, n_steps: int) -> None:
    if method not in METHODS:
        raise ValueError(f"method={method!r} is none of {list(METHODS)}.")
    if method == "leave_out" and unit not in UNITS:
        raise ValueError(f"unit={unit!r} is none of {list(UNITS)}, those of method='leave_out'.")
    if method == "integrated_gradients":
        if unit != "token":
            raise ValueError("method='integrated_gradients' attributes to tokens: unit='token'.")
        if output != "log_odds":
            raise ValueError("method='integrated_gradients' attributes log-odds alone.")
        if n_steps < 1:
            raise ValueError(f"n_steps={n_steps} must be at least 1.")


def _leave_out(model: VariantModel, note_column: str, unit: str, chosen: list[int]):
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


def predict_with_notes(model: VariantModel, note_column: str, rows, notes: list) -> np.ndarray:
    """Predict copies of rows with other notes; a blank one counts as none."""
    copies = model.X.iloc[rows].reset_index(drop=True)
    kept = [note if has_note(note) else None for note in notes]
    copies[note_column] = pd.Series(kept, dtype=model.X[note_column].dtype, index=copies.index)
    return model.predict(rows, copies, [note_column])
