"""Tables and columns of other libraries, such as polars and Arrow, as pandas ones."""

from typing import Any

import pandas as pd


def to_pandas(X) -> Any:
    """Return a DataFrame or Series for any other library's table or column; else X itself.

    Read is what exports Arrow data: polars and narwhals DataFrames and Series, and Arrow tables,
    record batches and (chunked) arrays. A null becomes pandas' missing value; column names, a
    Series' name and the index that an Arrow table keeps for pandas survive.

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
        # Imported here, as few inputs need it
        import pyarrow as pa

        X = pa.table(X) if hasattr(X, "columns") else pa.chunked_array(X)
    return X.to_pandas()
