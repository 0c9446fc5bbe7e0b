import sys
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest

import sklearn_medfuse
from sklearn_medfuse.datasets import load_mimic3, load_mimic4, load_tables
from sklearn_medfuse.datasets._tables.source import Source

from .conftest import write_in_form, write_tables
from .formats import (
    as_mimic3,
    as_mimic4,
    expected_of_mimic3,
    expected_of_mimic4,
    long_tables,
    with_icd9,
)
from .test_long_tables import assert_same

# A tenth of the random tables' results of sodium are in furlongs
pytestmark = pytest.mark.filterwarnings("ignore:.* unit cannot be converted:UserWarning")

ALL = {"min_coverage": 0.0, "n_labels": None}
OUTCOMES = ["mortality", "readmission_30d", "length_of_stay_3d"]
LOADERS = {
    "mimic3": (load_mimic3, as_mimic3, expected_of_mimic3),
    "mimic4": (load_mimic4, as_mimic4, expected_of_mimic4),
}


def from_long(tables, **options):
    order = ("labs", "notes", "diagnoses", "stays")
    cohort = load_tables(*(tables[name] for name in order), **options)
    # Here patients are texts, in MIMIC they are numbers
    cohort["groups"] = cohort.groups.astype(int)
    return cohort


@pytest.fixture
def tables():
    return with_icd9(long_tables())


@pytest.mark.parametrize("name", LOADERS)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"index_time": "48h", "aggregate": ["mean", "slope", "count"], "outcomes": OUTCOMES},
        {"index_time": "discharge", "require": "labs", "first_stay": True},
        {"note_types": ["radiology"], "note_order": "newest_first", "max_note_chars": 40},
        {"without_stored_time": "drop", "phenotypes": {"heart": ["428", "I50"]}},
    ],
)
def test_cohort_is_that_of_the_same_long_tables(name, options, write):
    load, lay_out, as_long = LOADERS[name]
    tables = long_tables()
    if name == "mimic3":
        tables = with_icd9(tables)
    folder = write(lay_out(tables), suffix=".parquet")
    cohort = load(folder, **ALL | options)
    expected = from_long(as_long(tables), **ALL | options)
    assert_same(cohort, expected)
    assert cohort.units == expected.units
    assert cohort.reference_ranges == expected.reference_ranges
    pd.testing.assert_series_equal(cohort.subgroups["sex"], expected.subgroups["sex"])
    pd.testing.assert_series_equal(cohort.index_times, expected.index_times)
    for table in ("stays kept", "stays dropped: without a diagnosis code"):
        assert cohort.report()[table] == expected.report()[table]
    assert cohort.report()["labevents rows kept"] == expected.report()["labs rows kept"]


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """Format -> the cohort of its tables in parquet files; not to be changed."""
    return {
        name: load(write_tables(tmp_path_factory.mktemp(name), frames, suffix=".parquet"), **ALL)
        for name, (load, lay_out, _) in LOADERS.items()
        for frames in [lay_out(with_icd9(long_tables()))]
    }


@pytest.mark.parametrize("name", LOADERS)
@pytest.mark.parametrize(
    ("suffix", "upper"),
    [
        (".csv", False),
        (".csv", True),
        (".csv.gz", True),
        (".csv.zst", False),
        (".parquet", True),
        (".duckdb", False),
        (".duckdb", True),
    ],
)
def test_form_and_case_of_the_tables_do_not_matter(name, suffix, upper, expected, tables, tmp_path):
    load, lay_out, _ = LOADERS[name]
    path = write_in_form(tmp_path, lay_out(tables), suffix, upper=upper)
    cohort = load(path, **ALL)
    assert_same(cohort, expected[name])
    assert cohort.report() == expected[name].report()


