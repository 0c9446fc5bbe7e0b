"""Lab results of the stays as one column per lab and aggregate.

One query reads the table of results and reduces it to one row per stay, lab and unit; what is left
is small. Only then is known which unit each lab is mostly given in: the rows are converted to it,
merged, and put in columns. Values that sum up the first hours of a stay fill in.
"""

from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

import numpy as np
import pandas as pd

from .._options import CohortOptions, parse_hours
from .._tables.columns import TEXT_DTYPE, interval, literal
from .._tables.source import Source
from .events import Condition, DayTable, EventTable, Layout, classify, count_rows
from .units import conversion, unit_key

_HOURS = "(since_start / 3.6e9)"

# Aggregate -> SQL of what is kept of the results of one stay, lab and unit. Of results of one time
# the greatest counts, so that the order of rows does not matter.
_PIECES = {
    "last": {"last": "max({'t': since_start, 'k': known, 'v': value})"},
    "first": {"first": "max({'t': -since_start, 'k': known, 'v': value})"},
    "mean": {"sum_v": "fsum(value)"},
    "min": {"low_v": "min(value)"},
    "max": {"high_v": "max(value)"},
    "slope": {
        "sum_v": "fsum(value)",
        "sum_t": f"fsum({_HOURS})",
        "sum_tt": f"fsum({_HOURS} * {_HOURS})",
        "sum_tv": f"fsum({_HOURS} * value)",
        "first_t": "min(since_start)",
        "last_t": "max(since_start)",
    },
    "count": {},
}
# Aggregate -> SQL that merges the pieces of several units; f and o convert a value v to v * f + o.
_N, _T = "sum(n)", "fsum(sum_t)"
_V = "fsum(sum_v * f + n * o)"
_MERGED = {
    "last": "max({'t': last['t'], 'k': last['k'], 'v': last['v'] * f + o})['v']",
    "first": "max({'t': first['t'], 'k': first['k'], 'v': first['v'] * f + o})['v']",
    "mean": f"{_V} / {_N}",
    "min": "min(low_v * f + o)",
    "max": "max(high_v * f + o)",
    "slope": (
        f"CASE WHEN max(last_t) > min(first_t) THEN "
        f"({_N} * fsum(sum_tv * f + sum_t * o) - {_T} * {_V}) / "
        f"({_N} * fsum(sum_tt) - {_T} * {_T}) END"
    ),
    "count": _N,
}


# Aggregates of several results, for which no single value can stand.
_OF_RESULTS = ("slope", "count")
# Results with their units converted.
_CONVERTED = (
    "cells JOIN conversions c ON cells.lab = c.lab AND cells.unit IS NOT DISTINCT FROM c.unit "
    "AND cells.reason = 0"
)


class Labs(NamedTuple):
    """Lab columns (n_stays, n_columns), with the unit and the normal range of each.

    A range is there for columns that hold results, where the source gives one.
    """

    table: pd.DataFrame
    units: dict[str, str]
    reference_ranges: dict[str, tuple[float, float]]


def build_labs(source: Source, layout: Layout, options: CohortOptions, n_stays, counts) -> Labs:
    """Lab columns of the registered stays, one row per stay; `counts` gets the numbers of rows."""
    if layout.labs is None:
        return Labs(pd.DataFrame(index=range(n_stays)), {}, {})
    items = None if layout.items is None else layout.items(source)
    if items is not None and (n_repeated := int(items["item"].duplicated().sum())):
        raise ValueError(f"The dictionary of lab items has {n_repeated} rows more than items.")
    with source.progress_bar(layout.labs.table):
        _reduce_to_cells(source, layout.labs, items, options, counts)
    units = _choose_units(source, layout, options, counts)
    days = pd.DataFrame(index=range(n_stays))
    if layout.days is not None:
        with source.progress_bar(layout.days.table):
            days = _read_days(source, layout.days, options, n_stays, counts)
        days = _in_units(days, layout.days, units, counts)
    names, with_results = _choose_labs(source, options, days)
    return _columns(source, units, names, with_results, options.aggregates, days)


