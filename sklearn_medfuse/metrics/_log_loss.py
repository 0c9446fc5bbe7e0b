"""Log loss of every label as its own yes-or-no question."""

from functools import partial

from ._label_average import average_over_labels
from ._scores import precision_of
from ._weighted_probabilities import weighted_log_loss


def multilabel_log_loss(y_true, y_prob, *, average="macro", sample_weight=None):
    """Score probabilities of several labels by the logarithm of what came true.

    With weights :math:`w_i`, label :math:`l` has

    .. math::

        -\\frac{1}{\\sum_i w_i} \\sum_i w_i
        \\left[y_{il} \\ln p_{il} + (1 - y_{il}) \\ln (1 - p_{il})\\right]

    A proper score: only the true probabilities minimise its expectation. 0 is perfect, and 0.5
    throughout gives ln 2.

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
    loss : float or ndarray of shape (n_labels,)
        At least 0, in nats; the array where `average` is None.

    Raises
    ------
    ValueError
        If shapes do not agree, a probability is missing or none, or a parameter is out of its
        range.

    See Also
    --------
    multilabel_brier_score : The same with squares, bounded.
    get_scorer : This loss for a search, as ``neg_multilabel_log_loss``.

    Notes
    -----
    Probabilities of 0 and 1 are moved inside by the machine epsilon of their dtype, as in
    :func:`sklearn.metrics.log_loss`. That function, and scikit-learn's scorer ``neg_log_loss``,
    take labels of several columns for one-hot classes of which exactly one is true: they look at
    the probabilities of the positives alone, so a model that predicts everything for everybody
    is perfect.

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
