"""What every fusion here shares: tokens of a modality, the parts kept apart, the linear head."""

from itertools import combinations
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .attention import AttentionBlock
from .dropout import Dropout


class FusionParts(NamedTuple):
    """What a fusion keeps apart.

    Attributes
    ----------
    specific : list of Tensor of shape (n, d_model)
        One vector per modality, S_A, S_B, … after f and its skip connection; empty in a fusion
        that keeps none.
    shared : Tensor of shape (n, d_model) or None
        S_C; None in a fusion that has none.
    """

    specific: list[Tensor]
    shared: Tensor | None

    def vectors(self) -> list[Tensor]:
        """All parts, each modality's own first and the shared one last."""
        return [*self.specific, *([] if self.shared is None else [self.shared])]


class Fusion(nn.Module):
    """Modalities → parts → logits; the common signature of all fusions.

    A subclass makes the parts. The head is linear, so a logit is its bias plus a sum of one
    contribution per part. An absent modality enters by learned tokens of its own.

    Parameters
    ----------
    widths : list of int
        Width of each modality's vector, or of each of its tokens.
    n_outputs : int
        Number of logits.
    d_model : int
        Width of a token.
    n_heads : int
        Number of attention heads; divides `d_model`.
    n_tokens : int
        Tokens per modality inside the net.
    rank : int
        Width of the projections whose Kronecker product is taken, where one is.
    dropout : float
        Dropout probability, of the input too.
    n_input_tokens : list of int or None
        Tokens that each modality comes in, 0 for a vector; None means vectors.
    """

    has_specific = True
    has_shared = True
    # whether specific and shared parts are pressed apart by a bound of their mutual information
    has_information = False

    def __init__(
        self,
        widths: list[int],
        n_outputs: int,
        d_model: int = 64,
        n_heads: int = 4,
        n_tokens: int = 4,
        rank: int = 16,
        dropout: float = 0.3,
        n_input_tokens: list[int] | None = None,
    ):
        super().__init__()
        self.dropout = Dropout(dropout)
        counts = n_input_tokens or [0] * len(widths)
        self.modalities = nn.ModuleList(
            ModalityTokens(width, d_model, n_heads, n_tokens, dropout, count)
            for width, count in zip(widths, counts, strict=True)
        )
        n_parts = self.has_specific * len(widths) + self.has_shared
        self.head = nn.Linear(n_parts * d_model, n_outputs)

    def forward_tokens(self, blocks: list[Tensor], present: Tensor) -> list[Tensor]:
        """Tokens (n, n_tokens, d_model) of every modality."""
        return [
            modality(block, present[:, m])
            for m, (modality, block) in enumerate(zip(self.modalities, blocks, strict=True))
        ]

    def forward_parts(self, blocks: list[Tensor], present: Tensor) -> FusionParts:
        """Disentangle.

        Parameters
        ----------
        blocks : list of Tensor of shape (n, width) or (n, n_input_tokens, width)
            One vector, or tokens, per modality; the values of an absent one are never read, nor
            those of a token that is NaN.
        present : bool Tensor of shape (n, n_modalities)
            False where a row lacks a modality.

        Returns
        -------
        FusionParts
            The specific vectors and the shared one.
        """
        raise NotImplementedError

    def forward_head(self, parts: FusionParts) -> Tensor:
        """Logits (n, n_outputs) of the parts."""
        return self.head(self.dropout(torch.cat(parts.vectors(), dim=1)))

    def forward_contributions(self, parts: FusionParts) -> Tensor:
        """What each part adds to the logits, bias aside, shape (n_parts, n, n_outputs)."""
        vectors = parts.vectors()
        weights = self.head.weight.chunk(len(vectors), dim=1)
        return torch.stack([v @ weight.T for v, weight in zip(vectors, weights, strict=True)])


