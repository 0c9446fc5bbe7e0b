"""The measured cells of a lab table and the scales on which the model reads them."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy import sparse
from scipy.special import ndtri

from .._nn.masked_autoencoder import LabBatch

# Beyond this many standard deviations a value grows by its logarithm only
_LINEAR_RANGE = 4.0
# A lab's curve from value to score has at most this many knots, spread over scores up to +-3.5
_N_KNOTS = 48
SCORE_RANGE = 3.5
# A mean, a knot or a limit that is kept comes from at least this many rows, whatever their weight;
# from fewer it would reveal a patient's result
FEWEST_ROWS = 5


@dataclass(eq=False)
class LabCells:
    """Measured cells, row after row, as in a CSR matrix."""

    row_start: np.ndarray  # int64 (n_rows + 1,): where each row's cells begin
    lab: np.ndarray  # int64 (n_cells,): column of each cell, ascending within a row
    value: np.ndarray  # (n_cells,): in the lab's unit; standardised after `LabScale.cells`
    n_labs: int
    score: Any = None  # (n_cells,): normal scores, once values are standardised

    @classmethod
    def from_table(cls, X) -> "LabCells":
        """Take the cells of an array that are not NaN, or the entries of a CSR matrix."""
        if isinstance(X, np.ndarray):
            observed = ~np.isnan(X)
            row, lab = np.nonzero(observed)
            row_start = np.concatenate([[0], observed.sum(axis=1).cumsum()])
            return cls(row_start, lab, X[row, lab], X.shape[1])
        return cls(X.indptr.astype(np.int64), X.indices.astype(np.int64), X.data, X.shape[1])

    def __len__(self) -> int:
        return len(self.row_start) - 1

    @property
    def n_measured(self) -> np.ndarray:
        """Number of measured cells in each row, shape (n_rows,)."""
        return np.diff(self.row_start)

    def take(self, rows: np.ndarray) -> "LabCells":
        """Return some rows in the given order."""
        cell, row_start = self._cells_of(rows)
        score = None if self.score is None else self.score[cell]
        return LabCells(row_start, self.lab[cell], self.value[cell], self.n_labs, score)

    def of_labs(self, kept: np.ndarray) -> "LabCells":
        """Return the cells of some labs, a bool array (n_labs,), as if no other were measured."""
        cell = kept[self.lab]
        row_start = np.concatenate([[0], cell.cumsum(dtype=np.int64)])[self.row_start]
        return LabCells(row_start, self.lab[cell], self.value[cell], self.n_labs)

    def distinct(
        self, weight: np.ndarray, groups: np.ndarray | None = None
    ) -> tuple["LabCells", np.ndarray, sparse.csr_array | None]:
        """Return each distinct row that has a cell and a weight, and the sum of its weights.

        The third part is that sum by group, (n_distinct, n_groups), None without `groups`.
        """
        used = np.flatnonzero((self.n_measured > 0) & (weight > 0))
        # Adding 0.0 turns -0.0 into 0.0
        key = self._row_hash((self.value + 0.0).view(np.uint64))[used]
        _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
        total = np.bincount(inverse, weight[used], minlength=len(first))
        if groups is None:
            return self.take(used[first]), total, None
        each, group = np.unique(groups[used], return_inverse=True)
        by_group = sparse.coo_array((weight[used], (inverse, group)), (len(first), len(each)))
        return self.take(used[first]), total, by_group.tocsr()

    def fixed_order(self) -> np.ndarray:
        """Order of the rows that looks random but depends only on their standardised values.

        Training in this order depends neither on the order of the input nor on the labs' units.
        """
        rounded = np.rint(self.value * 1e6).astype(np.int64).view(np.uint64)
        return np.argsort(self._row_hash(rounded), kind="stable")

    def batch(self, rows: np.ndarray, dtype: torch.dtype, device: torch.device) -> LabBatch:
        """Pack the standardised cells of some rows into one padded batch."""
        count = self.n_measured[rows]
        width = int(count.max()) if len(count) else 0
        measured = np.arange(width)[None] < count[:, None]
        cell, _ = self._cells_of(rows)
        lab = np.zeros(measured.shape, dtype=np.int64)
        value = np.zeros(measured.shape)
        score = np.zeros(measured.shape)
        lab[measured] = self.lab[cell]
        value[measured] = self.value[cell]
        score[measured] = self.score[cell]
        return LabBatch(
            torch.from_numpy(lab).to(device),
            torch.from_numpy(value).to(device=device, dtype=dtype),
            torch.from_numpy(score).to(device=device, dtype=dtype),
            torch.from_numpy(measured).to(device),
        )

    def _cells_of(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Positions of the cells of some rows, and where each row begins among them."""
        count = self.n_measured[rows]
        new_start = np.concatenate([[0], count.cumsum()])
        within = np.arange(new_start[-1]) - np.repeat(new_start[:-1], count)
        return np.repeat(self.row_start[rows], count) + within, new_start

    def _row_hash(self, value: np.ndarray) -> np.ndarray:
        """Hash each row's cells to 64 bits, given their values as uint64.

        Two of a million different rows collide with a probability of one in ten million.
        """
        cell = _mix(value + _mix(self.lab.astype(np.uint64)))
        total = np.concatenate([np.zeros(1, dtype=np.uint64), cell.cumsum(dtype=np.uint64)])
        return _mix(total[self.row_start[1:]] - total[self.row_start[:-1]])


