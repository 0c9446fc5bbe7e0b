"""The disentangled transformer of MEDFuse: PAPER part 4, for one modality or more."""

from itertools import combinations
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from .attention import AttentionBlock
from .club import VariationalCLUB


class FusionParts(NamedTuple):
    """What the module keeps apart.

    Attributes
    ----------
    specific : list of Tensor of shape (n, d_model)
        One vector per modality, S_A, S_B, … after f and its skip connection.
    shared : Tensor of shape (n, d_model)
        S_C.
    """

    specific: list[Tensor]
    shared: Tensor


class DisentangledFusion(nn.Module):
    """Split modalities into what each has of its own and what they share.

    With A = lab embedding, B = note embedding, in the paper's symbols:

    - C = A ⊗ B, the Kronecker product, stands for the joint distribution;
    - S_A = SelfAttn(A), S_B = SelfAttn(B) are specific to a modality;
    - S_C = CrossAttn(query = C, key/value = S_A + S_B) is shared;
    - h = [f_A(S_A), S_C, f_B(S_B)], with skip connections, feeds the head.

    NOTE[DIFF], where the paper leaves a choice or one vector is too little to attend over:
    each vector is projected to `n_tokens` tokens; the product is taken of projections of width
    `rank`, because that of the full vectors has 25,000 entries; with more than two modalities C
    holds every pair's product, with one its product with itself; the head is linear, so a logit is
    a sum over the parts. An absent modality enters by learned tokens of its own and is left
    out of the keys and values.

    Parameters
    ----------
    widths : list of int
        Width of each modality's vector.
    n_outputs : int
        Number of logits.
    d_model : int
        Width of a token.
    n_heads : int
        Number of attention heads; divides `d_model`.
    n_tokens : int
        Tokens per modality.
    rank : int
        Width of the projections whose Kronecker product is taken.
    dropout : float
        Dropout probability, of the input too.

    Examples
    --------
    >>> import torch
    >>> fusion = DisentangledFusion([5, 7], n_outputs=3, d_model=8, n_heads=2, n_tokens=2)
    >>> blocks = [torch.zeros(4, 5), torch.zeros(4, 7)]
    >>> present = torch.ones(4, 2, dtype=torch.bool)
    >>> parts = fusion.forward_parts(blocks, present)
    >>> parts.shared.shape, fusion.forward_head(parts).shape
    (torch.Size([4, 8]), torch.Size([4, 3]))
    """

    def __init__(
        self,
        widths: list[int],
        n_outputs: int,
        d_model: int = 64,
        n_heads: int = 4,
        n_tokens: int = 4,
        rank: int = 16,
        dropout: float = 0.3,
    ):
        super().__init__()
        self.n_tokens = n_tokens
        self.pairs = list(combinations(range(len(widths)), 2)) or [(0, 0)]
        self.dropout = nn.Dropout(dropout)
        self.tokenize = nn.ModuleList(nn.Linear(w, n_tokens * d_model) for w in widths)
        self.absent = nn.ParameterList(torch.randn(n_tokens, d_model) * 0.02 for _ in widths)
        self.self_attention = nn.ModuleList(
            AttentionBlock(d_model, n_heads, dropout) for _ in widths
        )

        self.project = nn.ModuleList(nn.Linear(n_tokens * d_model, rank) for _ in widths)
        self.joint = nn.Linear(len(self.pairs) * rank * rank, n_tokens * d_model)
        self.cross_attention = AttentionBlock(d_model, n_heads, dropout)

        self.dense = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(d_model), nn.Linear(d_model, d_model), nn.GELU())
            for _ in widths
        )
        self.skip = nn.ModuleList(nn.Linear(n_tokens * d_model, d_model) for _ in widths)
        self.norm = nn.ModuleList(nn.LayerNorm(d_model) for _ in range(len(widths) + 1))
        self.head = nn.Linear((len(widths) + 1) * d_model, n_outputs)

    def forward_parts(self, blocks: list[Tensor], present: Tensor) -> FusionParts:
        """Disentangle.

        Parameters
        ----------
        blocks : list of Tensor of shape (n, width)
            One vector per modality; the values of an absent one are never read.
        present : bool Tensor of shape (n, n_modalities)
            False where a row lacks a modality.

        Returns
        -------
        FusionParts
            The specific vectors and the shared one.
        """
        tokens = [self._tokens(m, block, present[:, m]) for m, block in enumerate(blocks)]
        attended = [attention(t) for attention, t in zip(self.self_attention, tokens, strict=True)]
        joint = self._kronecker(tokens)
        shared = self.cross_attention(joint, context=self._sum_present(attended, present))
        specific = [
            norm(dense(s.mean(dim=1)) + skip(t.flatten(1)))
            for norm, dense, skip, s, t in zip(
                self.norm[1:], self.dense, self.skip, attended, tokens, strict=True
            )
        ]
        return FusionParts(specific, self.norm[0](shared.mean(dim=1)))

    def forward_head(self, parts: FusionParts) -> Tensor:
        """Logits (n, n_outputs) of the parts."""
        return self.head(self.dropout(torch.cat([parts.shared, *parts.specific], dim=1)))

    def _tokens(self, modality: int, block: Tensor, present: Tensor) -> Tensor:
        """A (n, n_tokens, d_model): the projected block, or learned tokens where it is absent."""
        # the block of an absent modality is NaN, and NaN times zero is NaN: replace it first
        block = torch.where(present[:, None], block, 0.0)
        tokens = self.tokenize[modality](self.dropout(block)).unflatten(1, (self.n_tokens, -1))
        return torch.where(present[:, None, None], tokens, self.absent[modality])

    def _kronecker(self, tokens: list[Tensor]) -> Tensor:
        """C = A ⊗ B of the projected modalities, as (n, n_tokens, d_model)."""
        vectors = [project(t.flatten(1)) for project, t in zip(self.project, tokens, strict=True)]
        products = [
            torch.einsum("ni,nj->nij", vectors[a], vectors[b]).flatten(1) for a, b in self.pairs
        ]
        return self.joint(torch.cat(products, dim=1)).unflatten(1, (self.n_tokens, -1))

    @staticmethod
    def _sum_present(attended: list[Tensor], present: Tensor) -> Tensor:
        """S_A + S_B over the modalities that a row has; over all of them where it has none."""
        counted = present | ~present.any(dim=1, keepdim=True)
        stacked = torch.stack(attended, dim=1)
        return (stacked * counted[:, :, None, None].to(stacked.dtype)).sum(dim=1)


