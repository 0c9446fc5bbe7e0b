"""Columns that patients are told apart by → groups of rows; numbers are cut into bands."""

import numbers
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd

ALL = "all"
_AGE_BANDS = {"age": (45, 65, 80)}
_MOST_VALUES = 10


@dataclass(frozen=True)
class Subgroup:
    """Some of the rows.

    Parameters
    ----------
    attribute : str
        The column.

    name : str
        The value or band.

    rows : ndarray of bool of shape (n_samples,)
        Its rows.

    others : ndarray of bool of shape (n_samples,)
        Rows of which the column has another value.
    """

    attribute: str
    name: str
    rows: np.ndarray
    others: np.ndarray


def read_subgroups(subgroups, bins, n_samples):
    """Make a group of every value of every column.

    Parameters
    ----------
    subgroups : DataFrame of shape (n_samples, n_attributes), Series or dict of columns
        What patients are told apart by. A row whose value is missing is in no group.

    bins : dict of str to sequence of float, or None
        Column → edges, which belong to the band above them. None cuts ``age``.

    n_samples : int
        Number of rows.

    Returns
    -------
    found : dict of str to list of Subgroup
        Attribute → groups: bands from low to high, values from frequent to rare.
    """
    if isinstance(subgroups, pd.Series):
        subgroups = subgroups.to_frame()
    elif isinstance(subgroups, dict):
        subgroups = {name: np.asarray(column) for name, column in subgroups.items()}
    table = pd.DataFrame(subgroups)
    if len(table) != n_samples or not table.shape[1]:
        raise ValueError(
            f"`subgroups` has shape {table.shape}; pass {n_samples} rows and at least one column."
        )
    names = [str(name) for name in table.columns]
    if len(set(names)) < len(names) or ALL in names:
        raise ValueError(f"The columns of `subgroups` must be distinct and other than {ALL!r}.")
    table = table.set_axis(names, axis=1)
    bins = (
        {name: _AGE_BANDS[name] for name in names if name in _AGE_BANDS} if bins is None else bins
    )
    unknown = [name for name in bins if name not in names]
    if unknown:
        raise ValueError(f"`bins` names {unknown}, which are no columns of `subgroups`: {names}.")
    return {name: _read_column(name, table[name], bins.get(name)) for name in names}


def _read_column(name, column, edges):
    values = _name_values(name, column) if edges is None else _cut(name, column, edges)
    known = values.notna().to_numpy()
    groups = []
    for value in values.cat.categories:
        rows = (values == value).to_numpy()
        if rows.any():
            groups.append(Subgroup(name, str(value), rows, known & ~rows))
    return groups


def _name_values(name, column):
    if pd.api.types.is_float_dtype(column) and column.nunique() > _MOST_VALUES:
        raise ValueError(
            f"Column {name!r} of `subgroups` holds {column.nunique()} different numbers; pass "
            f"bins={{{name!r}: (edge, …)}}, or the column as text if each is a group."
        )
    texts = column.map(_as_text, na_action="ignore").astype(object)
    # by falling count, then by name
    counts = texts.value_counts().sort_index().sort_values(ascending=False, kind="stable")
    return texts.astype(pd.CategoricalDtype(list(counts.index)))


def _as_text(value):
    # 66.0 is hospital 66: a missing value made floats of the column
    if isinstance(value, numbers.Real) and not isinstance(value, bool) and value == int(value):
        return str(int(value))
    return str(value)


def _cut(name, column, edges):
    edges = [float(edge) for edge in np.atleast_1d(edges)]
    if not edges or not np.isfinite(edges).all() or (np.diff(edges) <= 0).any():
        raise ValueError(f"`bins` of {name!r} must be finite numbers that rise; pass them sorted.")
    numeric = pd.to_numeric(column, errors="coerce").astype(float)
    n_texts = int((numeric.isna() & column.notna()).sum())
    if n_texts:
        raise ValueError(
            f"Column {name!r} of `subgroups` has {n_texts} values that are no numbers, so it "
            "cannot be cut; pass numbers, or leave it out of `bins`."
        )
    labels = [
        f"under {edges[0]:g}",
        *(f"{low:g} to under {high:g}" for low, high in pairwise(edges)),
        f"{edges[-1]:g} and over",
    ]
    return pd.cut(numeric, [-np.inf, *edges, np.inf], right=False, labels=labels)
