"""Masked lab-test modeling (MLTM): PAPER part 3, after MAE (He 2022) and ReMasker (Du 2024)."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import AttentionBlock
from .tokens import LabTokens


class LabBatch(NamedTuple):
    """Measured cells of some rows, packed to the left: no column that was not measured is here.

    Attributes
    ----------
    lab : int64 Tensor of shape (n, k)
        Column of each cell; 0 in the padding.
    value : Tensor of shape (n, k)
        Standardised value of each cell; 0 in the padding.
    measured : bool Tensor of shape (n, k)
        False in the padding.
    """

    lab: Tensor
    value: Tensor
    measured: Tensor

    def take(self, order: Tensor) -> "LabBatch":
        """Reorder, and possibly drop, cells by position `order` (n, m)."""
        return LabBatch(*(part.gather(1, order) for part in self))


def random_masking(
    batch: LabBatch, ratio: Tensor, generator: torch.Generator
) -> tuple[LabBatch, LabBatch]:
    """Hide a random share of each row's measured cells.

    Missing is not hidden: a cell that was not measured is in neither part.

    Parameters
    ----------
    batch : LabBatch
        Measured cells of n rows.
    ratio : Tensor of shape (n,)
        Share of its measured cells to hide in each row. At least one cell is hidden and, where a
        row has two or more, at least one stays visible.
    generator : torch.Generator
        Source of the draw.

    Returns
    -------
    visible, hidden : LabBatch
        The two parts, each packed to the left.
    """
    n_measured = batch.measured.sum(dim=1)
    n_hidden = (ratio * n_measured).round().long()
    n_hidden = n_hidden.clamp(min=1).minimum((n_measured - 1).clamp(min=1)).minimum(n_measured)
    n_visible = n_measured - n_hidden

    noise = torch.rand(batch.lab.shape, generator=generator).to(batch.value.device)
    order = noise.masked_fill(~batch.measured, 2.0).argsort(dim=1)  # padding goes last
    shuffled = batch.take(order)
    position = torch.arange(batch.lab.shape[1], device=order.device)[None]

    visible = shuffled._replace(measured=position < n_visible[:, None])
    width = int(n_visible.max()) if len(n_visible) else 0
    visible = LabBatch(*(part[:, :width] for part in visible))

    hidden_order = (position + n_visible[:, None]).clamp(max=batch.lab.shape[1] - 1)
    hidden = shuffled.take(hidden_order)._replace(measured=position < n_hidden[:, None])
    width = int(n_hidden.max()) if len(n_hidden) else 0
    return visible, LabBatch(*(part[:, :width] for part in hidden))


class MaskedLabAutoencoder(nn.Module):
    """Encode the visible lab tests, reconstruct the hidden ones.

    The deep encoder sees visible tokens and one summary token. Two decoders share it: a shallow
    cross-attention decoder reads all encoded tokens, and a bilinear one reads nothing but the
    summary, so that the summary (the embedding of the stay) has to carry what predicts the labs.

    NOTE[DIFF]: MAE and ReMasker decode the whole row with self-attention; here a hidden cell asks
    for its value by its identity alone, so cost follows the number of cells, not of columns. The
    bilinear path is ours.

    Parameters
    ----------
    n_labs : int
        Number of lab tests.
    n_components : int
        Width of the summary.
    d_model : int
        Width of a token.
    n_heads : int
        Number of attention heads.
    n_layers : int
        Number of encoder blocks.
    n_decoder_layers : int
        Number of decoder blocks.
    dropout : float
        Dropout probability.

    Examples
    --------
    >>> import torch
    >>> net = MaskedLabAutoencoder(5, n_components=3, d_model=8, n_heads=2)
    >>> batch = LabBatch(
    ...     torch.tensor([[0, 4]]), torch.tensor([[0.5, -1.0]]), torch.tensor([[True, True]])
    ... )
    >>> tokens, seen, summary = net.forward_encoder(batch)
    >>> summary.shape
    torch.Size([1, 3])
    >>> net.forward_decoder(tokens, seen, summary, torch.tensor([[1, 2, 3]]))[0].shape
    torch.Size([1, 3])
    """

    def __init__(
        self,
        n_labs: int,
        n_components: int = 64,
        d_model: int = 64,
        n_heads: int = 4,
        n_layers: int = 3,
        n_decoder_layers: int = 1,
        dropout: float = 0.1,
    ):
        super().__init__()
        self.tokens = LabTokens(n_labs, d_model)
        self.summary_token = nn.Parameter(torch.randn(d_model) * d_model**-0.5)
        self.encoder = nn.ModuleList(
            AttentionBlock(d_model, n_heads, dropout) for _ in range(n_layers)
        )
        self.norm = nn.LayerNorm(d_model)
        self.summarise = nn.Linear(d_model, n_components)

        self.query = nn.Embedding(n_labs, d_model)
        nn.init.normal_(self.query.weight, std=d_model**-0.5)
        self.decoder = nn.ModuleList(
            AttentionBlock(d_model, n_heads, dropout) for _ in range(n_decoder_layers)
        )
        self.head = nn.Sequential(nn.LayerNorm(d_model), nn.Linear(d_model, 1))
        self.loadings = nn.Embedding(n_labs, n_components)
        nn.init.normal_(self.loadings.weight, std=n_components**-0.5)
        self.offset = nn.Embedding(n_labs, 1)
        nn.init.zeros_(self.offset.weight)

    def forward_encoder(self, visible: LabBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Encode visible cells.

        Returns
        -------
        tokens : Tensor of shape (n, 1 + k, d_model)
            The encoded summary token and cells.
        seen : bool Tensor of shape (n, 1 + k)
            False in the padding.
        summary : Tensor of shape (n, n_components)
            The embedding of each row.
        """
        # attention gives padding no weight, but no weight times NaN is NaN
        cells = self.tokens(visible.lab, visible.value.masked_fill(~visible.measured, 0.0))
        first = self.summary_token.expand(len(cells), 1, -1)
        tokens = torch.cat([first, cells], dim=1)
        seen = F.pad(visible.measured, (1, 0), value=True)
        for block in self.encoder:
            tokens = block(tokens, visible=seen)
        tokens = self.norm(tokens)
        return tokens, seen, self.summarise(tokens[:, 0])

    def forward_decoder(
        self, tokens: Tensor, seen: Tensor, summary: Tensor, lab: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Predict the standardised values of the labs `lab` (n, q).

        Returns
        -------
        value : Tensor of shape (n, q)
            Prediction from all encoded tokens.
        from_summary : Tensor of shape (n, q)
            Prediction from the summary alone.
        """
        query = self.query(lab)
        for block in self.decoder:
            query = block(query, context=tokens, visible=seen)
        offset = self.offset(lab)[..., 0]
        from_summary = (self.loadings(lab) @ summary[..., None])[..., 0] + offset
        # the attention decoder corrects the bilinear one: with few rows the simple part does most
        return from_summary + self.head(query)[..., 0], from_summary

    def forward_loss(self, value: Tensor, from_summary: Tensor, hidden: LabBatch) -> Tensor:
        """Huber loss of both predictions, averaged over the hidden cells only."""
        true = hidden.value.masked_fill(~hidden.measured, 0.0)
        loss = F.smooth_l1_loss(value, true, reduction="none")
        loss = loss + 0.5 * F.smooth_l1_loss(from_summary, true, reduction="none")
        weight = hidden.measured.to(loss.dtype)
        return (loss * weight).sum() / weight.sum().clamp(min=1e-12)

    def forward(self, visible: LabBatch, hidden: LabBatch) -> Tensor:
        """Loss of reconstructing `hidden` from `visible`."""
        tokens, seen, summary = self.forward_encoder(visible)
        value, from_summary = self.forward_decoder(tokens, seen, summary, hidden.lab)
        return self.forward_loss(value, from_summary, hidden)
