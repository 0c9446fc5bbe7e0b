import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import FunctionTransformer

from sklearn_medfuse.datasets import load_eicu

from .conftest import EXAM, FAMILY, HISTORY, VITALS, make_tables, write_tables

LABELS = ["congestive_heart_failure", "hypertension_uncomplicated", "diabetes_uncomplicated"]
NOTE_OF_1 = (
    "Past history: Cardiovascular: angina; Valve disease: AR, AS. Pulmonary: COPD - moderate.\n\n"
    "Notes: Social History: Ethanol Use: none.\n\n"
    "Physical exam: Cardiovascular: Pulses Dorsalis pedis L: reduced. "
    "Neurologic: GCS Eyes Score: 4.\n\n"
    "Measurements: HR: Current 77, Highest 99."
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The miniature; a test puts back what it changes."""
    return write_tables(tmp_path_factory.mktemp("eicu") / "files", make_tables())


@pytest.fixture(scope="module")
def cohort(folder):
    """The cohort of the miniature; not to be changed."""
    return load_eicu(folder, n_labels=LABELS, min_coverage=0.5)


def test_features_of_the_miniature(cohort):
    nan = np.nan
    expected = pd.DataFrame(
        {
            "wbc": [11.0, nan, nan],  # Lab: the last in the window, revised in the window
            "heartrate": [nan, nan, 120.0],
            "ph": [7.3, nan, nan],
            "hematocrit": [nan, nan, 30.0],  # Lab: exactly as early as counts
            "creatinine": [1.2, nan, nan],  # apacheApsVar wins over lab
            "fio2": [40.0, nan, nan],  # Lab: a fraction, exactly at the index time
            "potassium": [4.0, nan, 3.0],  # Covers 2 of 3 stays; lactate covers 1
        },
        index=pd.Index([1, 5, 6], name="stay_id"),
    )
    pd.testing.assert_frame_equal(cohort.X[cohort.lab_columns], expected)
    notes = cohort.X["note"]
    assert notes.loc[1] == NOTE_OF_1
    assert notes.loc[5] == "Past history: Not Obtainable."
    assert pd.isna(notes.loc[6])


def test_labels_of_the_miniature(cohort):
    # 401.9 and I10 were entered long after the index time: labels are of the whole stay
    assert cohort.y.to_numpy().tolist() == [[1, 1, 0], [0, 0, 1], [0, 0, 0]]
    assert cohort.target_names == LABELS
    assert {dtype.kind for dtype in cohort.y.dtypes} == {"i"}


def test_the_other_fields(cohort):
    assert cohort.stay_ids.tolist() == [1, 5, 6]
    assert cohort.groups.tolist() == ["001", "003", "004"]
    assert cohort.hospitals.tolist() == [10, 20, 20]
    assert cohort.subgroups["age"].tolist() == [70, 90, 50]
    assert cohort.units["creatinine"] == "mg/dL"
    assert cohort.units["potassium"] == "mmol/L"
    assert cohort.units["ph"] == ""
    assert set(cohort.units) == set(cohort.lab_columns)
    assert cohort.reference_ranges == {}
    assert "Open Database License" in cohort.DESCR
    for field in ("y", "groups", "hospitals", "subgroups"):
        assert cohort[field].index.equals(cohort.X.index)


def test_report_of_the_miniature(cohort):
    report = cohort.report()
    expected = {
        "stays read": 6,
        "stays dropped: without a diagnosis code": 2,
        "stays dropped: with neither labs nor notes": 1,
        "stays kept": 3,
        "stays kept: without labs": 1,
        "stays kept: without notes": 1,
        "lab rows read": 13,
        "lab rows dropped: before the window": 1,
        "lab rows dropped: after the index time": 1,
        "lab rows dropped: entered after the index time": 1,
        "lab rows dropped: without a number": 1,
        "lab rows dropped: FiO2 that is no percentage": 1,
        "lab rows kept": 8,
        "pastHistory rows dropped: entered after the index time": 1,
        "diagnosis rows read": 6,
        "diagnosis rows dropped: without a code": 1,
        "codes of no version of ICD-CM": 1,
    }
    assert {name: report.get(name) for name in expected} == expected


def test_admission_diagnosis_comes_first_if_wanted(folder):
    cohort = load_eicu(folder, n_labels=LABELS, admission_diagnosis=True)
    assert cohort.X.loc[1, "note"] == (
        "Admission diagnosis: CHF, congestive heart failure.\n\n" + NOTE_OF_1
    )


@pytest.mark.parametrize(
    ("require", "stays"),
    [((), [1, 5, 6]), ("labs", [1, 6]), (["notes"], [1, 5]), (("labs", "notes"), [1])],
)
def test_require(folder, require, stays):
    cohort = load_eicu(folder, n_labels=LABELS, require=require)
    assert cohort.stay_ids.tolist() == stays


def test_order_of_rows_does_not_matter(tables, write, cohort):
    shuffled = {name: frame.sample(frac=1, random_state=3) for name, frame in tables.items()}
    other = load_eicu(write(shuffled), n_labels=LABELS, min_coverage=0.5)
    pd.testing.assert_frame_equal(other.X, cohort.X)
    pd.testing.assert_frame_equal(other.y, cohort.y)


def test_day_1_summaries_are_not_used_before_the_day_is_over(folder):
    cohort = load_eicu(folder, index_time="12h", n_labels=LABELS, min_coverage=0.5)
    assert cohort.X.loc[1, "creatinine"] == 5.0  # The lab, as it stood at 12 hours
    assert "ph" not in cohort.X
    assert "heartrate" not in cohort.X
    assert cohort.report()["apacheApsVar rows kept"] == 0


def _late_rows(tables, index_time):
    """The miniature's rows again with other values and other labs, after the index time."""
    late = index_time + 1
    extra = {
        "lab": [
            (90, 1, late, "WBC x 1000", 1e6, "K/mcL", late),
            (91, 6, 5, "sodium", 1e6, "x", late),
        ],
        "pastHistory": [(90, 1, 5, late, f"{HISTORY}/Late/late", "late", "late")],
        "note": [
            (90, 1, late, 5, f"{FAMILY}/Late/late", "late", "late"),
            (91, 6, 5, late, f"{FAMILY}/Late/late", "late", "late"),
        ],
        "physicalExam": [
            (90, 1, late, f"{EXAM}/Late/late", "late", "late"),
            (91, 6, late, f"{VITALS}/HR/HR Current", "HR Current", "999"),
        ],
    }
    return {
        name: pd.concat([frame, pd.DataFrame(extra[name], columns=frame.columns)])
        if name in extra
        else frame
        for name, frame in tables.items()
    }


@pytest.mark.parametrize("hours", [2, 24, 48])
def test_nothing_after_the_index_time_reaches_a_feature(tables, write, hours):
    options = {"index_time": hours, "n_labels": None, "min_coverage": 0.0}
    before = load_eicu(write(tables), **options)
    after = load_eicu(write(_late_rows(tables, hours * 60)), **options)
    pd.testing.assert_frame_equal(after.X, before.X, check_exact=True)

    # Late rows moved further, altered or gone: nothing changes either
    times = {
        "lab": ["labresultoffset", "labresultrevisedoffset"],
        "pastHistory": ["pasthistoryoffset", "pasthistoryenteredoffset"],
        "note": ["noteoffset", "noteenteredoffset"],
        "physicalExam": ["physicalexamoffset"],
    }
    gone = {
        name: frame[(frame[times[name]] <= hours * 60).all(axis=1)] if name in times else frame
        for name, frame in tables.items()
    }
    pd.testing.assert_frame_equal(load_eicu(write(gone), **options).X, before.X, check_exact=True)


def test_later_diagnoses_change_labels_and_not_features(tables, write, cohort):
    tables["diagnosis"].loc[len(tables["diagnosis"])] = (9, 6, 5000, "I10")
    other = load_eicu(write(tables), n_labels=LABELS, min_coverage=0.5)
    pd.testing.assert_frame_equal(other.X, cohort.X, check_exact=True)
    assert other.y.loc[6, "hypertension_uncomplicated"] == 1


def test_columns_work_in_a_column_transformer(cohort):
    has_note = FunctionTransformer(lambda notes: notes.notna().to_numpy()[:, None])
    transformer = ColumnTransformer(
        [("labs", SimpleImputer(), cohort.lab_columns), ("notes", has_note, cohort.note_column)]
    )
    assert transformer.fit_transform(cohort.X)[:, -1].tolist() == [1, 1, 0]


@pytest.mark.parametrize("table", list(make_tables()))
def test_missing_table_and_column_are_named(tables, folder, table):
    file = folder / f"{table}.csv"
    try:
        optional = {"admissionheight", "admissionweight", "unitstaytype", "unitadmitsource"}
        optional |= {"unittype"}
        unread = {f"{table.lower()}id", "intubated", "eyes"}
        needed = tables[table].columns.difference(optional | unread)
        for column in needed:
            tables[table].drop(columns=column).to_csv(file, index=False)
            with pytest.raises(ValueError, match=f"'{table}' lacks the column {column}"):
                load_eicu(
                    folder,
                    admission_diagnosis=column == "apacheadmissiondx",
                    labels="after_index" if column == "diagnosisoffset" else "during_stay",
                )
        file.unlink()
        missing = rf"No table '{table}'.*https://physionet\.org"
        with pytest.raises(FileNotFoundError, match=missing):
            load_eicu(folder)
    finally:
        tables[table].to_csv(file, index=False)


@pytest.mark.parametrize(
    ("table", "of"), [("patient", "of stays"), ("apacheApsVar", "'apacheA.*'")]
)
def test_a_stay_twice_in_a_table_of_stays(tables, write, table, of):
    tables[table] = pd.concat([tables[table], tables[table].iloc[[1]]])
    with pytest.raises(ValueError, match=f"[Tt]able .*{of} has 1 more rows than stays"):
        load_eicu(write(tables))


def test_no_stay_left(tables, write):
    tables["diagnosis"] = tables["diagnosis"].iloc[:0]
    with pytest.raises(ValueError, match=r"No stay is left.*'stays read': 6"):
        load_eicu(write(tables))


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("index_time", "soon"),
        ("lookback", -1),
        ("n_labels", 0),
        ("n_labels", ["gout"]),
        ("require", "images"),
        ("min_coverage", 1.1),
    ],
)
def test_wrong_parameters_are_named(folder, parameter, value):
    with pytest.raises(ValueError, match=parameter):
        load_eicu(folder, **{parameter: value})
