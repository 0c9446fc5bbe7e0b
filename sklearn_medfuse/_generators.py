"""torch's global generators, which layers draw from and all threads of a process share."""

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch


class _Turn:
    """One thread's turn at a time; it may take it again within."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        if hasattr(os, "register_at_fork"):
            # the thread that held it does not go on in a forked process
            os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        self.lock = threading.RLock()


_TURN = _Turn()


@contextmanager
def generators_put_back(devices: Sequence[torch.device] = ()) -> Iterator[None]:
    """Put torch's global generators back after the block, which no other thread's block disturbs.

    Parameters
    ----------
    devices : sequence of torch.device, default=()
        Of GPUs whose generators are put back too.

    Examples
    --------
    >>> before = torch.get_rng_state()
    >>> with generators_put_back():
    ...     drawn = torch.rand(3)
    >>> torch.equal(torch.get_rng_state(), before)
    True
    """
    with _TURN.lock, torch.random.fork_rng(devices=devices):
        yield


def random_state(device: torch.device) -> dict[str, torch.Tensor]:
    """State of the generators that layers on a device draw from.

    Examples
    --------
    >>> cpu = torch.device("cpu")
    >>> with generators_put_back():
    ...     state = random_state(cpu)
    ...     drawn = torch.rand(3)
    ...     set_random_state(state, cpu)
    ...     torch.equal(torch.rand(3), drawn)
    True
    """
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def set_random_state(state: dict[str, torch.Tensor], device: torch.device) -> None:
    """Set these generators back to a state, as far as it was taken on a device of this kind."""
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)
