"""What is wrong with a table is told, or counted, and never a cell of it."""

import gzip

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
    make_ehr_cohort,
)

from ..ehr_tables import write_ehr_tables
from .conftest import write_tables
from .formats import (
    as_clif,
    as_eicu,
    as_meds,
    as_mimic3,
    as_mimic4,
    as_omop,
    long_tables,
    meds_tables,
    with_icd9,
    write_meds,
)

# A tenth of the random tables' results of sodium are in furlongs
pytestmark = pytest.mark.filterwarnings("ignore:.* unit cannot be converted:UserWarning")

CANARY = "Canary4711"


def as_is(tables):
    """The long tables themselves."""
    return tables


def load_folder(folder):
    """`load_tables` on a folder with its tables."""
    return load_tables("labs", "notes", "diagnoses", "stays", database=folder)


LOADERS = {
    "tables": (load_folder, as_is, "labs", "time"),
    "mimic3": (load_mimic3, as_mimic3, "labevents", "charttime"),
    "mimic4": (load_mimic4, as_mimic4, "labevents", "charttime"),
    "clif": (load_clif, as_clif, "clif_labs", "lab_collect_dttm"),
    "omop": (load_omop, as_omop, "measurement", "measurement_datetime"),
    "eicu": (load_eicu, as_eicu, "lab", "labresultoffset"),
}


def _rows(table):
    return "measurement with units rows" if table == "measurement" else f"{table} rows"


every_loader = pytest.mark.parametrize("name", LOADERS)


@pytest.fixture(scope="module")
def frames():
    """The tables of every format; not to be changed."""
    tables = with_icd9(long_tables(n_labs=3000))
    return {name: lay_out(tables) for name, (_, lay_out, _, _) in LOADERS.items()}


def refused(load, folder, error, *words):
    with pytest.raises(error) as caught:
        load(folder)
    message = str(caught.value)
    for word in words:
        assert word in message
    assert CANARY not in message
    # A chained error would be logged with it, and the engine quotes cells
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


