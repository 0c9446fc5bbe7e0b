"""Calibration and thresholds: fitted on rows held out, better where predictions were off."""

import pickle

import numpy as np
import pytest
import skops.io
from scipy.special import expit, softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, log_loss

from sklearn_medfuse import MEDFuseClassifier
from sklearn_medfuse.fusion._model import Decisions
from sklearn_medfuse.fusion._rows import TrainingRows
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
def overfitted():
    """Return a function that fits a linear part of 40 columns to 150 rows, nearly unpenalised."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(2150, 40))
    y = (rng.random((2150, 2)) < expit(X[:, :2])).astype(float)
    options = {"modalities": {"all": 40}, "linear_weight": 0.99, "linear_C": 1e4}

    def fit(y=y, sample_weight=None, **params):
        model = make(**options, **params).fit(X[:150], y[:150], sample_weight=sample_weight)
        return model, X[150:], y[150:]

    fit.y = y
    return fit


# Calibration


@pytest.mark.parametrize("calibration", ["sigmoid", "isotonic"])
def test_calibration_undoes_overconfidence(overfitted, calibration):
    plain, X, y = overfitted()
    found, _, _ = overfitted(calibration=calibration)
    losses = [multilabel_log_loss(y, model.predict_proba(X)) for model in (plain, found)]
    assert losses[1] < losses[0] - 0.1
    if calibration == "sigmoid":
        slope, intercept = found.calibration_slope_, found.calibration_intercept_
        expected = slope * plain.decision_function(X) + intercept
        np.testing.assert_allclose(found.decision_function(X), expected)
        assert slope < 0.7
        assert intercept.shape == (2,)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_rows_told_apart_without_an_error_prove_no_certainty(n_classes):
    """Maximum likelihood would raise the slope without end, and one miss would cost 150."""
    y = np.arange(150) % n_classes
    X = np.eye(n_classes)[y] + np.linspace(-0.1, 0.1, 150)[:, None]
    options = {"modalities": {"all": n_classes}, "max_epochs": 60, "learning_rate": 0.01}
    model = make(**options, calibration="sigmoid").fit(X, y)
    assert model.score(X, y) == 1
    assert 1e-4 < model.predict_proba(X).min() < 0.05


def test_one_slope_of_all_classes(overfitted):
    y = overfitted.y.sum(axis=1).astype(int)
    plain, X, truth = overfitted(y)
    found, _, _ = overfitted(y, calibration="sigmoid")
    assert found.calibration_slope_ < 0.7
    assert found.calibration_intercept_.shape == (3,)
    assert log_loss(truth, found.predict_proba(X)) < log_loss(truth, plain.predict_proba(X)) - 0.1


def repeat_for_classes(logits, y, weight, classes):
    """Rows of every class with the share of it that a sigmoid is fitted to."""
    known = weight > 0
    n, k = known.sum(), len(classes)
    target = np.concatenate([np.full(known.sum(), c) for c in classes])
    share = np.concatenate([(n * (y[known] == c) + 1) / (n + k) for c in classes])
    return np.tile(logits[known].T, k).T, target, share * np.tile(weight[known], k)


def test_sigmoids_are_logistic_regressions_on_the_logits():
    """One on the logits of all labels with a column for each label, by scikit-learn."""
    rng = np.random.default_rng(0)
    logits = 3 * rng.normal(size=(400, 3))
    y = (rng.random((400, 3)) < expit(logits / 2 - [0, 1, 2])).astype(float)
    weight = rng.integers(3, size=(400, 3)).astype(float)
    labels = Decisions("multilabel-indicator", np.arange(3), np.full(3, np.nan))
    found = labels.calibrated("sigmoid", logits, y, weight)
    columns = [repeat_for_classes(*c, [0, 1]) for c in zip(logits.T, y.T, weight.T, strict=True)]
    label = np.repeat(np.arange(3), [len(target) for _, target, _ in columns])
    z, target, share = (np.concatenate(part) for part in zip(*columns, strict=True))
    regression = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10, max_iter=1000)
    regression.fit(np.c_[z, np.eye(3)[label]], target, sample_weight=share)
    own = np.append(found.slope, found.intercept)
    np.testing.assert_allclose(own, regression.coef_[0], rtol=1e-4)
    assert 0.4 < found.slope < 0.6


def test_sigmoid_of_two_classes_is_platts():
    rng = np.random.default_rng(0)
    logits = 3 * rng.normal(size=(300, 1))
    y = (rng.random((300, 1)) < expit(logits / 2 + 1)).astype(float)
    two = Decisions("binary", np.arange(2), np.array([np.nan]))
    found = two.calibrated("sigmoid", logits, y, np.ones((300, 1)))
    z, target, share = repeat_for_classes(logits[:, 0], y[:, 0], np.ones(300), [0, 1])
    regression = LogisticRegression(C=np.inf, tol=1e-10).fit(z[:, None], target, share)
    own = found.slope, found.intercept[0]
    np.testing.assert_allclose(own, [regression.coef_[0, 0], regression.intercept_[0]], rtol=1e-4)


def test_a_label_of_one_value_does_not_move_the_slope_of_the_others():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(300, 2)) - [0, 5]
    y = np.c_[rng.random(300) < expit(2 * logits[:, 0]), np.zeros(300)]
    known, both = np.array([np.nan]), np.array([np.nan, 0])
    alone = Decisions("binary", np.arange(2), known)
    alone = alone.calibrated("sigmoid", logits[:, :1], y[:, :1], np.ones((300, 1)))
    labels = Decisions("multilabel-indicator", np.arange(2), both)
    found = labels.calibrated("sigmoid", logits, y, np.ones((300, 2)))
    np.testing.assert_allclose(found.slope, alone.slope, rtol=1e-5)
    assert found.intercept[1] == 0
    certain = Decisions("binary", np.arange(1), np.zeros(1))
    assert certain.calibrated("sigmoid", logits[:, :1], y[:, 1:], np.ones((300, 1))).slope == 1


def test_a_temperature_is_the_slope_alone(data, fitted):
    X, _ = data
    model = fitted(calibration="temperature")
    assert not model.calibration_intercept_.any()
    expected = model.calibration_slope_ * fitted().decision_function(X)
    np.testing.assert_allclose(model.decision_function(X), expected)
    plain, calibrated = fitted().predict_proba(X), model.predict_proba(X)
    np.testing.assert_array_equal(calibrated >= 0.5, plain >= 0.5)


def test_a_useless_net_still_ranks_rows_one_way():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(300, 1))
    y = (logits < 0).astype(float)
    two = Decisions("binary", np.arange(2), np.array([np.nan]))
    assert two.calibrated("sigmoid", logits, y, np.ones((300, 1))).slope == 0.05


@pytest.mark.parametrize("calibration", ["sigmoid", "isotonic"])
def test_rows_of_little_weight_hardly_calibrate_or_set_thresholds(calibration):
    """Half of the rows have the opposite label; counted alike, they would leave nothing to tell."""
    rng = np.random.default_rng(0)
    X = np.repeat(rng.normal(size=(600, 1)), 2, axis=0)
    y = (rng.random(600) < expit(3 * X[::2, 0])).astype(int)
    options = {"modalities": {"all": 1}, "linear_weight": 0.99, "linear_C": 10.0}
    model = make(**options, calibration=calibration, threshold="tune")
    model.fit(X, np.c_[y, 1 - y].ravel(), sample_weight=np.tile([1.0, 1e-3], 600))
    probability = model.predict_proba(X[::2])[:, 1]
    assert log_loss(y, probability) < 0.5
    assert 0.3 < model.thresholds_[0] < 0.7


def test_isotonic_probabilities_rise_with_the_logit_and_are_never_certain(overfitted):
    plain, X, _ = overfitted()
    found = overfitted(calibration="isotonic")[0].predict_proba(X)
    order = plain.decision_function(X).argsort(axis=0)
    assert (np.diff(np.take_along_axis(found, order, axis=0), axis=0) >= 0).all()
    known = make(modalities={"all": 40}, calibration="isotonic", linear_weight=0.99)
    certain = known.fit(X, (X[:, 0] > 0).astype(int)).predict_proba(X)
    assert 0 < certain.min() < 1e-3


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


def test_huge_logits_do_not_overflow(data, fitted):
    far = np.full((1, 7), 1e12)
    assert np.isfinite(fitted("several").predict_proba(far)).all()


@pytest.mark.parametrize("calibration", ["sigmoid", "isotonic"])
def test_calibration_repairs_what_class_weights_distort(data, fitted, calibration):
    X, y = data[0][300:], data[1]["labels"][300:]
    plain, calibrated = (
        fitted(class_weight="balanced", calibration=c).predict_proba(X) for c in (None, calibration)
    )
    assert multilabel_log_loss(y, calibrated) < multilabel_log_loss(y, plain)
    assert abs(calibrated[:, 1].mean() - y[:, 1].mean()) < 0.06


def test_a_sigmoid_keeps_the_ranks_of_each_label(data, fitted):
    plain, calibrated = (fitted(calibration=c).predict_proba(data[0]) for c in (None, "sigmoid"))
    assert not np.array_equal(calibrated, plain)
    np.testing.assert_array_equal(calibrated.argsort(axis=0), plain.argsort(axis=0))


def test_a_sigmoid_leaves_a_label_without_an_intercept_that_no_held_out_row_knows(data):
    X, y = data[0][:300], data[1]["labels"][:300].astype(float)
    y[:, 1] = np.nan
    y[:3, 1] = 0, 1, 1
    model = make(calibration="sigmoid", decision_folds=None).fit(X, y)
    assert model.calibration_intercept_[1] == 0
    assert model.calibration_intercept_[0] != 0


@pytest.mark.parametrize("calibration", ["sigmoid", "isotonic"])
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


@pytest.fixture(scope="module")
def fit_levels():
    """Return a function that fits one column of ten values, which foretell the label.

    The folds see the same ten values, so thresholds that are best out of fold are best on all.
    """
    rng = np.random.default_rng(0)
    X = rng.integers(10, size=(3000, 1)).astype(float)
    y = (rng.random(3000) < X[:, 0] / 20).astype(int)
    options = {"modalities": {"all": 1}, "threshold": "tune", "linear_weight": 0.99}

    def fit(cost=None, calibration="isotonic", y=y):
        params = {"false_negative_cost": cost, "calibration": calibration}
        return make(**options, **params).fit(X, y), X, y

    return fit


def test_the_threshold_of_the_greatest_f1(fit_levels):
    model, X, y = fit_levels()
    probability = model.predict_proba(X)[:, 1]
    best = max(f1_score(y, probability >= p) for p in np.unique(probability))
    assert f1_score(y, model.predict(X)) == pytest.approx(best, abs=0.005)


@pytest.mark.parametrize("price", [1.5, 4.0, 9.0])
def test_the_threshold_of_the_least_cost(fit_levels, price):
    """Of calibrated probabilities it is known."""
    model, X, y = fit_levels(price)
    assert model.thresholds_[0] == pytest.approx(1 / (1 + price), abs=0.06)

    def cost(said):
        return (said & (y == 0)).sum() + price * (~said & (y == 1)).sum()

    probability = model.predict_proba(X)[:, 1]
    least = min(cost(probability >= p) for p in np.unique(probability))
    assert cost(model.predict(X) == 1) <= 1.02 * least


def test_nobody_is_called_ill_where_alarms_cost_more_than_they_bring(fit_levels):
    model, X, _ = fit_levels(0.05)
    assert not model.predict(X).any()


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
    model = fitted(target, calibration="sigmoid")
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


@pytest.mark.parametrize("value", [0, 1])
def test_of_one_value_the_threshold_is_a_half(value):
    two = Decisions("binary", np.arange(2), np.array([np.nan]))
    logits, ones = np.array([[-1.0], [0.5]]), np.ones((2, 1))
    assert two.tuned_thresholds(logits, value * ones, ones, None) == 0.5


def test_as_many_rows_of_a_class_as_folds_are_dealt_out_evenly():
    y = np.repeat([0, 1], [45, 5])
    ones = np.ones(50)
    rows = TrainingRows(np.zeros((50, 2)), y, ones, ones[:, None], None, 1.0)
    folds = rows.folds(5, np.random.RandomState(0))
    assert [y[test].sum() for _, test in folds] == [1] * 5


def test_as_many_held_out_rows_as_classes_are_one_of_each():
    y = np.repeat(np.arange(10), 10)
    ones = np.ones(100)
    rows = TrainingRows(np.zeros((100, 2)), y, ones, ones[:, None], None, 1.0)
    _, held_out = rows.split(0.1, np.random.RandomState(0))
    assert sorted(y[held_out]) == list(range(10))


def test_a_constant_label_is_certain_in_every_answer(data):
    X, y = data[0][:200], data[1]["two"][:200]
    with pytest.warns(UserWarning, match="only one value"):
        model = make(threshold="tune", calibration="isotonic", max_epochs=1).fit(
            X, np.c_[y, np.zeros(200), np.ones(200)].astype(int)
        )
    assert (model.predict(X)[:, 1:] == [0, 1]).all()
    assert (model.thresholds_[1:] == 0.5).all()
    assert (model.predict_log_proba(X)[:, 1] == -np.inf).all()
    decision = model.decision_function(X)
    assert np.isfinite(decision).all()
    assert (decision[:, 1] < -30).all()
    assert (decision[:, 2] > 30).all()


@pytest.mark.parametrize("calibration", ["sigmoid", "isotonic"])
def test_decisions_outlive_saving(data, fitted, round_trip, calibration):
    X, _ = data
    model = fitted(threshold="tune", calibration=calibration)
    loaded = round_trip(model)
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
    np.testing.assert_array_equal(loaded.predict_proba(X), model.predict_proba(X))
    np.testing.assert_array_equal(loaded.decision_function(X), model.decision_function(X))


def test_decisions_are_forgotten_by_another_fit(data, fitted):
    X, y = data[0], data[1]["labels"][:300]
    model = make(threshold="tune", calibration="sigmoid").fit(X[:300], y)
    again = model.set_params(calibration=None, threshold=0.5).fit(X[:300], y)
    assert not hasattr(again, "calibration_slope_")
    np.testing.assert_array_equal(again.predict_proba(X), fitted().predict_proba(X))
