"""The report's estimates equal scikit-learn's, its intervals cover, its errors help."""

import re
import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.sparse import csr_array
from scipy.stats import binomtest
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import (
    average_precision_score,
    brier_score_loss,
    f1_score,
    log_loss,
    precision_score,
    recall_score,
    roc_auc_score,
)
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_medfuse.metrics import (
    expected_calibration_error,
    multilabel_report,
    paired_difference,
)

SCORES = ["auroc", "auprc", "f1", "prevalence"]


def test_columns_and_rows(labels, scores):
    report = multilabel_report(labels, scores, n_bootstraps=20, random_state=0)
    assert list(report.index) == [*(f"label_{i}" for i in range(6)), "macro"]
    assert list(report.columns) == [
        "n_positive",
        *(f"{score}{end}" for score in SCORES for end in ("", "_low", "_high")),
    ]
    assert report["n_positive"].dtype == int
    assert report.attrs == {
        "n_samples": 400,
        "n_groups": 400,
        "n_bootstraps": 20,
        "confidence_level": 0.95,
    }


def by_scikit_learn(y_true, y_prob, threshold, weights=None):
    """Every metric of one label."""
    truth, acted = (y_true == 1), y_prob >= threshold
    options = {"sample_weight": weights}
    return {
        "auroc": roc_auc_score(truth, y_prob, **options),
        "auprc": average_precision_score(truth, y_prob, **options),
        "f1": f1_score(truth, acted, **options),
        "sensitivity": recall_score(truth, acted, **options),
        "specificity": recall_score(~truth, ~acted, **options),
        "ppv": precision_score(truth, acted, **options),
        "npv": precision_score(~truth, ~acted, **options),
        "brier": brier_score_loss(truth, y_prob, **options),
        "log_loss": log_loss(truth, y_prob, **options),
        "ece": expected_calibration_error(truth, y_prob, **options),
        "prevalence": np.average(truth, weights=weights),
    }


METRICS = ["auroc", "auprc", "f1", "sensitivity", "specificity", "ppv", "npv"]
METRICS += ["brier", "log_loss", "ece", "prevalence"]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("missing", [False, True])
def test_every_metric_and_average_equals_scikit_learn(labels, scores, weighted, missing):
    """Of each label's known rows, of all known pairs, and with row weights."""
    rng = np.random.default_rng(3)
    threshold = np.linspace(0.3, 0.6, 6)
    weights = rng.uniform(0.5, 2, size=len(labels)) if weighted else np.ones(len(labels))
    known = rng.uniform(size=labels.shape) < (0.7 if missing else 1)
    averages = ["macro", "micro", "weighted"]
    report = multilabel_report(
        np.where(known, labels, np.nan),
        scores,
        metrics=METRICS,
        averages=averages,
        threshold=threshold,
        sample_weight=weights if weighted else None,
        n_bootstraps=0,
    )
    assert list(report.index[6:]) == averages
    expected = pd.DataFrame(
        [
            by_scikit_learn(labels[k, i], scores[k, i], threshold[i], weights[k])
            for i, k in enumerate(known.T)
        ]
    )
    np.testing.assert_allclose(report[METRICS].iloc[:6], expected[METRICS])
    np.testing.assert_allclose(report.loc["macro", METRICS], expected[METRICS].mean())
    positives = [weights[k] @ labels[k, i] for i, k in enumerate(known.T)]
    np.testing.assert_allclose(
        report.loc["weighted", METRICS], np.average(expected[METRICS], axis=0, weights=positives)
    )
    pairs = by_scikit_learn(
        labels[known],
        scores[known],
        np.broadcast_to(threshold, labels.shape)[known],
        np.repeat(weights, 6)[known.ravel()],
    )
    np.testing.assert_allclose(report.loc["micro", METRICS], pd.Series(pairs)[METRICS])


