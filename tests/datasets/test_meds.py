import duckdb
import pandas as pd
import pytest

from sklearn_medfuse.datasets import load_meds, load_tables

from .formats import as_meds, meds_tables, write_meds
from .test_long_tables import assert_same

# A tenth of the random tables' results of sodium are in furlongs
pytestmark = pytest.mark.filterwarnings("ignore:.* unit cannot be converted:UserWarning")

ALL = {"min_coverage": 0.0, "n_labels": None}


def from_long(tables, **options):
    order = ("labs", "notes", "diagnoses", "stays")
    labs = tables["labs"].drop(columns=["ref_low", "ref_high"])
    tables = {**tables, "labs": labs[labs["name"].notna()]}
    cohort = load_tables(*(tables[name] for name in order), **ALL | options)
    # A MEDS data set numbers the stays of each subject
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
            (1, "2100-01-01 08:00", "HOSPITAL_ADMISSION//B"),  # The same stay
            (1, "2100-01-05 08:00", "HOSPITAL_DISCHARGE//HOME"),
            (1, "2100-01-05 07:00", "LAB//K//mmol/L"),  # Of the first stay, too late for it
            (1, "2100-01-05 20:00", "LAB//K//mmol/L"),  # Before the second
            (1, "2100-01-06 02:00", "HOSPITAL_ADMISSION//A"),
            (1, "2100-01-06 09:00", "LAB//K//mmol/L"),
            (1, "2100-01-09 09:00", "HOSPITAL_DISCHARGE//DIED"),
            (1, "2100-02-09 09:00", "LAB//K//mmol/L"),  # Of no stay
            (1, "2100-01-01 09:00", "LAB//K//mmol/L"),
        ]
    )
    options = {"phenotypes": None, "outcomes": ["mortality", "length_of_stay_3d"]}
    cohort = load_meds(write_meds(tmp_path, frames), aggregate="count", **options)
    assert cohort.X["K"].to_dict() == {"1-1": 1.0, "1-2": 2.0}
    assert cohort.y["mortality"].tolist() == [0, 1]
    assert cohort.report()["labs of data rows dropped: without a stay"] == 1
    assert cohort.report()["labs of data rows dropped: after the index time"] == 1


ADMISSION, DISCHARGE, POTASSIUM = "HOSPITAL_ADMISSION", "HOSPITAL_DISCHARGE", "LAB//K//mmol/L"


@pytest.mark.parametrize("column", ["hadm_id", "VISIT"])
def test_overlapping_admissions_by_the_stay_that_events_name(column, tmp_path):
    """The second admission begins a day before the first ends, as of 20 pairs in MIMIC-IV."""
    rows = [
        (1, "2100-05-01 10:00", f"{ADMISSION}//A", 100),
        (1, "2100-05-01 11:00", POTASSIUM, 100),
        (1, "2100-05-10 08:00", f"{DISCHARGE}//HOME", 100),
        (1, "2100-05-10 08:00", "DIAGNOSIS//ICD//10//I509", 100),
        (1, "2100-05-09 10:00", f"{ADMISSION}//A", 101),
        (1, "2100-05-09 10:01", f"{ADMISSION}//B", 101),  # The move to the ward
        (1, "2100-05-09 11:00", POTASSIUM, 101),
        (1, "2100-05-10 07:00", POTASSIUM, 101),
        (1, "2100-05-10 07:30", POTASSIUM, None),  # Of the stay that began last
        (1, "2100-05-14 08:00", f"{DISCHARGE}//DIED", 101),
        (1, "2100-05-14 08:00", "DIAGNOSIS//ICD//10//E119", 101),
        (1, "2100-05-10 09:00", POTASSIUM, 102),  # Of an admission that is not here
        # The stay of another subject, which happens to have a number of the first
        (2, "2100-05-01 10:00", ADMISSION, 100),
        (2, "2100-05-01 11:00", POTASSIUM, 100),
        (2, "2100-05-03 10:00", DISCHARGE, None),  # By its time
        (2, "2100-05-02 10:00", "DIAGNOSIS//ICD//10//I10", None),
    ]
    frames = made([row[:3] for row in rows])
    frames["data"][column] = [row[3] for row in rows]
    options = {"n_labels": None, "outcomes": ["mortality", "length_of_stay_4d"]}
    folder = write_meds(tmp_path, frames)
    cohort = load_meds(folder, aggregate="count", stay=column.lower(), **options)
    assert cohort.X["K"].to_dict() == {"1-1": 1.0, "1-2": 3.0, "2-1": 1.0}
    found = {stay: row.index[row.eq(1)].tolist() for stay, row in cohort.y.iterrows()}
    assert found == {
        "1-1": ["congestive_heart_failure", "length_of_stay_4d"],
        "1-2": ["diabetes_uncomplicated", "mortality", "length_of_stay_4d"],
        "2-1": ["hypertension_uncomplicated"],
    }
    assert cohort.report()["labs of data rows dropped: without a stay"] == 1
    # By time alone, the move is a stay of its own
    assert cohort.report()["stays read"] == 3
    assert load_meds(folder, stay=None, **options).report()["stays read"] == 4
    with pytest.raises(ValueError, match="stay='encounter' is no column of the data"):
        load_meds(folder, stay="encounter")


