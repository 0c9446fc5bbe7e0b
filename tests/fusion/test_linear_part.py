"""The linear part is scikit-learn's regression on each modality, and what they say adds up."""

import pickle

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from sklearn_medfuse import MEDFuseClassifier

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


def linear_logits(model, X, y):
    """Logits of the linear part alone, in the shape of decisions."""
    return model.set_params(linear_weight=1).fit(X, y).decision_function(X)


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


def test_two_of_three_classes_are_told_apart_where_the_third_has_no_weight(X):
    y = np.where(X[:, 0] > 0, 1, 0)
    y[:5] = 2
    model = make(linear_weight=1).fit(X, y, sample_weight=np.where(y == 2, 0.0, 1.0))
    assert (model.predict(X[5:]) == y[5:]).mean() > 0.9


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


@pytest.mark.parametrize(
    ("name", "value"), [("linear_weight", 1.1), ("linear_weight", "auto"), ("linear_C", 0.0)]
)
def test_impossible_parameters(X, y, name, value):
    with pytest.raises(ValueError, match=name):
        make(**{name: value}).fit(X, y)


def test_it_is_kept_by_a_saved_model(X, y):
    model = make(linear_weight=0.25).fit(X, y)
    loaded = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))
    np.testing.assert_array_equal(loaded.contributions(X), model.contributions(X))


def test_the_weight_stays_that_of_fit(X, y):
    model = make(linear_weight=0.25).fit(X, y)
    before = model.decision_function(X)
    np.testing.assert_array_equal(model.set_params(linear_weight=0.9).decision_function(X), before)
