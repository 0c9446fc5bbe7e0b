"""Remember which rows belong together."""

import threading
from collections.abc import Iterator
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from .._input_data import to_pandas

PerRow: TypeAlias = npt.ArrayLike | pd.Series | None
RandomState: TypeAlias = int | np.random.RandomState | None
Splits: TypeAlias = Iterator[tuple[np.ndarray, np.ndarray]]


# A search without metadata routing hands groups to its splitter alone, and clones its estimator
# after the split. So a splitter remembers, for its thread, which rows belong together, and a
# pipeline that is cloned takes that along (`MEDFusePipeline`).
_LAST_SPLIT = threading.local()


class KnownGroups(NamedTuple):
    """Which rows of a table belong together, found again by what is in the rows."""

    rows: np.ndarray  # (n_rows,): sorted hashes
    groups: np.ndarray  # (n_rows,): numbers of groups, in the order of `rows`

    def of(self, X: Any) -> np.ndarray | None:
        """Give the groups of rows, None where one is not among those that were split."""
        hashes = _hash_rows(X)
        if hashes is None:
            return None
        place = np.searchsorted(self.rows, hashes).clip(max=len(self.rows) - 1)
        return self.groups[place] if np.array_equal(self.rows[place], hashes) else None


def remember_groups(X: Any, groups: np.ndarray | None) -> None:
    """Remember for this thread which rows belong together, or that nothing is known."""
    hashes = None if groups is None else _hash_rows(X)
    known = None
    if groups is not None and hashes is not None and len(hashes) == len(groups):
        order = np.argsort(hashes, kind="stable")
        known = KnownGroups(hashes[order], np.asarray(groups)[order])
    _LAST_SPLIT.known = known


def known_groups() -> KnownGroups | None:
    """Groups of the rows that this thread has split last, None where they are not known."""
    return getattr(_LAST_SPLIT, "known", None)


def _hash_rows(X: Any) -> np.ndarray | None:
    X = to_pandas(X)
    try:
        X = X if isinstance(X, pd.DataFrame) else pd.DataFrame(np.asarray(X))
        return pd.util.hash_pandas_object(X, index=False).to_numpy()
    except (TypeError, ValueError):
        return None
