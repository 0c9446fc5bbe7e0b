"""Lab results of the stays as one column per lab and aggregate.

One query reads the table of results and reduces it to one row per stay, lab and unit; what is left
is small. Only then is known which unit each lab is mostly given in: the rows are converted to it,
merged, and put in columns. Values that sum up the first hours of a stay fill in.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd

from ..._written_results import read_result
from .._options import CohortOptions, listed, nearest, parse_hours
from .._tables.columns import TEXT_DTYPE, interval, literal
from .._tables.source import Source
from .events import Condition, DayTable, EventTable, Layout, classify, count_rows
from .units import conversion, is_unit, unit_key

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
# Aggregate -> SQL that merges the pieces of several units; f and o convert a value v to v * f + o
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


# A lab that loses more than this share of its results for their unit is worth a warning
_FEW_LOST = 0.01
# Of a lab that is no column of X, fewer results than these are not
_HANDFUL = 10
# Aggregates of several results, for which no single value can stand
_OF_RESULTS = ("slope", "count")
# Results with their units converted
_CONVERTED = (
    "cells JOIN conversions c ON cells.lab = c.lab AND cells.unit IS NOT DISTINCT FROM c.unit "
    "AND cells.unsure IS NOT DISTINCT FROM c.unsure AND cells.reason = 0"
)


class Labs(NamedTuple):
    """Lab columns (n_stays, n_columns), with the unit of each, and the range where there is one."""

    table: pd.DataFrame
    units: dict[str, str]
    reference_ranges: dict[str, tuple[float, float]]


def build_labs(source: Source, layout: Layout, options: CohortOptions, n_stays, counts) -> Labs:
    """Lab columns of the registered stays, one row per stay; `counts` gets the numbers of rows."""
    if layout.labs is None:
        return Labs(pd.DataFrame(index=range(n_stays)), {}, {})
    items = None if layout.items is None else layout.items(source)
    if items is not None and (n_repeated := int(items["item"].duplicated().sum())):
        raise ValueError(f"The dictionary of lab items has {n_repeated} more rows than items.")
    _reduce_to_cells(source, layout.labs, items, options, counts)
    units, lost = _choose_units(source, layout, options, counts)
    days = pd.DataFrame(index=range(n_stays))
    if layout.days is not None:
        days = _read_days(source, layout.days, options, n_stays, counts)
        days = _in_units(days, layout.days, units, counts)
    names, with_results = _choose_labs(source, layout, options, days)
    _warn_of_lost(layout.labs.table, lost, names)
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
        # The join brings in a second column `item`
        strange = "CASE WHEN d.name IS NULL THEN e.item END"
    reasons["without a number"] = Condition(f"({labs.number}) IS NULL")
    labs, read, unit, decimal = _written_results(source, labs)
    events = classify(
        source,
        labs,
        options,
        reasons,
        lookback=parse_hours(options.lookback, "lookback"),
        more=f", {name} AS lab_name, {labs.number} AS number, {strange} AS strange_item",
        joins=joins,
        read=read,
    )
    strange = "NULL"
    if items is not None:
        place = events.reasons.index("of items that the dictionary lacks") + 1
        strange = f"CASE WHEN reason = {place} THEN strange_item END"
    low, high = ("low", "high") if "low" in labs.columns else ("NULL::DOUBLE", "NULL::DOUBLE")
    used = {
        "stay": "stay_number",
        "lab": "lab_name",
        "unit": unit,
        "unsure": f"CASE WHEN {decimal} LIKE '%?' THEN {decimal} END",
        "decimal": decimal,
        "since_start": "since_start",
        # By it, results of one time are in the order of their revisions
        "known": "coalesce(epoch_us(known), 0)" if "known" in labs.columns else "0",
        "value": "number",
        "ranges": f"{{'low': {low}, 'high': {high}}}",
    }
    keys = "reason, strange, stay, lab, unit, unsure"
    sums = {
        **events.tallies(),
        "n_point": "count(*) FILTER (WHERE decimal = 'point')",
        "n_comma": "count(*) FILTER (WHERE decimal = 'comma')",
    }
    pieces = {
        "ranges": "arg_max(ranges, since_start)",
        **{of: sql for aggregate in options.aggregates for of, sql in _PIECES[aggregate].items()},
    }
    rows = events.used(used, f", {strange} AS strange")
    # The last and the first result need no look at the others of their time
    in_one = set(options.aggregates) <= {"last", "first"}
    if not in_one:
        each = f"{keys}, since_start, value"
        more = {"known": "max(known)", "ranges": "max(ranges)"}
        _create(source, labs.table, "results", each, {**sums, **more}, rows)
    else:
        _create(source, labs.table, "cells", keys, {**sums, **pieces}, rows)
    count_rows(source, events, "cells" if in_one else "results", counts, grouped=True)
    n_strange = source.query(
        f"SELECT count(DISTINCT strange) AS n FROM {'cells' if in_one else 'results'}", labs.table
    )
    if n := int(n_strange["n"].iloc[0]):
        counts[f"{labs.table} items that the dictionary lacks"] = n
    if not in_one:
        _count_once(source, labs.table, keys, pieces, counts)


def _create(source, table: str, name: str, keys: str, sums: dict[str, str], rows: str) -> None:
    items = "".join(f", {sql} AS {of}" for of, sql in sums.items())
    source.execute(
        f"CREATE OR REPLACE TEMP TABLE {name} AS SELECT {keys}{items} FROM {rows} GROUP BY {keys}",
        table,
    )


def _count_once(source, table: str, keys: str, pieces: dict[str, str], counts) -> None:
    """Cells of the `results` of which each counts once: the last revision at its time."""
    latest = "max(known) OVER (PARTITION BY stay, lab, since_start)"
    rows = f"(SELECT *, {latest} AS latest FROM results WHERE reason = 0)"
    sums = {"n": "count(*)", "n_point": "sum(n_point)", "n_comma": "sum(n_comma)", **pieces}
    _create(source, table, "cells", keys, sums, f"(SELECT * FROM {rows} WHERE known = latest)")
    source.execute("DROP TABLE results", table)
    found = source.query("SELECT coalesce(sum(n), 0) AS n FROM cells", table)
    kept = int(found["n"].iloc[0])
    if n := counts[f"{table} rows kept"] - kept:
        counts[f"{table} rows dropped: repeated, or revised later"] = n
        counts[f"{table} rows kept"] = kept


def _written_results(source, labs: EventTable) -> tuple[EventTable, Callable[[str], str], str, str]:
    """How results in texts are read: roles, rewritten query, and SQL of unit and decimal sign."""
    unit = "unit" if "unit" in labs.columns else "NULL::VARCHAR"
    column = labs.columns["value"][0]
    is_text = source.columns(labs.table).get(column.lower(), ("", ""))[1] == "VARCHAR"
    if not is_text and "text" not in labs.columns:
        return labs, str, unit, "NULL::VARCHAR"
    said, decimal = "NULL::VARCHAR", "NULL::VARCHAR"
    if "text" in labs.columns:
        said = "CASE WHEN regexp_matches(text, '[0-9]') THEN text END"
    if is_text:
        labs = replace(labs, columns={**labs.columns, "written": (column, "text")})
        said = f"coalesce(CASE WHEN regexp_matches(written, '[0-9]') THEN written END, {said})"
        # Where the number before the point has at most three digits and three come after it, the
        # point may be one of thousands
        decimal = (
            "CASE WHEN regexp_full_match(written, '[1-9][0-9]?[0-9]?[.][0-9][0-9][0-9]') "
            "THEN 'point?' WHEN contains(written, '.') THEN 'point' END"
        )
    said = f"CASE WHEN value IS NULL THEN {said}"
    text_unit = "NULL"
    if "text" in labs.columns:
        # The limit of a censored result counts whatever number stands beside it, in one unit
        limited = "regexp_matches(text, '^\\s*[^0-9\\s.,+-].*[0-9]')"
        if "text_unit" in labs.columns:
            text_unit = "text_unit"
            limited += f" AND text_unit IS NOT DISTINCT FROM {unit}"
        said += f" WHEN {limited} THEN text"
    source.define_function(
        "read_result", _read, {"value": "double", "unit": "string", "decimal": "string"}
    )

    def read(rows: str) -> str:
        return (
            "(SELECT * EXCLUDE (said, told) REPLACE (coalesce(told.value, value) AS value), "
            f"CASE WHEN told.value IS NULL THEN {unit} "
            f"ELSE coalesce(told.unit, {text_unit}, {unit}) END AS told_unit, "
            f"CASE WHEN told.value IS NULL THEN {decimal} ELSE told.decimal END AS decimal "
            f"FROM (SELECT *, read_result(said) AS told FROM (SELECT *, {said} END AS said "
            f"FROM {rows})))"
        )

    return labs, read, "told_unit", "decimal"


def _read(text: str) -> dict[str, float | str | None] | None:
    """Read a result, with its unit if it has one that is known, for `Source.define_function`."""
    result = read_result(text)
    if result is None or not np.isfinite(result.value):
        return None
    if result.unit and not is_unit(result.unit):
        return None
    return {"value": result.value, "unit": result.unit or None, "decimal": result.decimal}


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


def _choose_units(
    source, layout: Layout, options: CohortOptions, counts
) -> tuple[pd.Series, dict[str, int]]:
    """The unit of each lab, with ways to it in `conversions`; and losses of labs that lose many."""
    assert layout.labs is not None
    table = layout.labs.table
    of_days = {} if layout.days is None else layout.days.units
    given = source.query(
        "SELECT lab, unit, unsure, CAST(sum(n) AS BIGINT) AS n, sum(n_point) AS n_point, "
        "sum(n_comma) AS n_comma FROM cells WHERE reason = 0 "
        "GROUP BY lab, unit, unsure ORDER BY ALL",
        table,
    )
    for name in ("unit", "unsure"):
        given[name] = given[name].astype(object).where(given[name].notna(), None)
    wanted: dict[str, str] = dict(options.units or {})
    units, ways = {}, []
    for lab, of_lab in given.groupby("lab", sort=False):
        usual = _usual_unit(of_lab["unit"], of_lab["n"]) or of_days.get(lab)
        units[lab] = target = wanted.pop(lab, "") or of_days.get(lab) or usual or ""
        # A result without a unit is in the usual one, whatever the unit of the column
        ways += [conversion(of or usual or target, target, str(lab)) for of in of_lab["unit"]]
    # Labs that have no results, but values of the first hours
    units |= {
        name: wanted.pop(name, "") or unit for name, unit in of_days.items() if name not in units
    }
    if wanted:
        raise ValueError(
            f"units names labs without any result: {sorted(wanted)}."
            f"{_labs_there(source, layout, list(wanted))}"
        )
    scales = _scales(int(given["n_point"].sum()), int(given["n_comma"].sum()))
    given["way"] = pd.Series(ways, index=given.index, dtype=object)
    given["scale"] = [scales[unsure] for unsure in given["unsure"]]
    nameless = given["unit"].isna() & given["lab"].map(units).ne("")
    lost = _report_units(table, given, nameless, counts)
    known = given[given["way"].notna() & given["scale"].notna()]
    factors, offsets = (known["way"].str[place].astype(float) for place in (0, 1))
    found = known[["lab", "unit", "unsure"]].assign(f=factors * known["scale"], o=offsets)
    kinds = {"lab": str, "unit": object, "unsure": object, "f": float, "o": float}
    source.register("conversions", found.astype(kinds))
    return pd.Series(units, dtype=object), lost


def _scales(n_point: int, n_comma: int) -> dict[str | None, float | None]:
    """Factors for results such as "1.234" and "1,234", written as the table's other numbers are."""
    # Where these have commas and points, or none has a comma, such a comma tells nothing
    point = 1.0 if n_point >= n_comma else None
    comma = 1.0 if n_point else None
    if n_comma:
        point, comma = (1000.0, 0.001) if not n_point else (point, None)
    return {None: 1.0, "point?": point, "comma?": comma}


