"""MEDFuseClassifier: targets of every kind, absent modalities, training as promised."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from scipy.sparse import csr_array
from sklearn.metrics import roc_auc_score
from skorch.callbacks import Callback

from sklearn_medfuse import MEDFuseClassifier

TWO = {"labs": 3, "notes": 4}
SMALL = {
    "modalities": TWO,
    "d_model": 8,
    "n_heads": 2,
    "n_tokens": 2,
    "n_estimators": 1,
    "dropout": 0.0,
    "max_epochs": 2,
    "batch_size": 64,
    "learning_rate": 1e-2,
    "early_stopping": False,
    "device": "cpu",
    "random_state": 0,
}


def make(**params):
    return MEDFuseClassifier(**SMALL | params)


@pytest.fixture
def X():
    return np.random.default_rng(0).normal(size=(60, 7))


@pytest.fixture
def y(X):
    """One label from the labs, one from the notes."""
    return (X[:, [0, 4]] > 0).astype(int)


class Recorder(Callback):
    """Keeps what an epoch ends with."""

    def __init__(self):
        self.losses = []
        self.weights = []

    def on_train_begin(self, net, **kwargs):
        self.losses, self.weights = [], []

    def on_epoch_end(self, net, dataset_train=None, dataset_valid=None, **kwargs):
        self.losses.append(net.history[-1].get("valid_loss"))
        self.weights.append({k: v.clone() for k, v in net.module_.state_dict().items()})
        self.train, self.validation = dataset_train, dataset_valid


# Targets


@pytest.mark.parametrize("form", [np.array, np.ndarray.tolist, csr_array, pd.DataFrame])
def test_labels_in_every_form_give_the_same(X, y, form):
    expected = make().fit(X, y).predict_proba(X)
    fitted = make().fit(X, form(y))
    np.testing.assert_array_equal(fitted.predict_proba(X), expected)
    assert fitted.classes_.tolist() == [0, 1]


def test_shapes_of_labels(X, y):
    fitted = make().fit(X, y)
    assert fitted.predict_proba(X).shape == fitted.predict(X).shape == (60, 2)
    assert set(np.unique(fitted.predict(X))) <= {0, 1}


def test_names_of_labels_come_from_a_data_frame(X, y):
    fitted = make().fit(X, pd.DataFrame(y, columns=["CHF", "COPD"]))
    assert fitted.target_names_.tolist() == ["CHF", "COPD"]
    assert not hasattr(fitted.fit(X, y), "target_names_")


def as_polars(frame):
    return pytest.importorskip("polars").from_pandas(frame)


FORMS = {
    "objects": lambda y: y.astype(object),
    "bools as objects": lambda y: y.astype(bool).astype(object).where(y.notna(), None),
    "nullable": lambda y: y.astype("boolean"),
    "polars": as_polars,
    "arrow": pa.Table.from_pandas,
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("missing", [False, True])
def test_labels_of_any_library_and_as_objects_give_the_same(X, y, form, missing):
    y = pd.DataFrame(y, columns=["CHF", "COPD"]).astype(float)
    if missing:
        y.iloc[3, 0] = np.nan
    expected = make().fit(X, y)
    fitted = make().fit(X, form(y))
    np.testing.assert_array_equal(fitted.predict_proba(X), expected.predict_proba(X))
    assert fitted.target_names_.tolist() == ["CHF", "COPD"]
    if not missing:
        assert fitted.score(X, form(y)) == expected.score(X, y)


@pytest.mark.parametrize("form", [pd.Series, as_polars, pa.array])
def test_classes_of_any_library_give_the_same(X, y, form):
    y = pd.Series(y[:, 0])
    expected = make().fit(X, y)
    for classes in (y, y.map({0: "well", 1: "ill"}), y.astype(object), y.astype(bool)):
        fitted = make().fit(X, form(classes))
        assert set(fitted.classes_) == set(classes)
        if fitted.classes_[0] != "ill":
            np.testing.assert_array_equal(fitted.predict_proba(X), expected.predict_proba(X))
            assert fitted.score(X, form(classes)) == expected.score(X, y)


def test_objects_that_are_no_numbers_are_no_labels(X, y):
    with pytest.raises(ValueError, match="Unknown label type"):
        make().fit(X, pd.DataFrame(y).map({0: "no", 1: "yes"}.get))


def test_binary_classes_may_be_words(X, y):
    words = np.where(y[:, 0], "ill", "well")
    fitted = make(max_epochs=20).fit(X, words)
    assert fitted.classes_.tolist() == ["ill", "well"]
    probabilities = fitted.predict_proba(X)
    assert probabilities.shape == (60, 2)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    np.testing.assert_array_equal(
        fitted.predict(X), fitted.classes_[(probabilities[:, 1] >= 0.5).astype(int)]
    )
    assert fitted.score(X, words) > 0.9


def test_several_classes(X, y):
    classes = 10 * y.sum(axis=1)
    fitted = make(max_epochs=20).fit(X, classes)
    assert fitted.classes_.tolist() == [0, 10, 20]
    probabilities = fitted.predict_proba(X)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    np.testing.assert_array_equal(fitted.predict(X), fitted.classes_[probabilities.argmax(axis=1)])


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.7, 1.0])
def test_predict_follows_the_threshold(X, y, threshold):
    fitted = make(threshold=threshold).fit(X, y)
    np.testing.assert_array_equal(fitted.predict(X), fitted.predict_proba(X) >= threshold)
    binary = make(threshold=threshold).fit(X, y[:, 0])
    np.testing.assert_array_equal(binary.predict(X), binary.predict_proba(X)[:, 1] >= threshold)


def test_labels_with_one_value_are_predicted_as_it_and_warned_of_once(X, y):
    constant = np.c_[y[:, 0], np.zeros(60), np.ones(60)].astype(int)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fitted = make().fit(X, constant)
        probabilities = fitted.predict_proba(X)
    assert len(caught) == 1
    assert "2 of 3 labels" in str(caught[0].message)
    assert (probabilities[:, 1] == 0).all()
    assert (probabilities[:, 2] == 1).all()
    assert ((probabilities[:, 0] > 0) & (probabilities[:, 0] < 1)).all()
    np.testing.assert_array_equal(fitted.predict(X)[:, 1:], constant[:, 1:])


def test_the_warning_names_the_labels(X, y):
    frame = pd.DataFrame({"CHF": y[:, 0], "COPD": 0})
    with pytest.warns(UserWarning, match="COPD"):
        make().fit(X, frame)


def test_nothing_but_constant_labels(X):
    with pytest.warns(UserWarning, match="2 of 2 labels"):
        fitted = make().fit(X, np.c_[np.zeros(60), np.ones(60)].astype(int))
    assert fitted.predict_proba(X).tolist() == [[0.0, 1.0]] * 60


@pytest.mark.parametrize(("n_labels", "value"), [(1, np.nan), (1, np.inf), (2, np.inf)])
def test_targets_that_are_not_finite_are_refused(X, y, value, n_labels):
    wrong = y[:, :n_labels].squeeze().astype(float)
    wrong[3] = value
    with pytest.raises(ValueError, match=r"NaN|infinity"):
        make().fit(X, wrong)


@pytest.mark.parametrize(
    "y",
    [
        np.linspace(0, 1, 60),
        np.linspace(0, 1, 120).reshape(60, 2),
        np.arange(120).reshape(60, 2) % 4,
    ],
)
def test_continuous_and_multioutput_targets_are_refused(X, y):
    with pytest.raises(ValueError, match="Unknown label type"):
        make().fit(X, y)


def test_labels_of_other_numbers_than_0_and_1_are_refused(X, y):
    with pytest.raises(ValueError, match="two numbers other than 0 and 1"):
        make().fit(X, y + 1)


@pytest.mark.parametrize(("n_constant", "listed"), [(5, "0, 1, 2, 3, 4"), (6, "0, 1, 2, 3, 4, …")])
def test_five_labels_of_one_value_are_listed(X, y, n_constant, listed):
    labels = np.column_stack([np.zeros((len(y), n_constant), dtype=int), np.arange(len(y)) % 2])
    with pytest.warns(UserWarning, match=rf"^{n_constant} of {n_constant + 1} .* \({listed}\);"):
        make(max_epochs=1).fit(X, labels)


# One row


def test_one_row_with_labels(X):
    with pytest.warns(UserWarning, match="only one value"):
        fitted = make().fit(X[:1], np.array([[0, 1]]))
    assert fitted.predict_proba(X[:1]).tolist() == [[0.0, 1.0]]


def test_one_row_of_one_class(X):
    fitted = make().fit(X[:1], ["ill"])
    assert fitted.predict(X).tolist() == ["ill"] * 60
    assert fitted.predict_proba(X).tolist() == [[1.0]] * 60


def test_a_row_is_predicted_as_among_others(X, y):
    X[4, :3] = np.nan
    fitted = make().fit(X, y)
    alone = np.vstack([fitted.predict_proba(row[None]) for row in X])
    np.testing.assert_allclose(alone, fitted.predict_proba(X), atol=1e-12)


# Modalities


def test_modalities_of_a_data_frame(X, y):
    names = [f"labs__{i}" for i in range(3)] + [f"notes__{i}" for i in range(4)]
    fitted = make(modalities="auto").fit(pd.DataFrame(X, columns=names), y)
    assert {k: v.tolist() for k, v in fitted.modalities_.items()} == {
        "labs": [0, 1, 2],
        "notes": [3, 4, 5, 6],
    }
    np.testing.assert_array_equal(
        fitted.predict_proba(pd.DataFrame(X, columns=names)), make().fit(X, y).predict_proba(X)
    )


@pytest.mark.parametrize(
    "modalities", [{"one": 7}, {"a": 2, "b": 2, "c": 3}, {"present": 3, "x": 4}]
)
def test_any_number_of_modalities_of_any_name(X, y, modalities):
    fitted = make(modalities=modalities, mi_weight=0.1).fit(X, y)
    assert np.isfinite(fitted.predict_proba(X)).all()
    assert list(fitted.modalities_) == list(modalities)


@pytest.mark.parametrize("modalities", ["labs", ["labs", "notes"], {"labs": 3}, None])
def test_impossible_modalities_are_refused(X, y, modalities):
    with pytest.raises(ValueError, match="modalities"):
        make(modalities=modalities).fit(X, y)


def test_a_block_that_is_nan_in_part_is_refused(X, y):
    fitted = make().fit(X, y)
    X[2, 1], X[2, 0] = np.nan, 31337.5
    for call in (lambda: make().fit(X, y), lambda: fitted.predict(X)):
        with pytest.raises(ValueError, match="MaskedLabEncoder takes single") as caught:
            call()
        assert "31337" not in str(caught.value)


def test_rows_that_lack_a_modality_leave_the_others_alone(X, y):
    fitted = make().fit(X, y)
    before = fitted.predict_proba(X)
    X[:10, :3] = np.nan
    X[5:15, 3:] = np.nan
    after = fitted.predict_proba(X)
    np.testing.assert_allclose(after[15:], before[15:], atol=1e-12)
    assert np.isfinite(after).all()
    # Rows without anything are all alike
    np.testing.assert_allclose(after[5:10], after[[5]].repeat(5, axis=0), atol=1e-12)


@pytest.mark.parametrize("block", [slice(0, 3), slice(3, 7), slice(0, 7)])
def test_a_modality_that_nobody_has(X, y, block):
    X[:, block] = np.nan
    fitted = make(mi_weight=0.1).fit(X, y)
    assert np.isfinite(fitted.predict_proba(X)).all()
    assert np.isfinite(fitted.loss_curve_).all()


def test_the_unit_of_a_column_does_not_matter(X, y):
    expected = make().fit(X, y).predict_proba(X)
    found = make().fit(1000 * X + 5, y).predict_proba(1000 * X + 5)
    np.testing.assert_allclose(found, expected, atol=1e-3)


# Training


def test_labels_that_depend_on_one_modality_each_are_learned():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(500, 7))
    y = (X[:, [0, 4]] + 0.3 * rng.normal(size=(500, 2)) > 0).astype(int)
    X[:50, :3], X[50:100, 3:] = np.nan, np.nan
    fitted = make(max_epochs=15, mi_weight=0.1).fit(X[:350], y[:350])
    aurocs = roc_auc_score(y[350:], fitted.predict_proba(X[350:]), average=None)
    assert aurocs.min() > 0.8
    assert fitted.loss_curve_[-1] < 0.8 * fitted.loss_curve_[0]


def test_attributes_of_training(X, y):
    fitted = make(max_epochs=3).fit(X, y)
    assert fitted.n_iter_ == len(fitted.loss_curve_) == 3
    assert fitted.validation_losses_ == []


def test_the_loss_curve_is_a_mean_over_members(X, y):
    """Untrained nets are about as good as a coin: ln 2 nats, however many they are."""
    one, four = (
        make(n_estimators=n, max_epochs=1, linear_weight=0.0, learning_rate=1e-6).fit(X, y)
        for n in (1, 4)
    )
    assert 0.4 < four.loss_curve_[0] < 1.2
    assert abs(four.loss_curve_[0] - one.loss_curve_[0]) < 0.3


def test_early_stopping_keeps_the_weights_of_the_best_epoch():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(200, 7)), rng.integers(0, 2, size=(200, 2))
    recorder = Recorder()
    fitted = make(
        early_stopping=True,
        validation_fraction=0.3,
        n_iter_no_change=3,
        max_epochs=40,
        learning_rate=3e-2,
        callbacks=[recorder],
    ).fit(X, y)
    losses = fitted.validation_losses_
    assert losses == pytest.approx(recorder.losses)
    best = int(np.argmin(losses))
    assert best < len(losses) - 1
    assert len(losses) < 40
    for name, weight in fitted.net_.module_.state_dict().items():
        torch.testing.assert_close(weight.float(), recorder.weights[best][name])


def test_early_stopping_has_no_effect_on_a_handful_of_rows(X, y):
    fitted = make(early_stopping=True, validation_fraction=0.1).fit(X, y)
    assert fitted.validation_losses_ == []


@pytest.mark.parametrize("n_labels", [1, 2])
def test_groups_stay_together_in_the_validation_split(n_labels):
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 40, size=200)
    # Rows of a patient are alike, so the blocks tell the patient
    X = rng.normal(size=(40, 7))[groups]
    y = rng.integers(0, 2, size=(200, n_labels)).squeeze()
    recorder = Recorder()
    make(early_stopping=True, validation_fraction=0.3, callbacks=[recorder]).fit(
        X, y, groups=groups
    )
    train, validation = (
        {tuple(row) for row in next(iter(part.X.values())).tolist()}
        for part in (recorder.train, recorder.validation)
    )
    assert len(recorder.train) + len(recorder.validation) == 200
    assert len(validation) == 12
    assert not train & validation


def test_groups_of_another_length_are_refused(X, y):
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        make().fit(X, y, groups=[1, 2, 3])


class StepWatcher(Callback):
    """Says which half of the net each optimiser moves."""

    def __init__(self):
        self.moved = {}

    def on_train_begin(self, net, **kwargs):
        for name in ("optimizer_", "critic_optimizer_"):
            self._watch(net.module_, getattr(net, name), name)

    def _watch(self, module, optimizer, name):
        before = {}

        def remember(*args):
            before.update({k: v.clone() for k, v in module.state_dict().items()})

        def compare(*args):
            after = module.state_dict()
            halves = {k.split(".")[0] for k in after if not torch.equal(after[k], before[k])}
            self.moved.setdefault(name, set()).update(halves)

        optimizer.register_step_pre_hook(remember)
        optimizer.register_step_post_hook(compare)


def test_each_optimiser_moves_its_own_half(X, y):
    watcher = StepWatcher()
    make(mi_weight=1.0, callbacks=[watcher]).fit(X, y)
    assert watcher.moved == {"optimizer_": {"fusion"}, "critic_optimizer_": {"critic"}}


def test_without_mi_weight_the_critic_is_not_trained(X, y):
    watcher = StepWatcher()
    make(mi_weight=0.0, callbacks=[watcher]).fit(X, y)
    assert watcher.moved == {"optimizer_": {"fusion"}}


def test_mutual_information_is_a_number(X, y):
    assert isinstance(make(mi_weight=0.1).fit(X, y).mutual_information(X), float)


def test_mutual_information_needs_a_critic(X, y):
    with pytest.raises(ValueError, match="mi_weight=0 leaves untrained"):
        make(mi_weight=0).fit(X, y).mutual_information(X)


def test_d_model_must_be_a_multiple_of_n_heads(X, y):
    with pytest.raises(ValueError, match="d_model=10 is not a multiple of n_heads=4"):
        make(d_model=10, n_heads=4).fit(X, y)


# Transform


def test_parts_have_names(X, y):
    fitted = make(n_estimators=2).fit(X, y)
    parts, names = fitted.transform(X), fitted.get_feature_names_out()
    assert parts.shape == (60, len(names)) == (60, 3 * 2 * 8)
    assert len(set(names)) == len(names)
    assert names[0] == "labs_specific0"
    assert {name.rstrip("0123456789") for name in names} == {
        "labs_specific",
        "notes_specific",
        "shared",
    }
    frame = fitted.set_output(transform="pandas").transform(X)
    assert frame.columns.tolist() == names.tolist()


def test_specific_parts_read_their_own_modality(X, y):
    fitted = make(n_estimators=2).fit(X, y)
    names = fitted.get_feature_names_out()
    other = X.copy()
    other[:, 3:] += 1
    changed = (fitted.transform(X) != fitted.transform(other)).any(axis=0)
    of_labs = np.array([name.startswith("labs_") for name in names])
    assert not changed[of_labs].any()
    assert changed[~of_labs].any()


# Callbacks


def test_callbacks_of_skorch_are_called(X, y):
    recorder = Recorder()
    make(max_epochs=3, callbacks=[recorder]).fit(X, y)
    assert len(recorder.weights) == 3


def test_callbacks_stay_with_an_unfitted_estimator_only(X, y):
    unfitted = make(callbacks=[Recorder()])
    assert isinstance(pickle.loads(pickle.dumps(unfitted)).callbacks[0], Recorder)
    fitted = unfitted.fit(X, y)
    assert isinstance(fitted.callbacks[0], Recorder)
    loaded = pickle.loads(pickle.dumps(fitted))
    assert loaded.callbacks is None
    np.testing.assert_array_equal(loaded.predict_proba(X), fitted.predict_proba(X))


def test_progress_is_silent_unless_asked_for(X, y, capsys):
    make().fit(X, y)
    shown = capsys.readouterr()
    assert shown.err == shown.out == ""
    make(verbose=1).fit(X, y)
    shown = capsys.readouterr().err
    assert "fusion" in shown
    assert "train_loss=" in shown


@pytest.mark.parametrize("n_rows", [8, 9, 10])
def test_any_number_of_steps(X, y, n_rows):
    """The schedule once divided by zero where the rate rises for one step."""
    rows = np.argsort(np.arange(60) % 10, kind="stable")[:n_rows]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = make(batch_size=1, max_epochs=1).fit(X[rows], y[rows])
    assert np.isfinite(model.predict_proba(X)).all()


def test_values_beyond_arithmetic_are_refused():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 4))
    model = MEDFuseClassifier(max_epochs=1, random_state=0).fit(X, X[:, 0] > 0)
    X[3, 1] = 1e12
    assert np.isfinite(model.predict_proba(X)).all()
    X[3, 1] = 1e200
    for method in (model.predict, model.predict_proba, model.decision_function):
        with pytest.raises(ValueError, match="too large to compute with in 1 of its rows"):
            method(X)
