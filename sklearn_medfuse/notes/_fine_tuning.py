"""Fine-tune a note model: by the labels of the notes, or as a language model on the notes alone."""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import NamedTuple

import numpy as np
import torch
from sklearn.model_selection import GroupShuffleSplit, ShuffleSplit
from torch import Tensor, nn

from .._checkpoint import Checkpoint, load_optimizer
from .._device_memory import FittingRows, rows_of_training
from .._training import progress_bar, torch_seed, with_gradients
from ._adapter import TunedWeights, write_weights
from ._backbone import ModelParts, base_fingerprint
from ._processes import Processes
from ._tuning_task import TuningBatch, TuningData, TuningSettings, TuningTask

# a new head learns faster than a model that knows its language
_HEAD_FACTOR = 10.0
_LARGEST_GRADIENT = 1.0
_WEIGHT_DECAY = 0.01


class TuningResult(NamedTuple):
    """What fine-tuning gives: the weights, and the validation loss before and after each epoch."""

    weights: TunedWeights
    validation_loss: list[float]
    best_epoch: int


def fine_tune(parts: ModelParts, data: TuningData, settings: TuningSettings) -> TuningResult:
    """Train on a part of the notes until those held out get no better.

    Processes that torch's process group joins train together: all have all notes, and a step takes
    `gradient_accumulation` batches from each.

    Parameters
    ----------
    parts : ModelParts
        A freshly loaded model in float32; it is changed.
    data : TuningData
        The notes.
    settings : TuningSettings
        How.

    Returns
    -------
    TuningResult
        The weights of the best epoch.
    """
    base = base_fingerprint(parts)
    processes = Processes()
    # without a random_state each process has drawn a seed of its own
    settings = settings._replace(
        seed=processes.from_main(settings.seed),
        verbose=settings.verbose if processes.is_main else 0,
    )
    _refuse_other_notes(data, base, processes)
    with torch_seed(settings.seed, settings.device), with_gradients():
        task = TuningTask(parts, data, settings).to(settings.device)
        checkpoint = _checkpoint(data, settings, base, processes)
        losses, best_epoch = _train(task, data, settings, checkpoint, processes)
    data_bytes = write_weights(task.model, settings.method)
    weights = TunedWeights(settings.method, settings.rank, data_bytes, base)
    return TuningResult(weights, losses, best_epoch)


