"""Shuffle, replace or delete parts of the input and predict again.

Panel importance shuffles panels of labs, counterfactuals set a lab to other values, and the
deletion curve removes the features that an attribution ranks first.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.metrics import average_precision_score, log_loss, roc_auc_score
from sklearn.utils import check_random_state

from .._input_data import no_values_in_errors
from ._lab_attributions import LabAttributions, LabRemover
from ._note_attributions import NoteAttributions, predict_with_notes, without_units
from ._variants import Labels, RandomState, VariantModel

Score = Callable[[np.ndarray, np.ndarray], float]

_METRICS: dict[str, Score] = {
    "auroc": roc_auc_score,
    "auprc": average_precision_score,
    "neg_log_loss": lambda y, p: -log_loss(y, p, labels=[0, 1]),
}
# What laboratories report together; a lab belongs to the first panel whose pattern matches
_PANELS = {
    "urine": r"urin|^ua\b|ketone|specific gravity",
    "blood gas": r"\bp?h\b|pa?co2|pa?o2|fio2|base excess|blood gas|o2 sat|\bpeep\b",
    "coagulation": r"\binr\b|\bptt?\b|thromboplastin|prothrombin|fibrinogen|d-?dimer",
    "cardiac": r"tropon|\bbnp\b|natriuretic|\bck(-?mb)?\b|\bcpk",
    "inflammation and sepsis": r"lactate|lactic|c-reactive|\bcrp\b|procalcitonin|\besr\b",
    "liver": r"bilirubin|albumin|total protein|alkaline|\balp\b|\bal[ts]\b|\bas[t]\b|"
    r"transaminase|aminotransferase|\bsg[op]t\b|ammonia|lipase|amylase",
    "blood count": r"\bwbc\b|leukocyte|\bhgb\b|h(a?)emoglobin|h(a?)ematocrit|\bhct\b|platelet|"
    r"\brbc\b|\bmc[hv]c?\b|\brdw\b|\bmpv\b|neutrophil|lymph|monocyte|eosinophil|basophil|"
    r"\bpolys\b|\blymphs\b|\bmonos\b|\beos\b|\bbasos\b|\bbands\b",
    "chemistry": r"sodium|potassium|chloride|bicarb|\bhco3|\bco2\b|\bbun\b|urea|creatinine|"
    r"glucose|calcium|magnesium|phosph|anion",
    "vital signs": r"heart ?rate|resp(iratory)? ?rate|temperature|blood pressure|mean ?bp|"
    r"\b[sd]bp\b|spo2",
}


def lab_panels(lab_columns: Sequence[str]) -> dict[str, list[str]]:
    """Sort labs by name into the panels that hospitals order together.

    Parameters
    ----------
    lab_columns : sequence of str
        Names of labs.

    Returns
    -------
    dict of str to list of str
        The labs of each panel that has any; unknown names are under "other".

    See Also
    --------
    panel_importance : Shuffles the panels.

    Examples
    --------
    >>> from sklearn_medfuse.inspection import lab_panels
    >>> lab_panels(["sodium", "INR", "creatinine", "vitamin D"])
    {'coagulation': ['INR'], 'chemistry': ['sodium', 'creatinine'], 'other': ['vitamin D']}
    """
    panels: dict[str, list[str]] = {name: [] for name in (*_PANELS, "other")}
    for lab in lab_columns:
        name = str(lab).lower().replace("_", " ")
        found = (panel for panel, pattern in _PANELS.items() if re.search(pattern, name))
        panels[next(found, "other")].append(lab)
    return {name: labs for name, labs in panels.items() if labs}


@dataclass(repr=False, eq=False)
class PanelImportance:
    """Drop in a score by panel and label; returned by :func:`panel_importance`.

    Parameters
    ----------
    importances : ndarray of shape (n_panels, n_labels + 1, n_repeats)
        Score minus the score with the panel shuffled, for each label and, last, their mean.
    scores : Series of shape (n_labels + 1,)
        Scores of the unchanged rows, ``macro`` last.
    panels : dict of str to list of str
        Labs of each panel.
    metric : str, default="auroc"
        Name of the score.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from sklearn_medfuse.inspection import PanelImportance
    >>> scores = pd.Series([0.9, 0.9], index=["renal failure", "macro"])
    >>> falls = np.array([[[0.2, 0.4], [0.2, 0.4]]])
    >>> PanelImportance(falls, scores, {"chemistry": ["urea"]}).mean()
               renal failure  macro
    chemistry            0.3    0.3
    """

    importances: np.ndarray
    scores: pd.Series
    panels: dict[str, list[str]]
    metric: str = "auroc"

    def __repr__(self) -> str:
        """Show counts only."""
        n_panels, n_labels, n_repeats = self.importances.shape
        counts = f"{n_panels} panels, {n_labels - 1} labels, {n_repeats} repeats"
        return f"{type(self).__name__}({counts}, {self.metric})"

    def mean(self) -> pd.DataFrame:
        """Return the mean over the shuffles.

        Returns
        -------
        DataFrame of shape (n_panels, n_labels + 1)
            By panel and label, ``macro`` last.
        """
        return self._frame(self.importances.mean(axis=2))

    def std(self) -> pd.DataFrame:
        """Return the standard deviation over the shuffles.

        Returns
        -------
        DataFrame of shape (n_panels, n_labels + 1)
            By panel and label, ``macro`` last.
        """
        return self._frame(self.importances.std(axis=2))

    def _frame(self, values: np.ndarray) -> pd.DataFrame:
        return pd.DataFrame(values, index=list(self.panels), columns=self.scores.index)


def panel_importance(
    estimator: Any,
    X: pd.DataFrame,
    y: npt.ArrayLike,
    panels: Mapping[str, Sequence[str]] | Sequence[str],
    *,
    labels: Labels = None,
    metric: str | Score = "auroc",
    n_repeats: int = 5,
    random_state: RandomState = None,
) -> PanelImportance:
    """Measure how much a score drops when a panel of labs is shuffled among the stays.

    The labs of a panel move together, missing values included. If labs are shuffled one by one, as
    in scikit-learn's `permutation_importance`, one lab of a panel substitutes for another and none
    seems to matter. The importance is specific to the model.

    Parameters
    ----------
    estimator : estimator
        Fitted pipeline or other classifier of `X` with `predict_proba`.
    X : DataFrame of shape (n_stays, n_columns)
        Stays with the columns of fit, preferably of patients that were not trained on.
    y : DataFrame or array-like of shape (n_stays, n_labels)
        True labels, 0 or 1, in the order of `predict_proba`.
    panels : dict of str to list of str, or list of str
        Columns of each panel; a list of lab columns is sorted by :func:`lab_panels`. Any columns
        can form a panel, including the note.
    labels : str, list of str or None, default=None
        Labels by name; None takes all.
    metric : {"auroc", "auprc", "neg_log_loss"} or callable, default="auroc"
        Score of one label, called as ``metric(y_true, y_prob)`` with two arrays of shape (n,). A
        label with one class has no score and does not enter the mean.
    n_repeats : int, default=5
        Number of shuffles of each panel.
    random_state : int, RandomState instance or None, default=None
        Controls the shuffles.

    Returns
    -------
    PanelImportance
        Drop in the score by panel, label and repeat.

    Raises
    ------
    ValueError
        If a column or label is unknown or a parameter out of range.

    See Also
    --------
    lab_panels : Sorts labs into panels by name.
    sklearn_medfuse.MEDFuseClassifier.modality_importance : The same for whole modalities.

    Examples
    --------
    >>> from sklearn.tree import DecisionTreeClassifier
    >>> from sklearn_medfuse.datasets import make_ehr_cohort
    >>> from sklearn_medfuse.inspection import panel_importance
    >>> cohort = make_ehr_cohort(300, random_state=0)
    >>> labs, y = cohort.X[cohort.lab_columns], cohort.y["disease 1"]
    >>> model = DecisionTreeClassifier(max_depth=4, random_state=0).fit(labs, y)
    >>> found = panel_importance(model, labs, y, cohort.lab_columns, labels="1", random_state=0)
    >>> found.mean().shape
    (7, 2)
    """
    model = VariantModel(estimator, X)
    chosen = model.choose_labels(labels)
    names = [model.label_names[label] for label in chosen]
    truth = _truth(y, model.label_names, len(model.X))[:, chosen]
    if not isinstance(panels, Mapping):
        panels = lab_panels(model.choose_columns("panels", panels))
    panels = {str(name): model.choose_columns("panels", labs) for name, labs in panels.items()}
    if not callable(metric) and metric not in _METRICS:
        raise ValueError(f"metric={metric!r} must be one of {sorted(_METRICS)} or a callable.")
    score = metric if callable(metric) else _METRICS[metric]
    if not isinstance(n_repeats, Integral) or n_repeats < 1:
        raise ValueError(f"n_repeats={n_repeats!r} must be a whole number of at least 1.")
    rng = check_random_state(random_state)

    scores = _score_labels(score, truth, model.predict_rows()[:, chosen])
    rows = np.arange(len(model.X))
    falls = np.empty((len(panels), len(names) + 1, n_repeats))
    for panel, columns in enumerate(panels.values()):
        for repeat in range(n_repeats):
            shuffled = model.X.copy()
            moved = model.X[columns].iloc[rng.permutation(rows)]
            shuffled[columns] = moved.set_axis(shuffled.index)
            predicted = model.predict(rows, shuffled, columns)[:, chosen]
            falls[panel, :, repeat] = scores - _score_labels(score, truth, predicted)
    name = metric if isinstance(metric, str) else getattr(metric, "__name__", "score")
    return PanelImportance(falls, pd.Series(scores, index=[*names, "macro"]), panels, name)


def _truth(y: npt.ArrayLike, label_names: list[str], n_rows: int) -> np.ndarray:
    truth = np.asarray(y)
    if truth.ndim == 1 or truth.shape[1] == 1 < len(label_names):
        flat = truth.reshape(-1)
        # One column per class, as in `predict_proba`
        truth = np.column_stack([flat.astype(str) == name for name in label_names])
    if truth.shape != (n_rows, len(label_names)):
        raise ValueError(
            f"y has shape {truth.shape}, but X has {n_rows} rows and the estimator "
            f"{len(label_names)} labels; pass one column per label."
        )
    with no_values_in_errors():
        return truth.astype(int)


def _score_labels(score: Score, truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return the score of each label, NaN for one class only, and the mean of the others."""
    found = np.array(
        [
            score(y, p) if 0 < y.sum() < len(y) else np.nan
            for y, p in zip(truth.T, predicted.T, strict=True)
        ]
    )
    known = found[np.isfinite(found)]
    return np.append(found, known.mean() if len(known) else np.nan)


