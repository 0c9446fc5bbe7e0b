"""Parts of a cohort share no patient; what is written comes back; figures show counts alone."""

import os
import pickle
import stat

import numpy as np
import pandas as pd
import pytest

from sklearn_medfuse.datasets import Cohort, load_eicu_demo


@pytest.fixture(scope="module")
def eicu():
    return load_eicu_demo()


@pytest.fixture
def cohort():
    index = pd.Index(np.arange(100, 140), name="stay_id")
    rng = np.random.default_rng(0)
    return Cohort(
        X=pd.DataFrame({"wbc": rng.normal(size=40), "note": ["a note", None] * 20}, index=index),
        y=pd.DataFrame({"obesity": rng.integers(0, 2, 40)}, index=index),
        groups=pd.Series(np.arange(40) // 2, index=index, name="patient"),
        hospitals=pd.Series(np.arange(40) // 5 % 3, index=index),
        index_times=pd.Series(pd.date_range("2130-01-01", periods=40), index=index),
        subgroups=pd.DataFrame({"sex": ["F", "M"] * 20, "age": 50.0}, index=index),
        lab_columns=["wbc"],
        note_column="note",
        units={"wbc": "K/uL"},
        reference_ranges={"wbc": (4.0, 11.0)},
        target_names=["obesity"],
        stay_ids=index.to_numpy(),
        counts={"stays read": np.int64(50), "stays dropped: too young": 10, "stays kept": 40},
        DESCR="made",
    )


def assert_equal(one, other):
    assert type(one) is type(other)
    assert one.keys() == other.keys()
    for name, value in one.items():
        if isinstance(value, pd.DataFrame):
            pd.testing.assert_frame_equal(value, other[name])
        elif isinstance(value, pd.Series):
            pd.testing.assert_series_equal(value, other[name])
        else:
            np.testing.assert_equal(other[name], value)


# Fields


CANARY = "Canary-4711"


@pytest.fixture
def secret():
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


def test_representations_hold_counts_only(secret):
    expected = "Cohort(2 stays of 1 patients: 1 labs (50% measured), notes for 1 stays, 1 labels)"
    assert repr(secret) == str(secret) == f"{secret}" == expected
    assert secret._repr_html_() == f"<pre>{expected}</pre>"
    assert "4711" not in repr([secret]) + secret._repr_html_()


def test_fields_are_keys_and_attributes(secret):
    assert secret.X is secret["X"]
    assert "hospitals" in secret


def test_report_is_a_copy(secret):
    secret.report()["stays read"] = 0
    assert secret.report() == {"stays read": 3}


def test_pickle_round_trip(secret):
    loaded = pickle.loads(pickle.dumps(secret))
    assert type(loaded) is Cohort
    assert loaded.keys() == secret.keys()
    pd.testing.assert_frame_equal(loaded.X, secret.X)


# Splitting


@pytest.mark.parametrize("by", ["patient", "hospital", "time"])
def test_no_patient_is_in_both_parts(cohort, by):
    train, test = cohort.train_test_split(by, test_size=0.3, random_state=0)
    assert not set(train.groups) & set(test.groups)
    left_out = test.counts["stays left out: of patients who are learned from"]
    assert len(train.X) + len(test.X) + left_out == 40
    for part in (train, test):
        for table in (part.X, part.y, part.groups, part.hospitals, part.subgroups):
            assert table.index.tolist() == part.stay_ids.tolist()
    assert train.counts == cohort.counts


def test_whole_hospitals_are_held_out(eicu):
    train, test = eicu.train_test_split("hospital", test_size=0.2, random_state=1)
    assert not set(train.hospitals) & set(test.hospitals)
    assert test.hospitals.nunique() == round(0.2 * eicu.hospitals.nunique())


def test_the_latest_stays_are_held_out(cohort):
    train, test = cohort.train_test_split("time", test_size=0.25)
    assert train.index_times.max() < test.index_times.min()
    assert len(test.X) == 10


def test_the_seed_decides(cohort):
    first, again, other = (
        cohort.train_test_split(random_state=seed)[1].stay_ids.tolist() for seed in (0, 0, 1)
    )
    assert first == again != other


def test_impossible_splits(cohort, eicu):
    with pytest.raises(ValueError, match="by must be"):
        cohort.train_test_split("stay")
    with pytest.raises(ValueError, match="test_size"):
        cohort.train_test_split(test_size=1.0)
    with pytest.raises(ValueError, match="index times"):
        eicu.train_test_split("time")
    cohort.hospitals = None
    with pytest.raises(ValueError, match="hospitals"):
        cohort.train_test_split("hospital")
    with pytest.raises(ValueError, match="at least two"):
        cohort.select([0, 1]).train_test_split()


def test_selected_stays_come_in_the_order_asked_for(cohort):
    assert cohort.select([3, 1]).stay_ids.tolist() == [103, 101]
    assert cohort.select(cohort.y["obesity"] == 1).y["obesity"].all()


# Files


def test_a_cohort_comes_back_equal(cohort, eicu, tmp_path):
    for place, original in enumerate((cohort, eicu)):
        folder = tmp_path / "deep" / str(place)
        original.to_parquet(folder)
        assert_equal(Cohort.from_parquet(folder), original)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_an_older_cohort_is_replaced_and_other_files_are_not(cohort, tmp_path):
    folder = tmp_path / "cohort"
    cohort.to_parquet(folder)
    cohort.select([0, 1]).to_parquet(folder)
    assert len(Cohort.from_parquet(folder).X) == 2
    assert os.listdir(tmp_path) == ["cohort"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="other files"):
        cohort.to_parquet(tmp_path / "mine")


def test_a_crash_leaves_the_older_cohort(cohort, tmp_path, monkeypatch):
    folder = tmp_path / "cohort"
    cohort.to_parquet(folder)

    def crash(self, path):
        raise OSError("disk full")

    monkeypatch.setattr(Cohort, "_write", crash)
    with pytest.raises(OSError, match="disk full"):
        cohort.select([0]).to_parquet(folder)
    assert os.listdir(tmp_path) == ["cohort"]
    assert_equal(Cohort.from_parquet(folder), cohort)


@pytest.mark.parametrize("file", ["X.parquet", "y.parquet", "groups.parquet", "cohort.json"])
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_damaged_folders_are_refused(cohort, tmp_path, file, damage):
    cohort.to_parquet(tmp_path / "c")
    path = tmp_path / "c" / file
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:40])
    else:
        path.unlink()
    error = FileNotFoundError if (file, damage) == ("cohort.json", "gone") else ValueError
    with pytest.raises(error, match=r"damaged|holds no cohort.json"):
        Cohort.from_parquet(tmp_path / "c")


# Description


def test_table_1_counts_who_is_there(cohort):
    pytest.importorskip("tableone")
    table = cohort.describe()
    text = table.to_string()
    assert "20 (50.0)" in text  # Of each sex
    assert "50.0 [50.0,50.0]" in text  # The age
    measured = cohort.X["wbc"].median()
    assert f"{measured:.1f}" in text
    by = cohort.describe(by="obesity")
    assert {"0", "1"} <= {str(column) for column in by.columns.get_level_values(-1)}
    with pytest.raises(ValueError, match="neither a label"):
        cohort.describe(by="mood")


def test_the_diagram_says_what_the_report_says(eicu):
    plt = pytest.importorskip("matplotlib.pyplot")
    report = eicu.report()
    dropped = {k: n for k, n in report.items() if k.startswith("stays dropped") and n}
    drawn = " ".join(text.get_text() for text in eicu.flow().texts)
    for said in (f"{report['stays read']:,} stays read", f"{report['stays kept']:,} stays kept"):
        assert said in drawn
    assert f"{sum(dropped.values()):,} dropped" in drawn
    assert all(f"{n:,}" in drawn for n in dropped.values())
    _, ax = plt.subplots()
    assert eicu.flow(ax=ax) is ax
    plt.close("all")
