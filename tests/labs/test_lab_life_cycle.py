"""Fits that continue, stop, crash, begin elsewhere: nothing is lost and nothing is made up."""

import copy
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sklearn
from sklearn.linear_model import Ridge
from sklearn.utils._param_validation import InvalidParameterError
from sklearn.utils.fixes import parse_version

from sklearn_medfuse import MaskedLabEncoder
from sklearn_medfuse.labs import _lab_model
from sklearn_medfuse.persistence import load_model, save_model

SMALL = {
    "n_components": 4,
    "d_model": 8,
    "n_heads": 2,
    "n_layers": 1,
    "n_factors": 3,
    "max_epochs": 4,
    "batch_size": 16,
    "device": "cpu",
    "random_state": 0,
}
ROOT = Path(__file__).parents[2]


def make(**params):
    return MaskedLabEncoder(**SMALL | params)


@pytest.fixture
def frame(labs):
    return pd.DataFrame(labs, columns=list("abcdef"))


@pytest.fixture
def fitted(labs, fits):
    """Encoder of `labs`, fitted once."""
    return fits(labs)


@pytest.fixture
def fitted_frame(frame, fits):
    return fits(frame)


@pytest.fixture(scope="module")
def fits():
    """Fit each kind of table once; no test may change the encoder."""
    known = {}

    def fit(X):
        if type(X) not in known:
            known[type(X)] = make().fit(X)
        return known[type(X)]

    return fit


def test_fit_does_not_depend_on_the_order_of_the_rows(labs):
    shuffled = np.random.default_rng(0).permutation(labs)
    np.testing.assert_array_equal(
        make().fit(shuffled).transform(labs), make().fit(labs).transform(labs)
    )


def test_columns_in_another_order_are_imputed_alike():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 1)) + 0.3 * rng.normal(size=(300, 5))
    X[rng.random(X.shape) < 0.2] = np.nan
    order = [3, 0, 4, 2, 1]
    one, other = make().fit(X).impute(X), make().fit(X[:, order]).impute(X[:, order])
    np.testing.assert_allclose(other, one[:, order], atol=0.25)


def test_weights_are_repetitions(labs):
    weight = np.random.default_rng(0).integers(0, 3, size=len(labs))
    by_weight = make().fit(labs, sample_weight=weight)
    by_repetition = make().fit(np.repeat(labs, weight, axis=0))
    np.testing.assert_array_equal(by_weight.transform(labs), by_repetition.transform(labs))


def test_weights_change_what_is_learned(labs):
    weight = np.where(labs[:, 0] > np.nanmedian(labs[:, 0]), 10.0, 1.0)
    assert make().fit(labs, sample_weight=weight).center_[0] > make().fit(labs).center_[0]


@pytest.mark.parametrize("weight", [[1.0, 2.0], "all negative"])
def test_wrong_weights_are_refused(labs, weight):
    weight = np.full(len(labs), -1.0) if weight == "all negative" else weight
    with pytest.raises(ValueError, match="sample_weight"):
        make().fit(labs, sample_weight=weight)


# Chunk by chunk


def correlated(n_rows, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_rows, 2)) @ np.random.default_rng(9).normal(size=(2, 6))
    X = X + 0.3 * rng.normal(size=X.shape)
    X[rng.random(X.shape) < 0.2] = np.nan
    return X


def test_chunks_are_learned_one_after_the_other():
    encoder = make(n_factors=0, d_model=16, learning_rate=1e-2)
    scores = []
    for chunk in range(20):
        encoder.partial_fit(correlated(200, chunk))
        scores.append(encoder.score(correlated(300, 99)))
    assert encoder.n_iter_ == len(encoder.loss_curve_) == 20
    assert scores[0] < 0.2 < 0.4 < scores[-1]


def test_the_first_chunk_gives_the_linear_part():
    assert make().partial_fit(correlated(500)).score(correlated(500, 99)) > 0.4


def test_further_chunks_keep_scales(frame):
    encoder = make().partial_fit(frame)
    center = encoder.center_.copy()
    encoder.partial_fit(frame * 2)
    np.testing.assert_array_equal(encoder.center_, center)


def test_learning_continues_after_fit_and_after_loading(labs, round_trip):
    encoder = make().fit(labs)
    loaded = round_trip(encoder)
    np.testing.assert_array_equal(
        encoder.partial_fit(labs).transform(labs), loaded.partial_fit(labs).transform(labs)
    )
    assert encoder.n_iter_ == loaded.n_iter_ == 5