def test_averages_of_each_draw_are_those_of_the_resampled_rows(labels, scores, patients):
    """One resample, by hand: both ends of its interval are its score."""
    found, codes = np.unique(patients, return_inverse=True)
    # Whole patients, as many as there are
    drawn = np.random.RandomState(0).randint(len(found), size=len(found))
    rows = np.repeat(np.arange(len(labels)), np.bincount(drawn, minlength=len(found))[codes])
    options = {"averages": ["macro", "micro", "weighted"], "metrics": METRICS}
    report = multilabel_report(
        labels, scores, groups=patients, n_bootstraps=1, random_state=0, **options
    )
    expected = multilabel_report(labels[rows], scores[rows], n_bootstraps=0, **options)
    percentiles = [name for name in METRICS if name != "ece"]
    for end in ("_low", "_high"):
        found = report[[f"{name}{end}" for name in percentiles]]
        np.testing.assert_allclose(found, expected[percentiles])
    mirrored = (2 * report["ece"] - expected["ece"]).clip(lower=0)
    np.testing.assert_allclose(report["ece_low"], np.minimum(mirrored, report["ece"]))
    np.testing.assert_allclose(report["ece_high"], np.maximum(mirrored, report["ece"]))


@pytest.mark.parametrize("decimals", [12, 1, 0], ids=["distinct", "ties", "few values"])
def test_ties_and_whole_weights_equal_scikit_learn(labels, scores, decimals):
    scores = scores.round(decimals)
    weights = np.random.default_rng(0).integers(4, size=len(labels))
    report = multilabel_report(labels, scores, sample_weight=weights, averages=[], n_bootstraps=0)
    options = {"sample_weight": weights, "average": None}
    expected = {
        "auroc": roc_auc_score(labels, scores, **options),
        "auprc": average_precision_score(labels, scores, **options),
        "f1": f1_score(labels, scores >= 0.5, **options),
        "prevalence": np.average(labels, axis=0, weights=weights),
    }
    for name, values in expected.items():
        np.testing.assert_allclose(report[name], values)


@settings(max_examples=50, deadline=None)
@given(
    arrays(int, 12, elements=st.integers(0, 1)),
    arrays(float, 12, elements=st.sampled_from([0.0, 0.25, 0.5, 1.0])),
    arrays(int, 12, elements=st.integers(0, 3)).filter(np.any),
)
def test_weights_are_repeated_rows(label, score, times):
    found = multilabel_report(label, score, sample_weight=times, n_bootstraps=0).iloc[0]
    repeated = np.repeat(label, times)
    if len(np.unique(repeated)) < 2:
        assert found[["auroc", "auprc", "f1"]].isna().all()
    else:
        score = np.repeat(score, times)
        assert found["auroc"] == pytest.approx(roc_auc_score(repeated, score))
        assert found["auprc"] == pytest.approx(average_precision_score(repeated, score))
    assert found["prevalence"] == pytest.approx(repeated.mean())


def test_by_hand():
    # Ranking, best first: 1 0 (1 0, tied) 0; 6 pairs of a positive and a negative
    report = multilabel_report(
        [1, 0, 1, 0, 0], [0.9, 0.8, 0.4, 0.4, 0.1], threshold=0.4, n_bootstraps=0
    )
    expected = [(3 + 1.5) / 6, (1 / 1 + 2 / 4) / 2, 2 * 2 / (2 + 4), 2 / 5]
    assert list(report[SCORES].iloc[0]) == pytest.approx(expected)


def test_nothing_predicted_has_no_ppv(labels, scores):
    report = multilabel_report(
        labels, scores, metrics=["ppv", "npv", "sensitivity"], threshold=2, n_bootstraps=10
    )
    assert report["ppv"].isna().all()
    np.testing.assert_allclose(report["npv"].iloc[:-1], 1 - labels.mean(axis=0))
    assert (report["sensitivity"] == 0).all()


def test_a_label_that_is_nowhere_known(labels, scores):
    frame = pd.DataFrame(labels, columns=list("abcdef")).astype("Int64")
    frame["c"] = pd.NA
    report = multilabel_report(frame, scores, n_bootstraps=10, random_state=0)
    assert report.loc["c"].drop("n_positive").isna().all()
    rest = multilabel_report(
        frame.drop(columns="c"), np.delete(scores, 2, axis=1), n_bootstraps=10, random_state=0
    )
    pd.testing.assert_series_equal(report.loc["macro"], rest.loc["macro"])