def _reduce_to_cells(source, labs: EventTable, items: pd.DataFrame | None, options, counts) -> None:
    """One row per stay, lab and unit in the table `cells`; one per reason for what is dropped."""
    cases = "".join(f"WHEN {literal(of)} THEN {literal(to)} " for of, to in labs.names.items())
    name = f"CASE e.item {cases}ELSE e.item END" if cases else "e.item"
    joins, strange = "", "NULL::VARCHAR"
    reasons = {}
    if options.lab_names is not None:
        reasons["of labs that lab_names lacks"] = _of_other_labs(items, labs, options.lab_names)
    reasons["without a name"] = Condition("e.item IS NULL")
    if items is not None:
        source.register("items", items)
        name, joins = "d.name", "LEFT JOIN items d ON e.item = d.item"
        reasons["of items that the dictionary lacks"] = Condition("d.name IS NULL")
        # The join brings in a second column `item`.
        strange = "CASE WHEN d.name IS NULL THEN e.item END"
    value = labs.number
    if "text" in labs.columns:
        # A result given as a text alone counts if it is a number.
        value = f"coalesce({labs.number}, TRY_CAST(e.text AS DOUBLE))"
        value = f"CASE WHEN isfinite({value}) THEN {value} END"
    reasons["without a number"] = Condition(f"({value}) IS NULL")
    events = classify(
        source,
        labs,
        options,
        reasons,
        lookback=parse_hours(options.lookback, "lookback"),
        more=f", {name} AS lab_name, {value} AS number, {strange} AS strange_item",
        joins=joins,
    )
    strange = "NULL"
    if items is not None:
        place = events.reasons.index("of items that the dictionary lacks") + 1
        strange = f"CASE WHEN reason = {place} THEN strange_item END"
    low, high = ("low", "high") if "low" in labs.columns else ("NULL::DOUBLE", "NULL::DOUBLE")
    used = {
        "stay": "stay_number",
        "lab": "lab_name",
        "unit": "unit" if "unit" in labs.columns else "NULL::VARCHAR",
        "since_start": "since_start",
        "known": "coalesce(epoch_us(known), 0)" if "known" in labs.columns else "0",
        "value": "number",
        "ranges": f"{{'low': {low}, 'high': {high}}}",
    }
    pieces = {
        piece: sql for aggregate in options.aggregates for piece, sql in _PIECES[aggregate].items()
    }
    sums = {**events.tallies(), "ranges": "arg_max(ranges, since_start)", **pieces}
    source.execute(
        "CREATE OR REPLACE TEMP TABLE cells AS SELECT reason, strange, stay, lab, unit, "
        + ", ".join(f"{sql} AS {of}" for of, sql in sums.items())
        + f" FROM {events.used(used, f', {strange} AS strange')} "
        "GROUP BY reason, strange, stay, lab, unit",
        labs.table,
    )
    count_rows(source, events, "cells", counts, grouped=True)
    n_strange = source.query("SELECT count(DISTINCT strange) AS n FROM cells", labs.table)
    if n := int(n_strange["n"].iloc[0]):
        counts[f"{labs.table} items that the dictionary lacks"] = n


def _of_other_labs(
    items: pd.DataFrame | None, labs: EventTable, wanted: Sequence[str]
) -> Condition:
    """Results of labs that are not wanted, by their items."""
    if items is None:
        named = [of for of, name in labs.names.items() if name in wanted]
        listed = [*named, *(name for name in wanted if name not in labs.names)]
        kept = list(map(literal, listed))
    else:
        of_name = items.loc[items["name"].isin(list(wanted)), "item"]
        is_number = pd.api.types.is_numeric_dtype(of_name)
        kept = [str(int(of)) if is_number else literal(of) for of in of_name]
    return Condition(f"coalesce(e.item NOT IN ({', '.join(kept) or 'NULL'}), true)", portable=True)


