"""Processes that train one model together, each on its share of every step's batches.

Whoever launches them, `accelerate launch` or torchrun, joins them to torch's process group; here it
is only used. Without one there is a single process, and nothing is sent.
"""

import os
import warnings
from collections.abc import Iterable
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn

Part = TypeVar("Part")


class Processes:
    """The processes of torch's default group, as they are when this is made.

    Attributes
    ----------
    rank : int
        Number of this process, from 0.
    size : int
        Number of processes.

    Examples
    --------
    >>> alone = Processes()
    >>> alone.size, alone.is_main, alone.share([1, 2, 3])
    (1, True, [1, 2, 3])
    """

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

    def share(self, parts: list[Part]) -> list[Part]:
        """Every `size`-th part, beginning at this process's number."""
        return parts[self.rank :: self.size]

    def from_main(self, value: Any) -> Any:
        """Give all processes the main one's value."""
        if self.size == 1:
            return value
        values = [value if self.is_main else None]
        distributed.broadcast_object_list(values, src=0)
        return values[0]

    def from_all(self, value: Any) -> list:
        """Values of all processes, in their order."""
        if self.size == 1:
            return [value]
        values = [None] * self.size
        distributed.all_gather_object(values, value)
        return values

    def copy_from_main(self, module: nn.Module) -> None:
        """Set trained parameters and buffers to the main process's."""
        if self.size == 1:
            return
        trained = [p for p in module.parameters() if p.requires_grad]
        for tensor in (*trained, *module.buffers()):
            distributed.broadcast(tensor.data, src=0)

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
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
