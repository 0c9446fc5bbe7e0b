"""Folders of a json file and the files beside it that tell when a byte of them has changed.

The json file holds the SHA-256 digest of each file beside it, and one of itself. That finds damage;
it is no signature: who can write the folder can write the digests too.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_FILES, _SELF = "files", "sha256"
# far more than any of ours; a parsed text takes some thirty times its size
_JSON_BYTES = 2**26


def seal(config: dict[str, Any], folder: Path, names: Iterable[str]) -> dict[str, Any]:
    """Add the digests of files to what a json file is to hold, and the digest of all that.

    Parameters
    ----------
    config : dict
        What json can write.
    folder : Path
        Where the files are.
    names : iterable of str
        Of the files.

    Returns
    -------
    dict
        The content with the two digests.
    """
    content = json.loads(json.dumps(config))
    content[_FILES] = {name: file_sha256(folder / name) for name in names}
    return content | {_SELF: _digest(content)}


def read_sealed(folder: Path, name: str, remedy: str) -> dict[str, Any]:
    """Read the json file of a folder after all files that it seals were found whole.

    Parameters
    ----------
    folder : Path
        The folder.
    name : str
        Of the json file, which exists.
    remedy : str
        What to do about a damaged folder, a sentence.

    Returns
    -------
    dict
        The content, whose "files" names the files that were checked.

    Raises
    ------
    ValueError
        Where a file is damaged, absent or a link out of the folder.
    """
    refuse_link(folder, folder / name, remedy)
    content = read_json_object(folder / name, remedy)
    sealed = content.pop(_SELF, None)
    files = content.get(_FILES)
    if sealed != _digest(content) or not isinstance(files, dict):
        raise ValueError(f"{folder / name} is damaged. {remedy}")
    for other, digest in files.items():
        # a name is one of the folder's own files, never a path
        if Path(other).name != other or not (folder / other).is_file():
            raise ValueError(f"{folder / name} names a file that its folder lacks. {remedy}")
        refuse_link(folder, folder / other, remedy)
        if file_sha256(folder / other) != digest:
            raise ValueError(f"{folder / other} is damaged. {remedy}")
    return content


def read_json_object(file: Path, remedy: str) -> dict[str, Any]:
    """Read a json file that holds an object.

    Parameters
    ----------
    file : Path
        The file.
    remedy : str
        What to do about a damaged file, a sentence.

    Returns
    -------
    dict
        The object.

    Raises
    ------
    ValueError
        Where it holds no object, or is too large to be one of ours.
    """
    content = None
    if file.stat().st_size <= _JSON_BYTES:
        try:
            content = json.loads(file.read_bytes())
        except (ValueError, RecursionError):
            # told below, outside of the handler: the error may quote the content
            content = None
    if not isinstance(content, dict):
        raise ValueError(f"{file} is damaged: it holds no json object. {remedy}")
    return content


def refuse_link(folder: Path, file: Path, remedy: str) -> None:
    """Refuse a file that is a link to outside of its folder.

    Parameters
    ----------
    folder : Path
        The folder, itself a link perhaps.
    file : Path
        A file in it.
    remedy : str
        What to do, a sentence.

    Raises
    ------
    ValueError
        Where the file lies elsewhere.
    """
    if file.is_symlink() and not file.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{file} is a link to a file outside of its folder. {remedy}")


def file_sha256(file: Path) -> str:
    """Digest of a file's content.

    Parameters
    ----------
    file : Path
        The file.

    Returns
    -------
    str
        64 hexadecimal digits.
    """
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _digest(content: dict[str, Any]) -> str:
    """Digest of what is in a json file, however it is laid out."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