def _usual_unit(units: pd.Series, numbers: pd.Series) -> str:
    """The most frequent unit, spellings of one unit taken together; "" if none is given."""
    named = pd.DataFrame({"unit": units, "n": numbers})[units.notna()]
    if named.empty:
        return ""
    named["key"] = named["unit"].map(unit_key)
    # Of equally frequent keys and spellings the first in the alphabet, which is the order of units
    usual = named.groupby("key")["n"].sum().idxmax()
    return named.loc[named.loc[named["key"] == usual, "n"].idxmax(), "unit"]


def _report_units(table: str, given: pd.DataFrame, nameless: pd.Series, counts) -> dict[str, int]:
    """Count what is converted and lost; of labs that lose many results for their unit, how many."""
    unsure = given["scale"].isna()
    lost = given["way"].isna() & ~unsure
    for what, selected in {
        "kept: without a unit, read in the lab's usual one": nameless,
        "kept: converted to the lab's usual unit": given["way"].map(
            lambda way: way not in (None, (1.0, 0.0))
        ),
        "dropped: with a comma or point, of decimals or of thousands": unsure,
        "dropped: in a unit that cannot be converted": lost,
    }.items():
        if selected.any():
            counts[f"{table} rows {what}"] = int(given.loc[selected, "n"].sum())
    counts[f"{table} rows kept"] -= int(given.loc[unsure | lost, "n"].sum())
    n_lost = given[lost].groupby("lab")["n"].sum()
    if len(n_lost):
        counts[f"{table} labs with results in a unit that cannot be converted"] = len(n_lost)
    n_all = given.groupby("lab")["n"].sum()
    return {lab: int(n) for lab, n in n_lost.items() if n > _FEW_LOST * n_all[lab]}


