"""A cohort written as published tables is the cohort that the loader of these tables finds."""

import re

import numpy as np
import pandas as pd
import pytest

from sklearn_medfuse.datasets import (
    load_eicu,
    load_eicu_demo,
    load_mimic3,
    load_mimic4,
    make_ehr_cohort,
)

from ..ehr_tables import write_ehr_tables

LOADERS = {"mimic3": load_mimic3, "mimic4": load_mimic4, "eicu": load_eicu}
# Several pieces, the last of them smaller
SIZES = {"n_lab_rows": 10_000, "n_notes": 1_000, "note_chars": 300, "stays_at_once": 50}
SUFFIXES = {"mimic3": ".csv", "mimic4": ".csv.gz", "eicu": ".parquet"}
# Name of the table of results, column of its stays
LABS = {
    "mimic3": ("LABEVENTS", "HADM_ID"),
    "mimic4": ("hosp/labevents", "hadm_id"),
    "eicu": ("lab", "patientunitstayid"),
}


@pytest.fixture(scope="module")
def cohort():
    return make_ehr_cohort(130, n_labels=6, random_state=0)


def sentences(note):
    return {part.rstrip(".") for part in re.split(r"(?<=\.)\s+", note)}


@pytest.mark.parametrize("form", LOADERS)
def test_the_loader_finds_the_cohort(form, cohort, tmp_path):
    groups = write_ehr_tables(cohort, tmp_path, form, suffix=SUFFIXES[form], **SIZES)
    assert list(groups) == cohort.target_names
    found = LOADERS[form](tmp_path, n_labels=list(groups.values()), min_coverage=0.0)
    labs = found.X.rename(columns={"ph": "pH"})[cohort.lab_columns]
    np.testing.assert_array_equal(labs, cohort.X[cohort.lab_columns])
    np.testing.assert_array_equal(found.stay_ids, cohort.stay_ids)
    np.testing.assert_array_equal(found.y, cohort.y)
    assert found.groups.astype(int).tolist() == cohort.groups.tolist()
    assert found.subgroups["sex"].str[0].tolist() == cohort.subgroups["sex"].str[0].tolist()
    if form == "eicu":
        # Each sentence is an entry of a form, in alphabetical order
        said = found.X["note"].dropna().str.removeprefix("Notes: Comments: ").str.removesuffix(".")
        told = cohort.X["note"].dropna().str.replace("Copied forward: ", "")
        copied = said.str.split("; ").map(lambda parts: {p.split("forward: ")[-1] for p in parts})
        assert copied.tolist() == told.map(sentences).tolist()
        assert found.hospitals.tolist() == cohort.hospitals.tolist()
    else:
        assert found.X["note"].fillna("").tolist() == cohort.X["note"].fillna("").tolist()
        pd.testing.assert_series_equal(
            found.index_times, cohort.index_times, check_dtype=False, check_names=False
        )
        assert found.units == cohort.units


@pytest.mark.parametrize("form", LOADERS)
def test_tables_have_the_size_asked_for(form, cohort, tmp_path):
    write_ehr_tables(cohort, tmp_path, form, suffix=".parquet", **SIZES)
    table, stay = LABS[form]
    labs = pd.read_parquet(tmp_path / f"{table}.parquet")
    assert len(labs) == SIZES["n_lab_rows"]
    own = int(cohort.X[cohort.lab_columns].notna().to_numpy().sum())
    share = (SIZES["n_lab_rows"] - own) / SIZES["n_lab_rows"]
    outpatient = 0.0 if form == "eicu" else 0.2
    assert labs[stay].isna().mean() == pytest.approx(outpatient * share, abs=0.02)
    if form == "mimic3":
        notes = pd.read_parquet(tmp_path / "NOTEEVENTS.parquet")
        assert len(notes) == SIZES["n_notes"]
        assert notes["TEXT"].str.len().mean() == pytest.approx(300, rel=0.3)


def test_another_index_time_and_real_stays(tmp_path):
    demo = load_eicu_demo(n_labels=None)
    write_ehr_tables(demo, tmp_path / "eicu", "eicu", index_time="48h", suffix=".csv")
    again = load_eicu(tmp_path / "eicu", index_time="48h", n_labels=None)
    pd.testing.assert_frame_equal(again.X[demo.lab_columns], demo.X[demo.lab_columns])
    assert again.y.to_numpy().tolist() == demo.y.to_numpy().tolist()
    assert again.units == demo.units
    write_ehr_tables(demo, tmp_path / "mimic", "mimic3", index_time="6h", suffix=".csv")
    other = load_mimic3(
        tmp_path / "mimic", index_time=6, n_labels=demo.target_names, lab_names=demo.lab_columns
    )
    np.testing.assert_array_equal(other.X[demo.lab_columns], demo.X[demo.lab_columns])
    np.testing.assert_array_equal(other.y, demo.y)


def test_columns_are_those_published(cohort, shared_data, tmp_path):
    write_ehr_tables(cohort, tmp_path / "mimic3", "mimic3", suffix=".csv")
    write_ehr_tables(cohort, tmp_path / "eicu", "eicu", suffix=".csv")
    published = [*(shared_data / "mimic3_demo").glob("*.csv")]
    published += (shared_data / "eicu_demo_dev").glob("*.csv.gz")
    for file in published:
        folder = "mimic3" if file.suffix == ".csv" else "eicu"
        written = tmp_path / folder / f"{file.name.split('.')[0]}.csv"
        assert set(pd.read_csv(written, nrows=0)) == set(pd.read_csv(file, nrows=0)), file.name
