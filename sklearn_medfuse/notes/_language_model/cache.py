"""Keep computed vectors under keyed hashes, in this process and in a folder that outlasts it.

A cross-validation embeds each window once. The folder's store is the standard library's sqlite:
processes may write at the same time, a crash leaves no half-written entry, and reading runs no
code.
"""

import functools
import hashlib
import os
import secrets
import sqlite3
import threading
import time
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, TypeVar
from urllib.parse import quote

from ..._private_files import load_key, make_private_folder, remove_abandoned

Result = TypeVar("Result")

KEY_BYTES = 32
# Seconds that sqlite waits for another process's write
_TIMEOUT = 60.0
# Seconds without another attempt after a failed write, as each may wait in vain
_PAUSE = 60.0
# Keys per question; sqlite takes 999 parameters in every build
_AT_ONCE = 500
# Seconds by which the time of last use may lag, so that reading does not write
_USE_LAG = 600
# Share of the limit that is left when entries are dropped
_KEPT = 0.9
# Failures after which the open connection can still read, whereas a new one might fail
_ONLY_WRITING = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY)
_TABLE = """
CREATE TABLE IF NOT EXISTS entries (
    key BLOB PRIMARY KEY, value BLOB NOT NULL, checksum BLOB NOT NULL, used INTEGER NOT NULL
)
"""
# As sqlite stores it
_TABLE_AS_KEPT = _TABLE.strip().replace("IF NOT EXISTS ", "")


class CacheInfo(NamedTuple):
    """State of a cache."""

    # Entries found and not found by this process
    hits: int
    misses: int
    # An entry is a window's vector, or the list of windows that make up a piece of text
    entries: int
    n_bytes: int
    max_bytes: int


class MemoryCache:
    """Store of this process, bounded in bytes; the least recently used entries go first."""

    def __init__(self, max_bytes: int):
        self.max_bytes = max_bytes
        self.secret = secrets.token_bytes(KEY_BYTES)
        self._entries: OrderedDict[bytes, bytes] = OrderedDict()
        self._bytes = self._hits = self._misses = 0
        self._lock = threading.Lock()

    def get_many(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
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
        with self._lock:
            for key, value in entries.items():
                if key not in self._entries:
                    self._entries[key] = value
                    self._bytes += len(value)
            while self._bytes > self.max_bytes:
                self._bytes -= len(self._entries.popitem(last=False)[1])

    def clear(self) -> None:
        with self._lock:
            self._entries.clear()
            self._bytes = self._hits = self._misses = 0

    def after_fork(self) -> None:
        """Replace the lock: a thread that was not forked along may hold it."""
        self._lock = threading.Lock()

    def info(self) -> CacheInfo:
        with self._lock:
            held = len(self._entries), self._bytes
            return CacheInfo(self._hits, self._misses, *held, self.max_bytes)


# 256 MiB hold 170,000 windows of a 384-wide model
process_cache = MemoryCache(2**28)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=process_cache.after_fork)


