"""Brier score of every label as its own yes-or-no question."""

from ._label_average import average_over_labels
from ._weighted_probabilities import weighted_brier


def multilabel_brier_score(y_true, y_prob, *, average="macro", sample_weight=None):
    """Score probabilities of several labels by their squared distance to what came true.

    With weights :math:`w_i`, label :math:`l` has

    .. math::

        \\frac{1}{\\sum_i w_i} \\sum_i w_i \\left(y_{il} - p_{il}\\right)^2

    A proper score: only the true probabilities minimise its expectation. 0 is perfect, 1 is sure
    and wrong throughout, and 0.5 throughout gives 0.25.

    Parameters
    ----------
    y_true : array-like or sparse matrix of shape (n_samples, n_labels) or (n_samples,)
        True labels, 0 or 1; NaN where not known, which leaves the pair out.

    y_prob : array-like of shape (n_samples, n_labels) or (n_samples,), or list of n_labels \
            arrays of shape (n_samples, 2)
        Probabilities as `predict_proba` gives them; the list is what scikit-learn's forests give.

    average : {"macro", "micro", "weighted", None}, default="macro"
        Mean over labels; the same over all pairs of row and label, which is equal where each
        label has all rows; mean over labels weighted by their positives; or one score per label.

    sample_weight : array-like of shape (n_samples,), default=None
        Row weights.

    Returns
    -------
    score : float or ndarray of shape (n_labels,)
        Between 0 and 1; the array where `average` is None.

    Raises
    ------
    ValueError
        If shapes do not agree, a probability is missing or none, or a parameter is out of its
        range.

    See Also
    --------
    multilabel_log_loss : The same with logarithms, which punishes what was sure and wrong.
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
