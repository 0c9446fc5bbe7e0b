"""make_medfuse_pipeline on real stays: labs and notes in, diseases out."""

import warnings

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.pipeline import Pipeline

from sklearn_medfuse import MaskedLabEncoder, MEDFuseClassifier, make_medfuse_pipeline
from sklearn_medfuse.datasets import load_eicu_demo
from sklearn_medfuse.model_selection import MultilabelStratifiedGroupKFold

FUSE = {
    "d_model": 8,
    "n_heads": 2,
    "n_estimators": 1,
    "max_epochs": 3,
    "early_stopping": False,
    "device": "cpu",
}
LABS = {"d_model": 8, "n_heads": 2, "n_layers": 1, "n_components": 4, "max_epochs": 2}


@pytest.fixture(scope="module")
def cohort():
    """150 stays, their ten most measured labs and three most prevalent diseases."""
    cohort = load_eicu_demo()
    labs = cohort.X[cohort.lab_columns].iloc[:150].notna().sum().nlargest(10).index.tolist()
    diseases = cohort.y.iloc[:150].sum().nlargest(3).index
    cohort.lab_columns = labs
    cohort.X = cohort.X[[*labs, cohort.note_column]].iloc[:150]
    cohort.y = cohort.y[diseases].iloc[:150]
    cohort.groups = np.asarray(cohort.groups)[:150]
    return cohort


@pytest.fixture
def make(cohort, note_encoder):
    def make(**params):
        return make_medfuse_pipeline(
            cohort.lab_columns,
            cohort.note_column,
            lab_encoder=MaskedLabEncoder(**LABS, device="cpu"),
            note_encoder=note_encoder(),
            **{**FUSE, "random_state": 0, **params},
        )

    return make


def test_probabilities_of_every_disease(make, cohort):
    pipe = make().fit(cohort.X, cohort.y)
    probabilities = pipe.predict_proba(cohort.X)
    assert probabilities.shape == pipe.predict(cohort.X).shape == (150, 3)
    assert np.isfinite(probabilities).all()
    assert pipe["medfuse"].target_names_.tolist() == cohort.y.columns.tolist()


def test_modalities_are_labs_and_notes(make, cohort):
    pipe = make().fit(cohort.X, cohort.y)
    widths = {name: len(columns) for name, columns in pipe["medfuse"].modalities_.items()}
    assert widths == {"labs": 4, "notes": 16}
    assert pipe[:-1].get_feature_names_out()[0] == "labs__maskedlabencoder0"


@pytest.mark.usefixtures("minilm")
def test_default_encoders(cohort):
    pipe = make_medfuse_pipeline(cohort.lab_columns, cohort.note_column, **FUSE)
    pipe.set_params(encode__labs__max_epochs=1, encode__notes__device="cpu")
    pipe.fit(cohort.X[:20], cohort.y[:20].to_numpy()[:, 0])
    assert pipe.predict_proba(cohort.X[:20]).shape == (20, 2)


def test_encoders_given_are_cloned(cohort, note_encoder):
    labs, notes = MaskedLabEncoder(), note_encoder()
    pipe = make_medfuse_pipeline(
        cohort.lab_columns, cohort.note_column, lab_encoder=labs, note_encoder=notes, random_state=3
    )
    assert labs.random_state is None
    encoders = {name: encoder for name, encoder, _ in pipe["encode"].transformers}
    assert encoders["labs"] is not labs
    assert encoders["labs"].random_state == pipe["medfuse"].random_state == 3
    assert encoders["notes"].get_params() == notes.get_params()


def test_random_state_decides_the_result(make, cohort):
    first, same, other = (
        make(random_state=seed).fit(cohort.X, cohort.y).predict_proba(cohort.X)
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, same)
    assert not np.array_equal(first, other)


def test_unknown_parameters_are_refused(cohort):
    with pytest.raises(TypeError, match="no_such_parameter"):
        make_medfuse_pipeline(cohort.lab_columns, cohort.note_column, no_such_parameter=1)


def test_the_same_pipeline_made_by_hand(make, cohort, note_encoder):
    encode = ColumnTransformer(
        [
            ("labs", MaskedLabEncoder(**LABS, device="cpu", random_state=0), cohort.lab_columns),
            ("notes", note_encoder(), cohort.note_column),
        ]
    )
    by_hand = Pipeline(
        [
            ("encode", clone(encode).set_output(transform="pandas")),
            ("medfuse", MEDFuseClassifier(**FUSE, random_state=0)),
        ]
    )
    expected = make().fit(cohort.X, cohort.y).predict_proba(cohort.X)
    found = by_hand.fit(cohort.X, cohort.y).predict_proba(cohort.X)
    np.testing.assert_array_equal(found, expected)


def test_arrays_from_the_encoders_with_modalities_by_number(make, cohort, note_encoder):
    encode = ColumnTransformer(
        [
            ("labs", MaskedLabEncoder(**LABS, device="cpu", random_state=0), cohort.lab_columns),
            ("notes", note_encoder(), cohort.note_column),
        ]
    )
    fuse = MEDFuseClassifier(**FUSE, modalities={"labs": 4, "notes": 16}, random_state=0)
    pipe = Pipeline([("encode", encode), ("medfuse", fuse)])
    expected = make().fit(cohort.X, cohort.y).predict_proba(cohort.X)
    found = pipe.fit(cohort.X, cohort.y).predict_proba(cohort.X)
    # a DataFrame keeps the notes' float32, an array makes all columns float64
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_note_column_given_as_a_list(cohort, make, note_encoder):
    pipe = make_medfuse_pipeline(
        cohort.lab_columns,
        [cohort.note_column],
        lab_encoder=MaskedLabEncoder(**LABS, device="cpu"),
        note_encoder=note_encoder(),
        random_state=0,
        **FUSE,
    )
    np.testing.assert_array_equal(
        pipe.fit(cohort.X, cohort.y).predict_proba(cohort.X),
        make().fit(cohort.X, cohort.y).predict_proba(cohort.X),
    )


