"""Cut notes into windows of tokens that overlap, so that no token is lost."""

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

# A tokenizer takes some hundred bytes per character while it runs: characters of a text and a call
_TEXT_CHARACTERS = 100_000
_CALL_CHARACTERS = 4_000_000


class Windows:
    """How notes become windows of tokens.

    A note is split at `split_on`; each piece is tokenised in full and cut into as few even windows
    as cover it, of which neighbours share `stride` tokens. The model's special tokens and the
    prompt stand around every window, `before` and `after` it, and leave it `size` tokens.
    """

    def __init__(
        self,
        tokenizer,
        longest: int,
        *,
        max_length: int | None,
        stride: int,
        split_on: str | None,
        prompt: str | None,
    ):
        self.tokenizer, self.stride, self.split_on = tokenizer, stride, split_on
        prefix, suffix = special_tokens(tokenizer)
        # Without "{text}" all of the prompt stands before the window
        around = (prompt or "").partition("{text}")[::2]
        self.prompt = tuple(tokenize(tokenizer, [text])[0] if text else [] for text in around)
        self.before, self.after = [*prefix, *self.prompt[0]], [*self.prompt[1], *suffix]
        self.size = (max_length or longest) - len(self.before) - len(self.after)
        if self.size <= stride:
            special = len(prefix) + len(suffix)
            raise ValueError(
                f"max_length={max_length} leaves {self.size} tokens per window besides {special} "
                f"special ones and {sum(map(len, self.prompt))} of the prompt, not more than "
                f"stride={stride}; raise max_length or lower stride, or look at the settings in "
                "the model's files."
            )

    def split(self, texts: list[str | None]) -> tuple[list[str], np.ndarray]:
        """Pieces of all notes in order, and the note of each."""
        found = [(i, piece) for i, text in enumerate(texts) for _, piece in self.pieces(text or "")]
        return [piece for _, piece in found], np.array([i for i, _ in found], dtype=np.int64)

    def pieces(self, text: str) -> Iterator[tuple[int, str]]:
        """Where each piece of a note begins, and the piece; blank ones are left out."""
        start = 0
        for piece in text.split(self.split_on) if self.split_on else [text]:
            if piece.strip():
                yield start, piece
            start += len(piece) + len(self.split_on or "")

    def token_ids(self, texts: list[str]) -> list[list[int]]:
        """Token ids of each text, in bounded memory beside them, however long a text is."""
        parts = [(i, part) for i, text in enumerate(texts) for part in cut_text(text)]
        ids: list[list[int]] = [[] for _ in texts]
        start = characters = 0
        for stop, (_, part) in enumerate(parts, start=1):
            characters += len(part)
            if characters >= _CALL_CHARACTERS or stop == len(parts):
                found = tokenize(self.tokenizer, [part for _, part in parts[start:stop]])
                for (i, _), tokens in zip(parts[start:stop], found, strict=True):
                    ids[i] += tokens
                start, characters = stop, 0
        return ids

    def cut(self, ids: list) -> list[list]:
        """Windows of a sequence of tokens; none without tokens."""
        return [ids[start:stop] for start, stop in window_bounds(len(ids), self.size, self.stride)]


def window_bounds(n_tokens: int, size: int, stride: int) -> list[tuple[int, int]]:
    """Cut n_tokens into as few windows as cover them, of even length: no scrap is left.

    >>> window_bounds(10, size=6, stride=2)
    [(0, 6), (4, 10)]
    >>> window_bounds(5, size=6, stride=2)
    [(0, 5)]
    """
    if n_tokens <= size:
        return [(0, n_tokens)] if n_tokens else []
    n_windows = math.ceil((n_tokens - stride) / (size - stride))
    step = (n_tokens - stride) / n_windows
    starts = [round(i * step) for i in range(n_windows)]
    stops = [start + stride for start in starts[1:]] + [n_tokens]
    return list(zip(starts, stops, strict=True))


def cut_text(text: str, size: int = _TEXT_CHARACTERS) -> list[str]:
    """Cut a very long text before blanks, or anywhere where there are none; nothing is lost.

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


def tokenize(tokenizer, texts: list[str]) -> list[list[int]]:
    """Token ids of each text in full, without special tokens."""
    with no_panic():
        encoded = tokenizer(
            texts, add_special_tokens=False, return_attention_mask=False, verbose=False
        )
    return encoded["input_ids"]


def special_tokens(tokenizer) -> tuple[list[int], list[int]]:
    """Ids that the tokenizer puts before and after a text, found by a probe."""
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    full = tokenizer("a")["input_ids"]
    for start in range(len(full) - len(bare) + 1):
        if full[start : start + len(bare)] == bare:
            return full[:start], full[start + len(bare) :]
    return [], []


def budget_batches(widths: np.ndarray, batch_tokens: int) -> list[np.ndarray]:
    """Positions of windows in batches of one width, at least one window, within the budget.

    The widest come first: too little memory shows at once.
    """
    batches = []
    for width in np.unique(widths)[::-1]:
        positions = np.flatnonzero(widths == width)
        size = max(1, batch_tokens // int(width))
        batches += np.split(positions, range(size, len(positions), size))
    return batches


def packed_batches(lengths: np.ndarray, batch_tokens: int) -> list[np.ndarray]:
    """Positions of windows of any length, longest first, in batches within the budget.

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


@contextmanager
def no_panic() -> Iterator[None]:
    """Raise a ValueError where a tokenizer of a damaged file breaks off, which is no Exception."""
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
    else:
        return
    # Not chained: the error may tell of the text
    raise ValueError(
        "The tokenizer of the model broke off: a file of it is damaged. Get the files again."
    ) from None
