"""Which columns form a modality, and which rows lack it."""

import numpy as np
import pandas as pd
import pytest

from sklearn_medfuse.fusion._modalities import BlockScaler, presence, resolve_modalities


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


def test_a_block_of_nan_is_absent():
    X = np.array([[1, 2, 3], [np.nan, np.nan, 3], [1, 2, np.nan], [np.nan] * 3])
    assert presence(COLUMNS, X).tolist() == [
        [True, True],
        [False, True],
        [True, False],
        [False, False],
    ]


def test_a_block_that_is_nan_in_part_is_refused_without_showing_values():
    X = np.array([[1, 2, 3], [31337.5, np.nan, 3]])
    with pytest.raises(ValueError, match="first at position 1") as caught:
        presence(COLUMNS, X)
    message = str(caught.value)
    assert "'labs'" in message
    assert "set_output(transform='pandas')" in message
    assert "31337" not in message


def test_scaling_uses_the_rows_that_have_the_modality():
    rng = np.random.default_rng(0)
    X = rng.normal(50, 10, size=(100, 3))
    X[::2, :2] = np.nan
    blocks, present = BlockScaler.fit(COLUMNS, X).blocks(X)
    labs = blocks[0][present[:, 0]]
    np.testing.assert_allclose(labs.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(labs.std(axis=0), 1)


@pytest.mark.parametrize("value", [0.0, 7.0, 0.1])
def test_constant_columns_are_centred_only(value):
    X = np.full((5, 3), value)
    blocks, _ = BlockScaler.fit(COLUMNS, X).blocks(X)
    np.testing.assert_allclose(blocks[0], 0, atol=1e-12)


def test_a_modality_that_is_always_absent_has_no_statistics():
    X = np.array([[np.nan, np.nan, 3.0], [np.nan, np.nan, 4.0]])
    scaler = BlockScaler.fit(COLUMNS, X)
    assert np.isfinite(scaler.mean).all()
    assert (scaler.scale > 0).all()