def test_a_death_at_midnight_counts_from_the_end_of_its_day(tmp_path):
    """A day of death is no time: who was alive at the index time stays in."""
    rows = []
    for subject, death in enumerate(
        ["2100-01-02 00:00", "2100-01-02 00:01", "2100-01-04 00:00"], 1
    ):
        rows += [
            (subject, "2100-01-01 08:00", ADMISSION),
            (subject, "2100-01-01 09:00", POTASSIUM),
            (subject, death, "MEDS_DEATH"),
            (subject, "2100-01-04 12:00", f"{DISCHARGE}//HOME"),
        ]
    options = {"phenotypes": None, "outcomes": ["mortality"]}
    cohort = load_meds(write_meds(tmp_path, made(rows)), **options)
    assert cohort.y["mortality"].to_dict() == {"1-1": 1, "3-1": 1}
    assert cohort.report()["stays dropped: ended before the index time"] == 1


def test_a_note_at_midnight_counts_from_the_end_of_its_day(tmp_path):
    rows = [
        (1, "2100-01-01 08:00", ADMISSION),
        (1, "2100-01-01 09:00", POTASSIUM),
        (1, "2100-01-01 00:00", "NOTE//early"),
        (1, "2100-01-02 00:00", "NOTE//late"),
        (1, "2100-01-02 07:00", "NOTE//timed"),
        (1, "2100-01-05 08:00", f"{DISCHARGE}//HOME"),
    ]
    frames = made(rows)
    frames["data"].loc[2:4, "text_value"] = ["early", "late", "timed"]
    options = {"phenotypes": None, "outcomes": ["mortality"]}
    cohort = load_meds(write_meds(tmp_path, frames), **options)
    assert cohort.X["note"].tolist() == ["early\n\ntimed"]


def test_stays_without_a_discharge_have_unknown_outcomes(tmp_path):
    rows = [
        (1, "2100-01-01 08:00", ADMISSION),
        (1, "2100-01-01 09:00", POTASSIUM),
        (1, "2100-01-04 08:00", "MEDS_DEATH"),  # In the stay or after it
        (2, "2100-01-01 08:00", ADMISSION),
        (2, "2100-01-01 09:00", POTASSIUM),
        (3, "2100-01-01 08:00", ADMISSION),
        (3, "2100-01-01 09:00", POTASSIUM),
        (3, "2100-01-04 08:00", f"{DISCHARGE}//HOME"),
    ]
    options = {"phenotypes": None, "outcomes": ["mortality"]}
    cohort = load_meds(write_meds(tmp_path, made(rows)), **options)
    assert cohort.y["mortality"].to_dict() == {"3-1": 0}
    assert cohort.report()["stays dropped: mortality not known"] == 2


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