def test_a_chunk_without_any_result_changes_nothing(labs, fitted):
    encoder = copy.deepcopy(fitted)
    encoder.partial_fit(np.full((3, 6), np.nan))
    np.testing.assert_array_equal(encoder.transform(labs), fitted.transform(labs))


def test_a_chunk_of_other_columns_is_refused(labs, fitted):
    with pytest.raises(ValueError, match="6 features"):
        copy.deepcopy(fitted).partial_fit(labs[:, :5])


@pytest.fixture
def hospital():
    """Six numeric labs and a qualitative one, tied to two causes."""
    frame = pd.DataFrame(correlated(600), columns=list("abcdef"))
    level = np.array(["NEG", "1+", "2+"], dtype=object)[np.digitize(frame["a"], [-0.5, 0.5])]
    return frame.assign(ketones=np.where(frame["a"].isna(), None, level))


def learn(batches):
    encoder = make()
    for batch in batches:
        encoder.partial_fit(batch)
    return encoder


@pytest.mark.parametrize("types", [None, pd.ArrowDtype], ids=["numpy", "Arrow"])
def test_batches_of_a_file_teach_what_slices_of_the_table_teach(hospital, tmp_path, types):
    pq.write_table(pa.Table.from_pandas(hospital), tmp_path / "labs.parquet", row_group_size=200)
    batches = pq.ParquetFile(tmp_path / "labs.parquet").iter_batches(batch_size=200)
    from_file = learn(batch.to_pandas(types_mapper=types) for batch in batches)
    from_table = learn(hospital.iloc[start : start + 200] for start in (0, 200, 400))
    assert from_file.n_iter_ == len(from_file.loss_curve_) == 3
    np.testing.assert_array_equal(from_file.transform(hospital), from_table.transform(hospital))
    assert from_file.score(hospital) > 0.4


def test_the_rate_of_a_stream_rises_for_a_hundred_steps_and_falls_with_the_root():
    rates = [_lab_model._stream_rate(step) for step in (0, 49, 99, 399)]
    np.testing.assert_allclose(rates, [0.01, 0.5, 1.0, 0.5])


def test_a_saved_stream_continues(hospital, tmp_path):
    encoder = learn([hospital[:200], hospital[200:400]])
    save_model(encoder, tmp_path / "labs.skops")
    loaded = load_model(tmp_path / "labs.skops").partial_fit(hospital[400:])
    assert loaded.n_iter_ == 3
    assert np.isfinite(loaded.impute(hospital)[list("abcdef")]).all(axis=None)


def test_results_of_a_later_batch_that_are_new_count_as_not_measured(hospital):
    encoder = make().partial_fit(hospital[:200])
    with pytest.warns(UserWarning, match="50 results could not be read"):
        encoder.partial_fit(hospital[:50].assign(ketones="4+"))
    assert "4+" not in encoder.levels_[6]


