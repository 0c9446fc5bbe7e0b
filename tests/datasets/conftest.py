"""A hand-made miniature of the eICU tables: six stays, one for each fate a stay can have."""

import os
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow as pa
import pytest

from .formats import DAY_1

SHARED = Path(os.environ.get("MEDFUSE_DATA", Path(__file__).parents[3] / "shared" / "data"))
HISTORY = "notes/Progress Notes/Past History"
EXAM = "notes/Progress Notes/Physical Exam/Physical Exam"
VITALS = f"{EXAM}/Constitutional/Vital Sign and Physiological Data"
CHF = "CHF, congestive heart failure"
FAMILY = "notes/Progress Notes/Social History / Family History"


# Tables that are made to have every defect lose more rows than a loader keeps silent about
NOT_DEFECT = ("test_demo.py", "test_losses.py")


def pytest_collection_modifyitems(items):
    silent = pytest.mark.filterwarnings("ignore:Much of the input is not used")
    for item in items:
        if item.path.parent == Path(__file__).parent and item.path.name not in NOT_DEFECT:
            item.add_marker(silent)


def _table(columns, *rows):
    return pd.DataFrame(rows, columns=columns.split())


def _apache(*rows):
    """Rows of apacheApsVar; what is not given was not measured."""
    values = [{"patientunitstayid": stay, **dict.fromkeys(DAY_1, -1), **day} for stay, day in rows]
    return pd.DataFrame(values).assign(intubated=0, eyes=4)


def entry_of(menu, choice, text=None):
    return f"{menu}/{choice}", choice, choice.replace(" ", "") if text is None else text


def make_tables():
    """The published tables by name."""
    options, systems = f"{HISTORY}/Past History Obtain Options", f"{HISTORY}/Organ Systems"
    heart, saving = f"{systems}/Cardiovascular (R)", "notes/Shared/View and Save/Save Options"
    return {
        "patient": _table(
            "patientunitstayid uniquepid hospitalid gender age ethnicity apacheadmissiondx "
            "unitdischargeoffset unitdischargestatus patienthealthsystemstayid "
            "hospitaladmitoffset hospitaldischargeyear",
            (6, "004", 20, "Male", "50", "Asian", None, 2000, "Alive", 106, -30, 2014),
            (1, "001", 10, "Female", "70", "Caucasian", CHF, 3000, "Alive", 101, -60, 2014),
            # Five days after the one before
            (2, "001", 10, "Female", "70", "Caucasian", None, 4000, "Alive", 101, -10260, 2014),
            (3, "002", 10, "Male", "40", "Hispanic", None, 5000, "Alive", 103, 0, 2015),
            (4, "002", 20, "Male", "40", "Hispanic", "Sepsis", 3000, "Alive", 104, 0, 2014),
            (5, "003", 20, None, "> 89", None, None, 6000, "Expired", 105, -5, 2015),
        ),
        "diagnosis": _table(
            "diagnosisid patientunitstayid diagnosisoffset icd9code",
            (1, 1, 10, "428.0, I50.9"),
            (2, 1, 90000, "401.9, I10"),
            (3, 3, 10, None),
            (4, 4, 10, "I10"),
            (5, 5, 10, "31.1, 250.00"),
            (6, 6, 10, "276.1, E87.1"),
        ),
        "lab": _table(
            "labid patientunitstayid labresultoffset labname labresult labmeasurenamesystem "
            "labresultrevisedoffset",
            (1, 1, 120, "WBC x 1000", 11.0, "K/mcL", 150),
            (2, 1, 60, "WBC x 1000", 9.0, "K/mcL", 70),
            (3, 1, 60, "creatinine", 5.0, "mg/dL", 70),
            (4, 1, 1440, "FiO2", 0.4, "%", 1440),
            (5, 1, 100, "potassium", 4.0, "mmol/L", 110),
            (6, 6, 100, "potassium", 3.0, "mmol/L", 110),
            (7, 6, 100, "lactate", 2.0, "mmol/L", 110),
            (8, 6, -1440, "Hct", 30.0, "%", -1400),
            # Never to be seen: too early, too late, corrected later, no number, no oxygen
            (9, 6, -1441, "sodium", 100.0, "mmol/L", -1400),
            (10, 1, 1441, "WBC x 1000", 99.0, "K/mcL", 1441),
            (11, 1, 1300, "potassium", 99.0, "mmol/L", 1441),
            (12, 6, 100, "BUN", None, "mg/dL", 110),
            (13, 6, 100, "FiO2", 4000.0, "%", 110),
        ),
        "apacheApsVar": _apache(
            (1, {"creatinine": 1.2, "ph": 7.3}), (4, {}), (6, {"heartrate": 120})
        ),
        "pastHistory": _table(
            "pasthistoryid patientunitstayid pasthistoryoffset pasthistoryenteredoffset "
            "pasthistorypath pasthistoryvalue pasthistoryvaluetext",
            (1, 1, 5, 9, *entry_of(options, "Performed")),
            (2, 1, 5, 9, *entry_of(f"{systems}/Pulmonary/COPD", "COPD  - moderate")),
            (3, 1, 5, 9, *entry_of(f"{heart}/Valve disease", "AS")),
            (4, 1, 5, 9, *entry_of(f"{heart}/Valve disease", "AR")),
            (5, 1, 7, 8, *entry_of(f"{heart}/Valve disease", "AR")),
            (6, 1, 5, 9, *entry_of(f"{heart}/Angina", "angina")),
            (7, 1, 5, 1441, *entry_of(f"{systems}/Pulmonary/Asthma", "asthma")),
            (8, 5, -3000, 1440, *entry_of(options, "Not Obtainable")),
        ),
        "note": _table(
            "noteid patientunitstayid noteoffset noteenteredoffset notepath notevalue notetext",
            (1, 1, 5, 9, *entry_of(f"{saving}/Print/Copies", "Copies", "1")),
            (2, 1, 5, 9, *entry_of(f"{FAMILY}/Social History/Social History/Ethanol Use", "none")),
            (3, 5, 1441, 1441, *entry_of(f"{FAMILY}/Family History/Family History/CAD", "CAD")),
        ),
        "physicalExam": _table(
            "physicalexamid patientunitstayid physicalexamoffset physicalexampath "
            "physicalexamvalue physicalexamtext",
            (1, 1, 5, *entry_of(f"{EXAM}/Neurologic/GCS/Eyes Score", "3")),
            (2, 1, 90, *entry_of(f"{EXAM}/Neurologic/GCS/Eyes Score", "4")),
            (3, 1, 5, *entry_of(f"{EXAM}/Cardiovascular/Pulses/Dorsalis pedis/L", "reduced")),
            (4, 1, 5, *entry_of(f"{VITALS}/HR", "HR Current", "88")),
            (5, 1, 5, *entry_of(f"{VITALS}/HR", "HR Highest", "99")),
            (6, 1, 90, *entry_of(f"{VITALS}/HR", "HR Current", "77")),
            (7, 1, 1441, *entry_of(f"{VITALS}/HR", "HR Current", "11")),
        ),
    }


