"""Rows to learn from."""

from typing import NamedTuple

import numpy as np

from ._lab_cells import LabCells

# the linear part predicts a row by what the other folds have taught it
N_FOLDS = 5


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
