"""Read labels, groups and times for splitters; errors never show a value of the data."""

import warnings

import numpy as np
import pandas as pd
from sklearn.utils.multiclass import type_of_target


def encode_groups(groups, name="groups"):
    """Turn group labels into codes 0 … n_groups-1; the codes do not depend on the row order.

    Parameters
    ----------
    groups : array-like of shape (n_samples,)
        A value per row.

    name : str, default="groups"
        The parameter's name, for errors.

    Returns
    -------
    codes : ndarray of int of shape (n_samples,)
        Codes.

    n_groups : int
        Number of distinct values.
    """
    if groups is None:
        raise ValueError(
            f"`{name}` is None. Pass one value per row, e.g. groups=cohort.groups (in a search: "
            "search.fit(X, y, groups=...)), or use np.arange(n_samples) if every row stands alone."
        )
    # a list as objects, so that a NaN among names does not become the name "nan"
    groups = np.asarray(groups, dtype=None if hasattr(groups, "dtype") else object)
    if groups.ndim != 1:
        raise ValueError(
            f"`{name}` has {groups.ndim} dimensions; pass one value per row, of shape (n_samples,)."
        )
    codes, uniques = pd.factorize(groups, sort=True)
    n_missing = int((codes < 0).sum())
    if n_missing:
        raise ValueError(
            f"`{name}` has {n_missing} missing values; give each of these rows its group, or drop "
            "the rows."
        )
    return codes, len(uniques)


def as_indicator(y):
    """Turn labels of any accepted kind into a 0/1 array.

    Parameters
    ----------
    y : array-like or sparse matrix of shape (n_samples,) or (n_samples, n_labels)
        0/1 per label, or one column of classes.

    Returns
    -------
    indicator : ndarray of int of shape (n_samples, n_labels)
        Labels; of classes one column each.
    """
    if y is None:
        raise ValueError("`y` is None. Pass the labels: folds are stratified by them.")
    y = y.toarray() if hasattr(y, "toarray") else np.asarray(y)
    n_missing = int(pd.isna(y).sum())
    if n_missing:
        raise ValueError(
            f"`y` has {n_missing} missing values; give every row all its labels, or drop the rows."
        )
    kind = type_of_target(y, input_name="y")
    if kind in ("binary", "multiclass"):
        classes, codes = np.unique(y.ravel(), return_inverse=True)
        return np.eye(len(classes), dtype=np.int64)[codes]
    if kind == "multilabel-indicator" and np.isin(y, (0, 1)).all():
        return y.astype(np.int64)
    raise ValueError(
        f"`y` is of kind {kind!r} or holds numbers other than 0 and 1. Pass one 0/1 column per "
        "label, or a single column of classes."
    )


def warn_if_too_rare(label_counts, n_splits, unit):
    """Warn of labels that have positives in fewer rows or groups than there are folds.

    Parameters
    ----------
    label_counts : ndarray of shape (n_units, n_labels)
        Positives of each label in each row or group.

    n_splits : int
        Number of folds.

    unit : {"rows", "groups"}
        What is placed as a whole.
    """
    n_too_rare = int(((label_counts > 0).sum(axis=0) < n_splits).sum())
    if n_too_rare:
        warnings.warn(
            f"{n_too_rare} of {label_counts.shape[1]} labels in `y` have positives in fewer than "
            f"n_splits={n_splits} {unit}, so some folds have none of them. Use fewer folds or "
            "leave these labels out.",
            UserWarning,
            stacklevel=3,
        )


def encode_times(times):
    """Turn times into numbers that rise with them.

    Parameters
    ----------
    times : array-like of shape (n_samples,)
        Dates with times, of any time zone, or numbers.

    Returns
    -------
    numbers : ndarray of shape (n_samples,)
        Microseconds as whole numbers, or the numbers.

    are_dates : bool
        Which of the two.
    """
    if not isinstance(times, pd.Series):
        times = pd.Series(np.asarray(times) if np.ndim(times) == 1 else list(times))
    times = times.reset_index(drop=True)
    n_missing = int(times.isna().sum())
    if n_missing:
        raise ValueError(
            f"`times` has {n_missing} missing values; give each of these rows its time, or drop "
            "the rows."
        )
    times = times.infer_objects()
    if isinstance(times.dtype, pd.DatetimeTZDtype):
        times = times.dt.tz_convert(None)
    if pd.api.types.is_datetime64_dtype(times.dtype):
        return times.astype("datetime64[us]").astype("int64").to_numpy(), True
    if pd.api.types.is_numeric_dtype(times.dtype) and not pd.api.types.is_bool_dtype(times.dtype):
        return times.to_numpy(), False
    raise ValueError(
        f"`times` is of type {times.dtype}; pass dates, e.g. by pandas.to_datetime, or numbers."
    )
