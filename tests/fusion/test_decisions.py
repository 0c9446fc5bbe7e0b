"""Calibration and thresholds: fitted on rows held out, better where predictions were off."""

import numpy as np
import pytest
from scipy.special import expit, softmax
from sklearn.metrics import f1_score, log_loss

from sklearn_medfuse import MEDFuseClassifier
from sklearn_medfuse.fusion import _fitting
from sklearn_medfuse.fusion._decisions import (
    Decisions,
    apply_isotonic,
    fit_isotonic,
    fit_temperatures,
    tune_threshold,
)
from sklearn_medfuse.fusion._targets import Targets
from sklearn_medfuse.metrics import multilabel_log_loss

SMALL = {
    "modalities": {"labs": 3, "notes": 4},
    "d_model": 8,
    "n_heads": 2,
    "n_tokens": 2,
    "n_estimators": 1,
    "max_epochs": 8,
    "learning_rate": 2e-2,
    "batch_size": 64,
    "device": "cpu",
    "random_state": 0,
}


def make(**params):
    return MEDFuseClassifier(**SMALL | params)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 7))
    y = (X[:, [0, 4]] + rng.normal(size=(600, 2)) > [0, 1.5]).astype(int)
    return X, y


@pytest.fixture
def overconfident():
    """Logits three times too large, and the labels drawn from the right ones."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4000, 2))
    return 3 * logits, (rng.random((4000, 2)) < expit(logits)).astype(float)


# calibration


def test_temperatures_undo_overconfidence(overconfident):
    logits, y = overconfident
    targets, _ = Targets.fit(y)
    found = fit_temperatures(targets, logits, y, np.ones(y.shape))
    np.testing.assert_allclose(found, 3, rtol=0.1)


def test_one_temperature_of_all_classes():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4000, 3))
    y = np.array([rng.choice(3, p=p) for p in softmax(logits, axis=1)])
    targets, encoded = Targets.fit(y)
    np.testing.assert_allclose(
        fit_temperatures(targets, 2 * logits, encoded, np.ones((4000, 1))), [2], rtol=0.1
    )


def test_rows_without_weight_do_not_calibrate(overconfident):
    logits, y = overconfident
    targets, _ = Targets.fit(y)
    weight = np.ones(y.shape)
    weight[2000:] = 0
    wrong = y.copy()
    wrong[2000:] = 1 - wrong[2000:]
    for fit in (fit_temperatures, fit_isotonic):
        found = fit(targets, logits, wrong, weight)
        expected = fit(targets, logits[:2000], y[:2000], np.ones((2000, 2)))
        for own, half in zip(found, expected, strict=True):
            np.testing.assert_allclose(own, half)


def test_isotonic_probabilities_rise_with_the_logit_and_fit_the_labels(overconfident):
    logits, y = overconfident
    targets, _ = Targets.fit(y)
    steps = fit_isotonic(targets, logits, y, np.ones(y.shape))
    found = apply_isotonic(steps, logits)
    for label in range(2):
        assert (np.diff(found[np.argsort(logits[:, label]), label]) >= 0).all()
    np.testing.assert_allclose(found.mean(axis=0), y.mean(axis=0), atol=1e-3)
    assert found.min() > 0
    assert found.max() < 1
    assert multilabel_log_loss(y, found) < multilabel_log_loss(y, expit(logits))


@pytest.mark.parametrize("calibration", ["temperature", "isotonic"])
def test_calibration_repairs_what_class_weights_distort(data, calibration):
    X, y = data
    plain, calibrated = (
        make(class_weight="balanced", calibration=c).fit(X[:400], y[:400]).predict_proba(X[400:])
        for c in (None, calibration)
    )
    if calibration == "isotonic":
        # a temperature cannot move the middle, so it does not undo the weights
        assert multilabel_log_loss(y[400:], calibrated) < multilabel_log_loss(y[400:], plain)
        assert abs(calibrated[:, 1].mean() - y[400:, 1].mean()) < 0.06
    else:
        np.testing.assert_array_equal(calibrated >= 0.5, plain >= 0.5)


@pytest.mark.parametrize("calibration", ["temperature", "isotonic"])
def test_calibration_of_two_and_of_several_classes(data, calibration):
    X, y = data
    for classes in (y[:, 0], y.sum(axis=1)):
        model = make(calibration=calibration).fit(X, classes)
        probabilities = model.predict_proba(X)
        np.testing.assert_allclose(probabilities.sum(axis=1), 1)
        assert log_loss(classes, probabilities) < log_loss(
            classes, np.tile(np.bincount(classes) / 600, (600, 1))
        )


def test_the_final_net_is_the_same_with_and_without_decisions(data):
    X, y = data
    plain, tuned = (make(threshold=t).fit(X, y).predict_proba(X) for t in (0.5, "tune"))
    np.testing.assert_array_equal(plain, tuned)


# thresholds


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
        # of calibrated probabilities the best threshold is known
        found = tune_threshold(probability, y, np.ones(2000), price)
        assert found == pytest.approx(1 / (1 + price), abs=0.08)


def test_nobody_is_called_ill_where_alarms_cost_more_than_they_bring():
    threshold = tune_threshold(np.array([0.2, 1.0]), np.array([1.0, 0.0]), np.ones(2), 0.1)
    assert threshold > 1


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_label_of_one_value_keeps_one_half(value):
    assert tune_threshold(np.linspace(0, 1, 9), np.full(9, value), np.ones(9)) == 0.5


@pytest.mark.parametrize("decision_folds", [3, None])
def test_tuned_thresholds_raise_f1_on_new_rows(data, decision_folds):
    X, y = data
    options = {"validation_fraction": 0.3, "decision_folds": decision_folds}
    fixed, tuned = (make(threshold=t, **options).fit(X[:400], y[:400]) for t in (0.5, "tune"))
    scores = [f1_score(y[400:], m.predict(X[400:]), average="macro") for m in (fixed, tuned)]
    assert scores[1] > scores[0] + 0.03
    assert tuned.thresholds_.shape == (2,)
    np.testing.assert_array_equal(tuned.predict(X), tuned.predict_proba(X) >= tuned.thresholds_)


def test_thresholds_of_classes(data):
    X, y = data
    assert make(threshold="tune").fit(X, y[:, 1]).thresholds_[0] < 0.5
    several = make(threshold="tune").fit(X, y.sum(axis=1))
    np.testing.assert_array_equal(
        several.predict(X), several.classes_[several.predict_proba(X).argmax(axis=1)]
    )


def test_too_few_rows_held_out_are_refused(data):
    X, y = data
    with pytest.raises(ValueError, match=r"validation_fraction=0\.1 of 60 rows is too little"):
        make(threshold="tune", decision_folds=None).fit(X[:60], y[:60])


@pytest.mark.parametrize("decision_folds", [4, None])
def test_groups_are_not_split_between_training_and_decisions(data, decision_folds, monkeypatch):
    X, y = data
    groups = np.arange(600) // 6
    seen = []
    train = _fitting.train

    def remember(params, rows, *args):
        fitted = train(params, rows, *args)
        seen.append((rows.groups, fitted.held_out))
        return fitted

    monkeypatch.setattr(_fitting, "train", remember)
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
        # a patient is in a fold's training rows with all stays or with none
        assert set(np.unique(own, return_counts=True)[1]) == {6}


# answers


def test_logits_and_probabilities_agree(data):
    X, y = data
    for target in (y, y[:, 0], y.sum(axis=1)):
        model = make(calibration="temperature").fit(X, target)
        decision, probabilities = model.decision_function(X), model.predict_proba(X)
        if decision.ndim == 1:
            np.testing.assert_allclose(expit(decision), probabilities[:, 1])
        elif target.ndim == 1:
            np.testing.assert_allclose(softmax(decision, axis=1), probabilities)
        else:
            np.testing.assert_allclose(expit(decision), probabilities)
        np.testing.assert_allclose(model.predict_log_proba(X), np.log(probabilities))


def test_a_constant_label_is_certain_in_every_answer(data):
    X, y = data
    with pytest.warns(UserWarning, match="one value only"):
        model = make(threshold="tune", calibration="isotonic").fit(
            X, np.c_[y[:, 0], np.zeros(600), np.ones(600)].astype(int)
        )
    assert (model.predict(X)[:, 1:] == [0, 1]).all()
    assert (model.predict_log_proba(X)[:, 1] == -np.inf).all()
    decision = model.decision_function(X)
    assert np.isfinite(decision).all()
    assert (decision[:, 1] < -30).all()
    assert (decision[:, 2] > 30).all()


def test_decisions_outlive_saving_and_are_forgotten_by_another_fit(data, round_trip):
    X, y = data
    model = make(threshold="tune", calibration="isotonic").fit(X, y)
    loaded = round_trip(model)
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
    np.testing.assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))
    again = model.set_params(calibration=None, threshold=0.5).fit(X, y)
    np.testing.assert_array_equal(again.predict_proba(X), make().fit(X, y).predict_proba(X))


def test_without_calibration_probabilities_are_the_logistic_of_logits():
    targets, _ = Targets.fit(np.array([[0, 1], [1, 0]]))
    logits = np.array([[0.0, 2.0]])
    np.testing.assert_allclose(
        Decisions(targets, np.array([0.5, 0.5])).probabilities(logits), expit(logits)
    )
