"""What a loader declares: where its tables are, and which column holds what."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from ._cells import Kind
from ._sources import Source

Columns = Mapping[str, tuple[str, Kind]]


@dataclass(frozen=True)
class EventTable:
    """A long table with one row per event of a stay.

    Attributes
    ----------
    table : str
        Its name.
    columns : mapping of str to (str, str)
        Role -> column, kind. Every table has the role `stay`. Labs: `item` (code or name),
        `value`, `text`, `unit`, `time`, `known`, `low`, `high`. Notes: `time`, `date` (used where
        there is no time, or in its place, as the end of that day), `known`, `type`, `text`.
        Diagnoses: `code`, `version`. `known` is when the event was entered. Others may serve in
        `drop`.
    optional : tuple of str
        Roles whose columns may be absent.
    drop : mapping of str to str
        Reason -> SQL condition on the roles, for rows that are not to be used.
    number : str
        Of labs: SQL of a result's value, on the roles.
    names : mapping of str to str
        Of labs: item -> name of its lab, where that differs.
    separator : str or None
        Of diagnoses: what stands between the codes of one cell; None where a cell has one.
    """

    table: str
    columns: Columns
    optional: tuple[str, ...] = ()
    drop: Mapping[str, str] = field(default_factory=dict)
    number: str = "e.value"
    names: Mapping[str, str] = field(default_factory=dict)
    separator: str | None = None


@dataclass(frozen=True)
class DayTable:
    """A table with one row per stay and one column per lab, whose values sum up the first hours.

    Attributes
    ----------
    table : str
        Its name.
    stay : str
        Column of the stay's id.
    units : mapping of str to str
        Column, which is the lab's name too -> unit; "" if it has none.
    not_measured : float
        What stands where there is no value.
    minutes : float
        Length of what is summed up, from the start of the stay on.
    """

    table: str
    stay: str
    units: Mapping[str, str]
    not_measured: float
    minutes: float


@dataclass(frozen=True)
class Layout:
    """One format of electronic health records.

    Attributes
    ----------
    describe : str
        The cohort's `DESCR`.
    stays : callable
        Gives the stays of a source: a DataFrame with `stay_id`, `patient`, `start`, `end` (times),
        `age` (years) and where known `died` (0, 1, or NaN), `death` (time), `hospital`, further
        times to be named as the index time, columns named in `subgroups`,
        and "of another kind" (bool) for stays that the loader was not asked for. Where the times
        of a patient's stays cannot be compared, `turn` (number) puts them in order, and
        `days_to_next` are the days from the end to the next one's start (inf if there is none, NaN
        if that is not known).
    diagnoses : EventTable or None
        The codes.
    labs : EventTable or None
        The results.
    notes : tuple of EventTable
        The notes.
    items : callable or None
        Gives the dictionary of a source's lab items: a DataFrame with `item` and a unique `name`.
        None where `item` is the name.
    versions : mapping or int
        What stands in `version` -> 9 or 10; or one version for all codes; or "auto", by the form
        of each code. In a mapping, the key None with the value "auto" does that for codes without
        a version.
    subgroups : tuple of str
        Columns of the stays to break results down by.
    days : DayTable or None
        Lab values of the first hours, beside the results.
    dated : bool
        Whether times are dates; False where all stays begin at `ORIGIN`.
    make_notes : callable or None
        Makes the texts of the registered stays in place of `build_notes`, with the same parameters
        but the layout.
    """

    describe: str
    stays: Callable[[Source], pd.DataFrame]
    diagnoses: EventTable | None
    labs: EventTable | None
    notes: tuple[EventTable, ...]
    items: Callable[[Source], pd.DataFrame] | None = None
    versions: Mapping[Any, Any] | int | str = "auto"
    subgroups: tuple[str, ...] = ("sex", "age")
    days: DayTable | None = None
    dated: bool = True
    make_notes: Callable[..., pd.Series] | None = None
