"""What fit reads: modalities among the columns, targets, weights, and splits by patient."""

import re
import warnings
from numbers import Integral, Number
from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.model_selection import (
    GroupKFold,
    GroupShuffleSplit,
    KFold,
    ShuffleSplit,
    StratifiedKFold,
    StratifiedShuffleSplit,
)
from sklearn.utils import check_consistent_length
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets, type_of_target, unique_labels
from sklearn.utils.validation import _check_sample_weight, _get_feature_names, column_or_1d

from .._input_data import no_values_in_errors, to_pandas

_MIN_VALIDATION_ROWS = 10
# Two encoders give at least as many columns, and a table of a few features fewer
_MANY_COLUMNS = 32
NAME_MODALITIES = (
    "Make the ColumnTransformer return a data frame with prefixes, by "
    "set_output(transform='pandas') or 'polars' and verbose_feature_names_out=True, or give "
    "modalities={'labs': n_columns, 'notes': n_columns}."
)
# How a column of token input is named after its modality: "labs__token3_0"
_TOKEN_COLUMN = re.compile(r"token(\d+)_(\d+)$")


# Columns


def resolve_modalities(modalities, names, n_features: int, only: str | None) -> dict:
    """Find the columns of each modality, in order of its first column.

    `names` are the columns' names, or None. Without prefixes all columns are one modality, named
    `only` or else "features".
    """
    if isinstance(modalities, dict):
        return _modalities_from_dict(modalities, n_features)
    n_prefixed = 0 if names is None else sum("__" in name for name in names)
    if 0 < n_prefixed == n_features:
        prefixes = np.array([name.split("__", 1)[0] for name in names])
        return {str(p): np.flatnonzero(prefixes == p) for p in dict.fromkeys(prefixes)}
    if n_prefixed:
        raise ValueError(
            f"{n_prefixed} of the {n_features} column names of X have a prefix such as labs__, "
            "and the others have none, so modalities='auto' cannot tell which modality these "
            f"belong to. {NAME_MODALITIES}"
        )
    if only is None and n_features >= _MANY_COLUMNS:
        warnings.warn(
            "modalities='auto' finds no column names with prefixes such as labs__ and notes__ in "
            f"X, so all {n_features} columns are one modality, 'features'. If one is meant, "
            f"modalities={{'features': {n_features}}} says so; otherwise: {NAME_MODALITIES}",
            UserWarning,
            stacklevel=5,
        )
    return {only or "features": np.arange(n_features)}


def check_named_output(transformer: ColumnTransformer, output) -> None:
    """Refuse blocks of several transformers, side by side, if no prefixes tell them apart."""
    blocks = [name for name, at in transformer.output_indices_.items() if at.stop > at.start]
    names = _get_feature_names(output)
    if len(blocks) > 1 and (names is None or not all("__" in name for name in names)):
        raise ValueError(
            "The columns of the ColumnTransformer's output are not named after its transformers, "
            f"{blocks}, so the classifier would take them for one modality. {NAME_MODALITIES}"
        )


def _modalities_from_dict(modalities: dict, n_features: int) -> dict[str, np.ndarray]:
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


def resolve_tokens(input_tokens, columns: dict[str, np.ndarray], names) -> dict[str, int]:
    """Find the number of tokens of each modality, 0 for a vector."""
    if input_tokens == "auto":
        return {
            name: 0 if names is None else _count_tokens(name, names[block])
            for name, block in columns.items()
        }
    for name, count in input_tokens.items():
        if (
            name not in columns
            or not isinstance(count, Integral)
            or count < 1
            or len(columns[name]) % count
        ):
            raise ValueError(
                f"input_tokens[{name!r}] must name a modality, one of {list(columns)}, and give a "
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
            f"The columns of the modality {modality!r} are named as tokens, token<i>_<j>, but i "
            "and j do not count up from 0 in order and without gaps."
        )
    return n_tokens


def check_scaling(input_scaling, columns: dict[str, np.ndarray]) -> None:
    """Refuse unknown modalities and scalings."""
    for name, how in input_scaling.items() if isinstance(input_scaling, dict) else ():
        if name not in columns or how not in ("column", "block"):
            raise ValueError(
                f"input_scaling[{name!r}]={how!r} must name a modality, one of {list(columns)}, "
                "and be 'column' or 'block'."
            )


# Targets


