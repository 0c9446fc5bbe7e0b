"""What explains a fitted classifier: mutual information, importances, gradients."""

from typing import cast

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import check_scoring
from sklearn.utils import Bunch, check_random_state
from torch import Tensor

from .._nn.fusion import FusionParts
from ._model import Decisions, FusedModel


def mutual_information(model: FusedModel, X: np.ndarray) -> float:
    """Bound of I([S_A, S_B]; S_C) in nats, averaged over the members of the net."""
    members = zip(*model.parts(X), strict=True)
    parts = [
        FusionParts(
            [torch.cat(own) for own in zip(*(batch.specific for batch in batches), strict=True)],
            torch.cat([cast(Tensor, batch.shared) for batch in batches]),
        )
        for batches in members
    ]
    with torch.inference_mode():
        return float(model.module.mutual_information(parts).mean())


class ScoredModel(ClassifierMixin, BaseEstimator):
    """Decisions on ``logits(X)`` as the estimator that scikit-learn's scorers ask for."""

    def __init__(self, decisions: Decisions, thresholds: np.ndarray, logits):
        self.decisions = decisions
        self.thresholds = thresholds
        self.logits = logits

    @property
    def classes_(self):
        """Return the classes."""
        return self.decisions.classes

    def fit(self, X, y):
        """Refuse; scikit-learn recognises estimators by this method."""
        raise NotImplementedError("The classifier that owns the net fits it.")

    def decision_function(self, X):
        """Logits in scikit-learn's shape."""
        return self.decisions.logits(self.logits(X))

    def predict_proba(self, X):
        """Probabilities in scikit-learn's shape."""
        return self.decisions.probabilities(self.logits(X))

    def predict(self, X):
        """Classes, or a 0/1 matrix."""
        return self.decisions.predict(self.logits(X), self.thresholds)


def modality_importance(
    model: ScoredModel, modalities, X: np.ndarray, y, scoring, n_repeats: int, random_state
) -> Bunch:
    """Drop in a score when whole rows of one modality are shuffled, absent ones included."""
    rng = check_random_state(random_state)
    score = check_scoring(model, scoring)
    whole = score(model, X, y)
    falls = np.empty((len(modalities), n_repeats))
    for position, block in enumerate(modalities.values()):
        for repeat in range(n_repeats):
            shuffled = X.copy()
            shuffled[:, block] = X[rng.permutation(len(X))][:, block]
            falls[position, repeat] = whole - score(model, shuffled, y)
    return Bunch(
        modalities=list(modalities),
        importances_mean=falls.mean(axis=1),
        importances_std=falls.std(axis=1),
        importances=falls,
        score=whole,
    )


def differentiable_logits(classifier, X: Tensor) -> Tensor:
    """Logits of a fitted `MEDFuseClassifier` that torch can differentiate.

    Sigmoid calibration is part of them; isotonic calibration is not. `X` is a float64 Tensor
    (n_rows, n_features) in the columns of fit. The logits (n_rows, n_outputs) are those of the
    labels, of the classes, or of the second of two classes.
    """
    module, scaler = classifier._model
    parameter = next(module.parameters())
    present = torch.from_numpy(scaler.presence(X.detach().cpu().numpy()))
    scaled = (X - X.new_tensor(scaler.mean)) / X.new_tensor(scaler.scale)
    blocks = scaler.split(scaled.to(parameter))
    logits = module(blocks, present.to(parameter.device)).to(X)
    slope, intercept = classifier._decisions.slope, classifier._decisions.intercept
    return slope * logits + X.new_tensor(intercept)
