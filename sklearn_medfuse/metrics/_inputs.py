"""Check labels, scores, groups and bootstrap settings; errors never show a value of the data."""

import numbers
from contextlib import suppress

import numpy as np
import pandas as pd

MACRO = "macro"
AVERAGES = ("macro", "micro", "weighted")
BIN_STRATEGIES = ("uniform", "quantile")

_NO_LABELS = (
    "`y_true` holds something other than 0 and 1{}; pass one 0/1 column per label, for classes "
    "e.g. by sklearn.preprocessing.label_binarize."
)


def check_labels(y_true, target_names=None, *, missing=False):
    """Turn labels into a float 0/1 matrix, with a name per label.

    Parameters
    ----------
    y_true : array-like or sparse matrix of shape (n_samples, n_labels) or (n_samples,)
        0/1 or boolean.

    target_names : sequence of str or None
        Names; default the columns of a DataFrame, else ``label_0`` and so on.

    missing : bool, default=False
        Whether NaN, a label that is not known, is taken.

    Returns
    -------
    y_true : ndarray of shape (n_samples, n_labels)
        Labels.

    target_names : list of str
        Names of the labels.
    """
    if target_names is None and isinstance(y_true, pd.DataFrame):
        target_names = y_true.columns
    labels = _as_floats(y_true)
    labels = labels.reshape(-1, 1) if labels.ndim == 1 else labels
    if labels.ndim != 2 or 0 in labels.shape:
        raise ValueError(
            f"`y_true` has shape {np.shape(y_true)}; pass (n_samples, n_labels), both at least 1."
        )
    known = ~np.isnan(labels) if missing else np.ones(labels.shape, dtype=bool)
    if not np.isin(labels[known], (0, 1)).all():
        raise ValueError(_NO_LABELS.format("" if missing else " (or missing values)"))
    return labels, _check_names(target_names, labels.shape[1])


def _as_floats(y_true):
    if hasattr(y_true, "toarray"):
        y_true = y_true.toarray()
    if isinstance(y_true, pd.DataFrame | pd.Series):
        # pandas' nullable columns have a missing value that numpy does not know
        values = y_true.to_numpy(dtype=object)
        y_true = np.where(pd.isna(values), np.nan, values)
    return as_floats(y_true, _NO_LABELS.format(""))


def as_floats(values, problem):
    """Read numbers; where that fails say `problem` and nothing of the values.

    Parameters
    ----------
    values : array-like
        What should be numbers.

    problem : str
        Message of the error.

    Returns
    -------
    numbers : ndarray of float
        The same.
    """
    with suppress(TypeError, ValueError, OverflowError):
        return np.asarray(values, dtype=float)
    # raised out here: numpy's own message, which shows the value, would go along as its context
    raise ValueError(problem)


def _check_names(target_names, n_labels):
    if target_names is None:
        return [f"label_{label}" for label in range(n_labels)]
    names = [str(name) for name in target_names]
    if len(names) != n_labels:
        raise ValueError(
            f"`target_names` has {len(names)} names for {n_labels} labels; pass one per label."
        )
    if len(set(names)) < n_labels or set(names) & set(AVERAGES):
        raise ValueError(
            f"`target_names` must be distinct and other than {', '.join(AVERAGES)}, the names of "
            "means over labels; rename the labels."
        )
    return names


