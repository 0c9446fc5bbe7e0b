"""The tables of one data set, wherever they are, behind one SQL connection.

A query reads the columns it needs, once, within a limit of memory. Errors name tables, columns and
counts, and never a cell.
"""

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from os import PathLike
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd

from ._cells import INTEGERS, TIMES, Kind, converted
from ._postgres import PostgresPlace
from ._postgres_url import is_database_url
from ._table_places import (
    DATABASE_SUFFIXES,
    DuckDBFile,
    Folders,
    GivenTables,
    LocalPlace,
    TableColumns,
    to_arrow,
)

# pandas' own string type from version 3 on, object before.
TEXT_DTYPE = pd.Series(["a"]).dtype


class Source:
    """The tables of one data set; a context manager.

    Parameters
    ----------
    where : path-like, sequence of path-like, or mapping of str to DataFrame or path-like
        A folder with the tables as files, several folders, a DuckDB file, a PostgreSQL URL, or the
        tables, each as a data frame, a file, or a list of parquet files.
    dataset : str
        Name of the data set, for errors.
    url : str
        Where to get it, for errors; may be empty.
    memory_limit : str, default="2GB"
        Memory that queries may take before they use temporary files.
    n_threads : int, default=1
        Threads of the queries.
    century : int or None, default=None
        What stands before years of two digits: with 21, "10/23/64 21:09" is in October 2164. None
        where there are no such years.
    schemas : sequence of str, default=()
        Schemas of a database in which to look for tables first.
    """

    def __init__(
        self,
        where: str | PathLike[str] | Sequence[str | PathLike[str]] | Mapping[str, Any],
        dataset: str,
        url: str = "",
        *,
        memory_limit: str = "2GB",
        n_threads: int = 1,
        century: int | None = None,
        schemas: Sequence[str] = (),
    ):
        self.dataset = dataset
        self.url = url
        self.century = century
        self.zones: dict[str, list[int]] = {}
        self._defined: dict[str, tuple[str, str]] = {}
        self._tables: dict[str, TableColumns] = {}
        self._place = self._find_place(where, schemas)
        self._open(memory_limit, n_threads)

    def _find_place(self, where, schemas: Sequence[str]):
        if isinstance(where, Mapping):
            return GivenTables(where)
        given = [where] if isinstance(where, str | PathLike) else list(where)
        if any(is_database_url(one) for one in given):
            return PostgresPlace(given, schemas)
        paths = [Path(path) for path in given]
        for path in paths:
            if not path.exists():
                raise FileNotFoundError(f"'{path}' does not exist. {self._remedy()}")
            if len(paths) > 1 and not path.is_dir():
                raise NotADirectoryError(f"'{path}' is no folder, and a database stands alone.")
        if len(paths) == 1 and paths[0].is_file():
            if paths[0].suffix.lower() not in DATABASE_SUFFIXES:
                raise FileNotFoundError(
                    f"'{paths[0]}' is a file, neither a folder nor a DuckDB database "
                    f"({', '.join(DATABASE_SUFFIXES)}). {self._remedy()}"
                )
            return DuckDBFile(paths[0], schemas)
        return Folders(paths)

    def _remedy(self) -> str:
        at = f", which is at {self.url}" if self.url else ""
        return (
            "Give the folder, the DuckDB file or the PostgreSQL URL with the tables of "
            f"{self.dataset}{at}."
        )

    def _open(self, memory_limit: str, n_threads: int) -> None:
        # What a query cannot hold goes to disk: for the owner alone, encrypted, gone at the end.
        self._spill = Path(tempfile.mkdtemp(prefix="medfuse-"))
        settings = {
            "memory_limit": memory_limit,
            "threads": n_threads,
            "temp_directory": str(self._spill),
            "temp_file_encryption": True,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "preserve_insertion_order": False,
        }
        failed = False
        try:
            self._connection = duckdb.connect(":memory:", config=settings)
            # A time with a zone becomes UTC, whatever the machine's own zone is.
            self._connection.execute("SET TimeZone = 'UTC'")
            # kept track of, for `progress`, and not printed
            self._connection.execute("SET enable_progress_bar = true")
            self._connection.execute("SET enable_progress_bar_print = false")
            _allow_encryption(self._connection)
            self._place.attach(self._connection)
        except duckdb.Error:
            failed = True
        if failed:
            shutil.rmtree(self._spill, ignore_errors=True)
            self._place.close()
            raise ValueError(
                f"Cannot open {self._place.opened}: is it damaged, of another version, or opened "
                f"for writing elsewhere? memory_limit is {memory_limit!r}."
            )

    def __enter__(self) -> "Source":
        return self

    def __exit__(self, *_) -> None:
        self._connection.close()
        self._place.close()
        shutil.rmtree(self._spill, ignore_errors=True)

    def has(self, table: str) -> bool:
        """Whether there is a table of that name.

        Parameters
        ----------
        table : str
            Name of the table, in any case.

        Returns
        -------
        bool
            True if it is there.
        """
        return self._find(table) is not None

    @property
    def has_signature(self) -> bool:
        """Whether it can be told that a table has been changed: not of a server's."""
        return isinstance(self._place, LocalPlace)

    def signature(self, table: str) -> list:
        """What differs when a table has been changed.

        Parameters
        ----------
        table : str
            Name of the table, in any case.

        Returns
        -------
        list
            Paths, sizes and times of change of its files, or digests of data frames.
        """
        if (defined := self._defined.get(table.lower())) is not None:
            return [defined, *self._place.signature(None)]
        return self._place.signature(table)

    def progress(self) -> float:
        """How much of the running query is done, in percent.

        Returns
        -------
        float
            Below 0 where that is not known.
        """
        return self._connection.query_progress()

    def columns(self, table: str) -> dict[str, tuple[str, str]]:
        """Columns of a table.

        Parameters
        ----------
        table : str
            Name of the table, in any case.

        Returns
        -------
        dict of str to (str, str)
            Lower-case name -> name in the table, type in SQL.

        Raises
        ------
        FileNotFoundError
            If there is no such table.
        ValueError
            If it cannot be read.
        """
        found = self._find(table)
        if found is None:
            part = f"It is part of {self.dataset}" + (f", at {self.url}." if self.url else ".")
            raise FileNotFoundError(f"{self._place.missing(table)} {part}")
        return found

    def kind_of_key(self, table: str, column: str) -> Kind:
        """Whether a column of identifiers holds numbers ("id") or texts ("key").

        Parameters
        ----------
        table, column : str
            Names in any case.

        Returns
        -------
        {"id", "key"}
            "id" only where the column's type is a number.
        """
        present = self.columns(table)
        self._check_columns(table, [column], present)
        sql_type = present[column.lower()][1]
        return "id" if sql_type in INTEGERS or sql_type in ("DOUBLE", "FLOAT") else "key"

    def select(
        self,
        table: str,
        columns: Mapping[str, tuple[str, Kind]],
        optional: Sequence[str] = (),
        where: str = "true",
    ) -> str:
        """A query for some columns of a table, under other names and as what they hold.

        Parameters
        ----------
        table : str
            Name of the table, in any case.
        columns : mapping of str to (str, str)
            New name -> name in the table, kind. Times are in microseconds since 1970, in UTC if
            they have a zone; beside each stand `<name>_unreadable` and `<name>_zoned`, the latter
            NULL where there is no telling.
        optional : sequence of str, default=()
            New names of columns that may be absent; they are then NULL.
        where : str, default="true"
            SQL condition on the columns of the table.

        Returns
        -------
        str
            SQL in parentheses.

        Raises
        ------
        FileNotFoundError
            If the table is not there.
        ValueError
            If a column is missing or cannot hold what it should.
        """
        return self._select(table, columns, optional, where)[0]

    def select_needed(
        self,
        table: str,
        columns: Mapping[str, tuple[str, Kind]],
        optional: Sequence[str],
        conditions: Sequence[str | None],
    ) -> tuple[str, dict[int, int]]:
        """As :meth:`select`, of a server's table without the rows that are not needed.

        Parameters
        ----------
        table, columns, optional
            As in :meth:`select`.
        conditions : sequence of str or None
            Conditions in the server's SQL for rows `e` (by new name) and stays `s`, in the order in
            which they are looked at; None where there is none. Those up to the first one that the
            server cannot tell are looked at there.

        Returns
        -------
        sql : str
            SQL in parentheses.
        left : dict of int to int
            Place of a condition, counted from 1 -> number of rows that it left on the server; empty
            where there is no server.
        """
        sql, scan = self._select(table, columns, optional, "true")
        return sql, self._place.narrow(scan, dict(columns), conditions)

    def _select(self, table, columns, optional, where) -> tuple[str, str]:
        """The query and the scan of which it converts the columns."""
        present = self.columns(table)
        self._check_columns(
            table, [name for new, (name, _) in columns.items() if new not in optional], present
        )
        parts, needed = [], {}
        for new, (name, kind) in columns.items():
            given = present.get(name.lower())
            parts += converted(new, kind, given, f"Table '{table}', column '{name}'", self.century)
            if given is not None:
                needed[given[0]] = given[0]
        if (defined := self._defined.get(table.lower())) is not None:
            sql, scan = defined
            return f"(SELECT {', '.join(parts)} FROM {sql} WHERE {where})", scan
        scan = self._place.scan(table, needed, where)
        return f"(SELECT {', '.join(parts)} FROM {scan})", scan

    def fetch(
        self,
        table: str,
        columns: Mapping[str, tuple[str, Kind]],
        optional: Sequence[str] = (),
        where: str = "true",
    ) -> pd.DataFrame:
        """Some columns of a table of moderate size.

        Parameters
        ----------
        table, columns, optional
            As in :meth:`select`.
        where : str, default="true"
            SQL condition on the columns of the table.

        Returns
        -------
        DataFrame
            Times as datetime64 without zone, texts as strings, missing cells as NaN or NaT.
        """
        frame = self.query(f"SELECT * FROM {self.select(table, columns, optional, where)}", table)
        for new, (name, kind) in columns.items():
            if kind in TIMES:
                zoned = frame.pop(f"{new}_zoned")
                self.note_zones(table, name, int(zoned.eq(True).sum()), int(zoned.eq(False).sum()))
                unreadable = int(frame.pop(f"{new}_unreadable").sum())
                if unreadable:
                    raise ValueError(
                        f"Table '{table}', column '{name}': {unreadable} of {len(frame)} cells "
                        "are no times of the form 2101-10-20 19:08:00."
                    )
                frame[new] = pd.to_datetime(frame[new].astype("Int64"), unit="us")
            elif kind in ("key", "text", "code"):
                texts = frame[new].astype(object)
                frame[new] = texts.where(texts.notna(), None).astype(TEXT_DTYPE)
        return frame

    def note_zones(self, table: str, column: str, n_zoned: int, n_naive: int) -> None:
        """Remember whether times had a zone, and refuse a mixture.

        Parameters
        ----------
        table, column : str
            Where the times stand.
        n_zoned, n_naive : int
            Numbers of times with and without a zone.

        Raises
        ------
        ValueError
            If some times of the data set have a zone and others have none: they cannot be put in
            order.
        """
        self.zones[f"{table}.{column}"] = [n_zoned, n_naive]
        if sum(z for z, _ in self.zones.values()) and sum(n for _, n in self.zones.values()):
            told = ", ".join(f"{key} {z} with, {n} without" for key, (z, n) in self.zones.items())
            raise ValueError(
                f"Times with and without a time zone are mixed ({told}). Give all a zone, or none."
            )

    def query(self, sql: str, what: str) -> pd.DataFrame:
        """Rows of a query.

        Parameters
        ----------
        sql : str
            The query.
        what : str
            The table that is read, for errors.

        Returns
        -------
        DataFrame
            The rows.
        """
        with self._place.streams(sql):
            return self._guarded(what, lambda: self._connection.execute(sql).df())

    def execute(self, sql: str, what: str) -> None:
        """Run a statement without a result.

        Parameters
        ----------
        sql : str
            The statement.
        what : str
            The table that is read, for errors.
        """
        with self._place.streams(sql):
            self._guarded(what, lambda: self._connection.execute(sql))

    def batches(self, sql: str, what: str, size: int = 5000):
        """Rows of a query as lists of tuples.

        Parameters
        ----------
        sql : str
            The query.
        what : str
            The table that is read, for errors.
        size : int, default=5000
            Rows in a list.

        Yields
        ------
        list of tuple
            The rows.
        """
        self.execute(sql, what)
        while rows := self._guarded(what, lambda: self._connection.fetchmany(size)):
            yield rows

    def define(self, name: str, sql: str, rows_of: str = "") -> None:
        """Make a query known as a table.

        Parameters
        ----------
        name : str
            Its name, which no table of the source has.
        sql : str
            A SELECT over results of :meth:`scan`.
        rows_of : str, default=""
            One of them, if each row of the query is one of its rows, with its columns.
        """
        self._defined[name.lower()] = (f"({sql})", rows_of)

    def scan(
        self,
        table: str,
        columns: Sequence[str],
        optional: Sequence[str] = (),
        where: str = "true",
    ) -> str:
        """Some columns of a table as they are, to be named in a query.

        Parameters
        ----------
        table : str
            Name of the table, in any case.
        columns : sequence of str
            Columns that it must have, in lower case.
        optional : sequence of str, default=()
            Columns that are read if they are there.
        where : str, default="true"
            SQL condition on its columns, which DuckDB and PostgreSQL understand alike.

        Returns
        -------
        str
            SQL.

        Raises
        ------
        FileNotFoundError
            If there is no such table.
        ValueError
            If it lacks a column.
        """
        present = self.columns(table)
        self._check_columns(table, columns, present)
        wanted = [*columns, *(name for name in optional if name in present)]
        return self._place.scan(table, {name: present[name][0] for name in wanted}, where)

    def register(self, name: str, frame: pd.DataFrame) -> None:
        """Make a table of a data frame.

        Parameters
        ----------
        name : str
            Its name; a table of that name is replaced.
        frame : DataFrame
            The rows.
        """
        self._connection.register("incoming", to_arrow(frame, name))
        self.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS SELECT * FROM incoming", name)
        self._connection.unregister("incoming")

    def _guarded(self, what: str, run) -> Any:
        # DuckDB quotes cells in its errors, and chained errors are logged with their causes: so
        # ours are raised after the except clause is left.
        failure = ""
        try:
            return run()
        except duckdb.OutOfMemoryException:
            failure = "needs more memory than memory_limit allows: raise it"
        except (duckdb.Error, UnicodeDecodeError, OSError):
            failure = self._place.failure
        raise ValueError(f"Table '{what}' {failure}.")

    def _find(self, table: str) -> TableColumns | None:
        """Columns of a table; None if there is none."""
        key = table.lower()
        if key not in self._tables:
            if key in self._defined:
                found = self._described(self._defined[key][0], table)
            else:
                found = self._place.columns(table, lambda sql: self._described(sql, table))
            if found is None:
                return None
            self._tables[key] = found
        return self._tables[key]

    def _described(self, relation: str, table: str) -> TableColumns:
        """Columns of what SQL stands for."""
        sql = f"DESCRIBE SELECT * FROM {relation}"
        with self._place.streams(sql, empty=True):
            frame = self._guarded(table, lambda: self._connection.execute(sql).df())
        pairs = zip(frame["column_name"], frame["column_type"], strict=True)
        # The byte-order mark of some exports would be part of the first name.
        return {name.lstrip("\ufeff").strip().lower(): (name, str(kind)) for name, kind in pairs}

    def _check_columns(self, table: str, names: Sequence[str], present) -> None:
        missing = [name for name in dict.fromkeys(names) if name.lower() not in present]
        if not missing:
            return
        hint = " Are its fields separated by commas?" if len(present) == 1 else ""
        at = f" The tables of {self.dataset} are at {self.url}." if self.url else ""
        raise ValueError(
            f"Table '{table}' lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)}; "
            f"it has {len(present)} others.{hint}{at}"
        )


def _allow_encryption(connection) -> None:
    """Let DuckDB encrypt temporary files by itself.

    Newer versions refuse to without an extension that has to be downloaded, since the random
    numbers of their own encryption are weak: a query that needs the disk would fail. The key stays
    in this process, and the files in a folder that the owner alone may enter.
    """
    # Versions that do not know the setting encrypt as they are.
    with suppress(duckdb.CatalogException):
        connection.execute("SET force_mbedtls_unsafe = 'true'")
