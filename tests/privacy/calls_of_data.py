"""How the suite calls loaders, cohorts, caches and model cards."""

import numpy as np
from sklearn.base import clone

from sklearn_medfuse import datasets
from sklearn_medfuse.datasets import Cohort, phenotypes
from sklearn_medfuse.persistence import (
    PrivateMemory,
    load_model,
    model_card,
    save_model,
    trusted_types,
)

from ..datasets.conftest import write_tables
from ..datasets.formats import (
    as_clif,
    as_meds,
    as_mimic3,
    as_mimic4,
    as_omop,
    long_tables,
    meds_tables,
    with_icd9,
    write_meds,
)
from ..ehr_tables import write_ehr_tables
from .leaks import TEXTS, VALUE
from .public import Call


def planted_tables(texts_as_ids: bool):
    """Long tables with canaries in notes, results and, where they may be texts, identifiers."""
    tables = with_icd9(long_tables(n_labs=200, n_notes=40))
    tables["notes"]["text"] += f" Seen by {TEXTS['note']}."
    tables["labs"].loc[tables["labs"].index[::9], "value"] = VALUE
    if texts_as_ids:
        for frame in tables.values():
            for column, canary in (("stay_id", "stay"), ("patient_id", "patient")):
                if column in frame:
                    frame[column] = [
                        None if each is None or each != each else f"{TEXTS[canary]}-{each}"
                        for each in frame[column].astype(object).where(frame[column].notna(), None)
                    ]
    return tables


def write_source(name: str, folder):
    """Write the files of a source; returns the arguments that load them."""
    if name == "load_eicu":
        made = datasets.make_ehr_cohort(30, n_labels=2, random_state=0)
        X = made.X.assign(note=made.X["note"].astype(object) + f" Seen by {TEXTS['note']}.")
        X.iloc[::5, 0] = VALUE
        cohort = Cohort(**{**made, "X": X})
        write_ehr_tables(cohort, folder / "eicu", "eicu", suffix=".csv", random_state=0)
        return {"path": folder / "eicu"}
    if name == "load_meds":
        tables = meds_tables()
        tables["notes"]["text"] += f" Seen by {TEXTS['note']}."
        return {"path": write_meds(folder / "meds", as_meds(tables))}
    lay_out = {"load_mimic3": as_mimic3, "load_mimic4": as_mimic4, "load_omop": as_omop}
    if name in lay_out:
        tables = lay_out[name](planted_tables(False))
    elif name == "load_clif":
        tables = as_clif(planted_tables(True))
    else:
        tables = planted_tables(True)
    path = write_tables(folder / name, tables)
    if name == "load_tables":
        return {"database": path} | {each: each for each in ("labs", "notes", "diagnoses", "stays")}
    return {"path": path}


LOADERS = ("load_clif", "load_eicu", "load_meds", "load_mimic3", "load_mimic4", "load_omop")
LOADERS = (*LOADERS, "load_tables")
# What eICU's loader, whose files are small, has no choice of
CALLS = {
    f"datasets.{name}": Call(
        lambda *_, name=name: getattr(datasets, name),
        lambda w, f, folder, name=name: (
            write_source(name, folder) | ({} if name == "load_eicu" else {"verbose": True})
        ),
    )
    for name in LOADERS
}
CALLS["datasets.load_tables"] = CALLS["datasets.load_tables"]._replace(
    # Names of tables here; frames that are wrong are told of in tests/datasets
    data=("labs", "notes", "diagnoses", "stays")
)


def _of_cohort(method, *data, **arguments):
    def good(w, f, folder):
        return {name: value(w, folder) for name, value in arguments.items()}

    return Call(lambda w, f, folder: getattr(w.cohort, method), good, data)


def _cohort_on_disk(w, f, folder):
    w.cohort.to_parquet(folder / "cohort")
    return {"folder": folder / "cohort"}


