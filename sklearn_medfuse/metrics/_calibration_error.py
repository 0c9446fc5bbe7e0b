"""Expected calibration error of every label."""

from functools import partial

from ._inputs import check_bins
from ._label_average import average_over_labels
from ._weighted_probabilities import put_into_bins, weighted_calibration_error


def expected_calibration_error(
    y_true, y_prob, *, n_bins=10, strategy="uniform", average="macro", sample_weight=None
):
    """Measure how far predicted probabilities are from observed frequencies.

    The rows of a label are put into bins :math:`B_1, …, B_M` by their probability. With weights
    :math:`w_i`, and :math:`W_m` their sum in bin :math:`m`, the label has

    .. math::

        \\sum_{m=1}^{M} \\frac{W_m}{\\sum_i w_i} \\left|\\bar{y}_m - \\bar{p}_m\\right|

    where :math:`\\bar{y}_m` is the weighted frequency of positives in the bin and
    :math:`\\bar{p}_m` the weighted mean of its probabilities.

    Parameters
    ----------
    y_true : array-like or sparse matrix of shape (n_samples, n_labels) or (n_samples,)
        True labels, 0 or 1; NaN where not known, which leaves the pair out.

    y_prob : array-like of shape (n_samples, n_labels) or (n_samples,), or list of n_labels \
            arrays of shape (n_samples, 2)
        Probabilities as `predict_proba` gives them; the list is what scikit-learn's forests give.

    n_bins : int, default=10
        Number of bins, at least 1.

    strategy : {"uniform", "quantile"}, default="uniform"
        Bins of equal width, as :func:`sklearn.calibration.calibration_curve` has them, or of
        about equal weight, which suits rare labels, whose probabilities are all small. A bin
        takes its upper edge in; equal probabilities share a bin.

    average : {"macro", "micro", "weighted", None}, default="macro"
        Mean over labels; the error of all pairs of row and label put into the same bins, where
        labels that err in opposite directions cancel; mean over labels weighted by their
        positives; or one error per label.

    sample_weight : array-like of shape (n_samples,), default=None
        Row weights.

    Returns
    -------
    error : float or ndarray of shape (n_labels,)
        Between 0 and 1; the array where `average` is None.

    Raises
    ------
    ValueError
        If shapes do not agree, a probability is missing or none, or a parameter is out of its
        range.

    See Also
    --------
    calibration_report : The same with intervals, slope and intercept.
    multilabel_brier_score : A proper score, which rewards sharpness too.
    get_scorer : This error for a search, as ``neg_expected_calibration_error``.

    Notes
    -----
    This is no proper score: the prevalence predicted for everybody has an error of 0. Within a
    bin errors cancel, and with few rows per bin even true probabilities have an error above 0.

    References
    ----------
    .. [1] M. P. Naeini, G. F. Cooper, M. Hauskrecht. "Obtaining Well Calibrated Probabilities
       Using Bayesian Binning", AAAI, 2015.
    .. [2] C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger. "On Calibration of Modern Neural
       Networks", ICML, 2017, equation 3.

    Examples
    --------
    >>> from sklearn_medfuse.metrics import expected_calibration_error
    >>> y_true = [1, 0, 0, 0, 1, 1]
    >>> y_prob = [0.25, 0.25, 0.25, 0.25, 0.7, 0.7]
    >>> round(expected_calibration_error(y_true, y_prob), 3)
    0.1
    """
    check_bins(n_bins, strategy)
    score_labels = partial(_calibration_errors, n_bins=n_bins, strategy=strategy)
    return average_over_labels(
        score_labels, y_true, y_prob, average=average, sample_weight=sample_weight
    )


def _calibration_errors(y_true, y_prob, weights, *, n_bins, strategy):
    bin_of_pair = put_into_bins(y_true, y_prob, weights[:, 0], n_bins, strategy)
    return weighted_calibration_error(y_true, y_prob, weights, bin_of_pair)
