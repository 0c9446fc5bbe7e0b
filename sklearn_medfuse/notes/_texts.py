"""Read notes into lists of clean strings, None where there is no note, and labels into a matrix."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import check_array, column_or_1d
from sklearn.utils.multiclass import type_of_target

from .._input_data import no_values_in_errors, to_pandas


class NoteColumnsMixin:
    """Check the number and names of a transformer's text columns."""

    n_features_in_: int

    def _read_columns(self, X, *, first: bool) -> list[list[str | None]]:
        """Clean the text columns of X; `first` learns them, else they must be those of fit."""
        columns, names = check_notes(X)
        if first:
            self.n_features_in_ = len(columns)
            if names is not None:
                self.feature_names_in_ = np.array(names, dtype=object)
            elif hasattr(self, "feature_names_in_"):
                del self.feature_names_in_
            if not columns or not columns[0]:
                raise ValueError(
                    "Found array with 0 sample(s) while a minimum of 1 is required by "
                    f"{type(self).__name__}."
                )
        if len(columns) != self.n_features_in_:
            raise ValueError(
                f"X has {len(columns)} features, but {type(self).__name__} is expecting "
                f"{self.n_features_in_} features as input."
            )
        fitted = getattr(self, "feature_names_in_", None)
        if names is not None and fitted is not None and names != list(fitted):
            raise ValueError(
                "The feature names should match those that were passed during fit. X has the text "
                f"columns {names}, fit had {list(fitted)}."
            )
        return clean_columns(columns, self._headings())

    def _read_texts(self, X, *, first: bool) -> list[str | None]:
        """One text per row of X; several columns are joined under their names as headings."""
        rows = zip(*self._read_columns(X, first=first), strict=True)
        return [join_row(row, self._headings()) for row in rows]

    def _headings(self) -> list[str]:
        default = [f"text {i}" for i in range(self.n_features_in_)]
        return list(getattr(self, "feature_names_in_", default))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()  # type: ignore[misc]  # BaseEstimator's
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        tags.input_tags.one_d_array = True
        tags.input_tags.allow_nan = True
        tags.transformer_tags.preserves_dtype = []
        return tags


def check_notes(X) -> tuple[list[list], list[str] | None]:
    """Raw values of the text columns, and their names if they have any."""
    if isinstance(X, str | bytes):
        raise ValueError(
            "X is a single text; pass a list, a Series or a text column of a DataFrame."
        )
    X = to_pandas(X)
    if isinstance(X, pd.Series):
        X = X.to_frame()
    if isinstance(X, pd.DataFrame):
        named = all(isinstance(name, str) for name in X.columns)
        columns = [X.iloc[:, i].tolist() for i in range(X.shape[1])]
        return columns, list(X.columns) if named else None
    if not hasattr(X, "shape"):
        X = _object_array(X)
    if X.ndim == 1:
        X = X.reshape(-1, 1)
    if X.ndim != 2:
        raise ValueError(f"X has {X.ndim} dimensions; pass texts of shape (n,) or (n, k).")
    return [X[:, i].tolist() for i in range(X.shape[1])], None


def _object_array(X) -> np.ndarray:
    values = list(X)
    if values and all(isinstance(row, list | tuple | np.ndarray) for row in values):
        return np.array([list(row) for row in values], dtype=object)
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def clean_columns(columns: list[list], names: list[str]) -> list[list[str | None]]:
    """Strings that a tokenizer can read, by column; None where there is no text."""
    return [
        [_clean(value, row, name) for row, value in enumerate(column)]
        for column, name in zip(columns, names, strict=True)
    ]


def join_row(row: Sequence[str | None], names: list[str]) -> str | None:
    """Join the texts of one row: a single one unchanged, several under their names as headings."""
    if len(row) == 1:
        return row[0]
    parts = [f"{name}:\n{text}" for name, text in zip(names, row, strict=True) if text is not None]
    return "\n\n".join(parts) or None


def _clean(value, row: int, name: str) -> str | None:
    if value is None or value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, float | np.floating) and np.isnan(value):
        return None
    if not isinstance(value, str):
        # Only the type, as the value may be a lab result or an identifier
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
        # Tokenizers refuse a lone surrogate, which is not a character
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return value


def label_matrix(y, n_notes: int) -> np.ndarray:
    """Labels as float32 0/1 of shape (n, n_labels); one column per class of a multi-class y."""
    y = to_pandas(y)
    with no_values_in_errors():
        kind = type_of_target(y, input_name="y")
        if kind == "multilabel-indicator":
            matrix = check_array(y, dtype=np.float32)
        elif kind in {"binary", "multiclass"}:
            matrix = LabelBinarizer().fit_transform(column_or_1d(y)).astype(np.float32)
        else:
            raise ValueError(f"y is {kind}; training takes classes, or 0/1 per label.")
    check_length("y", len(matrix), n_notes)
    return matrix


def check_length(name: str, length: int, n_notes: int) -> None:
    """Refuse an array without one entry per note."""
    if length != n_notes:
        raise ValueError(f"{name} has {length} entries, X has {n_notes} notes; they must agree.")
