"""Saved estimators predict the same bits in another process and hold nothing they should not."""

import io
import os
import subprocess
import sys
from copy import deepcopy
from functools import partial
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, StackingClassifier, VotingClassifier
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV, RepeatedKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

import sklearn_medfuse
from sklearn_medfuse import (
    BoostedLabEncoder,
    LabTextSerializer,
    LLMNoteEncoder,
    MaskedLabEncoder,
    MEDFuseClassifier,
    NaiveBayesNoteEncoder,
    NoteCleaner,
    NoteWordEncoder,
    TableEncoder,
    _state,
    make_medfuse_pipeline,
)
from sklearn_medfuse.metrics import get_scorer
from sklearn_medfuse.model_selection import (
    MultilabelStratifiedGroupKFold,
    MultilabelStratifiedKFold,
)
from sklearn_medfuse.persistence import PrivateMemory, load_model, save_model, trusted_types
from sklearn_medfuse.pipeline import MEDFusePipeline

ROOT = Path(sklearn_medfuse.__file__).parents[1]
NAME = "Zebulon Quixote"
VALUE = 31337.421875
FUSE = {"d_model": 8, "n_heads": 2, "n_estimators": 2, "max_epochs": 2, "device": "cpu"}
LAB_NAMES = ["a", "b", "c"]

LOAD_AND_PREDICT = """
import sys
import joblib, skops.io

jobs, results = sys.argv[1:]
found = []
for file, X, method in joblib.load(jobs):
    if file.endswith(".skops"):
        model = skops.io.load(file, trusted=skops.io.get_untrusted_types(file=file))
    else:
        model = joblib.load(file)
    found.append(getattr(model, method)(X))
joblib.dump(found, results)
"""


@pytest.fixture(scope="module")
def table():
    """Thirty stays; one of them has a canary for a name and a lab value."""
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(30, 3)), columns=LAB_NAMES)
    X[rng.random(X.shape) < 0.3] = np.nan
    X.loc[0, "a"] = VALUE
    X["note"] = [f"Patient {i}, history of COPD and {'CHF' * (i % 3)}." for i in range(30)]
    X.loc[0, "note"] = f"Patient {NAME}."
    X.loc[1, "note"] = None
    X.loc[2, LAB_NAMES] = np.nan
    return X


@pytest.fixture(scope="module")
def y():
    return pd.DataFrame(np.random.default_rng(1).integers(0, 2, (30, 2)), columns=["CHF", "COPD"])


@pytest.fixture(scope="module")
def cases(table, y, tiny_bert):
    """By name: a fitted estimator, its input, and the method to compare."""
    labs = MaskedLabEncoder(
        n_components=4, d_model=8, n_heads=2, n_layers=1, max_epochs=2, device="cpu", random_state=0
    )
    notes = LLMNoteEncoder(tiny_bert, dtype="float32", device="cpu")
    vectors = np.random.default_rng(2).normal(size=(30, 5))
    vectors[3, :2] = np.nan
    modalities = {"labs": 2, "notes": slice(2, None)}
    fuse = MEDFuseClassifier(**FUSE, modalities=modalities, random_state=0)
    pipe = make_medfuse_pipeline(
        LAB_NAMES, "note", views={}, lab_encoder=labs, note_encoder=notes, random_state=0, **FUSE
    )
    return {
        "labs": (clone(labs).fit(table[LAB_NAMES]), table[LAB_NAMES], "transform"),
        "notes": (clone(notes).fit(table["note"]), table["note"], "transform"),
        "fuse": (fuse.fit(vectors, y), vectors, "predict_proba"),
        "pipeline": (pipe.fit(table, y), table, "predict_proba"),
    }


@pytest.fixture(params=["labs", "notes", "fuse", "pipeline"])
def case(request, cases):
    return cases[request.param]


@pytest.fixture(scope="module")
def new_rows(table, cases):
    notes = [f"{note}\n\nSeen in clinic {i}." for i, note in enumerate(table["note"].fillna("x"))]
    return clone(cases["notes"][0]).fit(notes), notes, "transform"


