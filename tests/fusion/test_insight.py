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
    "max_epochs": 8,
    "learning_rate": 1e-2,
    "batch_size": 64,
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
    return X, y


# contributions


@pytest.mark.parametrize("fusion", FUSIONS)
def test_contributions_add_up_to_the_logits(data, fusion):
    X, y = data
    model = make(fusion=fusion).fit(X, y)
    added = model.contributions(X)
    assert added.shape == (300, len(model.part_names_), 2)
    np.testing.assert_allclose(added.sum(axis=1), model.decision_function(X), atol=1e-12)


@pytest.mark.parametrize("calibration", ["temperature", "isotonic"])
@pytest.mark.parametrize("kind", ["binary", "several classes"])
def test_contributions_add_up_for_classes_and_after_calibration(data, kind, calibration):
    X, y = data
    target = y[:, 0] if kind == "binary" else y.sum(axis=1)
    model = make(calibration=calibration).fit(X, target)
    total = model.contributions(X).sum(axis=1)
    expected = model.decision_function(X).reshape(len(X), -1)
    np.testing.assert_allclose(total, expected, atol=1e-12)


def test_contributions_are_counted_from_the_training_rows_mean(data):
    X, y = data
    added = make().fit(X, y).contributions(X)
    np.testing.assert_allclose(added[:, :-1].mean(axis=0), 0, atol=1e-12)
    np.testing.assert_array_equal(added[:, -1], added[[0], -1].repeat(300, axis=0))


def test_what_a_modality_alone_adds_does_not_depend_on_the_others(data):
    X, y = data
    model = make().fit(X, y)
    other = X.copy()
    other[20:, 3:] += 1
    labs = model.part_names_.index("labs")
    np.testing.assert_array_equal(
        model.contributions(other)[:, labs], model.contributions(X)[:, labs]
    )


def test_contributions_follow_what_made_the_label(data):
    X, y = data
    model = make(fusion="late").fit(X, y)
    spread = model.contributions(X[20:]).std(axis=0)
    labs, notes = model.part_names_.index("labs"), model.part_names_.index("notes")
    assert spread[labs, 0] > 2 * spread[notes, 0]
    assert spread[notes, 1] > 2 * spread[labs, 1]


# importance


def test_importance_is_of_the_modality_that_made_the_label(data):
    X, y = data
    for label, expected in ((0, "labs"), (1, "notes")):
        model = make().fit(X, y[:, label])
        found = model.modality_importance(X, y[:, label], random_state=0)
        assert found.modalities == ["labs", "notes"]
        assert found.importances.shape == (2, 5)
        assert found.modalities[int(np.argmax(found.importances_mean))] == expected
        assert found.importances_mean.max() > 0.2


def test_importance_repeats_and_takes_any_score(data):
    X, y = data
    model = make().fit(X, y)
    options = {"scoring": "roc_auc", "n_repeats": 2, "random_state": 0}
    first, second = (model.modality_importance(X, y, **options) for _ in range(2))
    np.testing.assert_array_equal(first.importances, second.importances)
    assert first.score == pytest.approx(roc_auc_score(y, model.predict_proba(X)))
    several = make().fit(X, y.sum(axis=1))
    assert np.isfinite(several.modality_importance(X, y.sum(axis=1)).importances).all()


# what the parts hold


def probe(mi_weight):
    """R² on new rows of each known factor, predicted from each part by ridge regression."""
    rng = np.random.default_rng(0)
    of_labs, of_notes, shared = factors = rng.normal(size=(3, 1600, 2))
    noise = 0.1 * rng.normal(size=(2, 1600, 2))
    X = np.hstack([of_labs, shared + noise[0], of_notes, shared + noise[1]])
    y = (np.hstack(factors) > 0).astype(int)
    model = make(
        modalities={"labs": 4, "notes": 4},
        d_model=16,
        n_estimators=1,
        dropout=0.0,
        mi_weight=mi_weight,
        critic_steps=3,
        max_epochs=25,
        learning_rate=5e-3,
    ).fit(X[:800], y[:800])
    assert roc_auc_score(y[800:], model.predict_proba(X[800:])) > 0.95
    parts, names = model.transform(X), model.get_feature_names_out().astype(str)
    scores = {}
    for part in ("labs_specific", "notes_specific", "shared"):
        Z = parts[:, np.char.startswith(names, part)]
        for name, factor in zip(("labs", "notes", "both"), factors, strict=True):
            ridge = RidgeCV().fit(Z[:800], factor[:800])
            scores[part, name] = ridge.score(Z[800:], factor[800:])
    return scores


def test_what_is_specific_is_found_in_its_own_part_and_leaves_the_shared_one():
    free, held = probe(0.0), probe(1.0)
    for scores in (free, held):
        assert scores["labs_specific", "labs"] > 0.8
        assert scores["notes_specific", "notes"] > 0.8
        # never seen there, so nothing but noise
        assert scores["labs_specific", "notes"] < 0.05
        assert scores["notes_specific", "labs"] < 0.05
    for own in ("labs", "notes"):
        assert free["shared", own] > 0.4
        assert held["shared", own] < free["shared", own] - 0.2
