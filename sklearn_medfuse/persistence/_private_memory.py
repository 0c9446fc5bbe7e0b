"""A joblib.Memory that does not write its input."""

import functools
import hmac
import inspect
import io
import pickle
import stat
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import joblib
import pandas as pd
import sklearn
from pandas.api.types import is_numeric_dtype

from .._private_files import load_key, make_private_folder, write_private
from .._version import __version__

# joblib marks its cache folder for git like this; the first to write the file decides its mode
_GITIGNORE = b"# Created by sklearn-medfuse automatically.\n*\n"
_SIGNATURE_BYTES = 32


class PrivateMemory(joblib.Memory):
    """Cache fitted encoders for ``Pipeline(memory=...)`` without writing their input.

    In a search over `medfuse__*` the encoders are fitted once per fold, however large the grid.
    Plain :class:`joblib.Memory`, which ``Pipeline(memory="folder")`` creates, writes the start of
    its input in clear text beside each result. With PrivateMemory

    - a result is named by a keyed hash (HMAC-SHA256) of the input: no guess can be tested;
    - only results are written, and only if their rows are numbers: a step that returns text, such
      as a note cleaner, is computed each time;
    - nothing about the input is printed or logged;
    - only the owner can open folders (mode 0700) and files (0600), whatever the umask;
    - results are signed: one that was damaged or altered is never unpickled but computed again.

    Parameters
    ----------
    location : str or path
        Folder of the cache, created if necessary. Everything is kept in a private subfolder
        ``sklearn_medfuse``; the folder itself keeps its mode.
    key_file : str or path, default=None
        File of the secret key, created if it does not exist. None puts it into the cache, where
        the file mode protects it. If it is elsewhere and not in backups of the cache, the hashes
        are useless to anyone who obtains such a backup.

    See Also
    --------
    joblib.Memory : Its methods `clear`, `reduce_size` and `eval` work here too.

    Notes
    -----
    The cache holds transformed rows and the fitted encoder. Encoders of this package hold no note
    and no lab value; a `TfidfVectorizer` contains words from the notes, a `KNNImputer` lab values,
    and ``"passthrough"`` returns the column itself. The row index is not written. Vectors are
    derived from patient data, so protect the folder as you protect the data.

    Results of one version of scikit-learn or of this package are not read by another. Changes in
    the code of your own encoders are not detected, as with joblib: call `clear`.

    On Windows file modes have no effect; choose a folder that only you can access.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import Pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sklearn_medfuse.persistence import PrivateMemory
    >>> X, y = [[1.0], [2.0], [3.0], [4.0]], [0, 0, 1, 1]
    >>> with TemporaryDirectory() as folder:
    ...     pipe = Pipeline(
    ...         [("scale", StandardScaler()), ("classify", LogisticRegression())],
    ...         memory=PrivateMemory(folder),
    ...     )
    ...     pipe.fit(X, y).predict([[1.5]])
    array([0])
    """

    def __init__(self, location: str | Path, *, key_file: str | Path | None = None) -> None:
        folder = Path(location).expanduser().absolute() / "sklearn_medfuse"
        make_private_folder(folder)
        if not (folder / ".gitignore").exists():
            write_private(folder / ".gitignore", _GITIGNORE)
        self.key_file = Path(folder / "key" if key_file is None else key_file)
        self.key_file = self.key_file.expanduser().absolute()
        # Created here, before parallel workers could create several
        load_key(self.key_file)
        super().__init__(location=folder, verbose=0)

    def cache(
        self, func: Callable[..., Any] | None = None, ignore: Sequence[str] | None = None
    ) -> Callable[..., Any]:
        """Wrap a function so that its results are cached.

        Parameters
        ----------
        func : callable, default=None
            A function whose source can be read. None returns a decorator.
        ignore : list of str, default=None
            Arguments that do not affect the result.

        Returns
        -------
        function : callable
            Takes the arguments of `func` and returns the cached result if there is one.

        Raises
        ------
        ValueError
            If the source of `func` cannot be read.
        """
        if func is None:
            return functools.partial(self.cache, ignore=ignore)
        return _CachedFunction(func, self.location, self.key_file, ignore or ())


