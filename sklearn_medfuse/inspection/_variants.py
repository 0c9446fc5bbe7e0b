"""Predict altered copies of rows and encode only the altered columns again."""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from .._input_data import to_pandas

Labels = str | Sequence[str] | None
RandomState = int | np.random.RandomState | None

_OUTPUTS = ("log_odds", "probability")
# Number of copies that are encoded and predicted at once
_BATCH = 4096
# Probabilities closer to 0 or 1 differ from them by rounding errors only
_SMALLEST = 1e-7


class VariantModel:
    """A fitted classifier, or the best one of a search, that predicts altered copies of its rows.

    In a Pipeline that begins with a ColumnTransformer, such as `make_medfuse_pipeline` builds, only
    encoders of altered columns run again, so that a sweep over labs embeds each note once. Any
    other classifier of a DataFrame predicts the whole copies.
    """

    def __init__(self, estimator: Any, X: pd.DataFrame, output: str = "probability") -> None:
        X = to_pandas(X)
        if not isinstance(X, pd.DataFrame) or not len(X):
            raise ValueError("X must be a DataFrame with at least one row and the columns of fit.")
        if output not in _OUTPUTS:
            raise ValueError(f"output={output!r} must be one of {list(_OUTPUTS)}.")
        self.estimator = getattr(estimator, "best_estimator_", estimator)
        check_is_fitted(self.estimator)
        self.X = X.reset_index(drop=True)
        self.output = output
        self._encoded: Any = None
        self.label_names: list[str] = _label_names(self.estimator)

    def predict(
        self, rows: np.ndarray, copies: pd.DataFrame, changed: Collection[str]
    ) -> np.ndarray:
        """Predict copies of `rows` that differ from them in the `changed` columns at most."""
        batches = [
            self._predict_batch(
                rows[start : start + _BATCH], copies.iloc[start : start + _BATCH], set(changed)
            )
            for start in range(0, len(copies), _BATCH)
        ]
        return np.concatenate([np.empty((0, len(self.label_names))), *batches])

    def predict_rows(self) -> np.ndarray:
        """Predict the unchanged rows, shape (n_rows, n_labels)."""
        return self.predict(np.arange(len(self.X)), self.X, ())

    def choose_labels(self, labels: Labels) -> list[int]:
        """Return positions of labels by name; None takes all."""
        if labels is None:
            return list(range(len(self.label_names)))
        names = [labels] if isinstance(labels, str) else [str(label) for label in labels]
        unknown = [name for name in names if name not in self.label_names]
        if unknown or not names:
            raise ValueError(f"labels must name some of {self.label_names}; unknown: {unknown}.")
        return [self.label_names.index(name) for name in names]

    def choose_columns(self, name: str, columns: str | Sequence[str]) -> list[str]:
        """Return columns of X, each once, as a list; `name` is the parameter's."""
        names = [columns] if isinstance(columns, str) else list(columns)
        unknown = [each for each in names if each not in self.X.columns]
        if unknown or not names or len(set(names)) < len(names):
            raise ValueError(
                f"{name}={columns!r} must name at least one column of X, each only once; "
                f"unknown: {unknown}."
            )
        return names

    def _predict_batch(
        self, rows: np.ndarray, copies: pd.DataFrame, changed: set[str]
    ) -> np.ndarray:
        copies = copies.reset_index(drop=True)
        encoder = self._column_encoder()
        if encoder is None:
            probabilities = self.estimator.predict_proba(copies)
        else:
            encoded = self._encode(encoder, rows, copies, changed)
            probabilities = self.estimator[1:].predict_proba(encoded)
        values = _stack_labels(probabilities, len(self.label_names))
        if self.output == "probability":
            return values
        values = np.clip(values, _SMALLEST, 1 - _SMALLEST)
        return np.log(values / (1 - values))

    def _column_encoder(self) -> ColumnTransformer | None:
        """Return the first step if it is a ColumnTransformer whose parts can run alone."""
        estimator = self.estimator
        if not isinstance(estimator, Pipeline) or len(estimator.steps) < 2:
            return None
        first = estimator[0]
        named = isinstance(first, ColumnTransformer) and all(
            transformer == "drop" or column_names(columns) is not None
            for _, transformer, columns in first.transformers_
        )
        return first if named else None

    def _encode(
        self, encoder: ColumnTransformer, rows: np.ndarray, copies: pd.DataFrame, changed: set[str]
    ) -> Any:
        if self._encoded is None:
            self._encoded = encoder.transform(self.X)
        known = self._encoded
        if not isinstance(self._encoded, pd.DataFrame | np.ndarray) or not known.size:
            return encoder.transform(copies)
        frame = isinstance(known, pd.DataFrame)
        encoded = known.to_numpy(dtype=float)[rows] if frame else known[rows]
        for name, transformer, columns in encoder.transformers_:
            if transformer == "drop" or not changed & set(column_names(columns) or ()):
                continue
            part = transformer.transform(copies[columns])
            dense = part.toarray() if hasattr(part, "toarray") else np.asarray(part)
            encoded[:, encoder.output_indices_[name]] = dense
        return pd.DataFrame(encoded, columns=known.columns) if frame else encoded


def check_row(row: int | None, n_rows: int) -> int:
    """Return the position of a stay; None is that of the only one."""
    if row is None and n_rows != 1:
        raise ValueError(f"row=None needs one stay, and there are {n_rows}; pass its position.")
    return row or 0


def _stack_labels(probabilities: Any, n_labels: int) -> np.ndarray:
    """Return any form of `predict_proba` as probabilities (n, n_labels)."""
    if isinstance(probabilities, list):
        return np.column_stack([np.asarray(each)[:, 1] for each in probabilities])
    values = np.asarray(probabilities, dtype=float)
    # A single label comes as two classes
    return values[:, 1:] if n_labels == 1 and values.shape[1] == 2 else values


def _label_names(estimator: Any) -> list[str]:
    last = estimator[-1] if isinstance(estimator, Pipeline) else estimator
    names = getattr(last, "target_names_", None)
    if names is None:
        names = getattr(last, "classes_", None)
    if names is None:
        raise ValueError("estimator has no classes_ or target_names_; pass a fitted classifier.")
    if isinstance(names, list):
        # scikit-learn's multi-output classifiers have a list of classes for each label
        names = range(len(names))
    return [str(name) for name in names]


def column_names(columns: Any) -> list[str] | None:
    """Return names of columns, or None if they are not given by name."""
    if isinstance(columns, str):
        return [columns]
    listed = isinstance(columns, list | tuple | np.ndarray | pd.Index)
    if listed and all(isinstance(name, str) for name in columns):
        return list(columns)
    return None
