"""Fine-tune a note model: by the labels of the notes, or as a language model on the notes alone."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.model_selection import GroupShuffleSplit, ShuffleSplit
from torch import Tensor, nn

from .._checkpoint import Checkpoint
from .._nn.chunk_pooling import pool_chunks, pool_tokens
from .._training import progress_bar, torch_seed, with_gradients
from ._adapter import TunedWeights, add_adapter, write_weights
from ._backbone import ModelParts, base_fingerprint, pad_rows
from ._chunking import packed_batches
from ._processes import Processes
from ._tuning_head import LogisticHead

# a new head learns faster than a model that knows its language
_HEAD_FACTOR = 10.0
_LARGEST_GRADIENT = 1.0
_WEIGHT_DECAY = 0.01
# tokens of like length that are run together in a batch
_RUN_TOKENS = 1024
# Devlin et al. 2019, section 3.1
_MASKED_SHARE = 0.15
# tokens of a chunk up to which its scores of attention are few enough to be kept
_LONGEST_EAGER = 512


class TuningSettings(NamedTuple):
    """How to fine-tune; `LLMNoteEncoder` documents the parameters of these names."""

    method: str
    objective: str
    rank: int
    max_epochs: int
    learning_rate: float
    batch_size: int
    gradient_accumulation: int
    gradient_checkpointing: bool
    warmup: float
    validation_fraction: float
    n_iter_no_change: int
    class_weight: str | None
    max_chunks: int
    pooling: str
    chunk_pooling: str
    bfloat16: bool
    device: torch.device
    checkpoint_dir: str | os.PathLike | None
    seed: int
    verbose: int


class TuningData(NamedTuple):
    """Notes that have tokens.

    Attributes
    ----------
    chunks : list of lists of rows
        Token ids of each note's chunks, special tokens included.
    y : float32 array of shape (n_notes, n_labels) or None
        Labels; None for language modelling.
    groups : array of shape (n_notes,) or None
        What the validation split must not part.
    """

    chunks: list[list[list[int]]]
    y: np.ndarray | None
    groups: np.ndarray | None


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
        task = _Task(parts, data, settings).to(settings.device)
        checkpoint = _checkpoint(data, settings, base, processes)
        losses, best_epoch = _train(task, data, settings, checkpoint, processes)
    data_bytes = write_weights(task.model, settings.method)
    weights = TunedWeights(settings.method, settings.rank, data_bytes, base)
    return TuningResult(weights, losses, best_epoch)


class _Task(nn.Module):
    """The model with the head of its objective."""

    model: Any
    head: Any
    rate: Tensor

    def __init__(self, parts: ModelParts, data: TuningData, settings: TuningSettings):
        super().__init__()
        self.settings = settings
        self.normalize = parts.normalize
        self.pad = parts.tokenizer.pad_token_id
        self.mask_token = parts.tokenizer.mask_token_id
        model = parts.model
        width = model.config.get_text_config().hidden_size
        if settings.method == "lora":
            self.model = add_adapter(model, settings.rank)
        else:
            self.model = model.requires_grad_(True)
        if settings.device.type == "cpu" and _longest(data) <= _LONGEST_EAGER:
            # on a CPU torch's fused attention takes a third of the time of all, in its gradient
            model.set_attn_implementation("eager")
        if settings.gradient_checkpointing:
            _checkpoint_activations(model)
        if settings.objective == "supervised":
            assert data.y is not None
            rate = torch.tensor(data.y.mean(axis=0)).clamp(1e-3, 1 - 1e-3)
            self.register_buffer("rate", rate)
            self.head = LogisticHead(width, data.y.shape[1])
        # logits are products with the embeddings of the vocabulary
        elif self.mask_token is None:
            self.head = nn.Identity()
        else:
            self.head = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width))

    def loss(self, chunks: list[list[list[int]]], y: Tensor | None, generator) -> Tensor:
        """Mean loss over notes, or over the tokens that were to be guessed."""
        device = self.settings.device
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.settings.bfloat16):
            if self.settings.objective == "supervised":
                return self._supervised(chunks, y)
            rows = [row for note in chunks for row in note]
            ids, visible = pad_rows(rows, max(map(len, rows)), self.pad, device)
            return self._language(ids, visible, generator)

    def _states(self, ids: Tensor, visible: Tensor) -> Tensor:
        return self.model(input_ids=ids, attention_mask=visible.long()).last_hidden_state

    def _vectors(self, rows: list[list[int]]) -> Tensor:
        """Pooled states of rows, those of like length run together: most padding is saved."""
        lengths = np.array([len(row) for row in rows])
        parts = packed_batches(lengths, _RUN_TOKENS)
        vectors = []
        for part in parts:
            width = int(lengths[part].max())
            part_rows = [rows[i] for i in part]
            ids, visible = pad_rows(part_rows, width, self.pad, self.settings.device)
            states = self._states(ids, visible).float()
            vectors.append(pool_tokens(states, visible, self.settings.pooling))
        # back to the order of the rows
        return torch.cat(vectors)[np.argsort(np.concatenate(parts))]

    def note_vectors(self, chunks: list[list[list[int]]]) -> Tensor:
        """Vectors of notes, pooled over their chunks."""
        rows = [row for note in chunks for row in note]
        vectors = self._vectors(rows)
        if self.normalize:
            vectors = F.normalize(vectors, dim=1)
        note = torch.tensor(
            [i for i, note in enumerate(chunks) for _ in note], device=vectors.device
        )
        lengths = torch.tensor([float(len(row)) for row in rows], device=vectors.device)
        how = "mean" if self.settings.chunk_pooling == "attention" else self.settings.chunk_pooling
        return pool_chunks(vectors, note, len(chunks), lengths, how)

    def _supervised(self, chunks, y) -> Tensor:
        logits = self.head(self.note_vectors(chunks)).float()
        weight = None
        if self.settings.class_weight == "balanced":
            # both classes of a label weigh one half, as in scikit-learn's "balanced"
            weight = torch.where(y > 0, 0.5 / self.rate, 0.5 / (1 - self.rate))
        loss = F.binary_cross_entropy_with_logits(logits, y, weight)
        return loss + self.head.penalty() if self.training else loss

    def _language(self, ids: Tensor, visible: Tensor, generator) -> Tensor:
        embeddings = self.model.get_input_embeddings().weight
        if self.mask_token is None:
            states, targets = self._states(ids, visible)[:, :-1], ids[:, 1:]
            guessed = visible[:, 1:]
        else:
            draw = torch.rand(ids.shape, generator=generator).to(ids.device)
            guessed = visible & (draw < _MASKED_SHARE)
            # of these, 8 in 10 are hidden, 1 in 10 is another token and 1 in 10 stays
            other = torch.randint(len(embeddings), ids.shape, generator=generator).to(ids.device)
            shown = torch.where(guessed & (draw < 0.8 * _MASKED_SHARE), self.mask_token, ids)
            shown = torch.where(guessed & (draw > 0.9 * _MASKED_SHARE), other, shown)
            states, targets = self._states(shown, visible), ids
        if not guessed.any():
            return states.sum() * 0.0
        logits = self.head(states[guessed]) @ embeddings.T
        return F.cross_entropy(logits.float(), targets[guessed])

    def trained(self) -> dict[str, Tensor]:
        """Parameters that training changes, by name."""
        return {name: p for name, p in self.named_parameters() if p.requires_grad}

    def kept(self) -> dict[str, Tensor]:
        """Copies of what training changes, as they are now."""
        return {name: p.detach().clone() for name, p in self.trained().items()}


def _longest(data: TuningData) -> int:
    return max(len(row) for note in data.chunks for row in note)


def _checkpoint_activations(model: Any) -> None:
    # a frozen embedding's output needs a gradient, or none flows back through a recomputed layer
    model.enable_input_require_grads()
    # renamed in transformers 5
    name = "activation_checkpointing_enable"
    enable = getattr(model, name, None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})


def _train(
    task: _Task,
    data: TuningData,
    settings: TuningSettings,
    checkpoint: Checkpoint | None,
    processes: Processes,
) -> tuple[list[float], int]:
    train, held_out = _split(data, settings)
    if settings.objective == "supervised":
        _start_head(task, data, train, held_out, settings)
    processes.copy_from_main(task)
    optimizer = _optimizer(task, settings)
    n_batches = -(-len(train) // settings.batch_size)
    n_steps = settings.max_epochs * -(-n_batches // _batches_per_step(settings, processes))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _linear(n_steps, settings.warmup))
    # of the main process alone: the others may not see its disk
    found = processes.from_main(None if checkpoint is None else checkpoint.load())
    if found is not None:
        with nullcontext() if checkpoint is None else checkpoint.restoring():
            task.load_state_dict(found["weights"], strict=False)
            optimizer.load_state_dict(found["optimizer"])
            schedule.load_state_dict(found["schedule"])
            losses, best = list(found["losses"]), dict(found["best"])
    else:
        # the model as it came stays where no epoch makes it better
        losses, best = [_validate(task, data, held_out, settings, processes)], task.kept()
    with progress_bar(
        n_batches * settings.max_epochs, "fine-tuning", "batch", settings.verbose
    ) as bar:
        bar.update(n_batches * (len(losses) - 1))
        while len(losses) <= settings.max_epochs and not _has_settled(losses, settings):
            epoch = len(losses) - 1
            _run_epoch(task, data, train, optimizer, schedule, settings, epoch, bar, processes)
            losses.append(_validate(task, data, held_out, settings, processes))
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
    task.load_state_dict(best, strict=False)
    if checkpoint is not None:
        checkpoint.remove()
    return losses, int(np.argmin(losses))


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
def _start_head(task: _Task, data: TuningData, train, held_out, settings) -> None:
    """Fit the head to the vectors of the model as it came."""
    task.eval()
    found = []
    for rows in (train, held_out):
        rng = np.random.default_rng(settings.seed)
        with torch.autocast(settings.device.type, dtype=torch.bfloat16, enabled=settings.bfloat16):
            parts = [task.note_vectors(chunks) for chunks, _ in _batches(data, rows, settings, rng)]
        assert data.y is not None
        found.append((torch.cat(parts).float().cpu().numpy(), data.y[rows]))
    task.head.start(*found[0], found[1], settings.class_weight)


def _optimizer(task: _Task, settings: TuningSettings) -> torch.optim.Optimizer:
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
    task, data, train, optimizer, schedule, settings, epoch: int, bar, processes: Processes
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
            for chunks, y in processes.share(together):
                (task.loss(chunks, y, generator) / len(together)).backward()
            bar.update(len(together))
            processes.add_gradients(task.trained().values())
            nn.utils.clip_grad_norm_(task.trained().values(), _LARGEST_GRADIENT)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()


@torch.no_grad()
def _validate(
    task: _Task, data: TuningData, held_out: np.ndarray, settings, processes: Processes
) -> float:
    rng = np.random.default_rng(settings.seed)
    generator = torch.Generator().manual_seed(settings.seed)
    task.eval()
    batches = list(_batches(data, held_out, settings, rng))
    losses = torch.zeros(len(batches), device=settings.device)
    for i, (chunks, y) in processes.share(list(enumerate(batches))):
        losses[i] = task.loss(chunks, y, generator)
    # the same numbers everywhere, so that all stop after the same epoch
    found = processes.add(losses).cpu().double().numpy()
    return float(np.average(found, weights=[len(chunks) for chunks, _ in batches]))


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
