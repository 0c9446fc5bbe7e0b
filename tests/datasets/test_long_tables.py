import inspect
import re
import stat

import duckdb
import numpy as np
import pandas as pd
import pytest

from sklearn_medfuse import datasets
from sklearn_medfuse.datasets import CohortOptions, load_tables, phenotypes
from sklearn_medfuse.datasets._tables.source import Source

from .conftest import write_csv
from .long_tables import expected_labs, expected_last, known_in_time, make_tables

# A tenth of the random tables' results of sodium are in furlongs
pytestmark = pytest.mark.filterwarnings("ignore:.* unit cannot be converted:UserWarning")

ALL = {"min_coverage": 0.0, "n_labels": None}


def load(tables, **options):
    order = ("labs", "notes", "diagnoses", "stays")
    return load_tables(*(tables[name] for name in order), **options)


@pytest.fixture
def tables():
    return make_tables()


def coded(tables, hours=24):
    """Stays with a code that had not ended at the index time."""
    stays, codes = tables["stays"], tables["diagnoses"].dropna()
    # 31.1 is of no version: a stay of which no code could be read has unknown labels
    codes = codes[codes["code"] != "31.1"]
    going_on = stays["end"] >= stays["start"] + pd.Timedelta(hours=hours)
    return stays[stays["stay_id"].isin(codes["stay_id"]) & going_on]


def assert_same(one, other, **how):
    """Equal features, labels and groups; the order of their rows included."""
    pd.testing.assert_frame_equal(one.X, other.X, **how)
    pd.testing.assert_frame_equal(one.y, other.y)
    pd.testing.assert_series_equal(one.groups, other.groups)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("hours", [12, 24, 48])
def test_last_values_and_counts_are_those_of_plain_pandas(seed, hours):
    tables = make_tables(seed)
    cohort = load(tables, index_time=hours, **ALL)
    stays = coded(tables, hours)
    labs = expected_labs(tables, stays, hours)
    expected = expected_last(labs).reindex(index=cohort.stay_ids)[cohort.lab_columns]
    np.testing.assert_allclose(cohort.X[cohort.lab_columns], expected, rtol=1e-12)
    report = cohort.report()
    lost = known_in_time(tables["labs"], stays, hours, 24)
    lost = lost[lost["name"].notna() & lost["value"].notna() & lost["unit"].eq("furlong")]
    assert report["labs rows kept"] == len(labs)
    assert report["labs rows dropped: in a unit that cannot be converted"] == len(lost)
    dropped = [n for name, n in report.items() if name.startswith("labs rows dropped")]
    assert report["labs rows read"] == len(tables["labs"]) == len(labs) + sum(dropped)


def test_every_aggregate_is_that_of_plain_pandas(tables):
    names = ["last", "first", "mean", "min", "max", "count", "slope"]
    cohort = load(tables, aggregate=names, index_time=48, **ALL)
    labs = expected_labs(tables, coded(tables, 48), 48)
    groups = labs.groupby(["stay_id", "name"])
    expected = {name: groups["value"].agg(name) for name in ("mean", "min", "max", "count")}
    expected["slope"] = groups[["hours", "value"]].apply(
        lambda g: np.polyfit(g["hours"], g["value"], 1)[0] if np.ptp(g["hours"]) else np.nan
    )
    last = expected_last(labs)
    first = labs.sort_values(["time", "value"], ascending=[True, False])
    expected["first"] = first.groupby(["stay_id", "name"])["value"].first()
    expected["last"] = last.melt(ignore_index=False).set_index("name", append=True)["value"]
    for name in names:
        for lab in ("Sodium", "Glucose", "pH", "Lactate"):
            column = cohort.X[f"{lab}: {name}"]
            wide = expected[name].xs(lab, level="name").reindex(column.index)
            np.testing.assert_allclose(column, wide.astype(float), rtol=1e-7, err_msg=name)
    assert cohort.units["Glucose: slope"] == "mg/dL/h"
    assert cohort.units["Glucose: count"] == ""
    assert cohort.reference_ranges["Sodium: max"] == (50.0, 150.0)
    assert "Sodium: slope" not in cohort.reference_ranges


