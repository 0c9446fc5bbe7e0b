"""make_medfuse_pipeline on real stays: labs and notes in, diseases out."""

import pickle
import warnings
from functools import wraps

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import sklearn
from pandas.testing import assert_frame_equal
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, SimpleImputer
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    GroupShuffleSplit,
    KFold,
    ShuffleSplit,
    StratifiedKFold,
    StratifiedShuffleSplit,
    cross_val_predict,
)
from sklearn.pipeline import Pipeline
from sklearn.tree import DecisionTreeClassifier

from sklearn_medfuse import (
    BoostedLabEncoder,
    LabTextSerializer,
    LLMNoteEncoder,
    MaskedLabEncoder,
    MEDFuseClassifier,
    NaiveBayesNoteEncoder,
    NoteCleaner,
    NoteWordEncoder,
    make_medfuse_pipeline,
)
from sklearn_medfuse.datasets import load_eicu_demo
from sklearn_medfuse.model_selection import MultilabelStratifiedGroupKFold
from sklearn_medfuse.persistence import PrivateMemory

FUSE = {
    "d_model": 8,
    "n_heads": 2,
    "n_estimators": 1,
    "max_epochs": 3,
    "early_stopping": False,
    "device": "cpu",
}
STUMPS = BoostedLabEncoder(DecisionTreeClassifier(max_depth=1), cv=2)
LABS = {"d_model": 8, "n_heads": 2, "n_layers": 1, "n_components": 4, "max_epochs": 2}


@pytest.fixture(scope="module")
def cohort():
    """150 stays, their ten most measured labs and three most prevalent diseases."""
    cohort = load_eicu_demo()
    labs = cohort.X[cohort.lab_columns].iloc[:150].notna().sum().nlargest(10).index.tolist()
    diseases = cohort.y.iloc[:150].sum().nlargest(3).index
    cohort.lab_columns = labs
    cohort.X = cohort.X[[*labs, cohort.note_column]].iloc[:150]
    # The tiny model has a token per character and 64 positions
    cohort.X[cohort.note_column] = cohort.X[cohort.note_column].str[:200]
    cohort.y = cohort.y[diseases].iloc[:150]
    cohort.groups = np.asarray(cohort.groups)[:150]
    return cohort


@pytest.fixture(scope="module")
def make(cohort, tiny_bert):
    def make(**params):
        return make_medfuse_pipeline(
            cohort.lab_columns,
            cohort.note_column,
            lab_encoder=MaskedLabEncoder(**LABS, device="cpu"),
            note_encoder=LLMNoteEncoder(tiny_bert, dtype="float32", device="cpu"),
            **{**FUSE, "views": {}, "random_state": 0, **params},
        )

    return make


@pytest.fixture(scope="module")
def pipe(make, cohort):
    """A fitted pipeline of labs and notes, which no test may change."""
    return make().fit(cohort.X, cohort.y)


@pytest.fixture(scope="module")
def text_pipe(make, cohort):
    """One with the abnormal labs written out, which no test may change."""
    return make(views={"lab_text": True}).fit(cohort.X, cohort.y)


def test_probabilities_of_every_disease(cohort, pipe):
    probabilities = pipe.predict_proba(cohort.X)
    assert probabilities.shape == pipe.predict(cohort.X).shape == (150, 3)
    assert np.isfinite(probabilities).all()
    assert pipe["medfuse"].target_names_.tolist() == cohort.y.columns.tolist()


def test_modalities_are_labs_and_notes(pipe):
    widths = {name: len(columns) for name, columns in pipe["medfuse"].modalities_.items()}
    assert widths == {"labs": 4, "notes": 16}
    assert pipe[:-1].get_feature_names_out()[0] == "labs__maskedlabencoder0"


@pytest.mark.usefixtures("minilm")
def test_the_default_takes_every_view_and_calibrates(cohort):
    pipe = make_medfuse_pipeline(cohort.lab_columns, cohort.note_column, **FUSE)
    pipe.set_params(encode__labs__max_epochs=1, encode__notes__encoder__device="cpu")
    pipe.fit(cohort.X[:40], cohort.y[:40])
    assert pipe.predict_proba(cohort.X[:40]).shape == (40, 3)
    medfuse = pipe["medfuse"]
    assert list(medfuse.modalities_) == ["labs", "notes", "words", "boosted", "naive_bayes"]
    assert medfuse.calibration_intercept_.shape == medfuse.thresholds_.shape == (3,)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_every_view_takes_classes(make, cohort, n_classes):
    y = np.arange(150) % n_classes
    pipe = make(views="full").fit(cohort.X, y)
    assert pipe.predict_proba(cohort.X).shape == (150, n_classes)


RANGES = {"sodium": (135.0, 145.0), "potassium": (3.5, 5.1)}
UNITS = {"sodium": "mmol/L", "potassium": "mmol/L"}