def test_a_lab_that_the_first_batch_hardly_has_is_left_out(hospital):
    encoder, batch = make(), hospital[:200]
    with pytest.warns(UserWarning, match="1 of 7 lab columns"):
        encoder.partial_fit(batch.assign(f=np.where(np.arange(200) < 3, 5.0, np.nan)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoder.partial_fit(batch)
    assert np.isnan(encoder.center_[5])
    row = batch.iloc[:1].assign(f=1.0)
    np.testing.assert_array_equal(encoder.transform(row), encoder.transform(row.assign(f=9.0)))


def test_an_interrupted_batch_leaves_what_was_learned_before(hospital, monkeypatch):
    encoder = make().partial_fit(hospital[:200])
    before = encoder.transform(hospital)

    def interrupted(self, rows):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(_lab_model.MaskedTrainer, "one_pass", interrupted)
        with pytest.raises(KeyboardInterrupt):
            encoder.partial_fit(hospital[200:400])
    np.testing.assert_array_equal(encoder.transform(hospital), before)
    assert encoder.partial_fit(hospital[400:]).n_iter_ == 2


# Interrupted, resumed


def test_an_interrupted_fit_leaves_a_usable_encoder(labs, monkeypatch):
    one_pass = _lab_model.MaskedTrainer.one_pass

    def interrupted(self, rows):
        if len(self.loss_curve) == 2:
            raise KeyboardInterrupt
        one_pass(self, rows)

    monkeypatch.setattr(_lab_model.MaskedTrainer, "one_pass", interrupted)
    with pytest.warns(UserWarning, match="interrupted after 2 of 4 epochs"):
        encoder = make().fit(labs)
    assert encoder.n_iter_ == 2
    assert np.isfinite(encoder.impute(labs)).all()


_FIT = """
import sys
import numpy as np
from sklearn_medfuse import MaskedLabEncoder
params, data, folder, out = eval(sys.argv[1]), *sys.argv[2:]
X = np.load(data)
encoder = MaskedLabEncoder(checkpoint_dir=folder or None, **params).fit(X)
np.save(out, encoder.transform(X))
"""


def _start(params, data, folder, out):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", _FIT, repr(params), str(data), str(folder), str(out)]
    return subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)


@pytest.mark.slow
def test_a_killed_fit_resumes_to_the_same_result(tmp_path):
    params = SMALL | {"max_epochs": 30, "early_stopping": True, "n_iter_no_change": 30}
    data, folder = tmp_path / "X.npy", tmp_path / "state"
    np.save(data, correlated(300))
    undisturbed = _start(params, data, "", tmp_path / "whole.npy")
    killed = _start(params, data, folder, tmp_path / "resumed.npy")
    deadline = time.monotonic() + 120
    while not list(folder.glob("labs-*.pt")) and time.monotonic() < deadline:
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    assert not (tmp_path / "resumed.npy").exists()

    assert _start(params, data, folder, tmp_path / "resumed.npy").wait() == 0
    assert undisturbed.wait() == 0
    np.testing.assert_array_equal(
        np.load(tmp_path / "resumed.npy"), np.load(tmp_path / "whole.npy")
    )
    assert not list(folder.glob("*.pt"))


def interrupt_after(n_epochs, encoder, X, monkeypatch):
    """Leave a checkpoint behind, as a crash would."""
    one_pass = _lab_model.MaskedTrainer.one_pass

    def crash(self, rows):
        if len(self.loss_curve) == n_epochs:
            raise MemoryError
        one_pass(self, rows)

    with monkeypatch.context() as patch:
        patch.setattr(_lab_model.MaskedTrainer, "one_pass", crash)
        with pytest.raises(MemoryError):
            encoder.fit(X)


@pytest.mark.parametrize("early_stopping", [False, True])
def test_a_broken_off_fit_resumes_to_the_same_result(tmp_path, monkeypatch, early_stopping):
    X = correlated(120)
    params = {"early_stopping": early_stopping, "max_epochs": 5}
    interrupt_after(3, make(checkpoint_dir=tmp_path, **params), X, monkeypatch)
    assert list(tmp_path.glob("labs-*.pt"))
    resumed, whole = make(checkpoint_dir=tmp_path, **params).fit(X), make(**params).fit(X)
    np.testing.assert_array_equal(resumed.transform(X), whole.transform(X))
    assert resumed.loss_curve_ == whole.loss_curve_
    assert resumed.validation_scores_ == whole.validation_scores_
    assert len(whole.validation_scores_) == (5 if early_stopping else 0)
    assert not list(tmp_path.glob("labs-*.pt"))


def test_a_fit_without_a_seed_resumes_with_the_draws_it_began_with(labs, tmp_path, monkeypatch):
    encoder = make(random_state=None, checkpoint_dir=tmp_path)
    interrupt_after(2, encoder, labs, monkeypatch)
    copies = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        for file in tmp_path.glob("labs-*.pt"):
            (folder / file.name).write_bytes(file.read_bytes())
        copies.append(make(random_state=None, checkpoint_dir=folder).fit(labs).transform(labs))
    np.testing.assert_array_equal(*copies)


@pytest.mark.parametrize("change", ["data", "parameter", "seed"])
def test_another_fit_does_not_take_up_a_checkpoint(labs, tmp_path, monkeypatch, change):
    interrupt_after(2, make(checkpoint_dir=tmp_path), labs, monkeypatch)
    params = {"parameter": {"dropout": 0.2}, "seed": {"random_state": 1}}.get(change, {})
    X = labs * 2 + np.arange(6) ** 2 * (labs > 4) if change == "data" else labs
    resumed = make(checkpoint_dir=tmp_path, **params).fit(X)
    np.testing.assert_array_equal(resumed.transform(X), make(**params).fit(X).transform(X))


def test_the_checkpoint_is_the_owners_alone(labs, tmp_path, monkeypatch):
    folder = tmp_path / "state"
    interrupt_after(1, make(checkpoint_dir=folder), labs, monkeypatch)
    (file,) = folder.iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_damaged_checkpoint_is_named(labs, tmp_path, monkeypatch):
    interrupt_after(1, make(checkpoint_dir=tmp_path), labs, monkeypatch)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"checkpoint labs-.* cannot be read\. Remove it"):
        make(checkpoint_dir=tmp_path).fit(labs)


