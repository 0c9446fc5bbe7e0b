"""Masked lab-test modeling (MLTM): part 3 of MEDFuse, after MAE (He 2022), ReMasker (Du 2024).

The model has a linear part, Gaussian factors behind the labs, and the masked autoencoder, which
learns what the linear part leaves.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import AttentionBlock

# Residuals beyond this many standard deviations count linearly: predictions stay near the mean of
# skewed labs, not the median, and typing errors do little harm
_HUBER_DELTA = 4.0
# Gauss-Hermite nodes for the mean and variance of a function of a Gaussian; five are exact for
# polynomials up to the ninth degree
_N_NODES = 5


class LabBatch(NamedTuple):
    """Measured cells of some rows, packed to the left, without those that were not measured.

    All tensors have shape (n, k).
    """

    lab: Tensor  # int64: column of each cell; 0 in the padding
    value: Tensor  # Standardised value; 0 in the padding
    score: Tensor  # Normal score, from the rank among the training values; 0 in the padding
    measured: Tensor  # bool: False in the padding

    def take(self, order: Tensor) -> "LabBatch":
        """Reorder, and possibly drop, cells by position `order` (n, m)."""
        return LabBatch(*(part.gather(1, order) for part in self))

    def narrow(self) -> "LabBatch":
        """Drop the columns that are padding in every row."""
        width = int(self.measured.sum(dim=1).max()) if len(self.measured) else 0
        return LabBatch(*(part[:, :width] for part in self))

    def rows(self, index: Tensor) -> "LabBatch":
        """Take rows by position (m,), as wide as the longest of them."""
        width = int(self.measured[index].sum(dim=1).max()) if len(index) else 0
        return LabBatch(*(part[index, :width] for part in self))

    def clean(self) -> "LabBatch":
        """Return the batch with zeros in the padding, since even 0 times NaN is NaN."""
        return self._replace(
            value=self.value.masked_fill(~self.measured, 0.0),
            score=self.score.masked_fill(~self.measured, 0.0),
        )


class Factors(NamedTuple):
    """Posterior of a row's factors, given its visible cells."""

    mean: Tensor  # (n, r)
    cholesky: Tensor  # (n, r, r): lower Cholesky factor of the posterior precision
    version: Tensor  # int64 (n,): version of the parameters that each row uses


