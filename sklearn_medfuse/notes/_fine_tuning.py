"""Fine-tune a note model on the labels of the notes, or as a language model on the notes alone.

Processes that `accelerate launch` or torchrun has joined in a process group of torch train
together: each holds all notes, and a step takes `gradient_accumulation` batches from each.
"""

import hashlib
import json
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, GroupShuffleSplit, ShuffleSplit
from torch import Tensor, distributed, nn

from .._checkpoint import Checkpoint, load_optimizer
from .._nn.chunk_pooling import pool_chunks
from .._training import (
    Announcement,
    progress_bar,
    rows_of_training,
    torch_seed,
    with_gradients,
)
from ._language_model.adapter import add_adapter, write_weights
from ._language_model.backbone import ModelParts, RowInputs, fingerprint, pad_rows
from ._language_model.source import TunedWeights
from ._language_model.windows import packed_batches, special_tokens

# Tokens of a forward pass, in windows of similar length
_RUN_TOKENS = 1024
# Tokens whose states wait for one backward pass: 1 GB of MiniLM's, whatever the batch holds
_GRADIENT_TOKENS = 4096
# Devlin et al. 2019, section 3.1
_MASKED_SHARE = 0.15
# Up to this window length, attention scores are small enough to keep
_LONGEST_EAGER = 512
# Values of C for the first head, and the number of folds that choose one
_STRENGTHS = (0.001, 0.003, 0.01, 0.1, 1.0)
_STRENGTH_FOLDS = 4
# The head of labels starts fitted and learns at this share of the model's rate; a new head of words
# learns at this rate or faster
_FITTED_HEAD_SHARE, _NEW_HEAD_RATE = 0.1, 1e-3
_LARGEST_GRADIENT = 1.0
_WEIGHT_DECAY = 0.01


class TuningSettings(NamedTuple):
    """How to fine-tune; `LLMNoteEncoder` documents the parameters of these names."""

    fine_tuning: str
    objective: str
    lora_rank: int
    target_modules: str | tuple[str, ...] | None
    max_epochs: int
    learning_rate: float
    batch_size: int
    gradient_accumulation: int
    gradient_checkpointing: bool
    warmup: float
    validation_fraction: float
    class_weight: str | None
    max_chunks: int
    pooling: str
    chunk_pooling: str
    checkpoint_dir: str | os.PathLike | None
    verbose: int
    bfloat16: bool
    device: torch.device
    seed: int


# Number of notes, or of windows in language modelling, how many of them may run together, and a
# slice's share of the batch's loss
TuningBatch = tuple[int, int, Callable[[slice], Tensor]]


class TuningData(NamedTuple):
    """Notes that have tokens."""

    # Token ids of each note's windows, special tokens included
    windows: list[list[list[int]]]
    # float32 labels (n_notes, n_labels); None for language modelling
    y: np.ndarray | None
    # Groups that the validation split keeps together
    groups: np.ndarray | None
    # Number of special and prompt tokens before each text, if there is a prompt
    prompt_length: int = 0


def fine_tune(
    parts: ModelParts, data: TuningData, settings: TuningSettings
) -> tuple[TunedWeights, list[float], list[Checkpoint]]:
    """Train on a part of the notes; the held-out ones choose the epoch.

    Changes `parts`, a freshly loaded model in float32. Returns the weights of the best epoch, the
    validation loss before training and after each epoch, and the checkpoints, which the caller
    removes at the end.
    """
    base = fingerprint(parts)
    processes = Processes()
    # Without a random_state, each process has drawn its own seed
    settings = settings._replace(
        seed=processes.from_main(settings.seed),
        verbose=settings.verbose if processes.is_main else 0,
    )
    processes.refuse_other_notes(data, base)
    with torch_seed(settings.seed, settings.device), with_gradients():
        if settings.fine_tuning == "lora":
            model = add_adapter(parts.model, settings.lora_rank, settings.target_modules)
        else:
            model = parts.model.requires_grad_(True)
        before, checkpoints = None, []
        both = settings.objective == "both"
        for objective in ("language", "supervised") if both else (settings.objective,):
            stage = settings._replace(objective=objective)
            own = data if objective == "supervised" else data._replace(y=None)
            task = TuningTask(parts, model, own, stage).to(settings.device)
            checkpoint = _checkpoint(own, stage, base, processes)
            checkpoints += [] if checkpoint is None else [checkpoint]
            # The second stage must not depend on whether the first was resumed
            torch.manual_seed(settings.seed)
            first = _copies(model)
            losses = Training(task, own, processes).run(checkpoint, before)
            before = first
    changed = write_weights(model, settings.fine_tuning)
    how = settings.fine_tuning, settings.lora_rank, settings.target_modules
    tuned = TunedWeights(*how, changed, base)
    return tuned, losses, checkpoints


