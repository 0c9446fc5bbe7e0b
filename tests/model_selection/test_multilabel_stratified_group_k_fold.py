"""Splits keep groups whole, spread labels evenly, and behave as sklearn's splitters do."""

import re
import warnings

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_array
from sklearn import config_context
from sklearn.base import clone
from sklearn.dummy import DummyClassifier
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    StratifiedGroupKFold,
    cross_val_score,
    cross_validate,
)

from sklearn_medfuse.model_selection import MultilabelStratifiedGroupKFold


def make_hospital_labels(seed, n_samples=1000, n_groups=90, n_labels=8):
    """Labels whose prevalence differs between hospitals of very different size."""
    rng = np.random.RandomState(seed)
    groups = rng.choice(n_groups, n_samples, p=rng.dirichlet(np.full(n_groups, 0.5)))
    logit = rng.uniform(-3, -0.7, n_labels) + rng.normal(0, 0.8, (n_groups, n_labels))[groups]
    y = (rng.uniform(size=logit.shape) < 1 / (1 + np.exp(-logit))).astype(int)
    return y, groups


def test_labels_that_are_not_known_are_no_positives():
    y, groups = make_hospital_labels(0)
    hidden = np.random.default_rng(0).random(y.shape) < 0.3
    splitter = MultilabelStratifiedGroupKFold(4)
    expected = list(splitter.split(y, np.where(hidden, 0, y), groups))
    with_gaps = pd.DataFrame(y).mask(hidden)
    for labels in (with_gaps, with_gaps.astype("Int64"), with_gaps.to_numpy()):
        for found, wanted in zip(splitter.split(y, labels, groups), expected, strict=True):
            np.testing.assert_array_equal(found[1], wanted[1])


def positive_shares(splitter, y, groups):
    """Each fold's share of every label's positives, shape (n_folds, n_labels)."""
    folds = [test for _, test in splitter.split(y, y, groups)]
    return np.array([y[test].sum(axis=0) for test in folds]) / y.sum(axis=0)


def unevenness(splitter, y, groups):
    """Mean distance of the shares from 1 / n_folds, relative to it."""
    shares = positive_shares(splitter, y, groups)
    return np.abs(len(shares) * shares - 1).mean()


def folds_of_rows(splitter, y, groups):
    fold = np.full(len(groups), -1)
    for number, (_, test) in enumerate(splitter.split(np.zeros(len(groups)), y, groups)):
        assert (fold[test] == -1).all()
        fold[test] = number
    return fold


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("n_splits", [2, 5])
def test_every_row_is_tested_once_and_no_group_in_two_folds(shuffle, n_splits):
    y, groups = make_hospital_labels(0)
    splitter = MultilabelStratifiedGroupKFold(
        n_splits, shuffle=shuffle, random_state=0 if shuffle else None
    )
    tested = []
    for train, test in splitter.split(y, y, groups):
        assert not set(groups[train]) & set(groups[test])
        assert np.array_equal(np.sort(np.r_[train, test]), np.arange(len(y)))
        tested.extend(test)
    assert sorted(tested) == list(range(len(y)))
    assert splitter.get_n_splits() == n_splits


def test_labels_are_more_even_than_with_group_k_fold():
    ours, plain = [], []
    for seed in range(20):
        y, groups = make_hospital_labels(seed)
        ours.append(unevenness(MultilabelStratifiedGroupKFold(5), y, groups))
        plain.append(unevenness(GroupKFold(5), y, groups))
    assert np.mean(np.array(ours) < np.array(plain)) == 1
    assert np.mean(ours) < 0.5 * np.mean(plain)


def test_patients_with_one_or_two_stays_give_nearly_equal_folds():
    rng = np.random.RandomState(0)
    groups = rng.randint(800, size=1000)
    y = (rng.uniform(size=(1000, 10)) < np.linspace(0.02, 0.3, 10)).astype(int)
    splitter = MultilabelStratifiedGroupKFold(5)
    counts = positive_shares(splitter, y, groups) * y.sum(axis=0)
    assert np.abs(counts - y.sum(axis=0) / 5).max() <= 2
    assert np.ptp(np.bincount(folds_of_rows(splitter, y, groups))) <= 2


