"""A lab of fewer than five rows: nothing of its values stays in the fitted encoder."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.exceptions import NotFittedError

from sklearn_medfuse import MaskedLabEncoder
from sklearn_medfuse.labs import _masked_lab


def make(**params):
    small = {"n_components": 3, "d_model": 8, "n_heads": 2, "n_layers": 1, "max_epochs": 1}
    return MaskedLabEncoder(**small | {"device": "cpu", "random_state": 0} | params)


def with_rare_lab(labs, values):
    X = labs.copy()
    X[:, 2] = np.nan
    X[7 : 7 + len(values), 2] = values
    return X


def as_csr(X):
    row, lab = np.nonzero(~np.isnan(X))
    return sparse.csr_array((X[row, lab], (row, lab)), shape=X.shape)


def fitted_quietly(encoder, X, **fit_params):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "1 of 6 lab columns", UserWarning)
        return encoder.fit(X, **fit_params)


@settings(max_examples=15, deadline=None)
@given(
    values=st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=4),
    form=st.sampled_from([np.asarray, as_csr]),
)
def test_nothing_of_them_is_in_the_fitted_state(values, form):
    rng = np.random.default_rng(0)
    labs = rng.normal(size=(30, 1)) + rng.normal(size=(30, 6))
    never = fitted_quietly(make(), form(with_rare_lab(labs, [])))
    rare = fitted_quietly(make(), form(with_rare_lab(labs, values)))
    assert pickle.dumps(rare) == pickle.dumps(never)


def test_nothing_of_them_is_in_a_saved_folder(labs, tmp_path):
    for name, values in {"one": [4.0, 5.0], "other": [-70.0, 1e6]}.items():
        fitted_quietly(make(), with_rare_lab(labs, values)).save_pretrained(tmp_path / name)
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "other" / file.name).read_bytes()


def test_they_are_ignored_and_the_warning_counts_them(labs):
    X = with_rare_lab(labs, [4.0])
    with pytest.warns(UserWarning, match=r"1 of 6 lab columns .* first at position 2") as caught:
        encoder = make().fit(X)
    assert len(caught) == 1
    assert "4.0" not in str(caught[0].message)
    assert np.isnan(encoder.center_[2])
    assert encoder.scale_[2] == 1.0
    np.testing.assert_array_equal(encoder.transform(X), encoder.transform(with_rare_lab(labs, [])))
    imputed = encoder.impute(X)
    assert imputed[7, 2] == 4.0
    assert (np.delete(imputed[:, 2], 7) == 0).all()


def test_of_five_rows_a_lab_is_learned(labs):
    encoder = make().fit(with_rare_lab(labs, [1.0, 2.0, 3.0, 4.0, 40.0]))
    assert encoder.center_[2] == pytest.approx(10.0)
    assert encoder.center_[2] not in (1.0, 2.0, 3.0, 4.0, 40.0)


def test_a_heavy_row_is_one_row_and_a_row_without_weight_none(labs):
    X = with_rare_lab(labs, [1.0, 2.0, 3.0, 4.0, 5.0])
    weight = np.ones(len(X))
    weight[7] = 50.0
    weight[8] = 0.0
    assert np.isnan(fitted_quietly(make(), X, sample_weight=weight).center_[2])


def test_rows_that_are_alike_are_counted_each():
    X = np.repeat([[0.0, 1.0], [1.0, 0.0]], 5, axis=0)
    np.testing.assert_allclose(make().fit(X).center_, 0.5)


def test_another_hospitals_lab_stays_known(labs):
    names = list("abcdef")
    known = make().fit(pd.DataFrame(labs, columns=names))
    here = pd.DataFrame(with_rare_lab(labs, [4.0]), columns=names)
    encoder = make(initial=known).fit(here)
    np.testing.assert_array_equal(encoder.center_, known.center_)


def test_fewer_than_five_rows_teach_nothing():
    X = np.arange(12.0).reshape(4, 3)
    with pytest.warns(UserWarning, match="3 of 3 lab columns"):
        encoder = make().fit(X)
    assert np.isnan(encoder.transform(X)).all()
    np.testing.assert_array_equal(encoder.impute(X), X)


def test_small_weights_are_no_small_table(labs):
    weight = np.full(len(labs), 1 / len(labs))
    np.testing.assert_allclose(
        make().fit(labs, sample_weight=weight).transform(labs), make().fit(labs).transform(labs)
    )


def test_a_fit_that_is_broken_off_before_the_net_leaves_no_half_fitted_encoder(labs, monkeypatch):
    encoder = make().fit(labs)

    def broken_off(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(_masked_lab, "fit_prior", broken_off)
    with pytest.raises(KeyboardInterrupt):
        encoder.fit(labs * 2)
    with pytest.raises(NotFittedError):
        encoder.transform(labs)