@pytest.mark.skipif(
    parse_version(sklearn.__version__) < parse_version("1.9"), reason="callbacks came with 1.9"
)
def test_scikit_learns_callbacks_see_every_epoch_and_may_stop(labs):
    class Watch:
        def __init__(self):
            self.scores = []

        def setup(self, estimator, context):
            self.n_setups = getattr(self, "n_setups", 0) + 1

        def on_fit_task_begin(self, estimator, context, **kwargs):
            pass

        def on_fit_task_end(self, estimator, context, *, fitted_estimator=None, **kwargs):
            if context.task_name == "epoch":
                self.scores.append(fitted_estimator.score(labs))
            return len(self.scores) == 3

        def teardown(self, estimator, context):
            self.torn_down = True

    watch = Watch()
    encoder = make(max_epochs=9).set_callbacks(watch).fit(labs)
    assert encoder.n_iter_ == len(watch.scores) == 3
    assert watch.n_setups == 1
    assert watch.torn_down
    assert watch.scores[-1] == encoder.score(labs)


# Begun elsewhere


def other_hospital(n_rows):
    """The same labs but for two, in another order."""
    X = pd.DataFrame(correlated(n_rows, 5), columns=list("abcdef"))
    X["new"] = X["a"] * 2 + 1
    return X[["new", "d", "c", "b", "a", "f"]]


def test_shared_labs_keep_scale_and_weights():
    here = pd.DataFrame(correlated(150), columns=list("abcdef"))
    known = make(max_epochs=2).fit(here)
    there = other_hospital(50)
    encoder = make(initial=known, max_epochs=1, learning_rate=1e-9).fit(there)
    assert encoder.center_[4] == known.center_[0]
    assert encoder.center_[0] != known.center_[0]
    identity = encoder._module.tokens.identity.weight
    np.testing.assert_allclose(identity[4], known._module.tokens.identity.weight[0], atol=1e-6)
    assert np.isfinite(encoder.impute(there)).all(axis=None)


@pytest.mark.parametrize("part", ["mean", "noise"])
def test_where_shared_labs_lay_elsewhere_counts(part):
    """Five units more in the mean or the noise of each lab there."""
    known = make(max_epochs=1).fit(pd.DataFrame(correlated(150), columns=list("abcdef")))
    there = other_hospital(50)

    def learned():
        prior = make(initial=known, max_epochs=1).fit(there)._module.prior
        return np.atleast_2d(getattr(prior.of_values, part).numpy())[-1].copy()

    before = learned()
    getattr(known._module.prior.of_values, part).add_(5)
    moved = learned() - before
    # All but the first lab are shared
    assert (moved[1:] > 0.05).all()
    assert abs(moved[0]) < abs(moved[1:]).min()


def test_a_shared_lab_that_is_rare_here_is_learned_all_the_same():
    known = make(max_epochs=1).fit(pd.DataFrame(correlated(150), columns=list("abcdef")))
    there = other_hospital(50)
    there.loc[2:, "a"] = np.nan
    encoder = make(initial=known, max_epochs=1).fit(there)
    evidence = encoder._module.prior.of_values.evidence
    before = known._module.prior.of_values.evidence[[0, 3, 2, 1, 0, 5]]
    before[0] = 0
    np.testing.assert_array_equal(evidence - before, there.notna().sum())


def test_what_was_learned_elsewhere_helps_a_small_hospital():
    known = make(batch_size=64).fit(pd.DataFrame(correlated(800), columns=list("abcdef")))
    test = other_hospital(500)
    small = test[:12]
    alone = make().fit(small).score(test[12:])
    assert make(initial=known).fit(small).score(test[12:]) > alone + 0.1


@pytest.mark.parametrize(
    ("params", "columns", "message"),
    [
        ({"d_model": 16}, "abcdef", "d_model=16 differs from d_model=8"),
        ({"n_factors": 2}, "abcdef", "n_factors=2 differs"),
        ({}, "uvwxyz", "no lab in common"),
        ({}, None, "matched by name"),
    ],
)
def test_initial_that_does_not_fit_is_refused(labs, fitted_frame, params, columns, message):
    X = labs if columns is None else pd.DataFrame(labs, columns=list(columns))
    with pytest.raises(ValueError, match=message):
        make(initial=fitted_frame, **params).fit(X)


@pytest.mark.parametrize("initial", ["folder", Ridge()])
def test_what_is_no_encoder_is_no_beginning(labs, initial):
    with pytest.raises(InvalidParameterError, match="'initial' parameter"):
        make(initial=initial).fit(labs)


