"""Tables larger than memory: batches of a parquet file, learned one after the other."""

import warnings

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sklearn_medfuse import MaskedLabEncoder

NAMES = list("abcdef")


def make(**params):
    small = {"n_components": 4, "d_model": 8, "n_heads": 2, "n_layers": 1, "n_factors": 3}
    return MaskedLabEncoder(**small | {"device": "cpu", "random_state": 0} | params)


@pytest.fixture
def hospital():
    """600 stays, their labs tied to two causes, a fifth of the results not there."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 2)) @ rng.normal(size=(2, 6)) + 0.3 * rng.normal(size=(600, 6))
    X[rng.random(X.shape) < 0.2] = np.nan
    frame = pd.DataFrame(X, columns=NAMES)
    level = np.array(["NEG", "1+", "2+"], dtype=object)[np.digitize(X[:, 0], [-0.5, 0.5])]
    frame["ketones"] = np.where(np.isnan(X[:, 0]), None, level)
    return frame


@pytest.fixture
def file(hospital, tmp_path):
    path = tmp_path / "labs.parquet"
    pq.write_table(pa.Table.from_pandas(hospital), path, row_group_size=200)
    return pq.ParquetFile(path)


def learn(batches):
    encoder = make()
    for batch in batches:
        encoder.partial_fit(batch)
    return encoder


@pytest.mark.parametrize("types", [None, pd.ArrowDtype], ids=["numpy", "Arrow"])
def test_batches_of_a_file_teach_what_slices_of_the_table_teach(hospital, file, types):
    from_file = learn(
        batch.to_pandas(types_mapper=types) for batch in file.iter_batches(batch_size=200)
    )
    from_table = learn(hospital.iloc[start : start + 200] for start in (0, 200, 400))
    assert from_file.n_iter_ == len(from_file.loss_curve_) == 3
    np.testing.assert_array_equal(from_file.transform(hospital), from_table.transform(hospital))
    assert from_file.score(hospital) > 0.4


def test_a_saved_stream_goes_on(hospital, file, tmp_path):
    batches = [batch.to_pandas() for batch in file.iter_batches(batch_size=200)]
    encoder = learn(batches[:2])
    encoder.save_pretrained(tmp_path / "model")
    loaded = MaskedLabEncoder.from_pretrained(tmp_path / "model").partial_fit(batches[2])
    assert loaded.n_iter_ == 3
    assert np.isfinite(loaded.impute(hospital)[NAMES]).all(axis=None)


def test_results_of_a_later_batch_that_are_new_count_as_not_measured(hospital):
    encoder = make().partial_fit(hospital)
    later = hospital.iloc[:50].assign(ketones="4+")
    with pytest.warns(UserWarning, match="50 results could not be read"):
        encoder.partial_fit(later)
    assert "4+" not in encoder.levels_[6]


def test_a_lab_that_the_first_batch_hardly_has_is_left_out(hospital):
    encoder = make()
    with pytest.warns(UserWarning, match="1 of 7 lab columns"):
        encoder.partial_fit(hospital.assign(f=np.where(np.arange(600) < 3, 5.0, np.nan)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoder.partial_fit(hospital)
    assert np.isnan(encoder.center_[5])
    row = hospital.iloc[:1].assign(f=1.0)
    np.testing.assert_array_equal(encoder.transform(row), encoder.transform(row.assign(f=9.0)))


def test_an_interrupted_batch_leaves_what_was_learned_before(hospital, monkeypatch):
    from sklearn_medfuse.labs._masked_training import MaskedTrainer

    encoder = make().partial_fit(hospital.iloc[:200])
    before = encoder.transform(hospital)

    def interrupted(self, rows):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(MaskedTrainer, "one_pass", interrupted)
        with pytest.raises(KeyboardInterrupt):
            encoder.partial_fit(hospital.iloc[200:400])
    np.testing.assert_array_equal(encoder.transform(hospital), before)
    assert encoder.partial_fit(hospital.iloc[400:]).n_iter_ == 2
