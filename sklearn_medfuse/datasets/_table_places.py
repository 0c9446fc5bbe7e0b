"""Where tables can be: files in folders, files and data frames given one by one, a DuckDB file.

Tables are found by name in any case and stay where they are. A database server is in `_postgres`.
"""

import gzip
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa

from ._cells import literal, quoted
from ._digests import arrow_digest
from ._postgres_url import is_database_url

SUFFIXES = (".parquet", ".csv", ".csv.gz", ".csv.zst")
DATABASE_SUFFIXES = (".duckdb", ".ddb", ".db")

# Lower-case name -> name in the table, type in DuckDB's SQL.
TableColumns = dict[str, tuple[str, str]]

_CSV_OPTIONS = (
    "header = true, delim = ',', quote = '\"', escape = '\"', all_varchar = true, "
    "strict_mode = true, comment = '', skip = 0, nullstr = '', sample_size = 1, "
    # for compressed files, of which a whole buffer is unpacked to read the header
    "buffer_size = 8000000"
)


def choose_schema(schemas: Sequence[str], preferred: Sequence[str], table: str, where: str) -> str:
    """The one of several schemas with a table of that name that is meant.

    Parameters
    ----------
    schemas : sequence of str
        Schemas that have the table.
    preferred : sequence of str
        Schemas that go before others, the first one first.
    table, where : str
        Names of the table and the database, for the error.

    Returns
    -------
    str
        One of `schemas`.

    Raises
    ------
    ValueError
        If that cannot be told.
    """
    for schema in preferred:
        if schema in schemas:
            return schema
    if len(set(schemas)) > 1:
        raise ValueError(
            f"{where} has a table '{table}' in {len(set(schemas))} schemas: "
            f"{', '.join(sorted(set(schemas)))}. Keep it in one."
        )
    return schemas[0]


class LocalPlace:
    """Tables that DuckDB reads by itself; what `Source` asks of a place."""

    # What is said of a table that DuckDB cannot read to its end.
    failure = (
        "cannot be read to its end: it is truncated, damaged, not UTF-8 text, not separated by "
        "commas, or has rows longer or shorter than its header"
    )
    # What is said if DuckDB cannot be opened on it.
    opened = "the query engine"

    def attach(self, connection) -> None:
        """Make the tables known to a DuckDB connection."""
        self._connection = connection
        self._relations: dict[str, str | None] = {}

    def relation(self, table: str) -> str | None:
        """SQL that stands for a table; None if there is none."""
        raise NotImplementedError

    def missing(self, table: str) -> str:
        """Where a table was looked for in vain."""
        raise NotImplementedError

    def columns(self, table: str, describe: Callable[[str], TableColumns]) -> TableColumns | None:
        """Columns of a table; None if there is none."""
        relation = self._relations.setdefault(table.lower(), self.relation(table))
        return None if relation is None else describe(relation)

    def scan(self, table: str, columns: Mapping[str, str], where: str) -> str:
        """SQL that reads some columns (new name -> name) of the rows that fulfil `where`."""
        parts = ", ".join(f"{quoted(name)} AS {quoted(new)}" for new, name in columns.items())
        return f"(SELECT {parts} FROM {self._relations[table.lower()]} WHERE {where})"

    def narrow(self, scan: str, roles: Mapping[str, Any], conditions: Sequence[str | None]):
        """Number of rows left behind per condition: none, as rows are cheap here."""
        return {}

    def streams(self, sql: str, *, empty: bool = False) -> AbstractContextManager:
        """What a query needs while it runs: nothing."""
        return nullcontext()

    def signature(self, table: str | None) -> list:
        """What differs when a table has been changed; of all tables with None."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of what is open: nothing."""


class Folders(LocalPlace):
    """Folders with one file per table.

    Parameters
    ----------
    folders : list of Path
        Looked at in this order.
    """

    def __init__(self, folders: list[Path]):
        self._folders = folders

    def relation(self, table: str) -> str | None:
        """SQL that reads the first file of that name."""
        file = self._file(table)
        return None if file is None else _read_files(table, file)

    def _file(self, table: str) -> Path | None:
        for folder in self._folders:
            present = {file.name.lower(): file for file in sorted(folder.iterdir())}
            for suffix in SUFFIXES:
                if (file := present.get(f"{table.lower()}{suffix}")) is not None:
                    return file
        return None

    def signature(self, table: str | None) -> list:
        """Path, size and time of change of a table's file."""
        if table is None:
            files = [file for folder in self._folders for file in sorted(folder.iterdir())]
            return [_stamp(file) for file in files if file.name.lower().endswith(SUFFIXES)]
        file = self._file(table)
        return [] if file is None else [_stamp(file)]

    def missing(self, table: str) -> str:
        """Where a table was looked for in vain."""
        wanted = ", ".join(f"{table}{suffix}" for suffix in SUFFIXES)
        folders = " or ".join(f"'{folder}'" for folder in self._folders)
        return f"No table '{table}' in {folders}: looked for {wanted} in upper or lower case."