def write_tables(folder, tables, suffix=".csv"):
    """Write tables as they are published; returns the folder."""
    folder.mkdir(exist_ok=True, parents=True)
    for name, frame in tables.items():
        file = folder / f"{name}{suffix}"
        if suffix == ".parquet":
            frame.to_parquet(file, index=False)
        elif suffix == ".csv":
            frame.to_csv(file, index=False)
        else:
            write_csv(frame, file)
    return folder


def write_csv(frame, file):
    """Write csv, compressed as the suffix says."""
    compression = {".gz": "gzip", ".zst": "zstd"}.get(file.suffix, "none")
    with duckdb.connect() as connection:
        connection.register("frame", frame)
        connection.execute(
            f"COPY frame TO '{file}' (FORMAT csv, HEADER, COMPRESSION {compression})"
        )


def write_duckdb(file, schemas):
    """The same tables as a DuckDB file."""
    with duckdb.connect(str(file)) as connection:
        for schema, frames in schemas.items():
            connection.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
            for table, frame in frames.items():
                connection.register("frame", pa.Table.from_pandas(frame, preserve_index=False))
                parts = ", ".join(
                    f'"{name}"'
                    if not pd.isna(frame[name]).all()
                    else f'"{name}"::VARCHAR AS "{name}"'
                    for name in frame.columns
                )
                connection.execute(f"CREATE TABLE {schema}.{table} AS SELECT {parts} FROM frame")
    return file


def write_in_form(folder, tables, suffix, *, upper):
    """Write tables as files or a DuckDB file, with names in lower or upper case."""
    if upper:
        tables = {name.upper(): frame.rename(columns=str.upper) for name, frame in tables.items()}
    if suffix == ".duckdb":
        return write_duckdb(folder / "tables.duckdb", {"published": tables})
    return write_tables(folder / "files", tables, suffix=suffix)


@pytest.fixture
def tables():
    """The miniature, by table; a test may change it."""
    return make_tables()


@pytest.fixture
def write(tmp_path):
    """Writes tables into a new folder."""

    def write_to_new_folder(tables, **options):
        folders = len(list(tmp_path.glob("eicu*")))
        return write_tables(tmp_path / f"eicu{folders}", tables, **options)

    return write_to_new_folder


@pytest.fixture(scope="session")
def shared_data():
    """The project's data folder, beside the repository where tests run for the project."""
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} is not here: the data stand beside the repository in CI only")
    return SHARED


@pytest.fixture(scope="session")
def server():
    """A PostgreSQL server of the tests' own."""
    pytest.importorskip("adbc_driver_postgresql", reason="the extra `sql` is not installed")
    from .postgres_server import Server

    started = Server()
    yield started
    started.stop()
