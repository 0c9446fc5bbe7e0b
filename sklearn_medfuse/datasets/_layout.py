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
    """

    table: str
    columns: Columns
    optional: tuple[str, ...] = ()
    drop: Mapping[str, str] = field(default_factory=dict)


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
        and "of another kind" (bool) for stays that the loader was not asked for.
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
    """

    describe: str
    stays: Callable[[Source], pd.DataFrame]
    diagnoses: EventTable | None
    labs: EventTable | None
    notes: tuple[EventTable, ...]
    items: Callable[[Source], pd.DataFrame] | None = None
    versions: Mapping[Any, Any] | int | str = "auto"
    subgroups: tuple[str, ...] = ("sex", "age")
