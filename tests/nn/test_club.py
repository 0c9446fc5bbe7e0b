"""vCLUB: an upper bound of the mutual information once its critic fits."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from sklearn_medfuse._nn.losses import VariationalCLUB


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def correlated_gaussians(correlation, n=1000, dim=2):
    x, noise = torch.randn(2, n, dim)
    return x, correlation * x + math.sqrt(1 - correlation**2) * noise


def fitted(x, y, steps=200):
    club = VariationalCLUB(x.shape[1], y.shape[1], 16)
    optimizer = torch.optim.Adam(club.parameters(), 1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        club.negative_log_likelihood(x, y).backward()
        optimizer.step()
    return club


def estimate(correlation):
    club = fitted(*correlated_gaussians(correlation))
    with torch.no_grad():
        return club(*correlated_gaussians(correlation)).item()


def test_bounds_the_true_information_from_above_and_grows_with_it():
    correlations = [0.0, 0.4, 0.7, 0.9]
    truth = [-math.log(1 - correlation**2) for correlation in correlations]
    found = [estimate(correlation) for correlation in correlations]
    assert all(bound >= true - 0.05 for bound, true in zip(found, truth, strict=True))
    assert found == sorted(found)
    assert abs(found[0]) < 0.05


def test_closed_form_equals_the_mean_over_all_pairs():
    x, y = torch.randn(7, 3).double(), torch.randn(7, 2).double()
    club = VariationalCLUB(3, 2, 8).double()

    def log_q(i, j):
        return -club.negative_log_likelihood(x[i : i + 1], y[j : j + 1])

    positive = torch.stack([log_q(i, i) for i in range(7)]).mean()
    negative = torch.stack([log_q(i, j) for i in range(7) for j in range(7)]).mean()
    torch.testing.assert_close(club(x, y), positive - negative)


def test_likelihood_is_that_of_a_gaussian():
    x, y = torch.randn(5, 3), torch.randn(5, 2)
    club = VariationalCLUB(3, 2, 8)
    mean, log_variance = club._conditional(x)
    normal = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    torch.testing.assert_close(
        club.negative_log_likelihood(x, y), -normal.log_prob(y).sum(dim=1).mean()
    )


def test_fitting_raises_the_likelihood():
    x, y = correlated_gaussians(0.8)
    before = VariationalCLUB(2, 2, 16).negative_log_likelihood(x, y)
    assert fitted(x, y).negative_log_likelihood(x, y) < before - 0.3


def test_huge_features_do_not_overflow():
    x, y = 1e4 * torch.randn(5, 3), torch.randn(5, 2)
    assert VariationalCLUB(3, 2, 8)(x, y).isfinite()


def test_the_bound_is_above_the_truth_and_tracks_it():
    correlations = [0.0, 0.3, 0.5, 0.65, 0.8]
    truth = np.array([-math.log(1 - correlation**2) for correlation in correlations])
    found = []
    for correlation in correlations:
        club = fitted(*correlated_gaussians(correlation)).eval()
        with torch.no_grad():
            found.append(club(*correlated_gaussians(correlation)).item())
    assert (np.array(found) >= truth - 0.05).all()
    assert spearmanr(truth, found).statistic > 0.95


def test_weights_of_rows_and_of_none():
    x, y = torch.randn(7, 3).double(), torch.randn(7, 2).double()
    critic = VariationalCLUB(3, 2, 8).double()
    ones = torch.ones(7, dtype=torch.float64)
    torch.testing.assert_close(critic(x, y, 3 * ones), critic(x, y))
    torch.testing.assert_close(
        critic.negative_log_likelihood(x, y, ones), critic.negative_log_likelihood(x, y)
    )


def test_integer_weights_are_repeated_rows():
    x, y = torch.randn(7, 3).double(), torch.randn(7, 2).double()
    times = torch.tensor([1, 2, 0, 1, 3, 1, 1])
    critic = VariationalCLUB(3, 2, 8).double()
    repeated = critic(x.repeat_interleave(times, dim=0), y.repeat_interleave(times, dim=0))
    torch.testing.assert_close(critic(x, y, times.double()), repeated)


def test_one_row_has_no_information():
    bound = VariationalCLUB(3, 2, 8)(torch.randn(1, 3), torch.randn(1, 2))
    assert bound.item() == pytest.approx(0, abs=1e-6)
