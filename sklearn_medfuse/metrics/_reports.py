"""Scores per label and their averages with intervals: of all rows, and of groups of patients."""

import numbers
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from .._input_data import to_pandas
from ._bootstrap import Bootstrap
from ._inputs import (
    Labels,
    RandomState,
    Scores,
    Threshold,
    check_averages,
    check_labels,
    check_option,
    check_threshold,
    documented,
)
from ._scores import (
    append_averages,
    exact_at_edges,
    read_scores,
    resolve_score,
    score_with_pairs,
    tabulate_scores,
)

_REFERENCES = ("rest", "largest")
_ALL = "all"
_AGE_BANDS = {"age": (45, 65, 80)}
# A column with more different numbers than this needs bins
_MOST_VALUES = 10


@documented
def multilabel_report(
    y_true: Labels,
    y_score: Scores,
    *,
    metrics: str | Sequence[str] = ("auroc", "auprc", "f1", "prevalence"),
    averages: Sequence[str] = ("macro",),
    threshold: Threshold = 0.5,
    sample_weight: npt.ArrayLike | None = None,
    groups: npt.ArrayLike | None = None,
    n_bootstraps: int = 1000,
    confidence_level: float = 0.95,
    target_names: Sequence[str] | None = None,
    random_state: RandomState = None,
) -> pd.DataFrame:
    """Score every label and their averages, with bootstrap intervals.

    Stays of one patient are alike, so intervals come from resampling whole groups: each draw
    takes as many groups as there are, with replacement, and the interval lies between percentiles
    of the draws.

    Parameters
    ----------
    y_true, y_score
    metrics : sequence of str, default=("auroc", "auprc", "f1", "prevalence")
        What to compute: ``auroc``; ``auprc``, which is average precision; ``f1``,
        ``sensitivity``, ``specificity``, ``ppv`` and ``npv`` of the decisions at `threshold`;
        ``brier``, ``log_loss`` and ``ece``, which need probabilities; ``prevalence``.
    averages, threshold, sample_weight, groups, n_bootstraps, confidence_level, target_names
    random_state

    Returns
    -------
    report : DataFrame of shape (n_labels + n_averages, 1 + 3 * n_metrics)
        One row per label, then the averages. Columns are ``n_positive``, and for each metric the
        estimate and its interval as ``auroc``, ``auroc_low``, ``auroc_high``. An average is taken
        in each draw as in the estimate; its ``n_positive`` is the sum. ``report.attrs`` records
        the number of rows and groups and the settings.

    Raises
    ------
    ValueError
        If shapes disagree, a score is missing or a parameter is out of its range.

    See Also
    --------
    paired_difference : Compare two models on the same rows.
    subgroup_report : One score in each group of patients.
    calibration_report : Slope, intercept and error of the probabilities.

    Notes
    -----
    A label that is 0 or 1 in every row has no AUROC, AUPRC or F1: these are NaN, and the means
    leave the label out. The same holds within a draw: a draw that holds one class
    only does not count towards the label's interval. So the interval of a very rare label
    describes the draws that contain it. A share of zero rows, such as the PPV where nothing is
    predicted, is NaN.

    Intervals are percentiles of the draws, with two exceptions. For ``ece`` they are mirrored at
    the estimate and widened to contain it, since resampling adds noise, which increases a mean
    distance. A share of rows, such as ``sensitivity``, that is 0 or 1 is so in every draw; it has
    the exact interval of Clopper and Pearson [2]_, from 0 to 1 - t^(1/n) or from t^(1/n) to 1, with
    t = (1 - `confidence_level`) / 2. The n trials are groups, for the sensitivity those with
    positives; where the weights w of groups differ, n = (Σ w)² / Σ w². "macro" and "weighted" have
    the means of the labels' ends.

    All draws of a label come from one sort of its scores, as a draw is a weighting of the rows.
    Ties are exact: estimates equal :func:`sklearn.metrics.roc_auc_score`,
    :func:`sklearn.metrics.average_precision_score` and :func:`sklearn.metrics.f1_score`.

    References
    ----------
    .. [1] B. Efron, R. J. Tibshirani. "An Introduction to the Bootstrap", chapter 13, 1993.
    .. [2] C. J. Clopper, E. S. Pearson. "The Use of Confidence or Fiducial Limits Illustrated in
       the Case of the Binomial", Biometrika, 1934.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_medfuse.metrics import multilabel_report
    >>> rng = np.random.default_rng(0)
    >>> y_true = rng.integers(2, size=(200, 2))
    >>> y_score = 0.3 * y_true + 0.7 * rng.uniform(size=(200, 2))
    >>> patients = np.repeat(np.arange(100), 2)
    >>> report = multilabel_report(
    ...     y_true, y_score, groups=patients, target_names=["sepsis", "anaemia"], random_state=0
    ... )
    >>> print(report[["n_positive", "auroc", "auroc_low", "auroc_high"]].round(2))
             n_positive  auroc  auroc_low  auroc_high
    sepsis          109   0.87       0.81        0.91
    anaemia         112   0.86       0.81        0.90
    macro           221   0.86       0.83        0.89
    """
    labels, names = check_labels(y_true, target_names, missing=True)
    chosen = [metrics] if isinstance(metrics, str) else list(metrics)
    if not chosen or len(set(chosen)) < len(chosen):
        raise ValueError(f"`metrics` is {metrics!r}; pass at least one name, each once.")
    found = {name: resolve_score(name, name="metrics", y_scores=[y_score]) for name in chosen}
    scores = read_scores(y_score, labels, found.values(), labels=y_true)
    averages = check_averages(averages)
    threshold = check_threshold(threshold, len(names))
    bootstrap = Bootstrap(
        len(labels), sample_weight, groups, n_bootstraps, confidence_level, random_state
    )
    report = tabulate_scores(found, labels, scores, names, averages, bootstrap, threshold)
    report.attrs = {
        "n_samples": len(labels),
        "n_groups": bootstrap.n_groups,
        "n_bootstraps": int(n_bootstraps),
        "confidence_level": float(confidence_level),
    }
    return report


