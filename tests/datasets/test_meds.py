import duckdb
import numpy as np
import pandas as pd
import pytest

from sklearn_medfuse.datasets import load_meds, load_tables

from .formats import as_meds, meds_tables, write_meds
from .test_leakage import LABELS
from .test_long_tables import assert_same

# A tenth of the random tables' results of sodium are in furlongs.
pytestmark = pytest.mark.filterwarnings("ignore:.* unit cannot be converted:UserWarning")

ALL = {"min_coverage": 0.0, "n_labels": None}


def from_long(tables, **options):
    order = ("labs", "notes", "diagnoses", "stays")
    labs = tables["labs"].drop(columns=["ref_low", "ref_high"])
    tables = {**tables, "labs": labs[labs["name"].notna()]}
    cohort = load_tables(*(tables[name] for name in order), **ALL | options)
    # A MEDS data set numbers the stays of each subject.
    index = pd.Index([f"{stay}-1" for stay in cohort.stay_ids], name="stay_id")
    for name in ("X", "y", "groups", "subgroups"):
        cohort[name] = cohort[name].set_axis(index)
    cohort["groups"] = cohort.groups.astype(int)
    return cohort


@pytest.fixture
def tables():
    return meds_tables()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"index_time": "48h", "outcomes": ["mortality", "length_of_stay_3d"]},
        {"index_time": "discharge", "aggregate": ["first", "slope", "count"]},
        {"note_types": ["nursing"], "max_note_chars": 50, "min_age": 50},
    ],
)
def test_cohort_is_that_of_the_same_long_tables(options, tables, tmp_path):
    cohort = load_meds(write_meds(tmp_path, as_meds(tables)), **ALL | options)
    expected = from_long(tables, **options)
    assert_same(cohort, expected)
    assert cohort.units == expected.units
    pd.testing.assert_frame_equal(cohort.subgroups, expected.subgroups[["sex", "age"]])


def test_folder_and_database_give_the_same(tables, tmp_path):
    frames = as_meds(tables)
    with duckdb.connect(str(tmp_path / "meds.duckdb")) as connection:
        for name, frame in frames.items():
            connection.register("frame", frame)
            connection.execute(f"CREATE TABLE {name} AS SELECT * FROM frame")
    folder = load_meds(write_meds(tmp_path / "folder", frames), **ALL)
    assert_same(load_meds(tmp_path / "meds.duckdb", **ALL), folder)


def test_other_labs_by_their_prefix(tables, tmp_path):
    frames = as_meds(tables)
    frames["codes"].loc[len(frames["codes"])] = ["LAB//1//bpm", "Heart rate"]
    folder = write_meds(tmp_path, frames)
    assert "Heart rate" not in load_meds(folder, **ALL).lab_columns
    assert load_meds(folder, lab="LAB", lab_names=["Heart rate"]).units == {"Heart rate": "bpm"}


def made(rows):
    columns = ["subject_id", "time", "code", "numeric_value", "text_value"]
    data = pd.DataFrame(rows, columns=columns[:3]).assign(numeric_value=1.0, text_value=None)
    data["time"] = pd.to_datetime(data["time"]).astype("datetime64[us]")
    codes = pd.DataFrame({"code": ["LAB//K//mmol/L"], "description": [None]})
    return {"data": data.astype({"text_value": "str"}), "codes": codes}


def test_events_fall_into_the_stay_of_their_time(tmp_path):
    frames = made(
        [
            (1, "2100-01-01 08:00", "HOSPITAL_ADMISSION//A"),
            (1, "2100-01-01 08:00", "HOSPITAL_ADMISSION//B"),  # the same stay
            (1, "2100-01-05 08:00", "HOSPITAL_DISCHARGE//HOME"),
            (1, "2100-01-05 07:00", "LAB//K//mmol/L"),  # of the first stay, too late for it
            (1, "2100-01-05 20:00", "LAB//K//mmol/L"),  # before the second
            (1, "2100-01-06 02:00", "HOSPITAL_ADMISSION//A"),
            (1, "2100-01-06 09:00", "LAB//K//mmol/L"),
            (1, "2100-01-09 09:00", "HOSPITAL_DISCHARGE//DIED"),
            (1, "2100-02-09 09:00", "LAB//K//mmol/L"),  # of no stay
            (1, "2100-01-01 09:00", "LAB//K//mmol/L"),
        ]
    )
    options = {"phenotypes": None, "outcomes": ["mortality", "length_of_stay_3d"]}
    cohort = load_meds(write_meds(tmp_path, frames), aggregate="count", **options)
    assert cohort.X["K"].to_dict() == {"1-1": 1.0, "1-2": 2.0}
    assert cohort.y["mortality"].tolist() == [0, 1]
    assert cohort.report()["labs of data rows dropped: without a stay"] == 1
    assert cohort.report()["labs of data rows dropped: after the index time"] == 1


