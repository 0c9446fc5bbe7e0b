"""SQL that reads cells as what their column should hold: ids, numbers, texts, codes, times."""

from typing import Literal, get_args

import pandas as pd

# What a column holds. "id" is a whole number, "key" a text (or a whole number written as one),
# "code" a text that must not have been read as a number, "long text" one whose ends are as written:
# trimming is most of the work of reading notes, and few of them are used. "minutes" is a time given
# as the minutes since its stay began, where every stay begins at `ORIGIN`.
Kind = Literal["id", "key", "number", "text", "long text", "code", "time", "minutes"]
TIMES = ("time", "minutes")
# Sources without dates have all of their stays begin here.
ORIGIN = pd.Timestamp("2000-01-01")
_ORIGIN_US = ORIGIN.value // 1000

_SIGNED = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT")
INTEGERS = {*_SIGNED, *(f"U{name}" for name in _SIGNED)}
_TIMESTAMPS = ("TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS")
_ZONED_TIMESTAMPS = ("TIMESTAMP WITH TIME ZONE", "TIMESTAMPTZ_NS")


def quoted(name: str) -> str:
    """A name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text as an SQL string."""
    return "'" + text.replace("'", "''") + "'"


def converted(
    new: str, kind: Kind, given: tuple[str, str] | None, where: str, century: int | None
) -> list[str]:
    """SQL that converts one column.

    Parameters
    ----------
    new : str
        Its name in the result. For `TIMES` there are also `<new>_unreadable` and `<new>_zoned`.
    kind : str
        What it holds.
    given : tuple of (str, str) or None
        Name and SQL type of the column; None where it is absent.
    where : str
        Table and column, for errors.
    century : int or None
        What stands before years of two digits.

    Returns
    -------
    list of str
        Items of a SELECT.

    Raises
    ------
    ValueError
        If the column cannot hold that.
    """
    assert kind in get_args(Kind)
    if given is None:
        name, sql_type = "NULL", "NULL"
    else:
        name, sql_type = quoted(given[0]), given[1]
    if kind == "time":
        return _convert_time(new, name, sql_type, where, century)
    if kind == "minutes":
        return _convert_minutes(new, name, sql_type, where)
    is_text = sql_type in ("VARCHAR", "NULL") or sql_type.startswith("ENUM")
    if kind == "code" and not is_text:
        raise ValueError(
            f"{where}: codes must be texts, but they are {sql_type.lower()}. As numbers they have "
            "lost their leading zeros."
        )
    if kind == "long text":
        return [f"CAST({name} AS VARCHAR) AS {new}"]
    if kind in ("text", "code"):
        return [f"nullif(trim(CAST({name} AS VARCHAR)), '') AS {new}"]
    if kind == "key":
        whole = sql_type in ("DOUBLE", "FLOAT")
        cell = f"CAST({name} AS BIGINT)" if whole else name
        return [f"nullif(trim(CAST({cell} AS VARCHAR)), '') AS {new}"]
    if kind == "id":
        return [f"TRY_CAST({name} AS BIGINT) AS {new}"]
    number = f"TRY_CAST({name} AS DOUBLE)"
    return [f"CASE WHEN isfinite({number}) THEN {number} END AS {new}"]


def _convert_time(new: str, name: str, sql_type: str, where: str, century: int | None) -> list[str]:
    """SQL for a time: microseconds since 1970, whether unreadable, whether with a zone."""
    if sql_type == "NULL":
        return [
            f"CAST(NULL AS BIGINT) AS {new}",
            f"false AS {new}_unreadable",
            f"CAST(NULL AS BOOLEAN) AS {new}_zoned",
        ]
    if sql_type in _ZONED_TIMESTAMPS:
        zoned = f"CASE WHEN {name} IS NOT NULL THEN true END"
        return [
            f"epoch_us(CAST({name} AS TIMESTAMP WITH TIME ZONE)) AS {new}",
            f"false AS {new}_unreadable",
            f"{zoned} AS {new}_zoned",
        ]
    if sql_type in _TIMESTAMPS or sql_type == "DATE":
        # A date has no zone to speak of.
        flag = "CAST(NULL AS BOOLEAN)" if sql_type == "DATE" else "false"
        return [
            f"epoch_us(CAST({name} AS TIMESTAMP)) AS {new}",
            f"false AS {new}_unreadable",
            f"CASE WHEN {name} IS NOT NULL THEN {flag} END AS {new}_zoned",
        ]
    if sql_type != "VARCHAR":
        raise ValueError(f"{where}: a time must be a timestamp or a text, not {sql_type.lower()}.")
    # Only the year first: 8/1/26 would pass for the year 8 otherwise.
    short = "NULL" if century is None else _short_year(name, century)
    iso = f"({name} LIKE '____-%')"
    # Two of the dashes are those of the date.
    zoned = f"({name} LIKE '%Z' OR {name} LIKE '%+%' OR {name} LIKE '%-%-%-%')"
    time = (
        f"CASE WHEN NOT {iso} THEN {short} WHEN {zoned} "
        f"THEN epoch_us(TRY_CAST({name} AS TIMESTAMP WITH TIME ZONE)) "
        f"ELSE epoch_us(TRY_CAST({name} AS TIMESTAMP)) END"
    )
    return [
        f"{time} AS {new}",
        f"CASE WHEN ({time}) IS NULL THEN coalesce(trim({name}), '') != '' ELSE false END "
        f"AS {new}_unreadable",
        f"CASE WHEN {iso} AND len({name}) > 10 THEN {zoned} END AS {new}_zoned",
    ]


def _convert_minutes(new: str, name: str, sql_type: str, where: str) -> list[str]:
    """SQL for a time given in minutes, as `_convert_time` gives it."""
    if sql_type.startswith("TIMESTAMP") or sql_type == "DATE":
        raise ValueError(f"{where}: must be minutes since the stay began, not {sql_type.lower()}.")
    time = f"{_ORIGIN_US} + TRY_CAST(round(TRY_CAST({name} AS DOUBLE) * 60e6) AS BIGINT)"
    given = f"coalesce(trim(CAST({name} AS VARCHAR)), '') != ''"
    return [
        f"{time} AS {new}",
        f"CASE WHEN ({time}) IS NULL THEN {given} ELSE false END AS {new}_unreadable",
        f"CAST(NULL AS BOOLEAN) AS {new}_zoned",
    ]


def _short_year(name: str, century: int) -> str:
    """SQL for a time such as 10/23/64 21:09, as spreadsheets write it."""
    long_year = f"regexp_replace({name}, '^(\\d+/\\d+/)(\\d\\d)( |$)', '\\1{century}\\2 ')"
    formats = "['%m/%d/%Y %H:%M:%S', '%m/%d/%Y %H:%M', '%m/%d/%Y']"
    return f"epoch_us(try_strptime(trim({long_year}), {formats}))"
