"""Cut notes into windows of tokens that overlap, so that no token is lost."""

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

# A tokenizer needs some hundred bytes per character: most characters of a text, and of a call
_TEXT_CHARACTERS = 100_000
_CALL_CHARACTERS = 4_000_000


class Window(NamedTuple):
    """A window's tokens, including those of the prompt but not the special ones."""

    ids: list[int]
    # Tokens of the text
    length: int
    # Where each token begins and ends in the text; None for tokens of the prompt
    places: list[tuple[int, int] | None] | None


class Windows:
    """How notes become windows of tokens.

    A note is split at `split_on`. Each piece is tokenised in full and cut into as few windows of
    even length as cover it; neighbouring windows share `stride` tokens. The model's special tokens
    and the prompt are put around every window and leave `size` tokens for it. The prompt is
    tokenised together with the window's text, as when the model was trained.
    """

    def __init__(
        self,
        tokenizer,
        longest: int,
        *,
        max_positions: int | None = None,
        max_length: int | None,
        stride: int,
        split_on: str | None,
        prompt: str | None,
    ):
        if max_positions is not None and (max_length or 0) > max_positions:
            raise ValueError(
                f"max_length={max_length} is more than the {max_positions} positions of the model; "
                "lower it, or use None."
            )
        self.tokenizer, self.stride, self.split_on = tokenizer, stride, split_on
        self.prefix, self.suffix, *_ = special_tokens(tokenizer)
        # Without "{text}" the whole prompt comes before the window
        self.prompt = (prompt or "").partition("{text}")[::2]
        self._around = [tokenize(tokenizer, [text])[0] if text else [] for text in self.prompt]
        special, of_prompt = len(self.prefix) + len(self.suffix), sum(map(len, self._around))
        # Tokens before the text; a model may leave those of the prompt out of its pooling
        self.prompt_length = len(self.prefix) + len(self._around[0]) if self.prompt[0] else 0
        self.size = (max_length or longest) - special - of_prompt
        if self.size <= stride:
            raise ValueError(
                f"max_length={max_length} leaves {self.size} tokens per window besides {special} "
                f"special tokens and {of_prompt} of the prompt, which is not more than "
                f"stride={stride}; raise max_length or lower stride, or check the settings in the "
                "model's files."
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

    def cut(self, texts: list[str], with_places: bool = False) -> list[list[Window]]:
        """Windows of each text; a text without tokens has none."""
        has_prompt = any(self.prompt)
        found = self._tokens(texts, with_places or (has_prompt and self.tokenizer.is_fast))
        cut: list[list[Window]] = []
        for ids, places in found:
            bounds = window_bounds(len(ids), self.size, self.stride)
            cut.append(
                [
                    Window(ids[start:stop], stop - start, places and places[start:stop])
                    for start, stop in bounds
                ]
            )
        if has_prompt:
            cut = self._with_prompt(texts, cut, with_places)
        return cut

    def _with_prompt(self, texts, cut: list[list[Window]], with_places) -> list[list[Window]]:
        """The same windows with the prompt, which is tokenised together with their text."""
        before, after = self.prompt
        starts, whole = [], []
        for text, windows in zip(texts, cut, strict=True):
            for window in windows:
                places: Any = window.places
                # Without places, the text is known only if there is a single window
                start, stop = (places[0][0], places[-1][1]) if places else (0, len(text))
                if len(windows) == 1:
                    start, stop = 0, len(text)
                starts.append(start if places or len(windows) == 1 else None)
                whole.append(before + text[start:stop] + after)
        joint = iter(zip(starts, whole, self._tokens(whole, with_places), strict=True))
        return [[self._joined(window, *next(joint)) for window in windows] for windows in cut]

    def _joined(self, window: Window, start: int | None, whole: str, tokens: tuple) -> Window:
        ids, places = tokens
        if start is None or len(ids) > self.size + sum(map(len, self._around)):
            # A text that begins inside a word may need more tokens than there is room for
            first, last = self._around
            own = window.places and [*[None] * len(first), *window.places, *[None] * len(last)]
            return Window([*first, *window.ids, *last], window.length, own)
        begin, end = len(self.prompt[0]), len(whole) - len(self.prompt[1])
        own = places and [
            (max(a, begin) - begin + start, min(b, end) - begin + start)
            if b > begin and a < end
            else None
            for a, b in places
        ]
        return Window(ids, window.length, own)

    def _tokens(self, texts: list[str], with_places: bool) -> list[tuple[list[int], list | None]]:
        """Token ids and places of each text, in bounded memory however long a text is."""
        parts = [(i, part) for i, text in enumerate(texts) for part in cut_text(text)]
        ids: list[list[int]] = [[] for _ in texts]
        places: list[list] = [[] for _ in texts]
        done = [0] * len(texts)
        start = characters = 0
        for stop, (_, part) in enumerate(parts, start=1):
            characters += len(part)
            if characters >= _CALL_CHARACTERS or stop == len(parts):
                called = parts[start:stop]
                contents = [part for _, part in called]
                if with_places:
                    found, at = tokenize_with_places(self.tokenizer, contents)
                else:
                    found, at = tokenize(self.tokenizer, contents), [[] for _ in called]
                for n, (i, part) in enumerate(called):
                    ids[i] += found[n]
                    places[i] += [(a + done[i], b + done[i]) for a, b in at[n]]
                    done[i] += len(part)
                start, characters = stop, 0
        return [(found, at if with_places else None) for found, at in zip(ids, places, strict=True)]


def window_bounds(n_tokens: int, size: int, stride: int) -> list[tuple[int, int]]:
    """Cut n_tokens into as few windows as cover them, of even length: no scrap is left."""
    if n_tokens <= size:
        return [(0, n_tokens)] if n_tokens else []
    n_windows = math.ceil((n_tokens - stride) / (size - stride))
    step = (n_tokens - stride) / n_windows
    starts = [round(i * step) for i in range(n_windows)]
    stops = [start + stride for start in starts[1:]] + [n_tokens]
    return list(zip(starts, stops, strict=True))


def cut_text(text: str, size: int = _TEXT_CHARACTERS) -> list[str]:
    """Cut a very long text before blanks, or anywhere if there are none; nothing is lost."""
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


def tokenize_with_places(tokenizer, texts: list[str]) -> tuple[list[list[int]], list[list]]:
    """Token ids of each text, and where each token begins and ends."""
    with no_panic():
        encoded = tokenizer(
            texts, add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )
    return encoded["input_ids"], encoded["offset_mapping"]


class SpecialTokens(NamedTuple):
    """Token ids that a tokenizer puts before and after a text."""

    before: list[int]
    after: list[int]
    # Their types, if the tokenizer has types; tokens of the text have `type`
    types_before: list[int] | None = None
    types_after: list[int] | None = None
    type: int = 0


def special_tokens(tokenizer) -> SpecialTokens:
    """Find out what the tokenizer puts around a text."""
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a")
    full, types = whole["input_ids"], whole.get("token_type_ids")
    for start in range(len(full) - len(bare) + 1):
        stop = start + len(bare)
        if full[start:stop] == bare:
            if types is None:
                return SpecialTokens(full[:start], full[stop:])
            own = types[start] if bare else 0
            return SpecialTokens(full[:start], full[stop:], types[:start], types[stop:], own)
    return SpecialTokens([], [])


def budget_batches(widths: np.ndarray, batch_tokens: int) -> list[np.ndarray]:
    """Positions of windows in batches of one width within the budget, or of one window.

    The widest come first, so that too little memory shows at once.
    """
    batches = []
    for width in np.unique(widths)[::-1]:
        positions = np.flatnonzero(widths == width)
        size = max(1, batch_tokens // int(width))
        batches += np.split(positions, range(size, len(positions), size))
    return batches


def packed_batches(lengths: np.ndarray, batch_tokens: int) -> list[np.ndarray]:
    """Positions of windows of any length, longest first, in batches within the budget."""
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
    """Raise a ValueError if a damaged tokenizer panics, which is not an Exception."""
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
    else:
        return
    # Not chained, as the error may quote the text
    raise ValueError(
        "The model's tokenizer failed: one of its files is damaged. Get the files again."
    ) from None
