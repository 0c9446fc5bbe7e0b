"""Files of fitted models that run no code when they are read."""

import importlib
import json
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from .._private_files import write_private

_SCHEMA = "schema.json"
# Limit on the schema, which grows with the names of labs and the words of a vocabulary
_SCHEMA_BYTES = 2**26
_REMEDY = "Get it again from where save_model or skops has written it."


def save_model(model: Any, file: str | Path) -> None:
    """Write a fitted estimator or pipeline to a skops file that only its owner can read.

    The file holds weights as safetensors, arrays in numpy's format and the rest as JSON. Each part
    has a checksum.

    Parameters
    ----------
    model : estimator
        An estimator of this package, or a scikit-learn pipeline or search that contains some.
    file : str or path
        Where to write; the name usually ends in ``.skops``. An existing file is replaced, either
        completely or not at all.

    Raises
    ------
    ImportError
        If skops is not installed.

    See Also
    --------
    load_model : Reads the file.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from sklearn_medfuse import MaskedLabEncoder
    >>> from sklearn_medfuse.persistence import load_model, save_model
    >>> encoder = MaskedLabEncoder(4, max_epochs=1).fit([[1.0, 2.0]] * 8)
    >>> with TemporaryDirectory() as folder:
    ...     save_model(encoder, f"{folder}/labs.skops")
    ...     load_model(f"{folder}/labs.skops").transform([[1.0, 2.0]]).shape
    (1, 4)
    """
    write_private(Path(file), _import_skops().dumps(model))


def load_model(
    file: str | Path, *, trusted: Sequence[str] = (), trust_remote_code: bool = False
) -> Any:
    """Read an estimator from a skops file without running code from the file.

    The file is refused if it contains types that are neither public estimators of this package
    nor trusted by skops, parts that unpack to more than the size of the file, damaged parts, or a
    note encoder that would run code shipped with its language model.

    Parameters
    ----------
    file : str or path
        A file written by `save_model` or ``skops.io.dump``.
    trusted : sequence of str, default=()
        Further types to build, such as ``"my_package.MyStep"``. Building a type can run its code,
        so name only types that you know.
    trust_remote_code : bool, default=False
        Whether an `LLMNoteEncoder` may be set to run code shipped with its model.

    Returns
    -------
    estimator
        The estimator as it was saved.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is refused or cannot be read; the message names the file and the reason.
    ImportError
        If skops is not installed.

    See Also
    --------
    save_model : Writes the file.

    Notes
    -----
    ``joblib.load`` and ``pickle.load`` run any code that a file contains. Nothing can make them
    safe.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from sklearn_medfuse import NoteCleaner
    >>> from sklearn_medfuse.persistence import load_model, save_model
    >>> with TemporaryDirectory() as folder:
    ...     save_model(NoteCleaner(), f"{folder}/cleaner.skops")
    ...     load_model(f"{folder}/cleaner.skops")
    NoteCleaner()
    """
    file = Path(file)
    if not file.is_file():
        raise FileNotFoundError(f"There is no file {str(file)!r}; pass one that save_model wrote.")
    skops_io = _import_skops()
    model = None
    try:
        problem = _check_parts(file)
        if problem is None:
            found = skops_io.get_untrusted_types(file=file)
            allowed = [name for name in found if name in trusted or _is_ours(name)]
            problem = _check_types(set(found) - set(allowed))
        if problem is None:
            model = skops_io.load(file, trusted=allowed)
    except Warning:
        # About versions, if the user has turned warnings into errors
        raise
    except Exception as error:
        # Raised outside of the handler, so that the content of the file is not quoted
        problem = f"is damaged ({type(error).__name__}). {_REMEDY}"
    if problem is None and not trust_remote_code and any(map(_runs_code, _objects_in(model))):
        problem = (
            "holds a note encoder with trust_remote_code=True, which runs code shipped with its "
            "language model. Read that code, then call load_model with trust_remote_code=True."
        )
    if problem is not None:
        raise ValueError(f"{str(file)!r} {problem}")
    return model


def _import_skops() -> ModuleType:
    try:
        import skops.io
    except ImportError:
        raise ImportError(
            'save_model and load_model need skops: pip install "sklearn-medfuse[skops]".'
        ) from None
    return skops.io


def _check_parts(file: Path) -> str | None:
    """Return why the file is refused before any of it is built, or None."""
    with zipfile.ZipFile(file) as archive:
        parts = archive.infolist()
        unpacked = sum(part.file_size for part in parts)
        if any(part.compress_type != zipfile.ZIP_STORED for part in parts) or (
            unpacked > file.stat().st_size
        ):
            return (
                "is compressed, so it may unpack to any size. Write it with save_model, or with "
                "skops without compression."
            )
        if archive.getinfo(_SCHEMA).file_size > _SCHEMA_BYTES:
            return f"has a description of over {_SCHEMA_BYTES:,} bytes. {_REMEDY}"
        read = set(_reads_in(json.loads(archive.read(_SCHEMA))))
    if len(read) != len({name for name, _ in read}):
        return f"reads a part of it more than once. {_REMEDY}"
    return None


def _reads_in(schema: Any) -> Iterator[tuple[str, Any]]:
    """Yield each part that a description reads, with the object that it is read for.

    Skops reads a part once for all places in which an object stands.
    """
    if isinstance(schema, dict):
        if isinstance(schema.get("file"), str):
            yield schema["file"], schema.get("__id__")
        schema = list(schema.values())
    if isinstance(schema, list):
        for part in schema:
            yield from _reads_in(part)


def _is_ours(name: str) -> bool:
    """Return whether a type is a public estimator of this package."""
    package = importlib.import_module("sklearn_medfuse")
    short = name.rpartition(".")[2]
    cls = getattr(package, short) if short in package.__all__ else None
    return isinstance(cls, type) and name == f"{cls.__module__}.{cls.__qualname__}"


def _check_types(untrusted: set[str]) -> str | None:
    if not untrusted:
        return None
    names = ", ".join(sorted(name[:80] for name in untrusted)[:5])
    return (
        f"holds {len(untrusted)} types that are not known to be harmless: {names}. If you know "
        "all of them, pass their names as trusted=[...]; otherwise do not load the file."
    )


def _runs_code(part: Any) -> bool:
    return getattr(part, "trust_remote_code", False) not in (False, None)


def _objects_in(model: Any) -> Iterator[Any]:
    """Yield an estimator and everything it consists of."""
    seen: set[int] = set()
    left = [model]
    while left:
        part = left.pop()
        if id(part) in seen or isinstance(part, str | bytes | int | float | type):
            continue
        seen.add(id(part))
        if isinstance(part, dict):
            left += part.values()
        elif isinstance(part, list | tuple | set):
            left += part
        elif isinstance(part, np.ndarray):
            left += part.ravel().tolist() if part.dtype == object else []
        else:
            yield part
            left += vars(part).values() if hasattr(part, "__dict__") else []