def test_a_perfect_score_is_one_with_no_width(labels, patients):
    report = multilabel_report(labels, labels, groups=patients, n_bootstraps=50, random_state=0)
    for name in ("auroc", "auprc", "f1"):
        assert (report[[name, f"{name}_low", f"{name}_high"]] == 1).all(axis=None)


def test_a_random_score_has_chance_within_its_interval():
    rng = np.random.default_rng(0)
    y_true = rng.integers(2, size=(3000, 4))
    report = multilabel_report(
        y_true, rng.uniform(size=y_true.shape), n_bootstraps=200, random_state=0
    )
    macro = report.loc["macro"]
    assert macro["auroc"] == pytest.approx(0.5, abs=0.02)
    assert macro["auprc"] == pytest.approx(0.5, abs=0.03)
    assert macro["auroc_low"] < 0.5 < macro["auroc_high"]


def test_a_constant_score_is_chance(labels):
    report = multilabel_report(labels, np.zeros(labels.shape), n_bootstraps=20, random_state=0)
    assert (report[["auroc", "auroc_low", "auroc_high"]] == 0.5).all(axis=None)
    np.testing.assert_allclose(report["auprc"], report["prevalence"])


def test_permuting_rows_changes_no_estimate(labels, scores, patients):
    order = np.random.default_rng(0).permutation(len(labels))
    a = multilabel_report(labels, scores, groups=patients, n_bootstraps=30, random_state=0)
    b = multilabel_report(
        labels[order], scores[order], groups=patients[order], n_bootstraps=30, random_state=0
    )
    pd.testing.assert_frame_equal(a, b)


def test_permuting_labels_permutes_rows(labels, scores):
    a = multilabel_report(pd.DataFrame(labels), scores, n_bootstraps=30, random_state=0)
    order = [3, 1, 0, 2, 5, 4]
    b = multilabel_report(
        pd.DataFrame(labels)[order], scores[:, order], n_bootstraps=30, random_state=0
    )
    pd.testing.assert_frame_equal(a, b.loc[a.index])


def test_an_increasing_transform_changes_no_ranking_score(labels, scores):
    columns = [f"{name}{end}" for name in ("auroc", "auprc") for end in ("", "_low", "_high")]
    a = multilabel_report(labels, scores, n_bootstraps=30, random_state=0)
    b = multilabel_report(labels, 5 * scores**3 - 7, n_bootstraps=30, random_state=0)
    pd.testing.assert_frame_equal(a[columns], b[columns])


def test_intervals_contain_the_estimate_and_grow_with_confidence(labels, scores, patients):
    narrow, wide = (
        multilabel_report(labels, scores, groups=patients, confidence_level=c, random_state=0)
        for c in (0.5, 0.99)
    )
    for name in SCORES:
        assert (wide[f"{name}_low"] <= wide[name]).all()
        assert (wide[name] <= wide[f"{name}_high"]).all()
        assert (wide[f"{name}_low"] <= narrow[f"{name}_low"]).all()
        assert (narrow[f"{name}_high"] <= wide[f"{name}_high"]).all()


def test_interval_covers_the_true_auroc_about_as_often_as_it_says():
    # Two unit-variance normals one apart: AUROC is Phi(1 / sqrt 2) = 0.7602
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(200):
        y_true = rng.integers(2, size=150)
        report = multilabel_report(
            y_true, y_true + rng.normal(size=150), n_bootstraps=200, random_state=rng.integers(99)
        )
        covered.append(report["auroc_low"].iloc[0] < 0.7602 < report["auroc_high"].iloc[0])
    assert 0.89 <= np.mean(covered) <= 0.99


