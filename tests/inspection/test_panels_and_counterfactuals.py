"""Panels that matter cost score when shuffled; counterfactuals are the model's own predictions."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from sklearn_medfuse.datasets import load_eicu_demo
from sklearn_medfuse.inspection import (
    had_been_normal,
    lab_counterfactual,
    lab_panels,
    panel_importance,
)

# Panels


def test_a_panel_that_decides_costs_all_and_one_that_is_not_read_nothing():
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(400, 4)), columns=list("abcd"))
    # A and b say the same: one alone shuffled would cost half
    X["b"] = X["a"]
    y = (X["a"] > 0).astype(int)
    model = LogisticRegression().fit(X, y)
    model.coef_[0, 3] = 0.0
    panels = {"told twice": ["a", "b"], "not read": ["d"]}
    found = panel_importance(model, X, y, panels, labels="1", random_state=0)
    score = roc_auc_score(y, model.predict_proba(X)[:, 1])
    assert found.scores["1"] == pytest.approx(score)
    assert found.mean().loc["not read", "1"] == 0
    assert found.mean().loc["told twice", "1"] == pytest.approx(score - 0.5, abs=0.08)
    assert repr(found) == "PanelImportance(2 panels, 1 labels, 5 repeats, auroc)"


def test_a_panel_is_moved_as_one_with_its_gaps(stays, cohort):
    seen = []

    class Recorder(LogisticRegression):
        def predict_proba(self, X):
            seen.append(X.copy())
            return super().predict_proba(X.fillna(0)[["lactate", "sodium"]])

    X = stays[["lactate", "pH", "sodium"]].reset_index(drop=True)
    y = cohort.y["disease 1"][500:]
    model = Recorder().fit(X.fillna(0)[["lactate", "sodium"]], y)
    panel_importance(model, X, y, {"sepsis": ["lactate", "pH"]}, n_repeats=1, random_state=0)
    as_it_is, shuffled = seen
    pd.testing.assert_frame_equal(as_it_is, X)
    pd.testing.assert_series_equal(shuffled["sodium"], X["sodium"])
    pair = ["lactate", "pH"]
    assert not shuffled[pair].equals(X[pair])
    in_order = [frame[pair].sort_values(pair).reset_index(drop=True) for frame in (X, shuffled)]
    pd.testing.assert_frame_equal(*in_order)


def test_the_macro_mean_leaves_out_labels_of_one_class(pipe, stays, cohort):
    y = cohort.y[500:].copy()
    y["disease 2"] = 0
    found = panel_importance(pipe, stays, y, {"note": ["note"]}, n_repeats=2, random_state=0)
    assert np.isnan(found.scores["disease 2"])
    assert found.scores["macro"] == found.scores["disease 1"]
    assert found.mean().loc["note", "macro"] > 0.02


def test_panels_by_name_hold_every_lab_once(cohort):
    demo = load_eicu_demo().lab_columns
    for labs in (cohort.lab_columns, demo):
        panels = lab_panels(labs)
        assert sorted(lab for panel in panels.values() for lab in panel) == sorted(labs)
        assert "other" not in panels
    assert lab_panels(demo)["blood gas"] == ["ph", "pao2", "pco2", "fio2"]
    liver = ["alanine aminotransferase", "aspartate aminotransferase", "alkaline phosphatase"]
    assert lab_panels(cohort.lab_columns)["liver"] == [*liver, "bilirubin", "albumin"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"metric": "accuracy"}, "metric='accuracy'"),
        ({"n_repeats": 0}, "n_repeats=0"),
        ({"panels": {"salts": ["sodium", "unobtainium"]}}, "unobtainium"),
        ({"y": np.zeros((100, 3))}, r"shape \(100, 3\)"),
    ],
)
def test_wrong_parameters_of_panels_are_named(pipe, stays, cohort, wrong, message):
    options = {"y": cohort.y[500:], "panels": {"salts": ["sodium"]}, **wrong}
    with pytest.raises(ValueError, match=message):
        panel_importance(pipe, stays, **options)


# Counterfactuals


def test_curves_are_predictions_of_changed_stays(pipe, stays):
    found = lab_counterfactual(pipe, stays[:4], "creatinine", [0.5, 3.0])
    assert found.curves.shape == (4, 2, 2)
    for value, expected in [
        (3.0, found.curves[:, 1]),
        (np.nan, found.not_measured),
    ]:
        changed = stays[:4].assign(creatinine=value)
        np.testing.assert_allclose(expected, pipe.predict_proba(changed), atol=1e-12)
    np.testing.assert_allclose(found.predicted, pipe.predict_proba(stays[:4]), atol=1e-12)
    np.testing.assert_allclose(found.mean().to_numpy(), found.curves.mean(axis=0))
    assert repr(found) == "LabCounterfactual(creatinine, 4 stays, 2 values, 2 labels)"


def test_values_cover_what_is_measured(pipe, stays):
    found = lab_counterfactual(pipe, stays, "lactate", labels="disease 1")
    assert len(found.grid) == 30
    ends = stays["lactate"].quantile([0.02, 0.98])
    np.testing.assert_allclose(found.grid[[0, -1]], ends)


def test_abnormal_labs_are_made_normal_one_by_one_and_together(pipe, stays, cohort):
    ranges = {"sodium": (135.0, 145.0), "creatinine": (0.6, 1.2)}
    X = stays[:3].copy()
    X["sodium"], X["creatinine"] = [140.0, 120.0, 120.0], [1.0, 1.0, 4.0]
    found = had_been_normal(pipe, X, ranges)
    assert found[["stay", "lab"]].to_numpy().tolist() == [
        [1, "sodium"],
        [2, "sodium"],
        [2, "creatinine"],
        [2, "all"],
    ]
    together = X.iloc[[2]].assign(sodium=140.0, creatinine=0.9)
    expected = pipe.predict_proba(together) - pipe.predict_proba(X.iloc[[2]])
    np.testing.assert_allclose(found.iloc[3, 2:].astype(float), expected[0], atol=1e-12)


def test_what_is_missing_or_normal_stays(pipe, stays):
    X = stays[:2].assign(sodium=[np.nan, 140.0])
    assert len(had_been_normal(pipe, X, {"sodium": (135.0, 145.0)})) == 0


def test_a_sweep_needs_values(pipe, stays):
    with pytest.raises(ValueError, match="No number of 'sodium' is measured"):
        lab_counterfactual(pipe, stays[:1].assign(sodium=np.nan), "sodium")
    with pytest.raises(ValueError, match="only one value"):
        lab_counterfactual(pipe, stays[:1].assign(sodium=140.0), "sodium")
    with pytest.raises(ValueError, match="finite numbers"):
        lab_counterfactual(pipe, stays[:1], "sodium", [np.nan])
    with pytest.raises(ValueError, match="names no column"):
        had_been_normal(pipe, stays[:1], {"unobtainium": (0, 1)})
