"""Folds of rows hold an even share of every label, and follow scikit-learn's conventions."""

import re

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_array
from sklearn import config_context
from sklearn.base import clone
from sklearn.dummy import DummyClassifier
from sklearn.model_selection import GridSearchCV, KFold, StratifiedKFold, cross_validate

from sklearn_medfuse.model_selection import MultilabelStratifiedKFold


def make_labels(seed, n_samples=600):
    """Ten labels from rare to frequent that go together."""
    rng = np.random.default_rng(seed)
    logit = np.linspace(-3.5, 0.5, 10) + rng.normal(size=(n_samples, 1))
    return (rng.uniform(size=logit.shape) < 1 / (1 + np.exp(-logit))).astype(int)


def fold_of_rows(splitter, y):
    fold = np.full(len(y), -1)
    for number, (train, test) in enumerate(splitter.split(np.zeros(len(y)), y)):
        assert np.array_equal(np.sort(np.r_[train, test]), np.arange(len(y)))
        assert (fold[test] == -1).all()
        fold[test] = number
    assert (fold >= 0).all()
    return fold


def spread(splitter, y):
    """Greatest difference between folds in the number of positives of a label."""
    fold = fold_of_rows(splitter, y)
    counts = np.array([y[fold == number].sum(axis=0) for number in range(fold.max() + 1)])
    return np.ptp(counts, axis=0)


@pytest.mark.parametrize("seed", range(5))
def test_labels_are_even_to_one_or_two_positives(seed):
    y = make_labels(seed)
    splitter = MultilabelStratifiedKFold(5)
    assert spread(splitter, y).max() <= 2
    assert np.ptp(np.bincount(fold_of_rows(splitter, y))) <= 1
    assert spread(KFold(5, shuffle=True, random_state=seed), y).max() >= 10


def test_one_label_is_as_even_as_with_stratified_k_fold():
    y = make_labels(0)[:, 4:5]
    assert spread(MultilabelStratifiedKFold(7), y) <= spread(StratifiedKFold(7), y)


def test_the_seed_decides_and_the_global_state_is_left_alone():
    y = make_labels(1)
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    a, b, c = (
        fold_of_rows(MultilabelStratifiedKFold(5, shuffle=True, random_state=seed), y)
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(a, b)
    assert (a != c).any()
    assert spread(MultilabelStratifiedKFold(5, shuffle=True, random_state=0), y).max() <= 2
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002


@pytest.mark.parametrize(
    "convert",
    [pd.DataFrame, csr_array, lambda y: y.astype(bool), lambda y: y.tolist()],
    ids=["DataFrame", "sparse", "bool", "list"],
)
def test_kinds_of_y_give_the_same_split(convert):
    y, splitter = make_labels(2), MultilabelStratifiedKFold(3)
    expected = [test for _, test in splitter.split(y, y)]
    for test, other in zip(expected, splitter.split(y, convert(y)), strict=True):
        np.testing.assert_array_equal(test, other[1])


def test_searches_and_cross_validation_take_it():
    y = make_labels(3)
    X = np.zeros((len(y), 1))
    splitter = MultilabelStratifiedKFold(3)
    search = GridSearchCV(DummyClassifier(), {"strategy": ["prior"]}, cv=splitter).fit(X, y)
    assert search.n_splits_ == splitter.get_n_splits() == 3
    with config_context(enable_metadata_routing=True):
        assert len(cross_validate(DummyClassifier(), X, y, cv=splitter)["test_score"]) == 3


def test_repr_and_clone():
    splitter = MultilabelStratifiedKFold(4, shuffle=True, random_state=1)
    expected = "MultilabelStratifiedKFold(n_splits=4, random_state=1, shuffle=True)"
    assert repr(splitter) == repr(clone(splitter, safe=False)) == expected


def test_groups_that_would_be_split_are_told():
    y = make_labels(4)
    with pytest.warns(UserWarning, match="does not keep groups whole; use Multilabel"):
        next(MultilabelStratifiedKFold(3).split(y, y, groups=np.arange(len(y))))


def test_a_label_too_rare_for_every_fold_is_told():
    y = make_labels(5)
    y[:, 0] = 0
    y[7, 0] = 1
    with pytest.warns(UserWarning, match="1 of 10 labels in `y` have positives in fewer than n_sp"):
        next(MultilabelStratifiedKFold(3).split(y, y))


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (None, "`y` is None"),
        (np.full((4, 2), 3), "numbers other than 0 and 1"),
        (np.array([0, 1, np.nan, 1]), "`y` has 1 missing"),
        (np.eye(2), "Cannot have number of splits n_splits=3 greater than the number of samples"),
    ],
)
def test_wrong_data_says_what_to_do(y, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        next(MultilabelStratifiedKFold(3).split(np.zeros((4 if y is None else len(y), 1)), y))
