"""A model's forward pass compiled by torch, where that pays."""

import inspect
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch

# Batches before the clock counts, in which kernels are chosen and memory is taken, and those timed
_WARM_UP, _TIMED = 2, 3
# What a trial may cost at most, and the least share of the time that would be worth it
_TRIAL_SECONDS, _WORTHWHILE = 60.0, 0.1
# The compiler raises most failures, and those of what it calls, as a kind of RuntimeError
_FAILURES = (RuntimeError, ImportError, OSError)


class CompiledForward:
    """A model's forward pass, compiled if `when` is True, or for "auto" where it pays.

    Compiling takes a minute or so and saves a share of every batch after it. How much depends on
    model, GPU and versions, so it is measured: once enough work is left to repay a trial, one batch
    runs both ways, and the faster way stays. ``clock()`` gives the time when all work so far is
    done; copies share `told`, so that one of them warns for all.
    """

    def __init__(
        self,
        plain: Callable[..., Any],
        compile: Callable[[], Callable[..., Any]],
        when: bool | str,
        clock: Callable[[], float] = time.perf_counter,
        told: Any = None,
    ):
        self._plain, self._compile, self._when, self._clock = plain, compile, when, clock
        # The first failure takes it and warns
        self.told = told or threading.Lock()
        self._compiled: Callable[..., Any] | None = None
        # None until it is decided
        self._use_compiled: bool | None = None if when == "auto" else True
        self._n_batches = self._tokens = 0
        self._seconds = 0.0
        self._deciding = threading.Lock()

    def __call__(self, n_tokens: int, tokens_left: int, **inputs) -> tuple[Any, bool]:
        """The result of a batch of n_tokens, and whether the compiled model gave it."""
        if self._use_compiled is None and self._deciding.acquire(blocking=False):
            try:
                return self._watch(n_tokens, tokens_left, inputs), False
            finally:
                self._deciding.release()
        if self._use_compiled:
            try:
                return self._run_compiled(inputs), True
            except torch.OutOfMemoryError:
                # Smaller batches are the remedy
                raise
            except _FAILURES as error:
                self._give_up(error)
        return self._plain(**inputs), False

    def _watch(self, n_tokens: int, tokens_left: int, inputs: dict) -> Any:
        """Run a batch uncompiled and take the time; decide once that is enough."""
        seconds, result = self._timed(lambda: self._plain(**inputs))
        self._n_batches += 1
        if self._n_batches > _WARM_UP:
            self._seconds += seconds
            self._tokens += n_tokens
        if self._n_batches >= _WARM_UP + _TIMED:
            left = self._seconds / self._tokens * tokens_left
            if left * _WORTHWHILE > _TRIAL_SECONDS:
                self._decide(inputs)
        return result

    def _decide(self, inputs: dict) -> None:
        """Run a batch both ways, twice each, and keep the faster."""
        self._use_compiled = False
        try:
            self._run_compiled(inputs)
            plain = min(self._timed(lambda: self._plain(**inputs))[0] for _ in range(2))
            compiled = min(self._timed(lambda: self._run_compiled(inputs))[0] for _ in range(2))
            self._use_compiled = compiled < plain
        except torch.OutOfMemoryError:
            # It takes more memory: larger batches are worth more
            self._compiled = None
        except _FAILURES as error:
            self._give_up(error)

    def _timed(self, run: Callable[[], Any]) -> tuple[float, Any]:
        start = self._clock()
        result = run()
        return self._clock() - start, result

    def _run_compiled(self, inputs: dict) -> Any:
        if self._compiled is not None:
            return self._compiled(**inputs)
        with warnings.catch_warnings():
            # The compiler's own use of torch, and speed that other settings would bring
            warnings.filterwarnings("ignore", module=r"torch(\.|$)")
            compiled = self._compile()
            result = compiled(**inputs)
        self._compiled = compiled
        return result

    def _give_up(self, error: Exception) -> None:
        """Run uncompiled from now on; warn once for all copies."""
        self._use_compiled = False
        self._compiled = None
        if self.told.acquire(blocking=False):
            warnings.warn(
                f"compile={self._when!r}: torch could not compile the model "
                f"({type(error).__name__}); it runs uncompiled, with the same result. Install a "
                "C++ compiler (CPU) or triton (GPU), or set compile=False.",
                UserWarning,
                stacklevel=2,
            )


def compiled_forward(
    model: torch.nn.Module, device: torch.device, when: bool | str, told: Any = None
) -> CompiledForward:
    """Forward pass of a model for batches of any shape, compiled once for all of them."""

    def compile() -> Callable[..., Any]:
        # Lengths and numbers of rows are symbols, or each would be compiled. Other models' graphs
        # do not count against this one's, where torch is new enough to tell them apart.
        options: dict[str, Any] = {"dynamic": True}
        if "isolate_recompiles" in inspect.signature(torch.compile).parameters:
            options["isolate_recompiles"] = True
        return torch.compile(model, **options)

    def clock() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    return CompiledForward(model, compile, when, clock, told)