def test_warm_start_continues_from_the_first_fit():
    X = correlated(100)
    params = {"n_factors": 0, "max_epochs": 8, "learning_rate": 1e-2}
    cold, warm = (make(warm_start=warm, **params).fit(X).fit(X) for warm in (False, True))
    assert warm.loss_curve_[0] < cold.loss_curve_[0]
    assert warm.n_iter_ == 8


# What comes out


def test_tokens_stand_where_labs_were_measured(labs, fitted):
    encoder = copy.deepcopy(fitted).set_params(output="tokens")
    tokens = encoder.transform(labs)
    assert tokens.shape == (60, 6 * 8)
    per_lab = tokens.reshape(60, 6, 8)
    np.testing.assert_array_equal(np.isnan(per_lab).all(axis=2), np.isnan(labs))
    np.testing.assert_array_equal(np.isnan(per_lab).any(axis=2), np.isnan(labs))
    assert encoder.get_feature_names_out()[[0, 9]].tolist() == ["token0_0", "token1_1"]
    zeros = encoder.set_params(absent="zero").transform(labs)
    np.testing.assert_array_equal(zeros, np.nan_to_num(tokens))


def test_tokens_depend_on_the_other_labs(fitted):
    encoder = copy.deepcopy(fitted).set_params(output="tokens")
    row = np.array([[5.0, 5.0, np.nan, np.nan, np.nan, np.nan]])
    other = np.array([[5.0, 1.0, np.nan, np.nan, np.nan, np.nan]])
    assert not np.allclose(encoder.transform(row)[0, :8], encoder.transform(other)[0, :8])


@pytest.fixture(scope="module")
def learned():
    return make(max_epochs=4, batch_size=64).fit(correlated(1000))


def test_standard_deviations_are_those_of_the_errors(learned):
    X = correlated(1500, 3)
    hidden = np.random.default_rng(0).random(X.shape) < 0.2
    hidden &= ~np.isnan(X)
    imputed, std = learned.impute(np.where(hidden, np.nan, X), return_std=True)
    assert (std[~np.isnan(np.where(hidden, np.nan, X))] == 0).all()
    assert (std[hidden] > 0).all()
    error = (imputed - X)[hidden] / std[hidden]
    assert np.sqrt(np.mean(error**2)) == pytest.approx(1.0, abs=0.15)
    assert np.mean(np.abs(error) < 1.645) == pytest.approx(0.9, abs=0.04)


def test_imputations_are_drawn_around_the_expected_value(learned):
    X = correlated(30, 4)
    observed = ~np.isnan(X)
    expected, std = learned.impute(X, return_std=True)
    draws = np.stack(learned.impute(X, n_imputations=300))
    assert draws.shape == (300, *X.shape)
    assert (draws[:, observed] == X[observed]).all()
    deviation = (draws - expected)[:, ~observed] / std[~observed]
    np.testing.assert_allclose(deviation.mean(axis=0), 0, atol=0.3)
    np.testing.assert_allclose(deviation.std(), 1, atol=0.15)


def test_imputations_of_a_row_belong_together(learned):
    nothing = np.full((1, 6), np.nan)
    draws = np.concatenate(learned.impute(nothing, n_imputations=1000))
    np.testing.assert_allclose(
        np.corrcoef(draws.T), pd.DataFrame(correlated(1500)).corr(), atol=0.15
    )


def test_imputations_come_from_random_state(learned):
    X = correlated(5, 4)
    np.testing.assert_array_equal(
        learned.impute(X, n_imputations=2), learned.impute(X, n_imputations=2)
    )


def test_imputations_have_the_type_of_the_input(frame, fitted_frame):
    drawn = fitted_frame.impute(frame, n_imputations=2)
    assert len(drawn) == 2
    assert all(table.columns.equals(frame.columns) for table in drawn)


@pytest.mark.parametrize("n_imputations", [0, -1, 1.5, "two"])
def test_impossible_numbers_of_imputations_are_refused(learned, n_imputations):
    with pytest.raises((TypeError, ValueError), match="n_imputations"):
        learned.impute(correlated(5), n_imputations=n_imputations)


def test_a_stream_is_not_saved(labs, tmp_path):
    encoder = make().partial_fit(labs)
    joblib.dump(encoder, tmp_path / "encoder.joblib")
    loaded = joblib.load(tmp_path / "encoder.joblib")
    assert not hasattr(loaded, "_stream")
    np.testing.assert_array_equal(loaded.transform(labs), encoder.transform(labs))