def test_notes_are_those_known_oldest_first(tables):
    cohort = load(tables, **ALL)
    notes = known_in_time(tables["notes"], coded(tables))
    notes = notes[notes["text"].str.strip() != ""].assign(text=notes["text"].str.strip())
    expected = notes.sort_values(["time", "type", "text"]).groupby("stay_id")["text"]
    expected = expected.agg("\n\n".join).reindex(cohort.stay_ids)
    assert cohort.X["note"].fillna("").tolist() == expected.fillna("").tolist()
    kept = cohort.report()["notes rows kept: without a stored time, judged by the other"]
    assert kept == notes["stored_time"].isna().sum()


def test_note_types_order_and_budget(tables):
    all_of_type = load(tables, note_types=["nursing"], **ALL)
    others = tables["notes"][tables["notes"]["type"] == "Nursing"]
    assert_same(all_of_type, load({**tables, "notes": others}, **ALL))
    assert all_of_type.report()["notes rows dropped: of other types"] > 0

    newest = load(tables, note_order="newest_first", **ALL).X["note"].fillna("")
    oldest = load(tables, **ALL).X["note"].fillna("")
    times_differ = ["\n\n".join(reversed(text.split("\n\n"))) for text in oldest]
    assert newest.tolist() == times_differ

    short = load(tables, note_order="newest_first", max_note_chars=30, **ALL).X["note"].fillna("")
    for whole, cut in zip(newest, short, strict=True):
        assert len(cut.replace("\n\n", "")) == min(30, len(whole.replace("\n\n", "")))
        assert whole.startswith(cut)


def test_types_that_no_note_has_are_refused(tables):
    with pytest.raises(ValueError, match=r"note_types has \['Discharge summary'\].* Nursing"):
        load(tables, note_types=["nursing", "Discharge summary"], **ALL)
    for notes, there in (
        (tables["notes"].drop(columns="type"), "the types are notes"),
        (tables["notes"].assign(type=None), "the notes have no type"),
    ):
        with pytest.raises(ValueError, match=there):
            load({**tables, "notes": notes}, note_types=["nursing"], **ALL)
    # A type of which no note was written before the index time is a type all the same
    late = tables["notes"].assign(time=pd.Timestamp("2200-01-01"), type="Late", stored_time=pd.NaT)
    both = {**tables, "notes": pd.concat([tables["notes"], late])}
    assert load(both, note_types=["late"], **ALL).X["note"].isna().all()


@pytest.mark.parametrize("sections", ["outcome", ["DISCHARGE  diagnosis:"]])
@pytest.mark.parametrize("budget", [None, 30])
@pytest.mark.parametrize("order", ["oldest_first", "newest_first"])
def test_sections_that_state_the_outcome_are_as_if_never_written(tables, sections, budget, order):
    notes = tables["notes"]
    stated = "\n\nDischarge diagnosis:\nHeart failure.\nSepsis.\n"
    options = {**ALL, "max_note_chars": budget, "note_order": order}
    # A section ends at the next heading: the text below one belongs to it
    seen = "Seen: " + notes["text"].str.strip()
    with_section = {**tables, "notes": notes.assign(text=seen + stated)}
    expected = load({**tables, "notes": notes.assign(text=seen)}, **options)
    found = load(with_section, drop_note_sections=sections, **options)
    assert_same(found, expected)
    assert found.report()["note sections dropped"] > 0
    untouched = load(with_section, **{**options, "max_note_chars": None})
    assert untouched.X["note"].str.contains("Sepsis").any()


def test_a_note_that_is_nothing_but_the_outcome_is_no_note(tables):
    notes = tables["notes"].assign(text="Final diagnosis: sepsis.")
    cohort = load({**tables, "notes": notes}, drop_note_sections="outcome", **ALL)
    assert cohort.X["note"].isna().all()
    assert cohort.report()["stays kept: without notes"] == len(cohort.X)


def test_labels_are_those_of_the_codes(tables):
    cohort = load(tables, **ALL)
    codes = tables["diagnoses"].dropna()
    expected = phenotypes.label_stays(codes["stay_id"], codes["code"], cohort.stay_ids)
    np.testing.assert_array_equal(cohort.y, expected)
    assert cohort.target_names == list(phenotypes.ELIXHAUSER)
    going_on = tables["stays"]["end"] >= tables["stays"]["start"] + pd.Timedelta(hours=24)
    report = cohort.report()
    assert report["stays dropped: ended before the index time"] == (~going_on).sum() > 0
    uncoded = going_on.sum() - len(coded(tables))
    assert report["stays dropped: without a diagnosis code"] == uncoded


