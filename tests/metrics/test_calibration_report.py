"""Slope, intercept and bins against scikit-learn, root finding and models that are known."""

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import brentq
from scipy.special import expit, logit
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression

from sklearn_medfuse.metrics import (
    calibration_bins,
    calibration_report,
    expected_calibration_error,
)

NAMES = ["slope", "intercept", "observed_expected", "ece"]


def slope_by_scikit_learn(y_true, y_prob, weights=None):
    model = LogisticRegression(C=np.inf, tol=1e-10, max_iter=10_000)
    return model.fit(logit(y_prob)[:, None], y_true, sample_weight=weights).coef_[0, 0]


def intercept_by_root(y_true, y_prob, weights=None):
    def gap(a):
        return np.average(y_true - expit(a + logit(y_prob)), weights=weights)

    return brentq(gap, -30, 30, xtol=1e-12)


@pytest.fixture(scope="module")
def calibrated():
    """Three labels of 4000 rows with their true logits."""
    rng = np.random.default_rng(1)
    logits = rng.normal([-2, 0, 1], [1, 0.5, 2], size=(4000, 3))
    return (rng.uniform(size=logits.shape) < expit(logits)).astype(int), logits


def test_slope_and_intercept(labels, scores):
    report = calibration_report(labels, scores, n_bootstraps=0)
    assert list(report.index) == [*(f"label_{i}" for i in range(6)), "macro"]
    assert list(report.columns) == [
        "n_positive",
        *(f"{name}{end}" for name in NAMES for end in ("", "_low", "_high")),
    ]
    for label in range(6):
        columns = labels[:, label], scores[:, label]
        row = report.iloc[label]
        assert row["slope"] == pytest.approx(slope_by_scikit_learn(*columns), rel=1e-4)
        assert row["intercept"] == pytest.approx(intercept_by_root(*columns), abs=1e-8)
        assert row["observed_expected"] == pytest.approx(columns[0].sum() / columns[1].sum())
    np.testing.assert_allclose(
        report["ece"].iloc[:-1], expected_calibration_error(labels, scores, average=None)
    )
    np.testing.assert_allclose(report.loc["macro", NAMES], report[NAMES].iloc[:-1].mean())


def test_row_weights_are_fitted(labels, scores):
    for weights in np.random.default_rng(0).integers(4, size=(4, len(labels))).astype(float):
        report = calibration_report(labels, scores, sample_weight=weights, n_bootstraps=0)
        for label in range(6):
            columns = labels[:, label], scores[:, label], weights
            row = report.iloc[label]
            assert row["slope"] == pytest.approx(slope_by_scikit_learn(*columns), rel=1e-3)
            assert row["intercept"] == pytest.approx(intercept_by_root(*columns), abs=1e-8)


def test_every_draw_is_fitted(labels, scores, patients):
    """One resample, by hand: both ends of its interval are its fit."""
    found, codes = np.unique(patients, return_inverse=True)
    drawn = np.random.RandomState(0).randint(len(found), size=len(found))
    rows = np.repeat(np.arange(len(labels)), np.bincount(drawn, minlength=len(found))[codes])
    report = calibration_report(labels, scores, groups=patients, n_bootstraps=1, random_state=0)
    for label in range(6):
        columns, row = (labels[rows, label], scores[rows, label]), report.iloc[label]
        for end in ("_low", "_high"):
            slope, intercept = row[f"slope{end}"], row[f"intercept{end}"]
            assert slope == pytest.approx(slope_by_scikit_learn(*columns), rel=1e-3)
            assert intercept == pytest.approx(intercept_by_root(*columns), abs=1e-8)


def test_by_hand():
    # One probability: 1/2 for all, of whom 3 of 4 are positive, so logit(3/4) = ln 3 is missing
    report = calibration_report([1, 1, 1, 0], np.full(4, 0.5), averages=[], n_bootstraps=0)
    row = report.iloc[0]
    assert row["intercept"] == pytest.approx(np.log(3))
    assert row["observed_expected"] == pytest.approx(1.5)
    assert row["ece"] == pytest.approx(0.25)
    assert np.isnan(row["slope"])
    # Two probabilities whose frequencies are 1/4 and 3/4 = expit(-+ ln 3)
    y_true = [1, 0, 0, 0, 1, 1, 1, 0]
    y_prob = np.repeat([1 / 10, 9 / 10], 4)  # logits -+ ln 9, twice ln 3
    row = calibration_report(y_true, y_prob, averages=[], n_bootstraps=0).iloc[0]
    assert row["slope"] == pytest.approx(1 / 2)
    assert row["intercept"] == pytest.approx(0, abs=1e-9)


