"""Groups are scored as if alone, gaps are differences, small groups are not shown."""

import re

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from sklearn_medfuse.metrics import multilabel_report, subgroup_report


@pytest.fixture
def people():
    """Sex, age, ethnicity and hospital of 400 rows; one small hospital, some values missing."""
    rng = np.random.default_rng(5)
    table = pd.DataFrame(
        {
            "sex": rng.choice(["female", "male"], size=400),
            "age": rng.integers(18, 95, size=400).astype(float),
            "ethnicity": rng.choice(["A", "B", "C"], p=[0.6, 0.3, 0.1], size=400),
            "hospital": rng.choice([10.0, 20.0, 30.0], p=[0.5, 0.49, 0.01], size=400),
        }
    )
    table.loc[:19, "ethnicity"] = None
    table.loc[5:9, "age"] = np.nan
    return table


def pick(report, attribute, group):
    chosen = report[(report["attribute"] == attribute) & (report["group"] == group)]
    return chosen.set_index("label")


FUNCTIONS = {
    "auroc": roc_auc_score,
    "auprc": average_precision_score,
    "f1": lambda y_true, y_score: f1_score(y_true, y_score >= 0.5),
}


@pytest.mark.parametrize("metric", FUNCTIONS)
def test_a_group_is_scored_as_if_alone(labels, scores, people, metric):
    report = subgroup_report(labels, scores, people, metric=metric, n_bootstraps=0)
    function = FUNCTIONS[metric]
    for name, rows in {
        "female": people["sex"] == "female",
        "male": people["sex"] == "male",
    }.items():
        found = pick(report, "sex", name)
        assert (found["n_samples"] == rows.sum()).all()
        shown = found.index[found["n_positive"].notna()].drop("macro")
        for label in shown:
            column = int(label.removeprefix("label_"))
            own = function(labels[rows, column], scores[rows, column])
            others = function(labels[~rows, column], scores[~rows, column])
            assert found.loc[label, "score"] == pytest.approx(own)
            assert found.loc[label, "gap"] == pytest.approx(own - others)
            assert found.loc[label, "n_positive"] == labels[rows, column].sum()
        assert found.loc["macro", "score"] == pytest.approx(found.loc[shown, "score"].mean())
        assert found.loc["macro", "gap"] == pytest.approx(found.loc[shown, "gap"].mean())
        assert found.loc["macro", "n_positive"] == found.loc[shown, "n_positive"].sum()


def test_all_rows_come_first_and_equal_the_report(labels, scores, people, patients):
    options = {"groups": patients, "n_bootstraps": 50, "random_state": 0}
    averages = ["macro", "micro", "weighted"]
    found = subgroup_report(labels, scores, people, averages=averages, min_count=1, **options)
    expected = multilabel_report(labels, scores, metrics=["auroc"], averages=averages, **options)
    everybody = pick(found.iloc[:9], "all", "all")
    np.testing.assert_allclose(
        everybody[["score", "score_low", "score_high"]], expected.drop(columns="n_positive")
    )
    assert everybody[["gap", "gap_low", "gap_high"]].isna().all(axis=None)


def test_bands_of_age_by_hand():
    age = np.repeat([44.9, 45, 64, 65, 79, 80, 89], 2)
    y_true = np.tile([0, 1], 7)
    report = subgroup_report(y_true, y_true, {"age": age}, min_count=1, averages=[], n_bootstraps=0)
    assert dict(zip(report["group"], report["n_samples"], strict=True)) == {
        "all": 14,
        "under 45": 2,
        "45 to under 65": 4,
        "65 to under 80": 4,
        "80 and over": 4,
    }
    own = subgroup_report(
        y_true, y_true, {"age": age}, bins={"age": [70]}, min_count=1, averages=[], n_bootstraps=0
    )
    assert list(own["group"]) == ["all", "under 70", "70 and over"]