def test_codes_of_eicu_hold_both_versions(tmp_path):
    frames = made(
        [
            (1, "2100-01-01 08:00", "HOSPITAL_ADMISSION"),
            (1, "2100-01-01 09:00", "LAB//K//mmol/L"),
            (1, "2100-01-01 09:00", "DIAGNOSIS//ICD//9//428.0, I50.9"),
            (1, "2100-01-01 09:00", "DIAGNOSIS//ICD//9//E11.9"),
            (1, "2100-01-01 09:00", "DIAGNOSIS//ICD//10//I10"),
        ]
    )
    cohort = load_meds(write_meds(tmp_path, frames), n_labels=None)
    assert cohort.report()["diagnoses of data rows read"] == 4
    found = cohort.y.columns[cohort.y.iloc[0] == 1].tolist()
    assert found == [
        "congestive_heart_failure",
        "hypertension_uncomplicated",
        "diabetes_uncomplicated",
    ]


def test_errors(tables, tmp_path):
    with pytest.raises(FileNotFoundError, match="no parquet file"):
        load_meds(tmp_path)
    frames = as_meds(tables)
    folder = write_meds(tmp_path, frames)
    with pytest.raises(ValueError, match="begins with 'VISIT'"):
        load_meds(folder, admission="VISIT")
    (folder / "metadata" / "codes.parquet").unlink()
    with pytest.raises(FileNotFoundError, match=r"codes\.parquet"):
        load_meds(folder)
    frames["data"] = frames["data"].drop(columns="numeric_value")
    with pytest.raises(ValueError, match="lacks the column numeric_value"):
        load_meds(write_meds(tmp_path / "lacking", frames))
    shard = folder / "data" / "train" / "0.parquet"
    write_meds(tmp_path, as_meds(tables))
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(ValueError, match="'data' cannot be read"):
        load_meds(folder)


def with_readmissions(frames, gaps):
    """Two subjects made one, whose second stay begins days after the end of the first."""
    data = frames["data"].copy()
    kind = data["code"].str.split("//").str[0]
    at = {
        name: data[kind == f"HOSPITAL_{name}"].set_index("subject_id")["time"]
        for name in ("ADMISSION", "DISCHARGE")
    }
    second = data["subject_id"] % 2 == 1
    first_of = data["subject_id"] - 1
    moved = first_of.map(at["DISCHARGE"]) + first_of.map(gaps) * pd.Timedelta(days=1)
    moved -= data["subject_id"].map(at["ADMISSION"])
    data["time"] = data["time"].mask(second, data["time"] + moved)
    data["subject_id"] = data["subject_id"].mask(second, first_of)
    # Who comes back has not died before, and is born once.
    twice = (second & kind.isin(["MEDS_BIRTH", "GENDER"])) | (~second & (kind == "MEDS_DEATH"))
    data = data[~twice].sort_values(["subject_id", "time"], kind="stable", ignore_index=True)
    return {**frames, "data": data.astype({"time": "datetime64[us]"})}


@pytest.mark.parametrize("labels", LABELS)
def test_what_happens_after_the_index_time_changes_no_feature(labels, tables, tmp_path):
    options = {"min_coverage": 0.0, "index_time": "36h", **LABELS[labels]}
    frames = as_meds(tables)
    subjects = np.sort(tables["stays"]["stay_id"])
    gaps = pd.Series(np.random.default_rng(0).uniform(5, 60, len(subjects)), index=subjects)
    before = load_meds(write_meds(tmp_path / "before", with_readmissions(frames, gaps)), **options)
    assert not before.groups.is_unique
    data = frames["data"]
    admitted = data[data["code"].str.startswith("HOSPITAL_ADMISSION")]
    start = data["subject_id"].map(admitted.set_index("subject_id")["time"])
    late = data["time"] > start + pd.Timedelta(hours=36)
    late &= data["code"].str.startswith(("LAB", "NOTE"))
    assert late.sum() > 20
    data.loc[late, "numeric_value"] = -1e6
    data.loc[late, "text_value"] = "The patient died of what the labels say."
    data.loc[late, "time"] += pd.Timedelta(hours=1)
    data.loc[late & data["code"].str.startswith("LAB"), "code"] = "LAB//RESULT//999//UNK"
    after = load_meds(write_meds(tmp_path / "after", with_readmissions(frames, gaps)), **options)
    pd.testing.assert_frame_equal(after.X[before.X.columns], before.X, check_exact=True)
    pd.testing.assert_frame_equal(after.y, before.y)
    assert (before.y.nunique() == 2).any()
