"""Means over labels: of their scores, plain or by positives, or of all pairs in one."""

import numpy as np


def with_averages(score, y_true, y_score, weights, averages):
    """Score every label, and append the averages.

    Parameters
    ----------
    score : callable
        ``score(y_true, y_score, weights)`` gives an array of shape (n_draws, n_labels, …).

    y_true : ndarray of shape (n_samples, n_labels)
        Labels, NaN where not known.

    y_score : ndarray of shape (n_samples, n_labels)
        Scores.

    weights : ndarray of shape (n_samples, n_draws)
        Row weights of each draw.

    averages : list of {"macro", "micro", "weighted"}
        What to append.

    Returns
    -------
    values : ndarray of shape (n_draws, n_labels + n_averages, …)
        Scores.
    """
    values = score(y_true, y_score, weights)
    pooled = pooled_score(score, y_true, y_score, weights) if "micro" in averages else None
    return append_averages(values, count_positives(y_true, weights), pooled, averages)


def append_averages(values, n_positive, pooled, averages):
    """Append the averages to scores of labels.

    Parameters
    ----------
    values : ndarray of shape (n_draws, n_labels, …)
        Scores of the labels.

    n_positive : ndarray of shape (n_draws, n_labels)
        Weight of the positives, the weights of the labels in "weighted".

    pooled : ndarray of shape (n_draws, …) or None
        Score of all pairs of row and label, which is "micro".

    averages : list of {"macro", "micro", "weighted"}
        What to append.

    Returns
    -------
    values : ndarray of shape (n_draws, n_labels + n_averages, …)
        Scores.
    """
    label_weights = n_positive.reshape(*n_positive.shape, *[1] * (values.ndim - 2))
    appended = {
        "macro": lambda: mean_over_labels(values, np.ones_like(label_weights)),
        "weighted": lambda: mean_over_labels(values, label_weights),
        "micro": lambda: pooled,
    }
    columns = [appended[average]()[:, None] for average in averages]
    return np.concatenate([values, *columns], axis=1)


def mean_over_labels(values, label_weights):
    """Weighted mean over the labels whose score is defined; NaN where there is none.

    Parameters
    ----------
    values : ndarray of shape (n_draws, n_labels, …)
        Scores, NaN where undefined.

    label_weights : ndarray that broadcasts to the shape of `values`
        Weights.

    Returns
    -------
    mean : ndarray of shape (n_draws, …)
        The mean over axis 1.
    """
    defined = np.isfinite(values)
    label_weights = np.where(defined, label_weights, 0.0)
    total = label_weights.sum(axis=1)
    weighted = (np.where(defined, values, 0.0) * label_weights).sum(axis=1)
    return np.divide(weighted, total, out=np.full(total.shape, np.nan), where=total > 0)


def count_positives(y_true, weights):
    """Weight of the positives of each label in each draw, shape (n_draws, n_labels)."""
    return weights.T @ (y_true == 1)


def pooled_score(score, y_true, y_score, weights):
    """Score all pairs of row and label as if they were rows of one label.

    Draws are taken in parts, as there are n_labels times as many pairs as rows.

    Returns
    -------
    values : ndarray of shape (n_draws, …)
        Scores.
    """
    n_labels = y_true.shape[1]
    pairs = y_true.reshape(-1, 1), y_score.reshape(-1, 1)
    step = max(1, weights.shape[1] // n_labels)
    parts = [
        score(*pairs, np.repeat(weights[:, start : start + step], n_labels, axis=0))[:, 0]
        for start in range(0, weights.shape[1], step)
    ]
    return np.concatenate(parts)
