"""Labels of the stays: phenotypes from their diagnosis codes, and outcomes from their times."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from . import phenotypes
from ._cells import literal
from ._layout import EventTable, Layout
from ._options import CohortOptions, parse_outcome
from ._sources import Source
from ._steps import Steps
from ._window import Condition, classified, count_rows

_DAY = pd.Timedelta(days=1)


def read_codes(
    source: Source, layout: Layout, options: CohortOptions, steps: Steps, counts: dict[str, int]
) -> pd.DataFrame:
    """The codes of the registered stays, each once.

    Parameters
    ----------
    source : Source
        With the registered stays.
    layout : Layout
        Says where the codes are.
    options : CohortOptions
        Passed on.
    steps : Steps
        Runs the reading of the table.
    counts : dict
        Gets the numbers of rows.

    Returns
    -------
    DataFrame
        `stay` (number), `code`, `version` (9, 10, or 0 if unknown).
    """
    table = layout.diagnoses
    assert table is not None
    steps.run(
        "diagnoses",
        table.table,
        "read_codes",
        lambda counts: _read(source, table, options, counts),
        counts,
        table,
    )
    codes = source.query(
        "SELECT stay, code, version, n FROM read_codes ORDER BY stay, code, version", table.table
    )
    codes["version"] = _versions(codes, layout.versions)
    counts["codes of no version of ICD-CM"] = int(codes.loc[codes["version"] == 0, "n"].sum())
    return codes[["stay", "code", "version"]].astype({"stay": int})


def _read(source: Source, table: EventTable, options: CohortOptions, counts) -> None:
    """The codes in use, each once, with how often they come, in the table `read_codes`."""
    without = {"without a code": Condition("e.code IS NULL")}
    events = classified(source, table, options, without, timed=False)
    version = "version" if "version" in table.columns else "NULL::VARCHAR"
    source.execute(
        "CREATE OR REPLACE TEMP TABLE all_codes AS SELECT reason, "
        "CASE WHEN reason = 0 THEN stay_number END AS stay, "
        "CASE WHEN reason = 0 THEN code END AS code, "
        f"CASE WHEN reason = 0 THEN {version} END AS version, count(*) AS n "
        f"FROM {events.sql} GROUP BY ALL",
        table.table,
    )
    totals = source.query("SELECT reason, sum(n) AS n FROM all_codes GROUP BY reason", table.table)
    count_rows(counts, table.table, events, totals.set_index("reason")["n"].astype(int).to_dict())
    used = "SELECT stay, code, version, n FROM all_codes WHERE reason = 0"
    if table.separator is not None:
        each = f"trim(unnest(string_split(code, {literal(table.separator)})))"
        used = (
            "SELECT stay, code, version, CAST(sum(n) AS BIGINT) AS n FROM "
            f"(SELECT stay, {each} AS code, version, n FROM ({used})) WHERE code != '' GROUP BY ALL"
        )
    source.execute(f"CREATE OR REPLACE TEMP TABLE read_codes AS {used}", table.table)
    source.execute("DROP TABLE all_codes", table.table)


def _versions(codes: pd.DataFrame, versions: Mapping[Any, Any] | int | str) -> np.ndarray:
    if isinstance(versions, int):
        return np.full(len(codes), versions)
    if isinstance(versions, Mapping):
        lower = {
            str(name).lower(): version for name, version in versions.items() if name is not None
        }
        told = codes["version"].astype(str).str.strip().str.lower()
        found = told.map(lower).where(codes["version"].notna()).fillna(0).to_numpy(dtype=int)
        if versions.get(None) == "auto":
            guessed = phenotypes.guess_icd_version(codes["code"])
            found = np.where(codes["version"].isna(), guessed, found)
        return found
    return phenotypes.guess_icd_version(codes["code"])


def label_codes(codes: pd.DataFrame, wanted: str | Mapping, n_stays: int) -> pd.DataFrame:
    """Phenotypes of the stays.

    Parameters
    ----------
    codes : DataFrame
        As :func:`read_codes` gives them.
    wanted : "elixhauser" or mapping
        The phenotypes, see `CohortOptions`.
    n_stays : int
        Number of registered stays.

    Returns
    -------
    DataFrame of int of shape (n_stays, n_phenotypes)
        0 or 1.
    """
    pairs = codes[["code", "version"]].drop_duplicates().reset_index(drop=True)
    if isinstance(wanted, str):
        flags = phenotypes.map_codes(pairs["code"], pairs["version"].to_numpy())
    else:
        flags = pd.DataFrame(
            {name: _matches(pairs, name, prefixes) for name, prefixes in wanted.items()},
            index=pairs.index,
        )
    place = codes.merge(pairs.reset_index(), on=["code", "version"], how="left")["index"].to_numpy()
    labels = np.zeros((n_stays, flags.shape[1]), dtype=int)
    stays = codes["stay"].to_numpy()
    for column, flag in enumerate(flags.to_numpy(dtype=bool).T):
        labels[stays[flag[place]], column] = 1
    return pd.DataFrame(labels, columns=list(flags.columns))


def _matches(pairs: pd.DataFrame, name: str, prefixes) -> pd.Series:
    """Which codes begin with one of the prefixes, in its version."""
    if not isinstance(prefixes, Mapping):
        if isinstance(prefixes, str):
            raise ValueError(f"phenotypes[{name!r}] must be a list of ICD codes, not one str.")
        listed = list(prefixes)
        told = phenotypes.guess_icd_version(listed)
        if (told == 0).any():
            unknown = [code for code, version in zip(listed, told, strict=True) if version == 0]
            raise ValueError(
                f"phenotypes[{name!r}]: the form of {unknown} tells no version of ICD. Give "
                "{9: [...], 10: [...]}."
            )
        prefixes = {
            version: [code for code, of in zip(listed, told, strict=True) if of == version]
            for version in (9, 10)
        }
    plain = pairs["code"].str.replace(".", "", regex=False).str.strip().str.upper()
    matched = pd.Series(False, index=pairs.index)
    for version, codes in prefixes.items():
        starts = tuple(code.replace(".", "").strip().upper() for code in codes)
        if starts:
            matched |= plain.str.startswith(starts) & pairs["version"].eq(version)
    return matched


def outcomes_of(
    stays: pd.DataFrame, everyone: pd.DataFrame, names: Sequence[str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Outcomes of stays, and why some cannot be predicted.

    Parameters
    ----------
    stays : DataFrame
        The stays, with `start`, `end`, `index_time`, `patient` and `died`, and `days_to_next`
        where times of stays cannot be compared.
    everyone : DataFrame
        All stays of the source, in which to look for the patient's next one.
    names : sequence of str
        Names of the outcomes, see `CohortOptions`.

    Returns
    -------
    labels : DataFrame of float of shape (n_stays, n_outcomes)
        0 or 1; NaN where it is not known.
    foreseen : DataFrame of bool of shape (n_stays, n_outcomes)
        Whether it had been decided at the index time.
    """
    labels, foreseen = {}, {}
    died = stays["died"] if "died" in stays else pd.Series(np.nan, index=stays.index)
    over = stays["end"] <= stays["index_time"]
    if "death" in stays:
        over |= stays["death"] <= stays["index_time"]
    for name in names:
        kind, days = parse_outcome(name)
        if kind == "mortality":
            if "died" not in stays:
                raise ValueError("outcomes: the table of stays does not tell who died.")
            labels[name] = died.gt(0).astype(float).where(died.notna())
            decided = over
        elif kind == "length_of_stay":
            limit = stays["start"] + days * _DAY
            labels[name] = (stays["end"] > limit).astype(float).where(stays["end"].notna())
            decided = over | (limit <= stays["index_time"])
        else:
            to_next = _days_to_next(stays, everyone)
            # Who died in the stay cannot come back: that is no negative example.
            labels[name] = (to_next <= days).astype(float).where(to_next.notna() & ~died.gt(0))
            decided = to_next <= days_between(stays["end"], stays["index_time"])
        foreseen[name] = decided
    return pd.DataFrame(labels, index=stays.index), pd.DataFrame(foreseen, index=stays.index)


