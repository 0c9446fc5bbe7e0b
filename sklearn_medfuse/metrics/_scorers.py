"""Scorers for several labels, by name."""

from ._brier_score import multilabel_brier_score
from ._calibration_error import expected_calibration_error
from ._inputs import AVERAGES
from ._log_loss import multilabel_log_loss
from ._multilabel_scorer import MultilabelScorer
from ._ranking import multilabel_auprc, multilabel_auroc

# name -> function, its parameters, and -1 where less of it is better
_SCORES = {
    **{
        f"{average}_{name}": (function, {"average": average}, 1)
        for name, function in (("auprc", multilabel_auprc), ("auroc", multilabel_auroc))
        for average in AVERAGES
    },
    "neg_expected_calibration_error": (expected_calibration_error, {}, -1),
    "neg_multilabel_brier_score": (multilabel_brier_score, {}, -1),
    "neg_multilabel_log_loss": (multilabel_log_loss, {}, -1),
}


def get_scorer_names():
    """List the scorers that `get_scorer` knows.

    Returns
    -------
    names : list of str
        Names, sorted.

    See Also
    --------
    get_scorer : The scorer of a name.

    Examples
    --------
    >>> from sklearn_medfuse.metrics import get_scorer_names
    >>> get_scorer_names()[:2]
    ['macro_auprc', 'macro_auroc']
    """
    return sorted(_SCORES)


def get_scorer(name, **params):
    """Make a scorer for several labels, for ``GridSearchCV(scoring=...)`` and its like.

    Parameters
    ----------
    name : str
        One of `get_scorer_names`. Those that start with ``neg_`` are the negative of a loss, so
        that more is better for all. ``macro_auroc`` and ``macro_auprc`` are means over the labels
        of which the fold holds both classes, and NaN if there is none; ``weighted_`` ones weigh
        the labels by their positives; ``micro_`` ones rank all pairs of row and label at once.

    **params : dict
        Further parameters of the score, as `n_bins` of `expected_calibration_error`, or the
        `average` of a loss.

    Returns
    -------
    scorer : callable
        ``scorer(estimator, X, y)`` gives a float. It asks the estimator for `predict_proba`. It
        takes `sample_weight`, and has `set_score_request` for metadata routing.

    Raises
    ------
    ValueError
        If there is no scorer of that name.

    See Also
    --------
    multilabel_log_loss : The loss of ``neg_multilabel_log_loss``.
    multilabel_brier_score : The loss of ``neg_multilabel_brier_score``.
    expected_calibration_error : The loss of ``neg_expected_calibration_error``.

    Notes
    -----
    scikit-learn's ``neg_log_loss`` and ``neg_brier_score`` take several labels for one-hot
    classes. Their log loss reads the probabilities of the positives alone, so a model that
    predicts every disease for everybody looks perfect; see the example. Their Brier score is the
    sum over labels, so it grows with their number.

    Two forms of probabilities that scikit-learn's scorers misread are read right: a matrix of two
    labels, as `MLPClassifier` and `MEDFuseClassifier` give it, which they take for a binary
    target; and the single column of a label that is constant in a training fold, as forests give
    it, which they take for the probability of 1 even where it is that of 0.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.neural_network import MLPClassifier
    >>> from sklearn_medfuse.metrics import get_scorer, multilabel_log_loss
    >>> X, y = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[1, 0, 1], [0, 1, 0]])
    >>> model = MLPClassifier(random_state=0, max_iter=5000).fit(X, y)
    >>> get_scorer("neg_multilabel_log_loss")(model, X, y) > -0.1
    True

    Everything for everybody, by scikit-learn and by us:

    >>> import warnings
    >>> from sklearn.metrics import log_loss
    >>> everything = np.full(y.shape, 0.99)
    >>> with warnings.catch_warnings(action="ignore"):  # that the rows do not add up to 1
    ...     print(round(log_loss(y, everything), 3))
    0.015
    >>> round(multilabel_log_loss(y, everything), 3)
    2.308
    """
    if name not in _SCORES:
        raise ValueError(f"`name` is {name!r}; pass one of {get_scorer_names()}.")
    function, own_params, sign = _SCORES[name]
    return MultilabelScorer(function, sign, own_params | params)
