"""Training lies before testing by the gap, no patient is in both, and searches can use it."""

import re
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from sklearn import config_context
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, TimeSeriesSplit, cross_validate
from sklearn.pipeline import make_pipeline

from sklearn_medfuse.datasets import make_ehr_cohort
from sklearn_medfuse.model_selection import TemporalSplit

X = np.zeros((120, 1))


@pytest.fixture
def times():
    """120 days in random order."""
    days = np.random.default_rng(0).permutation(120)
    return pd.Series(pd.Timestamp("2180-01-01") + pd.to_timedelta(days, unit="D"))


@pytest.fixture
def patients():
    return np.random.default_rng(1).integers(60, size=120)


def test_each_test_stretch_follows_its_training_rows(times):
    ends = []
    for train, test in TemporalSplit(5).split(X, times=times):
        assert times[train].max() < times[test].min()
        # Everything that lies before is trained on
        assert set(train) == set(np.flatnonzero(times < times[test].min()))
        ends.append((times[test].min(), times[test].max(), len(test)))
    assert all(before[1] < after[0] for before, after in pairwise(ends))
    assert [end[2] for end in ends] == [20] * 5
    assert ends[-1][1] == times.max()


@pytest.mark.parametrize("test_size", [None, 7])
def test_rows_in_order_are_split_as_by_time_series_split(test_size):
    ours = TemporalSplit(4, test_size=test_size).split(X[:103], times=np.arange(103))
    theirs = TimeSeriesSplit(4, test_size=test_size).split(X[:103])
    for (train, test), (train_2, test_2) in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(train, train_2)
        np.testing.assert_array_equal(test, test_2)


def test_no_patient_is_in_both(times, patients):
    alone = list(TemporalSplit(5).split(X, times=times))
    together = list(TemporalSplit(5).split(X, groups=patients, times=times))
    for (train, test), (train_2, test_2) in zip(alone, together, strict=True):
        np.testing.assert_array_equal(train, train_2)
        assert not set(patients[train]) & set(patients[test_2])
        # And only the rows of known patients are left out
        assert set(test) - set(test_2) == {row for row in test if patients[row] in patients[train]}


@pytest.mark.parametrize("gap", ["10D", pd.Timedelta(days=10), np.timedelta64(10, "D")])
def test_the_gap_lies_between(times, gap):
    for train, test in TemporalSplit(5, gap=gap).split(X, times=times):
        start = times[test].min()
        assert start - times[train].max() == pd.Timedelta(days=10)
        assert set(train) == set(np.flatnonzero(times <= start - pd.Timedelta(days=10)))


def test_a_gap_of_numbers():
    splits = TemporalSplit(2, gap=1.5).split(X[:6], times=np.arange(6))
    assert [(train.tolist(), test.tolist()) for train, test in splits] == [
        ([0], [2, 3]),
        ([0, 1, 2], [4, 5]),
    ]
    with pytest.raises(ValueError, match="Split 0 has no training rows: choose a shorter `gap`"):
        list(TemporalSplit(2, gap=7).split(X[:6], times=np.arange(6)))


def test_rows_of_equal_time_are_not_parted():
    times = np.repeat(np.arange(24), 5)
    for train, test in TemporalSplit(4, test_size=22).split(X, times=times):
        assert times[train].max() < times[test].min()


@pytest.mark.parametrize(
    "convert",
    [
        lambda times: times.set_axis(times.index + 7),
        lambda times: times.to_numpy(),
        lambda times: times.dt.tz_localize("UTC").dt.tz_convert("Asia/Tokyo"),
        lambda times: times.tolist(),
        lambda times: [time.to_pydatetime() for time in times],
        lambda times: (times - times.min()).dt.days,
        lambda times: (times - times.min()).dt.days.astype("Float64"),
    ],
    ids=["index", "array", "zone", "list", "datetime", "numbers", "nullable"],
)
def test_kinds_of_times_give_the_same_splits(times, convert):
    expected = list(TemporalSplit(3).split(X, times=times))
    for pair, other in zip(expected, TemporalSplit(3).split(X, times=convert(times)), strict=True):
        np.testing.assert_array_equal(pair[0], other[0])
        np.testing.assert_array_equal(pair[1], other[1])


