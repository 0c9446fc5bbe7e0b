"""Saved estimators predict the same bits in another process and hold nothing they should not."""

import io
import os
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import skops.io

import sklearn_medfuse
from sklearn_medfuse import (
    MaskedLabEncoder,
    MEDFuseClassifier,
    _state,
    make_medfuse_pipeline,
)

ROOT = Path(sklearn_medfuse.__file__).parents[1]
NAME = "Zebulon Quixote"
VALUE = 31337.421875
FUSE = {"d_model": 8, "n_heads": 2, "n_estimators": 2, "max_epochs": 2, "device": "cpu"}
LAB_NAMES = ["a", "b", "c"]

LOAD_AND_PREDICT = """
import sys
import joblib, numpy as np, pandas as pd, skops.io

file, data, method, result = sys.argv[1:]
if file.endswith(".skops"):
    model = skops.io.load(file, trusted=skops.io.get_untrusted_types(file=file))
else:
    model = joblib.load(file)
np.save(result, getattr(model, method)(joblib.load(data)))
"""


@pytest.fixture
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


@pytest.fixture
def y():
    return pd.DataFrame(np.random.default_rng(1).integers(0, 2, (30, 2)), columns=["CHF", "COPD"])


@pytest.fixture(params=["labs", "notes", "fuse", "pipeline"])
def case(request, table, y, note_encoder):
    """A fitted estimator, what it takes, and its method to compare."""
    labs = MaskedLabEncoder(
        n_components=4, d_model=8, n_heads=2, n_layers=1, max_epochs=2, device="cpu", random_state=0
    )
    if request.param == "labs":
        X = table[LAB_NAMES]
        return labs.fit(X), X, "transform"
    if request.param == "notes":
        X = table["note"]
        return note_encoder().fit(X), X, "transform"
    if request.param == "fuse":
        X = np.random.default_rng(2).normal(size=(30, 5))
        X[3, :2] = np.nan
        modalities = {"labs": 2, "notes": slice(2, None)}
        fuse = MEDFuseClassifier(**FUSE, modalities=modalities, random_state=0)
        return fuse.fit(X, y), X, "predict_proba"
    pipe = make_medfuse_pipeline(
        LAB_NAMES,
        "note",
        lab_encoder=labs,
        note_encoder=note_encoder(),
        random_state=0,
        **FUSE,
    )
    return pipe.fit(table, y), table, "predict_proba"


def in_another_process(folder, file, X, method):
    joblib.dump(X, folder / "X.joblib")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    # sums over several threads round in another order; the tests run on one
    environment |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    arguments = [str(file), str(folder / "X.joblib"), method, str(folder / "result.npy")]
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", LOAD_AND_PREDICT, *arguments],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return np.load(folder / "result.npy")


def save(model, folder, ending):
    file = folder / f"model.{ending}"
    (skops.io if ending == "skops" else joblib).dump(model, file)
    return file


@pytest.mark.parametrize("ending", ["joblib", "skops"])
def test_the_same_bits_in_another_process(case, ending, tmp_path):
    model, X, method = case
    expected = getattr(model, method)(X)
    found = in_another_process(tmp_path, save(model, tmp_path, ending), X, method)
    np.testing.assert_array_equal(found, expected)


def test_new_rows_give_the_same_bits_in_another_process(table, note_encoder, tmp_path):
    """In this process some windows of the new rows are known already, in the other one none is."""
    notes = [f"{note}\n\nSeen in clinic {i}." for i, note in enumerate(table["note"].fillna("x"))]
    model = note_encoder().fit(notes)
    model.transform(notes[::2])
    expected = model.transform(notes)
    found = in_another_process(tmp_path, save(model, tmp_path, "joblib"), notes, "transform")
    np.testing.assert_array_equal(found, expected)


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


@pytest.mark.parametrize("ending", ["joblib", "skops"])
@pytest.mark.parametrize("case", ["labs", "notes", "fuse"], indirect=True)
def test_parameters_that_the_file_does_not_know_have_their_defaults(case, ending, tmp_path):
    model, X, method = case
    expected = getattr(model, method)(X)
    defaults = type(model)().get_params()
    # as if an earlier version had written it, before these came
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
