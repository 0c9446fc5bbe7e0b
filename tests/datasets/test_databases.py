"""Cohorts from databases: those of the files, with no more leaving the server than is needed."""

import re
import sys
import traceback
from pathlib import Path

import pandas as pd
import pyarrow as pa
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
from sklearn_medfuse.datasets._tables.source import Source

from .conftest import make_tables, write_duckdb, write_tables
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
from .test_long_tables import assert_same

# A tenth of the random tables' results of sodium are in furlongs
pytestmark = pytest.mark.filterwarnings("ignore:.* unit cannot be converted:UserWarning")

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


def with_day_1(frames):
    """Tables in lower case, as the scripts of eicu-code name them, with values of the first day."""
    days = frames["apacheApsVar"].assign(heartrate=80, ph=[7.3, -1] * 20)
    return {name.lower(): frame for name, frame in {**frames, "apacheApsVar": days}.items()}


# Format -> loader, schemas with their tables
FORMATS = {
    "mimic3": (load_mimic3, lambda: {"mimiciii": as_mimic3(with_icd9(long_tables()))}),
    "mimic4": (load_mimic4, lambda: in_two_schemas(as_mimic4(long_tables()))),
    "omop": (load_omop, lambda: {"cdm": as_omop(long_tables())}),
    "clif": (load_clif, lambda: {"public": as_clif(long_tables())}),
    "tables": (load_long, lambda: {"ehr": long_tables()}),
    "meds": (load_meds, lambda: {"meds": as_meds(meds_tables())}),
    "eicu": (load_eicu, lambda: {"eicu_crd": with_day_1(as_eicu(long_tables()))}),
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
        made[name] = (folder / "files", file, server.fill(schemas))
    # Other schemas have tables of these names too
    made["omop"] = (*made["omop"][:2], server.url(schema="cdm"))
    return made


def assert_equal(cohort, expected):
    assert_same(cohort, expected)
    assert cohort.report() == expected.report()
    assert cohort.units == expected.units
    assert cohort.reference_ranges == expected.reference_ranges
    pd.testing.assert_frame_equal(cohort.subgroups, expected.subgroups, check_dtype=False)


CASES = [
    *((name, options) for name in ("mimic3", "mimic4", "omop") for options in OPTIONS),
    *((name, OPTIONS[place]) for name in ("tables", "meds") for place in (2, 3)),
    ("clif", OPTIONS[2]),
    ("clif", OPTIONS[4]),
    *(("eicu", options) for options in OPTIONS[:3]),
    ("eicu", {"note_types": ["note"], "max_note_chars": 50, "lab_names": ["Glucose", "ph"]}),
]


@pytest.mark.parametrize(
    ("name", "options"), CASES, ids=lambda case: case if isinstance(case, str) else "-".join(case)
)
def test_cohort_of_a_database_is_that_of_the_files(name, options, places):
    load = FORMATS[name][0]
    folder, file, url = places[name]
    expected = load(folder, **ALL | options)
    for place in (file, url):
        assert_equal(load(place, **ALL | options), expected)


def test_minutes_of_every_type_and_words_of_the_miniature(server, places, tmp_path):
    frames = {name.lower(): frame for name, frame in make_tables().items()}
    folder = write_tables(tmp_path / "files", frames, suffix=".parquet")
    options = {"n_labels": 3, "admission_diagnosis": True, "drop_note_sections": ["Measurements"]}
    expected = load_eicu(folder, **options)
    for schema, sql_type in {"mini": "bigint", "small": "smallint", "texts": "text"}.items():
        schema = f"eicu_{schema}"
        server.fill({schema: frames})
        server.execute(
            f"ALTER TABLE {schema}.lab ALTER labresultoffset TYPE {sql_type}",
            f"ALTER TABLE {schema}.note ALTER noteoffset TYPE {sql_type}",
        )
        assert_equal(load_eicu(server.url(schema=schema), **options), expected)


@pytest.fixture
def sent(monkeypatch):
    """What the driver hands over: names of columns, rows and greatest batch of every stream."""
    from adbc_driver_manager.dbapi import Cursor

    streams = []
    fetch = Cursor.fetch_record_batch

    def counted(cursor):
        reader = fetch(cursor)
        stream = {"columns": reader.schema.names, "rows": 0, "bytes": 0}
        streams.append(stream)

        def batches():
            for batch in reader:
                stream["rows"] += batch.num_rows
                stream["bytes"] = max(stream["bytes"], batch.nbytes)
                yield batch

        return pa.RecordBatchReader.from_batches(reader.schema, batches())

    monkeypatch.setattr(Cursor, "fetch_record_batch", counted)
    return streams


def dropped(report, table, *reasons):
    return sum(report.get(f"{table} rows dropped: {reason}", 0) for reason in reasons)


STAYS = ("without a stay", "of stays not used")
TIMES = ("without a time", "before the window", "after the index time")


def test_rows_that_are_not_needed_stay_on_the_server(places, sent):
    cohort = load_mimic3(
        places["mimic3"][2], lab_names=["Sodium"], note_types=["nursing"], first_stay=True, **ALL
    )
    report = cohort.report()
    labs = next(stream for stream in sent if "valuenum" in stream["columns"])
    notes = next(stream for stream in sent if "text" in stream["columns"])
    codes = next(stream for stream in sent if "icd9_code" in stream["columns"])
    left = dropped(report, "labevents", *STAYS, *TIMES, "of labs that lab_names lacks")
    assert labs["rows"] == report["labevents rows read"] - left < report["labevents rows read"] / 5
    left = dropped(
        report, "noteevents", *STAYS, *TIMES, "entered after the index time", "of other types"
    )
    assert notes["rows"] == report["noteevents rows read"] - left
    assert notes["rows"] < report["noteevents rows read"] / 3
    left = dropped(report, "diagnoses_icd", *STAYS)
    assert codes["rows"] == report["diagnoses_icd rows read"] - left
    assert len(sent) == 6


def test_minutes_after_the_index_time_stay_on_the_server(places, sent):
    report = load_eicu(places["eicu"][2], lab_names=["ph"], note_types=["note"], **ALL).report()
    for table, column, reasons in (
        ("lab", "labresult", ["of labs that lab_names lacks"]),
        ("note", "notevalue", []),
        ("pastHistory", "pasthistoryvalue", ["of other types"]),
    ):
        rows = next(stream["rows"] for stream in sent if column in stream["columns"])
        left = dropped(report, table, *STAYS, *TIMES, "entered after the index time", *reasons)
        assert rows == report[f"{table} rows read"] - left
        assert rows < report[f"{table} rows read"] / 2


def test_concepts_of_no_use_stay_on_the_server(places, sent):
    cohort = load_omop(places["omop"][2], **ALL)
    units = next(s for s in sent if s["columns"][-2:] == ["concept_code", "domain_id"])
    concepts = as_omop(long_tables())["concept"]
    assert units["rows"] == concepts["domain_id"].eq("Unit").sum()
    measured = next(stream for stream in sent if "value_as_number" in stream["columns"])
    report, table = cohort.report(), "measurement with units"
    assert measured["rows"] == report[f"{table} rows read"] - dropped(report, table, *STAYS, *TIMES)


def test_events_of_meds_leave_the_server_by_their_codes(places, sent):
    load_meds(places["meds"][2], **ALL)
    data = as_meds(meds_tables())["data"]
    notes = [stream["rows"] for stream in sent if stream["columns"][-1] == "text_value"]
    assert sorted(notes) == sorted(
        data["code"].str.startswith(prefix).sum() for prefix in ("NOTE//", "LAB//RESULT//")
    )


READER = "plain"


@pytest.fixture(scope="session")
def reader(server, places):
    """URL of a user who may read the columns that are needed, and no others."""
    server.execute(f"CREATE ROLE {READER} LOGIN PASSWORD 'p'")
    columns = {
        "admissions": "hadm_id, subject_id, admittime, dischtime, deathtime, hospital_expire_flag",
        "patients": "subject_id, gender, dob",
        "d_labitems": "itemid, label, fluid, category",
        "labevents": "hadm_id, itemid, valuenum, value, valueuom, charttime",
        "noteevents": "hadm_id, chartdate, charttime, storetime, category, text, iserror",
        "diagnoses_icd": "hadm_id, icd9_code",
    }
    server.execute(
        f"GRANT USAGE ON SCHEMA mimiciii TO {READER}",
        *(f"ALTER TABLE mimiciii.{table} ADD hidden text DEFAULT 'x'" for table in columns),
        *(f"GRANT SELECT ({of}) ON mimiciii.{table} TO {READER}" for table, of in columns.items()),
    )
    return server.url(user=READER, password="p")


def test_columns_that_are_not_needed_are_not_even_read(reader, places):
    assert_equal(load_mimic3(reader, **ALL), load_mimic3(places["mimic3"][0], **ALL))


def test_who_may_only_read_gets_the_same_cohort(reader, places, sent):
    url = f"{reader}options=-cdefault_transaction_read_only%3Don"
    cohort = load_mimic3(url, first_stay=True, **ALL)
    assert_equal(cohort, load_mimic3(places["mimic3"][0], first_stay=True, **ALL))
    labs = next(stream for stream in sent if "valuenum" in stream["columns"])
    report = cohort.report()
    assert labs["rows"] == report["labevents rows read"] - dropped(
        report, "labevents", "without a stay"
    )


def test_server_log_holds_no_id_of_a_stay(server, places):
    before = len(server.log.read_text())
    cohort = load_mimic3(places["mimic3"][2], **ALL)
    logged = server.log.read_text()[before:]
    # Without the times and process numbers before them, which may look like ids
    said = re.findall(r"(?:statement|execute [^:]*): (.*?)(?=^\d{4}-|\Z)", logged, re.M | re.S)
    assert any("labevents" in statement for statement in said)
    numbers = {int(number) for text in said for number in re.findall(r"\b\d{1,9}\b", text)}
    assert not numbers & set(cohort.stay_ids)


def test_case_of_names_does_not_matter(server, places):
    frames = {
        table.upper(): frame.rename(columns=str.upper)
        for table, frame in as_omop(long_tables()).items()
    }
    server.fill({"CDM": frames})
    assert_equal(load_omop(server.url(schema="CDM"), **ALL), load_omop(places["omop"][0], **ALL))


def test_schema_of_the_url_is_the_one_that_is_read(server, places):
    other = as_mimic3(with_icd9(long_tables(5, n_stays=30)))
    url = server.fill({"copy": other, "zebra": other})
    expected = load_mimic3(places["mimic3"][0], **ALL)
    assert_equal(load_mimic3(url, **ALL), expected)
    copy = load_mimic3(url + "schema=copy", **ALL)
    assert len(copy.X) < len(expected.X)
    assert_equal(load_mimic3(url + "schema=zebra,mimiciii", **ALL), copy)
    in_path = url + "options=-csearch_path%3Dzebra"
    names = ("labevents", "noteevents", "diagnoses_icd", "admissions")
    with pytest.raises(ValueError, match=r"'made' at .* in 4 schemas: copy, mimiciii, mimiciv_"):
        load_tables(*names, database=url)
    with pytest.raises(ValueError, match="'admissions' lacks the columns stay_id, patient_id"):
        load_tables(*names, database=in_path)
    with pytest.raises(ValueError, match=r"no schema 'nowhere' in the database 'made'.* zebra"):
        load_mimic3(url + "schema=nowhere", **ALL)


def test_encoding_and_infinite_times(server, tmp_path):
    frames = as_mimic3(with_icd9(long_tables()))
    notes = frames["noteevents"]
    notes["category"] = notes["category"].replace({"Nursing": "Ärztlich"})
    folder = write_tables(tmp_path / "files", frames, suffix=".parquet")
    options = ALL | {"note_types": ["ärztlich"]}
    expected = load_mimic3(folder, **options)
    assert expected.X["note"].notna().sum() > 10
    server.fill({"umlauts": frames})
    assert_equal(load_mimic3(server.url(schema="umlauts"), **options), expected)
    server.execute(
        "CREATE DATABASE latin1 TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'",
        database="postgres",
    )
    url = server.fill({"mimiciii": frames}, database="latin1")
    assert_equal(load_mimic3(url, **options), expected)
    server.execute(
        "UPDATE mimiciii.noteevents SET storetime = 'infinity' WHERE storetime IS NULL",
        "UPDATE mimiciii.noteevents SET charttime = '-infinity', chartdate = '-infinity' "
        "WHERE category = 'ECG'",
        database="latin1",
    )
    without = notes["category"] == "ECG"
    notes.loc[without, ["charttime", "chartdate"]] = pd.NaT
    folder = write_tables(tmp_path / "without", frames, suffix=".parquet")
    assert_equal(load_mimic3(url, **options), load_mimic3(folder, **options))


def test_tables_of_texts_alone(server, places):
    server.execute("CREATE SCHEMA texts")
    for table, frame in FORMATS["mimic3"][1]()["mimiciii"].items():
        columns = ", ".join(f"{name}::text" for name in frame.columns)
        server.execute(f"CREATE TABLE texts.{table} AS SELECT {columns} FROM mimiciii.{table}")
    cohort = load_mimic3(server.url(schema="texts"), note_types=["ecg"], **ALL)
    assert_equal(cohort, load_mimic3(places["mimic3"][0], note_types=["ecg"], **ALL))


def test_all_streams_see_one_moment(server, places):
    with Source(places["tables"][2], "tables") as source:
        before = source.query(f"SELECT count(*) AS n FROM {source.scan('labs', ['name'])}", "labs")
        server.execute("INSERT INTO ehr.labs (name) VALUES ('Late')")
        labs, other = source.scan("labs", ["name"]), source.scan("labs", ["name"])
        both = source.query(
            f"SELECT count(*) AS n FROM (SELECT * FROM {labs} UNION ALL SELECT * FROM {other})",
            "labs",
        )
    server.execute("DELETE FROM ehr.labs WHERE name = 'Late'")
    assert both["n"].iloc[0] == 2 * before["n"].iloc[0]


def test_long_tables_come_in_parts(server, sent):
    server.execute(
        "CREATE TABLE public.long AS SELECT i AS id, repeat(md5(i::text), 200) AS text "
        "FROM generate_series(1, 8000) i"
    )
    with Source(server.url(), "tables") as source:
        found = source.query(
            f"SELECT sum(len(text)) AS n FROM {source.scan('long', ['text'])}", "long"
        )
    assert found["n"].iloc[0] == 8000 * 6400
    assert sent[0]["bytes"] < 20_000_000 < found["n"].iloc[0]


def told(error):
    """All that a log would show of an error, which no other error hangs on."""
    assert error.value.__cause__ is None
    assert error.value.__context__ is None
    return "".join(traceback.format_exception(error.value)) + repr(error.value)


def broken_urls(server):
    good = server.url("postgres")
    return {
        "password": good.replace("s3cret-pass", "wr0ng-s3cret"),
        "database": server.url("n0where"),
        "port": good.replace(str(server.port), "9"),
        "host": good.replace("127.0.0.1", "no-such-host.invalid"),
        "space": good.replace("s3cret-pass", "s3cret pass"),
        "slash": good.replace("s3cret-pass", "s3cret/pass"),
        "parameter": good + "n0parameter=s3cret",
        "scheme": good.replace("postgresql", "mysql"),
    }


@pytest.mark.parametrize(
    ("broken", "error", "match"),
    [
        ("password", ConnectionError, "the user or password was not accepted"),
        ("database", ConnectionError, "'n0where' at 127.0.0.1:.* there is no such database"),
        ("port", ConnectionError, "at 127.0.0.1:9: no server answers"),
        ("host", ConnectionError, "there is no such host"),
        ("space", ValueError, "percent-encoding"),
        ("slash", ValueError, "percent-encoding"),
        ("parameter", ConnectionError, "the server refuses it"),
        ("scheme", ValueError, "must be of the form postgresql://.*not begin with 'mysql:'"),
    ],
)
def test_errors_of_the_connection_show_no_password(broken, error, match, server, caplog):
    with pytest.raises(error, match=match) as raised:
        load_mimic3(broken_urls(server)[broken])
    assert "s3cret" not in told(raised) + caplog.text


def test_other_errors_show_no_password(server, places, tmp_path):
    url = places["mimic3"][2]
    with Source(url, "tables") as source:
        assert "s3cret" not in repr(vars(source)) + repr(vars(source._place))
    for call, error, match in (
        (
            lambda: load_clif(url + "schema=ehr"),
            FileNotFoundError,
            "No table 'clif_hospitalization' in schema 'ehr' of the database 'made' at 127",
        ),
        (lambda: load_mimic4(url, tmp_path), ValueError, "cannot be combined"),
        (lambda: load_mimic4(tmp_path, url), ValueError, "cannot be combined"),
        (lambda: load_mimic3(Path(url)), TypeError, "as a str: pathlib"),
        (lambda: load_tables(url, None, None, url), ValueError, "as `database`"),
        (lambda: load_eicu(Path(url)), TypeError, "as a str: pathlib"),
    ):
        with pytest.raises(error, match=match) as raised:
            call()
        assert "s3cret" not in told(raised)


def test_missing_driver_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "adbc_driver_postgresql", None)
    monkeypatch.setitem(sys.modules, "adbc_driver_postgresql.dbapi", None)
    with pytest.raises(ImportError, match=r"sklearn-medfuse\[sql\]"):
        load_omop("postgresql://nobody@127.0.0.1/omop")


