"""The choices that every loader offers."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Literal, get_args

import numpy as np

from .._note_sections import section_name
from ._cohort import check_require, parse_hours

Aggregate = Literal["last", "first", "mean", "min", "max", "slope", "count"]

# what discharge summaries, above all those of MIMIC, call the sections that sum the stay up
_OUTCOME_SECTIONS = (
    "Diagnoses",
    "Diagnosis",
    "Discharge condition",
    "Discharge diagnoses",
    "Discharge diagnosis",
    "Discharge disposition",
    "Final diagnoses",
    "Final diagnosis",
    "ICD codes",
    "Primary diagnoses",
    "Primary diagnosis",
    "Principal diagnosis",
    "Secondary diagnoses",
    "Secondary diagnosis",
)

_DISCHARGE = re.compile(r"discharge(?:\s*\+\s*(?P<delay>.+))?")
_OUTCOME = re.compile(r"mortality|(readmission|length_of_stay)_(\d+)d")


@dataclass(frozen=True, kw_only=True)
class CohortOptions:
    """What becomes of the tables: the choices that every loader offers.

    A loader takes them as keywords, ``load_mimic3(path, index_time="48h", aggregate=["last"])``,
    and hands them on to this class.

    Parameters
    ----------
    index_time : str or float, default="24h"
        Time of prediction. A duration after the start of the stay ("24h", "2 days", or a number of
        hours), "discharge", "discharge + 24h", or the name of a column of the table of stays that
        holds a time. Nothing that happened or was entered later reaches `X`.
    lookback : str or float, default="24h"
        How long before the start of the stay lab results count. Notes of the stay count however
        early.
    aggregate : str or sequence of str, default="last"
        What a stay's results of one lab become: "last", "first", "mean", "min", "max", "slope"
        (least squares, unit per hour; NaN where all were taken at one time) or "count". Several
        make several columns, named "Sodium: last" and so on.
    min_coverage : float, default=0.1
        Share of the stays in which a lab must be measured to become a column, from 0 to 1.
    lab_names : sequence of str or None, default=None
        Names of the labs to make columns of, whatever their coverage; None goes by coverage.
    units : mapping of str to str or None, default=None
        Lab -> unit wanted; the most frequent unit of the lab where it is not named. Results in
        other units are converted, or dropped and counted if that cannot be done.
    note_types : sequence of str or None, default=None
        Types of notes to use, whatever their case; None for all.
    note_order : {"oldest_first", "newest_first"}, default="oldest_first"
        Order of a stay's notes in its text.
    max_note_chars : int or None, default=None
        Characters of notes that a stay gets: the newest notes are taken first, and the one with
        which it is exceeded is cut at its end. None for no limit.
    drop_note_sections : "outcome" or sequence of str, default=()
        Headings of sections to take out of the notes, whatever their case: those that state what
        is to be predicted, as "Discharge diagnosis" does of codes given at discharge. "outcome"
        takes out diagnosis and diagnoses of any kind (discharge, final, primary, principal,
        secondary), discharge condition, discharge disposition and ICD codes.
    without_stored_time : {"keep", "drop"}, default="keep"
        What becomes of results and notes that have a time at which they happened and none at
        which they were entered, in tables that have such a column: kept, if they happened before
        the index time, or dropped. Either is counted.
    phenotypes : "elixhauser", mapping or None, default="elixhauser"
        Labels from the diagnosis codes: the Elixhauser groups, or name -> ICD code prefixes, with
        or without points; a mapping {9: prefixes, 10: prefixes} says the version, else their form
        tells it. None for none.
    n_labels : int, sequence of str or None, default=10
        Number of most prevalent groups among the kept stays, or their names, or None for all.
        With own `phenotypes`, a number above theirs means all of them.
    outcomes : sequence of str, default=()
        Further labels: "mortality" (death in the stay), "readmission_30d" (the patient's next stay
        begins within 30 days of the end; any number of days), "length_of_stay_7d" (longer than 7
        days; any number). Stays whose outcome was known at the index time are dropped.
    require : {"labs", "notes"}, or sequence of them, default=()
        What a stay must have to be kept. Stays with neither are always dropped.
    min_age : float or None, default=None
        Age in years below which, or without which, a stay is dropped; 18 keeps adults.
    first_stay : bool, default=False
        Whether only the first stay of each patient is used.
    memory_limit : str, default="2GB"
        Memory for reading tables, before temporary files are used. The cohort itself comes on top.
    n_jobs : int, default=1
        Threads for reading tables.
    cache : path-like or None, default=None
        Folder, for its owner alone, in which the result of each table is kept as parquet beside a
        fingerprint of all that it was made of: name, size and time of change of the files (of data
        frames the content), the stays, the options, and the version of this package. What is found
        there is not made again, so that a run that was broken off goes on after the last finished
        table, and other labels or another `min_coverage` cost seconds. It holds notes and results
        of patients: keep it as you keep the source. A server's tables cannot be kept. Where the
        disk is full or read-only, a warning says which table was not kept, and work goes on.
    cache_max_bytes : int or None, default=20_000_000_000
        Size that the folder of `cache` may have. Where it is larger, the results that were used
        longest ago are removed, and one that is too large by itself is not kept. None for any size.
    verbose : bool, default=False
        Whether bars show how much of each table has been read.

    Raises
    ------
    ValueError
        If a parameter is out of range.

    See Also
    --------
    Cohort : What the loaders return.
    load_tables : A cohort from tables of your own.

    Examples
    --------
    >>> from sklearn_medfuse.datasets import CohortOptions
    >>> CohortOptions(index_time="48h", outcomes=["mortality"]).outcomes
    ['mortality']
    """

    index_time: str | float = "24h"
    lookback: str | float = "24h"
    aggregate: Aggregate | Sequence[Aggregate] = "last"
    min_coverage: float = 0.1
    lab_names: Sequence[str] | None = None
    units: Mapping[str, str] | None = None
    note_types: Sequence[str] | None = None
    note_order: Literal["oldest_first", "newest_first"] = "oldest_first"
    max_note_chars: int | None = None
    drop_note_sections: str | Sequence[str] = ()
    without_stored_time: Literal["keep", "drop"] = "keep"
    phenotypes: str | Mapping | None = "elixhauser"
    n_labels: int | Sequence[str] | None = 10
    outcomes: Sequence[str] = ()
    require: str | Sequence[str] = ()
    min_age: float | None = None
    first_stay: bool = False
    memory_limit: str = "2GB"
    n_jobs: int = 1
    cache: str | PathLike[str] | None = None
    cache_max_bytes: int | None = 20_000_000_000
    verbose: bool = False

    def __post_init__(self):
        parse_hours(self.lookback, "lookback")
        check_require(self.require)
        if not 0 <= self.min_coverage <= 1:
            raise ValueError(f"min_coverage must be from 0 to 1, got {self.min_coverage}.")
        unknown = [name for name in self.aggregates if name not in get_args(Aggregate)]
        if unknown or not self.aggregates or len(set(self.aggregates)) < len(self.aggregates):
            raise ValueError(
                f"aggregate must name one or several of {', '.join(get_args(Aggregate))}, each "
                f"once, got {self.aggregate!r}."
            )
        self._one_of("note_order", ("oldest_first", "newest_first"))
        self._one_of("without_stored_time", ("keep", "drop"))
        for name in ("max_note_chars", "n_jobs", "cache_max_bytes"):
            value = getattr(self, name)
            whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
            if value is not None and not (whole and value >= 1):
                raise ValueError(f"{name} must be a whole number from 1, got {value!r}.")
        for name in ("lab_names", "note_types", "outcomes"):
            if isinstance(getattr(self, name), str):
                raise ValueError(f"{name} must be a list of str, got {getattr(self, name)!r}.")
        if isinstance(self.drop_note_sections, str) and self.drop_note_sections != "outcome":
            raise ValueError(
                "drop_note_sections must be 'outcome' or a list of headings, got "
                f"{self.drop_note_sections!r}."
            )
        wrong = [name for name in self.outcomes if not _OUTCOME.fullmatch(name)]
        if wrong:
            raise ValueError(
                "outcomes may name 'mortality', 'readmission_30d' and 'length_of_stay_7d', with "
                f"any number of days, got {wrong}."
            )
        is_name = isinstance(self.phenotypes, str) and self.phenotypes != "elixhauser"
        if is_name or (self.phenotypes is None and not self.outcomes):
            raise ValueError(
                "phenotypes must be 'elixhauser', a mapping of names to ICD codes, or None beside "
                f"outcomes, got {self.phenotypes!r}."
            )

    @property
    def dropped_sections(self) -> frozenset[str]:
        """Names of the sections to take out, as `section_name` writes them."""
        is_name = isinstance(self.drop_note_sections, str)
        headings = _OUTCOME_SECTIONS if is_name else self.drop_note_sections
        return frozenset(map(section_name, headings))

    def _one_of(self, name: str, allowed: tuple[str, ...]) -> None:
        if getattr(self, name) not in allowed:
            raise ValueError(
                f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}."
            )

    @property
    def aggregates(self) -> list[str]:
        """The aggregates as a list."""
        return [self.aggregate] if isinstance(self.aggregate, str) else list(self.aggregate)

    def index_rule(self, columns: Sequence[str]) -> tuple[str, float]:
        """What the index time is counted from.

        Parameters
        ----------
        columns : sequence of str
            Columns of the table of stays that hold times.

        Returns
        -------
        column : str
            "start", "end" or one of `columns`.
        minutes : float
            How long after it.
        """
        if isinstance(self.index_time, str):
            if self.index_time in columns:
                return self.index_time, 0.0
            if found := _DISCHARGE.fullmatch(self.index_time.strip()):
                delay = found["delay"]
                return "end", parse_hours(delay, "index_time") if delay else 0.0
        return "start", parse_hours(self.index_time, "index_time")


def parse_outcome(name: str) -> tuple[str, float]:
    """``"readmission_30d"`` -> ``("readmission", 30.0)``; mortality has no days.

    Parameters
    ----------
    name : str
        Name of an outcome.

    Returns
    -------
    kind : {"mortality", "readmission", "length_of_stay"}
        What is to be predicted.
    days : float
        Its number of days.
    """
    found = _OUTCOME.fullmatch(name)
    assert found is not None
    return found[1] or "mortality", float(found[2] or 0)