def _choose_units(source, layout: Layout, options: CohortOptions, counts) -> pd.Series:
    """The unit of each lab, and in the table `conversions` how to get there from others."""
    assert layout.labs is not None
    table = layout.labs.table
    of_days = {} if layout.days is None else layout.days.units
    given = source.query(
        "SELECT lab, unit, sum(n) AS n FROM cells WHERE reason = 0 GROUP BY ALL ORDER BY ALL",
        table,
    )
    wanted: dict[str, str] = dict(options.units or {})
    rows, units = [], {}
    triples = zip(given["lab"], given["unit"], given["n"].astype(int), strict=True)
    for lab, of_lab in groupby(triples, key=itemgetter(0)):
        numbers = [(None if pd.isna(unit) else str(unit), n) for _, unit, n in of_lab]
        units[lab] = target = wanted.pop(lab, "") or of_days.get(lab) or _usual_unit(numbers)
        for unit, n in numbers:
            factor = (1.0, 0.0) if unit is None else conversion(unit, target, str(lab))
            rows.append((lab, unit, n, unit is None and target, factor))
    # Labs that have no results, but values of the first hours.
    units |= {
        name: wanted.pop(name, "") or unit for name, unit in of_days.items() if name not in units
    }
    if wanted:
        raise ValueError(f"units names labs that no result has: {sorted(wanted)}.")
    _report_units(table, rows, counts)
    known = [(lab, unit, *factor) for lab, unit, _, _, factor in rows if factor is not None]
    frame = pd.DataFrame(known, columns=["lab", "unit", "f", "o"])
    source.register(
        "conversions", frame.astype({"lab": str, "unit": object, "f": float, "o": float})
    )
    return pd.Series(units, dtype=object)


def _usual_unit(numbers: list[tuple[str | None, int]]) -> str:
    """The most frequent unit, spellings of one unit taken together; "" if none is given."""
    named = [(unit_key(unit), unit, n) for unit, n in numbers if unit is not None]
    if not named:
        return ""
    totals: dict[str, int] = {}
    for key, _, n in sorted(named):
        totals[key] = totals.get(key, 0) + n
    usual = max(totals, key=lambda key: totals[key])
    # Of equally frequent spellings the first in the alphabet: `numbers` has that order.
    return max((n, -place, unit) for place, (key, unit, n) in enumerate(named) if key == usual)[2]


def _report_units(table, rows, counts) -> None:
    lost = [row for row in rows if row[4] is None]
    for what, selected in {
        "kept: without a unit, read in the lab's usual one": [row for row in rows if row[3]],
        "kept: converted to the lab's usual unit": [
            row for row in rows if row[4] not in (None, (1.0, 0.0))
        ],
        "dropped: in a unit that cannot be converted": lost,
    }.items():
        if selected:
            counts[f"{table} rows {what}"] = sum(row[2] for row in selected)
    if lost:
        what = f"{table} labs with results in a unit that cannot be converted"
        counts[what] = len({row[0] for row in lost})
        counts[f"{table} rows kept"] -= sum(row[2] for row in lost)


def _read_days(source, days: DayTable, options, n_stays: int, counts) -> pd.DataFrame:
    """Values of the first hours, (n_stays, n_labs), in the units of the table.

    They are NaN where not measured, and where the index time is before the end of these hours.
    """
    columns: dict = {"stay": (days.stay, "id")}
    columns |= {name: (name, "number") for name in days.units}
    columns |= {f"{name}_told": (name, "text") for name in days.units}
    early = Condition(f"s.index_time < s.started + {interval(days.minutes)}", portable=True)
    table = EventTable(days.table, columns)
    events = classify(source, table, options, {"after the index time": early}, timed=False)
    wrong = " + ".join(
        f"CAST({name} IS NULL AND {name}_told IS NOT NULL AS BIGINT)" for name in days.units
    )
    values = {name: f"nullif({name}, {days.not_measured})" for name in days.units}
    source.execute(
        "CREATE OR REPLACE TEMP TABLE read_days AS SELECT * FROM "
        + events.used({"stay": "stay_number", "wrong": wrong, **values}),
        days.table,
    )
    count_rows(source, events, "read_days", counts)
    found = source.query("SELECT * EXCLUDE (reason) FROM read_days WHERE reason = 0", days.table)
    source.execute("DROP TABLE read_days", days.table)
    if n_wrong := int(found.pop("wrong").sum()):
        counts[f"{days.table} cells dropped: not numbers"] = n_wrong
    found = found.set_index("stay")
    n_repeated = int(found.index.duplicated().sum())
    if n_repeated:
        raise ValueError(f"Table '{days.table}' has {n_repeated} rows more than stays.")
    return found.reindex(index=range(n_stays)).astype(float)


