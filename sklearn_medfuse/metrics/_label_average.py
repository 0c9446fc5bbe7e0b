"""Apply a score of single labels to all labels, and average it."""

from ._averages import with_averages
from ._inputs import AVERAGES, check_labels, check_probabilities, check_sample_weight


def average_over_labels(score_labels, y_true, y_prob, *, average, sample_weight):
    """Check the input, score every label, and average the scores.

    Parameters
    ----------
    score_labels : callable
        Takes labels and probabilities of shape (n_samples, n_labels) and weights of shape
        (n_samples, 1), gives scores of shape (1, n_labels).

    y_true : array-like or sparse matrix of shape (n_samples, n_labels) or (n_samples,)
        True labels, 0 or 1, NaN where not known.

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
    if average not in (*AVERAGES, None):
        raise ValueError(f"`average` is {average!r}; pass one of {(*AVERAGES, None)}.")
    labels, _ = check_labels(y_true, missing=True)
    probabilities = check_probabilities(y_prob, labels, labels=y_true)
    weights = check_sample_weight(sample_weight, len(labels))
    if average == "weighted" and not (weights @ (labels == 1)).any():
        raise ValueError(
            "`average` is 'weighted' but no label has a positive row; pass average='macro'."
        )
    averages = [] if average is None else [average]
    scores = with_averages(score_labels, labels, probabilities, weights[:, None], averages)[0]
    return scores if average is None else float(scores[-1])