@documented
def subgroup_report(
    y_true: Labels,
    y_score: Scores,
    subgroups: pd.DataFrame | pd.Series | Mapping[str, npt.ArrayLike],
    *,
    metric: str = "auroc",
    bins: Mapping[str, Sequence[float]] | None = None,
    reference: Literal["rest", "largest"] = "rest",
    min_count: int = 10,
    averages: Sequence[str] = ("macro",),
    threshold: Threshold = 0.5,
    sample_weight: npt.ArrayLike | None = None,
    groups: npt.ArrayLike | None = None,
    n_bootstraps: int = 1000,
    confidence_level: float = 0.95,
    target_names: Sequence[str] | None = None,
    random_state: RandomState = None,
) -> pd.DataFrame:
    """Score every label in each group of patients, with gaps and bootstrap intervals.

    Parameters
    ----------
    y_true, y_score
    subgroups : DataFrame of shape (n_samples, n_attributes), Series or dict of columns
        Attributes of the patients, such as sex, age, hospital and ethnicity. Each value is a
        group. A row whose value is missing is in no group of that attribute.
    metric : str, default="auroc"
        One of the metrics of `multilabel_report`.
    bins : dict of str to sequence of float, default=None
        Edges at which numeric columns are cut; an edge belongs to the band above it. None means
        ``{"age": (45, 65, 80)}``.
    reference : {"rest", "largest"}, default="rest"
        What a group is compared with: all rows that have another value, or the largest group.
    min_count : int, default=10
        A group with fewer patients, by `groups`, is not shown. In a group that is shown, a label
        with fewer positive or negative rows is not shown.
    averages, threshold, sample_weight, groups, n_bootstraps, confidence_level, target_names
    random_state

    Returns
    -------
    report : DataFrame of shape (n_rows, 11)
        One row per group and label, then the averages of the group; first those of all rows, whose
        attribute and group are ``all``. Columns are ``attribute``, ``group`` and ``label``;
        ``n_samples``, the rows of the group; ``n_positive``, missing where the label is not
        shown; ``score`` with its interval ``score_low``, ``score_high``; and ``gap``, the score
        less that of the reference, with ``gap_low``, ``gap_high``. An average is over the labels
        that are shown; its gap is over those shown both in the group and in the reference.
        ``report.attrs["n_not_shown"]`` says how many groups of each attribute are too small.

    Raises
    ------
    ValueError
        If shapes disagree, a score is missing or a parameter is out of its range.

    See Also
    --------
    multilabel_report : All scores of all rows.

    Notes
    -----
    Group and reference are scored on the same resamples, so an interval of a gap that excludes
    0 shows that the two differ, for this one comparison; among many groups and labels, some
    differ by chance. A gap in AUROC can come from the case mix alone, so check calibration too.

    References
    ----------
    .. [1] G. S. Collins et al. "TRIPOD+AI Statement: Updated Guidance for Reporting Clinical
       Prediction Models that Use Regression or Machine Learning Methods", BMJ, 2024, items 14
       and 23a.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_medfuse.metrics import subgroup_report
    >>> rng = np.random.default_rng(0)
    >>> y_true = rng.integers(2, size=400)
    >>> sex = np.where(rng.uniform(size=400) < 0.4, "female", "male")
    >>> y_score = y_true + np.where(sex == "female", 3, 1) * rng.normal(size=400)
    >>> report = subgroup_report(y_true, y_score, {"sex": sex}, averages=[], random_state=0)
    >>> print(report[["group", "score", "gap", "gap_low", "gap_high"]].round(2))
        group  score   gap  gap_low  gap_high
    0     all   0.66   NaN      NaN       NaN
    1    male   0.77  0.21     0.10      0.32
    2  female   0.55 -0.21    -0.32     -0.10
    """
    labels, names = check_labels(y_true, target_names, missing=True)
    score = resolve_score(metric, y_scores=[y_score])
    scores = read_scores(y_score, labels, [score], labels=y_true)
    if score.of_decisions:
        scores = scores - check_threshold(threshold, len(names))
    averages = check_averages(averages)
    bootstrap = Bootstrap(
        len(labels), sample_weight, groups, n_bootstraps, confidence_level, random_state
    )
    check_option("reference", reference, _REFERENCES)
    if not isinstance(min_count, numbers.Integral) or min_count < 1:
        raise ValueError(f"`min_count` is {min_count!r}; pass a whole number of at least 1.")
    by_attribute = _read_subgroups(subgroups, bins, len(labels))
    comparisons, n_not_shown = _choose_comparisons(
        by_attribute, reference, min_count, bootstrap.group_of_row, labels
    )

    def score_all(weights):
        values = [
            each.score(score.function, labels, scores, weights, averages) for each in comparisons
        ]
        return np.stack(values, axis=1)

    estimates, draws = bootstrap.score(score_all)
    tables = []
    for number, comparison in enumerate(comparisons):
        columns = comparison.describe(labels, names, averages)
        for part, (name, lowest) in enumerate((("score", 0.0), ("gap", -np.inf))):
            estimate = estimates[number, part]
            low, high = score.interval(bootstrap, estimate, draws[:, number, part], lowest)
            if name == "score":
                rows = comparison.rows
                cells = _hide(labels[rows], comparison.shown), scores[rows]
                ends = low, high
                low, high = exact_at_edges(score, estimate, ends, *cells, averages, bootstrap, rows)
            columns |= {name: estimate, f"{name}_low": low, f"{name}_high": high}
        tables.append(pd.DataFrame(columns))
    report = pd.concat(tables, ignore_index=True)
    report.attrs = {
        "metric": metric,
        "reference": reference,
        "min_count": int(min_count),
        "n_not_shown": n_not_shown,
    }
    return report