def test_shuffling_keeps_the_evenness():
    y, groups = make_hospital_labels(1)
    plain = unevenness(GroupKFold(5), y, groups)
    for seed in range(5):
        splitter = MultilabelStratifiedGroupKFold(5, shuffle=True, random_state=seed)
        assert unevenness(splitter, y, groups) < 0.5 * plain


@pytest.mark.parametrize("seed", range(5))
def test_one_label_is_as_even_as_with_stratified_group_k_fold(seed):
    y, groups = make_hospital_labels(seed, n_labels=1)
    ours = unevenness(MultilabelStratifiedGroupKFold(5), y, groups)
    assert ours <= unevenness(StratifiedGroupKFold(5), y, groups) + 0.02


def test_a_group_with_most_positives_leaves_the_rest_spread():
    # 17 of 20 positives in one group; the other three go to the three other folds
    groups = np.repeat(np.arange(60), 5)
    y = np.zeros((300, 2), dtype=int)
    groups[:20] = 0
    y[:17, 0] = 1
    y[[110, 120, 130], 0] = 1
    y[::7, 1] = 1
    folds = [test for _, test in MultilabelStratifiedGroupKFold(4).split(y, y, groups)]
    assert sorted(y[test, 0].sum() for test in folds) == [1, 1, 1, 17]
    assert {len(test) for test in folds} == {75}


def test_no_fold_is_empty_when_one_group_holds_almost_everything():
    groups = np.r_[np.zeros(97, dtype=int), 1, 2, 3]
    y = np.ones((100, 1), dtype=int)
    y[::2] = 0
    with pytest.warns(UserWarning, match="positives in fewer"):
        sizes = [len(test) for _, test in MultilabelStratifiedGroupKFold(4).split(y, y, groups)]
    assert sorted(sizes) == [1, 1, 1, 97]


def test_without_shuffle_the_split_is_a_function_of_the_data():
    y, groups = make_hospital_labels(2)
    splitter = MultilabelStratifiedGroupKFold(5)
    fold = folds_of_rows(splitter, y, groups)
    np.testing.assert_array_equal(fold, folds_of_rows(splitter, y, groups))

    order = np.random.RandomState(0).permutation(len(y))
    np.testing.assert_array_equal(fold[order], folds_of_rows(splitter, y[order], groups[order]))


def test_with_shuffle_the_seed_decides():
    y, groups = make_hospital_labels(3)

    def folds(seed):
        splitter = MultilabelStratifiedGroupKFold(5, shuffle=True, random_state=seed)
        return folds_of_rows(splitter, y, groups)

    np.testing.assert_array_equal(folds(0), folds(0))
    assert (folds(0) != folds(1)).any()


def test_global_random_state_is_left_alone():
    y, groups = make_hospital_labels(3)
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    list(MultilabelStratifiedGroupKFold(shuffle=True, random_state=0).split(y, y, groups))
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002


@pytest.mark.parametrize(
    "convert",
    [pd.DataFrame, csr_array, lambda y: y.astype(bool), lambda y: y.tolist(), lambda y: y * 1.0],
    ids=["DataFrame", "sparse", "bool", "list", "float"],
)
def test_kinds_of_y_give_the_same_split(convert):
    y, groups = make_hospital_labels(4)
    splitter = MultilabelStratifiedGroupKFold(3)
    np.testing.assert_array_equal(
        folds_of_rows(splitter, y, groups), folds_of_rows(splitter, convert(y), groups)
    )


def test_kinds_of_groups_give_the_same_split():
    y, groups = make_hospital_labels(5)
    splitter = MultilabelStratifiedGroupKFold(3)
    fold = folds_of_rows(splitter, y, groups)
    for other in (pd.Series(groups, index=groups + 7), [f"patient-{g:04}" for g in groups]):
        np.testing.assert_array_equal(fold, folds_of_rows(splitter, y, other))


@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
def test_classes_in_one_column_are_all_spread(shape):
    rng = np.random.RandomState(0)
    y = rng.choice(["a", "b", "c"], p=[0.7, 0.2, 0.1], size=600)
    groups = rng.randint(200, size=600)
    for _, test in MultilabelStratifiedGroupKFold(5).split(y, y.reshape(shape), groups):
        share = pd.Series(y[test]).value_counts() / pd.Series(y).value_counts()
        assert np.abs(share - 0.2).max() < 0.03


