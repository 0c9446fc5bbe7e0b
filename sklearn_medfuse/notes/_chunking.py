"""Cut token sequences into windows that overlap, so that no token is lost."""

import math
from typing import NamedTuple

import numpy as np


class Chunks(NamedTuple):
    """Windows of tokens of several notes.

    Attributes
    ----------
    tokens : list of list of int
        Token ids of each chunk, special tokens not included.
    note : int64 array of shape (n_chunks,)
        The note of each chunk.
    """

    tokens: list[list[int]]
    note: np.ndarray


def window_starts(n_tokens: int, window: int, stride: int) -> list[tuple[int, int]]:
    """Cut n_tokens into as few windows as cover them, of even length.

    Even windows leave no scrap of a few tokens at the end, which would count as much as a full
    window when chunks are averaged.

    Parameters
    ----------
    n_tokens : int
        Length of the sequence.
    window : int
        Longest window.
    stride : int
        Tokens that neighbouring windows share; less than `window`.

    Returns
    -------
    list of (start, stop)
        Windows in order; the first starts at 0, the last stops at n_tokens.

    Examples
    --------
    >>> window_starts(10, window=6, stride=2)
    [(0, 6), (4, 10)]
    >>> window_starts(5, window=6, stride=2)
    [(0, 5)]
    """
    if n_tokens <= window:
        return [(0, n_tokens)]
    n_windows = math.ceil((n_tokens - stride) / (window - stride))
    step = (n_tokens - stride) / n_windows
    starts = [round(i * step) for i in range(n_windows)]
    stops = [start + stride for start in starts[1:]] + [n_tokens]
    return list(zip(starts, stops, strict=True))


def chunk_notes(token_ids: list[list[int]], window: int, stride: int) -> Chunks:
    """Cut the token ids of each note into chunks; a note without tokens has none."""
    tokens, note = [], []
    for position, ids in enumerate(token_ids):
        if not ids:
            continue
        for start, stop in window_starts(len(ids), window, stride):
            tokens.append(ids[start:stop])
            note.append(position)
    return Chunks(tokens, np.array(note, dtype=np.int64))


def budget_batches(lengths: np.ndarray, batch_tokens: int) -> list[np.ndarray]:
    """Group chunks of like length so that no batch, padding included, exceeds the budget.

    Parameters
    ----------
    lengths : int array of shape (n_chunks,)
        Tokens of each chunk.
    batch_tokens : int
        Tokens per batch at most; a single longer chunk still forms a batch.

    Returns
    -------
    list of int arrays
        Positions of the chunks of each batch, longest first: too little memory shows at once.
    """
    order = np.argsort(-lengths, kind="stable")
    batches = []
    start = 0
    while start < len(order):
        size = max(1, batch_tokens // int(lengths[order[start]]))
        batches.append(order[start : start + size])
        start += size
    return batches
