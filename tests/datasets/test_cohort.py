import pickle

import numpy as np
import pandas as pd
import pytest

from sklearn_medfuse.datasets import Cohort
from sklearn_medfuse.datasets._cohort import (
    check_require,
    choose_labels,
    drop_stays,
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
