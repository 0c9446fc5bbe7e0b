"""Cells: what is measured, in which order, and each distinct row once."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from sklearn_medfuse.labs._lab_cells import LabCells, LabResults

NAN = np.nan


@settings(max_examples=50)
@given(seed=st.integers(0, 2**32 - 1), share=st.floats(0, 1))
def test_results_are_the_observed_cells_row_after_row(seed, share):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(5, 4))
    observed = rng.random(X.shape) < share
    X[~observed] = NAN
    results = LabResults.from_table(X)
    assert len(results) == 5
    np.testing.assert_array_equal(results.n_measured, observed.sum(axis=1))
    np.testing.assert_array_equal(results.lab, np.nonzero(observed)[1])
    np.testing.assert_array_equal(results.value, X[observed])


def test_sparse_and_dense_tables_hold_the_same_results():
    dense = np.array([[NAN, 0.0, 3.0], [NAN] * 3, [1.0, NAN, NAN]])
    entries = sparse.csr_array(([0.0, 3.0, 1.0], [1, 2, 0], [0, 2, 2, 3]), shape=(3, 3))
    for name in ("row_start", "lab", "value", "n_labs"):
        np.testing.assert_array_equal(
            getattr(LabResults.from_table(entries), name),
            getattr(LabResults.from_table(dense), name),
        )


def as_rows(results, weight):
    bounds = results.row_start
    return {
        (tuple(results.lab[a:b].tolist()), tuple(results.value[a:b].tolist())): w
        for a, b, w in zip(bounds[:-1], bounds[1:], weight.tolist(), strict=True)
    }


def test_distinct_rows_carry_the_sum_of_their_weights():
    X = np.array([[1.0, NAN], [NAN, 1.0], [1.0, NAN], [NAN, NAN], [2.0, 3.0]])
    results, weight = LabResults.from_table(X).distinct(np.array([1.0, 2.0, 0.5, 9.0, 0.0]))
    assert as_rows(results, weight) == {((0,), (1.0,)): 1.5, ((1,), (1.0,)): 2.0}


def test_the_two_zeros_are_one():
    results, weight = LabResults.from_table(np.array([[0.0], [-0.0]])).distinct(None)
    assert len(results) == 1
    assert weight.tolist() == [2.0]


@given(seed=st.integers(0, 1000))
@settings(max_examples=20)
def test_distinct_rows_do_not_depend_on_order_or_repetition(seed):
    rng = np.random.default_rng(seed)
    X = rng.integers(0, 3, size=(12, 2)).astype(float)
    weight = rng.integers(0, 4, size=12)
    repeated = rng.permutation(np.repeat(X, weight, axis=0))
    once, weights = LabResults.from_table(X).distinct(weight.astype(float))
    again, counts = LabResults.from_table(repeated).distinct(None)
    np.testing.assert_array_equal(once.value, again.value)
    np.testing.assert_array_equal(weights, counts)


def test_no_row_at_all():
    results, weight = LabResults.from_table(np.full((3, 2), NAN)).distinct(None)
    assert len(results) == len(weight) == 0


@pytest.fixture
def cells():
    return LabCells(
        np.array([0, 2, 3, 3]),
        np.array([1, 2, 0]),
        np.array([2.0, 3.0, 1.0]),
        np.array([0.2, 0.3, 0.1]),
    )


def test_batches_are_packed_to_the_left_and_padded_with_zeros(cells):
    batch = cells.batch(np.array([1, 0, 2]), torch.float64, torch.device("cpu"))
    assert batch.measured.tolist() == [[True, False], [True, True], [False, False]]
    assert batch.lab.tolist() == [[0, 0], [1, 2], [0, 0]]
    assert batch.value.tolist() == [[1, 0], [2, 3], [0, 0]]
    assert batch.score.tolist() == [[0.1, 0], [0.2, 0.3], [0, 0]]


def test_taking_rows_keeps_their_cells(cells):
    taken = cells.take(np.array([2, 0]))
    assert taken.n_measured.tolist() == [0, 2]
    assert taken.lab.tolist() == [1, 2]
    assert taken.score.tolist() == [0.2, 0.3]
