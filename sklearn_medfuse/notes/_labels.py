"""Labels of notes, for what is trained on them."""

import numpy as np
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import check_array, column_or_1d
from sklearn.utils.multiclass import type_of_target

from .._private_errors import no_values_in_errors


def label_matrix(y, n_notes: int) -> np.ndarray:
    """Labels as float32 0/1 of shape (n, n_labels); one column per class of a multi-class y."""
    with no_values_in_errors():
        kind = type_of_target(y, input_name="y")
        if kind == "multilabel-indicator":
            matrix = check_array(y, dtype=np.float32)
        elif kind in {"binary", "multiclass"}:
            matrix = LabelBinarizer().fit_transform(column_or_1d(y)).astype(np.float32)
        else:
            raise ValueError(f"y is {kind}; training takes classes, or 0/1 per label.")
    check_length("y", len(matrix), n_notes)
    return matrix


def check_length(name: str, length: int, n_notes: int) -> None:
    """Refuse what has not one entry per note."""
    if length != n_notes:
        raise ValueError(f"{name} has {length} entries, X has {n_notes} notes; they must agree.")