def _warn_of_lost(table: str, lost: dict[str, int], names: Sequence[str]) -> None:
    """Warn once of labs that lose many results for their unit, by name where it is a column's."""
    # A handful of results of a lab that is no column is only counted
    lost = {lab: n for lab, n in lost.items() if lab in names or n >= _HANDFUL}
    if not lost:
        return
    listed = [f"{name} ({lost[name]})" for name in names if name in lost]
    more = f"{', '.join(listed[:5])}{' and others' if len(lost) > len(listed[:5]) else ''}"
    warnings.warn(
        f"{sum(lost.values())} results of {len(lost)} labs in '{table}' are not used: their unit "
        f"cannot be converted to the lab's. That is more than {_FEW_LOST:.0%} of each lab: "
        f"{more.removeprefix(' and ')}. Convert them before loading, or choose another unit for "
        "the column with the option units.",
        UserWarning,
        stacklevel=2,
    )


def _read_days(source, days: DayTable, options, n_stays: int, counts) -> pd.DataFrame:
    """Values of the first hours, (n_stays, n_labs); NaN where these end after the index time."""
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
        raise ValueError(f"Table '{days.table}' has {n_repeated} more rows than stays.")
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


def _choose_labs(source, layout: Layout, options, days) -> tuple[list[str], set[str]]:
    """Labs to make columns of, those with values of the first hours first; labs with results."""
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
        raise ValueError(
            f"lab_names has {unknown}, for which the stays have no result."
            f"{_labs_there(source, layout, unknown)}"
        )
    return list(options.lab_names), with_results


