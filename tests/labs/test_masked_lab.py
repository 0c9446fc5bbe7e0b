"""MaskedLabEncoder: missing is not hidden, observed cells stay, hidden ones are learned."""

import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.impute import SimpleImputer

from sklearn_medfuse import MaskedLabEncoder
from sklearn_medfuse.labs import _masked_training

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
        max_epochs=80, d_model=16, n_components=4, learning_rate=1e-2, dropout=0.0, mask_ratio=0.4
    ).fit(X[train])


def test_embeds_every_row(labs):
    embedding = make().fit_transform(labs)
    assert embedding.shape == (60, 4)
    assert np.isfinite(embedding).all()


def test_a_row_does_not_depend_on_the_others(labs):
    encoder = make().fit(labs)
    together = encoder.transform(labs)
    alone = np.vstack([encoder.transform(row[None]) for row in labs])
    np.testing.assert_allclose(alone, together, atol=1e-10)


def test_embedding_depends_on_which_lab_was_measured():
    X = np.array([[1.0, np.nan], [np.nan, 1.0], [1.0, 1.0], [2.0, 3.0]] * 2)
    embedding = make().fit(X).transform(X)
    assert not np.allclose(embedding[0], embedding[1])


@pytest.mark.parametrize(("absent", "value"), [("nan", np.nan), ("zero", 0.0)])
def test_rows_without_any_lab(labs, absent, value):
    labs[3] = np.nan
    embedding = make(absent=absent).fit_transform(labs)
    np.testing.assert_array_equal(embedding[3], np.full(4, value))
    assert np.isfinite(np.delete(embedding, 3, axis=0)).all()


def test_rows_without_any_lab_change_nothing_in_training(labs):
    with_empty = np.vstack([labs, np.full((5, 6), np.nan)])
    np.testing.assert_array_equal(
        make().fit(labs).transform(labs), make().fit(with_empty).transform(labs)
    )


def test_nothing_but_missing_values():
    X = np.full((4, 3), np.nan)
    with pytest.warns(UserWarning, match="3 of 3 lab columns"):
        encoder = make().fit(X)
    assert np.isnan(encoder.transform(X)).all()
    np.testing.assert_array_equal(encoder.impute(X), np.zeros((4, 3)))
    assert np.isnan(encoder.score(X))
    assert encoder.n_iter_ == 0


def test_fully_observed_rows(labs):
    X = np.nan_to_num(labs, nan=5.0)
    encoder = make().fit(X)
    assert np.isfinite(encoder.transform(X)).all()
    np.testing.assert_array_equal(encoder.impute(X), X)


def test_a_lab_measured_once(labs):
    labs[:, 2] = np.nan
    labs[7, 2] = 4.0
    with pytest.warns(UserWarning, match="1 of 6 lab columns"):
        encoder = make().fit(labs)
    assert np.isfinite(encoder.transform(labs)).all()
    assert np.isfinite(encoder.impute(labs)).all()


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
    assert (encoder.impute(labs)[:, 2] == 0).all()
    np.testing.assert_array_equal(encoder.impute(measured)[:, 2], np.arange(60))


def test_a_row_whose_only_lab_was_never_measured_in_fit_is_absent(labs):
    labs[:, 2] = np.nan
    with pytest.warns(UserWarning, match="1 of 6 lab columns"):
        encoder = make().fit(labs)
    row = np.full((1, 6), np.nan)
    row[0, 2] = 1.0
    assert np.isnan(encoder.transform(row)).all()


@pytest.mark.parametrize("row", [[1.0, np.nan, 3.0], [1.0, 2.0, 3.0]])
def test_one_row(row):
    X = np.array([row])[:, ~np.isnan(row)]
    with pytest.warns(UserWarning, match="lab columns have fewer than 5 measured values"):
        encoder = make().fit(X)
    assert np.isnan(encoder.transform(X)).all()
    np.testing.assert_array_equal(encoder.impute(X), X)


def test_one_row_many_times():
    X = np.array([[1.0, 2.0, 3.0]] * 5)
    encoder = make().fit(X)
    assert np.isfinite(encoder.transform(X[:1])).all()
    assert np.isfinite(encoder.score(X[:1]))


def test_one_cell():
    encoder = make().fit([[3.0]] * 5)
    assert np.isfinite(encoder.transform([[5.0]])).all()
    np.testing.assert_array_equal(encoder.impute([[5.0]]), [[5.0]])


# impute


def test_impute_keeps_observed_cells_and_fills_the_others(labs):
    encoder = make().fit(labs)
    imputed = encoder.impute(labs)
    observed = ~np.isnan(labs)
    assert imputed[observed].tobytes() == labs[observed].tobytes()
    assert np.isfinite(imputed).all()


def test_impute_does_not_change_its_input(labs):
    before = labs.copy()
    make().fit(labs).impute(labs)
    np.testing.assert_array_equal(labs, before)


def test_impute_fills_rows_without_any_lab(labs):
    encoder = make().fit(labs)
    assert np.isfinite(encoder.impute(np.full((2, 6), np.nan))).all()


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