def test_mimic4_folders_of_the_modules(tables, tmp_path):
    frames = as_mimic4(tables)
    notes = {name: frames.pop(name) for name in ("discharge", "radiology")}
    together = load_mimic4(write_tables(tmp_path / "all", {**frames, **notes}), **ALL)
    write_tables(tmp_path / "mimiciv" / "hosp", frames)
    write_tables(tmp_path / "mimic-iv-note" / "note", notes)
    apart = load_mimic4(tmp_path / "mimiciv", tmp_path / "mimic-iv-note", **ALL)
    assert_same(apart, together)
    without = load_mimic4(tmp_path / "mimiciv", **ALL)
    assert without.X["note"].isna().all()
    with pytest.raises(FileNotFoundError, match="neither a table 'discharge' nor"):
        load_mimic4(tmp_path / "mimiciv", tmp_path / "mimiciv", **ALL)


@pytest.mark.parametrize(("stored", "n_late"), [(pd.Timedelta(0), 0), (pd.NaT, 1)])
def test_discharge_summaries_count_from_the_end_of_their_day_or_their_entry(
    tables, write, stored, n_late
):
    frames = as_mimic4(tables)
    stays = frames["admissions"].loc[:0]
    frames["discharge"] = pd.DataFrame(
        {
            "hadm_id": stays["hadm_id"],
            "charttime": stays["dischtime"].dt.normalize(),
            "storetime": stays["dischtime"] + stored,
            "text": "Outcome: told",
        }
    )
    folder = write(frames, suffix=".parquet")
    stay = stays["hadm_id"].iloc[0]
    load = {"phenotypes": None, "outcomes": ["readmission_30d"], "note_types": ["discharge"]}
    frames["admissions"].loc[0, "hospital_expire_flag"] = 0
    folder = write(frames, suffix=".parquet")
    early = load_mimic4(folder, index_time="discharge", **load)
    late = load_mimic4(folder, index_time="discharge + 24h", **load)
    assert early.report().get("discharge rows dropped: after the index time", 0) == n_late
    assert late.X["note"].get(stay) == "Outcome: told"


def test_notes_marked_as_errors_are_dropped(tables, write):
    frames = as_mimic3(tables)
    wrong = np.arange(len(frames["noteevents"])) % 2 == 0
    right = {**frames, "noteevents": frames["noteevents"][~wrong]}
    expected = load_mimic3(write(right), **ALL)
    frames["noteevents"]["iserror"] = np.where(wrong, 1, np.nan)
    cohort = load_mimic3(write(frames), **ALL)
    assert_same(cohort, expected)
    assert cohort.report()["noteevents rows dropped: marked as an error"] > 0


def test_note_with_a_date_alone_counts_from_the_end_of_that_day(tables, write):
    frames = as_mimic3(tables)
    frames["noteevents"]["charttime"] = pd.NaT
    cohort = load_mimic3(write(frames), index_time="48h", **ALL)
    long = expected_of_mimic3(tables)
    day = long["notes"]["time"].dt.normalize()
    # At the end of its day at the latest, and no later than it was stored
    ended = day + pd.Timedelta(days=1)
    stored = long["notes"]["stored_time"].fillna(ended)
    dated = long["notes"].assign(time=np.minimum(ended, np.maximum(stored, day)))
    assert_same(cohort, from_long({**long, "notes": dated}, index_time="48h", **ALL))


def test_labs_of_one_name_are_told_apart(tables, write):
    frames = as_mimic3(tables)
    frames["labevents"]["itemid"] = frames["labevents"]["itemid"].replace(
        {50983: 51000, 50931: 51001}
    )
    cohort = load_mimic3(write(frames), **ALL)
    assert cohort.lab_columns == [
        "Lactate",
        "Twin (Blood, Blood Gas)",
        "Twin (Blood, Chemistry)",
        "pH",
    ]


def test_items_that_the_dictionary_lacks_are_counted(tables, write):
    frames = as_mimic3(tables)
    frames["d_labitems"] = frames["d_labitems"][frames["d_labitems"]["label"] != "Sodium"]
    cohort = load_mimic3(write(frames), **ALL)
    report = cohort.report()
    assert "Sodium" not in cohort.lab_columns
    assert report["labevents items that the dictionary lacks"] == 1
    assert report["labevents rows dropped: of items that the dictionary lacks"] > 0


