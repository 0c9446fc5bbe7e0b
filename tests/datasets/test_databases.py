"""Cohorts from databases: those of the files, with no more leaving the server than is needed."""

import itertools

import pandas as pd
import pytest

from sklearn_medfuse.datasets import (
    load_clif,
    load_eicu,
    load_meds,
    load_mimic3,
    load_mimic4,
    load_omop,
    load_tables,
)

from .conftest import make_tables, write_tables
from .formats import (
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
from .postgres_server import write_duckdb
from .test_long_tables import assert_same

ALL = {"min_coverage": 0.0, "n_labels": None}
NOTES = ("discharge", "radiology")


def load_long(where, **options):
    names = ("labs", "notes", "diagnoses", "stays")
    if isinstance(where, str) or where.is_file():
        return load_tables(*names, database=where, **options)
    return load_tables(*(where / f"{name}.parquet" for name in names), **options)


def in_two_schemas(frames):
    notes = {name: frames.pop(name) for name in NOTES}
    return {"mimiciv_hosp": frames, "mimiciv_note": notes}


# Format -> loader, schemas with their tables.
FORMATS = {
    "mimic3": (load_mimic3, lambda: {"mimiciii": as_mimic3(with_icd9(long_tables()))}),
    "mimic4": (load_mimic4, lambda: in_two_schemas(as_mimic4(long_tables()))),
    "omop": (load_omop, lambda: {"cdm": as_omop(long_tables())}),
    "clif": (load_clif, lambda: {"public": as_clif(long_tables())}),
    "tables": (load_long, lambda: {"ehr": long_tables()}),
    "meds": (load_meds, lambda: {"meds": as_meds(meds_tables())}),
    "eicu": (load_eicu, lambda: {"eicu_crd": {n.lower(): f for n, f in make_tables().items()}}),
}
OPTIONS = [
    {},
    {"index_time": "48h", "aggregate": ["mean", "count"], "outcomes": ["mortality"]},
    {"index_time": "discharge", "first_stay": True, "lookback": "2h", "min_age": 30},
    {"note_types": ["radiology"], "max_note_chars": 50, "lab_names": ["Glucose", "pH"]},
    {"without_stored_time": "drop", "lab_names": ["Sodium"], "drop_note_sections": "outcome"},
]


@pytest.fixture(scope="session")
def places(server, tmp_path_factory):
    """Format -> folder, DuckDB file and URL with the same tables."""
    made = {}
    for name, (_, make) in FORMATS.items():
        schemas = make()
        folder = tmp_path_factory.mktemp(name)
        frames = {table: frame for of in schemas.values() for table, frame in of.items()}
        if name == "meds":
            write_meds(folder / "files", frames)
        else:
            write_tables(folder / "files", frames, suffix=".parquet")
        file = write_duckdb(folder / "tables.duckdb", schemas)
        made[name] = (folder / "files", file, server.fill(name, schemas))
    return made


def assert_equal(cohort, expected):
    assert_same(cohort, expected)
    assert cohort.report() == expected.report()
    assert cohort.units == expected.units
    assert cohort.reference_ranges == expected.reference_ranges
    pd.testing.assert_frame_equal(cohort.subgroups, expected.subgroups, check_dtype=False)


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(options))
@pytest.mark.parametrize("name", ["mimic3", "mimic4", "omop", "clif", "tables", "meds"])
def test_cohort_of_a_database_is_that_of_the_files(name, options, places):
    load = FORMATS[name][0]
    if name == "clif":
        options = {key: value for key, value in options.items() if key != "note_types"}
    folder, file, url = places[name]
    expected = load(folder, **ALL | options)
    for place in (file, url):
        assert_equal(load(place, **ALL | options), expected)


def test_eicu_of_a_database_is_that_of_the_files(places):
    folder, file, url = places["eicu"]
    expected = load_eicu(folder, n_labels=3)
    for place in (file, url):
        assert_equal(load_eicu(place, n_labels=3), expected)