@dataclass(repr=False, eq=False)
class LabCounterfactual:
    """Predictions of stays for other values of one lab; returned by :func:`lab_counterfactual`.

    Parameters
    ----------
    lab : str
        The lab.
    grid : ndarray of shape (n_values,)
        Values of the lab, in its unit.
    curves : ndarray of shape (n_stays, n_values, n_labels)
        Predicted probabilities at each value, everything else unchanged.
    predicted : ndarray of shape (n_stays, n_labels)
        Probabilities of the unchanged stays.
    not_measured : ndarray of shape (n_stays, n_labels)
        Probabilities without the lab.
    label_names : list of str
        The labels.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_medfuse.inspection import LabCounterfactual
    >>> LabCounterfactual(
    ...     "creatinine", np.array([1.0, 2.0]), np.array([[[0.1], [0.6]]]), np.array([[0.5]]),
    ...     np.array([[0.2]]), ["renal failure"],
    ... ).mean()
         renal failure
    1.0            0.1
    2.0            0.6
    """

    lab: str
    grid: np.ndarray
    curves: np.ndarray
    predicted: np.ndarray
    not_measured: np.ndarray
    label_names: list[str]

    def __repr__(self) -> str:
        """Show counts only."""
        n_stays, n_values, n_labels = self.curves.shape
        counts = f"{n_stays} stays, {n_values} values, {n_labels} labels"
        return f"{type(self).__name__}({self.lab}, {counts})"

    def mean(self) -> pd.DataFrame:
        """Return the mean curve over the stays, the partial dependence.

        Returns
        -------
        DataFrame of shape (n_values, n_labels)
            Mean probability by value and label.
        """
        return pd.DataFrame(self.curves.mean(axis=0), index=self.grid, columns=self.label_names)


