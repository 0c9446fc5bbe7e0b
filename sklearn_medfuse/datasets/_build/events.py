"""What a loader declares of its tables, and which of their rows count.

Every row of a table of events is either used or dropped for one reason, the first that applies.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pandas as pd

from .._options import CohortOptions
from .._tables.columns import TIMES, interval
from .._tables.source import Columns, Source

_MINUTES_PER_DAY = 24 * 60
# `Layout.expected` of sources that hold outpatients too, and results in words among the numbers
OUTSIDE_STAYS = frozenset({"without a stay", "without a number"})


@dataclass(frozen=True)
class EventTable:
    """A long table with one row per event of a stay."""

    table: str
    # Role -> column, kind. Every table has the role `stay`. Labs: `item` (code or name), `value`,
    # `text` (as the laboratory wrote it), `text_unit` (if it has its own), `unit`, `time`, `known`,
    # `low`, `high`. Notes: `time`, `date` (where there is no time), `known`, `type`, `text`.
    # Diagnoses: `code`, `version`, and `time` or `date` of the record. `known` is when the event
    # was entered. Others may serve in `drop`.
    columns: Columns
    # Roles whose columns may be absent
    optional: tuple[str, ...] = ()
    # Reason -> SQL condition on the roles `e`, for rows that are not used
    drop: Mapping[str, str] = field(default_factory=dict)
    # Of labs: SQL of a result's value, on the roles `e`; and item -> lab, where the names differ
    number: str = "e.value"
    names: Mapping[str, str] = field(default_factory=dict)
    # Of diagnoses: what stands between the codes of one cell; None if a cell has one
    separator: str | None = None

    @property
    def times(self) -> list[str]:
        """Roles that hold times."""
        return [role for role, (_, kind) in self.columns.items() if kind in TIMES]


@dataclass(frozen=True)
class DayTable:
    """A table with one row per stay and one column per lab, whose values sum up the first hours."""

    table: str
    # Column of the stay's id
    stay: str
    # Column, which is also the lab's name -> unit, "" if it has none
    units: Mapping[str, str]
    # Stands where there is no value
    not_measured: float
    # Length of what is summed up, from the start of the stay
    minutes: float


@dataclass(frozen=True)
class Layout:
    """One format of electronic health records."""

    # Name of the cohort's `DESCR` in data/descr
    describe: str
    # Gives the stays of a source: `stay_id`, `patient`, times `start` and `end`, where known `age`
    # (years, or a text such as "> 89"), `birth` (time, used where there is no age), `sex`, `died`
    # (0, 1, or NaN), `death` (time), `hospital`, further times that `index_time` may name, columns
    # named in `subgroups` and `demographics`, and "of another kind" (bool) for stays that are not
    # asked for. If the times of a patient's stays cannot be compared, `turn` (number) puts them in
    # order, and `days_to_next` are the days from the end to the next one's start (inf if there is
    # none, NaN if unknown).
    stays: Callable[[Source], pd.DataFrame]
    diagnoses: EventTable | None
    labs: EventTable | None
    notes: tuple[EventTable, ...]
    # Gives the dictionary of lab items: `item` and a unique `name`. None if `item` is the name.
    items: Callable[[Source], pd.DataFrame] | None = None
    # Content of `version` -> 9 or 10; or one version for all codes; or "auto", by the form of each
    # code. In a mapping, the key None with the value "auto" does that for codes without a version.
    versions: Mapping[Any, Any] | int | str = "auto"
    # Columns of the stays to break results down by
    subgroups: tuple[str, ...] = ("sex", "age")
    # Columns of the stays that `CohortOptions.demographics` may name
    demographics: tuple[str, ...] = ()
    # Columns of labs that are vital signs and settings at the bedside, not laboratory tests
    vitals: frozenset[str] = frozenset()
    # If stays have clocks of their own: SQL on two stays of a patient, `e` and `s`, of how far the
    # start of e's clock lies behind that of s, NULL if unknown; of whether e is certainly earlier
    # where it is; and the columns of the stays that these need
    clock: tuple[str, str, tuple[str, ...]] = ("INTERVAL 0 SECOND", "false", ())
    # Lab values of the first hours, beside the results
    days: DayTable | None = None
    # Reasons for which many rows or stays of this format are not used without anything being wrong,
    # as `Cohort.report` has them
    expected: frozenset[str] = frozenset()
    # Whether times are dates; False if all stays begin at `ORIGIN`
    dated: bool = True
    # Makes the texts of the registered stays in place of `build_notes`, with its parameters
    make_notes: Callable[..., pd.Series] | None = None


def register_stays(source: Source, stays: pd.DataFrame) -> None:
    """Give the queries the table `stays`: number, key, start, index time and end."""
    table = pd.DataFrame(
        {
            "stay": range(len(stays)),
            "key": stays["stay_id"].to_numpy(),
            "started": stays["start"].to_numpy("datetime64[us]"),
            "index_time": stays["index_time"].to_numpy("datetime64[us]"),
            "ended": stays["end"].to_numpy("datetime64[us]"),
        }
    )
    source.register("stays", table)


class Condition(NamedTuple):
    """When a row is not used."""

    # On the roles of the rows `e` and the stays `s`; never NULL where that matters
    sql: str
    # Whether PostgreSQL understands it as DuckDB does, so that the row need not leave a server
    portable: bool = False


@dataclass(frozen=True)
class Events:
    """The rows of a table, each with the reason for which it is not used."""

    table: EventTable
    # A query in parentheses. Beside the roles it has `reason` (0 for rows in use, else the place of
    # the reason, from 1), `stay_number`, and, of events with a time, `since_start` (microseconds),
    # `dated` and `unstored` (whether there is only a date, or no stored time).
    sql: str
    reasons: list[str]
    # Place of a reason -> number of rows that were left on a server
    left: dict[int, int]
    # Whether the events have a time
    timed: bool

    def used(self, columns: Mapping[str, str], more: str = "") -> str:
        """A query for columns (name -> SQL) of the rows in use; of others only why they are not."""
        parts = ["reason"]
        if self.timed:
            parts += ["dated", "unstored", *(f"{role}_zoned" for role in self.table.times)]
        parts += [f"CASE WHEN reason = 0 THEN {sql} END AS {name}" for name, sql in columns.items()]
        return f"(SELECT {', '.join(parts)}{more} FROM {self.sql})"

    def tallies(self) -> dict[str, str]:
        """Name of a number that is reported -> SQL that counts it in the rows of `used`."""
        conditions = {"n": "true"}
        if self.timed:
            conditions |= {"n_dated": "dated", "n_unstored": "unstored"}
            for role in self.table.times:
                conditions[f"{role}_with_zone"] = f"{role}_zoned"
                conditions[f"{role}_without_zone"] = f"NOT {role}_zoned"
        return {name: f"count(*) FILTER (WHERE {sql})" for name, sql in conditions.items()}


def classify(
    source: Source,
    table: EventTable,
    options: CohortOptions,
    reasons: Mapping[str, Condition],
    *,
    timed: bool = True,
    window: bool = True,
    lookback: float | None = None,
    more: str = "",
    joins: str = "",
    read: Callable[[str], str] = str,
) -> Events:
    """Join the rows of a table to the registered stays, with the first reason not to use a row."""
    # `reasons` come after those of stay and time; `more` are columns, each after a comma; `read`
    # rewrites the query for rows
    stored = table.columns["known"][0].lower() if "known" in table.columns else None
    known = timed and stored in source.columns(table.table)
    conditions = {
        "without a stay": Condition("e.stay IS NULL", portable=True),
        "of stays not used": Condition("s.stay IS NULL", portable=True),
    }
    if timed:
        if window:
            conditions |= _time_conditions(table, known, options, lookback)
        happened, dated = _happened(table.columns, known)
        more += f", epoch_us({happened}) - epoch_us(s.started) AS since_start"
        more += f", {dated} AS dated"
        more += f", {'e.known IS NULL' if known else 'false'} AS unstored"
    conditions |= {reason: of for reason, of in reasons.items() if of.portable}
    conditions |= {r: Condition(f"coalesce({sql}, false)") for r, sql in table.drop.items()}
    conditions |= {reason: of for reason, of in reasons.items() if not of.portable}
    portable = [of.sql for of in conditions.values() if of.portable]
    rows, left = source.select_needed(table.table, table.columns, table.optional, portable)
    cases = " ".join(f"WHEN {of.sql} THEN {i}" for i, of in enumerate(conditions.values(), 1))
    sql = (
        f"(SELECT e.*, s.stay AS stay_number{more}, CASE {cases} ELSE 0 END AS reason "
        f"FROM {read(rows)} e LEFT JOIN stays s ON e.stay = s.key {joins})"
    )
    return Events(table, sql, list(conditions), left, timed)


def _happened(columns: Columns, known: bool) -> tuple[str, str]:
    """SQL for when an event had happened for sure, and for whether it has only a date."""
    times = [role for role in ("time", "date") if role in columns]
    ended = f"coalesce({', '.join(f'e.{role}' for role in times)})"
    cases = " ".join(f"WHEN e.{role} IS NOT NULL THEN e.{role}_dated" for role in times)
    dated = f"(CASE {cases} ELSE false END)"
    if not known:
        return ended, dated
    entered = f"greatest(coalesce(e.known, {ended}), {ended} - {interval(_MINUTES_PER_DAY)})"
    return f"CASE WHEN {dated} THEN least({ended}, {entered}) ELSE {ended} END", dated


def _time_conditions(
    table: EventTable, known: bool, options: CohortOptions, lookback: float | None
) -> dict[str, Condition]:
    """Reasons for which an event was not known in the window."""
    happened, _ = _happened(table.columns, known)
    times = [role for role in ("time", "date", "known") if role in table.columns]
    conditions = {
        "with a time that cannot be read": " OR ".join(f"e.{role}_unreadable" for role in times),
        "without a time": f"{happened} IS NULL",
    }
    if lookback is not None:
        conditions["before the window"] = f"{happened} < s.started - {interval(lookback)}"
    conditions["after the index time"] = f"{happened} > s.index_time"
    if known:
        conditions["entered after the index time"] = "e.known > s.index_time"
        if options.without_stored_time == "drop":
            conditions["without a stored time"] = "e.known IS NULL"
    return {reason: Condition(sql, portable=True) for reason, sql in conditions.items()}


def count_rows(
    source: Source, events: Events, made: str, counts: dict[str, int], *, grouped: bool = False
) -> None:
    """Report the rows of a table of `Events.used`; if `grouped`, a row holds tallies of several."""
    table = events.table.table
    sums = events.tallies()
    if grouped:
        sums = {name: f"CAST(sum({name}) AS BIGINT)" for name in sums}
    items = ", ".join(f"{sql} AS {name}" for name, sql in sums.items())
    found = source.query(f"SELECT reason, {items} FROM {made} GROUP BY reason", table)
    totals = found.set_index("reason").astype(int)
    if events.timed:
        for role in events.table.times:
            zoned, naive = (
                int(totals[f"{role}_{which}_zone"].sum()) for which in ("with", "without")
            )
            source.note_zones(table, events.table.columns[role][0], zoned, naive)
    numbers = {
        place: int(totals["n"].get(place, 0)) + events.left.get(place, 0)
        for place in range(len(events.reasons) + 1)
    }
    counts[f"{table} rows read"] = sum(numbers.values())
    for place, reason in enumerate(events.reasons, 1):
        if numbers[place]:
            counts[f"{table} rows dropped: {reason}"] = numbers[place]
    counts[f"{table} rows kept"] = numbers[0]
    for column, what in {
        "n_dated": "with a date only, taken as the end of that day",
        "n_unstored": "without a stored time, judged by the other",
    }.items():
        if column in totals and (n := int(totals[column].get(0, 0))):
            counts[f"{table} rows kept: {what}"] = n
