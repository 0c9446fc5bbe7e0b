"""Cells and scales: each distinct row once, safe from typing errors, blind to units."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from sklearn_medfuse.labs._lab_cells import LabCells, LabScale, compress, expand

NAN = np.nan
finite = st.floats(-1e150, 1e150)


def from_table(X):
    return LabCells.from_table(np.asarray(X, dtype=float))


def distinct(X, weight=None):
    return from_table(X).distinct(np.ones(len(X)) if weight is None else weight)[:2]


def fit(X):
    return LabScale.fit(*distinct(X))


def cells_of(scale, X):
    return scale.cells(from_table(X))


def as_rows(cells, weight):
    bounds = cells.row_start
    return {
        (tuple(cells.lab[a:b].tolist()), tuple(cells.value[a:b].tolist())): w
        for a, b, w in zip(bounds[:-1], bounds[1:], weight.tolist(), strict=True)
    }


# Cells


def test_distinct_rows_carry_the_sum_of_their_weights():
    X = [[1.0, NAN], [NAN, 1.0], [1.0, NAN], [NAN, NAN], [2.0, 3.0]]
    cells, weight = distinct(X, np.array([1.0, 2.0, 0.5, 9.0, 0.0]))
    assert as_rows(cells, weight) == {((0,), (1.0,)): 1.5, ((1,), (1.0,)): 2.0}


def test_distinct_rows_have_a_weight_by_group():
    cells = from_table([[1.0], [2.0], [1.0], [2.0], [2.0], [NAN]])
    groups = np.array(["b", "a", "a", "a", "c", "d"])
    cells, weight, by_group = cells.distinct(np.array([1.0, 2.0, 4.0, 8.0, 0.0, 1.0]), groups)
    found = dict(zip(cells.value.tolist(), by_group.toarray().tolist(), strict=True))
    assert found == {1.0: [4.0, 1.0], 2.0: [10.0, 0.0]}
    np.testing.assert_array_equal(by_group.sum(axis=1), weight)


def test_the_two_zeros_are_one():
    cells, weight = distinct([[0.0], [-0.0]])
    assert len(cells) == 1
    assert weight.tolist() == [2.0]


@given(seed=st.integers(0, 1000))
@settings(max_examples=20)
def test_distinct_rows_do_not_depend_on_order_or_repetition(seed):
    rng = np.random.default_rng(seed)
    X = rng.integers(0, 3, size=(12, 2)).astype(float)
    weight = rng.integers(0, 4, size=12)
    repeated = rng.permutation(np.repeat(X, weight, axis=0))
    once, weights = distinct(X, weight.astype(float))
    again, counts = distinct(repeated)
    np.testing.assert_array_equal(once.value, again.value)
    np.testing.assert_array_equal(weights, counts)


def test_batches_are_packed_to_the_left_and_padded_with_zeros():
    cells = LabCells(
        np.array([0, 2, 3, 3]),
        np.array([1, 2, 0]),
        np.array([2.0, 3.0, 1.0]),
        3,
        np.array([0.2, 0.3, 0.1]),
    )
    batch = cells.batch(np.array([1, 0, 2]), torch.float64, torch.device("cpu"))
    assert batch.measured.tolist() == [[True, False], [True, True], [False, False]]
    assert batch.lab.tolist() == [[0, 0], [1, 2], [0, 0]]
    assert batch.value.tolist() == [[1, 0], [2, 3], [0, 0]]
    assert batch.score.tolist() == [[0.1, 0], [0.2, 0.3], [0, 0]]


# Compression of far values


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


def test_compress_leaves_usual_values_unchanged_and_is_continuous_at_its_knee():
    usual = np.linspace(-4, 4, 33)
    np.testing.assert_array_equal(compress(usual), usual)
    z = np.array([4 - 1e-9, 4 + 1e-9])
    np.testing.assert_allclose(np.diff(compress(z)), 2e-9, rtol=1e-4)


def test_expand_never_overflows():
    assert np.isfinite(expand(np.array([-1e308, 1e308]))).all()


# Scales


def test_center_and_scale_are_those_of_the_observed_values():
    rng = np.random.default_rng(0)
    X = rng.normal(10, 3, size=(1000, 2))
    X[::2, 1] = np.nan
    scale = fit(X)
    np.testing.assert_allclose(scale.center, np.nanmean(X, axis=0), atol=0.1)
    np.testing.assert_allclose(scale.scale, np.nanstd(X, axis=0), rtol=0.05)


def test_a_typing_error_hardly_moves_center_and_scale():
    X = np.random.default_rng(0).normal(10, 3, size=(1000, 1))
    wrong = X.copy()
    wrong[0] = 1e6
    for clean, dirty in zip(fit(X)[:2], fit(wrong)[:2], strict=True):
        np.testing.assert_allclose(dirty, clean, rtol=0.05)


@pytest.mark.parametrize("column", [[7.0] * 5, [0.0] * 5, [0.1, 0.1, 0.1], [3.0], [np.nan, 3.0]])
def test_constant_columns_have_scale_one(column):
    scale = fit(np.array(column)[:, None])
    np.testing.assert_allclose(scale.center, np.nanmax(column))
    assert scale.scale == 1.0
    assert cells_of(scale, [[np.nanmax(column)]]).score == 0.0


def test_never_measured_columns_have_no_center_and_no_cells():
    scale = fit([[np.nan, 1.0], [np.nan, 2.0]])
    assert np.isnan(scale.center[0])
    assert scale.scale[0] == 1.0
    assert cells_of(scale, [[5.0, 6.0]]).lab.tolist() == [1]
    assert np.isnan(scale.in_units(np.array([0.3]), np.array([0])))
    assert np.isnan(scale.possible(np.array([0.3]), np.array([0])))


def test_predictions_are_kept_within_what_was_seen():
    """By hand: the ends are means of the five lowest and the five highest of fifteen values."""
    X = np.r_[[1.0, 2, 3, 4, 5], [48, 49, 50, 51, 52], [101, 102, 103, 104, 105]][:, None]
    scale = fit(X)
    lab = np.zeros(3, dtype=int)
    assert scale.knots[0, :, 0].max() > scale.knots[0, :, 0].min()
    found = scale.possible(np.array([-9.0, 0.0, 9.0]), lab)
    # Above, one more step of the curve: 103 + (103 - 50)
    np.testing.assert_allclose(found, [3.0, scale.center[0], 156.0])
    # With a long upper tail, by the curve's length: 203 + (203 - 3)
    X = np.r_[X[:5], np.arange(6.0, 16.0)[:, None], X[10:] + 100]
    found = fit(X).possible(np.array([-9.0, 9.0]), lab[:2])
    np.testing.assert_allclose(found, [3.0, 403.0])
    # And with a long lower tail by one step, -3 + (-3 - -8), for nothing exceeds 100 %
    found = fit(-X).possible(np.array([-9.0, 9.0]), lab[:2])
    np.testing.assert_allclose(found, [-203.0, 2.0])
    one = fit(np.arange(5.0)[:, None])
    np.testing.assert_allclose(one.possible(np.array([-9.0, 9.0]), lab[:2]), [2.0, 2.0])


@pytest.mark.parametrize("column", [[1e300, -1e300, 0.0], [1e300, 1e300], [1.0, 1.1, 1e300]])
def test_huge_values_give_finite_scales_and_cells(column):
    X = np.array(column)[:, None]
    scale = fit(X)
    cells = cells_of(scale, X)
    for part in (*scale, cells.value, cells.score):
        assert np.isfinite(part).all()


def test_scores_of_a_skewed_lab_are_normal():
    X = np.random.default_rng(0).lognormal(size=(2000, 1))
    scores = cells_of(fit(X), X).score
    usual = np.abs(np.log(X[:, 0])) < 2.5
    np.testing.assert_allclose(scores[usual], np.log(X[usual, 0]), atol=0.2)
    assert abs(stats.skew(scores)) < 0.1 < stats.skew(X[:, 0])


def test_scores_rise_with_values_and_stay_in_range():
    rng = np.random.default_rng(0)
    scale = fit(rng.gamma(0.5, size=(300, 1)))
    scores = cells_of(scale, np.linspace(-100, 100, 500)[:, None]).score
    assert (np.diff(scores) >= 0).all()
    assert np.abs(scores).max() <= 3.5


def test_a_curve_leads_from_scores_back_to_values():
    X = np.random.default_rng(0).lognormal(size=(2000, 1))
    scale = fit(X)
    cells = cells_of(scale, X)
    middle = np.abs(cells.score) < 2
    curve = scale.curves(57)[0]
    back = np.interp(cells.score, np.linspace(-3.5, 3.5, 57), curve)
    np.testing.assert_allclose(back[middle], cells.value[middle], atol=0.05)


def test_no_knot_is_the_result_of_fewer_than_five_rows():
    X = np.arange(7.0)[:, None] ** 3
    np.testing.assert_allclose(fit(X).knots[0], fit(X).knots[0, :1].repeat(48, axis=0))
    many = fit(np.arange(200.0)[:, None])
    assert len(np.unique(many.knots[0, :, 0])) <= 40


def test_a_repeated_value_has_the_score_of_the_middle_of_its_ranks():
    # Beside another lab, as rows that are the same throughout count as one
    X = np.c_[np.r_[np.zeros(60), np.arange(1, 41)], np.arange(100)]
    scores = cells_of(fit(X), [[0.0, np.nan]]).score
    np.testing.assert_allclose(scores, stats.norm.ppf(0.3), atol=1e-6)


def test_no_weight_makes_a_knot_of_one_row():
    """A row that weighs as much as five must not be one of the points by itself."""
    rng = np.random.default_rng(0)
    X = np.sort(rng.normal(size=(40, 1)), axis=0)
    X[-1] = 731.25
    weight = np.where(np.arange(40) == 39, 50.0, 1.0)
    scale = LabScale.fit(*distinct(X, weight))
    values = scale.in_units(scale.knots[0, :, 0], np.zeros(len(scale.knots[0]), dtype=int))
    assert not np.isclose(values, 731.25).any()


@pytest.mark.parametrize(("factor", "shift"), [(1000.0, 0.0), (1e-3, 0.0), (1.0, 40.0)])
def test_units_change_nothing(factor, shift):
    X = np.random.default_rng(0).normal(5, 2, size=(100, 1))
    one = cells_of(fit(X), X)
    other = cells_of(fit(X * factor + shift), X * factor + shift)
    np.testing.assert_allclose(other.value, one.value, atol=1e-9)
    np.testing.assert_allclose(other.score, one.score, atol=1e-9)


def test_rows_are_hashed_by_splitmix64():
    """Two cells of one row, by plain integers and the constants of Vigna's splitmix64.c."""

    def mix(x):
        x = (x + 0x9E3779B97F4A7C15) % 2**64
        x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        x = (x ^ x >> 27) * 0x94D049BB133111EB % 2**64
        return x ^ x >> 31

    # The first number of its generator from the seed 0
    assert mix(0) == 0xE220A8397B1DCDAF
    cells = LabCells.from_table(np.array([[5.0, 7.0]]))
    expected = mix((mix(11 + mix(0)) + mix(13 + mix(1))) % 2**64)
    assert cells._row_hash(np.array([11, 13], dtype=np.uint64)).tolist() == [expected]
