"""What users pass in: tables as pandas ones, groups as numbers, errors that quote no values."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

# Far more than any file of ours; parsed, a file takes some thirty times its size
_JSON_BYTES = 2**26

# Patterns in messages of numpy, pandas and scikit-learn that quote the input, with replacements
_QUOTES = (
    (r"could not convert string to float.*", "X holds text where numbers are expected."),
    (r"instead:\narray=.*\.\nReshape", "instead. Reshape"),
    (r"(Complex data not supported).*", r"\1."),
    (r"(Expected array-like \(array or non-string sequence\)), got .*", r"\1."),
    (r"(Input should have at least 1 dimension).*", r"\1."),
    (r"(must be called with a collection of some kind), .* was passed", r"\1"),
    (r"(The '(?:cohort|y_true|y_pred|y_score)' parameter of .*?)\.? Got .* instead\.", r"\1."),
    (r"(invalid literal for int\(\)).*", r"\1."),
)


@contextmanager
def no_values_in_errors() -> Iterator[None]:
    """Remove the input, which is patient data, from other libraries' messages about it.

    The error itself is altered, since an error raised in its place would keep it as its context,
    which error trackers send along.

    Examples
    --------
    >>> with no_values_in_errors():
    ...     float("Jane Doe")
    Traceback (most recent call last):
    ...
    ValueError: X holds text where numbers are expected.
    """
    try:
        yield
    except (TypeError, ValueError) as error:
        message = str(error)
        for quoting, silent in _QUOTES:
            message = re.sub(quoting, silent, message, flags=re.DOTALL)
        error.args = (message,)
        error.__cause__ = error.__context__ = None
        raise


def to_pandas(X) -> Any:
    """Return another library's table or column as a DataFrame or Series, anything else as it is.

    It reads everything that exports Arrow data: polars and narwhals DataFrames and Series, Arrow
    tables, record batches and (chunked) arrays. Nulls become missing values of pandas; column
    names, a Series' name and the index that an Arrow table keeps for pandas survive.

    >>> import pyarrow as pa
    >>> to_pandas(pa.table({"sodium": [140, None]}))
       sodium
    0   140.0
    1     NaN
    >>> to_pandas([140, None])
    [140, None]
    """
    is_arrow = hasattr(X, "__arrow_c_stream__") or hasattr(X, "__arrow_c_array__")
    if isinstance(X, pd.DataFrame | pd.Series) or not is_arrow:
        return X
    if not hasattr(X, "to_pandas"):
        # Imported here because few inputs need it
        import pyarrow as pa

        X = pa.table(X) if hasattr(X, "columns") else pa.chunked_array(X)
    X = X.to_pandas()
    # The empty name is how polars says that a Series has none
    return X.rename(None) if isinstance(X, pd.Series) and X.name == "" else X


def encode_groups(groups: Any, name: str = "groups") -> tuple[np.ndarray, int]:
    """Return codes 0 … n_groups-1 in the groups' sorted order, and the number of groups."""
    if groups is None:
        raise ValueError(
            f"`{name}` is None. Pass one value per row, e.g. groups=cohort.groups (in a search: "
            "search.fit(X, y, groups=...)), or np.arange(n_samples) if rows are independent."
        )
    # A list is read as objects, so that a NaN among names does not become the name "nan"
    groups = np.asarray(groups, dtype=None if hasattr(groups, "dtype") else object)
    if groups.ndim != 1:
        raise ValueError(
            f"`{name}` has {groups.ndim} dimensions; pass one value per row, of shape (n_samples,)."
        )
    codes, uniques = pd.factorize(groups, sort=True)
    n_missing = int((codes < 0).sum())
    if n_missing:
        raise ValueError(
            f"`{name}` has {n_missing} missing values; pass a group for these rows, or drop them."
        )
    return codes, len(uniques)


def read_json_object(file: Path, remedy: str) -> dict[str, Any]:
    """Read a json file that holds an object."""
    content = None
    if file.stat().st_size <= _JSON_BYTES:
        try:
            content = json.loads(file.read_bytes())
        except (ValueError, RecursionError):
            # Raised below, outside the handler, since this error may quote the content
            content = None
    if not isinstance(content, dict):
        raise ValueError(f"{file} is damaged: it holds no json object. {remedy}")
    return content