def test_swapping_the_two_classes_changes_nothing():
    y, groups = make_hospital_labels(6, n_labels=1)
    splitter = MultilabelStratifiedGroupKFold(5)
    a = folds_of_rows(splitter, y.ravel(), groups)
    b = folds_of_rows(splitter, np.where(y.ravel() == 1, "no", "yes"), groups)
    np.testing.assert_array_equal(a, b)


def test_grid_search_takes_groups():
    y, groups = make_hospital_labels(7)
    X = np.zeros((len(y), 1))
    search = GridSearchCV(
        DummyClassifier(), {"strategy": ["prior"]}, cv=MultilabelStratifiedGroupKFold(3)
    )
    search.fit(X, pd.DataFrame(y), groups=pd.Series(groups))
    assert search.n_splits_ == 3
    cross_val_score(DummyClassifier(), X, y, groups=groups, cv=MultilabelStratifiedGroupKFold(3))


def test_metadata_routing_requests_groups():
    y, groups = make_hospital_labels(8)
    with config_context(enable_metadata_routing=True):
        splitter = MultilabelStratifiedGroupKFold(3)
        assert splitter.get_metadata_routing().split.requests == {"groups": True}
        cross_validate(
            DummyClassifier(), np.zeros((len(y), 1)), y, cv=splitter, params={"groups": groups}
        )


def test_repr_and_clone():
    splitter = MultilabelStratifiedGroupKFold(4, shuffle=True, random_state=1)
    assert (
        repr(splitter)
        == "MultilabelStratifiedGroupKFold(n_splits=4, random_state=1, shuffle=True)"
        == repr(clone(splitter, safe=False))
    )


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"n_splits": 1}, ValueError),
        ({"n_splits": 2.5}, ValueError),
        ({"shuffle": 1}, TypeError),
        ({"random_state": 0}, ValueError),
    ],
)
def test_wrong_parameters(arguments, error):
    with pytest.raises(error):
        MultilabelStratifiedGroupKFold(**arguments)


Y = np.array([[0, 1], [1, 0], [1, 1], [0, 0]])


@pytest.mark.parametrize(
    ("y", "groups", "message"),
    [
        (Y, None, "`groups` is None. Pass one value per row"),
        (Y, [1, 2, np.nan, 4], "`groups` has 1 missing values"),
        (Y, ["a", "b", None, "c"], "`groups` has 1 missing values"),
        (Y, ["a", "b", np.nan, "c"], "`groups` has 1 missing values"),
        (Y, np.zeros((4, 2)), "`groups` has 2 dimensions"),
        (Y, [7, 7, 8, 8], "n_splits=3 is more than the 2 distinct values"),
        (Y, [7, 7, 7, 7], "`groups` holds a single group"),
        (Y, [1, 2, 3], "inconsistent numbers of samples"),
        (None, [1, 2, 3, 4], "`y` is None"),
        (Y + 1, [1, 2, 3, 4], "numbers other than 0 and 1"),
        (Y * 0.3, [1, 2, 3, 4], "'continuous-multioutput'"),
        ([0, 1, np.nan, 1], [1, 2, 3, 4], "`y` has 1 missing"),
    ],
)
def test_wrong_data_says_what_to_do(y, groups, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        next(MultilabelStratifiedGroupKFold(3).split(np.zeros((4, 1)), y, groups))


def test_errors_do_not_show_group_names():
    with pytest.raises(ValueError, match="distinct values of") as info:
        next(MultilabelStratifiedGroupKFold(3).split(Y, Y, ["MRN-1", "MRN-1", "MRN-2", "MRN-2"]))
    assert "MRN" not in str(info.value)


def test_a_label_too_rare_for_every_fold_warns_once():
    y, groups = make_hospital_labels(9)
    y[:, 0] = 0
    y[5, 0] = 1
    splitter = MultilabelStratifiedGroupKFold(5)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        list(splitter.split(y, y, groups))
    assert [str(w.message)[:18] for w in caught] == ["1 of 8 labels in `"]
