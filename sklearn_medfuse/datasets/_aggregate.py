"""Lab results of the stays as one column per lab and aggregate.

One query reads the table of results and reduces it to one row per stay, lab and unit; what is left
is small. Only then is known which unit each lab is mostly given in: the rows are converted to it,
merged, and put in columns.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter

import numpy as np
import pandas as pd

from ._cells import TIMES, literal
from ._day_values import OF_RESULTS, fill_in, in_units, read_day_values
from ._digests import frame_digest
from ._layout import Layout
from ._options import CohortOptions
from ._sources import TEXT_DTYPE, Source
from ._steps import Steps
from ._units import conversion, unit_key
from ._window import Condition, classified, count_rows, note_zones, zone_counts

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


@dataclass(frozen=True)
class Labs:
    """Lab columns with what is known of them.

    Attributes
    ----------
    table : DataFrame of shape (n_stays, n_columns)
        Floats, NaN where not measured.
    units : dict of str to str
        Unit of each column.
    reference_ranges : dict of str to (float, float)
        Normal range of columns that hold results, where the source gives one.
    """

    table: pd.DataFrame
    units: dict[str, str]
    reference_ranges: dict[str, tuple[float, float]]


def build_labs(
    source: Source,
    layout: Layout,
    options: CohortOptions,
    steps: Steps,
    lookback: float,
    n_stays: int,
    counts: dict[str, int],
) -> Labs:
    """Lab columns of the registered stays.

    Parameters
    ----------
    source : Source
        With the registered stays.
    layout : Layout
        Says where the results are.
    options : CohortOptions
        Says what becomes of them.
    steps : Steps
        Runs the reading of the table.
    lookback : float
        Minutes before the start of the stay from which on results count.
    n_stays : int
        Number of registered stays.
    counts : dict
        Gets the numbers of rows.

    Returns
    -------
    Labs
        One row per registered stay.
    """
    if layout.labs is None:
        return Labs(pd.DataFrame(index=range(n_stays)), {}, {})
    items = None if layout.items is None else _dictionary(layout.items(source))
    steps.run(
        "labs",
        layout.labs.table,
        "cells",
        lambda counts: _reduce_to_cells(source, layout.labs, items, options, lookback, counts),
        counts,
        layout.labs,
        None if items is None else frame_digest(items),
    )
    day_units = {} if layout.days is None else layout.days.units
    units = _convert_units(source, layout.labs.table, options, day_units, counts)
    days = pd.DataFrame(index=range(n_stays))
    if layout.days is not None:
        days = read_day_values(source, layout.days, options, steps, n_stays, counts)
        days = in_units(days, layout.days, units, counts)
    names, with_results = _choose_labs(source, options, days)
    return _columns(source, units, names, with_results, options.aggregates, days)


def _reduce_to_cells(source, labs, items, options, lookback, counts) -> None:
    """One row per stay, lab and unit in the table `cells`; one per reason for what is dropped."""
    item, joins = _named("e.item", labs.names), ""
    if items is not None:
        source.register("items", items)
        item, joins = "d.name", "LEFT JOIN items d ON e.item = d.item"
    reasons = {}
    if options.lab_names is not None:
        reasons["of labs that lab_names lacks"] = _of_other_labs(
            item, items, labs.names, options.lab_names
        )
    reasons["without a name"] = Condition("e.item IS NULL")
    if joins:
        reasons["of items that the dictionary lacks"] = Condition("d.name IS NULL")
    # A result given as a text alone counts if it is a number.
    value = labs.number
    if "text" in labs.columns:
        value = f"coalesce({value}, TRY_CAST(e.text AS DOUBLE))"
        value = f"CASE WHEN isfinite({value}) THEN {value} END"
    reasons["without a number"] = Condition(f"({value}) IS NULL")
    events = classified(source, labs, options, reasons, lookback=lookback, joins=joins)
    # The join brings in a second column `item`, so the label and the value are named inside.
    rows = events.sql.replace(
        "AS reason FROM", f"AS reason, {item} AS lab_name, {value} AS number FROM", 1
    )
    known = "known" if "known" in labs.columns else "NULL"
    low, high = ("low", "high") if "low" in labs.columns else ("NULL::DOUBLE", "NULL::DOUBLE")
    ranges = f"{{'low': {low}, 'high': {high}}}"
    pieces = {name: sql for agg in options.aggregates for name, sql in _PIECES[agg].items()}
    unit = "unit" if "unit" in labs.columns else "NULL::VARCHAR"
    unit_or_item = {
        "stay": "stay_number",
        "lab": "lab_name",
        "unit": unit,
        "since_start": "since_start",
        "known": f"coalesce({known}, 0)",
        "value": "number",
        "ranges": ranges,
    }
    used = ", ".join(
        f"CASE WHEN reason = 0 THEN {sql} END AS {n}" for n, sql in unit_or_item.items()
    )
    missing_items = -1
    if joins:
        missing_items = events.reasons.index("of items that the dictionary lacks") + 1
    zones = [name.rsplit(" AS ", 1)[1] for name in zone_counts(labs.columns)]
    times = [f"{role}_zoned" for role, (_, kind) in labs.columns.items() if kind in TIMES]
    inner = (
        f"SELECT reason, unstored, CASE WHEN reason = {missing_items} THEN item END AS strange, "
        f"{used}, {', '.join(times)} FROM {rows}"
    )
    source.execute(
        "CREATE OR REPLACE TEMP TABLE cells AS SELECT reason, strange, stay, lab, unit, "
        "count(*) AS n, count(*) FILTER (WHERE unstored) AS n_unstored, "
        "arg_max(ranges, since_start) AS ranges, "
        + "".join(f"{sql} AS {name}, " for name, sql in pieces.items())
        + f"{', '.join(zone_counts(labs.columns))} FROM ({inner}) "
        "GROUP BY reason, strange, stay, lab, unit",
        labs.table,
    )
    _report_rows(source, labs, events, zones, counts)


def _named(item: str, names: Mapping[str, str]) -> str:
    """SQL for the name of an item's lab."""
    cases = " ".join(f"WHEN {literal(of)} THEN {literal(name)}" for of, name in names.items())
    return f"CASE {item} {cases} ELSE {item} END" if cases else item


