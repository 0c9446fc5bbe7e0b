"""From a table of lab results to the measured cells, standardised."""

from collections.abc import Iterator

import numpy as np
import torch

from .._nn.masked_autoencoder import LabBatch

# beyond this many standard deviations a value grows by its logarithm only
_LINEAR_RANGE = 4.0


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


class LabCells:
    """The measured cells of a lab table, row after row, as in a CSR matrix.

    Parameters
    ----------
    row_start : int64 array of shape (n_rows + 1,)
        Where each row's cells begin.
    lab : int64 array of shape (n_cells,)
        Column of each cell.
    value : float array of shape (n_cells,)
        Standardised value of each cell.
    """

    def __init__(self, row_start: np.ndarray, lab: np.ndarray, value: np.ndarray):
        self.row_start = row_start
        self.lab = lab
        self.value = value

    @classmethod
    def from_dense(cls, X: np.ndarray, center: np.ndarray, scale: np.ndarray) -> "LabCells":
        """Take the cells of X that are not NaN, in columns that have a finite center."""
        observed = ~np.isnan(X) & np.isfinite(center)
        row, lab = np.nonzero(observed)
        row_start = np.concatenate([[0], observed.sum(axis=1).cumsum()])
        return cls(row_start, lab, _standardise(X[row, lab], lab, center, scale))

    @classmethod
    def from_csr(cls, X, center: np.ndarray, scale: np.ndarray) -> "LabCells":
        """Take the entries of a CSR matrix, zeros too, in columns that have a finite center."""
        known = np.isfinite(center)[X.indices]
        # entries before each row's begin that stay
        row_start = np.concatenate([[0], known.cumsum(dtype=np.int64)])[X.indptr]
        lab = X.indices[known].astype(np.int64)
        return cls(row_start, lab, _standardise(X.data[known], lab, center, scale))

    def __len__(self) -> int:
        return len(self.row_start) - 1

    @property
    def n_measured(self) -> np.ndarray:
        """Number of measured cells in each row, shape (n_rows,)."""
        return np.diff(self.row_start)

    def batch(self, rows: np.ndarray, dtype: torch.dtype, device: torch.device) -> LabBatch:
        """Pack the cells of some rows into one padded batch."""
        count = self.n_measured[rows]
        width = int(count.max()) if len(count) else 0
        position = np.arange(width)[None]
        measured = position < count[:, None]
        cell = (self.row_start[rows][:, None] + position)[measured]
        lab = np.zeros(measured.shape, dtype=np.int64)
        value = np.zeros(measured.shape)
        lab[measured] = self.lab[cell]
        value[measured] = self.value[cell]
        return LabBatch(
            torch.from_numpy(lab).to(device),
            torch.from_numpy(value).to(device=device, dtype=dtype),
            torch.from_numpy(measured).to(device),
        )


def _standardise(value, lab, center: np.ndarray, scale: np.ndarray) -> np.ndarray:
    # np.clip: a huge value over a tiny scale overflows to infinity otherwise
    with np.errstate(over="ignore"):
        return compress(np.clip((value - center[lab]) / scale[lab], -1e300, 1e300))


def _measured_by_lab(X) -> Iterator[np.ndarray]:
    if isinstance(X, np.ndarray):
        for column in X.T:
            yield column[~np.isnan(column)]
    else:
        by_lab = X.tocsc()
        yield from np.split(by_lab.data, by_lab.indptr[1:-1])


def lab_center_and_scale(X) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each column between its 0.5 % and 99.5 % quantiles.

    Parameters
    ----------
    X : array or CSR matrix of shape (n_rows, n_labs)
        Lab values; NaN, or without an entry, = not measured.

    Returns
    -------
    center : array of shape (n_labs,)
        NaN for a column that was never measured.
    scale : array of shape (n_labs,)
        1 for a constant or never measured column.
    """
    center = np.full(X.shape[1], np.nan)
    scale = np.ones(X.shape[1])
    for lab, measured in enumerate(_measured_by_lab(X)):
        if not len(measured):
            continue
        # in units of a power of two, which is exact, the square of a huge value does not overflow
        exponent = np.frexp(np.abs(measured).max())[1]
        measured = np.ldexp(measured, -exponent)
        low, high = np.quantile(measured, [0.005, 0.995])
        kept = np.clip(measured, low, high)
        mean, deviation = kept.mean(), kept.std()
        center[lab] = np.ldexp(mean, exponent)
        # a rounding error of a constant column is not a spread
        if deviation > 1e-10 * max(abs(mean), np.finfo(float).tiny):
            scale[lab] = np.ldexp(deviation, exponent)
    return center, scale
