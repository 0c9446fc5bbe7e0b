"""Scales: standardised values and normal scores, safe from typing errors, blind to units."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sklearn_medfuse.labs._lab_cells import LabResults
from sklearn_medfuse.labs._lab_scale import LabScale, compress, expand

finite = st.floats(-1e150, 1e150)


def fit(X):
    results, weight = LabResults.from_table(np.asarray(X, dtype=float)).distinct(None)
    return LabScale.fit(results, weight)


def cells_of(scale, X):
    return scale.cells(LabResults.from_table(np.asarray(X, dtype=float)))


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
    assert scale.in_units(np.array([0.3]), np.array([0])) == 0.0


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
    # beside another lab, as rows that are the same throughout count as one
    X = np.c_[np.r_[np.zeros(60), np.arange(1, 41)], np.arange(100)]
    scores = cells_of(fit(X), [[0.0, np.nan]]).score
    np.testing.assert_allclose(scores, stats.norm.ppf(0.3), atol=1e-6)


def test_no_weight_makes_a_knot_of_one_row():
    """A row that weighs as much as five must not be one of the points by itself."""
    rng = np.random.default_rng(0)
    X = np.sort(rng.normal(size=(40, 1)), axis=0)
    X[-1] = 731.25
    weight = np.where(np.arange(40) == 39, 50.0, 1.0)
    results, weight = LabResults.from_table(X).distinct(weight)
    scale = LabScale.fit(results, weight)
    values = scale.in_units(scale.knots[0, :, 0], np.zeros(len(scale.knots[0]), dtype=int))
    assert not np.isclose(values, 731.25).any()


@pytest.mark.parametrize(("factor", "shift"), [(1000.0, 0.0), (1e-3, 0.0), (1.0, 40.0)])
def test_units_change_nothing(factor, shift):
    X = np.random.default_rng(0).normal(5, 2, size=(100, 1))
    one = cells_of(fit(X), X)
    other = cells_of(fit(X * factor + shift), X * factor + shift)
    np.testing.assert_allclose(other.value, one.value, atol=1e-9)
    np.testing.assert_allclose(other.score, one.score, atol=1e-9)


def test_variation_is_relative_to_the_median_lab_and_bounded():
    rng = np.random.default_rng(0)
    X = rng.normal(100, [1, 10, 1000], size=(500, 3))
    variation = fit(X).variation()
    assert variation[1] == 1.0
    assert variation[0] == pytest.approx(1 / 3)
    assert variation[2] == 3.0
