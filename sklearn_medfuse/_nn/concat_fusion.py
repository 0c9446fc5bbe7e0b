"""Fusion by concatenation: one net over all modalities side by side."""

import torch
from torch import Tensor

from .fusion_parts import Fusion, FusionParts, SpecificPart


class ConcatFusion(Fusion):
    """The modalities' tokens side by side, through one dense layer with a skip connection.

    Everything is mixed at once, so there is one part, the shared one.

    Parameters
    ----------
    widths, n_outputs, d_model, n_heads, n_tokens, rank, dropout, n_input_tokens
        As in `Fusion`.

    Examples
    --------
    >>> import torch
    >>> fusion = ConcatFusion([5, 7], n_outputs=3, d_model=8, n_heads=2)
    >>> present = torch.ones(4, 2, dtype=torch.bool)
    >>> parts = fusion.forward_parts([torch.zeros(4, 5), torch.zeros(4, 7)], present)
    >>> len(parts.specific), parts.shared.shape
    (0, torch.Size([4, 8]))
    """

    has_specific = False

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
        self.shared = SpecificPart(d_model, len(widths) * n_tokens)

    def forward_parts(self, blocks: list[Tensor], present: Tensor) -> FusionParts:
        """The shared vector alone; see `Fusion.forward_parts`."""
        tokens = torch.cat(self.forward_tokens(blocks, present), dim=1)
        return FusionParts([], self.shared(tokens, tokens))
