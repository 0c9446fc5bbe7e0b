"""The server's side of a query: how columns leave it, and which rows it keeps back."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from ._cells import ORIGIN, Kind, quoted

_FINITE = "CASE WHEN isfinite({0}) THEN {0} END"
# Type of the server -> expression that leaves it, type in DuckDB, type in Arrow. An infinite time
# has no counterpart there. Every other type leaves as a text.
_TYPES: dict[str, tuple[str, str, pa.DataType]] = {
    "int2": ("{0}", "SMALLINT", pa.int16()),
    "int4": ("{0}", "INTEGER", pa.int32()),
    "int8": ("{0}", "BIGINT", pa.int64()),
    "float4": ("{0}", "FLOAT", pa.float32()),
    "float8": ("{0}", "DOUBLE", pa.float64()),
    "numeric": ("{0}::float8", "DOUBLE", pa.float64()),
    "bool": ("{0}", "BOOLEAN", pa.bool_()),
    "date": (_FINITE, "DATE", pa.date32()),
    "timestamp": (_FINITE, "TIMESTAMP", pa.timestamp("us")),
    "timestamptz": (_FINITE, "TIMESTAMP WITH TIME ZONE", pa.timestamp("us", "UTC")),
}
_TEXT = ("{0}::text", "VARCHAR", pa.string())
_WHOLE = ("{0}::int8", "BIGINT", pa.int64())
# A whole number of up to 18 digits fits int8.
_MAX_DIGITS = 18

# How a role is compared, by the type in DuckDB of its column.
_TIMES = {
    "DATE": "({0})::timestamp",
    "TIMESTAMP": "{0}",
    "TIMESTAMP WITH TIME ZONE": "({0}) AT TIME ZONE 'UTC'",
}
# Far beyond any stay, and within what an interval can hold.
_MOST_MINUTES = 10**9
_SINCE_ORIGIN = (
    f"(timestamp '{ORIGIN}' + interval '1 minute' * CASE WHEN {{0}} > {_MOST_MINUTES} "
    f"THEN {_MOST_MINUTES} WHEN {{0}} < -{_MOST_MINUTES} THEN -{_MOST_MINUTES} ELSE {{0}} END)"
)
_NUMBERS = {"SMALLINT": "{0}", "INTEGER": "{0}", "BIGINT": "{0}"}
# What DuckDB trims: the separators of Unicode, which other encodings do not have.
_SPACES = "".join(map(chr, [0x20, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x202F, 0x205F, 0x3000]))
_TEXTS = {
    **dict.fromkeys(_NUMBERS, "({0})::text"),
    "VARCHAR": f"nullif(btrim({{0}}, '{_SPACES}'), '')",
}
_COMPARED: dict[Kind, dict[str, str]] = {
    "id": _NUMBERS,
    "key": _TEXTS,
    "text": _TEXTS,
    "time": _TIMES,
    "minutes": dict.fromkeys(("SMALLINT", "INTEGER", "BIGINT"), _SINCE_ORIGIN),
}
_ABSENT = {"time": "NULL::timestamp", "minutes": "NULL::timestamp", "text": "NULL::text"}
_ROLE = re.compile(r"\be\.(\w+)")
_STAY = re.compile(r"\bs\.")


@dataclass(frozen=True)
class ServerColumn:
    """A column of a table on the server.

    Attributes
    ----------
    sent : str
        The server's SQL for what leaves it.
    sql_type : str
        Its type in DuckDB.
    arrow_type : DataType
        Its type on the way.
    """

    sent: str
    sql_type: str
    arrow_type: pa.DataType


def column_of(name: str, server_type: str, modifier: int) -> ServerColumn:
    """How a column leaves the server.

    Parameters
    ----------
    name : str
        Its name.
    server_type : str
        Its type, as `pg_type` names it.
    modifier : int
        The type's modifier, as `pg_attribute` has it: of a numeric its digits.

    Returns
    -------
    ServerColumn
        Where the type has no counterpart, it is a text.
    """
    sent, sql_type, arrow_type = _TYPES.get(server_type, _TEXT)
    if server_type == "numeric" and modifier >= 0:
        digits, scale = (modifier - 4) >> 16, (modifier - 4) & 0xFFFF
        if scale == 0 and digits <= _MAX_DIGITS:
            sent, sql_type, arrow_type = _WHOLE
    return ServerColumn(sent.format(quoted(name)), sql_type, arrow_type)


def role_expressions(
    present: Mapping[str, ServerColumn], roles: Mapping[str, tuple[str, Kind]], *, unicode: bool
) -> dict[str, str]:
    """What the server compares, of the roles of which it can.

    Parameters
    ----------
    present : mapping of str to ServerColumn
        Columns of the table by lower-case name.
    roles : mapping of str to (str, str)
        Role -> column, kind.
    unicode : bool
        Whether the database is in Unicode; texts of others are not compared.

    Returns
    -------
    dict of str to str
        Role -> SQL: a whole number, a text without spaces around it, or a timestamp in UTC. A text
        that holds a number or a time is not among them, since the server would fail on a wrong one.
    """
    expressions = {}
    for role, (name, kind) in roles.items():
        column = present.get(name.lower())
        found = None
        if column is not None:
            form = _COMPARED.get(kind, {}).get(column.sql_type)
            if form is not None and (unicode or column.sql_type != "VARCHAR"):
                found = form.format(column.sent)
        elif kind in _ABSENT:
            found = _ABSENT[kind]
        if found is not None:
            expressions[role] = found
    return expressions


def until_unknown(
    conditions: Sequence[str | None], roles: Mapping[str, str], *, with_stays: bool
) -> list[str]:
    """The conditions before the first one that the server cannot tell.

    Parameters
    ----------
    conditions : sequence of str or None
        On rows `e` and stays `s`.
    roles : mapping of str to str
        As :func:`role_expressions` gives them.
    with_stays : bool
        Whether the server can have the stays.

    Returns
    -------
    list of str
        The first of the conditions.
    """
    known: list[str] = []
    for condition in conditions:
        if condition is None or not set(_ROLE.findall(condition)) <= set(roles):
            break
        if _STAY.search(condition) and not with_stays:
            break
        known.append(condition)
    return known


@dataclass(frozen=True)
class ServerFilter:
    """Conditions that leave rows on the server.

    Attributes
    ----------
    roles : mapping of str to str
        Role -> SQL, of the roles in the conditions.
    conditions : list of str
        In the order in which they are looked at.
    stays : str
        Name of the server's table of stays.
    """

    roles: Mapping[str, str]
    conditions: list[str]
    stays: str

    def needs_stays(self) -> bool:
        """Whether a condition is on the stays."""
        return any(_STAY.search(condition) for condition in self.conditions)

    def rows(self, columns: Mapping[str, ServerColumn], relation: str, where: str) -> str:
        """A query for the rows that no condition refuses.

        Parameters
        ----------
        columns : mapping of str to ServerColumn
            New name -> column to read.
        relation, where : str
            The table, and which of its rows to look at.

        Returns
        -------
        str
            The server's SQL.
        """
        inner = [f"{column.sent} AS {quoted(f'raw {new}')}" for new, column in columns.items()]
        outer = [f"e.{quoted(f'raw {new}')} AS {quoted(new)}" for new in columns]
        # Rows of no stay are refused in any case: an inner join lets the server use an index.
        return (
            f"SELECT {', '.join(outer)} FROM {self._joined(inner, relation, where, 'JOIN')} "
            f"WHERE {self._reason()} = 0"
        )

    def counts(self, relation: str, where: str) -> str:
        """A query for the number of rows `n` that each condition refuses, by its `reason`.

        Parameters
        ----------
        relation, where : str
            The table, and which of its rows to look at.

        Returns
        -------
        str
            The server's SQL.
        """
        joined = self._joined([], relation, where, "LEFT JOIN")
        return f"SELECT {self._reason()} AS reason, count(*) AS n FROM {joined} GROUP BY 1"

    def _joined(self, columns: list[str], relation: str, where: str, join: str) -> str:
        roles = [f"{sql} AS {quoted(role)}" for role, sql in self.roles.items()]
        rows = f"(SELECT {', '.join([*columns, *roles])} FROM {relation} WHERE {where}) e"
        return f"{rows} {join} {self.stays} s ON e.stay = s.key" if self.needs_stays() else rows

    def _reason(self) -> str:
        cases = " ".join(f"WHEN {sql} THEN {i}" for i, sql in enumerate(self.conditions, 1))
        return f"CASE {cases} ELSE 0 END"


def server_filter(
    present: Mapping[str, ServerColumn],
    roles: Mapping[str, tuple[str, Kind]],
    conditions: Sequence[str | None],
    stays: str,
    *,
    with_stays: bool,
    unicode: bool,
) -> ServerFilter | None:
    """What the server can keep back; None if that is nothing.

    Parameters
    ----------
    present : mapping of str to ServerColumn
        Columns of the table by lower-case name.
    roles : mapping of str to (str, str)
        Role -> column, kind.
    conditions : sequence of str or None
        On rows `e` and stays `s`.
    stays : str
        Name of the server's table of stays.
    with_stays : bool
        Whether the server can have it.
    unicode : bool
        Whether the database is in Unicode.

    Returns
    -------
    ServerFilter or None
        With the conditions up to the first one that the server cannot tell.
    """
    expressions = role_expressions(present, roles, unicode=unicode)
    known = until_unknown(conditions, expressions, with_stays=with_stays)
    if not known:
        return None
    used = {"stay", *(role for condition in known for role in _ROLE.findall(condition))}
    return ServerFilter(
        {role: expressions[role] for role in expressions if role in used}, known, stays
    )
