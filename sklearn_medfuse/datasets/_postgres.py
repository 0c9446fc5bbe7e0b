"""Tables of a PostgreSQL server, streamed into DuckDB through ADBC.

A scan is a name that stands in DuckDB's queries. When a query runs, each scan that it names becomes
a stream of record batches: the server has chosen the columns and the rows, and no batch is kept.
ADBC makes the batches in C; the cursors of psycopg and SQLAlchemy make an object of every cell,
which takes about three times as long.
All streams see the database as it was when it was opened. The driver's errors hold parts of the
connection and may quote cells: ours are raised after the except clause is left, without them.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa

from ._cells import Kind, literal, quoted
from ._postgres_rows import ServerColumn, ServerFilter, column_of, server_filter
from ._postgres_url import DatabaseURL, parse_url
from ._table_places import TableColumns, choose_schema, to_arrow

_STAYS = "medfuse_stays"
_SCAN = re.compile(r"\bserver_scan_\d+\b")

# All columns of all that can be read like a table under one name, in any schema that is looked at.
_CATALOG = """
SELECT n.nspname::text AS schema, c.relname::text AS name, a.attname::text AS "column",
    coalesce(b.typname, t.typname)::text AS type,
    CASE WHEN t.typtype = 'd' THEN t.typtypmod ELSE a.atttypmod END AS modifier
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_catalog.pg_type b ON t.typtype = 'd' AND b.oid = t.typbasetype
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND lower(c.relname) = {name} AND {schemas}
ORDER BY n.nspname, c.relname, a.attnum
"""
_OWN = "n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\\_%'"
# Whether the stays can be put into a temporary table, and whether texts are in Unicode.
_ABILITIES = """
SELECT has_database_privilege(current_database(), 'TEMP') AND NOT pg_is_in_recovery()
    AND current_setting('transaction_read_only') = 'off' AS with_stays,
    current_setting('server_encoding') = 'UTF8' AS unicode
"""
# What the driver says of a connection that fails, in English -> what we say.
_CAUSES = {
    "refused": "no server answers there: is it running, and are host and port right?",
    "translate host name": "there is no such host",
    "timeout": "it did not answer in time",
    "password": "user or password were not accepted",
    "authentication": "user or password were not accepted",
    "role": "user or password were not accepted",
    "does not exist": "there is no such database",
}


def import_adbc():
    """ADBC's driver for PostgreSQL, or an error that says how to get it.

    Returns
    -------
    module
        adbc_driver_postgresql.dbapi.

    Raises
    ------
    ImportError
        If it is not installed.
    """
    try:
        import adbc_driver_postgresql.dbapi as adbc
    except ImportError as error:
        raise ImportError(
            "Reading a PostgreSQL database needs ADBC: pip install 'sklearn-medfuse[sql]'."
        ) from error
    return adbc


@dataclass
class _Scan:
    """A query for some columns (new name -> column) and rows of a table."""

    table: str
    relation: str
    present: Mapping[str, ServerColumn]
    columns: Mapping[str, ServerColumn]
    where: str
    filter: ServerFilter | None = None

    def sql(self) -> str:
        """The server's SQL."""
        if self.filter is not None:
            return self.filter.rows(self.columns, self.relation, self.where)
        parts = ", ".join(f"{of.sent} AS {quoted(new)}" for new, of in self.columns.items())
        return f"SELECT {parts} FROM {self.relation} WHERE {self.where}"

    def empty(self) -> pa.Table:
        """Its columns without a row."""
        return pa.schema([(new, of.arrow_type) for new, of in self.columns.items()]).empty_table()


