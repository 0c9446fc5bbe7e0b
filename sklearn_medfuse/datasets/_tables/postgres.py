"""Tables of a PostgreSQL server, streamed into DuckDB through ADBC.

A scan is a name in DuckDB's queries. When a query runs, each scan that it names becomes one SELECT
on the server, whose rows come as a stream of Arrow batches, none of which is kept. All streams see
the database as it was when it was opened.

Conditions are the SQL that DuckDB runs too, see `columns`: the server keeps back the rows that they
refuse and counts them, in one more SELECT. DuckDB checks all conditions again.

The driver's errors hold parts of the connection and may quote cells: ours are raised outside of the
handlers, without them.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import takewhile
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

import pyarrow as pa

from .columns import TableColumns, literal, quoted, to_arrow

_STAYS = "medfuse_stays"
_SCAN = re.compile(r"\bserver_scan_\d+\b")
_ROLE = re.compile(r"\be\.(\w+)")
_STAY = re.compile(r"\bs\.")
_FORM = "postgresql://user@host:5432/database?schema=name"
# Seconds to wait for a server; libpq would wait for minutes
_PATIENCE = 30


class ServerColumn(NamedTuple):
    """How a column leaves the server: SQL there, type in DuckDB, and type on the way."""

    sent: str
    sql_type: str
    arrow_type: pa.DataType


# An infinite time has no counterpart in DuckDB. Types that are not listed leave as a text.
_FINITE = "CASE WHEN isfinite({0}) THEN {0} END"
_TYPES = {
    "int2": ServerColumn("{0}", "SMALLINT", pa.int16()),
    "int4": ServerColumn("{0}", "INTEGER", pa.int32()),
    "int8": ServerColumn("{0}", "BIGINT", pa.int64()),
    "float4": ServerColumn("{0}", "FLOAT", pa.float32()),
    "float8": ServerColumn("{0}", "DOUBLE", pa.float64()),
    "numeric": ServerColumn("{0}::float8", "DOUBLE", pa.float64()),
    "bool": ServerColumn("{0}", "BOOLEAN", pa.bool_()),
    "date": ServerColumn(_FINITE, "DATE", pa.date32()),
    "timestamp": ServerColumn(_FINITE, "TIMESTAMP", pa.timestamp("us")),
    "timestamptz": ServerColumn(_FINITE, "TIMESTAMP WITH TIME ZONE", pa.timestamp("us", "UTC")),
}
_TEXT = ServerColumn("{0}::text", "VARCHAR", pa.string())
_WHOLE = ServerColumn("{0}::int8", "BIGINT", pa.int64())
# A whole number of up to 18 digits fits int8
_MAX_DIGITS = 18

# All columns of all that can be read like a table under one name, in any schema that is looked at
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
# Whether the stays can be put into a temporary table
_WITH_STAYS = """
SELECT has_database_privilege(current_database(), 'TEMP') AND NOT pg_is_in_recovery()
    AND current_setting('transaction_read_only') = 'off' AS yes