def _of_other_labs(
    item: str, items: pd.DataFrame | None, renamed: Mapping[str, str], wanted: Sequence[str]
) -> Condition:
    """Results of labs that are not wanted, by their names, which a server knows as items."""
    names = ", ".join(map(literal, wanted)) or "NULL"
    of_names = [of for of, name in renamed.items() if name in wanted]
    of_names += [name for name in wanted if name not in renamed]
    on_server = ", ".join(map(literal, of_names)) or "NULL"
    if items is not None:
        of_name = items.loc[items["name"].isin(list(wanted)), "item"]
        if pd.api.types.is_float_dtype(of_name):
            of_name = of_name.astype("int64")
        on_server = ", ".join(map(literal, of_name.astype(str))) or "NULL"
    return Condition(
        f"coalesce({item} NOT IN ({names}), true)",
        f"coalesce(e.item NOT IN ({on_server}), true)",
    )


def _dictionary(items: pd.DataFrame) -> pd.DataFrame:
    n_repeated = int(items["item"].duplicated().sum())
    if n_repeated:
        raise ValueError(f"The dictionary of lab items has {n_repeated} rows more than items.")
    return items[["item", "name"]]


def _report_rows(source, labs, events, zones, counts) -> None:
    sums = ", ".join(f"sum({name}) AS {name}" for name in zones)
    totals = source.query(
        "SELECT reason, sum(n) AS n, sum(n_unstored) AS n_unstored, "
        f"count(DISTINCT strange) AS strange, {sums} FROM cells GROUP BY reason",
        labs.table,
    ).set_index("reason")
    note_zones(source, labs, totals.sum())
    count_rows(counts, labs.table, events, totals["n"].astype(int).to_dict())
    strange = int(totals["strange"].sum())
    if strange:
        counts[f"{labs.table} items that the dictionary lacks"] = strange
    unstored = int(totals["n_unstored"].get(0, 0))
    if unstored:
        counts[f"{labs.table} rows kept: without a stored time, judged by the other"] = unstored


