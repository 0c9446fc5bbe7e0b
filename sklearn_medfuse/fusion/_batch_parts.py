"""A batch of training in parts that fit into the device's memory."""

from typing import NamedTuple

from torch import Tensor

from .._device_memory import FittingRows


class BatchPart(NamedTuple):
    """Some rows of a batch.

    Attributes
    ----------
    blocks : list of Tensor of shape (n, width)
        The modalities.
    X : dict of str to Tensor
        What else there is of each row: "present", "row_weight" and "cell_weight".
    y : Tensor of shape (n, n_outputs)
        Targets.
    share : float
        Share of the batch's rows, by which a mean over rows counts.
    weight_share : float or Tensor
        Share of the weight of the batch's rows, by which a weighted mean counts.
    """

    blocks: list[Tensor]
    X: dict[str, Tensor]
    y: Tensor
    share: float
    weight_share: Tensor | float


def divide(blocks: list[Tensor], X: dict[str, Tensor], y: Tensor, size: int) -> list[BatchPart]:
    """Divide a batch into parts of `size` rows at most; the batch itself where it is no larger."""
    if size >= len(y):
        return [BatchPart(blocks, X, y, 1.0, 1.0)]
    weight = X["row_weight"]
    return [
        BatchPart(
            [block[rows] for block in blocks],
            {name: tensor[rows] for name, tensor in X.items()},
            y[rows],
            len(y[rows]) / len(y),
            weight[rows].sum() / weight.sum(),
        )
        for rows in FittingRows.slices(len(y), size)
    ]
