"""How cells are read: one function per kind of column, each of which writes SQL.

Ids, keys, texts and times of a native type are written so that PostgreSQL reads the same SQL as
DuckDB. Such columns are `portable`: conditions on them can be checked on a server.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import pandas as pd
import pyarrow as pa

# "id": a whole number. "key": a text, or a whole number written as one. "code": a text that must
# not have been read as a number. "long text": a text that is not trimmed, since trimming is most of
# the work of reading notes, and few of them are used. "minutes": a time given as minutes since its
# stay began, where every stay begins at `ORIGIN`.
Kind = Literal["id", "key", "number", "text", "long text", "code", "time", "minutes"]
TIMES = ("time", "minutes")
ORIGIN = pd.Timestamp("2000-01-01")
# pandas' own string type from version 3 on, object before.
TEXT_DTYPE = pd.Series(["a"]).dtype

# Name and SQL type of a column.
Column = tuple[str, str]
# Lower-case name -> column.
TableColumns = dict[str, Column]

_WHOLE = ("SMALLINT", "INTEGER", "BIGINT")
_UNSIGNED = ("UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UHUGEINT")
_FLOATS = ("DOUBLE", "FLOAT")
NUMBERS = (*_WHOLE, *_UNSIGNED, "TINYINT", "HUGEINT", *_FLOATS)
_TIMESTAMPS = ("TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS")
_ZONED_TIMESTAMPS = ("TIMESTAMP WITH TIME ZONE", "TIMESTAMPTZ_NS")
# How times are written: patterns, and forms of strptime. The year comes first and has four digits:
# 8/1/26 would pass for the year 8 otherwise. Abbreviations such as CST name several zones.
_DAY = r"\d{4}-\d{1,2}-\d{1,2}"
_CLOCK = r"(T|\s+)\d{1,2}:\d{1,2}(:\d{1,2}(\.\d*)?)?"
_ZONE = r"(Z|UTC|GMT|[-+]\d\d(:?\d\d)?|[A-Z][A-Za-z]+/[A-Za-z_/]+)"
_CLOCKS = ("%H:%M:%S", "%H:%M")
_CLOCKS_OF_12_HOURS = ("%I:%M:%S %p", "%I:%M %p", "%I:%M:%S.%f %p")
# Far beyond any stay, and within what an interval can hold.
_MOST_MINUTES = 10**9


class Reading(NamedTuple):
    """SQL that reads one column."""

    # Items of a SELECT. A time has three: `<new>`, a TIMESTAMP, in UTC if it has a zone;
    # `<new>_unreadable`; and `<new>_zoned`, NULL where that is unknown.
    items: list[str]
    # Whether PostgreSQL reads the same SQL and compares its result as DuckDB does.
    portable: bool = False


def quoted(name: str) -> str:
    """A name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text as an SQL string."""
    return "'" + text.replace("'", "''") + "'"


def interval(minutes: float) -> str:
    """A duration in SQL, to add to a TIMESTAMP."""
    return f"INTERVAL '{int(minutes * 60_000_000)} microseconds'"


def read_column(
    new: str, kind: Kind, column: Column | None, where: str, century: int | None
) -> Reading:
    """Read a column as what it should hold.

    `where` names table and column in errors. None for an absent column, which reads as NULL.
    `century` stands before years of two digits.
    """
    assert kind in get_args(Kind)
    name, sql_type = ("NULL", "NULL") if column is None else (quoted(column[0]), column[1])
    if kind == "time":
        return _read_time(new, name, sql_type, where, century)
    if kind == "minutes":
        return _read_minutes(new, name, sql_type, where)
    if kind == "id":
        # Whole numbers stay as they are, so that an index of the server serves comparisons.
        whole = sql_type in _WHOLE
        return Reading([f"{name if whole else f'TRY_CAST({name} AS BIGINT)'} AS {new}"], whole)
    if kind == "number":
        number = f"TRY_CAST({name} AS DOUBLE)"
        return Reading([f"CASE WHEN isfinite({number}) THEN {number} END AS {new}"])
    if kind == "long text":
        return Reading([f"CAST({name} AS VARCHAR) AS {new}"])
    is_text = sql_type in ("VARCHAR", "NULL")
    if kind == "code" and not is_text and not sql_type.startswith("ENUM"):
        raise ValueError(
            f"{where}: codes must be texts, but they are {sql_type.lower()}. As numbers they have "
            "lost their leading zeros."
        )
    if kind == "key" and sql_type in _FLOATS:
        # pandas turns whole numbers into floats where one is missing.
        name = f"CAST({name} AS BIGINT)"
    text = f"nullif(trim(CAST({name} AS VARCHAR)), '') AS {new}"
    return Reading([text], kind != "code" and (is_text or sql_type in _WHOLE))


def _read_time(new: str, name: str, sql_type: str, where: str, century: int | None) -> Reading:
    if sql_type == "VARCHAR":
        return _read_written_time(new, name, century)
    if sql_type in _ZONED_TIMESTAMPS:
        zoned = "true"
        name = f"CAST({name} AS TIMESTAMP WITH TIME ZONE)"
    elif sql_type in _TIMESTAMPS:
        zoned = "false"
    elif sql_type in ("DATE", "NULL"):
        # A date has no zone.
        zoned = "CAST(NULL AS BOOLEAN)"
    else:
        raise ValueError(f"{where}: a time must be a timestamp or a text, not {sql_type.lower()}.")
    time = f"CAST({name} AS TIMESTAMP)"
    items = [
        f"CASE WHEN isfinite({time}) THEN {time} END AS {new}",
        f"false AS {new}_unreadable",
        f"CASE WHEN {name} IS NOT NULL THEN {zoned} END AS {new}_zoned",
    ]
    return Reading(items, portable=True)


def _read_written_time(new: str, name: str, century: int | None) -> Reading:
    """A time written as a text: 2101-10-20 19:08:00, with or without a zone, or with AM or PM.

    DuckDB's own reading overlooks words after the time: only texts of a known form are read.
    """

    def matches(form: str) -> str:
        return rf"regexp_full_match({name}, '\s*{form}\s*')"

    plain, zoned = matches(rf"{_DAY}({_CLOCK})?"), matches(rf"{_DAY}{_CLOCK}\s*{_ZONE}")
    of_12_hours = matches(rf"{_DAY}{_CLOCK}\s*[AaPp][Mm]")
    other, joined = "NULL", rf"regexp_replace({name}, '\s+([-+])', '\1')"
    if century is not None:
        long_year = rf"regexp_replace({name}, '^(\d+/\d+/)(\d\d)( |$)', '\1{century}\2 ')"
        other = _parsed(long_year, "%m/%d/%Y", ("", *_CLOCKS, *_CLOCKS_OF_12_HOURS))
    time = (
        f"CASE WHEN {plain} THEN TRY_CAST({name} AS TIMESTAMP) "
        f"WHEN {zoned} THEN CAST(TRY_CAST({joined} AS TIMESTAMP WITH TIME ZONE) AS TIMESTAMP) "
        f"WHEN {of_12_hours} THEN {_parsed(name, '%Y-%m-%d', _CLOCKS_OF_12_HOURS)} "
        f"ELSE {other} END"
    )
    unreadable = f"CASE WHEN ({time}) IS NULL THEN coalesce(trim({name}), '') != '' ELSE false END"
    # What tells a zone in a text that could be read.
    marked = " OR ".join(f"{name} LIKE '%:%{mark}%'" for mark in "+-/ZCG")
    items = [
        f"{time} AS {new}",
        f"{unreadable} AS {new}_unreadable",
        # A date has no zone.
        f"CASE WHEN ({time}) IS NOT NULL AND len(trim({name})) > 10 "
        f"THEN {marked} END AS {new}_zoned",
    ]
    return Reading(items)


def _parsed(name: str, day: str, clocks: Sequence[str]) -> str:
    """SQL that reads a text as a day and a clock time in one of several forms."""
    forms = ", ".join(literal(f"{day} {clock}".strip()) for clock in clocks)
    return rf"try_strptime(regexp_replace(trim({name}), '\s*([AaPp][Mm])$', ' \1'), [{forms}])"


def _read_minutes(new: str, name: str, sql_type: str, where: str) -> Reading:
    if sql_type.startswith("TIMESTAMP") or sql_type == "DATE":
        raise ValueError(f"{where}: must be minutes since the stay began, not {sql_type.lower()}.")
    zoned = f"CAST(NULL AS BOOLEAN) AS {new}_zoned"
    if sql_type == "NULL":
        return _read_time(new, name, sql_type, where, None)
    if sql_type in _WHOLE:
        most = _MOST_MINUTES
        minutes = (
            f"CASE WHEN {name} > {most} THEN {most} WHEN {name} < -{most} THEN -{most} "
            f"ELSE {name} END"
        )
        time = f"TIMESTAMP '{ORIGIN}' + INTERVAL '1 minute' * ({minutes})"
        return Reading([f"{time} AS {new}", f"false AS {new}_unreadable", zoned], portable=True)
    moment = f"{ORIGIN.value // 1000} + CAST(round(TRY_CAST({name} AS DOUBLE) * 60e6) AS BIGINT)"
    time = f"TRY(make_timestamp({moment}))"
    given = f"coalesce(trim(CAST({name} AS VARCHAR)), '') != ''"
    unreadable = f"CASE WHEN {time} IS NULL THEN {given} ELSE false END"
    return Reading([f"{time} AS {new}", f"{unreadable} AS {new}_unreadable", zoned])


def to_arrow(frame: pd.DataFrame, where: str) -> pa.Table:
    """A data frame for DuckDB, whose own reading of pandas depends on the versions of both."""
    mixed = {
        str(name): column.map(lambda cell: cell if pd.isna(cell) else str(cell))
        for name, column in frame.items()
        if pd.api.types.is_object_dtype(column.dtype)
        and pd.api.types.infer_dtype(column, skipna=True).startswith("mixed")
    }
    try:
        return pa.Table.from_pandas(frame.assign(**mixed), preserve_index=False)
    except (pa.ArrowException, TypeError, ValueError):
        # The error may quote cells: ours is raised outside of the handler, without it as context.
        pass
    raise ValueError(f"{where} has a column that is neither numbers, nor times, nor texts.")