def test_impute_takes_nullable_columns(labs):
    frame = pd.DataFrame(labs, columns=list("abcdef"))
    nullable = frame.astype("Float64")
    encoder = make().fit(frame)
    np.testing.assert_array_equal(
        encoder.impute(nullable).to_numpy(dtype=float), encoder.impute(frame).to_numpy()
    )


@pytest.mark.parametrize(("factor", "shift"), [(1000.0, 0.0), (1e-3, 0.0), (1.0, 40.0)])
def test_imputations_are_in_the_unit_of_the_lab(labs, factor, shift):
    imputed = make().fit(labs).impute(labs)
    other_unit = labs * factor + shift
    np.testing.assert_allclose(
        make().fit(other_unit).impute(other_unit), imputed * factor + shift, rtol=1e-3
    )


def test_the_unit_does_not_change_the_embedding(labs):
    np.testing.assert_allclose(
        make().fit_transform(labs * 1000.0), make().fit_transform(labs), atol=1e-4
    )


@pytest.mark.parametrize("value", [1e300, -1e300])
def test_huge_values_do_not_overflow(labs, value):
    labs[0, 0] = value
    encoder = make().fit(labs)
    assert np.isfinite(encoder.transform(labs)).all()
    assert np.isfinite(encoder.impute(labs)).all()
    assert np.isfinite(encoder.score(labs))
    assert np.isfinite(encoder.loss_curve_).all()


def test_huge_values_after_fit_do_not_overflow(labs):
    encoder = make().fit(labs)
    labs[0, 0] = 1e300
    assert np.isfinite(encoder.transform(labs)).all()
    assert np.isfinite(encoder.impute(labs)).all()


def test_infinity_is_refused(labs):
    labs[0, 0] = np.inf
    with pytest.raises(ValueError, match="infinity"):
        make().fit(labs)


# learning


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
    assert make(max_epochs=20).fit(X[:100]).score(X[100:]) < 0.2


def test_score_is_the_same_at_every_call(learned, correlated):
    X, _, _, test = correlated
    assert learned.score(X[test]) == learned.score(X[test])


def test_score_is_nan_when_nothing_was_measured(learned):
    assert np.isnan(learned.score(np.full((3, 8), np.nan)))


def test_permuted_columns_are_learned_as_well(correlated):
    X, _, train, test = correlated
    order = np.random.default_rng(0).permutation(8)
    permuted = X[:, order]
    encoder = make(max_epochs=40, d_model=16, learning_rate=1e-2, dropout=0.0, mask_ratio=0.4)
    assert encoder.fit(permuted[train]).score(permuted[test]) > 0.4


def test_early_stopping_keeps_the_best_epoch(correlated):
    X, _, train, _ = correlated
    encoder = make(
        early_stopping=True, max_epochs=40, n_iter_no_change=3, learning_rate=5e-2, d_model=16
    ).fit(X[train])
    scores = encoder.validation_scores_
    assert len(scores) == len(encoder.loss_curve_) == encoder.n_iter_
    assert encoder.best_epoch_ == np.argmax(scores) + 1
    assert encoder.validation_score_ == max(scores)
    assert encoder.n_iter_ == 40 or encoder.n_iter_ == encoder.best_epoch_ + 3


def test_without_early_stopping_the_last_epoch_is_kept(labs):
    encoder = make(max_epochs=3).fit(labs)
    assert encoder.validation_scores_ == []
    assert encoder.validation_score_ is None
    assert encoder.best_epoch_ == encoder.n_iter_ == 3


def test_early_stopping_has_no_effect_on_a_handful_of_rows(labs):
    encoder = make(early_stopping=True, validation_fraction=0.1).fit(labs)
    assert encoder.validation_scores_ == []


# parameters


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


def test_output_has_names(labs):
    encoder = make().set_output(transform="pandas").fit(labs)
    assert encoder.transform(labs).columns[0] == "maskedlabencoder0"


def test_unknown_columns_are_refused(labs):
    frame = pd.DataFrame(labs, columns=list("abcdef"))
    encoder = make().fit(frame)
    for method in (encoder.transform, encoder.impute, encoder.score):
        with pytest.raises(ValueError, match="feature names"):
            method(frame.rename(columns={"a": "z"}))


def test_progress_shows_no_values(labs, capsys):
    make(verbose=1).fit(labs)
    assert "labs" in capsys.readouterr().err


@pytest.mark.parametrize("n_rows", [9, 10, 11, 19, 20, 21])
def test_any_number_of_steps(n_rows):
    X = np.random.default_rng(0).normal(size=(n_rows, 3))
    assert np.isfinite(make(batch_size=1, max_epochs=1).fit(X).loss_curve_).all()


def test_a_step_does_not_depend_on_how_rows_are_padded(labs, monkeypatch):
    """Rows of like length are run together; the gradient is that of the whole batch."""
    curves = []
    for n_cells in (20, 10_000):
        monkeypatch.setattr(_masked_training, "_CELLS_TOGETHER", n_cells)
        curves.append(make(dropout=0.0).fit(labs).loss_curve_)
    np.testing.assert_allclose(*curves, rtol=1e-4)
