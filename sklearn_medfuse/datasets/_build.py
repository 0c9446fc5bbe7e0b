"""The one path from tables to a `Cohort`, whatever the format."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from ._aggregate import Labs, build_labs
from ._cohort import Cohort, check_require, choose_labels, drop_stays, parse_hours
from ._labels import label_codes, outcomes_of, read_codes
from ._layout import Layout
from ._notes import build_notes
from ._options import CohortOptions
from ._sources import Source
from ._steps import Steps
from ._window import register_stays

NOTE_COLUMN = "note"


def make_options(options: dict[str, Any]) -> CohortOptions:
    """Check the keywords of a loader.

    Parameters
    ----------
    options : dict
        Fields of `CohortOptions`.

    Returns
    -------
    CohortOptions
        The choices.

    Raises
    ------
    TypeError
        If there is no such choice.
    """
    fields = CohortOptions.__dataclass_fields__
    unknown = sorted(set(options) - set(fields))
    if unknown:
        raise TypeError(f"There is no option {', '.join(unknown)}. Known are: {', '.join(fields)}.")
    return CohortOptions(**options)


def open_source(
    where,
    dataset: str,
    url: str,
    options: CohortOptions,
    century: int | None = None,
    schemas: Sequence[str] = (),
) -> Source:
    """Open the tables of a data set within the limits of the options.

    Parameters
    ----------
    where : path-like, sequence of path-like, or mapping of str to DataFrame or path-like
        See `Source`.
    dataset, url : str
        Its name and where to get it, for errors.
    options : CohortOptions
        Say how much memory and how many threads it may take.
    century : int or None, default=None
        See `Source`.
    schemas : sequence of str, default=()
        See `Source`.

    Returns
    -------
    Source
        To be closed.
    """
    return Source(
        where,
        dataset,
        url,
        memory_limit=options.memory_limit,
        n_threads=options.n_jobs,
        century=century,
        schemas=schemas,
    )


def build_cohort(source: Source, layout: Layout, options: CohortOptions) -> Cohort:
    """Read the tables of a source and make a cohort of them.

    Parameters
    ----------
    source : Source
        The open source.
    layout : Layout
        What stands where.
    options : CohortOptions
        The choices.

    Returns
    -------
    Cohort
        One row per kept stay, sorted by id.
    """
    counts: dict[str, int] = {}
    everyone = _read_stays(source, layout, counts)
    stays = _eligible(everyone, options, counts)
    stays, labels = _with_outcomes(stays, everyone, options, counts)
    steps = Steps(source, options, everyone)
    register_stays(source, stays)
    steps.register_stays(stays)
    codes = None
    if options.phenotypes is not None:
        if layout.diagnoses is None:
            raise ValueError("phenotypes need a table of diagnoses.")
        codes = read_codes(source, layout, options, steps, counts)
        stays, codes, labels = _with_codes(stays, codes, labels, counts)
        register_stays(source, stays)
        steps.register_stays(stays)
    # Features are made without a look at the labels.
    lookback = parse_hours(options.lookback, "lookback")
    labs = build_labs(source, layout, options, steps, lookback, len(stays), counts)
    make_notes = layout.make_notes or partial(build_notes, layout=layout)
    notes = make_notes(source, options=options, steps=steps, n_stays=len(stays), counts=counts)
    kept = _with_input(stays, labs, notes, options, counts)
    y = _choose_labels(codes, labels, kept, len(stays), options)
    return _assemble(stays, labs, notes, kept, y, layout, counts)


def _read_stays(source: Source, layout: Layout, counts: dict[str, int]) -> pd.DataFrame:
    """All stays with an id, a patient and a start, by id."""
    stays = layout.stays(source)
    counts["stays read"] = len(stays)
    without = {
        "without an id": stays["stay_id"].isna(),
        "without a patient": stays["patient"].isna(),
        "without a start": stays["start"].isna(),
    }
    if "of another kind" in stays:
        without["of another kind"] = stays.pop("of another kind")
    without = {reason: flag for reason, flag in without.items() if flag.any()}
    stays = drop_stays(stays, without, counts)
    n_repeated = int(stays["stay_id"].duplicated().sum())
    if n_repeated:
        raise ValueError(
            f"The table of stays has {n_repeated} rows more than stays: their id must be unique."
        )
    if len(stays) and pd.api.types.is_float_dtype(stays["stay_id"]):
        stays = stays.assign(stay_id=stays["stay_id"].astype("int64"))
    return stays.sort_values("stay_id", kind="stable", ignore_index=True)


def _eligible(
    everyone: pd.DataFrame, options: CohortOptions, counts: dict[str, int]
) -> pd.DataFrame:
    """Stays of the wanted age and order that have an index time."""
    reasons = {}
    if options.min_age is not None:
        reasons["without an age"] = everyone["age"].isna()
        reasons[f"younger than {options.min_age:g} years"] = everyone["age"] < options.min_age
    if options.first_stay:
        order = "turn" if "turn" in everyone else "start"
        by_start = everyone.sort_values([order, "stay_id"], kind="stable")
        reasons["not the patient's first"] = by_start.duplicated("patient").sort_index()
    times = [str(name) for name, column in everyone.items() if column.dtype.kind == "M"]
    column, minutes = options.index_rule(times)
    index_time = everyone[column] + pd.Timedelta(minutes=minutes)
    reasons["without an index time"] = index_time.isna()
    reasons["with an index time before the start"] = index_time < everyone["start"]
    reasons = {
        reason: flag for reason, flag in reasons.items() if flag.any() or "index time" not in reason
    }
    return _some(drop_stays(everyone.assign(index_time=index_time), reasons, counts), counts)


def _some(stays: pd.DataFrame, counts: dict[str, int]) -> pd.DataFrame:
    if stays.empty:
        raise ValueError(f"No stay is left. What was dropped: {counts}.")
    return stays.reset_index(drop=True)


def _with_outcomes(stays, everyone, options, counts):
    """Stays of which the outcomes were open at the index time and are known now."""
    labels, foreseen = outcomes_of(stays, everyone, options.outcomes)
    reasons = {}
    for name in options.outcomes:
        reasons[f"{name} decided at the index time"] = foreseen[name]
        reasons[f"{name} not known"] = labels[name].isna()
    kept = drop_stays(stays, reasons, counts)
    labels = labels.loc[kept.index].astype(int).reset_index(drop=True)
    return _some(kept, counts), labels


def _with_codes(stays, codes, labels, counts):
    """Stays with a diagnosis code: without one their labels are unknown, not negative."""
    coded = np.zeros(len(stays), dtype=bool)
    coded[codes["stay"]] = True
    reasons = {"without a diagnosis code": pd.Series(~coded, index=stays.index)}
    kept = drop_stays(stays, reasons, counts)
    new_number = np.cumsum(coded) - 1
    codes = codes.assign(stay=new_number[codes["stay"]])
    return _some(kept, counts), codes, labels.loc[kept.index].reset_index(drop=True)


def _with_input(
    stays: pd.DataFrame,
    labs: Labs,
    notes: pd.Series,
    options: CohortOptions,
    counts: dict[str, int],
) -> np.ndarray:
    """Numbers of the stays that have something to predict from, and what is required."""
    without = {"labs": labs.table.isna().all(axis=1), "notes": notes.isna()}
    reasons = {"with neither labs nor notes": without["labs"] & without["notes"]}
    reasons |= {f"without {name}": without[name] for name in check_require(options.require)}
    kept = drop_stays(stays, reasons, counts).index
    counts["stays kept"] = len(kept)
    _some(stays.loc[kept], counts)
    counts["stays kept: without labs"] = int(without["labs"][kept].sum())
    counts["stays kept: without notes"] = int(without["notes"][kept].sum())
    return kept.to_numpy()


def _choose_labels(codes, outcomes, kept, n_stays, options) -> pd.DataFrame:
    parts = []
    if codes is not None:
        groups = label_codes(codes, options.phenotypes, n_stays).iloc[kept]
        wanted = options.n_labels
        own = not isinstance(options.phenotypes, str)
        if own and isinstance(wanted, int | np.integer) and wanted > groups.shape[1]:
            wanted = None
        parts.append(choose_labels(groups, wanted))
    parts.append(outcomes.iloc[kept])
    y = pd.concat(parts, axis=1)
    if y.columns.has_duplicates:
        raise ValueError("phenotypes and outcomes share a name.")
    return y


def _assemble(stays, labs, notes, kept, y, layout, counts) -> Cohort:
    """The fields of the cohort, all with one row per kept stay."""
    if NOTE_COLUMN in labs.table:
        raise ValueError(f"No lab can be called '{NOTE_COLUMN}', which is the column of notes.")
    # A mask and no list of places: the latter would have all texts put together and copied.
    is_kept = stays.index.isin(kept)
    stays = stays[is_kept]
    index = pd.Index(stays["stay_id"], name="stay_id")
    subgroups = stays[[name for name in layout.subgroups if name in stays]]
    hospitals = stays["hospital"].set_axis(index) if "hospital" in stays else None
    return Cohort(
        X=labs.table[is_kept].assign(**{NOTE_COLUMN: notes[is_kept]}).set_axis(index),
        y=y.set_axis(index),
        groups=stays["patient"].set_axis(index),
        hospitals=hospitals,
        index_times=stays["index_time"].set_axis(index) if layout.dated else None,
        subgroups=subgroups.set_axis(index),
        lab_columns=list(labs.table.columns),
        note_column=NOTE_COLUMN,
        units=labs.units,
        reference_ranges=labs.reference_ranges,
        target_names=list(y.columns),
        stay_ids=index.to_numpy(),
        counts=counts,
        DESCR=layout.describe,
    )
