"""Losses and calibration of probabilities under many row weightings at once.

Shapes are those of `_weighted_scores`: weights of shape (n_samples, n_draws) give scores of shape
(n_draws, n_labels). A pair whose label is NaN is left out.
"""

import numpy as np
from scipy.sparse import csr_array
from scipy.special import expit, logit

_MAX_ITERATIONS = 50
_TOLERANCE = 1e-10
_EPSILON = np.finfo(float).eps


def weighted_brier(y_true, y_prob, weights):
    """Mean squared distance of probability and label."""
    return _mean_loss((y_true - y_prob) ** 2, weights)


def weighted_log_loss(y_true, y_prob, weights, epsilon=_EPSILON):
    """Mean negative logarithm of the probability of what came true."""
    of_what_came_true = np.where(y_true == 1, y_prob, 1 - y_prob)
    losses = -np.log(np.clip(of_what_came_true, epsilon, 1 - epsilon))
    return _mean_loss(np.where(np.isnan(y_true), np.nan, losses), weights)


def _mean_loss(losses, weights):
    known = ~np.isnan(losses)
    total = weights.T @ known
    sums = weights.T @ np.where(known, losses, 0.0)
    return np.divide(sums, total, out=np.full(total.shape, np.nan), where=total > 0)


def weighted_observed_expected(y_true, y_prob, weights):
    """Number of positives for each one expected, the sum of the probabilities."""
    known = ~np.isnan(y_true)
    expected = weights.T @ np.where(known, y_prob, 0.0)
    observed = weights.T @ (y_true == 1)
    return np.divide(observed, expected, out=np.full(expected.shape, np.nan), where=expected > 0)


def weighted_calibration_error(y_true, y_prob, weights, bin_of_pair):
    """Mean distance of frequency and mean probability of bins, by the bins' weights.

    `bin_of_pair` has the shape of `y_true`; the bins are the same in every draw.
    """
    errors = np.full((weights.shape[1], y_true.shape[1]), np.nan)
    for label in range(y_true.shape[1]):
        known = ~np.isnan(y_true[:, label])
        times = weights[known]
        # W_m (ȳ_m - p̄_m) in one sum
        gaps = sum_by_bin(bin_of_pair[known, label], (y_true - y_prob)[known, label, None] * times)
        total = times.sum(axis=0)
        np.divide(np.abs(gaps).sum(axis=0), total, out=errors[:, label], where=total > 0)
    return errors


def sum_by_bin(bin_of_row, values, n_bins=None):
    """Sum rows of `values`, of shape (n_samples, n_draws), in each bin: (n_bins, n_draws)."""
    if n_bins is None:
        n_bins = int(bin_of_row.max(initial=-1)) + 1
    n_rows = len(bin_of_row)
    member = csr_array((np.ones(n_rows), (bin_of_row, np.arange(n_rows))), shape=(n_bins, n_rows))
    return member @ values


def put_into_bins(y_true, y_prob, weights, n_bins, strategy):
    """Give the bin of each pair of row and label; a bin takes its upper edge in.

    Parameters
    ----------
    y_true, y_prob : ndarrays of shape (n_samples, n_labels)
        Labels and probabilities.

    weights : ndarray of shape (n_samples,)
        Row weights, which decide the quantiles.

    n_bins : int
        Number of bins.

    strategy : {"uniform", "quantile"}
        Bins of equal width or of about equal weight.

    Returns
    -------
    bin_of_pair : ndarray of int of shape (n_samples, n_labels)
        0 … n_bins-1.
    """
    shares = np.linspace(0, 1, n_bins + 1)[1:-1]
    bin_of_pair = np.empty(y_prob.shape, dtype=int)
    for label in range(y_prob.shape[1]):
        edges = shares
        counted = ~np.isnan(y_true[:, label]) & (weights > 0)
        if strategy == "quantile" and len(shares) and counted.any():
            # the one definition of a quantile for which a weight of 2 is a row that is there twice
            edges = np.quantile(
                y_prob[counted, label], shares, weights=weights[counted], method="inverted_cdf"
            )
        bin_of_pair[:, label] = np.searchsorted(edges, y_prob[:, label])
    return bin_of_pair


def weighted_calibration_intercept(y_true, y_prob, weights):
    """Intercept of the logistic recalibration with slope 1: 0 where the mean is right."""
    return _per_label(_fit_intercept, y_true, y_prob, weights)


def weighted_calibration_slope(y_true, y_prob, weights):
    """Slope of the logistic recalibration: below 1 where probabilities are too extreme."""
    return _per_label(_fit_slope, y_true, y_prob, weights)