def test_copies_of_a_patient_do_not_narrow_the_interval(labels, scores):
    # Every row five times over: rows as units pretend to five times the data, groups do not
    rows = np.repeat(np.arange(len(labels)), 5)

    def width(report):
        return report.loc["macro", "auroc_high"] - report.loc["macro", "auroc_low"]

    options = {"n_bootstraps": 300, "random_state": 0}
    once = width(multilabel_report(labels, scores, **options))
    grouped = width(multilabel_report(labels[rows], scores[rows], groups=rows, **options))
    naive = width(multilabel_report(labels[rows], scores[rows], **options))
    assert grouped == pytest.approx(once)
    assert naive < 0.6 * once


def test_the_seed_decides_and_the_global_state_is_left_alone(labels, scores):
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    a, b, c = (
        multilabel_report(labels, scores, n_bootstraps=30, random_state=seed) for seed in (0, 0, 1)
    )
    pd.testing.assert_frame_equal(a, b)
    assert not a.equals(c)
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002


@pytest.mark.parametrize("constant", [0, 1])
def test_a_constant_label_is_undefined_and_left_out_of_macro(labels, scores, constant):
    labels[:, 2] = constant
    options = {"averages": ["macro", "weighted"], "n_bootstraps": 30, "random_state": 0}
    report = multilabel_report(labels, scores, **options)
    rest = multilabel_report(np.delete(labels, 2, axis=1), np.delete(scores, 2, axis=1), **options)
    undefined = [f"{name}{end}" for name in SCORES[:3] for end in ("", "_low", "_high")]
    assert report.loc["label_2", undefined].isna().all()
    assert report.loc["label_2", "prevalence"] == constant
    for average in ("macro", "weighted"):
        pd.testing.assert_series_equal(report.loc[average, undefined], rest.loc[average, undefined])


def test_all_labels_constant_gives_nan(scores):
    report = multilabel_report(np.zeros(scores.shape), scores, n_bootstraps=10, random_state=0)
    assert report[["auroc", "auroc_low", "auprc", "f1"]].isna().all(axis=None)


def test_a_label_with_one_positive_has_an_interval(scores):
    labels = np.zeros(scores.shape, dtype=int)
    labels[7] = 1
    report = multilabel_report(labels, scores, n_bootstraps=50, random_state=0)
    assert report.notna().all(axis=None)


@pytest.mark.parametrize(("n", "level"), [(17, 0.95), (1, 0.9), (250, 0.99)])
@pytest.mark.parametrize("right", [0, 1])
def test_a_share_that_is_0_or_1_has_the_exact_interval_of_its_trials(n, level, right):
    """Every draw is 0 or 1, too: 17 of 17 missed is not a sensitivity of exactly 0."""
    y = np.repeat([1, 0], [n, n + 3])
    acted = y if right else 1 - y
    options = {"n_bootstraps": 20, "confidence_level": level, "averages": ["macro", "micro"]}
    metrics = ["sensitivity", "specificity", "ppv", "npv"]
    report = multilabel_report(y, acted, metrics=metrics, random_state=0, **options)
    trials = [n, n + 3, n, n + 3] if right else [n, n + 3, n + 3, n]
    for name, of in zip(metrics, trials, strict=True):
        expected = binomtest(right * of, of).proportion_ci(level, method="exact")
        for row in report.index:
            assert report.loc[row, name] == right
            assert report.loc[row, f"{name}_low"] == pytest.approx(expected.low)
            assert report.loc[row, f"{name}_high"] == pytest.approx(expected.high)


def test_trials_of_an_exact_interval_are_patients():
    y = np.repeat([[1, 1], [0, 0]], 20, axis=0)
    acted = np.zeros(y.shape)
    patients = [*np.repeat(range(10), 2), *range(10, 30)]
    options = {"metrics": "sensitivity", "groups": patients, "n_bootstraps": 20, "random_state": 0}
    end = 1 - 0.025 ** (1 / 10)
    report = multilabel_report(y, acted, averages=["macro", "micro", "weighted"], **options)
    assert report["sensitivity_high"].to_numpy() == pytest.approx([end] * 5)
    # A patient of twice the weight counts less than two: n = (Σ w)² / Σ w²
    weights = np.ones(40)
    weights[:2] = 2
    report = multilabel_report(y, acted, sample_weight=weights, **options)
    assert report.loc["macro", "sensitivity_high"] == pytest.approx(1 - 0.025 ** (13 / 11**2))


