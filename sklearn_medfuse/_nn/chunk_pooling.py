"""From token states to one vector per chunk, and from chunks to one vector per note."""

import torch
from torch import Tensor

from .attention import masked_mean


def pool_tokens(states: Tensor, visible: Tensor | None, how: str) -> Tensor:
    """Pool a chunk's token states into one vector.

    Parameters
    ----------
    states : Tensor of shape (n, k, d)
        Last hidden states, padded on the right.
    visible : bool Tensor of shape (n, k) or None
        False in the padding; at least one True per row. None where there is no padding.
    how : {"mean", "cls", "last"}
        Mean of the visible tokens, the first token, or the last visible one.

    Returns
    -------
    Tensor of shape (n, d)
        One vector per chunk.

    Examples
    --------
    >>> import torch
    >>> states = torch.tensor([[[1.0], [3.0], [100.0]]])
    >>> visible = torch.tensor([[True, True, False]])
    >>> [pool_tokens(states, visible, how).item() for how in ("mean", "cls", "last")]
    [2.0, 1.0, 3.0]
    """
    if how == "mean":
        return states.mean(dim=1) if visible is None else masked_mean(states, visible)
    if how == "cls":
        return states[:, 0]
    if visible is None:
        return states[:, -1]
    last = visible.sum(dim=1) - 1
    return states[torch.arange(len(states), device=states.device), last]


def pool_chunks(chunks: Tensor, note: Tensor, n_notes: int, weight: Tensor, how: str) -> Tensor:
    """Pool the vectors of a note's chunks into one.

    Parameters
    ----------
    chunks : Tensor of shape (n_chunks, d)
        One vector per chunk.
    note : int64 Tensor of shape (n_chunks,)
        The note of each chunk.
    n_notes : int
        Number of notes.
    weight : Tensor of shape (n_chunks,)
        Number of tokens of each chunk, used by "weighted".
    how : {"mean", "weighted", "max"}
        Mean over chunks, mean weighted by their tokens, or element-wise maximum.

    Returns
    -------
    Tensor of shape (n_notes, d)
        One vector per note; NaN for a note without chunks.

    Examples
    --------
    >>> import torch
    >>> chunks, note = torch.tensor([[1.0], [3.0], [5.0]]), torch.tensor([0, 0, 2])
    >>> tokens = torch.tensor([30.0, 10.0, 5.0])
    >>> pool_chunks(chunks, note, 3, tokens, "weighted")[:, 0].tolist()
    [1.5, nan, 5.0]
    """
    index = note[:, None].expand_as(chunks)
    if how == "max":
        start = torch.full((n_notes, chunks.shape[1]), torch.nan, dtype=chunks.dtype)
        return start.scatter_reduce(0, index, chunks, "amax", include_self=False)
    share = weight if how == "weighted" else torch.ones_like(weight)
    total = torch.zeros(n_notes, dtype=chunks.dtype).index_add(0, note, share)
    summed = torch.zeros(n_notes, chunks.shape[1], dtype=chunks.dtype)
    return summed.index_add(0, note, chunks * share[:, None]) / total[:, None]
