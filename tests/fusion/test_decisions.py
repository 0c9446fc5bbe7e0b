"""Calibration and thresholds: fitted on rows held out, better where predictions were off."""

import pickle

import numpy as np
import pytest
import skops.io
from scipy.special import expit, softmax
from sklearn.metrics import f1_score, log_loss

from sklearn_medfuse import MEDFuseClassifier
from sklearn_medfuse.fusion._model import Decisions, tune_threshold
from sklearn_medfuse.metrics import multilabel_log_loss

SMALL = {
    "modalities": {"labs": 3, "notes": 4},
    "d_model": 8,
    "n_heads": 2,
    "n_tokens": 2,
    "n_estimators": 1,
    "max_epochs": 4,
    "learning_rate": 2e-2,
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
    X = rng.normal(size=(500, 7))
    y = (X[:, [0, 4]] + rng.normal(size=(500, 2)) > [0, 1.5]).astype(int)
    return X, {"labels": y, "two": y[:, 0], "rare": y[:, 1], "several": y.sum(axis=1)}


@pytest.fixture(scope="module")
def fitted(data):
    """Classifiers fitted on the first 300 rows, each once."""
    models = {}

    def fit(target="labels", **params):
        key = (target, *sorted(params.items()))
        if key not in models:
            models[key] = make(**params).fit(data[0][:300], data[1][target][:300])
        return models[key]

    return fit


@pytest.fixture(scope="module")
def overconfident():
    """Logits three times too large, and the labels drawn from the right ones."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4000, 2))
    return 3 * logits, (rng.random((4000, 2)) < expit(logits)).astype(float)


def decisions_of(kind, n_outputs):
    return Decisions(kind, np.arange(n_outputs), np.full(n_outputs, np.nan))


LABELS = decisions_of("multilabel-indicator", 2)


# Calibration


def test_temperatures_undo_overconfidence(overconfident):
    logits, y = overconfident
    found = LABELS.calibrated("temperature", logits, y, np.ones(y.shape)).temperatures
    np.testing.assert_allclose(found, 3, rtol=0.1)


def test_one_temperature_of_all_classes():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4000, 3))
    y = np.array([rng.choice(3, p=p) for p in softmax(logits, axis=1)])
    several = decisions_of("multiclass", 3)
    found = several.calibrated("temperature", 2 * logits, y, np.ones((4000, 1)))
    np.testing.assert_allclose(found.temperatures, [2], rtol=0.1)


@pytest.mark.parametrize("calibration", ["temperature", "isotonic"])
def test_rows_without_weight_do_not_calibrate(overconfident, calibration):
    logits, y = overconfident
    weight = np.ones(y.shape)
    weight[2000:] = 0
    wrong = y.copy()
    wrong[2000:] = 1 - wrong[2000:]
    found = LABELS.calibrated(calibration, logits, wrong, weight)
    expected = LABELS.calibrated(calibration, logits[:2000], y[:2000], np.ones((2000, 2)))
    np.testing.assert_allclose(found.probabilities(logits), expected.probabilities(logits))


def test_isotonic_probabilities_rise_with_the_logit_and_fit_the_labels(overconfident):
    logits, y = overconfident
    found = LABELS.calibrated("isotonic", logits, y, np.ones(y.shape)).probabilities(logits)
    for label in range(2):
        assert (np.diff(found[np.argsort(logits[:, label]), label]) >= 0).all()
    np.testing.assert_allclose(found.mean(axis=0), y.mean(axis=0), atol=1e-3)
    assert found.min() > 0
    assert found.max() < 1
    assert multilabel_log_loss(y, found) < multilabel_log_loss(y, expit(logits))


def test_isotonic_leaves_a_label_that_no_held_out_row_knows_uncalibrated(data):
    X, y = data[0][:300], data[1]["labels"][:300].astype(float)
    y[:, 1] = np.nan
    y[:3, 1] = 0, 1, 1
    model = make(calibration="isotonic", threshold="tune", decision_folds=None)
    with pytest.warns(UserWarning, match=r"positions \[1\] as they are") as told:
        model.fit(X, y)
    assert len(told) == 1
    probabilities, logits = model.predict_proba(X), model.decision_function(X)
    np.testing.assert_array_equal(probabilities[:, 1], expit(logits[:, 1]))
    assert abs(probabilities[:, 0] - expit(logits[:, 0])).max() > 0.01
    assert model.thresholds_[1] == 0.5
    for loaded in (
        pickle.loads(pickle.dumps(model)),
        skops.io.loads(
            skops.io.dumps(model), trusted=["sklearn_medfuse.fusion._classifier.MEDFuseClassifier"]
        ),
    ):
        np.testing.assert_array_equal(loaded.predict_proba(X), probabilities)


def test_huge_logits_do_not_overflow():
    found = decisions_of("multiclass", 3).probabilities(np.array([[1e300, -1e300, 0.0]]))
    assert np.isfinite(found).all()


def test_isotonic_calibration_repairs_what_class_weights_distort(data, fitted):
    X, y = data[0][300:], data[1]["labels"][300:]
    plain, calibrated = (
        fitted(class_weight="balanced", calibration=c).predict_proba(X) for c in (None, "isotonic")
    )
    assert multilabel_log_loss(y, calibrated) < multilabel_log_loss(y, plain)
    assert abs(calibrated[:, 1].mean() - y[:, 1].mean()) < 0.06


def test_a_temperature_cannot_move_the_middle(data, fitted):
    plain, calibrated = (
        fitted(calibration=c).predict_proba(data[0]) for c in (None, "temperature")
    )
    assert not np.array_equal(calibrated, plain)
    np.testing.assert_array_equal(calibrated >= 0.5, plain >= 0.5)


@pytest.mark.parametrize("calibration", ["temperature", "isotonic"])
@pytest.mark.parametrize("target", ["two", "several"])
def test_calibration_of_two_and_of_several_classes(data, fitted, target, calibration):
    X, classes = data[0], data[1][target]
    probabilities = fitted(target, calibration=calibration).predict_proba(X)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    shares = np.tile(np.bincount(classes) / len(classes), (len(classes), 1))
    assert log_loss(classes, probabilities) < log_loss(classes, shares)


def test_the_final_net_is_the_same_with_and_without_decisions(data, fitted):
    plain, tuned = (fitted(threshold=t).predict_proba(data[0]) for t in (0.5, "tune"))
    np.testing.assert_array_equal(plain, tuned)


# Thresholds


def test_the_threshold_of_the_greatest_f1_and_of_the_least_cost():
    rng = np.random.default_rng(0)
    probability = rng.random(300).round(2)
    y = (rng.random(300) < probability**2).astype(float)
    weight = rng.integers(1, 4, size=300).astype(float)
    every = np.append(np.unique(probability), 1.5)

    def cost(threshold):
        said = probability >= threshold
        return (weight * (said & (y == 0))).sum() + 4 * (weight * (~said & (y == 1))).sum()

    best_f1 = max(f1_score(y, probability >= t, sample_weight=weight) for t in every)
    found = tune_threshold(probability, y, weight)
    assert f1_score(y, probability >= found, sample_weight=weight) == pytest.approx(best_f1)
    assert cost(tune_threshold(probability, y, weight, 4.0)) == min(map(cost, every))


def test_a_costly_miss_lowers_the_threshold():
    rng = np.random.default_rng(0)
    probability = rng.random(2000)
    y = (rng.random(2000) < probability).astype(float)
    for price in (0.25, 1.0, 4.0):
        # Of calibrated probabilities the best threshold is known
        found = tune_threshold(probability, y, np.ones(2000), price)
        assert found == pytest.approx(1 / (1 + price), abs=0.08)


def test_nobody_is_called_ill_where_alarms_cost_more_than_they_bring():
    threshold = tune_threshold(np.array([0.2, 1.0]), np.array([1.0, 0.0]), np.ones(2), 0.1)
    assert threshold > 1


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_label_of_one_value_keeps_one_half(value):
    assert tune_threshold(np.linspace(0, 1, 9), np.full(9, value), np.ones(9)) == 0.5


@pytest.mark.parametrize("decision_folds", [2, None])
def test_tuned_thresholds_raise_f1_on_new_rows(data, fitted, decision_folds):
    X, y = data[0], data[1]["labels"]
    options = {"validation_fraction": 0.3, "decision_folds": decision_folds}
    fixed = fitted()
    tuned = fitted(threshold="tune", **options)
    scores = [f1_score(y[300:], m.predict(X[300:]), average="macro") for m in (fixed, tuned)]
    assert scores[1] > scores[0] + 0.03
    assert tuned.thresholds_.shape == (2,)
    np.testing.assert_array_equal(tuned.predict(X), tuned.predict_proba(X) >= tuned.thresholds_)


def test_thresholds_of_classes(data, fitted):
    X, _ = data
    assert fitted("rare", threshold="tune").thresholds_[0] < 0.5
    several = fitted("several", threshold="tune")
    np.testing.assert_array_equal(
        several.predict(X), several.classes_[several.predict_proba(X).argmax(axis=1)]
    )


def test_too_few_rows_held_out_are_refused(data):
    X, y = data[0][:60], data[1]["labels"][:60]
    with pytest.raises(ValueError, match=r"validation_fraction=0\.1 of 60 rows is too few"):
        make(threshold="tune", decision_folds=None, max_epochs=1).fit(X, y)


@pytest.mark.parametrize("decision_folds", [4, None])
def test_groups_are_not_split_between_training_and_decisions(data, decision_folds, monkeypatch):
    X, y = data[0][:300], data[1]["labels"][:300]
    groups = np.arange(300) // 6
    seen = []
    train = MEDFuseClassifier._train

    def remember(self, rows, rng):
        net, model, held_out = train(self, rows, rng)
        seen.append((rows.groups, held_out))
        return net, model, held_out

    monkeypatch.setattr(MEDFuseClassifier, "_train", remember)
    model = make(
        threshold="tune", decision_folds=decision_folds, validation_fraction=0.2, max_epochs=1
    )
    model.fit(X, y, groups=groups)
    if decision_folds is None:
        ((own, held_out),) = seen
        assert not set(own[held_out]) & set(np.delete(own, held_out))
        return
    assert len(seen) == 5
    for own, _ in seen[1:]:
        # A patient is in a fold's training rows with all stays or with none
        assert set(np.unique(own, return_counts=True)[1]) == {6}


# Answers


@pytest.mark.parametrize("target", ["labels", "two", "several"])
def test_logits_and_probabilities_agree(data, fitted, target):
    X, _ = data
    model = fitted(target, calibration="temperature")
    decision, probabilities = model.decision_function(X), model.predict_proba(X)
    if target == "two":
        np.testing.assert_allclose(expit(decision), probabilities[:, 1])
    elif target == "several":
        np.testing.assert_allclose(softmax(decision, axis=1), probabilities)
    else:
        np.testing.assert_allclose(expit(decision), probabilities)
    np.testing.assert_allclose(model.predict_log_proba(X), np.log(probabilities))


def test_without_calibration_probabilities_are_the_logistic_of_logits(data, fitted):
    model = fitted()
    np.testing.assert_allclose(
        model.predict_proba(data[0]), expit(model.decision_function(data[0]))
    )


def test_a_constant_label_is_certain_in_every_answer(data):
    X, y = data[0][:200], data[1]["two"][:200]
    with pytest.warns(UserWarning, match="only one value"):
        model = make(threshold="tune", calibration="isotonic", max_epochs=1).fit(
            X, np.c_[y, np.zeros(200), np.ones(200)].astype(int)
        )
    assert (model.predict(X)[:, 1:] == [0, 1]).all()
    assert (model.predict_log_proba(X)[:, 1] == -np.inf).all()
    decision = model.decision_function(X)
    assert np.isfinite(decision).all()
    assert (decision[:, 1] < -30).all()
    assert (decision[:, 2] > 30).all()


@pytest.mark.parametrize("calibration", ["temperature", "isotonic"])
def test_decisions_outlive_saving(data, fitted, round_trip, calibration):
    X, _ = data
    model = fitted(threshold="tune", calibration=calibration)
    loaded = round_trip(model)
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
    np.testing.assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))
    np.testing.assert_array_equal(loaded.decision_function(X), model.decision_function(X))


def test_decisions_are_forgotten_by_another_fit(data, fitted):
    X, y = data[0], data[1]["labels"][:300]
    model = make(threshold="tune", calibration="temperature").fit(X[:300], y)
    again = model.set_params(calibration=None, threshold=0.5).fit(X[:300], y)
    assert not hasattr(again, "temperatures_")
    np.testing.assert_array_equal(again.predict_proba(X), fitted().predict_proba(X))
