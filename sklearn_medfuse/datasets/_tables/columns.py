"""How cells are read: one function per kind of column, each of which writes SQL.

Ids, keys, texts and times of a native type are written so that PostgreSQL reads the same SQL as
DuckDB. Such columns are `portable`: conditions on them can be checked on a server.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import pandas as pd
import pyarrow as pa

# "id": a whole number. "key": a text, or a whole number written as one. "flag": yes or no, as 1
# or 0. "age": years, where "> 89" and "90+" are 90. "name": a text that may be "NA", which is
# sodium to some. "code": a text that must not have been read as a number. "long text": a text that
# is not trimmed, since trimming is most of the work of reading notes, and few of them are used.
# Of the times, "time" is the end of its day if it is a date alone: what happened that day was not
# known for sure before. "date" is so at midnight too, for formats that write midnight where the
# time is not known; "start" is the beginning of its day, for admissions and births. "minutes" are
# those since the stay began, where every stay begins at `ORIGIN`.
Kind = Literal[
    "id", "key", "number", "flag", "age", "name", "text", "long text", "code",
    "time", "date", "start", "minutes",
]  # fmt: skip
TIMES = ("time", "date", "start", "minutes")
ORIGIN = pd.Timestamp("2000-01-01")
# pandas' own string type from version 3 on, object before
TEXT_DTYPE = pd.Series(["a"]).dtype

# Name and SQL type of a column
Column = tuple[str, str]
# Lower-case name -> column
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
_ZONE = r"(Z|z|UTC|utc|GMT|[-+](0\d|1[0-4])(:?[0-5]\d)?|[A-Z][A-Za-z]+(/[A-Za-z_+-]+\d*)+)"
_CLOCK_OF_12_HOURS = r"\s+\d{1,2}(:\d{1,2}(:\d{1,2}(\.\d*)?)?)?\s*[AaPp]\.?\s?[Mm]\.?"
_AMERICAN = r"\d{1,2}/\d{1,2}/(\d\d|\d{4})(\s.*)?"
_CLOCKS = ("%H:%M:%S", "%H:%M")
_CLOCKS_OF_12_HOURS = ("%I:%M:%S %p", "%I:%M %p", "%I %p", "%I:%M:%S.%f %p")
_MIDNIGHT = r"[T ]0?0:00(:00(\.0*)?)?([^0-9:.].*)?"
# What pandas, R and tools of databases write where a cell is empty
_MISSING = ("", "NA", "<NA>", "N/A", "#N/A", "NULL", "null", "NaN", "nan", "NaT", r"\N")
_FLAGS = {1: ("1", "true", "t", "yes", "y"), 0: ("0", "false", "f", "no", "n")}
# Far beyond any stay, and within what an interval can hold
_MOST_MINUTES = 10**9
_A_DAY = 24 * 60


class Reading(NamedTuple):
    """SQL that reads one column."""

    # Items of a SELECT. A time has four: `<new>`, a TIMESTAMP, in UTC if it has a zone;
    # `<new>_unreadable`; `<new>_dated`, whether it is a date alone; and `<new>_zoned`, NULL where
    # that is unknown. A flag and an age have `<new>_unreadable` too.
    items: list[str]
    # Whether PostgreSQL reads the same SQL and compares its result as DuckDB does
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
    """Read a column as its kind; an absent one, None, reads as NULL. Errors quote `where`."""
    assert kind in get_args(Kind)
    name, sql_type = ("NULL", "NULL") if column is None else (quoted(column[0]), column[1])
    if kind in ("time", "date", "start"):
        return _read_time(new, kind, name, sql_type, where, century)
    if kind == "minutes":
        return _read_minutes(new, name, sql_type, where)
    is_text = sql_type in ("VARCHAR", "NULL")
    if kind == "id" and sql_type in _WHOLE:
        # As it is, so that an index of the server serves comparisons
        return Reading([f"{name} AS {new}"], portable=True)
    if kind == "id":
        return Reading([f"{_whole(name)} AS {new}"])
    number = f"TRY_CAST({name} AS DOUBLE)"
    if kind == "number":
        return Reading([f"CASE WHEN isfinite({number}) THEN {number} END AS {new}"])
    if kind in ("flag", "age"):
        value = _flag(name) if kind == "flag" else _age(name)
        given = f"NOT {is_empty(f'CAST({name} AS VARCHAR)')}"
        unreadable = f"coalesce({given} AND {value} IS NULL, false)"
        return Reading([f"{value} AS {new}", f"{unreadable} AS {new}_unreadable"])
    if kind == "long text":
        return Reading([f"CAST({name} AS VARCHAR) AS {new}"])
    if kind == "code" and not is_text and not sql_type.startswith("ENUM"):
        raise ValueError(
            f"{where}: codes must be text, but they are {sql_type.lower()}. As numbers they have "
            "lost their leading zeros."
        )
    if kind == "key" and sql_type in _FLOATS:
        # pandas turns whole numbers into floats where one is missing
        name = _whole(name)
    text = f"trim(CAST({name} AS VARCHAR))"
    missing = _listed(("",) if kind == "name" else _MISSING)
    read = text
    if kind == "key" and is_text:
        read = rf"regexp_replace({text}, '^(-?[0-9]+)[.]0+$', '\1')"
    item = f"CASE WHEN {text} NOT IN ({missing}) THEN {read} END AS {new}"
    return Reading([item], kind != "code" and (is_text or sql_type in _WHOLE))


def is_empty(text: str) -> str:
    """SQL for whether a text is missing, or is what stands for an empty cell."""
    return f"(coalesce(trim({text}), '') IN ({_listed(_MISSING)}))"


def _listed(texts: Sequence[str]) -> str:
    return ", ".join(map(literal, texts))


def _whole(name: str) -> str:
    """SQL for a number without a fraction; NULL for others, which a cast would round."""
    return (
        f"CASE WHEN TRY_CAST({name} AS DOUBLE) = floor(TRY_CAST({name} AS DOUBLE)) "
        f"THEN TRY_CAST({name} AS BIGINT) END"
    )


def _flag(name: str) -> str:
    """SQL that reads 1, "1.0", true, "Y" and the like as 1, their opposites as 0."""
    text = rf"regexp_replace(lower(trim(CAST({name} AS VARCHAR))), '\.0+$', '')"
    cases = " ".join(f"WHEN {text} IN ({_listed(texts)}) THEN {n}" for n, texts in _FLAGS.items())
    return f"CASE {cases} END"


def _age(name: str) -> str:
    """SQL that reads years, and what stands for all who are older ("> 89" is 90, "90+" is 90)."""
    text, years = f"trim(CAST({name} AS VARCHAR))", f"TRY_CAST({name} AS DOUBLE)"
    bound = rf"TRY_CAST(regexp_extract({text}, '\d+') AS DOUBLE)"
    return (
        rf"CASE WHEN regexp_full_match({text}, '>\s*\d+') THEN {bound} + 1 "
        rf"WHEN regexp_full_match({text}, '(>=|≥)\s*\d+|\d+\s*\+') THEN {bound} "
        f"ELSE {years} END"
    )


def _read_time(
    new: str, kind: Kind, name: str, sql_type: str, where: str, century: int | None
) -> Reading:
    if sql_type == "VARCHAR":
        return _read_written_time(new, kind, name, century)
    if sql_type in _ZONED_TIMESTAMPS:
        zoned = "true"
        name = f"CAST({name} AS TIMESTAMP WITH TIME ZONE)"
    elif sql_type in _TIMESTAMPS:
        zoned = "false"
    elif sql_type in ("DATE", "NULL"):
        # A date has no zone
        zoned = "CAST(NULL AS BOOLEAN)"
    else:
        raise ValueError(f"{where}: a time must be a timestamp or text, not {sql_type.lower()}.")
    time = f"CAST({name} AS TIMESTAMP)"
    finite = f"CASE WHEN isfinite({time}) THEN {time} END"
    dated = f"({name} IS NOT NULL)" if sql_type == "DATE" else "false"
    if kind == "date":
        dated = f"coalesce({time} = date_trunc('day', {time}), false)"
    items = [
        *_of_day(new, kind, finite, dated),
        f"false AS {new}_unreadable",
        f"CASE WHEN {name} IS NOT NULL THEN {zoned} END AS {new}_zoned",
    ]
    return Reading(items, portable=True)


def _of_day(new: str, kind: Kind, time: str, dated: str) -> list[str]:
    """The items of a time and of whether it is a date alone, which stands for the whole day."""
    if kind != "start" and dated != "false":
        time = f"({time}) + CASE WHEN {dated} THEN {interval(_A_DAY)} ELSE {interval(0)} END"
    return [f"{time} AS {new}", f"{dated} AS {new}_dated"]


def _read_written_time(new: str, kind: Kind, name: str, century: int | None) -> Reading:
    """A time in a text of a known form: DuckDB's own reading overlooks words after the time."""

    def matches(form: str) -> str:
        return rf"regexp_full_match({name}, '\s*{form}\s*')"

    plain, zoned = matches(rf"{_DAY}({_CLOCK})?"), matches(rf"{_DAY}{_CLOCK}\s*{_ZONE}")
    other, joined = "NULL", rf"upper(regexp_replace({name}, '\s+([-+])', '\1'))"
    if century is not None:
        long_year = rf"regexp_replace({name}, '^(\s*\d+/\d+/)(\d\d)( |$)', '\1{century}\2 ')"
        other = _parsed(long_year, "%m/%d/%Y", ("", *_CLOCKS, *_CLOCKS_OF_12_HOURS))
        other = f"CASE WHEN {matches(_AMERICAN)} THEN {other} END"
    time = (
        f"CASE WHEN {plain} THEN TRY_CAST({name} AS TIMESTAMP) "
        f"WHEN {zoned} THEN CAST(TRY_CAST({joined} AS TIMESTAMP WITH TIME ZONE) AS TIMESTAMP) "
        f"WHEN {matches(_DAY + _CLOCK_OF_12_HOURS)} "
        f"THEN {_parsed(name, '%Y-%m-%d', _CLOCKS_OF_12_HOURS)} "
        f"ELSE {other} END"
    )
    given = f"NOT {is_empty(name)}"
    # What tells a zone, and a clock, in a text that could be read
    marked = " OR ".join(f"{name} LIKE '%:%{mark}%'" for mark in "+-/ZzCcG")
    dated = f"NOT regexp_matches({name}, '[:Mm]')"
    if kind == "date":
        midnight = f"regexp_matches({name}, '{_MIDNIGHT}$|12(:00)*(\\.0*)? *[Aa]')"
        dated = f"({dated} OR {midnight})"
    items = [
        *_of_day(new, kind, time, f"coalesce({dated}, false)"),
        f"CASE WHEN ({time}) IS NULL THEN {given} ELSE false END AS {new}_unreadable",
        # A date has no zone
        f"CASE WHEN ({time}) IS NOT NULL AND {name} LIKE '%:%' THEN {marked} END AS {new}_zoned",
    ]
    return Reading(items)


