"""DeLong's test of two areas under the ROC curve on the same rows."""

import numpy as np
import pandas as pd
from scipy.stats import norm, rankdata

from ._inputs import check_bootstrap, check_groups, check_labels, check_scores


def delong_test(
    y_true, y_score_a, y_score_b, *, groups=None, confidence_level=0.95, target_names=None
):
    """Compare the AUROC of two models on the same rows, without resampling.

    Of label :math:`l` with :math:`m` positive and :math:`n` negative rows, the AUROC is the mean
    over pairs of :math:`\\psi = 1, \\tfrac12, 0` where the positive row scores higher, alike or
    lower. A positive row's mean over the negatives and a negative row's over the positives are
    its structural components [1]_; of their differences between the models, :math:`d_i` and
    :math:`d_j`, the difference of the AUROCs has the variance

    .. math::

        \\frac{\\operatorname{Var}(d_i)}{m} + \\frac{\\operatorname{Var}(d_j)}{n}

    They come from midranks in :math:`O((m + n) \\log (m + n))` [2]_.

    Parameters
    ----------
    y_true : array-like or sparse matrix of shape (n_samples, n_labels) or (n_samples,)
        True labels, 0 or 1; NaN where not known, which leaves the pair out.

    y_score_a, y_score_b : array-like of shape (n_samples, n_labels) or (n_samples,), or list of \
            n_labels arrays of shape (n_samples, 2)
        Scores of the two models, in the forms that `multilabel_report` takes.

    groups : array-like of shape (n_samples,), default=None
        The unit that is independent of the others, usually the patient: the variance is then that
        of clustered data [3]_. None takes all rows for independent.

    confidence_level : float, default=0.95
        Coverage of the intervals.

    target_names : sequence of str, default=None
        Names of the labels. None takes the columns of `y_true`, else ``label_0``, ``label_1``, …

    Returns
    -------
    comparison : DataFrame of shape (n_labels, 8)
        One row per label. Columns are ``a`` and ``b``, the two AUROCs; ``difference``, which is
        a - b, its ``standard_error`` and interval ``difference_low``, ``difference_high``; ``z``
        and the two-sided ``p_value``. NaN where a label has fewer than two independent units of
        either class. Labels are not corrected for multiple testing.

    Raises
    ------
    ValueError
        If shapes do not agree, a score is missing or a parameter is out of its range.

    See Also
    --------
    paired_difference : By bootstrap, for any metric and for averages over labels.

    Notes
    -----
    The test is one of large samples. It suits models that were fitted on other rows, and is not
    valid for nested models scored on the rows that they were fitted on.

    References
    ----------
    .. [1] E. R. DeLong, D. M. DeLong, D. L. Clarke-Pearson. "Comparing the Areas under Two or
       More Correlated Receiver Operating Characteristic Curves: A Nonparametric Approach",
       Biometrics, 1988.
    .. [2] X. Sun, W. Xu. "Fast Implementation of DeLong's Algorithm for Comparing the Areas Under
       Correlated Receiver Operating Characteristic Curves", IEEE Signal Processing Letters, 2014.
    .. [3] N. A. Obuchowski. "Nonparametric Analysis of Clustered ROC Curve Data", Biometrics,
       1997.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_medfuse.metrics import delong_test
    >>> rng = np.random.default_rng(0)
    >>> y_true = rng.integers(2, size=(300, 2))
    >>> good = y_true + rng.normal(size=(300, 2))
    >>> poor = y_true + 3 * rng.normal(size=(300, 2))
    >>> comparison = delong_test(y_true, good, poor, target_names=["sepsis", "anaemia"])
    >>> print(comparison[["difference", "difference_low", "difference_high"]].round(2))
             difference  difference_low  difference_high
    sepsis         0.28            0.20             0.35
    anaemia        0.20            0.12             0.28
    """
    labels, names = check_labels(y_true, target_names, missing=True)
    scores = [
        check_scores(given, labels, name=name, labels=y_true)
        for name, given in (("y_score_a", y_score_a), ("y_score_b", y_score_b))
    ]
    group_of_row = check_groups(groups, len(labels))
    check_bootstrap(0, confidence_level)
    rows = [
        _compare_label(labels[:, label], scores[0][:, label], scores[1][:, label], group_of_row)
        for label in range(len(names))
    ]
    a, b, difference, error = np.array(rows).T
    reach = norm.ppf((1 + confidence_level) / 2) * error
    z = np.divide(difference, error, out=np.copysign(np.inf, difference), where=error > 0)
    z = np.where(np.isnan(error), np.nan, np.where(difference == 0, 0.0, z))
    columns = {
        "a": a,
        "b": b,
        "difference": difference,
        "standard_error": error,
        "difference_low": difference - reach,
        "difference_high": difference + reach,
        "z": z,
        "p_value": 2 * norm.sf(np.abs(z)),
    }
    return pd.DataFrame(columns, index=names)


def _compare_label(y_true, y_score_a, y_score_b, group_of_row):
    """Give both AUROCs, their difference and its standard error."""
    positive, negative = y_true == 1, y_true == 0
    if not positive.any() or not negative.any():
        return [np.nan] * 4
    a, b = (_components(s[positive], s[negative]) for s in (y_score_a, y_score_b))
    area_a, area_b = a[0].mean(), b[0].mean()
    variance = _clustered_variance(
        a[0] - b[0], a[1] - b[1], group_of_row[positive], group_of_row[negative]
    )
    return [area_a, area_b, area_a - area_b, np.sqrt(variance)]


def _components(positive, negative):
    """Structural components of the positive and the negative rows, from midranks."""
    m, n = len(positive), len(negative)
    rank = rankdata(np.concatenate([positive, negative]))
    of_positive = (rank[:m] - rankdata(positive)) / n
    of_negative = 1 - (rank[m:] - rankdata(negative)) / m
    return of_positive, of_negative


def _clustered_variance(positive, negative, group_of_positive, group_of_negative):
    """Variance of the mean component, from the sums of each group's deviations.

    Where each row is its own group, no group has both classes, and this is DeLong's variance.
    """
    m, n = len(positive), len(negative)
    n_groups = int(max(group_of_positive.max(), group_of_negative.max())) + 1
    sums, occurs = [], []
    for values, groups in ((positive, group_of_positive), (negative, group_of_negative)):
        sums.append(np.bincount(groups, values - values.mean(), minlength=n_groups))
        occurs.append(np.bincount(groups, minlength=n_groups) > 0)
    n_with_positive, n_with_negative = occurs[0].sum(), occurs[1].sum()
    if min(n_with_positive, n_with_negative) < 2:
        return np.nan
    n_with_any = (occurs[0] | occurs[1]).sum()
    variance = (
        n_with_positive / (n_with_positive - 1) * (sums[0] @ sums[0]) / m**2
        + n_with_negative / (n_with_negative - 1) * (sums[1] @ sums[1]) / n**2
        + 2 * n_with_any / (n_with_any - 1) * (sums[0] @ sums[1]) / (m * n)
    )
    # the estimate of few groups can be below 0, by rounding or by its cross term
    return max(variance, 0.0)
