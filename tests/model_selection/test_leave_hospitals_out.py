"""Each hospital is held out once, patients of two hospitals do not cross, searches can use it."""

import re

import numpy as np
import pandas as pd
import pytest
from sklearn import config_context
from sklearn.base import clone
from sklearn.dummy import DummyClassifier
from sklearn.model_selection import GridSearchCV, LeaveOneGroupOut, cross_validate

from sklearn_medfuse.model_selection import LeaveHospitalsOut

X = np.zeros((300, 1))


@pytest.fixture
def hospitals():
    """Ten hospitals of different size."""
    rng = np.random.default_rng(0)
    return np.r_[np.arange(10), rng.choice(10, 290, p=np.arange(1, 11) / 55)]


@pytest.mark.parametrize(
    ("n_hospitals", "sizes"),
    [
        (1, [1] * 10),
        (3, [3, 3, 2, 2]),
        (4, [4, 3, 3]),
        (5, [5, 5]),
        (9, [5, 5]),
        (0.2, [2] * 5),
        (0.3, [3, 3, 2, 2]),
        (0.01, [1] * 10),
    ],
)
@pytest.mark.parametrize("shuffle", [False, True])
def test_each_hospital_is_held_out_once(hospitals, n_hospitals, sizes, shuffle):
    splitter = LeaveHospitalsOut(n_hospitals, shuffle=shuffle, random_state=0 if shuffle else None)
    held_out = []
    for train, test in splitter.split(X, groups=hospitals):
        assert not set(hospitals[train]) & set(hospitals[test])
        assert np.array_equal(np.sort(np.r_[train, test]), np.arange(300))
        held_out.append(set(hospitals[test]))
    assert sorted(map(len, held_out), reverse=True) == sizes
    assert sorted(h for each in held_out for h in each) == list(range(10))
    assert splitter.get_n_splits(groups=hospitals) == len(sizes)


def test_one_at_a_time_is_leave_one_group_out(hospitals):
    ours = {tuple(test) for _, test in LeaveHospitalsOut().split(X, groups=hospitals)}
    theirs = {tuple(test) for _, test in LeaveOneGroupOut().split(X, groups=hospitals)}
    assert ours == theirs


def test_test_sets_are_about_even_without_shuffling(hospitals):
    def spread(**params):
        splitter = LeaveHospitalsOut(2, **params)
        return np.ptp([len(test) for _, test in splitter.split(X, groups=hospitals)])

    shuffled = [spread(shuffle=True, random_state=seed) for seed in range(20)]
    assert spread() < 0.7 * np.mean(shuffled)


def test_the_seed_decides_and_the_order_of_rows_does_not(hospitals):
    def partition(groups, **params):
        splitter = LeaveHospitalsOut(3, **params)
        return [frozenset(groups[test]) for _, test in splitter.split(X, groups=groups)]

    order = np.random.default_rng(1).permutation(300)
    assert partition(hospitals) == partition(hospitals[order])
    seeded = [partition(hospitals, shuffle=True, random_state=seed) for seed in (0, 0, 1)]
    assert seeded[0] == seeded[1] != seeded[2]


def test_patients_of_two_hospitals_do_not_cross(hospitals):
    patients = np.random.default_rng(2).integers(150, size=300)
    alone = LeaveHospitalsOut(3).split(X, groups=hospitals)
    together = LeaveHospitalsOut(3).split(X, groups=hospitals, patients=patients)
    for (train, test), (train_2, test_2) in zip(alone, together, strict=True):
        np.testing.assert_array_equal(train, train_2)
        assert not set(patients[train]) & set(patients[test_2])
        assert set(test) - set(test_2) == {row for row in test if patients[row] in patients[train]}


def test_searches_and_cross_validation_take_it(hospitals):
    y = np.arange(300) % 2
    splitter = LeaveHospitalsOut(0.5)
    search = GridSearchCV(DummyClassifier(), {"strategy": ["prior"]}, cv=splitter)
    assert search.fit(X, y, groups=pd.Series(hospitals, index=range(7, 307))).n_splits_ == 2
    with config_context(enable_metadata_routing=True):
        assert splitter.get_metadata_routing().split.requests == {"groups": True, "patients": True}
        params = {"groups": hospitals, "patients": np.arange(300)}
        cross_validate(DummyClassifier(), X, y, cv=splitter, params=params)
        assert clone(search).fit(X, y, **params).n_splits_ == 2


def test_repr_and_clone():
    splitter = LeaveHospitalsOut(0.2, shuffle=True, random_state=1)
    expected = "LeaveHospitalsOut(n_hospitals=0.2, random_state=1, shuffle=True)"
    assert repr(splitter) == repr(clone(splitter, safe=False)) == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"groups": None}, "`groups` is None. Pass one value per row"),
        ({"groups": [None] * 300}, "`groups` has 300 missing values"),
        ({"groups": ["secret"] * 300}, "leaves none of the 1 distinct values"),
        ({"groups": ["secret", "b"] * 150, "patients": [1] * 300}, "All patients of test set 0"),
        ({"patients": [np.nan] * 300}, "`patients` has 300 missing values"),
        ({"patients": [1, 2]}, "inconsistent numbers of samples"),
    ],
)
def test_wrong_data_says_what_to_do(hospitals, change, message):
    with pytest.raises(ValueError, match=re.escape(message)) as info:
        next(LeaveHospitalsOut().split(X, **{"groups": hospitals, **change}))
    assert "secret" not in str(info.value)


@pytest.mark.parametrize(
    ("params", "error"),
    [
        ({"n_hospitals": 0}, ValueError),
        ({"n_hospitals": 1.0}, ValueError),
        ({"n_hospitals": True}, ValueError),
        ({"shuffle": 1}, TypeError),
        ({"random_state": 0}, ValueError),
    ],
)
def test_wrong_parameters(params, error):
    with pytest.raises(error):
        LeaveHospitalsOut(**params)