def _convert_units(source, table, options, fixed, counts) -> pd.Series:
    """The unit of each lab, and in the table `conversions` how to get there from others."""
    given = source.query(
        "SELECT lab, unit, sum(n) AS n FROM cells WHERE reason = 0 GROUP BY ALL ORDER BY ALL",
        table,
    )
    wanted = dict(options.units or {})
    rows, units = [], {}
    triples = zip(given["lab"], given["unit"], given["n"].astype(int), strict=True)
    for lab, of_lab in groupby(triples, key=itemgetter(0)):
        numbers = [(None if pd.isna(unit) else str(unit), n) for _, unit, n in of_lab]
        units[lab] = target = wanted.pop(lab, None) or fixed.get(lab) or _usual_unit(numbers)
        for unit, n in numbers:
            factor = (1.0, 0.0) if unit is None else conversion(unit, target, str(lab))
            rows.append((lab, unit, n, unit is None and target, factor))
    # Labs that have no results, but values of the first hours.
    units |= {lab: wanted.pop(lab, None) or unit for lab, unit in fixed.items() if lab not in units}
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
    # Of spellings as frequent the first in the alphabet, as `numbers` comes in that order.
    return max((n, -place, unit) for place, (key, unit, n) in enumerate(named) if key == usual)[2]


def _report_units(table, rows, counts) -> None:
    numbers = {
        "rows kept: without a unit, read in the lab's usual one": [r for r in rows if r[3]],
        "rows kept: converted to the lab's usual unit": [
            r for r in rows if r[4] not in (None, (1.0, 0.0))
        ],
        "rows dropped: in a unit that cannot be converted": [r for r in rows if r[4] is None],
    }
    for what, selected in numbers.items():
        if selected:
            counts[f"{table} {what}"] = sum(row[2] for row in selected)
    lost = [row for row in rows if row[4] is None]
    if lost:
        counts[f"{table} labs with results in a unit that cannot be converted"] = len(
            {row[0] for row in lost}
        )
        counts[f"{table} rows kept"] -= sum(row[2] for row in lost)


_CONVERTED = (
    "cells JOIN conversions c ON cells.lab = c.lab AND cells.unit IS NOT DISTINCT FROM c.unit "
    "AND cells.reason = 0"
)


def _choose_labs(source, options, days) -> tuple[list[str], set[str]]:
    """Labs to make columns of, and those that have results.

    They come as named; else those with values of the first hours in their own order, whatever
    their coverage, and then the others in alphabetical order.
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
    merged = ", ".join(f"{_MERGED[agg]} AS {quoted_alias(agg)}" for agg in aggregates)
    cells = source.query(
        f"SELECT stay, place, {merged} FROM {_CONVERTED} JOIN chosen ON chosen.lab = c.lab "
        "GROUP BY stay, place",
        "lab results",
    )
    values = np.full((len(days), len(names), len(aggregates)), np.nan)
    rows, places = cells["stay"].to_numpy(dtype=int), cells["place"].to_numpy(dtype=int)
    for k, agg in enumerate(aggregates):
        values[rows, places, k] = cells[quoted_alias(agg)].to_numpy(dtype=float)
    fill_in(values, names, aggregates, days)
    pairs = [(name, agg) for name in names for agg in aggregates]
    # Of a lab without results there is nothing to count, nor a slope.
    made = [name in with_results or agg not in OF_RESULTS for name, agg in pairs]
    pairs = [pair for pair, is_made in zip(pairs, made, strict=True) if is_made]
    single = len(aggregates) == 1
    titles = [name if single else f"{name}: {agg}" for name, agg in pairs]
    cells = values.reshape(len(days), -1)[:, made]
    frame = pd.DataFrame(cells, columns=pd.Index(titles, dtype=TEXT_DTYPE))
    ranges = _reference_ranges(source)
    units, kept_ranges = {}, {}
    for title, (name, agg) in zip(titles, pairs, strict=True):
        units[title] = _unit_of_aggregate(unit_of[name], agg)
        if agg not in OF_RESULTS and name in ranges:
            kept_ranges[title] = ranges[name]
    return Labs(frame, units, kept_ranges)


def quoted_alias(aggregate: str) -> str:
    """A column name for an aggregate that is no word of SQL."""
    return f"agg_{aggregate}"


def _unit_of_aggregate(unit: str, aggregate: str) -> str:
    if aggregate == "count":
        return ""
    return f"{unit}/h" if aggregate == "slope" else unit


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
    columns = [found[name] for name in ("lab", "low", "high")]
    return {lab: (float(low), float(high)) for lab, low, high in zip(*columns, strict=True)}
