"""Scores per label and their macro mean, with intervals."""

import numpy as np
import pandas as pd

from ._bootstrap import percentile_interval, resampled_weights, with_macro
from ._inputs import (
    MACRO,
    check_bootstrap,
    check_groups,
    check_labels,
    check_scores,
    check_threshold,
)
from ._weighted_scores import weighted_auprc, weighted_auroc, weighted_f1, weighted_prevalence


def multilabel_report(
    y_true,
    y_score,
    *,
    threshold=0.5,
    groups=None,
    n_bootstraps=1000,
    confidence_level=0.95,
    target_names=None,
    random_state=None,
):
    """Score every label and their macro mean, with bootstrap intervals.

    Stays of one patient are alike, so intervals come from resampling whole groups: each draw
    takes as many groups as there are, with replacement, and the interval reaches between the
    percentiles of the draws.

    Parameters
    ----------
    y_true : array-like or sparse matrix of shape (n_samples, n_labels) or (n_samples,)
        True labels, 0 or 1.

    y_score : array-like of shape (n_samples, n_labels) or (n_samples,), or list of n_labels \
            arrays of shape (n_samples, 2)
        Probabilities or decision values, as `predict_proba` or `decision_function` gives them;
        the list is what scikit-learn's forests give for several labels.

    threshold : float or array-like of shape (n_labels,), default=0.5
        For F1 a score at or above it counts as predicted.

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
    report : DataFrame of shape (n_labels + 1, 13)
        One row per label, then ``macro``. Columns are ``n_positive``, and for each of ``auroc``,
        ``auprc`` (average precision), ``f1`` and ``prevalence`` the estimate and its interval as
        ``auroc``, ``auroc_low``, ``auroc_high``. The macro row is the unweighted mean over labels,
        in each draw as in the estimate; its ``n_positive`` is the sum. ``report.attrs`` records
        the number of rows and groups and the settings.

    Raises
    ------
    ValueError
        If shapes do not agree, a value is missing or a parameter is out of its range.

    See Also
    --------
    paired_difference : Compare two models on the same rows.

    Notes
    -----
    A label that is 0 or 1 in every row has no AUROC, AUPRC or F1: these are NaN, and the macro
    mean leaves the label out. The same holds within a draw: where the draw holds one class alone,
    it does not count towards the label's interval. So the interval of a very rare label describes
    the draws that contain it.

    All draws of a label come from one sort of its scores, as a draw is a weighting of the rows.
    Ties are exact: estimates equal :func:`sklearn.metrics.roc_auc_score`,
    :func:`sklearn.metrics.average_precision_score` and :func:`sklearn.metrics.f1_score`.

    References
    ----------
    .. [1] B. Efron, R. J. Tibshirani. "An Introduction to the Bootstrap", chapter 13, 1993.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_medfuse.metrics import multilabel_report
    >>> rng = np.random.default_rng(0)
    >>> y_true = rng.integers(2, size=(200, 2))
    >>> y_score = 0.3 * y_true + 0.7 * rng.uniform(size=(200, 2))
    >>> patients = np.repeat(np.arange(100), 2)
    >>> report = multilabel_report(
    ...     y_true, y_score, groups=patients, target_names=["sepsis", "anaemia"], random_state=0
    ... )
    >>> print(report[["n_positive", "auroc", "auroc_low", "auroc_high"]].round(2))
             n_positive  auroc  auroc_low  auroc_high
    sepsis          109   0.87       0.81        0.91
    anaemia         112   0.86       0.81        0.90
    macro           221   0.86       0.83        0.89
    """
    labels, names = check_labels(y_true, target_names)
    scores = check_scores(y_score, labels, labels=y_true)
    threshold = check_threshold(threshold, len(names))
    group_of_row = check_groups(groups, len(labels))
    check_bootstrap(n_bootstraps, confidence_level)

    estimates = _score_all(labels, scores, np.ones((len(labels), 1)), threshold)
    blocks = [
        _score_all(labels, scores, weights, threshold)
        for weights in resampled_weights(group_of_row, n_bootstraps, random_state)
    ]
    n_positive = labels.sum(axis=0).astype(int)
    columns = {"n_positive": np.append(n_positive, n_positive.sum())}
    for name, estimate in estimates.items():
        draws = np.concatenate([np.empty((0, len(names) + 1)), *[block[name] for block in blocks]])
        low, high = percentile_interval(draws, confidence_level)
        columns |= {name: estimate[0], f"{name}_low": low, f"{name}_high": high}

    report = pd.DataFrame(columns, index=[*names, MACRO])
    report.attrs = {
        "n_samples": len(labels),
        "n_groups": int(group_of_row.max()) + 1,
        "n_bootstraps": int(n_bootstraps),
        "confidence_level": float(confidence_level),
    }
    return report


def _score_all(y_true, y_score, weights, threshold):
    """Every score by name, each of shape (n_draws, n_labels + 1), the macro mean last."""
    return {
        "auroc": with_macro(weighted_auroc(y_true, y_score, weights)),
        "auprc": with_macro(weighted_auprc(y_true, y_score, weights)),
        "f1": with_macro(weighted_f1(y_true, y_score, weights, threshold)),
        "prevalence": with_macro(weighted_prevalence(y_true, weights)),
    }