def test_own_code_lists(tables):
    lists = {"heart failure": ["428", "I50"], "diabetes": {10: ["E11"]}}
    y = load(tables, phenotypes=lists).y
    groups = load(tables, **ALL).y
    assert list(y.columns) == ["heart failure", "diabetes"]
    np.testing.assert_array_equal(y["heart failure"], groups["congestive_heart_failure"])
    np.testing.assert_array_equal(y["diabetes"], groups["diabetes_uncomplicated"])
    with pytest.raises(ValueError, match="cannot be inferred"):
        load(tables, phenotypes={"x": ["banana"]})
    with pytest.raises(ValueError, match="must be a list"):
        load(tables, phenotypes={"x": "I50"})


def test_version_column_decides(tables):
    # E8710 is a low sodium in ICD-10 and an accident in ICD-9
    stay = tables["stays"]["stay_id"].iloc[:2].tolist()
    tables["diagnoses"] = pd.DataFrame(
        {"stay_id": stay, "code": ["E8710", "E8710"], "version": ["nine", "ten"]}
    )
    y = load(tables, icd_version={"nine": 9, "ten": 10}, n_labels=None).y
    assert y.loc[stay, "fluid_and_electrolyte_disorders"].tolist() == [0, 1]


def test_outcomes():
    day = pd.Timedelta(days=1)
    start = pd.Timestamp("2130-01-01")
    stays = pd.DataFrame(
        {
            "stay_id": [1, 2, 3, 4, 5, 6],
            "patient_id": ["a", "a", "a", "b", "c", "d"],
            "start": [start, start + 20 * day, start + 90 * day, start, start, start],
            "end": [
                start + 5 * day,
                start + 30 * day,
                start + 92 * day,
                start + 9 * day,
                start + 0.5 * day,  # Ends before the index time
                pd.NaT,
            ],
            "died": [0, 0, 0, 1, 1, 0],
        }
    )
    labs = pd.DataFrame({"stay_id": range(1, 7), "name": "a", "value": 1.0, "time": stays["start"]})
    options = {"phenotypes": None}

    decided = "stays dropped: mortality decided at the index time"

    def y(name, **more):
        cohort = load_tables(labs, None, None, stays, outcomes=[name], **options, **more)
        return cohort.y[name].to_dict(), cohort.report()

    # Of 6 the end is not known: it may still end in death
    assert y("mortality")[0] == {1: 0, 2: 0, 3: 0, 4: 1}
    assert y("mortality")[1]["stays dropped: ended before the index time"] == 1
    assert y("mortality", finished_stays="keep")[1][decided] == 1
    assert y("length_of_stay_7d")[0] == {1: 0, 2: 1, 3: 0, 4: 1}
    assert y("length_of_stay_7d")[1]["stays dropped: length_of_stay_7d not known"] == 1
    # 4 and 5 died; of 6 the end is not known
    assert y("readmission_30d")[0] == {1: 1, 2: 0, 3: 0}
    assert y("readmission_60d")[0] == {1: 1, 2: 1, 3: 0}
    both = load_tables(
        labs, None, None, stays, outcomes=["mortality", "readmission_30d"], **options
    )
    assert both.target_names == ["mortality", "readmission_30d"]


def test_age_and_first_stay(tables):
    adults = load(tables, min_age=18, **ALL)
    assert adults.subgroups["age"].min() >= 18
    young = tables["stays"]["age"] < 18
    assert adults.report()["stays dropped: younger than 18 years"] == young.sum()

    first = load(tables, first_stay=True, **ALL)
    assert first.groups.is_unique
    expected = tables["stays"].sort_values("start").drop_duplicates("patient_id")["stay_id"]
    assert set(first.stay_ids) <= set(expected)


def test_index_time_by_column_and_at_discharge(tables):
    stays = tables["stays"]
    fixed = load(tables, index_time="36h", **ALL)
    named = {**tables, "stays": stays.assign(surgery=stays["start"] + pd.Timedelta(hours=36))}
    by_column = load(named, columns={"stays": {"op": "surgery"}}, index_time="op", **ALL)
    assert_same(fixed, by_column)
    assert by_column.index_times.equals(fixed.index_times)

    short = {**tables, "stays": stays.assign(end=stays["start"] + pd.Timedelta(hours=12))}
    for at_discharge, after_start in {"discharge": 12, "discharge + 1 day": 36}.items():
        expected = load(short, index_time=after_start, finished_stays="keep", **ALL)
        assert_same(load(short, index_time=at_discharge, **ALL), expected)


