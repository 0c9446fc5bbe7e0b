"""Weights of rows and labels in the loss: sample weights, class weights, missing labels."""

import numpy as np
from sklearn.utils.class_weight import compute_class_weight

from ._targets import Targets


def cell_weights(
    targets: Targets,
    encoded: np.ndarray,
    observed: np.ndarray | None,
    sample_weight: np.ndarray,
    class_weight,
) -> np.ndarray:
    """Weight of each row and label in the prediction loss, 1 on average.

    Parameters
    ----------
    targets : Targets
        Kind of y.
    encoded : array of shape (n, n_outputs), or (n,) for several classes
        y as `Targets.fit` encodes it.
    observed : bool array of shape (n, n_outputs) or None
        False where a label is missing; its weight is 0.
    sample_weight : float array of shape (n,)
        Positive weights of rows.
    class_weight : None, "balanced", dict or list of dict
        As in scikit-learn: a dict gives weights of the classes; of labels it gives those of 0 and
        1, for every label, or a list gives one dict per label.

    Returns
    -------
    float array of shape (n, 1) or (n, n_outputs)
        Weights.
    """
    labels = targets.kind == "multilabel-indicator"
    weight = np.repeat(sample_weight[:, None], encoded.shape[1] if labels else 1, axis=1)
    if observed is not None:
        weight = weight * observed
    if isinstance(class_weight, list) and (not labels or len(class_weight) != weight.shape[1]):
        raise ValueError(
            f"class_weight is a list of {len(class_weight)} dicts, which needs y with as many "
            "labels; give one dict for classes."
        )
    if class_weight is not None:
        for column in range(weight.shape[1]):
            values = encoded[:, column] if labels else targets.decode(encoded)
            chosen = class_weight[column] if isinstance(class_weight, list) else class_weight
            weight[:, column] *= _class_weights(chosen, values, weight[:, column])
    return weight / weight.mean()


def _class_weights(class_weight, values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Weight of each row by its class."""
    counted = weight > 0
    classes, codes = np.unique(values[counted], return_inverse=True)
    if class_weight == "balanced":
        # As in scikit-learn from 1.7 on; before it did not count the weights of rows.
        total = np.bincount(codes, weight[counted])
        of_class = total.sum() / (len(classes) * total)
    else:
        of_class = compute_class_weight(class_weight, classes=classes, y=values[counted])
    # a row that does not count may be of a class that nobody else has
    position = np.searchsorted(classes, values).clip(max=len(classes) - 1)
    return of_class[position]
