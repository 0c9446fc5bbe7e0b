"""The reader's way stays short: how many files of the package a call runs through."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import sklearn_medfuse
from sklearn_medfuse import LLMNoteEncoder, MaskedLabEncoder, MEDFuseClassifier
from sklearn_medfuse import make_medfuse_pipeline as make_pipeline
from sklearn_medfuse.datasets import load_mimic3, make_ehr_cohort

from .ehr_tables import write_ehr_tables

PACKAGE = Path(sklearn_medfuse.__file__).parent
LABS = {"max_epochs": 2, "n_components": 4, "d_model": 8, "n_heads": 2, "n_layers": 1}
FUSE = {"d_model": 8, "n_heads": 2, "n_estimators": 2, "max_epochs": 2}


def files_of(call):
    """Files of the package in which a function runs during the call."""
    files = set()

    def note(frame, event, _):
        code = frame.f_code
        if event == "call" and code.co_name != "<module>":
            files.add(code.co_filename)

    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(None)
    inside = (Path(file) for file in files)
    return sorted(str(file.relative_to(PACKAGE)) for file in inside if PACKAGE in file.parents)


@pytest.fixture(scope="module")
def stays():
    """Labs with gaps, notes with gaps, three labels."""
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(40, 3)), columns=["a", "b", "c"]).where(
        rng.random((40, 3)) < 0.8
    )
    X["note"] = ["Known COPD.", None, "Denies pain.", "On oxygen."] * 10
    return X, rng.integers(0, 2, (40, 3))


def test_the_way_through_the_classifier(stays):
    X, y = stays
    classifier = MEDFuseClassifier(modalities={"labs": 2, "notes": 1}, **FUSE, device="cpu")
    table = X[["a", "b", "c"]].fillna(0.0).to_numpy()
    way = files_of(lambda: classifier.fit(table, y))
    assert len(way) <= 10, way
    way = files_of(lambda: classifier.predict_proba(table))
    assert len(way) <= 6, way


def test_the_way_through_the_lab_encoder(stays):
    X, _ = stays
    encoder = MaskedLabEncoder(**LABS, device="cpu")
    way = files_of(lambda: encoder.fit(X[["a", "b", "c"]]))
    assert len(way) <= 9, way


def test_the_way_through_the_pipeline(stays, tiny_bert):
    X, y = stays
    pipe = make_pipeline(
        ["a", "b", "c"],
        "note",
        views={},
        lab_encoder=MaskedLabEncoder(**LABS, device="cpu"),
        note_encoder=LLMNoteEncoder(tiny_bert, device="cpu"),
        **FUSE,
    )
    way = files_of(lambda: pipe.fit(X, y))
    assert len(way) <= 25, "\n".join(way)


def test_the_way_through_a_loader(tmp_path):
    cohort = make_ehr_cohort(60, random_state=0)
    write_ehr_tables(cohort, tmp_path, "mimic3", suffix=".csv")
    way = files_of(lambda: load_mimic3(tmp_path))
    assert len(way) <= 10, "\n".join(way)


def test_a_file_that_is_run_through_is_found(stays):
    X, _ = stays
    way = files_of(lambda: MaskedLabEncoder(**LABS, device="cpu").fit(X[["a", "b", "c"]]))
    assert "labs/_masked_lab.py" in way
    assert "fusion/_classifier.py" not in way