def test_shares_between_0_and_1_keep_the_percentiles(labels, scores):
    options = {"metrics": "sensitivity", "n_bootstraps": 50, "random_state": 0}
    missed = scores.copy()
    missed[:, 0] = 0
    found = multilabel_report(labels, missed, **options)
    plain = multilabel_report(labels, scores, **options)
    pd.testing.assert_frame_equal(found.iloc[1:-1], plain.iloc[1:-1])
    of = labels[:, 0].sum()
    assert found["sensitivity_high"].iloc[0] == pytest.approx(binomtest(0, of).proportion_ci().high)
    assert (
        multilabel_report(labels, 0 * scores, metrics="ppv", n_bootstraps=5)
        .iloc[:, 1:]
        .isna()
        .all(axis=None)
    )


class Tuned(DummyClassifier):
    """A model with thresholds of its own."""

    def fit(self, X, y):
        self.thresholds_ = np.linspace(0.3, 0.6, y.shape[1])
        return super().fit(X, y)


def test_thresholds_of_a_model_of_a_pipeline_and_of_a_search(labels, scores):
    options = {"metrics": ["f1", "ppv"], "n_bootstraps": 0}
    expected = multilabel_report(labels, scores, threshold=np.linspace(0.3, 0.6, 6), **options)
    pipe = make_pipeline(StandardScaler(), Tuned())
    search = GridSearchCV(pipe, {"tuned__constant": [None]}, cv=2, scoring=lambda *_: 0.0)
    for model in (Tuned(), pipe, search):
        found = multilabel_report(labels, scores, threshold=model.fit(scores, labels), **options)
        pd.testing.assert_frame_equal(found, expected)
    gain = paired_difference(labels, scores, 0 * scores, threshold=pipe, metric="f1")
    np.testing.assert_allclose(gain["a"], expected["f1"])
    for other in (DummyClassifier(), Tuned(), GridSearchCV(pipe, {})):
        with pytest.raises(ValueError, match=r"`threshold` is a .* without `thresholds_`"):
            multilabel_report(labels, scores, threshold=other, **options)


def test_without_bootstraps_intervals_are_nan(labels, scores):
    report = multilabel_report(labels, scores, n_bootstraps=0)
    assert report.filter(regex="_low|_high").isna().all(axis=None)
    assert report[SCORES].notna().all(axis=None)


@pytest.mark.parametrize(
    "convert",
    [csr_array, pd.DataFrame, lambda y: y.astype(bool), lambda y: y.tolist()],
    ids=["sparse", "DataFrame", "bool", "list"],
)
def test_kinds_of_y_true(labels, scores, convert):
    names = [f"label_{i}" for i in range(6)]
    a = multilabel_report(labels, scores, n_bootstraps=10, random_state=0)
    b = multilabel_report(
        convert(labels), scores, n_bootstraps=10, random_state=0, target_names=names
    )
    pd.testing.assert_frame_equal(a, b)


def test_names_come_from_the_columns(labels, scores):
    frame = pd.DataFrame(labels, columns=list("abcdef"))
    named = multilabel_report(frame, pd.DataFrame(scores, columns=frame.columns), n_bootstraps=0)
    assert list(named.index) == [*"abcdef", "macro"]


def test_a_forests_list_of_probabilities(labels, scores):
    forest = RandomForestClassifier(5, max_depth=2, random_state=0).fit(scores, labels)
    proba = forest.predict_proba(scores)
    a = multilabel_report(labels, proba, n_bootstraps=0)
    b = multilabel_report(labels, np.column_stack([p[:, 1] for p in proba]), n_bootstraps=0)
    pd.testing.assert_frame_equal(a, b)


def test_one_label_in_every_form(labels, scores):
    y_true, y_score = labels[:, 4], scores[:, 4]
    reports = [
        multilabel_report(y, s, n_bootstraps=0)
        for y in (y_true, y_true[:, None])
        for s in (y_score, y_score[:, None], np.column_stack([1 - y_score, y_score]))
    ]
    for report in reports:
        pd.testing.assert_frame_equal(report, reports[0])
    assert reports[0].loc["label_0", "auroc"] == reports[0].loc["macro", "auroc"]


