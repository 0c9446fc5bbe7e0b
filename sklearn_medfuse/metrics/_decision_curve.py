"""Net benefit of acting on predictions, by the threshold at which to act."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
import pandas as pd

from ._bootstrap import Bootstrap
from ._inputs import (
    Labels,
    RandomState,
    Scores,
    check_averages,
    check_labels,
    check_probabilities,
    documented,
)
from ._scores import divide, sum_by_bin, with_averages


@documented
def decision_curve(
    y_true: Labels,
    y_prob: Scores,
    *,
    thresholds: npt.ArrayLike | None = None,
    averages: Sequence[str] = ("macro",),
    sample_weight: npt.ArrayLike | None = None,
    groups: npt.ArrayLike | None = None,
    n_bootstraps: int = 1000,
    confidence_level: float = 0.95,
    target_names: Sequence[str] | None = None,
    random_state: RandomState = None,
) -> pd.DataFrame:
    """Compute the net benefit of acting on predictions, threshold by threshold.

    To act at a probability of :math:`t` or more means that a missed case is as bad as
    :math:`(1-t)/t` needless actions. With :math:`n` rows, the net benefit of acting on the model
    is

    .. math::

        \\frac{\\mathrm{TP}}{n} - \\frac{\\mathrm{FP}}{n} \\, \\frac{t}{1-t}

    in true positives per row. A model is useful where it does better than acting on everybody,
    and than acting on nobody, whose net benefit is 0.

    Parameters
    ----------
    y_true, y_prob
    thresholds : array-like of shape (n_thresholds,), default=None
        Probabilities at which to act, increasing, above 0 and below 1. None uses 0.01, 0.02, …,
        0.99.
    averages : sequence of {"macro", "micro", "weighted"}, default=("macro",)
        Curves to append: the mean over labels; the curve of all pairs of row and label, which is
        the same where all labels are known; the mean over labels weighted by their positives.
    sample_weight, groups, n_bootstraps
    confidence_level : float, default=0.95
        Coverage of the intervals, at each threshold separately.
    target_names, random_state

    Returns
    -------
    curve : DataFrame of shape ((n_labels + n_averages) * n_thresholds, 7)
        One row per label and threshold, then the averages. Columns are ``label``, ``threshold``,
        ``net_benefit`` with its interval ``net_benefit_low``, ``net_benefit_high``,
        ``treat_all``, the net benefit of acting on everybody, and ``treat_none``, which is 0.

    Raises
    ------
    ValueError
        If shapes disagree, or a probability or a parameter is out of its range.

    See Also
    --------
    calibration_report : Thresholds are meaningful only where probabilities are calibrated.

    Notes
    -----
    Look at the thresholds at which one would act, which depend on the disease and the action, not
    at the whole curve. Compare models at one threshold: different thresholds ask different
    questions, so the curve must not be averaged.

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
    at = _check_thresholds(thresholds)
    averages = check_averages(averages)
    bootstrap = Bootstrap(
        len(labels), sample_weight, groups, n_bootstraps, confidence_level, random_state
    )

    net_benefits = partial(_net_benefits, thresholds=at)
    estimate, draws = bootstrap.score(
        lambda weights: with_averages(net_benefits, labels, probabilities, weights, averages)
    )
    low, high = bootstrap.interval(draws[:, :, 0])
    rows = [*names, *averages]
    return pd.DataFrame(
        {
            "label": np.repeat(rows, len(at)),
            "threshold": np.tile(at, len(rows)),
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
        raise ValueError("`thresholds` must increase strictly; pass them sorted, each once.")
    return thresholds


def _net_benefits(y_true, y_prob, weights, *, thresholds):
    """Net benefit of the model and of acting on everybody: (n_draws, n_labels, 2, n_thresholds)."""
    n_draws, n_labels, n_thresholds = weights.shape[1], y_true.shape[1], len(thresholds)
    benefits = np.full((n_draws, n_labels, 2, n_thresholds), np.nan)
    odds = thresholds / (1 - thresholds)
    for label in range(n_labels):
        known = ~np.isnan(y_true[:, label])
        y, times = y_true[known, label, None], weights[known]
        # How many thresholds each row reaches
        reached = np.searchsorted(thresholds, y_prob[known, label], side="right")
        positive, negative = (
            _count_reached(reached, of_class * times, n_thresholds) for of_class in (y, 1 - y)
        )
        total = (positive + negative)[0][:, None]
        for which, first in ((0, slice(1, None)), (1, slice(0, 1))):
            benefit = positive[first].T - negative[first].T * odds
            benefits[:, label, which] = divide(benefit, total)
    return benefits


def _count_reached(reached, values, n_thresholds):
    """Sum the values of the rows that reach at least 0, 1, …, n_thresholds thresholds."""
    sums = sum_by_bin(reached, values, n_thresholds + 1)
    return np.cumsum(sums[::-1], axis=0)[::-1]
