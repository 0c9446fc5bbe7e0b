"""What every loader offers, for eICU: against the same stays as long tables, and by hand."""

import duckdb
import numpy as np
import pandas as pd
import pytest

from sklearn_medfuse.datasets import load_eicu, load_tables

from .conftest import EXAM, HISTORY, entry_of, make_tables, write_in_form, write_tables
from .formats import as_eicu, expected_of_eicu, long_tables
from .long_tables import known_in_time
from .test_long_tables import assert_same

# A tenth of the random tables' results of sodium are in furlongs
pytestmark = pytest.mark.filterwarnings("ignore:.* unit cannot be converted:UserWarning")

ALL = {"min_coverage": 0.0, "n_labels": None}
OUTCOMES = ["mortality", "readmission_30d", "length_of_stay_3d"]


@pytest.fixture(scope="module")
def tables():
    """Long tables; not to be changed."""
    return long_tables()


@pytest.fixture(scope="module")
def folder(tables, tmp_path_factory):
    """The same as eICU."""
    return write_tables(tmp_path_factory.mktemp("eicu") / "files", as_eicu(tables), ".parquet")


@pytest.fixture(scope="module")
def whole(folder):
    """The cohort of these tables; not to be changed."""
    return load_eicu(folder, **ALL)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"index_time": "48h", "aggregate": ["mean", "slope", "count"], "outcomes": OUTCOMES},
        {"index_time": "discharge", "require": "labs", "first_stay": True},
        {"index_time": "discharge + 12h", "phenotypes": None, "outcomes": ["readmission_90d"]},
        {"without_stored_time": "drop", "phenotypes": {"renal": ["585", "N18"]}},
        {"min_age": 40, "lookback": "2h", "aggregate": ["first", "min", "max"]},
        {"lab_names": ["ph", "Sodium"], "require": ["labs", "notes"]},
        {"units": {"Glucose": "mmol/L"}, "n_labels": 2, "min_coverage": 0.6},
    ],
    ids=lambda options: "-".join(options) or "none",
)
def test_cohort_is_that_of_the_same_long_tables(options, tables, folder):
    cohort = load_eicu(folder, **ALL | options)
    long = expected_of_eicu(tables)
    order = ("labs", "notes", "diagnoses", "stays")
    expected = load_tables(*(long[name] for name in order), **ALL | options)
    assert sorted(cohort.lab_columns) == sorted(expected.lab_columns)
    # DuckDB before 2.0 sums in another order, so a slope can differ in its last digits
    exact = {"rtol": 1e-13} if duckdb.__version__.startswith("1.") else {"check_exact": True}
    pd.testing.assert_frame_equal(
        cohort.X[expected.lab_columns], expected.X[expected.lab_columns], **exact
    )
    assert cohort.X["note"].notna().tolist() == expected.X["note"].notna().tolist()
    pd.testing.assert_frame_equal(cohort.y, expected.y)
    pd.testing.assert_series_equal(cohort.groups, expected.groups)
    assert cohort.units == expected.units
    report, told = cohort.report(), expected.report()
    for name, n in told.items():
        if name.startswith(("stays", "codes")):
            assert report[name] == n, name
        elif name.startswith("labs"):
            assert report[f"lab{name.removeprefix('labs')}"] == n, name


def words(tables, hours=24):
    """Stay, type and words of the notes that were known, each once."""
    notes = known_in_time(tables["notes"], tables["stays"], hours)
    notes = notes.assign(words=notes["text"].str.split().str.join(" "))
    newest = notes.groupby(["stay_id", "type", "words"], as_index=False)["time"].max()
    return newest.assign(section=np.where(newest["type"] == "ECG", "Past history", "Notes"))


def composed(entries, order):
    """The texts by plain pandas; `order` puts entries of a section in order."""
    topic = {"Past history": "Heart", "Notes": "Comments"}
    texts = {}
    for stay, of_stay in entries.groupby("stay_id"):
        sections = {
            section: (of[::1].sort_values(order["by"], ascending=order["ascending"]))
            for section, of in of_stay.groupby("section")
        }
        first = {
            name: (-of["time"].max().value if order["newest"] else 0, name == "Notes")
            for name, of in sections.items()
        }
        texts[stay] = "\n\n".join(
            f"{name}: {topic[name]}: {'; '.join(dict.fromkeys(sections[name]['words']))}."
            for name in sorted(sections, key=first.get)
        )
    return pd.Series(texts)