class GivenTables(LocalPlace):
    """Tables given one by one, as data frames, files, or lists of parquet files.

    Parameters
    ----------
    tables : mapping of str to DataFrame, path-like or list of path-like
        The tables by name.
    """

    def __init__(self, tables: Mapping[str, Any]):
        self._frames: dict[str, pd.DataFrame] = {}
        self._files: dict[str, list[Path]] = {}
        for name, table in tables.items():
            if isinstance(table, pd.DataFrame):
                self._frames[name.lower()] = table
            else:
                parts = table if isinstance(table, list) else [table]
                self._files[name.lower()] = [_checked_file(Path(part)) for part in parts]

    def relation(self, table: str) -> str | None:
        """SQL that reads a file, or the name under which a data frame is registered."""
        key = table.lower()
        if key in self._frames:
            name = f"frame {key}"
            self._connection.register(name, to_arrow(self._frames[key], f"Table '{key}'"))
            return quoted(name)
        return _read_files(table, *self._files[key]) if key in self._files else None

    def signature(self, table: str | None) -> list:
        """Content of a data frame; path, size and time of change of files."""
        keys = [*self._frames, *self._files] if table is None else [table.lower()]
        signature: list[Any] = []
        for key in keys:
            if key in self._frames:
                signature.append(arrow_digest(to_arrow(self._frames[key], f"Table '{key}'")))
            signature += [_stamp(file) for file in self._files.get(key, ())]
        return signature

    def missing(self, table: str) -> str:
        """Where a table was looked for in vain."""
        return f"No table '{table}' among those given."


class DuckDBFile(LocalPlace):
    """A DuckDB file, opened for reading.

    Parameters
    ----------
    file : Path
        The file.
    schemas : sequence of str
        Schemas that go before others where several have a table.
    """

    def __init__(self, file: Path, schemas: Sequence[str]):
        self._file = file
        self._schemas = schemas
        self.opened = f"'{file}' as a DuckDB file"

    def attach(self, connection) -> None:
        """Attach the file."""
        super().attach(connection)
        connection.execute(f"ATTACH {literal(str(self._file))} AS source (READ_ONLY)")

    def relation(self, table: str) -> str | None:
        """The table's full name."""
        found = self._connection.execute(
            "SELECT table_schema, table_name FROM information_schema.tables "
            "WHERE table_catalog = 'source' AND lower(table_name) = lower(?)",
            [table],
        ).fetchall()
        if not found:
            return None
        names = dict(found)
        schema = choose_schema([s for s, _ in found], self._schemas, table, f"'{self._file}'")
        return f"source.{quoted(schema)}.{quoted(names[schema])}"

    def missing(self, table: str) -> str:
        """Where a table was looked for in vain."""
        return f"No table '{table}' in '{self._file}'."

    def signature(self, table: str | None) -> list:
        """Path, size and time of change of the file, and of what is not yet written into it."""
        log = self._file.with_name(f"{self._file.name}.wal")
        return [_stamp(file) for file in (self._file, log) if file.exists()]


def _stamp(file: Path) -> tuple[str, int, int]:
    status = file.stat()
    return str(file.resolve()), status.st_size, status.st_mtime_ns


def _checked_file(file: Path) -> Path:
    if is_database_url(file):
        raise ValueError("Give a database URL as `database`, and the tables by their names in it.")
    if not file.is_file():
        raise FileNotFoundError(f"There is no file '{file}'.")
    if not file.name.lower().endswith(SUFFIXES):
        raise ValueError(f"'{file}' is none of {', '.join(SUFFIXES)}.")
    return file


def to_arrow(frame: pd.DataFrame, where: str) -> pa.Table:
    """A data frame for DuckDB, whose own reading of pandas depends on the versions of both."""
    mixed = {
        str(name): column.map(lambda cell: cell if pd.isna(cell) else str(cell))
        for name, column in frame.items()
        if pd.api.types.is_object_dtype(column.dtype)
        and pd.api.types.infer_dtype(column, skipna=True).startswith("mixed")
    }
    failed = False
    try:
        return pa.Table.from_pandas(frame.assign(**mixed), preserve_index=False)
    except (pa.ArrowException, TypeError, ValueError):
        failed = True
    assert failed
    raise ValueError(f"{where} has a column that is neither numbers, nor times, nor texts.")


def _read_files(table: str, *files: Path) -> str:
    """SQL that reads a file, or several of parquet; patterns in names are taken literally."""
    paths = [literal("".join(f"[{c}]" if c in "*?[" else c for c in str(file))) for file in files]
    if all(file.name.lower().endswith(".parquet") for file in files):
        return f"read_parquet([{', '.join(paths)}], union_by_name = true)"
    (file,), (path,) = files, paths
    compression = {".gz": "gzip", ".zst": "zstd"}.get(file.suffix.lower(), "none")
    if compression == "gzip" and _ENDS_EARLY_UNSEEN:
        written = file.stat()
        if not _is_whole_gzip(file, written.st_size, written.st_mtime_ns):
            raise ValueError(f"Table '{table}' {LocalPlace.failure}.")
    return f"read_csv({path}, {_CSV_OPTIONS}, compression = '{compression}')"


# DuckDB before 2.0 can read a truncated csv.gz as if it were whole.
_ENDS_EARLY_UNSEEN = duckdb.__version__.startswith("1.")


@lru_cache
def _is_whole_gzip(file: Path, size: int, changed: int) -> bool:
    try:
        with gzip.open(file) as stream:
            while stream.read(1 << 20):
                pass
    except (EOFError, OSError, zlib.error):
        return False
    return True
