"""BoostedLabEncoder: what boosted trees say of raw labs, as a short vector without a leak."""

from numbers import Integral

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.special import logit
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin, clone
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import GroupKFold, KFold, StratifiedKFold, check_cv
from sklearn.utils import check_consistent_length, check_random_state
from sklearn.utils._param_validation import HasMethods, StrOptions
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    _check_sample_weight,
    check_is_fitted,
    column_or_1d,
    has_fit_parameter,
)

from .._doc_link import DocLinkMixin
from .._private_errors import no_values_in_errors
from .._state import VersionedStateMixin
from .._training import draw_seed
from ._lab_input import validate_labs

# how near to 0 and 1 a probability may come: leaves of few rows are sure of more than they know
_MARGIN = 1e-4


class BoostedLabEncoder(
    DocLinkMixin,
    VersionedStateMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    BaseEstimator,
):
    """Embed lab results by the logits that classifiers, boosted trees by default, give the labels.

    Trees see sharp limits of single labs, which the vector of `MaskedLabEncoder` smooths away.
    The logits make a modality of their own, as in `make_medfuse_pipeline(boosted_labs=True)`.

    A classifier knows the rows it was fitted on better than new ones. `fit_transform` therefore
    gives each row the logits of classifiers that were fitted without it (cross-fitting), and
    `transform` those of classifiers fitted on all rows: `fit(X, y).transform(X)` is not
    ``fit_transform(X, y)``, and not what to train the next step on.

    Parameters
    ----------
    estimator : classifier or None, default=None
        Has `predict_proba` and takes NaN where labs have gaps; one is fitted per label. None means
        HistGradientBoostingClassifier with 100 trees of four leaves and a learning rate of 0.03.
    cv : int, splitter or iterable, default=5
        Folds of `fit_transform`; each row must be held out exactly once. A number gives shuffled
        folds that keep `groups` together, or else stratify classes.
    absent : {"nan", "zero"}, default="nan"
        What a row without any measured lab becomes: NaN, which `MEDFuseClassifier` reads as
        absent, or zeros.
    random_state : int, RandomState instance or None, default=None
        Seeds the folds, and the classifiers where `estimator` has no seed of its own.

    Attributes
    ----------
    estimators_ : list of (classifier or None)
        The classifier of each label, or of all classes; None where a label had one value only.
    classes_ : ndarray of shape (n_classes,)
        The classes; 0 and 1 for a matrix of labels.
    levels_ : list of (list of str, or None)
        Levels of each qualitative lab from low to high, None for a numeric one.
    n_features_in_ : int
        Number of lab columns.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Their names; only when X had string column names.

    See Also
    --------
    MaskedLabEncoder : Embeds labs without looking at labels.
    sklearn.preprocessing.TargetEncoder : Cross-fits likewise.

    Notes
    -----
    Cross-fitted predictions as inputs are stacking [1]_. Probabilities are kept 0.0001 away from
    0 and 1. The fitted encoder holds classifiers, whose limits are values of labs; skops asks
    whether to trust the type of their trees.

    References
    ----------
    .. [1] Wolpert, "Stacked generalization", Neural Networks 5, 1992.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_medfuse import BoostedLabEncoder
    >>> X = np.random.default_rng(0).normal(size=(60, 4))
    >>> y = (X[:, :2] > 0.5).astype(int)
    >>> encoder = BoostedLabEncoder(random_state=0)
    >>> encoder.fit_transform(X, y).shape
    (60, 2)
    """

    _parameter_constraints: dict = {
        "estimator": [HasMethods(["fit", "predict_proba"]), None],
        "cv": ["cv_object"],
        "absent": [StrOptions({"nan", "zero"})],
        "random_state": ["random_state"],
    }

    def __init__(self, estimator=None, *, cv=5, absent="nan", random_state=None):
        self.estimator = estimator
        self.cv = cv
        self.absent = absent
        self.random_state = random_state

    def fit(self, X, y, sample_weight=None, groups=None):
        """Fit the classifiers on all rows.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_labs)
            Lab results; NaN means not measured.
        y : array-like of shape (n_rows,) or (n_rows, n_labels)
            Classes, or a 0/1 matrix of labels in which NaN says that a label is not known.
        sample_weight : array-like of shape (n_rows,) or None, default=None
            Weights of rows; those of zero are left out.
        groups : array-like of shape (n_rows,) or None, default=None
            Ignored; `fit_transform` reads it.

        Returns
        -------
        BoostedLabEncoder
            The fitted encoder.
        """
        self._fit_all(X, y, sample_weight)
        return self

    def fit_transform(self, X, y, sample_weight=None, groups=None):
        """Fit, and give each row the logits of classifiers fitted without it.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_labs)
            Lab results; NaN means not measured.
        y : array-like of shape (n_rows,) or (n_rows, n_labels)
            Classes, or a 0/1 matrix of labels in which NaN says that a label is not known.
        sample_weight : array-like of shape (n_rows,) or None, default=None
            Weights of rows; those of zero are not learned from.
        groups : array-like of shape (n_rows,) or None, default=None
            Patient of each row, for `cv`. In a Pipeline it comes by metadata routing,
            ``set_fit_request(groups=True)``, and so do weights.

        Returns
        -------
        ndarray of shape (n_rows, n_outputs)
            A logit per label or for the second of two classes; log-probabilities of several.

        Raises
        ------
        ValueError
            If `cv` does not hold out each row exactly once.
        """
        values, y, weight, seed = self._fit_all(X, y, sample_weight)
        if groups is not None:
            check_consistent_length(values, groups)
        logits = np.zeros((len(values), self._n_features_out))
        for kept, left in self._folds(values, y, groups, seed):
            self._check_some(weight[kept])
            estimators, usual = self._fit_outputs(values[kept], y[kept], weight[kept], seed)
            logits[left] = self._logits(values[left], estimators, usual)
        return self._without_absent(values, logits)

    def transform(self, X):
        """Give the logits of the classifiers fitted on all rows.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_labs)
            Lab results in the columns of fit; NaN means not measured.

        Returns
        -------
        ndarray of shape (n_rows, n_outputs)
            A logit per label or for the second of two classes; log-probabilities of several.
        """
        check_is_fitted(self)
        values = self._validate_labs(X, self.levels_)[0]
        logits = self._logits(values, self.estimators_, self._usual)
        return self._without_absent(values, logits)

    def _fit_all(self, X, y, sample_weight):
        """Fit on all rows; return numbers, float labels or class numbers, weights and a seed."""
        self._validate_params()
        values, self.levels_ = self._validate_labs(X)
        y = self._encode(y)
        check_consistent_length(values, y)
        with no_values_in_errors():
            weight = _check_sample_weight(sample_weight, values, ensure_non_negative=True)
        self._check_some(weight)
        seed = draw_seed(check_random_state(self.random_state))
        self.estimators_, self._usual = self._fit_outputs(values, y, weight, seed)
        return values, y, weight, seed

    def _validate_labs(self, X, levels=None):
        if sparse.issparse(X):
            raise TypeError(
                "Sparse data was passed for X, but BoostedLabEncoder needs dense data; use "
                "X.toarray() or a DataFrame."
            )
        return validate_labs(self, X, levels)

    def _encode(self, y) -> np.ndarray:
        """Float labels with NaN, (n_rows, n_labels), or class numbers (n_rows,)."""
        if y is None:
            raise ValueError("BoostedLabEncoder requires y to be passed, but the target y is None.")
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

    def _folds(self, values, y, groups, seed):
        n_rows = len(values)
        if not isinstance(self.cv, Integral):
            target = np.nan_to_num(y)
            folds = list(check_cv(self.cv, target, classifier=True).split(values, target, groups))
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
            return GroupKFold(n_splits, **options).split(values, y, groups)
        if n_rows < 2:
            raise ValueError("X has 1 sample, and cross-fitting needs two rows or more.")
        if y.ndim == 1 and np.bincount(y).min() >= n_splits:
            return StratifiedKFold(n_splits, **options).split(values, y)
        return KFold(min(n_splits, n_rows), **options).split(values)

    def _fit_outputs(self, values, y, weight, seed):
        """Fit a classifier per label, or one of all classes, and the logits without any."""
        if y.ndim == 1:
            fitted = self._fit_one(values, y, weight, seed)
            share = np.bincount(y, weight, minlength=len(self.classes_)) + 1
            share = share / share.sum()
            several = len(self.classes_) > 2
            return [fitted], np.log(share) if several else logit(share[-1:] * (len(share) > 1))
        estimators, usual = [], []
        for label in y.T:
            known = (weight > 0) & ~np.isnan(label)
            estimators.append(
                self._fit_one(values[known], label[known].astype(int), weight[known], seed)
            )
            ill = weight[known] @ label[known]
            usual.append(logit((ill + 1) / (weight[known].sum() + 2)))
        return estimators, np.array(usual)

    def _fit_one(self, values, y, weight, seed):
        """Fit on the rows that count; None where they have one value only."""
        counted = weight > 0
        if len(np.unique(y[counted])) < 2:
            return None
        estimator = self._unfitted(seed)
        options = {}
        if not (weight == 1).all():
            if not has_fit_parameter(estimator, "sample_weight"):
                raise TypeError(
                    f"estimator={type(estimator).__name__} takes no sample_weight; leave it out, "
                    "or give an estimator that does."
                )
            options["sample_weight"] = weight[counted]
        return estimator.fit(values[counted], y[counted], **options)

    def _unfitted(self, seed):
        if self.estimator is None:
            return HistGradientBoostingClassifier(
                learning_rate=0.03, max_leaf_nodes=4, max_iter=100, random_state=seed
            )
        estimator = clone(self.estimator)
        if estimator.get_params(deep=False).get("random_state", seed) is None:
            estimator.set_params(random_state=seed)
        return estimator

    def _logits(self, values, estimators, usual) -> np.ndarray:
        """Logits (n_rows, n_outputs)."""
        logits = np.tile(usual, (len(values), 1))
        several = len(self.classes_) > 2
        for output, estimator in enumerate(estimators):
            if estimator is None:
                continue
            found = estimator.predict_proba(values)
            if several:
                # a class that the fold lacks keeps its usual share
                logits[:, estimator.classes_] = np.log(found.clip(_MARGIN, 1))
            else:
                logits[:, output] = logit(found[:, 1].clip(_MARGIN, 1 - _MARGIN))
        return logits

    def _without_absent(self, values, logits) -> np.ndarray:
        nothing = np.nan if self.absent == "nan" else 0.0
        return np.where(np.isnan(values).all(axis=1)[:, None], nothing, logits)

    @property
    def _n_features_out(self) -> int:
        return len(self._usual)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.target_tags.multi_output = True
        tags.input_tags.allow_nan = True
        return tags
