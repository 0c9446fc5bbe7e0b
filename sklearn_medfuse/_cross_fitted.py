"""Cross-fitting: embed rows by logits of classifiers that have not seen them."""

from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import logit
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.model_selection import GroupKFold, KFold, StratifiedKFold, check_cv
from sklearn.utils import check_consistent_length, check_random_state
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    _check_sample_weight,
    check_is_fitted,
    column_or_1d,
    has_fit_parameter,
)
from threadpoolctl import threadpool_limits

from ._input_data import no_values_in_errors, to_pandas
from ._training import Announcement, draw_seed, progress_bar

# Minimum distance of a probability from 0 and 1: leaves with few rows are too certain
_MARGIN = 1e-4
# From here on threads save more than they cost
_MANY_ROWS = 50_000


class CrossFittedEncoder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Embed rows by the logits of one classifier per label, or of one for all classes.

    A subclass has the parameters `cv`, `absent`, `random_state` and `verbose`, reads X in `_read`,
    and makes its classifier in `_classifier` or fits it in `_fit_classifier`. Rows are an array or
    a CSR matrix.
    """

    # Requested by default under metadata routing, as by scikit-learn's group splitters
    __metadata_request__fit = {"groups": True}

    cv: Any
    absent: str
    random_state: Any
    verbose: int

    _parameter_constraints: dict = {
        "cv": ["cv_object"],
        "absent": [StrOptions({"nan", "zero"})],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    _one_vs_rest = False  # Whether each of several classes is a label
    _learns_absent = True  # Whether a row without the modality teaches how frequent a label is

    def fit(self, X, y, sample_weight=None, groups=None):
        """Fit the classifiers on all rows.

        Parameters
        ----------
        X : array-like, Series or DataFrame with n_rows rows
            Lab results (NaN means not measured) or notes (None, NaN and blank mean no note).
        y : array-like of shape (n_rows,) or (n_rows, n_labels)
            Classes, or a 0/1 matrix of labels in which NaN means that a label is not known.
        sample_weight : array-like of shape (n_rows,) or None, default=None
            Weight of each row; rows of weight zero are left out.
        groups : array-like of shape (n_rows,) or None, default=None
            Ignored; `fit_transform` reads it.

        Returns
        -------
        object
            The fitted encoder.
        """
        rows, _, y, weight, seed = self._begin(X, y, sample_weight)
        with self._progress(1, y) as told:
            self._fitted = self._fit_columns(rows, y, weight, seed, told)
        return self

    def fit_transform(self, X, y, sample_weight=None, groups=None):
        """Fit, and give each row the logits of classifiers fitted without it.

        Parameters
        ----------
        X : array-like, Series or DataFrame with n_rows rows
            Lab results (NaN means not measured) or notes (None, NaN and blank mean no note).
        y : array-like of shape (n_rows,) or (n_rows, n_labels)
            Classes, or a 0/1 matrix of labels in which NaN means that a label is not known.
        sample_weight : array-like of shape (n_rows,) or None, default=None
            Weight of each row; rows of weight zero are not learned from.
        groups : array-like of shape (n_rows,) or None, default=None
            Patient of each row, whose rows the folds keep together.

        Returns
        -------
        ndarray of shape (n_rows, n_outputs)
            One logit per label, or for the second of two classes; one column per class for
            several.

        Raises
        ------
        ValueError
            If `cv` does not hold out each row exactly once.
        """
        rows, absent, y, weight, seed = self._begin(X, y, sample_weight)
        if groups is not None:
            check_consistent_length(rows, groups)
        folds = list(cross_fit_folds(self.cv, rows, y, groups, seed))
        with self._progress(1 + len(folds), y) as told:
            self._fitted = self._fit_columns(rows, y, weight, seed, told)
            logits = np.zeros((len(absent), self._n_features_out))
            for kept, left in folds:
                fitted = self._fit_columns(rows[kept], y[kept], weight[kept], seed, told)
                logits[left] = self._predict(rows[left], fitted)
        return self._without_absent(logits, absent)

    def transform(self, X):
        """Give the logits of the classifiers fitted on all rows.

        Parameters
        ----------
        X : array-like, Series or DataFrame with n_rows rows
            Lab results or notes in the columns of fit.

        Returns
        -------
        ndarray of shape (n_rows, n_outputs)
            As from `fit_transform`; for a row without results or a note, NaN or zeros, as set by
            `absent`.
        """
        check_is_fitted(self)
        rows, absent = self._read(X, first=False)
        return self._without_absent(self._predict(self._choose(rows), self._fitted), absent)

    # Steps of fit, in the order in which they are called

    def _begin(self, X, y, sample_weight):
        """Check X and y; return rows, which are absent, encoded y, weights and a seed."""
        self._validate_params()
        rows, absent = self._read(X, first=True)
        y = self._encode(y)
        check_consistent_length(absent, y)
        with no_values_in_errors():
            weight = _check_sample_weight(sample_weight, absent, ensure_non_negative=True)
        if not self._learns_absent:
            weight = np.where(absent, 0.0, weight)
        _refuse_no_weight(weight)
        rows = self._choose(rows, weight)
        return rows, absent, y, weight, draw_seed(check_random_state(self.random_state))

    @abstractmethod
    def _read(self, X, first: bool) -> tuple[Any, np.ndarray]:
        """Check X, of fit if `first`; return its rows and which of them hold nothing."""

    def _encode(self, y) -> np.ndarray:
        """Class numbers (n_rows,), or float labels with NaN (n_rows, n_labels)."""
        if y is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None."
            )
        y = to_pandas(y)
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
            # The error quotes values of y; ours is raised outside its context
            are_labels = False
        if not are_labels:
            raise ValueError("y has several columns, which must hold only 0, 1 or NaN.")
        self.classes_ = np.array([0, 1])
        return labels

    def _choose(self, rows, weight=None):
        """Make the classifiers' features; `weight` is that of the rows of fit."""
        return rows

    @contextmanager
    def _progress(self, n_fits: int, y) -> Iterator[Callable[[], None]]:
        """Yield a function to call after each classifier's fit; it moves the progress bar."""
        n_classifiers = n_fits * len(self._targets(y)[0])
        name = type(self).__name__
        with progress_bar(n_classifiers, name, "classifier", self.verbose) as bar:
            announcement = Announcement(bar)
            announcement.begin(f"{name}: {n_classifiers} classifiers on up to {len(y):,} rows")

            def told() -> None:
                bar.update()
                announcement.update(bar.n / n_classifiers)

            yield told

    def _targets(self, y) -> tuple[np.ndarray, int]:
        """Targets (n_classifiers, n_rows), and how many classes each has."""
        n_classes = max(2, len(self.classes_))
        if y.ndim == 1 and self._one_vs_rest and n_classes > 2:
            return (np.arange(n_classes)[:, None] == y).astype(float), 2
        return y.reshape(len(y), -1).T, n_classes

    def _fit_columns(self, rows, y, weight, seed, told) -> list[tuple[Any, np.ndarray]]:
        """Fit a classifier per target; return each with the logits to give without it."""
        _refuse_no_weight(weight)
        targets, n_classes = self._targets(y)
        fitted = []
        for target in targets:
            known = (weight > 0) & ~np.isnan(target)
            target, counted = target[known].astype(int), weight[known]
            if n_classes > 2:
                share = np.bincount(target, counted, minlength=n_classes) + 1
                usual = np.log(share / share.sum())
            else:
                usual = logit([(counted @ target + 1) / (counted.sum() + 2)])
            # No classifier learns from a label that has only one value
            classifier = None
            if len(np.unique(target)) > 1:
                classifier = self._fit_classifier(rows[known], target, counted, seed)
            fitted.append((classifier, usual))
            told()
        return fitted

    def _fit_classifier(self, rows, target, weight, seed) -> Any:
        """Fit one classifier; `_fill_logits` takes what this returns."""
        classifier = self._classifier(seed)
        options = {}
        if not (weight == 1).all():
            if not has_fit_parameter(classifier, "sample_weight"):
                raise TypeError(
                    f"estimator={type(classifier).__name__} takes no sample_weight; leave it out, "
                    "or give an estimator that does."
                )
            options["sample_weight"] = weight
        with _few_threads(rows.shape[0]):
            return classifier.fit(rows, target, **options)

    def _classifier(self, seed) -> Any:
        """An unfitted classifier that has `predict_proba`."""
        raise NotImplementedError

    # Steps of transform

    def _predict(self, rows, fitted) -> np.ndarray:
        """Logits (n_rows, n_outputs)."""
        columns = []
        with _few_threads(rows.shape[0]):
            for classifier, usual in fitted:
                logits = np.tile(usual, (rows.shape[0], 1))
                if classifier is not None:
                    self._fill_logits(logits, classifier, rows)
                columns.append(logits)
        return np.hstack(columns)

    def _fill_logits(self, logits, classifier, rows) -> None:
        found = classifier.predict_proba(rows)
        if logits.shape[1] > 1:
            # A class that the fold lacks keeps its usual share
            logits[:, classifier.classes_] = np.log(found.clip(_MARGIN, 1))
        else:
            logits[:, 0] = logit(found[:, 1].clip(_MARGIN, 1 - _MARGIN))

    def _without_absent(self, logits, absent) -> np.ndarray:
        return np.where(absent[:, None], np.nan if self.absent == "nan" else 0.0, logits)

    @property
    def _n_features_out(self) -> int:
        return sum(len(usual) for _, usual in self._fitted)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.target_tags.multi_output = True
        return tags


