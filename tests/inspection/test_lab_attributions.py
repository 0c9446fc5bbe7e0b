"""Attributions to labs add up, agree with other implementations, and are faithful."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.tree import DecisionTreeClassifier

from sklearn_medfuse import MaskedLabEncoder, NoteWordEncoder, make_medfuse_pipeline
from sklearn_medfuse.inspection import deletion_curve, lab_attributions
from sklearn_medfuse.inspection._variants import VariantModel


@pytest.fixture(scope="module")
def attributions(pipe, stays, cohort):
    return lab_attributions(pipe, stays[:40], cohort.lab_columns, n_permutations=8, random_state=0)


def test_attributions_add_up_to_the_prediction(attributions, pipe, stays, cohort):
    found = attributions
    assert found.effects.shape == (40, 24, 2)
    assert found.label_names == cohort.target_names
    np.testing.assert_allclose(found.effects.sum(axis=1), found.predicted - found.base, atol=1e-9)
    p = pipe.predict_proba(stays[:40])
    np.testing.assert_allclose(found.predicted, np.log(p / (1 - p)), atol=1e-9)
    bare = stays[:40].copy()
    bare[cohort.lab_columns] = np.nan
    q = pipe.predict_proba(bare)
    np.testing.assert_allclose(found.base, np.log(q / (1 - q)), atol=1e-9)


def test_what_was_not_measured_has_none(attributions, stays, cohort):
    missing = stays[:40][cohort.lab_columns].isna().to_numpy()
    assert (attributions.effects[missing] == 0).all()
    assert (attributions.measured == ~missing).all()
    # The first stay has no lab at all
    assert (attributions.effects[0] == 0).all()
    assert np.abs(attributions.effects[1:]).max() > 0


def test_attributions_of_a_linear_model_are_its_terms():
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(200, 12)), columns=[f"lab {i}" for i in range(12)])
    model = LogisticRegression().fit(X, X["lab 0"] - X["lab 3"] + rng.normal(size=200) > 0)
    usual = X.median()
    for method in ("shapley", "leave_out"):
        found = lab_attributions(
            model, X[:5], list(X), labels="True", method=method, baseline=usual, n_permutations=2
        )
        expected = model.coef_[0] * (X[:5] - usual)
        np.testing.assert_allclose(found.effects[:, :, 0], expected, atol=1e-9)


def test_exact_and_sampled_values_agree_with_captums():
    captum = pytest.importorskip("captum.attr")
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(300, 5)), columns=list("abcde"))
    y = (X["a"] * X["b"] + X["c"] > 0).astype(int)
    model = DecisionTreeClassifier(max_depth=6, random_state=0).fit(X, y)
    stay, usual = X.iloc[[7]], X.mean()

    def forward(inputs):
        return torch.from_numpy(model.predict_proba(pd.DataFrame(inputs.numpy(), columns=list(X))))

    expected = captum.ShapleyValues(forward).attribute(
        torch.tensor(stay.to_numpy()), torch.tensor(usual.to_numpy()[None]), target=1
    )
    options = {"labels": "1", "baseline": usual, "output": "probability"}
    # 2⁵ sets of labs are fewer than 20 orders ask for, and more than one does
    exact = lab_attributions(model, stay, list(X), **options)
    # captum answers in float32
    np.testing.assert_allclose(exact.effects[0, :, 0], expected[0], atol=1e-6)
    many = [
        lab_attributions(model, stay, list(X), n_permutations=1, random_state=seed, **options)
        for seed in range(30)
    ]
    sampled = np.array([each.effects[0, :, 0] for each in many])
    error = np.abs(sampled.mean(axis=0) - exact.effects[0, :, 0])
    assert sampled.std(axis=0).max() > 0
    assert (error < 4 * sampled.std(axis=0) / np.sqrt(30) + 1e-9).all()


def test_attributions_follow_the_factors_that_act_on_labs(attributions, cohort):
    factors = cohort.factors[500:540]
    signal = 1.5 * factors["shared 0"] + 1.2 * factors["labs 0"]
    told = attributions.effects[1:, :, 0].sum(axis=1)
    assert np.corrcoef(told, signal[1:])[0, 1] > 0.5


def test_the_first_named_labs_matter_more_than_random_ones(attributions, pipe, stays, cohort):
    p = pipe.predict_proba(stays[:40])
    for column, label in enumerate(cohort.target_names):
        curve = deletion_curve(
            pipe, stays[:40], attributions, label, max_deleted=4, n_random=5, random_state=0
        )
        assert curve.loc[0, "attributed"] == pytest.approx(p[:, column].mean())
        assert curve.loc[0, "random"] == pytest.approx(p[:, column].mean())
        gap = curve["random"] - curve["attributed"]
        assert (gap.loc[1:] > 2 * curve["random_std"].loc[1:]).all()
        assert curve["attributed"].loc[4] < 0.8 * curve["random"].loc[4]


def test_an_attribution_of_noise_fails_the_deletion_test(attributions, pipe, stays, cohort):
    rng = np.random.default_rng(0)
    noise = copy.copy(attributions)
    noise.effects = rng.normal(size=noise.effects.shape)
    curve = deletion_curve(
        pipe, stays[:40], noise, "disease 1", max_deleted=4, n_random=5, random_state=0
    )
    assert abs(curve["random"] - curve["attributed"]).loc[4] < 0.04


def test_only_the_labs_are_encoded_again(pipe, stays, cohort, monkeypatch):
    notes = pipe[0].named_transformers_["notes"]
    calls = []
    transform = type(notes).transform
    monkeypatch.setattr(
        type(notes), "transform", lambda self, X: calls.append(len(X)) or transform(self, X)
    )
    lab_attributions(pipe, stays[:3], cohort.lab_columns, method="leave_out")
    assert calls == [3]


def test_copies_are_predicted_as_the_pipeline_predicts_them(pipe, stays, cohort):
    model = VariantModel(pipe, stays)
    rows = np.array([5, 5, 9])
    copies = stays.iloc[rows].reset_index(drop=True)
    copies["sodium"] = [120.0, np.nan, 150.0]
    found = model.predict(rows, copies, ["sodium"])
    np.testing.assert_allclose(found, pipe.predict_proba(copies), atol=1e-12)


def test_encoders_of_the_note_that_read_labs_too_run_again(cohort):
    # The abnormal labs as text beside the note, and the note's words as a third modality
    pipe = make_medfuse_pipeline(
        cohort.lab_columns,
        "note",
        lab_encoder=MaskedLabEncoder(
            4, d_model=8, n_heads=2, n_layers=1, max_epochs=1, device="cpu"
        ),
        note_encoder=NoteWordEncoder(10),
        views={"lab_text": True, "words": NoteWordEncoder(10)},
        d_model=8,
        n_heads=2,
        n_estimators=1,
        max_epochs=1,
        device="cpu",
        random_state=0,
    ).fit(cohort.X[:100], cohort.y[:100])
    X = cohort.X[100:103]
    found = lab_attributions(pipe, X, cohort.lab_columns, method="leave_out", output="probability")
    without = X.assign(sodium=np.nan)
    expected = pipe.predict_proba(X) - pipe.predict_proba(without)
    place = cohort.lab_columns.index("sodium")
    np.testing.assert_allclose(found.effects[:, place], expected, atol=1e-12)


def test_a_search_is_asked_through_its_best_estimator(stays, cohort):
    X, y = cohort.X[cohort.lab_columns].fillna(0), cohort.y["disease 1"]
    search = GridSearchCV(LogisticRegression(max_iter=5000), {"C": [1e-4]}, cv=2).fit(X, y)
    options = {"method": "leave_out", "baseline": X.median()}
    found = lab_attributions(search, X[:2], cohort.lab_columns, **options)
    expected = lab_attributions(search.best_estimator_, X[:2], cohort.lab_columns, **options)
    np.testing.assert_array_equal(found.effects, expected.effects)


def test_random_state_decides_and_the_global_one_is_left(pipe, stays, cohort, global_random_state):
    before = global_random_state()
    first, same, other = (
        lab_attributions(
            pipe, stays[5:6], cohort.lab_columns, n_permutations=2, random_state=seed
        ).effects
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, same)
    assert not np.array_equal(first, other)
    assert global_random_state() == before


def test_summary_is_of_the_stays_that_have_the_lab(attributions):
    summary = attributions.summary()
    there = attributions.measured[:, 0]
    expected = np.abs(attributions.effects[there, 0]).mean(axis=0)
    np.testing.assert_allclose(summary.iloc[0], expected)


def test_nothing_of_a_patient_is_shown_or_kept(attributions, stays, cohort):
    shown = repr(attributions)
    assert shown == "LabAttributions(40 stays, 24 labs, 2 labels, log_odds)"
    kept = {name for name, value in vars(attributions).items() if isinstance(value, pd.DataFrame)}
    assert kept == set()
    values = stays[:40][cohort.lab_columns].to_numpy()
    assert not np.isin(values[~np.isnan(values) & (values > 1)], attributions.effects).any()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"method": "gradient"}, "method='gradient'"),
        ({"labels": "gout"}, r"unknown: \['gout'\]"),
        ({"baseline": "median"}, "baseline='median'"),
        ({"baseline": 3}, "of type int"),
        ({"output": "logit"}, "output='logit'"),
        ({"n_permutations": 0}, "n_permutations=0"),
        ({"lab_columns": ["sodium", "unobtainium"]}, "unobtainium"),
        ({"lab_columns": ["sodium", "sodium"]}, "each only once"),
    ],
)
def test_wrong_parameters_are_named(pipe, stays, wrong, message):
    options = {"lab_columns": ["sodium"], **wrong}
    with pytest.raises(ValueError, match=message):
        lab_attributions(pipe, stays[:1], **options)


def test_rows_and_label_of_the_deletion_test_are_checked(attributions, pipe, stays):
    with pytest.raises(ValueError, match="40 stays and X has 3 rows"):
        deletion_curve(pipe, stays[:3], attributions, "disease 1")
    with pytest.raises(ValueError, match="label='gout'"):
        deletion_curve(pipe, stays[:40], attributions, "gout")
    with pytest.raises(ValueError, match="at least 1"):
        deletion_curve(pipe, stays[:40], attributions, "disease 1", n_random=0)