def lab_counterfactual(
    estimator: Any,
    X: pd.DataFrame,
    lab: str,
    values: npt.ArrayLike | None = None,
    *,
    labels: Labels = None,
    n_values: int = 30,
) -> LabCounterfactual:
    """Predict stays as if one lab had other values, everything else unchanged.

    The curves show what the model would have predicted, not what treating the value would do, and
    a stay in which only one lab is changed may be unlike any that the model has seen. A lab that
    was not measured is treated as if it had been.

    Parameters
    ----------
    estimator : estimator
        Fitted pipeline or other classifier of `X` with `predict_proba`.
    X : DataFrame of shape (n_stays, n_columns)
        Stays with the columns of fit.
    lab : str
        Numeric column of the lab.
    values : array-like of shape (n_values,), default=None
        Values to predict with. None takes `n_values` from the 2nd to the 98th percentile of the
        lab in X.
    labels : str, list of str or None, default=None
        Labels by name; None takes all.
    n_values : int, default=30
        Number of values if `values` is None.

    Returns
    -------
    LabCounterfactual
        The curves.

    Raises
    ------
    ValueError
        If a column or label is unknown, or no value is measured or given.

    See Also
    --------
    had_been_normal : All abnormal labs of a stay.

    Examples
    --------
    >>> from sklearn.tree import DecisionTreeClassifier
    >>> from sklearn_medfuse.datasets import make_ehr_cohort
    >>> from sklearn_medfuse.inspection import lab_counterfactual
    >>> cohort = make_ehr_cohort(300, random_state=0)
    >>> labs, sick = cohort.X[cohort.lab_columns], cohort.y["disease 1"]
    >>> model = DecisionTreeClassifier(max_depth=4, random_state=0).fit(labs, sick)
    >>> lab_counterfactual(model, labs[:5], "sodium").curves.shape
    (5, 30, 2)
    """
    model = VariantModel(estimator, X)
    model.choose_columns("lab", lab)
    chosen = model.choose_labels(labels)
    if values is None:
        measured = pd.to_numeric(model.X[lab], errors="coerce").dropna()
        if not len(measured):
            raise ValueError(f"No number of {lab!r} is measured in X; pass values.")
        low, high = measured.quantile([0.02, 0.98])
        if low == high:
            raise ValueError(f"{lab!r} has only one value in X; pass values.")
        values = np.linspace(low, high, n_values)
    values = np.asarray(values, dtype=float).ravel()
    if not len(values) or not np.isfinite(values).all():
        raise ValueError("values must contain at least one number, and finite numbers only.")
    n_rows, n_asked = len(model.X), len(values) + 1
    rows = np.repeat(np.arange(n_rows), n_asked)
    copies = model.X.iloc[rows].reset_index(drop=True)
    # The last copy of each stay is without the lab
    copies[lab] = np.tile([*values, np.nan], n_rows)
    found = model.predict(rows, copies, [lab])[:, chosen].reshape(n_rows, n_asked, -1)
    names = [model.label_names[label] for label in chosen]
    predicted = model.predict_rows()[:, chosen]
    return LabCounterfactual(lab, values, found[:, :-1], predicted, found[:, -1], names)


