"""Late fusion: one net per modality, their logits averaged."""

from torch import Tensor, nn

from .attention import AttentionBlock
from .fusion_parts import Fusion, FusionParts, SpecificPart, counted


class LateFusion(Fusion):
    """Self-attention per modality, and the mean of the logits of the modalities that a row has.

    The modalities meet in that mean alone. An absent one is left out of it, so its part is zero;
    a row without any is predicted from the learned tokens of all. With one modality this is the
    single-modality net.

    Parameters
    ----------
    widths, n_outputs, d_model, n_heads, n_tokens, rank, dropout, n_input_tokens
        As in `Fusion`.

    Examples
    --------
    >>> import torch
    >>> fusion = LateFusion([5, 7], n_outputs=3, d_model=8, n_heads=2)
    >>> present = torch.ones(4, 2, dtype=torch.bool)
    >>> parts = fusion.forward_parts([torch.zeros(4, 5), torch.zeros(4, 7)], present)
    >>> len(parts.specific), parts.shared
    (2, None)
    """

    has_shared = False

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
        self.specific = nn.ModuleList(SpecificPart(d_model, n_tokens) for _ in widths)

    def forward_parts(self, blocks: list[Tensor], present: Tensor) -> FusionParts:
        """Specific vectors alone, each over the number of modalities a row has."""
        tokens = self.forward_tokens(blocks, present)
        attended = [attention(t) for attention, t in zip(self.self_attention, tokens, strict=True)]
        vectors = [
            part(own, seen) for part, own, seen in zip(self.specific, tokens, attended, strict=True)
        ]
        share = counted(present).to(vectors[0].dtype)
        share = share / share.sum(dim=1, keepdim=True)
        return FusionParts([v * share[:, [m]] for m, v in enumerate(vectors)], None)
