"""MaskedLabEncoder: missing is not hidden, observed cells stay, hidden ones are learned."""

import copy
import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn import config_context
from sklearn.exceptions import NotFittedError
from sklearn.impute import SimpleImputer

from sklearn_medfuse import MaskedLabEncoder
from sklearn_medfuse.labs import _lab_model, _masked_lab

SMALL = {
    "n_components": 4,
    "d_model": 8,
    "n_heads": 2,
    "n_layers": 1,
    "max_epochs": 2,
    "early_stopping": False,
    "device": "cpu",
    "random_state": 0,
}


def make(**params):
    return MaskedLabEncoder(**SMALL | params)


@pytest.fixture
def fitted(labs, fits):
    """Encoder of `labs`, fitted once; no test may change it."""
    if not fits:
        fits.append(make().fit(labs))
    return fits[0]


@pytest.fixture(scope="module")
def fits():
    return []


@pytest.fixture(scope="module")
def correlated():
    """Training and test rows of eight labs that two hidden causes explain."""
    rng = np.random.default_rng(1)
    causes = rng.normal(size=(600, 2))
    X = causes @ rng.normal(size=(2, 8)) + 0.2 * rng.normal(size=(600, 8))
    X = 50 + 10 * X
    observed = rng.random(X.shape) > 0.2
    return np.where(observed, X, np.nan), X, slice(0, 400), slice(400, 600)


@pytest.fixture(scope="module")
def learned(correlated):
    X, _, train, _ = correlated
    return make(
        max_epochs=40, d_model=16, n_components=4, learning_rate=2e-2, dropout=0.0, mask_ratio=0.4
    ).fit(X[train])


def test_a_row_does_not_depend_on_the_others(labs, fitted):
    together = fitted.transform(labs)
    assert together.shape == (60, 4)
    alone = np.vstack([fitted.transform(row[None]) for row in labs[:20]])
    np.testing.assert_allclose(alone, together[:20], atol=1e-10)


def test_embedding_depends_on_which_lab_was_measured():
    X = np.array([[1.0, np.nan], [np.nan, 1.0], [1.0, 1.0], [2.0, 3.0]] * 2)
    embedding = make().fit(X).transform(X)
    assert not np.allclose(embedding[0], embedding[1])


@pytest.mark.parametrize(("absent", "value"), [("nan", np.nan), ("zero", 0.0)])
def test_rows_without_any_lab(labs, fitted, absent, value):
    labs[3] = np.nan
    assert np.isfinite(fitted.impute(labs)).all()
    embedding = copy.copy(fitted).set_params(absent=absent).transform(labs)
    np.testing.assert_array_equal(embedding[3], np.full(4, value))
    assert np.isfinite(np.delete(embedding, 3, axis=0)).all()


def test_rows_without_any_lab_change_nothing_in_training(labs, fitted):
    with_empty = np.vstack([labs, np.full((5, 6), np.nan)])
    np.testing.assert_array_equal(fitted.transform(labs), make().fit(with_empty).transform(labs))


def test_nothing_but_missing_values():
    X = np.full((4, 3), np.nan)
    with pytest.warns(UserWarning, match="3 of 3 lab columns"):
        encoder = make().fit(X)
    assert np.isnan(encoder.transform(X)).all()
    np.testing.assert_array_equal(encoder.impute(X), X)
    assert np.isnan(encoder.score(X))
    assert encoder.n_iter_ == 0


def test_fully_observed_rows(labs):
    X = np.nan_to_num(labs, nan=5.0)
    encoder = make().fit(X)
    assert np.isfinite(encoder.transform(X)).all()
    np.testing.assert_array_equal(encoder.impute(X), X)


def test_a_constant_lab(labs):
    labs[:, 2] = 7.0
    encoder = make().fit(labs)
    assert np.isfinite(encoder.transform(labs)).all()
    assert np.isfinite(encoder.score(labs))


def test_a_lab_that_was_never_measured_is_ignored_and_warned_of_once(labs):
    labs[:, 2] = np.nan
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        encoder = make().fit(labs)
    assert len(caught) == 1
    assert "1 of 6 lab columns" in str(caught[0].message)
    measured = labs.copy()
    measured[:, 2] = np.arange(60)
    np.testing.assert_array_equal(encoder.transform(measured), encoder.transform(labs))
    imputed, std = encoder.impute(labs, return_std=True)
    assert np.isnan(imputed[:, 2]).all()
    assert np.isnan(std[:, 2]).all()
    assert np.isfinite(np.delete(imputed, 2, axis=1)).all()
    np.testing.assert_array_equal(encoder.impute(measured)[:, 2], np.arange(60))


