"""Bootstrap over groups: resamples as row weights, intervals and p-values from draws."""

import numpy as np
from sklearn.utils import check_random_state

# Draws are made in blocks of about this many row weights, which keeps memory near 100 MB.
_BLOCK_SIZE = 2_000_000


def resampled_weights(group_of_row, n_bootstraps, random_state):
    """Yield blocks of bootstrap resamples, as the number of times that each row is drawn.

    Whole groups are drawn with replacement, as many as there are. The draws do not depend on the
    size of the blocks.

    Parameters
    ----------
    group_of_row : ndarray of shape (n_samples,)
        Group codes 0 … n_groups-1.

    n_bootstraps : int
        Number of resamples in all.

    random_state : int, RandomState instance or None
        Source of the draws.

    Yields
    ------
    weights : ndarray of shape (n_samples, n_draws)
        Whole numbers, as floats for the matrix products that follow.
    """
    rng = check_random_state(random_state)
    n_groups = int(group_of_row.max()) + 1
    block = max(1, _BLOCK_SIZE // len(group_of_row))
    for start in range(0, n_bootstraps, block):
        n_draws = min(block, n_bootstraps - start)
        drawn = rng.randint(n_groups, size=(n_draws, n_groups))
        cell = drawn + n_groups * np.arange(n_draws)[:, None]
        times = np.bincount(cell.ravel(), minlength=n_draws * n_groups)
        times = times.reshape(n_draws, n_groups).T.astype(float)
        yield times[group_of_row]


def bootstrap(score, weights, group_of_row, n_bootstraps, random_state):
    """Score the sample, and resamples of its groups.

    Parameters
    ----------
    score : callable
        Takes weights of shape (n_samples, n_draws), gives an array of shape (n_draws, …).

    weights : ndarray of shape (n_samples,)
        Row weights; a resample multiplies them.

    group_of_row : ndarray of shape (n_samples,)
        Group codes 0 … n_groups-1.

    n_bootstraps : int
        Number of resamples.

    random_state : int, RandomState instance or None
        Source of the draws.

    Returns
    -------
    estimate : ndarray
        Of the sample.

    draws : ndarray of shape (n_bootstraps, …)
        Of the resamples.
    """
    estimate = score(weights[:, None])
    blocks = [
        score(times * weights[:, None])
        for times in resampled_weights(group_of_row, n_bootstraps, random_state)
    ]
    return estimate[0], np.concatenate([estimate[:0], *blocks])


def percentile_interval(draws, confidence_level):
    """Percentile interval of each column over its defined draws; NaN where there is none.

    Parameters
    ----------
    draws : ndarray of shape (n_draws, …)
        Bootstrap draws.

    confidence_level : float
        Coverage, for example 0.95.

    Returns
    -------
    low, high : ndarrays of shape (…)
        Ends of the intervals.
    """
    interval = np.full((2, *draws.shape[1:]), np.nan)
    known = np.isfinite(draws).any(axis=0)
    if known.any():
        tail = (1 - confidence_level) / 2
        interval[:, known] = np.nanquantile(draws[:, known], [tail, 1 - tail], axis=0)
    return interval[0], interval[1]


def basic_interval(estimate, draws, confidence_level, *, lowest=-np.inf, highest=np.inf):
    """Mirror the percentile interval at the estimate.

    For scores that resampling itself makes greater: an absolute error grows with noise, and a
    resample has more of it than the sample. The percentile interval would have this twice.

    Parameters
    ----------
    estimate : ndarray of shape (…)
        Score of the sample.

    draws : ndarray of shape (n_draws, …)
        Bootstrap draws.

    confidence_level : float
        Coverage.

    lowest, highest : float
        What the score can be.

    Returns
    -------
    low, high : ndarrays of shape (…)
        Ends of the intervals.
    """
    low, high = percentile_interval(draws, confidence_level)
    return tuple(np.clip(2 * estimate - end, lowest, highest) for end in (high, low))


def two_sided_p_value(draws):
    """Bootstrap p-value that each column's true value is zero.

    Twice the smaller share of draws on either side of zero, the observed sample counted as one
    more draw, so that it is never exactly zero.

    Parameters
    ----------
    draws : ndarray of shape (n_draws, …)
        Bootstrap draws of a difference.

    Returns
    -------
    p_value : ndarray of shape (…)
        NaN where no draw is defined.
    """
    n_defined = np.isfinite(draws).sum(axis=0)
    smaller = np.minimum((draws <= 0).sum(axis=0), (draws >= 0).sum(axis=0))
    p_value = np.minimum(1.0, 2 * (1 + smaller) / (1 + n_defined))
    return np.where(n_defined > 0, p_value, np.nan)
