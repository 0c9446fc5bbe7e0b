"""The tables of one data set, wherever they are, behind one DuckDB connection.

A query reads the columns it needs, once, within a limit of memory. Tables are found by name in any
case and stay where they are. Errors name tables, columns and counts, and never a cell.
"""

import functools
import gzip
import os
import re
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from os import PathLike
from pathlib import Path
from typing import Any, Self

import duckdb
import pandas as pd
import pyarrow as pa

from .._options import CohortOptions
from .columns import (
    TEXT_DTYPE,
    TIMES,
    Column,
    Kind,
    Reading,
    TableColumns,
    literal,
    quoted,
    read_column,
    to_arrow,
)
from .postgres import PostgresPlace, choose_schema

SUFFIXES = (".parquet", ".csv", ".csv.gz", ".csv.zst")
DATABASE_SUFFIXES = (".duckdb", ".ddb", ".db")

# New name -> column, kind
Columns = Mapping[str, tuple[str, Kind]]
# Kinds that conditions on a server may compare
_COMPARED = ("id", "key", "name", "text", *TIMES)
# What cells that cannot be read are not
_FORMS = {
    "flag": "1 or 0, yes or no, true or false",
    "age": 'ages in years, "> 89" or "90+"',
    **dict.fromkeys(TIMES, "times of the form 2101-10-20 19:08:00"),
}
# Two letters at least: C:/ is a disk
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
# DuckDB before 2.0 can read a truncated csv.gz as if it were whole
_ENDS_EARLY_UNSEEN = duckdb.__version__.startswith("1.")
_CSV_OPTIONS = (
    "header = true, delim = ',', quote = '\"', escape = '\"', all_varchar = true, "
    "strict_mode = true, comment = '', skip = 0, nullstr = '', sample_size = 1, "
    # DuckDB unpacks a whole buffer of a compressed file to read the header
    "buffer_size = 8000000"
)


def is_database_url(where: Any) -> bool:
    """Whether a place begins like a URL, so that no error quotes it as a path."""
    return isinstance(where, str | PathLike) and bool(_URL.match(os.fspath(where)))


