"""The scales that the lab model works on: standardised values and normal scores."""

from typing import NamedTuple

import numpy as np
from scipy.special import ndtri

from ._lab_cells import LabCells, LabResults

# beyond this many standard deviations a value grows by its logarithm only
_LINEAR_RANGE = 4.0
# a lab's curve from value to score has at most this many knots, spread over scores up to +-3.5
_N_KNOTS = 48
SCORE_RANGE = 3.5
# no knot is the result of one patient: it is the mean of at least so many rows, whatever they weigh
_ROWS_PER_KNOT = 5


def compress(z: np.ndarray) -> np.ndarray:
    """Leave values within four units as they are; let larger ones grow logarithmically.

    A typing error of 10,000 units must neither overflow nor drown the other labs. The map is
    strictly increasing, continuously differentiable and inverted by `expand`.

    Examples
    --------
    >>> import numpy as np
    >>> z = np.array([-1e6, -1.0, 0.0, 2.5, 30.0])
    >>> bool(np.allclose(expand(compress(z)), z))
    True
    """
    excess = np.maximum(np.abs(z) - _LINEAR_RANGE, 0.0)
    return np.clip(z, -_LINEAR_RANGE, _LINEAR_RANGE) + np.sign(z) * np.log1p(excess)


def expand(z: np.ndarray) -> np.ndarray:
    """Invert `compress`."""
    excess = np.minimum(np.maximum(np.abs(z) - _LINEAR_RANGE, 0.0), 500.0)
    return np.clip(z, -_LINEAR_RANGE, _LINEAR_RANGE) + np.sign(z) * np.expm1(excess)


class LabScale(NamedTuple):
    """How each lab's values are put on common scales.

    Attributes
    ----------
    center : array of shape (n_labs,)
        Mean, winsorised at the 0.5 % and 99.5 % quantiles, in the lab's own unit; NaN for a lab
        that was never measured.
    scale : array of shape (n_labs,)
        Standard deviation likewise; 1 for a constant or never measured lab.
    knots : array of shape (n_labs, n_knots, 2)
        Points (standardised value, normal score) of each lab's curve, ascending; the last one
        is repeated to fill the row.
    """

    center: np.ndarray
    scale: np.ndarray
    knots: np.ndarray

    @classmethod
    def fit(cls, results: LabResults, weight: np.ndarray) -> "LabScale":
        """Learn the scales from distinct rows and their weights (n_rows,)."""
        center = np.full(results.n_labs, np.nan)
        scale = np.ones(results.n_labs)
        knots = np.zeros((results.n_labs, _N_KNOTS, 2))
        cell_weight = np.repeat(weight, results.n_measured)
        for lab, cells in _by_lab(results.lab):
            value, weight_ = results.value[cells], cell_weight[cells]
            order = np.argsort(value, kind="stable")
            value, weight_ = value[order], weight_[order]
            center[lab], scale[lab] = _center_and_scale(value, weight_)
            standard = _standardise(value, center[lab], scale[lab])
            points = _knots(standard, weight_)
            knots[lab] = points[np.minimum(np.arange(_N_KNOTS), len(points) - 1)]
        return cls(center, scale, knots)

    @property
    def known(self) -> np.ndarray:
        """Which labs have been measured, bool array of shape (n_labs,)."""
        return np.isfinite(self.center)

    def cells(self, results: LabResults) -> LabCells:
        """Put results on the scales; a lab that was never measured in fit is left out."""
        results = results.of_labs(self.known)
        lab = results.lab
        value = _standardise(results.value, self.center[lab], self.scale[lab])
        score = np.zeros(len(value))
        for each, cells in _by_lab(lab):
            score[cells] = np.interp(value[cells], *self.knots[each].T)
        return LabCells(results.row_start, lab, value, score)

    def curves(self, n_points: int) -> np.ndarray:
        """Standardised value of each lab at `n_points` scores from -3.5 to 3.5."""
        at = np.linspace(-SCORE_RANGE, SCORE_RANGE, n_points)
        return np.stack([np.interp(at, score, value) for value, score in self.knots.mT])

    def variation(self) -> np.ndarray:
        """Coefficient of variation of each lab against the median lab's, within 1/3 and 3."""
        # where 0 is no natural zero (a base excess) the coefficient means little, hence the limits
        center = np.where(self.known, np.abs(self.center), np.nan)
        with np.errstate(divide="ignore"):
            variation = self.scale / center
        middle = np.nanmedian(variation) if self.known.any() else 1.0
        return np.nan_to_num((variation / middle).clip(1 / 3, 3), nan=1.0)

    def in_units(self, standard: np.ndarray, lab: np.ndarray) -> np.ndarray:
        """Undo the standardisation of values of the labs `lab`; 0 for a lab never measured."""
        value = self.center[lab] + expand(standard) * self.scale[lab]
        return np.where(self.known[lab], value, 0.0)


def _by_lab(lab: np.ndarray):
    """Yield each lab that occurs and the positions of its cells."""
    order = np.argsort(lab, kind="stable")
    each, start = np.unique(lab[order], return_index=True)
    yield from zip(each.tolist(), np.split(order, start[1:]), strict=False)


def _standardise(value: np.ndarray, center, scale) -> np.ndarray:
    # np.clip: a huge value over a tiny scale overflows to infinity otherwise
    with np.errstate(over="ignore"):
        return compress(np.clip((value - center) / scale, -1e300, 1e300))


def _center_and_scale(value: np.ndarray, weight: np.ndarray) -> tuple[float, float]:
    # in units of a power of two, which is exact, the square of a huge value does not overflow
    exponent = np.frexp(np.abs(value).max())[1]
    value = np.ldexp(value, -exponent)
    share = weight.cumsum() / weight.sum()
    ends = np.searchsorted(share, [0.005, 0.995]).clip(max=len(value) - 1)
    kept = np.clip(value, *value[ends])
    mean = np.average(kept, weights=weight)
    deviation = np.sqrt(np.average((kept - mean) ** 2, weights=weight))
    # a rounding error of a constant column is not a spread
    if deviation <= 1e-10 * max(abs(mean), np.finfo(float).tiny):
        return np.ldexp(mean, exponent), 1.0
    return np.ldexp(mean, exponent), np.ldexp(deviation, exponent)


def _knots(value: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Points (value, score) of the curve through ascending values, each the mean of several."""
    unique, first = np.unique(value, return_index=True)
    mass = np.add.reduceat(weight, first)
    rank = (mass.cumsum() - mass / 2) / mass.sum()
    score = ndtri(rank)
    piece = ((score + SCORE_RANGE) / (2 * SCORE_RANGE) * _N_KNOTS).clip(0, _N_KNOTS - 1).astype(int)
    starts = _starts_of_pieces(piece, np.diff(first, append=len(value)))
    mass_of_piece = np.add.reduceat(mass, starts)
    points = [np.add.reduceat(mass * part, starts) / mass_of_piece for part in (unique, score)]
    return np.stack(points, axis=1)


def _starts_of_pieces(piece: np.ndarray, n_rows: np.ndarray) -> np.ndarray:
    """Where pieces begin, once those of too few rows are joined to the one before."""
    edges = np.flatnonzero(np.diff(piece, prepend=-1))
    rows = np.add.reduceat(n_rows, edges)
    left = rows[::-1].cumsum()[::-1]
    starts, held = [0], rows[0]
    for edge, size, rest in zip(edges[1:], rows[1:], left[1:], strict=True):
        if min(held, rest) >= _ROWS_PER_KNOT:
            starts.append(int(edge))
            held = 0
        held += size
    return np.array(starts)
