"""What is there and what is new after the index time; outcomes of stays without an end."""

import numpy as np
import pandas as pd
import pytest

from sklearn_medfuse.datasets import (
    load_clif,
    load_eicu,
    load_eicu_demo,
    load_meds,
    load_mimic3,
    load_mimic4,
    load_omop,
    load_tables,
)

from .conftest import write_tables
from .formats import (
    as_clif,
    as_eicu,
    as_meds,
    as_meds_of_patients,
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

HEART, DIABETES = "congestive_heart_failure", "diabetes_uncomplicated"
# All stays begin at 10:00 on 1 May, so that the index time is 10:00 on 2 May
START = pd.Timestamp("2130-05-01 10:00")
CODES = [
    # Stay, code, when it was recorded
    (1, "I50.9", "2130-05-01 12:00"),
    (1, "E11.9", "2130-05-03 09:00"),
    (2, "I50.9", "2130-05-03 09:00"),
    (2, "E11.9", "2130-04-30 09:00"),  # Before the stay, and once more after the index time
    (2, "E11.9", "2130-05-03 09:00"),
    (3, "E11.9", "2130-05-02 10:00"),  # At the index time
    (3, "I10", "2130-05-04 11:00"),
    (4, "I50.9", "2130-05-02 10:01"),
    (5, "I50.9", None),
    (6, "I50.9", "2130-05-01 12:00"),
    (6, "E11.9", "2130-05-01 12:00"),
]
# Stay -> heart failure and diabetes, by hand; of stay 6 neither is left
NEW = {1: (np.nan, 1), 2: (1, np.nan), 3: (0, np.nan), 4: (1, 0), 5: (np.nan, 0)}
THERE = {1: (1, 1), 2: (1, 1), 3: (0, 1), 4: (1, 0), 5: (1, 0), 6: (1, 1)}
# Dates alone count from the end of their day: 2 May ends after the index time, 1 May before
DATES = [(7, "I50.9", "2130-05-02"), (7, "E11.9", "2130-05-01"), (7, "I10", "2130-05-03")]
NEW_OF_DATES = {7: (1, np.nan)}


def small_tables(codes):
    ids = sorted({stay for stay, *_ in codes})
    stays = pd.DataFrame({"stay_id": ids, "patient_id": ids, "start": START})
    stays["end"] = START + pd.Timedelta(days=6)
    labs = stays[["stay_id"]].assign(
        name="Sodium", value=140.0, unit="mmol/L", time=START + pd.Timedelta(hours=2)
    )
    diagnoses = pd.DataFrame(codes, columns=["stay_id", "code", "time"])
    return {"stays": stays, "labs": labs, "diagnoses": diagnoses}


def from_tables(folder, tables, **options):
    return load_tables(tables["labs"], None, tables["diagnoses"], tables["stays"], **options)


def full_tables(tables):
    """With the columns that `formats` lays out."""
    stays, labs = tables["stays"], tables["labs"]
    stays = stays.assign(birth_date=pd.Timestamp("2080-01-01"), sex="F", died=0)
    labs = labs.assign(stored_time=labs["time"], ref_low=np.nan, ref_high=np.nan)
    notes = labs[["stay_id", "time", "stored_time"]].assign(type="ECG", text="calm")
    codes = tables["diagnoses"]
    codes = codes.assign(time=pd.to_datetime(codes["time"], format="mixed"))
    return {**tables, "stays": stays, "labs": labs, "notes": notes, "diagnoses": codes}


def from_omop(folder, tables, **options):
    return load_omop(write_tables(folder, as_omop(full_tables(tables))), **options)


def from_meds(folder, tables, **options):
    # Codes without a time fall into no stay: they name it
    frames = as_meds_of_patients(full_tables(tables))
    cohort = load_meds(write_meds(folder, frames), **options)
    cohort["y"] = cohort.y.set_axis(cohort.y.index.str[:-2].astype(int))
    cohort["X"] = cohort.X.set_axis(cohort.y.index)
    return cohort


def from_eicu(folder, tables, **options):
    return load_eicu(write_tables(folder, as_eicu(full_tables(tables))), **options)


LOADERS = {"tables": from_tables, "omop": from_omop, "meds": from_meds, "eicu": from_eicu}


def labels_of(cohort):
    return {stay: tuple(row) for stay, row in cohort.y.iterrows()}


@pytest.mark.parametrize("name", LOADERS)
def test_both_tasks_of_every_format_whose_codes_have_times(name, tmp_path):
    options = {"n_labels": [HEART, DIABETES]}
    tables = small_tables(CODES)
    there = LOADERS[name](tmp_path / "there", tables, **options)
    assert labels_of(there) == THERE
    assert there.y.dtypes.eq(int).all()
    new = LOADERS[name](tmp_path / "new", tables, labels="after_index", **options)
    np.testing.assert_equal(labels_of(new), NEW)
    assert new.report()["stays dropped: without a known label"] == 1
    # Every cell of eICU holds the code in both versions
    assert new.report()["codes at an unknown time"] == (2 if name == "eicu" else 1)
    assert new.report()[f"labels not known: {HEART}"] == 2
    pd.testing.assert_frame_equal(new.X, there.X.loc[new.X.index], check_exact=True)


@pytest.mark.parametrize("name", ["tables", "omop", "meds"])
def test_a_date_of_a_diagnosis_counts_from_the_end_of_its_day(name, tmp_path):
    cohort = LOADERS[name](
        tmp_path / "made",
        small_tables(DATES),
        labels="after_index",
        n_labels=[HEART, DIABETES],
    )
    np.testing.assert_equal(labels_of(cohort), NEW_OF_DATES)


def test_many_codes_without_a_time_are_warned_of():
    tables = small_tables(CODES + [(stay, "I10", None) for stay in range(1, 7)] * 2)
    with pytest.warns(UserWarning, match="13 of 23 diagnoses rows dropped: at an unknown time"):
        cohort = from_tables(None, tables, labels="after_index", n_labels=[HEART, DIABETES])
    np.testing.assert_equal(labels_of(cohort), NEW)


def test_own_groups_and_the_number_of_labels():
    tables = small_tables(CODES)
    own = {"heart": ["I50"], "sugar": {10: ["E11"]}}
    cohort = from_tables(None, tables, labels="after_index", phenotypes=own)
    assert cohort.target_names == ["heart", "sugar"]
    np.testing.assert_equal(labels_of(cohort), NEW)
    # Most new cases: heart failure has two, diabetes and hypertension have one
    two = from_tables(None, tables, labels="after_index", n_labels=2)
    assert two.target_names == [HEART, "hypertension_uncomplicated"]


@pytest.mark.parametrize(
    ("load", "lay_out"),
    [(load_mimic3, as_mimic3), (load_mimic4, as_mimic4), (load_clif, as_clif)],
)
def test_codes_for_billing_are_refused_by_name(load, lay_out, write):
    folder = write(lay_out(with_icd9(long_tables())), suffix=".parquet")
    table = "hospital_diagnosis" if load is load_clif else "diagnoses_icd"
    with pytest.raises(ValueError, match=rf"'after_index'.*{table}'.*labels='during_stay'"):
        load(folder, labels="after_index")


@pytest.mark.parametrize("name", LOADERS)
def test_codes_from_the_end_of_every_stay_on_are_refused(name, tmp_path):
    tables = small_tables(CODES)
    tables["diagnoses"]["time"] = str(START + pd.Timedelta(days=6))
    with pytest.raises(ValueError, match="none is earlier than the end of its stay"):
        LOADERS[name](tmp_path / "made", tables, labels="after_index")


def test_nothing_new_a_missing_time_and_a_wrong_name_are_refused(tmp_path):
    tables = small_tables(CODES[-2:])
    with pytest.raises(ValueError, match="first recorded after the index time"):
        from_tables(None, tables, labels="after_index")
    tables["diagnoses"] = tables["diagnoses"].drop(columns="time")
    with pytest.raises(ValueError, match="the role 'time' of the diagnoses"):
        from_tables(None, tables, labels="after_index")
    with pytest.raises(ValueError, match="labels must be one of during_stay, after_index"):
        from_tables(None, tables, labels="new")
    # What the default task does not need may be of any form
    tables["diagnoses"]["time"] = 3
    assert labels_of(from_tables(None, tables, n_labels=[HEART, DIABETES])) == {6: (1, 1)}


def test_the_bundled_stays_hold_both_tasks():
    there, new = load_eicu_demo(n_labels=None), load_eicu_demo(n_labels=None, labels="after_index")
    diagnosis = there.y.loc[new.y.index]
    # A new diagnosis is one of the stay, one without is no diagnosis, and the rest came before
    assert diagnosis.to_numpy()[new.y.eq(1)].all()
    assert not diagnosis.to_numpy()[new.y.eq(0)].any()
    assert diagnosis.to_numpy()[new.y.isna()].all()
    shown = new.describe()
    assert "None" in shown.index.get_level_values(1)


FORMATS = {
    "tables": (from_tables, None),
    "mimic3": (load_mimic3, lambda tables: as_mimic3(with_icd9(tables))),
    "mimic4": (load_mimic4, as_mimic4),
    "clif": (load_clif, as_clif),
    "omop": (load_omop, as_omop),
    "eicu": (load_eicu, as_eicu),
    "meds": (load_meds, as_meds),
}


@pytest.mark.parametrize("name", FORMATS)
def test_the_outcome_of_a_stay_without_an_end_is_unknown(name, tmp_path):
    load, lay_out = FORMATS[name]
    tables = meds_tables() if name == "meds" else long_tables()
    stays = tables["stays"]
    # Every third stay of those who live
    running = stays["died"].eq(0) & (np.arange(len(stays)) % 3 == 0)
    stays["end"] = stays["end"].mask(running)
    if name == "meds":
        frames = as_meds(tables)
        data = frames["data"]
        # Its codes stand at the discharge, which there is none of
        start = data["subject_id"].map(stays.set_index("stay_id")["start"])
        of_code = data["code"].str.startswith("DIAGNOSIS")
        data["time"] = data["time"].mask(of_code & data["time"].isna(), start)
        kept = data["time"].notna() | data["code"].str.startswith("GENDER")
        folder = write_meds(tmp_path, {**frames, "data": data[kept]})
    elif lay_out is not None:
        folder = write_tables(tmp_path, lay_out(tables), suffix=".parquet")

    def made(**options):
        if name == "tables":
            order = ("labs", "notes", "diagnoses", "stays")
            return load_tables(*(tables[of] for of in order), **options)
        return load(folder, **options)

    unknown = set(stays.loc[running, "stay_id"].astype(str))

    def ids(cohort, rows):
        return {str(stay).removesuffix("-1") for stay in cohort.y.index[rows]}

    outcomes = ["mortality", "length_of_stay_3d"]
    alone = made(phenotypes=None, outcomes=["mortality"])
    assert not ids(alone, slice(None)) & unknown
    assert set(alone.y["mortality"]) == {0, 1}
    assert alone.report()["stays dropped: mortality not known"] >= 5
    beside = made(outcomes=outcomes, n_labels=3)
    for outcome in outcomes:
        open_ones = beside.y[outcome].isna().to_numpy()
        assert ids(beside, open_ones) == ids(beside, slice(None)) & unknown
        assert beside.report()[f"labels not known: {outcome}"] == open_ones.sum() > 0
        assert beside.y.dtypes.eq(int).sum() == 3