def test_a_row_whose_only_lab_was_never_measured_in_fit_is_absent(labs):
    labs[:, 2] = np.nan
    with pytest.warns(UserWarning, match="1 of 6 lab columns"):
        encoder = make().fit(labs)
    row = np.full((1, 6), np.nan)
    row[0, 2] = 1.0
    assert np.isnan(encoder.transform(row)).all()


@pytest.mark.parametrize("row", [[1.0], [1.0, 2.0, 3.0]])
def test_one_row(row):
    X = np.array([row])
    with pytest.warns(UserWarning, match="lab columns have fewer than 5 measured values"):
        encoder = make().fit(X)
    assert np.isnan(encoder.transform(X)).all()
    np.testing.assert_array_equal(encoder.impute(X), X)
    many_times = make().fit(X.repeat(5, axis=0))
    assert np.isfinite(many_times.transform(X)).all()


def test_one_cell():
    encoder = make().fit([[3.0]] * 5)
    assert np.isfinite(encoder.transform([[5.0]])).all()
    np.testing.assert_array_equal(encoder.impute([[5.0]]), [[5.0]])


# Impute


def test_impute_keeps_the_frame(labs):
    frame = pd.DataFrame(labs, columns=list("abcdef"), index=[f"stay {i}" for i in range(60)])
    frame["b"] = np.arange(60)
    frame["c"] = frame["c"].astype(np.float32)
    before = frame.copy()
    imputed = make().fit(frame).impute(frame)
    pd.testing.assert_frame_equal(frame, before)
    assert imputed.dtypes.equals(frame.dtypes)
    assert imputed.index.equals(frame.index)
    assert imputed.columns.equals(frame.columns)
    assert not imputed.isna().any(axis=None)
    pd.testing.assert_frame_equal(imputed.where(frame.notna()), frame)


def test_impute_keeps_the_type_of_an_array(labs):
    X = labs.astype(np.float32)
    imputed = make().fit(X).impute(X)
    assert imputed.dtype == np.float32
    np.testing.assert_array_equal(imputed[~np.isnan(X)], X[~np.isnan(X)])


@pytest.mark.parametrize(("factor", "shift"), [(1000.0, 0.0), (1e-3, 0.0), (1.0, 40.0)])
def test_imputations_are_in_the_unit_of_the_lab(labs, fitted, factor, shift):
    imputed = fitted.impute(labs)
    other_unit = labs * factor + shift
    np.testing.assert_allclose(
        make().fit(other_unit).impute(other_unit), imputed * factor + shift, rtol=1e-3
    )


def test_the_unit_does_not_change_the_embedding(labs, fitted):
    np.testing.assert_allclose(
        make().fit_transform(labs * 1000.0), fitted.transform(labs), atol=1e-4
    )


@pytest.mark.parametrize("value", [1e300, -1e300])
def test_huge_values_do_not_overflow(labs, fitted, value):
    labs[0, 0] = value
    encoder = make().fit(labs)
    for each in (encoder, fitted):
        assert np.isfinite(each.transform(labs)).all()
        assert np.isfinite(each.impute(labs)).all()
        assert np.isfinite(each.score(labs))
    assert np.isfinite(encoder.loss_curve_).all()


# Learning


def test_loss_falls(learned):
    assert np.mean(learned.loss_curve_[-5:]) < 0.6 * learned.loss_curve_[0]


def test_hidden_cells_are_predicted_on_new_rows(learned, correlated):
    X, _, _, test = correlated
    assert learned.score(X[test]) > 0.6


def test_imputation_beats_the_mean(learned, correlated):
    X, complete, train, test = correlated
    missing = np.isnan(X[test])
    by_mean = SimpleImputer().fit(X[train]).transform(X[test])

    def error(imputed):
        return np.sqrt(np.mean((imputed - complete[test])[missing] ** 2))

    assert error(learned.impute(X[test])) < 0.7 * error(by_mean)


def test_embedding_carries_the_hidden_causes(learned, correlated):
    X, complete, train, test = correlated
    design = [np.c_[np.ones(len(X[rows])), learned.transform(X[rows])] for rows in (train, test)]
    weights = np.linalg.lstsq(design[0], complete[train], rcond=None)[0]
    residual = ((design[1] @ weights - complete[test]) ** 2).sum()
    assert residual < 0.5 * ((complete[test] - complete[train].mean(axis=0)) ** 2).sum()


def test_unrelated_labs_cannot_be_predicted():
    X = np.random.default_rng(0).normal(size=(200, 5))
    assert make(max_epochs=10).fit(X[:100]).score(X[100:]) < 0.2


def test_score_is_the_same_at_every_call(learned, correlated):
    X, _, _, test = correlated
    assert learned.score(X[test]) == learned.score(X[test])


def test_score_is_nan_when_nothing_was_measured(learned):
    assert np.isnan(learned.score(np.full((3, 8), np.nan)))


