"""What the parts hold, what they add to a logit, and what a modality is worth."""

import numpy as np
import pytest
from sklearn.linear_model import RidgeCV
from sklearn.metrics import roc_auc_score

from sklearn_medfuse import MEDFuseClassifier

FUSIONS = ["disentangled", "concat", "late", "kronecker", "labs", "notes"]
SMALL = {
    "modalities": {"labs": 3, "notes": 4},
    "d_model": 8,
    "n_heads": 2,
    "n_tokens": 2,
    "n_estimators": 2,
    "max_epochs": 4,
    "learning_rate": 1e-2,
    "batch_size": 64,
    "decision_folds": 2,
    "device": "cpu",
    "random_state": 0,
}


def make(**params):
    return MEDFuseClassifier(**SMALL | params)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 7))
    y = (X[:, [0, 4]] > 0).astype(int)
    X[:10, :3], X[10:20, 3:] = np.nan, np.nan
    return X, {"labels": y, "labs": y[:, 0], "notes": y[:, 1], "several": y.sum(axis=1)}


@pytest.fixture(scope="module")
def fitted(data):
    """Classifiers fitted on the data, each once."""
    models = {}

    def fit(target="labels", **params):
        key = (target, *sorted(params.items()))
        if key not in models:
            models[key] = make(**params).fit(data[0], data[1][target])
        return models[key]

    return fit


# Contributions


@pytest.mark.parametrize("fusion", FUSIONS)
def test_contributions_add_up_to_the_logits(data, fitted, fusion):
    X, _ = data
    model = fitted(fusion=fusion)
    added = model.contributions(X)
    assert added.shape == (300, len(model.part_names_), 2)
    np.testing.assert_allclose(added.sum(axis=1), model.decision_function(X), atol=1e-12)


@pytest.mark.parametrize("calibration", ["sigmoid", "isotonic"])
@pytest.mark.parametrize("target", ["labs", "several"])
def test_contributions_add_up_for_classes_and_after_calibration(data, fitted, target, calibration):
    X, _ = data
    model = fitted(target, calibration=calibration, max_epochs=1)
    total = model.contributions(X).sum(axis=1)
    expected = model.decision_function(X).reshape(len(X), -1)
    np.testing.assert_allclose(total, expected, atol=1e-12)


def test_contributions_are_counted_from_the_training_rows_mean(data, fitted):
    added = fitted(fusion="disentangled").contributions(data[0])
    np.testing.assert_allclose(added[:, :-1].mean(axis=0), 0, atol=1e-12)
    np.testing.assert_array_equal(added[:, -1], added[[0], -1].repeat(300, axis=0))


def test_what_a_modality_alone_adds_does_not_depend_on_the_others(data, fitted):
    X, _ = data
    model = fitted(fusion="disentangled")
    other = X.copy()
    other[20:, 3:] += 1
    labs = model.part_names_.index("labs")
    np.testing.assert_array_equal(
        model.contributions(other)[:, labs], model.contributions(X)[:, labs]
    )


def test_contributions_follow_what_made_the_label(data, fitted):
    model = fitted(fusion="late")
    spread = model.contributions(data[0][20:]).std(axis=0)
    labs, notes = model.part_names_.index("labs"), model.part_names_.index("notes")
    assert spread[labs, 0] > 2 * spread[notes, 0]
    assert spread[notes, 1] > 2 * spread[labs, 1]


# Importance


@pytest.mark.parametrize("target", ["labs", "notes"])
def test_importance_is_of_the_modality_that_made_the_label(data, fitted, target):
    X, y = data
    found = fitted(target).modality_importance(X, y[target], random_state=0)
    assert found.modalities == ["labs", "notes"]
    assert found.importances.shape == (2, 5)
    assert found.modalities[int(np.argmax(found.importances_mean))] == target
    assert found.importances_mean.max() > 0.2


def test_importance_repeats_and_takes_any_score(data, fitted):
    X, y = data
    model = fitted(fusion="disentangled")
    options = {"scoring": "roc_auc", "n_repeats": 2, "random_state": 0}
    first, second = (model.modality_importance(X, y["labels"], **options) for _ in range(2))
    np.testing.assert_array_equal(first.importances, second.importances)
    assert first.score == pytest.approx(roc_auc_score(y["labels"], model.predict_proba(X)))


def test_importance_of_several_classes(data, fitted):
    X, y = data
    model = fitted("several", calibration="sigmoid", max_epochs=1)
    assert np.isfinite(model.modality_importance(X, y["several"], n_repeats=1).importances).all()


# What the parts hold


def probe(mi_weight):
    """R² on new rows of each known factor, predicted from each part by ridge regression."""
    rng = np.random.default_rng(0)
    of_labs, of_notes, shared = factors = rng.normal(size=(3, 1000, 2))
    noise = 0.1 * rng.normal(size=(2, 1000, 2))
    X = np.hstack([of_labs, shared + noise[0], of_notes, shared + noise[1]])
    y = (np.hstack(factors) > 0).astype(int)
    model = make(
        modalities={"labs": 4, "notes": 4},
        d_model=16,
        n_estimators=1,
        dropout=0.0,
        mi_weight=mi_weight,
        critic_steps=3,
        max_epochs=12,
        learning_rate=1e-2,
    ).fit(X[:500], y[:500])
    assert roc_auc_score(y[500:], model.predict_proba(X[500:])) > 0.95
    parts, names = model.transform(X), model.get_feature_names_out().astype(str)
    scores = {}
    for part in ("labs_specific", "notes_specific", "shared"):
        Z = parts[:, np.char.startswith(names, part)]
        for name, factor in zip(("labs", "notes", "both"), factors, strict=True):
            ridge = RidgeCV().fit(Z[:500], factor[:500])
            scores[part, name] = ridge.score(Z[500:], factor[500:])
    return scores


def test_what_is_specific_is_found_in_its_own_part_and_leaves_the_shared_one():
    free, held = probe(0.0), probe(1.0)
    for scores in (free, held):
        assert scores["labs_specific", "labs"] > 0.8
        assert scores["notes_specific", "notes"] > 0.8
        # Never seen there, so nothing but noise
        assert scores["labs_specific", "notes"] < 0.05
        assert scores["notes_specific", "labs"] < 0.05
    for own in ("labs", "notes"):
        assert free["shared", own] > 0.4
        assert held["shared", own] < free["shared", own] - 0.2