class _CachedFunction:
    """Return the stored result of an equal call, or call the function.

    A result lies in ``<location>/<keyed hash>/output.pkl``, the layout that `joblib.Memory.clear`
    and `reduce_size` know. The key itself is in no attribute, so in no pickle.
    """

    def __init__(
        self, func: Callable[..., Any], location: Path, key_file: Path, ignore: Sequence[str]
    ) -> None:
        functools.update_wrapper(self, func)
        self.func = func
        self.location = location
        self.key_file = key_file
        self.ignore = tuple(ignore)
        try:
            source = inspect.getsource(func)
        except (OSError, TypeError):
            raise ValueError(
                "`func` has no source that can be read, so changes in it would not be detected; "
                "define it as a function in a file."
            ) from None
        versions = sklearn.__version__, __version__
        self._identity = func.__module__, func.__qualname__, source, versions

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        bound = inspect.signature(self.func).bind(*args, **kwargs)
        bound.apply_defaults()
        given = {name: each for name, each in bound.arguments.items() if name not in self.ignore}
        # Row indices are often identifiers: results refer to those of the arguments
        indices = {
            name: each.index
            for name, each in given.items()
            if isinstance(each, pd.DataFrame | pd.Series)
        }
        key = load_key(self.key_file)
        file = self.location / self._name_result(given, key) / "output.pkl"
        found, result = _read(file, key, indices)
        if not found:
            result = self.func(*args, **kwargs)
            if _is_numeric(result):
                _write(file, key, indices, result)
        return result

    def _name_result(self, arguments: dict[str, Any], key: bytes) -> str:
        # joblib's errors quote the arguments, so neither they nor their context are passed on
        try:
            content = joblib.hash((self._identity, arguments), hash_name="sha1", coerce_mmap=True)
        except Exception as error:
            failure = type(error).__name__
        else:
            return hmac.digest(key, content.encode(), "sha256").hex()[:32]
        raise pickle.PicklingError(
            f"The arguments of {self.func.__qualname__} cannot be hashed ({failure}), for example "
            "because of a lambda among the parameters of a transformer; use a function of a "
            "module, or memory=None."
        )


def _is_numeric(result: Any) -> bool:
    """Return False if any part of a result holds text, dates or other non-numeric data."""
    if isinstance(result, str | bytes):
        return False
    if isinstance(result, tuple | list):
        return all(map(_is_numeric, result))
    if isinstance(result, pd.DataFrame):
        return all(map(is_numeric_dtype, result.dtypes))
    # An encoder may have a parameter `dtype`, but no shape
    return not hasattr(result, "shape") or is_numeric_dtype(getattr(result, "dtype", object))


def _read(file: Path, key: bytes, indices: dict[str, pd.Index]) -> tuple[bool, Any]:
    """Return whether there is a usable result, and the result."""
    try:
        # A folder, or a pipe that would never end, is not read
        is_file = stat.S_ISREG(file.stat().st_mode)
        content = file.read_bytes() if is_file else b""
    except (FileNotFoundError, NotADirectoryError):
        # Another process may remove it at any moment
        return False, None
    payload = content[_SIGNATURE_BYTES:]
    signature = hmac.digest(key, payload, "sha256")
    if not is_file:
        failure = "it is not a file"
    elif not hmac.compare_digest(content[:_SIGNATURE_BYTES], signature):
        failure = "it is damaged or was altered"
    else:
        try:
            return True, _ResultUnpickler(io.BytesIO(payload), indices).load()
        except Exception as error:
            failure = type(error).__name__
    _warn(f"A cached result cannot be read ({failure}); it is computed again.")
    return False, None


def _write(file: Path, key: bytes, indices: dict[str, pd.Index], result: Any) -> None:
    """Store a result; if that fails, only warn, because the caller has the result anyway."""
    try:
        stream = io.BytesIO()
        _ResultPickler(stream, indices).dump(result)
        payload = stream.getvalue()
        make_private_folder(file.parent)
        write_private(file, hmac.digest(key, payload, "sha256") + payload)
    except Exception as error:
        failure = type(error).__name__
    else:
        return
    _warn(f"A result cannot be cached ({failure}); the next equal call computes it again.")


def _warn(message: str) -> None:
    # Only the type of an error is shown: its message may quote the data
    warnings.warn(message, UserWarning, stacklevel=4)


class _ResultPickler(pickle.Pickler):
    """Write an index equal to that of an argument as a reference."""

    def __init__(self, stream: io.BytesIO, indices: dict[str, pd.Index]) -> None:
        super().__init__(stream, protocol=pickle.HIGHEST_PROTOCOL)
        self.indices = indices

    def persistent_id(self, obj: Any) -> tuple[str, list[Any]] | None:
        if isinstance(obj, pd.Index):
            for argument, index in self.indices.items():
                if type(obj) is type(index) and obj.dtype == index.dtype and obj.equals(index):
                    return argument, list(obj.names)
        return None


class _ResultUnpickler(pickle.Unpickler):
    def __init__(self, stream: io.BytesIO, indices: dict[str, pd.Index]) -> None:
        super().__init__(stream)
        self.indices = indices

    def persistent_load(self, pid: tuple[str, list[Any]]) -> pd.Index:
        argument, names = pid
        return self.indices[argument].set_names(names)
