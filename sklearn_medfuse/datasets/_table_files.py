"""Writing tables piece by piece, so that none has to fit into memory."""

import gzip
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from .._private_files import make_private_folder

SUFFIXES = (".csv", ".csv.gz", ".parquet")


class TableFiles:
    """Open files of one folder for its owner alone, one per table; a context manager.

    Parameters
    ----------
    folder : Path
        Where the files go.
    suffix : {".csv", ".csv.gz", ".parquet"}
        Their format.
    """

    def __init__(self, folder: Path, suffix: str):
        self.folder = folder
        self.suffix = suffix
        self._opened = ExitStack()
        self._writers: dict[str, Any] = {}

    def __enter__(self) -> "TableFiles":
        return self

    def __exit__(self, *_) -> None:
        # The last opened first: a writer before the stream into which it writes its end.
        self._opened.close()

    def append(self, name: str, rows: pa.Table) -> None:
        """Add rows to a table, which is opened with the first of them.

        Parameters
        ----------
        name : str
            The table, with a folder before it where it is in one: "hosp/labevents".
        rows : Table
            Of the same columns each time; there may be none.
        """
        if name not in self._writers:
            self._writers[name] = self._open(self.folder / f"{name}{self.suffix}", rows.schema)
        self._writers[name].write_table(rows)

    def _open(self, file: Path, schema: pa.Schema):
        make_private_folder(file.parent)
        file.touch(mode=0o600)
        if self.suffix == ".parquet":
            return self._opened.enter_context(pq.ParquetWriter(file, schema))
        stream: Any = self._opened.enter_context(pa.OSFile(str(file), "wb"))
        if self.suffix == ".csv.gz":
            # Level 1 is several times as fast as gzip's own choice and not much larger; without a
            # time the same tables make the same bytes.
            packed = gzip.GzipFile("", "wb", compresslevel=1, fileobj=stream, mtime=0)
            stream = self._opened.enter_context(packed)
        return self._opened.enter_context(pacsv.CSVWriter(stream, schema))