def test_true_probabilities_are_calibrated(calibrated):
    y_true, logits = calibrated
    report = calibration_report(
        y_true, expit(logits), averages=["macro", "micro"], n_bootstraps=100, random_state=0
    )
    for name, best in {"slope": 1, "intercept": 0, "observed_expected": 1}.items():
        assert (report[f"{name}_low"] < best).all()
        assert (best < report[f"{name}_high"]).all()
    assert (report["ece_low"] < 0.005).all()
    assert (report["ece_high"] < 0.04).all()


def test_intervals_of_slope_and_intercept_cover_about_as_often_as_they_say():
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(12):
        logits = rng.normal(-1, 1, size=(300, 10))
        y_true = rng.uniform(size=logits.shape) < expit(logits)
        report = calibration_report(
            y_true, expit(logits), averages=[], n_bootstraps=100, random_state=0
        )
        slope = (report["slope_low"] < 1) & (report["slope_high"] > 1)
        intercept = (report["intercept_low"] < 0) & (report["intercept_high"] > 0)
        covered.extend([*slope, *intercept])
    assert 0.88 <= np.mean(covered) <= 0.99


@pytest.mark.parametrize(("shift", "stretch"), [(0, 2), (0, 0.5), (1, 1), (-1, 1)])
def test_a_known_distortion_is_found(calibrated, shift, stretch):
    """If the truth is expit(z), then of expit(c z + s) the slope is 1 / c."""
    y_true, logits = calibrated
    report = calibration_report(
        y_true, expit(stretch * logits + shift), n_bootstraps=100, averages=[], random_state=0
    )
    assert (report["slope_low"] < 1 / stretch).all()
    assert (1 / stretch < report["slope_high"]).all()
    if stretch == 1:
        assert (report["intercept_low"] < -shift).all()
        assert (-shift < report["intercept_high"]).all()
    else:
        assert (report["slope_high"] < 1).all() == (stretch > 1)


def test_a_random_predictor_has_slope_zero():
    rng = np.random.default_rng(0)
    y_true = rng.integers(2, size=2000)
    report = calibration_report(
        y_true, rng.uniform(size=2000), n_bootstraps=200, averages=[], random_state=0
    )
    assert report["slope_low"].iloc[0] < 0 < report["slope_high"].iloc[0]
    assert report["slope"].iloc[0] == pytest.approx(0, abs=0.1)


def test_a_perfect_predictor_has_no_slope_and_no_error(labels):
    report = calibration_report(labels, labels, n_bootstraps=20, random_state=0)
    assert report["slope"].isna().all()
    np.testing.assert_allclose(report["ece"], 0, atol=1e-12)
    np.testing.assert_allclose(report["observed_expected"], 1)
    np.testing.assert_allclose(report["intercept"], 0, atol=0.01)


@pytest.mark.parametrize("constant", [0, 1])
def test_a_constant_label_has_no_slope_and_leaves_the_mean(labels, scores, constant):
    labels[:, 2] = constant
    report = calibration_report(labels, scores, n_bootstraps=20, random_state=0)
    assert report.loc["label_2", ["slope", "intercept", "slope_low"]].isna().all()
    assert np.isfinite(report.loc["label_2", "ece"])
    rest = report.drop(index=["label_2", "macro"])
    assert report.loc["macro", "slope"] == pytest.approx(rest["slope"].mean())


def test_labels_not_known_are_left_out(labels, scores, patients):
    hidden = np.random.default_rng(4).uniform(size=labels.shape) < 0.3
    report = calibration_report(
        np.where(hidden, np.nan, labels), scores, strategy="quantile", n_bootstraps=0
    )
    for label in range(6):
        known = ~hidden[:, label]
        expected = calibration_report(
            labels[known, label], scores[known, label], strategy="quantile", n_bootstraps=0
        )
        np.testing.assert_allclose(report.iloc[label], expected.iloc[0], equal_nan=True)