def had_been_normal(
    estimator: Any,
    X: pd.DataFrame,
    reference_ranges: Mapping[str, tuple[float, float]],
    *,
    labels: Labels = None,
) -> pd.DataFrame:
    """Predict stays as if abnormal labs, one at a time and all together, had been normal.

    An abnormal lab is set to the middle of its normal range.

    Parameters
    ----------
    estimator : estimator
        Fitted pipeline or other classifier of `X` with `predict_proba`.
    X : DataFrame of shape (n_stays, n_columns)
        Stays with the columns of fit.
    reference_ranges : dict of str to (float, float)
        Normal range of each lab, such as a cohort's `reference_ranges`.
    labels : str, list of str or None, default=None
        Labels by name; None takes all.

    Returns
    -------
    DataFrame of shape (n_changes, n_labels + 2)
        One row per stay and abnormal lab, and one with the lab ``all`` per stay with several.
        Columns are `stay`, the position in X, `lab`, and the change in each label's probability.

    Raises
    ------
    ValueError
        If no range belongs to a column of X, or a label is unknown.

    See Also
    --------
    lab_counterfactual : One lab with many values.

    Examples
    --------
    >>> from sklearn.tree import DecisionTreeClassifier
    >>> from sklearn_medfuse.datasets import make_ehr_cohort
    >>> from sklearn_medfuse.inspection import had_been_normal
    >>> cohort = make_ehr_cohort(300, random_state=0)
    >>> labs, sick = cohort.X[cohort.lab_columns], cohort.y["disease 1"]
    >>> model = DecisionTreeClassifier(max_depth=4, random_state=0).fit(labs, sick)
    >>> changes = had_been_normal(model, labs[:5], cohort.reference_ranges, labels="1")
    >>> list(changes.columns)
    ['stay', 'lab', '1']
    """
    model = VariantModel(estimator, X)
    chosen = model.choose_labels(labels)
    ranges = {lab: ends for lab, ends in reference_ranges.items() if lab in model.X.columns}
    if not ranges:
        raise ValueError("reference_ranges names no column of X; pass ranges by lab column.")
    names = list(ranges)
    low, high = np.array([ranges[lab] for lab in names], dtype=float).T
    with no_values_in_errors():
        numbers = model.X[names].to_numpy(dtype=float, na_value=np.nan)
    abnormal = (numbers < low) | (numbers > high)
    stays, labs = np.nonzero(abnormal)
    changed = np.zeros((len(stays), len(names)), dtype=bool)
    changed[np.arange(len(stays)), labs] = True
    several = np.flatnonzero(abnormal.sum(axis=1) > 1)
    rows = np.concatenate([stays, several])
    changed = np.concatenate([changed, abnormal[several]])
    copies = model.X.iloc[rows].reset_index(drop=True)
    copies[names] = np.where(changed, (low + high) / 2, numbers[rows])
    found = model.predict(rows, copies, names)[:, chosen] - model.predict_rows()[rows][:, chosen]
    table = pd.DataFrame(found, columns=[model.label_names[label] for label in chosen])
    table.insert(0, "lab", [*(names[lab] for lab in labs), *["all"] * len(several)])
    table.insert(0, "stay", rows)
    return table.sort_values("stay", kind="stable", ignore_index=True)


