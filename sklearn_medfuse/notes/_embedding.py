"""From notes to the vectors of their chunks, a bounded block of notes at a time.

The next block is looked up in the cache and tokenised in a thread while the model runs: tokenizers
work outside Python's lock. No more than two blocks are held, however many notes there are.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch

from ._batch_budget import BatchBudget
from ._chunking import chunk_tokens, split_notes, tokenize_in_parts
from ._embedding_cache import KEY_BYTES, Cache, keyed_hash
from ._special_tokens import prompt_tokens
from ._workers import Recipe, embed_batches

# a block ends with the note that reaches one of these: enough to sort chunks by length
_BLOCK_NOTES = 2048
_BLOCK_CHARACTERS = 4_000_000
_LENGTH = np.dtype("<u4")


class EmbeddedBlock(NamedTuple):
    """Chunk vectors of consecutive notes.

    Attributes
    ----------
    start, size : int
        First note and number of notes.
    note : int64 array of shape (n_chunks,)
        The note of each chunk, counted from `start`.
    lengths : int64 array of shape (n_chunks,)
        Tokens of each chunk, special ones not counted.
    n_tokens : int64 array of shape (size,)
        Tokens of each note; those that two windows share count once.
    vectors : float32 array of shape (n_chunks, hidden_size)
        One vector per chunk.
    """

    start: int
    size: int
    note: np.ndarray
    lengths: np.ndarray
    n_tokens: np.ndarray
    vectors: np.ndarray


class _Piece(NamedTuple):
    """How a piece of text is cut: its tokens, and the length and cache key of each chunk."""

    n_tokens: int
    lengths: np.ndarray
    keys: list[bytes]


class _Prepared(NamedTuple):
    start: int
    size: int
    note_of: np.ndarray
    pieces: list[_Piece]
    vectors: dict[bytes, bytes]
    missing: dict[bytes, list[int]]


class NoteEmbedder:
    """Embed notes chunk by chunk, each distinct chunk once.

    Parameters
    ----------
    recipe : Recipe
        The model.
    pooling : str
        How token states become a chunk's vector.
    window, stride : int
        Tokens per chunk at most, and those that neighbours share.
    split_on : str or None
        No chunk reaches across this text.
    prompt : str
        Text before every chunk, or around it.
    batch_tokens : int
        Tokens per batch at most.
    cache : Cache
        What was embedded before.
    n_jobs : int or None
        Number of workers, see `embed_batches`.

    Attributes
    ----------
    n_compiled : int
        Chunks whose vectors a compiled model gave.
    """

    def __init__(
        self,
        recipe: Recipe,
        *,
        pooling: str,
        window: int,
        stride: int,
        split_on: str | None,
        prompt: str,
        batch_tokens: int,
        cache: Cache,
        n_jobs: int | None = None,
    ):
        self.recipe = recipe
        self.backbone = backbone = recipe.backbone()
        self.pooling = pooling
        self.window = window
        self.stride = stride
        self.split_on = split_on
        self.budget = BatchBudget(backbone, batch_tokens)
        self.cache = cache
        self.n_jobs = n_jobs
        self.n_compiled = 0
        self.prompt = prompt_tokens(backbone.tokenizer, prompt)
        self._context = backbone.context(pooling)
        self._cut = b"%d %d" % (window, stride) + str(self.prompt).encode() + self._context

    def embed(self, texts: list[str | None], bar) -> Iterator[EmbeddedBlock]:
        """Embed notes; `bar` is told of every chunk."""
        later = sum(len(text or "") for text in texts)
        for prepared in self._prepare(texts, with_vectors=True):
            block = texts[prepared.start : prepared.start + prepared.size]
            characters = sum(len(text or "") for text in block)
            later -= characters
            keys = [key for piece in prepared.pieces for key in piece.keys]
            bar.total += len(keys)
            # the blocks after this one are taken for like it
            vectors = self._complete(prepared, later / max(1, characters), bar)
            bar.update(len(keys) - len(prepared.missing))
            width = self.backbone.hidden_size
            rows = b"".join(vectors[key] for key in keys)
            yield EmbeddedBlock(
                prepared.start,
                prepared.size,
                *_counts(prepared),
                np.frombuffer(rows, dtype=np.float32).reshape(len(keys), width),
            )
        self.budget.warn()

    def count(self, texts: list[str | None]) -> tuple[np.ndarray, np.ndarray]:
        """Chunks and tokens of each note, both int64 of shape (n_notes,)."""
        n_chunks, n_tokens = [], []
        for prepared in self._prepare(texts, with_vectors=False):
            note, _, tokens = _counts(prepared)
            n_chunks.append(np.bincount(note, minlength=prepared.size))
            n_tokens.append(tokens)
        return np.concatenate(n_chunks), np.concatenate(n_tokens)

    def _prepare(self, texts, with_vectors: bool) -> Iterator[_Prepared]:
        """Prepare each block while the caller works on the one before."""
        with ThreadPoolExecutor(1, "sklearn-medfuse-tokenize") as thread:
            waiting = None
            for start, size in blocks_of_notes(texts):
                block = texts[start : start + size]
                following = thread.submit(self._prepare_block, start, block, with_vectors)
                if waiting is not None:
                    yield waiting.result()
                waiting = following
            if waiting is not None:
                yield waiting.result()

    def _prepare_block(self, start: int, block, with_vectors: bool) -> _Prepared:
        texts, note_of = split_notes(block, self.split_on)
        secret = self.cache.secret
        text_keys = [keyed_hash(secret, self._cut, text.encode()) for text in texts]
        text_of = dict(zip(text_keys, texts, strict=True))
        known = {key: _read_piece(value) for key, value in self.cache.get_many(text_of).items()}
        vectors: dict[bytes, bytes] = {}
        if with_vectors:
            vectors = self.cache.get_many({k: None for p in known.values() for k in p.keys})
        incomplete = [
            key
            for key in text_of
            if key not in known or (with_vectors and not vectors.keys() >= set(known[key].keys))
        ]
        tokens = self._cut_texts([text_of[key] for key in incomplete], incomplete, known)
        missing: dict[bytes, list[int]] = {}
        if with_vectors:
            vectors |= self.cache.get_many([key for key in tokens if key not in vectors])
            missing = {key: chunk for key, chunk in tokens.items() if key not in vectors}
        return _Prepared(
            start, len(block), note_of, [known[key] for key in text_keys], vectors, missing
        )

    def _cut_texts(self, texts, text_keys, known: dict[bytes, _Piece]) -> dict[bytes, list[int]]:
        """Tokenise and cut texts; put how they are cut into `known` and the cache."""
        ids = tokenize_in_parts(self.backbone.tokenize, texts)
        chunks = chunk_tokens(ids, np.arange(len(ids)), self.window, self.stride)
        keys_of: list[list[bytes]] = [[] for _ in ids]
        lengths_of: list[list[int]] = [[] for _ in ids]
        tokens = {}
        before, after = self.prompt
        for chunk, i in zip(chunks.tokens, chunks.note, strict=True):
            whole = [*before, *chunk, *after]
            content = np.asarray(whole, dtype=_LENGTH).tobytes()
            key = keyed_hash(self.cache.secret, self._context, content)
            keys_of[i].append(key)
            lengths_of[i].append(len(chunk))
            tokens[key] = whole
        new = {
            text_key: _Piece(len(ids[i]), np.array(lengths_of[i], dtype=_LENGTH), keys_of[i])
            for i, text_key in enumerate(text_keys)
        }
        known |= new
        self.cache.put_many({key: _write_piece(piece) for key, piece in new.items()})
        return tokens

    def _complete(self, prepared: _Prepared, blocks_later: float, bar) -> dict[bytes, bytes]:
        """Vectors of a block's chunks, those that the cache lacked computed."""
        # the block before may have embedded the same chunks since
        vectors = prepared.vectors | self.cache.get_many(prepared.missing)
        missing = {key: chunk for key, chunk in prepared.missing.items() if key not in vectors}
        bar.update(len(prepared.missing) - len(missing))
        for keys, found in self._embed_chunks(missing, blocks_later):
            new = {key: row.tobytes() for key, row in zip(keys, found, strict=True)}
            self.cache.put_many(new)
            vectors |= new
            bar.update(len(keys))
        return vectors

    def _embed_chunks(
        self, chunks: dict[bytes, list[int]], blocks_later: float
    ) -> Iterator[tuple[list[bytes], np.ndarray]]:
        """Yield keys and vectors of the chunks of each batch, in batches that fit into memory."""
        left = dict(chunks)
        later = round(blocks_later * sum(map(len, chunks.values())))
        while left:
            keys = list(left)
            batches = self.backbone.batches(list(left.values()), self.budget.tokens)
            parts = [[left[keys[i]] for i in batch] for batch in batches]
            try:
                for number, found in embed_batches(
                    self.recipe, parts, self.pooling, self.n_jobs, later
                ):
                    done = [keys[i] for i in batches[number]]
                    for key in done:
                        del left[key]
                    self.n_compiled += len(done) * found.compiled
                    yield done, found.vectors
            except torch.OutOfMemoryError:
                # what was computed in vain is held until this clause is left
                fits = False
            else:
                fits = True
            if not fits:
                self.budget.halve(parts)


