"""A made cohort with canaries in notes, identifiers and results, and what is fitted on it."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier

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
    make_medfuse_pipeline,
)
from sklearn_medfuse.datasets import Cohort, make_ehr_cohort
from sklearn_medfuse.inspection import (
    lab_attributions,
    lab_counterfactual,
    note_attributions,
    panel_importance,
)

from .leaks import TEXTS, VALUE

# No other number in the suite, so that an array of rows is known by its length
N_STAYS = 67
LABS = ("color", "rare lab")


def plant(cohort: Cohort) -> Cohort:
    """Name stays, patients and hospitals by canaries, and put others into one patient's results."""
    stays = pd.Index([f"{TEXTS['stay']}-{i}" for i in range(len(cohort.X))], name="stay_id")
    # What the stays were made of cannot be written as a cohort
    fields = {name: each for name, each in cohort.items() if name != "factors"}
    for name in ("X", "y", "subgroups", "groups", "hospitals", "index_times"):
        fields[name] = cohort[name].set_axis(stays)
    fields["stay_ids"] = stays.to_numpy()
    # Each patient has two stays
    patients = [f"{TEXTS['patient']}-{i // 2}" for i in range(len(stays))]
    fields["groups"] = pd.Series(patients, stays, name="patient_id")
    hospitals = [f"{TEXTS['hospital']}-{i % 3}" for i in range(len(stays))]
    fields["hospitals"] = pd.Series(hospitals, stays, name="hospital")
    X = fields["X"].copy()
    notes = X["note"].astype(object)
    notes.iloc[:2] = [f"Skin intact. Seen by {TEXTS['note']}.\n\nStable."] * 2
    color = np.where(np.arange(len(X)) % 3, "NEG", "POS").astype(object)
    color[:2] = TEXTS["level"]
    X = X.drop(columns="note").assign(color=color, **{"rare lab": np.nan}, note=notes)
    first = cohort.lab_columns[0]
    X.loc[X.index[0], [first, "rare lab"]] = VALUE
    X.loc[X.index[1], "rare lab"] = VALUE
    fields["X"], fields["lab_columns"] = X, [*cohort.lab_columns, *LABS]
    fields["units"] = {**cohort.units, **dict.fromkeys(LABS, "")}
    ward = ["ICU" if i % 2 else "ward" for i in range(len(stays))]
    ward[:2] = [TEXTS["note"]] * 2
    fields["subgroups"] = fields["subgroups"].assign(ward=ward)
    return Cohort(**fields)


def small(cohort, model):
    """Small estimators of each kind, unfitted, talkative."""
    net = {"d_model": 8, "n_heads": 2, "device": "cpu", "random_state": 0, "verbose": 1}
    words = NoteWordEncoder(4, random_state=0)
    return SimpleNamespace(
        labs=MaskedLabEncoder(4, n_layers=1, n_factors=3, max_epochs=2, **net),
        boosted=BoostedLabEncoder(
            HistGradientBoostingClassifier(max_iter=3, random_state=0), cv=2, random_state=0
        ),
        text=LabTextSerializer(),
        notes=LLMNoteEncoder(model, dtype="float32", device="cpu", random_state=0, verbose=1),
        words=words,
        naive_bayes=NaiveBayesNoteEncoder(cv=2, random_state=0),
        tables=TableEncoder(),
        cleaner=NoteCleaner(drop_sections=["social history"]),
        fuse=MEDFuseClassifier(n_estimators=1, max_epochs=2, n_tokens=2, **net),
        pipe=make_medfuse_pipeline(
            cohort.lab_columns,
            "note",
            views={},
            lab_encoder=MaskedLabEncoder(4, n_layers=1, n_factors=3, max_epochs=2, **net),
            note_encoder=words,
            n_estimators=1,
            max_epochs=2,
            **net,
        ),
    )


@pytest.fixture(scope="session")
def world(tiny_bert):
    """The cohort, and estimators fitted on it."""
    made = make_ehr_cohort(N_STAYS, n_labels=2, n_hospitals=3, random_state=3)
    cohort = plant(made)
    X, y = cohort.X, cohort.y
    w = small(cohort, tiny_bert)
    w.cohort, w.X, w.y, w.groups, w.hospitals = cohort, X, y, cohort.groups, cohort.hospitals
    w.model = tiny_bert
    w.lab_columns = cohort.lab_columns
    w.labs_X, w.notes_X = X[cohort.lab_columns], X["note"]
    w.table_X = cohort.subgroups.assign(rare=X["rare lab"])
    w.numeric_labs = X[[name for name in cohort.lab_columns if name not in LABS]]
    rng = np.random.default_rng(0)
    w.Z = pd.DataFrame(rng.normal(size=(N_STAYS, 6)), X.index)
    w.Z.columns = [f"{block}__{i}" for block in ("labs", "notes") for i in range(3)]
    # A block that one stay alone has, with its value
    w.Z["rare__0"] = np.nan
    w.Z.iloc[0, 6] = VALUE
    w.Z.iloc[0, 0] = VALUE
    w.scores = pd.DataFrame(rng.uniform(0.1, 0.9, size=y.shape), X.index, y.columns)
    w.trained_on = cohort.select(np.arange(N_STAYS) >= 40)
    w.evaluated = cohort.select(np.arange(N_STAYS) < 40)
    numeric = list(w.numeric_labs)
    w.numeric_cohort = Cohort(**{**cohort, "X": X[[*numeric, "note"]], "lab_columns": numeric})
    # Some of a hospital's patients were nowhere else
    w.patients = pd.Series([f"{TEXTS['patient']}-{i}" for i in range(N_STAYS)], X.index)
    w.times = pd.Series(pd.date_range("2020-01-01", periods=N_STAYS, freq="D"), X.index)
    return w


@pytest.fixture(scope="session")
def fitted(world):
    """The same estimators, fitted, and explanations of the pipeline."""
    from sklearn.base import clone

    with pytest.warns(UserWarning, match="fewer than"):
        f = SimpleNamespace(
            tables=clone(world.tables).fit(world.table_X, groups=world.groups),
            labs=clone(world.labs).fit(world.labs_X),
            pipe=clone(world.pipe).fit(world.X, world.y),
        )
    f.numeric = clone(world.labs).fit(world.numeric_labs)
    with pytest.warns(UserWarning, match="could not be read"):
        f.boosted = clone(world.boosted).fit(world.labs_X, world.y)
    f.text = clone(world.text).fit(world.labs_X)
    f.notes = clone(world.notes).fit(world.notes_X)
    f.words = clone(world.words).fit(world.notes_X)
    f.naive_bayes = clone(world.naive_bayes).fit(world.notes_X, world.y)
    f.cleaner = clone(world.cleaner).fit(world.notes_X)
    f.fuse = clone(world.fuse).fit(world.Z, world.y)
    few = world.X.iloc[[0, 2, 3]]
    first = world.lab_columns[0]
    f.few = few
    f.lab_attributions = lab_attributions(
        f.pipe, few, world.lab_columns, n_permutations=1, random_state=0
    )
    f.note_attributions = note_attributions(f.pipe, few, "note")
    f.counterfactual = lab_counterfactual(f.pipe, few, first, n_values=3)
    f.panels = {"first": [first], "rest": world.lab_columns[1:3]}
    f.panel_importance = panel_importance(
        f.pipe, world.X, world.y, f.panels, n_repeats=1, random_state=0
    )
    return f
