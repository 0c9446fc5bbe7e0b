"""MIMIC-III as a `Cohort`: one row per hospital admission."""

from os import PathLike
from typing import Any

import pandas as pd

from .._build.cohort_builder import OLDEST, age_at, build_cohort, left_join, unique_names
from .._build.events import OUTSIDE_STAYS, EventTable, Layout
from .._cohort import Cohort
from .._options import lists_choices, make_options
from .._tables.source import Columns, Source

DATASET = "MIMIC-III 1.4"
URL = "https://physionet.org/content/mimiciii/1.4/"
# The name in the scripts of mimic-code
SCHEMAS = ("mimiciii",)
# All times are shifted into the years from 2100 on
_CENTURY = 21

# Those of MIMIC-IV too
LAB_COLUMNS: Columns = {
    "stay": ("hadm_id", "id"),
    "item": ("itemid", "id"),
    "value": ("valuenum", "number"),
    "text": ("value", "text"),
    "unit": ("valueuom", "text"),
    "time": ("charttime", "time"),
}
ADMISSION = ("admission_type", "admission_source")
_LABS = EventTable("labevents", LAB_COLUMNS)
_NOTES = EventTable(
    "noteevents",
    {
        "stay": ("hadm_id", "id"),
        "time": ("charttime", "time"),
        "date": ("chartdate", "date"),
        "known": ("storetime", "time"),
        "type": ("category", "text"),
        "text": ("text", "long text"),
        "error": ("iserror", "flag"),
    },
    optional=("error",),
    drop={"marked as an error": "e.error = 1"},
)
_DIAGNOSES = EventTable("diagnoses_icd", {"stay": ("hadm_id", "id"), "code": ("icd9_code", "code")})


@lists_choices
def load_mimic3(path: str | PathLike[str], **options: Any) -> Cohort:
    """Load the hospital admissions of MIMIC-III.

    Parameters
    ----------
    path : path-like or str
        Folder with ADMISSIONS, PATIENTS, DIAGNOSES_ICD, LABEVENTS, D_LABITEMS and NOTEEVENTS, in
        upper or lower case, as .csv, .csv.gz, .csv.zst or .parquet; a DuckDB file with them; or the
        URL of a PostgreSQL database, see :func:`load_tables`, where the schema mimiciii is searched
        first.
    **options : dict
        The choices of :class:`CohortOptions`.

    Returns
    -------
    Cohort
        The kept admissions, sorted by id.

    See Also
    --------
    CohortOptions : The choices that every loader offers.
    load_mimic4 : The newer MIMIC.

    Notes
    -----
    `index_time` may also be "edregtime" or "edouttime". Labs with the same name get their fluid and
    category: "Glucose (Blood, Chemistry)". Notes without CHARTTIME (such as discharge summaries)
    count from the end of their CHARTDATE. Two-digit years, as in some copies of the demo, are read
    as 2100 to 2199; of births as the century that gives an age up to 89, or 300 years before the
    first admission. The age of someone born after the admission is missing.

    References
    ----------
    Johnson, A. E. W., et al. (2016). MIMIC-III, a freely accessible critical care database.
    Scientific Data 3, 160035.
    """
    chosen = make_options(load_mimic3, options)
    layout = Layout(
        describe="mimic3",
        stays=_read_stays,
        expected=OUTSIDE_STAYS,
        diagnoses=_DIAGNOSES,
        labs=_LABS,
        notes=(_NOTES,),
        items=read_items,
        versions=9,
        demographics=ADMISSION,
    )
    with Source(path, DATASET, URL, chosen, century=_CENTURY, schemas=SCHEMAS) as source:
        return build_cohort(source, layout, chosen)


def read_items(source: Source) -> pd.DataFrame:
    """The dictionary of lab items of MIMIC-III or MIMIC-IV, with a unique name for each."""
    columns: Columns = {
        "item": ("itemid", "id"),
        "label": ("label", "text"),
        "fluid": ("fluid", "text"),
        "category": ("category", "text"),
    }
    items = source.fetch("d_labitems", columns)
    return unique_names(items, "label", ["fluid", "category"])


def read_admissions(source: Source) -> pd.DataFrame:
    """Admissions of MIMIC-III or MIMIC-IV, with their times and whether the patient died."""
    return source.fetch(
        "admissions",
        {
            "stay_id": ("hadm_id", "id"),
            "patient": ("subject_id", "id"),
            "start": ("admittime", "start"),
            "end": ("dischtime", "time"),
            "death": ("deathtime", "date"),
            "died": ("hospital_expire_flag", "flag"),
            "edregtime": ("edregtime", "time"),
            "edouttime": ("edouttime", "time"),
            "admission_type": ("admission_type", "text"),
            "admission_source": ("admission_location", "text"),
        },
        optional=("edregtime", "edouttime", *ADMISSION),
    )


def _read_stays(source: Source) -> pd.DataFrame:
    columns: Columns = {
        "patient": ("subject_id", "id"),
        "sex": ("gender", "text"),
        "birth": ("dob", "start"),
        "written": ("dob", "text"),
    }
    patients = source.fetch("patients", columns)
    stays = left_join(read_admissions(source), patients, "patient", "patients")
    short = stays.pop("written").str.fullmatch(r"\d+/\d+/\d\d( .*)?").eq(True)
    return stays.assign(birth=_with_century(stays).where(short, stays["birth"]))


def _with_century(stays: pd.DataFrame) -> pd.Series:
    """Births whose years have two digits, with the century that fits the stays."""
    birth, first = stays["birth"], stays.groupby("patient")["start"].transform("min")
    # Who was older than 89 at the first admission was born 300 years before it; newborns that day
    since = first.dt.normalize() - birth.dt.normalize()
    newborn = stays["admission_type"].str.upper().eq("NEWBORN")
    newborn = (newborn | stays["admission_type"].isna()).groupby(stays["patient"]).transform("any")
    hidden = since.between(pd.Timedelta(0), pd.Timedelta(days=7)) & ~newborn
    birth = birth.where(~hidden, birth - pd.DateOffset(years=300))
    # A birth after the start is one of the century before, unless that makes an age that is hidden
    earlier = birth - pd.DateOffset(years=100)
    late = (birth > stays["start"]) & age_at(stays["start"], earlier).le(OLDEST)
    return birth.where(~late, earlier)
