"""The linear part of a prediction: a penalised logistic regression on each modality."""

from typing import NamedTuple

import numpy as np
from sklearn.linear_model import LogisticRegression

from ._modalities import BlockScaler
from ._targets import Targets
from ._training_rows import TrainingRows

_MAX_ITERATIONS = 1000


class LinearPart(NamedTuple):
    """Logits that are the usual ones plus what each modality, taken alone, adds to them.

    A net that learns from a thousand stays and linear models of the same vectors err in different
    ways, so the mean of their logits errs less than either. One regression on all modalities side
    by side was tried: on real stays the sum of separate ones ranks and calibrates better, as the
    modalities do not compete for the penalty.

    Attributes
    ----------
    coef : float array of shape (n_features + n_modalities, n_outputs)
        Of the standardised columns of X, each modality brought to length one, then of the
        modalities' absence.
    intercept : float array of shape (n_outputs,)
        Logits of a row that is as usual.
    """

    coef: np.ndarray
    intercept: np.ndarray

    @classmethod
    def fit(cls, scaler: BlockScaler, rows: TrainingRows, targets: Targets, C: float):
        """Fit by maximum likelihood with penalty ||coef||² / (2 C), modality by modality."""
        Z = _inputs(scaler, rows.X)
        usual = _usual_logits(rows, targets)
        coef = np.zeros((Z.shape[1], targets.n_outputs))
        intercept = usual.copy()
        fit = _fit_classes if targets.kind == "multiclass" else _fit_labels
        for columns in _columns_of(scaler, rows.X.shape[1]).values():
            coef[columns], own = fit(Z[:, columns], rows, usual, C)
            intercept += own - usual
        return cls(coef, intercept)

    def logits(self, scaler: BlockScaler, X: np.ndarray) -> np.ndarray:
        """Logits (n, n_outputs)."""
        return _inputs(scaler, X) @ self.coef + self.intercept

    def contributions(self, scaler: BlockScaler, X: np.ndarray) -> dict[str, np.ndarray]:
        """What each modality adds to the logits (n, n_outputs), the intercept aside."""
        Z = _inputs(scaler, X)
        return {
            name: Z[:, columns] @ self.coef[columns]
            for name, columns in _columns_of(scaler, X.shape[1]).items()
        }


def _columns_of(scaler: BlockScaler, n_features: int) -> dict[str, np.ndarray]:
    """Columns of each modality and of its absence in `_inputs`."""
    return {
        name: np.append(block, n_features + m)
        for m, (name, block) in enumerate(scaler.columns.items())
    }


def _inputs(scaler: BlockScaler, X: np.ndarray) -> np.ndarray:
    """Standardised columns, 0 where absent, and flags of absence."""
    blocks, present = scaler.blocks(X)
    Z = np.zeros((len(X), X.shape[1] + len(blocks)))
    for block, columns in zip(blocks, scaler.columns.values(), strict=True):
        flat = np.nan_to_num(block.reshape(len(X), -1))
        # so that one C suits a modality of ten columns and one of a thousand
        Z[:, columns] = flat / np.sqrt(len(columns))
    Z[:, X.shape[1] :] = ~present
    return Z


def _usual_logits(rows: TrainingRows, targets: Targets) -> np.ndarray:
    """Logits of the outputs' weighted shares; a pseudo-case of each kind keeps them finite."""
    n_classes = targets.n_outputs
    is_class = targets.kind == "multiclass"
    hit = np.eye(n_classes)[rows.y] if is_class else rows.y
    weight = np.broadcast_to(rows.cell_weight * rows.unit, hit.shape)
    total = weight.sum(axis=0)
    share = ((weight * hit).sum(axis=0) + 1) / (total + (n_classes if is_class else 2))
    return np.log(share) if is_class else np.log(share / (1 - share))


def _fit_labels(Z, rows: TrainingRows, usual, C: float) -> tuple[np.ndarray, np.ndarray]:
    coef, intercept = np.zeros((Z.shape[1], len(usual))), usual.copy()
    for j in range(len(usual)):
        weight = rows.cell_weight[:, j] * rows.unit
        counted = weight > 0
        y = rows.y[counted, j]
        if len(np.unique(y)) == 2:
            model = _regression(C).fit(Z[counted], y, sample_weight=weight[counted])
            coef[:, j], intercept[j] = model.coef_[0], model.intercept_[0]
    return coef, intercept


def _fit_classes(Z, rows: TrainingRows, usual, C: float) -> tuple[np.ndarray, np.ndarray]:
    coef, intercept = np.zeros((Z.shape[1], len(usual))), usual.copy()
    seen = np.unique(rows.y)
    if len(seen) < 2:
        return coef, intercept
    model = _regression(C).fit(Z, rows.y, sample_weight=rows.cell_weight[:, 0] * rows.unit)
    if len(seen) == 2:
        # of two classes scikit-learn gives the difference only
        coef[:, seen] = np.outer(model.coef_[0], [-0.5, 0.5])
        intercept[seen] = model.intercept_[0] * np.array([-0.5, 0.5]) + usual[seen].mean()
    else:
        coef[:, seen] = model.coef_.T
        # logits of classes are known up to a constant: that of the usual ones
        intercept[seen] = model.intercept_ - model.intercept_.mean() + usual[seen].mean()
    return coef, intercept


def _regression(C: float) -> LogisticRegression:
    return LogisticRegression(C=C, max_iter=_MAX_ITERATIONS)