def test_the_paper_has_neither_our_views_nor_our_parts(cohort):
    pipe = make_medfuse_pipeline(
        ["sodium", "potassium"], "note", views="paper", reference_ranges=RANGES, units=UNITS
    )
    parameters = pipe.get_params()
    assert [name for name, *_ in pipe["encode"].transformers] == ["labs", "notes"]
    assert parameters["encode__notes__texts__lab_text"].column_name == "abnormal labs"
    assert parameters["encode__notes__encoder__fine_tuning"] == "lora"
    assert parameters["encode__labs__mask_ratio"] == 0.75
    assert parameters["encode__labs__n_factors"] == 0
    assert parameters["medfuse__fusion"] == "disentangled"
    assert parameters["medfuse__n_estimators"] == 1
    assert parameters["medfuse__linear_weight"] == 0.0
    assert parameters["medfuse__mi_weight"] == 0.1
    assert parameters["medfuse__calibration"] is None
    assert parameters["medfuse__threshold"] == 0.5


@pytest.mark.parametrize("views", ["paper", "full", {"lab_text": True}])
def test_the_labs_text_has_the_ranges_and_units_that_are_given(views):
    pipe = make_medfuse_pipeline(
        ["sodium", "potassium"], "note", views=views, reference_ranges=RANGES, units=UNITS
    )
    stays = pd.DataFrame({"note": ["a", "b"], "sodium": [128.0, 140.0], "potassium": [4.0, 5.2]})
    texts = pipe.get_params()["encode__notes"]["texts"].fit_transform(stays)
    expected = ["sodium 128 mmol/L (low)", "potassium 5.2 mmol/L (high)"]
    assert texts["abnormal labs"].tolist() == expected


def test_one_modality_alone(make, cohort):
    y = cohort.y
    labs = make_medfuse_pipeline(cohort.lab_columns, None, **FUSE, random_state=0)
    assert [name for name, *_ in labs["encode"].transformers] == ["labs", "boosted"]
    assert labs.fit(cohort.X[cohort.lab_columns], y).predict_proba(cohort.X).shape == (150, 3)
    notes = make_medfuse_pipeline(None, "note", note_encoder=NoteWordEncoder(4), **FUSE)
    assert [name for name, *_ in notes["encode"].transformers] == ["notes", "words", "naive_bayes"]
    assert notes.fit(cohort.X[["note"]], y).predict_proba(cohort.X).shape == (150, 3)


def test_a_view_of_ones_own(make, cohort):
    own = make(views={"raw": (SimpleImputer(), cohort.lab_columns[:2]), "words": False})
    own.fit(cohort.X, cohort.y)
    assert list(own["medfuse"].modalities_) == ["labs", "notes", "raw"]


LIBRARIES = {
    "polars": pl.from_pandas,
    "arrow": lambda frame: pa.Table.from_pandas(frame, preserve_index=False),
}


@pytest.mark.parametrize("library", LIBRARIES)
def test_every_view_reads_any_table(make, cohort, library):
    """The note beside lab text passes through a ColumnTransformer inside the first one."""
    options = {"views": "full", "decision_folds": 2, "tables": {"first": ["bed", "ward"]}}
    pandas = cohort.X.assign(bed=np.arange(150) % 40, ward=["A", "B", None] * 50)
    expected = make(**options).fit(pandas, cohort.y, groups=cohort.groups)
    convert = LIBRARIES[library]
    X, y = convert(pandas), convert(cohort.y)
    pipe = make(**options).fit(X, y, groups=cohort.groups)
    for method in ("predict", "predict_proba", "decision_function", "transform"):
        for fitted, table in ((pipe, X), (pipe, pandas), (expected, X)):
            found = getattr(fitted, method)(table)
            np.testing.assert_array_equal(found, getattr(expected, method)(pandas))
    assert pipe.score(X, y) == expected.score(pandas, cohort.y)
    assert pipe["medfuse"].target_names_.tolist() == cohort.y.columns.tolist()
    parts = clone(pipe[:-1]).fit_transform(X, y, groups=cohort.groups)
    same = clone(pipe[:-1]).fit_transform(pandas, cohort.y, groups=cohort.groups)
    assert_frame_equal(parts, same.reset_index(drop=True))


def test_methods_are_those_of_the_last_step(make):
    pipe = make()
    assert hasattr(pipe, "predict_proba")
    assert not hasattr(pipe, "fit_predict")
    assert not hasattr(pipe[:-1], "predict")


