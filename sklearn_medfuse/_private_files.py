"""Files and folders for their owner alone, the secret key, and seals that show damage.

A seal is a json file that holds the SHA-256 digest of each file in its folder, and one of itself.
It detects damage but is no signature: anyone who can write the folder can write the digests too.
"""

import hashlib
import json
import os
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ._input_data import read_json_object

try:
    import fcntl
except ImportError:
    # Windows: only its age tells that a file is abandoned
    fcntl = None  # type: ignore[assignment]

_KEY_BYTES = 32
_WRITING = ".writing-"
# Without locks on a file system, anything older counts as abandoned
_ABANDONED_SECONDS = 24 * 3600
_FILES, _SELF = "files", "sha256"


def make_private_folder(folder):
    """Make a folder that only its owner can open; close an existing one to others."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    # The umask changes the mode of mkdir, and the folder may be an older one; one that is already
    # private may lie where no mode can be set
    if stat.S_IMODE(folder.stat().st_mode) != 0o700:
        folder.chmod(0o700)


def write_private(file, data):
    """Write a file of mode 0600, whole or not at all, even if others write it too."""
    remove_abandoned(file.parent)
    with temporary_in(file.parent) as new:
        _write_to_disk(new, data)
        os.replace(new, file)


@contextmanager
def temporary_in(folder, *, directory=False) -> Iterator[Path]:
    """Make a file of mode 0600, or a folder of mode 0700, and remove it after the block.

    It is locked meanwhile, so that `remove_abandoned` can tell it from one whose writer was killed.
    Once renamed by `os.replace`, it stays.
    """
    while True:
        if directory:
            new = Path(tempfile.mkdtemp(dir=folder, prefix=_WRITING))
        else:
            descriptor, name = tempfile.mkstemp(dir=folder, prefix=_WRITING)
            os.close(descriptor)
            new = Path(name)
        lock = _lock(new)
        # Otherwise another process swept it away before it was locked
        if new.exists():
            break
        _unlock(lock)
    try:
        yield new
    finally:
        _remove(new)
        _unlock(lock)


def remove_abandoned(folder):
    """Remove what killed processes left half-written in a folder."""
    for left in folder.glob(f"{_WRITING}*"):
        # Another process may be faster, and a file that cannot be removed does no harm
        with suppress(OSError):
            _remove_if_abandoned(left)


def load_key(file):
    """Read the secret key; make one if there is none.

    If two processes make one at the same time, the first one stays.
    """
    if not file.exists():
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with temporary_in(file.parent) as new:
            _write_to_disk(new, secrets.token_bytes(_KEY_BYTES))
            try:
                # Succeeds in one process only
                os.link(new, file)
            except FileExistsError:
                pass
            except OSError:
                # A file system without links
                os.replace(new, file)
    key = file.read_bytes()
    if len(key) != _KEY_BYTES:
        raise ValueError(
            f"The key file {str(file)!r} holds {len(key)} bytes instead of {_KEY_BYTES}. Remove it "
            "to get a new key; all cached results are then computed again."
        )
    return key


def _write_to_disk(file, data):
    with file.open("wb") as stream:
        stream.write(data)
        # A name must not point to bytes that a power cut loses
        stream.flush()
        os.fsync(stream.fileno())


def _lock(path) -> int | None:
    """Lock a file or folder until its writer is done or dead."""
    if fcntl is None:
        return None
    try:
        descriptor = _open_to_lock(path)
    except FileNotFoundError:
        return None
    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


def _unlock(lock: int | None) -> None:
    if lock is not None:
        os.close(lock)


def _remove_if_abandoned(left) -> None:
    lock = None if fcntl is None else _open_to_lock(left)
    try:
        if _is_abandoned(left, lock):
            # Under the lock, which a process that has just made the file waits for
            _remove(left)
    finally:
        _unlock(lock)


def _is_abandoned(left, lock: int | None) -> bool:
    if lock is not None:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            # A file system without locks
            pass
        else:
            return True
    # Clocks may jump, so a file from the future counts as old
    return abs(time.time() - left.stat().st_mtime) > _ABANDONED_SECONDS


def _open_to_lock(path) -> int:
    # NFS locks only what is open for writing, which folders cannot be
    return os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)


def _remove(path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def seal(config: dict[str, Any], folder: Path, names: Iterable[str]) -> dict[str, Any]:
    """Add the digests of files, and a digest of the whole, to the content of a json file."""
    content = json.loads(json.dumps(config))
    content[_FILES] = {name: file_sha256(folder / name) for name in names}
    return content | {_SELF: _digest(content)}


def read_sealed(folder: Path, name: str, remedy: str) -> dict[str, Any]:
    """Read the json file of a folder, after checking that every file it seals is undamaged."""
    refuse_link(folder, folder / name, remedy)
    content = read_json_object(folder / name, remedy)
    sealed = content.pop(_SELF, None)
    files = content.get(_FILES)
    if sealed != _digest(content) or not isinstance(files, dict):
        raise ValueError(f"{folder / name} is damaged. {remedy}")
    for other, digest in files.items():
        # A name is one of the folder's own files, never a path
        if Path(other).name != other or not (folder / other).is_file():
            raise ValueError(f"{folder / name} names a file that its folder lacks. {remedy}")
        refuse_link(folder, folder / other, remedy)
        if file_sha256(folder / other) != digest:
            raise ValueError(f"{folder / other} is damaged. {remedy}")
    return content


def refuse_link(folder: Path, file: Path, remedy: str) -> None:
    """Refuse a file that links to somewhere outside its folder."""
    if file.is_symlink() and not file.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{file} is a link to a file outside its folder. {remedy}")


def file_sha256(file: Path) -> str:
    """Digest of a file's content."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _digest(content: dict[str, Any]) -> str:
    """Digest of the content of a json file, whatever its layout."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
