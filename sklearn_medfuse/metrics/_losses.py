"""Log loss and Brier score of every label as its own yes-or-no question."""

from functools import partial
from typing import Literal

import numpy as np
import numpy.typing as npt

from ._inputs import (
    AVERAGES,
    Labels,
    Scores,
    check_labels,
    check_probabilities,
    check_sample_weight,
    documented,
)
from ._scores import precision_of, weighted_brier, weighted_log_loss, with_averages

Average = Literal["macro", "micro", "weighted"]


@documented
def multilabel_log_loss(
    y_true: Labels,
    y_prob: Scores,
    *,
    average: Average | None = "macro",
    sample_weight: npt.ArrayLike | None = None,
) -> float | np.ndarray:
    """Compute the log loss of the probabilities of several labels.

    With weights :math:`w_i`, label :math:`l` has

    .. math::

        -\\frac{1}{\\sum_i w_i} \\sum_i w_i
        \\left[y_{il} \\ln p_{il} + (1 - y_{il}) \\ln (1 - p_{il})\\right]

    It is a proper score: its expectation is lowest for the true probabilities. 0 is perfect, and
    0.5 throughout gives ln 2.

    Parameters
    ----------
    y_true, y_prob, average
    sample_weight : array-like of shape (n_samples,), default=None
        Row weights.

    Returns
    -------
    loss : float or ndarray of shape (n_labels,)
        At least 0, in nats; the array where `average` is None.

    Raises
    ------
    ValueError
        If shapes disagree, or a probability or a parameter is out of its range.

    See Also
    --------
    multilabel_brier_score : The same with squares, bounded.
    get_scorer : This loss for a search, as ``neg_multilabel_log_loss``.

    Notes
    -----
    Probabilities are clipped to the machine epsilon of their dtype, as in
    :func:`sklearn.metrics.log_loss`. That function, and scikit-learn's scorer ``neg_log_loss``,
    treat several labels as one-hot classes of which exactly one is true: they read the
    probabilities of the positives only, so a model that predicts everything for everybody is
    perfect.

    References
    ----------
    .. [1] T. Gneiting, A. E. Raftery. "Strictly Proper Scoring Rules, Prediction, and
       Estimation", JASA, 2007.

    Examples
    --------
    >>> from sklearn_medfuse.metrics import multilabel_log_loss
    >>> y_true = [[1, 0], [0, 0]]
    >>> multilabel_log_loss(y_true, [[0.5, 0.5], [0.5, 0.5]])
    0.693...
    >>> multilabel_log_loss(y_true, [[0.8, 0.1], [0.3, 0.1]], average=None).round(3)
    array([0.29 , 0.105])
    """
    score_labels = partial(weighted_log_loss, epsilon=precision_of(y_prob))
    return average_over_labels(
        score_labels, y_true, y_prob, average=average, sample_weight=sample_weight
    )


@documented
def multilabel_brier_score(
    y_true: Labels,
    y_prob: Scores,
    *,
    average: Average | None = "macro",
    sample_weight: npt.ArrayLike | None = None,
) -> float | np.ndarray:
    """Compute the Brier score of the probabilities of several labels.

    With weights :math:`w_i`, label :math:`l` has

    .. math::

        \\frac{1}{\\sum_i w_i} \\sum_i w_i \\left(y_{il} - p_{il}\\right)^2

    It is a proper score: its expectation is lowest for the true probabilities. 0 is perfect, 1
    means certain and wrong throughout, and 0.5 throughout gives 0.25.

    Parameters
    ----------
    y_true, y_prob, average
    sample_weight : array-like of shape (n_samples,), default=None
        Row weights.

    Returns
    -------
    score : float or ndarray of shape (n_labels,)
        Between 0 and 1; the array where `average` is None.

    Raises
    ------
    ValueError
        If shapes disagree, or a probability or a parameter is out of its range.

    See Also
    --------
    multilabel_log_loss : The same with logarithms, which punishes confident errors.
    expected_calibration_error : How far probabilities are from frequencies.
    get_scorer : This score for a search, as ``neg_multilabel_brier_score``.

    References
    ----------
    .. [1] G. W. Brier. "Verification of forecasts expressed in terms of probability", Monthly
       Weather Review, 1950.

    Examples
    --------
    >>> from sklearn_medfuse.metrics import multilabel_brier_score
    >>> y_true = [[1, 0], [0, 0]]
    >>> multilabel_brier_score(y_true, [[0.5, 0.5], [0.5, 0.5]])
    0.25
    >>> multilabel_brier_score(y_true, [[0.8, 0.1], [0.3, 0.1]], average=None).round(3)
    array([0.065, 0.01 ])
    """
    return average_over_labels(
        weighted_brier, y_true, y_prob, average=average, sample_weight=sample_weight
    )


def average_over_labels(score_labels, y_true, y_prob, *, average, sample_weight):
    """Check the input, score every label under one row weighting, and average the scores."""
    if average not in (*AVERAGES, None):
        raise ValueError(f"`average` is {average!r}; pass one of {(*AVERAGES, None)}.")
    labels, _ = check_labels(y_true, missing=True)
    probabilities = check_probabilities(y_prob, labels, labels=y_true)
    weights = check_sample_weight(sample_weight, len(labels))
    if average == "weighted" and not (weights @ (labels == 1)).any():
        raise ValueError(
            "`average` is 'weighted' but no label has a positive row; pass average='macro'."
        )
    averages = [] if average is None else [average]
    scores = with_averages(score_labels, labels, probabilities, weights[:, None], averages)[0]
    return scores if average is None else float(scores[-1])