@pytest.mark.parametrize("table", ["admissions", "patients", "d_labitems"])
@pytest.mark.parametrize("name", LOADERS)
def test_duplicate_keys_are_an_error(name, table, tables, write):
    load, lay_out, _ = LOADERS[name]
    frames = lay_out(tables)
    frames[table] = pd.concat([frames[table], frames[table].iloc[:2]])
    with pytest.raises(ValueError, match="2 more rows than"):
        load(write(frames), **ALL)


def test_age(tables, write):
    frames = as_mimic3(tables)
    start = frames["admissions"]["admittime"]
    first = frames["admissions"]["subject_id"].iloc[0]
    of_first = frames["patients"]["subject_id"] == first
    frames["patients"].loc[of_first, "dob"] = start.iloc[0] - pd.DateOffset(years=300)
    ages = load_mimic3(write(frames, suffix=".parquet"), phenotypes=None, outcomes=["mortality"])
    ages = ages.subgroups["age"]
    stays = tables["stays"].set_index("stay_id").loc[ages.index]
    years = stays["start"].dt.year - stays["birth_date"].dt.year
    not_yet = stays["start"].dt.day_of_year < stays["birth_date"].dt.day_of_year
    of_first = stays["patient_id"] == first
    assert (ages[of_first] == 90).all()
    assert ((ages - (years - not_yet))[~of_first].abs() <= 1).all()
    young = load_mimic3(write(frames), phenotypes=None, outcomes=["mortality"], min_age=90)
    assert set(young.groups) == {first}


def test_years_of_two_digits(tables, write):
    frames = as_mimic3(tables)
    expected = load_mimic3(write(frames), outcomes=OUTCOMES, **ALL)
    short = {}
    for name, frame in frames.items():
        times = frame.select_dtypes("datetime").columns
        short[name] = frame.assign(
            **{c: frame[c].dt.strftime("%-m/%-d/%y %-H:%M").where(frame[c].notna()) for c in times}
        )
    cohort = load_mimic3(write(short), outcomes=OUTCOMES, **ALL)
    assert_same(cohort, expected)
    pd.testing.assert_frame_equal(cohort.subgroups, expected.subgroups)


# Birth, type of admission, and age on 23 October 2164 by hand
BIRTHS = [
    ("10/23/64 0:00", "NEWBORN", 0),
    ("10/24/64 0:00", "NEWBORN", None),  # Born after the admission
    ("10/24/64 0:00", "EMERGENCY", None),
    ("1/1/65 0:00", "EMERGENCY", None),  # 99 years, which would be hidden
    ("10/23/75 0:00", "EMERGENCY", 89),
    ("10/24/75 0:00", "EMERGENCY", 88),
    ("10/23/74 0:00", "EMERGENCY", None),  # 90 years, which would be hidden
    ("10/23/64 0:00", "EMERGENCY", 90),  # 1864: 300 years before the first admission
    ("10/20/64 0:00", "EMERGENCY", 90),
    ("10/23/44 0:00", "ELECTIVE", 20),
    ("", "EMERGENCY", None),
]


@pytest.mark.parametrize("typed", [True, False])
def test_births_with_years_of_two_digits(typed, write):
    frames = as_mimic3(with_icd9(long_tables()))
    n = len(BIRTHS)
    birth, kind, age = (list(column) for column in zip(*BIRTHS, strict=True))
    admissions = (
        frames["admissions"]
        .iloc[:n]
        .assign(
            subject_id=range(n),
            hadm_id=range(n),
            admittime="10/23/64 21:09",
            dischtime="10/29/64 10:00",
            deathtime=None,
            admission_type=kind,
        )
    )
    if not typed:
        admissions = admissions.drop(columns="admission_type")
        # Whether someone is a newborn or hidden for old age is not told
        age = [0 if years == 90 else years for years in age]
    patients = pd.DataFrame({"subject_id": range(n), "gender": "F", "dob": birth})
    labs = pd.DataFrame(
        {
            "hadm_id": range(n),
            "itemid": 50983,
            "charttime": "10/23/64 22:00",
            "value": "140",
            "valuenum": 140,
            "valueuom": "mmol/L",
        }
    )
    frames |= {"admissions": admissions, "patients": patients, "labevents": labs}
    options = {"phenotypes": None, "outcomes": ["length_of_stay_2d"]}
    cohort = load_mimic3(write(frames), **options)
    assert cohort.X["age"].astype(object).where(cohort.X["age"].notna(), None).tolist() == age
    n_late = sum(years is None for years in age) - 1
    assert cohort.report()["ages unknown: born after the start"] == n_late