def _mix(x: np.ndarray) -> np.ndarray:
    """Scramble 64-bit integers so that each bit depends on all (splitmix64, Steele et al. 2014)."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def compress(z: np.ndarray) -> np.ndarray:
    """Leave values within four units unchanged and let larger ones grow logarithmically.

    A typing error of 10,000 units must neither overflow nor drown out the other labs. The map is
    strictly increasing and continuously differentiable; `expand` inverts it.
    """
    excess = np.maximum(np.abs(z) - _LINEAR_RANGE, 0.0)
    return np.clip(z, -_LINEAR_RANGE, _LINEAR_RANGE) + np.sign(z) * np.log1p(excess)


def expand(z: np.ndarray) -> np.ndarray:
    """Invert `compress`."""
    excess = np.minimum(np.maximum(np.abs(z) - _LINEAR_RANGE, 0.0), 500.0)
    return np.clip(z, -_LINEAR_RANGE, _LINEAR_RANGE) + np.sign(z) * np.expm1(excess)


class LabScale(NamedTuple):
    """Scales that make the values of different labs comparable."""

    # Mean in the lab's own unit, winsorised at the 0.5 % and 99.5 % quantiles; NaN if not measured
    center: np.ndarray  # (n_labs,)
    scale: np.ndarray  # (n_labs,): standard deviation likewise; 1 if constant or not measured
    # Points (standardised value, normal score) of each lab's curve, ascending, the last repeated
    knots: np.ndarray  # (n_labs, n_knots, 2)

    @classmethod
    def fit(cls, cells: LabCells, weight: np.ndarray) -> "LabScale":
        """Learn the scales from distinct rows and their weights (n_rows,)."""
        center = np.full(cells.n_labs, np.nan)
        scale = np.ones(cells.n_labs)
        knots = np.zeros((cells.n_labs, _N_KNOTS, 2))
        cell_weight = np.repeat(weight, cells.n_measured)
        for lab, of_lab in _by_lab(cells.lab):
            value, weight_ = cells.value[of_lab], cell_weight[of_lab]
            order = np.argsort(value, kind="stable")
            value, weight_ = value[order], weight_[order]
            center[lab], scale[lab] = _center_and_scale(value, weight_)
            points = _knots(_standardise(value, center[lab], scale[lab]), weight_)
            knots[lab] = points[np.minimum(np.arange(_N_KNOTS), len(points) - 1)]
        return cls(center, scale, knots)

    @property
    def known(self) -> np.ndarray:
        """Which labs have been measured, bool array of shape (n_labs,)."""
        return np.isfinite(self.center)

    def cells(self, cells: LabCells) -> LabCells:
        """Put cells on the scales, without labs that were never measured in fit."""
        cells = cells.of_labs(self.known)
        value = _standardise(cells.value, self.center[cells.lab], self.scale[cells.lab])
        score = np.zeros(len(value))
        for lab, of_lab in _by_lab(cells.lab):
            score[of_lab] = np.interp(value[of_lab], *self.knots[lab].T)
        return LabCells(cells.row_start, cells.lab, value, cells.n_labs, score)

    def curves(self, n_points: int) -> np.ndarray:
        """Standardised value of each lab at `n_points` scores from -3.5 to 3.5."""
        at = np.linspace(-SCORE_RANGE, SCORE_RANGE, n_points)
        return np.stack([np.interp(at, score, value) for value, score in self.knots.mT])

    def in_units(self, standard: np.ndarray, lab: np.ndarray) -> np.ndarray:
        """Convert standardised values of the labs `lab` to their units; NaN if never measured."""
        return self.center[lab] + expand(standard) * self.scale[lab]

    def possible(self, standard: np.ndarray, lab: np.ndarray) -> np.ndarray:
        """Convert predictions for the labs `lab` to their units, within what fit has seen.

        No enzyme is negative, so values stop at the lower end of the lab's curve, a mean of several
        rows. At the upper end they may exceed it by one more step of the curve or, if the upper
        tail is more than twice the lower, by the curve's length: an INR higher than any in fit
        follows from the prothrombin time.
        """
        curve = expand(self.knots[:, :, 0])
        low, high = curve[:, 0], curve[:, -1]
        before = np.where(curve < high[:, None], curve, low[:, None]).max(axis=1)
        more = high - np.where(high > -2 * low, low, before)
        value = np.clip(expand(standard), low[lab], (high + more)[lab])
        return self.center[lab] + value * self.scale[lab]

    def spread_in_units(self, standard, spread, lab) -> np.ndarray:
        """Standard deviations in the labs' units around standardised values."""
        low, high = (self.in_units(standard + sign * spread / 2, lab) for sign in (-1, 1))
        return high - low


