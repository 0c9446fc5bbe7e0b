"""Scores of yes-or-no decisions under many row weightings at once.

A row is predicted where `y_score` is at least 0, so thresholds are subtracted before. Shapes are
those of `_weighted_scores`. A share of no rows is NaN.
"""

import numpy as np


def weighted_f1(y_true, y_score, weights):
    """Harmonic mean of precision and recall; NaN where a draw holds one class alone."""
    counts = _Counts(y_true, y_score, weights)
    either = counts.positive + counts.predicted
    f1 = _share(2 * counts.true_positive, either)
    return np.where((counts.positive > 0) & (counts.negative > 0), f1, np.nan)


def weighted_sensitivity(y_true, y_score, weights):
    """Share of the positives that are predicted, which is recall."""
    counts = _Counts(y_true, y_score, weights)
    return _share(counts.true_positive, counts.positive)


def weighted_specificity(y_true, y_score, weights):
    """Share of the negatives that are not predicted."""
    counts = _Counts(y_true, y_score, weights)
    return _share(counts.negative - counts.false_positive, counts.negative)


def weighted_ppv(y_true, y_score, weights):
    """Share of the predicted that are positive, which is precision."""
    counts = _Counts(y_true, y_score, weights)
    return _share(counts.true_positive, counts.predicted)


def weighted_npv(y_true, y_score, weights):
    """Share of those not predicted that are negative."""
    counts = _Counts(y_true, y_score, weights)
    true_negative = counts.negative - counts.false_positive
    false_negative = counts.positive - counts.true_positive
    return _share(true_negative, true_negative + false_negative)


class _Counts:
    """Weights of the cells of each label's table of truth and decision."""

    def __init__(self, y_true, y_score, weights):
        predicted = y_score >= 0
        self.positive = weights.T @ (y_true == 1)
        self.negative = weights.T @ (y_true == 0)
        self.true_positive = weights.T @ ((y_true == 1) & predicted)
        self.false_positive = weights.T @ ((y_true == 0) & predicted)
        self.predicted = self.true_positive + self.false_positive


def _share(part, whole):
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)
