"""The tables of one data set, wherever they are, behind one SQL connection.

A query reads the columns it needs, once, within a limit of memory. Errors name tables, columns and
counts, and never a cell.
"""

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

import pandas as pd

from ._cells import INTEGERS, TIMES, Kind, converted
from ._find_place import find_place
from ._query_engine import QueryEngine
from ._table_places import LocalPlace, TableColumns

# pandas' own string type from version 3 on, object before.
TEXT_DTYPE = pd.Series(["a"]).dtype


class Source(QueryEngine):
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
        super().__init__(find_place(where, schemas, dataset, url), memory_limit, n_threads)

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
