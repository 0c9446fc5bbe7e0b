"""Dropout whose masks are drawn four to a random number."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_LEVELS = 2**16


class Dropout(nn.Module):
    """Dropout (Srivastava et al. 2014) that is cheap on a CPU.

    There torch draws a random number per entry, which takes longer than the matrix products of a
    net this small. Sixteen random bits are enough for one: each 64-bit number decides on four
    entries, and `probability` is rounded to a multiple of 1/65536. On other devices torch's own
    dropout runs.

    Parameters
    ----------
    probability : float
        Of an entry becoming zero, in [0, 1); the others are divided by the probability of staying.

    Examples
    --------
    >>> import torch
    >>> from sklearn_medfuse._nn.dropout import Dropout
    >>> Dropout(0.5)(torch.ones(10_000)).unique()
    tensor([0., 2.])
    >>> Dropout(0.5).eval()(torch.ones(3))
    tensor([1., 1., 1.])
    """

    def __init__(self, probability: float):
        super().__init__()
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        """Values of the same shape, some of them zero in training."""
        if not self.training or self.probability == 0:
            return x
        if x.device.type != "cpu":
            return F.dropout(x, self.probability)
        n_dropped = min(round(self.probability * _LEVELS), _LEVELS - 1)
        numbers = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
        levels = numbers.view(torch.int16)[: x.numel()].view(x.shape)
        kept = (levels >= n_dropped - _LEVELS // 2).to(x.dtype)
        return x * kept.mul_(_LEVELS / (_LEVELS - n_dropped))
