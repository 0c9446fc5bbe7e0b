"""Which columns form a modality, and which rows lack it."""

import numpy as np
import pandas as pd
import pytest

from sklearn_medfuse.fusion._modalities import (
    BlockScaler,
    check_scaling,
    only_modality,
    presence,
    resolve_modalities,
    resolve_tokens,
)


def resolved(modalities, X, n_features):
    found = resolve_modalities(modalities, X, n_features)
    return {name: columns.tolist() for name, columns in found.items()}


def test_prefixes_of_a_data_frame():
    frame = pd.DataFrame([[0.0] * 4], columns=["labs__a", "notes__b", "labs__c__d", "notes__e"])
    assert resolved("auto", frame, 4) == {"labs": [0, 2], "notes": [1, 3]}


@pytest.mark.parametrize("columns", [["a", "b"], ["labs__a", "b"], [0, 1]])
def test_columns_without_prefixes_are_one_modality(columns):
    frame = pd.DataFrame([[0.0, 1.0]], columns=columns)
    assert resolved("auto", frame, 2) == {"features": [0, 1]}


def test_an_array_is_one_modality():
    assert resolved("auto", np.zeros((1, 3)), 3) == {"features": [0, 1, 2]}


def test_numbers_of_columns_and_slices():
    X = np.zeros((1, 5))
    assert resolved({"labs": 2, "notes": 3}, X, 5) == {"labs": [0, 1], "notes": [2, 3, 4]}
    assert resolved({"labs": np.int64(5)}, X, 5) == {"labs": [0, 1, 2, 3, 4]}
    slices = {"notes": slice(2, None), "labs": slice(0, 2)}
    assert resolved(slices, X, 5) == {"notes": [2, 3, 4], "labs": [0, 1]}
    every_other = {"even": slice(0, None, 2), "odd": slice(1, None, 2)}
    assert resolved(every_other, X, 5) == {"even": [0, 2, 4], "odd": [1, 3]}


@pytest.mark.parametrize(
    "modalities",
    [
        {"labs": 2, "notes": 2},
        {"labs": 2, "notes": 4},
        {"labs": slice(0, 3), "notes": slice(2, 5)},
        {"labs": slice(0, 5), "notes": slice(5, 5)},
        {"labs": 5, "notes": slice(0, 5)},
        {},
    ],
)
def test_every_column_belongs_to_exactly_one_modality(modalities):
    with pytest.raises(ValueError, match="exactly once"):
        resolve_modalities(modalities, np.zeros((1, 5)), 5)


@pytest.mark.parametrize("which", [0, -1, True, 2.0, "2", [0, 1], None])
def test_what_names_no_columns_is_refused(which):
    with pytest.raises(ValueError, match="number of columns or a slice"):
        resolve_modalities({"labs": which, "notes": 3}, np.zeros((1, 5)), 5)


COLUMNS = {"labs": np.array([0, 1]), "notes": np.array([2])}
VECTORS = {"labs": 0, "notes": 0}


def fit_scaler(X):
    return BlockScaler.fit(COLUMNS, VECTORS, X, np.ones(len(X)))


def test_a_block_of_nan_is_absent():
    X = np.array([[1, 2, 3], [np.nan, np.nan, 3], [1, 2, np.nan], [np.nan] * 3])
    assert presence(COLUMNS, VECTORS, X).tolist() == [
        [True, True],
        [False, True],
        [True, False],
        [False, False],
    ]


def test_a_block_that_is_nan_in_part_is_refused_without_showing_values():
    X = np.array([[1, 2, 3], [31337.5, np.nan, 3]])
    with pytest.raises(ValueError, match="first at position 1") as caught:
        presence(COLUMNS, VECTORS, X)
    message = str(caught.value)
    assert "'labs'" in message
    assert "set_output(transform='pandas')" in message
    assert "31337" not in message