def test_small_groups_are_not_shown_and_counted(labels, scores, people, patients):
    report = subgroup_report(labels, scores, people, n_bootstraps=0)
    assert people["hospital"].eq(30).sum() < 10
    assert set(report.loc[report["attribute"] == "hospital", "group"]) == {"10", "20"}
    assert report.attrs["n_not_shown"] == {"sex": 0, "age": 0, "ethnicity": 0, "hospital": 1}
    # The rest, which the gap is taken to, holds the small group as well
    large = people["hospital"] == 10
    gap = pick(report, "hospital", "10").loc["label_5", "gap"]
    own, others = (roc_auc_score(labels[r, 5], scores[r, 5]) for r in (large, ~large))
    assert gap == pytest.approx(own - others)
    # Twenty stays of three patients are three
    few = patients.copy()
    few[people["hospital"] == 20] = np.arange((people["hospital"] == 20).sum()) % 3
    report = subgroup_report(labels, scores, people, groups=few, n_bootstraps=0)
    assert set(report.loc[report["attribute"] == "hospital", "group"]) == {"10"}


def test_a_rare_label_is_not_shown_in_a_group(labels, scores, people):
    assert 10 <= labels[:, 0].sum() < 20
    report = subgroup_report(
        labels, scores, people, averages=["macro", "micro"], n_bootstraps=20, random_state=0
    )
    for name in ("female", "male"):
        found = pick(report, "sex", name)
        rows = people["sex"] == name
        if labels[rows, 0].sum() < 10:
            assert pd.isna(found.loc["label_0", "n_positive"])
            assert found.loc["label_0", ["score", "score_low", "gap"]].isna().all()
            pairs = labels[rows, 1:].ravel(), scores[rows, 1:].ravel()
            assert found.loc["micro", "score"] == pytest.approx(roc_auc_score(*pairs))
    shown = report[report["n_positive"].notna()]
    assert (shown["n_positive"] >= 10).all()


def test_a_label_that_nearly_all_have_is_not_shown_either(labels, scores, people):
    labels = labels.copy()
    labels[:, 0] = 1
    labels[:9, 0] = 0
    report = subgroup_report(labels, scores, people, n_bootstraps=0)
    shown = report[(report["attribute"] != "all") & (report["label"] == "label_0")]
    assert len(shown)
    assert shown["score"].isna().all()


def test_values_of_several_types_are_groups_of_their_text():
    site = pd.Series([66, "unknown", 7.0] * 40, dtype=object)
    y = np.arange(120) % 2
    report = subgroup_report(y, np.linspace(0, 1, 120), {"site": site}, n_bootstraps=0)
    assert set(report.loc[report["attribute"] == "site", "group"]) == {"66", "unknown", "7"}


def test_the_largest_group_is_the_reference(labels, scores, people):
    report = subgroup_report(labels, scores, people, reference="largest", n_bootstraps=0)
    assert pick(report, "ethnicity", "A")["gap"].isna().all()
    a, b = pick(report, "ethnicity", "A")["score"], pick(report, "ethnicity", "B")
    both = b["gap"].notna()
    np.testing.assert_allclose(b.loc[both, "gap"].iloc[:-1], (b["score"] - a)[both].iloc[:-1])


def test_two_groups_have_opposite_gaps(labels, scores, people, patients):
    report = subgroup_report(
        labels, scores, people[["sex"]], groups=patients, n_bootstraps=50, random_state=0
    )
    female, male = pick(report, "sex", "female"), pick(report, "sex", "male")
    np.testing.assert_allclose(female["gap"], -male["gap"])
    np.testing.assert_allclose(female["gap_low"], -male["gap_high"])


def test_a_model_that_knows_only_one_sex_is_found(labels, people):
    rng = np.random.default_rng(6)
    female = (people["sex"] == "female").to_numpy()[:, None]
    scores = np.where(female, labels + rng.normal(size=labels.shape), rng.normal(size=labels.shape))
    report = subgroup_report(labels, scores, people[["sex"]], n_bootstraps=200, random_state=0)
    macro = pick(report, "sex", "female").loc["macro"]
    assert 0.15 < macro["gap_low"] < macro["gap"] < macro["gap_high"]
    assert pick(report, "sex", "male").loc["macro", "score"] == pytest.approx(0.5, abs=0.1)


def test_equally_good_groups_are_seldom_called_different():
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(60):
        y_true = rng.integers(2, size=200)
        report = subgroup_report(
            y_true,
            y_true + rng.normal(size=200),
            {"sex": rng.choice(["a", "b"], size=200)},
            averages=[],
            n_bootstraps=100,
            random_state=0,
        )
        covered.append(report["gap_low"].iloc[1] < 0 < report["gap_high"].iloc[1])
    assert np.mean(covered) >= 0.85


