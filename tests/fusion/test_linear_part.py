"""The linear part is scikit-learn's regression on each modality, and what they say adds up."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression

from sklearn_medfuse import MEDFuseClassifier
from sklearn_medfuse.fusion._model import best_linear_weight

SMALL = {
    "modalities": {"labs": 3, "notes": 4},
    "d_model": 8,
    "n_heads": 2,
    "n_tokens": 2,
    "n_estimators": 1,
    "max_epochs": 1,
    "device": "cpu",
    "random_state": 0,
}


def make(**params):
    return MEDFuseClassifier(**SMALL | params)


def linear_logits(model, X, y, **fit):
    """Of two mixtures of the same net the linear part by itself, in the shape of decisions."""
    half, none = (
        model.set_params(linear_weight=weight).fit(X, y, **fit).decision_function(X)
        for weight in (0.5, 0.0)
    )
    return 2 * half - none


@pytest.fixture
def X():
    return np.random.default_rng(0).normal(size=(90, 7))


@pytest.fixture
def y(X):
    return (X[:, [0, 4]] + np.random.default_rng(1).normal(size=(90, 2)) > 0.7).astype(int)


def test_with_one_modality_it_is_scikit_learns_regression(X, y):
    found = linear_logits(make(modalities={"all": 7}, linear_C=2.0), X, y)
    Z = (X - X.mean(axis=0)) / X.std(axis=0) / np.sqrt(7)
    for j in range(2):
        expected = LogisticRegression(C=2.0).fit(Z, y[:, j]).decision_function(Z)
        np.testing.assert_allclose(found[:, j], expected, atol=1e-3)


def test_modalities_add_what_each_says_by_itself(X, y):
    both = linear_logits(make(), X, y)
    labs = linear_logits(make(fusion="labs"), X, y)
    notes = linear_logits(make(fusion="notes"), X, y)
    usual = (y.sum(axis=0) + 1) / 92
    expected = labs + notes - np.log(usual / (1 - usual))
    np.testing.assert_allclose(both, expected, atol=1e-3)


def test_of_several_classes(X):
    y = np.digitize(X[:, 0], [-0.5, 0.5])
    found = linear_logits(make(modalities={"all": 7}, linear_C=2.0), X, y)
    Z = (X - X.mean(axis=0)) / X.std(axis=0) / np.sqrt(7)
    expected = LogisticRegression(C=2.0).fit(Z, y).predict_proba(Z)
    found = np.exp(found - found.max(axis=1, keepdims=True))
    np.testing.assert_allclose(found / found.sum(axis=1, keepdims=True), expected, atol=1e-3)


def test_an_absent_modality_says_what_its_absence_does(X, y):
    X[:30, 3:] = np.nan
    y[:30, 1] = 1
    found = linear_logits(make(linear_C=10.0), X, y)
    labs = linear_logits(make(fusion="labs", linear_C=10.0), X, y)
    added = (found - labs)[:30]
    np.testing.assert_allclose(added, added[:1].repeat(30, axis=0), atol=1e-9)
    assert added[0, 1] > 1


def test_a_label_that_is_missing_is_not_learned_from(X, y):
    y = y.astype(float)
    y[60:, 1] = np.nan
    found = linear_logits(make(), X, y)
    expected = linear_logits(make(), X[:60], y[:60].astype(int))
    # Scaled by other rows, but learned from the same ones
    assert np.corrcoef(found[:60, 1], expected[:, 1])[0, 1] > 0.98


@pytest.mark.parametrize("fusion", ["disentangled", "concat", "late", "kronecker", "labs"])
def test_contributions_add_up_with_it(X, y, fusion):
    model = make(fusion=fusion).fit(X, y)
    total = model.contributions(X).sum(axis=1)
    np.testing.assert_allclose(total, model.decision_function(X), atol=1e-9)


def test_what_it_adds_goes_to_its_modality(X, y):
    model = make(linear_weight=0.99, linear_C=10.0).fit(X, y)
    moved = X.copy()
    moved[:, 0] += 1.0
    change = model.contributions(moved) - model.contributions(X)
    of_part = dict(zip(model.part_names_, np.abs(change).mean(axis=(0, 2)), strict=True))
    assert of_part["labs"] > 10 * max(of_part["notes"], of_part["shared"])


def test_a_class_or_label_without_contrast_leaves_finite_logits(X):
    y = np.zeros((90, 2), dtype=int)
    y[:45, 0] = 1
    with pytest.warns(UserWarning, match="only one value"):
        model = make().fit(X, y)
    assert np.isfinite(model.decision_function(X)).all()


@pytest.mark.parametrize(("name", "value"), [("linear_weight", 1.0), ("linear_C", 0.0)])
def test_impossible_parameters(X, y, name, value):
    with pytest.raises(ValueError, match=name):
        make(**{name: value}).fit(X, y)


def test_the_best_weight_is_found_where_one_part_knows(X):
    rng = np.random.default_rng(2)
    X = rng.normal(size=(300, 7))
    linear = (X[:, 0] + 0.3 * rng.normal(size=300) > 0).astype(int)
    options = {"linear_weight": "auto", "linear_C": 10.0, "decision_folds": 2}
    # A net of one step knows nothing, the regression all
    assert make(**options).fit(X, linear).linear_weight_ == pytest.approx(1.0, abs=0.1)
    product = (X[:, 0] * X[:, 1] > 0).astype(int)
    learned = make(**options, max_epochs=20, dropout=0.0, batch_size=32, learning_rate=5e-3)
    assert learned.fit(X, product).linear_weight_ < 0.3


@pytest.mark.parametrize(
    "decisions",
    [{"decision_folds": None, "validation_fraction": 0.2}, {"calibration": "temperature"}],
)
@pytest.mark.parametrize("several", [False, True])
def test_a_weight_that_was_found_is_used_and_kept(X, y, decisions, several):
    y = np.digitize(X[:, 0], [-0.5, 0.5]) if several else y
    found = make(linear_weight="auto", **decisions).fit(X, y)
    assert 0 <= found.linear_weight_ <= 1
    total = found.contributions(X).sum(axis=1)
    np.testing.assert_allclose(total, found.decision_function(X), atol=1e-9)
    loaded = pickle.loads(pickle.dumps(found))
    np.testing.assert_array_equal(loaded.predict_proba(X), found.predict_proba(X))
    assert clone(found).linear_weight == "auto"


def test_a_number_is_the_weight_and_stays_that_of_fit(X, y):
    model = make(linear_weight=0.25).fit(X, y)
    before = model.decision_function(X)
    assert model.linear_weight_ == 0.25
    np.testing.assert_array_equal(model.set_params(linear_weight=0.9).decision_function(X), before)


def test_temperatures_do_not_sway_the_weight():
    rng = np.random.default_rng(3)
    signal, noise = rng.normal(size=(2, 4000, 1))
    y = (rng.random((4000, 1)) < 1 / (1 + np.exp(-2 * signal))).astype(float)
    labels, weight = "multilabel-indicator", np.ones(y.shape)
    share = best_linear_weight(labels, 5 * signal, 5 * (signal + noise), y, weight)
    assert share < 0.15
    halves = best_linear_weight(labels, signal + 0.5 * noise, signal - 0.5 * noise, y, weight)
    assert halves == pytest.approx(0.5, abs=0.1)
