"""MIMIC-IV as a `Cohort`: one row per hospital admission."""

from os import PathLike
from pathlib import Path
from typing import Any

import pandas as pd

from .._build.cohort_builder import build_cohort, left_join
from .._build.events import OUTSIDE_STAYS, EventTable, Layout
from .._cohort import Cohort
from .._options import lists_choices, make_options
from .._tables.source import Columns, Source, is_database_url
from .mimic3 import ADMISSION, LAB_COLUMNS, read_admissions, read_items

DATASET = "MIMIC-IV (module hosp) and MIMIC-IV-Note"
URL = "https://physionet.org/content/mimiciv/ and https://physionet.org/content/mimic-iv-note/"

# The names in the scripts of mimic-code
SCHEMAS = ("mimiciv_hosp", "mimiciv_note")

_LABS = EventTable(
    "labevents",
    {
        **LAB_COLUMNS,
        "known": ("storetime", "time"),
        "low": ("ref_range_lower", "number"),
        "high": ("ref_range_upper", "number"),
    },
)
_DIAGNOSES = EventTable(
    "diagnoses_icd",
    {
        "stay": ("hadm_id", "id"),
        "code": ("icd_code", "code"),
        "version": ("icd_version", "key"),
    },
)
_OF_NOTES: Columns = {
    "stay": ("hadm_id", "id"),
    "known": ("storetime", "time"),
    "text": ("text", "long text"),
}
_NOTES = (
    # The charttime of a discharge summary is a date
    EventTable("discharge", {**_OF_NOTES, "date": ("charttime", "date")}),
    EventTable("radiology", {**_OF_NOTES, "time": ("charttime", "time")}),
)


@lists_choices
def load_mimic4(
    path: str | PathLike[str], notes_path: str | PathLike[str] | None = None, **options: Any
) -> Cohort:
    """Load the hospital admissions of MIMIC-IV, with the notes of MIMIC-IV-Note.

    Parameters
    ----------
    path : path-like or str
        Folder of MIMIC-IV with admissions, patients, diagnoses_icd, labevents and d_labitems, or
        with a folder hosp that has them, in lower or upper case, as .csv, .csv.gz, .csv.zst or
        .parquet; a DuckDB file with them; or the URL of a PostgreSQL database, see
        :func:`load_tables`, where the schemas mimiciv_hosp and mimiciv_note are searched first.
    notes_path : path-like or None, default=None
        Folder of MIMIC-IV-Note with discharge or radiology or both, or with a folder note that has
        them. With None they are taken from `path`, where they may be absent.
    **options : dict
        The choices of :class:`CohortOptions`.

    Returns
    -------
    Cohort
        The kept admissions, sorted by id.

    See Also
    --------
    CohortOptions : The choices that every loader offers.
    load_mimic3 : The older MIMIC, with notes of all kinds.

    Notes
    -----
    The types of notes are "discharge" and "radiology". `index_time` may also be "edregtime" or
    "edouttime". Labs with the same name get their fluid and category: "Glucose (Blood, Chemistry)".
    Discharge summaries have only a date and count from the end of that day.

    References
    ----------
    Johnson, A. E. W., et al. (2023). MIMIC-IV, a freely accessible electronic health record
    dataset. Scientific Data 10, 1.
    """
    chosen = make_options(load_mimic4, options)
    with Source(_places(path, notes_path), DATASET, URL, chosen, schemas=SCHEMAS) as source:
        notes = tuple(table for table in _NOTES if source.has(table.table))
        if notes_path is not None and not notes:
            raise FileNotFoundError(
                f"There is neither a table 'discharge' nor 'radiology' in '{notes_path}'."
            )
        layout = Layout(
            describe="mimic4",
            stays=_read_stays,
            expected=OUTSIDE_STAYS,
            diagnoses=_DIAGNOSES,
            labs=_LABS,
            notes=notes,
            items=read_items,
            versions={"9": 9, "10": 10},
            demographics=ADMISSION,
        )
        return build_cohort(source, layout, chosen)


def _places(path, notes_path) -> list[Any]:
    """Where tables may be; a database stands alone."""
    if is_database_url(path) or is_database_url(notes_path):
        return [path] if notes_path is None else [path, notes_path]
    given = [Path(path)] if notes_path is None else [Path(path), Path(notes_path)]
    inside = [folder / name for folder in given for name in ("hosp", "note")]
    return given + [folder for folder in inside if folder.is_dir()]


def _read_stays(source: Source) -> pd.DataFrame:
    patients = source.fetch(
        "patients",
        {
            "patient": ("subject_id", "id"),
            "sex": ("gender", "text"),
            "anchor_age": ("anchor_age", "number"),
            "anchor_year": ("anchor_year", "number"),
        },
    )
    stays = left_join(read_admissions(source), patients, "patient", "patients")
    age = stays["anchor_age"] + stays["start"].dt.year - stays["anchor_year"]
    stays["age"] = age.where(~(age > 89), 91.0)
    return stays.drop(columns=["anchor_age", "anchor_year"])