class Source:
    """The tables of one data set; a context manager.

    `where` is a folder with the tables as files, several folders, a DuckDB file, a PostgreSQL URL,
    or the tables, each as a data frame, a file, or a list of parquet files. Errors name the
    `dataset` and the `url` where to get it. `century` stands before years of two digits: with 21,
    "10/23/64 21:09" is in October 2164. `schemas` of a database are searched first.
    """

    def __init__(
        self,
        where: str | PathLike[str] | Sequence[str | PathLike[str]] | Mapping[str, Any],
        dataset: str,
        url: str = "",
        options: CohortOptions = CohortOptions(),  # noqa: B008  # frozen
        *,
        century: int | None = None,
        schemas: Sequence[str] = (),
    ):
        self.dataset = dataset
        self.url = url
        self._century = century
        self._zones: dict[str, tuple[int, int]] = {}
        # Name -> query, and the scan of which each row of the query is one row
        self._defined: dict[str, tuple[str, str]] = {}
        self._tables: dict[str, TableColumns] = {}
        self._place = _find_place(where, schemas, dataset, url)
        # What a query cannot hold goes to disk: for the owner alone, encrypted, gone at the end
        self._spill = Path(tempfile.mkdtemp(prefix="medfuse-"))
        # The error is ours and raised outside of the handler
        try:
            self._connect(options)
            return
        except duckdb.ParserException:
            reason = f"memory_limit={options.memory_limit!r} is not a size such as '2GB'."
        except duckdb.Error:
            reason = "is it damaged, from another version of DuckDB, or open for writing elsewhere?"
        shutil.rmtree(self._spill, ignore_errors=True)
        self._place.close()
        raise ValueError(f"Cannot open {self._place.opened}: {reason}")

    def _connect(self, options: CohortOptions) -> None:
        settings: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": options.memory_limit,
            "threads": options.n_jobs,
            "temp_directory": str(self._spill),
            "temp_file_encryption": True,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "preserve_insertion_order": False,
        }
        self._connection = duckdb.connect(":memory:", config=settings)
        # A time with a zone becomes UTC, whatever the machine's own zone is
        self._connection.execute("SET TimeZone = 'UTC'")
        # A notebook would show it unasked
        self._connection.execute(f"SET enable_progress_bar = {bool(options.verbose)}")
        # DuckDB refuses to encrypt temporary files without an extension that has to be downloaded,
        # as the random numbers of its own encryption are weak. The key stays in this process, and
        # the files in a folder that the owner alone may enter. DuckDB 1.4 has no such setting and
        # encrypts without it.
        with suppress(duckdb.CatalogException):
            self._connection.execute("SET force_mbedtls_unsafe = 'true'")
        self._place.attach(self._connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        self._connection.close()
        self._place.close()
        shutil.rmtree(self._spill, ignore_errors=True)

    # Tables and their columns

    def has(self, table: str) -> bool:
        """Whether there is a table of that name."""
        return self._find(table) is not None

    def columns(self, table: str) -> TableColumns:
        """Columns of a table: lower-case name -> name in the table, type in SQL."""
        found = self._find(table)
        if found is None:
            part = f"It is part of {self.dataset}" + (f", at {self.url}." if self.url else ".")
            raise FileNotFoundError(f"{self._place.missing(table)} {part}")
        return found

    def _find(self, table: str) -> TableColumns | None:
        key = table.lower()
        if key not in self._tables:
            if key in self._defined:
                found = self._describe(self._defined[key][0], table)
            else:
                found = self._place.columns(table, lambda sql: self._describe(sql, table))
            if found is None:
                return None
            self._tables[key] = found
        return self._tables[key]

    def _describe(self, relation: str, table: str) -> TableColumns:
        sql = f"DESCRIBE SELECT * FROM {relation}"
        with self._place.streams(sql, empty=True):
            frame = self._guarded(table, lambda: self._connection.execute(sql).df())
        pairs = zip(frame["column_name"], frame["column_type"], strict=True)
        # The byte-order mark of some exports would be part of the first name. The type of a column
        # without any value is "NULL", with quotation marks.
        return {
            name.lstrip("\ufeff").strip().lower(): (name, str(kind).strip('"'))
            for name, kind in pairs
        }

    def _check_columns(self, table: str, names: Sequence[str], present: TableColumns) -> None:
        missing = [name for name in dict.fromkeys(names) if name.lower() not in present]
        if missing:
            hint = " Are its fields separated by commas?" if len(present) == 1 else ""
            at = f" The tables of {self.dataset} are at {self.url}." if self.url else ""
            raise ValueError(
                f"Table '{table}' lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)}; "
                f"it has {len(present)} others.{hint}{at}"
            )

    # Reading

    def scan(
        self, table: str, columns: Sequence[str], optional: Sequence[str] = (), where: str = "true"
    ) -> str:
        """SQL of some columns, by lower-case names, as they are; `where` is SQL of both engines."""
        present = self.columns(table)
        self._check_columns(table, columns, present)
        wanted = [*columns, *(name for name in optional if name in present)]
        return self._place.scan(table, {name: present[name][0] for name in wanted}, where)

    def define(self, name: str, sql: str, rows_of: str = "") -> None:
        """Make a query over scans known as a table, whose rows are those of the scan `rows_of`."""
        self._defined[name.lower()] = (f"({sql})", rows_of)

    def select(
        self, table: str, columns: Columns, optional: Sequence[str] = (), where: str = "true"
    ) -> str:
        """SQL of some columns, read as their kinds; an absent one in `optional` reads as NULL."""
        return self._select(table, columns, optional, where)[0]

    def select_needed(
        self, table: str, columns: Columns, optional: Sequence[str], conditions: Sequence[str]
    ) -> tuple[str, dict[int, int]]:
        """As `select`, and how many rows a server keeps back, by place of the condition from 1."""
        sql, scan, readings = self._select(table, columns, optional, "true")
        roles = {
            new: (reading.items, columns[new][0].lower())
            for new, reading in readings.items()
            if reading.portable and columns[new][1] in _COMPARED
        }
        absent = {name for _, name in roles.values()} - set(self.columns(table))
        return sql, self._place.narrow(scan, roles, absent, conditions)

    def _select(
        self, table: str, columns: Columns, optional: Sequence[str], where: str
    ) -> tuple[str, str, dict[str, Reading]]:
        """The query, the scan whose columns it reads, and how it reads them."""
        present = self.columns(table)
        self._check_columns(
            table, [name for new, (name, _) in columns.items() if new not in optional], present
        )
        readings = {}
        needed: dict[str, str] = {}
        for new, (name, kind) in columns.items():
            column: Column | None = present.get(name.lower())
            place = f"Table '{table}', column '{name}'"
            readings[new] = read_column(new, kind, column, place, self._century)
            if column is not None:
                needed[column[0]] = column[0]
        items = ", ".join(item for reading in readings.values() for item in reading.items)
        if table.lower() in self._defined:
            sql, scan = self._defined[table.lower()]
            return f"(SELECT {items} FROM {sql} WHERE {where})", scan, readings
        scan = self._place.scan(table, needed, where)
        return f"(SELECT {items} FROM {scan})", scan, readings

    def fetch(
        self, table: str, columns: Columns, optional: Sequence[str] = (), where: str = "true"
    ) -> pd.DataFrame:
        """Some columns of a table of moderate size; times come without a zone."""
        frame = self.query(f"SELECT * FROM {self.select(table, columns, optional, where)}", table)
        for new, (name, kind) in columns.items():
            if kind in TIMES:
                zoned = frame.pop(f"{new}_zoned")
                self.note_zones(table, name, int(zoned.eq(True).sum()), int(zoned.eq(False).sum()))
                del frame[f"{new}_dated"]
            if kind in _FORMS:
                unreadable = int(frame.pop(f"{new}_unreadable").sum())
                if unreadable:
                    raise ValueError(
                        f"Table '{table}', column '{name}': {unreadable} of {len(frame)} cells "
                        f"are not {_FORMS[kind]}; leave a cell empty where the value is not known."
                    )
            if kind in ("flag", "age"):
                frame[new] = frame[new].astype(float)
            elif kind == "id" and frame[new].dtype.kind == "i":
                # Of one size, whatever the size in the table; nullable where DuckDB has it so
                nullable = pd.api.types.is_extension_array_dtype(frame[new].dtype)
                frame[new] = frame[new].astype("Int64" if nullable else "int64")
            elif kind in ("key", "name", "text", "code"):
                texts = frame[new].astype(object)
                frame[new] = texts.where(texts.notna(), None).astype(TEXT_DTYPE)
        return frame

    def note_zones(self, table: str, column: str, n_zoned: int, n_naive: int) -> None:
        """Remember how many times have a zone, and refuse a mixture: they have no order."""
        self._zones[f"{table}.{column}"] = (n_zoned, n_naive)
        if sum(z for z, _ in self._zones.values()) and sum(n for _, n in self._zones.values()):
            told = ", ".join(f"{key} {z} with, {n} without" for key, (z, n) in self._zones.items())
            raise ValueError(
                f"Times with and without a time zone are mixed ({told}). Give all times a zone, or "
                "none."
            )

    # Running

    def query(self, sql: str, what: str) -> pd.DataFrame:
        """Rows of a query; `what` is the table that is read, for errors."""
        with self._place.streams(sql):
            return self._guarded(what, lambda: self._connection.execute(sql).df())

    def execute(self, sql: str, what: str) -> None:
        """Run a statement without a result."""
        with self._place.streams(sql):
            self._guarded(what, lambda: self._connection.execute(sql))

    def batches(self, sql: str, what: str, size: int = 5000) -> Iterator[list[tuple]]:
        """Rows of a query as lists of tuples."""
        self.execute(sql, what)
        while rows := self._guarded(what, lambda: self._connection.fetchmany(size)):
            yield rows

    def register(self, name: str, frame: pd.DataFrame) -> None:
        """Make a table of a data frame; a table of that name is replaced."""
        self._connection.register("incoming", to_arrow(frame, name))
        self.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS SELECT * FROM incoming", name)
        self._connection.unregister("incoming")

    def define_function(
        self, name: str, read: Callable[[str], dict[str, Any] | None], fields: dict[str, str]
    ) -> None:
        """Give the queries a function of a text; its `fields`: name -> "double" or "string"."""
        known = functools.lru_cache(100_000)(read)
        record = pa.struct([(field, pa.type_for_alias(kind)) for field, kind in fields.items()])

        def read_all(texts: pa.Array) -> pa.Array:
            # DuckDB refuses a record that is NULL: its fields are
            return pa.array([known(text) or {} for text in texts.to_pylist()], record)

        kinds = {"double": "DOUBLE", "string": "VARCHAR"}
        items = ", ".join(f"{field} {kinds[kind]}" for field, kind in fields.items())
        text, result = duckdb.sqltype("VARCHAR"), duckdb.sqltype(f"STRUCT({items})")
        self._connection.create_function(  # type: ignore[call-overload]  # of "arrow"
            name, read_all, [text], result, type="arrow"
        )

    def _guarded(self, what: str, run: Callable[[], Any]) -> Any:
        # DuckDB quotes cells in its errors, and chained errors are logged with their causes: ours
        # are raised outside of the handler
        failure = ""
        try:
            return run()
        except duckdb.OutOfMemoryException:
            failure = "needs more memory than memory_limit allows: raise it"
        except (duckdb.Error, UnicodeDecodeError, OSError):
            failure = self._place.failure
        raise ValueError(f"Table '{what}' {failure}.")


def _find_place(where, schemas: Sequence[str], dataset: str, url: str):
    """The kind of place that is meant."""
    if isinstance(where, Mapping):
        return LocalPlace(
            {
                name.lower(): table if isinstance(table, pd.DataFrame) else _checked_files(table)
                for name, table in where.items()
            }
        )
    given = [where] if isinstance(where, str | PathLike) else list(where)
    if any(is_database_url(one) for one in given):
        return PostgresPlace(given, schemas)
    at = f", which is at {url}" if url else ""
    remedy = (
        f"Give the folder, the DuckDB file or the PostgreSQL URL with the tables of {dataset}{at}."
    )
    paths = [Path(path) for path in given]
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"'{path}' does not exist. {remedy}")
        if len(paths) > 1 and not path.is_dir():
            raise NotADirectoryError(
                f"'{path}' is not a folder, and a database cannot be combined with a folder."
            )
    if len(paths) > 1 or paths[0].is_dir():
        return LocalPlace(_files_of(paths), paths)
    if paths[0].suffix.lower() not in DATABASE_SUFFIXES:
        raise FileNotFoundError(
            f"'{paths[0]}' is a file, neither a folder nor a DuckDB database "
            f"({', '.join(DATABASE_SUFFIXES)}). {remedy}"
        )
    return LocalPlace({}, file=paths[0], schemas=schemas)


