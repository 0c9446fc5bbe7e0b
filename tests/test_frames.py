"""Tables and columns of other libraries become pandas ones."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from pandas.testing import assert_frame_equal, assert_series_equal

from sklearn_medfuse._input_data import to_pandas

FRAME = pd.DataFrame({"sodium": [140.0, None], "note": ["Jane", None]})


class Exported:
    """A library that exports Arrow data and knows nothing of pandas."""

    def __init__(self, data):
        self._data = data
        if isinstance(data, pl.DataFrame):
            self.columns = data.columns

    def __arrow_c_stream__(self, requested_schema=None):
        return self._data.__arrow_c_stream__(requested_schema)


TABLES = {
    "pandas": lambda frame: frame,
    "polars": pl.from_pandas,
    "arrow table": pa.Table.from_pandas,
    "record batch": pa.RecordBatch.from_pandas,
    "any exporter": lambda frame: Exported(pl.from_pandas(frame)),
}
COLUMNS = {
    "pandas": lambda column: column,
    "polars": pl.from_pandas,
    "polars categories": lambda column: pl.from_pandas(column).cast(pl.Categorical),
    "arrow array": pa.array,
    "chunked": lambda column: pa.chunked_array([column[:1], column[1:]]),
    "any exporter": lambda column: Exported(pl.from_pandas(column)),
}


@pytest.mark.parametrize("kind", TABLES)
def test_a_table_becomes_a_data_frame(kind):
    assert_frame_equal(to_pandas(TABLES[kind](FRAME)), FRAME, check_dtype=False)


@pytest.mark.parametrize("kind", COLUMNS)
def test_a_column_becomes_a_series(kind):
    series = to_pandas(COLUMNS[kind](FRAME["note"]))
    expected = FRAME["note"]
    assert_series_equal(
        *(each.astype(object).where(each.notna(), None) for each in (series, expected)),
        check_names="polars" in kind,
    )


def test_a_series_without_a_name_has_none():
    assert to_pandas(pl.Series([1.0])).name is None


def test_an_arrow_table_keeps_the_index_of_pandas():
    frame = FRAME.set_axis(["stay 1", "stay 2"])
    assert list(to_pandas(pa.Table.from_pandas(frame)).index) == ["stay 1", "stay 2"]


@pytest.mark.parametrize("X", [[1.0, None], np.zeros((2, 1)), None, "text", pl.LazyFrame()])
def test_anything_else_stays_as_it_is(X):
    assert to_pandas(X) is X
