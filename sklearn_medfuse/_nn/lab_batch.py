"""A batch of lab results without what was not measured, and the choice of what to hide of it."""

from typing import NamedTuple

import torch
from torch import Tensor


class LabBatch(NamedTuple):
    """Measured cells of some rows, packed to the left: no column that was not measured is here.

    Attributes
    ----------
    lab : int64 Tensor of shape (n, k)
        Column of each cell; 0 in the padding.
    value : Tensor of shape (n, k)
        Standardised value of each cell; 0 in the padding.
    score : Tensor of shape (n, k)
        Normal score of each cell, its rank among the training values; 0 in the padding.
    measured : bool Tensor of shape (n, k)
        False in the padding.
    """

    lab: Tensor
    value: Tensor
    score: Tensor
    measured: Tensor

    def take(self, order: Tensor) -> "LabBatch":
        """Reorder, and possibly drop, cells by position `order` (n, m)."""
        return LabBatch(*(part.gather(1, order) for part in self))

    def rows(self, index: Tensor) -> "LabBatch":
        """Take rows by position (m,), as wide as the longest of them."""
        width = int(self.measured[index].sum(dim=1).max()) if len(index) else 0
        return LabBatch(*(part[index, :width] for part in self))

    def clean(self) -> "LabBatch":
        """Return the batch with zeros in the padding: no weight times NaN is NaN."""
        return self._replace(
            value=self.value.masked_fill(~self.measured, 0.0),
            score=self.score.masked_fill(~self.measured, 0.0),
        )


def random_masking(
    batch: LabBatch,
    ratio: Tensor,
    generator: torch.Generator,
    weight: Tensor | None = None,
) -> tuple[LabBatch, LabBatch]:
    """Hide a random share of each row's measured cells.

    Missing is not hidden: a cell that was not measured is in neither part.

    Parameters
    ----------
    batch : LabBatch
        Measured cells of n rows.
    ratio : Tensor of shape (n,)
        Share of its measured cells to hide in each row. At least one cell is hidden and, where a
        row has two or more, at least one stays visible.
    generator : torch.Generator
        Source of the draw.
    weight : Tensor of shape (n_labs,), default=None
        How much sooner than others a lab is hidden, positive; None treats all alike.

    Returns
    -------
    visible, hidden : LabBatch
        The two parts, each packed to the left.
    """
    n_measured = batch.measured.sum(dim=1)
    n_hidden = (ratio * n_measured).round().long()
    n_hidden = n_hidden.clamp(min=1).minimum((n_measured - 1).clamp(min=1)).minimum(n_measured)
    n_visible = n_measured - n_hidden

    noise = torch.rand(batch.lab.shape, generator=generator).to(batch.value.device)
    if weight is not None:
        # the largest of u^(1/w) go first, so cells are drawn with chances in ratio to w
        # (Efraimidis and Spirakis 2006)
        noise = noise ** (1.0 / weight[batch.lab])
    order = noise.masked_fill(~batch.measured, 2.0).argsort(dim=1)  # padding goes last
    shuffled = batch.take(order)
    position = torch.arange(batch.lab.shape[1], device=order.device)[None]

    visible = shuffled._replace(measured=position < n_visible[:, None])
    width = int(n_visible.max()) if len(n_visible) else 0
    visible = LabBatch(*(part[:, :width] for part in visible))

    hidden_order = (position + n_visible[:, None]).clamp(max=batch.lab.shape[1] - 1)
    hidden = shuffled.take(hidden_order)._replace(measured=position < n_hidden[:, None])
    width = int(n_hidden.max()) if len(n_hidden) else 0
    return visible, LabBatch(*(part[:, :width] for part in hidden))