class PostgresPlace:
    """The tables of a PostgreSQL database.

    Parameters
    ----------
    given : list
        One URL.
    schemas : sequence of str
        Schemas that go before others where the URL names none.

    Raises
    ------
    ConnectionError
        If the server does not answer or refuses the user.
    ImportError
        If the driver is not installed.
    ValueError
        If the URL cannot be read, or names a schema that is not there.
    """

    failure = (
        "was broken off by the server or could not be read: the connection was lost, a time limit "
        "was reached, or it holds text that is not in the encoding of the database"
    )
    opened = "the query engine"

    def __init__(self, given: Sequence[Any], schemas: Sequence[str]):
        if len(given) > 1:
            raise ValueError("A database stands alone: give no folder or file beside its URL.")
        self._url: DatabaseURL = parse_url(given[0])
        self._adbc = import_adbc()
        self._connections: list[Any] = []
        self._scans: dict[str, _Scan] = {}
        self._present: dict[str, tuple[str, dict[str, ServerColumn]]] = {}
        self._snapshot = ""
        ready = False
        try:
            main = self._connect()
            exported = self._rows(main, "SELECT pg_export_snapshot() AS name", "the database")
            self._snapshot = exported[0]["name"]
            self._abilities = self._rows(main, _ABILITIES, "the database")[0]
            self._preferred = self._check_schemas(schemas)
            ready = True
        finally:
            if not ready:
                self.close()

    def _connect(self):
        told = None
        try:
            connection = self._adbc.connect(self._url.uri)
        except self._adbc.Error as error:
            told = str(error)
        if told is not None:
            cause = next((said for part, said in _CAUSES.items() if part in told), None)
            more = "the server refuses it" if cause is None else cause
            raise ConnectionError(f"Cannot connect to the {self._url.shown}: {more}.")
        self._connections.append(connection)
        settings = ["TRANSACTION ISOLATION LEVEL REPEATABLE READ"]
        if self._snapshot:
            settings.append(f"TRANSACTION SNAPSHOT {literal(self._snapshot)}")
        # DuckDB may work for long between two streams.
        settings += ["client_encoding = 'UTF8'", "idle_in_transaction_session_timeout = 0"]
        with connection.cursor() as cursor:
            for setting in settings:
                self._guarded("the database", partial(cursor.execute, f"SET {setting}"))
        return connection

    def _guarded(self, what: str, run: Callable[[], Any]) -> Any:
        state = ""
        try:
            return run()
        except (self._adbc.Error, pa.ArrowException, OSError) as error:
            state = getattr(error, "sqlstate", None) or "unknown"
        if state == "42501":
            raise PermissionError(
                f"You may not read {what} in the {self._url.shown}: ask its owner for SELECT."
            )
        if state == "57014":
            raise TimeoutError(
                f"The server has cancelled reading {what}: raise its statement_timeout, for "
                "example by ?options=-cstatement_timeout%3D0 in the URL."
            )
        raise ValueError(f"The server cannot read {what} (SQLSTATE {state}).")

    def _rows(self, connection, sql: str, what: str) -> list[dict[str, Any]]:
        """All rows of a small result."""

        def fetch():
            with connection.cursor() as cursor:
                cursor.execute(sql)
                return cursor.fetch_arrow_table().to_pylist()

        return self._guarded(what, fetch)

    def _check_schemas(self, preferred: Sequence[str]) -> list[str]:
        """Schemas in which to look first: those of the URL, of the data set, of the search path."""
        found = self._rows(
            self._connections[0],
            "SELECT nspname::text AS name, "
            "array_position(current_schemas(false), nspname) AS place "
            f"FROM pg_catalog.pg_namespace n WHERE {_OWN} ORDER BY place NULLS LAST, nspname",
            "the database",
        )
        names = [row["name"] for row in found]
        unknown = [name for name in self._url.schemas if name not in names]
        if unknown:
            raise ValueError(
                f"There is no schema {', '.join(map(repr, unknown))} in the {self._url.shown}; "
                f"it has {', '.join(names)}."
            )
        if self._url.schemas:
            return list(self._url.schemas)
        in_path = [row["name"] for row in found if row["place"] is not None]
        return [*preferred, *in_path]

    def attach(self, connection) -> None:
        """Remember the DuckDB connection that reads the streams."""
        self._duckdb = connection

    def missing(self, table: str) -> str:
        """Where a table was looked for in vain."""
        within = ", ".join(f"'{name}'" for name in self._url.schemas)
        schemas = f"schema {within}" if within else "any schema"
        return f"No table '{table}' in {schemas} of the {self._url.shown}."

    def columns(self, table: str, describe) -> TableColumns | None:
        """Columns of a table as they come from the server; None if there is none."""
        key = table.lower()
        schemas = _OWN
        if self._url.schemas:
            schemas = f"n.nspname IN ({', '.join(map(literal, self._url.schemas))})"
        catalog = _CATALOG.format(name=literal(key), schemas=schemas)
        rows = self._rows(self._connections[0], catalog, f"table '{table}'")
        if not rows:
            return None
        of_schema: dict[str, list[dict[str, Any]]] = {}
        for row in rows:
            of_schema.setdefault(row["schema"], []).append(row)
        schema = choose_schema(list(of_schema), self._preferred, table, f"The {self._url.shown}")
        name = of_schema[schema][0]["name"]
        of_table = [row for row in of_schema[schema] if row["name"] == name]
        names = {row["column"].strip().lower(): row["column"] for row in of_table}
        relation = f"{quoted(schema)}.{quoted(name)}"
        if any(lower != column for lower, column in names.items()):
            # Conditions name columns in lower case.
            renamed = ", ".join(f"{quoted(c)} AS {quoted(lower)}" for lower, c in names.items())
            relation = f"(SELECT {renamed} FROM {relation}) AS renamed"
        types = {row["column"]: (row["type"], row["modifier"]) for row in of_table}
        present = {lower: column_of(lower, *types[column]) for lower, column in names.items()}
        self._present[key] = (relation, present)
        return {lower: (lower, column.sql_type) for lower, column in present.items()}

    def scan(self, table: str, columns: Mapping[str, str], where: str) -> str:
        """A name that stands for some columns (new name -> name) of rows that fulfil `where`."""
        relation, present = self._present[table.lower()]
        name = f"server_scan_{len(self._scans)}"
        wanted = {new: present[column] for new, column in columns.items()}
        self._scans[name] = _Scan(table, relation, present, wanted, where)
        return name

    def narrow(
        self,
        scan: str,
        roles: Mapping[str, tuple[str, Kind]],
        conditions: Sequence[str | None],
    ) -> dict[int, int]:
        """Leave rows on the server that a condition refuses; their number per condition."""
        of = self._scans.get(scan)
        if of is None:
            return {}
        of.filter = server_filter(of.present, roles, conditions, _STAYS, **self._abilities)
        if of.filter is None:
            return {}
        if of.filter.needs_stays():
            self._send_stays()
        sql = of.filter.counts(of.relation, of.where)
        rows = self._rows(self._connections[0], sql, f"table '{of.table}'")
        return {row["reason"]: row["n"] for row in rows if row["reason"]}

    def _send_stays(self) -> None:
        """Put DuckDB's table of stays into a temporary table, which goes with the connection."""
        stays = self._duckdb.execute(
            "SELECT stay, key, make_timestamp(started) AS started, "
            "make_timestamp(index_time) AS index_time FROM stays"
        ).df()
        times = dict.fromkeys(["started", "index_time"], "datetime64[us]")
        table = to_arrow(stays.astype(times), "The table of stays")

        def send():
            with self._connections[0].cursor() as cursor:
                cursor.execute(f"DROP TABLE IF EXISTS pg_temp.{_STAYS}")
                cursor.adbc_ingest(_STAYS, table, mode="create", temporary=True)

        self._guarded("the stays", send)

    @contextmanager
    def streams(self, sql: str, *, empty: bool = False) -> Iterator[None]:
        """Open what a query reads while it runs; with `empty`, only its columns."""
        # The stays are on the first connection, and one stream at a time goes through each.
        named = sorted(set(_SCAN.findall(sql)), key=lambda name: self._scans[name].filter is None)
        with ExitStack() as opened:
            for place, name in enumerate(named):
                of = self._scans[name]
                rows = of.empty()
                if not empty:
                    if place == len(self._connections):
                        self._connect()
                    cursor = opened.enter_context(self._connections[place].cursor())
                    what = f"table '{of.table}'"
                    self._guarded(what, partial(cursor.execute, of.sql()))
                    rows = self._guarded(what, cursor.fetch_record_batch)
                self._duckdb.register(name, rows)
                opened.callback(self._duckdb.unregister, name)
            yield

    def close(self) -> None:
        """Close the connections; what they have written is gone."""
        while self._connections:
            self._connections.pop().close()
