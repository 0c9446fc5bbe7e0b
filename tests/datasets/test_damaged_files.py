"""What is wrong with a table is told, or counted, and never a cell of it."""

import gzip

import pytest

from sklearn_medfuse.datasets import load_clif, load_mimic3, load_mimic4, load_omop

from .conftest import write_tables
from .formats import as_clif, as_mimic3, as_mimic4, as_omop, long_tables, with_icd9

CANARY = "Canary4711"
LOADERS = {
    "mimic3": (load_mimic3, as_mimic3, "labevents", "charttime"),
    "mimic4": (load_mimic4, as_mimic4, "labevents", "charttime"),
    "clif": (load_clif, as_clif, "clif_labs", "lab_collect_dttm"),
    "omop": (load_omop, as_omop, "measurement", "measurement_datetime"),
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
    # A chained error would be logged with it, and the engine quotes cells.
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
    column = {"clif": "lab_value_numeric", "omop": "value_as_number"}.get(name, "valuenum")
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


@every_loader
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
    key = {"clif": "hospitalization_id", "omop": "visit_occurrence_id"}.get(name, "hadm_id")
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
        "mimic3": ("diagnoses_icd", "icd9_code"),
        "mimic4": ("diagnoses_icd", "icd_code"),
        "clif": ("clif_hospital_diagnosis", "diagnosis_code"),
        "omop": ("condition_occurrence", "condition_source_value"),
    }[name]
    numbers = frames[name][table].assign(**{column: 4280})
    changed = {**frames[name], table: numbers}
    folder = write_tables(tmp_path / "data", changed, suffix=".parquet")
    refused(load, folder, ValueError, table, column, "leading zeros")


def test_a_file_that_is_no_database(tmp_path):
    file = tmp_path / "mimic.duckdb"
    file.write_bytes(b"nothing of the kind")
    refused(load_mimic3, file, ValueError, "as a DuckDB file")
    refused(load_mimic3, tmp_path / "none.duckdb", FileNotFoundError, "does not exist")


def test_memory_limit_is_named(frames, tmp_path):
    folder = write_tables(tmp_path / "data", frames["mimic3"])
    with pytest.raises(ValueError, match="memory_limit"):
        load_mimic3(folder, memory_limit="1kB")