def deletion_curve(
    estimator: Any,
    X: pd.DataFrame,
    attributions: LabAttributions | NoteAttributions,
    label: str,
    *,
    max_deleted: int = 5,
    n_random: int = 10,
    random_state: RandomState = None,
) -> pd.DataFrame:
    """Delete the features that an attribution ranks first, and as many random ones.

    If attributions are faithful, the former lowers the probability faster [1]_. Measured labs are
    set to the baseline of the attributions, units of notes are left out.

    Parameters
    ----------
    estimator : estimator
        The estimator that was attributed.
    X : DataFrame of shape (n_stays, n_columns)
        The stays that were attributed.
    attributions : LabAttributions or NoteAttributions
        The attributions to test.
    label : str
        Name of the label.
    max_deleted : int, default=5
        Largest number of features to delete from a stay; a stay with fewer loses all.
    n_random : int, default=10
        Number of random orders.
    random_state : int, RandomState instance or None, default=None
        Controls the random orders.

    Returns
    -------
    DataFrame of shape (max_deleted + 1, 3)
        Mean probability by number of deleted features: `attributed`, the most positive first,
        and `random` and `random_std`, mean and standard deviation of the random orders.

    Raises
    ------
    ValueError
        If attributions and X do not match, the label is unknown, or a number is below 1.

    References
    ----------
    .. [1] W. Samek et al., "Evaluating the visualization of what a deep neural network has
       learned", IEEE TNNLS 2017.

    Examples
    --------
    >>> from sklearn.tree import DecisionTreeClassifier
    >>> from sklearn_medfuse.datasets import make_ehr_cohort
    >>> from sklearn_medfuse.inspection import deletion_curve, lab_attributions
    >>> cohort = make_ehr_cohort(300, random_state=0)
    >>> labs, sick = cohort.X[cohort.lab_columns], cohort.y["disease 1"]
    >>> model = DecisionTreeClassifier(max_depth=4, random_state=0).fit(labs, sick)
    >>> found = lab_attributions(model, labs[:20], cohort.lab_columns, random_state=0)
    >>> curve = deletion_curve(model, labs[:20], found, "1", random_state=0)
    >>> bool(curve["attributed"].iloc[-1] < curve["random"].iloc[-1])
    True
    """
    model = VariantModel(estimator, X)
    if max_deleted < 1 or n_random < 1:
        raise ValueError("max_deleted and n_random must be at least 1.")
    if len(attributions.effects) != len(model.X):
        raise ValueError(
            f"attributions has {len(attributions.effects)} stays and X has {len(model.X)} rows; "
            "pass the rows that were attributed."
        )
    if label not in attributions.label_names:
        raise ValueError(f"label={label!r} must be one of {attributions.label_names}.")
    column = attributions.label_names.index(label)
    scores = [np.asarray(of_stay)[:, column] for of_stay in attributions.effects]
    players, predict = _deletions(model, attributions)
    rng = check_random_state(random_state)
    best_first = [
        each[np.argsort(-score[each])] for each, score in zip(players, scores, strict=True)
    ]
    orders = [best_first]
    orders += [[rng.permutation(each) for each in players] for _ in range(n_random)]
    # With 0, 1, … features of each stay deleted
    rows = np.repeat(np.arange(len(players)), max_deleted + 1)
    counts = np.tile(np.arange(max_deleted + 1), len(players))
    output = model.choose_labels(label)[0]
    curves = []
    for order in orders:
        deleted = [order[row][:count] for row, count in zip(rows, counts, strict=True)]
        curves.append(predict(rows, deleted)[:, output].reshape(len(players), -1).mean(axis=0))
    random = np.array(curves[1:])
    return pd.DataFrame(
        {
            "attributed": curves[0],
            "random": random.mean(axis=0),
            "random_std": random.std(axis=0),
        },
        index=pd.RangeIndex(max_deleted + 1, name="n_deleted"),
    )