def test_stays_without_an_index_time_are_counted(tables):
    tables["stays"].loc[:4, "end"] = pd.NaT
    report = load(tables, index_time="discharge", **ALL).report()
    assert report["stays dropped: without an index time"] == 5


def test_units_wanted(tables):
    usual = load(tables, **ALL)
    molar = load(tables, units={"Glucose": "mmol/L"}, **ALL)
    assert usual.units["Glucose"] == "mg/dL"
    assert molar.units["Glucose"] == "mmol/L"
    np.testing.assert_allclose(molar.X["Glucose"] * 18.0156, usual.X["Glucose"])
    with pytest.raises(ValueError, match="units names labs without any result: \\['Gold'\\]"):
        load(tables, units={"Gold": "kg"})


def test_coverage_and_named_labs(tables):
    rare = tables["labs"].iloc[:3].assign(name="Rare", value=1.0, unit=None)
    tables["labs"] = pd.concat([tables["labs"], rare])
    assert "Rare" not in load(tables, min_coverage=0.2).lab_columns
    named = load(tables, lab_names=["Rare", "Sodium"], lookback=72, index_time=100)
    assert named.lab_columns == ["Rare", "Sodium"]
    with pytest.raises(ValueError, match="lab_names has"):
        load(tables, lab_names=["Gold"])


def test_without_stored_time_dropped(tables):
    cohort = load(tables, without_stored_time="drop", **ALL)
    stored = {
        name: frame[frame["stored_time"].notna()] if name in ("labs", "notes") else frame
        for name, frame in tables.items()
    }
    assert_same(cohort, load(stored, **ALL))
    assert cohort.report()["notes rows dropped: without a stored time"] > 0


def test_order_of_rows_does_not_matter(tables):
    options = {"aggregate": ["last", "first", "min", "max", "count"], **ALL}
    expected = load(tables, **options)
    shuffled = {name: frame.sample(frac=1, random_state=1) for name, frame in tables.items()}
    assert_same(load(shuffled, **options), expected, check_exact=True)


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".csv.zst", ".parquet", ".duckdb"])
def test_every_source_gives_the_same_cohort(tables, tmp_path, suffix):
    expected = load(tables, **ALL)
    if suffix == ".duckdb":
        with duckdb.connect(str(tmp_path / "all.duckdb")) as connection:
            for name, frame in tables.items():
                connection.register("frame", frame)
                connection.execute(f"CREATE TABLE {name.upper()} AS SELECT * FROM frame")
        names = {name: name for name in tables}
        assert_same(load(names, database=tmp_path / "all.duckdb", **ALL), expected)
        return
    files = {name: tmp_path / f"{name}{suffix}" for name in tables}
    for name, frame in tables.items():
        if suffix == ".parquet":
            frame.to_parquet(files[name])
        else:
            write_csv(frame, files[name])
    other = load(files, **ALL)
    # A csv says nothing of types: ids are texts there
    if suffix != ".parquet":
        assert other.stay_ids.tolist() == [str(stay) for stay in expected.stay_ids]
        other.X.index = other.y.index = other.groups.index = expected.X.index
        other["groups"] = other.groups.astype(expected.groups.dtype)
    assert_same(other, expected)
    assert other.report() == expected.report()


@pytest.mark.parametrize("zone", [None, "UTC"])
@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_timestamps_of_every_precision_are_read(tables, tmp_path, unit, zone):
    expected = load(tables, index_time=24, **ALL)
    kind = f"datetime64[{unit}]" if zone is None else f"datetime64[{unit}, {zone}]"
    timed = {}
    for name, frame in tables.items():
        times = frame.select_dtypes("datetime")
        zoned = times.apply(lambda time: time.dt.tz_localize(zone)).astype(kind)
        timed[name] = frame.assign(**{column: zoned[column] for column in times})
        timed[name].to_parquet(tmp_path / f"{name}.parquet")
    assert_same(load(timed, index_time=24, **ALL), expected)
    files = {name: tmp_path / f"{name}.parquet" for name in tables}
    assert_same(load(files, index_time=24, **ALL), expected)


