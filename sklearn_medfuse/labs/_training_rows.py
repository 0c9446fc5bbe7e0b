"""Rows to learn from."""

from typing import NamedTuple

import numpy as np

from ._lab_cells import LabCells

# the linear part predicts a row by what the other folds have taught it
N_FOLDS = 5
# a score of fewer rows says nothing
_MIN_VALIDATION_ROWS = 10


class TrainingRows(NamedTuple):
    """Distinct rows in random order.

    Attributes
    ----------
    cells : LabCells
        Their measured cells.
    weight : array of shape (n_rows,)
        How often each row counts.
    version : int64 array of shape (n_rows,)
        Version of the linear part by which each row is predicted: the row's fold.
    """

    cells: LabCells
    weight: np.ndarray
    version: np.ndarray


def training_rows(cells: LabCells, weight: np.ndarray) -> TrainingRows:
    """Put rows into folds."""
    return TrainingRows(cells, weight, np.arange(len(cells)) % N_FOLDS)


def split_rows(
    cells: LabCells, weight: np.ndarray, held_out: float, seed: int
) -> tuple[TrainingRows, LabCells | None]:
    """Return the rows to learn from, and a share to validate on or None where that is too few."""
    n_validation = round(held_out * len(cells))
    if n_validation < _MIN_VALIDATION_ROWS:
        return training_rows(cells, weight), None
    order = np.random.default_rng(seed).permutation(len(cells))
    train = np.sort(order[n_validation:])
    return (
        training_rows(cells.take(train), weight[train]),
        cells.take(np.sort(order[:n_validation])),
    )
