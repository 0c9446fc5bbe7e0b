"""The rows to train on, with all that belongs to them; splits that keep patients together."""

from typing import NamedTuple

import numpy as np
import torch
from sklearn.model_selection import (
    GroupKFold,
    GroupShuffleSplit,
    KFold,
    ShuffleSplit,
    StratifiedKFold,
    StratifiedShuffleSplit,
)
from sklearn.utils import check_consistent_length
from sklearn.utils.validation import _check_sample_weight
from skorch.dataset import Dataset

from .._private_errors import no_values_in_errors
from ._modalities import BlockScaler
from ._targets import Targets
from ._weights import cell_weights

_MIN_VALIDATION_ROWS = 10


class TrainingRows(NamedTuple):
    """Inputs, targets, weights and patients of the same rows.

    Attributes
    ----------
    X : float array of shape (n, n_features)
        Vectors of all modalities side by side.
    y : array of shape (n, n_outputs), or (n,) of class numbers
        Encoded targets.
    row_weight : float array of shape (n,)
        Weights of rows, 1 on average.
    cell_weight : float array of shape (n, 1) or (n, n_outputs)
        Weights in the prediction loss.
    groups : array of shape (n,) or None
        Patients.
    unit : float
        Weight as given that one row has on average: how much evidence the rows are.
    """

    X: np.ndarray
    y: np.ndarray
    row_weight: np.ndarray
    cell_weight: np.ndarray
    groups: np.ndarray | None
    unit: float

    @classmethod
    def counted(
        cls, X, y, observed, targets: Targets, sample_weight, class_weight, groups
    ) -> "TrainingRows":
        """The rows of positive weight; `observed` says which labels are known, None all."""
        with no_values_in_errors():
            if groups is not None:
                check_consistent_length(X, groups)
            weight = _check_sample_weight(sample_weight, X, ensure_non_negative=True)
        rows = weight > 0
        # Scikit-learn before 1.9 accepts this.
        if not rows.any():
            raise ValueError("sample_weight is zero in every row; give some row a weight.")
        unit = float(weight[rows].mean())
        weight = weight[rows] / unit
        observed = None if observed is None else observed[rows]
        cells = cell_weights(targets, y[rows], observed, weight, class_weight)
        groups = None if groups is None else np.asarray(groups)[rows]
        return cls(X[rows], y[rows], weight, cells, groups, unit)

    def take(self, rows) -> "TrainingRows":
        """Some of the rows."""
        X, y, row_weight, cell_weight, groups, unit = self
        groups = None if groups is None else groups[rows]
        return TrainingRows(X[rows], y[rows], row_weight[rows], cell_weight[rows], groups, unit)

    def split(self, fraction: float, rng) -> tuple[np.ndarray, np.ndarray] | None:
        """Positions to train on and to hold out; None where too few would be held out."""
        n_held_out = round(fraction * len(self.X))
        if n_held_out < _MIN_VALIDATION_ROWS:
            return None
        options = {"test_size": fraction, "random_state": rng}
        splitter: ShuffleSplit | GroupShuffleSplit | StratifiedShuffleSplit
        if self._n_groups() > 1:
            splitter = GroupShuffleSplit(1, **options)
        elif self._smallest_class() > 1 and n_held_out >= len(np.bincount(self.y)):
            splitter = StratifiedShuffleSplit(1, **options)
        else:
            splitter = ShuffleSplit(1, **options)
        return next(splitter.split(self.X, self.y, self.groups))

    def folds(self, n_folds: int, rng) -> list[tuple[np.ndarray, np.ndarray]]:
        """Folds that hold out every row once."""
        splitter: KFold | GroupKFold | StratifiedKFold
        if self._n_groups() > 1:
            n_folds = min(n_folds, self._n_groups())
            splitter = GroupKFold(n_folds, shuffle=True, random_state=rng)
        elif self._smallest_class() >= n_folds:
            splitter = StratifiedKFold(n_folds, shuffle=True, random_state=rng)
        else:
            splitter = KFold(min(n_folds, len(self.X)), shuffle=True, random_state=rng)
        return list(splitter.split(self.X, self.y, self.groups))

    def to_dataset(self, scaler: BlockScaler, dtype: torch.dtype) -> Dataset:
        """Tensors as the net takes them, a block per modality."""
        blocks, present = scaler.blocks(self.X)
        tensors = {
            f"block of {name}": torch.from_numpy(block).to(dtype)
            for name, block in zip(scaler.columns, blocks, strict=True)
        }
        tensors["present"] = torch.from_numpy(present)
        tensors["row_weight"] = torch.from_numpy(self.row_weight).to(dtype)
        tensors["cell_weight"] = torch.from_numpy(self.cell_weight).to(dtype)
        target = torch.from_numpy(self.y)
        return Dataset(tensors, target if target.dtype == torch.int64 else target.to(dtype))

    def _n_groups(self) -> int:
        return 0 if self.groups is None else len(np.unique(self.groups))

    def _smallest_class(self) -> int:
        """Rows of the smallest of several classes; 0 for labels, which nothing stratifies."""
        return int(np.bincount(self.y).min()) if self.y.ndim == 1 else 0
