import pickle

import numpy as np
import pandas as pd
import pytest

from sklearn_medfuse.datasets import Cohort
from sklearn_medfuse.datasets._cohort import (
    EventWindow,
    check_require,
    choose_labels,
    drop_stays,
    last_values,
    parse_hours,
)

CANARY = "Canary-4711"


@pytest.fixture
def cohort():
    index = pd.Index([4711001, 4711002], name="stay_id")
    return Cohort(
        X=pd.DataFrame({"wbc": [4711.5, np.nan], "note": [CANARY, None]}, index=index),
        y=pd.DataFrame({"obesity": [0, 1]}, index=index),
        groups=pd.Series([CANARY, CANARY], index=index),
        hospitals=pd.Series([4711, 4711], index=index),
        lab_columns=["wbc"],
        note_column="note",
        target_names=["obesity"],
        stay_ids=index.to_numpy(),
        counts={"stays read": 3},
        DESCR="made",
    )


def test_representations_hold_counts_only(cohort):
    expected = "Cohort(2 stays of 1 patients: 1 labs (50% measured), notes for 1 stays, 1 labels)"
    assert repr(cohort) == str(cohort) == f"{cohort}" == expected
    assert cohort._repr_html_() == f"<pre>{expected}</pre>"
    assert "4711" not in repr([cohort]) + cohort._repr_html_()


def test_fields_are_keys_and_attributes(cohort):
    assert cohort.X is cohort["X"]
    assert "hospitals" in cohort


def test_report_is_a_copy(cohort):
    cohort.report()["stays read"] = 0
    assert cohort.report() == {"stays read": 3}


def test_pickle_round_trip(cohort):
    loaded = pickle.loads(pickle.dumps(cohort))
    assert type(loaded) is Cohort
    assert loaded.keys() == cohort.keys()
    pd.testing.assert_frame_equal(loaded.X, cohort.X)


def test_window_needs_both_times_inside_and_counts_the_rest():
    events = pd.DataFrame(
        {
            "stay": [1, 1, 1, 1, 1, 9, 1, 1],
            "happened": [0, -5, -6, 10, 11, 0, np.nan, 0],
            "entered": [10, 0, 0, 11, 0, 0, 0, np.nan],
        }
    )
    counts = {}
    window = EventWindow(-5, 10, [1, 2], counts)
    kept = window.keep(events, "lab", "happened", known="entered")
    assert kept.index.tolist() == [0, 1]
    assert counts == {
        "lab rows read": 8,
        "lab rows dropped: of stays not used": 1,
        "lab rows dropped: without a time": 1,
        "lab rows dropped: without a stored time": 1,
        "lab rows dropped: before the window": 1,
        "lab rows dropped: after the index time": 2,
        "lab rows kept": 2,
    }


def test_last_value_does_not_depend_on_the_order_of_rows():
    events = pd.DataFrame(
        {
            "stay": [1, 1, 1, 2, 2],
            "lab": ["a", "a", "b", "a", "a"],
            "time": [5, 9, 1, 3, 3],
            "value": [1.0, 2.0, 3.0, 8.0, 7.0],
        }
    )
    result = last_values(events, ["time"])
    expected = pd.DataFrame({"a": [2.0, 8.0], "b": [3.0, np.nan]}, index=[1, 2])
    np.testing.assert_array_equal(result, expected)
    for seed in range(5):
        shuffled = events.sample(frac=1, random_state=seed)
        pd.testing.assert_frame_equal(last_values(shuffled, ["time"]), result)


def test_choose_labels_by_prevalence_name_or_all():
    labels = pd.DataFrame({"a": [0, 0, 1], "b": [1, 1, 0], "c": [1, 0, 0], "d": [0, 0, 0]})
    assert list(choose_labels(labels, 2)) == ["b", "a"]
    assert list(choose_labels(labels, np.int64(3))) == ["b", "a", "c"]
    assert list(choose_labels(labels, ["d", "a"])) == ["d", "a"]
    assert list(choose_labels(labels, "c")) == ["c"]
    assert choose_labels(labels, None) is labels


@pytest.mark.parametrize("n_labels", [0, -1, 5, ["a", "z"], [], "z"])
def test_choose_labels_refuses(n_labels):
    with pytest.raises(ValueError, match="n_labels"):
        choose_labels(pd.DataFrame({"a": [0], "b": [1]}), n_labels)


def test_parse_hours():
    assert parse_hours("24h", "index_time") == parse_hours(24, "index_time") == 1440
    assert parse_hours("2 days", "index_time") == 2880
    assert parse_hours(0.5, "index_time") == 30
    for wrong in ["soon", -1, "-3h", None, float("nan"), [24]]:
        with pytest.raises(ValueError, match="index_time must be a duration"):
            parse_hours(wrong, "index_time")


def test_check_require():
    assert check_require("labs") == ["labs"]
    assert check_require(()) == []
    assert check_require(("labs", "notes")) == ["labs", "notes"]
    with pytest.raises(ValueError, match="require may name"):
        check_require("images")


def test_a_dropped_stay_counts_once():
    stays = pd.DataFrame({"x": [1, 2, 3]})
    counts = {}
    reasons = {"one": stays["x"] < 2, "two": stays["x"] < 3}
    assert drop_stays(stays, reasons, counts).index.tolist() == [2]
    assert counts == {"stays dropped: one": 1, "stays dropped: two": 1}
