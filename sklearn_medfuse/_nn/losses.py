"""The two terms of the loss L = L_prediction + λ · L_MI.

L_prediction is computed for single cells, one per row and label, so that each can have a weight.

L_MI is vCLUB (Cheng et al. 2020, arXiv 2006.12013), an upper bound on the mutual information of
x = [S_A, S_B] and y = S_C. It holds if the variational Gaussian q(y | x), the critic, is close to
p(y | x), so q is fitted by maximum likelihood in a step of its own.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def log_loss(logits: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy: binary of each label, or over classes where y holds class numbers.

    `y` holds labels of 0 and 1 (n, n_outputs) or int64 class numbers (n,); the losses, in nats,
    have shape (n, n_outputs) or (n, 1).

    Examples
    --------
    >>> import torch
    >>> log_loss(torch.zeros(2, 1), torch.ones(2, 1))
    tensor([[0.6931],
            [0.6931]])
    """
    if y.dtype == torch.int64:
        return F.cross_entropy(logits, y, reduction="none")[:, None]
    return F.binary_cross_entropy_with_logits(logits, y, reduction="none")


class VariationalCLUB(nn.Module):
    """vCLUB, with its critic: the Gaussian q(y | x), mean and variance by one hidden layer of x.

    The bound is  I_vCLUB = E_p(x,y)[log q(y|x)] - E_p(x) E_p(y)[log q(y|x)]  (eq. 13 there); all n²
    pairs of a batch stand for p(x) p(y). `x_dim` and `y_dim` are the widths of x and y, `hidden`
    that of the layer.

    Examples
    --------
    >>> import torch
    >>> club = VariationalCLUB(3, 2, 16)
    >>> club(torch.zeros(10, 3), torch.zeros(10, 2)).shape
    torch.Size([])
    """

    def __init__(self, x_dim: int, y_dim: int, hidden: int = 64):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(x_dim, hidden), nn.GELU())
        self.mean = nn.Linear(hidden, y_dim)
        self.log_variance = nn.Linear(hidden, y_dim)

    def _conditional(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of q(y | x), each (n, y_dim)."""
        hidden = self.body(x)
        # A tanh keeps the variance within [e^-4, e^4], so the bound cannot run off to infinity
        return self.mean(hidden), 4.0 * torch.tanh(self.log_variance(hidden) / 4.0)

    def negative_log_likelihood(self, x: Tensor, y: Tensor, weight: Tensor | None = None) -> Tensor:
        """Mean of -log q(y | x) in nats over x (n, x_dim), y (n, y_dim): the loss that fits q.

        `weight` (n,) weighs rows; None weighs all rows equally.
        """
        mean, log_variance = self._conditional(x)
        squared = (y - mean) ** 2 * torch.exp(-log_variance)
        return _mean(0.5 * (squared + log_variance + math.log(2 * math.pi)).sum(dim=1), weight)

    def forward(self, x: Tensor, y: Tensor, weight: Tensor | None = None) -> Tensor:
        """Estimate of the bound on x (n, x_dim), y (n, y_dim), in nats.

        With mean μᵢ of q(·|xᵢ) the second expectation needs no loop over pairs: the mean over j of
        (yⱼ - μᵢ)² is  mean(y²) - 2 μᵢ mean(y) + μᵢ².
        """
        mean, log_variance = self._conditional(x)
        positive = (y - mean) ** 2
        negative = _mean(y**2, weight) - 2 * mean * _mean(y, weight) + mean**2
        # The terms log σ² and log 2π are the same in both expectations
        return _mean(0.5 * ((negative - positive) * torch.exp(-log_variance)).sum(dim=1), weight)


def _mean(values: Tensor, weight: Tensor | None) -> Tensor:
    """Mean over rows, weighted where a weight (n,) is given."""
    if weight is None:
        return values.mean(dim=0)
    # Autocast leaves values in bfloat16, and a mean needs the digits
    return torch.tensordot(weight / weight.sum(), values.to(weight.dtype), dims=1)
