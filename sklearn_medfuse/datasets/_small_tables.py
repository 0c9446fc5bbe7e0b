"""Small tables that the loaders read whole: ages, joins by key, names of labs."""

from functools import reduce

import pandas as pd

_SECONDS_PER_YEAR = 365.2425 * 24 * 3600
# De-identified sources give everyone older than 89 years a date of birth centuries ago.
_OLDEST = 89
_BEYOND = 130


def age_at(start: pd.Series, birth: pd.Series) -> pd.Series:
    """Age in whole years; 90 for everyone whose date of birth is hidden for old age.

    Parameters
    ----------
    start, birth : Series of datetime64
        When the stay began, and when the patient was born.

    Returns
    -------
    Series of float
        NaN where either is missing, or the birth lies after the start.
    """
    years = (start - birth).dt.total_seconds() // _SECONDS_PER_YEAR
    known = years >= 0
    return years.where(years <= _BEYOND, float(_OLDEST + 1)).where(known)


def left_join(stays: pd.DataFrame, of: pd.DataFrame, key: str, what: str) -> pd.DataFrame:
    """Stays with the columns of another table, whose key must be unique.

    Parameters
    ----------
    stays : DataFrame
        One row per stay.
    of : DataFrame
        One row per key; rows without one are not looked at.
    key : str
        The column that they share.
    what : str
        Name of the other table, for the error.

    Returns
    -------
    DataFrame
        As many rows as `stays`, in its order.

    Raises
    ------
    ValueError
        If a key comes twice.
    """
    of = of[of[key].notna()]
    n_repeated = int(of[key].duplicated().sum())
    if n_repeated:
        raise ValueError(f"Table '{what}' has {n_repeated} rows more than keys in '{key}'.")
    return stays.merge(of, on=key, how="left")


def unique_names(items: pd.DataFrame, label: str, details: list[str]) -> pd.DataFrame:
    """Names of lab items that tell them apart.

    Parameters
    ----------
    items : DataFrame
        One row per item, with `item`, and texts in the other columns.
    label : str
        Column with the name, which several items may share.
    details : list of str
        Columns that tell such items apart; where they do not, the item's number does.

    Returns
    -------
    DataFrame
        `item` and `name`: "Sodium" if only one item is called so, else "Sodium (Blood,
        Chemistry)", else "Sodium (Blood, Chemistry, 50824)".
    """
    items = items[items["item"].notna() & items[label].notna()]
    names, number = items[label].astype(str), items["item"].astype(str)
    in_brackets = [items[column].fillna("?").astype(str) for column in details]
    for parts in (in_brackets, [*in_brackets, number]):
        if parts:
            bracket = reduce(lambda left, right: left + ", " + right, parts)
            longer = items[label].astype(str) + " (" + bracket + ")"
            names = names.where(~names.duplicated(keep=False), longer)
    return pd.DataFrame({"item": items["item"], "name": names})
