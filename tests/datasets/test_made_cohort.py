"""Made cohorts are what the docstring says: factors show where they should and nowhere else."""

import time

import numpy as np
import pandas as pd
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict

from sklearn_medfuse.datasets import Cohort, load_eicu_demo, make_ehr_cohort


@pytest.fixture(scope="module")
def cohort():
    return make_ehr_cohort(1500, random_state=0)


def views(cohort):
    labs = cohort.X[cohort.lab_columns]
    labs = np.log(labs.clip(lower=0.01)).fillna(np.log(labs.clip(lower=0.01)).median())
    words = CountVectorizer(ngram_range=(1, 3), min_df=20, binary=True)
    notes = words.fit_transform(cohort.X["note"].fillna("")).toarray().astype(float)
    return {"labs": (labs - labs.mean()) / labs.std(), "notes": notes}


def test_fields_are_those_of_every_cohort(cohort):
    assert type(cohort) is Cohort
    assert set(load_eicu_demo()) <= set(cohort)
    for table in (cohort.y, cohort.groups, cohort.hospitals, cohort.subgroups, cohort.factors):
        assert table.index.equals(cohort.X.index)
    assert (cohort.X.dtypes[cohort.lab_columns] == np.float64).all()
    assert cohort.X["note"].dtype == load_eicu_demo().X["note"].dtype


def test_factors_show_in_their_own_views_only(cohort):
    found = {
        (view, name): np.corrcoef(cross_val_predict(Ridge(300.0), X, f), f)[0, 1]
        for view, X in views(cohort).items()
        for name, f in cohort.factors.items()
    }
    for (view, name), correlation in found.items():
        if name.startswith(("shared", view)):
            assert correlation > 0.5, (view, name)
        else:
            assert abs(correlation) < 0.15, (view, name)


def test_labels_follow_one_factor_of_each_kind(cohort):
    model = LogisticRegression(C=100).fit(cohort.factors, cohort.y["disease 1"])
    weights = dict(zip(cohort.factors.columns, model.coef_[0], strict=True))
    assert {name for name, w in weights.items() if w > 0.7} == {"shared 0", "labs 0", "notes 1"}
    assert max(abs(w) for name, w in weights.items() if name[-1] != "0" and name != "notes 1") < 0.4
    auc = roc_auc_score(cohort.y["disease 1"], model.predict_proba(cohort.factors)[:, 1])
    assert auc > 0.85
    prevalence = cohort.y.mean()
    assert prevalence.is_monotonic_decreasing
    assert prevalence.between(0.05, 0.45).all()


def test_panels_are_ordered_together_and_rare_ones_for_the_ill(cohort):
    missing = cohort.X[cohort.lab_columns].isna()
    together = missing.corr()
    assert together.loc["lactate", "pH"] > 0.8
    assert together.loc["lactate", "sodium"] < 0.5
    severity = cohort.factors[["shared 0", "shared 1"]].sum(axis=1)
    assert severity[~missing["lactate"]].mean() > severity[missing["lactate"]].mean() + 0.3
    assert missing["sodium"].mean() < 0.15 < missing["lactate"].mean()


def test_a_patients_stays_are_alike(cohort):
    several = cohort.groups[cohort.groups.duplicated(keep=False)]
    pairs = cohort.factors.loc[several.index].groupby(several)["shared 0"]
    first, last = pairs.first(), pairs.last()
    assert np.corrcoef(first, last)[0, 1] == pytest.approx(0.5, abs=0.12)
    assert cohort.hospitals.groupby(cohort.groups).nunique().max() == 1


def test_absence_is_as_asked_for():
    cohort = make_ehr_cohort(2000, share_without_labs=0.3, share_without_notes=0.2, random_state=1)
    no_labs = cohort.X[cohort.lab_columns].isna().all(axis=1)
    no_note = cohort.X["note"].isna()
    assert no_labs.mean() == pytest.approx(0.3, abs=0.04)
    assert no_note.mean() == pytest.approx(0.2, abs=0.03)
    assert not (no_labs & no_note).any()


def test_the_seed_decides(cohort):
    again = make_ehr_cohort(1500, random_state=0)
    pd.testing.assert_frame_equal(again.X, cohort.X)
    pd.testing.assert_frame_equal(again.y, cohort.y)
    other = make_ehr_cohort(1500, random_state=1)
    assert not other.y.equals(cohort.y)


def test_twenty_thousand_stays_take_seconds():
    start = time.process_time()
    make_ehr_cohort(20_000, random_state=0)
    assert time.process_time() - start < 20


@pytest.mark.parametrize("params", [{"n_stays": 1}, {"n_labels": 0}, {"share_without_labs": 1.0}])
def test_impossible_parameters(params):
    with pytest.raises(ValueError, match=next(iter(params))):
        make_ehr_cohort(**params)


def test_factors_go_with_their_stays(tmp_path):
    cohort = make_ehr_cohort(40, random_state=0)
    rows = [7, 3, 30]
    part = cohort.select(rows)
    pd.testing.assert_frame_equal(part.factors, cohort.factors.iloc[rows])
    assert part.factors.index.tolist() == part.stay_ids.tolist()
    for half in cohort.train_test_split(random_state=0):
        pd.testing.assert_frame_equal(half.factors, cohort.factors.loc[half.stay_ids])
    part.to_parquet(tmp_path / "part")
    again = Cohort.from_parquet(tmp_path / "part")
    pd.testing.assert_frame_equal(again.factors, part.factors)
    assert again.keys() == part.keys()