def test_labs_or_notes_alone(tables):
    without_notes = load({**tables, "notes": None}, **ALL)
    assert without_notes.X["note"].isna().all()
    without_labs = load({**tables, "labs": None}, **ALL)
    assert without_labs.lab_columns == []
    assert list(without_labs.X) == ["note", "age", "sex"]
    both = load(tables, **ALL)
    assert set(both.stay_ids) == set(without_notes.stay_ids) | set(without_labs.stay_ids)
    required = load(tables, require=["labs", "notes"], **ALL)
    assert set(required.stay_ids) == set(without_notes.stay_ids) & set(without_labs.stay_ids)


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2024-05-01 09:00:00 PM", "2024-05-01 21:00"),
        ("2024-05-01 12:05 am", "2024-05-01 00:05"),
        ("2024-05-01 12:05PM", "2024-05-01 12:05"),
        ("2024-05-01 9:00:00.5 AM", "2024-05-01 09:00:00.5"),
        ("2024-05-01 09:00:00 +02:00", "2024-05-01 07:00"),
        ("2024-05-01 09:00:00.0000000 -05:00", "2024-05-01 14:00"),
        ("2024-05-01 09:00:00 UTC", "2024-05-01 09:00"),
        ("2024-05-01 09:00:00 Europe/Berlin", "2024-05-01 07:00"),
    ],
)
def test_times_in_text_are_read_as_what_they_say(text, time):
    stays = pd.DataFrame({"stay_id": ["a"], "patient_id": ["p"], "start": [text]})
    labs = pd.DataFrame({"stay_id": ["a"], "name": ["x"], "value": [1.0], "time": [text]})
    codes = pd.DataFrame({"stay_id": ["a"], "code": ["I10"]})
    cohort = load_tables(labs, None, codes, stays, index_time="1h", lookback=0)
    assert cohort.X["x"].tolist() == [1.0]
    assert cohort.index_times.tolist() == [pd.Timestamp(time) + pd.Timedelta(hours=1)]


def test_a_result_of_nine_in_the_evening_is_not_known_in_the_morning():
    starts = ["2024-05-01 08:00:00 AM"]
    stays = pd.DataFrame({"stay_id": ["a"], "patient_id": ["p"], "start": starts})
    times = ["2024-05-01 08:30:00 AM", "2024-05-01 09:00:00 PM"]
    labs = pd.DataFrame({"stay_id": "a", "name": "x", "value": [1.0, 9.0], "time": times})
    codes = pd.DataFrame({"stay_id": ["a"], "code": ["I10"]})
    assert load_tables(labs, None, codes, stays, index_time="2h").X["x"].tolist() == [1.0]
    assert load_tables(labs, None, codes, stays, index_time="13h").X["x"].tolist() == [9.0]


@pytest.mark.parametrize(
    "text", ["2024-05-01 21:00 PM", "2024-05-01 08:10 CST", "2024-05-01 08:10 about", "at 8"]
)
def test_times_that_are_not_wholly_understood_are_unreadable(text):
    stays = pd.DataFrame({"stay_id": ["a"], "patient_id": ["p"], "start": ["2024-05-01 08:00"]})
    times = ["2024-05-01 08:05", text]
    labs = pd.DataFrame({"stay_id": "a", "name": "x", "value": [1.0, 9.0], "time": times})
    codes = pd.DataFrame({"stay_id": ["a"], "code": ["I10"]})
    cohort = load_tables(labs, None, codes, stays)
    assert cohort.X["x"].tolist() == [1.0]
    assert cohort.report()["labs rows dropped: with a time that cannot be read"] == 1
    with pytest.raises(ValueError, match="1 of 1 cells are not times"):
        load_tables(labs, None, codes, stays.assign(start=text))


def test_text_results_count_where_they_are_numbers():
    stays = pd.DataFrame({"stay_id": ["a"], "patient_id": ["p"], "start": ["2130-01-01 00:00"]})
    labs = pd.DataFrame({"stay_id": "a", "name": list("xyz"), "time": "2130-01-01 01:00"})
    labs = labs.assign(value=[None, None, "inf"], text_value=["7.5", "NEG", None])
    cohort = load_tables(labs, None, pd.DataFrame({"stay_id": ["a"], "code": ["I10"]}), stays)
    assert cohort.X["x"].tolist() == [7.5]
    assert cohort.report()["labs rows dropped: without a number"] == 2


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("index_time", "soon"),
        ("lookback", -1),
        ("aggregate", "median"),
        ("aggregate", ["last", "last"]),
        ("aggregate", []),
        ("min_coverage", 2),
        ("lab_names", "Sodium"),
        ("note_types", "Nursing"),
        ("note_order", "random"),
        ("max_note_chars", 0),
        ("drop_note_sections", "Discharge diagnosis"),
        ("without_stored_time", "guess"),
        ("phenotypes", "charlson"),
        ("phenotypes", None),
        ("n_labels", 0),
        ("outcomes", ["death"]),
        ("require", "images"),
        ("n_jobs", 0),
    ],
)
def test_wrong_options_are_named(tables, option, value):
    with pytest.raises(ValueError, match=option):
        load(tables, **{option: value})