class FusionWithCritic(nn.Module):
    """Members of an ensemble of `DisentangledFusion`, each with its vCLUB critic.

    Members share nothing but the batches; their logits are averaged, so a prediction stays a sum
    over the parts.

    Parameters
    ----------
    n_members : int
        Number of members.
    widths : list of int
        Width of each modality's vector.
    n_outputs : int
        Number of logits.
    d_model : int
        Width of a token.
    **options : dict
        Further parameters of `DisentangledFusion`.
    """

    def __init__(
        self, n_members: int, widths: list[int], n_outputs: int, d_model: int = 64, **options
    ):
        super().__init__()
        self.fusion = nn.ModuleList(
            DisentangledFusion(widths, n_outputs, d_model, **options) for _ in range(n_members)
        )
        self.critic = nn.ModuleList(
            VariationalCLUB(len(widths) * d_model, d_model) for _ in range(n_members)
        )

    def _fusions(self) -> list[DisentangledFusion]:
        return cast(list[DisentangledFusion], list(self.fusion))

    def _critics(self) -> list[VariationalCLUB]:
        return cast(list[VariationalCLUB], list(self.critic))

    def forward_parts(self, blocks: list[Tensor], present: Tensor) -> list[FusionParts]:
        """Parts of every member."""
        return [member.forward_parts(blocks, present) for member in self._fusions()]

    def forward_logits(self, parts: list[FusionParts]) -> Tensor:
        """Logits of every member, shape (n_members, n, n_outputs)."""
        members = zip(self._fusions(), parts, strict=True)
        return torch.stack([member.forward_head(own) for member, own in members])

    def critic_loss(self, parts: list[FusionParts]) -> Tensor:
        """-log q(S_C | S_A, S_B), summed over members, on detached features."""
        losses = []
        for critic, own in zip(self._critics(), parts, strict=True):
            specific = torch.cat(own.specific, dim=1).detach()
            losses.append(critic.negative_log_likelihood(specific, own.shared.detach()))
        return torch.stack(losses).sum()

    def mutual_information(self, parts: list[FusionParts]) -> Tensor:
        """vCLUB bound of I([S_A, S_B]; S_C) of every member, in nats, shape (n_members,)."""
        members = zip(self._critics(), parts, strict=True)
        return torch.stack(
            [critic(torch.cat(own.specific, dim=1), own.shared) for critic, own in members]
        )

    def forward(self, blocks: list[Tensor], present: Tensor) -> Tensor:
        """Logits averaged over members, shape (n, n_outputs)."""
        return self.forward_logits(self.forward_parts(blocks, present)).mean(dim=0)
