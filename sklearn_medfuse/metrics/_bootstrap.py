"""Bootstrap over groups: resamples as row weights, intervals and p-values from draws."""

import numbers
from collections.abc import Callable

import numpy as np
from scipy.sparse import csr_array
from sklearn.utils import check_random_state

from ._inputs import check_confidence_level, check_groups, check_sample_weight

# Draws are made in blocks of about this many row weights, which keeps memory near 100 MB
_BLOCK_SIZE = 2_000_000


class Bootstrap:
    """Resamples of the groups of a sample, with the parameters that all reports share."""

    def __init__(
        self, n_samples, sample_weight, groups, n_bootstraps, confidence_level, random_state
    ):
        self.weights = check_sample_weight(sample_weight, n_samples)
        self.group_of_row = check_groups(groups, n_samples)
        self.n_groups = int(self.group_of_row.max()) + 1
        if not isinstance(n_bootstraps, numbers.Integral) or n_bootstraps < 0:
            raise ValueError(
                f"`n_bootstraps` is {n_bootstraps!r}; pass a whole number, 0 for no intervals."
            )
        check_confidence_level(confidence_level)
        self.n_bootstraps = int(n_bootstraps)
        self.confidence_level = confidence_level
        self.random_state = random_state

    @property
    def weights_by_group(self):
        """Row weights, each in the column of its group: sparse, (n_samples, n_groups)."""
        cells = np.arange(len(self.weights)), self.group_of_row
        return csr_array((self.weights, cells), shape=(len(self.weights), self.n_groups))

    def score(self, function: Callable[[np.ndarray], np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Score the sample, shape (…), and its resamples, shape (n_bootstraps, …).

        The function takes row weights of shape (n_samples, n_draws) and gives (n_draws, …).
        """
        weights = self.weights[:, None]
        estimate = function(weights)
        draws = [function(times * weights) for times in self._resample()]
        return estimate[0], np.concatenate([estimate[:0], *draws])

    def _resample(self):
        """Yield how often each row is drawn, in blocks of shape (n_samples, n_draws).

        Whole groups are drawn with replacement, as many as there are. The draws do not depend on
        the size of the blocks.
        """
        rng = check_random_state(self.random_state)
        block = max(1, _BLOCK_SIZE // len(self.group_of_row))
        for start in range(0, self.n_bootstraps, block):
            n_draws = min(block, self.n_bootstraps - start)
            drawn = rng.randint(self.n_groups, size=(n_draws, self.n_groups))
            cell = drawn + self.n_groups * np.arange(n_draws)[:, None]
            times = np.bincount(cell.ravel(), minlength=n_draws * self.n_groups)
            # Whole numbers, as floats for the matrix products that follow
            times = times.reshape(n_draws, self.n_groups).T.astype(float)
            yield times[self.group_of_row]

    def interval(self, draws):
        """Percentiles of each column's defined draws; NaN where no draw is defined."""
        ends = np.full((2, *draws.shape[1:]), np.nan)
        known = np.isfinite(draws).any(axis=0)
        if known.any():
            tail = (1 - self.confidence_level) / 2
            ends[:, known] = np.nanquantile(draws[:, known], [tail, 1 - tail], axis=0)
        return ends[0], ends[1]

    def mirrored_interval(self, estimate, draws, *, lowest, highest):
        """Mirror the percentile interval at the estimate, within `lowest` and `highest`.

        For scores that resampling itself makes greater: an absolute error grows with noise, and a
        resample has more of it than the sample. The percentile interval would count this twice.
        The mirrored one may end below the estimate, and is then widened to it.
        """
        low, high = self.interval(draws)
        low, high = (np.clip(2 * estimate - end, lowest, highest) for end in (high, low))
        return np.minimum(low, estimate), np.maximum(high, estimate)


def two_sided_p_value(draws):
    """Bootstrap p-value that the true value of each column of draws is zero.

    Twice the smaller share of draws on either side of zero. The observed sample counts as one
    more draw, so that the p-value is never exactly zero. NaN where no draw is defined.
    """
    n_defined = np.isfinite(draws).sum(axis=0)
    smaller = np.minimum((draws <= 0).sum(axis=0), (draws >= 0).sum(axis=0))
    p_value = np.minimum(1.0, 2 * (1 + smaller) / (1 + n_defined))
    return np.where(n_defined > 0, p_value, np.nan)