class LocalPlace:
    """Tables that DuckDB reads by itself, with the interface of `PostgresPlace`.

    They are data frames or lists of files, by lower-case name, or all are in a DuckDB `file`, where
    those in `schemas` go first.
    """

    failure = (
        "cannot be read to its end: it is truncated, damaged, not UTF-8 text, not separated by "
        "commas, or has rows longer or shorter than its header"
    )

    def __init__(
        self,
        tables: Mapping[str, Any],
        folders: Sequence[Path] = (),
        file: Path | None = None,
        schemas: Sequence[str] = (),
    ):
        self._given = tables
        self._folders = folders
        self._file = file
        self._schemas = schemas
        self._relations: dict[str, str | None] = {}
        self.opened = "the query engine" if file is None else f"'{file}' as a DuckDB file"

    def attach(self, connection) -> None:
        """Make the tables known to a DuckDB connection."""
        self._connection = connection
        if self._file is not None:
            connection.execute(f"ATTACH {literal(str(self._file))} AS source (READ_ONLY)")

    def missing(self, table: str) -> str:
        """Where a table was looked for in vain."""
        if self._file is not None:
            return f"No table '{table}' in '{self._file}'."
        if not self._folders:
            return f"No table '{table}' among those given."
        wanted = ", ".join(f"{table}{suffix}" for suffix in SUFFIXES)
        folders = " or ".join(f"'{folder}'" for folder in self._folders)
        return f"No table '{table}' in {folders}: looked for {wanted} in upper or lower case."

    def columns(self, table: str, describe: Callable[[str], TableColumns]) -> TableColumns | None:
        """Columns of a table; None if there is none."""
        of_kind = self._given_table if self._file is None else self._table_in_file
        relation = self._relations.setdefault(table.lower(), of_kind(table))
        return None if relation is None else describe(relation)

    def _given_table(self, table: str) -> str | None:
        """SQL that stands for a table; None if there is none."""
        key = table.lower()
        given = self._given.get(key)
        if isinstance(given, pd.DataFrame):
            name = f"frame {key}"
            self._connection.register(name, to_arrow(given, f"Table '{key}'"))
            return quoted(name)
        return None if given is None else _read_files(table, *given)

    def _table_in_file(self, table: str) -> str | None:
        found = self._connection.execute(
            "SELECT table_schema, table_name FROM information_schema.tables "
            "WHERE table_catalog = 'source' AND lower(table_name) = lower(?)",
            [table],
        ).fetchall()
        if not found:
            return None
        names = dict(found)
        schema = choose_schema(list(names), self._schemas, table, f"'{self._file}'")
        return f"source.{quoted(schema)}.{quoted(names[schema])}"

    def scan(self, table: str, columns: Mapping[str, str], where: str) -> str:
        """SQL that reads some columns (new name -> name) of the rows that fulfil `where`."""
        parts = ", ".join(f"{quoted(name)} AS {quoted(new)}" for new, name in columns.items())
        return f"(SELECT {parts} FROM {self._relations[table.lower()]} WHERE {where})"

    def narrow(self, scan: str, roles, absent, conditions: Sequence[str]) -> dict[int, int]:
        """Number of rows left behind per condition: none, as DuckDB sees all rows here."""
        return {}

    def streams(self, sql: str, *, empty: bool = False) -> AbstractContextManager:
        """What a query needs while it runs: nothing."""
        return nullcontext()

    def close(self) -> None:
        """Close what is open: nothing."""