def read_targets(y):
    """Return y of any library as pandas or numpy, and numbers stored as objects as numbers."""
    y = to_pandas(y)
    values = np.asarray(y) if isinstance(y, pd.DataFrame | pd.Series | np.ndarray) else None
    if values is None or values.dtype != object:
        return y
    missing = pd.isna(values)
    if not all(issubclass(kind, Number | np.bool_) for kind in set(map(type, values[~missing]))):
        return y
    values = np.array(np.where(missing, np.nan, values).tolist())
    if isinstance(y, pd.Series):
        return pd.Series(values, y.index, name=y.name)
    return pd.DataFrame(values, y.index, y.columns) if isinstance(y, pd.DataFrame) else values


def take_out_missing(y):
    """Replace missing labels by 0; return y and where labels are observed, None if everywhere."""
    if not isinstance(y, pd.DataFrame | np.ndarray) or y.ndim != 2 or y.shape[1] < 2:
        return y, None
    observed = ~np.asarray(pd.isna(y))
    if observed.all():
        return y, None
    never = np.flatnonzero(~observed.any(axis=0))
    if len(never):
        raise ValueError(
            f"{len(never)} labels, first at position {never[0]}, are missing in every row of y; "
            "leave them out."
        )
    filled = np.where(observed, y, 0).astype(np.float64)
    if isinstance(y, pd.DataFrame):
        filled = pd.DataFrame(filled, y.index, y.columns)
    return filled, observed


def encode_targets(y, observed) -> tuple[str, np.ndarray, np.ndarray, np.ndarray]:
    """Return kind, classes and constant, as in `Decisions`, and encoded y.

    Encoded y holds class numbers (n,) for several classes, otherwise 0.0 and 1.0 (n, n_outputs).
    """
    check_classification_targets(y)
    kind = type_of_target(y, input_name="y")
    if kind == "multilabel-indicator":
        y = np.asarray(y.toarray() if hasattr(y, "toarray") else y, dtype=np.float64)
        # Scikit-learn takes a matrix of any two numbers for labels
        if not np.isin(y, (0, 1)).all():
            raise ValueError(
                "y is a matrix of two numbers other than 0 and 1. Code each label as 0 and 1, "
                "for example with y == y.max()."
            )
        mean = np.average(y, axis=0, weights=observed)
        constant = np.where((mean == 0) | (mean == 1), mean, np.nan)
        return kind, unique_labels(y), constant, y
    if kind not in ("binary", "multiclass"):
        raise ValueError(
            f"Unknown label type: y is {kind}; give classes in shape (n,) or a 0/1 matrix in "
            "shape (n, n_labels)."
        )
    classes, encoded = np.unique(column_or_1d(y, warn=True), return_inverse=True)
    if len(classes) > 2:
        return "multiclass", classes, np.full(len(classes), np.nan), encoded
    constant = np.array([0.0 if len(classes) == 1 else np.nan])
    return "binary", classes, constant, encoded[:, None].astype(np.float64)


def decode_targets(kind: str, classes: np.ndarray, encoded: np.ndarray) -> np.ndarray:
    """Return encoded y in its original form."""
    if kind == "multilabel-indicator":
        return encoded.astype(np.int64)
    return classes[encoded.reshape(-1).astype(np.intp)]


def warn_of_constant_labels(kind: str, constant: np.ndarray, names) -> None:
    """Warn once that labels with one value in fit are predicted as that value."""
    found = np.flatnonzero(~np.isnan(constant))
    if kind == "multilabel-indicator" and len(found):
        listed = ", ".join(str(i if names is None else names[i]) for i in found[:5])
        warnings.warn(
            f"{len(found)} of {len(constant)} labels have only one value in y ({listed}"
            f"{', …' if len(found) > 5 else ''}); that value is predicted for them with "
            "probability 1.",
            UserWarning,
            stacklevel=4,
        )


# Rows


