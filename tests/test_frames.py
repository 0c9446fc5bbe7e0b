"""Tables and columns of other libraries are read as pandas ones."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from sklearn_medfuse import LabTextSerializer, NoteCleaner

LABS = pd.DataFrame({"sodium": [140.0, None], "potassium": [None, 3.5]})
NOTES = pd.Series(["Jane has COPD.", None], name="note")


class Exported:
    """A library that exports Arrow data and knows nothing of pandas."""

    def __init__(self, data):
        self._data = data
        if isinstance(data, pl.DataFrame):
            self.columns = data.columns

    def __arrow_c_stream__(self, requested_schema=None):
        return self._data.__arrow_c_stream__(requested_schema)


TABLES = {
    "polars": pl.from_pandas,
    "arrow table": pa.Table.from_pandas,
    "record batch": pa.RecordBatch.from_pandas,
    "any exporter": lambda frame: Exported(pl.from_pandas(frame)),
}
COLUMNS = {
    "polars": pl.from_pandas,
    "polars categories": lambda column: pl.from_pandas(column).cast(pl.Categorical),
    "polars without a name": lambda column: pl.from_pandas(column).rename(""),
    "arrow array": pa.array,
    "chunked": lambda column: pa.chunked_array([column[:1], column[1:]]),
    "any exporter": lambda column: Exported(pl.from_pandas(column)),
}


@pytest.mark.parametrize("kind", TABLES)
def test_a_table_is_read_with_its_names_and_gaps(kind):
    serializer = LabTextSerializer(abnormal_only=False)
    found = serializer.fit_transform(TABLES[kind](LABS))
    assert found[:, 0].tolist() == ["sodium 140", "potassium 3.5"]
    assert serializer.feature_names_in_.tolist() == ["sodium", "potassium"]


@pytest.mark.parametrize("kind", COLUMNS)
def test_a_column_is_read_with_its_gaps(kind):
    found = NoteCleaner().fit_transform(COLUMNS[kind](NOTES))
    np.testing.assert_array_equal(found, NoteCleaner().fit_transform(NOTES))


def test_a_lazy_frame_is_no_table():
    with pytest.raises((TypeError, ValueError)):
        LabTextSerializer().fit(pl.from_pandas(LABS).lazy())
