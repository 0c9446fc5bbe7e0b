"""Lab tests as tokens: what was measured (identity) and how much of it (value)."""

import math

import torch
from torch import Tensor, nn


class LabTokens(nn.Module):
    """Embed (lab, value) pairs.

    A token is the sum of the lab's identity embedding, a direction of the lab's own times the
    value (the linear part, as in FT-Transformer, Gorishniy et al. 2021), and periodic features of
    the value with learned frequencies shared by all labs (Gorishniy et al. 2022, "On embeddings
    for numerical features"), which let attention tell ranges apart.

    Parameters
    ----------
    n_labs : int
        Number of lab tests.
    d_model : int
        Width of a token.
    n_frequencies : int
        Number of learned frequencies.

    Examples
    --------
    >>> import torch
    >>> tokens = LabTokens(n_labs=5, d_model=8)
    >>> tokens(torch.tensor([[0, 4]]), torch.tensor([[0.5, -1.0]])).shape
    torch.Size([1, 2, 8])
    """

    def __init__(self, n_labs: int, d_model: int, n_frequencies: int = 8):
        super().__init__()
        self.identity = nn.Embedding(n_labs, d_model)
        self.direction = nn.Embedding(n_labs, d_model)
        nn.init.normal_(self.identity.weight, std=d_model**-0.5)
        nn.init.normal_(self.direction.weight, std=d_model**-0.5)
        # standardised values lie within a few units, so half a turn per unit resolves them
        self.frequencies = nn.Parameter(torch.randn(n_frequencies) * 0.5)
        self.periodic = nn.Linear(2 * n_frequencies, d_model)

    def forward(self, lab: Tensor, value: Tensor) -> Tensor:
        """Embed labs (n, k) with standardised values (n, k) as tokens (n, k, d_model)."""
        angle = 2 * math.pi * value[..., None] * self.frequencies
        waves = self.periodic(torch.cat([angle.sin(), angle.cos()], dim=-1))
        return self.identity(lab) + value[..., None] * self.direction(lab) + waves
