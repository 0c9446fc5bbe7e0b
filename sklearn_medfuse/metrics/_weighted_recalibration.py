"""Logistic recalibration of every label under many row weightings at once.

Shapes are those of `_weighted_scores`. A bootstrap fits each label a thousand times, so all draws
of a label take their Newton steps together.
"""

import numpy as np
from scipy.special import expit, logit

_MAX_ITERATIONS = 50
_TOLERANCE = 1e-9
# a Newton step of the logistic likelihood that is shorter needs no check
_SAFE_STEP = 0.5
# draws are fitted in parts whose arrays stay in the processor's cache
_PART_SIZE = 200_000
_EPSILON = np.finfo(float).eps


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
        step = max(1, _PART_SIZE // len(times)) if len(times) else 1
        for start in range(0, len(draws), step):
            part = draws[start : start + step]
            found[part, label] = fit_label(y, logits[known, label], times[:, part])
    return found


def _fit_intercept(y, logits, weights):
    """Solve sum w (y - expit(a + logit p)) = 0 for a, by Newton's steps within a bracket."""
    observed, total = weights.T @ y, weights.sum(axis=0)
    # the answers if all logits were the greatest, and if all were the least
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
    # no step where the curvature is lost to rounding
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
