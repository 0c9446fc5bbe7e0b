"""Training and evaluation of the masked autoencoder on lab cells."""

import math

import numpy as np
import torch

from .._nn.masked_autoencoder import MaskedLabAutoencoder, random_masking
from .._training import BestWeights, progress_bar
from ._lab_values import LabCells

# share of the observed cells hidden to score a model; imputation's usual protocol
SCORED_SHARE = 0.2


class MaskedTrainer:
    """Fit a `MaskedLabAutoencoder` by hiding observed cells and predicting them.

    Parameters
    ----------
    module : MaskedLabAutoencoder
        The net, on the device to train on.
    mask_ratio : tuple of two floats
        Each row hides a share of its observed cells drawn evenly from this range.
    batch_size : int
        Rows per step.
    learning_rate : float
        Peak learning rate of AdamW.
    weight_decay : float
        Weight decay of AdamW.
    max_epochs : int
        Passes over the rows at most.
    patience : int
        Epochs without a better validation score before training stops.
    generator : torch.Generator
        Source of row order and masks.
    """

    def __init__(
        self,
        module: MaskedLabAutoencoder,
        *,
        mask_ratio: tuple[float, float],
        batch_size: int,
        learning_rate: float,
        weight_decay: float,
        max_epochs: int,
        patience: int,
        generator: torch.Generator,
    ):
        self.module = module
        self.mask_ratio = mask_ratio
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.max_epochs = max_epochs
        self.patience = patience
        self.generator = generator
        self.loss_curve: list[float] = []
        self.validation_scores: list[float] = []
        self.best_epoch = 0

    def run(self, train: LabCells, validation: LabCells | None, verbose: int) -> None:
        """Train until `max_epochs` or, with validation rows, until their score stops rising."""
        steps = math.ceil(len(train) / self.batch_size)
        optimizer = torch.optim.AdamW(
            self.module.parameters(), self.learning_rate, weight_decay=self.weight_decay, fused=True
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, self.learning_rate, total_steps=steps * self.max_epochs, pct_start=0.1
        )
        best = BestWeights(self.patience)
        with progress_bar(self.max_epochs, "labs", "epoch", verbose) as bar:
            for epoch in range(1, self.max_epochs + 1):
                self.loss_curve.append(self._epoch(train, optimizer, schedule))
                bar.set_postfix(loss=f"{self.loss_curve[-1]:.4f}", refresh=False)
                bar.update()
                if validation is None:
                    self.best_epoch = epoch
                    continue
                self.validation_scores.append(r2_hidden(self.module, validation, seed=0))
                if best.update(epoch, self.validation_scores[-1], self.module):
                    break
        if validation is not None:
            best.restore(self.module)
            self.best_epoch = best.best_epoch

    def _epoch(self, cells: LabCells, optimizer, schedule) -> float:
        self.module.train()
        order = torch.randperm(len(cells), generator=self.generator).numpy()
        total = 0.0
        for rows in np.split(order, range(self.batch_size, len(order), self.batch_size)):
            loss = self._step(cells, rows)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.module.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            total += loss.item() * len(rows)
        return total / len(cells)

    def _step(self, cells: LabCells, rows: np.ndarray) -> torch.Tensor:
        parameter = next(self.module.parameters())
        batch = cells.batch(rows, parameter.dtype, parameter.device)
        low, high = self.mask_ratio
        ratio = low + (high - low) * torch.rand(len(rows), generator=self.generator)
        visible, hidden = random_masking(batch, ratio.to(parameter.device), self.generator)
        return self.module(visible, hidden)


@torch.no_grad()
def predict_hidden(
    module: MaskedLabAutoencoder, cells: LabCells, seed: int, batch_size: int = 512
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hide a fifth of the observed cells and predict them from the rest.

    Returns
    -------
    lab : int64 array of shape (n_hidden,)
        Column of each hidden cell.
    true, predicted : float arrays of shape (n_hidden,)
        Standardised values.
    """
    module.eval()
    parameter = next(module.parameters())
    generator = torch.Generator().manual_seed(seed)
    found = []
    for start in range(0, len(cells), batch_size):
        rows = np.arange(start, min(start + batch_size, len(cells)))
        batch = cells.batch(rows, parameter.dtype, parameter.device)
        ratio = torch.full((len(rows),), SCORED_SHARE, device=parameter.device)
        visible, hidden = random_masking(batch, ratio, generator)
        value, _ = module.forward_decoder(*module.forward_encoder(visible), hidden.lab)
        kept = hidden.measured
        found.append(torch.stack([hidden.lab[kept], hidden.value[kept], value[kept]]).cpu())
    lab, true, predicted = torch.cat(found, dim=1).double().numpy()
    return lab.astype(np.int64), true, predicted


def r2_hidden(module: MaskedLabAutoencoder, cells: LabCells, seed: int) -> float:
    """Share of the hidden cells' variance around the training means that is explained."""
    _, true, predicted = predict_hidden(module, cells, seed)
    total = (true**2).sum()
    return float(1.0 - ((true - predicted) ** 2).sum() / total) if total > 0 else 0.0
