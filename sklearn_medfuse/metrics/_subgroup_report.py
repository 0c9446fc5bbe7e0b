"""One score in each group of patients, and how far it is from that of the others."""

import numbers

import numpy as np
import pandas as pd

from ._averages import append_averages, count_positives, pooled_score
from ._bootstrap import bootstrap
from ._inputs import (
    check_averages,
    check_bootstrap,
    check_groups,
    check_labels,
    check_sample_weight,
    check_threshold,
)
from ._scores import read_scores, resolve_score
from ._subgroups import ALL, Subgroup, read_subgroups

_REFERENCES = ("rest", "largest")
# what a comparison gives, and how low it can be beside the score's own limits
_PARTS: dict[str, dict] = {"score": {}, "gap": {"lowest": -np.inf}}


def subgroup_report(
    y_true,
    y_score,
    subgroups,
    *,
    metric="auroc",
    bins=None,
    reference="rest",
    min_count=10,
    averages=("macro",),
    threshold=0.5,
    sample_weight=None,
    groups=None,
    n_bootstraps=1000,
    confidence_level=0.95,
    target_names=None,
    random_state=None,
):
    """Score every label in each group of patients, with gaps and bootstrap intervals.

    Parameters
    ----------
    y_true : array-like or sparse matrix of shape (n_samples, n_labels) or (n_samples,)
        True labels, 0 or 1; NaN where not known, which leaves the pair out.

    y_score : array-like of shape (n_samples, n_labels) or (n_samples,), or list of n_labels \
            arrays of shape (n_samples, 2)
        Probabilities or decision values, in the forms that `multilabel_report` takes.

    subgroups : DataFrame of shape (n_samples, n_attributes), Series or dict of columns
        What patients are told apart by, such as sex, age, hospital and ethnicity. Each value is a
        group. A row whose value is missing is in none.

    metric : str, default="auroc"
        One of the metrics of `multilabel_report`.

    bins : dict of str to sequence of float, default=None
        Edges at which columns of numbers are cut; an edge belongs to the band above it. None is
        ``{"age": (45, 65, 80)}``.

    reference : {"rest", "largest"}, default="rest"
        What a group's gap is taken to: all rows that have another value, or the group with most
        rows.

    min_count : int, default=10
        A group of fewer patients, by `groups`, is not shown. In a group that is shown, a label
        with fewer positive or negative rows is not.

    averages : sequence of {"macro", "micro", "weighted"}, default=("macro",)
        Rows to append: the mean over labels; the score of all pairs of row and label together;
        the mean over labels weighted by their positives.

    threshold : float or array-like of shape (n_labels,), default=0.5
        For decisions a score at or above it counts as predicted.

    sample_weight : array-like of shape (n_samples,), default=None
        Row weights. A resample multiplies them.

    groups : array-like of shape (n_samples,), default=None
        The unit to resample, usually the patient. None resamples rows.

    n_bootstraps : int, default=1000
        Number of resamples. 0 leaves the intervals NaN.

    confidence_level : float, default=0.95
        Coverage of the intervals.

    target_names : sequence of str, default=None
        Names of the labels. None takes the columns of `y_true`, else ``label_0``, ``label_1``, …

    random_state : int, RandomState instance or None, default=None
        Source of the draws. Pass an int for the same intervals at every call.

    Returns
    -------
    report : DataFrame of shape (n_rows, 11)
        One row per group and label, then the averages of the group; first those of all rows, whose
        attribute and group are ``all``. Columns are ``attribute``, ``group`` and ``label``;
        ``n_samples``, the rows of the group; ``n_positive``, missing where the label is not
        shown; ``score`` with its interval ``score_low``, ``score_high``; and ``gap``, the score
        less that of the reference, with ``gap_low``, ``gap_high``. An average is over the labels
        that are shown; its gap is over those shown in the group and in the reference.
        ``report.attrs["n_not_shown"]`` says how many groups of each attribute are too small.

    Raises
    ------
    ValueError
        If shapes do not agree, a score is missing or a parameter is out of its range.

    See Also
    --------
    multilabel_report : All scores of all rows.

    Notes
    -----
    Group and reference are scored on the same resamples, so an interval of a gap that leaves out
    0 says that the two differ, for this one comparison: with many groups and labels some do by
    chance. A gap in AUROC can come from the case mix alone, so look at the calibration too.

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
    weights = check_sample_weight(sample_weight, len(labels))
    group_of_row = check_groups(groups, len(labels))
    check_bootstrap(n_bootstraps, confidence_level)
    _check_options(reference, min_count)

    by_attribute = read_subgroups(subgroups, bins, len(labels))
    comparisons, n_not_shown = _choose_comparisons(
        by_attribute, reference, min_count, group_of_row, labels
    )

    def score_all(draws):
        values = [
            each.score(score.function, labels, scores, draws, averages) for each in comparisons
        ]
        return np.stack(values, axis=1)

    estimates, draws = bootstrap(score_all, weights, group_of_row, n_bootstraps, random_state)
    tables = []
    for number, comparison in enumerate(comparisons):
        columns = comparison.describe(labels, names, averages)
        for part, (name, ends) in enumerate(_PARTS.items()):
            estimate = estimates[number, part]
            low, high = score.interval(estimate, draws[:, number, part], confidence_level, **ends)
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


def _check_options(reference, min_count):
    if reference not in _REFERENCES:
        raise ValueError(f"`reference` is {reference!r}; pass one of {_REFERENCES}.")
    if not isinstance(min_count, numbers.Integral) or min_count < 1:
        raise ValueError(f"`min_count` is {min_count!r}; pass a whole number of at least 1.")


def _choose_comparisons(by_attribute, reference, min_count, group_of_row, labels):
    """Pair every group that is large enough with its reference; count the others."""
    every = np.ones(len(labels), dtype=bool)
    comparisons = [_Comparison(Subgroup(ALL, ALL, every, ~every), None, labels, min_count)]
    n_not_shown = {}
    for attribute, groups in by_attribute.items():
        shown = [group for group in groups if _is_large(group.rows, group_of_row, min_count)]
        n_not_shown[attribute] = len(groups) - len(shown)
        largest = max(shown, key=lambda group: group.rows.sum(), default=None)
        for group in shown:
            others = group.others if reference == "rest" else largest.rows
            comparable = group is not largest or reference == "rest"
            if not comparable or not _is_large(others, group_of_row, min_count):
                others = None
            comparisons.append(_Comparison(group, others, labels, min_count))
    return comparisons, n_not_shown


def _is_large(rows, group_of_row, min_count):
    return len(np.unique(group_of_row[rows])) >= min_count


class _Comparison:
    """A group and the rows that it is compared with; labels too rare in it are not shown."""

    def __init__(self, group, others, labels, min_count):
        self.group = group
        self.others = others
        self.shown = _has_enough(labels[group.rows], min_count)
        if others is not None:
            self.compared = self.shown & _has_enough(labels[others], min_count)

    def score(self, function, labels, scores, weights, averages):
        """Score the group, and its gap: shape (n_draws, 2, n_labels + n_averages)."""

        def of_rows(rows, shown):
            # a label that is not known in any row has no score and no pair
            truth = np.where(shown, labels[rows], np.nan)
            return truth, scores[rows], weights[rows]

        def both(rows, shown):
            return _score_with_pooled(function, of_rows(rows, shown), averages)

        values, n_positive, pooled = both(self.group.rows, self.shown)
        found = append_averages(values, n_positive, pooled, averages)
        if self.others is None:
            return np.stack([found, np.full(found.shape, np.nan)], axis=1)
        if not np.array_equal(self.shown, self.compared):
            values, n_positive, pooled = both(self.group.rows, self.compared)
        other_values, n_other_positive, other_pooled = both(self.others, self.compared)
        gap = append_averages(
            values - other_values,
            n_positive + n_other_positive,
            pooled - other_pooled if "micro" in averages else None,
            averages,
        )
        return np.stack([found, gap], axis=1)

    def describe(self, labels, names, averages):
        """Columns that say whom the rows of the report are about."""
        n_positive = (labels[self.group.rows] == 1).sum(axis=0)
        n_positive = np.append(n_positive, [n_positive[self.shown].sum()] * len(averages))
        shown = np.append(self.shown, [self.shown.any()] * len(averages))
        return {
            "attribute": self.group.attribute,
            "group": self.group.name,
            "label": [*names, *averages],
            "n_samples": int(self.group.rows.sum()),
            "n_positive": pd.array(np.where(shown, n_positive, np.nan), dtype="Int64"),
        }


def _has_enough(labels, min_count):
    return ((labels == 1).sum(axis=0) >= min_count) & ((labels == 0).sum(axis=0) >= min_count)


def _score_with_pooled(function, rows, averages):
    """Scores of the labels, their positives, and the score of all pairs if it is asked for."""
    y_true, y_score, weights = rows
    values = function(y_true, y_score, weights)
    pooled = pooled_score(function, y_true, y_score, weights) if "micro" in averages else None
    return values, count_positives(y_true, weights), pooled
