"""The measured cells of a lab table, and each distinct row once."""

import numpy as np
import torch

from .._nn.masked_autoencoder import LabBatch


class LabResults:
    """Measured cells in the labs' own units, row after row, as in a CSR matrix.

    Parameters
    ----------
    row_start : int64 array of shape (n_rows + 1,)
        Where each row's cells begin.
    lab : int64 array of shape (n_cells,)
        Column of each cell, ascending within a row.
    value : float array of shape (n_cells,)
        Value of each cell.
    n_labs : int
        Number of columns.
    """

    def __init__(self, row_start: np.ndarray, lab: np.ndarray, value: np.ndarray, n_labs: int):
        self.row_start = row_start
        self.lab = lab
        self.value = value
        self.n_labs = n_labs

    @classmethod
    def from_table(cls, X) -> "LabResults":
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

    def take(self, rows: np.ndarray) -> "LabResults":
        """Return some rows, in the order asked for."""
        cell, row_start = _cells_of(self.row_start, rows)
        return LabResults(row_start, self.lab[cell], self.value[cell], self.n_labs)

    def rows_per_lab(self, weight: np.ndarray) -> np.ndarray:
        """Count the rows of positive weight in which each lab was measured, shape (n_labs,)."""
        used = np.repeat(weight > 0, self.n_measured)
        return np.bincount(self.lab[used], minlength=self.n_labs)

    def of_labs(self, kept: np.ndarray) -> "LabResults":
        """Return the cells of some labs, bool array (n_labs,), as if no other was measured."""
        cell = kept[self.lab]
        row_start = np.concatenate([[0], cell.cumsum(dtype=np.int64)])[self.row_start]
        return LabResults(row_start, self.lab[cell], self.value[cell], self.n_labs)

    def distinct(self, weight: np.ndarray | None) -> tuple["LabResults", np.ndarray]:
        """Return each distinct row that has a cell once, with the sum of its weights.

        Parameters
        ----------
        weight : array of shape (n_rows,) or None
            Weight of each row; a row of weight zero is left out. None means 1 each.
        """
        weight = np.ones(len(self)) if weight is None else weight
        used = np.flatnonzero((self.n_measured > 0) & (weight > 0))
        # adding 0.0 makes one zero of the two
        key = _row_hash(self.row_start, self.lab, (self.value + 0.0).view(np.uint64))[used]
        _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
        return self.take(used[first]), np.bincount(inverse, weight[used], minlength=len(first))


class LabCells:
    """Measured cells on the scales that the model works on.

    Parameters
    ----------
    row_start : int64 array of shape (n_rows + 1,)
        Where each row's cells begin.
    lab : int64 array of shape (n_cells,)
        Column of each cell.
    value : float array of shape (n_cells,)
        Standardised value of each cell.
    score : float array of shape (n_cells,)
        Normal score of each cell.
    """

    def __init__(
        self, row_start: np.ndarray, lab: np.ndarray, value: np.ndarray, score: np.ndarray
    ):
        self.row_start = row_start
        self.lab = lab
        self.value = value
        self.score = score

    def __len__(self) -> int:
        return len(self.row_start) - 1

    @property
    def n_measured(self) -> np.ndarray:
        """Number of measured cells in each row, shape (n_rows,)."""
        return np.diff(self.row_start)

    def take(self, rows: np.ndarray) -> "LabCells":
        """Return some rows, in the order asked for."""
        cell, row_start = _cells_of(self.row_start, rows)
        return LabCells(row_start, self.lab[cell], self.value[cell], self.score[cell])

    def fixed_order(self) -> np.ndarray:
        """Order of the rows that looks random and depends on what they hold alone.

        Training in this order does not depend on the order in which rows are given, nor, as
        values are standardised, on the labs' units.
        """
        rounded = np.rint(self.value * 1e6).astype(np.int64).view(np.uint64)
        return np.argsort(_row_hash(self.row_start, self.lab, rounded), kind="stable")

    def batch(self, rows: np.ndarray, dtype: torch.dtype, device: torch.device) -> LabBatch:
        """Pack the cells of some rows into one padded batch."""
        count = self.n_measured[rows]
        width = int(count.max()) if len(count) else 0
        measured = np.arange(width)[None] < count[:, None]
        cell, _ = _cells_of(self.row_start, rows)
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


def _cells_of(row_start: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the cells of some rows, and where each row begins among them."""
    count = np.diff(row_start)[rows]
    new_start = np.concatenate([[0], count.cumsum()])
    within = np.arange(new_start[-1]) - np.repeat(new_start[:-1], count)
    return np.repeat(row_start[rows], count) + within, new_start


def _row_hash(row_start: np.ndarray, lab: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Hash each row's cells to 64 bits, uint64 array of shape (n_rows,).

    Two of a million different rows meet with a chance of one in ten million.
    """
    cell = _mix(value + _mix(lab.astype(np.uint64)))
    total = np.concatenate([np.zeros(1, dtype=np.uint64), cell.cumsum(dtype=np.uint64)])
    return _mix(total[row_start[1:]] - total[row_start[:-1]])


def _mix(x: np.ndarray) -> np.ndarray:
    """Scramble 64-bit integers so that each bit depends on all (splitmix64, Steele et al. 2014)."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
