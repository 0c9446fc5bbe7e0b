"""What was embedded before: in this process, so that cross-validation embeds each chunk once."""

import hashlib
import os
import secrets
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol

KEY_BYTES = 32


class CacheInfo(NamedTuple):
    """State of a cache.

    Attributes
    ----------
    hits, misses : int
        Entries found and not found by this process.
    entries : int
        Entries held: vectors of chunks, and which chunks make up a piece of text.
    n_bytes : int
        Their size.
    max_bytes : int
        The size that is kept to.
    """

    hits: int
    misses: int
    entries: int
    n_bytes: int
    max_bytes: int


class Cache(Protocol):
    """A store of bytes under keyed hashes."""

    secret: bytes

    def get_many(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        """Return the entries that are held."""

    def put_many(self, entries: Mapping[bytes, bytes]) -> None:
        """Keep entries."""

    def info(self) -> CacheInfo:
        """Return counts and sizes."""


def keyed_hash(secret: bytes, context: bytes, content: bytes) -> bytes:
    """Key of a content under a context; without the secret no content can be guessed from it."""
    # the context's length keeps the border between the two in the hash
    digest = hashlib.blake2b(key=secret, digest_size=KEY_BYTES)
    digest.update(len(context).to_bytes(8, "little"))
    digest.update(context)
    digest.update(content)
    return digest.digest()


class MemoryCache:
    """Least-recently-used store of this process, bounded by bytes.

    Parameters
    ----------
    max_bytes : int
        Size of the entries at most, keys not counted.

    Examples
    --------
    >>> cache = MemoryCache(max_bytes=1000)
    >>> key = keyed_hash(cache.secret, b"model", b"101 7592 102")
    >>> cache.get_many([key])
    {}
    >>> cache.put_many({key: b"vector"})
    >>> cache.get_many([key]) == {key: b"vector"}
    True
    """

    def __init__(self, max_bytes: int):
        self.max_bytes = max_bytes
        self.secret = secrets.token_bytes(32)
        self._entries: OrderedDict[bytes, bytes] = OrderedDict()
        self._bytes = self._hits = self._misses = 0
        self._lock = threading.Lock()

    def get_many(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        """Return the entries that are held."""
        found = {}
        with self._lock:
            for key in keys:
                if key in self._entries:
                    found[key] = self._entries[key]
                    self._entries.move_to_end(key)
                    self._hits += 1
                else:
                    self._misses += 1
        return found

    def put_many(self, entries: Mapping[bytes, bytes]) -> None:
        """Keep entries, at the cost of the least recently used ones."""
        with self._lock:
            for key, value in entries.items():
                if key not in self._entries:
                    self._entries[key] = value
                    self._bytes += len(value)
            while self._bytes > self.max_bytes:
                self._bytes -= len(self._entries.popitem(last=False)[1])

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._entries.clear()
            self._bytes = self._hits = self._misses = 0

    def after_fork(self) -> None:
        """Have a lock of the new process's own: a thread that is not in it may hold the old one."""
        self._lock = threading.Lock()

    def info(self) -> CacheInfo:
        """Return counts and sizes."""
        with self._lock:
            return CacheInfo(
                self._hits, self._misses, len(self._entries), self._bytes, self.max_bytes
            )


class LayeredCache:
    """A small fast store before a large slow one; both use the large one's secret."""

    def __init__(self, fast: Cache, slow: Cache):
        self.fast, self.slow = fast, slow
        self.secret = slow.secret

    def get_many(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        """Return the entries that either holds."""
        keys = list(keys)
        found = self.fast.get_many(keys)
        more = self.slow.get_many([key for key in keys if key not in found])
        self.fast.put_many(more)
        return found | more

    def put_many(self, entries: Mapping[bytes, bytes]) -> None:
        """Keep entries in both."""
        self.fast.put_many(entries)
        self.slow.put_many(entries)

    def info(self) -> CacheInfo:
        """Return counts and sizes of the large one."""
        return self.slow.info()


# 256 MiB hold 170,000 chunks of a 384-wide model
process_cache = MemoryCache(2**28)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=process_cache.after_fork)
