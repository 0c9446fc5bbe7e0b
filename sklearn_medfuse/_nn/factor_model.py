"""Measured lab cells, and the linear part of the lab model: Gaussian factors behind the labs."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

# Gauss-Hermite nodes for the mean and variance of a function of a Gaussian; five are exact for
# polynomials up to the ninth degree
_N_NODES = 5


class LabBatch(NamedTuple):
    """Measured cells of some rows, packed to the left, without those that were not measured.

    All tensors have shape (n, k).
    """

    lab: Tensor  # int64: column of each cell; 0 in the padding
    value: Tensor  # Standardised value; 0 in the padding
    score: Tensor  # Normal score, from the rank among the training values; 0 in the padding
    measured: Tensor  # bool: False in the padding

    def take(self, order: Tensor) -> "LabBatch":
        """Reorder, and possibly drop, cells by position `order` (n, m)."""
        return LabBatch(*(part.gather(1, order) for part in self))

    def rows(self, index: Tensor) -> "LabBatch":
        """Take rows by position (m,), as wide as the longest of them."""
        width = int(self.measured[index].sum(dim=1).max()) if len(index) else 0
        return LabBatch(*(part[index, :width] for part in self))

    def clean(self) -> "LabBatch":
        """Return the batch with zeros in the padding: no weight times NaN is NaN."""
        return self._replace(
            value=self.value.masked_fill(~self.measured, 0.0),
            score=self.score.masked_fill(~self.measured, 0.0),
        )


class Factors(NamedTuple):
    """Posterior of a row's factors, given its visible cells."""

    mean: Tensor  # (n, r)
    cholesky: Tensor  # (n, r, r): lower Cholesky factor of the posterior precision
    version: Tensor  # int64 (n,): version of the parameters that each row uses


