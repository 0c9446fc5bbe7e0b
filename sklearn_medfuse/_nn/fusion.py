"""The disentangled transformer of MEDFuse (part 4 of the paper), and three simpler fusions.

With A the labs' vector and B the note's, in the paper's symbols:

    C   = A ⊗ B                                        joint distribution, `KroneckerTokens`
    S_A = SelfAttn(A),  S_B = SelfAttn(B)              specific to one modality
    S_C = CrossAttn(query = C, key/value = S_A + S_B)  shared, `DisentangledFusion`
    h   = [f_A(S_A), S_C, f_B(S_B)]                    f is `SpecificPart`; logits = W h + b
    L   = L_prediction + λ · L_MI                      L_MI is `information_loss` of vCLUB

The code takes any number of modalities. NOTE[DIFF] marks each departure from the paper, under the
name that docs/paper.rst lists.
"""

import math
from itertools import combinations
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from .attention import AttentionBlock, Dropout
from .losses import VariationalCLUB


class FusionParts(NamedTuple):
    """The parts of h, kept apart, each of shape (n, d_model)."""

    specific: list[Tensor]  # f_A(S_A), f_B(S_B), …; empty in a fusion without them
    shared: Tensor | None  # S_C; None in a fusion without it

    def vectors(self) -> list[Tensor]:
        """All parts, the shared one last."""
        return [*self.specific, *([] if self.shared is None else [self.shared])]


class Fusion(nn.Module):
    """Modalities → parts → logits: what all fusions share. A subclass adds layers and makes parts.

    NOTE[DIFF] (tokens): each vector is projected to `n_tokens` tokens, since one vector is too
    little to attend over. NOTE[DIFF] (linear head): a logit is its bias plus one contribution per
    part.

    `widths` are those of the modalities' vectors, or of their tokens: `n_input_tokens` is how many
    tokens each brings, 0 for a vector. Inside, each modality has `n_tokens` tokens of `d_model`,
    and the Kronecker product is that of projections of width `rank`.
    """

    has_specific = True
    has_shared = True
    # Whether a bound on their mutual information keeps specific and shared parts apart
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
        self.d_model, self.n_heads, self.n_tokens, self.rank = d_model, n_heads, n_tokens, rank
        self.dropout = Dropout(dropout)
        counts = n_input_tokens or [0] * len(widths)
        self.modalities = nn.ModuleList(
            ModalityTokens(width, d_model, n_heads, n_tokens, dropout, count)
            for width, count in zip(widths, counts, strict=True)
        )
        n_parts = self.has_specific * len(widths) + self.has_shared
        self.head = nn.Linear(n_parts * d_model, n_outputs)
        self.add_layers()

    def add_layers(self) -> None:
        """Add the subclass's own layers."""
        raise NotImplementedError

    def attention(self) -> AttentionBlock:
        """Make an attention block of the fusion's size."""
        return AttentionBlock(self.d_model, self.n_heads, self.dropout.probability)

    def self_attentions(self) -> nn.ModuleList:
        """Make SelfAttn of each modality."""
        return nn.ModuleList(self.attention() for _ in self.modalities)

    def specific_parts(self) -> nn.ModuleList:
        """Make f of each modality."""
        return nn.ModuleList(SpecificPart(self.d_model, self.n_tokens) for _ in self.modalities)

    def forward_tokens(self, blocks: list[Tensor], present: Tensor) -> list[Tensor]:
        """Tokens (n, n_tokens, d_model) of every modality: A, B, …."""
        return [
            modality(block, present[:, m])
            for m, (modality, block) in enumerate(zip(self.modalities, blocks, strict=True))
        ]

    def forward_parts(self, blocks: list[Tensor], present: Tensor) -> FusionParts:
        """Compute the parts of blocks (n, width) or (n, n_input_tokens, width), one per modality.

        `present` (n, n_modalities) is False where a row lacks a modality. Values of an absent
        modality and of a token that is NaN are never read.
        """
        raise NotImplementedError

    def forward_head(self, parts: FusionParts) -> Tensor:
        """Logits (n, n_outputs) of h, the parts side by side."""
        return self.head(self.dropout(torch.cat(parts.vectors(), dim=1)))

    def forward_contributions(self, parts: FusionParts) -> Tensor:
        """What each part adds to the logits, without the bias, shape (n_parts, n, n_outputs)."""
        vectors = parts.vectors()
        weights = self.head.weight.chunk(len(vectors), dim=1)
        return torch.stack([v @ weight.T for v, weight in zip(vectors, weights, strict=True)])


class DisentangledFusion(Fusion):
    """The paper's module: what is specific to each modality, and what the modalities share.

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

    has_information = True

    def add_layers(self) -> None:
        self.self_attention = self.self_attentions()
        self.kronecker = KroneckerTokens(
            len(self.modalities), self.d_model, self.n_tokens, self.rank
        )
        self.cross_attention = self.attention()
        self.specific = self.specific_parts()
        self.norm_shared = nn.LayerNorm(self.d_model)

    def forward_parts(self, blocks: list[Tensor], present: Tensor) -> FusionParts:
        """f_A(S_A), f_B(S_B), … and S_C."""
        A = self.forward_tokens(blocks, present)  # One entry per modality: A, B, …
        S = _each(self.self_attention, A)  # S_A = SelfAttn(A), S_B = SelfAttn(B)
        C = self.kronecker(A)  # C = A ⊗ B
        # S_C = CrossAttn(query = C, key/value = S_A + S_B)
        S_C = self.cross_attention(C, context=self._sum_present(S, present))
        return FusionParts(_each(self.specific, A, S), self.norm_shared(S_C.mean(dim=1)))

    @staticmethod
    def _sum_present(S: list[Tensor], present: Tensor) -> Tensor:
        """S_A + S_B. NOTE[DIFF] (absent modality): over the modalities that a row has."""
        stacked = torch.stack(S, dim=1)
        return (stacked * _counted(present)[:, :, None, None].to(stacked.dtype)).sum(dim=1)


class KroneckerFusion(Fusion):
    """f_A(A), f_B(B) and C = A ⊗ B, without attention and mutual information.

    A tensor fusion (Zadeh et al. 2017, arXiv 1707.07250).
    """

    def add_layers(self) -> None:
        self.kronecker = KroneckerTokens(
            len(self.modalities), self.d_model, self.n_tokens, self.rank
        )
        self.specific = self.specific_parts()
        self.shared = SpecificPart(self.d_model, self.n_tokens)

    def forward_parts(self, blocks: list[Tensor], present: Tensor) -> FusionParts:
        """f_A(A), f_B(B), … and f(C)."""
        A = self.forward_tokens(blocks, present)
        specific = _each(self.specific, A, A)
        C = self.kronecker(A)
        return FusionParts(specific, self.shared(C, C))


class LateFusion(Fusion):
    """One net per modality, and the mean of the logits of the modalities that a row has.

    The part of an absent modality is zero; a row without any modality is predicted from the
    learned tokens of all. With one modality this is the single-modality net.
    """

    has_shared = False

    def add_layers(self) -> None:
        self.self_attention = self.self_attentions()
        self.specific = self.specific_parts()

    def forward_parts(self, blocks: list[Tensor], present: Tensor) -> FusionParts:
        """f_A(S_A), f_B(S_B), …, each divided by the number of modalities that a row has."""
        A = self.forward_tokens(blocks, present)
        vectors = _each(self.specific, A, _each(self.self_attention, A))
        share = _counted(present).to(vectors[0].dtype)
        share = share / share.sum(dim=1, keepdim=True)
        return FusionParts([v * share[:, [m]] for m, v in enumerate(vectors)], None)


class ConcatFusion(Fusion):
    """All tokens side by side through one dense layer with a skip connection: one shared part."""

    has_specific = False

    def add_layers(self) -> None:
        self.shared = SpecificPart(self.d_model, len(self.modalities) * self.n_tokens)

    def forward_parts(self, blocks: list[Tensor], present: Tensor) -> FusionParts:
        """The shared vector alone."""
        tokens = torch.cat(self.forward_tokens(blocks, present), dim=1)
        return FusionParts([], self.shared(tokens, tokens))


FUSIONS: dict[str, type[Fusion]] = {
    "concat": ConcatFusion,
    "disentangled": DisentangledFusion,
    "kronecker": KroneckerFusion,
    "late": LateFusion,
}


class ModalityTokens(nn.Module):
    """A modality as `n_tokens` tokens: projected, pooled from tokens, or learned where absent.

    If `n_input_tokens` is above 0, learned queries pool that many input tokens of `width` by
    attention; if it is 0, the input is one vector.

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
        """Tokens (n, n_tokens, d_model) of a block, learned ones where `present` (n,) is False."""
        # The block of an absent modality is NaN, and NaN times zero is NaN: replace it first
        if self.n_input_tokens:
            visible = present[:, None] & ~block.isnan().any(dim=2)
            tokens = self._pool(torch.where(visible[..., None], block, 0.0), visible)
        else:
            block = torch.where(present[:, None], block, 0.0)
            tokens = self.project(self.dropout(block)).unflatten(1, (self.n_tokens, -1))
        return torch.where(present[:, None, None], tokens, self.absent.to(tokens.dtype))

    def _pool(self, block: Tensor, visible: Tensor) -> Tensor:
        tokens = self.project(self.dropout(block)) + self.position
        # Attention needs a key in every row; its result for an absent modality is not used
        visible = visible | ~visible.any(dim=1, keepdim=True)
        queries = self.queries.expand(len(block), -1, -1)
        return self.pool(queries, context=tokens, visible=visible)


class KroneckerTokens(nn.Module):
    """C = A ⊗ B of projections of width `rank`, as tokens.

    NOTE[DIFF] (projected product): the vectors are projected first, because the product of the full
    ones has 25,000 entries. With more than two modalities C holds the product of every pair, so
    its size grows with the square of their number; with one it holds the product with itself.

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
        vectors = _each(self.project, [t.flatten(1) for t in tokens])
        products = [
            torch.einsum("ni,nj->nij", vectors[a], vectors[b]).flatten(1) for a, b in self.pairs
        ]
        return self.joint(torch.cat(products, dim=1)).unflatten(1, (self.n_tokens, -1))


class SpecificPart(nn.Module):
    """f: attended tokens through a dense layer, with a skip connection from the tokens."""

    def __init__(self, d_model: int, n_tokens: int):
        super().__init__()
        self.dense = nn.Sequential(nn.LayerNorm(d_model), nn.Linear(d_model, d_model), nn.GELU())
        self.skip = nn.Linear(n_tokens * d_model, d_model)
        self.norm = nn.LayerNorm(d_model)

    def forward(self, tokens: Tensor, attended: Tensor) -> Tensor:
        """Part (n, d_model) of tokens and attended tokens, each (n, n_tokens, d_model)."""
        return self.norm(self.dense(attended.mean(dim=1)) + self.skip(tokens.flatten(1)))


class LinearSkip(nn.Module):
    """β_0 + β_A·A + β_B·B + …: a logistic regression on each modality, past the fusion.

    NOTE[DIFF] (linear part): the paper has no such part. Fusion and regressions err differently on
    a thousand stays. Separate regressions rank and calibrate better than one on all modalities, as
    the modalities do not compete for the penalty. They are fitted before the fusion and stay as
    they are. `weight` is their share w in the logits.

    Examples
    --------
    >>> import torch
    >>> skip = LinearSkip([5, 7], 3, weight=0.5)
    >>> skip([torch.zeros(4, 5), torch.zeros(4, 7)], torch.ones(4, 2, dtype=torch.bool)).shape
    torch.Size([4, 3])
    """

    coef: Tensor
    bias: Tensor
    weight: Tensor

    def __init__(self, widths: list[int], n_outputs: int, weight: float):
        super().__init__()
        # A modality has a coefficient for its absence too
        self.sizes = [width + 1 for width in widths]
        self.register_buffer("coef", torch.zeros(sum(self.sizes), n_outputs))
        self.register_buffer("bias", torch.zeros(n_outputs))
        self.register_buffer("weight", torch.tensor(float(weight)))

    def forward(self, blocks: list[Tensor], present: Tensor) -> Tensor:
        """Logits (n, n_outputs)."""
        return self.forward_contributions(blocks, present).sum(dim=0) + self.bias

    def mix(self, logits: Tensor, blocks: list[Tensor], present: Tensor) -> Tensor:
        """(1 - w) · logits (…, n, n_outputs) of the fusion + w · those of the regressions."""
        return (1 - self.weight) * logits + self.weight * self(blocks, present)

    def forward_contributions(self, blocks: list[Tensor], present: Tensor) -> Tensor:
        """What each modality, or its absence, adds to the logits, (n_modalities, n, n_outputs)."""
        of_each = zip(self.regressors(blocks, present), self.coef.split(self.sizes), strict=True)
        return torch.stack([columns @ coef for columns, coef in of_each])

    @staticmethod
    def regressors(blocks: list[Tensor], present: Tensor) -> list[Tensor]:
        """Columns of each modality, 0 where they are absent, then a flag of its absence."""
        found = []
        for m, block in enumerate(blocks):
            columns, there = block.flatten(1), present[:, [m]]
            known = torch.where(there & ~columns.isnan(), columns, 0.0)
            # The root lets one penalty suit a modality of ten columns and one of a thousand
            known = known / math.sqrt(columns.shape[1])
            found.append(torch.cat([known, (~there).to(known)], dim=1))
        return found


class FusionWithCritic(nn.Module):
    """An ensemble of fusions, each with the critic q(S_C | S_A, S_B) of its mutual information.

    NOTE[DIFF] (several nets): the paper trains one net. Members share nothing but the batches;
    their logits are averaged, so a prediction stays a sum over the parts.

    `fusion` is one of `FUSIONS`; those without mutual information have no critic. A `linear_weight`
    above 0 gives a `LinearSkip` that share in the logits. The rest is as in `Fusion`.

    Examples
    --------
    >>> import torch
    >>> net = FusionWithCritic(2, [5, 7], 3, d_model=8, n_heads=2)
    >>> net([torch.zeros(4, 5), torch.zeros(4, 7)], torch.ones(4, 2, dtype=torch.bool)).shape
    torch.Size([4, 3])
    """

    def __init__(
        self,
        n_members: int,
        widths: list[int],
        n_outputs: int,
        d_model: int = 64,
        fusion: str = "disentangled",
        linear_weight: float = 0.0,
        **options,
    ):
        super().__init__()
        members = [FUSIONS[fusion](widths, n_outputs, d_model, **options) for _ in range(n_members)]
        self.fusion = nn.ModuleList(members)
        self.critic = nn.ModuleList(
            VariationalCLUB(len(widths) * d_model, d_model)
            for member in members
            if member.has_information
        )
        counts = options.get("n_input_tokens") or [0] * len(widths)
        flat = [width * max(1, count) for width, count in zip(widths, counts, strict=True)]
        self.linear = LinearSkip(flat, n_outputs, linear_weight) if linear_weight else None

    def forward(self, blocks: list[Tensor], present: Tensor) -> Tensor:
        """Logits (n, n_outputs): (1 - w) · the members' mean + w · the linear part."""
        logits = self.forward_logits(self.forward_parts(blocks, present)).mean(dim=0)
        return logits if self.linear is None else self.linear.mix(logits, blocks, present)

    def forward_parts(self, blocks: list[Tensor], present: Tensor) -> list[FusionParts]:
        """Parts of every member."""
        return [member.forward_parts(blocks, present) for member in self._members()]

    def forward_logits(self, parts: list[FusionParts]) -> Tensor:
        """Logits of every member, shape (n_members, n, n_outputs)."""
        members = zip(self._members(), parts, strict=True)
        return torch.stack([member.forward_head(own) for member, own in members])

    def forward_contributions(self, blocks: list[Tensor], present: Tensor) -> Tensor:
        """What each part adds to the logits, (n, n_parts + 1, n_outputs), the bias last.

        The linear part of a modality counts towards what is specific to it, or towards the only
        part of a fusion without specific parts.
        """
        members = zip(self._members(), self.forward_parts(blocks, present), strict=True)
        added = torch.stack([member.forward_contributions(own) for member, own in members])
        bias = torch.stack([member.head.bias for member in self._members()]).mean(dim=0)
        total = torch.cat([added.mean(dim=0), bias.expand(1, *added.shape[2:])])
        if self.linear is not None:
            own = self.linear.forward_contributions(blocks, present)
            if not self._members()[0].has_specific:
                own = own.sum(dim=0, keepdim=True)
            total *= 1 - self.linear.weight
            total[: len(own)] += self.linear.weight * own
            total[-1] += self.linear.weight * self.linear.bias
        return total.transpose(0, 1)

    def critic_loss(self, parts: list[FusionParts], weight: Tensor | None = None) -> Tensor:
        """-log q(S_C | S_A, S_B), summed over members, on detached features."""
        losses = []
        for critic, own in zip(self._critics(), parts, strict=True):
            specific, shared = _specific_and_shared(own)
            loss = critic.negative_log_likelihood(specific.detach(), shared.detach(), weight)
            losses.append(loss)
        return torch.stack(losses).sum()

    def mutual_information(self, parts: list[FusionParts], weight: Tensor | None = None) -> Tensor:
        """Bound of I([S_A, S_B]; S_C) of every member, in nats, shape (n_members,)."""
        members = zip(self._critics(), parts, strict=True)
        return torch.stack([critic(*_specific_and_shared(own), weight) for critic, own in members])

    def _members(self) -> list[Fusion]:
        return cast(list[Fusion], list(self.fusion))

    def _critics(self) -> list[VariationalCLUB]:
        return cast(list[VariationalCLUB], list(self.critic))


