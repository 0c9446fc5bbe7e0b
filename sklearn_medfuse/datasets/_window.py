"""Events of the stays, each with the reason for which it is not used, if there is one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd

from ._cells import TIMES
from ._layout import EventTable
from ._options import CohortOptions
from ._sources import Source

MICROSECONDS_PER_MINUTE = 60_000_000
_MINUTES_PER_DAY = 24 * 60


class Dialect(NamedTuple):
    """How times are written in SQL.

    Attributes
    ----------
    minutes : callable
        Number of minutes -> what is added to a time.
    unreadable : callable
        Role of a time -> whether it could not be read.
    """

    minutes: Callable[[float], str]
    unreadable: Callable[[str], str]


# In DuckDB times are whole microseconds, on a server timestamps.
HERE = Dialect(
    lambda minutes: str(int(minutes * MICROSECONDS_PER_MINUTE)),
    lambda role: f"e.{role}_unreadable",
)
THERE = Dialect(
    lambda minutes: f"interval '{int(minutes * MICROSECONDS_PER_MINUTE)} microseconds'",
    # A column of timestamps has none; the role is named as a text column must not get here.
    lambda role: f"e.{role} IS DISTINCT FROM e.{role}",
)


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


class Condition(NamedTuple):
    """When a row is not used.

    Attributes
    ----------
    sql : str
        On the rows `e` and the stays `s`, in DuckDB's SQL.
    on_server : str or None
        The same in PostgreSQL's SQL, on roles as `role_expressions` gives them, so that the row
        does not leave a server; None where DuckDB alone can tell.
    """

    sql: str
    on_server: str | None = None


@dataclass(frozen=True)
class Events:
    """The rows of a table of events, each with the reason for which it is not used.

    Attributes
    ----------
    sql : str
        A query in parentheses. Beside the roles: `reason` (0 for rows to use, else the place of its
        reason counted from 1), `stay_number`, `since_start` (microseconds), `dated` and `unstored`
        (whether there is only a date, or no stored time).
    reasons : list of str
        The reasons, in the order in which they are looked at.
    left : dict of int to int
        Place of a reason -> number of rows that the query lacks, as they were left on a server.
    """

    sql: str
    reasons: list[str]
    left: dict[int, int]


def classified(
    source: Source,
    events: EventTable,
    options: CohortOptions,
    more_reasons: Mapping[str, Condition],
    *,
    timed: bool = True,
    lookback: float | None = None,
    joins: str = "",
) -> Events:
    """A query for the rows of a table, joined to the stays, with a column `reason`.

    Parameters
    ----------
    source : Source
        With a table `stays`.
    events : EventTable
        The table.
    options : CohortOptions
        Says what becomes of rows without a stored time.
    more_reasons : mapping of str to Condition
        Further reasons to drop a row, looked at after those of stay and time.
    timed : bool, default=True
        Whether the events have a time, and only those known at the index time count.
    lookback : float or None, default=None
        Minutes before the start of the stay from which on events count; None for all.
    joins : str, default=""
        Further joins.

    Returns
    -------
    Events
        The query and the reasons.
    """
    columns = dict(events.columns)
    known = _present(source, events, "known") if timed else False
    conditions = {
        "without a stay": Condition("e.stay IS NULL", "e.stay IS NULL"),
        "of stays not used": Condition("s.stay IS NULL", "s.stay IS NULL"),
    }
    if timed:
        here, there = (
            _time_conditions(columns, known, options, lookback, dialect)
            for dialect in (HERE, THERE)
        )
        conditions |= {reason: Condition(here[reason], there[reason]) for reason in here}
    conditions |= {r: of for r, of in more_reasons.items() if of.on_server is not None}
    conditions |= {r: Condition(f"coalesce({sql}, false)") for r, sql in events.drop.items()}
    conditions |= {r: of for r, of in more_reasons.items() if of.on_server is None}
    cases = " ".join(f"WHEN {of.sql} THEN {i}" for i, of in enumerate(conditions.values(), 1))
    extra = ""
    if timed:
        dated = "false"
        if "date" in columns:
            dated = "e.time IS NULL" if "time" in columns else "true"
        unstored = "e.known IS NULL" if known else "false"
        extra = f", {_happened(columns, HERE)} - s.started AS since_start"
        extra += f", {dated} AS dated, {unstored} AS unstored"
    rows, left = source.select_needed(
        events.table, columns, events.optional, [of.on_server for of in conditions.values()]
    )
    sql = (
        f"(SELECT e.*, s.stay AS stay_number{extra}, CASE {cases} ELSE 0 END AS reason "
        f"FROM {rows} e LEFT JOIN stays s ON e.stay = s.key {joins})"
    )
    return Events(sql, list(conditions), left)


def _present(source: Source, events: EventTable, role: str) -> bool:
    """Whether the table has the column of a role that may be absent."""
    column = events.columns.get(role)
    return column is not None and column[0].lower() in source.columns(events.table)


def _happened(columns, dialect: Dialect) -> str:
    """SQL for when an event happened."""
    if "date" not in columns:
        return "e.time"
    # Of an event with a date alone it is only safe to say that it was there a day later.
    later = f"e.date + {dialect.minutes(_MINUTES_PER_DAY)}"
    return f"coalesce(e.time, {later})" if "time" in columns else later


def _time_conditions(columns, known, options, lookback, dialect: Dialect) -> dict[str, str]:
    """Reasons for which an event was not known in the window."""
    happened = _happened(columns, dialect)
    times = [role for role in ("time", "date", "known") if role in columns]
    conditions = {
        "with a time that cannot be read": " OR ".join(map(dialect.unreadable, times)),
        "without a time": f"{happened} IS NULL",
    }
    if lookback is not None:
        before = dialect.minutes(lookback)
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
        if kind in TIMES:
            parts.append(f"count(*) FILTER (WHERE {role}_zoned) AS {role}_with_zone")
            parts.append(f"count(*) FILTER (WHERE NOT {role}_zoned) AS {role}_without_zone")
    return parts


def note_zones(source: Source, events: EventTable, totals: pd.Series) -> None:
    """Hand the numbers of :func:`zone_counts` to the source, which refuses a mixture."""
    for role, (column, kind) in events.columns.items():
        if kind in TIMES:
            with_zone = int(totals[f"{role}_with_zone"])
            source.note_zones(events.table, column, with_zone, int(totals[f"{role}_without_zone"]))


def count_rows(
    counts: dict[str, int], table: str, events: Events, per_reason: Mapping[Any, int]
) -> None:
    """Write the numbers of rows read, dropped by reason, and kept into the report.

    Parameters
    ----------
    counts : dict
        Gets the numbers.
    table : str
        Name of the table.
    events : Events
        Its rows.
    per_reason : mapping of int to int
        Number of rows of each reason in the query; 0 is for those kept.
    """
    numbers = {
        place: int(per_reason.get(place, 0)) + events.left.get(place, 0)
        for place in range(len(events.reasons) + 1)
    }
    counts[f"{table} rows read"] = sum(numbers.values())
    for place, reason in enumerate(events.reasons, 1):
        if numbers[place]:
            counts[f"{table} rows dropped: {reason}"] = numbers[place]
    counts[f"{table} rows kept"] = numbers[0]
