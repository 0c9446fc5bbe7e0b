"""Training and evaluation of the masked autoencoder on lab cells."""

import math
import warnings
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import torch

from .._checkpoint import Checkpoint, load_optimizer
from .._device_memory import FittingRows, rows_of_prediction, rows_of_training
from .._generators import random_state, set_random_state
from .._nn.masked_autoencoder import LabBatch, MaskedLabAutoencoder, random_masking
from .._training import WARM_UP, BestWeights, progress_bar
from ._lab_cells import LabCells
from ._training_rows import TrainingRows

# share of the observed cells hidden to score a model; imputation's usual protocol
SCORED_SHARE = 0.2
# steps in which the learning rate of `partial_fit` rises, before it falls with the inverse root
_STREAM_WARM_UP = 100
# cells, padding among them, of the rows of a batch that go through the net together
_CELLS_TOGETHER = 1_536
_ROWS_HIDDEN_TOGETHER = 512


class TrainingPlan(NamedTuple):
    """How to train, see the parameters of `MaskedLabEncoder`."""

    mask_ratio: tuple[float, float]
    batch_size: int
    learning_rate: float
    weight_decay: float
    max_epochs: int
    patience: int


class MaskedTrainer:
    """Fit a `MaskedLabAutoencoder` by hiding observed cells and predicting them.

    Parameters
    ----------
    module : MaskedLabAutoencoder
        The net, on the device to train on.
    plan : TrainingPlan
        How to train.
    generator : torch.Generator
        Source of row order and masks.
    n_rows : int, default=None
        Number of rows of `run`; None for a stream of unknown length.
    mask_weight : array of shape (n_labs,), default=None
        How much sooner than others a lab is hidden; None treats all alike.
    """

    def __init__(
        self,
        module: MaskedLabAutoencoder,
        plan: TrainingPlan,
        generator: torch.Generator,
        n_rows: int | None = None,
        mask_weight: np.ndarray | None = None,
    ):
        self.module = module
        self.plan = plan
        self.generator = generator
        self.loss_curve: list[float] = []
        self.validation_scores: list[float] = []
        self.best = BestWeights(plan.patience)
        self.optimizer = torch.optim.AdamW(
            module.parameters(), plan.learning_rate, weight_decay=plan.weight_decay, fused=True
        )
        self.schedule = self._make_schedule(n_rows)
        self.device = next(module.parameters()).device
        self.fitting_rows = rows_of_training(
            self.device, "batch_size={size}", "lower d_model or n_layers, give fewer labs"
        )
        self._mask_weight = (
            None if mask_weight is None else torch.from_numpy(mask_weight).float().to(self.device)
        )

    def run(
        self,
        train: TrainingRows,
        validation: LabCells | None,
        *,
        verbose: int = 0,
        checkpoint: Checkpoint | None = None,
        after_epoch: Callable[[], bool] = lambda: False,
    ) -> None:
        """Train until `max_epochs` or, with validation rows, until their score stops rising.

        Parameters
        ----------
        train : TrainingRows
            Rows to learn from.
        validation : LabCells or None
            Rows to score after each epoch.
        verbose : int, default=0
            1 shows a progress bar.
        checkpoint : Checkpoint, default=None
            Where the state is kept after each epoch, and where an earlier run's is taken from.
        after_epoch : callable, default=lambda: False
            Called after each epoch; True means stop.
        """
        if checkpoint is not None and (state := checkpoint.load()) is not None:
            with checkpoint.restoring():
                self._load_state(state)
        try:
            with progress_bar(self.plan.max_epochs, "labs", "epoch", verbose) as bar:
                bar.update(len(self.loss_curve))
                while len(self.loss_curve) < self.plan.max_epochs and not self._out_of_patience():
                    self.one_pass(train)
                    bar.set_postfix(loss=f"{self.loss_curve[-1]:.4f}", refresh=False)
                    bar.update()
                    self._validate(validation)
                    if checkpoint is not None:
                        checkpoint.save(self._state())
                    if after_epoch():
                        break
        except KeyboardInterrupt:
            warnings.warn(
                f"Training was interrupted after {len(self.loss_curve)} of "
                f"{self.plan.max_epochs} epochs; the encoder keeps what it has learned.",
                UserWarning,
                stacklevel=4,
            )
        self.best.restore(self.module)

    @property
    def best_epoch(self) -> int:
        """The epoch, counted from 1, whose weights were kept."""
        return self.best.best_epoch if self.validation_scores else len(self.loss_curve)

    def one_pass(self, rows: TrainingRows) -> None:
        """Take one step per batch, over all rows once, in a new order."""
        self.module.train()
        order = torch.randperm(len(rows.cells), generator=self.generator).numpy()
        total = 0.0
        for part in np.split(order, range(self.plan.batch_size, len(order), self.plan.batch_size)):
            total += self._accumulate_gradient(rows, part) * len(part)
            torch.nn.utils.clip_grad_norm_(self.module.parameters(), 1.0)
            self.optimizer.step()
            self.schedule.step()
        self.loss_curve.append(total / len(rows.cells))

    def _make_schedule(self, n_rows: int | None):
        rate = self.plan.learning_rate
        if n_rows is None:
            return torch.optim.lr_scheduler.LambdaLR(
                self.optimizer,
                lambda step: min(
                    (step + 1) / _STREAM_WARM_UP, math.sqrt(_STREAM_WARM_UP / (step + 1))
                ),
            )
        steps = max(math.ceil(n_rows / self.plan.batch_size), 1) * self.plan.max_epochs
        return torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, rate, total_steps=steps, pct_start=WARM_UP
        )

    def _accumulate_gradient(self, rows: TrainingRows, part: np.ndarray) -> float:
        """Leave the gradient of a batch's loss at the parameters, and return the loss."""
        parameter = next(self.module.parameters())
        batch = rows.cells.batch(part, parameter.dtype, parameter.device)
        low, high = self.plan.mask_ratio
        ratio = low + (high - low) * torch.rand(len(part), generator=self.generator)
        visible, hidden = random_masking(
            batch, ratio.to(parameter.device), self.generator, self._mask_weight
        )
        version = torch.from_numpy(rows.version[part]).to(parameter.device)
        # relative to the mean, so that the learning rate means the same whatever the weights
        weight = torch.from_numpy(rows.weight[part] / rows.weight.mean())
        weight = weight.to(parameter)
        n_hidden = hidden.measured.sum().clamp(min=1)
        alike = _alike(visible)

        def add_gradients(size: int) -> float:
            self.optimizer.zero_grad(set_to_none=True)
            loss = 0.0
            for piece in (each for together in alike for each in together.split(size)):
                seen, asked = visible.rows(piece), hidden.rows(piece)
                share = asked.measured.sum() / n_hidden
                piece_loss = self.module(seen, asked, version[piece], weight[piece]) * share
                piece_loss.backward()
                loss += piece_loss.item()
            return loss

        return self.fitting_rows.run(len(part), add_gradients)

    def _validate(self, validation: LabCells | None) -> None:
        if validation is not None:
            self.validation_scores.append(
                r2_hidden(self.module, validation, seed=0, fitting=self.fitting_rows)
            )
            self.best.update(len(self.loss_curve), self.validation_scores[-1], self.module)

    def _out_of_patience(self) -> bool:
        waited = len(self.loss_curve) - self.best.best_epoch
        return bool(self.validation_scores) and waited >= self.plan.patience

    def _state(self) -> dict:
        return {
            "seed": self.generator.initial_seed(),
            "layers": random_state(self.device),
            "module": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "generator": self.generator.get_state(),
            "loss_curve": self.loss_curve,
            "validation_scores": self.validation_scores,
            "best": self.best.state_dict(),
        }

    def _load_state(self, state: dict) -> None:
        # the best weights first, so that ones that do not fit are found now and not at the end
        self.best.load_state_dict(state["best"])
        self.best.restore(self.module)
        self.module.load_state_dict(state["module"])
        load_optimizer(self.optimizer, self.schedule, state)
        self.loss_curve = [float(loss) for loss in state["loss_curve"]]
        self.validation_scores = [float(score) for score in state["validation_scores"]]
        set_random_state(state["layers"], self.device)
        self.generator.set_state(state["generator"])