def _files_of(folders: Sequence[Path]) -> dict[str, list[Path]]:
    """The file of each table: of the first folder, and of the first suffix, that has it."""
    found: dict[str, list[Path]] = {}
    for folder in reversed(folders):
        files = sorted(folder.iterdir())
        for suffix in reversed(SUFFIXES):
            named = {file.name.lower(): file for file in files}
            ended = (name for name in named if name.endswith(suffix))
            found |= {name.removesuffix(suffix): [named[name]] for name in ended}
    return found


def _checked_files(given: Any) -> list[Path]:
    files = [Path(file) for file in (given if isinstance(given, list) else [given])]
    for file in files:
        if is_database_url(file):
            raise ValueError("Pass the database URL as `database`, and name the tables in it.")
        if not file.is_file():
            raise FileNotFoundError(f"There is no file '{file}'.")
        if not file.name.lower().endswith(SUFFIXES):
            raise ValueError(f"The name of '{file}' must end in one of {', '.join(SUFFIXES)}.")
    return files


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


@functools.lru_cache
def _is_whole_gzip(file: Path, size: int, changed: int) -> bool:
    try:
        with gzip.open(file) as stream:
            while stream.read(1 << 20):
                pass
    except (EOFError, OSError, zlib.error):
        return False
    return True
