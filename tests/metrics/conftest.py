"""Labels and scores that the tests of this folder share."""

import numpy as np
import pytest


@pytest.fixture
def labels():
    """Six labels of 400 rows, from rare to frequent."""
    rng = np.random.default_rng(0)
    return (rng.uniform(size=(400, 6)) < np.linspace(0.03, 0.6, 6)).astype(int)


@pytest.fixture
def scores(labels):
    """Scores of moderate skill."""
    rng = np.random.default_rng(1)
    return 1 / (1 + np.exp(1 - labels - rng.normal(size=labels.shape)))


@pytest.fixture
def patients():
    """Patients of one to several rows."""
    return np.random.default_rng(2).integers(150, size=400)
