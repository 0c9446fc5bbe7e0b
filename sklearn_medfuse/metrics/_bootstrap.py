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


def with_macro(values):
    """Append the mean over the labels that are defined; NaN where none is.

    Parameters
    ----------
    values : ndarray of shape (n_draws, n_labels)
        One score per draw and label.

    Returns
    -------
    values : ndarray of shape (n_draws, n_labels + 1)
        The same with the macro mean as last column.
    """
    n_defined = np.isfinite(values).sum(axis=1)
    macro = np.full(len(values), np.nan)
    np.divide(np.nansum(values, axis=1), n_defined, out=macro, where=n_defined > 0)
    return np.column_stack([values, macro])


def percentile_interval(draws, confidence_level):
    """Percentile interval of each column over its defined draws; NaN where there is none.

    Parameters
    ----------
    draws : ndarray of shape (n_draws, n_columns)
        Bootstrap draws.

    confidence_level : float
        Coverage, for example 0.95.

    Returns
    -------
    low, high : ndarrays of shape (n_columns,)
        Ends of the intervals.
    """
    interval = np.full((2, draws.shape[1]), np.nan)
    known = np.isfinite(draws).any(axis=0)
    if known.any():
        tail = (1 - confidence_level) / 2
        interval[:, known] = np.nanquantile(draws[:, known], [tail, 1 - tail], axis=0)
    return interval[0], interval[1]


def two_sided_p_value(draws):
    """Bootstrap p-value that each column's true value is zero.

    Twice the smaller share of draws on either side of zero, the observed sample counted as one
    more draw, so that it is never exactly zero.

    Parameters
    ----------
    draws : ndarray of shape (n_draws, n_columns)
        Bootstrap draws of a difference.

    Returns
    -------
    p_value : ndarray of shape (n_columns,)
        NaN where no draw is defined.
    """
    n_defined = np.isfinite(draws).sum(axis=0)
    smaller = np.minimum((draws <= 0).sum(axis=0), (draws >= 0).sum(axis=0))
    p_value = np.minimum(1.0, 2 * (1 + smaller) / (1 + n_defined))
    return np.where(n_defined > 0, p_value, np.nan)
