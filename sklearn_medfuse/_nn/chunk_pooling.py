"""Pooling: token states to one vector per chunk, chunks to one vector per note."""

import torch
from torch import Tensor, nn

from .attention import masked_mean


def pool_tokens(states: Tensor, visible: Tensor | None, how: str) -> Tensor:
    """Pool token states (n, k, d), padded on the right, into one vector per chunk (n, d).

    `visible` (n, k) is False in the padding, or None if there is none; each row has at least one
    True. `how` is "mean" of the visible tokens, "cls" (the first one) or "last" (the last visible).

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
    """Pool chunks (n_chunks, d) of notes (n_chunks,) into vectors (n_notes, d), NaN without chunks.

    NOTE[DIFF] (pooling): the paper pools the last layer's states of one text, however long.

    `how` is "mean", "max" (element-wise) or "weighted" (by `weight`, the chunks' token counts).

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
        start = torch.full(
            (n_notes, chunks.shape[1]), torch.nan, dtype=chunks.dtype, device=chunks.device
        )
        return start.scatter_reduce(0, index, chunks, "amax", include_self=False)
    share = weight if how == "weighted" else torch.ones_like(weight)
    total = torch.zeros(n_notes, dtype=chunks.dtype, device=chunks.device).index_add(0, note, share)
    summed = total.new_zeros(n_notes, chunks.shape[1])
    return summed.index_add(0, note, chunks * share[:, None]) / total[:, None]


class ChunkAttention(nn.Module):
    """Mean over a note's chunks with learned weights (Ilse et al. 2018, equation 8).

    The weight of chunk h_k, a vector of `width`, is the softmax over the note of wᵀ tanh(V h_k); V
    has `hidden` rows. w starts at zero, which gives the plain mean.

    Examples
    --------
    >>> import torch
    >>> attention = ChunkAttention(1, 4)
    >>> chunks, note = torch.tensor([[1.0], [3.0], [5.0]]), torch.tensor([0, 0, 2])
    >>> attention(chunks, note, 3)[:, 0].tolist()
    [2.0, nan, 5.0]
    """

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.hidden = nn.Linear(width, hidden)
        self.score = nn.Linear(hidden, 1, bias=False)
        nn.init.zeros_(self.score.weight)

    def forward(self, chunks: Tensor, note: Tensor, n_notes: int) -> Tensor:
        """Pool chunks (n_chunks, d) of notes (n_chunks,) to (n_notes, d); NaN without chunks."""
        score = self.score(torch.tanh(self.hidden(chunks)))[:, 0]
        # Subtracting each note's largest score keeps exp from overflowing
        highest = score.new_zeros(n_notes).scatter_reduce(
            0, note, score.detach(), "amax", include_self=False
        )
        return pool_chunks(chunks, note, n_notes, torch.exp(score - highest[note]), "weighted")
