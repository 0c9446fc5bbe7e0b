"""Results of the steps from tables to a cohort, kept as parquet beside what they were made of.

An entry is a parquet file, and a JSON file that names it, its digest, and what the step counted.
The JSON file is written last, so a step that was broken off leaves no entry; an entry that does not
have the digest it should have is not used.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from .._private_files import make_private_folder, remove_abandoned, temporary_in, write_private
from .._version import __version__

# Raised whenever a step's result changes its form.
_FORM = 1
_DIGEST_BYTES = 16
_INDEX_BYTES = 2**26


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
    """

    def __init__(self, folder: Path):
        self.folder = folder
        make_private_folder(folder)
        remove_abandoned(folder)

    def find(self, name: str, key: str) -> Entry | None:
        """The entry of a step, if there is a whole one.

        Parameters
        ----------
        name : str
            Of the step.
        key : str
            As :func:`fingerprint` gives it.

        Returns
        -------
        Entry or None
            None where it is absent, torn or changed.
        """
        try:
            index = self._index(name, key)
            # neither an index of any size nor a pipe is ours
            if not index.is_file() or index.stat().st_size > _INDEX_BYTES:
                return None
            told = json.loads(index.read_text(encoding="utf-8"))
            file = self.folder / told["file"]
            # a name is one of the folder's own files, never a path
            is_own = file.name == told["file"] and file.is_file() and not file.is_symlink()
            if is_own and _digest(file, told["told"]) == told["digest"]:
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

    def _index(self, name: str, key: str) -> Path:
        return self.folder / f"{name}-{key}.json"


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
