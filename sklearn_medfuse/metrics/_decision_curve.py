"""Net benefit of acting on predictions, over the thresholds at which one would act."""

import numpy as np
import pandas as pd

from ._averages import with_averages
from ._bootstrap import bootstrap, percentile_interval
from ._inputs import (
    check_averages,
    check_bootstrap,
    check_groups,
    check_labels,
    check_probabilities,
    check_sample_weight,
)
from ._weighted_probabilities import sum_by_bin


def decision_curve(
    y_true,
    y_prob,
    *,
    thresholds=None,
    averages=("macro",),
    sample_weight=None,
    groups=None,
    n_bootstraps=1000,
    confidence_level=0.95,
    target_names=None,
    random_state=None,
):
    """Weigh what is gained by acting on a prediction against what is lost.

    Who acts at a probability of :math:`t` or more takes a missed case to be as bad as
    :math:`(1-t)/t` needless actions. With :math:`n` rows, the net benefit of acting on the model
    is

    .. math::

        \\frac{\\mathrm{TP}}{n} - \\frac{\\mathrm{FP}}{n} \\, \\frac{t}{1-t}

    in true positives per row. A model is of use where it does better than to act on everybody
    and on nobody, whose net benefit is 0.

    Parameters
    ----------
    y_true : array-like or sparse matrix of shape (n_samples, n_labels) or (n_samples,)
        True labels, 0 or 1; NaN where not known, which leaves the pair out.

    y_prob : array-like of shape (n_samples, n_labels) or (n_samples,), or list of n_labels \
            arrays of shape (n_samples, 2)
        Probabilities as `predict_proba` gives them.

    thresholds : array-like of shape (n_thresholds,), default=None
        Probabilities at which to act, rising, above 0 and below 1. None takes 0.01, 0.02, …,
        0.99.

    averages : sequence of {"macro", "micro", "weighted"}, default=("macro",)
        Curves to append: the mean over labels; that of all pairs of row and label, which is
        equal where each label is known in all rows; the mean over labels weighted by their
        positives.

    sample_weight : array-like of shape (n_samples,), default=None
        Row weights. A resample multiplies them.

    groups : array-like of shape (n_samples,), default=None
        The unit to resample, usually the patient. None resamples rows.

    n_bootstraps : int, default=1000
        Number of resamples. 0 leaves the intervals NaN.

    confidence_level : float, default=0.95
        Coverage of the intervals, at each threshold for itself.

    target_names : sequence of str, default=None
        Names of the labels. None takes the columns of `y_true`, else ``label_0``, ``label_1``, …

    random_state : int, RandomState instance or None, default=None
        Source of the draws. Pass an int for the same intervals at every call.

    Returns
    -------
    curve : DataFrame of shape ((n_labels + n_averages) * n_thresholds, 7)
        One row per label and threshold, then the averages. Columns are ``label``, ``threshold``,
        ``net_benefit`` with its interval ``net_benefit_low``, ``net_benefit_high``,
        ``treat_all``, the net benefit of acting on everybody, and ``treat_none``, which is 0.

    Raises
    ------
    ValueError
        If shapes do not agree, a probability is missing or none, or a parameter is out of its
        range.

    See Also
    --------
    calibration_report : Thresholds mean what they say only where probabilities are calibrated.

    Notes
    -----
    Look at the thresholds at which one would act, of which the disease and the action decide, not
    at the whole curve. The curve is not the average of a model's use: at one threshold compare
    models, at different thresholds different questions are asked.

    References
    ----------
    .. [1] A. J. Vickers, E. B. Elkin. "Decision Curve Analysis: A Novel Method for Evaluating
       Prediction Models", Medical Decision Making, 2006.

    Examples
    --------
    >>> from sklearn_medfuse.metrics import decision_curve
    >>> y_true = [1, 1, 0, 0, 0]
    >>> y_prob = [0.9, 0.3, 0.6, 0.1, 0.1]
    >>> curve = decision_curve(y_true, y_prob, thresholds=[0.2, 0.5], averages=[], n_bootstraps=0)
    >>> print(curve[["threshold", "net_benefit", "treat_all"]])
       threshold  net_benefit  treat_all
    0        0.2         0.35       0.25
    1        0.5         0.00      -0.20
    """
    labels, names = check_labels(y_true, target_names, missing=True)
    probabilities = check_probabilities(y_prob, labels, labels=y_true)
    thresholds = _check_thresholds(thresholds)
    averages = check_averages(averages)
    weights = check_sample_weight(sample_weight, len(labels))
    group_of_row = check_groups(groups, len(labels))
    check_bootstrap(n_bootstraps, confidence_level)

    def score(draws):
        return with_averages(model_or_all, labels, probabilities, draws, averages)

    def model_or_all(y_true, y_prob, draws):
        return _net_benefits(y_true, y_prob, draws, thresholds)

    estimate, draws = bootstrap(score, weights, group_of_row, n_bootstraps, random_state)
    low, high = percentile_interval(draws[:, :, 0], confidence_level)
    rows = [*names, *averages]
    return pd.DataFrame(
        {
            "label": np.repeat(rows, len(thresholds)),
            "threshold": np.tile(thresholds, len(rows)),
            "net_benefit": estimate[:, 0].ravel(),
            "net_benefit_low": low.ravel(),
            "net_benefit_high": high.ravel(),
            "treat_all": estimate[:, 1].ravel(),
            "treat_none": 0.0,
        }
    )


def _check_thresholds(thresholds):
    if thresholds is None:
        return np.arange(1, 100) / 100
    thresholds = np.atleast_1d(np.asarray(thresholds, dtype=float))
    inside = (thresholds > 0) & (thresholds < 1)
    if thresholds.ndim != 1 or not thresholds.size or not inside.all():
        raise ValueError("`thresholds` must be numbers above 0 and below 1; pass at least one.")
    if (np.diff(thresholds) <= 0).any():
        raise ValueError("`thresholds` do not rise from each to the next; pass them sorted.")
    return thresholds


def _net_benefits(y_true, y_prob, weights, thresholds):
    """Net benefit of the model and of acting on everybody: (n_draws, n_labels, 2, n_thresholds)."""
    n_draws, n_labels, n_thresholds = weights.shape[1], y_true.shape[1], len(thresholds)
    benefits = np.full((n_draws, n_labels, 2, n_thresholds), np.nan)
    odds = thresholds / (1 - thresholds)
    for label in range(n_labels):
        known = ~np.isnan(y_true[:, label])
        y, times = y_true[known, label, None], weights[known]
        # how many thresholds each row reaches
        reached = np.searchsorted(thresholds, y_prob[known, label], side="right")
        positive, negative = (
            _count_reached(reached, of_class * times, n_thresholds) for of_class in (y, 1 - y)
        )
        total = (positive + negative)[0][:, None]
        for which, first in ((0, slice(1, None)), (1, slice(0, 1))):
            benefit = positive[first].T - negative[first].T * odds
            np.divide(benefit, total, out=benefits[:, label, which], where=total > 0)
    return benefits


def _count_reached(reached, values, n_thresholds):
    """Sum the values of the rows that reach at least 0, 1, …, n_thresholds thresholds."""
    sums = sum_by_bin(reached, values, n_thresholds + 1)
    return np.cumsum(sums[::-1], axis=0)[::-1]
