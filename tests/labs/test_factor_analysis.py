"""Expectation-maximisation finds the dependence that made the data, whatever is missing."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.decomposition import FactorAnalysis as CompleteFactorAnalysis

from sklearn_medfuse._nn.masked_autoencoder import FactorModel
from sklearn_medfuse.labs import _lab_model
from sklearn_medfuse.labs._lab_cells import LabCells


def sample(n_rows, seed=0):
    rng = np.random.default_rng(seed)
    W = np.random.default_rng(9).normal(size=(6, 2))
    noise = np.array([0.2, 0.3, 0.5, 0.4, 0.3, 0.2])
    X = rng.normal(size=(n_rows, 2)) @ W.T + rng.normal(size=(n_rows, 6)) * np.sqrt(noise)
    true = W @ W.T + np.diag(noise)
    deviation = np.sqrt(np.diag(true))
    return X / deviation, true / np.outer(deviation, deviation)


def analysis(X, weight=None, n_factors=2, start=None):
    cells = LabCells.from_table(X)
    weight = np.ones(len(X)) if weight is None else weight
    return _lab_model.FactorAnalysis(cells, cells.value, weight, n_factors, start)


def covariance(parameters):
    return parameters.loadings @ parameters.loadings.T + np.diag(parameters.noise)


def test_covariance_is_found_through_missing_cells():
    X, true = sample(4000)
    X[np.random.default_rng(1).random(X.shape) < 0.4] = np.nan
    np.testing.assert_allclose(covariance(analysis(X).fit()), true, atol=0.1)


def test_of_complete_data_it_agrees_with_the_textbook():
    X, _ = sample(4000)
    textbook = CompleteFactorAnalysis(2).fit(X).get_covariance()
    np.testing.assert_allclose(covariance(analysis(X).fit()), textbook, atol=0.1)


def test_of_few_rows_the_loadings_are_small():
    X, _ = sample(5)
    few = analysis(X).fit()
    assert np.abs(few.loadings).max() < 0.5


def test_no_lab_is_known_better_than_to_a_thousandth_of_its_variance():
    lab = np.random.default_rng(0).normal(size=(4000, 1))
    found = analysis(10 * np.hstack([lab, lab]), n_factors=1).fit()
    np.testing.assert_allclose(found.noise, 1e-3 * 100 * lab.var(), rtol=0.01)


def test_weights_are_repetitions():
    X, _ = sample(50)
    weight = np.random.default_rng(0).integers(1, 4, size=50)
    by_weight = analysis(X, weight.astype(float)).fit()
    by_repetition = analysis(np.repeat(X, weight, axis=0)).fit()
    np.testing.assert_allclose(covariance(by_weight), covariance(by_repetition), atol=0.02)


def test_sparse_and_dense_give_the_same(monkeypatch):
    X, _ = sample(100)
    X[np.random.default_rng(1).random(X.shape) < 0.3] = np.nan
    dense = analysis(X).fit()
    monkeypatch.setattr(_lab_model, "_DENSE_ENOUGH", 2.0)
    thin = analysis(X)
    assert sparse.issparse(thin._z)
    np.testing.assert_allclose(covariance(thin.fit()), covariance(dense), atol=1e-8)


def test_a_version_has_not_learned_from_its_fold():
    """A lab that only fold 0 ties to the others is tied in every version but that."""
    X, _ = sample(1000)
    fold = np.arange(1000) % 5
    X[fold != 0, 5] = np.random.default_rng(2).normal(size=800)
    fitted = analysis(X)
    parameters = fitted.fit()
    versions = fitted.versions(parameters, fold)
    assert len(versions) == 6
    tie = [abs(version.loadings[5] @ version.loadings[1]) for version in versions]
    assert tie[0] < 0.5 * min(tie[1:])
    assert versions[-1] is parameters


@pytest.mark.parametrize("n_rows", [0, 1, 3])
def test_hardly_any_rows(n_rows):
    X, _ = sample(n_rows)
    fitted = analysis(X, n_factors=4)
    if n_rows:
        versions = fitted.versions(fitted.fit(), np.arange(n_rows))
        assert all(np.isfinite(part).all() for version in versions for part in version)


def test_a_lab_that_was_never_measured_has_no_loadings():
    X, _ = sample(100)
    X[:, 3] = np.nan
    parameters = analysis(X).fit()
    np.testing.assert_array_equal(parameters.loadings[3], 0)
    assert parameters.mean[3] == 0


def learned(n_rows):
    """What many rows have taught of six labs."""
    X, _ = sample(2000)
    fitted = analysis(X)
    model = FactorModel(6, 2)
    _lab_model.fill_factor_model(model, [fitted.fit()], np.full(6, float(n_rows)))
    return model


def test_the_evidence_of_a_lab_is_the_number_of_its_cells():
    X, _ = sample(50)
    X[:20, 1] = np.nan
    assert analysis(X).evidence.tolist() == [50, 30, 50, 50, 50, 50]
    assert analysis(X, start=learned(7)).evidence.tolist() == [57, 37, 57, 57, 57, 57]


def test_what_was_learned_elsewhere_yields_to_many_rows_only():
    unrelated = np.random.default_rng(3).normal(size=(40, 6))
    before = covariance(analysis(sample(2000)[0]).fit())
    moved = [
        np.abs(covariance(analysis(unrelated, start=learned(n)).fit()) - before).mean()
        for n in (1000, 10)
    ]
    assert moved[0] < 0.3 * moved[1]


def test_where_a_lab_lies_is_learned_anew_from_few_rows():
    X, _ = sample(100, seed=5)
    assert analysis(X + 3.0, start=learned(1000)).fit().mean.mean() > 1.5
