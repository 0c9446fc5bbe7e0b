"""From logits to probabilities and decisions: calibration and thresholds, learned held out."""

from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from sklearn.isotonic import IsotonicRegression

from ._targets import Targets

_TEMPERATURES = (0.05, 20.0)


class Decisions(NamedTuple):
    """What turns logits (n, n_outputs) into scikit-learn's probabilities and classes.

    Attributes
    ----------
    targets : Targets
        Kind of y.
    thresholds : float array of shape (n_labels,) or (1,)
        Probability from which a label, or the second class, is predicted.
    temperatures : float array of shape (n_outputs,) or (1,), or None
        What logits are divided by.
    isotonic : list of arrays of shape (2, k), or None
        Steps of each output's isotonic regression.
    """

    targets: Targets
    thresholds: np.ndarray
    temperatures: np.ndarray | None = None
    isotonic: list[np.ndarray] | None = None

    def logits(self, logits: np.ndarray) -> np.ndarray:
        """Logits in scikit-learn's shape, over the temperatures."""
        return self.targets.decision(self._cooled(logits))

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Probabilities in scikit-learn's shape."""
        if self.isotonic is not None:
            return self.targets.from_positive(apply_isotonic(self.isotonic, logits))
        return self.targets.probabilities(self._cooled(logits))

    def predict(self, logits: np.ndarray) -> np.ndarray:
        """Classes, or a 0/1 matrix."""
        return self.targets.decide(self.probabilities(logits), self.thresholds)

    def calibrated(self, calibration: str | None, logits, y, weight) -> "Decisions":
        """These decisions with probabilities fitted to rows that were not trained on."""
        if calibration == "temperature":
            temperatures = fit_temperatures(self.targets, logits, y, weight)
            return self._replace(temperatures=temperatures)
        if calibration == "isotonic":
            return self._replace(isotonic=fit_isotonic(self.targets, logits, y, weight))
        return self

    def tuned(self, logits, y, weight, false_negative_cost: float | None) -> "Decisions":
        """These decisions with the best threshold of each label, or of the second of two classes.

        Several classes, and one alone, need none.
        """
        if self.targets.kind == "multiclass" or len(self.targets.classes) == 1:
            return self
        probabilities = self.probabilities(logits)
        if self.targets.kind == "binary":
            probabilities = probabilities[:, [1]]
        columns = zip(probabilities.T, y.T, weight.T, strict=True)
        found = [tune_threshold(*column, false_negative_cost) for column in columns]
        return self._replace(thresholds=np.array(found))

    def _cooled(self, logits: np.ndarray) -> np.ndarray:
        return logits if self.temperatures is None else logits / self.temperatures


def fit_temperatures(targets: Targets, logits, y, weight) -> np.ndarray:
    """Temperature of each label, or one of all classes, by maximum likelihood (Guo et al. 2017).

    Parameters
    ----------
    targets : Targets
        Kind of y.
    logits : float array of shape (n, n_outputs)
        Logits of rows that were not trained on.
    y : array of shape (n, n_outputs), or (n,) of class numbers
        Encoded targets.
    weight : float array of shape (n, n_outputs)
        Weights; 0 where a label is missing.

    Returns
    -------
    float array of shape (n_outputs,) or (1,)
        Temperatures, between 0.05 and 20; 1 where a label has one value only.
    """
    if targets.kind == "multiclass":
        return np.array([best_temperature(targets, logits, y, weight)[0]])
    return np.array(
        [
            best_temperature(targets, logits[:, [j]], y[:, [j]], weight[:, [j]])[0]
            if _has_both(y[:, j], weight[:, j])
            else 1
            for j in range(logits.shape[1])
        ],
        dtype=np.float64,
    )


def best_temperature(targets: Targets, logits, y, weight) -> tuple[float, float]:
    """Temperature of all outputs together by maximum likelihood, and the loss that it leaves.

    Parameters
    ----------
    targets, logits, y, weight
        As in `fit_temperatures`.

    Returns
    -------
    float, float
        The temperature, and the weighted sum of the outputs' log losses in nats.
    """

    def loss(log_temperature):
        z = logits / np.exp(log_temperature)
        if targets.kind == "multiclass":
            return -(weight[:, 0] * log_softmax(z, axis=1)[np.arange(len(y)), y]).sum()
        return (weight * (np.logaddexp(0, z) - y * z)).sum()

    found = minimize_scalar(loss, bounds=np.log(_TEMPERATURES), method="bounded")
    return float(np.exp(found.x)), float(found.fun)


def fit_isotonic(targets: Targets, logits, y, weight) -> list[np.ndarray]:
    """Steps of an isotonic regression of each output on its logit, as arrays of shape (2, k).

    Probabilities stay 1 / (n + 2) away from 0 and 1: n rows cannot tell that nobody ever is ill.
    """
    steps = []
    for j in range(logits.shape[1]):
        hit = (y == j) if targets.kind == "multiclass" else y[:, j]
        own = weight[:, min(j, weight.shape[1] - 1)]
        counted = own > 0
        margin = 1 / (counted.sum() + 2)
        regression = IsotonicRegression(y_min=margin, y_max=1 - margin, out_of_bounds="clip")
        regression.fit(logits[counted, j], hit[counted], sample_weight=own[counted])
        steps.append(np.stack([regression.X_thresholds_, regression.y_thresholds_]))
    return steps


def apply_isotonic(steps: list[np.ndarray], logits: np.ndarray) -> np.ndarray:
    """Probabilities (n, n_outputs) by `fit_isotonic`'s steps."""
    columns = [np.interp(logits[:, j], *own) for j, own in enumerate(steps)]
    return np.stack(columns, axis=1)


def tune_threshold(probability, y, weight, false_negative_cost: float | None = None) -> float:
    """Probability from which to say 1 so that F1 is greatest, or the cost least.

    Parameters
    ----------
    probability : float array of shape (n,)
        Probabilities of rows that were not trained on.
    y : array of shape (n,)
        0 or 1.
    weight : float array of shape (n,)
        Weights of rows.
    false_negative_cost : float or None
        What a missed case costs where a false alarm costs 1; None maximises F1.

    Returns
    -------
    float
        A threshold halfway between two rows' probabilities; 0.5 where y has one value only.

    Examples
    --------
    >>> import numpy as np
    >>> tune_threshold(np.array([0.1, 0.2, 0.3]), np.array([0, 1, 1]), np.ones(3))
    0.15...
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
    # rows of equal probability are said 1 together
    last = np.append(np.flatnonzero(np.diff(sorted_p)), len(sorted_p) - 1)
    best = last[np.argmax(value[last])]
    if false_negative_cost is not None and -value[best] >= false_negative_cost * hits[-1]:
        return 1.0 if sorted_p[0] < 1 else float(np.nextafter(1.0, 2.0))
    below = sorted_p[best + 1] if best + 1 < len(sorted_p) else 0.0
    return float((sorted_p[best] + below) / 2)


def _has_both(y, weight) -> bool:
    seen = y[weight > 0]
    return bool(len(seen)) and 0 < seen.mean() < 1
