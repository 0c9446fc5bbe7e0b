"""Scores per label and their averages, with intervals."""

import numpy as np
import pandas as pd

from ._averages import with_averages
from ._bootstrap import bootstrap
from ._inputs import (
    check_averages,
    check_bootstrap,
    check_groups,
    check_labels,
    check_sample_weight,
    check_threshold,
)
from ._scores import read_scores, resolve_score


def multilabel_report(
    y_true,
    y_score,
    *,
    metrics=("auroc", "auprc", "f1", "prevalence"),
    averages=("macro",),
    threshold=0.5,
    sample_weight=None,
    groups=None,
    n_bootstraps=1000,
    confidence_level=0.95,
    target_names=None,
    random_state=None,
):
    """Score every label and their averages, with bootstrap intervals.

    Stays of one patient are alike, so intervals come from resampling whole groups: each draw
    takes as many groups as there are, with replacement, and the interval reaches between the
    percentiles of the draws.

    Parameters
    ----------
    y_true : array-like or sparse matrix of shape (n_samples, n_labels) or (n_samples,)
        True labels, 0 or 1; NaN where not known, which leaves the pair out.

    y_score : array-like of shape (n_samples, n_labels) or (n_samples,), or list of n_labels \
            arrays of shape (n_samples, 2)
        Probabilities or decision values, as `predict_proba` or `decision_function` gives them;
        the list is what scikit-learn's forests give for several labels.

    metrics : sequence of str, default=("auroc", "auprc", "f1", "prevalence")
        What to compute. Known are ``auroc``; ``auprc``, which is average precision; ``f1``,
        ``sensitivity``, ``specificity``, ``ppv`` and ``npv`` of the decisions at `threshold`;
        ``brier``, ``log_loss`` and ``ece``, which need probabilities; ``prevalence``.

    averages : sequence of {"macro", "micro", "weighted"}, default=("macro",)
        Rows to append: the mean over labels; the score of all pairs of row and label together;
        the mean over labels weighted by their positives.

    threshold : float or array-like of shape (n_labels,), default=0.5
        For decisions a score at or above it counts as predicted.

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
    report : DataFrame of shape (n_labels + n_averages, 1 + 3 * n_metrics)
        One row per label, then the averages. Columns are ``n_positive``, and for each metric the
        estimate and its interval as ``auroc``, ``auroc_low``, ``auroc_high``. An average is taken
        in each draw as in the estimate; its ``n_positive`` is the sum. ``report.attrs`` records
        the number of rows and groups and the settings.

    Raises
    ------
    ValueError
        If shapes do not agree, a score is missing or a parameter is out of its range.

    See Also
    --------
    paired_difference : Compare two models on the same rows.
    subgroup_report : One score in each group of patients.
    calibration_report : Slope, intercept and error of the probabilities.

    Notes
    -----
    A label that is 0 or 1 in every row has no AUROC, AUPRC or F1: these are NaN, and the means
    leave the label out. The same holds within a draw: where the draw holds one class alone, it
    does not count towards the label's interval. So the interval of a very rare label describes
    the draws that contain it. A share of no rows, as the PPV where nothing is predicted, is NaN.

    Intervals are percentiles of the draws. That of ``ece`` is the basic one, which mirrors them at
    the estimate: a mean distance grows with noise, and resampling adds noise, so that percentiles
    would lie too high.

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
    labels, names = check_labels(y_true, target_names, missing=True)
    found = _resolve_metrics(metrics, y_score)
    scores = read_scores(y_score, labels, found.values(), labels=y_true)
    averages = check_averages(averages)
    threshold = check_threshold(threshold, len(names))
    weights = check_sample_weight(sample_weight, len(labels))
    group_of_row = check_groups(groups, len(labels))
    check_bootstrap(n_bootstraps, confidence_level)

    def score_all(draws):
        values = [
            with_averages(
                metric.function,
                labels,
                scores - threshold if metric.of_decisions else scores,
                draws,
                averages,
            )
            for metric in found.values()
        ]
        return np.stack(values, axis=1)

    estimates, draws = bootstrap(score_all, weights, group_of_row, n_bootstraps, random_state)
    n_positive = (labels == 1).sum(axis=0)
    columns = {"n_positive": np.append(n_positive, [n_positive.sum()] * len(averages))}
    for number, (name, metric) in enumerate(found.items()):
        estimate = estimates[number]
        low, high = metric.interval(estimate, draws[:, number], confidence_level)
        columns |= {name: estimate, f"{name}_low": low, f"{name}_high": high}

    report = pd.DataFrame(columns, index=[*names, *averages])
    report.attrs = {
        "n_samples": len(labels),
        "n_groups": int(group_of_row.max()) + 1,
        "n_bootstraps": int(n_bootstraps),
        "confidence_level": float(confidence_level),
    }
    return report


def _resolve_metrics(metrics, y_score):
    names = [metrics] if isinstance(metrics, str) else list(metrics)
    if not names or len(set(names)) < len(names):
        raise ValueError(f"`metrics` is {metrics!r}; pass at least one name, each once.")
    return {name: resolve_score(name, name="metrics", y_scores=[y_score]) for name in names}
