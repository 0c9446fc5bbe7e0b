"""The choices that every loader offers."""

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal, TypeVar, get_args

import numpy as np
import pandas as pd

from .._note_sections import section_name

Aggregate = Literal["last", "first", "mean", "min", "max", "slope", "count"]

# Headings under which discharge summaries, above all those of MIMIC, sum up the stay
_OUTCOME_SECTIONS = (
    "Discharge condition",
    "Discharge disposition",
    "ICD codes",
    *(
        f"{kind} {noun}".strip().capitalize()
        for kind in ("", "discharge", "final", "primary", "principal", "secondary")
        for noun in ("diagnosis", "diagnoses")
    ),
)

# Names that an error lists
_MOST_LISTED = 20
_OUTCOME = re.compile(r"mortality|(readmission|length_of_stay)_(\d+)d")


@dataclass(frozen=True, kw_only=True)
class CohortOptions:
    """How tables become a cohort: the choices that every loader offers.

    A loader takes them as keywords, ``load_mimic3(path, index_time="48h", aggregate=["last"])``,
    and passes them to this class.

    Parameters
    ----------
    index_time : str or float, default="24h"
        Time of prediction: a duration after the start of the stay ("24h", "2 days", or a number of
        hours), "discharge", "discharge + 24h", or the name of a time column in the table of stays.
        Nothing that happened or was entered later reaches `X`.
    finished_stays : {"drop", "keep"}, default="drop"
        Stays that ended, by discharge or death, before the index time are dropped and counted:
        their notes and codes would give the outcome away. With "keep" they stay in. It makes no
        difference where the index time is counted from the discharge.
    lookback : str or float, default="24h"
        How long before the start of the stay lab results count. Notes of the stay always count,
        however early.
    aggregate : str or sequence of str, default="last"
        How several results of one lab are combined: "last", "first", "mean", "min", "max", "slope"
        (least squares, unit per hour; NaN if all have the same time) or "count". Several
        aggregates make several columns, named "Sodium: last" and so on.
    min_coverage : float, default=0.1
        Share of the stays, from 0 to 1, in which a lab must be measured to become a column.
    lab_names : sequence of str or None, default=None
        Labs to make columns of, whatever their coverage. None chooses by coverage.
    units : mapping of str to str or None, default=None
        Lab -> unit of its column. A lab that is not listed keeps its most frequent unit. Results in
        other units are converted, or dropped and counted if no conversion is known.
    note_types : sequence of str or None, default=None
        Types of notes to use, in upper or lower case; a type that no note has is refused. None uses
        all.
    note_order : {"oldest_first", "newest_first"}, default="oldest_first"
        Order of a stay's notes in its text.
    max_note_chars : int or None, default=None
        Maximum number of characters of a stay's notes. The newest notes are taken first, and the
        last one taken is cut at its end. None sets no limit.
    drop_note_sections : "outcome" or sequence of str, default=()
        Headings of sections to remove from the notes, in any case: those that state what is to be
        predicted. "outcome" removes diagnosis and diagnoses of any kind (discharge, final, primary,
        principal, secondary), discharge condition, discharge disposition and ICD codes.
    without_stored_time : {"keep", "drop"}, default="keep"
        Results and notes whose time of entry is missing, in tables that have such a column, are
        kept if they happened before the index time, or dropped. Both are counted.
    labels : {"during_stay", "after_index"}, default="during_stay"
        Which diagnoses are positive: all that the stay has a code for, whenever recorded, or those
        first recorded after the index time. Then a diagnosis recorded before, or at an unknown
        time, is NaN in `y`: it is known already. A date alone counts from the end of its day. The
        source must have the time of each diagnosis: eICU, OMOP, MEDS, or tables of your own.
        Billing codes (MIMIC, CLIF) have none and are refused.
    phenotypes : "elixhauser", mapping or None, default="elixhauser"
        Labels from the diagnosis codes: the Elixhauser groups, or name -> prefixes of ICD codes,
        with or without points. A mapping {9: prefixes, 10: prefixes} gives the version, which is
        otherwise inferred from the form of each prefix. None makes no such labels.
    n_labels : int, sequence of str or None, default=10
        Number of groups, the most prevalent ones among the kept stays, or their names. None keeps
        all. With your own `phenotypes`, a larger number keeps all.
    outcomes : sequence of str, default=()
        Further labels: "mortality" (death in the stay), "readmission_30d" (the patient's next stay
        begins within 30 days of the end; any number of days), "length_of_stay_7d" (longer than 7
        days; any number). Stays whose outcome was known at the index time are dropped; an outcome
        that is not known, such as that of a stay without an end, is NaN in `y`.
    require : {"labs", "notes"}, or sequence of them, default=()
        What a stay must have to be kept. Stays with neither are always dropped.
    min_age : float or None, default=None
        Minimum age in years; stays without an age are dropped too. 18 keeps adults.
    first_stay : bool, default=False
        Use only the first stay of each patient.
    demographics : sequence of str, default=()
        Columns of `X` beside age and sex, where the source has them: "height" and "weight" (eICU),
        "admission_type" (MIMIC, eICU, CLIF), "admission_source" (MIMIC, eICU, OMOP), "unit_type"
        (eICU). In `load_tables`, any columns of the table of stays that are known at admission.
    history : bool, default=False
        Add to `X` what the patient's earlier stays were coded with: whether any had each phenotype
        group, how many stays there were, and the days from the end of the last to the index time.
        A stay counts if it began before this one and ended before the index time. All are NaN
        where there is no such stay; the groups also where none of these stays has a code.
    memory_limit : str, default="2GB"
        Memory for reading tables; beyond it, temporary files are used. The cohort itself comes on
        top.
    n_jobs : int, default=1
        Number of threads for reading tables.
    verbose : bool, default=False
        Show the progress bar of DuckDB in queries that take longer than two seconds.

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
    finished_stays: Literal["drop", "keep"] = "drop"
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
    labels: Literal["during_stay", "after_index"] = "during_stay"
    phenotypes: str | Mapping | None = "elixhauser"
    n_labels: int | Sequence[str] | None = 10
    outcomes: Sequence[str] = ()
    require: str | Sequence[str] = ()
    min_age: float | None = None
    first_stay: bool = False
    demographics: Sequence[str] = ()
    history: bool = False
    memory_limit: str = "2GB"
    n_jobs: int = 1
    verbose: bool = False

    def __post_init__(self):
        parse_hours(self.lookback, "lookback")
        if not set(self.required) <= {"labs", "notes"}:
            raise ValueError(f"require may name 'labs' and 'notes', got {self.require!r}.")
        if not 0 <= self.min_coverage <= 1:
            raise ValueError(f"min_coverage must be from 0 to 1, got {self.min_coverage}.")
        unknown = [name for name in self.aggregates if name not in get_args(Aggregate)]
        if unknown or not self.aggregates or len(set(self.aggregates)) < len(self.aggregates):
            raise ValueError(
                f"aggregate must name one or several of {', '.join(get_args(Aggregate))}, each "
                f"once, got {self.aggregate!r}."
            )
        for name, allowed in {
            "note_order": ("oldest_first", "newest_first"),
            "without_stored_time": ("keep", "drop"),
            "finished_stays": ("drop", "keep"),
            "labels": ("during_stay", "after_index"),
        }.items():
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}."
                )
        for name in ("max_note_chars", "n_jobs"):
            value = getattr(self, name)
            whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
            if value is not None and not (whole and value >= 1):
                raise ValueError(f"{name} must be a whole number from 1, got {value!r}.")
        for name in ("lab_names", "note_types", "outcomes", "demographics"):
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
                "phenotypes must be 'elixhauser', a mapping of names to ICD codes, or None with "
                f"outcomes, got {self.phenotypes!r}."
            )

    @property
    def dropped_sections(self) -> frozenset[str]:
        """Names of the sections to take out, as `section_name` writes them."""
        is_name = isinstance(self.drop_note_sections, str)
        headings = _OUTCOME_SECTIONS if is_name else self.drop_note_sections
        return frozenset(map(section_name, headings))

    @property
    def aggregates(self) -> list[str]:
        """The aggregates as a list."""
        return [self.aggregate] if isinstance(self.aggregate, str) else list(self.aggregate)

    @property
    def required(self) -> list[str]:
        """Modalities that a stay must have, as a list."""
        return [self.require] if isinstance(self.require, str) else list(self.require)


def parse_outcome(name: str) -> tuple[str, float]:
    """``"readmission_30d"`` -> ``("readmission", 30.0)``; mortality has no days."""
    found = _OUTCOME.fullmatch(name)
    assert found is not None
    return found[1] or "mortality", float(found[2] or 0)


def parse_hours(duration: str | float, parameter: str) -> float:
    """A duration such as ``"24h"``, ``"2 days"`` or ``24`` (hours), in minutes."""
    try:
        is_text = isinstance(duration, str)
        hours = pd.Timedelta(duration) / pd.Timedelta(hours=1) if is_text else float(duration)
    except (ValueError, TypeError):
        hours = float("nan")
    if not 0 <= hours < float("inf"):
        raise ValueError(
            f"{parameter} must be a duration such as '24h' or a number of hours, got {duration!r}."
        )
    return hours * 60


# The entry in a loader's docstring that `lists_choices` replaces, and what it adds to those of the
# loaders that read a path
_ENTRY = """**options : dict
    The choices of :class:`CohortOptions`.