@pytest.mark.parametrize("limit", ["lots", "", "2 giga"])
def test_a_memory_limit_that_is_no_size_is_named(tables, limit):
    with pytest.raises(ValueError, match=f"memory_limit='{limit}' is not a size such as '2GB'"):
        load(tables, memory_limit=limit)


def test_unknown_option(tables):
    with pytest.raises(TypeError, match=r"load_tables has no parameter zebra\. Known are: labs, "):
        load(tables, zebra=1)
    with pytest.raises(TypeError, match=r"inded_time\. Did you mean index_time\?"):
        load(tables, inded_time="24h")


@pytest.mark.parametrize("name", [name for name in datasets.__all__ if name.startswith("load_")])
def test_every_loader_lists_all_choices(name):
    loader = getattr(datasets, name)
    shown = inspect.signature(loader).parameters
    choices = inspect.signature(CohortOptions).parameters
    assert {option: shown[option] for option in choices} == dict(choices)
    assert not any(parameter.kind is parameter.VAR_KEYWORD for parameter in shown.values())
    listed = re.findall(r"^([\w, ]+) : ", inspect.getdoc(loader).split("Returns")[0], re.M)
    assert ", ".join(listed).split(", ") == [*shown]


def test_the_docstring_lists_all_roles(tables):
    shown = re.findall(r"^(stays|labs|notes|diagnoses) +(\S+) +(\S+)  ", load_tables.__doc__, re.M)
    for table in tables:
        named = {role.strip("[]"): column for of, role, column in shown if of == table}
        with pytest.raises(ValueError, match=f"Known are {', '.join(named)}\\."):
            load(tables, columns={table: {"starts": "mine"}})
        of_table = tables[table]
        named = {role: column for role, column in named.items() if column in of_table}
        assert set(of_table) <= set(named.values())
        assert_same(load(tables, columns={table: named}), load(tables))


def test_unknown_roles_and_tables_are_named(tables):
    with pytest.raises(ValueError, match="columns names \\['drugs'\\]"):
        load(tables, columns={"drugs": {}})
    with pytest.raises(ValueError, match="the role 'dose'"):
        load(tables, columns={"labs": {"dose": "dose"}})
    for table, role, meant in (
        ("stays", "patient_id", "patient"),
        ("stays", "birthdate", "birth"),
        ("stays", "stay", "stay_id"),
        ("labs", "stay_id", "stay"),
        ("labs", "name", "item"),
        ("notes", "txt", "text"),
        ("diagnoses", "codes", "code"),
    ):
        with pytest.raises(ValueError, match=rf"'{role}'\. Did you mean {meant}\? Known are"):
            load(tables, columns={table: {role: "mine"}})
    with pytest.raises(ValueError, match="lacks the column ward"):
        load(tables, columns={"notes": {"type": "ward"}})


@pytest.mark.parametrize("n_labels", [-1, 32, ["obesity", "gout"], [], "gout"])
def test_labels_that_are_not_there_are_refused(tables, n_labels):
    with pytest.raises(ValueError, match="n_labels"):
        load(tables, n_labels=n_labels)


def test_labels_by_prevalence_or_name(tables):
    counts = load(tables, **ALL).y.sum().sort_values(ascending=False, kind="stable")
    names = list(counts.index)
    assert load(tables, n_labels=2).target_names == names[:2]
    assert load(tables, n_labels=np.int64(3)).target_names == names[:3]
    assert load(tables, n_labels=[names[3], names[0]]).target_names == [names[3], names[0]]
    assert load(tables, n_labels=names[1]).target_names == [names[1]]