def blocks_of_notes(texts: list[str | None]) -> Iterator[tuple[int, int]]:
    """Yield (first note, number of notes) of blocks of bounded notes and characters."""
    start = characters = 0
    for i, text in enumerate(texts):
        characters += len(text or "")
        if i + 1 - start == _BLOCK_NOTES or characters >= _BLOCK_CHARACTERS or i + 1 == len(texts):
            yield start, i + 1 - start
            start, characters = i + 1, 0


def _counts(prepared: _Prepared) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    n_chunks = [len(piece.keys) for piece in prepared.pieces]
    note = np.repeat(prepared.note_of, np.array(n_chunks, dtype=np.int64))
    lengths = [piece.lengths for piece in prepared.pieces]
    n_tokens = np.zeros(prepared.size, dtype=np.int64)
    tokens = np.array([piece.n_tokens for piece in prepared.pieces], dtype=np.int64)
    np.add.at(n_tokens, prepared.note_of, tokens)
    joined = np.concatenate([np.array([], dtype=_LENGTH), *lengths])
    return note, joined.astype(np.int64), n_tokens


def _write_piece(piece: _Piece) -> bytes:
    head = np.array([piece.n_tokens, len(piece.keys)], dtype=_LENGTH).tobytes()
    return head + piece.lengths.tobytes() + b"".join(piece.keys)


def _read_piece(value: bytes) -> _Piece:
    n_tokens, n_chunks = np.frombuffer(value, dtype=_LENGTH, count=2).tolist()
    lengths = np.frombuffer(value, dtype=_LENGTH, count=n_chunks, offset=8)
    keys = value[8 + lengths.nbytes :]
    return _Piece(
        n_tokens,
        lengths,
        [keys[i : i + KEY_BYTES] for i in range(0, len(keys), KEY_BYTES)],
    )