ORDERS = {
    "oldest_first": {"by": ["words"], "ascending": True, "newest": False},
    "newest_first": {"by": ["time", "words"], "ascending": [False, True], "newest": True},
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("hours", [6, 24, 60])
def test_notes_are_those_of_plain_pandas(order, hours, tables, folder):
    cohort = load_eicu(folder, index_time=hours, note_order=order, **ALL)
    expected = composed(words(tables, hours), ORDERS[order]).reindex(cohort.stay_ids)
    assert cohort.X["note"].fillna("").tolist() == expected.fillna("").tolist()
    assert cohort.X["note"].notna().sum() > 5


@pytest.mark.parametrize(
    ("name", "types"), [("note", ["Nursing", "Radiology"]), ("PASTHISTORY", ["ECG"])]
)
def test_types_of_notes_are_the_tables(name, types, tables, folder):
    cohort = load_eicu(folder, note_types=[f" {name}"], **ALL)
    entries = words(tables)
    expected = composed(entries[entries["type"].isin(types)], ORDERS["oldest_first"])
    assert (
        cohort.X["note"].fillna("").tolist()
        == expected.reindex(cohort.stay_ids).fillna("").tolist()
    )
    assert sum(n for what, n in cohort.report().items() if "of other types" in what) > 0


def test_types_of_notes_that_are_no_tables_are_refused(folder):
    with pytest.raises(ValueError, match=r"note_types has \['nursing'\].* physicalExam"):
        load_eicu(folder, note_types=["note", "nursing"], **ALL)


@pytest.mark.parametrize("budget", [1, 40, 60, 90, 130, 10_000])
def test_a_budget_is_kept_and_spent_on_the_newest(budget, tables, folder, whole):
    cohort = load_eicu(folder, max_note_chars=budget, **ALL)
    notes = cohort.X["note"].reindex(whole.stay_ids)
    assert notes.fillna("").str.len().max() <= budget
    if budget == 10_000:
        assert_same(cohort, whole)
    entries = words(tables)
    for stay, of_stay in entries[entries["stay_id"].isin(whole.stay_ids)].groupby("stay_id"):
        there = of_stay.assign(used=[w in str(notes[stay]) for w in of_stay["words"]])
        # Equal words of two sections or inside others cannot be told apart by a look at the text
        if there["words"].is_unique and not there["used"].all():
            used, left_out = there[there["used"]], there[~there["used"]].sort_values("time")
            assert used.empty or used["time"].min() >= left_out["time"].iloc[-1]
            if (left_out["time"] == left_out["time"].iloc[-1]).sum() == 1:
                # One more would have been too much
                more = composed(pd.concat([used, left_out[-1:]]), ORDERS["oldest_first"])
                assert len(more[stay]) > budget
    n_used = cohort.report()["entries of notes used within max_note_chars"]
    assert (n_used == 0) == (budget == 1)


def test_a_budget_counts_every_character(write):
    """Of values with and without a topic and a head, by hand in the miniature."""
    mini = make_tables()
    row = (20, 1, 5, 9, *entry_of(f"{HISTORY}/Past History Obtain Options", "No Health Problems"))
    mini["pastHistory"].loc[len(mini["pastHistory"])] = row
    folder = write(mini)
    whole = load_eicu(folder, n_labels=None).X.loc[1, "note"]
    for word in ("No Health Problems", "Valve disease: ", "Cardiovascular: ", "HR: "):
        assert word in whole
    for less in (0, 1):
        options = {"n_labels": None, "max_note_chars": len(whole) - less}
        assert (load_eicu(folder, **options).X.loc[1, "note"] == whole) == (less == 0)


@pytest.mark.parametrize(
    ("suffix", "upper"),
    [
        (".csv", True),
        (".csv.gz", False),
        (".csv.zst", True),
        (".parquet", True),
        (".duckdb", False),
        (".duckdb", True),
    ],
)
def test_form_and_case_of_the_tables_do_not_matter(suffix, upper, tables, whole, tmp_path):
    cohort = load_eicu(write_in_form(tmp_path, as_eicu(tables), suffix, upper=upper), **ALL)
    assert_same(cohort, whole)
    assert cohort.report() == whole.report()


# By hand


def test_day_1_values_stand_for_the_last_result_and_fill_in_for_others(write):
    mini = make_tables()
    mini["lab"].loc[len(mini["lab"])] = (20, 1, 30, "creatinine", 3.0, "mg/dL", 40)
    aggregates = ["last", "first", "mean", "min", "max", "count", "slope"]
    X = load_eicu(write(mini), aggregate=aggregates, n_labels=None, min_coverage=0.9).X
    of_1 = {name: X.loc[1, f"creatinine: {name}"] for name in aggregates}
    # 3.0 at 30 minutes and 5.0 at 60, and 1.2 as the worst value of the day
    assert of_1 == {
        "last": 1.2, "first": 3.0, "mean": 4.0, "min": 3.0, "max": 5.0, "count": 2, "slope": 4.0
    }  # fmt: skip
    assert X.loc[6, [f"heartrate: {name}" for name in aggregates[:5]]].tolist() == [120.0] * 5
    # There is nothing to count of what is in no result
    assert "heartrate: count" not in X
    assert "heartrate: slope" not in X
    early = load_eicu(write(mini), aggregate=aggregates, index_time="23h", n_labels=None).X
    assert "heartrate: last" not in early
    assert early.loc[1, "creatinine: last"] == 5.0


def test_day_1_values_by_name_and_in_other_units(write):
    folder = write(make_tables())
    cohort = load_eicu(
        folder, lab_names=["heartrate", "creatinine"], units={"creatinine": "umol/L"}, n_labels=None
    )
    assert cohort.lab_columns == ["heartrate", "creatinine"]
    assert cohort.X.loc[1, "creatinine"] == pytest.approx(1.2 * 88.4, rel=1e-3)
    assert cohort.units == {"heartrate": "/min", "creatinine": "umol/L"}
    lost = load_eicu(folder, units={"heartrate": "mg/dL"}, n_labels=None)
    assert "heartrate" not in lost.lab_columns
    reason = "apacheApsVar cells dropped: in a unit that cannot be converted"
    assert lost.report()[reason] == 1
    with pytest.raises(ValueError, match="lab_names has \\['urine'\\]"):
        load_eicu(folder, lab_names=["urine"], n_labels=None)
    with pytest.raises(ValueError, match="units names labs without any result: \\['gold'\\]"):
        load_eicu(folder, units={"gold": "kg"}, n_labels=None)


def test_day_1_values_go_by_the_index_time_of_each_stay(write):
    mini = make_tables()
    stays = mini["patient"].set_index("patientunitstayid")
    stays.loc[1, "unitdischargeoffset"] = 1439
    mini["patient"] = stays.reset_index()
    cohort = load_eicu(write(mini), index_time="discharge", n_labels=None, min_coverage=0.0)
    assert cohort.X.loc[1, "creatinine"] == 5.0
    assert cohort.X.loc[6, "heartrate"] == 120.0
    assert cohort.report()["apacheApsVar rows dropped: after the index time"] == 1


def test_cells_that_are_no_numbers_are_counted(write):
    mini = make_tables()
    mini["apacheApsVar"] = mini["apacheApsVar"].astype({"ph": object})
    mini["apacheApsVar"].loc[0, "ph"] = "acid"
    mini["lab"] = mini["lab"].astype({"labresultoffset": object})
    mini["lab"].loc[0, "labresultoffset"] = "noon"
    report = load_eicu(write(mini), n_labels=None).report()
    assert report["apacheApsVar cells dropped: not numbers"] == 1
    assert report["lab rows dropped: with a time that cannot be read"] == 1


@pytest.mark.parametrize(
    ("sections", "gone", "left"),
    [
        (["past HISTORY:"], ["angina", "AR"], ["Ethanol", "HR: Current"]),
        (["Social History"], ["Ethanol"], ["angina", "HR: Current"]),
        (["Measurements"], ["HR: Current"], ["angina", "Eyes Score"]),
        (["Cardiovascular", "Notes"], ["angina", "Dorsalis", "Ethanol"], ["COPD", "HR: Current"]),
        (["Admission diagnosis"], ["CHF"], ["angina", "HR: Current"]),
    ],
)
def test_parts_of_the_text_and_menus_can_be_left_out(sections, gone, left, write):
    options = {"n_labels": None, "admission_diagnosis": True}
    folder = write(make_tables())
    cohort = load_eicu(folder, drop_note_sections=sections, **options)
    note = cohort.X.loc[1, "note"]
    assert not any(word in note for word in gone)
    assert all(word in note for word in left)
    whole = load_eicu(folder, **options)
    assert all(word in whole.X.loc[1, "note"] for word in [*gone, *left])
    dropped = [n for what, n in cohort.report().items() if what.endswith("in sections to drop")]
    assert sum(dropped) > 0 or sections == ["Admission diagnosis"]


def test_menus_that_state_the_outcome(write):
    mini = make_tables()
    stated = "notes/Progress Notes/Assessment and Plan/Discharge Diagnosis"
    mini["note"].loc[len(mini["note"])] = (9, 1, 5, 9, f"{stated}/sepsis", "sepsis", "sepsis")
    assert "sepsis" in load_eicu(write(mini), n_labels=None).X.loc[1, "note"]
    left = load_eicu(write(mini), n_labels=None, drop_note_sections="outcome")
    assert_same(left, load_eicu(write(make_tables()), n_labels=None))


def test_examinations_of_other_stays_and_forms_do_not_supersede(write):
    mini = make_tables()
    rows = [(20, 5, 900, *entry_of(f"{EXAM}/Neurologic/GCS/Eyes Score", "1"))]
    mini["physicalExam"] = pd.concat(
        [mini["physicalExam"], pd.DataFrame(rows, columns=mini["physicalExam"].columns)]
    )
    cohort = load_eicu(write(mini), n_labels=None)
    assert "Eyes Score: 4" in cohort.X.loc[1, "note"]
    assert "Eyes Score: 1" in cohort.X.loc[5, "note"]


def test_a_missing_stored_time_is_kept_or_dropped_and_counted(write):
    mini = make_tables()
    row = (20, 1, 5, None, *entry_of(f"{HISTORY}/Organ Systems/Renal", "dialysis"))
    mini["pastHistory"] = pd.concat(
        [mini["pastHistory"], pd.DataFrame([row], columns=mini["pastHistory"].columns)]
    )
    folder = write(mini)
    kept = load_eicu(folder, n_labels=None)
    assert "dialysis" in kept.X.loc[1, "note"]
    told = "pastHistory rows kept: without a stored time, judged by the other"
    assert kept.report()[told] == 1
    dropped = load_eicu(folder, n_labels=None, without_stored_time="drop")
    assert "dialysis" not in dropped.X.loc[1, "note"]
    assert dropped.report()["pastHistory rows dropped: without a stored time"] == 1


@pytest.fixture
def with_labs():
    """The miniature, in which every stay has a result."""
    mini = make_tables()
    day_1 = mini["apacheApsVar"]
    others = day_1.iloc[[1, 1, 1]].assign(patientunitstayid=[2, 3, 5])
    return mini | {"apacheApsVar": pd.concat([day_1, others]).assign(heartrate=80)}


@pytest.mark.parametrize(
    ("column", "unknown"),
    [
        ("hospitaladmitoffset", {1, 2, 4}),
        ("hospitaldischargeyear", {3, 4}),
        ("patienthealthsystemstayid", None),
    ],
)
def test_what_the_source_does_not_tell_of_the_next_stay_is_not_known(
    with_labs, write, column, unknown
):
    patient = with_labs["patient"].astype({column: float})
    patient[column] = np.nan
    folder = write(with_labs | {"patient": patient})
    options = {"phenotypes": None, "outcomes": ["readmission_30d"]}
    if unknown is None:
        with pytest.raises(ValueError, match=r"No stay is left.*readmission_30d not known': 6"):
            load_eicu(folder, **options)
        return
    # Stay 5 ended with a death
    assert set(load_eicu(folder, **options).y.index) == {1, 2, 3, 4, 6} - unknown


def test_outcomes_and_first_stays_of_the_miniature(with_labs, write):
    folder = write(with_labs)

    def y(name, **options):
        cohort = load_eicu(folder, phenotypes=None, outcomes=[name], **options)
        assert cohort["index_times"] is None
        return cohort.y[name].to_dict(), cohort.report()

    known, report = y("readmission_30d")
    assert known == {1: 1, 2: 0, 3: 0, 6: 0}
    assert report["stays dropped: readmission_30d not known"] == 2  # 4, and 5 who died
    assert y("readmission_3d")[0] == {1: 0, 2: 0, 3: 0, 6: 0}
    assert y("mortality")[0] == {1: 0, 2: 0, 3: 0, 4: 0, 5: 1, 6: 0}
    assert y("length_of_stay_3d")[0] == {1: 0, 2: 0, 3: 1, 4: 0, 5: 1, 6: 0}
    assert set(y("mortality", first_stay=True)[0]) == {1, 4, 5, 6}
    assert set(y("mortality", min_age=60)[0]) == {1, 2, 5}