class FolderCache:
    """Store in a private folder, bounded in bytes; the least recently used entries go first.

    The folder has mode 0700 and holds the secret of the keys, `key` (mode 0600), and the entries,
    `vectors.sqlite`: keyed hashes and numbers, no text. A read-only folder is still read. A cache
    must not stop the work: whatever fails causes one warning, and the vectors are computed.
    """

    def __init__(self, folder: Path, max_bytes: int):
        self.max_bytes = max_bytes
        self._file = folder / "vectors.sqlite"
        self._hits = self._misses = 0
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._can_write = self._usable = True
        self._has_warned = False
        self._write_again_at = 0.0
        try:
            make_private_folder(folder)
            remove_abandoned(folder)
            self.secret = load_key(folder / "key")
        except OSError as error:
            self._usable = False
            self.secret = secrets.token_bytes(KEY_BYTES)
            self._warn(error)

    def get_many(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        keys = list(keys)
        found: dict[bytes, bytes] = {}
        for start in range(0, len(keys), _AT_ONCE):
            found |= self._try(self._get, keys[start : start + _AT_ONCE]) or {}
        self._hits += len(found)
        self._misses += len(keys) - len(found)
        return found

    def put_many(self, entries: Mapping[bytes, bytes]) -> None:
        if entries and self._can_write and time.monotonic() >= self._write_again_at:
            self._try(self._put, entries)

    def info(self) -> CacheInfo:
        entries, n_bytes = self._try(self._measure, None) or (0, 0)
        return CacheInfo(self._hits, self._misses, entries, n_bytes, self.max_bytes)

    def _get(self, connection: sqlite3.Connection, keys: list[bytes]) -> dict[bytes, bytes]:
        marks = ",".join("?" * len(keys))
        rows = connection.execute(
            f"SELECT key, value, checksum, used FROM entries WHERE key IN ({marks})", keys
        ).fetchall()
        found = {key: value for key, value, check, _ in rows if self._is_whole(key, value, check)}
        torn = [(key,) for key, *_ in rows if key not in found]
        now = int(time.time())
        # An entry used later than now was written before the clock was set back
        stale = [
            (now, key)
            for key, *_, used in rows
            if key in found and not (isinstance(used, int) and abs(now - used) <= _USE_LAG)
        ]
        if (stale or torn) and self._can_write:
            # The entries are good even if this cannot be written
            with suppress(sqlite3.OperationalError), connection:
                connection.executemany("UPDATE entries SET used = ? WHERE key = ?", stale)
                connection.executemany("DELETE FROM entries WHERE key = ?", torn)
        return found

    def _put(self, connection: sqlite3.Connection, entries: Mapping[bytes, bytes]) -> None:
        now = int(time.time())
        rows = [(key, value, self._checksum(key, value), now) for key, value in entries.items()]
        with connection:
            connection.executemany("INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?)", rows)
        size = _used_bytes(connection)
        if size > self.max_bytes:
            count, _ = self._measure(connection)
            surplus = count - int(count * _KEPT * self.max_bytes / size)
            with connection:
                connection.execute(
                    "DELETE FROM entries WHERE rowid IN "
                    "(SELECT rowid FROM entries ORDER BY used, rowid LIMIT ?)",
                    (surplus,),
                )
            # Without this the file never shrinks
            connection.execute("PRAGMA incremental_vacuum")

    def _checksum(self, key: bytes, value: bytes) -> bytes:
        """Mark an entry as ours; nobody can forge the mark without the secret."""
        return hashlib.blake2b(key + value, key=self.secret, digest_size=8).digest()

    def _is_whole(self, key, value, checksum) -> bool:
        # A damaged file may hold text or numbers in place of bytes
        are_bytes = isinstance(key, bytes) and isinstance(value, bytes)
        return are_bytes and self._checksum(key, value) == checksum

    def _measure(self, connection: sqlite3.Connection, _=None) -> tuple[int, int]:
        count = connection.execute("SELECT COUNT(*) FROM entries").fetchone()[0]
        return count, _used_bytes(connection) if count else 0

    def _try(self, action: Callable[..., Result], argument) -> Result | None:
        """Run an action; replace a file that is no longer a valid sqlite file."""
        if not self._usable:
            return None
        with self._lock:
            try:
                try:
                    return action(self._connect(), argument)
                except sqlite3.DatabaseError as error:
                    if isinstance(error, sqlite3.OperationalError):
                        raise
                    self._remove_file()
                    return action(self._connect(), argument)
            except (sqlite3.Error, OSError) as error:
                if getattr(error, "sqlite_errorcode", None) not in _ONLY_WRITING:
                    self._close()
                self._write_again_at = time.monotonic() + _PAUSE
                self._warn(error)
        return None

    def _warn(self, error: Exception) -> None:
        if not self._has_warned:
            warnings.warn(
                f"The embedding cache could not be used ({error}); the vectors are computed "
                "instead. Make room or give rights in the folder of cache, or use cache=None.",
                UserWarning,
                stacklevel=4,
            )
        self._has_warned = True

    def _remove_file(self) -> None:
        self._close()
        for end in ("", "-wal", "-shm"):
            self._file.with_name(self._file.name + end).unlink(missing_ok=True)

    def _connect(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = self._new_connection()
        return self._connection

    def _new_connection(self) -> sqlite3.Connection:
        try:
            # sqlite gives its other files the mode of this one
            os.close(os.open(self._file, os.O_RDWR | os.O_CREAT, 0o600))
        except OSError as error:
            if not (self._file.is_file() and os.access(self._file, os.R_OK)):
                raise
            self._can_write = False
            self._warn(error)
            # Otherwise sqlite would create a file for its locks beside it
            uri = f"file:{quote(str(self._file))}?mode=ro&immutable=1"
            return sqlite3.connect(uri, uri=True, check_same_thread=False)
        connection = sqlite3.connect(self._file, timeout=_TIMEOUT, check_same_thread=False)
        # A power cut may lose the last entries, which are then computed again
        for pragma in ("auto_vacuum = INCREMENTAL", "journal_mode = WAL", "synchronous = NORMAL"):
            connection.execute(f"PRAGMA {pragma}")
        connection.execute(_TABLE)
        # A view or trigger that someone else put into the file must not run in our queries
        made = connection.execute("SELECT type, sql FROM sqlite_master WHERE sql NOT NULL")
        if made.fetchall() != [("table", _TABLE_AS_KEPT)]:
            connection.close()
            raise sqlite3.DatabaseError("the file holds more than the cache's table")
        return connection

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _used_bytes(connection: sqlite3.Connection) -> int:
    pages, free, page = (
        connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("page_count", "freelist_count", "page_size")
    )
    return (pages - free) * page


@functools.lru_cache(maxsize=8)
def _open(folder: str, max_bytes: int, process: int) -> FolderCache:
    return FolderCache(Path(folder), max_bytes)


def open_folder_cache(folder, max_bytes: int) -> FolderCache:
    """Open a folder once per process; a forked one has to open its own connection."""
    return _open(str(Path(folder).absolute()), max_bytes, os.getpid())


class VectorCache:
    """The process's memory, backed by a folder if one is named."""

    def __init__(self, folder=None, max_bytes: int = 2**30, memory: MemoryCache = process_cache):
        self.memory = memory
        self.folder = None if folder is None else open_folder_cache(folder, max_bytes)
        self.secret = (self.folder or memory).secret

    def key(self, context: bytes, content: bytes) -> bytes:
        """Key of a content under a context; without the secret no content can be guessed."""
        # The context's length keeps the border between the two in the hash
        whole = len(context).to_bytes(8, "little") + context + content
        return hashlib.blake2b(whole, key=self.secret, digest_size=KEY_BYTES).digest()

    def get_many(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        keys = list(keys)
        found = self.memory.get_many(keys)
        if self.folder is not None:
            more = self.folder.get_many([key for key in keys if key not in found])
            self.memory.put_many(more)
            found |= more
        return found

    def put_many(self, entries: Mapping[bytes, bytes]) -> None:
        self.memory.put_many(entries)
        if self.folder is not None:
            self.folder.put_many(entries)

    def info(self) -> CacheInfo:
        return (self.folder or self.memory).info()