def _deletions(
    model: VariantModel, attributions: LabAttributions | NoteAttributions
) -> tuple[list[np.ndarray], Callable[[np.ndarray, list[np.ndarray]], np.ndarray]]:
    """Return what can be deleted from each stay, and how to predict rows without some of it."""
    if isinstance(attributions, LabAttributions):
        labs = attributions.lab_names
        baseline = "missing" if attributions.baseline is None else attributions.baseline
        remover = LabRemover(model.X, labs, baseline)

        def without_labs(rows: np.ndarray, deleted: list[np.ndarray]) -> np.ndarray:
            kept = np.array([~np.isin(np.arange(len(labs)), of_row) for of_row in deleted])
            return model.predict(rows, remover.copies(rows, kept), labs)

        return [np.flatnonzero(there) for there in attributions.measured], without_labs
    if isinstance(attributions, NoteAttributions):
        column, spans = attributions.note_column, attributions.spans
        notes = model.X[column].tolist()

        def without_parts(rows: np.ndarray, deleted: list[np.ndarray]) -> np.ndarray:
            texts = [
                without_units(notes[row], spans[row], units) if len(units) else notes[row]
                for row, units in zip(rows, deleted, strict=True)
            ]
            return predict_with_notes(model, column, rows, texts)

        return [np.arange(len(of_note)) for of_note in spans], without_parts
    raise ValueError(
        f"attributions is of type {type(attributions).__name__}; pass the result of "
        "lab_attributions or note_attributions."
    )