def _train(
    task: TuningTask,
    data: TuningData,
    settings: TuningSettings,
    checkpoint: Checkpoint | None,
    processes: Processes,
) -> tuple[list[float], int]:
    train, held_out = _split(data, settings)
    fitting = _fitting_rows(settings)
    if settings.objective == "supervised":
        _start_head(task, data, train, held_out, settings, fitting)
    processes.copy_from_main(task)
    optimizer = _optimizer(task, settings)
    n_batches = -(-len(train) // settings.batch_size)
    n_steps = settings.max_epochs * -(-n_batches // _batches_per_step(settings, processes))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _linear(n_steps, settings.warmup))
    # of the main process alone: the others may not see its disk
    found = processes.from_main(None if checkpoint is None else checkpoint.load())
    if found is not None:
        with nullcontext() if checkpoint is None else checkpoint.restoring():
            # numbers, and one at least
            losses = [float(found["losses"][0]), *map(float, found["losses"][1:])]
            best = dict(found["best"])
            # the best weights first, so that ones that do not fit are found now and not at the end
            for weights in (best, found["weights"]):
                _load_weights(task, weights)
            load_optimizer(optimizer, schedule, found)
    else:
        # the model as it came stays where no epoch makes it better
        losses = [_validate(task, data, held_out, settings, processes, fitting)]
        best = task.kept()
    with progress_bar(
        n_batches * settings.max_epochs, "fine-tuning", "batch", settings.verbose
    ) as bar:
        bar.update(n_batches * (len(losses) - 1))
        while len(losses) <= settings.max_epochs and not _has_settled(losses, settings):
            epoch = len(losses) - 1
            _run_epoch(
                task, data, train, optimizer, schedule, settings, epoch, bar, processes, fitting
            )
            losses.append(_validate(task, data, held_out, settings, processes, fitting))
            bar.set_postfix(validation_loss=f"{losses[-1]:.4f}")
            weights = task.kept()
            if losses[-1] < min(losses[:-1]):
                best = weights
            if checkpoint is not None:
                checkpoint.save(
                    {
                        "weights": weights,
                        "optimizer": optimizer.state_dict(),
                        "schedule": schedule.state_dict(),
                        "losses": losses,
                        "best": best,
                    }
                )
    _load_weights(task, best)
    if checkpoint is not None:
        checkpoint.remove()
    return losses, int(np.argmin(losses))


def _load_weights(task: TuningTask, weights: dict[str, Tensor]) -> None:
    """Give the task what training changes, all of it."""
    if weights.keys() != task.trained().keys():
        raise ValueError("other weights than those that are trained")
    task.load_state_dict(weights, strict=False)


def _split(data: TuningData, settings: TuningSettings) -> tuple[np.ndarray, np.ndarray]:
    """Notes to train on and notes held out; no group is in both."""
    n = len(data.chunks)
    n_groups = n if data.groups is None else len(np.unique(data.groups))
    if n_groups < 2:
        raise ValueError(
            f"fine_tuning needs notes of at least 2 groups for its validation split, got "
            f"{n_groups} with text."
        )
    splitter = ShuffleSplit if data.groups is None else GroupShuffleSplit
    split = splitter(1, test_size=settings.validation_fraction, random_state=settings.seed)
    return next(split.split(np.zeros(n), groups=data.groups))


@torch.no_grad()
def _start_head(task: TuningTask, data: TuningData, train, held_out, settings, fitting) -> None:
    """Fit the head to the vectors of the model as it came."""
    task.eval()
    found = []
    for rows in (train, held_out):
        rng = np.random.default_rng(settings.seed)
        batches = _batches(data, rows, settings, rng)
        parts = [_vectors(task, chunks, fitting) for chunks, _ in batches]
        assert data.y is not None
        found.append((torch.cat(parts).float().cpu().numpy(), data.y[rows]))
    task.head.start(*found[0], found[1], settings.class_weight)


def _vectors(task: TuningTask, chunks: list[list[list[int]]], fitting: FittingRows) -> Tensor:
    def attempt(size: int) -> Tensor:
        with task.precision():
            slices = fitting.slices(len(chunks), size)
            return torch.cat([task.note_vectors(chunks[rows]) for rows in slices])

    return fitting.run(len(chunks), attempt)


def _optimizer(task: TuningTask, settings: TuningSettings) -> torch.optim.Optimizer:
    head = list(task.head.parameters())
    body = [p for p in task.model.parameters() if p.requires_grad]
    return torch.optim.AdamW(
        [
            {"params": body, "lr": settings.learning_rate},
            {"params": head, "lr": settings.learning_rate * _HEAD_FACTOR},
        ],
        weight_decay=_WEIGHT_DECAY,
    )


def _linear(n_steps: int, warmup: float) -> Callable[[int], float]:
    """Learning rate that rises for a share of the steps and falls to zero over the others."""
    rising = max(1, round(warmup * n_steps))
    return lambda step: min((step + 1) / rising, (n_steps - step) / max(1, n_steps - rising))


def _has_settled(losses: list[float], settings: TuningSettings) -> bool:
    return len(losses) - 1 - int(np.argmin(losses)) >= settings.n_iter_no_change


def _batches_per_step(settings: TuningSettings, processes: Processes) -> int:
    """Batches of one step, those of all processes."""
    return settings.gradient_accumulation * processes.size


def _run_epoch(
    task, data, train, optimizer, schedule, settings, epoch: int, bar, processes, fitting
) -> None:
    # seeds of the epoch's own: a resumed run draws what an uninterrupted one would
    rng = np.random.default_rng([settings.seed, epoch])
    # the same batches in each process, and other units that drop out
    seed = int(rng.integers(2**31)) + processes.rank
    with torch_seed(seed, settings.device) as generator:
        task.train()
        batches = list(_batches(data, rng.permutation(train), settings, rng))
        per_step = _batches_per_step(settings, processes)
        for first in range(0, len(batches), per_step):
            together = batches[first : first + per_step]
            own = [task.batch(*batch, generator) for batch in processes.share(together)]
            _add_gradients(task, own, len(together), optimizer, fitting)
            bar.update(len(together))
            processes.add_gradients(task.trained().values())
            nn.utils.clip_grad_norm_(task.trained().values(), _LARGEST_GRADIENT)
            optimizer.step()
            schedule.step()
            # of all weights they take as much memory as these, which validation may need
            optimizer.zero_grad()


def _fitting_rows(settings: TuningSettings) -> FittingRows:
    accumulated = "batch_size={size} and a larger gradient_accumulation"
    return rows_of_training(
        settings.device,
        f"gradient_checkpointing=True, a lower max_length or max_chunks, or {accumulated}",
        "lower max_length or max_chunks, set gradient_checkpointing=True or fine_tuning='lora'",
    )


def _add_gradients(
    task: TuningTask, batches: list[TuningBatch], n_batches: int, optimizer, fitting: FittingRows
) -> None:
    """Leave the gradient of a step's loss at the parameters: of these of its `n_batches`."""

    def attempt(size: int) -> None:
        optimizer.zero_grad()
        for batch in batches:
            for rows in fitting.slices(batch.n_rows, size):
                with task.precision():
                    loss = batch.loss(rows)
                (loss / n_batches).backward()

    fitting.run(max((batch.n_rows for batch in batches), default=0), attempt)


@torch.no_grad()
def _validate(
    task: TuningTask, data: TuningData, held_out: np.ndarray, settings, processes, fitting
) -> float:
    rng = np.random.default_rng(settings.seed)
    generator = torch.Generator().manual_seed(settings.seed)
    task.eval()
    batches = list(_batches(data, held_out, settings, rng))
    losses = torch.zeros(len(batches), device=settings.device)
    for i, (chunks, y) in processes.share(list(enumerate(batches))):
        losses[i] = _loss(task, task.batch(chunks, y, generator), fitting)
    # the same numbers everywhere, so that all stop after the same epoch
    found = processes.add(losses).cpu().double().numpy()
    return float(np.average(found, weights=[len(chunks) for chunks, _ in batches]))


def _loss(task: TuningTask, batch: TuningBatch, fitting: FittingRows) -> Tensor:
    """Loss of a batch, without gradients."""

    def attempt(size: int) -> Tensor:
        with task.precision():
            return torch.stack([batch.loss(r) for r in fitting.slices(batch.n_rows, size)]).sum()

    return fitting.run(batch.n_rows, attempt)


def _batches(
    data: TuningData, order: np.ndarray, settings: TuningSettings, rng: np.random.Generator
) -> Iterator[tuple[list[list[list[int]]], Tensor | None]]:
    """Batches of notes, of each at most `max_chunks` of its chunks, drawn anew each time."""
    for start in range(0, len(order), settings.batch_size):
        rows = order[start : start + settings.batch_size]
        chunks = []
        for i in rows:
            note = data.chunks[i]
            drawn = rng.permutation(len(note))[: settings.max_chunks]
            chunks.append([note[j] for j in drawn])
        y = None if data.y is None else torch.from_numpy(data.y[rows]).to(settings.device)
        yield chunks, y


def _checkpoint(
    data: TuningData, settings: TuningSettings, base: str, processes: Processes
) -> Checkpoint | None:
    """State of a run that began with these weights, notes, labels, groups and settings."""
    if settings.checkpoint_dir is None or not processes.is_main:
        return None
    alike = settings._replace(checkpoint_dir=None, verbose=0)
    # as many notes per step lead the same way, whoever computes them
    alike = alike._replace(gradient_accumulation=_batches_per_step(settings, processes))
    parts = [base, str(alike), *_content(data)]
    return Checkpoint(settings.checkpoint_dir, "fine-tuning", parts)


def _content(data: TuningData) -> list:
    parts: list = [json.dumps(data.chunks)]
    for array in (data.y, data.groups):
        parts.append([] if array is None else np.asarray(array).tolist())
    return parts


def _refuse_other_notes(data: TuningData, base: str, processes: Processes) -> None:
    """Refuse processes that do not all hold the same notes: their batches would not match."""
    if processes.size == 1:
        return
    digest = hashlib.sha256(json.dumps([base, *_content(data)]).encode()).hexdigest()
    if len(set(processes.from_all(digest))) > 1:
        raise ValueError(
            f"The {processes.size} processes that fine-tune together were not given the same "
            "model, notes, labels and groups in the same order; give all of them to each process."
        )
