"""Difference of two models on the same rows: by bootstrap, and by DeLong's test."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import norm, rankdata

from ._bootstrap import Bootstrap, two_sided_p_value
from ._inputs import (
    Labels,
    RandomState,
    Scores,
    Threshold,
    check_averages,
    check_confidence_level,
    check_groups,
    check_labels,
    check_scores,
    check_threshold,
    documented,
)
from ._scores import Score, append_averages, read_scores, resolve_score, score_with_pairs


@documented
def paired_difference(
    y_true: Labels,
    y_score_a: Scores,
    y_score_b: Scores,
    *,
    metric: str | Callable[[np.ndarray, np.ndarray], float] = "auroc",
    averages: Sequence[str] = ("macro",),
    threshold: Threshold = 0.5,
    sample_weight: npt.ArrayLike | None = None,
    groups: npt.ArrayLike | None = None,
    n_bootstraps: int = 1000,
    confidence_level: float = 0.95,
    target_names: Sequence[str] | None = None,
    random_state: RandomState = None,
) -> pd.DataFrame:
    """Compare two models on the same rows, per label and on average.

    Both models are scored on the same resamples of whole groups, so what makes a draw easy or
    hard for both cancels, and the interval of the difference is narrower than the two models'
    own intervals suggest.

    Parameters
    ----------
    y_true, y_score_a, y_score_b
    metric : str or callable, default="auroc"
        What to compare: one of the metrics of `multilabel_report`. A callable is called as
        ``metric(y_true, y_score)`` with two arrays of shape (n,) for one label and returns a
        number; it sees the rows of each resample, and only where both classes are present. It is
        called twice per label and draw.
    averages, threshold
    sample_weight : array-like of shape (n_samples,), default=None
        Row weights; not available with a callable `metric`.
    groups, n_bootstraps, confidence_level, target_names, random_state

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
        If shapes disagree, a score is missing or a parameter is out of its range.

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
    if not callable(metric):
        score = resolve_score(metric, y_scores=(y_score_a, y_score_b))
    elif sample_weight is None:
        score = Score(partial(_score_rows, metric))
    else:
        raise ValueError(
            "`sample_weight` cannot be combined with a callable `metric`; pass a metric by name, "
            "or sample_weight=None."
        )
    scores = [
        read_scores(given, labels, [score], name=name, labels=y_true)
        for name, given in (("y_score_a", y_score_a), ("y_score_b", y_score_b))
    ]
    threshold = check_threshold(threshold, len(names))
    if score.of_decisions:
        scores = [model - threshold for model in scores]
    bootstrap = Bootstrap(
        len(labels), sample_weight, groups, n_bootstraps, confidence_level, random_state
    )
    (a, b, difference), draws = bootstrap.score(
        lambda weights: _score_both(score.function, labels, scores, weights, averages)
    )
    low, high = bootstrap.interval(draws[:, 2])
    columns = {
        "a": a,
        "b": b,
        "difference": difference,
        "difference_low": low,
        "difference_high": high,
        "p_value": two_sided_p_value(draws[:, 2]),
    }
    return pd.DataFrame(columns, index=[*names, *averages])


def _score_both(function, labels, scores, weights, averages):
    """Score two models and their difference: (n_draws, 3, n_labels + n_averages)."""
    (a, n_positive, pooled_a), (b, _, pooled_b) = (
        score_with_pairs(function, labels, model, weights, averages) for model in scores
    )
    # Otherwise the averages of the two would be over different labels
    undefined = np.isnan(a) | np.isnan(b)
    a, b = np.where(undefined, np.nan, a), np.where(undefined, np.nan, b)
    parts = ((a, pooled_a), (b, pooled_b), (a - b, pooled_a - pooled_b))
    return np.stack(
        [append_averages(values, n_positive, pooled, averages) for values, pooled in parts], axis=1
    )


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