def _by_lab(lab: np.ndarray):
    """Yield each lab that occurs and the positions of its cells."""
    order = np.argsort(lab, kind="stable")
    each, start = np.unique(lab[order], return_index=True)
    yield from zip(each.tolist(), np.split(order, start[1:]), strict=False)


def _standardise(value: np.ndarray, center, scale) -> np.ndarray:
    # Without the clip, a huge value over a tiny scale would overflow to infinity
    with np.errstate(over="ignore"):
        return compress(np.clip((value - center) / scale, -1e300, 1e300))


def _center_and_scale(value: np.ndarray, weight: np.ndarray) -> tuple[float, float]:
    # Divided by a power of two, which is exact, a huge value can be squared without overflow
    exponent = np.frexp(np.abs(value).max())[1]
    value = np.ldexp(value, -exponent)
    share = weight.cumsum() / weight.sum()
    ends = np.searchsorted(share, [0.005, 0.995]).clip(max=len(value) - 1)
    kept = np.clip(value, *value[ends])
    mean = np.average(kept, weights=weight)
    deviation = np.sqrt(np.average((kept - mean) ** 2, weights=weight))
    # The deviation of a constant column is rounding error
    if deviation <= 1e-10 * max(abs(mean), np.finfo(float).tiny):
        return np.ldexp(mean, exponent), 1.0
    return np.ldexp(mean, exponent), np.ldexp(deviation, exponent)


def _knots(value: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Points (value, score) of the curve through ascending values, each a mean of several."""
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
    """Where pieces begin, after those of too few rows have joined the one before."""
    edges = np.flatnonzero(np.diff(piece, prepend=-1))
    rows = np.add.reduceat(n_rows, edges)
    left = rows[::-1].cumsum()[::-1]
    starts, held = [0], rows[0]
    for edge, size, rest in zip(edges[1:], rows[1:], left[1:], strict=True):
        if min(held, rest) >= FEWEST_ROWS:
            starts.append(int(edge))
            held = 0
        held += size
    return np.array(starts)
