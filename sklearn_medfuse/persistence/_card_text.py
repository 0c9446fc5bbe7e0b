"""Numbers, counts and tables as they stand in a model card."""

import re

import numpy as np
import pandas as pd

MISSING = "n/a"
_SHORTEST_IDENTIFIER = 5


def describe_count(n, min_count):
    """Round a count to a multiple of `min_count`, and tell none below it.

    Exact counts of all groups but one would give the one that is not shown.
    """
    if n < min_count:
        return f"fewer than {min_count}"
    return f"about {min_count * round(n / min_count):,}"


def describe_interval(value, low, high, digits=2):
    """Write an estimate with its interval, or that there is none."""
    if not np.isfinite(value):
        return MISSING
    # adding 0 makes 0 of what is rounded to -0
    text, *ends = (f"{round(float(x), digits) + 0.0:.{digits}f}" for x in (value, low, high))
    return f"{text} [{', '.join(ends)}]" if np.isfinite([low, high]).all() else text


def describe_row(row, name, digits=2):
    """Write a score of a report's row with its interval."""
    return describe_interval(row[name], row[f"{name}_low"], row[f"{name}_high"], digits)


def describe_name(name):
    """Make a column's name fit into one cell of a table."""
    text = re.sub(r"\s+", " ", str(name)).strip()
    return re.sub(r"([|<>`\\])", r"\\\1", text)


def make_table(header, rows):
    """Write a markdown table.

    Parameters
    ----------
    header : list of str
        Names of the columns.

    rows : list of list of str
        Cells.

    Returns
    -------
    table : str
        Lines; empty where there is no row.
    """
    if not rows:
        return ""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def count_identifiers(text, cohort):
    """Count identifiers of stays, patients and hospitals that stand in a text.

    Those of fewer than five characters are numbers that occur by chance.

    Parameters
    ----------
    text : str
        A card.

    cohort : Cohort
        Whose identifiers are looked for.

    Returns
    -------
    n_found : int
        Number of distinct ones.
    """
    # a number of a table is no identifier: 0.12345 and 12,345 are one word each
    words = set(re.findall(r"[\w.,-]*\w", text))
    identifiers: set[str] = set()
    for name in ("stay_ids", "groups", "hospitals"):
        values = cohort.get(name)
        if values is not None:
            identifiers |= {str(value) for value in pd.unique(np.asarray(values))}
    found = {
        identifier
        for identifier in identifiers
        if len(identifier) >= _SHORTEST_IDENTIFIER
        and (identifier in words or (re.search(r"\W", identifier) and identifier in text))
    }
    return len(found)