def test_permuted_columns_are_learned_as_well(correlated):
    X, _, train, test = correlated
    order = np.random.default_rng(0).permutation(8)
    permuted = X[:, order]
    encoder = make(max_epochs=15, d_model=16, learning_rate=2e-2, dropout=0.0, mask_ratio=0.4)
    assert encoder.fit(permuted[train]).score(permuted[test]) > 0.4


def test_early_stopping_keeps_the_best_epoch(correlated):
    X, _, train, _ = correlated
    encoder = make(
        early_stopping=True, max_epochs=20, n_iter_no_change=3, learning_rate=5e-2, d_model=16
    ).fit(X[train])
    scores = encoder.validation_scores_
    assert len(scores) == len(encoder.loss_curve_) == encoder.n_iter_
    assert encoder.best_epoch_ == np.argmax(scores) + 1
    assert encoder.validation_score_ == max(scores)
    assert encoder.n_iter_ == 20 or encoder.n_iter_ == encoder.best_epoch_ + 3


def split_of_fit(X, monkeypatch, **fit_params):
    """Positions in X of rows to learn from and to validate on, and the former's weights."""
    parts = []
    split = _masked_lab.split_rows
    monkeypatch.setattr(
        _masked_lab, "split_rows", lambda *args: parts.extend(split(*args)) or tuple(parts)
    )
    params = {"early_stopping": True, "validation_fraction": 0.25, "max_epochs": 1}
    encoder = make(**params).fit(X, **fit_params)
    at = {tuple(row): i for i, row in enumerate(encoder._cells(X).value.reshape(X.shape).tolist())}
    train, validation = (
        [at[tuple(row)] for row in cells.value.reshape(-1, X.shape[1]).tolist()]
        for cells in (parts[0].cells, parts[1])
    )
    return np.array(train), np.array(validation), parts[0].weight


def test_early_stopping_holds_out_whole_patients(monkeypatch):
    rng = np.random.default_rng(3)
    X, patient = rng.normal(size=(120, 4)), np.array([f"patient {i % 20}" for i in range(120)])
    shared = slice(20, 40)
    X[shared] = X[20]  # One stay of each patient is the same, to the digit
    with monkeypatch.context() as patch:
        train, validation, weight = split_of_fit(X, patch, groups=patient)
    own = np.setdiff1d(train, np.arange(120)[shared])
    assert len(train) == len(own) + 1 == 15 * 5 + 1
    assert len(np.unique(patient[validation])) == 5
    assert not set(patient[own]) & set(patient[validation])
    # The shared stay is learned from, by its weight in the patients learned from, and nowhere else
    assert not set(validation) & set(range(120)[shared])
    assert sorted(weight)[-2:] == [1, 15]
    train, validation, _ = split_of_fit(X, monkeypatch)
    assert set(patient[train]) & set(patient[validation])