CALLS |= {
    "datasets.Cohort.describe": _of_cohort("describe", by=lambda w, t: "ward"),
    "datasets.Cohort.flow": _of_cohort("flow"),
    "datasets.Cohort.report": _of_cohort("report"),
    "datasets.Cohort.select": _of_cohort("select", "rows", rows=lambda w, t: np.arange(5)),
    "datasets.Cohort.to_parquet": _of_cohort("to_parquet", folder=lambda w, t: t / "cohort"),
    "datasets.Cohort.from_parquet": Call(lambda *_: Cohort.from_parquet, _cohort_on_disk),
    "datasets.Cohort.train_test_split": _of_cohort(
        "train_test_split", by=lambda w, t: "patient", random_state=lambda w, t: 0
    ),
    "datasets.load_eicu_demo": Call(lambda *_: datasets.load_eicu_demo, lambda *_: {}),
    "datasets.make_ehr_cohort": Call(
        lambda *_: datasets.make_ehr_cohort, lambda *_: {"n_stays": 20}
    ),
    "datasets.phenotypes.guess_icd_version": Call(
        lambda *_: phenotypes.guess_icd_version, lambda *_: {"codes": ["4280", "I50.9"]}, ("codes",)
    ),
    "datasets.phenotypes.map_codes": Call(
        lambda *_: phenotypes.map_codes, lambda *_: {"codes": ["4280", "I50.9"]}, ("codes",)
    ),
    "datasets.phenotypes.label_stays": Call(
        lambda *_: phenotypes.label_stays,
        lambda w, f, folder: {
            "code_stay_ids": w.X.index[:2],
            "codes": ["4280", "I50.9"],
            "stay_ids": w.X.index,
        },
        ("code_stay_ids", "codes", "stay_ids"),
    ),
}


def centre(X):
    """Take the mean off, as a step of a pipeline would."""
    return X - X.mean()


def _memory(method):
    return lambda w, f, folder: getattr(PrivateMemory(folder / "memory"), method)


def _cached(w, f, folder):
    memory = PrivateMemory(folder / "memory")

    def fit_twice(X, y):
        for _ in range(2):
            pipe = clone(w.pipe).set_params(memory=memory, verbose=True).fit(X, y)
        memory.cache(centre)(X[w.lab_columns[:3]])
        return pipe

    return fit_twice


CALLS |= {
    "persistence.PrivateMemory.cache": Call(
        _cached, lambda w, f, folder: {"X": w.X, "y": w.y}, ("y",)
    ),
    "persistence.PrivateMemory.eval": Call(
        _memory("eval"), lambda w, f, folder: {"func": centre, "X": w.numeric_labs}
    ),
    "persistence.PrivateMemory.format": Call(
        _memory("format"), lambda w, f, folder: {"obj": w.numeric_labs}
    ),
    "persistence.PrivateMemory.clear": Call(_memory("clear"), lambda *_: {}),
    "persistence.PrivateMemory.reduce_size": Call(_memory("reduce_size"), lambda *_: {}),
    "persistence.model_card": Call(
        lambda *_: model_card,
        lambda w, f, folder: {
            "estimator": f.pipe,
            "cohort": w.evaluated,
            "trained_on": w.trained_on,
            "n_bootstraps": 3,
            "random_state": 0,
            "min_count": 3,
        },
        ("cohort", "trained_on"),
    ),
}


def _saved_model(w, f, folder):
    save_model(f.pipe, folder / "pipe.skops")
    return {"file": folder / "pipe.skops"}


CALLS |= {
    "persistence.save_model": Call(
        lambda *_: save_model,
        lambda w, f, folder: {"model": f.pipe, "file": folder / "pipe.skops"},
    ),
    "persistence.load_model": Call(lambda *_: load_model, _saved_model),
    "persistence.trusted_types": Call(
        lambda *_: trusted_types, lambda w, f, folder: {"estimator": f.pipe}
    ),
}
for _level in ("debug", "info", "warn"):
    # joblib's own channel: what it shows is what it is given
    CALLS[f"persistence.PrivateMemory.{_level}"] = Call(
        _memory(_level), lambda *_: {"msg": "a message of the user's"}
    )
