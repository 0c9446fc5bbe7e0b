"""Scores of many labels under many row weightings at once.

A bootstrap resample is a vector of whole-number row weights, so scores under weights give every
resample from one sort per label. In all functions `y_true` and `y_score` have shape
(n_samples, n_labels), `weights` has shape (n_samples, n_draws), and the result has shape
(n_draws, n_labels). A pair whose label is NaN is left out. Where the score is undefined, because a
draw holds one class alone, it is NaN.
"""

import numpy as np


def weighted_auroc(y_true, y_score, weights):
    """Area under the ROC curve: how often a positive row outranks a negative one, ties half."""
    return _per_label(_label_auroc, y_true, y_score, weights)


def weighted_auprc(y_true, y_score, weights):
    """Average precision: the mean, over positives, of the precision at the positive's score."""
    return _per_label(_label_auprc, y_true, y_score, weights)


def weighted_prevalence(y_true, weights):
    """Share of positive rows; defined for a constant label too."""
    n_positive, n_negative = _count_classes(y_true, weights)
    return _divide(n_positive, n_positive + n_negative, undefined=np.nan)


def _per_label(score_label, y_true, y_score, weights):
    """Apply a score of one label to all of them, and blank it where it is undefined."""
    scores = np.full((weights.shape[1], y_true.shape[1]), np.nan)
    defined = _has_both_classes(y_true, weights)
    for label in np.flatnonzero(defined.any(axis=0)):
        known = ~np.isnan(y_true[:, label])
        rows = slice(None) if known.all() else known
        values = score_label(*_cumulate(y_true[rows, label], y_score[rows, label], weights[rows]))
        scores[:, label] = np.where(defined[:, label], values, np.nan)
    return scores


def _count_classes(y_true, weights):
    return weights.T @ (y_true == 1), weights.T @ (y_true == 0)


def _has_both_classes(y_true, weights):
    n_positive, n_negative = _count_classes(y_true, weights)
    return (n_positive > 0) & (n_negative > 0)


def _cumulate(y_true, y_score, weights):
    """Count positives and rows down the ranking, at every distinct score that a positive has.

    Rows of equal score form one block, which makes ties exact. Blocks without a positive add
    nothing to either score, so only their rows are counted.

    Returns
    -------
    block_positives : ndarray of shape (n_blocks, n_draws)
        Weight of the positives in each block, highest score first.

    positives, rows_before, rows : ndarrays of shape (n_blocks, n_draws)
        Weight of all positives down to the block's end, of all rows before the block, and of all
        rows down to the block's end.

    n_positive, n_rows : ndarrays of shape (n_draws,)
        Total weights.
    """
    order = np.argsort(-y_score, kind="stable")
    y_true, y_score = y_true[order], y_score[order]
    starts = np.flatnonzero(np.r_[True, y_score[1:] != y_score[:-1]])
    ends = np.r_[starts[1:], len(y_score)]
    has_positive = np.add.reduceat(y_true, starts) > 0
    starts, ends = starts[has_positive], ends[has_positive]

    ranked = weights[order]
    rows = np.vstack([np.zeros((1, weights.shape[1])), np.cumsum(ranked, axis=0)])
    is_positive = y_true > 0
    positives = np.cumsum(ranked[is_positive], axis=0)[np.cumsum(is_positive)[ends - 1] - 1]
    block_positives = np.diff(positives, axis=0, prepend=0)
    return block_positives, positives, rows[starts], rows[ends], positives[-1], rows[-1]


def _label_auroc(block_positives, positives, rows_before, rows, n_positive, n_rows):
    negatives_before = rows_before - (positives - block_positives)
    negatives_through = rows - positives
    n_negative = n_rows - n_positive
    outranked = n_negative - (negatives_before + negatives_through) / 2
    return _divide((block_positives * outranked).sum(axis=0), n_positive * n_negative)


def _label_auprc(block_positives, positives, rows_before, rows, n_positive, n_rows):
    # a draw may skip the highest scores: 0 positives of 0 rows add nothing
    precision = _divide(positives, rows)
    return _divide((block_positives * precision).sum(axis=0), n_positive)


def _divide(numerator, denominator, undefined=0.0):
    """Divide, with a value of its own where the denominator is 0.

    It is 0 for the ranking scores, of which `_per_label` blanks what is undefined.
    """
    out = np.full_like(numerator, undefined)
    return np.divide(numerator, denominator, out=out, where=denominator > 0)