def _per_label(fit_label, y_true, y_prob, weights):
    """Fit each label's known rows; NaN where a draw holds one class alone."""
    found = np.full((weights.shape[1], y_true.shape[1]), np.nan)
    logits = logit(np.clip(y_prob, _EPSILON, 1 - _EPSILON))
    for label in range(y_true.shape[1]):
        known = ~np.isnan(y_true[:, label])
        y, times = y_true[known, label], weights[known]
        draws = np.flatnonzero((times.T @ y > 0) & (times.T @ (1 - y) > 0))
        if len(draws):
            found[draws, label] = fit_label(y, logits[known, label], times[:, draws])
    return found


def _fit_intercept(y, logits, weights):
    """Solve sum w (y - expit(a + logit p)) = 0 for a, by Newton's steps in all draws."""
    observed = weights.T @ y
    total = weights.sum(axis=0)
    # between the two answers for the least and the greatest logit alone, so never out of reach
    low = logit(observed / total) - logits.max()
    high = logit(observed / total) - logits.min()
    intercept = np.clip(np.zeros(len(total)), low, high)
    for _ in range(_MAX_ITERATIONS):
        p = expit(intercept + logits[:, None])
        gap = observed - np.einsum("ij,ij->j", weights, p)
        low = np.where(gap >= 0, intercept, low)
        high = np.where(gap <= 0, intercept, high)
        curvature = np.einsum("ij,ij->j", weights, p * (1 - p))
        step = np.divide(gap, curvature, out=np.zeros_like(gap), where=curvature > 0)
        moved = intercept + step
        # a step that leaves the bracket is halved into it
        moved = np.where((moved > low) & (moved < high), moved, (low + high) / 2)
        moved = np.where(gap == 0, intercept, moved)
        if np.abs(moved - intercept).max() < _TOLERANCE:
            return moved
        intercept = moved
    return intercept


def _fit_slope(y, logits, weights):
    """Maximise the likelihood of expit(a + b logit p) over a and b, by Newton's steps."""
    slope = np.full(weights.shape[1], np.nan)
    identified = ~_is_separated(y, logits, weights)
    if not identified.any():
        return slope
    weights = weights[:, identified]
    scale = logits.std()
    z = ((logits - logits.mean()) / scale)[:, None]
    share = (weights.T @ y) / weights.sum(axis=0)
    a, b = logit(share), np.zeros(weights.shape[1])
    likelihood = _log_likelihood(a, b, y, z, weights)
    for _ in range(_MAX_ITERATIONS):
        step_a, step_b = _newton_step(a, b, y, z, weights)
        size = np.ones(len(a))
        for _ in range(_MAX_ITERATIONS):
            found = _log_likelihood(a + size * step_a, b + size * step_b, y, z, weights)
            worse = found < likelihood - 1e-12 * np.abs(likelihood)
            if not worse.any():
                break
            size = np.where(worse, size / 2, size)
        a, b, likelihood = a + size * step_a, b + size * step_b, found
        if max(np.abs(step_a).max(), np.abs(step_b).max()) < _TOLERANCE:
            break
    slope[identified] = b / scale
    return slope


def _newton_step(a, b, y, z, weights):
    p = expit(a + b * z)
    residual = weights * (y[:, None] - p)
    spread = weights * p * (1 - p)
    aa, ab, bb = spread.sum(axis=0), (spread * z).sum(axis=0), (spread * z**2).sum(axis=0)
    gradient_a, gradient_b = residual.sum(axis=0), (residual * z).sum(axis=0)
    determinant = aa * bb - ab**2
    # no step where the curvature is lost to rounding
    inverse = np.divide(1, determinant, out=np.zeros_like(a), where=determinant > 0)
    step_a = (bb * gradient_a - ab * gradient_b) * inverse
    return step_a, (aa * gradient_b - ab * gradient_a) * inverse


def _log_likelihood(a, b, y, z, weights):
    linear = a + b * z
    return np.einsum("ij,ij->j", weights, y[:, None] * linear - np.logaddexp(0, linear))


def _is_separated(y, logits, weights):
    """Tell draws in which a cut between the logits parts the classes, or all logits are equal.

    There the likelihood has no maximum: the slope is infinite or could be any.
    """
    drawn = weights > 0
    ends = {}
    for cls in (0, 1):
        rows = drawn & (y == cls)[:, None]
        ends[cls] = (
            np.where(rows, logits[:, None], np.inf).min(axis=0),
            np.where(rows, logits[:, None], -np.inf).max(axis=0),
        )
    (low_0, high_0), (low_1, high_1) = ends[0], ends[1]
    return (high_0 <= low_1) | (high_1 <= low_0)