def test_durations_in_words_or_hours(tables):
    expected = load(tables, index_time=48, lookback=0.5, **ALL)
    assert_same(load(tables, index_time="2 days", lookback="30min", **ALL), expected)
    for wrong in ["soon", -1, "-3h", None, float("nan"), [24]]:
        with pytest.raises(ValueError, match="lookback must be a duration"):
            load(tables, lookback=wrong)


def test_a_dropped_stay_counts_once(tables):
    report = load(tables, first_stay=True, min_age=40, require="labs", **ALL).report()
    dropped = [n for what, n in report.items() if what.startswith("stays dropped: ")]
    assert sum(n > 0 for n in dropped) >= 3
    assert report["stays read"] == sum(dropped) + report["stays kept"]


def test_what_memory_cannot_hold_goes_to_disk_encrypted_for_the_owner_alone():
    rows = np.arange(1_000_000)
    frame = pd.DataFrame({"id": rows, "text": [f"a patient's note {i}" for i in rows]})
    options = CohortOptions(memory_limit="24MB")
    with Source({"notes": frame}, "tables", options=options) as source:
        scan = source.scan("notes", ["id", "text"])
        source.execute(f"CREATE TEMP TABLE kept AS SELECT * FROM {scan}", "notes")
        folder = source._spill
        files = [file for file in folder.iterdir() if file.stat().st_size]
        assert sum(file.stat().st_size for file in files) > 1_000_000
        assert not any(b"a patient's note" in file.read_bytes() for file in files)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        total = source.query("SELECT sum(id) AS n, max(text) AS text FROM kept", "notes")
    assert total["n"].iloc[0] == rows.sum()
    assert total["text"].iloc[0] == frame["text"].max()
    assert not folder.exists()


@pytest.mark.parametrize(
    ("written", "read"),
    {
        "2024-05-01 09:00 PM": "2024-05-01 21:00",
        "2024-05-01 9 p.m.": "2024-05-01 21:00",
        "2024-05-01 12:30 a.m.": "2024-05-01 00:30",
        "2024-05-01": "2024-05-02 00:00",
        "2024-05-01 13:00 PM": None,
        "2024-05-01 09:00 approx.": None,
        "24-05-01 09:00": None,
        "infinity": None,
        "now": None,
        "epoch": None,
    }.items(),
)
def test_times_are_wholly_understood_or_refused(written, read):
    table = {"t": pd.DataFrame({"a": [written]})}
    with Source(table, "made") as source:
        if read is None:
            with pytest.raises(ValueError, match="1 of 1 cells are not times"):
                source.fetch("t", {"a": ("a", "time")})
        else:
            assert source.fetch("t", {"a": ("a", "time")})["a"][0] == pd.Timestamp(read)


@pytest.mark.parametrize(
    "zoned",
    [
        "2020-01-02 03:04:05.1234567 +01:00",
        "2020-01-02T03:04:05.123456+0100",
        "2020-01-02 02:04:05.123456z",
        "2020-01-02 03:04:05.123456 Europe/Berlin",
    ],
)
def test_times_with_a_zone_are_in_utc(zoned):
    with Source({"t": pd.DataFrame({"a": [zoned]})}, "made") as source:
        found = source.fetch("t", {"a": ("a", "time")})["a"][0]
    assert found == pd.Timestamp("2020-01-02 02:04:05.123456")


def one_patient(**columns):
    """Stays of one patient: A, B, C overlapping B, D later, E without an end; F another."""
    stays = pd.DataFrame(
        {
            "stay_id": list("ABCDEF"),
            "patient_id": [1, 1, 1, 1, 1, 2],
            "start": pd.to_datetime(
                [
                    f"2024-{day} 08:00"
                    for day in ("01-01", "01-10", "01-18", "02-01", "02-10", "02-01")
                ]
            ),
            "end": pd.to_datetime(
                [
                    None if day is None else f"2024-{day} 08:00"
                    for day in ("01-05", "01-20", "01-25", "02-05", None, "02-05")
                ]
            ),
            **columns,
        }
    )
    codes = pd.DataFrame(
        {"stay_id": list("ABCDEF"), "code": ["I50.9", "J44.9", "E66.9", "I10", "F32.9", "I10"]}
    )
    labs = pd.DataFrame(
        {"stay_id": stays["stay_id"], "name": "Sodium", "value": 140.0, "time": stays["start"]}
    )
    return {"labs": labs, "notes": None, "diagnoses": codes, "stays": stays}