def test_groups_are_routed_by_default(labs):
    with config_context(enable_metadata_routing=True):
        request = make().get_metadata_routing().fit.requests
    assert request == {"groups": True, "sample_weight": None}
    with pytest.raises(ValueError, match="inconsistent"):
        make().fit(labs, groups=[1, 2])
    whole, grouped = (make().fit(labs, groups=each) for each in (None, np.arange(len(labs)) // 3))
    np.testing.assert_array_equal(whole.transform(labs), grouped.transform(labs))


def test_without_early_stopping_the_last_epoch_is_kept(labs):
    encoder = make(max_epochs=3).fit(labs)
    assert encoder.validation_scores_ == []
    assert encoder.validation_score_ is None
    assert encoder.best_epoch_ == encoder.n_iter_ == 3


def test_early_stopping_has_no_effect_on_a_handful_of_rows(labs):
    encoder = make(early_stopping=True, validation_fraction=0.1).fit(labs)
    assert encoder.validation_scores_ == []


# Parameters


@pytest.mark.parametrize("mask_ratio", [0.1, 0.99, (0.1, 0.9), [0.5, 0.5]])
def test_mask_ratios(labs, mask_ratio):
    assert np.isfinite(make(mask_ratio=mask_ratio).fit(labs).loss_curve_).all()


@pytest.mark.parametrize(
    "mask_ratio", [0.0, 1.0, -0.5, (0.9, 0.1), (0.0, 0.5), (0.5,), (0.1, 1.0), ("a", "b"), "half"]
)
def test_impossible_mask_ratios_are_refused(labs, mask_ratio):
    with pytest.raises(ValueError, match="mask_ratio"):
        make(mask_ratio=mask_ratio).fit(labs)


def test_d_model_must_be_a_multiple_of_n_heads(labs):
    with pytest.raises(ValueError, match="d_model=10 is not a multiple of n_heads=4"):
        make(d_model=10, n_heads=4).fit(labs)


@pytest.mark.parametrize("device", ["no such device", "cuda:99"])
def test_devices_that_are_not_there_are_refused(labs, device):
    with pytest.raises(ValueError, match="device"):
        make(device=device).fit(labs)


def test_progress_shows_no_values(labs, capsys):
    make(verbose=1).fit(labs)
    assert "labs" in capsys.readouterr().err


@pytest.mark.parametrize("n_rows", [9, 10, 20])
def test_any_number_of_steps(n_rows):
    X = np.random.default_rng(0).normal(size=(n_rows, 3))
    assert np.isfinite(make(batch_size=1, max_epochs=1).fit(X).loss_curve_).all()


def test_a_step_does_not_depend_on_how_rows_are_padded(labs, monkeypatch):
    """Rows of like length are run together; the gradient is that of the whole batch."""
    curves = []
    for n_cells in (20, 10_000):
        monkeypatch.setattr(_lab_model, "_CELLS_TOGETHER", n_cells)
        curves.append(make(dropout=0.0).fit(labs).loss_curve_)
    np.testing.assert_allclose(*curves, rtol=1e-4)


# Labs of fewer than five rows: none of their values stays in the fitted encoder


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


@settings(max_examples=8, deadline=None)
@given(
    values=st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=4),
    form=st.sampled_from([np.asarray, as_csr]),
)
def test_nothing_of_them_is_in_the_fitted_state(values, form):
    rng = np.random.default_rng(0)
    labs = rng.normal(size=(30, 1)) + rng.normal(size=(30, 6))
    never = fitted_quietly(make(max_epochs=1), form(with_rare_lab(labs, [])))
    rare = fitted_quietly(make(max_epochs=1), form(with_rare_lab(labs, values)))
    assert pickle.dumps(rare) == pickle.dumps(never)


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
    assert np.isnan(np.delete(imputed[:, 2], 7)).all()


def test_the_warning_names_the_first_of_several(labs):
    X = with_rare_lab(labs, [4.0])
    X[:, 4] = np.nan
    with pytest.warns(UserWarning, match=r"2 of 6 lab columns .* first at position 2;"):
        make(max_epochs=1).fit(X)


def test_no_imputed_lab_is_negative_that_never_was():
    """Log-normal enzymes, one row in forty a hundred times as high, and a lab that goes below 0."""
    rng = np.random.default_rng(0)
    cause = rng.normal(size=(200, 1))
    X = np.exp(cause + 0.5 * rng.normal(size=(200, 4))) * 20
    X[::40] *= 100
    X[:, 3] = cause[:, 0]
    X[rng.random(X.shape) < 0.5] = np.nan
    hidden = np.isnan(X)
    encoder = make(max_epochs=5).fit(X)
    for imputed in (encoder.impute(X), *encoder.impute(X, n_imputations=3)):
        low, high = np.nanmin(X, axis=0), np.nanmax(X, axis=0)
        assert (imputed >= low - 1e-9)[hidden].all()
        assert (imputed <= 2 * high)[hidden].all()
        assert imputed[hidden[:, 3], 3].min() < 0
    assert (encoder.reconstruct(X)["predicted"][encoder.reconstruct(X)["lab"] != 3] > 0).all()


def test_what_other_labs_tell_of_may_exceed_what_was_seen():
    """An INR of 7 where fit saw less than 4, from the prothrombin time that it is made of."""
    rng = np.random.default_rng(0)
    time = 12 * np.exp(0.35 * rng.exponential(size=300))
    X = np.column_stack([time, time / 12, rng.normal(size=(300, 2))])
    X = X[np.argsort(time)]
    X[-15:, 1] = np.nan
    X[-1, 0] = 84.0
    encoder = make(max_epochs=1).fit(X[:-1])
    seen = np.nanmax(X[:-1, 1])
    assert seen < 4
    assert 1.5 * seen < encoder.impute(X)[-1, 1] < 3 * seen


def test_without_epochs_labs_are_imputed_and_not_embedded(labs):
    encoder = make(max_epochs=0).fit(labs)
    assert encoder.n_iter_ == 0
    assert encoder.score(labs) > 0.3
    assert np.isfinite(encoder.impute(labs)).all()
    with pytest.raises(ValueError, match="With max_epochs=0 the embedding is not trained"):
        encoder.transform(labs)
    assert np.isfinite(encoder.partial_fit(labs).transform(labs)).all()
    with pytest.raises(ValueError, match="nothing to fit"):
        make(max_epochs=0, n_factors=0).fit(labs)


def test_labs_that_never_vary_score_zero():
    X = np.full((20, 3), 4.0)
    assert make(max_epochs=1).fit(X).score(X) == 0.0


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


def test_small_weights_are_no_small_table(labs, fitted):
    weight = np.full(len(labs), 1 / len(labs))
    np.testing.assert_allclose(
        make().fit(labs, sample_weight=weight).transform(labs), fitted.transform(labs)
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
