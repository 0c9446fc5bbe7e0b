"""Rows that go through a net together: as many as asked for, or as the device has memory for."""

import warnings
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch

from ._generators import random_state, set_random_state

Result = TypeVar("Result")


class FittingRows:
    """Number of rows that go through a net together, halved when the device runs out of memory.

    What was found to fit is kept for the next call.

    Parameters
    ----------
    device : torch.device
        Where the net runs.
    warning : str
        What is said once when fewer rows go together than were asked for; "{asked}", "{size}" and
        "{device}" in it stand for both numbers and the device.
    remedy : str
        What to do where not even one row fits, the end of an error's message.

    Examples
    --------
    >>> import torch
    >>> rows = FittingRows(torch.device("cpu"), "{size} of {asked} rows fit.", "use fewer labs")
    >>> rows.run(10, lambda size: size)
    10
    >>> [(part.start, part.stop) for part in rows.slices(10, 4)]
    [(0, 4), (4, 8), (8, 10)]
    """

    def __init__(self, device: torch.device, warning: str, remedy: str):
        self.size: int | None = None
        self._device = device
        self._warning = warning
        self._remedy = remedy
        self._asked = 0
        self._has_warned = False

    @staticmethod
    def slices(n_rows: int, size: int) -> list[slice]:
        """Parts of so many rows at most."""
        return [slice(start, min(start + size, n_rows)) for start in range(0, n_rows, size)]

    def run(self, n_rows: int, attempt: Callable[[int], Result]) -> Result:
        """Do something with rows, again from the start with fewer together where they do not fit.

        Parameters
        ----------
        n_rows : int
            Number of rows.
        attempt : callable
            ``attempt(size)`` does it, `size` rows together at most. It may be left at any point,
            and is called anew with torch's generators as they were.

        Returns
        -------
        object
            What `attempt` returns.

        Raises
        ------
        torch.OutOfMemoryError
            Where a single row does not fit.
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
            # not in the handler, whose error holds on to what the attempt computed
            size = self.halve(size, n_rows)
            set_random_state(before, self._device)

    def batches(
        self, n_rows: int, size: int, run: Callable[[slice], Result]
    ) -> Iterator[tuple[slice, Result]]:
        """Run rows in batches of `size` at most, fewer where they do not fit.

        A batch that was done is not done again.

        Yields
        ------
        rows : slice
            The rows of a batch, in order.
        result : object
            What ``run(rows)`` returns.
        """
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
        """Take half of `size` rows from now on.

        Raises
        ------
        torch.OutOfMemoryError
            If that is none.
        """
        if size < 2:
            raise torch.OutOfMemoryError(
                f"A single row does not fit into the memory of device={str(self._device)!r}; "
                f"{self._remedy}."
            )
        self._asked = max(asked, self._asked)
        self.size = size // 2
        if self._device.type == "cuda":
            # pieces that are free but too small for the next batch
            torch.cuda.empty_cache()
        return self.size

    def warn(self) -> None:
        """Say what fits, if that is less than was asked for and was not said before."""
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

    Parameters
    ----------
    device : torch.device
        Where the net trains.
    parameters : str
        What to set to have steps that fit, with "{size}" for the number of rows.
    remedy : str
        What to do where not even one row fits.
    """
    return FittingRows(
        device,
        "Training steps of {asked} rows do not fit into the memory of device={device}; a step is "
        "divided into parts of {size} rows or fewer, whose gradients are added up, which takes "
        f"longer. Set {parameters}, or use device='cpu'.",
        f"{remedy}, or use device='cpu'",
    )


def in_fitting_batches(
    n_rows: int, size: int, run: Callable[[slice], Result], device: torch.device
) -> Iterator[Result]:
    """Run rows in batches, smaller ones once the device has run out of memory.

    Parameters
    ----------
    n_rows : int
        Number of rows.
    size : int
        Rows per batch at most.
    run : callable
        ``run(rows)`` gives the result of a slice of the rows.
    device : torch.device
        Where it runs, for the warning.

    Yields
    ------
    object
        Result of each batch, in order.
    """
    fitting = rows_of_prediction(device)
    for _, result in fitting.batches(n_rows, size, run):
        yield result
    fitting.warn()