GROUPS = {
    "heart": ["I50"],
    "lung": ["J44"],
    "obesity": ["E66"],
    "pressure": ["I10"],
    "mood": ["F32"],
}


def test_history_is_of_stays_that_ended_before_the_index_time():
    cohort = load(one_patient(), history=True, phenotypes=GROUPS, index_time="24h")
    found = cohort.X[cohort.history_columns]
    names = ["earlier stays", "days since the last stay", *(f"earlier {name}" for name in GROUPS)]
    assert cohort.history_columns == names
    # At the index time of C, 19 January, B is not over. E has no end, and nothing comes after it.
    expected = {
        "A": [np.nan] * 7,
        "B": [1, 6, 1, 0, 0, 0, 0],
        "C": [1, 14, 1, 0, 0, 0, 0],
        "D": [3, 8, 1, 1, 1, 0, 0],
        "E": [4, 6, 1, 1, 1, 1, 0],
        "F": [np.nan] * 7,
    }
    expected = pd.DataFrame(expected, index=names).T
    np.testing.assert_allclose(found, expected.loc[found.index].astype(float))
    # At C's index time five days later, B is over
    later = load(one_patient(), history=True, phenotypes=GROUPS, index_time="72h").X
    assert later.loc["C", names].tolist() == [2, 1, 1, 1, 0, 0, 0]


def test_codes_that_are_not_of_a_finished_stay_change_no_history():
    tables = one_patient()
    options = {"history": True, "n_labels": None, "index_time": "24h"}
    before = load(tables, **options).X
    codes = tables["diagnoses"]
    # No stay follows E; D is past for E, and B for D and E
    other = codes.assign(code=codes["code"].mask(codes["stay_id"].isin(["E", "F"]), "B20"))
    pd.testing.assert_frame_equal(load({**tables, "diagnoses": other}, **options).X, before)
    other = codes.assign(code=codes["code"].mask(codes["stay_id"].eq("B"), "B20"))
    after = load({**tables, "diagnoses": other}, **options).X
    changed = (after.ne(before) & (after.notna() | before.notna())).any(axis=1)
    assert changed.index[changed].tolist() == ["D", "E"]


def test_history_of_stays_without_codes_is_their_number():
    tables = one_patient()
    codes = tables["diagnoses"].query("stay_id != 'A'")
    found = load({**tables, "diagnoses": codes}, history=True, n_labels=2).X.loc["B"]
    assert found["earlier stays"] == 1
    assert np.isnan(found["earlier congestive_heart_failure"])
    assert load(tables).history_columns == []


def test_ages_and_sexes_in_words():
    ages = ["> 89", "90+", "45", "45.5", None, None]
    sexes = ["F", "male", "8532", "other", "Unknown", None]
    cohort = load(one_patient(age=ages, sex=sexes))
    assert cohort.demographic_columns == ["age", "sex"]
    np.testing.assert_array_equal(cohort.X["age"], [90, 90, 45, 45.5, np.nan, np.nan])
    told = ["Female", "Male", "Female", "Other", None, None]
    assert cohort.X["sex"].astype(object).where(cohort.X["sex"].notna(), None).tolist() == told
    born = pd.to_datetime(
        ["2006-01-01", "2006-01-11", "2024-01-18", "2024-03-01", "1700-01-01", None]
    )
    cohort = load(one_patient(birth_date=born))
    np.testing.assert_array_equal(cohort.X["age"], [18, 17, 0, np.nan, 90, np.nan])
    assert cohort.report()["ages unknown: born after the start"] == 1
    assert load(one_patient()).demographic_columns == []


def test_further_columns_of_the_stays():
    tables = one_patient(weight=["70", "NA", "80.5", None, "60", "55"], ward=list("xyxyxy"), died=0)
    tables["stays"]["weight"] = tables["stays"]["weight"].replace("NA", None)
    cohort = load(tables, demographics=["weight", "ward"])
    assert cohort.demographic_columns == ["weight", "ward"]
    np.testing.assert_array_equal(cohort.X["weight"], [70, np.nan, 80.5, np.nan, 60, 55])
    with pytest.raises(ValueError, match="lacks the column wieght"):
        load(tables, demographics=["wieght"])
    for role in ("end", "died", "stay_id"):
        with pytest.raises(ValueError, match=f"demographics names {role}"):
            load(tables, demographics=[role])