@every_loader
def test_truncated_gz(name, frames, tmp_path):
    load, _, table, _ = LOADERS[name]
    folder = write_tables(tmp_path / "data", frames[name])
    plain = folder / f"{table}.csv"
    packed = gzip.compress(plain.read_bytes())
    plain.unlink()
    (folder / f"{table}.csv.gz").write_bytes(packed[: len(packed) // 2])
    refused(load, folder, ValueError, f"'{table}'", "truncated")


@every_loader
def test_missing_table(name, frames, tmp_path):
    load, _, table, _ = LOADERS[name]
    rest = {other: frame for other, frame in frames[name].items() if other != table}
    refused(load, write_tables(tmp_path / "data", rest), FileNotFoundError, f"'{table}'")


@every_loader
def test_missing_column(name, frames, tmp_path):
    load, _, table, _ = LOADERS[name]
    columns = {"clif": "lab_value_numeric", "omop": "value_as_number", "tables": "value"}
    columns["eicu"] = "labresult"
    column = columns.get(name, "valuenum")
    changed = {**frames[name], table: frames[name][table].drop(columns=column)}
    refused(load, write_tables(tmp_path / "data", changed), ValueError, table, f"column {column}")


@every_loader
def test_wrong_delimiter(name, frames, tmp_path):
    load, _, table, _ = LOADERS[name]
    folder = write_tables(tmp_path / "data", frames[name])
    frames[name][table].to_csv(folder / f"{table}.csv", sep=";", index=False)
    refused(load, folder, ValueError, table, "separated by commas?")


@every_loader
def test_not_utf_8(name, frames, tmp_path):
    load, _, table, _ = LOADERS[name]
    folder = write_tables(tmp_path / "data", frames[name])
    file = folder / f"{table}.csv"
    file.write_bytes(file.read_bytes().replace(b"mmol/L", f"{CANARY} µmol/L".encode("latin-1")))
    refused(load, folder, ValueError, table, "UTF-8")


@every_loader
def test_row_of_another_length(name, frames, tmp_path):
    load, _, table, _ = LOADERS[name]
    folder = write_tables(tmp_path / "data", frames[name])
    with open(folder / f"{table}.csv", "a") as file:
        file.write(f"{CANARY},{CANARY}\n")
    refused(load, folder, ValueError, table, "rows longer or shorter")


@every_loader
def test_empty_file(name, frames, tmp_path):
    load, _, table, _ = LOADERS[name]
    folder = write_tables(tmp_path / "data", frames[name])
    (folder / f"{table}.csv").write_bytes(b"")
    refused(load, folder, ValueError, table)


@every_loader
def test_table_without_rows_is_counted(name, frames, tmp_path):
    load, _, table, _ = LOADERS[name]
    empty = {**frames[name], table: frames[name][table].iloc[:0]}
    folder = write_tables(tmp_path / "data", empty)
    if name == "clif":
        refused(load, folder, ValueError, "No stay is left", "'clif_labs rows read': 0")
        return
    cohort = load(folder)
    assert cohort.lab_columns == []
    assert cohort.report()[f"{_rows(table)} read"] == 0


@pytest.mark.parametrize("name", [name for name in LOADERS if name != "eicu"])
def test_mixed_time_zones(name, frames, tmp_path):
    load, _, table, column = LOADERS[name]
    times = frames[name][table][column].astype(str).where(frames[name][table][column].notna())
    bare = times.str.replace("+00:00", "", regex=False)
    mixed = bare.where(bare.index % 2 == 0, bare + "+02:00")
    changed = {**frames[name], table: frames[name][table].assign(**{column: mixed})}
    refused(load, write_tables(tmp_path / "data", changed), ValueError, "mixed", column)


@every_loader
def test_unreadable_times_are_counted(name, frames, tmp_path):
    load, _, table, column = LOADERS[name]
    frame = frames[name][table]
    wrong = frame[column].astype(str).where(frame[column].notna()).where(frame.index != 0, CANARY)
    keys = {"clif": "hospitalization_id", "omop": "visit_occurrence_id", "tables": "stay_id"}
    keys["eicu"] = "patientunitstayid"
    key = keys.get(name, "hadm_id")
    stay = load(write_tables(tmp_path / "whole", frames[name])).stay_ids[0]
    changed = frame.assign(**{column: wrong})
    changed[key] = changed[key].astype(object)
    changed.loc[0, key] = stay
    report = load(write_tables(tmp_path / "data", {**frames[name], table: changed})).report()
    assert report[f"{_rows(table)} dropped: with a time that cannot be read"] == 1


@every_loader
def test_codes_as_numbers(name, frames, tmp_path):
    load, _, _, _ = LOADERS[name]
    table, column = {
        "tables": ("diagnoses", "code"),
        "mimic3": ("diagnoses_icd", "icd9_code"),
        "mimic4": ("diagnoses_icd", "icd_code"),
        "clif": ("clif_hospital_diagnosis", "diagnosis_code"),
        "omop": ("condition_occurrence", "condition_source_value"),
        "eicu": ("diagnosis", "icd9code"),
    }[name]
    numbers = frames[name][table].assign(**{column: 4280})
    changed = {**frames[name], table: numbers}
    folder = write_tables(tmp_path / "data", changed, suffix=".parquet")
    refused(load, folder, ValueError, table, column, "leading zeros")


@every_loader
def test_duplicate_key(name, frames, tmp_path):
    load, _, _, _ = LOADERS[name]
    table = {
        "tables": "stays",
        "clif": "clif_hospitalization",
        "omop": "visit_occurrence",
        "eicu": "patient",
    }.get(name, "admissions")
    twice = pd.concat([frames[name][table], frames[name][table].iloc[:2]])
    folder = write_tables(tmp_path / "data", {**frames[name], table: twice})
    refused(load, folder, ValueError, "2 more rows than stays")


# Loader -> dictionary of its lab items, column with their names, and the table of results
DICTIONARIES = {
    "mimic3": ("d_labitems", "label", "labevents"),
    "mimic4": ("d_labitems", "label", "labevents"),
    "omop": ("concept", "concept_name", "measurement with units"),
    "meds": ("codes", "description", "labs of data"),
}


@pytest.mark.parametrize("name", DICTIONARIES)
def test_an_item_without_an_entry_in_the_dictionary_is_counted(name, frames, tmp_path):
    load, write, of = load_meds, write_meds, as_meds(meds_tables())
    if name != "meds":
        (load, _, _, _), write, of = LOADERS[name], write_tables, frames[name]
    dictionary, column, table = DICTIONARIES[name]
    lacking = {**of, dictionary: of[dictionary][of[dictionary][column] != "Sodium"]}
    whole, cohort = (
        load(write(tmp_path / folder, tables))
        for folder, tables in (("whole", of), ("lacking", lacking))
    )
    assert "Sodium" in whole.lab_columns
    assert [lab for lab in whole.lab_columns if lab != "Sodium"] == cohort.lab_columns
    whole, report = whole.report(), cohort.report()
    assert report[f"{table} items that the dictionary lacks"] == 1
    lost = report[f"{table} rows dropped: of items that the dictionary lacks"]
    lost -= whole.get(f"{table} rows dropped: of items that the dictionary lacks", 0)
    unit = f"{table} rows dropped: in a unit that cannot be converted"
    number = f"{table} rows dropped: without a number"
    lost -= sum(whole.get(reason, 0) - report.get(reason, 0) for reason in (unit, number))
    assert whole[f"{table} rows kept"] - report[f"{table} rows kept"] == lost > 0


def test_units_and_conditions_without_a_concept_go_by_what_the_source_wrote(frames, tmp_path):
    of = frames["omop"]
    whole = load_omop(write_tables(tmp_path / "whole", of))
    labs_alone = of["concept"][of["concept"]["domain_id"] == "Measurement"]
    named = load_omop(write_tables(tmp_path / "named", {**of, "concept": labs_alone}))
    pd.testing.assert_frame_equal(named.X, whole.X)
    pd.testing.assert_frame_equal(named.y, whole.y)
    nameless = {
        **of,
        "concept": labs_alone,
        "measurement": of["measurement"].assign(unit_source_value=None),
        "condition_occurrence": of["condition_occurrence"].assign(condition_source_value="local-7"),
    }
    report = load_omop(
        write_tables(tmp_path / "nameless", nameless), phenotypes=None, outcomes=["mortality"]
    ).report()
    assert not any("converted" in what for what in report)
    # Codes that cannot be read leave every label unknown, and none negative
    with pytest.raises(
        ValueError, match=r"No stay is left.*'codes of no version of ICD-CM': [1-9]"
    ):
        load_omop(write_tables(tmp_path / "codes", nameless))


@pytest.fixture
def eicu(tmp_path):
    """Tables of eICU that a cohort was written as."""
    write_ehr_tables(
        make_ehr_cohort(60, random_state=0), tmp_path / "eicu", "eicu", suffix=".csv", n_notes=300
    )
    return tmp_path / "eicu"


@pytest.mark.parametrize("table", ["lab", "note", "diagnosis", "apacheApsVar"])
def test_damaged_tables_of_eicu(table, eicu):
    file = eicu / f"{table}.csv"
    whole = file.read_bytes()
    packed = gzip.compress(whole)
    (eicu / f"{table}.csv.gz").write_bytes(packed[: len(packed) // 2])
    file.unlink()
    refused(load_eicu, eicu, ValueError, f"'{table}'", "truncated")
    (eicu / f"{table}.csv.gz").unlink()
    file.write_bytes(whole.replace(b",", b";"))
    refused(load_eicu, eicu, ValueError, table, "separated by commas")
    file.write_bytes(b"")
    refused(load_eicu, eicu, ValueError, table)
    file.write_bytes(whole + CANARY.encode() + b",1\n")
    refused(load_eicu, eicu, ValueError, table, "rows longer or shorter")
    if table == "note":
        file.write_bytes(whole.replace(b"Patient has", f"{CANARY} µ".encode("latin-1")))
        refused(load_eicu, eicu, ValueError, table, "UTF-8")
    if table == "lab":
        file.write_bytes(whole.splitlines(keepends=True)[0])
        assert load_eicu(eicu).report()["lab rows read"] == 0


def test_damaged_tables_of_meds(tmp_path):
    good = as_meds(meds_tables())
    data = good["data"]
    column = write_meds(tmp_path / "column", {**good, "data": data.drop(columns="numeric_value")})
    refused(load_meds, column, ValueError, "data", "column numeric_value")
    empty = write_meds(tmp_path / "empty", {**good, "data": data.iloc[:0]})
    refused(load_meds, empty, ValueError, "HOSPITAL_ADMISSION")
    zoned = write_meds(tmp_path / "zones", good)
    shard = zoned / "data" / "train" / "0.parquet"
    frame = pd.read_parquet(shard)
    frame.assign(time=frame["time"].dt.tz_localize("UTC")).to_parquet(shard, index=False)
    # One shard with a zone makes one column with it: all times are read in UTC
    expected = load_meds(write_meds(tmp_path / "good", good))
    pd.testing.assert_frame_equal(load_meds(zoned).X, expected.X)


def test_a_file_that_is_no_database(tmp_path):
    file = tmp_path / "mimic.duckdb"
    file.write_bytes(b"nothing of the kind")
    refused(load_mimic3, file, ValueError, "as a DuckDB file")
    refused(load_mimic3, tmp_path / "none.duckdb", FileNotFoundError, "does not exist")


def test_memory_limit_is_named(frames, tmp_path):
    folder = write_tables(tmp_path / "data", frames["mimic3"])
    with pytest.raises(ValueError, match="needs more memory than memory_limit allows"):
        load_mimic3(folder, memory_limit="1kB")
