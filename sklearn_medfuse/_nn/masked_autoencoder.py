"""Masked lab-test modeling (MLTM): part 3 of MEDFuse, after MAE (He 2022), ReMasker (Du 2024)."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import AttentionBlock
from .factor_model import Factors, LabBatch, LabPrior

# Residuals beyond this many standard deviations count linearly: predictions stay near the mean of
# skewed labs, not the median, and typing errors do little harm
_HUBER_DELTA = 4.0


def random_masking(
    batch: LabBatch,
    ratio: Tensor,
    generator: torch.Generator,
    weight: Tensor | None = None,
) -> tuple[LabBatch, LabBatch]:
    """Hide a random share of each row's measured cells.

    Missing is not hidden: a cell that was not measured is in neither part.

    Parameters
    ----------
    batch : LabBatch
        Measured cells of n rows.
    ratio : Tensor of shape (n,)
        Share of each row's measured cells to hide. At least one cell is hidden; of two or more, at
        least one stays visible.
    generator : torch.Generator
        Source of the draw.
    weight : Tensor of shape (n_labs,), default=None
        Relative probability of hiding each lab, positive; None treats all labs alike.

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
    if weight is not None:
        # The largest u^(1/w) are hidden first, so the odds of being hidden are as w
        # (Efraimidis and Spirakis 2006)
        noise = noise ** (1.0 / weight[batch.lab])
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


