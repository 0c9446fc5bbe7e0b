"""Which results may be kept, and a pickle of them without row indices of the arguments."""

import io
import pickle

import pandas as pd
from pandas.api.types import is_numeric_dtype


def is_numeric(result):
    """Tell whether a result holds no text, date or other non-numeric data.

    Parameters
    ----------
    result : object
        What the function gave; of a tuple, as of transformed rows and the fitted transformer,
        each part is looked at.

    Returns
    -------
    numeric : bool
        True for arrays and tables of numbers, and for what is neither, as an estimator.
    """
    if isinstance(result, str | bytes):
        return False
    if isinstance(result, tuple | list):
        return all(map(is_numeric, result))
    if isinstance(result, pd.DataFrame):
        return all(map(is_numeric_dtype, result.dtypes))
    # an encoder may have a parameter `dtype`, but no shape
    return not hasattr(result, "shape") or is_numeric_dtype(getattr(result, "dtype", object))


def dump_result(result, arguments):
    """Pickle a result; an index equal to that of an argument becomes a reference.

    Row indices often are identifiers of stays or patients.

    Parameters
    ----------
    result : object
        What the function gave.

    arguments : dict of str to object
        What it was called with, by name.

    Returns
    -------
    data : bytes
        The pickle.
    """
    stream = io.BytesIO()
    _ResultPickler(stream, _row_indices(arguments)).dump(result)
    return stream.getvalue()


def load_result(data, arguments):
    """Load a result of an equal call, and put the indices of its arguments back.

    Parameters
    ----------
    data : bytes
        What `dump_result` gave.

    arguments : dict of str to object
        Arguments equal to those of the call that was dumped.

    Returns
    -------
    result : object
        The result.
    """
    return _ResultUnpickler(io.BytesIO(data), _row_indices(arguments)).load()


def _row_indices(arguments):
    return {
        name: value.index
        for name, value in arguments.items()
        if isinstance(value, pd.DataFrame | pd.Series)
    }


class _ResultPickler(pickle.Pickler):
    def __init__(self, stream, indices):
        super().__init__(stream, protocol=pickle.HIGHEST_PROTOCOL)
        self.indices = indices

    def persistent_id(self, obj):
        if isinstance(obj, pd.Index):
            for argument, index in self.indices.items():
                if type(obj) is type(index) and obj.dtype == index.dtype and obj.equals(index):
                    return argument, list(obj.names)
        return None


class _ResultUnpickler(pickle.Unpickler):
    def __init__(self, stream, indices):
        super().__init__(stream)
        self.indices = indices

    def persistent_load(self, pid):
        argument, names = pid
        return self.indices[argument].set_names(names)