@pytest.mark.parametrize("labs_and_notes", [True, False])
def test_tables_are_modalities(make, cohort, labs_and_notes):
    X = cohort.X.assign(age=np.arange(150) % 60 + 30, sex=["F", "M", None] * 50)
    X.loc[X.index[4], ["age", "sex"]] = None
    more = {} if labs_and_notes else {"lab_columns": None, "note_column": None}
    tables = {"demographics": ("age", "sex")}
    build = make if labs_and_notes else make_medfuse_pipeline
    pipe = build(**more, tables=tables, **({} if labs_and_notes else FUSE))
    named = ["labs", "notes"] * labs_and_notes + ["demographics"]
    assert [name for name, *_ in pipe["encode"].transformers] == named
    assert pipe["medfuse"].input_scaling == {"demographics": "block"}
    pipe.fit(X, cohort.y, groups=cohort.groups)
    assert list(pipe["medfuse"].modalities_) == named
    names = pipe[:-1].get_feature_names_out().tolist()
    assert names[-4:] == [
        "demographics__age",
        "demographics__sex=F",
        "demographics__sex=M",
        "demographics__sex=(missing)",
    ]
    absent = np.isnan(pipe[:-1].transform(X).filter(like="demographics__")).all(axis=1)
    assert np.flatnonzero(absent).tolist() == [4]
    assert np.isfinite(pipe.predict_proba(X)).all()
    loaded = pickle.loads(pickle.dumps(pipe))
    np.testing.assert_array_equal(loaded.predict_proba(X), pipe.predict_proba(X))


def test_a_view_of_ones_own_alone(cohort):
    own = {"raw": (SimpleImputer(), cohort.lab_columns)}
    pipe = make_medfuse_pipeline(None, None, views=own, **FUSE).fit(cohort.X, cohort.y)
    assert list(pipe["medfuse"].modalities_) == ["raw"]


def test_a_seed_of_zero_is_a_seed():
    steps = [("fill", IterativeImputer()), ("embed", BoostedLabEncoder(random_state=0))]
    pipe = make_medfuse_pipeline(
        ["sodium"], "note", lab_encoder=Pipeline(steps), random_state=3, verbose=2
    )
    parameters = pipe.get_params()
    assert parameters["encode__labs__embed__random_state"] == 0
    assert parameters["encode__labs__fill__random_state"] == 3
    assert parameters["encode__labs__fill__verbose"] == 2
    assert parameters["encode__verbose"] is True


def test_seed_and_verbosity_reach_the_steps_that_have_none(cohort, note_encoder):
    clean = Pipeline([("clean", NoteCleaner()), ("embed", note_encoder(random_state=7))])
    pipe = make_medfuse_pipeline(
        cohort.lab_columns, "note", note_encoder=clean, random_state=3, verbose=1
    )
    parameters = pipe.get_params()
    embed = "encode__notes__encoder__embed"
    assert (parameters[f"{embed}__random_state"], parameters[f"{embed}__verbose"]) == (7, 1)
    for step in ("encode__labs", "medfuse"):
        assert (parameters[f"{step}__random_state"], parameters[f"{step}__verbose"]) == (3, 1)
    assert parameters["encode__boosted__random_state"] == 3


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"lab_columns": "sodium"}, TypeError, r"lab_columns is a str; give a list"),
        ({"lab_columns": []}, ValueError, r"lab_columns must be a list of one or more"),
        ({"lab_columns": None, "note_column": None}, ValueError, "give at least one of them"),
        ({"lab_columns": ["sodium", "sodium"]}, ValueError, "lab_columns names sodium more than"),
        ({"lab_encoder": MaskedLabEncoder}, TypeError, "lab_encoder is of type type"),
        ({"note_encoder": "bert"}, TypeError, "note_encoder is of type str; give an encoder"),
        ({"lab_columns": None, "lab_encoder": SimpleImputer()}, ValueError, "lab_encoder is given"),
        ({"tables": ["age"]}, TypeError, r"tables is of type list; give a mapping"),
        ({"tables": {"d": "age"}}, TypeError, r"tables\['d'\] is a str; give a list"),
        ({"tables": {"d": []}}, ValueError, r"tables\['d'\] must be a list of one or more"),
        (
            {"tables": {"d": None}},
            ValueError,
            r"tables\['d'\] must be a list of one or more column",
        ),
        ({"tables": {"labs": ["age"]}}, ValueError, r"tables\['labs'\] cannot have this name"),
        ({"tables": {"a__b": ["age"]}}, ValueError, r"tables\['a__b'\] cannot have this name"),
        ({"tables": {3: ["age"]}}, ValueError, r"tables\[3\] cannot have this name"),
        ({"tables": {"words": ["age"]}}, ValueError, r"tables\['words'\] has the name of a view"),
        ({"tables": {"d": ["age", "sodium"]}}, ValueError, r"tables\['d'\] names sodium, which"),
        ({"tables": {"d": ["note"]}}, ValueError, r"tables\['d'\] names note, which"),
        ({"tables": {"d": ["age"], "e": ["age"]}}, ValueError, r"tables\['e'\] names age, which"),
        ({"random_state": "seed"}, ValueError, "'random_state' parameter"),
        ({"verbose": "loud"}, ValueError, "'verbose' parameter"),
        ({"memory": 3}, ValueError, "'memory' parameter"),
        ({"mi_weight": -1}, ValueError, "'mi_weight' parameter"),
        ({"note_column": [3]}, ValueError, "note_column must be a list"),
        ({"views": "all"}, ValueError, r"views='all' must be 'full', 'paper' or a mapping"),
        ({"views": ["words"]}, TypeError, "views is of type list"),
        ({"views": {"word": True}}, ValueError, r"views\['word'\] must be one of lab_text, words"),
        ({"views": {"words": NoteWordEncoder}}, TypeError, r"views\['words'\] is of type"),
        ({"views": {"labs": True}}, ValueError, r"views\['labs'\] cannot have this name"),
        (
            {"note_column": None, "views": {"words": True}},
            ValueError,
            "columns that are None",
        ),
        ({"units": ["mmol/L"]}, TypeError, "units is of type list"),
        ({"units": {"natrium": "mmol/L"}}, ValueError, r"units names \['natrium'\], which"),
        ({"reference_ranges": {"urea": (1, 2)}}, ValueError, r"reference_ranges names \['urea'\]"),
        ({"views": {}, "units": UNITS}, ValueError, "units is for the view 'lab_text', which is"),
        ({"note_column": None, "units": UNITS}, ValueError, "units is for the view 'lab_text'"),
        (
            {"views": {"lab_text": LabTextSerializer()}, "units": UNITS},
            ValueError,
            "has its own serializer",
        ),
    ],
)
def test_wrong_values_are_refused_at_construction(change, error, match):
    arguments = {"lab_columns": ["sodium"], "note_column": "note"} | change
    with pytest.raises(error, match=match):
        make_medfuse_pipeline(**arguments)


