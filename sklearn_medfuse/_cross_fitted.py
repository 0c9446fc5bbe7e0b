"""What encoders share that embed rows by logits of classifiers which have not seen them."""

from abc import abstractmethod
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import logit
from sklearn.model_selection import GroupKFold, KFold, StratifiedKFold, check_cv
from sklearn.utils import check_consistent_length, check_random_state
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, column_or_1d

from ._private_errors import no_values_in_errors
from ._training import draw_seed


class CrossFittedLogitsMixin:
    """Fit on all rows for new ones, and on the other folds for each row of fit.

    A subclass has the parameters `cv`, `absent` and `random_state`. `_read_first` reads X,
    `_fit_outputs` fits what `_logits` predicts with and `_keep` makes an attribute, and
    `_fit_label` fits one label for `_fit_labels`. Rows are an array or a CSR matrix.
    """

    cv: Any
    absent: str
    random_state: Any
    _validate_params: Any

    _parameter_constraints: dict = {
        "cv": ["cv_object"],
        "absent": [StrOptions({"nan", "zero"})],
        "random_state": ["random_state"],
    }

    def _cross_fit(self, X, y, sample_weight, groups) -> np.ndarray:
        """Fit on all rows; give each the logits of a fit without it."""
        rows, absent, y, weight, seed = self._fit_all(X, y, sample_weight)
        if groups is not None:
            check_consistent_length(rows, groups)
        logits = np.zeros((len(absent), self._n_features_out))
        for kept, left in self._folds(rows, y, groups, seed):
            self._check_some(weight[kept])
            fitted = self._fit_outputs(rows[kept], y[kept], weight[kept], seed)
            logits[left] = self._logits(rows[left], *fitted)
        return self._without_absent(absent, logits)

    def _fit_all(self, X, y, sample_weight):
        """Fit on all rows; return them, which are absent, encoded y, weights and a seed."""
        self._validate_params()
        values, absent = self._read_first(X)
        y = self._encode(y)
        check_consistent_length(absent, y)
        with no_values_in_errors():
            weight = _check_sample_weight(sample_weight, absent, ensure_non_negative=True)
        self._check_some(weight)
        rows, weight = self._learned_rows(values, absent, weight)
        seed = draw_seed(check_random_state(self.random_state))
        self._keep(*self._fit_outputs(rows, y, weight, seed))
        return rows, absent, y, weight, seed

    @abstractmethod
    def _read_first(self, X) -> tuple[Any, np.ndarray]:
        """Read X of fit and remember its columns; also say in which rows there is nothing."""

    def _encode(self, y) -> np.ndarray:
        """Float labels with NaN, (n_rows, n_labels), or class numbers (n_rows,)."""
        if y is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None."
            )
        y = y if isinstance(y, pd.DataFrame) else np.asarray(y)
        if y.ndim != 2 or y.shape[1] < 2:
            y = column_or_1d(y, warn=True)
            check_classification_targets(y)
            self.classes_, encoded = np.unique(y, return_inverse=True)
            return encoded
        try:
            numbers = pd.DataFrame(y).astype("Float64")
            labels = np.asarray(numbers.to_numpy(np.float64, na_value=np.nan))
            are_labels = bool(np.isin(labels[~np.isnan(labels)], (0, 1)).all())
        except (TypeError, ValueError):
            # which quotes what it found; told outside, so that it does not come along
            are_labels = False
        if not are_labels:
            raise ValueError("y has several columns, which must hold 0, 1 or NaN only.")
        self.classes_ = np.array([0, 1])
        return labels

    def _check_some(self, weight) -> None:
        if not (weight > 0).any():
            raise ValueError("sample_weight leaves no row to learn from; give some a weight.")

    def _learned_rows(self, values, absent, weight):
        """Make rows of what was read, and their weights."""
        return values, weight

    @abstractmethod
    def _fit_outputs(self, rows, y, weight, seed) -> tuple:
        """Fit all outputs; return what `_keep` and `_logits` take."""

    @abstractmethod
    def _keep(self, *fitted) -> None: ...

    def _fit_labels(self, rows, labels, weight, seed) -> tuple[list, np.ndarray]:
        """Fit each label on the rows where it is known; also give the logits without any fit."""
        fitted, usual = [], []
        for label in labels.T:
            known = (weight > 0) & ~np.isnan(label)
            target, counted = label[known].astype(int), weight[known]
            fitted.append(self._fit_label(rows[known], target, counted, seed))
            usual.append(logit((counted @ target + 1) / (counted.sum() + 2)))
        return fitted, np.array(usual)

    @abstractmethod
    def _fit_label(self, rows, y, weight, seed) -> Any:
        """Fit one label; None where it has one value only."""

    def _folds(self, rows, y, groups, seed):
        n_rows = rows.shape[0]
        if not isinstance(self.cv, Integral):
            target = np.nan_to_num(y)
            folds = list(check_cv(self.cv, target, classifier=True).split(rows, target, groups))
            held_out = np.bincount(np.concatenate([left for _, left in folds]), minlength=n_rows)
            if (held_out != 1).any():
                raise ValueError(
                    f"cv={type(self.cv).__name__} does not hold out each of the {n_rows} rows "
                    "exactly once; give a splitter that does, such as KFold."
                )
            return folds
        n_splits = int(self.cv)
        options = {"shuffle": True, "random_state": seed}
        if groups is not None:
            n_splits = min(n_splits, len(np.unique(groups)))
            if n_splits < 2:
                raise ValueError("groups has one group only, and cv needs two; leave groups out.")
            return GroupKFold(n_splits, **options).split(rows, y, groups)
        if n_rows < 2:
            raise ValueError("X has 1 sample, and cross-fitting needs two rows or more.")
        if y.ndim == 1 and np.bincount(y).min() >= n_splits:
            return StratifiedKFold(n_splits, **options).split(rows, y)
        return KFold(min(n_splits, n_rows), **options).split(rows)

    @abstractmethod
    def _logits(self, rows, *fitted) -> np.ndarray:
        """Logits (n_rows, n_outputs)."""

    def _without_absent(self, absent, logits) -> np.ndarray:
        nothing = np.nan if self.absent == "nan" else 0.0
        return np.where(absent[:, None], nothing, logits)

    @property
    @abstractmethod
    def _n_features_out(self) -> int: ...

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()  # type: ignore[misc]  # BaseEstimator's
        tags.target_tags.required = True
        tags.target_tags.multi_output = True
        return tags