def test_scaling_uses_the_rows_that_have_the_modality():
    rng = np.random.default_rng(0)
    X = rng.normal(50, 10, size=(100, 3))
    X[::2, :2] = np.nan
    blocks, present = fit_scaler(X).blocks(X)
    labs = blocks[0][present[:, 0]]
    np.testing.assert_allclose(labs.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(labs.std(axis=0), 1)


@pytest.mark.parametrize("value", [0.0, 7.0, 0.1])
def test_constant_columns_are_centred_only(value):
    X = np.full((5, 3), value)
    blocks, _ = fit_scaler(X).blocks(X)
    np.testing.assert_allclose(blocks[0], 0, atol=1e-12)


def test_a_modality_that_is_always_absent_has_no_statistics():
    X = np.array([[np.nan, np.nan, 3.0], [np.nan, np.nan, 4.0]])
    scaler = fit_scaler(X)
    assert np.isfinite(scaler.mean).all()
    assert (scaler.scale > 0).all()


def test_weights_of_scaling_are_repeated_rows():
    X = np.random.default_rng(0).normal(size=(20, 3))
    X[3, :2] = np.nan
    weight = np.arange(1, 21) % 4 + 1
    weighted = BlockScaler.fit(COLUMNS, VECTORS, X, weight)
    repeated = fit_scaler(X.repeat(weight, axis=0))
    np.testing.assert_allclose(weighted.mean, repeated.mean)
    np.testing.assert_allclose(weighted.scale, repeated.scale)


# tokens


def token_frame(n_tokens=3, width=2, n=5):
    names = [f"notes__token{t}_{i}" for t in range(n_tokens) for i in range(width)]
    X = np.random.default_rng(0).normal(size=(n, 1 + len(names)))
    return pd.DataFrame(X, columns=["labs__0", *names])


def test_tokens_are_known_by_their_names():
    X = token_frame()
    columns = resolve_modalities("auto", X, X.shape[1])
    assert resolve_tokens("auto", columns, X) == {"labs": 0, "notes": 3}
    assert resolve_tokens("auto", columns, X.to_numpy()) == {"labs": 0, "notes": 0}
    assert resolve_tokens({"notes": 2}, columns, X) == {"labs": 0, "notes": 2}


def test_tokens_out_of_order_are_refused():
    X = token_frame()
    X = X[[X.columns[0], *X.columns[:0:-1]]]
    with pytest.raises(ValueError, match="without gaps"):
        resolve_tokens("auto", resolve_modalities("auto", X, X.shape[1]), X)


@pytest.mark.parametrize("tokens", [{"letters": 2}, {"notes": 4}, {"notes": 0}, {"notes": 1.5}])
def test_impossible_numbers_of_tokens_are_refused(tokens):
    X = token_frame()
    with pytest.raises(ValueError, match="input_tokens"):
        resolve_tokens(tokens, resolve_modalities("auto", X, X.shape[1]), X)


def test_tokens_are_scaled_alike_wherever_they_stand():
    X = token_frame(n=50).to_numpy(copy=True)
    X[1:, 5:] = np.nan  # the last token is there once
    columns, tokens = {"labs": np.array([0]), "notes": np.arange(1, 7)}, {"labs": 0, "notes": 3}
    scaler = BlockScaler.fit(columns, tokens, X, np.ones(50))
    assert len(np.unique(scaler.mean[[1, 3, 5]])) == 1
    blocks, present = scaler.blocks(X)
    assert blocks[1].shape == (50, 3, 2)
    assert present.all()
    assert np.nanmean(blocks[1]) == pytest.approx(0, abs=1e-12)


def test_a_token_may_be_absent_but_not_in_part():
    columns, tokens = {"notes": np.arange(6)}, {"notes": 3}
    X = np.ones((3, 6))
    X[0, 4:], X[1] = np.nan, np.nan
    assert presence(columns, tokens, X).tolist() == [[True], [False], [True]]
    X[2, 3] = np.nan
    with pytest.raises(ValueError, match="in a token"):
        presence(columns, tokens, X)


def test_one_of_several_modalities():
    assert list(only_modality(COLUMNS, "notes")) == ["notes"]
    with pytest.raises(ValueError, match="'letters' reads the modality of that name"):
        only_modality(COLUMNS, "letters")


# scaling


def test_one_scale_for_a_block_keeps_the_sizes_of_its_columns():
    X = np.random.default_rng(0).normal(3, [1, 10, 5], size=(500, 3))
    scaler = BlockScaler.fit(COLUMNS, VECTORS, X, np.ones(500), {"labs": "block"})
    labs, notes = scaler.blocks(X)[0]
    spread = labs.std(axis=0)
    np.testing.assert_allclose(spread[1] / spread[0], X[:, 1].std() / X[:, 0].std())
    np.testing.assert_allclose((spread**2).mean(), 1)
    np.testing.assert_allclose(labs.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(notes.std(axis=0), 1)


@pytest.mark.parametrize("wrong", [{"letters": "block"}, {"labs": "none"}])
def test_impossible_scaling_is_refused(wrong):
    with pytest.raises(ValueError, match="input_scaling"):
        check_scaling(wrong, COLUMNS)