def _alike(batch: LabBatch) -> list[torch.Tensor]:
    """Positions of rows, those with about as many cells together: little of them is padding."""
    n_cells = batch.measured.sum(dim=1)
    order = n_cells.argsort(stable=True)
    if batch.lab.device.type != "cpu":
        # a GPU waits for the number of its calls, not of its products
        return [order]
    pieces, start = [], 0
    for stop, width in enumerate(n_cells[order].tolist()):
        # with the summary token
        if stop > start and (stop - start + 1) * (width + 1) > _CELLS_TOGETHER:
            pieces.append(order[start:stop])
            start = stop
    return [*pieces, order[start:]]


class HiddenCells(NamedTuple):
    """Cells that were hidden to score a model, and what it made of them.

    Attributes
    ----------
    lab : int64 array of shape (n_hidden,)
        Column of each cell.
    true : float array of shape (n_hidden,)
        Standardised value.
    predicted : float array of shape (n_hidden,)
        Expected value.
    spread : float array of shape (n_hidden,)
        Standard deviation of the prediction.
    """

    lab: np.ndarray
    true: np.ndarray
    predicted: np.ndarray
    spread: np.ndarray


@torch.no_grad()
def predict_hidden(
    module: MaskedLabAutoencoder,
    cells: LabCells,
    seed: int,
    version: np.ndarray | None = None,
    fitting: FittingRows | None = None,
) -> HiddenCells:
    """Hide a fifth of the observed cells and predict them from the rest."""
    module.eval()
    parameter = next(module.parameters())
    generator = torch.Generator().manual_seed(seed)
    fitting = fitting or rows_of_prediction(parameter.device)
    found = []
    for part in fitting.slices(len(cells), _ROWS_HIDDEN_TOGETHER):
        rows = np.arange(part.start, part.stop)
        batch = cells.batch(rows, parameter.dtype, parameter.device)
        ratio = torch.full((len(rows),), SCORED_SHARE, device=parameter.device)
        # for all of them: what is hidden does not depend on how many fit into the memory
        visible, hidden = random_masking(batch, ratio, generator)
        by = None if version is None else torch.from_numpy(version[rows]).to(parameter.device)
        predict = partial(_predict, module, visible, hidden, by)
        found += [parts for _, parts in fitting.batches(len(rows), len(rows), predict)]
    fitting.warn()
    lab, *numbers = torch.cat(found, dim=1).numpy()
    return HiddenCells(lab.astype(np.int64), *numbers)


