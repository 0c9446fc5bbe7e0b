"""ReMasker (Du et al., ICLR 2024) written plainly, as a reference for time and error.

The configuration of the paper: width 32, an encoder of 6 and a decoder of 4 layers, 600 epochs of
batches of 64, half of the cells hidden again, every cell through the decoder, values in [0, 1], the
squared error of the hidden and of the shown cells added up.
"""

import math

import numpy as np
import torch
from torch import nn

WIDTH, HEADS, ENCODER_LAYERS, DECODER_LAYERS = 32, 4, 6, 4
EPOCHS, BATCH, MASK_RATIO = 600, 64, 0.5
RATE, SMALLEST_RATE, WARMUP, DECAY = 1e-3, 1e-5, 40, 0.05


def _layers(count):
    layer = nn.TransformerEncoderLayer(
        WIDTH, HEADS, 4 * WIDTH, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
    return nn.TransformerEncoder(layer, count, nn.LayerNorm(WIDTH), enable_nested_tensor=False)


def _positions(count):
    angle = torch.arange(count)[:, None] / 10_000 ** (torch.arange(0, WIDTH, 2) / WIDTH)
    return torch.stack([angle.sin(), angle.cos()], dim=2).flatten(1)


class ReMasker(nn.Module):
    """Masked autoencoder with one token per cell."""

    def __init__(self, n_labs):
        super().__init__()
        self.value = nn.Linear(1, WIDTH)
        self.mask_token = nn.Parameter(0.02 * torch.randn(WIDTH))
        self.register_buffer("position", _positions(n_labs))
        self.encoder, self.decoder = _layers(ENCODER_LAYERS), _layers(DECODER_LAYERS)
        self.between = nn.Linear(WIDTH, WIDTH)
        self.out = nn.Linear(WIDTH, 1)

    def forward(self, x, shown):
        """Guess all cells from those shown."""
        # Shown cells first, as many as the fullest row has
        order = (~shown).int().argsort(dim=1, stable=True)[:, : max(1, int(shown.sum(1).max()))]
        index = order[:, :, None].expand(-1, -1, WIDTH)
        tokens = self.value(x[:, :, None]) + self.position
        padding = ~shown.gather(1, order)
        # A row of nothing but padding would give NaN
        padding[:, 0] = False
        encoded = self.encoder(tokens.gather(1, index), src_key_padding_mask=padding)
        filled = self.mask_token.expand(len(x), x.shape[1], -1)
        kept = torch.where(padding[:, :, None], self.mask_token, self.between(encoded))
        filled = filled.scatter(1, index, kept) + self.position
        return torch.tanh(self.out(self.decoder(filled))[:, :, 0]) / 2 + 0.5


def impute(values, seed, epochs=EPOCHS):
    """Train on a table with NaN and return it filled."""
    torch.manual_seed(seed)
    low, high = np.nanmin(values, axis=0), np.nanmax(values, axis=0)
    span = np.where(high > low, high - low, 1.0)
    scaled = torch.tensor((values - low) / span, dtype=torch.float32)
    measured = ~scaled.isnan()
    scaled = scaled.nan_to_num(0.0)
    model = ReMasker(values.shape[1])
    optimizer = torch.optim.AdamW(model.parameters(), RATE, betas=(0.9, 0.95), weight_decay=DECAY)
    for epoch in range(epochs):
        for group in optimizer.param_groups:
            group["lr"] = _rate(epoch, epochs)
        for rows in torch.randperm(len(scaled)).split(BATCH):
            x, there = scaled[rows], measured[rows]
            shown = there & (torch.rand(x.shape) >= MASK_RATIO)
            hidden = there & ~shown
            error = (model(x, shown) - x) ** 2
            loss = sum(error[part].mean() for part in (hidden, shown) if part.any())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    model.eval()
    with torch.no_grad():
        guess = torch.cat(
            [model(scaled[rows], measured[rows]) for rows in torch.arange(len(scaled)).split(BATCH)]
        )
    return np.where(np.isnan(values), guess.numpy() * span + low, values)


def _rate(epoch, epochs):
    if epoch < WARMUP:
        return RATE * (epoch + 1) / WARMUP
    past = (epoch - WARMUP) / max(1, epochs - WARMUP)
    return SMALLEST_RATE + (RATE - SMALLEST_RATE) * (1 + math.cos(math.pi * past)) / 2
