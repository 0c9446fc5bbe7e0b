"""Fine-tune a note model: by the labels of the notes, or as a language model on the notes alone.

Processes that `accelerate launch` or torchrun has joined to torch's process group train together:
all have all notes, and a step takes `gradient_accumulation` batches from each.
"""

import hashlib
import json
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.model_selection import GroupShuffleSplit, ShuffleSplit
from torch import Tensor, distributed, nn

from ..._checkpoint import Checkpoint, load_optimizer
from ..._training import progress_bar, rows_of_training, torch_seed, with_gradients
from .._language_model.backbone import ModelParts, fingerprint, write_weights
from .._language_model.source import TunedWeights
from .task import TuningBatch, TuningData, TuningSettings, TuningTask

# A new head learns faster than a model that knows its language
_HEAD_FACTOR = 10.0
_LARGEST_GRADIENT = 1.0
_WEIGHT_DECAY = 0.01


class TuningResult(NamedTuple):
    """The weights of the best epoch, and the validation loss before and after each epoch."""

    weights: TunedWeights
    validation_loss: list[float]
    best_epoch: int


def fine_tune(parts: ModelParts, data: TuningData, settings: TuningSettings) -> TuningResult:
    """Train on a part of the notes until those held out get no better.

    `parts` are a freshly loaded model in float32, which is changed.
    """
    base = fingerprint(parts)
    processes = Processes()
    # Without a random_state each process has drawn a seed of its own
    settings = settings._replace(
        seed=processes.from_main(settings.seed),
        verbose=settings.verbose if processes.is_main else 0,
    )
    processes.refuse_other_notes(data, base)
    with torch_seed(settings.seed, settings.device), with_gradients():
        task = TuningTask(parts, data, settings).to(settings.device)
        training = Training(task, data, settings, processes)
        losses = training.run(_checkpoint(data, settings, base, processes))
    changed = write_weights(task.model, settings.fine_tuning)
    weights = TunedWeights(settings.fine_tuning, settings.lora_rank, changed, base)
    return TuningResult(weights, losses, int(np.argmin(losses)))


