"""CLIF tables as a `Cohort`: one row per hospitalization."""

from os import PathLike
from typing import Any

import pandas as pd

from .._build.cohort_builder import build_cohort, left_join
from .._build.events import EventTable, Layout
from .._cohort import Cohort
from .._options import lists_choices, make_options
from .._tables.source import Source

DATASET = "CLIF 2"
URL = "https://clif-icu.com/data-dictionary"

_LABS = EventTable(
    "clif_labs",
    {
        "stay": ("hospitalization_id", "key"),
        "item": ("lab_category", "name"),
        "value": ("lab_value_numeric", "number"),
        "text": ("lab_value", "text"),
        "unit": ("reference_unit", "text"),
        "time": ("lab_collect_dttm", "time"),
        "known": ("lab_result_dttm", "time"),
    },
)
_DIAGNOSES = EventTable(
    "clif_hospital_diagnosis",
    {
        "stay": ("hospitalization_id", "key"),
        "code": ("diagnosis_code", "code"),
        "version": ("diagnosis_code_format", "text"),
    },
)


@lists_choices
def load_clif(path: str | PathLike[str], **options: Any) -> Cohort:
    """Load the hospitalizations of tables in CLIF 2.

    Parameters
    ----------
    path : path-like or str
        Folder with clif_hospitalization, clif_patient, clif_labs and clif_hospital_diagnosis as
        .parquet, .csv, .csv.gz or .csv.zst; a DuckDB file with them; or the URL of a PostgreSQL
        database, see :func:`load_tables`.
    **options : dict
        The choices of :class:`CohortOptions`.

    Returns
    -------
    Cohort
        The kept hospitalizations, sorted by id, without notes.

    See Also
    --------
    CohortOptions : The choices that every loader offers.
    load_tables : Tables of any other form.

    Notes
    -----
    Patients discharged as "Expired" died. Mortality is unknown with the category "Missing", "Still
    Admitted" or none, and without a time of discharge.

    References
    ----------
    Rojas, J. C., et al. (2025). A common longitudinal intensive care unit data format (CLIF) for
    critical illness research. Intensive Care Medicine 51, 556-569.
    """
    chosen = make_options(load_clif, options)
    layout = Layout(
        describe="clif",
        stays=_read_stays,
        diagnoses=_DIAGNOSES,
        labs=_LABS,
        notes=(),
        versions={"icd9cm": 9, "icd10cm": 10},
        demographics=("admission_type",),
    )
    with Source(path, DATASET, URL, chosen) as source:
        return build_cohort(source, layout, chosen)


def _read_stays(source: Source) -> pd.DataFrame:
    stays = source.fetch(
        "clif_hospitalization",
        {
            "stay_id": ("hospitalization_id", "key"),
            "patient": ("patient_id", "key"),
            "start": ("admission_dttm", "start"),
            "end": ("discharge_dttm", "time"),
            "age": ("age_at_admission", "age"),
            "category": ("discharge_category", "text"),
            "admission_type": ("admission_type_category", "text"),
        },
        optional=("admission_type",),
    )
    patients = source.fetch(
        "clif_patient",
        {
            "patient": ("patient_id", "key"),
            "sex": ("sex_category", "text"),
            "death": ("death_dttm", "date"),
        },
        optional=("death",),
    )
    category = stays.pop("category").str.lower()
    told = ~category.isin(["missing", "still admitted"]) & category.notna()
    stays["died"] = category.eq("expired").astype(float).where(told)
    return left_join(stays, patients, "patient", "clif_patient")
