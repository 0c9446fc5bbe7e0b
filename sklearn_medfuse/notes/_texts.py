"""From whatever holds notes to a list of clean strings, None where there is no note."""

import numpy as np
import pandas as pd


def check_notes(X) -> tuple[list[list], list[str] | None]:
    """Take one or several columns of text apart.

    Parameters
    ----------
    X : Series, list, array of shape (n,) or (n, k), or DataFrame with k columns
        Texts; None, NaN and blank strings mean no note.

    Returns
    -------
    columns : list of k lists of length n
        The raw values, column by column.
    names : list of k str, or None
        Column names, where X has string ones.
    """
    if isinstance(X, str | bytes):
        raise ValueError(
            "X is a single text; pass a list, a Series or a text column of a DataFrame."
        )
    if isinstance(X, pd.Series):
        X = X.to_frame()
        named = isinstance(X.columns[0], str)
    else:
        named = isinstance(X, pd.DataFrame)
    if isinstance(X, pd.DataFrame):
        strings = named and all(isinstance(name, str) for name in X.columns)
        columns = [X.iloc[:, i].tolist() for i in range(X.shape[1])]
        return columns, list(X.columns) if strings else None
    if not hasattr(X, "shape"):
        X = _object_array(X)
    if X.ndim == 1:
        X = X.reshape(-1, 1)
    if X.ndim != 2:
        raise ValueError(f"X has {X.ndim} dimensions; texts come as shape (n,) or (n, k).")
    return [X[:, i].tolist() for i in range(X.shape[1])], None


def _object_array(X) -> np.ndarray:
    values = list(X)
    array = np.empty(len(values), dtype=object)
    array[:] = values
    if len(values) and all(isinstance(row, list | tuple | np.ndarray) for row in values):
        return np.array([list(row) for row in values], dtype=object)
    return array


def join_columns(columns: list[list], names: list[str]) -> list[str | None]:
    """One text per row: a single column as it is, several under their names as headings."""
    cleaned = [
        [_clean(value, row, name) for row, value in enumerate(column)]
        for column, name in zip(columns, names, strict=True)
    ]
    if len(cleaned) == 1:
        return cleaned[0]
    return [_join(row, names) for row in zip(*cleaned, strict=True)]


def _clean(value, row: int, name: str) -> str | None:
    if value is None or value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, float | np.floating) and np.isnan(value):
        return None
    if not isinstance(value, str):
        # the type alone: the value itself may be a lab result or an identifier
        raise TypeError(
            f"X holds a {type(value).__name__} instead of text in row {row} (counted from 0) of "
            f"column {name!r}; decode or convert the column to str, None or NaN where there is "
            "no note."
        )
    if not value.strip():
        return None
    try:
        value.encode()
    except UnicodeEncodeError:
        # a lone surrogate is no character; tokenizers refuse it
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return value


def _join(row: tuple[str | None, ...], names: list[str]) -> str | None:
    parts = [f"{name}:\n{text}" for name, text in zip(names, row, strict=True) if text is not None]
    return "\n\n".join(parts) or None
