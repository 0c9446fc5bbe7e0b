"""A model's forward pass, compiled by torch where that is asked for or where it pays.

Compiling takes a minute or so and saves a share of every batch after it. What it saves depends on
model, GPU and versions, so that it is measured: once enough work is left to repay a trial, one
batch runs both ways, and the faster way stays.
"""

import inspect
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch

# batches before the clock counts, in which kernels are chosen and memory is taken, and those timed
_WARM_UP, _TIMED = 2, 3
# what a trial may cost at most, and the least share of the time that would be worth it
_TRIAL_SECONDS, _WORTHWHILE = 60.0, 0.1
# of the compiler and of what it calls; some it raises as they are, most as a kind of RuntimeError
_FAILURES = (RuntimeError, ImportError, OSError)


class CompiledForward:
    """One of two ways to compute the same: as it is, or compiled.

    Parameters
    ----------
    plain : callable
        Takes the inputs of a batch by name.
    compile : callable
        ``compile()`` gives what computes the same faster; it may compile at its first calls only.
    when : {True, "auto"}
        Always, or where it pays: once so much work is left that a trial is repaid, one batch runs
        both ways.
    clock : callable, default=time.perf_counter
        ``clock()`` gives the time in seconds, at which all that was begun is done.
    told : Lock or None, default=None
        Of another one whose warning stands for this one's too.

    Attributes
    ----------
    told : Lock
        Taken by the first failure, which is warned of.

    Examples
    --------
    >>> forward = CompiledForward(lambda x: x + 1, lambda: lambda x: x + 1, True)
    >>> forward(1, 0, x=1)
    (2, True)
    """

    def __init__(
        self,
        plain: Callable[..., Any],
        compile: Callable[[], Callable[..., Any]],
        when: bool | str,
        clock: Callable[[], float] = time.perf_counter,
        told: Any = None,
    ):
        self._plain = plain
        self._compile = compile
        self._when = when
        self._clock = clock
        self.told = told or threading.Lock()
        self._compiled: Callable[..., Any] | None = None
        # None until it is decided
        self._use_compiled: bool | None = None if when == "auto" else True
        self._n_batches = 0
        self._seconds = 0.0
        self._tokens = 0
        self._deciding = threading.Lock()

    def __call__(self, n_tokens: int, tokens_left: int, **inputs) -> tuple[Any, bool]:
        """Run a batch.

        Parameters
        ----------
        n_tokens : int
            Of this batch.
        tokens_left : int
            Of the batches after it, as far as they are known.
        **inputs : dict
            Of the forward pass.

        Returns
        -------
        result, bool
            What the forward pass gives, and whether the compiled one gave it.
        """
        if self._use_compiled is None and self._deciding.acquire(blocking=False):
            try:
                return self._watch(n_tokens, tokens_left, inputs), False
            finally:
                self._deciding.release()
        if self._use_compiled:
            try:
                return self._run_compiled(inputs), True
            except torch.OutOfMemoryError:
                # smaller batches are the remedy
                raise
            except _FAILURES as error:
                self._give_up(error)
        return self._plain(**inputs), False

    def _watch(self, n_tokens: int, tokens_left: int, inputs: dict) -> Any:
        """Run a batch as it is, with an eye on the time; decide once there is enough to tell."""
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
            ways: tuple[Callable[[], Any], ...] = (
                lambda: self._plain(**inputs),
                lambda: self._run_compiled(inputs),
            )
            plain, compiled = (min(self._timed(way)[0] for _ in range(2)) for way in ways)
            self._use_compiled = compiled < plain
        except torch.OutOfMemoryError:
            # it takes more memory: the batches that fit are worth more
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
            # of the compiler's own use of torch, and of speed that other settings would bring
            warnings.filterwarnings("ignore", module=r"torch(\.|$)")
            compiled = self._compile()
            result = compiled(**inputs)
        self._compiled = compiled
        return result

    def _give_up(self, error: Exception) -> None:
        """Run as it is from now on; say so once, whatever the number of copies."""
        self._use_compiled = False
        self._compiled = None
        if self.told.acquire(blocking=False):
            warnings.warn(
                f"compile={self._when!r}: torch could not compile the model "
                f"({type(error).__name__}); it runs as it is, with the same result. Install what "
                "torch.compile needs, a C++ compiler on a CPU and triton on a GPU, or set "
                "compile=False.",
                UserWarning,
                stacklevel=2,
            )


def resolve_compile(compile: bool | str, device: torch.device, placed: bool) -> bool | str:
    """Resolve compile="auto": nowhere but on a CUDA GPU, and not with weights placed otherwise.

    Examples
    --------
    >>> resolve_compile("auto", torch.device("cpu"), placed=False)
    False
    >>> resolve_compile(True, torch.device("cpu"), placed=False)
    True
    """
    if compile != "auto":
        return bool(compile)
    return "auto" if device.type == "cuda" and not placed else False


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
