"""Searches, nested and in parallel, over the classifier's parameters; encoders fitted once."""

import os
import tempfile

import numpy as np
import pytest
import sklearn
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import ColumnTransformer
from sklearn.experimental import enable_halving_search_cv  # noqa: F401, makes the next import work
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    HalvingGridSearchCV,
    RandomizedSearchCV,
    cross_val_score,
)
from sklearn.pipeline import Pipeline

from sklearn_medfuse import MEDFuseClassifier
from sklearn_medfuse.persistence import PrivateMemory

GRID = {"medfuse__mi_weight": [0.0, 0.1, 1.0], "medfuse__dropout": [0.0, 0.3]}


class CountingEncoder(TransformerMixin, BaseEstimator):
    """Columns around their mean; every fit leaves a file in a folder."""

    def __init__(self, folder):
        self.folder = folder

    def fit(self, X, y=None):
        descriptor, _ = tempfile.mkstemp(dir=self.folder)
        os.close(descriptor)
        self.mean_ = np.asarray(X).mean(axis=0)
        return self

    def transform(self, X):
        return np.asarray(X) - self.mean_


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "fits").mkdir()
    return tmp_path / "fits"


@pytest.fixture
def pipe(tmp_path, folder):
    encode = ColumnTransformer(
        [
            ("labs", CountingEncoder(str(folder)), slice(0, 3)),
            ("notes", CountingEncoder(str(folder)), slice(3, 7)),
        ]
    )
    medfuse = MEDFuseClassifier(
        modalities={"labs": 3, "notes": 4},
        d_model=8,
        n_heads=2,
        n_estimators=1,
        max_epochs=2,
        random_state=0,
        device="cpu",
    )
    memory = PrivateMemory(tmp_path / "cache")
    return Pipeline([("encode", encode), ("medfuse", medfuse)], memory=memory)


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 7))
    return X, (X[:, [0, 4]] > 0).astype(int), np.arange(120) // 3


def n_fits(folder):
    return len(list(folder.iterdir()))


@pytest.mark.usefixtures("own_workers")
@pytest.mark.parametrize("n_jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_grid_fits_the_encoders_once_per_fold(pipe, data, folder, n_jobs):
    X, y, groups = data
    search = GridSearchCV(
        pipe,
        GRID,
        cv=GroupKFold(3),
        scoring="average_precision",
        refit=False,
        n_jobs=n_jobs,
        error_score="raise",
        # With two workers, a fold's first candidates may meet before one of them is written
        pre_dispatch=1 if n_jobs == 2 else "2*n_jobs",
    )
    search.fit(X, y, groups=groups)
    assert n_fits(folder) == 2 * 3
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_successive_halving_and_random_search(pipe, data):
    X, y, groups = data
    options = {"cv": GroupKFold(2), "scoring": "average_precision", "error_score": "raise"}
    halving = HalvingGridSearchCV(
        pipe,
        {"medfuse__mi_weight": [0.0, 0.1, 1.0]},
        resource="medfuse__max_epochs",
        max_resources=4,
        min_resources=1,
        factor=2,
        random_state=0,
        **options,
    ).fit(X, y, groups=groups)
    assert halving.n_iterations_ > 1
    random = RandomizedSearchCV(pipe, GRID, n_iter=2, random_state=0, **options)
    random.fit(X, y, groups=groups)
    for search in (halving, random):
        assert search.best_params_["medfuse__mi_weight"] in GRID["medfuse__mi_weight"]
        assert search.predict_proba(X).shape == (120, 2)


def test_nested_cross_validation(pipe, data):
    X, y, groups = data
    with sklearn.config_context(enable_metadata_routing=True):
        inner = GridSearchCV(
            pipe,
            {"medfuse__mi_weight": [0.0, 0.1]},
            cv=GroupKFold(2),
            scoring="average_precision",
            error_score="raise",
        )
        pipe["medfuse"].set_fit_request(groups=True)
        scores = cross_val_score(
            inner,
            X,
            y,
            cv=GroupKFold(2),
            scoring="average_precision",
            params={"groups": groups},
            error_score="raise",
        )
    assert np.isfinite(scores).all()


def test_weights_and_groups_are_routed_through_a_pipeline(pipe, data):
    X, y, groups = data
    weight = np.random.default_rng(1).random(120)
    with sklearn.config_context(enable_metadata_routing=True):
        pipe.set_params(medfuse__threshold="tune")
        pipe["medfuse"].set_fit_request(groups=True, sample_weight=True)
        routed = pipe.fit(X, y, sample_weight=weight, groups=groups).predict_proba(X)
        again = pipe.fit(X, y, sample_weight=np.ones(120), groups=groups).predict_proba(X)
    encoded = pipe["encode"].transform(X)
    by_hand = sklearn.base.clone(pipe["medfuse"]).fit(encoded, y, weight, groups=groups)
    np.testing.assert_array_equal(by_hand.predict_proba(encoded), routed)
    assert not np.array_equal(routed, again)
