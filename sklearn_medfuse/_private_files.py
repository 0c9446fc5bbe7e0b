"""Files and folders for their owner alone, and the secret key."""

import os
import secrets
import tempfile
from contextlib import suppress
from pathlib import Path

_KEY_BYTES = 32


def make_private_folder(folder):
    """Make a folder that its owner alone can open; one that is there is closed to others.

    Parameters
    ----------
    folder : Path
        Its parents get the usual mode.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    # mkdir's mode passes through the umask, and the folder may be an older one
    folder.chmod(0o700)


def write_private(file, data):
    """Write a file of mode 0600 whole or not at all, whoever else writes it.

    Parameters
    ----------
    file : Path
        Its folder exists.

    data : bytes
        Content.
    """
    # mkstemp's files have mode 0600 from the start
    descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=".writing-")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            # a name must not point to bytes that a power cut loses
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(name, file)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise


def load_key(file):
    """Read the secret key, after making one if there is none.

    Of two that processes make at the same time the first stays.

    Parameters
    ----------
    file : Path
        File of the key.

    Returns
    -------
    key : bytes
        32 random bytes.
    """
    if not file.exists():
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write_if_absent(file, secrets.token_bytes(_KEY_BYTES))
    key = file.read_bytes()
    if len(key) != _KEY_BYTES:
        raise ValueError(
            f"The key file {str(file)!r} holds {len(key)} bytes and not the {_KEY_BYTES} of a "
            "key; remove it for a new one, with which all results are computed again."
        )
    return key


def _write_if_absent(file, data):
    descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=".writing-")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
        try:
            # succeeds in one process only
            os.link(name, file)
        except FileExistsError:
            pass
        except OSError:
            # a file system without links
            os.replace(name, file)
    finally:
        Path(name).unlink(missing_ok=True)