class FactorModel(nn.Module):
    r"""Factor analysis of standardised lab values.

    A row's values are :math:`z_j = \mu_j + w_j^\top f + \varepsilon_j` with factors
    :math:`f \sim N(0, I)` and noise :math:`\varepsilon_j \sim N(0, \psi_j)`. The factors' posterior
    is Gaussian in closed form; only visible cells take part.

    There are `n_versions` of loadings and means. Training predicts each row with a version that has
    not learned from it; the last version has learned from all rows.

    Examples
    --------
    >>> import torch
    >>> model = FactorModel(n_labs=3, n_factors=1)
    >>> _ = model.loadings.fill_(0.9)
    >>> factors = model(torch.tensor([[0]]), torch.tensor([[2.0]]), torch.tensor([[True]]))
    >>> mean, variance = model.predict(factors, torch.tensor([[1]]))
    >>> bool(0 < mean < 2.0)
    True
    """

    loadings: Tensor
    mean: Tensor
    noise: Tensor
    evidence: Tensor

    def __init__(self, n_labs: int, n_factors: int, n_versions: int = 1):
        super().__init__()
        # Fitted by expectation-maximisation, not by gradients
        self.register_buffer("loadings", torch.zeros(n_versions, n_labs, n_factors))
        self.register_buffer("mean", torch.zeros(n_versions, n_labs))
        self.register_buffer("noise", torch.ones(n_labs))
        # Number of cells that each lab was learned from, its weight if another fit starts here
        self.register_buffer("evidence", torch.zeros(n_labs))

    def keep_last_version(self) -> None:
        """Drop the versions that only training needs."""
        self.loadings = self.loadings[-1:].clone()
        self.mean = self.mean[-1:].clone()

    def correlation(self) -> Tensor:
        """Correlation of the labs (n_labs, n_labs) that the last version implies."""
        loadings = self.loadings[-1]
        covariance = loadings @ loadings.T + torch.diag(self.noise)
        deviation = covariance.diagonal().sqrt()
        return covariance / torch.outer(deviation, deviation)

    def forward(
        self, lab: Tensor, value: Tensor, measured: Tensor, version: Tensor | None = None
    ) -> Factors:
        """Infer the factors of rows from their cells (n, k)."""
        if version is None:
            version = torch.full((len(lab),), len(self.loadings) - 1, device=lab.device)
        row = version[:, None]
        loadings = self.loadings[row, lab]
        precision = torch.where(measured, 1.0 / self.noise[lab], 0.0)
        residual = torch.where(measured, value - self.mean[row, lab], 0.0)
        weighted = loadings * precision[..., None]
        identity = torch.eye(loadings.shape[-1], dtype=loadings.dtype, device=loadings.device)
        # P = I + sum_j w_j w_j' / psi_j,  E[f] = P^-1 sum_j w_j (z_j - mu_j) / psi_j
        cholesky = torch.linalg.cholesky(identity + weighted.transpose(1, 2) @ loadings)
        projected = weighted.transpose(1, 2) @ residual[..., None]
        mean = torch.cholesky_solve(projected, cholesky)[..., 0]
        return Factors(mean, cholesky, version)

    def predict(self, factors: Factors, lab: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of the values of the labs `lab` (n, q), given a row's factors."""
        row = factors.version[:, None]
        loadings = self.loadings[row, lab]
        mean = self.mean[row, lab] + (loadings @ factors.mean[..., None])[..., 0]
        root = torch.linalg.solve_triangular(factors.cholesky, loadings.mT, upper=False)
        return mean, root.square().sum(dim=1) + self.noise[lab]

    def sample(self, factors: Factors, lab: Tensor, generator: torch.Generator) -> Tensor:
        """Draw the values of the labs `lab` (n, q) jointly, each row from the same factors."""
        of_factors, own = (
            torch.randn(shape, generator=generator, dtype=self.noise.dtype).to(lab.device)
            for shape in (factors.mean.shape, lab.shape)
        )
        off = torch.linalg.solve_triangular(
            factors.cholesky.mT, of_factors[..., None], upper=True
        ).squeeze(-1)
        mean, _ = self.predict(factors._replace(mean=factors.mean + off), lab)
        return mean + own * self.noise[lab].sqrt()


class LabPrior(nn.Module):
    """Two factor models of the same labs: of their values and of their normal scores.

    Sums and differences of labs are linear in values, skewed labs in ranks (a Gaussian copula); the
    mean of the two predictions is better than either. `values_at`, each lab's curve from score to
    value, has `n_points` points between plus and minus `score_range`.
    """

    values_at: Tensor

    def __init__(
        self,
        n_labs: int,
        n_factors: int,
        score_range: float = 3.5,
        n_points: int = 57,
        n_versions: int = 1,
    ):
        super().__init__()
        self.of_values = FactorModel(n_labs, n_factors, n_versions)
        self.of_scores = FactorModel(n_labs, n_factors, n_versions)
        self.score_range = score_range
        self.register_buffer("values_at", torch.zeros(n_labs, n_points))
        self._nodes = _gauss_hermite(_N_NODES)

    def keep_last_version(self) -> None:
        """Drop the versions that only training needs."""
        self.of_values.keep_last_version()
        self.of_scores.keep_last_version()

    def forward(self, visible: LabBatch, version: Tensor | None = None) -> tuple[Factors, Factors]:
        """Infer both models' factors from the visible cells."""
        return (
            self.of_values(visible.lab, visible.value, visible.measured, version),
            self.of_scores(visible.lab, visible.score, visible.measured, version),
        )

    def predict(self, factors: tuple[Factors, Factors], lab: Tensor) -> Tensor:
        """Expected standardised values of the labs `lab` (n, q)."""
        from_values, _ = self.of_values.predict(factors[0], lab)
        from_scores, _ = self._moments_by_score(factors[1], lab)
        return (from_values + from_scores) / 2

    def spread(self, factors: tuple[Factors, Factors], lab: Tensor) -> Tensor:
        """Standard deviation of the standardised values of the labs `lab` (n, q)."""
        _, variance = self.of_values.predict(factors[0], lab)
        _, by_score = self._moments_by_score(factors[1], lab)
        return ((variance + by_score) / 2).sqrt()

    def draw_deviation(
        self, factors: tuple[Factors, Factors], lab: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Draw how far the values of the labs `lab` (n, q) lie from what the scores predict."""
        expected, _ = self._moments_by_score(factors[1], lab)
        drawn = self.of_scores.sample(factors[1], lab, generator)
        return self.value_of(drawn, lab) - expected

    def value_of(self, score: Tensor, lab: Tensor) -> Tensor:
        """Value of each lab (n, q) at a normal score, along the lab's curve."""
        n_points = self.values_at.shape[1]
        step = 2 * self.score_range / (n_points - 1)
        position = ((score + self.score_range) / step).clamp(0, n_points - 1)
        left = position.long().clamp(max=n_points - 2)
        share = position - left
        return self.values_at[lab, left] * (1 - share) + self.values_at[lab, left + 1] * share

    def _moments_by_score(self, factors: Factors, lab: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of the values whose scores these factors predict."""
        mean, variance = self.of_scores.predict(factors, lab)
        spread = variance.sqrt()
        first = torch.zeros_like(mean)
        second = torch.zeros_like(mean)
        for node, weight in self._nodes:
            value = self.value_of(mean + node * spread, lab)
            first = first + weight * value
            second = second + weight * value.square()
        return first, (second - first.square()).clamp(min=0.0)


def _gauss_hermite(n: int) -> list[tuple[float, float]]:
    """Nodes and weights for means over a standard Gaussian (Golub and Welsch 1969)."""
    # On the CPU also where a net is built of shapes alone, on torch's meta device
    beside = torch.arange(1, n, dtype=torch.float64, device="cpu").sqrt()
    nodes, vectors = torch.linalg.eigh(beside.diag(1) + beside.diag(-1))
    return list(zip(nodes.tolist(), vectors[0].square().tolist(), strict=True))


def random_masking(
    batch: LabBatch, ratio: Tensor, generator: torch.Generator
) -> tuple[LabBatch, LabBatch]:
    """Divide each row's measured cells at random into visible and hidden ones, both packed left.

    Missing is not hidden: a cell that was not measured is in neither part. `ratio` (n,) is the
    share to hide: at least one cell, and of two or more at least one stays visible.
    """
    n_measured = batch.measured.sum(dim=1)
    n_hidden = (ratio * n_measured).round().long()
    n_hidden = n_hidden.clamp(min=1).minimum((n_measured - 1).clamp(min=1)).minimum(n_measured)
    n_visible = n_measured - n_hidden

    noise = torch.rand(batch.lab.shape, generator=generator).to(batch.value.device)
    order = noise.masked_fill(~batch.measured, 2.0).argsort(dim=1)  # Padding goes last
    shuffled = batch.take(order)
    position = torch.arange(batch.lab.shape[1], device=order.device)[None]

    visible = shuffled._replace(measured=position < n_visible[:, None])
    hidden_order = (position + n_visible[:, None]).clamp(max=batch.lab.shape[1] - 1)
    hidden = shuffled.take(hidden_order)._replace(measured=position < n_hidden[:, None])
    return visible.narrow(), hidden.narrow()


class LabTokens(nn.Module):
    """Embed (lab, value, score) triples.

    A token is the sum of the lab's embedding, the lab's own directions times value and normal score
    (FT-Transformer, Gorishniy et al. 2021), and periodic features of the score, which let attention
    tell ranges apart ("On embeddings for numerical features", Gorishniy et al. 2022).
    NOTE[DIFF] (lab tokens): ReMasker adds value times direction and a position.

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
        by_value = value[..., None] * self.direction(lab)
        by_score = score[..., None] * self.score_direction(lab)
        return self.identity(lab) + (by_value + by_score) + waves


class EncodedLabs(NamedTuple):
    """Encoded rows, and the factors that the linear part, if any, infers from visible cells."""

    tokens: Tensor  # (n, 1 + k, d_model): the encoded summary token and visible cells
    seen: Tensor  # bool (n, 1 + k): False in the padding
    summary: Tensor  # (n, n_components): the embedding of each row
    factors: tuple[Factors, Factors] | None


class MaskedLabAutoencoder(nn.Module):
    """Encode the visible lab tests, reconstruct the hidden ones.

    The linear part, two factor models, predicts a hidden lab as far as linear dependence allows,
    which is most of the way in small hospital tables. The encoder reads the visible tokens and a
    summary token that knows the factors; a shallow cross-attention decoder corrects the linear
    part. A bilinear decoder reads only the summary, the embedding of the stay, which therefore has
    to carry what predicts the labs.

    NOTE[DIFF] (decoder): MAE and ReMasker decode the whole row with self-attention. Here a hidden
    cell queries its value by its identity alone, so the cost grows with the number of cells, not of
    columns. NOTE[DIFF] (factor models), NOTE[DIFF] (bilinear decoder): both are ours.

    `n_components` is the width of the summary, `d_model` of a token; `n_factors` of 0 leaves out
    the linear part, whose `n_versions` are those of `FactorModel`.

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
        # The linear part may have a higher precision than the net
        dtype = self.summary_token.dtype
        cells = self.tokens(visible.lab, visible.value.to(dtype), visible.score.to(dtype))
        first = self.summary_token.expand(len(cells), -1)
        factors = None
        known = first[:, :0]
        if self.prior is not None and self.factor_token is not None:
            factors = self.prior(visible, version)
            known = torch.cat([part.mean for part in factors], dim=1).to(dtype)
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
            # With few rows the simple part does most of the work
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
        """Draw standardised values (n_draws, n, q) of the labs `lab` (n, q), jointly for each row.

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
        """Huber loss of both predictions, averaged over the hidden cells only.

        NOTE[DIFF] (loss of hidden labs): the ancestors have the squared error of one prediction.
        """
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
