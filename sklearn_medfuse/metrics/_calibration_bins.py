"""The reliability curve of every label, as a table with intervals."""

import numpy as np
import pandas as pd

from ._bootstrap import bootstrap, percentile_interval
from ._inputs import (
    check_bins,
    check_bootstrap,
    check_groups,
    check_labels,
    check_probabilities,
    check_sample_weight,
)
from ._weighted_probabilities import put_into_bins, sum_by_bin


def calibration_bins(
    y_true,
    y_prob,
    *,
    n_bins=10,
    strategy="uniform",
    sample_weight=None,
    groups=None,
    n_bootstraps=1000,
    confidence_level=0.95,
    target_names=None,
    random_state=None,
):
    """Set observed frequencies beside mean probabilities, bin by bin, with bootstrap intervals.

    Parameters
    ----------
    y_true : array-like or sparse matrix of shape (n_samples, n_labels) or (n_samples,)
        True labels, 0 or 1; NaN where not known, which leaves the pair out.

    y_prob : array-like of shape (n_samples, n_labels) or (n_samples,), or list of n_labels \
            arrays of shape (n_samples, 2)
        Probabilities as `predict_proba` gives them.

    n_bins : int, default=10
        Number of bins, at least 1.

    strategy : {"uniform", "quantile"}, default="uniform"
        Bins as `expected_calibration_error` has them. Resamples keep those of the sample.

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
    bins : DataFrame of shape (n_bins_that_hold_rows, 7)
        One row per label and bin that holds rows. Columns are ``label``; ``bin``, its number from
        0; ``predicted``, the mean probability; ``observed``, the frequency of positives, with its
        interval ``observed_low``, ``observed_high``; ``n_samples``, the number of rows.

    Raises
    ------
    ValueError
        If shapes do not agree, a probability is missing or none, or a parameter is out of its
        range.

    See Also
    --------
    calibration_report : Slope, intercept and error in one line per label.
    sklearn.calibration.calibration_curve : Both columns for one label.

    Examples
    --------
    >>> from sklearn_medfuse.metrics import calibration_bins
    >>> y_true = [1, 0, 0, 0, 1, 1]
    >>> y_prob = [0.25, 0.25, 0.25, 0.25, 0.7, 0.7]
    >>> bins = calibration_bins(y_true, y_prob, n_bins=2, n_bootstraps=0)
    >>> print(bins[["bin", "predicted", "observed", "n_samples"]])
       bin  predicted  observed  n_samples
    0    0       0.25      0.25          4
    1    1       0.70      1.00          2
    """
    labels, names = check_labels(y_true, target_names, missing=True)
    probabilities = check_probabilities(y_prob, labels, labels=y_true)
    check_bins(n_bins, strategy)
    weights = check_sample_weight(sample_weight, len(labels))
    group_of_row = check_groups(groups, len(labels))
    check_bootstrap(n_bootstraps, confidence_level)
    bin_of_pair = put_into_bins(labels, probabilities, weights, n_bins, strategy)

    def count(draws):
        of_labels = [
            _count_label(
                labels[:, label], probabilities[:, label], bin_of_pair[:, label], draws, n_bins
            )
            for label in range(len(names))
        ]
        return np.stack(of_labels, axis=1)

    estimate, draws = bootstrap(
        lambda times: count(times)[..., 1], weights, group_of_row, n_bootstraps, random_state
    )
    predicted = count(weights[:, None])[0, ..., 0]
    low, high = percentile_interval(draws, confidence_level)
    n_samples = count(np.ones((len(labels), 1)))[0, ..., 2].astype(int)
    bins = pd.DataFrame(
        {
            "label": np.repeat(names, n_bins),
            "bin": np.tile(np.arange(n_bins), len(names)),
            "predicted": predicted.ravel(),
            "observed": estimate.ravel(),
            "observed_low": low.ravel(),
            "observed_high": high.ravel(),
            "n_samples": n_samples.ravel(),
        }
    )
    return bins[np.isfinite(bins["observed"])].reset_index(drop=True)


def _count_label(y_true, y_prob, bin_of_row, weights, n_bins):
    """Mean probability, frequency and weight of each bin, shape (n_draws, n_bins, 3)."""
    known = ~np.isnan(y_true)
    times = weights[known]
    total, predicted, observed = (
        sum_by_bin(bin_of_row[known], values[:, None] * times, n_bins)
        for values in (np.ones(known.sum()), y_prob[known], y_true[known])
    )
    means = [
        np.divide(part, total, out=np.full(total.shape, np.nan), where=total > 0)
        for part in (predicted, observed)
    ]
    return np.stack([*means, total], axis=-1).transpose(1, 0, 2)
