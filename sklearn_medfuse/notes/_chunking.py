"""Cut token sequences into windows that overlap, so that no token is lost."""

import math
import re
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

# a tokenizer takes some hundred bytes per character for the time that it runs: characters of a text
# and of a call
_TEXT_CHARACTERS = 100_000
_CALL_CHARACTERS = 4_000_000


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


def split_notes(texts: list[str | None], split_on: str | None) -> tuple[list[str], np.ndarray]:
    """Split notes into pieces; a missing note and a blank piece give none.

    Returns
    -------
    pieces : list of str
        Pieces of all notes in order.
    note : int64 array of shape (n_pieces,)
        The note of each piece.

    Examples
    --------
    >>> split_notes(["Past history: COPD.\\n\\nExam: normal.", None], "\\n\\n")[0]
    ['Past history: COPD.', 'Exam: normal.']
    """
    pieces, note = [], []
    for position, text in enumerate(texts):
        if text is None:
            continue
        for piece in text.split(split_on) if split_on else [text]:
            if piece.strip():
                pieces.append(piece)
                note.append(position)
    return pieces, np.array(note, dtype=np.int64)


def tokenize_in_parts(
    tokenize: Callable[[list[str]], list[list[int]]], texts: list[str]
) -> list[list[int]]:
    """Token ids of each text, in bounded memory beside them, however long a text is.

    Parameters
    ----------
    tokenize : callable
        Gives the token ids of each of some texts.
    texts : list of str
        Texts of any length.

    Returns
    -------
    list of list of int
        Token ids of each text.

    Examples
    --------
    >>> tokenize_in_parts(lambda texts: [[len(text)] for text in texts], ["ab", "c" * 150_000])
    [[2], [100000, 50000]]
    """
    parts = [(i, part) for i, text in enumerate(texts) for part in cut_text(text, _TEXT_CHARACTERS)]
    ids: list[list[int]] = [[] for _ in texts]
    start = characters = 0
    for stop, (_, part) in enumerate(parts, start=1):
        characters += len(part)
        if characters >= _CALL_CHARACTERS or stop == len(parts):
            found = tokenize([part for _, part in parts[start:stop]])
            for (i, _), tokens in zip(parts[start:stop], found, strict=True):
                ids[i] += tokens
            start, characters = stop, 0
    return ids


def cut_text(text: str, size: int) -> list[str]:
    """Cut a very long text before blanks, or anywhere where there are none; nothing is lost.

    Examples
    --------
    >>> cut_text("aa bb cc", 6)
    ['aa bb', ' cc']
    """
    parts = []
    while len(text) > size:
        blanks = [found.start() for found in re.finditer(r"\s", text[1:size])]
        stop = blanks[-1] + 1 if blanks else size
        parts.append(text[:stop])
        text = text[stop:]
    return [*parts, text]


def chunk_tokens(
    token_ids: list[list[int]], note_of: np.ndarray, window: int, stride: int
) -> Chunks:
    """Cut the token ids of each piece into chunks; a piece without tokens has none."""
    tokens, note = [], []
    for ids, position in zip(token_ids, note_of, strict=True):
        if ids:
            for start, stop in window_starts(len(ids), window, stride):
                tokens.append(ids[start:stop])
                note.append(position)
    return Chunks(tokens, np.array(note, dtype=np.int64))


def budget_batches(widths: np.ndarray, batch_tokens: int) -> list[np.ndarray]:
    """Group chunks of one padded width so that no batch exceeds the budget.

    Parameters
    ----------
    widths : int array of shape (n_chunks,)
        Tokens of each chunk with its padding.
    batch_tokens : int
        Tokens per batch at most; a single longer chunk still forms a batch.

    Returns
    -------
    list of int arrays
        Positions of the chunks of each batch, widest first: too little memory shows at once.
    """
    batches = []
    for width in np.unique(widths)[::-1]:
        positions = np.flatnonzero(widths == width)
        size = max(1, batch_tokens // int(width))
        batches += np.split(positions, range(size, len(positions), size))
    return batches


def packed_batches(lengths: np.ndarray, batch_tokens: int) -> list[np.ndarray]:
    """Group chunks of any length, longest first, so that no batch exceeds the budget.

    Parameters
    ----------
    lengths : int array of shape (n_chunks,)
        Tokens of each chunk.
    batch_tokens : int
        Tokens per batch at most; a single longer chunk still forms a batch.

    Returns
    -------
    list of int arrays
        Positions of the chunks of each batch.

    Examples
    --------
    >>> [batch.tolist() for batch in packed_batches(np.array([3, 9, 4, 3]), 9)]
    [[1], [2, 0], [3]]
    """
    order = np.argsort(-lengths, kind="stable")
    batches, start, tokens = [], 0, 0
    for end, position in enumerate(order):
        if end > start and tokens + lengths[position] > batch_tokens:
            batches.append(order[start:end])
            start, tokens = end, 0
        tokens += lengths[position]
    return [*batches, order[start:]] if len(order) else []
