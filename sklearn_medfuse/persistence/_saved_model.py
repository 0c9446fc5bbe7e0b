"""Files of fitted models that run no code when they are read."""

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .._private_files import write_private

# skops itself trusts those of numpy, scipy and scikit-learn that run nothing
_OURS = (
    "sklearn_medfuse.fusion._classifier.MEDFuseClassifier",
    "sklearn_medfuse.labs._lab_text.LabTextSerializer",
    "sklearn_medfuse.labs._masked_lab.MaskedLabEncoder",
    "sklearn_medfuse.notes._llm_note.LLMNoteEncoder",
    "sklearn_medfuse.notes._note_words.NaiveBayesNoteEncoder",
    "sklearn_medfuse.notes._note_cleaner.NoteCleaner",
    "sklearn_medfuse.notes._note_words.NoteWordEncoder",
)
_SCHEMA = "schema.json"
# of the schema, which grows by the names of labs and the words of a vocabulary
_SCHEMA_BYTES = 2**26
_REMEDY = "Get it again from where save_model or skops has written it."


def save_model(model, file):
    """Write a fitted estimator or pipeline to a skops file, for its owner alone.

    Weights lie in the file as safetensors, arrays as numpy's, the rest as json. Each part has a
    checksum.

    Parameters
    ----------
    model : estimator
        An estimator of this package, or a pipeline or search of scikit-learn with such in it.
    file : str or path
        Where to write; by custom its name ends in ``.skops``. A file that is there is replaced,
        as a whole or not at all.

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
    write_private(Path(file), _skops().dumps(model))


def load_model(file, *, trusted=(), trust_remote_code=False):
    """Read an estimator from a skops file, without running code that the file brings.

    Refused are types that are neither of this package nor trusted by skops, parts that unfold to
    more than the file's size, damaged parts, and a note encoder that would run code which comes
    with its language model.

    Parameters
    ----------
    file : str or path
        What `save_model` or ``skops.io.dump`` has written.
    trusted : sequence of str, default=()
        Further types to build, such as ``"my_package.MyStep"``. Building a type can run its code:
        name those that you know.
    trust_remote_code : bool, default=False
        Whether an `LLMNoteEncoder` may be set to run code that comes with its model.

    Returns
    -------
    estimator
        As it was saved.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is refused or cannot be read; the message names the file and says why.
    ImportError
        If skops is not installed.

    See Also
    --------
    save_model : Writes the file.

    Notes
    -----
    ``joblib.load`` and ``pickle.load`` run whatever code a file brings. Nothing can make them safe.

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
        raise FileNotFoundError(f"There is no file {str(file)!r}; name one of save_model.")
    skops_io = _skops()
    model = None
    try:
        problem = _refusal(file)
        if problem is None:
            untrusted = set(skops_io.get_untrusted_types(file=file)) - {*_OURS, *trusted}
            problem = _of_types(untrusted)
        if problem is None:
            model = skops_io.load(file, trusted=[*_OURS, *trusted])
    except Warning:
        # of versions, where the user has made warnings errors
        raise
    except Exception as error:
        # of any kind, as what the file holds is anybody's; told outside of the handler
        problem = f"is damaged ({type(error).__name__}). {_REMEDY}"
    if problem is None and not trust_remote_code and any(map(_runs_code, _objects_in(model))):
        problem = (
            "holds a note encoder with trust_remote_code=True, which runs code that comes with "
            "its language model. Read that code, then give load_model trust_remote_code=True."
        )
    if problem is not None:
        raise ValueError(f"{str(file)!r} {problem}")
    return model


def _skops():
    try:
        import skops.io
    except ImportError:
        raise ImportError(
            'save_model and load_model need skops: pip install "sklearn-medfuse[skops]".'
        ) from None
    return skops.io


def _refusal(file: Path) -> str | None:
    """What speaks against a file before any of it is built."""
    with zipfile.ZipFile(file) as archive:
        parts = archive.infolist()
        unfolded = sum(part.file_size for part in parts)
        if any(part.compress_type != zipfile.ZIP_STORED for part in parts) or (
            unfolded > file.stat().st_size
        ):
            return (
                "is packed, and may unfold to any size. Write it by save_model, or by skops as is."
            )
        if archive.getinfo(_SCHEMA).file_size > _SCHEMA_BYTES:
            return f"has a description of over {_SCHEMA_BYTES:,} bytes. {_REMEDY}"
        named = list(_files_in(json.loads(archive.read(_SCHEMA))))
    if len(named) != len(set(named)):
        return f"names a part of it more than once. {_REMEDY}"
    return None


def _of_types(untrusted: set[str]) -> str | None:
    if not untrusted:
        return None
    names = ", ".join(sorted(name[:80] for name in untrusted)[:5])
    return (
        f"holds {len(untrusted)} types that are not known to be harmless: {names}. If you know "
        "them all, give their names as trusted=[...]; else do not load the file."
    )


def _files_in(schema: Any) -> Iterator[str]:
    """Names of parts that a description asks for."""
    if isinstance(schema, dict):
        if isinstance(schema.get("file"), str):
            yield schema["file"]
        schema = list(schema.values())
    if isinstance(schema, list):
        for part in schema:
            yield from _files_in(part)


def _runs_code(part: Any) -> bool:
    return getattr(part, "trust_remote_code", False) not in (False, None)


def _objects_in(model: Any) -> Iterator[Any]:
    """An estimator and all that it is made of."""
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