@documented
def delong_test(
    y_true: Labels,
    y_score_a: Scores,
    y_score_b: Scores,
    *,
    groups: npt.ArrayLike | None = None,
    confidence_level: float = 0.95,
    target_names: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Compare the AUROC of two models on the same rows, without resampling.

    Of label :math:`l` with :math:`m` positive and :math:`n` negative rows, the AUROC is the mean
    over pairs of :math:`\\psi = 1, \\tfrac12, 0` where the positive row scores higher, the same
    or lower. A positive row's mean over the negatives and a negative row's over the positives are
    its structural components [1]_; of their differences between the models, :math:`d_i` and
    :math:`d_j`, the difference of the AUROCs has the variance

    .. math::

        \\frac{\\operatorname{Var}(d_i)}{m} + \\frac{\\operatorname{Var}(d_j)}{n}

    They come from midranks in :math:`O((m + n) \\log (m + n))` [2]_.

    Parameters
    ----------
    y_true, y_score_a, y_score_b
    groups : array-like of shape (n_samples,), default=None
        The independent unit, usually the patient: the variance is then that of clustered data
        [3]_. None treats all rows as independent.
    confidence_level, target_names

    Returns
    -------
    comparison : DataFrame of shape (n_labels, 8)
        One row per label. Columns are ``a`` and ``b``, the two AUROCs; ``difference``, which is
        a - b, its ``standard_error`` and interval ``difference_low``, ``difference_high``; ``z``
        and the two-sided ``p_value``. NaN where a label has fewer than two independent units of
        either class. Labels are not corrected for multiple testing.

    Raises
    ------
    ValueError
        If shapes disagree, a score is missing or a parameter is out of its range.

    See Also
    --------
    paired_difference : By bootstrap, for any metric and for averages over labels.

    Notes
    -----
    The test is asymptotic. It suits models that were fitted on other rows, and is invalid for
    nested models scored on the rows that they were fitted on.

    References
    ----------
    .. [1] E. R. DeLong, D. M. DeLong, D. L. Clarke-Pearson. "Comparing the Areas under Two or
       More Correlated Receiver Operating Characteristic Curves: A Nonparametric Approach",
       Biometrics, 1988.
    .. [2] X. Sun, W. Xu. "Fast Implementation of DeLong's Algorithm for Comparing the Areas Under
       Correlated Receiver Operating Characteristic Curves", IEEE Signal Processing Letters, 2014.
    .. [3] N. A. Obuchowski. "Nonparametric Analysis of Clustered ROC Curve Data", Biometrics,
       1997.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_medfuse.metrics import delong_test
    >>> rng = np.random.default_rng(0)
    >>> y_true = rng.integers(2, size=(300, 2))
    >>> good = y_true + rng.normal(size=(300, 2))
    >>> poor = y_true + 3 * rng.normal(size=(300, 2))
    >>> comparison = delong_test(y_true, good, poor, target_names=["sepsis", "anaemia"])
    >>> print(comparison[["difference", "difference_low", "difference_high"]].round(2))
             difference  difference_low  difference_high
    sepsis         0.28            0.20             0.35
    anaemia        0.20            0.12             0.28
    """
    labels, names = check_labels(y_true, target_names, missing=True)
    scores = [
        check_scores(given, labels, name=name, labels=y_true)
        for name, given in (("y_score_a", y_score_a), ("y_score_b", y_score_b))
    ]
    group_of_row = check_groups(groups, len(labels))
    check_confidence_level(confidence_level)
    rows = [
        _compare_label(labels[:, label], scores[0][:, label], scores[1][:, label], group_of_row)
        for label in range(len(names))
    ]
    a, b, difference, error = np.array(rows).T
    reach = norm.ppf((1 + confidence_level) / 2) * error
    z = np.divide(difference, error, out=np.copysign(np.inf, difference), where=error > 0)
    z = np.where(np.isnan(error), np.nan, np.where(difference == 0, 0.0, z))
    columns = {
        "a": a,
        "b": b,
        "difference": difference,
        "standard_error": error,
        "difference_low": difference - reach,
        "difference_high": difference + reach,
        "z": z,
        "p_value": 2 * norm.sf(np.abs(z)),
    }
    return pd.DataFrame(columns, index=names)


def _compare_label(y_true, y_score_a, y_score_b, group_of_row):
    """Return both AUROCs, their difference and its standard error."""
    positive, negative = y_true == 1, y_true == 0
    if not positive.any() or not negative.any():
        return [np.nan] * 4
    a, b = (_components(s[positive], s[negative]) for s in (y_score_a, y_score_b))
    area_a, area_b = a[0].mean(), b[0].mean()
    variance = _clustered_variance(
        a[0] - b[0], a[1] - b[1], group_of_row[positive], group_of_row[negative]
    )
    return [area_a, area_b, area_a - area_b, np.sqrt(variance)]


def _components(positive, negative):
    """Structural components of the positive and the negative rows, from midranks."""
    m, n = len(positive), len(negative)
    rank = rankdata(np.concatenate([positive, negative]))
    of_positive = (rank[:m] - rankdata(positive)) / n
    of_negative = 1 - (rank[m:] - rankdata(negative)) / m
    return of_positive, of_negative


def _clustered_variance(positive, negative, group_of_positive, group_of_negative):
    """Variance of the mean component, from the sums of each group's deviations.

    Where each row is its own group, no group has both classes, and this is DeLong's variance.
    """
    m, n = len(positive), len(negative)
    n_groups = int(max(group_of_positive.max(), group_of_negative.max())) + 1
    sums, occurs = [], []
    for values, groups in ((positive, group_of_positive), (negative, group_of_negative)):
        sums.append(np.bincount(groups, values - values.mean(), minlength=n_groups))
        occurs.append(np.bincount(groups, minlength=n_groups) > 0)
    n_with_positive, n_with_negative = occurs[0].sum(), occurs[1].sum()
    if min(n_with_positive, n_with_negative) < 2:
        return np.nan
    n_with_any = (occurs[0] | occurs[1]).sum()
    variance = (
        n_with_positive / (n_with_positive - 1) * (sums[0] @ sums[0]) / m**2
        + n_with_negative / (n_with_negative - 1) * (sums[1] @ sums[1]) / n**2
        + 2 * n_with_any / (n_with_any - 1) * (sums[0] @ sums[1]) / (m * n)
    )
    # The estimate of few groups can be below 0, by rounding or by its cross term
    return max(variance, 0.0)