def test_a_column_of_x_holds_the_times_in_a_search(times, patients):
    table = pd.DataFrame({"lab": np.arange(120.0), "index_time": times})
    y = np.arange(120) % 2
    model = make_pipeline(
        ColumnTransformer([("labs", "passthrough", ["lab"])]), LogisticRegression()
    )
    splitter = TemporalSplit(3, time_column="index_time")
    search = GridSearchCV(model, {"logisticregression__C": [1.0, 2.0]}, cv=splitter)
    search.fit(table, y, groups=patients)
    assert search.n_splits_ == 3
    expected = list(TemporalSplit(3).split(X, groups=patients, times=times))
    for pair, other in zip(expected, splitter.split(table, y, patients), strict=True):
        np.testing.assert_array_equal(pair[1], other[1])


def test_times_are_routed(times, patients):
    y = np.arange(120) % 2
    splitter = TemporalSplit(3)
    with config_context(enable_metadata_routing=True):
        requests = splitter.get_metadata_routing().split.requests
        assert requests == {"groups": True, "times": True}
        for params in ({"times": times}, {"times": times, "groups": patients}):
            cross_validate(DummyClassifier(), X, y, cv=splitter, params=params)
            search = GridSearchCV(DummyClassifier(), {"strategy": ["prior"]}, cv=splitter)
            assert search.fit(X, y, **params).n_splits_ == 3


def test_a_cohorts_times():
    cohort = make_ehr_cohort(n_stays=200, random_state=0)
    for train, test in TemporalSplit(3).split(
        cohort.X, cohort.y, groups=cohort.groups, times=cohort.index_times
    ):
        assert cohort.index_times.iloc[train].max() < cohort.index_times.iloc[test].min()
        assert not set(cohort.groups.iloc[train]) & set(cohort.groups.iloc[test])


def test_repr_and_clone():
    splitter = TemporalSplit(4, gap="30D", test_size=20)
    expected = "TemporalSplit(gap='30D', n_splits=4, test_size=20, time_column=None)"
    assert repr(splitter) == repr(clone(splitter, safe=False)) == expected
    assert splitter.get_n_splits() == 4


@pytest.mark.parametrize(
    ("params", "change", "message"),
    [
        ({}, {"times": None}, "`times` is None; pass the index time"),
        ({"time_column": "t"}, {}, "both given"),
        ({"time_column": "t"}, {"times": None}, "`X` has no column 't'"),
        ({}, {"times": ["2180-secret"] * 120}, "pass dates, e.g. by pandas.to_datetime"),
        ({}, {"times": [None] * 5 + [1.0] * 115}, "`times` has 5 missing values"),
        ({}, {"times": [1] * 119}, "inconsistent numbers of samples"),
        ({}, {"times": np.ones((120, 2))}, "of type"),
        ({}, {"times": np.ones(120)}, "Split 0 has no training rows"),
        ({}, {"groups": np.zeros(120)}, "Split 0 has no test rows: choose a greater `test_size`"),
        ({}, {"groups": [None] * 120}, "`groups` has 120 missing"),
        ({"gap": 3}, {}, "`times` are dates; pass a duration such as '30D'"),
        ({"gap": "soon"}, {}, "`gap` is 'soon'"),
        ({"gap": "-1D"}, {}, "at least 0"),
        ({"gap": "1D"}, {"times": np.arange(120)}, "`times` are numbers; pass a number"),
        ({"test_size": 24}, {}, "need more than the 120 rows"),
        ({"n_splits": 120}, {}, "need more than the 120 rows"),
    ],
)
def test_wrong_data_says_what_to_do(times, params, change, message):
    with pytest.raises(ValueError, match=re.escape(message)) as info:
        list(TemporalSplit(**params).split(X, **{"times": times, **change}))
    assert "secret" not in str(info.value)


@pytest.mark.parametrize("params", [{"n_splits": 0}, {"n_splits": 2.5}, {"test_size": 0}])
def test_wrong_parameters(params):
    with pytest.raises(ValueError, match="pass a whole number of at least 1"):
        TemporalSplit(**params)