def _predict(
    module: MaskedLabAutoencoder,
    visible: LabBatch,
    hidden: LabBatch,
    version: torch.Tensor | None,
    rows: slice,
) -> torch.Tensor:
    """Lab, value, prediction and its spread of the hidden cells of some rows, (4, n_hidden)."""
    seen, asked = (LabBatch(*(part[rows] for part in batch)) for batch in (visible, hidden))
    encoded = module.forward_encoder(seen, None if version is None else version[rows])
    value, _ = module.forward_decoder(encoded, asked.lab)
    parts = (asked.lab, asked.value, value, module.spread(encoded, asked.lab))
    return torch.stack([part[asked.measured].double() for part in parts]).cpu()


def r2_hidden(
    module: MaskedLabAutoencoder, cells: LabCells, seed: int, fitting: FittingRows | None = None
) -> float:
    """Share of the hidden cells' variance around the training means that is explained."""
    hidden = predict_hidden(module, cells, seed, fitting=fitting)
    total = (hidden.true**2).sum()
    left = ((hidden.true - hidden.predicted) ** 2).sum()
    return float(1.0 - left / total) if total > 0 else 0.0


def calibrate_spread(
    module: MaskedLabAutoencoder, rows: TrainingRows, fitting: FittingRows | None = None
) -> None:
    """Scale each lab's predicted standard deviation to the errors on re-hidden cells.

    The linear part predicts a row by what other rows taught it. A lab with few cells borrows
    from the mean of all, which weighs as much as twenty cells.
    """
    hidden = predict_hidden(module, rows.cells, 0, rows.version, fitting)
    if not len(hidden.lab):
        return
    ratio = ((hidden.true - hidden.predicted) / hidden.spread) ** 2
    # one wrong entry must not widen a lab's spread for good
    ratio = np.minimum(ratio, 25.0)
    n_labs = len(module.spread_scale)
    count = np.bincount(hidden.lab, minlength=n_labs)
    total = np.bincount(hidden.lab, ratio, minlength=n_labs)
    scale = np.sqrt((total + 20.0 * ratio.mean()) / (count + 20.0))
    module.spread_scale.copy_(torch.from_numpy(scale).to(module.spread_scale.device))
