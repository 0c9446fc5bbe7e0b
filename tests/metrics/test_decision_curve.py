"""Net benefit against its definition and what it must be for known models."""

import numpy as np
import pandas as pd
import pytest

from sklearn_medfuse.metrics import decision_curve

THRESHOLDS = [0.05, 0.2, 0.5, 0.8]


def by_definition(y_true, y_prob, threshold):
    acted = y_prob >= threshold
    odds = threshold / (1 - threshold)
    return (acted & (y_true == 1)).mean() - (acted & (y_true == 0)).mean() * odds


def test_the_definition(labels, scores):
    curve = decision_curve(labels, scores, thresholds=THRESHOLDS, averages=[], n_bootstraps=0)
    assert len(curve) == labels.shape[1] * len(THRESHOLDS)
    for row in curve.itertuples():
        label = int(row.label.removeprefix("label_"))
        y_true, y_prob = labels[:, label], scores[:, label]
        assert row.net_benefit == pytest.approx(by_definition(y_true, y_prob, row.threshold))
        everybody = by_definition(y_true, np.ones(len(y_true)), row.threshold)
        assert row.treat_all == pytest.approx(everybody)
    assert (curve["treat_none"] == 0).all()


def test_a_probability_at_the_threshold_is_acted_on():
    curve = decision_curve([1, 0], [0.5, 0.5], thresholds=[0.5, 0.51], averages=[], n_bootstraps=0)
    np.testing.assert_allclose(curve["net_benefit"], [0.5 - 0.5, 0])


def test_a_perfect_model_has_the_prevalence_at_every_threshold(labels):
    curve = decision_curve(labels, labels, averages=[], n_bootstraps=0)
    expected = np.repeat(labels.mean(axis=0), 99)
    np.testing.assert_allclose(curve["net_benefit"], expected)


def test_who_is_sure_of_everybody_acts_on_everybody(labels):
    curve = decision_curve(labels, np.ones(labels.shape), n_bootstraps=0)
    np.testing.assert_allclose(curve["net_benefit"], curve["treat_all"])
    nobody = decision_curve(labels, np.zeros(labels.shape), n_bootstraps=0)
    assert (nobody["net_benefit"] == 0).all()


def test_acting_on_all_crosses_zero_at_the_prevalence():
    y_true = np.arange(100) < 30
    curve = decision_curve(y_true, y_true * 1.0, thresholds=[0.3], averages=[], n_bootstraps=0)
    assert curve["treat_all"].iloc[0] == pytest.approx(0, abs=1e-12)


def test_the_true_probabilities_are_never_worse_than_all_or_none():
    rng = np.random.default_rng(0)
    truth = rng.uniform(size=20_000)
    y_true = rng.uniform(size=truth.shape) < truth
    curve = decision_curve(y_true, truth, averages=[], n_bootstraps=0)
    best = np.maximum(curve["treat_all"], 0)
    assert (curve["net_benefit"] > best - 0.005).all()
    # Over-sure probabilities lose at every threshold off the middle
    sure = decision_curve(y_true, truth > 0.5, averages=[], n_bootstraps=0)
    assert (sure["net_benefit"] < curve["net_benefit"] + 0.005).all()


def test_averages(labels, scores):
    averages = ["macro", "micro", "weighted"]
    curve = decision_curve(
        labels, scores, thresholds=THRESHOLDS, averages=averages, n_bootstraps=0
    ).pivot_table(index="label", columns="threshold", values=["net_benefit", "treat_all"])
    each = curve.drop(index=averages)
    np.testing.assert_allclose(curve.loc["macro"], each.mean())
    np.testing.assert_allclose(curve.loc["micro"], each.mean())
    expected = np.average(each, axis=0, weights=labels.sum(axis=0))
    np.testing.assert_allclose(curve.loc["weighted"], expected)


def test_intervals_hold_the_estimate_and_labels_keep_their_names(labels, scores, patients):
    frame = pd.DataFrame(labels, columns=list("abcdef"))
    curve = decision_curve(
        frame, scores, thresholds=THRESHOLDS, groups=patients, n_bootstraps=200, random_state=0
    )
    assert list(curve["label"].unique()) == [*"abcdef", "macro"]
    assert (curve["net_benefit_low"] <= curve["net_benefit"]).all()
    assert (curve["net_benefit"] <= curve["net_benefit_high"]).all()
    again = decision_curve(
        frame, scores, thresholds=THRESHOLDS, groups=patients, n_bootstraps=200, random_state=0
    )
    pd.testing.assert_frame_equal(curve, again)


def test_a_constant_label_has_a_benefit_and_an_unknown_one_has_none(labels, scores):
    labels = labels.astype(float)
    labels[:, 0] = 0
    labels[:, 1] = np.nan
    curve = decision_curve(labels, scores, thresholds=[0.5], n_bootstraps=20, random_state=0)
    curve = curve.set_index("label")["net_benefit"]
    assert curve["label_0"] == pytest.approx(-(scores[:, 0] >= 0.5).mean())
    assert np.isnan(curve["label_1"])
    rest = decision_curve(
        np.delete(labels, 1, axis=1), np.delete(scores, 1, axis=1), thresholds=[0.5], n_bootstraps=0
    )
    assert curve["macro"] == pytest.approx(rest["net_benefit"].iloc[-1])


@pytest.mark.parametrize(
    ("thresholds", "message"),
    [
        ([0.0, 0.5], "above 0 and below 1"),
        ([0.5, 1.0], "above 0 and below 1"),
        ([], "at least one"),
        ([0.5, 0.2], "must increase strictly"),
        ([0.5, 0.5], "must increase strictly"),
    ],
)
def test_wrong_thresholds(labels, scores, thresholds, message):
    with pytest.raises(ValueError, match=message):
        decision_curve(labels, scores, thresholds=thresholds)
