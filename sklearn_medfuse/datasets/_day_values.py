"""Lab values that sum up the first hours of each stay, beside the results."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ._layout import DayTable, EventTable
from ._options import CohortOptions
from ._sources import Source
from ._steps import Steps
from ._units import conversion
from ._window import HERE, THERE, Condition, classified, count_rows

# Aggregates that say something of several results, so that no single value can stand for them.
OF_RESULTS = ("slope", "count")


def read_day_values(
    source: Source,
    days: DayTable,
    options: CohortOptions,
    steps: Steps,
    n_stays: int,
    counts: dict[str, int],
) -> pd.DataFrame:
    """The values of the registered stays whose index time is not before the end of these hours.

    Parameters
    ----------
    source : Source
        With the registered stays.
    days : DayTable
        Says where the values are.
    options : CohortOptions
        Passed on.
    steps : Steps
        Runs the reading of the table.
    n_stays : int
        Number of registered stays.
    counts : dict
        Gets the numbers of rows.

    Returns
    -------
    DataFrame of float of shape (n_stays, n_labs)
        In the units of the table, NaN where not measured.

    Raises
    ------
    ValueError
        If a stay has two rows.
    """
    steps.run(
        "labs",
        days.table,
        "day_values",
        lambda counts: _read(source, days, options, counts),
        counts,
        days,
    )
    found = source.query("SELECT * FROM day_values", days.table).set_index("stay")
    n_repeated = int(found.index.duplicated().sum())
    if n_repeated:
        raise ValueError(f"Table '{days.table}' has {n_repeated} rows more than stays.")
    return found.reindex(index=range(n_stays)).astype(float)


def _read(source: Source, days: DayTable, options: CohortOptions, counts) -> None:
    """The values in the table `day_values`, one column per lab."""
    columns: dict = {"stay": (days.stay, "id")}
    columns |= {name: (name, "number") for name in days.units}
    columns |= {f"{name}_told": (name, "text") for name in days.units}
    # They sum up hours that are still to come at an earlier index time.
    early = Condition(
        f"s.index_time < s.started + {HERE.minutes(days.minutes)}",
        f"s.index_time < s.started + {THERE.minutes(days.minutes)}",
    )
    rows = classified(
        source,
        EventTable(days.table, columns),
        options,
        {"after the index time": early},
        timed=False,
    )
    values = ", ".join(f"nullif({name}, {days.not_measured}) AS {name}" for name in days.units)
    wrong = " + ".join(
        f"CAST({name} IS NULL AND {name}_told IS NOT NULL AS BIGINT)" for name in days.units
    )
    source.execute(
        "CREATE OR REPLACE TEMP TABLE read_days AS SELECT reason, "
        f"CASE WHEN reason = 0 THEN stay_number END AS stay, {wrong} AS wrong, {values} "
        f"FROM {rows.sql}",
        days.table,
    )
    totals = source.query(
        "SELECT reason, count(*) AS n, sum(wrong) AS wrong FROM read_days GROUP BY reason",
        days.table,
    ).set_index("reason")
    count_rows(counts, days.table, rows, totals["n"].astype(int).to_dict())
    if n_wrong := int(totals["wrong"].get(0, 0)):
        counts[f"{days.table} cells dropped: not numbers"] = n_wrong
    source.execute(
        "CREATE OR REPLACE TEMP TABLE day_values AS "
        "SELECT * EXCLUDE (reason, wrong) FROM read_days WHERE reason = 0",
        days.table,
    )
    source.execute("DROP TABLE read_days", days.table)


def in_units(
    values: pd.DataFrame, days: DayTable, units: pd.Series, counts: dict[str, int]
) -> pd.DataFrame:
    """The values in the units of the columns to be.

    Parameters
    ----------
    values : DataFrame
        As :func:`read_day_values` gives them.
    days : DayTable
        Says in which units they are.
    units : Series of str
        Lab -> the unit wanted.
    counts : dict
        Gets the number of values that cannot be converted; they are dropped.

    Returns
    -------
    DataFrame
        Of the same shape.
    """
    converted = {}
    for name, unit in days.units.items():
        column = values[name]
        factor = conversion(unit, units[name], name) if unit else (1.0, 0.0)
        if factor is None:
            reason = f"{days.table} cells dropped: in a unit that cannot be converted"
            counts[reason] = counts.get(reason, 0) + int(column.notna().sum())
        converted[name] = column * factor[0] + factor[1] if factor else column * np.nan
    return pd.DataFrame(converted, index=values.index)


def fill_in(
    values: np.ndarray, names: Sequence[str], aggregates: Sequence[str], days: pd.DataFrame
) -> None:
    """Put the values into columns: as the last result, and where there is none.

    Parameters
    ----------
    values : ndarray of float of shape (n_stays, n_labs, n_aggregates)
        Gets them.
    names : sequence of str
        The labs.
    aggregates : sequence of str
        The aggregates.
    days : DataFrame of shape (n_stays, n_days_labs)
        The values.
    """
    for place, name in enumerate(names):
        if name not in days:
            continue
        day = days[name].to_numpy()
        for k, aggregate in enumerate(aggregates):
            if aggregate in OF_RESULTS:
                continue
            known = ~np.isnan(day)
            if aggregate != "last":
                known &= np.isnan(values[:, place, k])
            values[known, place, k] = day[known]
