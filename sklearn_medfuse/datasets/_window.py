"""Events of the stays, each with the reason for which it is not used, if there is one."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from ._layout import EventTable
from ._options import CohortOptions
from ._sources import Source

MICROSECONDS_PER_MINUTE = 60_000_000
_DAY = 24 * 60 * MICROSECONDS_PER_MINUTE


def register_stays(source: Source, stays: pd.DataFrame) -> None:
    """Give the queries the stays: their number, key, start and index time.

    Parameters
    ----------
    source : Source
        Gets a table `stays`.
    stays : DataFrame
        Columns `stay_id`, `start` and `index_time`.
    """
    table = pd.DataFrame(
        {
            "stay": range(len(stays)),
            "key": stays["stay_id"].to_numpy(),
            "started": microseconds(stays["start"]).to_numpy(),
            "index_time": microseconds(stays["index_time"]).to_numpy(),
        }
    )
    source.register("stays", table)


def microseconds(times: pd.Series) -> pd.Series:
    """Times as whole microseconds since 1970; none may be missing."""
    return times.astype("datetime64[us]").astype("int64")


def classified(
    source: Source,
    events: EventTable,
    options: CohortOptions,
    more_reasons: Mapping[str, str],
    *,
    timed: bool = True,
    lookback: float | None = None,
    joins: str = "",
) -> tuple[str, list[str]]:
    """A query for all rows of a table, joined to the stays, with a column `reason`.

    Parameters
    ----------
    source : Source
        With a table `stays`.
    events : EventTable
        The table.
    options : CohortOptions
        Says what becomes of rows without a stored time.
    more_reasons : mapping of str to str
        Further reasons to drop a row -> SQL condition, looked at after the others.
    timed : bool, default=True
        Whether the events have a time, and only those known at the index time count.
    lookback : float or None, default=None
        Minutes before the start of the stay from which on events count; None for all.
    joins : str, default=""
        Further joins.

    Returns
    -------
    sql : str
        In parentheses. Beside the roles: `reason` (0 for rows to use, else the place of its reason
        counted from 1), `stay_number`, `since_start` (microseconds), `dated` and `unstored`
        (whether there is only a date, or no stored time).
    reasons : list of str
        The reasons, in the order in which they are looked at.
    """
    columns = dict(events.columns)
    known = _present(source, events, "known") if timed else False
    conditions = {
        "without a stay": "e.stay IS NULL",
        "of stays not used": "s.stay IS NULL",
    }
    conditions |= {reason: f"coalesce({sql}, false)" for reason, sql in events.drop.items()}
    happened = "e.time"
    if timed:
        dated = "false"
        if "date" in columns:
            # Of an event with a date alone it is only safe to say that it was there a day later.
            later = f"e.date + {_DAY}"
            timeless = "time" not in columns
            happened = later if timeless else f"coalesce(e.time, {later})"
            dated = "true" if timeless else "e.time IS NULL"
        conditions |= _time_conditions(columns, happened, known, options, lookback)
    conditions |= dict(more_reasons)
    cases = " ".join(f"WHEN {sql} THEN {i}" for i, sql in enumerate(conditions.values(), 1))
    extra = ""
    if timed:
        unstored = "e.known IS NULL" if known else "false"
        extra = f", {happened} - s.started AS since_start, {dated} AS dated, {unstored} AS unstored"
    sql = (
        f"(SELECT e.*, s.stay AS stay_number{extra}, CASE {cases} ELSE 0 END AS reason "
        f"FROM {source.select(events.table, columns, events.optional)} e "
        f"LEFT JOIN stays s ON e.stay = s.key {joins})"
    )
    return sql, list(conditions)


def _present(source: Source, events: EventTable, role: str) -> bool:
    """Whether the table has the column of a role that may be absent."""
    column = events.columns.get(role)
    return column is not None and column[0].lower() in source.columns(events.table)


def _time_conditions(columns, happened, known, options, lookback) -> dict[str, str]:
    """Reasons for which an event was not known in the window."""
    times = [role for role in ("time", "date", "known") if role in columns]
    unreadable = " OR ".join(f"e.{role}_unreadable" for role in times)
    conditions = {
        "with a time that cannot be read": unreadable,
        "without a time": f"{happened} IS NULL",
    }
    if lookback is not None:
        before = int(lookback * MICROSECONDS_PER_MINUTE)
        conditions["before the window"] = f"{happened} < s.started - {before}"
    conditions["after the index time"] = f"{happened} > s.index_time"
    if known:
        conditions["entered after the index time"] = "e.known > s.index_time"
        if options.without_stored_time == "drop":
            conditions["without a stored time"] = "e.known IS NULL"
    return conditions


def zone_counts(columns) -> list[str]:
    """SQL of the numbers of times with and without a zone, for all times of a table."""
    parts = []
    for role, (_, kind) in columns.items():
        if kind == "time":
            parts.append(f"count(*) FILTER (WHERE {role}_zoned) AS {role}_with_zone")
            parts.append(f"count(*) FILTER (WHERE NOT {role}_zoned) AS {role}_without_zone")
    return parts


def note_zones(source: Source, events: EventTable, totals: pd.Series) -> None:
    """Hand the numbers of :func:`zone_counts` to the source, which refuses a mixture."""
    for role, (column, kind) in events.columns.items():
        if kind == "time":
            with_zone = int(totals[f"{role}_with_zone"])
            source.note_zones(events.table, column, with_zone, int(totals[f"{role}_without_zone"]))


def count_rows(
    counts: dict[str, int], table: str, reasons: list[str], per_reason: Mapping[Any, int]
) -> None:
    """Write the numbers of rows read, dropped by reason, and kept into the report.

    Parameters
    ----------
    counts : dict
        Gets the numbers.
    table : str
        Name of the table.
    reasons : list of str
        As :func:`classified` gives them.
    per_reason : mapping of int to int
        Number of rows of each reason; 0 is for those kept.
    """
    counts[f"{table} rows read"] = sum(per_reason.values())
    for place, reason in enumerate(reasons, 1):
        if per_reason.get(place, 0):
            counts[f"{table} rows dropped: {reason}"] = per_reason[place]
    counts[f"{table} rows kept"] = per_reason.get(0, 0)
