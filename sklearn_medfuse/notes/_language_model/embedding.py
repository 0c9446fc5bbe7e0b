"""From notes to the vectors of their windows, one bounded block of notes at a time.

While the model runs, a thread looks up the next block in the cache and tokenises it: tokenizers
work outside Python's lock. No more than two blocks are in memory, however many notes there are.
"""

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import joblib
import numpy as np
import torch

from ..._training import Announcement, FittingRows
from .backbone import load_backbone
from .cache import KEY_BYTES, VectorCache
from .source import ModelSpec
from .windows import Windows

# A block ends with the note that reaches one of these: enough to sort windows by length
_BLOCK_NOTES = 2048
_BLOCK_CHARACTERS = 4_000_000
_LENGTH = np.dtype("<u4")


class Block(NamedTuple):
    """Windows of `size` consecutive notes, the first of which is number `start`."""

    start: int
    size: int
    # The note of each window, counted from `start`, and its number of tokens without special ones
    note: np.ndarray
    lengths: np.ndarray
    # Tokens of each note; those shared by two windows count once
    n_tokens: np.ndarray
    # Of each window, in the cache
    keys: list[bytes]
    # Vectors found in the cache, and tokens of the other windows
    found: dict[bytes, bytes]
    missing: dict[bytes, list[int]]


class _Piece(NamedTuple):
    """How a piece of text is cut: its tokens, and the length and cache key of each window."""

    n_tokens: int
    lengths: np.ndarray
    keys: list[bytes]

    def to_bytes(self) -> bytes:
        head = np.array([self.n_tokens, len(self.keys)], dtype=_LENGTH).tobytes()
        return head + self.lengths.tobytes() + b"".join(self.keys)

    @classmethod
    def from_bytes(cls, value: bytes) -> "_Piece":
        n_tokens, n_windows = np.frombuffer(value, dtype=_LENGTH, count=2).tolist()
        lengths = np.frombuffer(value, dtype=_LENGTH, count=n_windows, offset=8)
        keys = value[8 + lengths.nbytes :]
        starts = range(0, len(keys), KEY_BYTES)
        return cls(n_tokens, lengths, [keys[i : i + KEY_BYTES] for i in starts])


