"""Scorers for several labels, by name."""

from collections.abc import Callable
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.utils.metadata_routing import MetadataRequest

from .._input_data import no_values_in_errors
from ._calibration import expected_calibration_error
from ._inputs import (
    AVERAGES,
    Labels,
    as_floats,
    check_labels,
    check_sample_weight,
    check_scores,
)
from ._losses import multilabel_brier_score, multilabel_log_loss
from ._scores import weighted_auprc, weighted_auroc, with_averages


def multilabel_auroc(y_true, y_score, *, average, sample_weight=None):
    return _rank(weighted_auroc, y_true, y_score, average, sample_weight)


def multilabel_auprc(y_true, y_score, *, average, sample_weight=None):
    return _rank(weighted_auprc, y_true, y_score, average, sample_weight)


def _rank(score, y_true, y_score, average, sample_weight):
    """Average over the labels with both classes; NaN where no label has both."""
    labels, _ = check_labels(y_true, missing=True)
    scores = check_scores(y_score, labels, labels=y_true)
    weights = check_sample_weight(sample_weight, len(labels))
    return float(with_averages(score, labels, scores, weights[:, None], [average])[0, -1])


# Name -> function, its parameters, and -1 where less of it is better
_SCORES: dict[str, tuple[Callable[..., Any], dict[str, Any], int]] = {
    **{
        f"{average}_{name}": (function, {"average": average}, 1)
        for name, function in (("auprc", multilabel_auprc), ("auroc", multilabel_auroc))
        for average in AVERAGES
    },
    "neg_expected_calibration_error": (expected_calibration_error, {}, -1),
    "neg_multilabel_brier_score": (multilabel_brier_score, {}, -1),
    "neg_multilabel_log_loss": (multilabel_log_loss, {}, -1),
}


def get_scorer_names() -> list[str]:
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


def get_scorer(name: str, **params: Any) -> "MultilabelScorer":
    """Make a scorer for several labels, for ``GridSearchCV(scoring=...)`` and similar.

    Parameters
    ----------
    name : str
        One of `get_scorer_names`. Names with ``neg_`` are negatives of losses, so that higher
        is always better. ``macro_`` is the mean over the labels that have both classes in the fold,
        NaN if there is none; ``weighted_`` weights these labels by their positives; ``micro_``
        ranks all pairs of row and label at once.
    **params : dict
        Further parameters of the score, such as `n_bins` of `expected_calibration_error` or the
        `average` of a loss.

    Returns
    -------
    scorer : callable
        ``scorer(estimator, X, y)`` returns a float. It calls the estimator's `predict_proba`,
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
    scikit-learn's ``neg_log_loss`` and ``neg_brier_score`` treat several labels as one-hot
    classes. Their log loss reads the probabilities of the positives only, so a model that
    predicts every disease for everybody looks perfect; see the example. Their Brier score is the
    sum over labels, so it grows with their number.

    Two forms of probabilities that scikit-learn's scorers misread are read correctly: the matrix
    of two labels that `MLPClassifier` and `MEDFuseClassifier` return, which they read as a binary
    target; and the single column that forests return for a label that is constant in a training
    fold, which they read as the probability of 1 even where it is that of 0.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.neural_network import MLPClassifier
    >>> from sklearn_medfuse.metrics import get_scorer, multilabel_log_loss
    >>> X, y = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[1, 0, 1], [0, 1, 0]])
    >>> model = MLPClassifier(random_state=0, max_iter=5000).fit(X, y)
    >>> get_scorer("neg_multilabel_log_loss")(model, X, y) > -0.1
    True

    Everything for everybody, scored by scikit-learn and by this package:

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


class MultilabelScorer:
    """Score an estimator's probabilities, as ``scorer(estimator, X, y)``.

    It replaces :func:`sklearn.metrics.make_scorer`, which misreads two forms of `predict_proba`;
    see the notes of `get_scorer`. `sign` is -1 where lower is better.
    """

    def __init__(self, score_func: Callable[..., Any], sign: int, params: dict[str, Any]) -> None:
        self.score_func = score_func
        self.sign = sign
        self.params = params
        self.set_score_request(sample_weight=None)

    def __call__(
        self, estimator: Any, X: Any, y_true: Labels, *, sample_weight: npt.ArrayLike | None = None
    ) -> float:
        """Return the score; higher is better."""
        y_prob = predict_positive(estimator, X)
        score = self.score_func(y_true, y_prob, sample_weight=sample_weight, **self.params)
        return self.sign * score

    def __repr__(self) -> str:
        """Name the function and its parameters."""
        params = "".join(f", {name}={value!r}" for name, value in self.params.items())
        sign = "" if self.sign > 0 else "-"
        return f"{type(self).__name__}({sign}{self.score_func.__name__}{params})"

    def set_score_request(self, *, sample_weight: bool | str | None) -> Self:
        """Request `sample_weight`, as in scikit-learn's scorers."""
        self._request = MetadataRequest(owner=type(self).__name__)
        self._request.score.add_request(param="sample_weight", alias=sample_weight)
        return self

    def get_metadata_routing(self) -> MetadataRequest:
        """Return the requests, for scikit-learn."""
        return self._request

    def _accept_sample_weight(self) -> bool:
        # Scikit-learn's searches over several scorers ask this where routing is off
        return True


def predict_positive(estimator: Any, X: Any) -> Any:
    """Predict probabilities; turn a list with one array per label into a matrix."""
    with no_values_in_errors():
        y_prob = estimator.predict_proba(X)
    if not isinstance(y_prob, list):
        return y_prob
    problem = (
        "`estimator` was fitted on classes other than 0 and 1; fit it on one 0/1 column per label, "
        "for classes e.g. by sklearn.preprocessing.label_binarize."
    )
    classes = [as_floats(of_label, problem) for of_label in estimator.classes_]
    if not np.isin(np.concatenate(classes), (0, 1)).all():
        raise ValueError(problem)
    # A label that was constant in fit has one column, of either class
    pairs = zip(y_prob, classes, strict=True)
    return np.column_stack([probability @ (of_label == 1) for probability, of_label in pairs])
