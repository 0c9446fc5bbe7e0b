"""Differences are antisymmetric, zero for equal models, and tested on shared resamples."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import brier_score_loss, roc_auc_score

from sklearn_medfuse.metrics import multilabel_report, paired_difference


@pytest.fixture
def poor(labels, scores):
    """Scores of less skill."""
    return scores + np.random.default_rng(3).normal(0, 0.5, size=labels.shape)


@pytest.mark.parametrize("metric", ["auroc", "sensitivity", "brier", "log_loss", "ece"])
def test_averages_and_labels_not_known(labels, scores, poor, metric):
    hidden = np.random.default_rng(4).uniform(size=labels.shape) < 0.3
    labels = np.where(hidden, np.nan, labels)
    weights = np.random.default_rng(5).uniform(0.5, 2, size=len(labels))
    poor = poor.clip(0, 1)
    options = {"averages": ["macro", "micro", "weighted"], "sample_weight": weights}
    comparison = paired_difference(labels, scores, poor, metric=metric, n_bootstraps=0, **options)
    for model, given in (("a", scores), ("b", poor)):
        report = multilabel_report(labels, given, metrics=[metric], n_bootstraps=0, **options)
        np.testing.assert_allclose(comparison[model], report[metric])
    np.testing.assert_allclose(comparison["difference"], comparison["a"] - comparison["b"])


def test_where_one_model_has_no_score_there_is_no_comparison(labels, scores, poor):
    scores[:, 0] = 0  # Predicts nobody, so it has no PPV
    comparison = paired_difference(
        labels, scores, poor, metric="ppv", n_bootstraps=20, random_state=0
    )
    assert comparison.loc["label_0"].isna().all()
    rest = comparison.drop(index=["label_0", "macro"])
    assert comparison.loc["macro", "b"] == pytest.approx(rest["b"].mean())


def test_a_callable_sees_known_rows_and_takes_no_weights(labels, scores, poor):
    labels = np.where(np.random.default_rng(4).uniform(size=labels.shape) < 0.3, np.nan, labels)
    options = {"averages": ["macro", "micro"], "n_bootstraps": 4, "random_state": 0}
    by_name = paired_difference(labels, scores, poor, **options)
    by_callable = paired_difference(labels, scores, poor, metric=roc_auc_score, **options)
    pd.testing.assert_frame_equal(by_name, by_callable)
    with pytest.raises(ValueError, match="`sample_weight` cannot be combined with a callable"):
        paired_difference(
            labels, scores, poor, metric=roc_auc_score, sample_weight=np.ones(len(labels))
        )


@pytest.mark.parametrize("metric", ["auroc", "auprc", "f1"])
def test_estimates_are_the_reports(labels, scores, poor, metric):
    comparison = paired_difference(labels, scores, poor, metric=metric, n_bootstraps=0)
    a = multilabel_report(labels, scores, n_bootstraps=0)[metric]
    b = multilabel_report(labels, poor, n_bootstraps=0)[metric]
    np.testing.assert_allclose(comparison["a"], a)
    np.testing.assert_allclose(comparison["b"], b)
    np.testing.assert_allclose(comparison["difference"], a - b)
    assert comparison[["difference_low", "difference_high", "p_value"]].isna().all(axis=None)


def test_equal_models_differ_by_zero(labels, scores, patients):
    comparison = paired_difference(
        labels, scores, 2 * scores - 1, groups=patients, n_bootstraps=50, random_state=0
    )
    differences = ["difference", "difference_low", "difference_high"]
    assert (comparison[differences] == 0).all(axis=None)
    assert (comparison["p_value"] == 1).all()


def test_swapping_the_models_changes_the_sign(labels, scores, poor):
    options = {"n_bootstraps": 100, "random_state": 0}
    ab = paired_difference(labels, scores, poor, **options)
    ba = paired_difference(labels, poor, scores, **options)
    np.testing.assert_allclose(ab["difference"], -ba["difference"])
    np.testing.assert_allclose(ab["difference_low"], -ba["difference_high"])
    np.testing.assert_allclose(ab["p_value"], ba["p_value"])


def test_a_better_model_is_found(labels, scores, poor, patients):
    macro = paired_difference(labels, scores, poor, groups=patients, random_state=0).loc["macro"]
    assert 0 < macro["difference_low"] < macro["difference"] < macro["difference_high"]
    assert macro["p_value"] < 0.05


def test_pairing_makes_the_interval_narrower(labels, scores):
    nearly = scores + np.random.default_rng(3).normal(0, 0.02, size=labels.shape)
    paired = paired_difference(labels, scores, nearly, random_state=0).loc["macro"]
    own = multilabel_report(labels, scores, random_state=0).loc["macro"]
    width = paired["difference_high"] - paired["difference_low"]
    assert width < 0.5 * (own["auroc_high"] - own["auroc_low"])


def test_equally_good_models_are_seldom_called_different():
    rng = np.random.default_rng(0)
    p_values = []
    for _ in range(100):
        y_true = rng.integers(2, size=(120, 2))
        a, b = (y_true + rng.normal(size=y_true.shape) for _ in range(2))
        comparison = paired_difference(y_true, a, b, n_bootstraps=200, random_state=0)
        p_values.append(comparison.loc["macro", "p_value"])
    assert np.mean(np.array(p_values) < 0.05) <= 0.12
    assert 0.3 < np.median(p_values) < 0.7


def test_a_callable_gives_the_same_as_the_name(labels, scores, poor, patients):
    options = {"groups": patients, "n_bootstraps": 5, "random_state": 0}
    by_name = paired_difference(labels, scores, poor, metric="auroc", **options)
    by_callable = paired_difference(labels, scores, poor, metric=roc_auc_score, **options)
    pd.testing.assert_frame_equal(by_name, by_callable)


def test_a_callable_of_the_users_own(labels, scores):
    comparison = paired_difference(
        labels, scores, np.full(labels.shape, 0.5), metric=brier_score_loss, n_bootstraps=10
    )
    assert (comparison["b"] == 0.25).all()


def test_a_constant_label_is_left_out(labels, scores, poor):
    labels[:, 0] = 0
    comparison = paired_difference(labels, scores, poor, n_bootstraps=20, random_state=0)
    assert comparison.loc["label_0"].isna().all()
    assert comparison.drop(index="label_0").notna().all(axis=None)


def test_wrong_input_says_which(labels, scores):
    with pytest.raises(ValueError, match=r"`metric` is 'auc'; pass one of"):
        paired_difference(labels, scores, scores, metric="auc")
    with pytest.raises(ValueError, match="`y_score_b` has shape"):
        paired_difference(labels, scores, scores[:5])