"""
_RAISES = """Raises
------
ConnectionError, FileNotFoundError, ValueError
    As :func:`load_tables`.

"""
_EXAMPLE = """
Examples
--------
>>> from sklearn_medfuse.datasets import {0}
>>> {0}("no/such/folder", index_time="48h", aggregate=["first", "last"])
Traceback (most recent call last):
    ...
FileNotFoundError: 'no/such/folder' does not exist. ...
"""
_Loader = TypeVar("_Loader", bound=Callable[..., Any])


def lists_choices(loader: _Loader) -> _Loader:
    """Write what loaders share into the signature and docstring of a loader."""
    of_loader = inspect.signature(loader)
    *own, options = of_loader.parameters.values()
    assert options.kind is options.VAR_KEYWORD
    choices = inspect.signature(CohortOptions).parameters.values()
    vars(loader)["__signature__"] = of_loader.replace(parameters=[*own, *choices])
    # There are no docstrings under python -OO
    if (doc := inspect.getdoc(loader)) and (of_choices := inspect.getdoc(CohortOptions)):
        entries = of_choices.partition("Parameters\n----------\n")[2].partition("\n\nRaises\n")[0]
        assert _ENTRY in doc
        doc = doc.replace(_ENTRY, entries + "\n") + "\n"
        if "path" in of_loader.parameters:
            doc = doc.replace("See Also\n", _RAISES + "See Also\n") + _EXAMPLE.format(
                loader.__name__
            )
        loader.__doc__ = doc
    return loader


def make_options(loader: Callable, options: Mapping[str, Any]) -> CohortOptions:
    """The choices in the keywords that a loader got beside its own parameters."""
    known = {name: name for name in inspect.signature(loader).parameters}
    unknown = sorted(set(options) - set(CohortOptions.__dataclass_fields__))
    if unknown:
        raise TypeError(
            f"{loader.__name__} has no parameter {', '.join(unknown)}.{nearest(unknown, known)} "
            f"Known are: {', '.join(known)}."
        )
    return CohortOptions(**options)


def nearest(unknown: Sequence[str], known: Mapping[str, str], cutoff: float = 0.6) -> str:
    """A sentence that suggests what the `known` names nearest to the unknown ones stand for."""
    found = [close[0] for name in unknown if (close := get_close_matches(name, known, 1, cutoff))]
    return f" Did you mean {', '.join(known[name] for name in found)}?" if found else ""


def listed(known: Sequence[str]) -> str:
    """The first names of what there is, for an error: "a, b and 30 others"."""
    more = f" and {len(known) - _MOST_LISTED} others" if len(known) > _MOST_LISTED else ""
    return ", ".join(map(str, known[:_MOST_LISTED])) + more