class FactorModel(nn.Module):
    r"""Factor analysis of standardised lab values.

    A row's values are :math:`z_j = \mu_j + w_j^\top f + \varepsilon_j` with factors
    :math:`f \sim N(0, I)` and noise :math:`\varepsilon_j \sim N(0, \psi_j)`. From any set of
    visible cells the factors' posterior is Gaussian in closed form, at the cost of the visible
    cells only: a cell that was not measured takes no part.

    Parameters
    ----------
    n_labs : int
        Number of lab tests.
    n_factors : int
        Number of factors r.
    n_versions : int
        Versions of loadings and means. Training predicts each row with a version that did not
        learn from it; the last version learned from all rows.

    Examples
    --------
    >>> import torch
    >>> model = FactorModel(n_labs=3, n_factors=1)
    >>> _ = model.loadings.fill_(0.9)
    >>> factors = model(torch.tensor([[0]]), torch.tensor([[2.0]]), torch.tensor([[True]]))
    >>> mean, variance = model.predict(factors, torch.tensor([[1]]))
    >>> bool(0 < mean < 2.0)
    True
    """

    loadings: Tensor
    mean: Tensor
    noise: Tensor
    evidence: Tensor

    def __init__(self, n_labs: int, n_factors: int, n_versions: int = 1):
        super().__init__()
        # Fitted by expectation-maximisation, not by gradients
        self.register_buffer("loadings", torch.zeros(n_versions, n_labs, n_factors))
        self.register_buffer("mean", torch.zeros(n_versions, n_labs))
        self.register_buffer("noise", torch.ones(n_labs))
        # Number of cells that each lab was learned from, its weight if another fit starts here
        self.register_buffer("evidence", torch.zeros(n_labs))

    def keep_last_version(self) -> None:
        """Drop the versions that only training needs."""
        self.loadings = self.loadings[-1:].clone()
        self.mean = self.mean[-1:].clone()

    def correlation(self) -> Tensor:
        """Correlation of the labs (n_labs, n_labs) that the last version implies."""
        loadings = self.loadings[-1]
        covariance = loadings @ loadings.T + torch.diag(self.noise)
        deviation = covariance.diagonal().sqrt()
        return covariance / torch.outer(deviation, deviation)

    def forward(
        self, lab: Tensor, value: Tensor, measured: Tensor, version: Tensor | None = None
    ) -> Factors:
        """Infer the factors of rows from their cells (n, k)."""
        if version is None:
            version = torch.full((len(lab),), len(self.loadings) - 1, device=lab.device)
        row = version[:, None]
        loadings = self.loadings[row, lab]
        precision = torch.where(measured, 1.0 / self.noise[lab], 0.0)
        residual = torch.where(measured, value - self.mean[row, lab], 0.0)
        weighted = loadings * precision[..., None]
        identity = torch.eye(loadings.shape[-1], dtype=loadings.dtype, device=loadings.device)
        # P = I + sum_j w_j w_j' / psi_j,  E[f] = P^-1 sum_j w_j (z_j - mu_j) / psi_j
        cholesky = torch.linalg.cholesky(identity + weighted.transpose(1, 2) @ loadings)
        projected = weighted.transpose(1, 2) @ residual[..., None]
        mean = torch.cholesky_solve(projected, cholesky)[..., 0]
        return Factors(mean, cholesky, version)

    def predict(self, factors: Factors, lab: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of the values of the labs `lab` (n, q), given a row's factors."""
        row = factors.version[:, None]
        loadings = self.loadings[row, lab]
        mean = self.mean[row, lab] + (loadings @ factors.mean[..., None])[..., 0]
        spread = torch.linalg.solve_triangular(
            factors.cholesky, loadings.transpose(1, 2), upper=False
        )
        return mean, spread.square().sum(dim=1) + self.noise[lab]

    def sample(self, factors: Factors, lab: Tensor, generator: torch.Generator) -> Tensor:
        """Draw the values of the labs `lab` (n, q) jointly, each row from the same factors."""
        shape = factors.mean.shape
        noise = torch.randn(shape, generator=generator, dtype=self.noise.dtype)
        noise = noise.to(factors.mean.device)[..., None]
        drawn = factors.mean + torch.linalg.solve_triangular(
            factors.cholesky.transpose(1, 2), noise, upper=True
        ).squeeze(-1)
        row = factors.version[:, None]
        mean = self.mean[row, lab] + (self.loadings[row, lab] @ drawn[..., None])[..., 0]
        own = torch.randn(lab.shape, generator=generator, dtype=self.noise.dtype).to(lab.device)
        return mean + own * self.noise[lab].sqrt()


class LabPrior(nn.Module):
    """Two factor models of the same labs: of their values and of their normal scores.

    The first models labs as Gaussian, the second their ranks, as a Gaussian copula does: exact
    sums and differences of labs are linear in values, skewed labs in ranks. The mean of the two
    predictions is better than either.

    Parameters
    ----------
    n_labs, n_factors, n_versions
        As in `FactorModel`.
    score_range : float
        The curves of `values_at` run from minus this score to plus this score.
    n_points : int
        Points of each lab's curve from score to value.

    Examples
    --------
    >>> import torch
    >>> prior = LabPrior(n_labs=3, n_factors=2)
    >>> batch = LabBatch(
    ...     torch.tensor([[0, 2]]), torch.zeros(1, 2), torch.zeros(1, 2), torch.ones(1, 2).bool()
    ... )
    >>> prior.predict(prior(batch), torch.tensor([[1]]))
    tensor([[0.]])
    """

    values_at: Tensor

    def __init__(
        self,
        n_labs: int,
        n_factors: int,
        score_range: float = 3.5,
        n_points: int = 57,
        n_versions: int = 1,
    ):
        super().__init__()
        self.of_values = FactorModel(n_labs, n_factors, n_versions)
        self.of_scores = FactorModel(n_labs, n_factors, n_versions)
        self.score_range = score_range
        self.register_buffer("values_at", torch.zeros(n_labs, n_points))
        self._nodes = _gauss_hermite(_N_NODES)

    def keep_last_version(self) -> None:
        """Drop the versions that only training needs."""
        self.of_values.keep_last_version()
        self.of_scores.keep_last_version()

    def forward(self, visible: LabBatch, version: Tensor | None = None) -> tuple[Factors, Factors]:
        """Infer both models' factors from the visible cells."""
        return (
            self.of_values(visible.lab, visible.value, visible.measured, version),
            self.of_scores(visible.lab, visible.score, visible.measured, version),
        )

    def predict(self, factors: tuple[Factors, Factors], lab: Tensor) -> Tensor:
        """Expected standardised values of the labs `lab` (n, q)."""
        from_values, _ = self.of_values.predict(factors[0], lab)
        from_scores, _ = self._value_moments(*self.of_scores.predict(factors[1], lab), lab)
        return (from_values + from_scores) / 2

    def spread(self, factors: tuple[Factors, Factors], lab: Tensor) -> Tensor:
        """Standard deviation of the standardised values of the labs `lab` (n, q)."""
        _, variance = self.of_values.predict(factors[0], lab)
        _, by_rank = self._value_moments(*self.of_scores.predict(factors[1], lab), lab)
        return ((variance + by_rank) / 2).sqrt()

    def draw_deviation(
        self, factors: tuple[Factors, Factors], lab: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Draw how far the values of the labs `lab` (n, q) lie from what the ranks predict."""
        expected, _ = self._value_moments(*self.of_scores.predict(factors[1], lab), lab)
        drawn = self.of_scores.sample(factors[1], lab, generator)
        return self.value_of(drawn, lab) - expected

    def value_of(self, score: Tensor, lab: Tensor) -> Tensor:
        """Value of each lab (n, q) at a normal score, along the lab's curve."""
        n_points = self.values_at.shape[1]
        step = 2 * self.score_range / (n_points - 1)
        position = ((score + self.score_range) / step).clamp(0, n_points - 1)
        left = position.long().clamp(max=n_points - 2)
        share = position - left
        return self.values_at[lab, left] * (1 - share) + self.values_at[lab, left + 1] * share

    def _value_moments(self, mean: Tensor, variance: Tensor, lab: Tensor) -> tuple[Tensor, Tensor]:
        spread = variance.sqrt()
        first = torch.zeros_like(mean)
        second = torch.zeros_like(mean)
        for node, weight in self._nodes:
            value = self.value_of(mean + node * spread, lab)
            first = first + weight * value
            second = second + weight * value.square()
        return first, (second - first.square()).clamp(min=0.0)


def _gauss_hermite(n: int) -> list[tuple[float, float]]:
    """Nodes and weights for means over a standard Gaussian (Golub and Welsch 1969)."""
    # On the CPU also where a net is built of shapes alone, on torch's meta device
    beside = torch.arange(1, n, dtype=torch.float64, device="cpu").sqrt()
    nodes, vectors = torch.linalg.eigh(beside.diag(1) + beside.diag(-1))
    return list(zip(nodes.tolist(), vectors[0].square().tolist(), strict=True))