def _labs_there(source, layout: Layout, unknown: list[str]) -> str:
    """Sentences for an error: the labs of the table, the most frequent first, nearest ones too."""
    assert layout.labs is not None
    rows = source.select(
        layout.labs.table, {"item": layout.labs.columns["item"]}, layout.labs.optional
    )
    found = source.query(
        f"SELECT item FROM {rows} WHERE item IS NOT NULL "
        "GROUP BY item ORDER BY count(*) DESC, item",
        layout.labs.table,
    )["item"]
    names: Mapping = layout.labs.names
    if layout.items is not None:
        items = layout.items(source)
        names = dict(zip(items["item"], items["name"], strict=True))
        found = found[found.isin(items["item"])]
    of_days = [] if layout.days is None else list(layout.days.units)
    there = list(dict.fromkeys([*of_days, *(str(names.get(item, item)) for item in found)]))
    meant = nearest(unknown, {name: name for name in there})
    return f"{meant} The table has results of {listed(there) or 'no lab'}."


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
    # Values of the first hours stand for the last result, and otherwise where there is none
    for place, k in np.ndindex(len(names), len(aggregates)):
        if names[place] in days and aggregates[k] not in _OF_RESULTS:
            day = days[names[place]].to_numpy()
            known = ~np.isnan(day)
            if aggregates[k] != "last":
                known &= np.isnan(values[:, place, k])
            values[known, place, k] = day[known]
    pairs = [(name, agg) for name in names for agg in aggregates]
    # A lab without results has no count and no slope
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
    # The last one written is the most frequent one
    return {row.lab: (float(row.low), float(row.high)) for row in found.itertuples()}