def check_scores(y_score, y_true, *, name="y_score", labels=None):
    """Turn scores of any form that a classifier gives into a float matrix.

    Parameters
    ----------
    y_score : array-like of shape (n_samples, n_labels) or (n_samples,), or list of n_labels \
            arrays of shape (n_samples, 2)
        Scores; the list is what scikit-learn's forests and k-neighbours give for several labels.
        For one label the (n_samples, 2) of a binary `predict_proba` is taken too.

    y_true : ndarray of shape (n_samples, n_labels)
        Checked labels.

    name : str, default="y_score"
        The parameter's name, for errors.

    labels : object, default=None
        The labels as the user gave them. If both are DataFrames, their columns must agree.

    Returns
    -------
    y_score : ndarray of shape (n_samples, n_labels)
        Scores.
    """
    _check_same_columns(y_score, labels, name)
    scores = _stack_positive_class(y_score, name)
    if scores.ndim == 1:
        scores = scores.reshape(-1, 1)
    if y_true.shape[1] == 1 and scores.ndim == 2 and scores.shape[1] == 2:
        scores = scores[:, 1:]
    if scores.shape != y_true.shape:
        raise ValueError(
            f"`{name}` has shape {scores.shape} and `y_true` {y_true.shape}; pass one score per "
            "row and label."
        )
    if not np.isfinite(scores).all():
        raise ValueError(
            f"`{name}` has {(~np.isfinite(scores)).sum()} NaN or infinite entries; pass a finite "
            "score for every row and label, or leave these rows out of both arguments."
        )
    return scores


def _check_same_columns(y_score, labels, name):
    both_frames = isinstance(y_score, pd.DataFrame) and isinstance(labels, pd.DataFrame)
    if both_frames and list(y_score.columns) != list(labels.columns):
        raise ValueError(
            f"the columns of `{name}` are not those of `y_true` in the same order; pass "
            f"{name}[y_true.columns]."
        )


def _stack_positive_class(y_score, name):
    """Make one matrix of a list with one predict_proba array per label; pass the rest through."""
    if isinstance(y_score, list | tuple) and y_score and np.ndim(y_score[0]) == 2:
        shapes = {np.shape(proba) for proba in y_score}
        if len(shapes) > 1 or shapes.pop()[1] != 2:
            raise ValueError(
                f"`{name}` is a list of predict_proba arrays, of which some are not of shape "
                "(n_samples, 2), as for a label with one class in training; pass a matrix with "
                "the positive class of each label."
            )
        y_score = np.column_stack([np.asarray(proba)[:, 1] for proba in y_score])
    return as_floats(
        y_score, f"`{name}` cannot be read as numbers; pass one score per row and label."
    )


def check_probabilities(y_prob, y_true, *, name="y_prob", labels=None):
    """Turn probabilities of any form that a classifier gives into a float matrix.

    Parameters
    ----------
    y_prob : array-like of shape (n_samples, n_labels) or (n_samples,), or list of n_labels \
            arrays of shape (n_samples, 2)
        Probabilities of the positive class, in the forms of `check_scores`.

    y_true : ndarray of shape (n_samples, n_labels)
        Checked labels.

    name : str, default="y_prob"
        The parameter's name, for errors.

    labels : object, default=None
        The labels as the user gave them. If both are DataFrames, their columns must agree.

    Returns
    -------
    y_prob : ndarray of shape (n_samples, n_labels)
        Probabilities.
    """
    probabilities = check_scores(y_prob, y_true, name=name, labels=labels)
    n_outside = ((probabilities < 0) | (probabilities > 1)).sum()
    if n_outside:
        raise ValueError(
            f"`{name}` has {n_outside} entries below 0 or above 1; pass what `predict_proba` gives."
        )
    return probabilities


def check_sample_weight(sample_weight, n_samples):
    """Turn row weights into a float array; None weighs all rows alike.

    Parameters
    ----------
    sample_weight : array-like of shape (n_samples,) or None
        Weights, none negative and not all zero.

    n_samples : int
        Number of rows.

    Returns
    -------
    sample_weight : ndarray of shape (n_samples,)
        Weights.
    """
    if sample_weight is None:
        return np.ones(n_samples)
    weights = as_floats(sample_weight, "`sample_weight` cannot be read as numbers.")
    if weights.shape != (n_samples,):
        raise ValueError(
            f"`sample_weight` has shape {weights.shape}; pass ({n_samples},), one per row."
        )
    if not np.isfinite(weights).all() or (weights < 0).any() or not weights.any():
        raise ValueError(
            "`sample_weight` has a negative, NaN or infinite entry, or is zero in every row; pass "
            "finite weights of at least 0."
        )
    return weights