def test_encoders_given_are_cloned(cohort, note_encoder):
    labs, notes = MaskedLabEncoder(), note_encoder()
    pipe = make_medfuse_pipeline(
        cohort.lab_columns,
        cohort.note_column,
        views={},
        lab_encoder=labs,
        note_encoder=notes,
        random_state=3,
    )
    assert labs.random_state is None
    encoders = {name: encoder for name, encoder, _ in pipe["encode"].transformers}
    assert encoders["labs"] is not labs
    assert encoders["labs"].random_state == pipe["medfuse"].random_state == 3
    assert notes.random_state is None
    assert encoders["notes"].get_params() == notes.get_params() | {"random_state": 3}


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_modalities_are_told_apart_whatever_the_encoders_return(make, cohort, pipe, library):
    other = make()
    other["encode"].set_output(transform=library)
    other.fit(cohort.X, cohort.y)
    assert list(other["medfuse"].modalities_) == ["labs", "notes"]
    np.testing.assert_array_equal(other.predict_proba(cohort.X), pipe.predict_proba(cohort.X))


def test_encoders_whose_output_has_no_names_are_refused(make, cohort):
    nameless = make()
    nameless["encode"].set_output(transform="default")
    with pytest.raises(ValueError, match=r"\['labs', 'notes'\].*set_output"):
        nameless.fit(cohort.X, cohort.y)


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


def test_the_same_pipeline_made_by_hand(cohort, note_encoder, pipe):
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
    expected = pipe.predict_proba(cohort.X)
    found = by_hand.fit(cohort.X, cohort.y).predict_proba(cohort.X)
    np.testing.assert_array_equal(found, expected)


def test_arrays_from_the_encoders_with_modalities_by_number(cohort, note_encoder, pipe):
    encode = ColumnTransformer(
        [
            ("labs", MaskedLabEncoder(**LABS, device="cpu", random_state=0), cohort.lab_columns),
            ("notes", note_encoder(), cohort.note_column),
        ]
    )
    fuse = MEDFuseClassifier(**FUSE, modalities={"labs": 4, "notes": 16}, random_state=0)
    by_number = Pipeline([("encode", encode), ("medfuse", fuse)])
    expected = pipe.predict_proba(cohort.X)
    found = by_number.fit(cohort.X, cohort.y).predict_proba(cohort.X)
    # a DataFrame keeps the notes' float32, an array makes all columns float64
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_note_column_given_as_a_list(cohort, note_encoder, pipe):
    with_list = make_medfuse_pipeline(
        cohort.lab_columns,
        [cohort.note_column],
        views={},
        lab_encoder=MaskedLabEncoder(**LABS, device="cpu"),
        note_encoder=note_encoder(),
        random_state=0,
        **FUSE,
    )
    np.testing.assert_array_equal(
        with_list.fit(cohort.X, cohort.y).predict_proba(cohort.X),
        pipe.predict_proba(cohort.X),
    )


def test_order_of_rows_and_further_columns_do_not_matter_in_predict(cohort, pipe):
    expected = pipe.predict_proba(cohort.X)
    shuffled = cohort.X.assign(bed=1)[::-1]
    np.testing.assert_allclose(pipe.predict_proba(shuffled)[::-1], expected, atol=1e-9)


@pytest.mark.usefixtures("own_workers")
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


