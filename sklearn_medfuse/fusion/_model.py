"""What predicts: scaled inputs, the net with its linear part, and decisions on logits."""

import warnings
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.special import expit, logit, logsumexp, softmax
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from .._nn.fusion import FusionParts, FusionWithCritic, LinearSkip
from .._training import rows_of_prediction
from ._rows import NAME_MODALITIES, TrainingRows

Result = TypeVar("Result")

_PREDICTION_BATCH = 4096
# The mean of fewer rows would reveal a patient's vector
_FEWEST_ROWS = 5
# A slope of 0, right for a net that has learned nothing, would make all rows equal
_LEAST_SLOPE = 0.05
# Logit of a label that had one value in fit: as sure as a float64 can be short of infinity
_CERTAIN = np.finfo(np.float64).eps


class ScaledInput(NamedTuple):
    """Standardised rows, as the net reads them."""

    blocks: list[np.ndarray]  # One per modality, (n, width) or (n, n_tokens, width); NaN if absent
    present: np.ndarray  # bool (n, n_modalities): False where a row lacks a modality

    def take(self, rows) -> "ScaledInput":
        """Some of the rows."""
        return ScaledInput([block[rows] for block in self.blocks], self.present[rows])


class BlockScaler(NamedTuple):
    """Divide X into standardised blocks and find absent modalities.

    Mean and scale are 0 and 1 if fewer than five rows have the modality.
    """

    columns: dict[str, np.ndarray]  # Of each modality
    n_tokens: dict[str, int]  # Of each modality; 0 for a vector
    mean: np.ndarray  # (n_features,): over the rows, and tokens, that have the modality
    scale: np.ndarray  # (n_features,): standard deviation likewise; 1 for a constant column

    @classmethod
    def fit(cls, columns, n_tokens, X, weight, input_scaling: str | dict = "column"):
        """Learn weighted mean and scale from the rows that have a modality.

        `input_scaling`, for all modalities or by name, is "column", or "block" for one scale for
        all columns, the root of their mean variance.
        """
        by_name = input_scaling if isinstance(input_scaling, dict) else {}
        default = "column" if isinstance(input_scaling, dict) else input_scaling
        mean, scale = np.zeros(X.shape[1]), np.ones(X.shape[1])
        for name, block in columns.items():
            repeats = max(1, n_tokens[name])
            # One row per token: tokens of a modality are scaled alike, wherever they stand
            values = X[:, block].reshape(len(X) * repeats, -1)
            there = ~np.isnan(values).any(axis=1)
            if there.reshape(len(X), repeats).any(axis=1).sum() < _FEWEST_ROWS:
                continue
            weights = np.repeat(weight, repeats)[there]
            centre = np.average(values[there], axis=0, weights=weights)
            variance = np.average((values[there] - centre) ** 2, axis=0, weights=weights)
            if by_name.get(name, default) == "block":
                variance = np.full_like(variance, variance.mean())
            deviation = np.sqrt(variance)
            constant = deviation <= 1e-10 * np.abs(centre)
            deviation = np.where(constant | (deviation == 0), 1.0, deviation)
            mean[block], scale[block] = np.tile(centre, repeats), np.tile(deviation, repeats)
        return cls(columns, n_tokens, mean, scale)

    def transform(self, X: np.ndarray) -> ScaledInput:
        """Standardise rows (n, n_features)."""
        return ScaledInput(self.split((X - self.mean) / self.scale), self.presence(X))

    def split(self, scaled) -> list:
        """Blocks of the modalities in the columns of an array or a tensor."""
        blocks = []
        for name, columns in self.columns.items():
            count = self.n_tokens[name]
            shape = (count, len(columns) // count) if count else (len(columns),)
            blocks.append(scaled[:, columns].reshape(len(scaled), *shape))
        return blocks

    def presence(self, X: np.ndarray) -> np.ndarray:
        """Which rows have which modality (n, n_modalities).

        A modality is absent where its whole block is NaN; a vector or token that is NaN in part is
        an error.
        """
        missing = np.isnan(X)
        present = np.ones((len(X), len(self.columns)), dtype=bool)
        for position, (name, block) in enumerate(self.columns.items()):
            width = len(block) // max(1, self.n_tokens[name])
            share = missing[:, block].reshape(len(X), -1, width).mean(axis=2)
            partial = ((share > 0) & (share < 1)).any(axis=1)
            if partial.any():
                raise ValueError(
                    f"{partial.sum()} rows of X, first at position {np.flatnonzero(partial)[0]}, "
                    f"have NaN in some but not all of the {width} columns of the modality {name!r}"
                    f"{' in a token' if self.n_tokens[name] else ''}. A modality, or one of its "
                    "tokens, is absent if its whole block is NaN; MaskedLabEncoder takes single "
                    f"missing values. Does this block hold several modalities? {NAME_MODALITIES}"
                )
            present[:, position] = (share == 0).any(axis=1)
        return present


def fit_regressions(skip: LinearSkip, scaled: ScaledInput, rows: TrainingRows, C: float) -> None:
    """Fit β by maximum likelihood with penalty ||β||² / (2 C), modality by modality.

    A logit is the usual one plus what each modality, on its own, adds to it.
    """
    usual = _usual_logits(rows, len(skip.bias))
    fit = _fit_classes if rows.y.ndim == 1 else _fit_labels
    blocks = [torch.from_numpy(block) for block in scaled.blocks]
    of_each = skip.regressors(blocks, torch.from_numpy(scaled.present))
    fitted = [fit(columns.numpy(), rows, usual, C) for columns in of_each]
    skip.coef.copy_(torch.from_numpy(np.concatenate([coef for coef, _ in fitted])))
    skip.bias.copy_(torch.from_numpy(usual + sum(own - usual for _, own in fitted)))


def _usual_logits(rows: TrainingRows, n_outputs: int) -> np.ndarray:
    """Logits of the outputs' weighted shares; one pseudo-case per class keeps them finite."""
    several = rows.y.ndim == 1
    hit = np.eye(n_outputs)[rows.y] if several else rows.y
    weight = np.broadcast_to(rows.cell_weight * rows.unit, hit.shape)
    share = ((weight * hit).sum(axis=0) + 1) / (weight.sum(axis=0) + (n_outputs if several else 2))
    return np.log(share) if several else np.log(share / (1 - share))


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
        # For two classes scikit-learn gives only the difference
        coef[:, seen] = np.outer(model.coef_[0], [-0.5, 0.5])
        intercept[seen] = model.intercept_[0] * np.array([-0.5, 0.5]) + usual[seen].mean()
    else:
        coef[:, seen] = model.coef_.T
        # Logits of classes are known up to a constant: take the constant of the usual ones
        intercept[seen] = model.intercept_ - model.intercept_.mean() + usual[seen].mean()
    return coef, intercept


def _regression(C: float) -> LogisticRegression:
    return LogisticRegression(C=C, max_iter=1000)


class FusedModel(NamedTuple):
    """From X to logits, parts and contributions."""

    module: FusionWithCritic
    scaler: BlockScaler

    def logits(self, X: np.ndarray) -> np.ndarray:
        """Logits (n, n_outputs)."""
        batches = [logits.cpu().numpy() for logits in self._run(X, self.module)]
        return np.concatenate(batches)

    def parts(self, X: np.ndarray) -> Iterator[list[FusionParts]]:
        """Yield the parts of every member of the net, a batch of rows at a time."""
        return self._run(X, self.module.forward_parts)

    def contributions(self, X: np.ndarray) -> np.ndarray:
        """What each part adds to the logits, (n, n_parts + 1, n_outputs), the bias last."""
        batches = self._run(X, self.module.forward_contributions)
        return np.concatenate([added.cpu().numpy() for added in batches])

    def _run(self, X: np.ndarray, run: Callable[..., Result]) -> Iterator[Result]:
        scaled = self.scaler.transform(X)
        parameter = next(self.module.parameters())

        @torch.inference_mode()
        def run_rows(rows: slice) -> Result:
            blocks = [torch.from_numpy(block[rows]).to(parameter) for block in scaled.blocks]
            return run(blocks, torch.from_numpy(scaled.present[rows]).to(parameter.device))

        fitting = rows_of_prediction(parameter.device)
        for _, result in fitting.batches(len(X), _PREDICTION_BATCH, run_rows):
            yield result
        fitting.warn()


class Decisions(NamedTuple):
    """From logits (n, n_outputs) to scikit-learn's probabilities and classes."""

    kind: str  # "binary", "multiclass" or "multilabel-indicator"
    classes: np.ndarray  # Label numbers for multi-label targets
    constant: np.ndarray  # (n_outputs,): 0 or 1 where a label had only that value in fit, else NaN
    slope: float = 1.0  # Of every logit
    intercept: np.ndarray | float = 0.0  # (n_outputs,)
    isotonic: list[np.ndarray] | None = None  # (2, k): steps of outputs; k = 0 leaves one as it is

    def logits(self, logits: np.ndarray) -> np.ndarray:
        """Calibrated logits in scikit-learn's shape; certain for constant labels."""
        logits = self.slope * logits + self.intercept
        if self.kind == "multiclass":
            return logits
        certain = logit(np.clip(self.constant, _CERTAIN, 1 - _CERTAIN))
        logits = np.where(np.isnan(self.constant), logits, certain)
        return logits[:, 0] if self.kind == "binary" else logits

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Probabilities in scikit-learn's shape."""
        several = self.kind == "multiclass"
        if self.isotonic is None:
            logits = self.slope * logits + self.intercept
            if several:
                return softmax(logits, axis=1)
            positive = expit(logits)
        else:
            columns = [
                np.interp(own, *steps) if steps.size else expit(own)
                for own, steps in zip(logits.T, self.isotonic, strict=True)
            ]
            positive = np.stack(columns, axis=1)
            if several:
                total = positive.sum(axis=1, keepdims=True)
                share = positive / np.where(total > 0, total, 1)
                return np.where(total > 0, share, 1 / len(self.classes))
        positive = np.where(np.isnan(self.constant), positive, self.constant)
        if self.kind == "multilabel-indicator":
            return positive
        if len(self.classes) == 1:
            return np.ones_like(positive)
        return np.hstack([1 - positive, positive])

    def predict(self, logits: np.ndarray, thresholds) -> np.ndarray:
        """Classes, or a 0/1 matrix, where a probability reaches its threshold."""
        probabilities = self.probabilities(logits)
        if self.kind == "multilabel-indicator":
            return (probabilities >= thresholds).astype(np.int64)
        if self.kind == "binary" and len(self.classes) == 2:
            return self.classes[(probabilities[:, 1] >= thresholds).astype(np.intp)]
        return self.classes[probabilities.argmax(axis=1)]

    def calibrated(self, calibration: str | None, logits, y, weight) -> "Decisions":
        """These decisions with probabilities fitted to rows that were not trained on."""
        if calibration in ("sigmoid", "temperature"):
            # The logits of a constant label, which nobody sees, must not move the slope of all
            counted = weight * (self.kind == "multiclass" or np.isnan(self.constant))
            slope, intercept = _fit_sigmoid(
                self.kind, logits, y, counted, has_intercept=calibration == "sigmoid"
            )
            return self._replace(slope=slope, intercept=intercept)
        if calibration == "isotonic":
            return self._replace(isotonic=_fit_isotonic(self.kind, logits, y, weight))
        return self

    def tuned_thresholds(self, logits, y, weight, false_negative_cost) -> np.ndarray:
        """Best threshold of each label, or of the second of two classes."""
        if self.kind == "multiclass" or len(self.classes) == 1:
            return np.array([0.5])
        probabilities = self.probabilities(logits)
        if self.kind == "binary":
            probabilities = probabilities[:, [1]]
        columns = zip(probabilities.T, y.T, weight.T, strict=True)
        return np.array([tune_threshold(*column, false_negative_cost) for column in columns])


def _fit_sigmoid(kind: str, logits, y, weight, has_intercept) -> tuple[float, np.ndarray]:
    """One slope for all logits and, if wanted, an intercept for each by likelihood (Platt 1999).

    There is one slope because a rare label has too few rows for its own. Each of the k classes gets
    a share 1 / (n + k) of every row, since n rows cannot prove certainty. A label missing in every
    row gets the intercept 0.
    """
    several = kind == "multiclass"
    n_outputs = logits.shape[1]
    n_classes = n_outputs if several else 2
    hit = np.eye(n_classes)[y] if several else y
    n_known = (weight > 0).sum(axis=0)
    target = (n_known * hit + 1) / (n_known + n_classes)
    weight = weight / max(weight.sum(), np.finfo(np.float64).tiny)

    def loss(parameters):
        z = parameters[0] * logits + parameters[1:]
        log_total = logsumexp(z, axis=1, keepdims=True) if several else np.logaddexp(0, z)
        residual = weight * ((softmax(z, axis=1) if several else expit(z)) - target)
        value = (weight * log_total).sum() - (weight * target * z).sum()
        return value, np.append((residual * logits).sum(), residual.sum(axis=0))

    found = minimize(
        loss,
        np.append(1.0, np.zeros(n_outputs)),
        jac=True,
        method="L-BFGS-B",
        bounds=[(_LEAST_SLOPE, None)] + [(None, None) if has_intercept else (0, 0)] * n_outputs,
        options={"ftol": 1e-12, "gtol": 1e-8, "maxiter": 1000},
    )
    return float(found.x[0]), found.x[1:]


def _fit_isotonic(kind: str, logits, y, weight) -> list[np.ndarray]:
    """Steps of an isotonic regression of each output on its logit, as arrays of shape (2, k).

    Probabilities stay 1 / (n + 2) away from 0 and 1, since n rows cannot prove certainty. A label
    missing in every row gets no steps.
    """
    unknown = np.flatnonzero(~(weight > 0).any(axis=0))
    if len(unknown):
        warnings.warn(
            f"calibration='isotonic' leaves the labels at positions {unknown.tolist()} as they "
            "are: no held-out row has them. Set decision_folds, or hold out more rows.",
            UserWarning,
            stacklevel=5,
        )
    steps = []
    for j in range(logits.shape[1]):
        hit = (y == j) if kind == "multiclass" else y[:, j]
        own = weight[:, min(j, weight.shape[1] - 1)]
        counted = own > 0
        if not counted.any():
            steps.append(np.zeros((2, 0)))
            continue
        margin = 1 / (counted.sum() + 2)
        regression = IsotonicRegression(y_min=margin, y_max=1 - margin, out_of_bounds="clip")
        regression.fit(logits[counted, j], hit[counted], sample_weight=own[counted])
        steps.append(np.stack([regression.X_thresholds_, regression.y_thresholds_]))
    return steps


def tune_threshold(probability, y, weight, false_negative_cost: float | None = None) -> float:
    """Probability from which to predict 1 for the greatest F1, or for the least cost if given one.

    It lies halfway between the probabilities of two rows; it is 0.5 if y has only one value.
    """
    if not _has_both(y, weight):
        return 0.5
    order = np.argsort(-probability, kind="stable")
    sorted_p = probability[order]
    hits = np.cumsum((weight * y)[order])
    alarms = np.cumsum((weight * (1 - y))[order])
    misses = hits[-1] - hits
    if false_negative_cost is None:
        value = 2 * hits / (2 * hits + alarms + misses)
    else:
        value = -(alarms + false_negative_cost * misses)
    # Rows of equal probability are predicted 1 together
    last = np.append(np.flatnonzero(np.diff(sorted_p)), len(sorted_p) - 1)
    best = last[np.argmax(value[last])]
    if false_negative_cost is not None and -value[best] >= false_negative_cost * hits[-1]:
        return 1.0 if sorted_p[0] < 1 else float(np.nextafter(1.0, 2.0))
    below = sorted_p[best + 1] if best + 1 < len(sorted_p) else 0.0
    return float((sorted_p[best] + below) / 2)


def _has_both(y, weight) -> bool:
    seen = y[weight > 0]
    return bool(len(seen)) and 0 < seen.mean() < 1