def _trained(module: nn.Module) -> dict[str, Tensor]:
    """Trained parameters by name."""
    return {name: p for name, p in module.named_parameters() if p.requires_grad}


def _copies(module: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in _trained(module).items()}


class Training:
    """Epochs over the training notes, each judged on the held-out notes."""

    def __init__(self, task: "TuningTask", data: TuningData, processes: "Processes"):
        self.task, self.data, self.processes = task, data, processes
        self.settings = settings = task.settings
        self.train, self.held_out = _split(data, settings)
        accumulated = "batch_size={size} and a larger gradient_accumulation"
        self.fitting = rows_of_training(
            settings.device,
            f"gradient_checkpointing=True, a lower max_length or max_chunks, or {accumulated}",
            "lower max_length or max_chunks, set gradient_checkpointing=True or fine_tuning='lora'",
        )
        body = [p for p in task.model.parameters() if p.requires_grad]
        rate = settings.learning_rate
        fitted = settings.objective == "supervised"
        head_rate = _FITTED_HEAD_SHARE * rate if fitted else max(rate, _NEW_HEAD_RATE)
        head = {"params": list(task.head.parameters()), "lr": head_rate}
        self.optimizer = torch.optim.AdamW(
            [{"params": body, "lr": rate}, head], weight_decay=_WEIGHT_DECAY
        )
        # Batches of one step over all processes
        self.per_step = settings.gradient_accumulation * processes.size
        self.n_batches = -(-len(self.train) // settings.batch_size)
        n_steps = settings.max_epochs * -(-self.n_batches // self.per_step)
        rising = max(1, round(settings.warmup * n_steps))
        falling = max(1, n_steps - rising)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: min((step + 1) / rising, (n_steps - step) / falling)
        )

    def run(self, checkpoint: Checkpoint | None, before: dict[str, Tensor] | None) -> list[float]:
        """Train, leave the best weights in the task, and return the validation losses.

        `before` holds the weights from before an earlier stage, which counts as epoch 1.
        """
        settings = self.settings
        n_first = 1 if before is None else 2
        total = self.n_batches * settings.max_epochs
        with progress_bar(total, "fine-tuning", "batch", settings.verbose) as bar:
            losses, best = self._begin_or_resume(checkpoint, before)
            bar.update(self.n_batches * (len(losses) - n_first))
            self.announcement = Announcement(bar)
            lengths = [len(window) for note in self.data.windows for window in note]
            work = f"Fine-tuning on {len(lengths):,} windows of notes, {sum(lengths):,} tokens"
            self.announcement.begin(f"{work}, {settings.max_epochs} epochs")
            self.n_before = bar.n
            # No early stopping: validation losses mean little before the rate has fallen
            while len(losses) < n_first + settings.max_epochs:
                self.run_epoch(len(losses) - n_first, bar)
                losses.append(self._validate())
                bar.set_postfix(validation_loss=f"{losses[-1]:.4f}")
                weights = _copies(self.task)
                if losses[-1] < min(losses[:-1]):
                    best = weights
                if checkpoint is not None:
                    state = {"weights": weights, "losses": losses, "best": best}
                    for name in ("optimizer", "schedule"):
                        state[name] = getattr(self, name).state_dict()
                    checkpoint.save(state)
        self._load_weights(best)
        return losses

    def run_epoch(self, epoch: int, bar) -> None:
        """Take the steps of an epoch."""
        task, settings = self.task, self.settings
        # Seeded per epoch, so that a resumed run draws what an uninterrupted one would
        rng = np.random.default_rng([settings.seed, epoch])
        # Each process has the same batches but its own dropout
        seed = int(rng.integers(2**31)) + self.processes.rank
        with torch_seed(seed, settings.device) as generator:
            task.train()
            batches = list(self._batches(rng.permutation(self.train), rng))
            for first in range(0, len(batches), self.per_step):
                together = batches[first : first + self.per_step]
                mine = together[self.processes.rank :: self.processes.size]
                own = [task.batch(notes, y, generator) for notes, y in mine]
                self._add_gradients(own, len(together))
                bar.update(len(together))
                self.announcement.update((bar.n - self.n_before) / (bar.total - self.n_before))
                self.processes.add_gradients(_trained(task).values())
                nn.utils.clip_grad_norm_(_trained(task).values(), _LARGEST_GRADIENT)
                self.optimizer.step()
                self.schedule.step()
                # Gradients take as much memory as the weights, and validation may need it
                self.optimizer.zero_grad()

    def _begin_or_resume(
        self, checkpoint: Checkpoint | None, before: dict[str, Tensor] | None
    ) -> tuple[list[float], dict]:
        """Losses so far and the best weights; the original model counts as epoch 0."""
        first, own = [], _copies(self.task.model)
        for weights in (own,) if before is None else (before, own):
            self.task.model.load_state_dict(weights, strict=False)
            if self.settings.objective == "supervised":
                self._start_head()
            self.processes.copy_from_main(self.task)
            first.append((self._validate(), _copies(self.task)))
        # Only the main process loads, as the others may not see its disk
        found = self.processes.from_main(None if checkpoint is None else checkpoint.load())
        if found is None:
            return [loss for loss, _ in first], min(first, key=itemgetter(0))[1]
        with nullcontext() if checkpoint is None else checkpoint.restoring():
            # At least one number
            losses = [float(found["losses"][0]), *map(float, found["losses"][1:])]
            best = dict(found["best"])
            # The best weights come first: if they do not fit, the fit fails now and not at its end
            for weights in (best, found["weights"]):
                self._load_weights(weights)
            load_optimizer(self.optimizer, self.schedule, found)
        return losses, best

    def _load_weights(self, weights: dict[str, Tensor]) -> None:
        if weights.keys() != _trained(self.task).keys():
            raise ValueError("the weights are not those that are trained")
        self.task.load_state_dict(weights, strict=False)

    @torch.no_grad()
    def _start_head(self) -> None:
        """Fit the head to the vectors of the model before training."""
        self.task.eval()
        y, groups = self.data.y, self.data.groups
        assert y is not None

        def vectors_of(notes: list[list[list[int]]], rows: slice) -> Tensor:
            return self.task.note_vectors(notes[rows])

        found: list[Tensor] = []
        for notes, _ in self._batches(self.train, np.random.default_rng(self.settings.seed)):
            found += self._in_parts(len(notes), len(notes), partial(vectors_of, notes))
        vectors = torch.cat(found).float().cpu().numpy()
        groups = self.train if groups is None else groups[self.train]
        self.task.head.start(vectors, y[self.train], groups, self.settings.class_weight)

    def _in_parts(self, n_rows: int, most: int, part: Callable[[slice], Tensor]) -> list[Tensor]:
        """Results of slices of at most so many rows, each small enough for the memory."""

        def attempt(size: int) -> list[Tensor]:
            with self.task.precision():
                return [part(rows) for rows in self.fitting.slices(n_rows, min(size, most))]

        return self.fitting.run(n_rows, attempt)

    def _add_gradients(self, batches: list[TuningBatch], n_batches: int) -> None:
        """Set the gradients to these batches' share in the gradient of a step's mean loss."""

        def attempt(size: int) -> None:
            self.optimizer.zero_grad()
            for n_rows, most, loss in batches:
                for rows in self.fitting.slices(n_rows, min(size, most)):
                    with self.task.precision():
                        share = loss(rows)
                    (share / n_batches).backward()

        self.fitting.run(max((n_rows for n_rows, *_ in batches), default=0), attempt)

    @torch.no_grad()
    def _validate(self) -> float:
        rng = np.random.default_rng(self.settings.seed)
        generator = torch.Generator().manual_seed(self.settings.seed)
        self.task.eval()
        batches = list(self._batches(self.held_out, rng))
        losses = torch.zeros(len(batches), device=self.settings.device)
        for i in range(self.processes.rank, len(batches), self.processes.size):
            shares = self._in_parts(*self.task.batch(*batches[i], generator))
            losses[i] = torch.stack(shares).sum()
        # All processes get the same numbers and so keep the same epoch
        found = self.processes.add(losses).cpu().double().numpy()
        return float(np.average(found, weights=[len(notes) for notes, _ in batches]))

    def _batches(
        self, order: np.ndarray, rng: np.random.Generator
    ) -> Iterator[tuple[list[list[list[int]]], Tensor | None]]:
        """Batches of notes with at most `max_chunks` windows each, drawn anew each time."""
        for start in range(0, len(order), self.settings.batch_size):
            rows = order[start : start + self.settings.batch_size]
            notes = []
            for i in rows:
                windows = self.data.windows[i]
                drawn = rng.permutation(len(windows))[: self.settings.max_chunks]
                notes.append([windows[j] for j in drawn])
            y = None if self.data.y is None else torch.from_numpy(self.data.y[rows])
            yield notes, y if y is None else y.to(self.settings.device)


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


def _checkpoint(
    data: TuningData, settings: TuningSettings, base: str, processes: "Processes"
) -> Checkpoint | None:
    """Checkpoint of this run, known by its weights, notes, labels, groups and settings."""
    if settings.checkpoint_dir is None or not processes.is_main:
        return None
    # The same number of notes per step gives the same result, whichever process computes them
    accumulated = settings.gradient_accumulation * processes.size
    alike = settings._replace(checkpoint_dir=None, verbose=0, gradient_accumulation=accumulated)
    return Checkpoint(settings.checkpoint_dir, "fine-tuning", [base, str(alike), *_content(data)])


def _content(data: TuningData) -> list:
    arrays = [[] if array is None else array.tolist() for array in (data.y, data.groups)]
    return [json.dumps(data.windows), *arrays]


class TuningTask(nn.Module):
    """The model with the head of its objective."""

    model: Any
    head: Any
    rate: Tensor

    def __init__(self, parts: ModelParts, model: Any, data: TuningData, settings: TuningSettings):
        super().__init__()
        self.settings = settings
        # In a list, so that these modules are not trained
        self._pool = [parts.pooling.with_pooling(settings.pooling).to(settings.device)]
        self.inputs = RowInputs(parts.model, special_tokens(parts.tokenizer))
        self.prompt_length = data.prompt_length
        self.pad = parts.tokenizer.pad_token_id
        self.mask_token = parts.tokenizer.mask_token_id
        self.model = model
        longest = max(len(row) for note in data.windows for row in note)
        can_choose = hasattr(model, "set_attn_implementation")
        if can_choose and settings.device.type == "cpu" and longest <= _LONGEST_EAGER:
            # On a CPU, the gradient of torch's fused attention takes a third of the total time
            model.set_attn_implementation("eager")
        if settings.gradient_checkpointing:
            # Without a gradient of the frozen embedding's output, none flows back through a layer
            # that is recomputed
            model.enable_input_require_grads()
            # Renamed in transformers 5
            enable = getattr(model, "activation_checkpointing_enable", None)
            (enable or model.gradient_checkpointing_enable)({"use_reentrant": False})
        if data.y is not None:
            rate = torch.tensor(data.y.mean(axis=0)).clamp(1e-3, 1 - 1e-3)
            self.register_buffer("rate", rate)
            with torch.no_grad():
                width = self.note_vectors([data.windows[0][:1]]).shape[1]
            self.head = LogisticHead(width, data.y.shape[1])
            return
        width = model.get_input_embeddings().weight.shape[1]
        # Logits are products with the embeddings of the vocabulary
        if self.mask_token is None:
            self.head = nn.Identity()
        else:
            self.head = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width))

    def batch(
        self, notes: list[list[list[int]]], y: Tensor | None, generator: torch.Generator
    ) -> TuningBatch:
        """Prepare the loss of notes, or of windows, and tell how many may run together.

        All random draws but those of dropout happen here.
        """
        rows = [row for note in notes for row in note]
        if y is not None:
            most = max(1, _GRADIENT_TOKENS * len(notes) // sum(map(len, rows)))
            return len(notes), most, lambda rows: self._supervised(notes, y, rows)
        rows.sort(key=len)
        ids, visible = self._padded(rows)
        shown, targets, guessed = self._hide(ids, visible, generator)
        most = max(1, _GRADIENT_TOKENS // len(rows[-1]))
        return len(rows), most, lambda rows: self._language(shown, visible, targets, guessed, rows)

    def precision(self):
        """Context of a forward pass."""
        kind = self.settings.device.type
        return torch.autocast(kind, dtype=torch.bfloat16, enabled=self.settings.bfloat16)

    def _padded(self, rows: list[list[int]]) -> tuple[Tensor, Tensor]:
        return pad_rows(rows, max(map(len, rows)), self.pad, self.settings.device)

    def note_vectors(self, notes: list[list[list[int]]]) -> Tensor:
        """Vectors of notes, pooled over their windows."""
        rows = [row for note in notes for row in note]
        lengths = np.array([len(row) for row in rows])
        # Windows of similar length run together, which saves most of the padding
        parts = packed_batches(lengths, _RUN_TOKENS)
        pooled = []
        for part in parts:
            ids, visible = self._padded([rows[i] for i in part])
            output = self.model(**self.inputs(ids, visible))
            states, layers = output.last_hidden_state.float(), output.get("hidden_states")
            pooled.append(self._pool[0](states, visible, ids, self.prompt_length, layers))
        # Back to the order of the rows
        vectors = torch.cat(pooled)[np.argsort(np.concatenate(parts))]
        note_of = torch.repeat_interleave(torch.tensor([len(note) for note in notes]))
        weight = torch.tensor(lengths, dtype=torch.float32, device=vectors.device)
        how = "mean" if self.settings.chunk_pooling == "attention" else self.settings.chunk_pooling
        return pool_chunks(vectors, note_of.to(vectors.device), len(notes), weight, how)

    def _supervised(self, notes, y: Tensor, rows: slice) -> Tensor:
        """Share of some notes in the mean loss over notes and labels."""
        y, share = y[rows], (rows.stop - rows.start) / len(notes)
        logits = self.head(self.note_vectors(notes[rows])).float()
        weight = None
        if self.settings.class_weight == "balanced":
            # Both classes of a label weigh one half, as in scikit-learn's "balanced"
            weight = torch.where(y > 0, 0.5 / self.rate, 0.5 / (1 - self.rate))
        loss = F.binary_cross_entropy_with_logits(logits, y, weight)
        return loss * share

    def _hide(self, ids: Tensor, visible: Tensor, generator) -> tuple[Tensor, Tensor, Tensor]:
        """Token ids as shown, the true ones, and which of them are to be guessed."""
        if self.mask_token is None:
            return ids, ids[:, 1:], visible[:, 1:]
        n_tokens = len(self.model.get_input_embeddings().weight)
        draw = torch.rand(ids.shape, generator=generator).to(ids.device)
        guessed = visible & (draw < _MASKED_SHARE)
        # Of these, 8 in 10 are masked, 1 in 10 is replaced by another token and 1 in 10 stays
        other = torch.randint(n_tokens, ids.shape, generator=generator).to(ids.device)
        shown = torch.where(guessed & (draw < 0.8 * _MASKED_SHARE), self.mask_token, ids)
        shown = torch.where(guessed & (draw > 0.9 * _MASKED_SHARE), other, shown)
        return shown, ids, guessed

    def _language(self, shown, visible, targets, guessed, rows: slice) -> Tensor:
        """Share of some windows in the mean loss over the tokens that are to be guessed."""
        # Rows are sorted by length: the last is the longest
        width = int(visible[rows][-1].sum())
        output = self.model(**self.inputs(shown[rows, :width], visible[rows, :width]))
        own = guessed[rows, :width]
        states = output.last_hidden_state[:, : own.shape[1]]
        if not own.any():
            return states.sum() * 0.0
        logits = self.head(states[own]) @ self.model.get_input_embeddings().weight.T
        loss = F.cross_entropy(logits.float(), targets[rows, :width][own])
        return loss * (own.sum() / guessed.sum())


class LogisticHead(nn.Module):
    """Logistic regressions on standardised vectors, which start at their penalised optimum.

    The first gradients of a head that starts at zero distort what the model knows (Kumar et al.
    2022). The head then learns slowly; otherwise it would memorise the training notes before the
    model has learned anything.
    """

    center: Tensor
    scale: Tensor

    def __init__(self, width: int, n_labels: int):
        super().__init__()
        self.linear = nn.Linear(width, n_labels)
        self.register_buffer("center", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))

    def start(self, vectors: np.ndarray, y: np.ndarray, groups: np.ndarray, class_weight) -> None:
        """Fit to vectors and labels before training; folds of groups choose the penalty."""
        center, scale = vectors.mean(axis=0), vectors.std(axis=0)
        scale[scale < 1e-6] = 1.0
        standard = (vectors - center) / scale
        losses = np.zeros(len(_STRENGTHS))
        n_folds = min(_STRENGTH_FOLDS, len(np.unique(groups)))
        # A single group gives no folds and gets the strongest penalty
        folds = GroupKFold(n_folds).split(standard, groups=groups) if n_folds > 1 else ()
        for fitted, other in folds:
            for i, strength in enumerate(_STRENGTHS):
                coef, intercept = _fit_labels(standard[fitted], y[fitted], strength, class_weight)
                logits = standard[other] @ coef.T + intercept
                # Binary cross-entropy
                losses[i] += np.sum(np.logaddexp(0, logits) - y[other] * logits)
        fitted = _fit_labels(standard, y, _STRENGTHS[int(losses.argmin())], class_weight)
        tensors = self.center, self.scale, self.linear.weight, self.linear.bias
        with torch.no_grad():
            for tensor, values in zip(tensors, (center, scale, *fitted), strict=True):
                tensor.copy_(torch.tensor(values))

    def forward(self, vectors: Tensor) -> Tensor:
        """Logits (n_notes, n_labels) of vectors (n_notes, width)."""
        return self.linear((vectors - self.center) / self.scale)


def _fit_labels(X, y, strength: float, class_weight) -> tuple[np.ndarray, np.ndarray]:
    coef = np.zeros((y.shape[1], X.shape[1]), dtype=np.float32)
    rate = y.mean(axis=0).clip(1e-3, 1 - 1e-3)
    intercept = np.log(rate / (1 - rate)).astype(np.float32)
    for label, target in enumerate(y.T):
        # A label that all notes or none have gets its rate alone
        if target.min() < target.max():
            model = LogisticRegression(C=strength, class_weight=class_weight, max_iter=1000)
            model.fit(X, target)
            coef[label], intercept[label] = model.coef_[0], model.intercept_[0]
    return coef, intercept


class Processes:
    """The processes of torch's default group, or only this one."""

    def __init__(self) -> None:
        joined = distributed.is_available() and distributed.is_initialized()
        self.rank = distributed.get_rank() if joined else 0
        self.size = distributed.get_world_size() if joined else 1
        # The one that writes
        self.is_main = self.rank == 0
        if not joined and int(os.environ.get("WORLD_SIZE") or 1) > 1:
            warnings.warn(
                "Several processes were launched but not connected, so each fine-tunes on its own. "
                "Call accelerate.PartialState() before fit.",
                UserWarning,
                stacklevel=2,
            )

    def refuse_other_notes(self, data: TuningData, base: str) -> None:
        """Refuse processes with different notes, whose batches would not match."""
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
            for tensor in (*_trained(module).values(), *module.buffers()):
                distributed.broadcast(tensor.data, src=0)

    def add_gradients(self, parameters) -> None:
        """Replace each gradient by the sum over processes; a missing one counts as zero."""
        for parameter in parameters if self.size > 1 else ():
            own = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            parameter.grad = self.add(own)

    def add(self, numbers: Tensor) -> Tensor:
        """Sum over processes."""
        if self.size > 1:
            distributed.all_reduce(numbers)
        return numbers
