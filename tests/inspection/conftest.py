"""A pipeline fitted on made stays, whose labels come from known factors."""

import numpy as np
import pytest

from sklearn_medfuse import MaskedLabEncoder, NoteWordEncoder, make_medfuse_pipeline
from sklearn_medfuse.datasets import make_ehr_cohort

FUSE = {"d_model": 16, "n_heads": 2, "n_estimators": 1, "max_epochs": 8, "device": "cpu"}
LABS = {"d_model": 16, "n_heads": 2, "n_layers": 1, "n_components": 16, "n_factors": 8}


@pytest.fixture(scope="session")
def cohort():
    return make_ehr_cohort(600, n_labels=2, random_state=0)


@pytest.fixture(scope="session")
def pipe(cohort):
    pipe = make_medfuse_pipeline(
        cohort.lab_columns,
        cohort.note_column,
        views={},
        lab_encoder=MaskedLabEncoder(**LABS, max_epochs=3, device="cpu"),
        note_encoder=NoteWordEncoder(40),
        random_state=0,
        **FUSE,
    )
    return pipe.fit(cohort.X[:500], cohort.y[:500])


@pytest.fixture(scope="session")
def stays(cohort):
    """A hundred stays that the pipeline was not fitted on, one without labs, one without a note."""
    X = cohort.X[500:].copy()
    X["note"] = X["note"].fillna("Skin intact.")
    X.loc[X.index[0], cohort.lab_columns] = np.nan
    X.loc[X.index[1], "note"] = None
    return X
