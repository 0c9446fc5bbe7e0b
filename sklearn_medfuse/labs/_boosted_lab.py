"""BoostedLabEncoder: what boosted trees say of raw labs, as a short vector without a leak."""

import numpy as np
from scipy import sparse
from scipy.special import logit
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin, clone
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.utils._param_validation import HasMethods
from sklearn.utils.validation import check_is_fitted, has_fit_parameter

from .._cross_fitted import CrossFittedLogitsMixin
from .._doc_link import DocLinkMixin
from .._state import VersionedStateMixin
from ._lab_input import validate_labs

# how near to 0 and 1 a probability may come: leaves of few rows are sure of more than they know
_MARGIN = 1e-4


class BoostedLabEncoder(
    CrossFittedLogitsMixin,
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
        **CrossFittedLogitsMixin._parameter_constraints,
        "estimator": [HasMethods(["fit", "predict_proba"]), None],
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
        return self._cross_fit(X, y, sample_weight, groups)

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
        return self._without_absent(_is_absent(values), logits)

    def _read_first(self, X):
        values, self.levels_ = self._validate_labs(X)
        return values, _is_absent(values)

    def _validate_labs(self, X, levels=None):
        if sparse.issparse(X):
            raise TypeError(
                "Sparse data was passed for X, but BoostedLabEncoder needs dense data; use "
                "X.toarray() or a DataFrame."
            )
        return validate_labs(self, X, levels)

    def _fit_outputs(self, values, y, weight, seed):
        """Fit a classifier per label, or one of all classes, and the logits without any."""
        if y.ndim == 2:
            return self._fit_labels(values, y, weight, seed)
        fitted = self._fit_label(values, y, weight, seed)
        # the second of one class has no case
        share = np.bincount(y, weight, minlength=max(2, len(self.classes_))) + 1
        share = share / share.sum()
        return [fitted], np.log(share) if len(share) > 2 else logit(share[1:])

    def _keep(self, estimators, usual):
        self.estimators_, self._usual = estimators, usual

    def _fit_label(self, values, y, weight, seed):
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

    @property
    def _n_features_out(self) -> int:
        return len(self._usual)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags


def _is_absent(values) -> np.ndarray:
    return np.isnan(values).all(axis=1)
