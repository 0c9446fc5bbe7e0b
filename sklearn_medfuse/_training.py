"""What every training loop shares: device, seeds, progress, memory, early stopping."""

import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

import numpy as np
import torch
from torch import nn
from tqdm.auto import tqdm

Result = TypeVar("Result")
Module = TypeVar("Module", bound=nn.Module)

# Share of the steps in which the learning rate rises. Not 0.1: torch's OneCycleLR divides by zero
# where it makes just one step.
WARM_UP = 0.101


def resolve_device(device: str | torch.device) -> torch.device:
    """Turn the `device` parameter into a torch device; "auto" takes a CUDA GPU if there is one."""
    if isinstance(device, str) and device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError:
        raise ValueError(
            f"device={device!r} is not a torch device; use 'auto', 'cpu', 'cuda' or 'cuda:0'."
        ) from None
    if resolved.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            f"device={device!r} was asked for, but torch sees no CUDA GPU; use device='auto'."
        )
    return resolved


def resolve_fitted_device(device: str | torch.device) -> torch.device:
    """Device of a fitted estimator: that of fit if this machine has it, otherwise as by "auto"."""
    if str(device) != "auto":
        try:
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError):  # The second where torch was built without CUDA
            device = "auto"
    return resolve_device(device)


def check_heads(d_model: int, n_heads: int) -> None:
    """Refuse a token width that the attention heads cannot share evenly."""
    if d_model % n_heads:
        raise ValueError(
            f"d_model={d_model} is not a multiple of n_heads={n_heads}; choose a d_model that is."
        )


def draw_seed(random_state: np.random.RandomState) -> int:
    """Draw a seed for torch from numpy's generator."""
    return int(random_state.randint(np.iinfo(np.int32).max))


class _Turn:
    """A lock for one thread at a time, which may take it again while it holds it."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        if hasattr(os, "register_at_fork"):
            # A forked process lacks the thread that held it
            os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        self.lock = threading.RLock()


_TURN = _Turn()


@contextmanager
def generators_put_back(devices: Sequence[torch.device] = ()) -> Iterator[None]:
    """Put torch's global generators back after the block; other threads wait for its end."""
    with _TURN.lock, torch.random.fork_rng(devices=devices):
        yield


def random_state(device: torch.device) -> dict[str, torch.Tensor]:
    """State of the generators that layers on a device draw from."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def set_random_state(state: dict[str, torch.Tensor], device: torch.device) -> None:
    """Restore these generators; the GPU's only if the state was taken on a GPU."""
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)


@contextmanager
def torch_seed(seed: int, device: torch.device) -> Iterator[torch.Generator]:
    """Seed torch within the block and put the global generators back afterwards.

    Another thread waits at its own block: it would draw from the same generators. Yields a seeded
    CPU generator for draws that must not depend on how many numbers the layers have used.
    """
    devices = [device] if device.type == "cuda" else []
    with generators_put_back(devices):
        torch.manual_seed(seed)
        yield torch.Generator().manual_seed(seed)


def with_gradients() -> AbstractContextManager:
    """Have torch record gradients within the block, even under `torch.no_grad()`."""
    # Leaving inference mode undoes no_grad too
    return torch.inference_mode(False)


def progress_bar(total: int, description: str, unit: str, verbose: int) -> tqdm:
    """Progress bar on standard error, silent with verbose=0; shows counts and losses only."""
    return tqdm(
        total=total,
        desc=description,
        unit=unit,
        disable=not verbose,
        file=sys.stderr,
        dynamic_ncols=True,
        mininterval=0.5,
    )


class Announcement:
    """One line above a progress bar: how much work there is, and roughly how long it takes.

    The rate is that of the first two seconds of work; shorter work is not announced.
    """

    _MEASURED_SECONDS = 2.0

    def __init__(self, bar: tqdm):
        self._bar, self._is_due = bar, not bar.disable

    def begin(self, work: str) -> None:
        """Start the clock for `work`, which holds counts only."""
        self._work, self._start = work, time.perf_counter()

    def update(self, share_done: float) -> None:
        """Print the line, the first time that the rate is known."""
        seconds = time.perf_counter() - self._start
        if self._is_due and share_done < 1 and seconds >= self._MEASURED_SECONDS:
            self._is_due = False
            left = _duration(seconds / share_done)
            self._bar.write(f"{self._work}: about {left}", file=sys.stderr)


def _duration(seconds: float) -> str:
    """Format a duration as coarsely as an estimate deserves."""
    if seconds < 95:
        return f"{max(10, round(seconds, -1)):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def for_inference(module: Module, device: torch.device) -> Module:
    """Make a trained module ready to predict: evaluation mode, float64, no gradients.

    In float32 the last digits of a row's result depend on the rows beside it, as matrix products
    are blocked by batch size; float64 keeps such noise below 1e-12.
    """
    return module.to(device=device, dtype=torch.float64).eval().requires_grad_(False)