@pytest.mark.parametrize("strategy", ["uniform", "quantile"])
def test_weights_are_repeated_rows_and_micro_is_all_pairs(labels, scores, strategy):
    times = np.random.default_rng(3).integers(0, 4, size=len(labels))
    rows = np.repeat(np.arange(len(labels)), times)
    options = {"strategy": strategy, "n_bootstraps": 0, "averages": ["micro", "weighted"]}
    found = calibration_report(labels, scores, sample_weight=times, **options)
    expected = calibration_report(labels[rows], scores[rows], **options)
    np.testing.assert_allclose(found[NAMES], expected[NAMES], rtol=1e-7)
    pairs = calibration_report(labels[rows].ravel(), scores[rows].ravel(), **options)
    np.testing.assert_allclose(expected.loc["micro", NAMES], pairs.loc["label_0", NAMES])


def test_intervals_come_from_patients(labels, scores):
    rows = np.repeat(np.arange(len(labels)), 5)
    options = {"n_bootstraps": 50, "random_state": 0}
    once = calibration_report(labels, scores, **options)
    grouped = calibration_report(labels[rows], scores[rows], groups=rows, **options)
    pd.testing.assert_frame_equal(once[NAMES], grouped[NAMES])
    for name in NAMES[:3]:
        np.testing.assert_allclose(once[f"{name}_low"], grouped[f"{name}_low"], rtol=1e-6)


def test_the_interval_of_the_error_covers():
    """Probabilities are 0.2 too high throughout; percentiles would lie above that too often."""
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(100):
        truth = rng.uniform(0, 0.8, size=300)
        y_true = rng.uniform(size=300) < truth
        report = calibration_report(
            y_true, truth + 0.2, n_bins=5, averages=[], n_bootstraps=100, random_state=0
        )
        covered.append(report["ece_low"].iloc[0] < 0.2 < report["ece_high"].iloc[0])
    assert 0.88 <= np.mean(covered) <= 0.99


def test_the_interval_of_the_error_begins_at_zero_at_the_least(calibrated):
    y_true, logits = (part[:200] for part in calibrated)
    report = calibration_report(y_true, expit(logits), n_bootstraps=50, random_state=0)
    assert (report["ece_low"] >= 0).all()
    assert (report["ece_low"] == 0).any()


def test_two_bins_of_equal_weight_meet_at_the_median():
    y_prob = np.array([0.1, 0.12, 0.14, 0.9])
    bins = calibration_bins([0, 1, 0, 1], y_prob, n_bins=2, strategy="quantile", n_bootstraps=0)
    assert bins["n_samples"].tolist() == [2, 2]


@pytest.mark.parametrize("strategy", ["uniform", "quantile"])
def test_bins_are_those_of_scikit_learn(labels, scores, strategy):
    # Quantiles of scikit-learn interpolate, ours are values that occur: same bins where the
    # number of rows is a multiple of that of bins and no rows are equal
    bins = calibration_bins(labels, scores, n_bins=5, strategy=strategy, n_bootstraps=0)
    for label in range(6):
        ours = bins[bins["label"] == f"label_{label}"]
        observed, predicted = calibration_curve(
            labels[:, label], scores[:, label], n_bins=5, strategy=strategy
        )
        np.testing.assert_allclose(ours["observed"], observed)
        np.testing.assert_allclose(ours["predicted"], predicted)
        assert ours["n_samples"].sum() == len(labels)


def test_bins_add_up_to_the_error_and_have_intervals(labels, scores, patients):
    frame = pd.DataFrame(labels, columns=list("abcdef"))
    bins = calibration_bins(frame, scores, groups=patients, n_bootstraps=200, random_state=0)
    gaps = (bins["observed"] - bins["predicted"]).abs() * bins["n_samples"] / len(labels)
    errors = gaps.groupby(bins["label"]).sum()
    np.testing.assert_allclose(errors, expected_calibration_error(labels, scores, average=None))
    assert (bins["observed_low"] <= bins["observed"]).all()
    assert (bins["observed"] <= bins["observed_high"]).all()


def test_bins_of_labels_not_known(labels, scores):
    truth = labels.astype(float)
    truth[:100, 0] = np.nan
    bins = calibration_bins(truth, scores, n_bootstraps=0)
    counts = bins.groupby("label")["n_samples"].sum()
    assert counts["label_0"] == 300
    assert counts["label_1"] == 400
