"""Tokens per batch: as many as were asked for, or as fit into the device's memory."""

import warnings

import torch

from ._backbone import Backbone


class BatchBudget:
    """Tokens per batch, halved whenever the device runs out of memory.

    What fits is noted at the backbone: the next call begins with it.

    Parameters
    ----------
    backbone : Backbone
        The model.
    batch_tokens : int
        What was asked for.
    """

    def __init__(self, backbone: Backbone, batch_tokens: int):
        self._backbone = backbone
        self._asked = batch_tokens
        self._lowered = False

    @property
    def tokens(self) -> int:
        """Tokens per batch at most."""
        return min(self._asked, self._backbone.fitting_tokens or self._asked)

    def halve(self, batches: list[list[list[int]]]) -> None:
        """Take less from now on than the largest of these batches, which did not fit.

        Raises
        ------
        torch.OutOfMemoryError
            If no batch can be smaller.
        """
        width = self._backbone.padded_width
        if all(len(batch) == 1 for batch in batches):
            raise torch.OutOfMemoryError(
                f"A single window does not fit into the memory of device={self._where!r}; lower "
                "max_length, take a smaller model or dtype='bfloat16', or use device='cpu'."
            )
        largest = max(sum(width(len(chunk)) for chunk in batch) for batch in batches)
        self._backbone.fitting_tokens = max(1, min(self.tokens, largest) // 2)
        self._lowered = True
        if self._backbone.device.type == "cuda":
            # pieces that are free but too small for the next batch
            torch.cuda.empty_cache()

    def warn(self) -> None:
        """Say once what fits, if that is less than was asked for."""
        if self._lowered:
            warnings.warn(
                f"Batches of batch_tokens={self._asked} do not fit into the memory of "
                f"device={self._where!r}; batches of {self.tokens} tokens are used instead, with "
                "the same result. Set batch_tokens to that.",
                UserWarning,
                stacklevel=2,
            )
        self._lowered = False

    @property
    def _where(self) -> str:
        return str(self._backbone.device)
