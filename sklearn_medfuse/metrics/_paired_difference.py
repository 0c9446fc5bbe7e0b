"""Difference of two models on the same rows, with interval and p-value."""

import numpy as np
import pandas as pd

from ._averages import append_averages, count_positives, pooled_score
from ._bootstrap import bootstrap, percentile_interval, two_sided_p_value
from ._inputs import (
    check_averages,
    check_bootstrap,
    check_groups,
    check_labels,
    check_sample_weight,
    check_threshold,
)
from ._scores import Score, read_scores, resolve_score


def paired_difference(
    y_true,
    y_score_a,
    y_score_b,
    *,
    metric="auroc",
    averages=("macro",),
    threshold=0.5,
    sample_weight=None,
    groups=None,
    n_bootstraps=1000,
    confidence_level=0.95,
    target_names=None,
    random_state=None,
):
    """Compare two models on the same rows, per label and on average.

    Both models are scored on the same resamples of whole groups, so what makes a draw easy or
    hard for both cancels, and the interval of the difference is narrower than the two models'
    own intervals suggest.

    Parameters
    ----------
    y_true : array-like or sparse matrix of shape (n_samples, n_labels) or (n_samples,)
        True labels, 0 or 1; NaN where not known, which leaves the pair out.

    y_score_a, y_score_b : array-like of shape (n_samples, n_labels) or (n_samples,), or list of \
            n_labels arrays of shape (n_samples, 2)
        Scores of the two models, in the forms that `multilabel_report` takes.

    metric : str or callable, default="auroc"
        What to compare: one of the metrics of `multilabel_report`. A callable is called as
        ``metric(y_true, y_score)`` with two arrays of shape (n,) for one label and gives a
        number; it sees the rows of each resample, and only where both classes are present. It is
        called twice per label and draw.

    averages : sequence of {"macro", "micro", "weighted"}, default=("macro",)
        Rows to append: the mean over labels; the score of all pairs of row and label together;
        the mean over labels weighted by their positives.

    threshold : float or array-like of shape (n_labels,), default=0.5
        For decisions, as those of ``f1``: a score at or above it counts as predicted.

    sample_weight : array-like of shape (n_samples,), default=None
        Row weights. A callable takes none.

    groups : array-like of shape (n_samples,), default=None
        The unit to resample, usually the patient. None resamples rows.

    n_bootstraps : int, default=1000
        Number of resamples. 0 leaves intervals and p-values NaN.

    confidence_level : float, default=0.95
        Coverage of the intervals.

    target_names : sequence of str, default=None
        Names of the labels. None takes the columns of `y_true`, else ``label_0``, ``label_1``, …

    random_state : int, RandomState instance or None, default=None
        Source of the draws. Pass an int for the same result at every call.

    Returns
    -------
    comparison : DataFrame of shape (n_labels + n_averages, 6)
        One row per label, then the averages. Columns are ``a`` and ``b``, the two models' scores;
        ``difference``, which is a - b, with its interval ``difference_low``, ``difference_high``;
        and ``p_value``, two-sided, that the true difference is zero: twice the smaller share of
        draws on either side of zero, with one added to both counts. Labels are not corrected for
        multiple testing; the macro row is one test. Where the score of one model is undefined, as
        the PPV where nothing is predicted, both are NaN.

    Raises
    ------
    ValueError
        If shapes do not agree, a score is missing or a parameter is out of its range.

    See Also
    --------
    multilabel_report : All scores of one model.
    delong_test : The AUROC of two models, without resampling.

    References
    ----------
    .. [1] B. Efron, R. J. Tibshirani. "An Introduction to the Bootstrap", chapters 13 and 15,
       1993.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_medfuse.metrics import paired_difference
    >>> rng = np.random.default_rng(0)
    >>> y_true = rng.integers(2, size=(300, 2))
    >>> good = y_true + rng.normal(size=(300, 2))
    >>> poor = y_true + 3 * rng.normal(size=(300, 2))
    >>> comparison = paired_difference(y_true, good, poor, random_state=0)
    >>> print(comparison.loc["macro"].round(3))
    a                  0.816
    b                  0.580
    difference         0.237
    difference_low     0.184
    difference_high    0.288
    p_value            0.002
    Name: macro, dtype: float64
    """
    labels, names = check_labels(y_true, target_names, missing=True)
    averages = check_averages(averages)
    weights = check_sample_weight(sample_weight, len(labels))
    score = _resolve_metric(metric, sample_weight, (y_score_a, y_score_b))
    scores = [
        read_scores(given, labels, [score], name=name, labels=y_true)
        for name, given in (("y_score_a", y_score_a), ("y_score_b", y_score_b))
    ]
    threshold = check_threshold(threshold, len(names))
    if score.of_decisions:
        scores = [model - threshold for model in scores]
    group_of_row = check_groups(groups, len(labels))
    check_bootstrap(n_bootstraps, confidence_level)

    def score_both(draws):
        return np.stack(_score_pair(score.function, labels, scores, draws, averages), axis=1)

    (a, b, difference), draws = bootstrap(
        score_both, weights, group_of_row, n_bootstraps, random_state
    )
    low, high = percentile_interval(draws[:, 2], confidence_level)
    columns = {
        "a": a,
        "b": b,
        "difference": difference,
        "difference_low": low,
        "difference_high": high,
        "p_value": two_sided_p_value(draws[:, 2]),
    }
    return pd.DataFrame(columns, index=[*names, *averages])


def _score_pair(function, labels, scores, draws, averages):
    """Score two models and their difference, each of shape (n_draws, n_labels + n_averages)."""
    values = [function(labels, model, draws) for model in scores]
    # else the averages of the two would be over different labels
    undefined = np.isnan(values[0]) | np.isnan(values[1])
    values = [np.where(undefined, np.nan, each) for each in values]
    pooled = [None] * 3
    if "micro" in averages:
        of_a, of_b = (pooled_score(function, labels, model, draws) for model in scores)
        pooled = [of_a, of_b, of_a - of_b]
    n_positive = count_positives(labels, draws)
    return [
        append_averages(each, n_positive, of_pairs, averages)
        for each, of_pairs in zip([*values, values[0] - values[1]], pooled, strict=True)
    ]


def _resolve_metric(metric, sample_weight, y_scores):
    if not callable(metric):
        return resolve_score(metric, y_scores=y_scores)
    if sample_weight is not None:
        raise ValueError(
            "`sample_weight` is given with a `metric` that is a callable, which takes none; pass "
            "a metric by name, or sample_weight=None."
        )
    return Score(lambda y_true, y_score, weights: _score_rows(metric, y_true, y_score, weights))


def _score_rows(metric, y_true, y_score, weights):
    """Apply a metric that takes no weights: rows are repeated as often as they are drawn."""
    scores = np.full((weights.shape[1], y_true.shape[1]), np.nan)
    for draw, times in enumerate(weights.T.astype(int)):
        rows = np.repeat(np.arange(len(times)), times)
        for label in range(y_true.shape[1]):
            known = rows[~np.isnan(y_true[rows, label])]
            truth = y_true[known, label].astype(int)
            if 0 < truth.sum() < len(truth):
                scores[draw, label] = metric(truth, y_score[known, label])
    return scores