class Training:
    """Epochs over the notes to train on, each judged on the notes held out."""

    def __init__(
        self,
        task: TuningTask,
        data: TuningData,
        settings: TuningSettings,
        processes: "Processes",
    ):
        self.task, self.data, self.settings, self.processes = task, data, settings, processes
        self.train, self.held_out = _split(data, settings)
        accumulated = "batch_size={size} and a larger gradient_accumulation"
        self.fitting = rows_of_training(
            settings.device,
            f"gradient_checkpointing=True, a lower max_length or max_chunks, or {accumulated}",
            "lower max_length or max_chunks, set gradient_checkpointing=True or fine_tuning='lora'",
        )
        body = [p for p in task.model.parameters() if p.requires_grad]
        head = {"params": list(task.head.parameters()), "lr": settings.learning_rate * _HEAD_FACTOR}
        self.optimizer = torch.optim.AdamW(
            [{"params": body, "lr": settings.learning_rate}, head], weight_decay=_WEIGHT_DECAY
        )
        # Batches of one step, those of all processes
        self.per_step = settings.gradient_accumulation * processes.size
        self.n_batches = -(-len(self.train) // settings.batch_size)
        n_steps = settings.max_epochs * -(-self.n_batches // self.per_step)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, _linear(n_steps, settings.warmup)
        )

    def run(self, checkpoint: Checkpoint | None) -> list[float]:
        """Train, leave the best weights in the task, and give the losses on the notes held out."""
        settings = self.settings
        if settings.objective == "supervised":
            self._start_head()
        self.processes.copy_from_main(self.task)
        losses, best = self._begin_or_resume(checkpoint)
        total = self.n_batches * settings.max_epochs
        with progress_bar(total, "fine-tuning", "batch", settings.verbose) as bar:
            bar.update(self.n_batches * (len(losses) - 1))
            while len(losses) <= settings.max_epochs and not self._has_settled(losses):
                self.run_epoch(len(losses) - 1, bar)
                losses.append(self._validate())
                bar.set_postfix(validation_loss=f"{losses[-1]:.4f}")
                weights = self.task.kept()
                if losses[-1] < min(losses[:-1]):
                    best = weights
                if checkpoint is not None:
                    checkpoint.save(
                        {
                            "weights": weights,
                            "optimizer": self.optimizer.state_dict(),
                            "schedule": self.schedule.state_dict(),
                            "losses": losses,
                            "best": best,
                        }
                    )
        self._load_weights(best)
        if checkpoint is not None:
            checkpoint.remove()
        return losses

    def run_epoch(self, epoch: int, bar) -> None:
        """Take the steps of an epoch."""
        task, settings = self.task, self.settings
        # Seeds of the epoch's own: a resumed run draws what an uninterrupted one would
        rng = np.random.default_rng([settings.seed, epoch])
        # The same batches in each process, and other units that drop out
        seed = int(rng.integers(2**31)) + self.processes.rank
        with torch_seed(seed, settings.device) as generator:
            task.train()
            batches = list(self._batches(rng.permutation(self.train), rng))
            for first in range(0, len(batches), self.per_step):
                together = batches[first : first + self.per_step]
                mine = self.processes.share(together)
                own = [task.batch(notes, y, generator) for notes, y in mine]
                self._add_gradients(own, len(together))
                bar.update(len(together))
                self.processes.add_gradients(task.trained().values())
                nn.utils.clip_grad_norm_(task.trained().values(), _LARGEST_GRADIENT)
                self.optimizer.step()
                self.schedule.step()
                # Gradients of all weights take as much memory as these, which validation may need
                self.optimizer.zero_grad()

    def _begin_or_resume(self, checkpoint: Checkpoint | None) -> tuple[list[float], dict]:
        """Losses so far and the best weights; the model before training counts as epoch 0."""
        # The main process loads alone: the others may not see its disk
        found = self.processes.from_main(None if checkpoint is None else checkpoint.load())
        if found is None:
            return [self._validate()], self.task.kept()
        with nullcontext() if checkpoint is None else checkpoint.restoring():
            # Numbers, and one at least
            losses = [float(found["losses"][0]), *map(float, found["losses"][1:])]
            best = dict(found["best"])
            # The best weights first, so that ones that do not fit are found now, not at the end
            for weights in (best, found["weights"]):
                self._load_weights(weights)
            load_optimizer(self.optimizer, self.schedule, found)
        return losses, best

    def _load_weights(self, weights: dict[str, Tensor]) -> None:
        if weights.keys() != self.task.trained().keys():
            raise ValueError("other weights than those that are trained")
        self.task.load_state_dict(weights, strict=False)

    def _has_settled(self, losses: list[float]) -> bool:
        return len(losses) - 1 - int(np.argmin(losses)) >= self.settings.n_iter_no_change

    @torch.no_grad()
    def _start_head(self) -> None:
        """Fit the head to the vectors of the model before training."""
        self.task.eval()
        assert self.data.y is not None
        found = []
        for rows in (self.train, self.held_out):
            rng = np.random.default_rng(self.settings.seed)
            parts = [self._vectors(notes) for notes, _ in self._batches(rows, rng)]
            found.append((torch.cat(parts).float().cpu().numpy(), self.data.y[rows]))
        self.task.head.start(*found[0], found[1], self.settings.class_weight)

    def _vectors(self, notes: list[list[list[int]]]) -> Tensor:
        def attempt(size: int) -> Tensor:
            with self.task.precision():
                slices = self.fitting.slices(len(notes), size)
                return torch.cat([self.task.note_vectors(notes[rows]) for rows in slices])

        return self.fitting.run(len(notes), attempt)

    def _add_gradients(self, batches: list[TuningBatch], n_batches: int) -> None:
        """Leave the gradient of a step's mean loss, as far as these batches make it up."""

        def attempt(size: int) -> None:
            self.optimizer.zero_grad()
            for batch in batches:
                for rows in self.fitting.slices(batch.n_rows, size):
                    with self.task.precision():
                        loss = batch.loss(rows)
                    (loss / n_batches).backward()

        self.fitting.run(max((batch.n_rows for batch in batches), default=0), attempt)

    @torch.no_grad()
    def _validate(self) -> float:
        rng = np.random.default_rng(self.settings.seed)
        generator = torch.Generator().manual_seed(self.settings.seed)
        self.task.eval()
        batches = list(self._batches(self.held_out, rng))
        losses = torch.zeros(len(batches), device=self.settings.device)
        for i, (notes, y) in self.processes.share(list(enumerate(batches))):
            losses[i] = self._loss(self.task.batch(notes, y, generator))
        # The same numbers everywhere, so that all stop after the same epoch
        found = self.processes.add(losses).cpu().double().numpy()
        return float(np.average(found, weights=[len(notes) for notes, _ in batches]))

    def _loss(self, batch: TuningBatch) -> Tensor:
        def attempt(size: int) -> Tensor:
            with self.task.precision():
                slices = self.fitting.slices(batch.n_rows, size)
                return torch.stack([batch.loss(rows) for rows in slices]).sum()

        return self.fitting.run(batch.n_rows, attempt)

    def _batches(
        self, order: np.ndarray, rng: np.random.Generator
    ) -> Iterator[tuple[list[list[list[int]]], Tensor | None]]:
        """Batches of notes, of each at most `max_chunks` of its windows, drawn anew each time."""
        for start in range(0, len(order), self.settings.batch_size):
            rows = order[start : start + self.settings.batch_size]
            notes = []
            for i in rows:
                windows = self.data.windows[i]
                drawn = rng.permutation(len(windows))[: self.settings.max_chunks]
                notes.append([windows[j] for j in drawn])
            y = None
            if self.data.y is not None:
                y = torch.from_numpy(self.data.y[rows]).to(self.settings.device)
            yield notes, y


def _split(data: TuningData, settings: TuningSettings) -> tuple[np.ndarray, np.ndarray]:
    """Notes to train on and notes held out; no group is in both."""
    n = len(data.windows)
    n_groups = n if data.groups is None else len(np.unique(data.groups))
    if n_groups < 2:
        raise ValueError(
            f"fine_tuning needs notes of at least 2 groups for its validation split, got "
            f"{n_groups} with text."
        )
    splitter = ShuffleSplit if data.groups is None else GroupShuffleSplit
    split = splitter(1, test_size=settings.validation_fraction, random_state=settings.seed)
    return next(split.split(np.zeros(n), groups=data.groups))


def _linear(n_steps: int, warmup: float) -> Callable[[int], float]:
    """Learning rate that rises for a share of the steps and falls to zero over the others."""
    rising = max(1, round(warmup * n_steps))
    return lambda step: min((step + 1) / rising, (n_steps - step) / max(1, n_steps - rising))


def _checkpoint(
    data: TuningData, settings: TuningSettings, base: str, processes: "Processes"
) -> Checkpoint | None:
    """State of a run that began with these weights, notes, labels, groups and settings."""
    if settings.checkpoint_dir is None or not processes.is_main:
        return None
    alike = settings._replace(
        checkpoint_dir=None,
        verbose=0,
        # As many notes per step lead the same way, whoever computes them
        gradient_accumulation=settings.gradient_accumulation * processes.size,
    )
    return Checkpoint(settings.checkpoint_dir, "fine-tuning", [base, str(alike), *_content(data)])


def _content(data: TuningData) -> list:
    parts: list = [json.dumps(data.windows)]
    for array in (data.y, data.groups):
        parts.append([] if array is None else np.asarray(array).tolist())
    return parts


class Processes:
    """The processes of torch's default group when this is made; without one a single process."""

    def __init__(self) -> None:
        joined = distributed.is_available() and distributed.is_initialized()
        self.rank = distributed.get_rank() if joined else 0
        self.size = distributed.get_world_size() if joined else 1
        if not joined and int(os.environ.get("WORLD_SIZE") or 1) > 1:
            warnings.warn(
                "Several processes were launched but not joined: each fine-tunes on its own. Call "
                "accelerate.PartialState() before fit.",
                UserWarning,
                stacklevel=2,
            )

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def refuse_other_notes(self, data: TuningData, base: str) -> None:
        """Refuse processes that do not all hold the same notes: their batches would not match."""
        if self.size == 1:
            return
        digest = hashlib.sha256(json.dumps([base, *_content(data)]).encode()).hexdigest()
        digests = [None] * self.size
        distributed.all_gather_object(digests, digest)
        if len(set(digests)) > 1:
            raise ValueError(
                f"The {self.size} processes that fine-tune together were not given the same "
                "model, notes, labels and groups in the same order; give all of them to each "
                "process."
            )

    def share(self, parts: list) -> list:
        """Every `size`-th part, beginning at this process's number."""
        return parts[self.rank :: self.size]

    def from_main(self, value: Any) -> Any:
        """Give all processes the main one's value."""
        if self.size == 1:
            return value
        values = [value if self.is_main else None]
        distributed.broadcast_object_list(values, src=0)
        return values[0]

    def copy_from_main(self, module: nn.Module) -> None:
        """Set trained parameters and buffers to the main process's."""
        if self.size > 1:
            trained = [p for p in module.parameters() if p.requires_grad]
            for tensor in (*trained, *module.buffers()):
                distributed.broadcast(tensor.data, src=0)

    def add_gradients(self, parameters) -> None:
        """Replace each gradient by the sum over processes; none counts as zero."""
        if self.size == 1:
            return
        waiting = []
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            waiting.append(distributed.all_reduce(parameter.grad, async_op=True))
        for work in waiting:
            work.wait()

    def add(self, numbers: Tensor) -> Tensor:
        """Sum over processes."""
        if self.size > 1:
            distributed.all_reduce(numbers)
        return numbers
