"""DeLong's test against the definition in O(nm), a case by hand, and the bootstrap."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from sklearn_medfuse.metrics import delong_test, paired_difference


@pytest.fixture
def poor(labels, scores):
    """Scores of less skill."""
    return scores + np.random.default_rng(3).normal(0, 0.5, size=labels.shape)


def delong_by_definition(y_true, a, b):
    """Difference and its standard error from the matrix of all pairs."""
    components = []
    for score in (a, b):
        positive, negative = score[y_true == 1][:, None], score[y_true == 0][None, :]
        psi = (positive > negative) + 0.5 * (positive == negative)
        components.append((psi.mean(axis=1), psi.mean(axis=0)))
    (a10, a01), (b10, b01) = components
    variance = 0.0
    for of_a, of_b in ((a10, b10), (a01, b01)):
        covariance = np.cov(of_a, of_b)
        contrast = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
        variance += contrast / len(of_a)
    return a10.mean() - b10.mean(), np.sqrt(variance)


def obuchowski_by_definition(y_true, a, b, groups):
    """The standard error of clustered data, group by group."""
    psi = []
    for score in (a, b):
        positive, negative = score[y_true == 1][:, None], score[y_true == 0][None, :]
        psi.append((positive > negative) + 0.5 * (positive == negative))
    difference = psi[0] - psi[1]
    theta, (m, n) = difference.mean(), difference.shape
    s10 = s01 = s11 = 0.0
    with_positive = with_negative = 0
    for group in set(groups):
        of_positive = difference.mean(axis=1)[groups[y_true == 1] == group]
        of_negative = difference.mean(axis=0)[groups[y_true == 0] == group]
        u = of_positive.sum() - len(of_positive) * theta
        v = of_negative.sum() - len(of_negative) * theta
        s10, s01, s11 = s10 + u**2, s01 + v**2, s11 + u * v
        with_positive += len(of_positive) > 0
        with_negative += len(of_negative) > 0
    n_groups = len(set(groups))
    s10 *= with_positive / ((with_positive - 1) * m)
    s01 *= with_negative / ((with_negative - 1) * n)
    s11 *= n_groups / (n_groups - 1)
    return np.sqrt(s10 / m + s01 / n + 2 * s11 / (m * n))


@pytest.mark.parametrize("decimals", [12, 1], ids=["distinct", "ties"])
def test_the_definition(labels, scores, poor, decimals):
    a, b = scores.round(decimals), poor.round(decimals)
    found = delong_test(labels, a, b)
    for label in range(labels.shape[1]):
        row = found.iloc[label]
        expected = delong_by_definition(labels[:, label], a[:, label], b[:, label])
        assert tuple(row[["difference", "standard_error"]]) == pytest.approx(expected)
        assert row["a"] == pytest.approx(roc_auc_score(labels[:, label], a[:, label]))
        assert row["z"] == pytest.approx(expected[0] / expected[1])


def test_by_hand():
    # Of 4 pairs `a` ranks 3 right, `b` all. Components of a: positives 1 and 1/2, negatives 1/2
    # and 1; those of b are 1. The differences 0, -1/2 and -1/2, 0 have variance 1/8 each.
    found = delong_test([1, 1, 0, 0], [0.9, 0.4, 0.5, 0.1], [0.8, 0.7, 0.6, 0.2]).iloc[0]
    assert found["a"] == 0.75
    assert found["b"] == 1
    assert found["difference"] == -0.25
    assert found["standard_error"] == pytest.approx(np.sqrt(1 / 16 + 1 / 16))
    assert found["z"] == pytest.approx(-np.sqrt(1 / 2))
    assert found["p_value"] == pytest.approx(2 * norm.cdf(-np.sqrt(1 / 2)))
    assert found["difference_low"] == pytest.approx(-0.25 - 1.959964 * np.sqrt(1 / 8))


def test_groups_by_definition(labels, scores, poor, patients):
    found = delong_test(labels, scores, poor, groups=patients)
    for label in range(labels.shape[1]):
        columns = labels[:, label], scores[:, label], poor[:, label]
        expected = obuchowski_by_definition(*columns, patients)
        assert found["standard_error"].iloc[label] == pytest.approx(expected)


def test_rows_as_groups_are_rows(labels, scores, poor):
    rows = [f"row {i}" for i in range(len(labels))]
    a, b = (delong_test(labels, scores, poor, groups=groups) for groups in (None, rows))
    pd.testing.assert_frame_equal(a, b)


def test_copies_of_a_patient_do_not_narrow_the_interval(labels, scores, poor):
    rows = np.repeat(np.arange(len(labels)), 5)
    once = delong_test(labels, scores, poor)["standard_error"]
    naive = delong_test(labels[rows], scores[rows], poor[rows])["standard_error"]
    grouped = delong_test(labels[rows], scores[rows], poor[rows], groups=rows)["standard_error"]
    np.testing.assert_allclose(grouped, once)
    assert (naive < 0.5 * once).all()


@pytest.mark.parametrize("grouped", [False, True])
def test_close_to_the_bootstrap(labels, scores, poor, patients, grouped):
    groups = patients if grouped else None
    found = delong_test(labels, scores, poor, groups=groups)
    drawn = paired_difference(
        labels, scores, poor, groups=groups, averages=[], n_bootstraps=2000, random_state=0
    )
    width = drawn["difference_high"] - drawn["difference_low"]
    expected = found["difference_high"] - found["difference_low"]
    np.testing.assert_allclose(drawn["difference"], found["difference"])
    # The rarest of the labels has a dozen positives
    np.testing.assert_allclose(width.iloc[1:], expected.iloc[1:], rtol=0.12)


def test_equally_good_models_are_called_different_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    y_true = rng.integers(2, size=(150, 1000))
    a, b = (y_true + rng.normal(size=y_true.shape) for _ in range(2))
    assert 0.03 < (delong_test(y_true, a, b)["p_value"] < 0.05).mean() < 0.07


def test_equal_models_differ_by_zero(labels, scores):
    found = delong_test(labels, scores, 2 * scores - 1)
    assert (found[["difference", "standard_error", "z"]] == 0).all(axis=None)
    assert (found["p_value"] == 1).all()


def test_swapping_the_models_changes_the_sign(labels, scores, poor):
    ab, ba = delong_test(labels, scores, poor), delong_test(labels, poor, scores)
    np.testing.assert_allclose(ab["z"], -ba["z"])
    np.testing.assert_allclose(ab["p_value"], ba["p_value"])


def test_a_perfect_and_an_always_wrong_model_differ_by_one(labels):
    found = delong_test(labels, labels, 1 - labels)
    assert (found["difference"] == 1).all()
    assert (found["p_value"] == 0).all()


def test_labels_not_known_are_left_out(labels, scores, poor):
    hidden = np.random.default_rng(4).uniform(size=labels.shape) < 0.3
    found = delong_test(np.where(hidden, np.nan, labels), scores, poor)
    for label in range(labels.shape[1]):
        known = ~hidden[:, label]
        expected = delong_test(labels[known, label], scores[known, label], poor[known, label])
        np.testing.assert_allclose(found.iloc[label], expected.iloc[0])


def test_too_few_of_a_class_is_undefined(labels, scores, poor):
    labels[:, 0] = 0
    labels[:, 1] = np.arange(len(labels)) == 3
    found = delong_test(pd.DataFrame(labels, columns=list("abcdef")), scores, poor)
    assert found.loc["a"].isna().all()
    assert found.loc["b", ["a", "b", "difference"]].notna().all()
    assert found.loc["b", ["standard_error", "z", "p_value", "difference_low"]].isna().all()
    assert found.loc["c":].notna().all(axis=None)
