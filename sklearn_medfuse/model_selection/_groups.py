"""Read the groups of rows; errors never show a value of the data."""

from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

PerRow: TypeAlias = npt.ArrayLike | pd.Series | None
RandomState: TypeAlias = int | np.random.RandomState | None
Splits: TypeAlias = Iterator[tuple[np.ndarray, np.ndarray]]


def encode_groups(groups, name="groups"):
    """Return codes 0 … n_groups-1, whatever the order of the rows, and the number of groups."""
    if groups is None:
        raise ValueError(
            f"`{name}` is None. Pass one value per row, e.g. groups=cohort.groups (in a search: "
            "search.fit(X, y, groups=...)), or use np.arange(n_samples) if rows are independent."
        )
    # A list is read as objects, so that a NaN among names does not become the name "nan".
    groups = np.asarray(groups, dtype=None if hasattr(groups, "dtype") else object)
    if groups.ndim != 1:
        raise ValueError(
            f"`{name}` has {groups.ndim} dimensions; pass one value per row, of shape (n_samples,)."
        )
    codes, uniques = pd.factorize(groups, sort=True)
    n_missing = int((codes < 0).sum())
    if n_missing:
        raise ValueError(
            f"`{name}` has {n_missing} missing values; pass a group for these rows, or drop them."
        )
    return codes, len(uniques)