class NoteEmbedder:
    """Embed notes window by window, each distinct window once.

    If the device runs out of memory, batches of `batch_tokens` are halved; the backbone remembers
    the size that fits.
    """

    def __init__(
        self,
        spec: ModelSpec,
        windows: Windows,
        *,
        pooling: str,
        batch_tokens: int,
        cache: VectorCache,
        n_jobs: int | None = None,
    ):
        self.spec, self.windows, self.cache, self.n_jobs = spec, windows, cache, n_jobs
        self.backbone = load_backbone(spec)
        self._how = (pooling, windows.prompt_length)
        self._asked_tokens = batch_tokens
        self._fitting = FittingRows(
            self.backbone.device,
            "Batches of batch_tokens={asked} do not fit into the memory of device={device}; "
            "batches of {size} tokens are used instead, with the same result. Set batch_tokens to "
            "that.",
            "lower max_length, take a smaller model or dtype='bfloat16', or use device='cpu'",
            unit="window",
        )
        self._context = self.backbone.context(self._how)
        cut = (windows.size, windows.stride, windows.prompt)
        self._cut_context = str(cut).encode() + self._context

    def embed(self, texts: list[str | None], bar) -> Iterator[tuple[Block, np.ndarray]]:
        """Yield blocks of notes with float32 vectors (n_windows, hidden_size) and update `bar`."""
        sizes = [len(text or "") for text in texts]
        later = sum(sizes)
        announcement = Announcement(bar)
        for block in self._blocks(texts, with_vectors=True):
            characters = sum(sizes[block.start : block.start + block.size])
            later -= characters
            bar.total += len(block.keys)
            # The estimate assumes that later blocks are like this one
            vectors = self._complete(block, later / max(1, characters), bar, announcement)
            bar.update(len(block.keys) - len(block.missing))
            rows = np.frombuffer(b"".join(vectors[key] for key in block.keys), dtype=np.float32)
            yield block, rows.reshape(len(block.keys), self.backbone.hidden_size)
        self._fitting.warn()

    def count(self, texts: list[str | None]) -> tuple[np.ndarray, np.ndarray]:
        """Windows and tokens of each note, both int64 of shape (n_notes,)."""
        blocks = list(self._blocks(texts, with_vectors=False))
        n_windows = [np.bincount(block.note, minlength=block.size) for block in blocks]
        return np.concatenate(n_windows), np.concatenate([block.n_tokens for block in blocks])

    def _blocks(self, texts, with_vectors: bool) -> Iterator[Block]:
        """Prepare each block while the caller works on the one before."""
        with ThreadPoolExecutor(1, "sklearn-medfuse-tokenize") as thread:
            waiting = None
            for start, size in blocks_of_notes(texts):
                block = texts[start : start + size]
                following = thread.submit(self._prepare, start, block, with_vectors)
                if waiting is not None:
                    yield waiting.result()
                waiting = following
            if waiting is not None:
                yield waiting.result()

    def _prepare(self, start: int, notes, with_vectors: bool) -> Block:
        texts, note_of = self.windows.split(notes)
        text_keys = [self.cache.key(self._cut_context, text.encode()) for text in texts]
        text_of = dict(zip(text_keys, texts, strict=True))
        held = self.cache.get_many(text_of)
        known = {key: _Piece.from_bytes(value) for key, value in held.items()}
        vectors: dict[bytes, bytes] = {}
        if with_vectors:
            vectors = self.cache.get_many({k: None for p in known.values() for k in p.keys})
        incomplete = {
            key: text
            for key, text in text_of.items()
            if key not in known or (with_vectors and not vectors.keys() >= set(known[key].keys))
        }
        tokens = self._cut(incomplete, known)
        missing: dict[bytes, list[int]] = {}
        if with_vectors:
            vectors |= self.cache.get_many([key for key in tokens if key not in vectors])
            missing = {key: window for key, window in tokens.items() if key not in vectors}
        pieces = [known[key] for key in text_keys]
        note = np.repeat(note_of, np.array([len(piece.keys) for piece in pieces], dtype=np.int64))
        lengths = np.concatenate([np.array([], dtype=_LENGTH), *(p.lengths for p in pieces)])
        n_tokens = np.zeros(len(notes), dtype=np.int64)
        np.add.at(n_tokens, note_of, np.array([p.n_tokens for p in pieces], dtype=np.int64))
        keys = [key for piece in pieces for key in piece.keys]
        return Block(
            start, len(notes), note, lengths.astype(np.int64), n_tokens, keys, vectors, missing
        )

    def _cut(self, texts: dict[bytes, str], known: dict[bytes, _Piece]) -> dict[bytes, list[int]]:
        """Tokenise and cut texts; note in `known` and in the cache how they are cut."""
        tokens = {}
        new = {}
        for text_key, windows in zip(texts, self.windows.cut(list(texts.values())), strict=True):
            keys = []
            for window in windows:
                content = np.asarray(window.ids, dtype=_LENGTH).tobytes()
                keys.append(self.cache.key(self._context, content))
                tokens[keys[-1]] = window.ids
            lengths = np.array([window.length for window in windows], dtype=_LENGTH)
            new[text_key] = _Piece(self._n_tokens(windows), lengths, keys)
        known |= new
        self.cache.put_many({key: piece.to_bytes() for key, piece in new.items()})
        return tokens

    def _n_tokens(self, windows: list) -> int:
        """Tokens of a text, of which neighbouring windows share some."""
        shared = self.windows.stride * max(0, len(windows) - 1)
        return sum(window.length for window in windows) - shared

    def _complete(
        self, block: Block, blocks_later: float, bar, announcement: Announcement
    ) -> dict[bytes, bytes]:
        """Vectors of a block's windows; compute those that the cache lacked."""
        # The block before may have embedded the same windows in the meantime
        vectors = block.found | self.cache.get_many(block.missing)
        missing = {key: window for key, window in block.missing.items() if key not in vectors}
        bar.update(len(block.missing) - len(missing))
        n_tokens, n_done = sum(map(len, missing.values())), 0
        in_all = len(missing) * (1 + blocks_later), n_tokens * (1 + blocks_later)
        announcement.begin("Embedding {:,.0f} windows of notes, {:,.0f} tokens".format(*in_all))
        for keys, found in self._embed_windows(missing):
            new = {key: row.tobytes() for key, row in zip(keys, found, strict=True)}
            self.cache.put_many(new)
            vectors |= new
            bar.update(len(keys))
            n_done += sum(len(missing[key]) for key in keys)
            announcement.update(n_done / in_all[1])
        return vectors

    def _embed_windows(
        self, windows: dict[bytes, list[int]]
    ) -> Iterator[tuple[list[bytes], np.ndarray]]:
        """Yield keys and vectors of the windows of each batch, in batches that fit into memory."""
        left = dict(windows)
        while left:
            keys = list(left)
            batches = self.backbone.batches(list(left.values()), self._batch_tokens)
            parts = [[left[keys[i]] for i in batch] for batch in batches]
            try:
                for number, vectors in self._run(parts):
                    done = [keys[i] for i in batches[number]]
                    for key in done:
                        del left[key]
                    yield done, vectors
                continue
            except torch.OutOfMemoryError:
                # Results of the failed batch stay in memory until this clause ends
                pass
            self._halve(parts)

    @property
    def _batch_tokens(self) -> int:
        return min(self._asked_tokens, self.backbone.fitting_tokens or self._asked_tokens)

    def _halve(self, parts: list[list[list[int]]]) -> None:
        """From now on, run half of the largest of these batches, which did not fit."""
        if all(len(part) == 1 for part in parts):
            largest = 1
        else:
            widths = ([self.backbone.padded_width(len(row)) for row in part] for part in parts)
            largest = max(2, min(self._batch_tokens, max(map(sum, widths))))
        self.backbone.fitting_tokens = self._fitting.halve(largest, self._asked_tokens)

    def _run(self, parts: list[list[list[int]]]) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the position and vectors of each batch, in any order; workers are processes."""
        n_workers = 1 if in_dask_task() else joblib.effective_n_jobs(self.n_jobs)
        n_workers = min(n_workers, len(parts))
        if n_workers > 1 and self.backbone.device.type == "cpu":
            job = joblib.delayed(_embed_numbered)
            jobs = (job(self.spec, self._how, i, part) for i, part in enumerate(parts))
            yield from joblib.Parallel(n_workers, return_as="generator_unordered")(jobs)
            return
        for i, part in enumerate(parts):
            yield i, self.backbone.embed(part, self._how)


def blocks_of_notes(texts: list[str | None]) -> Iterator[tuple[int, int]]:
    """Yield (first note, number of notes) of blocks of bounded notes and characters."""
    start = characters = 0
    for i, text in enumerate(texts):
        characters += len(text or "")
        if i + 1 - start == _BLOCK_NOTES or characters >= _BLOCK_CHARACTERS or i + 1 == len(texts):
            yield start, i + 1 - start
            start, characters = i + 1, 0


def in_dask_task() -> bool:
    """Whether this is a Dask task, whose batches joblib would submit as tasks to wait for."""
    distributed = sys.modules.get("distributed")
    if distributed is None:
        return False
    try:
        distributed.get_worker()
    except ValueError:
        return False
    return True


def _embed_numbered(spec: ModelSpec, how: tuple, i: int, part: list[list[int]]) -> tuple:
    return i, load_backbone(spec).embed(part, how)
