"""Digests of model files, each taken once per process for each version of the file."""

import functools
from pathlib import Path

from .._sealed_folder import file_sha256


def version_sha256(file: Path) -> str:
    """SHA-256 of a file's content, computed again only after the file has changed.

    Size, inode and both times tell a version. The time of the inode's change cannot be set back, so
    that content which was swapped under an old date is read again.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "config.json"
    ...     _ = file.write_text("{}")
    ...     version_sha256(file)[:12]
    '44136fa355b3'
    """
    known = file.stat()
    times = known.st_mtime_ns, known.st_ctime_ns
    return _sha256_of(str(file.resolve()), known.st_size, known.st_ino, *times)


@functools.lru_cache(maxsize=1024)
def _sha256_of(file: str, *version: int) -> str:
    return file_sha256(Path(file))