def _days_to_next(stays: pd.DataFrame, everyone: pd.DataFrame) -> pd.Series:
    """Days to the patient's next stay: inf if there is none, NaN if that is not known."""
    if "days_to_next" in stays:
        return stays["days_to_next"]
    after = days_between(stays["end"], next_starts(stays, everyone))
    return after.fillna(np.inf).where(stays["end"].notna())


def days_between(one: pd.Series, other: pd.Series) -> pd.Series:
    """Days from one time to another."""
    return (other - one).dt.total_seconds() / _DAY.total_seconds()


def next_starts(stays: pd.DataFrame, everyone: pd.DataFrame) -> pd.Series:
    """When the patient's next stay begins, not before the end of this one.

    Parameters
    ----------
    stays : DataFrame
        The stays asked about, with `patient`, `start` and `end`.
    everyone : DataFrame
        All stays, in which to look for the next one.

    Returns
    -------
    Series of datetime64
        NaT where there is none, or where a time is missing.
    """
    starts = everyone[["patient", "start"]].dropna().sort_values("start", kind="stable")
    asked = stays[["patient", "start", "end"]].dropna()
    # A stay that begins as this one ends is the next one; this one itself may have no length.
    other = asked.assign(after=asked["end"].where(asked["end"] > asked["start"], asked["start"]))
    zero = asked["end"] <= asked["start"]
    found = [
        pd.merge_asof(
            part.reset_index(names="row").sort_values("after", kind="stable"),
            starts.rename(columns={"start": "next"}),
            left_on="after",
            right_on="next",
            by="patient",
            direction="forward",
            allow_exact_matches=exact,
        )
        for part, exact in ((other[~zero], True), (other[zero], False))
        if len(part)
    ]
    if not found:
        return pd.Series(pd.NaT, index=stays.index, dtype="datetime64[us]")
    merged = pd.concat(found).set_index("row")["next"]
    return merged.reindex(stays.index)
