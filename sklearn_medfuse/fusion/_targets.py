"""Targets of all three kinds (binary, multi-class, multi-label) as the net wants them, and back."""

import warnings

import numpy as np
import pandas as pd
from scipy.special import expit, logit, softmax
from sklearn.utils.multiclass import check_classification_targets, type_of_target, unique_labels
from sklearn.utils.validation import column_or_1d

# where a label had one value in fit: as sure as a float64 can say short of infinity
_CERTAIN = np.finfo(np.float64).eps


def take_out_missing(y):
    """Replace missing labels by 0 and say where they were.

    Parameters
    ----------
    y : DataFrame or array of shape (n, n_labels), or any other form of y
        Labels; NaN and pandas.NA are missing. Targets of other forms come back as they are.

    Returns
    -------
    y : as given
        Labels without missing ones.
    observed : bool array of shape (n, n_labels) or None
        False where a label is missing; None where none is.
    """
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
    return pd.DataFrame(filled, y.index, y.columns) if isinstance(y, pd.DataFrame) else filled, (
        observed
    )


class Targets:
    """Encode targets for training and decode logits.

    Parameters
    ----------
    kind : {"binary", "multiclass", "multilabel-indicator"}
        As scikit-learn's `type_of_target` says.
    classes : ndarray
        The classes; label numbers for multi-label targets.
    constant : float array of shape (n_outputs,)
        For multi-label targets 0 or 1 where a label had but one value in fit, else NaN.
    """

    def __init__(self, kind: str, classes: np.ndarray, constant: np.ndarray):
        self.kind = kind
        self.classes = classes
        self.constant = constant

    @classmethod
    def fit(cls, y, observed=None) -> tuple["Targets", np.ndarray]:
        """Learn the kind of y; return it with y encoded: class numbers or floats of 0 and 1."""
        check_classification_targets(y)
        kind = type_of_target(y, input_name="y")
        if kind == "multilabel-indicator":
            y = np.asarray(y.toarray() if hasattr(y, "toarray") else y, dtype=np.float64)
            # scikit-learn takes a matrix of any two numbers for one of labels
            if not np.isin(y, (0, 1)).all():
                raise ValueError(
                    "y is a matrix of two numbers that are not 0 and 1. Code each label as 0 and "
                    "1, such as y == y.max()."
                )
            mean = np.average(y, axis=0, weights=observed)
            constant = np.where((mean == 0) | (mean == 1), mean, np.nan)
            return cls(kind, unique_labels(y), constant), y
        if kind not in ("binary", "multiclass"):
            raise ValueError(
                f"Unknown label type: y is {kind}; give classes in shape (n,) or a 0/1 matrix in "
                "shape (n, n_labels)."
            )
        classes, encoded = np.unique(column_or_1d(y, warn=True), return_inverse=True)
        if len(classes) > 2:
            return cls("multiclass", classes, np.full(len(classes), np.nan)), encoded
        constant = np.array([0.0 if len(classes) == 1 else np.nan])
        return cls("binary", classes, constant), encoded[:, None].astype(np.float64)

    @property
    def n_outputs(self) -> int:
        """Number of logits."""
        return len(self.constant)

    def warn_of_constant_labels(self, names) -> None:
        """Warn once that labels with one value in fit are predicted as that value."""
        found = np.flatnonzero(~np.isnan(self.constant))
        if self.kind == "multilabel-indicator" and len(found):
            listed = ", ".join(str(names[i]) for i in found[:5])
            warnings.warn(
                f"{len(found)} of {self.n_outputs} labels have one value only in y ({listed}"
                f"{', …' if len(found) > 5 else ''}); that value is predicted for them with "
                "probability 1.",
                UserWarning,
                stacklevel=3,
            )

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Probabilities in scikit-learn's shape from logits (n, n_outputs)."""
        if self.kind == "multiclass":
            return softmax(logits, axis=1)
        return self.from_positive(expit(logits))

    def from_positive(self, positive: np.ndarray) -> np.ndarray:
        """Probabilities in scikit-learn's shape from those of each output (n, n_outputs)."""
        if self.kind == "multiclass":
            total = positive.sum(axis=1, keepdims=True)
            return np.where(total > 0, positive / np.where(total > 0, total, 1), 1 / self.n_outputs)
        return self._complete(np.where(np.isnan(self.constant), positive, self.constant))

    def _complete(self, positive: np.ndarray) -> np.ndarray:
        if self.kind == "multilabel-indicator":
            return positive
        if len(self.classes) == 1:
            return np.ones_like(positive)
        return np.hstack([1 - positive, positive])

    def decision(self, logits: np.ndarray) -> np.ndarray:
        """Logits in scikit-learn's shape, certain where a label had one value in fit."""
        if self.kind == "multiclass":
            return logits
        certain = logit(np.clip(self.constant, _CERTAIN, 1 - _CERTAIN))
        logits = np.where(np.isnan(self.constant), logits, certain)
        return logits[:, 0] if self.kind == "binary" else logits

    def decode(self, encoded: np.ndarray) -> np.ndarray:
        """y as it was given, from its encoded form."""
        if self.kind == "multilabel-indicator":
            return encoded.astype(np.int64)
        return self.classes[encoded.reshape(-1).astype(np.intp)]

    def decide(self, probabilities: np.ndarray, thresholds) -> np.ndarray:
        """Classes, or a 0/1 matrix, from probabilities; thresholds are one or one per label."""
        if self.kind == "multilabel-indicator":
            return (probabilities >= thresholds).astype(np.int64)
        if self.kind == "binary" and len(self.classes) == 2:
            return self.classes[(probabilities[:, 1] >= thresholds).astype(np.intp)]
        return self.classes[probabilities.argmax(axis=1)]
