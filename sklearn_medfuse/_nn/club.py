"""vCLUB: a variational upper bound of mutual information (Cheng et al. 2020, arXiv 2006.12013)."""

import math

import torch
from torch import Tensor, nn


class VariationalCLUB(nn.Module):
    """Bound I(x; y) from above with a Gaussian q(y | x).

    The bound is  I_vCLUB = E_p(x,y)[log q(y|x)] - E_p(x) E_p(y)[log q(y|x)]  (eq. 13 there). It
    holds when q is close to p(y | x), so q is fitted by maximum likelihood in a step of its own.

    Parameters
    ----------
    x_dim : int
        Width of x.
    y_dim : int
        Width of y.
    hidden : int
        Width of the hidden layer of q.

    Examples
    --------
    >>> import torch
    >>> club = VariationalCLUB(3, 2, 16)
    >>> x, y = torch.zeros(10, 3), torch.zeros(10, 2)
    >>> club.negative_log_likelihood(x, y).shape, club(x, y).shape
    (torch.Size([]), torch.Size([]))
    """

    def __init__(self, x_dim: int, y_dim: int, hidden: int = 64):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(x_dim, hidden), nn.GELU())
        self.mean = nn.Linear(hidden, y_dim)
        self.log_variance = nn.Linear(hidden, y_dim)

    def _conditional(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of q(y | x), each (n, y_dim)."""
        hidden = self.body(x)
        # tanh keeps the variance within [e^-4, e^4]: the bound cannot run off to infinity
        return self.mean(hidden), 4.0 * torch.tanh(self.log_variance(hidden) / 4.0)

    def negative_log_likelihood(self, x: Tensor, y: Tensor) -> Tensor:
        """Mean of -log q(y | x), what fits q; in nats."""
        mean, log_variance = self._conditional(x)
        squared = (y - mean) ** 2 * torch.exp(-log_variance)
        return 0.5 * (squared + log_variance + math.log(2 * math.pi)).sum(dim=1).mean()

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Estimate of the bound on x (n, x_dim), y (n, y_dim), in nats.

        The second expectation runs over all n² pairs. With mean μᵢ of q(·|xᵢ) it needs no loop:
        the mean over j of (yⱼ - μᵢ)² is  mean(y²) - 2 μᵢ mean(y) + μᵢ².
        """
        mean, log_variance = self._conditional(x)
        positive = (y - mean) ** 2
        negative = (y**2).mean(dim=0) - 2 * mean * y.mean(dim=0) + mean**2
        # the terms log σ² and log 2π are the same in both expectations
        return 0.5 * ((negative - positive) * torch.exp(-log_variance)).sum(dim=1).mean()