def _parsed(name: str, day: str, clocks: Sequence[str]) -> str:
    """SQL that reads a text as a day and a clock time in one of several forms."""
    forms = ", ".join(literal(f"{day} {clock}".strip()) for clock in clocks)
    marked = rf"regexp_replace(trim({name}), '\s*([AaPp])\.?\s?[Mm]\.?$', ' \1M')"
    return f"try_strptime({marked}, [{forms}])"


def _read_minutes(new: str, name: str, sql_type: str, where: str) -> Reading:
    if sql_type.startswith("TIMESTAMP") or sql_type == "DATE":
        raise ValueError(f"{where}: must be minutes since the stay began, not {sql_type.lower()}.")
    rest = [f"false AS {new}_dated", f"CAST(NULL AS BOOLEAN) AS {new}_zoned"]
    if sql_type == "NULL":
        return _read_time(new, "time", name, sql_type, where, None)
    if sql_type in _WHOLE:
        most = _MOST_MINUTES
        minutes = (
            f"CASE WHEN {name} > {most} THEN {most} WHEN {name} < -{most} THEN -{most} "
            f"ELSE {name} END"
        )
        time = f"TIMESTAMP '{ORIGIN}' + INTERVAL '1 minute' * ({minutes})"
        return Reading([f"{time} AS {new}", f"false AS {new}_unreadable", *rest], portable=True)
    moment = f"{ORIGIN.value // 1000} + CAST(round(TRY_CAST({name} AS DOUBLE) * 60e6) AS BIGINT)"
    time = f"TRY(make_timestamp({moment}))"
    given = f"NOT {is_empty(f'CAST({name} AS VARCHAR)')}"
    unreadable = f"CASE WHEN {time} IS NULL THEN {given} ELSE false END"
    return Reading([f"{time} AS {new}", f"{unreadable} AS {new}_unreadable", *rest])


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
        # The error may quote cells: ours is raised outside of the handler, without it as context
        pass
    raise ValueError(f"{where} has a column that holds neither numbers, times nor text.")
