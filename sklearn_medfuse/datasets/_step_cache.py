"""Results of the steps from tables to a cohort, kept as parquet beside what they were made of.

An entry is a parquet file, and a JSON file that names it, its digest, and what the step counted.
The JSON file is written last, so a step that was broken off leaves no entry; an entry that does not
have the digest it should have is not used. Where the folder is larger than it may be, the entries
used longest ago go first. Other processes may read, write and remove entries at any time.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from .._private_files import make_private_folder, remove_abandoned, temporary_in, write_private
from .._version import __version__

# Raised whenever a step's result changes its form.
_FORM = 1
_DIGEST_BYTES = 16
_INDEX_BYTES = 2**26
# an index comes so soon after its rows
_ABANDONED_SECONDS = 24 * 3600


class Entry(NamedTuple):
    """A step's result.

    Attributes
    ----------
    file : Path
        The rows.
    told : dict
        What the step told beside them.
    """

    file: Path
    told: dict[str, Any]


def fingerprint(*parts: Any) -> str:
    """One text for everything that a result depends on, the version of the package included.

    Parameters
    ----------
    *parts : object
        Anything whose `repr` tells it apart.

    Returns
    -------
    str
        Hexadecimal digits.
    """
    content = repr((__version__, _FORM, *parts)).encode()
    return hashlib.blake2b(content, digest_size=_DIGEST_BYTES).hexdigest()


class StepCache:
    """Entries in a folder for its owner alone.

    Parameters
    ----------
    folder : Path
        Made if absent.
    max_bytes : int or None
        Size that all entries together may have; None for any.
    """

    def __init__(self, folder: Path, max_bytes: int | None):
        self.folder = folder
        self.max_bytes = max_bytes
        make_private_folder(folder)
        remove_abandoned(folder)
        self._prune()

    @contextmanager
    def find(self, name: str, key: str) -> Iterator[Entry | None]:
        """The entry of a step, if there is a whole one; its file stays until it is left.

        Parameters
        ----------
        name : str
            Of the step.
        key : str
            As :func:`fingerprint` gives it.

        Yields
        ------
        Entry or None
            None where it is absent, torn or changed.
        """
        with ExitStack() as stack:
            held = None
            # from a folder that cannot be written nobody removes
            with suppress(OSError):
                beside = stack.enter_context(temporary_in(self.folder, directory=True))
                held = beside / "rows.parquet"
            yield self._whole_entry(self._index(name, key), held)

    def _whole_entry(self, index: Path, held: Path | None) -> Entry | None:
        """The entry, by another name that no process removes, if there may be one."""
        try:
            # neither an index of any size nor a pipe is ours
            if not index.is_file() or index.stat().st_size > _INDEX_BYTES:
                return None
            told = json.loads(index.read_text(encoding="utf-8"))
            file = self.folder / told["file"]
            # a name is one of the folder's own files, never a path
            if file.name != told["file"] or file.is_symlink() or not file.is_file():
                return None
            if held is not None:
                _link(file, held)
                file = held
            if _digest(file, told["told"]) == told["digest"]:
                # when it was used last
                with suppress(OSError):
                    os.utime(index)
                return Entry(file, told["told"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            # whatever is wrong with it, the step can be done again
            pass
        return None

    def put(self, name: str, key: str, write, told: Mapping[str, Any]) -> None:
        """Keep a step's result, as a whole or not at all.

        Parameters
        ----------
        name : str
            Of the step.
        key : str
            As :func:`fingerprint` gives it.
        write : callable
            Writes the rows to the path that it is given.
        told : mapping
            What the step told beside them, for JSON.
        """
        with temporary_in(self.folder, directory=True) as beside:
            new = beside / "rows.parquet"
            write(new)
            new.chmod(0o600)
            _to_disk(new)
            digest = _digest(new, dict(told))
            # Named by its content: of two processes neither changes what the other's index names.
            file = self.folder / f"{name}-{key}-{digest[:8]}.parquet"
            os.replace(new, file)
        index = {"file": file.name, "digest": digest, "told": dict(told)}
        write_private(self._index(name, key), json.dumps(index).encode())
        self._prune()

    def _index(self, name: str, key: str) -> Path:
        return self.folder / f"{name}-{key}.json"

    def _prune(self) -> None:
        """Remove entries until the rest is within the limit, those used longest ago first."""
        if self.max_bytes is None:
            return
        entries = sorted(self._entries())
        size = sum(of_entry for _, of_entry, _ in entries)
        for _, of_entry, files in entries:
            if size <= self.max_bytes:
                break
            for file in files:
                # another process may have been faster
                with suppress(OSError):
                    file.unlink()
            size -= of_entry

    def _entries(self) -> Iterator[tuple[float, int, list[Path]]]:
        """When each entry was used last, its size, and its files, the one to remove first first."""
        named = set()
        for index in self.folder.glob("*.json"):
            with suppress(OSError):
                status = index.stat()
                files, size = [index], status.st_size
                with suppress(ValueError, KeyError, TypeError, OSError):
                    rows = self.folder / json.loads(index.read_text(encoding="utf-8"))["file"]
                    named.add(rows)
                    size += rows.stat().st_size
                    files.append(rows)
                yield status.st_mtime, size, files
        for rows in set(self.folder.glob("*.parquet")) - named:
            # The index of one that is just being written comes after it.
            with suppress(OSError):
                status = rows.stat()
                if time.time() - status.st_mtime > _ABANDONED_SECONDS:
                    yield status.st_mtime, status.st_size, [rows]


def _link(file: Path, held: Path) -> None:
    """Give a file another name, or make a copy where a file cannot have two."""
    try:
        os.link(file, held)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copyfile(file, held)


def _digest(file: Path, told: Mapping[str, Any]) -> str:
    """Digest of an entry: of the rows and of what the step told."""
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=_DIGEST_BYTES))
    digest.update(json.dumps(told, sort_keys=True).encode())
    return digest.hexdigest()


def _to_disk(file: Path) -> None:
    """Have the bytes on disk before a name points to them."""
    with file.open("rb") as stream:
        os.fsync(stream.fileno())
