"""Apply a score of single labels to all labels, and average it."""

import numpy as np

from ._inputs import check_labels, check_probabilities, check_sample_weight

AVERAGES = ("macro", "micro", "weighted", None)


def average_over_labels(score_labels, y_true, y_prob, *, average, sample_weight):
    """Check the input, score every label, and average the scores.

    Parameters
    ----------
    score_labels : callable
        Takes labels and probabilities of shape (n_samples, n_labels) and row weights of shape
        (n_samples,), gives scores of shape (n_labels,).

    y_true : array-like or sparse matrix of shape (n_samples, n_labels) or (n_samples,)
        True labels, 0 or 1.

    y_prob : array-like of shape (n_samples, n_labels) or (n_samples,), or list of arrays
        Probabilities in any form that a classifier gives.

    average : {"macro", "micro", "weighted", None}
        Mean over labels, one score of all pairs of row and label, mean over labels weighted by
        their positives, or no average.

    sample_weight : array-like of shape (n_samples,) or None
        Row weights.

    Returns
    -------
    score : float or ndarray of shape (n_labels,)
        The array where `average` is None.
    """
    if average not in AVERAGES:
        raise ValueError(f"`average` is {average!r}; pass one of {AVERAGES}.")
    labels, _ = check_labels(y_true)
    probabilities = check_probabilities(y_prob, labels, labels=y_true)
    weights = check_sample_weight(sample_weight, len(labels))
    if average == "micro":
        pairs = labels.reshape(-1, 1), probabilities.reshape(-1, 1)
        return float(score_labels(*pairs, np.repeat(weights, labels.shape[1]))[0])
    scores = score_labels(labels, probabilities, weights)
    if average is None:
        return scores
    if average == "macro":
        return float(scores.mean())
    positives = weights @ labels
    if not positives.any():
        raise ValueError(
            "`average` is 'weighted' but no label has a positive row; pass average='macro'."
        )
    return float(np.average(scores, weights=positives))