def check_groups(groups, n_samples):
    """Turn groups into codes 0 … n_groups-1; None makes every row its own group.

    Parameters
    ----------
    groups : array-like of shape (n_samples,) or None
        The unit that is resampled, for example the patient.

    n_samples : int
        Number of rows.

    Returns
    -------
    group_of_row : ndarray of shape (n_samples,)
        Codes, which do not depend on the order of the rows.
    """
    if groups is None:
        return np.arange(n_samples)
    # a list as objects, so that a NaN among names does not become the name "nan"
    groups = np.asarray(groups, dtype=None if hasattr(groups, "dtype") else object)
    if groups.shape != (n_samples,):
        raise ValueError(f"`groups` has shape {groups.shape}; pass ({n_samples},), one per row.")
    codes, uniques = pd.factorize(groups, sort=True)
    if (codes < 0).any():
        raise ValueError(
            f"`groups` has {(codes < 0).sum()} missing values; give each of these rows its group."
        )
    if len(uniques) < 2:
        raise ValueError(
            "`groups` holds a single group, of which no interval can be made; pass finer groups, "
            "or groups=None to resample rows."
        )
    return codes


def check_bootstrap(n_bootstraps, confidence_level):
    """Check the bootstrap's settings.

    Parameters
    ----------
    n_bootstraps : int
        Number of resamples, 0 or more.

    confidence_level : float
        Coverage, between 0 and 1.
    """
    if not isinstance(n_bootstraps, numbers.Integral) or n_bootstraps < 0:
        raise ValueError(
            f"`n_bootstraps` is {n_bootstraps!r}; pass a whole number, 0 for no intervals."
        )
    if not isinstance(confidence_level, numbers.Real) or not 0 < float(confidence_level) < 1:
        raise ValueError(
            f"`confidence_level` is {confidence_level!r}; pass a number between 0 and 1, as 0.95."
        )


def check_averages(averages):
    """Check which means over labels are asked for.

    Parameters
    ----------
    averages : sequence of {"macro", "micro", "weighted"}
        Names, none twice.

    Returns
    -------
    averages : list of str
        The same.
    """
    names = [averages] if isinstance(averages, str) else list(averages)
    if not set(names) <= set(AVERAGES) or len(set(names)) < len(names):
        raise ValueError(f"`averages` is {averages!r}; pass some of {AVERAGES}, each once.")
    return names


def check_bins(n_bins, strategy):
    """Check how probabilities are put into bins.

    Parameters
    ----------
    n_bins : int
        At least 1.

    strategy : {"uniform", "quantile"}
        Bins of equal width or of equal weight.
    """
    if not isinstance(n_bins, numbers.Integral) or n_bins < 1:
        raise ValueError(f"`n_bins` is {n_bins!r}; pass a whole number of at least 1.")
    if strategy not in BIN_STRATEGIES:
        raise ValueError(f"`strategy` is {strategy!r}; pass one of {BIN_STRATEGIES}.")


def check_threshold(threshold, n_labels):
    """Turn one threshold, or one per label, into an array.

    Parameters
    ----------
    threshold : float or array-like of shape (n_labels,)
        Scores at or above it count as predicted.

    n_labels : int
        Number of labels.

    Returns
    -------
    threshold : ndarray of shape () or (n_labels,)
        The thresholds.
    """
    threshold = np.asarray(threshold, dtype=float)
    if threshold.shape not in ((), (n_labels,)) or np.isnan(threshold).any():
        raise ValueError(
            f"`threshold` has shape {threshold.shape} or is NaN; pass one number, or one for each "
            f"of the {n_labels} labels."
        )
    return threshold