def _choose_comparisons(by_attribute, reference, min_count, group_of_row, labels):
    """Pair every group that is large enough with its reference; count the others."""

    def is_large(rows):
        return len(np.unique(group_of_row[rows])) >= min_count

    every = np.ones(len(labels), dtype=bool)
    comparisons = [_Comparison(_ALL, _ALL, every, None, labels, min_count)]
    n_not_shown = {}
    for attribute, groups in by_attribute.items():
        shown = {name: rows for name, rows in groups.items() if is_large(rows)}
        n_not_shown[attribute] = len(groups) - len(shown)
        known = np.any(list(groups.values()), axis=0)
        largest = max(shown.values(), key=np.sum, default=None)
        for name, rows in shown.items():
            others = known & ~rows if reference == "rest" else largest
            if others is rows or not is_large(others):
                others = None
            comparisons.append(_Comparison(attribute, name, rows, others, labels, min_count))
    return comparisons, n_not_shown


class _Comparison:
    """A group and the rows that it is compared with; labels too rare in it are not shown."""

    def __init__(self, attribute, name, rows, others, labels, min_count):
        self.attribute = attribute
        self.name = name
        self.rows = rows
        self.others = others
        self.shown = _has_enough(labels[rows], min_count)
        if others is not None:
            self.compared = self.shown & _has_enough(labels[others], min_count)

    def score(self, function, labels, scores, weights, averages):
        """Score the group, and its gap: shape (n_draws, 2, n_labels + n_averages)."""

        def score_rows(rows, shown):
            truth = _hide(labels[rows], shown)
            return score_with_pairs(function, truth, scores[rows], weights[rows], averages)

        values, n_positive, pooled = score_rows(self.rows, self.shown)
        found = append_averages(values, n_positive, pooled, averages)
        if self.others is None:
            return np.stack([found, np.full(found.shape, np.nan)], axis=1)
        if not np.array_equal(self.shown, self.compared):
            values, n_positive, pooled = score_rows(self.rows, self.compared)
        other_values, n_other_positive, other_pooled = score_rows(self.others, self.compared)
        gap = append_averages(
            values - other_values, n_positive + n_other_positive, pooled - other_pooled, averages
        )
        return np.stack([found, gap], axis=1)

    def describe(self, labels, names, averages):
        """Return the columns that say which rows a line of the report describes."""
        n_positive = (labels[self.rows] == 1).sum(axis=0)
        n_positive = np.append(n_positive, [n_positive[self.shown].sum()] * len(averages))
        shown = np.append(self.shown, [self.shown.any()] * len(averages))
        return {
            "attribute": self.attribute,
            "group": self.name,
            "label": [*names, *averages],
            "n_samples": int(self.rows.sum()),
            "n_positive": pd.array(np.where(shown, n_positive, np.nan), dtype="Int64"),
        }


