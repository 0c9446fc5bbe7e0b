"""A function whose results are cached under keyed names."""

import functools
import hmac
import inspect
import pickle
import stat
import warnings

import joblib
import sklearn

from .._private_files import load_key, make_private_folder, write_private
from .._version import __version__
from ._result_pickle import dump_result, is_numeric, load_result

_SIGNATURE_BYTES = 32


class PrivateFunction:
    """Call a function, or give the result of an equal call.

    A result lies in ``<location>/<name>/output.pkl``, the layout that `joblib.Memory.clear` and
    `reduce_size` know: the name is a keyed hash in 32 hexadecimal digits.

    Parameters
    ----------
    func : callable
        A function whose source can be read.

    location : Path
        Folder of the cache.

    key_file : Path
        File of the secret key. The key itself is in no attribute, so in no pickle.

    ignore : sequence of str
        Arguments that do not tell results apart.
    """

    def __init__(self, func, location, key_file, ignore):
        functools.update_wrapper(self, func)
        self.func = func
        self.location = location
        self.key_file = key_file
        self.ignore = tuple(ignore)
        self._identity = _identify(func)

    def __call__(self, *args, **kwargs):
        """Return the cached result, or compute and keep it."""
        arguments = self._bind(args, kwargs)
        key = load_key(self.key_file)
        file = self.location / self._name_result(arguments, key) / "output.pkl"
        found, result = _read(file, arguments, key)
        if not found:
            result = self.func(*args, **kwargs)
            if is_numeric(result):
                _write(file, result, arguments, key)
        return result

    def _bind(self, args, kwargs):
        bound = inspect.signature(self.func).bind(*args, **kwargs)
        bound.apply_defaults()
        return {name: value for name, value in bound.arguments.items() if name not in self.ignore}

    def _name_result(self, arguments, key):
        # joblib's errors quote the arguments, so nothing of them, their context included, goes on
        try:
            content = joblib.hash((self._identity, arguments), hash_name="sha1", coerce_mmap=True)
        except Exception as error:
            failure = type(error).__name__
        else:
            return hmac.digest(key, content.encode(), "sha256").hex()[:32]
        raise pickle.PicklingError(
            f"the arguments of {self.func.__qualname__} cannot be hashed ({failure}), as with a "
            "lambda among the parameters of a transformer; use a function of a module, or "
            "memory=None."
        )


def _identify(func):
    """Tell functions and versions apart."""
    try:
        source = inspect.getsource(func)
    except (OSError, TypeError):
        raise ValueError(
            "`func` has no source that can be read, so a change in it would go unnoticed; write "
            "it as a function in a file."
        ) from None
    versions = sklearn.__version__, __version__
    return func.__module__, func.__qualname__, source, versions


def _read(file, arguments, key):
    """Return whether there is a result that can be used, and the result."""
    try:
        # asked once: another process may remove it at any moment
        mode = file.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return False, None
    if not stat.S_ISREG(mode):
        # a folder, or a pipe that would be read for ever
        _warn("A cached result is no file; it is computed again.")
        return False, None
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        return False, None
    signature, payload = content[:_SIGNATURE_BYTES], content[_SIGNATURE_BYTES:]
    if not hmac.compare_digest(signature, hmac.digest(key, payload, "sha256")):
        failure = "it is torn or was altered"
    else:
        try:
            return True, load_result(payload, arguments)
        except Exception as error:
            failure = type(error).__name__
    _warn(f"A cached result cannot be read ({failure}); it is computed again.")
    return False, None


def _write(file, result, arguments, key):
    """Keep a result; where that fails, warn, as the caller has the result all the same."""
    try:
        payload = dump_result(result, arguments)
        make_private_folder(file.parent)
        write_private(file, hmac.digest(key, payload, "sha256") + payload)
    except Exception as error:
        failure = type(error).__name__
    else:
        return
    _warn(f"A result cannot be cached ({failure}); an equal call computes it again.")


def _warn(message):
    # no more than the type of an error is told: its message may quote the data
    warnings.warn(message, UserWarning, stacklevel=4)