def test_what_the_server_refuses_is_told_without_its_words(server, places):
    frames = as_mimic3(with_icd9(long_tables()))
    server.fill({"refusing": frames})
    url = server.url(schema="refusing")
    server.execute(
        "CREATE ROLE outsider LOGIN PASSWORD 'p'",
        "ALTER TABLE refusing.patients RENAME COLUMN gender TO sex",
    )
    outsider = server.url(user="outsider", password="p")
    with pytest.raises(
        PermissionError, match=r"may not read table 'patients'.* for SELECT"
    ) as raised:
        load_mimic4(outsider, **ALL)
    assert "patients" in told(raised)
    with pytest.raises(ValueError, match="'patients' lacks the column gender"):
        load_mimic3(url, **ALL)
    server.execute(
        "ALTER TABLE refusing.patients RENAME COLUMN sex TO gender",
        "ALTER TABLE refusing.noteevents RENAME TO kept",
        "CREATE VIEW refusing.noteevents AS SELECT hadm_id, chartdate, charttime, storetime, "
        "category, iserror, CASE WHEN row_number() OVER () > 100 THEN (text || 'x')::int::text "
        "ELSE text END AS text FROM refusing.kept",
    )
    with pytest.raises(ValueError, match="'noteevents' could not be read to its end") as raised:
        load_mimic3(url, index_time="discharge", **ALL)
    assert "note 1" not in told(raised)
    server.execute(
        "DROP VIEW refusing.noteevents",
        "CREATE VIEW refusing.noteevents AS SELECT hadm_id, chartdate, charttime, "
        "storetime, category || pg_sleep(1) AS category, iserror, text FROM refusing.kept",
    )
    with pytest.raises(TimeoutError, match="statement_timeout") as raised:
        load_mimic3(url + "&options=-cstatement_timeout%3D400", note_types=["nursing"], **ALL)
    assert "pg_sleep" not in told(raised)
