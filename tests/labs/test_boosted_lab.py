"""BoostedLabEncoder: logits of rows by classifiers that have not seen them."""

import io

import joblib
import numpy as np
import pandas as pd
import pytest
import skops.io
from scipy.special import logit
from sklearn import config_context
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, KFold, ShuffleSplit, cross_val_predict
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.estimator_checks import parametrize_with_checks

from sklearn_medfuse import BoostedLabEncoder

# these want fit_transform(X, y) to be fit(X, y).transform(X), which cross-fitting forbids unless
# a classifier says the same of all rows
SAME_TWICE = {"check_transformer_general", "check_transformer_data_not_an_array"}
SAME_OF_ALL = DummyClassifier(strategy="uniform")


@parametrize_with_checks([BoostedLabEncoder(DecisionTreeClassifier(max_depth=2), cv=3)])
def test_scikit_learn_checks(estimator, check):
    if check.func.__name__ in SAME_TWICE:
        estimator = clone(estimator).set_params(estimator=SAME_OF_ALL)
    check(estimator)


@pytest.fixture
def labs():
    """200 rows of four labs with gaps; the first label hangs on a sharp limit of the first lab."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 4))
    y = np.stack([np.abs(X[:, 0]) < 0.5, X[:, 1] > 1], axis=1).astype(int)
    X[rng.random(X.shape) < 0.1] = np.nan
    X[7] = np.nan
    return X, y


def test_labels_that_mean_nothing_give_logits_that_know_nothing(labs):
    X, _ = labs
    y = np.random.default_rng(1).integers(0, 2, size=(200, 5))
    encoder = BoostedLabEncoder(HistGradientBoostingClassifier(max_iter=30), random_state=0)
    there = ~np.isnan(X).all(axis=1)
    held_out = encoder.fit_transform(X, y)[there]
    seen = encoder.transform(X)[there]
    known = [roc_auc_score(y[there, j], seen[:, j]) for j in range(5)]
    left = [roc_auc_score(y[there, j], held_out[:, j]) for j in range(5)]
    assert min(known) > 0.8
    assert np.mean(left) == pytest.approx(0.5, abs=0.07)


def test_a_rows_own_label_does_not_change_its_logits(labs):
    X, y = labs
    other = y.copy()
    other[3] = 1 - other[3]
    encoder = BoostedLabEncoder(DecisionTreeClassifier(max_depth=3), random_state=0)
    before, after = encoder.fit_transform(X, y), encoder.fit_transform(X, other)
    np.testing.assert_array_equal(after[3], before[3])
    assert not np.array_equal(after, before, equal_nan=True)


def test_trees_find_a_sharp_limit_in_rows_held_out(labs):
    X, y = labs
    found = BoostedLabEncoder(random_state=0).fit_transform(X[:150], y[:150])
    there = ~np.isnan(found[:, 0])
    assert roc_auc_score(y[:150][there, 0], found[there, 0]) > 0.8


@pytest.mark.parametrize("n_classes", [2, 3])
def test_logits_are_those_of_cross_val_predict(n_classes):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(90, 3))
    y = np.digitize(X[:, 0] + rng.normal(size=90), [-0.5, 0.5][: n_classes - 1])
    model = LogisticRegression()
    folds = KFold(4, shuffle=True, random_state=3)
    expected = cross_val_predict(model, X, y, cv=folds, method="predict_proba")
    expected = logit(expected[:, [1]]) if n_classes == 2 else np.log(expected)
    found = BoostedLabEncoder(model, cv=folds).fit_transform(X, y)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    new = BoostedLabEncoder(model).fit(X, y).transform(X)
    np.testing.assert_allclose(
        new[:, -1] if n_classes == 2 else new[:, 0] - new[:, 1],
        model.fit(X, y).decision_function(X)
        if n_classes == 2
        else model.fit(X, y).decision_function(X) @ [1, -1, 0],
        atol=1e-6,
    )


def test_groups_are_held_out_whole():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(20), 5)
    # each patient is alike in all rows and ill by chance: who has seen one row knows the others
    X = np.repeat(rng.normal(size=(20, 2)), 5, axis=0) + rng.normal(size=(100, 2)) * 1e-3
    y = np.repeat(rng.integers(0, 2, 20), 5)
    encoder = BoostedLabEncoder(KNeighborsClassifier(1), random_state=0)
    apart = encoder.fit_transform(X, y)
    whole = encoder.fit_transform(X, y, groups=groups)
    assert roc_auc_score(y, apart) > 0.95
    assert roc_auc_score(y, whole) < 0.8


def test_groups_and_weights_are_routed():
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(40, 2)), columns=["a", "b"])
    y, groups = rng.integers(0, 2, 40), np.repeat(np.arange(10), 4)
    weight = rng.integers(0, 3, 40)
    plain = BoostedLabEncoder(GaussianNB(), cv=GroupKFold(5))
    expected = plain.fit_transform(X, y, sample_weight=weight, groups=groups)
    with config_context(enable_metadata_routing=True):
        asked = clone(plain).set_fit_request(groups=True, sample_weight=True)
        encode = ColumnTransformer([("boosted", asked, ["a", "b"])])
        pipe = Pipeline([("encode", encode)])
        found = pipe.fit_transform(X, y, groups=groups, sample_weight=weight)
    np.testing.assert_array_equal(found, expected)


def test_missing_labels_are_as_if_their_rows_were_not_there(labs):
    X, y = labs
    unknown = np.arange(200) % 4 == 0
    partly = pd.DataFrame(y.astype(float)).mask(unknown[:, None] & [[True, False]])
    tree = DecisionTreeClassifier(max_depth=3, random_state=0)
    encoder = BoostedLabEncoder(tree).fit(X, partly)
    rest = BoostedLabEncoder(tree).fit(X[~unknown], y[~unknown, 0])
    alone = encoder.estimators_[0].predict_proba(X)
    np.testing.assert_array_equal(alone, rest.estimators_[0].predict_proba(X))
    assert np.isfinite(encoder.fit_transform(X, partly)[8]).all()


def test_a_label_of_one_value_gives_one_logit(labs):
    X, y = labs
    y = np.column_stack([y[:, 0], np.zeros(200, dtype=int)])
    encoder = BoostedLabEncoder(DecisionTreeClassifier(max_depth=2))
    found = encoder.fit(X, y).transform(X)
    there = ~np.isnan(X).all(axis=1)
    np.testing.assert_allclose(found[there, 1], logit(1 / 202))
    assert encoder.estimators_[1] is None
    assert np.isfinite(encoder.fit_transform(X, y)[there]).all()
    assert encoder.fit(X, np.ones(200)).transform(X).shape == (200, 1)


def test_one_class_gives_one_finite_logit(labs):
    X = np.delete(labs[0], 7, axis=0)
    found = BoostedLabEncoder(random_state=0).fit_transform(X, np.full(len(X), "well"))
    assert found.shape == (len(X), 1)
    assert (np.isfinite(found) & (found < 0)).all()


def test_a_row_without_labs_is_absent_or_zero(labs):
    X, y = labs
    encoder = BoostedLabEncoder(DecisionTreeClassifier(max_depth=2))
    for found in (encoder.fit_transform(X, y), encoder.transform(X)):
        assert np.isnan(found[7]).all()
        assert np.isfinite(np.delete(found, 7, axis=0)).all()
    zeros = clone(encoder).set_params(absent="zero").fit_transform(X, y)
    np.testing.assert_array_equal(zeros[7], 0)


def test_zero_weight_leaves_a_row_out_and_keeps_its_logit(labs):
    X, y = labs
    weight = np.r_[np.zeros(20), np.ones(180)]
    tree = DecisionTreeClassifier(max_depth=3, random_state=0)
    weighted = BoostedLabEncoder(tree).fit(X, y, sample_weight=weight)
    without = BoostedLabEncoder(tree).fit(X[20:], y[20:])
    np.testing.assert_array_equal(weighted.transform(X), without.transform(X))
    assert np.isfinite(weighted.fit_transform(X, y, sample_weight=weight)[0]).all()


def test_qualitative_labs_are_read():
    X = pd.DataFrame({"ketones": ["NEG", "2+"] * 20, "crp": ["<0.5", "12", None, "3"] * 10})
    y = np.tile([[0, 1], [1, 0]], (20, 1))
    encoder = BoostedLabEncoder(DecisionTreeClassifier()).fit(X, y)
    assert encoder.levels_ == [["NEG", "2+"], None]
    assert roc_auc_score(y, encoder.transform(X)) == 1


def test_seeds_of_folds_and_classifiers(labs):
    X, y = labs
    one, same, other = (
        BoostedLabEncoder(DecisionTreeClassifier(max_depth=2, max_features=1), random_state=seed)
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one.fit_transform(X, y), same.fit_transform(X, y))
    assert not np.array_equal(one.transform(X), other.fit(X, y).transform(X), equal_nan=True)
    own = BoostedLabEncoder(DecisionTreeClassifier(random_state=5)).fit(X, y)
    assert own.estimators_[0].random_state == 5


def test_saved_encoders_give_the_same(labs):
    X, y = labs
    encoder = BoostedLabEncoder(random_state=0).fit(X, y)
    expected = encoder.transform(X)
    file = io.BytesIO()
    joblib.dump(encoder, file)
    np.testing.assert_array_equal(joblib.load(file).transform(X), expected)
    data = skops.io.dumps(encoder)
    trusted = skops.io.get_untrusted_types(data=data)
    ours = "sklearn_medfuse.labs._boosted_lab.BoostedLabEncoder"
    trees = "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"
    assert set(trusted) == {ours, trees}
    np.testing.assert_array_equal(skops.io.loads(data, trusted=trusted).transform(X), expected)


def test_what_does_not_fit_is_refused(labs):
    X, y = labs
    tree = DecisionTreeClassifier()
    with pytest.raises(ValueError, match="exactly once"):
        BoostedLabEncoder(tree, cv=ShuffleSplit(3, random_state=0)).fit_transform(X, y)
    with pytest.raises(ValueError, match="one group only"):
        BoostedLabEncoder(tree).fit_transform(X, y, groups=np.zeros(200))
    with pytest.raises(ValueError, match="0, 1 or NaN only"):
        BoostedLabEncoder(tree).fit(X, y * 2)
    with pytest.raises(TypeError, match="takes no sample_weight"):
        BoostedLabEncoder(KNeighborsClassifier()).fit(
            np.nan_to_num(X), y, sample_weight=np.full(200, 2.0)
        )
    with pytest.raises(ValueError, match="leaves no row"):
        BoostedLabEncoder(tree).fit_transform(X, y, sample_weight=np.arange(200) == 5)
