"""Resamples draw whole groups; intervals and p-values are those of the draws."""

import numpy as np
import pytest

from sklearn_medfuse.metrics import _bootstrap
from sklearn_medfuse.metrics._averages import append_averages
from sklearn_medfuse.metrics._bootstrap import (
    percentile_interval,
    resampled_weights,
    two_sided_p_value,
)


def test_whole_groups_are_drawn_as_many_as_there_are(patients):
    codes = np.unique(patients, return_inverse=True)[1]
    weights = np.hstack(list(resampled_weights(codes, 50, 0)))
    assert weights.shape == (len(codes), 50)
    first_row = np.unique(codes, return_index=True)[1]
    np.testing.assert_array_equal(weights, weights[first_row][codes])
    np.testing.assert_array_equal(weights[first_row].sum(axis=0), codes.max() + 1)


def test_draws_do_not_depend_on_the_block_size(patients, monkeypatch):
    codes = np.unique(patients, return_inverse=True)[1]
    together = np.hstack(list(resampled_weights(codes, 10, 0)))
    monkeypatch.setattr(_bootstrap, "_BLOCK_SIZE", 3 * len(codes))
    blocks = list(resampled_weights(codes, 10, 0))
    assert [block.shape[1] for block in blocks] == [3, 3, 3, 1]
    np.testing.assert_array_equal(together, np.hstack(blocks))


def test_macro_is_the_mean_of_the_defined_labels():
    values = np.array([[0.2, 0.4], [np.nan, 0.4], [np.nan, np.nan]])
    n_positive = np.array([[1, 3], [5, 1], [1, 1]])
    found = append_averages(values, n_positive, None, ["macro", "weighted"])
    np.testing.assert_allclose(found[:, :2], values)
    np.testing.assert_allclose(found[:, 2], [0.3, 0.4, np.nan])
    np.testing.assert_allclose(found[:, 3], [0.35, 0.4, np.nan])


def test_interval_holds_the_middle_of_the_defined_draws():
    draws = np.column_stack([np.arange(101.0), np.full(101, np.nan)])
    draws = np.vstack([draws, [np.nan, np.nan]])
    low, high = percentile_interval(draws, 0.9)
    np.testing.assert_allclose(low, [5, np.nan])
    np.testing.assert_allclose(high, [95, np.nan])


@pytest.mark.parametrize(
    ("draws", "expected"),
    [
        (np.ones(99), 0.02),  # 2 * (1 + 0) / (1 + 99)
        (-np.ones(99), 0.02),
        (np.zeros(99), 1.0),
        (np.r_[np.ones(90), -np.ones(9)], 0.2),
        (np.full(99, np.nan), np.nan),
    ],
)
def test_p_value_by_hand(draws, expected):
    np.testing.assert_allclose(two_sided_p_value(draws[:, None]), [expected])
