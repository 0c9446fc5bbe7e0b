"""Which columns belong to which modality, and which rows lack it."""

from numbers import Integral

import numpy as np
import pandas as pd

_REMEDY = (
    "give modalities={'labs': n_columns, 'notes': n_columns}, or let the ColumnTransformer return "
    "a DataFrame with set_output(transform='pandas') so that its prefixes are seen"
)


def resolve_modalities(modalities, X, n_features: int) -> dict[str, np.ndarray]:
    """Find the columns of each modality.

    Parameters
    ----------
    modalities : "auto" or dict of str to int or slice
        "auto" groups the columns of a DataFrame by what stands before "__", as ColumnTransformer
        names them; anything else is one modality, "features". A dict gives numbers of
        columns in order, or slices.
    X : DataFrame or array of shape (n, n_features)
        The input of fit.
    n_features : int
        Number of columns.

    Returns
    -------
    dict of str to int64 array
        Columns of each modality, in order of their first column.
    """
    if isinstance(modalities, dict):
        return _from_dict(modalities, n_features)
    if modalities != "auto":
        raise ValueError(
            f"modalities={modalities!r} must be 'auto' or a dict of names to numbers of columns "
            "or slices."
        )
    names = [str(name) for name in X.columns] if isinstance(X, pd.DataFrame) else []
    if names and all("__" in name for name in names):
        prefixes = np.array([name.split("__", 1)[0] for name in names])
        return {str(p): np.flatnonzero(prefixes == p) for p in dict.fromkeys(prefixes)}
    return {"features": np.arange(n_features)}


def _from_dict(modalities: dict, n_features: int) -> dict[str, np.ndarray]:
    columns = np.arange(n_features)
    found = {}
    start = 0
    for name, which in modalities.items():
        if isinstance(which, slice):
            found[str(name)] = columns[which]
        elif isinstance(which, Integral) and not isinstance(which, bool) and int(which) > 0:
            found[str(name)] = np.arange(start, start + int(which))
            start += int(which)
        else:
            raise ValueError(
                f"modalities[{name!r}] must be a positive number of columns or a slice, got a "
                f"{type(which).__name__}."
            )
    taken = np.concatenate([*found.values(), np.array([], dtype=int)])
    if not np.array_equal(np.sort(taken), columns) or not all(map(len, found.values())):
        raise ValueError(
            f"modalities must cover each of the {n_features} columns of X exactly once; they name "
            f"{len(taken)} columns, {len(np.unique(taken))} of them distinct."
        )
    return found


class BlockScaler:
    """Split a matrix into standardised blocks and find the absent ones.

    Parameters
    ----------
    columns : dict of str to int64 array
        Columns of each modality.
    mean : float array of shape (n_features,)
        Mean of each column over the rows that have its modality.
    scale : float array of shape (n_features,)
        Standard deviation likewise; 1 for a constant column.
    """

    def __init__(self, columns: dict[str, np.ndarray], mean: np.ndarray, scale: np.ndarray):
        self.columns = columns
        self.mean = mean
        self.scale = scale

    @classmethod
    def fit(cls, columns: dict[str, np.ndarray], X: np.ndarray) -> "BlockScaler":
        """Learn mean and scale from the rows where a modality is present."""
        mean = np.zeros(X.shape[1])
        scale = np.ones(X.shape[1])
        for block in columns.values():
            values = X[:, block]
            values = values[~np.isnan(values).any(axis=1)]
            if len(values):
                mean[block] = values.mean(axis=0)
                deviation = values.std(axis=0)
                constant = deviation <= 1e-10 * np.abs(mean[block])
                scale[block] = np.where(constant | (deviation == 0), 1.0, deviation)
        return cls(columns, mean, scale)

    def blocks(self, X: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
        """Return one standardised block per modality and a (n, n_modalities) mask of presence."""
        present = presence(self.columns, X)
        scaled = (X - self.mean) / self.scale
        return [scaled[:, block] for block in self.columns.values()], present


def presence(columns: dict[str, np.ndarray], X: np.ndarray) -> np.ndarray:
    """Say which rows have which modality; a block that is NaN in part is an error.

    Returns
    -------
    bool array of shape (n, n_modalities)
        False where a row's block is NaN throughout.
    """
    missing = np.isnan(X)
    present = np.ones((len(X), len(columns)), dtype=bool)
    for position, (name, block) in enumerate(columns.items()):
        share = missing[:, block].mean(axis=1)
        partial = (share > 0) & (share < 1)
        if partial.any():
            raise ValueError(
                f"{partial.sum()} rows of X, first at position {np.flatnonzero(partial)[0]}, have "
                f"NaN in some but not all of the {len(block)} columns of the modality {name!r}. A "
                "modality is absent when its whole block is NaN; MaskedLabEncoder takes single "
                f"missing values. If several modalities ended up in this block, {_REMEDY}."
            )
        present[:, position] = share == 0
    return present
