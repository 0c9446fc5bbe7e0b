"""Calibration of every label: slope, intercept, observed to expected, and error by bins."""

import numpy as np
import pandas as pd

from ._averages import with_averages
from ._bootstrap import bootstrap
from ._inputs import (
    check_averages,
    check_bins,
    check_bootstrap,
    check_groups,
    check_labels,
    check_probabilities,
    check_sample_weight,
)
from ._scores import Score
from ._weighted_probabilities import (
    put_into_bins,
    weighted_calibration_error,
    weighted_calibration_intercept,
    weighted_calibration_slope,
    weighted_observed_expected,
)


def calibration_report(
    y_true,
    y_prob,
    *,
    n_bins=10,
    strategy="uniform",
    averages=("macro",),
    sample_weight=None,
    groups=None,
    n_bootstraps=1000,
    confidence_level=0.95,
    target_names=None,
    random_state=None,
):
    """Tell how far probabilities are off, and in what way, with bootstrap intervals.

    The logistic recalibration [1]_ of a label is

    .. math::

        \\operatorname{logit} \\Pr(y = 1) = a + b \\operatorname{logit} p

    Its slope :math:`b` is below 1 where probabilities are too extreme, as those of an overfitted
    model, and above 1 where they are too timid. The intercept is :math:`a` with the slope held at
    1 [2]_: below 0 where probabilities are too high on the whole, above 0 where too low.

    Parameters
    ----------
    y_true : array-like or sparse matrix of shape (n_samples, n_labels) or (n_samples,)
        True labels, 0 or 1; NaN where not known, which leaves the pair out.

    y_prob : array-like of shape (n_samples, n_labels) or (n_samples,), or list of n_labels \
            arrays of shape (n_samples, 2)
        Probabilities as `predict_proba` gives them.

    n_bins : int, default=10
        Number of bins of the calibration error, at least 1.

    strategy : {"uniform", "quantile"}, default="uniform"
        Bins as `expected_calibration_error` has them. Resamples keep those of the sample.

    averages : sequence of {"macro", "micro", "weighted"}, default=("macro",)
        Rows to append: the mean over labels; the calibration of all pairs of row and label
        together; the mean over labels weighted by their positives.

    sample_weight : array-like of shape (n_samples,), default=None
        Row weights. A resample multiplies them.

    groups : array-like of shape (n_samples,), default=None
        The unit to resample, usually the patient. None resamples rows.

    n_bootstraps : int, default=1000
        Number of resamples. 0 leaves the intervals NaN.

    confidence_level : float, default=0.95
        Coverage of the intervals.

    target_names : sequence of str, default=None
        Names of the labels. None takes the columns of `y_true`, else ``label_0``, ``label_1``, …

    random_state : int, RandomState instance or None, default=None
        Source of the draws. Pass an int for the same intervals at every call.

    Returns
    -------
    report : DataFrame of shape (n_labels + n_averages, 13)
        One row per label, then the averages. Columns are ``n_positive``, and with their intervals
        as ``slope_low``, ``slope_high``: ``slope``, 1 at best; ``intercept``, 0 at best;
        ``observed_expected``, the positives for each one that the probabilities add up to, 1 at
        best; ``ece``, 0 at best.

    Raises
    ------
    ValueError
        If shapes do not agree, a probability is missing or none, or a parameter is out of its
        range.

    See Also
    --------
    expected_calibration_error : The error alone, for a search.
    calibration_bins : The bins, for a figure.

    Notes
    -----
    Slope and intercept are NaN for a constant label. The slope is NaN too where a cut through the
    probabilities parts the classes, as for a perfect model, or where all probabilities are equal:
    then the likelihood has no maximum. Probabilities of 0 and 1 are moved inside by the machine
    epsilon.

    Intervals are percentiles of the draws; those of ``ece`` are mirrored at the estimate, as in
    `multilabel_report`.

    References
    ----------
    .. [1] D. R. Cox. "Two Further Applications of a Model for Binary Regression", Biometrika,
       1958.
    .. [2] B. Van Calster, D. J. McLernon, M. van Smeden, L. Wynants, E. W. Steyerberg.
       "Calibration: the Achilles heel of predictive analytics", BMC Medicine, 2019.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy.special import expit
    >>> from sklearn_medfuse.metrics import calibration_report
    >>> rng = np.random.default_rng(0)
    >>> logit = rng.normal(size=(2000, 1))
    >>> y_true = rng.uniform(size=logit.shape) < expit(logit)
    >>> report = calibration_report(y_true, expit(2 * logit), averages=[], random_state=0)
    >>> print(report[["slope", "slope_low", "slope_high"]].round(2))
             slope  slope_low  slope_high
    label_0   0.51       0.45        0.57
    """
    labels, names = check_labels(y_true, target_names, missing=True)
    probabilities = check_probabilities(y_prob, labels, labels=y_true)
    check_bins(n_bins, strategy)
    averages = check_averages(averages)
    weights = check_sample_weight(sample_weight, len(labels))
    group_of_row = check_groups(groups, len(labels))
    check_bootstrap(n_bootstraps, confidence_level)

    def calibration_error(y_true, y_prob, draws):
        # all pairs in one column have n_labels rows each
        base = np.repeat(weights, len(y_true) // len(weights))
        bins = put_into_bins(y_true, y_prob, base, n_bins, strategy)
        return weighted_calibration_error(y_true, y_prob, draws, bins)

    found = {
        "slope": Score(weighted_calibration_slope),
        "intercept": Score(weighted_calibration_intercept),
        "observed_expected": Score(weighted_observed_expected),
        "ece": Score(calibration_error, grows_with_noise=True),
    }

    def score_all(draws):
        values = [
            with_averages(score.function, labels, probabilities, draws, averages)
            for score in found.values()
        ]
        return np.stack(values, axis=1)

    estimates, draws = bootstrap(score_all, weights, group_of_row, n_bootstraps, random_state)
    n_positive = (labels == 1).sum(axis=0)
    columns = {"n_positive": np.append(n_positive, [n_positive.sum()] * len(averages))}
    for number, (name, score) in enumerate(found.items()):
        low, high = score.interval(estimates[number], draws[:, number], confidence_level)
        columns |= {name: estimates[number], f"{name}_low": low, f"{name}_high": high}
    return pd.DataFrame(columns, index=[*names, *averages])
