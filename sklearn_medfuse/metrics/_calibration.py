"""Calibration of every label: error by bins, reliability curve, slope and intercept."""

from collections.abc import Sequence
from functools import partial
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import expit, logit

from ._bootstrap import Bootstrap
from ._inputs import (
    Labels,
    RandomState,
    Scores,
    check_averages,
    check_bins,
    check_labels,
    check_probabilities,
    documented,
)
from ._losses import Average, average_over_labels
from ._scores import (
    Score,
    divide,
    put_into_bins,
    sum_by_bin,
    tabulate_scores,
    weighted_calibration_error,
)

_MAX_ITERATIONS = 50
_TOLERANCE = 1e-9
# A Newton step of the logistic likelihood that is shorter needs no check
_SAFE_STEP = 0.5
# Draws are fitted in parts whose arrays stay in the processor's cache
_PART_SIZE = 200_000
_EPSILON = np.finfo(float).eps


@documented
def expected_calibration_error(
    y_true: Labels,
    y_prob: Scores,
    *,
    n_bins: int = 10,
    strategy: Literal["uniform", "quantile"] = "uniform",
    average: Average | None = "macro",
    sample_weight: npt.ArrayLike | None = None,
) -> float | np.ndarray:
    """Measure how far predicted probabilities are from observed frequencies.

    The rows of a label are put into bins :math:`B_1, \\ldots, B_M` by their probability. With
    weights :math:`w_i`, and :math:`W_m` their sum in bin :math:`m`, the label has

    .. math::

        \\sum_{m=1}^{M} \\frac{W_m}{\\sum_i w_i} \\left|\\bar{y}_m - \\bar{p}_m\\right|

    where :math:`\\bar{y}_m` is the weighted frequency of positives in the bin and
    :math:`\\bar{p}_m` the weighted mean of its probabilities.

    Parameters
    ----------
    y_true, y_prob, n_bins
    strategy : {"uniform", "quantile"}, default="uniform"
        Bins of equal width, as in :func:`sklearn.calibration.calibration_curve`, or of about
        equal weight, which suits rare labels, whose probabilities are all small. A bin includes
        its upper edge; equal probabilities share a bin.
    average : {"macro", "micro", "weighted", None}, default="macro"
        Mean over labels; the error of all pairs of row and label put into the same bins, where
        labels that err in opposite directions cancel; mean over labels weighted by their
        positives; or one error per label.
    sample_weight : array-like of shape (n_samples,), default=None
        Row weights.

    Returns
    -------
    error : float or ndarray of shape (n_labels,)
        Between 0 and 1; the array where `average` is None.

    Raises
    ------
    ValueError
        If shapes disagree, or a probability or a parameter is out of its range.

    See Also
    --------
    calibration_report : The same with intervals, slope and intercept.
    multilabel_brier_score : A proper score, which rewards sharpness too.
    get_scorer : This error for a search, as ``neg_expected_calibration_error``.

    Notes
    -----
    This is not a proper score: predicting the prevalence for everybody has an error of 0. Errors
    within a bin cancel, and with few rows per bin even true probabilities have an error above 0.

    References
    ----------
    .. [1] M. P. Naeini, G. F. Cooper, M. Hauskrecht. "Obtaining Well Calibrated Probabilities
       Using Bayesian Binning", AAAI, 2015.
    .. [2] C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger. "On Calibration of Modern Neural
       Networks", ICML, 2017, equation 3.

    Examples
    --------
    >>> from sklearn_medfuse.metrics import expected_calibration_error
    >>> y_true = [1, 0, 0, 0, 1, 1]
    >>> y_prob = [0.25, 0.25, 0.25, 0.25, 0.7, 0.7]
    >>> round(expected_calibration_error(y_true, y_prob), 3)
    0.1
    """
    check_bins(n_bins, strategy)

    def score_labels(y_true, y_prob, weights):
        return weighted_calibration_error(
            y_true, y_prob, weights, bin_weights=weights[:, 0], n_bins=n_bins, strategy=strategy
        )

    return average_over_labels(
        score_labels, y_true, y_prob, average=average, sample_weight=sample_weight
    )