"""
# Part of the driver's message about a failed connection -> our message
_CAUSES = {
    "refused": "no server answers there: is it running, and are host and port right?",
    "translate host name": "there is no such host",
    "timeout": "it did not answer in time",
    **dict.fromkeys(
        ("password", "authentication", "role"), "the user or password was not accepted"
    ),
    "does not exist": "there is no such database",
}


def choose_schema(schemas: Sequence[str], preferred: Sequence[str], table: str, where: str) -> str:
    """The one of several schemas with a table of that name that is meant."""
    for schema in preferred:
        if schema in schemas:
            return schema
    if len(set(schemas)) > 1:
        raise ValueError(
            f"{where} has a table '{table}' in {len(set(schemas))} schemas: "
            f"{', '.join(sorted(set(schemas)))}. Keep it in one."
        )
    return schemas[0]


@dataclass(frozen=True)
class DatabaseURL:
    """A database and the schemas in which to look for tables."""

    # What libpq gets. It may hold a password and is no part of the repr.
    uri: str = field(repr=False)
    # Names in the parameter `schema` of the URL, in that order
    schemas: tuple[str, ...]
    # Name of the database, host and port, for errors
    shown: str


def parse_url(given: Any) -> DatabaseURL:
    """Read a URL of the form postgresql://user@host:port/database?schema=one,two."""
    if not isinstance(given, str):
        raise TypeError("Pass the database URL as a str: pathlib.Path collapses '//'.")
    scheme = given.partition(":")[0]
    if not re.match(r"postgres(ql)?(\+\w+)?://", given, re.IGNORECASE):
        raise ValueError(f"A database URL must be of the form {_FORM}, not begin with '{scheme}:'.")
    # The parser quotes what it does not understand, which may be a part of the password
    try:
        parts = urlsplit(given)
        host, port = parts.hostname, parts.port
        query = parse_qs(parts.query)
    except ValueError:
        parts = None
    if parts is None or any(mark.isspace() for mark in given):
        raise ValueError(
            f"The database URL cannot be read: it must be of the form {_FORM}, with special "
            "characters of user and password in percent-encoding, or with the password in "
            "PGPASSWORD or ~/.pgpass instead."
        )
    kept = [part for part in parts.query.split("&") if part and not part.startswith("schema=")]
    if "connect_timeout" not in query:
        kept.append(f"connect_timeout={_PATIENCE}")
    named = [name.strip() for value in query.get("schema", []) for name in value.split(",")]
    at = f"{host or query.get('host', ['localhost'])[0]}:{port or query.get('port', ['5432'])[0]}"
    return DatabaseURL(
        uri=f"postgresql://{parts.netloc}{parts.path}?{'&'.join(kept)}",
        schemas=tuple(name for name in named if name),
        shown=f"database '{unquote(parts.path[1:])}' at {at}",
    )


def _column_of(name: str, server_type: str, modifier: int) -> ServerColumn:
    """How a column leaves the server."""
    column = _TYPES.get(server_type, _TEXT)
    # The modifier of a numeric holds its digits
    if server_type == "numeric" and modifier >= 0:
        digits, scale = (modifier - 4) >> 16, (modifier - 4) & 0xFFFF
        if scale == 0 and digits <= _MAX_DIGITS:
            column = _WHOLE
    return column._replace(sent=column.sent.format(quoted(name)))


@dataclass
class _Scan:
    """One SELECT on the server."""

    # Name of the table, for errors
    table: str
    # SQL of the table and of the rows to look at, and all its columns
    relation: str
    where: str
    present: Mapping[str, ServerColumn]
    # New name -> column, of those that are wanted
    columns: Mapping[str, str]
    # Whether it needs the stays, which are on the first connection
    joins_stays: bool = False
    sql: str = ""

    def __post_init__(self):
        parts = [f"{quoted(of)} AS {quoted(new)}" for new, of in self.columns.items()]
        self.sql = f"SELECT {', '.join(parts)} FROM {self.sent(self.columns.values())}"

    def sent(self, names: Iterable[str]) -> str:
        """SQL of columns as they leave; a user may have the right to read these and no others."""
        of = [f"{self.present[n].sent} AS {quoted(n)}" for n in self.present if n in set(names)]
        return f"(SELECT {', '.join(of)} FROM {self.relation} WHERE {self.where}) r"

    def narrow(self, roles: Mapping[str, tuple[list[str], str]], conditions: Sequence[str]) -> str:
        """Keep back the rows `e` that a condition refuses; SQL that counts them by its place."""
        texts = {
            role
            for role, (_, name) in roles.items()
            if name in self.present and self.present[name].sql_type == "VARCHAR"
        }
        cases = []
        for place, condition in enumerate(conditions, 1):
            # Which spaces are trimmed and what lower case is depends on the server and its locale:
            # texts beyond ASCII are left to DuckDB
            cases += [
                f"WHEN e.{role} COLLATE \"C\" ~ '[^ -~]' THEN 0"
                for role in _roles_of(condition)
                if role in texts
            ]
            cases.append(f"WHEN {condition} THEN {place}")
        reason = f"CASE {' '.join(cases)} ELSE 0 END"
        items = [f"{quoted(of)} AS {quoted(f'raw {new}')}" for new, of in self.columns.items()]
        items += [item for items_of_role, _ in roles.values() for item in items_of_role]
        sent = self.sent([*self.columns.values(), *(name for _, name in roles.values())])
        events = f"(SELECT {', '.join(items)} FROM {sent}) e"
        self.joins_stays = any(map(_STAY.search, conditions))
        # A row of no stay is refused in any case: an inner join lets the server use an index. With
        # texts for keys it leaves some comparisons to DuckDB, and must send their rows.
        join = "LEFT JOIN" if "stay" in texts else "JOIN"
        stays = f"{_STAYS} s ON e.stay = s.key"
        used, counted = (
            f"{events} {kind} {stays}" if self.joins_stays else events
            for kind in (join, "LEFT JOIN")
        )
        parts = [f"e.{quoted(f'raw {new}')} AS {quoted(new)}" for new in self.columns]
        self.sql = f"SELECT {', '.join(parts)} FROM {used} WHERE {reason} = 0"
        return f"SELECT {reason} AS reason, count(*) AS n FROM {counted} GROUP BY 1"


