import duckdb
import pandas as pd
import pytest

from sklearn_medfuse.datasets import load_omop, load_tables

from .formats import as_omop, expected_of_omop, long_tables
from .test_long_tables import assert_same

# A tenth of the random tables' results of sodium are in furlongs
pytestmark = pytest.mark.filterwarnings("ignore:.* unit cannot be converted:UserWarning")

ALL = {"min_coverage": 0.0, "n_labels": None}


def from_long(tables, **options):
    order = ("labs", "notes", "diagnoses", "stays")
    cohort = load_tables(*(tables[name] for name in order), **ALL | options)
    cohort["groups"] = cohort.groups.astype(int)
    return cohort


@pytest.fixture
def tables():
    return long_tables()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"index_time": "48h", "outcomes": ["mortality", "readmission_30d"], "min_age": 30},
        {"index_time": "discharge", "aggregate": ["first", "count"]},
        {"note_types": ["nursing"], "max_note_chars": 50},
    ],
)
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_cohort_is_that_of_the_same_long_tables(options, suffix, tables, write):
    cohort = load_omop(write(as_omop(tables), suffix=suffix), **ALL | options)
    expected = from_long(expected_of_omop(tables), **options)
    assert_same(cohort, expected)
    assert cohort.units == expected.units
    assert cohort.reference_ranges == expected.reference_ranges
    pd.testing.assert_series_equal(cohort.subgroups["age"], expected.subgroups["age"])


def test_tables_of_a_database_without_regard_to_case(tables, tmp_path):
    file = tmp_path / "omop.duckdb"
    with duckdb.connect(str(file)) as connection:
        connection.execute("CREATE SCHEMA cdm")
        for name, frame in as_omop(tables).items():
            frame = frame.rename(columns=str.upper)
            connection.register("frame", frame)
            connection.execute(f"CREATE TABLE cdm.{name.upper()} AS SELECT * FROM frame")
    assert_same(load_omop(file, **ALL), from_long(expected_of_omop(tables)))


def test_a_column_of_a_database_without_any_value(tables, tmp_path):
    """DuckDB gives a column of nothing, as pandas has it, the type "NULL"."""
    frames = as_omop(tables)
    frames["death"] = frames["death"].iloc[:0].astype({"death_date": object})
    file = tmp_path / "omop.duckdb"
    with duckdb.connect(str(file)) as connection:
        for name, frame in frames.items():
            connection.register("frame", frame)
            connection.execute(f"CREATE TABLE {name} AS SELECT * FROM frame")
    cohort = load_omop(file, outcomes=["mortality"], **ALL)
    assert set(cohort.y["mortality"]) == {0}


def test_other_kinds_of_visit_are_counted(tables, write):
    frames = as_omop(tables)
    frames["visit_occurrence"].loc[:4, "visit_concept_id"] = 9202
    folder = write(frames)
    report = load_omop(folder, **ALL).report()
    assert report["stays dropped: of another kind"] == 5
    everyone = load_omop(folder, visit_concepts=None, **ALL)
    assert_same(everyone, from_long(expected_of_omop(tables)))
    with pytest.raises(ValueError, match="visit_concepts"):
        load_omop(folder, visit_concepts=9201)


def test_a_date_without_a_time_counts_from_the_end_of_that_day(tables, write):
    frames = as_omop(tables)
    for name, column in {"measurement": "measurement_datetime", "note": "note_datetime"}.items():
        frames[name] = frames[name].drop(columns=column)
    cohort = load_omop(write(frames, suffix=".parquet"), index_time="48h", **ALL)
    long = expected_of_omop(tables)
    for name in ("labs", "notes"):
        time, other = long[name]["time"], long[name]["stay_id"].eq(7).fillna(False)
        # Times of no stay stay as they are: a column of midnights alone would be one of dates
        later = (time.dt.normalize() + pd.Timedelta(days=1)).mask(other, time)
        long[name] = long[name].assign(time=later)
    assert_same(cohort, from_long(long, index_time="48h"))


def test_measurements_without_a_concept_are_counted(tables, write):
    cohort = load_omop(write(as_omop(tables)), **ALL)
    dropped = cohort.report()["measurement with units rows dropped: of no known concept"]
    assert 0 < dropped <= tables["labs"]["name"].isna().sum()


def test_results_without_a_number_are_read_from_their_source(tables, write):
    frames = as_omop(tables)
    visits = frames["visit_occurrence"]
    length = visits["visit_end_datetime"] - visits["visit_start_datetime"]
    visit = visits.loc[length.idxmax()]
    concept, stay = 3050813, visit["visit_occurrence_id"]
    # Result, answer and text: the number counts, then the answer, then the text
    rows = [
        (1.0, 0, "7"),
        (None, 0, "<0.5"),
        (None, 0, "2,5 mmol/L"),
        (None, 0, " 3 "),
        (None, None, "4"),
        (None, 45878583, "260385009"),  # Negative, by its code in SNOMED
        (None, 45884084, "260385009"),  # An answer that concept lacks
        (None, 0, "see comment"),
        (None, 0, None),
    ]
    measurement = pd.DataFrame(rows, columns=["value_as_number", "answer", "value_source_value"])
    measurement["value_as_concept_id"] = measurement.pop("answer")
    hour = pd.to_timedelta(range(len(rows)), unit="h")
    measurement["measurement_datetime"] = visit["visit_start_datetime"] + hour
    measurement["measurement_date"] = measurement["measurement_datetime"].dt.date
    measurement = measurement.assign(
        visit_occurrence_id=stay, measurement_concept_id=concept, unit_concept_id=8753
    ).assign(unit_source_value=None)
    frames["measurement"] = measurement
    frames["concept"].loc[len(frames["concept"])] = [
        45878583,
        "Negative",
        "Meas Value",
        "LOINC",
        "LA6577-6",
    ]
    options = {"index_time": 12, "phenotypes": None, "outcomes": ["mortality"]}
    options |= {"aggregate": ["count", "min", "max", "mean"], "min_coverage": 0.0}
    for folder in (write(frames), write(frames, suffix=".parquet")):
        cohort = load_omop(folder, **options)
        counted = cohort.X.loc[stay, cohort.lab_columns].tolist()
        assert counted == [5.0, 0.5, 4.0, (1 + 0.5 + 2.5 + 3 + 4) / 5]
        report = cohort.report()
        assert report["measurement with units rows dropped: without a number"] == 4
    texts = ["value_source_value", "value_as_concept_id"]
    frames["measurement"] = measurement.drop(columns=texts)
    assert load_omop(write(frames), **options).X.loc[stay, "Lactate: count"] == 1


def test_notes_and_deaths_may_be_absent(tables, write):
    frames = as_omop(tables)
    del frames["note"], frames["death"]
    folder = write(frames)
    assert load_omop(folder, **ALL).X["note"].isna().all()
    with pytest.raises(ValueError, match="mortality needs deaths"):
        load_omop(folder, outcomes=["mortality"], **ALL)