@documented
def calibration_bins(
    y_true: Labels,
    y_prob: Scores,
    *,
    n_bins: int = 10,
    strategy: Literal["uniform", "quantile"] = "uniform",
    sample_weight: npt.ArrayLike | None = None,
    groups: npt.ArrayLike | None = None,
    n_bootstraps: int = 1000,
    confidence_level: float = 0.95,
    target_names: Sequence[str] | None = None,
    random_state: RandomState = None,
) -> pd.DataFrame:
    """Compare observed frequencies with mean probabilities, bin by bin, with bootstrap intervals.

    Parameters
    ----------
    y_true, y_prob, n_bins, strategy, sample_weight, groups, n_bootstraps, confidence_level
    target_names, random_state

    Returns
    -------
    bins : DataFrame of shape (n_bins_that_hold_rows, 7)
        One row per label and bin that holds rows. Columns are ``label``; ``bin``, its number from
        0; ``predicted``, the mean probability; ``observed``, the frequency of positives, with its
        interval ``observed_low``, ``observed_high``; ``n_samples``, the number of rows.

    Raises
    ------
    ValueError
        If shapes disagree, or a probability or a parameter is out of its range.

    See Also
    --------
    calibration_report : Slope, intercept and error in one line per label.
    sklearn.calibration.calibration_curve : Both columns for one label.

    Examples
    --------
    >>> from sklearn_medfuse.metrics import calibration_bins
    >>> y_true = [1, 0, 0, 0, 1, 1]
    >>> y_prob = [0.25, 0.25, 0.25, 0.25, 0.7, 0.7]
    >>> bins = calibration_bins(y_true, y_prob, n_bins=2, n_bootstraps=0)
    >>> print(bins[["bin", "predicted", "observed", "n_samples"]])
       bin  predicted  observed  n_samples
    0    0       0.25      0.25          4
    1    1       0.70      1.00          2
    """
    labels, names = check_labels(y_true, target_names, missing=True)
    probabilities = check_probabilities(y_prob, labels, labels=y_true)
    check_bins(n_bins, strategy)
    bootstrap = Bootstrap(
        len(labels), sample_weight, groups, n_bootstraps, confidence_level, random_state
    )
    bin_of_pair = put_into_bins(labels, probabilities, bootstrap.weights, n_bins, strategy)

    def sum_labels(values, weights):
        """Sum `values`, where the label is known, in each bin: (n_draws, n_labels, n_bins)."""
        sums = []
        for label, known in enumerate(~np.isnan(labels.T)):
            weighted = values[known, label, None] * weights[known]
            sums.append(sum_by_bin(bin_of_pair[known, label], weighted, n_bins).T)
        return np.stack(sums, axis=1)

    def mean(values, weights):
        return divide(sum_labels(values, weights), sum_labels(np.ones(labels.shape), weights))

    observed, draws = bootstrap.score(lambda weights: mean(labels, weights))
    low, high = bootstrap.interval(draws)
    predicted = mean(probabilities, bootstrap.weights[:, None])[0]
    n_samples = sum_labels(np.ones(labels.shape), np.ones((len(labels), 1)))[0].astype(int)
    bins = pd.DataFrame(
        {
            "label": np.repeat(names, n_bins),
            "bin": np.tile(np.arange(n_bins), len(names)),
            "predicted": predicted.ravel(),
            "observed": observed.ravel(),
            "observed_low": low.ravel(),
            "observed_high": high.ravel(),
            "n_samples": n_samples.ravel(),
        }
    )
    return bins[np.isfinite(bins["observed"])].reset_index(drop=True)