def _roles_of(condition: str) -> list[str]:
    names = _ROLE.findall(condition)
    return [name.removesuffix("_unreadable").removesuffix("_dated") for name in names]


class PostgresPlace:
    """The tables of a PostgreSQL database; `schemas` go before others where its URL names none."""

    failure = (
        "could not be read to its end: the connection was lost, the server reached a time limit, "
        "or the table holds text that is not in the encoding of the database"
    )
    opened = "the query engine"

    def __init__(self, given: Sequence[Any], schemas: Sequence[str]):
        if len(given) > 1:
            raise ValueError(
                "A database URL cannot be combined with a folder or file; give the URL alone."
            )
        self._url = parse_url(given[0])
        try:
            import adbc_driver_postgresql.dbapi as adbc
        except ImportError as error:
            raise ImportError(
                "Reading a PostgreSQL database needs ADBC: pip install 'sklearn-medfuse[sql]'."
            ) from error
        self._adbc = adbc
        self._connections: list[Any] = []
        self._scans: dict[str, _Scan] = {}
        self._present: dict[str, tuple[str, dict[str, ServerColumn]]] = {}
        self._snapshot = ""
        try:
            self._connect()
            exported = self._rows("SELECT pg_export_snapshot() AS name", "the database")
            self._snapshot = exported[0]["name"]
            self._with_stays = self._rows(_WITH_STAYS, "the database")[0]["yes"]
            self._preferred = self._check_schemas(schemas)
        except BaseException:
            self.close()
            raise

    def _connect(self) -> None:
        told = ""
        try:
            connection = self._adbc.connect(self._url.uri)
        except self._adbc.Error as error:
            told = f"not connected: {error}"
        if told:
            causes = (said for part, said in _CAUSES.items() if part in told)
            more = next(causes, "the server refuses it")
            raise ConnectionError(f"Cannot connect to the {self._url.shown}: {more}.")
        self._connections.append(connection)
        settings = ["TRANSACTION ISOLATION LEVEL REPEATABLE READ"]
        if self._snapshot:
            settings.append(f"TRANSACTION SNAPSHOT {literal(self._snapshot)}")
        # DuckDB may work for long between two streams
        settings += ["idle_in_transaction_session_timeout = 0", "client_encoding = 'UTF8'"]
        # A time with a zone becomes UTC, as in DuckDB
        settings.append("TIME ZONE 'UTC'")
        with connection.cursor() as cursor:
            for setting in settings:
                self._guarded("the database", partial(cursor.execute, f"SET {setting}"))

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
                f"The server cancelled reading {what}: raise its statement_timeout, for "
                "example with ?options=-cstatement_timeout%3D0 in the URL."
            )
        raise ValueError(f"The server cannot read {what} (SQLSTATE {state}).")

    def _rows(self, sql: str, what: str) -> list[dict[str, Any]]:
        """All rows of a small result."""

        def fetch():
            with self._connections[0].cursor() as cursor:
                cursor.execute(sql)
                return cursor.fetch_arrow_table().to_pylist()

        return self._guarded(what, fetch)

    def _check_schemas(self, preferred: Sequence[str]) -> list[str]:
        """Schemas in which to look first: those of the URL, of the data set, of the search path."""
        found = self._rows(
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
        rows = self._rows(_CATALOG.format(name=literal(key), schemas=schemas), f"table '{table}'")
        if not rows:
            return None
        found = [row["schema"] for row in rows]
        schema = choose_schema(found, self._preferred, table, f"The {self._url.shown}")
        name = next(row["name"] for row in rows if row["schema"] == schema)
        of_table = [row for row in rows if (row["schema"], row["name"]) == (schema, name)]
        relation = f"{quoted(schema)}.{quoted(name)}"
        lower = {row["column"]: row["column"].strip().lower() for row in of_table}
        if any(column != new for column, new in lower.items()):
            # Conditions name columns in lower case
            renamed = ", ".join(f"{quoted(of)} AS {quoted(new)}" for of, new in lower.items())
            relation = f"(SELECT {renamed} FROM {relation}) AS renamed"
        present = {
            lower[row["column"]]: _column_of(lower[row["column"]], row["type"], row["modifier"])
            for row in of_table
        }
        self._present[key] = (relation, present)
        return {new: (new, column.sql_type) for new, column in present.items()}

    def scan(self, table: str, columns: Mapping[str, str], where: str) -> str:
        """A name that stands for some columns (new name -> name) of rows that fulfil `where`."""
        name = f"server_scan_{len(self._scans)}"
        relation, present = self._present[table.lower()]
        self._scans[name] = _Scan(table, relation, where, present, columns)
        return name

    def narrow(
        self,
        scan: str,
        roles: Mapping[str, tuple[list[str], str]],
        absent: set[str],
        conditions: Sequence[str],
    ) -> dict[int, int]:
        """Leave rows on the server that a condition refuses; their number by its place."""
        of = self._scans.get(scan)
        if of is None:
            return {}
        known = {
            role: (items, column)
            for role, (items, column) in roles.items()
            if column in of.present or column in absent
        }

        def can_check(condition: str) -> bool:
            # The encoding of the database may lack other letters
            return (
                condition.isascii()
                and set(_roles_of(condition)) <= set(known)
                and (self._with_stays or not _STAY.search(condition))
            )

        # The first condition that applies is the reason: none after one that cannot be checked
        checked = list(takewhile(can_check, conditions))
        if not checked:
            return {}
        used = {"stay", *(role for condition in checked for role in _roles_of(condition))}
        counts = of.narrow({role: known[role] for role in known if role in used}, checked)
        if of.joins_stays:
            self._send_stays()
        rows = self._rows(counts, f"table '{of.table}'")
        return {row["reason"]: row["n"] for row in rows if row["reason"]}

    def _send_stays(self) -> None:
        """Put DuckDB's table of stays into a temporary table, which goes with the connection."""
        table = to_arrow(self._duckdb.execute("FROM stays").df(), "The table of stays")

        def send():
            with self._connections[0].cursor() as cursor:
                cursor.execute(f"DROP TABLE IF EXISTS pg_temp.{_STAYS}")
                cursor.adbc_ingest(_STAYS, table, mode="create", temporary=True)

        self._guarded("the stays", send)

    @contextmanager
    def streams(self, sql: str, *, empty: bool = False) -> Iterator[None]:
        """Open what a query reads while it runs; with `empty`, only its columns."""
        # The stays are on the first connection, and one stream at a time goes through each
        named = sorted(set(_SCAN.findall(sql)), key=lambda name: not self._scans[name].joins_stays)
        with ExitStack() as opened:
            for place, scan in enumerate(named):
                of = self._scans[scan]
                fields = [
                    (new, of.present[column].arrow_type) for new, column in of.columns.items()
                ]
                rows = pa.schema(fields).empty_table()
                if not empty:
                    if place == len(self._connections):
                        self._connect()
                    cursor = opened.enter_context(self._connections[place].cursor())
                    what = f"table '{of.table}'"
                    self._guarded(what, partial(cursor.execute, of.sql))
                    rows = self._guarded(what, cursor.fetch_record_batch)
                self._duckdb.register(scan, rows)
                opened.callback(self._duckdb.unregister, scan)
            yield

    def close(self) -> None:
        """Close the connections; what they have written is gone."""
        while self._connections:
            self._connections.pop().close()