def _in_units(values: pd.DataFrame, days: DayTable, units: pd.Series, counts) -> pd.DataFrame:
    """The values of the first hours in the units of the columns; lost where that cannot be done."""
    converted = {}
    for name, unit in days.units.items():
        column = values[name]
        factor = conversion(unit, units[name], name) if unit else (1.0, 0.0)
        if factor is None:
            reason = f"{days.table} cells dropped: in a unit that cannot be converted"
            counts[reason] = counts.get(reason, 0) + int(column.notna().sum())
        converted[name] = column * factor[0] + factor[1] if factor else column * np.nan
    return pd.DataFrame(converted, index=values.index)


def _choose_labs(source, options, days) -> tuple[list[str], set[str]]:
    """Labs to make columns of, and those that have results.

    The order is that of `lab_names`. By default, labs with values of the first hours come first, in
    their own order and at any coverage, then the others in alphabetical order.
    """
    covered = source.query(
        f"SELECT c.lab AS lab, count(DISTINCT stay) AS n FROM {_CONVERTED} GROUP BY ALL",
        "lab results",
    ).set_index("lab")["n"]
    with_results = set(covered.index)
    with_days = [name for name in days if name in with_results or days[name].notna().any()]
    if options.lab_names is None:
        enough = covered.index[covered / len(days) >= options.min_coverage]
        return [*with_days, *sorted(set(enough).difference(days))], with_results
    unknown = [name for name in options.lab_names if name not in with_results.union(with_days)]
    if unknown:
        raise ValueError(f"lab_names has {unknown}, of which there is no result in the stays.")
    return list(options.lab_names), with_results


def _columns(source, unit_of, names, with_results, aggregates, days) -> Labs:
    """The chosen labs as columns."""
    source.register(
        "chosen", pd.DataFrame({"lab": names, "place": range(len(names))}).astype({"lab": str})
    )
    merged = ", ".join(f"{_MERGED[agg]} AS agg_{agg}" for agg in aggregates)
    cells = source.query(
        f"SELECT stay, place, {merged} FROM {_CONVERTED} JOIN chosen ON chosen.lab = c.lab "
        "GROUP BY stay, place",
        "lab results",
    )
    values = np.full((len(days), len(names), len(aggregates)), np.nan)
    rows, places = cells["stay"].to_numpy(dtype=int), cells["place"].to_numpy(dtype=int)
    for k, agg in enumerate(aggregates):
        values[rows, places, k] = cells[f"agg_{agg}"].to_numpy(dtype=float)
    # Values of the first hours stand for the last result, and otherwise where there is none.
    for place, k in np.ndindex(len(names), len(aggregates)):
        if names[place] in days and aggregates[k] not in _OF_RESULTS:
            day = days[names[place]].to_numpy()
            known = ~np.isnan(day)
            if aggregates[k] != "last":
                known &= np.isnan(values[:, place, k])
            values[known, place, k] = day[known]
    pairs = [(name, agg) for name in names for agg in aggregates]
    # A lab without results has no count and no slope.
    made = [name in with_results or agg not in _OF_RESULTS for name, agg in pairs]
    pairs = [pair for pair, is_made in zip(pairs, made, strict=True) if is_made]
    single = len(aggregates) == 1
    titles = [name if single else f"{name}: {agg}" for name, agg in pairs]
    cells = values.reshape(len(days), -1)[:, made]
    frame = pd.DataFrame(cells, columns=pd.Index(titles, dtype=TEXT_DTYPE))
    ranges = _reference_ranges(source)
    units, kept_ranges = {}, {}
    for title, (name, agg) in zip(titles, pairs, strict=True):
        unit = unit_of[name]
        units[title] = {"count": "", "slope": f"{unit}/h"}.get(agg, unit)
        if agg not in _OF_RESULTS and name in ranges:
            kept_ranges[title] = ranges[name]
    return Labs(frame, units, kept_ranges)


def _reference_ranges(source) -> dict[str, tuple[float, float]]:
    """The most frequent range of each chosen lab, in its unit."""
    found = source.query(
        "SELECT c.lab AS lab, ranges['low'] * f + o AS low, ranges['high'] * f + o AS high, "
        "count(*) AS n "
        f"FROM {_CONVERTED} JOIN chosen ON chosen.lab = c.lab "
        "WHERE ranges['low'] IS NOT NULL AND ranges['high'] IS NOT NULL "
        "GROUP BY ALL ORDER BY n, low, high",
        "lab results",
    )
    # The last one written is the most frequent one.
    return {row.lab: (float(row.low), float(row.high)) for row in found.itertuples()}