def _hide(labels, shown):
    """Make labels that are not shown unknown in every row, so without a score and pairs."""
    return np.where(shown, labels, np.nan)


def _has_enough(labels, min_count):
    return ((labels == 1).sum(axis=0) >= min_count) & ((labels == 0).sum(axis=0) >= min_count)


def _read_subgroups(subgroups, bins, n_samples):
    """Return masks of each attribute's groups: bands by height, values by frequency."""
    subgroups = to_pandas(subgroups)
    if isinstance(subgroups, pd.Series):
        subgroups = subgroups.to_frame()
    elif isinstance(subgroups, Mapping):
        subgroups = {name: np.asarray(column) for name, column in subgroups.items()}
    table = pd.DataFrame(subgroups)
    if len(table) != n_samples or not table.shape[1]:
        raise ValueError(
            f"`subgroups` has shape {table.shape}; pass {n_samples} rows and at least one column."
        )
    names = [str(name) for name in table.columns]
    if len(set(names)) < len(names) or _ALL in names:
        raise ValueError(f"The columns of `subgroups` must be distinct and other than {_ALL!r}.")
    table = table.set_axis(names, axis=1)
    if bins is None:
        bins = {name: _AGE_BANDS[name] for name in names if name in _AGE_BANDS}
    unknown = [name for name in bins if name not in names]
    if unknown:
        raise ValueError(f"`bins` names {unknown}, which are not columns of `subgroups`: {names}.")
    return {name: _read_column(name, table[name], bins.get(name)) for name in names}


def _read_column(name, column, edges):
    values = _name_values(name, column) if edges is None else _cut(name, column, edges)
    rows = {str(value): (values == value).to_numpy() for value in values.cat.categories}
    return {value: chosen for value, chosen in rows.items() if chosen.any()}


def _name_values(name, column):
    if pd.api.types.is_float_dtype(column) and column.nunique() > _MOST_VALUES:
        raise ValueError(
            f"Column {name!r} of `subgroups` holds {column.nunique()} different numbers; pass "
            f"bins={{{name!r}: (edge, …)}}, or the column as text if each is a group."
        )
    texts = column.map(_as_text, na_action="ignore").astype(object)
    # By falling count, then by name
    counts = texts.value_counts().sort_index().sort_values(ascending=False, kind="stable")
    return texts.astype(pd.CategoricalDtype(list(counts.index)))


def _as_text(value):
    # 66.0 is hospital 66: a missing value turns a column of whole numbers into floats
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)


def _cut(name, column, edges):
    edges = [float(edge) for edge in np.atleast_1d(edges)]
    if not edges or not np.isfinite(edges).all() or (np.diff(edges) <= 0).any():
        raise ValueError(
            f"`bins` of {name!r} must be finite, increasing numbers; pass them sorted."
        )
    numeric = pd.to_numeric(column, errors="coerce").astype(float)
    n_texts = int((numeric.isna() & column.notna()).sum())
    if n_texts:
        raise ValueError(
            f"Column {name!r} of `subgroups` has {n_texts} values that are not numbers, so "
            "it cannot be cut; pass numbers, or leave it out of `bins`."
        )
    labels = [
        f"under {edges[0]:g}",
        *(f"{low:g} to under {high:g}" for low, high in pairwise(edges)),
        f"{edges[-1]:g} and over",
    ]
    return pd.cut(numeric, [-np.inf, *edges, np.inf], right=False, labels=labels)
