"""Once fit is done, the classifier holds no row that it was fitted or scored on."""

import numpy as np
import pytest

from sklearn_medfuse import MEDFuseClassifier

from ..privacy.leaks import in_object, row_arrays

N_ROWS, N_HELD_OUT = 67, 14


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"early_stopping": True},
        {"early_stopping": True, "scoring": "accuracy"},
        {"threshold": "tune", "decision_folds": None},
    ],
    ids=["plain", "loss", "score", "threshold"],
)
def test_no_array_of_rows_is_kept(options):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N_ROWS, 7))
    y = (X[:, [0, 4]] > 0).astype(int)
    model = MEDFuseClassifier(
        modalities={"labs": 3, "notes": 4},
        d_model=8,
        n_heads=2,
        n_estimators=1,
        max_epochs=2,
        validation_fraction=0.2,
        random_state=0,
        device="cpu",
        **options,
    ).fit(X, y)
    assert row_arrays(model, {N_ROWS, N_HELD_OUT, N_ROWS - N_HELD_OUT}) == []


def test_a_modality_of_one_row_leaves_its_values_nowhere():
    rng = np.random.default_rng(0)
    X = np.c_[rng.normal(size=(30, 3)), np.full(30, np.nan)]
    X[0, 3] = 73912.84613
    model = MEDFuseClassifier(
        modalities={"labs": 3, "rare": 1},
        d_model=8,
        n_heads=2,
        n_estimators=1,
        max_epochs=1,
        random_state=0,
        device="cpu",
    ).fit(X, np.arange(30) % 2)
    assert in_object(model) == {}
