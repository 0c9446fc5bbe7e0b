"""Lab tests as tokens: what was measured (identity) and how much of it (value)."""

import math

import torch
from torch import Tensor, nn


class LabTokens(nn.Module):
    """Embed (lab, value, score) triples.

    A token is the sum of the lab's identity embedding, directions of the lab's own times the
    value and times its normal score (the linear part, as in FT-Transformer, Gorishniy et al.
    2021), and periodic features of the score with learned frequencies shared by all labs
    (Gorishniy et al. 2022, "On embeddings for numerical features"), which let attention tell
    ranges apart.

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
    >>> value = torch.tensor([[0.5, -1.0]])
    >>> tokens(torch.tensor([[0, 4]]), value, value).shape
    torch.Size([1, 2, 8])
    """

    def __init__(self, n_labs: int, d_model: int, n_frequencies: int = 8):
        super().__init__()
        self.identity = nn.Embedding(n_labs, d_model)
        self.direction = nn.Embedding(n_labs, d_model)
        self.score_direction = nn.Embedding(n_labs, d_model)
        for part in (self.identity, self.direction, self.score_direction):
            nn.init.normal_(part.weight, std=d_model**-0.5)
        # normal scores lie within a few units, so half a turn per unit resolves them
        self.frequencies = nn.Parameter(torch.randn(n_frequencies) * 0.5)
        self.periodic = nn.Linear(2 * n_frequencies, d_model)

    def forward(self, lab: Tensor, value: Tensor, score: Tensor) -> Tensor:
        """Embed labs (n, k) with their values and scores (n, k) as tokens (n, k, d_model)."""
        angle = 2 * math.pi * score[..., None] * self.frequencies
        waves = self.periodic(torch.cat([angle.sin(), angle.cos()], dim=-1))
        linear = value[..., None] * self.direction(lab) + score[..., None] * self.score_direction(
            lab
        )
        return self.identity(lab) + linear + waves
