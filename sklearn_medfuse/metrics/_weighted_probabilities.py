"""Losses and binned calibration of probabilities under many row weightings at once.

Shapes are those of `_weighted_scores`: weights of shape (n_samples, n_draws) give scores of shape
(n_draws, n_labels). A pair whose label is NaN is left out.
"""

import numpy as np
from scipy.sparse import csr_array

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
    edges = np.linspace(0, 1, n_bins + 1)[1:-1]
    shares = np.arange(1, n_bins) / n_bins
    bin_of_pair = np.empty(y_prob.shape, dtype=int)
    for label in range(y_prob.shape[1]):
        counted = ~np.isnan(y_true[:, label]) & (weights > 0)
        if strategy == "quantile" and n_bins > 1 and counted.any():
            # the one definition of a quantile for which a weight of 2 is a row that is there twice
            edges = np.quantile(
                y_prob[counted, label], shares, weights=weights[counted], method="inverted_cdf"
            )
        bin_of_pair[:, label] = np.searchsorted(edges, y_prob[:, label])
    return bin_of_pair
