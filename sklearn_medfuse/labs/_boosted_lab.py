"""BoostedLabEncoder: logits of boosted trees on raw labs, as a short vector without leakage."""

import numpy as np
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.utils._param_validation import HasMethods

from .._cross_fitted import CrossFittedEncoder
from .._state import VersionedStateMixin
from ._lab_cells import FEWEST_ROWS
from ._lab_table import Levels, validate_dense_labs


class BoostedLabEncoder(VersionedStateMixin, CrossFittedEncoder):
    """Embed lab results by the logits of one classifier per label, by default boosted trees.

    Trees see sharp thresholds of single labs, which the vector of `MaskedLabEncoder` smooths away.
    The logits are a modality of their own, as in `make_medfuse_pipeline(views={"boosted": True})`.

    A classifier predicts the rows it was fitted on better than new ones. `fit_transform`
    therefore gives each row the logits of classifiers fitted without it (cross-fitting), and
    `transform` those of classifiers fitted on all rows. The next step must be trained on the
    former, not on ``fit(X, y).transform(X)``.

    Parameters
    ----------
    estimator : classifier or None, default=None
        Any classifier with `predict_proba` that takes NaN; one is fitted per label. None means
        HistGradientBoostingClassifier with 100 trees of four leaves and a learning rate of 0.03.
    cv : int, splitter or iterable, default=5
        Folds of `fit_transform`, which hold out each row exactly once. A number gives shuffled
        folds that keep `groups` together, or else stratify classes.
    absent : {"nan", "zero"}, default="nan"
        Output for a row without any measured lab: NaN, which `MEDFuseClassifier` reads as
        absent, or zeros.
    levels : dict or None, default=None
        Results of qualitative labs from low to high by column, as of `MaskedLabEncoder`.
    random_state : int, RandomState instance or None, default=None
        Seeds the folds, and the classifiers where `estimator` has no seed of its own.
    verbose : int, default=0
        1 shows a progress bar, and before long work a line with the estimated time.

    Attributes
    ----------
    estimators_ : list of (classifier or None)
        The classifier of each label, or of all classes, on the labs measured in at least five rows
        of its fit; None if a label had only one value or there is no such lab.
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
    sklearn.preprocessing.TargetEncoder : Cross-fits in the same way.

    Notes
    -----
    A lab measured in fewer than five rows of a fit is ignored there, as in `MaskedLabEncoder`. A
    row of weight 2 is not the same as the row given twice: folds are drawn by rows, and the default
    classifier counts rows, not weights, in its smallest leaf, so it fails scikit-learn's check of
    that equivalence. With a classifier that passes, this encoder passes too.

    Cross-fitted predictions as inputs are stacking [1]_. With several classes the logits are
    log-probabilities. Probabilities are kept 0.0001 away from 0 and 1. The fitted encoder holds
    classifiers whose thresholds are lab values; skops asks whether to trust the type of their
    trees.

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

    levels_: list[Levels]

    _parameter_constraints: dict = {
        **CrossFittedEncoder._parameter_constraints,
        "estimator": [HasMethods(["fit", "predict_proba"]), None],
        "levels": [dict, None],
    }

    def __init__(
        self, estimator=None, *, cv=5, absent="nan", levels=None, random_state=None, verbose=0
    ):
        self.estimator = estimator
        self.cv = cv
        self.absent = absent
        self.levels = levels
        self.random_state = random_state
        self.verbose = verbose

    # The reference only shows a class's own methods
    fit = CrossFittedEncoder.fit
    fit_transform = CrossFittedEncoder.fit_transform
    transform = CrossFittedEncoder.transform

    @property
    def estimators_(self) -> list:
        """The classifier of each label, or of all classes."""
        return [None if fitted is None else fitted[0] for fitted, _ in self._fitted]

    def _read(self, X, first):
        values, levels = validate_dense_labs(self, X, None if first else self.levels_)
        if first:
            self.levels_ = levels
        return values, np.isnan(values).all(axis=1)

    def _fit_classifier(self, rows, target, weight, seed):
        labs = (~np.isnan(rows)).sum(axis=0) >= FEWEST_ROWS
        if not labs.any():
            return None
        return super()._fit_classifier(rows[:, labs], target, weight, seed), labs

    def _fill_logits(self, logits, fitted, rows):
        classifier, labs = fitted
        super()._fill_logits(logits, classifier, rows[:, labs])

    def _classifier(self, seed):
        if self.estimator is None:
            return HistGradientBoostingClassifier(
                learning_rate=0.03, max_leaf_nodes=4, max_iter=100, random_state=seed
            )
        estimator = clone(self.estimator)
        if estimator.get_params(deep=False).get("random_state", seed) is None:
            estimator.set_params(random_state=seed)
        return estimator

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags
