"""The disentangled transformer of MEDFuse: PAPER part 4, for one modality or more."""

import torch
from torch import Tensor, nn

from .attention import AttentionBlock
from .fusion_parts import Fusion, FusionParts, KroneckerTokens, SpecificPart, counted


class DisentangledFusion(Fusion):
    """Split modalities into what each has of its own and what they share.

    With A = lab embedding, B = note embedding, in the paper's symbols:

    - C = A ⊗ B, the Kronecker product, stands for the joint distribution;
    - S_A = SelfAttn(A), S_B = SelfAttn(B) are specific to a modality;
    - S_C = CrossAttn(query = C, key/value = S_A + S_B) is shared;
    - h = [f_A(S_A), S_C, f_B(S_B)], with skip connections, feeds the head.

    NOTE[DIFF], where the paper leaves a choice or one vector is too little to attend over:
    each vector is projected to `n_tokens` tokens; the head is linear, so a logit is a sum over the
    parts; an absent modality is left out of the keys and values.

    Parameters
    ----------
    widths, n_outputs, d_model, n_heads, n_tokens, rank, dropout, n_input_tokens
        As in `Fusion`.

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
        super().__init__(
            widths, n_outputs, d_model, n_heads, n_tokens, rank, dropout, n_input_tokens
        )
        self.self_attention = nn.ModuleList(
            AttentionBlock(d_model, n_heads, dropout) for _ in widths
        )
        self.kronecker = KroneckerTokens(len(widths), d_model, n_tokens, rank)
        self.cross_attention = AttentionBlock(d_model, n_heads, dropout)
        self.specific = nn.ModuleList(SpecificPart(d_model, n_tokens) for _ in widths)
        self.norm_shared = nn.LayerNorm(d_model)

    def forward_parts(self, blocks: list[Tensor], present: Tensor) -> FusionParts:
        """Specific vectors and the shared one; see `Fusion.forward_parts`."""
        tokens = self.forward_tokens(blocks, present)
        attended = [attention(t) for attention, t in zip(self.self_attention, tokens, strict=True)]
        joint = self.kronecker(tokens)
        shared = self.cross_attention(joint, context=self._sum_present(attended, present))
        specific = [
            part(own, seen) for part, own, seen in zip(self.specific, tokens, attended, strict=True)
        ]
        return FusionParts(specific, self.norm_shared(shared.mean(dim=1)))

    @staticmethod
    def _sum_present(attended: list[Tensor], present: Tensor) -> Tensor:
        """S_A + S_B over the modalities that a row has; over all of them where it has none."""
        stacked = torch.stack(attended, dim=1)
        return (stacked * counted(present)[:, :, None, None].to(stacked.dtype)).sum(dim=1)
