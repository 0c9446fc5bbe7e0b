"""Cells: what is measured, in which order, on which scale."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sklearn_medfuse.labs._lab_values import LabCells, compress, expand, lab_center_and_scale

finite = st.floats(-1e150, 1e150)


@given(z=finite)
def test_expand_inverts_compress(z):
    z = np.array([z])
    np.testing.assert_allclose(expand(compress(z)), z, rtol=1e-9, atol=1e-9)


@given(pair=st.tuples(finite, finite))
def test_compress_keeps_the_order_and_the_sign(pair):
    low, high = np.sort(pair)
    small, large = compress(np.array([low, high]))
    assert small <= large
    assert np.sign(small) == np.sign(low)


@given(z=st.floats(-4, 4))
def test_compress_leaves_usual_values_as_they_are(z):
    assert compress(np.array([z]))[0] == z


def test_compress_is_continuous_at_its_knee():
    z = np.array([4 - 1e-9, 4 + 1e-9])
    np.testing.assert_allclose(np.diff(compress(z)), 2e-9, rtol=1e-4)


def test_expand_never_overflows():
    assert np.isfinite(expand(np.array([-1e308, 1e308]))).all()


@settings(max_examples=50)
@given(seed=st.integers(0, 2**32 - 1), share=st.floats(0, 1))
def test_cells_are_the_observed_ones_row_after_row(seed, share):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(5, 4))
    observed = rng.random(X.shape) < share
    X[~observed] = np.nan
    cells = LabCells.from_dense(X, np.zeros(4), np.ones(4))
    assert len(cells) == 5
    np.testing.assert_array_equal(cells.n_measured, observed.sum(axis=1))
    np.testing.assert_array_equal(cells.lab, np.nonzero(observed)[1])
    np.testing.assert_array_equal(expand(cells.value), X[observed])


def test_a_column_that_was_never_measured_in_fit_has_no_cells():
    cells = LabCells.from_dense(np.ones((2, 2)), np.array([np.nan, 0.0]), np.ones(2))
    assert cells.lab.tolist() == [1, 1]


def test_batches_are_packed_to_the_left_and_padded_with_zeros():
    X = np.array([[np.nan, 2.0, 3.0], [1.0, np.nan, np.nan], [np.nan] * 3])
    cells = LabCells.from_dense(X, np.zeros(3), np.ones(3))
    batch = cells.batch(np.array([1, 0, 2]), torch.float64, torch.device("cpu"))
    assert batch.measured.tolist() == [[True, False], [True, True], [False, False]]
    assert batch.lab.tolist() == [[0, 0], [1, 2], [0, 0]]
    assert batch.value.tolist() == [[1, 0], [2, 3], [0, 0]]


def test_center_and_scale_are_those_of_the_observed_values():
    rng = np.random.default_rng(0)
    X = rng.normal(10, 3, size=(1000, 2))
    X[::2, 1] = np.nan
    center, scale = lab_center_and_scale(X)
    np.testing.assert_allclose(center, np.nanmean(X, axis=0), atol=0.1)
    np.testing.assert_allclose(scale, np.nanstd(X, axis=0), rtol=0.05)


def test_a_typing_error_hardly_moves_center_and_scale():
    X = np.random.default_rng(0).normal(10, 3, size=(1000, 1))
    wrong = X.copy()
    wrong[0] = 1e6
    for clean, dirty in zip(lab_center_and_scale(X), lab_center_and_scale(wrong), strict=True):
        np.testing.assert_allclose(dirty, clean, rtol=0.05)


@pytest.mark.parametrize("column", [[7.0] * 5, [0.0] * 5, [0.1, 0.1, 0.1], [3.0], [np.nan, 3.0]])
def test_constant_columns_have_scale_one(column):
    center, scale = lab_center_and_scale(np.array(column)[:, None])
    np.testing.assert_allclose(center, np.nanmax(column))
    assert scale == 1.0


def test_never_measured_columns_have_no_center():
    center, scale = lab_center_and_scale(np.full((3, 1), np.nan))
    assert np.isnan(center).all()
    assert scale == 1.0


@pytest.mark.parametrize("column", [[1e300, -1e300, 0.0], [1e300, 1e300], [1.0, 1.1, 1e300]])
def test_huge_values_give_finite_centers_scales_and_cells(column):
    X = np.array(column)[:, None]
    center, scale = lab_center_and_scale(X)
    assert np.isfinite([center, scale]).all()
    assert np.isfinite(LabCells.from_dense(X, center, scale).value).all()