def information_loss(bounds: Tensor) -> Tensor:
    """L_MI of L = L_prediction + λ · L_MI, from the members' bounds in nats.

    NOTE[DIFF] (bound below zero): it only shows that the critic lags behind, and counts as zero.
    """
    return bounds.clamp(min=0.0).sum()


def drop_modalities(present: Tensor, probability: float) -> Tensor:
    """Drop modalities (n, n_modalities) at random; a row that would lose all keeps all."""
    kept = present & (torch.rand(present.shape, device=present.device) >= probability)
    return torch.where(kept.any(dim=1, keepdim=True), kept, present)


def _each(layers: nn.ModuleList, *inputs: list[Tensor]) -> list[Tensor]:
    """Each modality's layer on that modality's inputs."""
    return [layer(*own) for layer, *own in zip(layers, *inputs, strict=True)]


def _counted(present: Tensor) -> Tensor:
    """Which modalities count: those that a row has, all of them where it has none."""
    return present | ~present.any(dim=1, keepdim=True)


def _specific_and_shared(parts: FusionParts) -> tuple[Tensor, Tensor]:
    """x and y of the bound. NOTE[DIFF] (vectors of the bound): parts of h, after f and pooling."""
    return torch.cat(parts.specific, dim=1), cast(Tensor, parts.shared)