def test_the_error_of_calibration_has_a_mirrored_gap(labels, scores, people):
    options = {"metric": "ece", "n_bootstraps": 100, "random_state": 0}
    report = subgroup_report(labels, scores, people[["sex"]], **options)
    shown = report[report["n_positive"].notna()]
    assert (shown["score_low"] >= 0).all()
    gaps = shown.loc[shown["attribute"] == "sex", ["gap_low", "gap", "gap_high"]]
    assert (gaps["gap_low"] < gaps["gap_high"]).all()
    assert (gaps["gap_low"] < 0).any()


def test_labels_not_known_and_constant_ones(labels, scores, people):
    truth = labels.astype(float)
    truth[:, 1] = 0
    truth[people["sex"] == "female", 5] = np.nan
    report = subgroup_report(truth, scores, people, n_bootstraps=10, random_state=0)
    assert report.loc[report["label"] == "label_1", "score"].isna().all()
    female, male = pick(report, "sex", "female"), pick(report, "sex", "male")
    assert np.isnan(female.loc["label_5", "score"])
    assert np.isfinite(male.loc["label_5", "score"])
    assert np.isnan(male.loc["label_5", "gap"])


def test_permuting_rows_changes_nothing(labels, scores, people, patients):
    order = np.random.default_rng(0).permutation(len(labels))
    options = {"n_bootstraps": 20, "random_state": 0}
    a = subgroup_report(labels, scores, people, groups=patients, **options)
    b = subgroup_report(
        labels[order], scores[order], people.iloc[order], groups=patients[order], **options
    )
    pd.testing.assert_frame_equal(a, b)


def test_no_patient_is_named(labels, scores, people):
    patients = [f"MRN-{row:04}" for row in range(400)]
    report = subgroup_report(labels, scores, people, groups=patients, n_bootstraps=5)
    assert "MRN" not in report.to_string() + repr(report.attrs)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"subgroups": pd.DataFrame({"sex": ["a"] * 3})}, "`subgroups` has shape (3, 1); pass 400"),
        ({"subgroups": pd.DataFrame(index=range(400))}, "`subgroups` has shape (400, 0)"),
        ({"subgroups": {"all": ["a"] * 400}}, "must be distinct and other than 'all'"),
        ({"subgroups": {"weight": np.arange(400.0)}}, "holds 400 different numbers; pass bins={"),
        ({"subgroups": {"age": ["secret"] * 400}}, "has 400 values that are not numbers"),
        ({"bins": {"height": [1]}}, "`bins` names ['height']"),
        ({"bins": {"age": [65, 45]}}, "`bins` of 'age' must be finite, increasing numbers"),
        ({"bins": {"age": [45, 45]}}, "`bins` of 'age' must be finite, increasing numbers"),
        ({"reference": "best"}, "`reference` is 'best'"),
        ({"min_count": 0}, "`min_count` is 0"),
        ({"metric": "auc"}, "`metric` is 'auc'"),
    ],
)
def test_wrong_input_says_what_to_do(labels, scores, people, change, message):
    arguments = {"subgroups": people, **change}
    with pytest.raises(ValueError, match=re.escape(message)) as info:
        subgroup_report(labels, scores, **arguments)
    assert "secret" not in str(info.value)


def test_a_share_that_is_0_in_a_group_has_an_exact_interval():
    y = np.tile([1, 0], 34)
    sex = np.repeat(["F", "M"], 34)
    missed = np.where((sex == "F") | (np.arange(68) % 4 == 0), 0.0, y)
    options = {"metric": "sensitivity", "n_bootstraps": 50, "random_state": 0}
    report = subgroup_report(y, missed, {"sex": sex}, **options)
    rows = report[report["group"] == "F"]
    assert (rows["score"] == 0).all()
    expected = binomtest(0, 17).proportion_ci().high
    np.testing.assert_allclose(rows["score_high"], expected)
    rows = report[report["group"] == "M"]
    assert (rows["score_low"] > 0).all()
    assert (rows["score_high"] < 1).all()
