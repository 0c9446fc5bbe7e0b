"""A DuckDB connection on one place of tables, within a limit of memory, that shows no cell."""

import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import duckdb
import pandas as pd

from ._table_places import to_arrow


class QueryEngine:
    """Runs queries on the tables of a place; a context manager.

    Parameters
    ----------
    place : LocalPlace or PostgresPlace
        Where the tables are; it is closed with the engine.
    memory_limit : str
        Memory that queries may take before they use temporary files.
    n_threads : int
        Threads of the queries.

    Raises
    ------
    ValueError
        If it cannot be opened.
    """

    def __init__(self, place, memory_limit: str, n_threads: int):
        self._place = place
        # What a query cannot hold goes to disk: for the owner alone, encrypted, gone at the end.
        self._spill = Path(tempfile.mkdtemp(prefix="medfuse-"))
        settings: dict[str, str | bool | int | float | list[str]] = {
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

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        self._connection.close()
        self._place.close()
        shutil.rmtree(self._spill, ignore_errors=True)

    def progress(self) -> float:
        """How much of the running query is done, in percent.

        Returns
        -------
        float
            Below 0 where that is not known.
        """
        return self._connection.query_progress()

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


def _allow_encryption(connection) -> None:
    """Let DuckDB encrypt temporary files by itself.

    It refuses to without an extension that has to be downloaded, since the random numbers of its
    own encryption are weak: a query that needs the disk would fail. The key stays in this process,
    and the files in a folder that the owner alone may enter.
    """
    # DuckDB 1.4 has no such setting: it encrypts without it.
    with suppress(duckdb.CatalogException):
        connection.execute("SET force_mbedtls_unsafe = 'true'")
