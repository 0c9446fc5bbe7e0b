"""Targets of every kind go to the net and come back."""

import numpy as np
import pytest

from sklearn_medfuse.fusion._targets import Targets

rng = np.random.default_rng(0)


def test_binary_classes():
    targets, encoded = Targets.fit(np.array(["well", "ill", "well"]))
    assert encoded.tolist() == [[1], [0], [1]]
    probabilities = targets.probabilities(np.array([[0.0], [5.0]]))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert targets.decide(probabilities, 0.6).tolist() == ["ill", "well"]


def test_several_classes():
    targets, encoded = Targets.fit(np.array([3, 7, 5, 3]))
    assert encoded.tolist() == [0, 2, 1, 0]
    probabilities = targets.probabilities(rng.normal(size=(6, 3)))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert targets.decide(np.eye(3), 0.5).tolist() == [3, 5, 7]


def test_labels():
    targets, encoded = Targets.fit(np.array([[0, 1, 1], [1, 0, 1]]))
    assert encoded.tolist() == [[0, 1, 1], [1, 0, 1]]
    assert targets.classes.tolist() == [0, 1, 2]
    probabilities = targets.probabilities(np.zeros((2, 3)))
    assert probabilities.tolist() == [[0.5, 0.5, 1.0]] * 2
    assert targets.decide(probabilities, 0.5).tolist() == [[1, 1, 1]] * 2
    assert targets.decide(probabilities, 0.51).tolist() == [[0, 0, 1]] * 2


def test_one_class_is_certain():
    targets, _ = Targets.fit(np.array(["ill", "ill"]))
    probabilities = targets.probabilities(np.array([[-9.0], [9.0]]))
    assert probabilities.tolist() == [[1.0], [1.0]]
    assert targets.decide(probabilities, 0.5).tolist() == ["ill", "ill"]


@pytest.mark.parametrize("y", [[0.5, 1.5], [[1, 2], [3, 4]], [[0.1, 0.2], [0.3, 0.4]]])
def test_other_kinds_are_refused(y):
    with pytest.raises(ValueError, match="Unknown label type"):
        Targets.fit(np.array(y))


def test_huge_logits_do_not_overflow():
    targets, _ = Targets.fit(np.array([0, 1, 2]))
    assert np.isfinite(targets.probabilities(np.array([[1e300, -1e300, 0.0]]))).all()