@pytest.fixture
def inner_splits(monkeypatch):
    """Names of the splitters that keep groups whole; one that does not is an error."""
    used = []

    def watch(splitter):
        split = splitter.split

        def watched(self, X, y=None, groups=None):
            for train, test in split(self, X, y, groups):
                assert not set(np.asarray(groups)[train]) & set(np.asarray(groups)[test])
                used.append(type(self).__name__)
                yield train, test

        monkeypatch.setattr(splitter, "split", watched)

    def refuse(self, *args, **params):
        raise AssertionError(f"{type(self).__name__} parts patients")

    for splitter in (GroupKFold, GroupShuffleSplit):
        watch(splitter)
    for splitter in (KFold, StratifiedKFold, ShuffleSplit, StratifiedShuffleSplit):
        monkeypatch.setattr(splitter, "split", refuse)
    return used


def _search(pipe, X, y, patients):
    GridSearchCV(
        pipe,
        {"medfuse__mi_weight": [0.1]},
        cv=MultilabelStratifiedGroupKFold(2),
        scoring="average_precision",
        error_score="raise",
        refit=False,
    ).fit(X, y, groups=patients)


def _search_with_routing(*args):
    with sklearn.config_context(enable_metadata_routing=True):
        _search(*args)


def _cross_validate(pipe, X, y, patients):
    cv = MultilabelStratifiedGroupKFold(2)
    cross_val_predict(pipe, X, y, groups=patients, cv=cv, method="predict_proba")