class TrainingRows(NamedTuple):
    """Inputs, targets, weights and patients of the same rows."""

    X: np.ndarray  # (n, n_features): vectors of all modalities side by side
    y: np.ndarray  # (n, n_outputs), or (n,) of class numbers
    row_weight: np.ndarray  # (n,): 1 on average
    cell_weight: np.ndarray  # (n, 1) or (n, n_outputs): 1 on average; 0 where a label is missing
    groups: np.ndarray | None  # (n,): patients
    unit: float  # Mean of the weights as given: how much evidence a row carries

    @classmethod
    def weighted(
        cls, X, y, kind, classes, observed, sample_weight, class_weight, groups
    ) -> "TrainingRows":
        """Weigh rows and cells, and leave out rows of weight zero."""
        with no_values_in_errors():
            if groups is not None:
                check_consistent_length(X, groups)
            weight = _check_sample_weight(sample_weight, X, ensure_non_negative=True)
        rows = weight > 0
        # Scikit-learn before 1.9 accepts weights that are all zero
        if not rows.any():
            raise ValueError("sample_weight is zero in every row; give some row a weight.")
        unit = float(weight[rows].mean())
        weight = weight[rows] / unit
        observed = None if observed is None else observed[rows]
        cells = cell_weights(kind, classes, y[rows], observed, weight, class_weight)
        groups = None if groups is None else np.asarray(groups)[rows]
        return cls(X[rows], y[rows], weight, cells, groups, unit)

    def take(self, rows) -> "TrainingRows":
        """Some of the rows."""
        X, y, row_weight, cell_weight, groups, unit = self
        groups = None if groups is None else groups[rows]
        return TrainingRows(X[rows], y[rows], row_weight[rows], cell_weight[rows], groups, unit)

    def split(self, fraction: float, rng) -> tuple[np.ndarray, np.ndarray] | None:
        """Positions to train on and to hold out; None if too few would be held out."""
        n_held_out = round(fraction * len(self.X))
        if n_held_out < _MIN_VALIDATION_ROWS:
            return None
        options = {"test_size": fraction, "random_state": rng}
        splitter: ShuffleSplit | GroupShuffleSplit | StratifiedShuffleSplit
        if self._n_groups() > 1:
            splitter = GroupShuffleSplit(1, **options)
        elif self._smallest_class() > 1 and n_held_out >= len(np.bincount(self.y)):
            splitter = StratifiedShuffleSplit(1, **options)
        else:
            splitter = ShuffleSplit(1, **options)
        return next(splitter.split(self.X, self.y, self.groups))

    def folds(self, n_folds: int, rng) -> list[tuple[np.ndarray, np.ndarray]]:
        """Folds that hold out every row once."""
        splitter: KFold | GroupKFold | StratifiedKFold
        if self._n_groups() > 1:
            n_folds = min(n_folds, self._n_groups())
            splitter = GroupKFold(n_folds, shuffle=True, random_state=rng)
        elif self._smallest_class() >= n_folds:
            splitter = StratifiedKFold(n_folds, shuffle=True, random_state=rng)
        else:
            splitter = KFold(min(n_folds, len(self.X)), shuffle=True, random_state=rng)
        return list(splitter.split(self.X, self.y, self.groups))

    def _n_groups(self) -> int:
        return 0 if self.groups is None else len(np.unique(self.groups))

    def _smallest_class(self) -> int:
        """Rows of the smallest of several classes; 0 for labels, which are not stratified."""
        return int(np.bincount(self.y).min()) if self.y.ndim == 1 else 0


def cell_weights(kind, classes, y, observed, sample_weight, class_weight) -> np.ndarray:
    """Weight of each row and label in the prediction loss, 1 on average.

    `class_weight` is as in scikit-learn; for labels a dict gives the weights of 0 and 1 for every
    label, a list one dict per label.
    """
    labels = kind == "multilabel-indicator"
    weight = np.repeat(sample_weight[:, None], y.shape[1] if labels else 1, axis=1)
    if observed is not None:
        weight = weight * observed
    by_label = isinstance(class_weight, list)
    if by_label and (not labels or len(class_weight) != weight.shape[1]):
        raise ValueError(
            f"class_weight is a list of {len(class_weight)} dicts, which needs y with as many "
            "labels; give one dict for classes."
        )
    if class_weight is not None:
        for column in range(weight.shape[1]):
            values = y[:, column] if labels else decode_targets(kind, classes, y)
            chosen = class_weight[column] if by_label else class_weight
            weight[:, column] *= _class_weights(chosen, values, weight[:, column])
    return weight / weight.mean()


def _class_weights(class_weight, values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Weight of each row by its class."""
    counted = weight > 0
    classes, codes = np.unique(values[counted], return_inverse=True)
    if class_weight == "balanced":
        # As in scikit-learn from 1.7 on; before, it ignored the weights of rows
        total = np.bincount(codes, weight[counted])
        of_class = total.sum() / (len(classes) * total)
    else:
        of_class = compute_class_weight(class_weight, classes=classes, y=values[counted])
    # A row of weight zero may be the only one of its class
    position = np.searchsorted(classes, values).clip(max=len(classes) - 1)
    return of_class[position]