class ModalityTokens(nn.Module):
    """A modality as `n_tokens` tokens: projected, or pooled from tokens, or learned if absent.

    Parameters
    ----------
    width : int
        Width of the modality's vector, or of each of its tokens.
    d_model : int
        Width of a token.
    n_heads : int
        Heads of the pooling.
    n_tokens : int
        Tokens made.
    dropout : float
        Dropout probability of the input.
    n_input_tokens : int
        0 for a vector; else the tokens that come in, pooled by attention of learned queries.

    Examples
    --------
    >>> import torch
    >>> labs = ModalityTokens(5, d_model=8, n_heads=2, n_tokens=3, dropout=0.0)
    >>> labs(torch.zeros(4, 5), torch.ones(4, dtype=torch.bool)).shape
    torch.Size([4, 3, 8])
    >>> notes = ModalityTokens(5, 8, 2, n_tokens=3, dropout=0.0, n_input_tokens=10)
    >>> notes(torch.zeros(4, 10, 5), torch.ones(4, dtype=torch.bool)).shape
    torch.Size([4, 3, 8])
    """

    def __init__(
        self,
        width: int,
        d_model: int,
        n_heads: int,
        n_tokens: int,
        dropout: float,
        n_input_tokens: int = 0,
    ):
        super().__init__()
        self.n_tokens = n_tokens
        self.n_input_tokens = n_input_tokens
        self.dropout = Dropout(dropout)
        self.absent = nn.Parameter(torch.randn(n_tokens, d_model) * 0.02)
        if n_input_tokens:
            self.project = nn.Linear(width, d_model)
            self.position = nn.Parameter(torch.randn(n_input_tokens, d_model) * 0.02)
            self.queries = nn.Parameter(torch.randn(n_tokens, d_model) * 0.02)
            self.pool = AttentionBlock(d_model, n_heads, dropout)
        else:
            self.project = nn.Linear(width, n_tokens * d_model)

    def forward(self, block: Tensor, present: Tensor) -> Tensor:
        """Tokens (n, n_tokens, d_model) of a block, where `present` (n,) says that there is one."""
        # the block of an absent modality is NaN, and NaN times zero is NaN: replace it first
        if self.n_input_tokens:
            visible = present[:, None] & ~block.isnan().any(dim=2)
            tokens = self._pool(torch.where(visible[..., None], block, 0.0), visible)
        else:
            block = torch.where(present[:, None], block, 0.0)
            tokens = self.project(self.dropout(block)).unflatten(1, (self.n_tokens, -1))
        return torch.where(present[:, None, None], tokens, self.absent.to(tokens.dtype))

    def _pool(self, block: Tensor, visible: Tensor) -> Tensor:
        tokens = self.project(self.dropout(block)) + self.position
        # attention needs a key in every row; what it gives for an absent modality is not used
        visible = visible | ~visible.any(dim=1, keepdim=True)
        queries = self.queries.expand(len(block), -1, -1)
        return self.pool(queries, context=tokens, visible=visible)


class SpecificPart(nn.Module):
    """f of a modality: attended tokens through a dense layer, with a skip connection.

    Parameters
    ----------
    d_model : int
        Width of a token and of the part.
    n_tokens : int
        Tokens of the modality.

    Examples
    --------
    >>> import torch
    >>> part = SpecificPart(d_model=8, n_tokens=3)
    >>> part(torch.zeros(4, 3, 8), torch.zeros(4, 3, 8)).shape
    torch.Size([4, 8])
    """

    def __init__(self, d_model: int, n_tokens: int):
        super().__init__()
        self.dense = nn.Sequential(nn.LayerNorm(d_model), nn.Linear(d_model, d_model), nn.GELU())
        self.skip = nn.Linear(n_tokens * d_model, d_model)
        self.norm = nn.LayerNorm(d_model)

    def forward(self, tokens: Tensor, attended: Tensor) -> Tensor:
        """Part (n, d_model) from the tokens and from what self-attention made of them."""
        return self.norm(self.dense(attended.mean(dim=1)) + self.skip(tokens.flatten(1)))


class KroneckerTokens(nn.Module):
    """C = A ⊗ B of projections of width `rank`, as tokens.

    NOTE[DIFF]: the product is taken of projections, because that of the full vectors has 25,000
    entries. With more than two modalities C holds every pair's product, so its size grows with
    their number squared and not to its power; with one, the product with itself.

    Parameters
    ----------
    n_modalities : int
        Number of modalities.
    d_model : int
        Width of a token.
    n_tokens : int
        Tokens per modality, and of the product.
    rank : int
        Width of each projection.

    Examples
    --------
    >>> import torch
    >>> joint = KroneckerTokens(3, d_model=8, n_tokens=2, rank=4)
    >>> joint([torch.zeros(5, 2, 8)] * 3).shape
    torch.Size([5, 2, 8])
    """

    def __init__(self, n_modalities: int, d_model: int, n_tokens: int, rank: int):
        super().__init__()
        self.pairs = list(combinations(range(n_modalities), 2)) or [(0, 0)]
        self.n_tokens = n_tokens
        self.project = nn.ModuleList(
            nn.Linear(n_tokens * d_model, rank) for _ in range(n_modalities)
        )
        self.joint = nn.Linear(len(self.pairs) * rank * rank, n_tokens * d_model)

    def forward(self, tokens: list[Tensor]) -> Tensor:
        """Tokens (n, n_tokens, d_model) of the product."""
        vectors = [project(t.flatten(1)) for project, t in zip(self.project, tokens, strict=True)]
        products = [
            torch.einsum("ni,nj->nij", vectors[a], vectors[b]).flatten(1) for a, b in self.pairs
        ]
        return self.joint(torch.cat(products, dim=1)).unflatten(1, (self.n_tokens, -1))


def counted(present: Tensor) -> Tensor:
    """Which modalities (n, n_modalities) count: those a row has, all of them where it has none."""
    return present | ~present.any(dim=1, keepdim=True)