@documented
def calibration_report(
    y_true: Labels,
    y_prob: Scores,
    *,
    n_bins: int = 10,
    strategy: Literal["uniform", "quantile"] = "uniform",
    averages: Sequence[str] = ("macro",),
    sample_weight: npt.ArrayLike | None = None,
    groups: npt.ArrayLike | None = None,
    n_bootstraps: int = 1000,
    confidence_level: float = 0.95,
    target_names: Sequence[str] | None = None,
    random_state: RandomState = None,
) -> pd.DataFrame:
    """Measure how far probabilities are off, and in what way, with bootstrap intervals.

    The logistic recalibration [1]_ of a label is

    .. math::

        \\operatorname{logit} \\Pr(y = 1) = a + b \\operatorname{logit} p

    Its slope :math:`b` is below 1 where probabilities are too extreme, as in an overfitted model,
    and above 1 where they are too timid. The intercept is :math:`a` with the slope held at
    1 [2]_: below 0 where probabilities are too high overall, above 0 where they are too low.

    Parameters
    ----------
    y_true, y_prob, n_bins, strategy, averages, sample_weight, groups, n_bootstraps
    confidence_level, target_names, random_state

    Returns
    -------
    report : DataFrame of shape (n_labels + n_averages, 13)
        One row per label, then the averages. Columns are ``n_positive``, and with their intervals
        as ``slope_low``, ``slope_high``: ``slope``, 1 at best; ``intercept``, 0 at best;
        ``observed_expected``, the number of positives over the sum of the probabilities, 1 at best;
        ``ece``, 0 at best.

    Raises
    ------
    ValueError
        If shapes disagree, or a probability or a parameter is out of its range.

    See Also
    --------
    expected_calibration_error : The error alone, for a search.
    calibration_bins : The bins, for a figure.

    Notes
    -----
    Slope and intercept are NaN for a constant label. The slope is also NaN where a cut of the
    probabilities separates the classes, as for a perfect model, or where all probabilities are
    equal: then the likelihood has no maximum. Probabilities are clipped to the machine epsilon.

    Intervals are percentiles of the draws; those of ``ece`` are mirrored at the estimate, as in
    `multilabel_report`. The error of true probabilities is above 0 by chance, the more so the fewer
    rows a bin has; the interval does not account for this.

    References
    ----------
    .. [1] D. R. Cox. "Two Further Applications of a Model for Binary Regression", Biometrika,
       1958.
    .. [2] B. Van Calster, D. J. McLernon, M. van Smeden, L. Wynants, E. W. Steyerberg.
       "Calibration: the Achilles heel of predictive analytics", BMC Medicine, 2019.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy.special import expit
    >>> from sklearn_medfuse.metrics import calibration_report
    >>> rng = np.random.default_rng(0)
    >>> logit = rng.normal(size=(2000, 1))
    >>> y_true = rng.uniform(size=logit.shape) < expit(logit)
    >>> report = calibration_report(y_true, expit(2 * logit), averages=[], random_state=0)
    >>> print(report[["slope", "slope_low", "slope_high"]].round(2))
             slope  slope_low  slope_high
    label_0   0.51       0.45        0.57
    """
    labels, names = check_labels(y_true, target_names, missing=True)
    probabilities = check_probabilities(y_prob, labels, labels=y_true)
    check_bins(n_bins, strategy)
    averages = check_averages(averages)
    bootstrap = Bootstrap(
        len(labels), sample_weight, groups, n_bootstraps, confidence_level, random_state
    )

    def calibration_error(y_true, y_prob, weights):
        # All pairs in one column have n_labels rows each
        bin_weights = np.repeat(bootstrap.weights, len(y_true) // len(labels))
        return weighted_calibration_error(
            y_true, y_prob, weights, bin_weights=bin_weights, n_bins=n_bins, strategy=strategy
        )

    found = {
        "slope": Score(partial(_recalibrate, _fit_slope)),
        "intercept": Score(partial(_recalibrate, _fit_intercept)),
        "observed_expected": Score(_observed_expected),
        "ece": Score(calibration_error, grows_with_noise=True),
    }
    return tabulate_scores(found, labels, probabilities, names, averages, bootstrap)


def _observed_expected(y_true, y_prob, weights):
    """Number of positives for each one expected, the sum of the probabilities."""
    expected = weights.T @ np.where(~np.isnan(y_true), y_prob, 0.0)
    return divide(weights.T @ (y_true == 1), expected)


def _recalibrate(fit_label, y_true, y_prob, weights):
    """Fit all draws of each label's known rows together; NaN where a draw holds one class only."""
    found = np.full((weights.shape[1], y_true.shape[1]), np.nan)
    logits = logit(np.clip(y_prob, _EPSILON, 1 - _EPSILON))
    for label in range(y_true.shape[1]):
        known = ~np.isnan(y_true[:, label])
        y, times = y_true[known, label], weights[known]
        draws = np.flatnonzero((times.T @ y > 0) & (times.T @ (1 - y) > 0))
        step = max(1, _PART_SIZE // len(times)) if len(times) else 1
        for start in range(0, len(draws), step):
            part = draws[start : start + step]
            found[part, label] = fit_label(y, logits[known, label], times[:, part])
    return found


def _fit_intercept(y, logits, weights):
    """Solve sum w (y - expit(a + logit p)) = 0 for a, by Newton's steps within a bracket."""
    observed, total = weights.T @ y, weights.sum(axis=0)
    # The answers if all logits were the greatest, and if all were the least
    low, high = (logit(observed / total) - end for end in (logits.max(), logits.min()))
    intercept = np.clip(np.zeros(len(total)), low, high)
    for _ in range(_MAX_ITERATIONS):
        p = expit(intercept + logits[:, None])
        gap = observed - np.einsum("ij,ij->j", weights, p)
        solved = np.abs(gap) <= 1e-13 * total
        if solved.all():
            break
        low, high = np.where(gap > 0, intercept, low), np.where(gap < 0, intercept, high)
        curvature = np.einsum("ij,ij->j", weights, p * (1 - p))
        step = np.divide(gap, curvature, out=np.zeros_like(gap), where=curvature > 0)
        moved = intercept + step
        moved = np.where((moved > low) & (moved < high), moved, (low + high) / 2)
        intercept = np.where(solved, intercept, moved)
    return intercept


def _fit_slope(y, logits, weights):
    """Maximise the likelihood of expit(a + b logit p) over a and b, by Newton's steps."""
    slope = np.full(weights.shape[1], np.nan)
    identified = ~_is_separated(y, logits, weights)
    if not identified.any():
        return slope
    weights = weights[:, identified]
    scale = logits.std()
    z = (logits - logits.mean()) / scale
    a, b = logit((weights.T @ y) / weights.sum(axis=0)), np.zeros(weights.shape[1])
    for _ in range(_MAX_ITERATIONS):
        step_a, step_b = _newton_step(a, b, y, z, weights)
        longest = np.maximum(np.abs(step_a), np.abs(step_b))
        size = np.ones(len(a))
        if (longest > _SAFE_STEP).any():
            size = _choose_size(a, b, step_a, step_b, y, z, weights)
        a, b = a + size * step_a, b + size * step_b
        if longest.max() < _TOLERANCE:
            break
    slope[identified] = b / scale
    return slope


def _newton_step(a, b, y, z, weights):
    p = expit(a + b * z[:, None])
    spread = weights * (p * (1 - p))
    residual = weights * (y[:, None] - p)
    aa, ab, bb = spread.sum(axis=0), z @ spread, z**2 @ spread
    gradient_a, gradient_b = residual.sum(axis=0), z @ residual
    determinant = aa * bb - ab**2
    # No step where the curvature is lost to rounding
    inverse = np.divide(1, determinant, out=np.zeros_like(a), where=determinant > 0)
    step_a = (bb * gradient_a - ab * gradient_b) * inverse
    return step_a, (aa * gradient_b - ab * gradient_a) * inverse


def _choose_size(a, b, step_a, step_b, y, z, weights):
    """Halve the steps that lower the likelihood until they do not."""
    before = _log_likelihood(a, b, y, z, weights)
    size = np.ones(len(a))
    for _ in range(_MAX_ITERATIONS):
        found = _log_likelihood(a + size * step_a, b + size * step_b, y, z, weights)
        worse = found < before - 1e-12 * np.abs(before)
        if not worse.any():
            break
        size = np.where(worse, size / 2, size)
    return size


def _log_likelihood(a, b, y, z, weights):
    linear = a + b * z[:, None]
    return np.einsum("ij,ij->j", weights, y[:, None] * linear - np.logaddexp(0, linear))


def _is_separated(y, logits, weights):
    """Find draws in which a cut between the logits separates the classes, or all are equal.

    There the likelihood has no maximum: the slope is infinite or arbitrary.
    """
    (low_0, high_0), (low_1, high_1) = (
        (
            np.where(rows, logits[:, None], np.inf).min(axis=0),
            np.where(rows, logits[:, None], -np.inf).max(axis=0),
        )
        for rows in ((weights > 0) & (y == cls)[:, None] for cls in (0, 1))
    )
    return (high_0 <= low_1) | (high_1 <= low_0)