Y = np.array([[0, 1], [1, 0], [1, 1]])
S = np.array([[0.1, 0.9], [0.7, 0.4], [0.6, 0.8]])


@pytest.mark.parametrize(
    ("y_true", "y_score", "options", "message"),
    [
        (Y + 1, S, {}, "`y_true` holds something other than 0 and 1"),
        ([["yes", "secret"]] * 3, S, {}, "`y_true` holds something other than 0 and 1"),
        (np.zeros((0, 2)), S, {}, "`y_true` has shape (0, 2)"),
        (Y, S[:2], {}, "`y_score` has shape (2, 2) and `y_true` (3, 2)"),
        (Y, S[:, 0], {}, "`y_score` has shape (3, 1) and `y_true` (3, 2)"),
        (Y, np.where(Y, np.nan, S), {}, "`y_score` has 4 NaN or infinite entries"),
        (Y, [["0.1", "secret"]] * 3, {}, "`y_score` cannot be read as numbers"),
        (Y, [np.c_[1 - S[:, 0], S[:, 0]], np.ones((3, 1))], {}, "not of shape"),
        (Y, S, {"target_names": ["a"]}, "`target_names` has 1 names for 2 labels"),
        (Y, S, {"target_names": ["a", "a"]}, "`target_names` must be distinct"),
        (Y, S, {"target_names": ["a", "macro"]}, "`target_names` must be distinct and other than"),
        (Y, S, {"target_names": ["a", "micro"]}, "`target_names` must be distinct and other than"),
        (Y, S, {"metrics": ["auc"]}, "`metrics` is 'auc'; pass one of auroc, auprc"),
        (Y, S, {"metrics": []}, "`metrics` is []; pass at least one name"),
        (Y, S, {"metrics": ["f1", "f1"]}, "each once"),
        (Y, 2 * S, {"metrics": "brier"}, "`y_score` has 4 entries below 0 or above 1"),
        (Y, S, {"averages": ["mean"]}, "`averages` is ['mean']; pass some of"),
        (Y, S, {"sample_weight": [1, 2]}, "`sample_weight` has shape (2,)"),
        (Y, S, {"groups": [1, 2]}, "`groups` has shape (2,); pass (3,)"),
        (Y, S, {"groups": [1, 1, 1]}, "`groups` holds a single group"),
        (Y, S, {"groups": [1, 2, None]}, "`groups` has 1 missing values"),
        (Y, S, {"n_bootstraps": -1}, "`n_bootstraps` is -1"),
        (Y, S, {"n_bootstraps": 2.5}, "`n_bootstraps` is 2.5"),
        (Y, S, {"confidence_level": 95}, "`confidence_level` is 95"),
        (Y, S, {"threshold": [0.5] * 3}, "`threshold` has shape (3,)"),
        (Y, S, {"threshold": np.nan}, "`threshold` has shape () or is NaN"),
    ],
)
def test_wrong_input_says_what_to_do(y_true, y_score, options, message):
    with pytest.raises(ValueError, match=re.escape(message)) as info:
        multilabel_report(y_true, y_score, **options)
    assert "secret" not in str(info.value)
    assert info.value.__suppress_context__ or info.value.__context__ is None


def test_columns_in_another_order_are_refused():
    y_true = pd.DataFrame(Y, columns=["a", "b"])
    y_score = pd.DataFrame(S[:, ::-1], columns=["b", "a"])
    with pytest.raises(ValueError, match=re.escape("pass y_score[y_true.columns]")):
        multilabel_report(y_true, y_score)


def test_a_thousand_resamples_of_the_bundled_size_take_under_three_seconds():
    rng = np.random.default_rng(0)
    y_true = rng.uniform(size=(1470, 10)) < 0.2
    start = time.process_time()
    multilabel_report(y_true, rng.uniform(size=y_true.shape), random_state=0)
    assert time.process_time() - start < 3