@pytest.fixture(scope="module")
def in_another_process(cases, new_rows, tmp_path_factory):
    """By name and ending: what one other process predicts with each saved estimator."""
    folder = tmp_path_factory.mktemp("saved")
    files = {
        (name, ending): (save(case[0], folder, ending, name), *case[1:])
        # First, so that this process knows none of their windows yet
        for name, case in ({"new rows": new_rows} | cases).items()
        for ending in ("joblib", "skops")
    }
    joblib.dump([(str(file), *rest) for file, *rest in files.values()], folder / "jobs")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    # Sums over several threads round in another order; the tests run on one
    environment |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    arguments = [str(folder / "jobs"), str(folder / "results")]
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", LOAD_AND_PREDICT, *arguments],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(zip(files, joblib.load(folder / "results"), strict=True))


def save(model, folder, ending, name="model"):
    file = folder / f"{name}.{ending}"
    (skops.io if ending == "skops" else joblib).dump(model, file)
    return file


@pytest.mark.parametrize("ending", ["joblib", "skops"])
@pytest.mark.parametrize("name", ["labs", "notes", "fuse", "pipeline"])
def test_the_same_bits_in_another_process(cases, in_another_process, name, ending):
    model, X, method = cases[name]
    np.testing.assert_array_equal(in_another_process[name, ending], getattr(model, method)(X))