class LabTokens(nn.Module):
    """Embed (lab, value, score) triples.

    A token is the sum of the lab's identity embedding, directions of the lab's own times the
    value and times its normal score (the linear part, as in FT-Transformer, Gorishniy et al.
    2021), and periodic features of the score with learned frequencies shared by all labs
    (Gorishniy et al. 2022, "On embeddings for numerical features"), which let attention tell
    ranges apart.

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
        # Normal scores lie within a few units, so half a turn per unit resolves them
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


class EncodedLabs(NamedTuple):
    """Encoded rows; `factors` are those that the linear part, if any, infers from visible cells."""

    tokens: Tensor  # (n, 1 + k, d_model): the encoded summary token and visible cells
    seen: Tensor  # bool (n, 1 + k): False in the padding
    summary: Tensor  # (n, n_components): the embedding of each row
    factors: tuple[Factors, Factors] | None


class MaskedLabAutoencoder(nn.Module):
    """Encode the visible lab tests, reconstruct the hidden ones.

    Three parts share the work. The linear part, two factor models, predicts a hidden lab as far as
    linear dependence allows; in small hospital tables it does nearly all. The deep encoder reads
    the visible tokens and a summary token that knows the factors; a shallow cross-attention decoder
    reads all encoded tokens and corrects the linear part. A bilinear decoder reads only the
    summary, so that the summary, the embedding of the stay, has to carry what predicts the labs.

    NOTE[DIFF]: MAE and ReMasker decode the whole row with self-attention. Here a hidden cell
    queries its value by its identity alone, so the cost grows with the number of cells, not of
    columns. The linear and the bilinear part are ours.

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
    n_factors : int
        Number of factors of the linear part; 0 leaves it out.
    n_versions : int
        Versions of the linear part, see `FactorModel`.

    Examples
    --------
    >>> import torch
    >>> net = MaskedLabAutoencoder(5, n_components=3, d_model=8, n_heads=2, n_factors=2)
    >>> value = torch.tensor([[0.5, -1.0]])
    >>> batch = LabBatch(torch.tensor([[0, 4]]), value, value, torch.tensor([[True, True]]))
    >>> encoded = net.forward_encoder(batch)
    >>> encoded.summary.shape
    torch.Size([1, 3])
    >>> net.forward_decoder(encoded, torch.tensor([[1, 2, 3]]))[0].shape
    torch.Size([1, 3])
    """

    spread_scale: Tensor

    def __init__(
        self,
        n_labs: int,
        n_components: int = 64,
        d_model: int = 64,
        n_heads: int = 4,
        n_layers: int = 3,
        n_decoder_layers: int = 1,
        dropout: float = 0.1,
        n_factors: int = 32,
        n_versions: int = 1,
    ):
        super().__init__()
        self.tokens = LabTokens(n_labs, d_model)
        self.summary_token = nn.Parameter(torch.randn(d_model) * d_model**-0.5)
        self.prior = LabPrior(n_labs, n_factors, n_versions=n_versions) if n_factors else None
        self.factor_token = nn.Linear(2 * n_factors, d_model) if n_factors else None
        self.encoder = nn.ModuleList(
            AttentionBlock(d_model, n_heads, dropout) for _ in range(n_layers)
        )
        self.norm = nn.LayerNorm(d_model)
        self.summarise = nn.Linear(d_model + 2 * n_factors, n_components)

        self.query = nn.Embedding(n_labs, d_model)
        nn.init.normal_(self.query.weight, std=d_model**-0.5)
        self.decoder = nn.ModuleList(
            AttentionBlock(d_model, n_heads, dropout) for _ in range(n_decoder_layers)
        )
        to_value = nn.Linear(d_model, 1)
        # Training starts from the predictions of the other parts
        nn.init.zeros_(to_value.weight)
        nn.init.zeros_(to_value.bias)
        self.head = nn.Sequential(nn.LayerNorm(d_model), to_value)
        self.loadings = nn.Embedding(n_labs, n_components)
        nn.init.normal_(self.loadings.weight, std=n_components**-0.5)
        self.offset = nn.Embedding(n_labs, 1)
        nn.init.zeros_(self.offset.weight)
        # Set after training, from the errors on re-hidden cells
        self.register_buffer("spread_scale", torch.ones(n_labs))

    def forward_encoder(self, visible: LabBatch, version: Tensor | None = None) -> EncodedLabs:
        """Encode visible cells (n, k), each row by its `version` (n,) of the linear part."""
        visible = visible.clean()
        cells = self.tokens(visible.lab, visible.value, visible.score)
        first = self.summary_token.expand(len(cells), -1)
        factors = None
        known = first[:, :0]
        if self.prior is not None and self.factor_token is not None:
            factors = self.prior(visible, version)
            known = torch.cat([part.mean for part in factors], dim=1)
            first = first + self.factor_token(known)
        tokens = torch.cat([first[:, None], cells], dim=1)
        seen = F.pad(visible.measured, (1, 0), value=True)
        for block in self.encoder:
            tokens = block(tokens, visible=seen)
        tokens = self.norm(tokens)
        summary = self.summarise(torch.cat([tokens[:, 0], known], dim=1))
        return EncodedLabs(tokens, seen, summary, factors)

    def forward_decoder(self, encoded: EncodedLabs, lab: Tensor) -> tuple[Tensor, Tensor]:
        """Predict the standardised values of the labs `lab` (n, q), twice.

        First from all encoded tokens and the linear part, then from the summary alone.
        """
        query = self.query(lab)
        for block in self.decoder:
            query = block(query, context=encoded.tokens, visible=encoded.seen)
        offset = self.offset(lab)[..., 0]
        from_summary = (self.loadings(lab) @ encoded.summary[..., None])[..., 0] + offset
        if self.prior is None or encoded.factors is None:
            # With few rows the simple part does most
            return from_summary + self.head(query)[..., 0], from_summary
        return self.prior.predict(encoded.factors, lab) + self.head(query)[..., 0], from_summary

    def spread(self, encoded: EncodedLabs, lab: Tensor) -> Tensor:
        """Standard deviation of the standardised values of the labs `lab` (n, q)."""
        scale = self.spread_scale[lab]
        if self.prior is None or encoded.factors is None:
            return scale
        return self.prior.spread(encoded.factors, lab) * scale

    def draw(
        self, encoded: EncodedLabs, lab: Tensor, n_draws: int, generator: torch.Generator
    ) -> Tensor:
        """Draw standardised values (n_draws, n, q) of the labs `lab` (n, q), each row's jointly.

        Draws scatter around the prediction with the deviation of `spread`. With a linear part they
        follow the Gaussian copula; without one, labs are independent and Gaussian.
        """
        value, _ = self.forward_decoder(encoded, lab)
        scale = self.spread_scale[lab]
        drawn = []
        for _ in range(n_draws):
            if self.prior is None or encoded.factors is None:
                noise = torch.randn(lab.shape, generator=generator, dtype=value.dtype)
                drawn.append(value + scale * noise.to(value.device))
            else:
                deviation = self.prior.draw_deviation(encoded.factors, lab, generator)
                drawn.append(value + scale * deviation)
        return torch.stack(drawn)

    def forward_loss(
        self,
        value: Tensor,
        from_summary: Tensor,
        hidden: LabBatch,
        row_weight: Tensor | None = None,
    ) -> Tensor:
        """Huber loss of both predictions, averaged over the hidden cells only."""
        true = hidden.clean().value
        loss = F.huber_loss(value, true, reduction="none", delta=_HUBER_DELTA)
        loss = loss + 0.5 * F.huber_loss(from_summary, true, reduction="none", delta=_HUBER_DELTA)
        measured = hidden.measured.to(loss.dtype)
        weight = measured if row_weight is None else measured * row_weight[:, None]
        return (loss * weight).sum() / measured.sum().clamp(min=1.0)

    def forward(
        self,
        visible: LabBatch,
        hidden: LabBatch,
        version: Tensor | None = None,
        row_weight: Tensor | None = None,
    ) -> Tensor:
        """Loss of reconstructing `hidden` from `visible`."""
        encoded = self.forward_encoder(visible, version)
        value, from_summary = self.forward_decoder(encoded, hidden.lab)
        return self.forward_loss(value, from_summary, hidden, row_weight)