def test_order_of_rows_and_further_columns_do_not_matter_in_predict(make, cohort):
    pipe = make().fit(cohort.X, cohort.y)
    expected = pipe.predict_proba(cohort.X)
    shuffled = cohort.X.assign(bed=1)[::-1]
    np.testing.assert_allclose(pipe.predict_proba(shuffled)[::-1], expected, atol=1e-9)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_grid_search(make, cohort, n_jobs):
    search = GridSearchCV(
        make(),
        {"medfuse__mi_weight": [0.0, 0.1]},
        cv=MultilabelStratifiedGroupKFold(2),
        scoring="average_precision",
        n_jobs=n_jobs,
        error_score="raise",
    )
    search.fit(cohort.X, cohort.y, groups=cohort.groups)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.predict_proba(cohort.X).shape == (150, 3)


def test_cross_validated_probabilities(make, cohort):
    probabilities = cross_val_predict(
        make(),
        cohort.X,
        cohort.y.to_numpy(),
        groups=cohort.groups,
        cv=MultilabelStratifiedGroupKFold(2),
        method="predict_proba",
    )
    assert probabilities.shape == (150, 3)
    assert np.isfinite(probabilities).all()


def test_groups_reach_the_validation_split_by_metadata_routing(make, cohort):
    with sklearn.config_context(enable_metadata_routing=True):
        pipe = make(early_stopping=True, validation_fraction=0.2)
        pipe["medfuse"].set_fit_request(groups=True)
        pipe.fit(cohort.X, cohort.y, groups=cohort.groups)
        assert pipe["medfuse"].validation_losses_
        with pytest.raises(ValueError, match="inconsistent numbers of samples"):
            pipe.fit(cohort.X, cohort.y, groups=cohort.groups[:5])


# what is missing


def test_all_labs_missing(make, cohort):
    X = cohort.X.copy()
    X[cohort.lab_columns] = np.nan
    assert np.isfinite(make().fit(cohort.X, cohort.y).predict_proba(X)).all()
    with pytest.warns(UserWarning, match="10 of 10 lab columns"):
        pipe = make().fit(X, cohort.y)
    assert np.isfinite(pipe.predict_proba(X)).all()


@pytest.mark.parametrize("nothing", [None, np.nan, " "])
def test_all_notes_missing(make, cohort, nothing):
    X = cohort.X.copy()
    X[cohort.note_column] = pd.Series([nothing] * len(X), index=X.index, dtype=object)
    assert np.isfinite(make().fit(cohort.X, cohort.y).predict_proba(X)).all()
    assert np.isfinite(make().fit(X, cohort.y).predict_proba(X)).all()


def test_nothing_at_all(make, cohort):
    X = cohort.X.copy()
    X[:] = np.nan
    probabilities = make().fit(cohort.X, cohort.y).predict_proba(X)
    assert np.isfinite(probabilities).all()
    np.testing.assert_allclose(probabilities, probabilities[[0]].repeat(150, axis=0))


def test_one_row(make, cohort):
    pipe = make().fit(cohort.X, cohort.y)
    one = pipe.predict_proba(cohort.X.iloc[[7]])
    np.testing.assert_allclose(one, pipe.predict_proba(cohort.X)[[7]], atol=1e-5)


def test_fitting_one_row(make, cohort):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        pipe = make().fit(cohort.X.iloc[:1], cohort.y.iloc[:1])
    np.testing.assert_array_equal(pipe.predict(cohort.X.iloc[:1]), cohort.y.iloc[:1])


# what is wrong


@pytest.mark.parametrize("which", ["lab", "note"])
def test_missing_columns_are_named(make, cohort, which):
    pipe = make().fit(cohort.X, cohort.y)
    name = cohort.note_column if which == "note" else cohort.lab_columns[3]
    with pytest.raises(ValueError, match="columns are missing") as caught:
        pipe.predict(cohort.X.drop(columns=name))
    assert name in str(caught.value)


def test_an_array_instead_of_a_frame_is_refused(make, cohort):
    pipe = make().fit(cohort.X, cohort.y)
    with pytest.raises(ValueError, match=r"DataFrame|feature names|columns"):
        pipe.predict(cohort.X.to_numpy())


def test_unknown_columns_in_fit_are_refused(cohort, note_encoder):
    pipe = make_medfuse_pipeline(["no such lab"], cohort.note_column, note_encoder=note_encoder())
    with pytest.raises(ValueError, match="no such lab"):
        pipe.fit(cohort.X, cohort.y)


def test_text_among_the_labs_is_not_shown(make, cohort):
    pipe = make().fit(cohort.X, cohort.y)
    X = cohort.X.astype({cohort.lab_columns[0]: object})
    X.iloc[3, 0] = "Zebulon Quixote"
    for call in (lambda: pipe.predict(X), lambda: make().fit(X, cohort.y)):
        with pytest.raises(ValueError, match="text where numbers are expected") as caught:
            call()
        assert "Zebulon" not in str(caught.value)


def test_numbers_among_the_notes_are_not_shown(make, cohort):
    X = cohort.X.astype({cohort.note_column: object})
    X.iloc[3, -1] = 31337
    with pytest.raises(TypeError, match="row 3") as caught:
        make().fit(X, cohort.y)
    assert "31337" not in str(caught.value)
