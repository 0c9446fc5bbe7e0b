"""The logits of a fitted classifier as a function that torch can differentiate."""

import numpy as np
import torch
from torch import Tensor

from ._linear_part import LinearPart
from ._modalities import BlockScaler, presence


def differentiable_logits(classifier, X: Tensor) -> Tensor:
    """Logits over the temperatures, before any isotonic calibration.

    Parameters
    ----------
    classifier : MEDFuseClassifier
        Fitted.
    X : float64 Tensor of shape (n_rows, n_features)
        Vectors in the columns of fit; NaN where a modality is absent.

    Returns
    -------
    Tensor of shape (n_rows, n_outputs)
        Logits of the labels, of the classes, or of the second of two.
    """
    model = classifier._model()
    scaler = model.scaler
    parameter = next(model.module.parameters())
    present = presence(scaler.columns, scaler.n_tokens, X.detach().cpu().numpy())
    scaled = (X - X.new_tensor(scaler.mean)) / X.new_tensor(scaler.scale)
    there = torch.from_numpy(present).to(parameter.device)
    parts = model.module.forward_parts(_blocks(scaler, scaled.to(parameter)), there)
    logits = model.module.forward_logits(parts).mean(dim=0).to(X)
    if model.linear is not None:
        linear = _linear_logits(model.linear, scaler, scaled, present)
        logits = (1 - model.weight) * logits + model.weight * linear
    return logits / X.new_tensor(np.asarray(getattr(classifier, "temperatures_", 1.0)))


def _blocks(scaler: BlockScaler, scaled: Tensor) -> list[Tensor]:
    blocks = []
    for name, columns in scaler.columns.items():
        block = scaled[:, torch.from_numpy(columns).to(scaled.device)]
        count = scaler.n_tokens[name]
        blocks.append(block.unflatten(1, (count, -1)) if count else block)
    return blocks


def _linear_logits(
    linear: LinearPart, scaler: BlockScaler, scaled: Tensor, present: np.ndarray
) -> Tensor:
    """As `LinearPart.logits`."""
    n_features = scaled.shape[1]
    coef = scaled.new_tensor(linear.coef)
    logits = scaled.new_tensor(linear.intercept) + scaled.new_tensor(~present) @ coef[n_features:]
    for columns in scaler.columns.values():
        place = torch.from_numpy(columns).to(scaled.device)
        block = torch.where(scaled[:, place].isnan(), 0.0, scaled[:, place])
        logits = logits + block @ coef[place] / np.sqrt(len(columns))
    return logits
