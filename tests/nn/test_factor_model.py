"""The linear part against the textbook formulas of a Gaussian with known covariance."""

import numpy as np
import pytest
import torch

from sklearn_medfuse._nn.masked_autoencoder import FactorModel, LabBatch, LabPrior

N_LABS, N_FACTORS = 5, 2


@pytest.fixture
def model():
    generator = torch.Generator().manual_seed(0)
    model = FactorModel(N_LABS, N_FACTORS).double()
    model.loadings.copy_(torch.randn(1, N_LABS, N_FACTORS, generator=generator))
    model.mean.copy_(torch.randn(1, N_LABS, generator=generator))
    model.noise.copy_(torch.rand(N_LABS, generator=generator) + 0.1)
    return model


def conditional(model, seen, values, hidden):
    """Mean and covariance of the hidden labs, by inverting the covariance of the seen ones."""
    W, mean = model.loadings[0].numpy(), model.mean[0].numpy()
    covariance = W @ W.T + np.diag(model.noise.numpy())
    gain = covariance[np.ix_(hidden, seen)] @ np.linalg.inv(covariance[np.ix_(seen, seen)])
    return (
        mean[hidden] + gain @ (values - mean[seen]),
        covariance[np.ix_(hidden, hidden)] - gain @ covariance[np.ix_(seen, hidden)],
    )


def infer(model, seen, values):
    lab = torch.tensor([[*seen, 0]])
    value = torch.tensor([[*values, float("nan")]], dtype=torch.float64)
    measured = torch.tensor([[True] * len(seen) + [False]])
    return model(lab, value, measured)


def test_predictions_are_the_conditional_gaussian(model):
    seen, hidden, values = [0, 3], [1, 2, 4], np.array([0.5, -2.0])
    mean, variance = model.predict(infer(model, seen, values), torch.tensor([hidden]))
    expected, covariance = conditional(model, seen, values, hidden)
    np.testing.assert_allclose(mean[0], expected)
    np.testing.assert_allclose(variance[0], np.diag(covariance))


def test_correlations_are_those_of_the_last_version():
    model = FactorModel(2, 1, n_versions=2)
    model.loadings.copy_(torch.tensor([[[9.0], [-9.0]], [[1.0], [2.0]]]))
    model.noise.copy_(torch.tensor([3.0, 5.0]))
    # Covariance 2, variances 1 + 3 and 4 + 5
    torch.testing.assert_close(model.correlation(), torch.tensor([[1, 1 / 3], [1 / 3, 1]]))


def test_draws_have_the_conditional_covariance(model):
    seen, hidden, values = [0, 3], [1, 2, 4], np.array([0.5, -2.0])
    factors = infer(model, seen, values)
    generator = torch.Generator().manual_seed(0)
    lab = torch.tensor([hidden])
    draws = torch.cat([model.sample(factors, lab, generator) for _ in range(20_000)]).numpy()
    expected, covariance = conditional(model, seen, values, hidden)
    np.testing.assert_allclose(draws.mean(axis=0), expected, atol=0.05)
    np.testing.assert_allclose(np.cov(draws.T), covariance, atol=0.1)


def test_nothing_seen_gives_the_mean(model):
    mean, variance = model.predict(infer(model, [], []), torch.arange(N_LABS)[None])
    np.testing.assert_allclose(mean, model.mean)
    total = (model.loadings[0] ** 2).sum(dim=1) + model.noise
    np.testing.assert_allclose(variance[0], total)


def test_each_row_uses_its_version_and_only_the_last_is_kept():
    model = FactorModel(1, 1, n_versions=2)
    model.mean.copy_(torch.tensor([[1.0], [2.0]]))
    lab, nothing = torch.zeros(2, 1, dtype=torch.long), torch.zeros(2, 1)
    factors = model(lab, nothing, nothing.bool(), torch.tensor([0, 1]))
    assert model.predict(factors, lab)[0].tolist() == [[1.0], [2.0]]
    model.keep_last_version()
    assert model.predict(model(lab, nothing, nothing.bool()), lab)[0].tolist() == [[2.0], [2.0]]


@pytest.fixture
def prior(model):
    prior = LabPrior(N_LABS, N_FACTORS).double()
    prior.of_values.load_state_dict(model.state_dict())
    prior.of_scores.load_state_dict(model.state_dict())
    return prior


def batch_of(values):
    value = torch.tensor([values], dtype=torch.float64)
    return LabBatch(torch.arange(len(values))[None], value, value, torch.ones_like(value).bool())


def test_of_gaussian_labs_both_views_say_the_same(prior):
    # The curve from score to value is the identity
    prior.values_at.copy_(torch.linspace(-3.5, 3.5, 57).expand(N_LABS, -1))
    factors = prior(batch_of([0.1, -0.2]))
    lab = torch.tensor([[2, 4]])
    expected, variance = prior.of_values.predict(factors[0], lab)
    torch.testing.assert_close(prior.predict(factors, lab), expected, atol=0.02, rtol=0)
    torch.testing.assert_close(prior.spread(factors, lab), variance.sqrt(), atol=0.1, rtol=0)


def test_the_mean_of_a_curved_lab_is_that_of_its_draws(prior):
    prior.values_at.copy_(torch.linspace(-3.5, 3.5, 57).exp().expand(N_LABS, -1))
    # A hundred rows alike, two hundred draws of each
    factors = prior(LabBatch(*(part.expand(100, -1) for part in batch_of([0.1, -0.2]))))
    lab = torch.tensor([[2, 4]]).expand(100, -1)
    generator = torch.Generator().manual_seed(0)
    deviation = torch.cat([prior.draw_deviation(factors, lab, generator) for _ in range(200)])
    np.testing.assert_allclose(deviation.mean(dim=0), [0, 0], atol=0.1)


def test_curves_end_at_their_ends(prior):
    prior.values_at.copy_(torch.linspace(-1, 1, 57).expand(N_LABS, -1))
    lab = torch.tensor([[0, 1, 2]])
    value = prior.value_of(torch.tensor([[-99.0, 0.0, 99.0]], dtype=torch.float64), lab)
    torch.testing.assert_close(value, torch.tensor([[-1.0, 0.0, 1.0]], dtype=torch.float64))
