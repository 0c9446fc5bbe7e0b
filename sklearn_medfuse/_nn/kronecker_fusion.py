"""Kronecker fusion: modalities and their product, without attention and mutual information."""

from torch import Tensor, nn

from .fusion_parts import Fusion, FusionParts, KroneckerTokens, SpecificPart


class KroneckerFusion(Fusion):
    """Each modality's dense part, and C = A ⊗ B for what they share.

    What `DisentangledFusion` is without its attention and its mutual information: a tensor fusion
    (Zadeh et al. 2017, arXiv 1707.07250).

    Parameters
    ----------
    widths, n_outputs, d_model, n_heads, n_tokens, rank, dropout, n_input_tokens
        As in `Fusion`.

    Examples
    --------
    >>> import torch
    >>> fusion = KroneckerFusion([5, 7], n_outputs=3, d_model=8, n_heads=2)
    >>> present = torch.ones(4, 2, dtype=torch.bool)
    >>> parts = fusion.forward_parts([torch.zeros(4, 5), torch.zeros(4, 7)], present)
    >>> len(parts.specific), parts.shared.shape
    (2, torch.Size([4, 8]))
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
        n_input_tokens: list[int] | None = None,
    ):
        super().__init__(
            widths, n_outputs, d_model, n_heads, n_tokens, rank, dropout, n_input_tokens
        )
        self.kronecker = KroneckerTokens(len(widths), d_model, n_tokens, rank)
        self.specific = nn.ModuleList(SpecificPart(d_model, n_tokens) for _ in widths)
        self.shared = SpecificPart(d_model, n_tokens)

    def forward_parts(self, blocks: list[Tensor], present: Tensor) -> FusionParts:
        """Specific vectors and the shared one; see `Fusion.forward_parts`."""
        tokens = self.forward_tokens(blocks, present)
        specific = [part(own, own) for part, own in zip(self.specific, tokens, strict=True)]
        joint = self.kronecker(tokens)
        return FusionParts(specific, self.shared(joint, joint))
