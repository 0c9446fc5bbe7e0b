"""Silence ends: what matches nothing is refused, and much that is lost warns once, by counts."""

import warnings

import numpy as np
import pandas as pd
import pytest

from sklearn_medfuse.datasets import load_eicu_demo, load_tables

N = 40
CANARY = "Zebulon Quixote"


@pytest.fixture
def tables():
    """Forty stays with two labs, a note with two sections and a code each: nothing is lost."""
    stay, start = np.arange(N), "2024-05-01 08:00:00"
    later = "2024-05-01 10:00:00"
    labs = pd.DataFrame(
        {
            "stay_id": np.repeat(stay, 2),
            "name": ["Sodium", "Potassium"] * N,
            "value": [140.0, 4.0] * N,
            "unit": "mmol/L",
            "time": later,
        }
    )
    text = f"Plan: rest.\n\nImpression:\nseen by {CANARY}"
    return {
        "labs": labs,
        "notes": pd.DataFrame({"stay_id": stay, "time": later, "text": text, "type": "Nursing"}),
        "diagnoses": pd.DataFrame({"stay_id": stay, "code": ["I50.9", "E11.9"] * (N // 2)}),
        "stays": pd.DataFrame({"stay_id": stay, "patient_id": stay, "start": start}),
    }


def load(tables, **options):
    return load_tables(
        *(tables[name] for name in ("labs", "notes", "diagnoses", "stays")), **options
    )


def warning_of(tables, **options):
    with pytest.warns(UserWarning, match="Much of the input is not used") as caught:
        load(tables, n_labels=1, **options)
    assert len(caught) == 1
    message = str(caught[0].message)
    assert CANARY not in message
    return message


def test_what_is_whole_does_not_warn(tables):
    assert len(load(tables, n_labels=1).X) == N


def test_the_bundled_stays_load_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_eicu_demo()


@pytest.mark.parametrize(
    ("table", "column", "wrong", "reason"),
    [
        ("labs", "value", "hemolysed", "12 of 80 labs rows dropped: without a number"),
        ("labs", "time", "1 May", "12 of 80 labs rows dropped: with a time that cannot be read"),
        ("labs", "time", None, "12 of 80 labs rows dropped: without a time"),
        ("labs", "stay_id", None, "12 of 80 labs rows dropped: without a stay"),
        ("labs", "name", None, "12 of 80 labs rows dropped: without a name"),
        ("notes", "text", " ", "12 of 40 notes rows dropped: without a text"),
        ("diagnoses", "code", "heart", "12 of 40 diagnoses rows dropped: of no version of ICD-CM"),
        ("diagnoses", "code", "heart", "12 of 40 stays dropped: without a diagnosis code"),
        ("stays", "patient_id", None, "12 of 40 stays dropped: without a patient"),
    ],
)
def test_what_more_than_a_tenth_of_a_table_is_lost_for_is_told(
    tables, table, column, wrong, reason
):
    frame = tables[table].astype({column: object})
    frame.loc[:11, column] = wrong
    assert reason in warning_of(tables | {table: frame})


def test_a_tenth_or_a_handful_is_only_counted(tables):
    few = tables["labs"].copy()
    few.loc[:7, "value"] = np.nan
    cohort = load(tables | {"labs": few}, n_labels=1)
    assert cohort.report()["labs rows dropped: without a number"] == 8
    handful = tables["notes"].copy()
    handful.loc[:8, "text"] = None
    assert load(tables | {"notes": handful}, n_labels=1).report()["notes rows kept"] == 31


def test_rows_of_other_hours_and_stays_are_no_loss_and_not_in_the_share(tables):
    """9 unread results of 90 that count, and 10 of 90: those of the next day are not among them."""
    late = tables["labs"].assign(time="2024-05-03 10:00:00")
    other = tables["labs"].assign(stay_id=900)
    labs = pd.concat([tables["labs"], tables["labs"][:10], late, other], ignore_index=True)
    labs["value"] = np.arange(250) / 100
    labs.loc[:8, "value"] = np.nan
    load(tables | {"labs": labs}, n_labels=1)
    labs.loc[9, "value"] = np.nan
    assert "10 of 90 labs rows" in warning_of(tables | {"labs": labs})


def test_what_the_user_asks_for_is_no_loss(tables):
    tables["stays"]["age"] = [15, 40] * (N // 2)
    notes = tables["notes"].copy()
    notes.loc[:19, "type"] = "Radiology"
    asked = {"min_age": 18, "note_types": ["Nursing"], "lab_names": ["Sodium"], "require": "notes"}
    assert len(load(tables | {"notes": notes}, n_labels=1, **asked).X) == 10


def test_a_modality_that_no_stay_has_is_told(tables):
    other = tables["notes"].assign(stay_id=900)
    assert "no stay has a note" in warning_of(tables | {"notes": other})
    other = tables["labs"].assign(stay_id=900)
    assert "no stay has a lab that is a column of X" in warning_of(tables | {"labs": other})
    load(tables | {"notes": None}, n_labels=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"lab_names": ["Sodum"]},
            r"lab_names has \['Sodum'\].* Did you mean Sodium\? The table has results of "
            "Potassium, Sodium",
        ),
        (
            {"units": {"sodium": "mmol/L"}},
            r"units names labs without any result: \['sodium'\]. Did you mean Sodium\? The table",
        ),
        ({"note_types": ["Nurse"]}, r"note_types has \['Nurse'\].*types are Nursing"),
        (
            {"phenotypes": {"heart": ["I50"], "kidney": ["N18"]}},
            r"no stay has a code of \['kidney'\]. The codes begin with E11, I50",
        ),
        ({"n_labels": ["hart"]}, r"names unknown labels: \['hart'\]. Known are: congestive_heart"),
        (
            {"drop_note_sections": ["Impression", "Finding"]},
            r"drop_note_sections names \['finding'\], but no note that is used has such a heading",
        ),
    ],
)
def test_what_matches_nothing_is_refused_with_what_there_is(tables, options, message):
    with pytest.raises(ValueError, match=message) as caught:
        load(tables, **{"n_labels": 1} | options)
    assert CANARY not in str(caught.value)


def test_sections_of_forms_that_no_entry_has_are_refused():
    with pytest.raises(ValueError, match=r"drop_note_sections names \['past histori'\]"):
        load_eicu_demo(drop_note_sections=["Past histori"])
    load_eicu_demo(drop_note_sections=["Past history"])