def test_a_new_process_loads_without_what_only_training_needs(cases, tmp_path):
    """To import torch._dynamo and transformers takes longer than all the rest of loading."""
    save_model(cases["pipeline"][0], tmp_path / "model.skops")
    program = (
        "import sys; from sklearn_medfuse.persistence import load_model; "
        "load_model('model.skops'); print({'torch._dynamo', 'transformers'} & {*sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "set()"


def test_new_rows_give_the_same_bits_in_another_process(new_rows, in_another_process):
    """In this process some windows of the new rows are known already, in the other one none is."""
    model, notes, _ = new_rows
    model.transform(notes[::2])
    expected = model.transform(notes)
    np.testing.assert_array_equal(in_another_process["new rows", "joblib"], expected)


def test_skops_needs_no_trusted_type_but_ours(case, tmp_path):
    file = save(case[0], tmp_path, "skops")
    untrusted = skops.io.get_untrusted_types(file=file)
    assert untrusted
    assert all(name.startswith("sklearn_medfuse.") for name in untrusted)


PLAIN = str | bytes | int | float | bool | None | np.ndarray | np.generic | slice


def values_in(state):
    if isinstance(state, dict):
        for key, value in state.items():
            yield key
            yield from values_in(value)
    elif isinstance(state, list | tuple):
        for value in state:
            yield from values_in(value)
    else:
        yield state


def estimators_in(model):
    if not hasattr(model, "steps"):
        return [model]
    return [*model["encode"].named_transformers_.values(), model["medfuse"]]


def test_state_is_plain(case):
    for estimator in estimators_in(case[0]):
        for value in values_in(estimator.__getstate__()):
            assert isinstance(value, PLAIN), type(value)
            assert (
                not isinstance(value, np.ndarray)
                or value.dtype.kind in "biufU"
                or (all(isinstance(item, str) for item in value))
            )


def test_taking_the_state_leaves_the_estimator_as_it_was(case):
    model, X, method = case
    before = getattr(model, method)(X)
    keys = [set(vars(estimator)) for estimator in estimators_in(model)]
    joblib.dump(model, io.BytesIO())
    assert [set(vars(estimator)) for estimator in estimators_in(model)] == keys
    np.testing.assert_array_equal(getattr(model, method)(X), before)


def test_a_loaded_estimator_can_be_saved_again(case, tmp_path):
    model, X, method = case
    loaded = joblib.load(save(model, tmp_path, "joblib"))
    again = joblib.load(save(loaded, tmp_path, "joblib"))
    np.testing.assert_array_equal(getattr(again, method)(X), getattr(model, method)(X))


def test_a_loaded_estimator_can_be_fitted_again(case, tmp_path, y):
    model, X, method = case
    loaded = joblib.load(save(model, tmp_path, "joblib")).fit(X, y)
    np.testing.assert_array_equal(getattr(loaded, method)(X), getattr(model, method)(X))


def test_another_version_is_warned_of(case, tmp_path, monkeypatch):
    model, X, method = case
    file = save(model, tmp_path, "joblib")
    monkeypatch.setattr(_state, "__version__", "99.0")
    with pytest.warns(UserWarning, match=r"was saved by sklearn-medfuse .* loaded by 99\.0"):
        loaded = joblib.load(file)
    np.testing.assert_array_equal(getattr(loaded, method)(X), getattr(model, method)(X))


def test_the_same_version_is_not_warned_of(case, tmp_path):
    joblib.load(save(case[0], tmp_path, "joblib"))


@pytest.mark.parametrize("ending", ["joblib", "skops"])
@pytest.mark.parametrize("case", ["labs", "notes", "pipeline"], indirect=True)
def test_no_note_and_no_lab_value_is_saved(case, ending, tmp_path):
    model, X, method = case
    getattr(model, method)(X)
    dumped = save(model, tmp_path, ending).read_bytes()
    for canary in (NAME.encode(), np.float64(VALUE).tobytes(), str(VALUE).encode()):
        assert canary not in dumped
    shown = repr(model) + model._repr_html_() + "".join(map(repr, values_in(vars(model))))
    assert NAME not in shown
    assert str(VALUE) not in shown


def test_an_unfitted_estimator_is_saved_with_its_parameters(note_encoder, tmp_path):
    for estimator in (MaskedLabEncoder(d_model=8), MEDFuseClassifier(d_model=8), note_encoder()):
        loaded = joblib.load(save(estimator, tmp_path, "joblib"))
        assert loaded.get_params() == estimator.get_params()


def small_pipeline(*views):
    labs = MaskedLabEncoder(4, d_model=8, n_heads=2, n_layers=1, max_epochs=1, device="cpu")
    views = [("labs", labs, LAB_NAMES), ("words", NoteWordEncoder(3), "note"), *views]
    encode = ColumnTransformer(views).set_output(transform="pandas")
    return MEDFusePipeline([("encode", encode), ("medfuse", MEDFuseClassifier(**FUSE))])


GRID = {"medfuse__mi_weight": [0.0]}
SEARCHES = {
    "search of README": {"cv": MultilabelStratifiedGroupKFold(2), "scoring": "average_precision"},
    "ours": {"cv": MultilabelStratifiedKFold(2), "scoring": get_scorer("macro_auroc")},
    "several scorers": {
        "cv": 2,
        "scoring": {"a": get_scorer("neg_multilabel_log_loss"), "b": "roc_auc"},
        "refit": "a",
    },
    "no scorer": {"cv": RepeatedKFold(n_splits=2, n_repeats=1, random_state=0)},
    "random": {"n_iter": 1, "cv": 2, "random_state": np.random.RandomState(0)},
}


def search(name):
    search_class = RandomizedSearchCV if name == "random" else GridSearchCV
    return search_class(small_pipeline(), GRID, **SEARCHES[name])


# Every public class and view, and what scikit-learn builds around a pipeline: name -> estimator
SAVED = {
    "MaskedLabEncoder": lambda: MaskedLabEncoder(2, max_epochs=1, device="cpu"),
    "BoostedLabEncoder": lambda: BoostedLabEncoder(cv=2, random_state=0),
    "LabTextSerializer": LabTextSerializer,
    "NoteCleaner": NoteCleaner,
    "NoteWordEncoder": lambda: NoteWordEncoder(3),
    "NaiveBayesNoteEncoder": lambda: NaiveBayesNoteEncoder(cv=2),
    "MEDFuseClassifier": lambda: MEDFuseClassifier(**FUSE),
    "TableEncoder": lambda: TableEncoder(min_patients=2),
    # Every view, and ordinary columns
    "MEDFusePipeline": lambda: make_medfuse_pipeline(
        LAB_NAMES[:2],
        "note",
        tables={"other": ["c"]},
        lab_encoder=MaskedLabEncoder(2, max_epochs=1, device="cpu"),
        note_encoder=NoteWordEncoder(2),
        random_state=0,
        **FUSE,
    ),
    "every view": lambda: small_pipeline(
        ("boosted", BoostedLabEncoder(cv=2, random_state=0), LAB_NAMES),
        ("naive_bayes", NaiveBayesNoteEncoder(cv=2), "note"),
        ("lab_text", make_pipeline(LabTextSerializer(), NoteWordEncoder(2)), LAB_NAMES),
    ),
    **{name: partial(search, name) for name in SEARCHES},
    "calibrated": lambda: CalibratedClassifierCV(small_pipeline(), cv=2),
    "stacked": lambda: StackingClassifier(
        [
            ("a", small_pipeline()),
            (
                "b",
                make_pipeline(
                    make_column_transformer(("passthrough", LAB_NAMES)),
                    HistGradientBoostingClassifier(max_iter=2),
                ),
            ),
        ],
        cv=2,
    ),
    "voting": lambda: VotingClassifier([("a", small_pipeline())], voting="soft"),
}
OF_ONE_LABEL = {"calibrated", "stacked", "voting"}


def input_of(name, table):
    if name in ("LabTextSerializer", "MaskedLabEncoder", "BoostedLabEncoder", "TableEncoder"):
        return table[LAB_NAMES]
    if name.startswith(("Note", "NaiveBayes")):
        return table["note"]
    return table[LAB_NAMES].fillna(0) if name == "MEDFuseClassifier" else table


def output_of(model, X):
    return (model.predict_proba if hasattr(model, "predict_proba") else model.transform)(X)


def test_every_public_estimator_is_saved_here():
    """`LLMNoteEncoder` and `make_medfuse_pipeline` are among the cases above."""
    public = {name for name in sklearn_medfuse.__all__ if name[0].isupper()}
    assert public - {"LLMNoteEncoder"} <= set(SAVED)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
@pytest.mark.parametrize("name", SAVED)
def test_load_model_reads_what_save_model_writes(name, table, y, tmp_path):
    X = input_of(name, table).iloc[3:]
    target = y.iloc[3:]["CHF"] if name in OF_ONE_LABEL else y.iloc[3:]
    model = SAVED[name]()
    groups = {"groups": np.arange(len(X)) // 2} if name == "search of README" else {}
    model.fit(X, target, **groups)
    expected, file = output_of(model, X), tmp_path / "model.skops"
    save_model(model, file)
    loaded = load_model(file)
    assert type(loaded) is type(model)
    np.testing.assert_array_equal(output_of(loaded, X), expected)
    by_skops = skops.io.load(file, trusted=trusted_types(model))
    np.testing.assert_array_equal(output_of(by_skops, X), expected)


def test_load_model_reads_the_cases(case, tmp_path):
    model, X, method = case
    save_model(model, tmp_path / "model.skops")
    loaded = load_model(tmp_path / "model.skops")
    np.testing.assert_array_equal(getattr(loaded, method)(X), getattr(model, method)(X))


def test_trusted_types_names_no_type_of_others():
    steps = [("words", NoteWordEncoder()), ("own", FunctionTransformer(output_of))]
    assert trusted_types(Pipeline(steps)) == ["sklearn_medfuse.notes._note_words.NoteWordEncoder"]


def test_a_cache_is_not_saved(tmp_path):
    memory = PrivateMemory(tmp_path / "cache")
    pipe = Pipeline([("scale", StandardScaler())], memory=memory)
    save_model(pipe, tmp_path / "model.skops")
    assert pipe.memory is memory
    assert load_model(tmp_path / "model.skops").memory is None
    assert b"cache" not in (tmp_path / "model.skops").read_bytes()


def test_load_model_reads_an_object_that_stands_in_several_places(tmp_path):
    shared = StandardScaler().fit(np.arange(6.0).reshape(3, 2))
    save_model(Pipeline([("once", shared), ("again", shared)]), tmp_path / "model.skops")
    loaded = load_model(tmp_path / "model.skops")
    assert loaded["once"] is loaded["again"]
    np.testing.assert_array_equal(loaded["once"].mean_, shared.mean_)


@pytest.mark.parametrize("ending", ["joblib", "skops"])
@pytest.mark.parametrize("case", ["labs", "notes", "fuse"], indirect=True)
def test_parameters_that_the_file_does_not_know_have_their_defaults(case, ending, tmp_path):
    model, X, method = deepcopy(case[0]), *case[1:]
    expected = getattr(model, method)(X)
    defaults = type(model)().get_params()
    # As if an earlier version had written it, before these came
    newer = [name for name, value in model.get_params().items() if value == defaults[name]]
    for name in newer:
        delattr(model, name)
    file = save(model, tmp_path, ending)
    loaded = joblib.load(file) if ending == "joblib" else load_skops(file)
    assert len(newer) > 10
    assert {name: getattr(loaded, name) for name in newer} == {n: defaults[n] for n in newer}
    np.testing.assert_array_equal(getattr(loaded, method)(X), expected)


def load_skops(file):
    return skops.io.load(file, trusted=skops.io.get_untrusted_types(file=file))