def cross_fit_folds(cv, rows, y, groups, seed):
    """Folds that hold out each row once and split no group, from their number or a splitter."""
    n_rows = rows.shape[0]
    if not isinstance(cv, Integral):
        target = np.nan_to_num(y)
        folds = list(check_cv(cv, target, classifier=True).split(rows, target, groups))
        held_out = np.bincount(np.concatenate([left for _, left in folds]), minlength=n_rows)
        if (held_out != 1).any():
            raise ValueError(
                f"cv={type(cv).__name__} does not hold out each of the {n_rows} rows "
                "exactly once; give a splitter that does, such as KFold."
            )
        return folds
    n_splits = int(cv)
    options = {"shuffle": True, "random_state": seed}
    if groups is not None:
        n_splits = min(n_splits, len(np.unique(groups)))
        if n_splits < 2:
            raise ValueError("groups has only one group, and cv needs two; leave groups out.")
        return GroupKFold(n_splits, **options).split(rows, y, groups)
    if n_rows < 2:
        raise ValueError("X has 1 sample, and cross-fitting needs two rows or more.")
    if y.ndim == 1 and np.bincount(y).min() >= n_splits:
        return StratifiedKFold(n_splits, **options).split(rows, y)
    return KFold(min(n_splits, n_rows), **options).split(rows)


def _refuse_no_weight(weight: np.ndarray) -> None:
    if not (weight > 0).any():
        raise ValueError(
            "X and sample_weight leave no row to learn from; at least one row with content needs "
            "a weight above zero."
        )


def _few_threads(n_rows: int) -> threadpool_limits:
    """One OpenMP thread for few rows.

    Once torch has run, each of the many short parallel regions of boosting waits for the other
    threads, which took forty times as long on 800 rows.
    """
    return threadpool_limits(1 if n_rows < _MANY_ROWS else None, "openmp")
