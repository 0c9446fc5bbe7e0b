"""Difference of two models on the same rows, with interval and p-value."""

import numpy as np
import pandas as pd

from ._bootstrap import percentile_interval, resampled_weights, two_sided_p_value, with_macro
from ._inputs import (
    MACRO,
    check_bootstrap,
    check_groups,
    check_labels,
    check_scores,
    check_threshold,
)
from ._weighted_scores import weighted_auprc, weighted_auroc, weighted_f1


def paired_difference(
    y_true,
    y_score_a,
    y_score_b,
    *,
    metric="auroc",
    threshold=0.5,
    groups=None,
    n_bootstraps=1000,
    confidence_level=0.95,
    target_names=None,
    random_state=None,
):
    """Compare two models on the same rows, per label and in the macro mean.

    Both models are scored on the same resamples of whole groups, so what makes a draw easy or
    hard for both cancels, and the interval of the difference is narrower than the two models'
    own intervals suggest.

    Parameters
    ----------
    y_true : array-like or sparse matrix of shape (n_samples, n_labels) or (n_samples,)
        True labels, 0 or 1.

    y_score_a, y_score_b : array-like of shape (n_samples, n_labels) or (n_samples,), or list of \
            n_labels arrays of shape (n_samples, 2)
        Scores of the two models, in the forms that `multilabel_report` takes.

    metric : {"auroc", "auprc", "f1"} or callable, default="auroc"
        What to compare. A callable is called as ``metric(y_true, y_score)`` with two arrays of
        shape (n,) for one label and gives a number; it sees the rows of each resample, and only
        where both classes are present. It is called twice per label and draw.

    threshold : float or array-like of shape (n_labels,), default=0.5
        For ``metric="f1"``: a score at or above it counts as predicted.

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
    comparison : DataFrame of shape (n_labels + 1, 6)
        One row per label, then ``macro``. Columns are ``a`` and ``b``, the two models' scores;
        ``difference``, which is a - b, with its interval ``difference_low``, ``difference_high``;
        and ``p_value``, two-sided, that the true difference is zero: twice the smaller share of
        draws on either side of zero, with one added to both counts. Labels are not corrected for
        multiple testing; the macro row is one test.

    Raises
    ------
    ValueError
        If shapes do not agree, a value is missing or a parameter is out of its range.

    See Also
    --------
    multilabel_report : All scores of one model.

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
    labels, names = check_labels(y_true, target_names)
    scores_a = check_scores(y_score_a, labels, name="y_score_a", labels=y_true)
    scores_b = check_scores(y_score_b, labels, name="y_score_b", labels=y_true)
    score = _resolve_metric(metric, check_threshold(threshold, len(names)))
    group_of_row = check_groups(groups, len(labels))
    check_bootstrap(n_bootstraps, confidence_level)

    def score_both(weights):
        a, b = (score(labels, scores, weights) for scores in (scores_a, scores_b))
        return with_macro(a), with_macro(b), with_macro(a - b)

    a, b, difference = score_both(np.ones((len(labels), 1)))
    blocks = [
        score_both(weights)[2]
        for weights in resampled_weights(group_of_row, n_bootstraps, random_state)
    ]
    draws = np.concatenate([np.empty((0, len(names) + 1)), *blocks])
    low, high = percentile_interval(draws, confidence_level)

    columns = {
        "a": a[0],
        "b": b[0],
        "difference": difference[0],
        "difference_low": low,
        "difference_high": high,
        "p_value": two_sided_p_value(draws),
    }
    return pd.DataFrame(columns, index=[*names, MACRO])


def _resolve_metric(metric, threshold):
    """Turn `metric` into a function of labels, scores and weights that gives draws x labels."""
    if callable(metric):
        return lambda y_true, y_score, weights: _score_rows(metric, y_true, y_score, weights)
    by_name = {
        "auroc": weighted_auroc,
        "auprc": weighted_auprc,
        "f1": lambda y_true, y_score, weights: weighted_f1(y_true, y_score, weights, threshold),
    }
    if metric not in by_name:
        raise ValueError(f"`metric` is {metric!r}; pass one of {sorted(by_name)} or a callable.")
    return by_name[metric]


def _score_rows(metric, y_true, y_score, weights):
    """Apply a metric that takes no weights: rows are repeated as often as they are drawn."""
    scores = np.full((weights.shape[1], y_true.shape[1]), np.nan)
    for draw, times in enumerate(weights.T.astype(int)):
        rows = np.repeat(np.arange(len(times)), times)
        for label in range(y_true.shape[1]):
            truth = y_true[rows, label].astype(int)
            if 0 < truth.sum() < len(truth):
                scores[draw, label] = metric(truth, y_score[rows, label])
    return scores