class BestWeights:
    """Keep the weights of the best epoch, and say when to stop."""

    def __init__(self, patience: int, tol: float = 0.0):
        self.patience = patience
        self.tol = tol
        self.best_score = -np.inf
        self.best_epoch = 0
        self._weights: dict[str, torch.Tensor] = {}

    def update(self, epoch: int, score: float, module: nn.Module) -> bool:
        """Take the score of an epoch, higher is better; True means stop."""
        if score > self.best_score + self.tol:
            self.best_score, self.best_epoch = score, epoch
            self._weights = {
                name: tensor.detach().clone() for name, tensor in module.state_dict().items()
            }
        return epoch - self.best_epoch >= self.patience

    def restore(self, module: nn.Module) -> None:
        """Put the best weights back."""
        if self._weights:
            module.load_state_dict(self._weights)

    def state_dict(self) -> dict:
        """Return what a checkpoint has to keep."""
        return {"score": self.best_score, "epoch": self.best_epoch, "weights": self._weights}

    def load_state_dict(self, state: dict) -> None:
        """Take back what a checkpoint kept."""
        self.best_score, self.best_epoch = float(state["score"]), int(state["epoch"])
        self._weights = state["weights"]


class FittingRows:
    """Number of rows that go through a net together, halved when the device runs out of memory.

    The number that fits is kept for the next call. `warning`, with "{asked}", "{size}" and
    "{device}" to fill in, is given once when fewer rows fit than were asked for; `remedy` ends the
    error raised when not even one row, or `unit`, fits.
    """

    def __init__(self, device: torch.device, warning: str, remedy: str, unit: str = "row"):
        self.size: int | None = None
        self._device = device
        self._warning = warning
        self._remedy = remedy
        self._unit = unit
        self._asked = 0
        self._has_warned = False

    @staticmethod
    def slices(n_rows: int, size: int) -> list[slice]:
        """Parts of so many rows at most."""
        return [slice(start, min(start + size, n_rows)) for start in range(0, n_rows, size)]

    def run(self, n_rows: int, attempt: Callable[[int], Result]) -> Result:
        """Call ``attempt(size)``, and again from the start with half the rows if memory runs out.

        An attempt may fail at any point; the next starts with torch's generators as they were.
        """
        size = min(n_rows, self.size or n_rows)
        before = random_state(self._device)
        while True:
            try:
                result = attempt(size)
            except torch.OutOfMemoryError:
                pass
            else:
                self.warn()
                return result
            # Not in the handler, whose error holds on to what the attempt computed
            size = self.halve(size, n_rows)
            set_random_state(before, self._device)

    def batches(
        self, n_rows: int, size: int, run: Callable[[slice], Result]
    ) -> Iterator[tuple[slice, Result]]:
        """Run rows in batches of at most `size`, smaller if memory runs out; no row twice."""
        start = 0
        while start < n_rows:
            rows = slice(start, min(start + min(size, self.size or size), n_rows))
            try:
                result = run(rows)
            except torch.OutOfMemoryError:
                pass
            else:
                yield rows, result
                start = rows.stop
                continue
            self.halve(rows.stop - start, size)

    def halve(self, size: int, asked: int) -> int:
        """Take half of `size` rows from now on."""
        if size < 2:
            raise torch.OutOfMemoryError(
                f"A single {self._unit} does not fit into the memory of "
                f"device={str(self._device)!r}; {self._remedy}."
            )
        self._asked = max(asked, self._asked)
        self.size = size // 2
        if self._device.type == "cuda":
            # Free memory may lie in pieces too small for the next batch
            torch.cuda.empty_cache()
        return self.size

    def warn(self) -> None:
        """Warn, once, if fewer rows fit than were asked for."""
        if self.size is None or self._has_warned:
            return
        self._has_warned = True
        message = self._warning.format(
            asked=self._asked, size=self.size, device=repr(str(self._device))
        )
        warnings.warn(message, UserWarning, stacklevel=2)


def rows_of_prediction(device: torch.device, outcome: str = "with the same result") -> FittingRows:
    """Rows that are predicted together; `outcome` says what smaller batches change."""
    return FittingRows(
        device,
        "Batches of {asked} rows do not fit into the memory of device={device}; batches of {size} "
        f"are used instead, {outcome}. Give fewer rows at once, or use device='cpu'.",
        "use device='cpu'",
    )


def rows_of_training(device: torch.device, parameters: str, remedy: str) -> FittingRows:
    """Rows whose gradients are computed together in a step of training.

    `parameters` names what to set, to "{size}" rows, and `remedy` what to lower if not one fits.
    """
    return FittingRows(
        device,
        "Training steps of {asked} rows do not fit into the memory of device={device}; a step is "
        "divided into parts of {size} rows or fewer, whose gradients are added up, which takes "
        f"longer. Set {parameters}, or use device='cpu'.",
        f"{remedy}, or use device='cpu'",
    )
