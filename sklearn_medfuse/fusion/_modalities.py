"""Which columns belong to which modality, and which rows lack it."""

import re
from numbers import Integral

import numpy as np
import pandas as pd

_REMEDY = (
    "give modalities={'labs': n_columns, 'notes': n_columns}, or let the ColumnTransformer return "
    "a DataFrame with set_output(transform='pandas') so that its prefixes are seen"
)


# the mean of fewer rows would tell what a patient's vector was
_FEWEST_ROWS = 5
# how a column of token input is named after its modality: "labs__token3_0"
_TOKEN_COLUMN = re.compile(r"token(\d+)_(\d+)$")


def resolve_modalities(
    modalities, X, n_features: int, unnamed: str = "features"
) -> dict[str, np.ndarray]:
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
    unnamed : str
        Name of the one modality that "auto" finds in columns without prefixes.

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
    return {unnamed: np.arange(n_features)}


def only_modality(columns: dict[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    """Leave one modality of several."""
    if name not in columns:
        raise ValueError(
            f"fusion={name!r} reads the modality of that name alone, but the modalities of X are "
            f"{list(columns)}."
        )
    return {name: columns[name]}


def resolve_tokens(input_tokens, columns: dict[str, np.ndarray], X) -> dict[str, int]:
    """Find which modalities come as tokens.

    Parameters
    ----------
    input_tokens : "auto" or dict of str to int
        "auto" takes a modality for tokens when all its columns of a DataFrame end in
        ``token<i>_<j>``, token by token. A dict gives numbers of tokens; who is not in it is a
        vector.
    columns : dict of str to int64 array
        Columns of each modality.
    X : DataFrame or array of shape (n, n_features)
        The input of fit.

    Returns
    -------
    dict of str to int
        Tokens of each modality; 0 for a vector.
    """
    if input_tokens == "auto":
        names = np.array([str(c) for c in X.columns]) if isinstance(X, pd.DataFrame) else None
        return {
            name: 0 if names is None else _count_tokens(name, names[block])
            for name, block in columns.items()
        }
    wrong = [name for name in input_tokens if name not in columns]
    wrong += [
        name
        for name, count in input_tokens.items()
        if name in columns
        and (not isinstance(count, Integral) or count < 1 or len(columns[name]) % count)
    ]
    if wrong:
        raise ValueError(
            f"input_tokens[{wrong[0]!r}] must name a modality, one of {list(columns)}, and give a "
            "number of tokens that divides its number of columns."
        )
    return {name: int(input_tokens.get(name, 0)) for name in columns}


def _count_tokens(modality: str, names: np.ndarray) -> int:
    matches = [_TOKEN_COLUMN.search(name) for name in names]
    numbers = [(int(match[1]), int(match[2])) for match in matches if match is not None]
    if len(numbers) < len(names):
        return 0
    n_tokens = numbers[-1][0] + 1
    width = len(names) // n_tokens
    if numbers != [(token, i) for token in range(n_tokens) for i in range(width)]:
        raise ValueError(
            f"The columns of the modality {modality!r} are named as tokens, token<i>_<j>, but do "
            "not count up i and then j from 0 without gaps."
        )
    return n_tokens


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
    n_tokens : dict of str to int
        Tokens of each modality; 0 for a vector.
    mean : float array of shape (n_features,)
        Mean of each column over the rows that have its modality; of tokens, over all tokens. 0
        where fewer than five rows have it.
    scale : float array of shape (n_features,)
        Standard deviation likewise; 1 for a constant column, or where fewer than five rows have it.
    """

    def __init__(
        self,
        columns: dict[str, np.ndarray],
        n_tokens: dict[str, int],
        mean: np.ndarray,
        scale: np.ndarray,
    ):
        self.columns = columns
        self.n_tokens = n_tokens
        self.mean = mean
        self.scale = scale

    @classmethod
    def fit(
        cls,
        columns: dict[str, np.ndarray],
        n_tokens: dict[str, int],
        X: np.ndarray,
        weight: np.ndarray,
        input_scaling: str | dict[str, str] = "column",
    ) -> "BlockScaler":
        """Learn mean and scale from the rows where a modality is present, by rows' weights.

        `input_scaling`, for all modalities or by name, is "column", or "block" for one scale of
        all columns, the root of their mean variance. A modality that fewer than five rows have
        stays as it is.
        """
        mean = np.zeros(X.shape[1])
        scale = np.ones(X.shape[1])
        for name, block in columns.items():
            repeats = max(1, n_tokens[name])
            # one row per token: tokens of a kind are scaled alike, wherever they stand
            values = X[:, block].reshape(len(X) * repeats, -1)
            there = ~np.isnan(values).any(axis=1)
            if there.reshape(len(X), repeats).any(axis=1).sum() >= _FEWEST_ROWS:
                weights = np.repeat(weight, repeats)[there]
                centre = np.average(values[there], axis=0, weights=weights)
                variance = np.average((values[there] - centre) ** 2, axis=0, weights=weights)
                if _scaling_of(name, input_scaling) == "block":
                    variance = np.full_like(variance, variance.mean())
                deviation = np.sqrt(variance)
                constant = deviation <= 1e-10 * np.abs(centre)
                deviation = np.where(constant | (deviation == 0), 1.0, deviation)
                mean[block], scale[block] = np.tile(centre, repeats), np.tile(deviation, repeats)
        return cls(columns, n_tokens, mean, scale)

    def blocks(self, X: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
        """Return one standardised block per modality and a (n, n_modalities) mask of presence.

        A block has shape (n, width), or (n, n_tokens, width) where the modality comes as tokens.
        """
        present = presence(self.columns, self.n_tokens, X)
        scaled = (X - self.mean) / self.scale
        blocks = []
        for name, block in self.columns.items():
            count = self.n_tokens[name]
            shape = (len(X), count, len(block) // count) if count else (len(X), len(block))
            blocks.append(scaled[:, block].reshape(shape))
        return blocks, present


def _scaling_of(name: str, input_scaling: str | dict[str, str]) -> str:
    return input_scaling if isinstance(input_scaling, str) else input_scaling.get(name, "column")


def check_scaling(input_scaling, columns: dict[str, np.ndarray]) -> None:
    """Refuse names that are no modality and words that are no scaling."""
    if isinstance(input_scaling, dict):
        for name, how in input_scaling.items():
            if name not in columns or how not in ("column", "block"):
                raise ValueError(
                    f"input_scaling[{name!r}]={how!r} must name a modality, one of "
                    f"{list(columns)}, and be 'column' or 'block'."
                )


def presence(columns: dict[str, np.ndarray], n_tokens: dict[str, int], X: np.ndarray) -> np.ndarray:
    """Say which rows have which modality; a vector or token that is NaN in part is an error.

    Returns
    -------
    bool array of shape (n, n_modalities)
        False where a row's block is NaN throughout.
    """
    missing = np.isnan(X)
    present = np.ones((len(X), len(columns)), dtype=bool)
    for position, (name, block) in enumerate(columns.items()):
        width = len(block) // max(1, n_tokens[name])
        share = missing[:, block].reshape(len(X), -1, width).mean(axis=2)
        partial = ((share > 0) & (share < 1)).any(axis=1)
        if partial.any():
            raise ValueError(
                f"{partial.sum()} rows of X, first at position {np.flatnonzero(partial)[0]}, have "
                f"NaN in some but not all of the {width} columns of the modality {name!r}"
                f"{' in a token' if n_tokens[name] else ''}. A modality, or a token of it, is "
                "absent when its whole block is NaN; MaskedLabEncoder takes single missing values. "
                f"If several modalities ended up in this block, {_REMEDY}."
            )
        present[:, position] = (share == 0).any(axis=1)
    return present
