"""From what the user gives (array, list, frame, sparse matrix) to validated numbers, and back."""

import warnings
from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.utils import check_array
from sklearn.utils.validation import validate_data

from .._private_errors import no_values_in_errors
from ._lab_results import (
    NUMERIC,
    QUALITATIVE,
    Levels,
    describe_unread,
    fill_in,
    float_dtype,
    read_results,
)
from ._lab_sparse import measured_csr, refuse_ambiguous_format

_KINDS = (NUMERIC, QUALITATIVE)
_AS_FLOATS: dict = {"dtype": np.float64, "ensure_all_finite": "allow-nan"}
_REMEDY = " The parameter kinds tells fit how to read a column."


def validate_labs(estimator, X, levels: list[Levels] | None = None):
    """Check X as scikit-learn does and read its results.

    Parameters
    ----------
    estimator : BaseEstimator
        Its names and number of columns are checked, or set where `levels` is None.
    X : {array-like, DataFrame, sparse matrix} of shape (n_rows, n_labs)
        Lab results.
    levels : list of (list of str, or None), default=None
        Levels of each lab as learned before; None learns them.

    Returns
    -------
    values : float64 ndarray or csr_array of shape (n_rows, n_labs)
        Numbers, or positions in the levels; NaN, or no entry, where not measured.
    levels : list of (list of str, or None)
        Levels of each qualitative lab, None for a numeric one.
    """
    reset = levels is None
    kinds = positions_of_kinds(getattr(estimator, "kinds", None), X) if reset else {}
    # scikit-learn's sum over infinite cells of both signs is no number, before it refuses them
    with no_values_in_errors(), np.errstate(invalid="ignore"):
        if sparse.issparse(X):
            values = _validate_sparse(estimator, X, levels)
            return values, levels or [None] * values.shape[1]
        asked = QUALITATIVE in kinds.values()
        table = as_table(X, always=asked or _any_qualitative(levels))
        if table is None:
            values = validate_data(estimator, X, reset=reset, copy=False, **_AS_FLOATS)
            return values, levels or [None] * values.shape[1]
        validate_data(estimator, X, reset=reset, skip_check_array=True)
        results = read_results(table, levels, kinds)
        values = check_array(results.values, input_name="X", estimator=estimator, **_AS_FLOATS)
    if results.unread:
        remedy = _REMEDY if hasattr(estimator, "kinds") else ""
        warnings.warn(describe_unread(results.unread, remedy), UserWarning, stacklevel=3)
    return values, results.levels


def positions_of_kinds(kinds: Mapping | None, X) -> dict[int, str]:
    """Kinds by the columns' positions; ValueError where `kinds` does not fit X.

    Parameters
    ----------
    kinds : dict or None
        Column names, of an X without names positions, and their kinds.
    X : {array-like, DataFrame, sparse matrix} of shape (n_rows, n_labs)
        Lab results.

    Examples
    --------
    >>> positions_of_kinds({"b": "numeric"}, pd.DataFrame({"a": [1], "b": [2]}))
    {1: 'numeric'}
    """
    found: dict[int, str] = {}
    if not kinds:
        return found
    n_columns = np.shape(X)[1] if np.ndim(X) == 2 else 0
    columns = list(X.columns) if hasattr(X, "columns") else list(range(n_columns))
    for name, kind in kinds.items():
        if kind not in _KINDS:
            raise ValueError(f"kinds[{name!r}]={kind!r} is not one of {', '.join(_KINDS)}.")
        if name not in columns:
            raise ValueError(
                f"kinds names {name!r}, which is no lab column of X; use the names of a "
                "DataFrame's columns, of an array their positions."
            )
        if kind == QUALITATIVE and sparse.issparse(X):
            raise ValueError(
                f"kinds[{name!r}]={kind!r} does not fit a sparse X, which holds numbers only. "
                "Pass a DataFrame."
            )
        found |= {position: kind for position, each in enumerate(columns) if each == name}
    return found


def fill_like(X, values: np.ndarray, filled: np.ndarray, levels: list[Levels]):
    """Return the filled numbers in the type of X, its measured cells as they stand in X.

    Parameters
    ----------
    X : {array-like, DataFrame, sparse matrix} of shape (n_rows, n_labs)
        What `validate_labs` read.
    values : ndarray of shape (n_rows, n_labs)
        What it made of X; NaN where not measured.
    filled : ndarray of shape (n_rows, n_labs)
        The same without NaN.
    levels : list of (list of str, or None)
        Levels of each lab.

    Returns
    -------
    ndarray or DataFrame of shape (n_rows, n_labs)
        A DataFrame where X is one; an array of objects where X is text; else one of floats.
    """
    if isinstance(X, pd.DataFrame):
        return fill_in(X, values, filled, levels)
    table = None if sparse.issparse(X) else as_table(X, always=_any_qualitative(levels))
    if table is None:
        return filled.astype(float_dtype(getattr(X, "dtype", None)), copy=False)
    filled_table = fill_in(table, values, filled, levels)
    if all(dtype.kind == "f" for dtype in filled_table.dtypes):
        return filled_table.to_numpy(dtype=float_dtype(getattr(X, "dtype", None)))
    imputed = filled_table.to_numpy(dtype=object)
    is_array_of_texts = isinstance(X, np.ndarray) and X.dtype.kind == "U"
    return imputed.astype(str) if is_array_of_texts else imputed


def as_table(X, *, always: bool = False) -> pd.DataFrame | None:
    """Return X as a frame where its cells have to be read one by one, else None.

    Parameters
    ----------
    X : array-like
        What the user gave; not sparse.
    always : bool, default=False
        Return a frame for plain numbers too.
    """
    if isinstance(X, pd.DataFrame):
        plain = all(isinstance(dtype, np.dtype) and dtype.kind in "fiub" for dtype in X.dtypes)
        return None if plain and not always else X
    array = np.asarray(X)
    text = array.dtype.kind in "OUT"
    if array.ndim != 2 or not (text or always):
        return None
    if text and not hasattr(X, "dtype"):
        # numpy turns a list of numbers and texts into texts
        array = np.array(X, dtype=object)
    return pd.DataFrame(array, dtype=object if text else None)


def _any_qualitative(levels: list[Levels] | None) -> bool:
    return levels is not None and any(known is not None for known in levels)


def _validate_sparse(estimator, X, levels: list[Levels] | None) -> sparse.csr_array:
    if _any_qualitative(levels):
        raise ValueError(
            "Sparse X holds numbers only, but this encoder was fitted with qualitative columns "
            "(see levels_). Pass a DataFrame."
        )
    refuse_ambiguous_format(X)
    X = validate_data(estimator, X, reset=levels is None, accept_sparse="csr", **_AS_FLOATS)
    return measured_csr(X)