@pytest.mark.parametrize(
    ("run", "n_fits"),
    [
        (lambda pipe, X, y, patients: pipe.fit(X, y, groups=patients), 1),
        (_search, 2),
        (_search_with_routing, 2),
        (_cross_validate, 2),
    ],
    ids=["fit", "search", "search with routing", "cross_val_predict"],
)
def test_every_inner_split_keeps_patients_together(make, cohort, inner_splits, run, n_fits):
    # Twenty patients, one of them with a third of the stays
    patients = np.minimum(np.arange(150) // 5, 20)
    pipe = make(
        views={"boosted": STUMPS, "naive_bayes": NaiveBayesNoteEncoder(cv=2)},
        calibration="sigmoid",
        decision_folds=2,
        early_stopping=True,
        validation_fraction=0.3,
    )
    run(pipe, cohort.X, cohort.y.to_numpy(), patients)
    # Two folds each of boosted labs, naive Bayes and decisions
    assert inner_splits.count("GroupKFold") == 6 * n_fits
    # Rows held out for early stopping, where they are enough
    assert inner_splits.count("GroupShuffleSplit") >= 2 * n_fits


def test_fine_tuning_keeps_patients_together(make, cohort, inner_splits):
    patients = np.minimum(np.arange(150) // 5, 20)
    pipe = make()
    pipe["encode"].transformers[1][1].set_params(
        fine_tuning="lora", learning_rate=1e-2, max_epochs=4, cv=2
    )
    told = np.where(cohort.y.iloc[:, 0], "Chest pain. Known cough.", "Denies fever. No cough.")
    X = cohort.X.assign(**{cohort.note_column: told})
    pipe.fit(X, cohort.y.iloc[:, 0], groups=patients)
    # Vectors of an epoch that is better than none come from two folds more
    assert pipe["encode"].named_transformers_["notes"].best_epoch_ > 0
    # Notes held out of the whole and of two folds, whose heads choose their penalty on four
    assert inner_splits.count("GroupShuffleSplit") == 3
    assert inner_splits.count("GroupKFold") == 2 + 3 * 4


def test_a_fitted_pipeline_keeps_no_groups(make, cohort):
    search = GridSearchCV(
        make(), {"medfuse__mi_weight": [0.1]}, cv=MultilabelStratifiedGroupKFold(2)
    ).fit(cohort.X, cohort.y, groups=cohort.groups)
    assert set(vars(search.best_estimator_)) == set(vars(make().fit(cohort.X, cohort.y)))


def test_groups_of_other_rows_are_not_taken(make, cohort, inner_splits):
    list(MultilabelStratifiedGroupKFold(2).split(cohort.X, cohort.y, cohort.groups))
    other = cohort.X.assign(**{cohort.lab_columns[0]: 7.0})
    pipe = make(views={"boosted": STUMPS})
    with pytest.raises(AssertionError, match="parts patients"):
        clone(pipe).fit(other, cohort.y)
    clone(pipe).fit(cohort.X, cohort.y)
    assert set(inner_splits) == {"GroupKFold"}


def test_groups_beside_parameters_of_steps_are_refused(make, cohort):
    with pytest.raises(ValueError, match="groups together with medfuse__sample_weight"):
        make().fit(cohort.X, cohort.y, groups=cohort.groups, medfuse__sample_weight=np.ones(150))


def test_groups_of_another_length_are_refused(make, cohort):
    pipe = make(early_stopping=True, validation_fraction=0.2)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        pipe.fit(cohort.X, cohort.y, groups=cohort.groups[:5])


# What is missing


def test_all_labs_missing(make, cohort, pipe):
    X = cohort.X.copy()
    X[cohort.lab_columns] = np.nan
    assert np.isfinite(pipe.predict_proba(X)).all()
    with pytest.warns(UserWarning, match="10 of 10 lab columns"):
        without = make().fit(X, cohort.y)
    assert np.isfinite(without.predict_proba(X)).all()


@pytest.mark.parametrize("nothing", [None, np.nan, " "])
def test_all_notes_missing(make, cohort, nothing, pipe):
    X = cohort.X.copy()
    X[cohort.note_column] = pd.Series([nothing] * len(X), index=X.index, dtype=object)
    assert np.isfinite(pipe.predict_proba(X)).all()
    assert np.isfinite(make().fit(X, cohort.y).predict_proba(X)).all()


def test_nothing_at_all(cohort, pipe):
    X = cohort.X.copy()
    X[:] = np.nan
    probabilities = pipe.predict_proba(X)
    assert np.isfinite(probabilities).all()
    np.testing.assert_allclose(probabilities, probabilities[[0]].repeat(150, axis=0))


def test_one_row(cohort, pipe):
    one = pipe.predict_proba(cohort.X.iloc[[7]])
    np.testing.assert_allclose(one, pipe.predict_proba(cohort.X)[[7]], atol=1e-5)


def test_fitting_one_row(make, cohort):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        pipe = make().fit(cohort.X.iloc[:1], cohort.y.iloc[:1])
    np.testing.assert_array_equal(pipe.predict(cohort.X.iloc[:1]), cohort.y.iloc[:1])


# What is wrong


@pytest.mark.parametrize("which", ["lab", "note"])
def test_missing_columns_are_named(cohort, which, pipe):
    name = cohort.note_column if which == "note" else cohort.lab_columns[3]
    with pytest.raises(ValueError, match="columns are missing") as caught:
        pipe.predict(cohort.X.drop(columns=name))
    assert name in str(caught.value)


def test_an_array_instead_of_a_frame_is_refused(cohort, pipe):
    with pytest.raises(ValueError, match=r"DataFrame|feature names|columns"):
        pipe.predict(cohort.X.to_numpy())


def test_unknown_columns_in_fit_are_refused(cohort, note_encoder):
    pipe = make_medfuse_pipeline(["no such lab"], cohort.note_column, note_encoder=note_encoder())
    # scikit-learn 1.8 does not name the column
    with pytest.raises(ValueError, match=r"no such lab|not a column of the dataframe"):
        pipe.fit(cohort.X, cohort.y)


@pytest.mark.parametrize("lab_text", [False, True])
def test_text_among_the_labs_is_not_measured_and_not_shown(make, cohort, lab_text):
    pipe = make(views={"lab_text": lab_text}).fit(cohort.X, cohort.y)
    X = cohort.X.astype({cohort.lab_columns[0]: object})
    X.iloc[3, 0] = "Zebulon Quixote"
    for call in (
        lambda: pipe.predict(X),
        lambda: make(views={"lab_text": lab_text}).fit(X, cohort.y),
    ):
        with pytest.warns(UserWarning, match="1 results could not be read") as caught:
            call()
        assert not any("Zebulon" in str(warning.message) for warning in caught)
    if lab_text:
        with pytest.warns(UserWarning, match="could not be read"):
            written = note_inputs(pipe, X)["abnormal labs"]
        assert "Zebulon" not in written.str.cat()


def test_numbers_among_the_notes_are_not_shown(make, cohort):
    X = cohort.X.astype({cohort.note_column: object})
    X.iloc[3, -1] = 31337
    with pytest.raises(TypeError, match="row 3") as caught:
        make().fit(X, cohort.y)
    assert "31337" not in str(caught.value)


# Labs as text


def note_inputs(pipe, X):
    """What the note encoder of a fitted pipeline reads."""
    return pipe["encode"].named_transformers_["notes"]["texts"].transform(X)


def test_lab_text_stands_beside_the_note(cohort, text_pipe):
    encoder = text_pipe["encode"].named_transformers_["notes"]["encoder"]
    assert encoder.feature_names_in_.tolist() == ["note", "abnormal labs"]
    found = note_inputs(text_pipe, cohort.X)
    pd.testing.assert_series_equal(found["note"], cohort.X["note"])
    expected = LabTextSerializer().fit_transform(cohort.X[cohort.lab_columns])[:, 0]
    written = pd.notna(found["abnormal labs"])
    assert 0 < written.sum() < len(written)
    np.testing.assert_array_equal(written, pd.notna(expected))
    np.testing.assert_array_equal(found["abnormal labs"][written], expected[written])


def test_lab_text_adds_no_modality_and_no_width(cohort, pipe, text_pipe):
    widths = {name: len(columns) for name, columns in text_pipe["medfuse"].modalities_.items()}
    assert widths == {"labs": 4, "notes": 16}
    assert text_pipe[:-1].get_feature_names_out()[-1] == "notes__llmnoteencoder15"
    without = pipe
    assert not np.array_equal(text_pipe.predict_proba(cohort.X), without.predict_proba(cohort.X))


def test_a_lab_text_without_text_changes_nothing(make, cohort):
    all_normal = dict.fromkeys(cohort.lab_columns, (-1e9, 1e9))
    nothing_abnormal = LabTextSerializer(all_normal)
    pipe = make(views={"lab_text": nothing_abnormal}).fit(cohort.X, cohort.y)
    X = cohort.X.assign(note=None)
    assert np.isnan(pipe[:-1].transform(X).filter(like="notes__")).all(axis=None)


def test_a_stay_without_note_has_notes_from_its_abnormal_labs(cohort, text_pipe):
    X = cohort.X.assign(note=None)
    embedded = text_pipe[:-1].transform(X).filter(like="notes__").notna().all(axis=1)
    np.testing.assert_array_equal(embedded, note_inputs(text_pipe, X)["abnormal labs"].notna())


def test_nothing_at_all_with_lab_text(cohort, text_pipe):
    X = cohort.X.copy()
    X[:] = np.nan
    assert np.isfinite(text_pipe.predict_proba(X)).all()


def test_a_serializer_given_is_cloned(make, cohort):
    lab = cohort.lab_columns[0]
    serializer = LabTextSerializer({lab: (None, -1)}, column_name="labs", units={lab: "apples"})
    pipe = make(views={"lab_text": serializer}).fit(cohort.X, cohort.y)
    assert not hasattr(serializer, "low_")
    parameters = pipe.get_params()
    inside = parameters["encode__notes__texts__lab_text"]
    assert inside is not serializer
    assert inside.get_params() == serializer.get_params()
    assert "apples (high)" in note_inputs(pipe, cohort.X)["labs"].str.cat()


def test_lab_text_in_a_grid_search(make, cohort):
    search = GridSearchCV(
        make(views={"lab_text": True}),
        {"encode__notes__texts__lab_text__abnormal_only": [True, False]},
        cv=MultilabelStratifiedGroupKFold(2),
        scoring="average_precision",
        error_score="raise",
    )
    search.fit(cohort.X, cohort.y, groups=cohort.groups)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_qualitative_labs_as_text(make, cohort):
    lab = cohort.lab_columns[0]
    grades = np.where(np.arange(len(cohort.X)) % 50, "NEG", "3+")
    X = cohort.X.assign(**{lab: grades})
    pipe = make(views={"lab_text": True}).fit(X, cohort.y)
    written = note_inputs(pipe, X)["abnormal labs"].fillna("")
    np.testing.assert_array_equal(
        written.str.contains(f"{lab} 3+ (high)", regex=False), grades == "3+"
    )


def test_limits_of_lab_text_come_from_the_training_rows(make, cohort):
    pipe = make(views={"lab_text": True}).fit(cohort.X[:50], cohort.y[:50])
    texts = pipe["encode"].named_transformers_["notes"]["texts"]
    alone = LabTextSerializer().fit(cohort.X[cohort.lab_columns][:50])
    np.testing.assert_array_equal(texts.named_transformers_["lab_text"].low_, alone.low_)


def test_lab_text_with_a_note_column_in_a_list_and_the_seed(cohort, note_encoder):
    pipe = make_medfuse_pipeline(
        cohort.lab_columns,
        ["note"],
        note_encoder=note_encoder(),
        views={"lab_text": True},
        random_state=3,
    )
    assert pipe.get_params()["encode__labs__random_state"] == 3
    assert pipe["encode"].transformers[1][2] == ["note", *cohort.lab_columns]


def test_a_lab_text_of_another_kind_is_refused(cohort):
    with pytest.raises(TypeError, match=r"views\['lab_text'\] is of type str"):
        make_medfuse_pipeline(cohort.lab_columns, cohort.note_column, views={"lab_text": "yes"})


@pytest.mark.parametrize("lab_text", [False, True])
def test_a_cleaner_before_the_note_encoder(cohort, note_encoder, lab_text):
    notes = Pipeline([("clean", NoteCleaner()), ("embed", note_encoder())])
    pipe = make_medfuse_pipeline(
        cohort.lab_columns,
        cohort.note_column,
        lab_encoder=MaskedLabEncoder(**LABS, device="cpu"),
        note_encoder=notes,
        views={"lab_text": lab_text},
        random_state=0,
        **FUSE,
    )
    pipe.fit(cohort.X, cohort.y)
    assert np.isfinite(pipe.predict_proba(cohort.X)).all()
    assert list(pipe["medfuse"].modalities_) == ["labs", "notes"]


def test_a_saved_pipeline_with_lab_text_predicts_the_same(cohort, text_pipe):
    loaded = pickle.loads(pickle.dumps(text_pipe))
    np.testing.assert_array_equal(loaded.predict_proba(cohort.X), text_pipe.predict_proba(cohort.X))


def test_a_saved_pipeline_with_lab_text_holds_no_text(cohort, text_pipe):
    saved = pickle.dumps(text_pipe)
    read = note_inputs(text_pipe, cohort.X[:50])
    for text in [*read["note"].dropna(), *read["abnormal labs"].dropna()]:
        assert text[:40].encode() not in saved


# Words


def test_words_are_a_third_modality_of_one_scale(cohort, note_encoder):
    pipe = make_medfuse_pipeline(
        cohort.lab_columns,
        cohort.note_column,
        note_encoder=note_encoder(),
        views={"words": NoteWordEncoder(5), "lab_text": True},
        random_state=0,
        max_epochs=1,
    )
    encode = pipe.named_steps["encode"]
    assert [name for name, *_ in encode.transformers] == ["labs", "notes", "words"]
    # The note alone: the abnormal labs are written out for the language model
    assert encode.transformers[2][2] == cohort.note_column
    assert encode.transformers[2][1].random_state == 0
    assert pipe.named_steps["medfuse"].input_scaling == {"words": "block"}
    pipe.fit(cohort.X, cohort.y)
    assert list(pipe.named_steps["medfuse"].modalities_) == ["labs", "notes", "words"]
    without = cohort.X.assign(**{cohort.note_column: None})
    assert np.isfinite(pipe.predict_proba(without)).all()


def test_words_may_be_scaled_otherwise(cohort):
    pipe = make_medfuse_pipeline(
        cohort.lab_columns, cohort.note_column, views={"words": True}, input_scaling="column"
    )
    assert pipe.named_steps["medfuse"].input_scaling == "column"


# Boosted labs


def test_boosted_labs_are_a_further_modality(make, cohort):
    pipe = make(views={"boosted": STUMPS}, random_state=3)
    encode = pipe.named_steps["encode"]
    name, encoder, columns = encode.transformers[-1]
    assert (name, columns, encoder.random_state) == ("boosted", cohort.lab_columns, 3)
    assert STUMPS.random_state is None
    pipe.fit(cohort.X, cohort.y)
    widths = {name: len(block) for name, block in pipe["medfuse"].modalities_.items()}
    assert widths == {"labs": 4, "notes": 16, "boosted": 3}
    without = cohort.X.assign(**dict.fromkeys(cohort.lab_columns, np.nan))
    assert np.isfinite(pipe.predict_proba(without)).all()
    loaded = pickle.loads(pickle.dumps(pipe))
    np.testing.assert_array_equal(loaded.predict_proba(cohort.X), pipe.predict_proba(cohort.X))


def test_the_classifier_learns_from_logits_of_rows_held_out(make, cohort):
    pipe = make(views={"boosted": STUMPS})
    pipe.fit(cohort.X, cohort.y)
    held_out = clone(pipe[0]).fit_transform(cohort.X, cohort.y).filter(like="boosted__")
    medfuse = pipe["medfuse"]
    place = medfuse.modalities_["boosted"]
    np.testing.assert_allclose(medfuse._model.scaler.mean[place], held_out.mean())
    seen = pipe[0].transform(cohort.X).filter(like="boosted__")
    assert not np.allclose(seen.mean(), held_out.mean(), atol=1e-6)


def test_a_search_fits_the_boosted_labs_once_a_fold(make, cohort, tmp_path, monkeypatch):
    fits = []
    fit_transform = BoostedLabEncoder.fit_transform

    @wraps(fit_transform)
    def count(self, *args, **params):
        fits.append(1)
        return fit_transform(self, *args, **params)

    monkeypatch.setattr(BoostedLabEncoder, "fit_transform", count)
    pipe = make(views={"boosted": STUMPS}, memory=PrivateMemory(tmp_path))
    search = GridSearchCV(
        pipe,
        {"medfuse__mi_weight": [0.0, 0.1]},
        cv=MultilabelStratifiedGroupKFold(2),
        scoring="average_precision",
        refit=False,
    ).fit(cohort.X, cohort.y, groups=cohort.groups)
    assert len(fits) == 2
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


# Words that labels weigh


def test_naive_bayes_notes_are_a_further_modality(make, cohort):
    given = NaiveBayesNoteEncoder(0.1)
    encoders = []
    for choice in (True, given):
        pipe = make(views={"naive_bayes": choice, "lab_text": True}, random_state=3)
        name, encoder, column = pipe.named_steps["encode"].transformers[-1]
        assert (name, column, encoder.random_state) == ("naive_bayes", cohort.note_column, 3)
        encoders.append(encoder)
    assert [encoder.C for encoder in encoders] == [0.01, 0.1]
    assert given.random_state is None
    pipe = make(views={"boosted": STUMPS, "naive_bayes": True}).fit(cohort.X, cohort.y)
    widths = {name: len(block) for name, block in pipe["medfuse"].modalities_.items()}
    assert widths == {"labs": 4, "notes": 16, "boosted": 3, "naive_bayes": 3}
    without = cohort.X.assign(**{cohort.note_column: None})
    assert np.isfinite(pipe.predict_proba(without)).all()
    loaded = pickle.loads(pickle.dumps(pipe))
    np.testing.assert_array_equal(loaded.predict_proba(cohort.X), pipe.predict_proba(cohort.X))