def test_years_of_two_digits_with_am_and_pm(tables, write):
    frames = as_mimic3(tables)
    start = frames["admissions"]["admittime"].dt.floor("s")
    expected = load_mimic3(
        write({**frames, "admissions": frames["admissions"].assign(admittime=start)})
    )
    short = start.dt.strftime("%m/%d/%y %I:%M:%S %p")
    cohort = load_mimic3(
        write({**frames, "admissions": frames["admissions"].assign(admittime=short)})
    )
    pd.testing.assert_series_equal(cohort.index_times, expected.index_times)


def test_death_before_the_index_time_is_no_prediction(tables, write):
    frames = as_mimic3(tables)
    admissions = frames["admissions"]
    admissions["deathtime"] = admissions["admittime"] + pd.Timedelta(hours=12)
    admissions["hospital_expire_flag"] = 1
    admissions.loc[:9, ["deathtime", "hospital_expire_flag"]] = [pd.NaT, 0]
    admissions["dischtime"] = admissions["admittime"] + pd.Timedelta(hours=40)
    for options, reason in (
        ({}, "ended before the index time"),
        ({"finished_stays": "keep"}, "mortality decided at the index time"),
    ):
        cohort = load_mimic3(
            write(frames), phenotypes=None, outcomes=["mortality"], index_time="24h", **options
        )
        assert set(cohort.stay_ids) <= set(admissions["hadm_id"][:10])
        assert cohort.report()[f"stays dropped: {reason}"] == 30


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The tables of MIMIC-III; not to be changed."""
    tables = as_mimic3(with_icd9(long_tables()))
    return write_tables(tmp_path_factory.mktemp("mimic3") / "files", tables)


def test_verbose_shows_the_bar_of_duckdb(folder, monkeypatch, capfd):
    connect = duckdb.connect

    def in_haste(*args, **kwargs):
        connection = connect(*args, **kwargs)
        # To set the time switches the bar on
        connection.execute("SET progress_bar_time = 0")
        connection.execute("SET enable_progress_bar = false")
        capfd.readouterr()
        return connection

    monkeypatch.setattr(duckdb, "connect", in_haste)
    load_mimic3(folder, **ALL)
    assert capfd.readouterr().out == ""
    load_mimic3(folder, verbose=True, **ALL)
    assert "100%" in capfd.readouterr().out


def test_each_table_is_read_once(folder, monkeypatch):
    tables = ("labevents", "noteevents", "diagnoses_icd", "admissions", "patients", "d_labitems")
    scanned = []
    execute, query = Source.execute, Source.query

    def noting(run):
        def noted(self, sql, *args):
            if not sql.startswith("DESCRIBE"):
                scanned.extend(name for name in tables if f"/{name}.csv" in sql)
            return run(self, sql, *args)

        return noted

    monkeypatch.setattr(Source, "execute", noting(execute))
    monkeypatch.setattr(Source, "query", noting(query))
    load_mimic3(folder, **ALL)
    assert sorted(scanned) == sorted(tables)


def test_the_way_through_the_loader_is_short(folder):
    root = str(Path(sklearn_medfuse.__file__).parent)
    visited = set()

    def visit(frame, event, _):
        if event == "call" and frame.f_code.co_filename.startswith(root):
            visited.add(frame.f_code.co_filename.removeprefix(root))

    before = sys.getprofile()
    sys.setprofile(visit)
    try:
        load_mimic3(folder, **ALL)
    finally:
        sys.setprofile(before)
    assert len(visited) <= 10, visited
