"""An OMOP Common Data Model as a `Cohort`: one row per visit."""

from collections.abc import Sequence
from os import PathLike
from typing import Any

import pandas as pd

from .._build.cohort_builder import build_cohort, left_join, unique_names
from .._build.events import OUTSIDE_STAYS, EventTable, Layout
from .._cohort import Cohort
from .._options import lists_choices, make_options
from .._tables.source import Columns, Source

DATASET = "the OMOP Common Data Model 5.3 or 5.4"
URL = "https://ohdsi.github.io/CommonDataModel/"
# Inpatient visit, and emergency room and inpatient visit
INPATIENT = (9201, 262)
# Also what is given for other sexes
_SEXES = {8507: "Male", 8532: "Female", 8521: "Other", 8570: "Ambiguous"}

_LABS = EventTable(
    "measurement with units",
    {
        "stay": ("visit_occurrence_id", "id"),
        "item": ("measurement_concept_id", "id"),
        "value": ("value_as_number", "number"),
        "text": ("text", "text"),
        "unit": ("unit", "text"),
        "time": ("measurement_datetime", "date"),
        "date": ("measurement_date", "date"),
        "low": ("range_low", "number"),
        "high": ("range_high", "number"),
    },
    optional=("time", "low", "high"),
    drop={"of no known concept": "e.item = 0"},
)
_NOTES = EventTable(
    "note",
    {
        "stay": ("visit_occurrence_id", "id"),
        "time": ("note_datetime", "date"),
        "date": ("note_date", "date"),
        "type": ("note_title", "text"),
        "text": ("note_text", "long text"),
    },
    optional=("time", "type"),
)
_DIAGNOSES = EventTable(
    "condition_occurrence with codes",
    {
        "stay": ("visit_occurrence_id", "id"),
        "code": ("code", "code"),
        "version": ("vocabulary_id", "text"),
        "time": ("condition_start_datetime", "date"),
        "date": ("condition_start_date", "date"),
    },
    optional=("time",),
)


@lists_choices
def load_omop(
    path: str | PathLike[str],
    *,
    visit_concepts: Sequence[int] | None = INPATIENT,
    **options: Any,
) -> Cohort:
    """Load the visits of an OMOP Common Data Model, version 5.3 or 5.4.

    Parameters
    ----------
    path : path-like or str
        Folder with visit_occurrence, person, measurement, condition_occurrence and concept, and
        optionally note and death, in upper or lower case, as .csv, .csv.gz, .csv.zst or .parquet; a
        DuckDB file with them; or the URL of a PostgreSQL database, see :func:`load_tables`, with
        ``?schema=cdm,vocabulary`` if other schemas have tables with the same names.
    visit_concepts : sequence of int or None, default=(9201, 262)
        `visit_concept_id` of the visits to use: inpatient visits, also those that began in the
        emergency room. None uses all visits.
    **options : dict
        The choices of :class:`CohortOptions`.

    Returns
    -------
    Cohort
        The kept visits, sorted by id.

    See Also
    --------
    CohortOptions : The choices that every loader offers.
    load_tables : Tables of any other form.

    Notes
    -----
    The type of a note is its title. Diagnosis codes are those of `condition_source_concept_id` if
    it is a concept of ICD9CM, ICD10CM or ICD10, else `condition_source_value`, whose form gives the
    version. Midnight is a time that is not known: such an event, end or death counts from the end
    of its day. A visit without a time begins with its first day and ends with its last. Patients
    with a date of death between the first and the last day of a visit died in it. A measurement
    without `value_as_number` has the text of its `value_as_concept_id`, or else of
    `value_source_value`, such as "<0.01". Conditions and measurements without a visit are not used.

    References
    ----------
    Observational Health Data Sciences and Informatics. OMOP Common Data Model.
    https://ohdsi.github.io/CommonDataModel/
    """
    chosen = make_options(load_omop, options)
    if isinstance(visit_concepts, int | str):
        raise ValueError(f"visit_concepts must be a list of numbers, got {visit_concepts!r}.")
    with Source(path, DATASET, URL, chosen) as source:
        layout = Layout(
            describe="omop",
            stays=lambda source: _read_stays(source, visit_concepts),
            expected=OUTSIDE_STAYS,
            diagnoses=_DIAGNOSES,
            labs=_LABS,
            notes=(_NOTES,) if source.has("note") else (),
            items=_read_items,
            demographics=("admission_source",),
            versions={"icd9cm": 9, "icd10cm": 10, "icd10": 10, None: "auto"},
        )
        _define_joins(source)
        return build_cohort(source, layout, chosen)


def _define_joins(source: Source) -> None:
    """Measurements with their units and texts, and conditions with their ICD codes, as tables."""
    texts = ["value_as_concept_id", "value_source_value"]
    concept, written = (
        f"CAST(m.{name} AS VARCHAR)" if name in source.columns("measurement") else "NULL"
        for name in texts
    )
    measurement = source.scan(
        "measurement",
        [
            "visit_occurrence_id",
            "measurement_concept_id",
            "measurement_date",
            "value_as_number",
            "unit_concept_id",
            "unit_source_value",
        ],
        optional=["measurement_datetime", "range_low", "range_high", *texts],
    )
    condition = source.scan(
        "condition_occurrence",
        ["visit_occurrence_id", "condition_source_concept_id", "condition_source_value"],
        optional=["condition_start_date", "condition_start_datetime"],
    )
    # Refuses codes that were read as numbers
    source.select("condition_occurrence", {"code": ("condition_source_value", "code")})
    key, answer = (f"TRY_CAST({of}.concept_id AS BIGINT)" for of in ("k", "a"))
    units = source.scan(
        "concept", ["concept_id", "concept_code", "domain_id"], where="domain_id = 'Unit'"
    )
    answers = source.scan(
        "concept", ["concept_id", "concept_name", "domain_id"], where="domain_id = 'Meas Value'"
    )
    source.define(
        _LABS.table,
        "SELECT m.*, coalesce(k.concept_code, CAST(m.unit_source_value AS VARCHAR)) AS unit, "
        # Where there is an answer, the source may hold its code, which is no result
        "CASE WHEN TRY_CAST(m.value_as_number AS DOUBLE) IS NULL THEN "
        f"CASE WHEN coalesce(TRY_CAST({concept} AS BIGINT), 0) = 0 THEN {written} "
        "ELSE a.concept_name END END AS text "
        # Concept 0 means that no unit is known
        f"FROM {measurement} m LEFT JOIN {units} k ON {key} <> 0 "
        f"AND {key} = TRY_CAST(m.unit_concept_id AS BIGINT) "
        f"LEFT JOIN {answers} a ON {answer} = TRY_CAST({concept} AS BIGINT)",
        rows_of=measurement,
    )
    codes = source.scan(
        "concept",
        ["concept_id", "concept_code", "vocabulary_id"],
        where="vocabulary_id IN ('ICD9CM', 'ICD10CM', 'ICD10')",
    )
    source.define(
        _DIAGNOSES.table,
        "SELECT c.* EXCLUDE (condition_source_concept_id, condition_source_value), "
        "k.vocabulary_id, "
        "coalesce(k.concept_code, c.condition_source_value) AS code "
        f"FROM {condition} c LEFT JOIN {codes} k "
        f"ON {key} = TRY_CAST(c.condition_source_concept_id AS BIGINT)",
        rows_of=condition,
    )


def _read_items(source: Source) -> pd.DataFrame:
    """Concepts of measurements, with a unique name for each."""
    concepts = source.fetch(
        "concept",
        {
            "item": ("concept_id", "id"),
            "name": ("concept_name", "text"),
            "domain": ("domain_id", "text"),
            "vocabulary": ("vocabulary_id", "text"),
            "code": ("concept_code", "code"),
        },
        where="domain_id = 'Measurement'",
    )
    return unique_names(concepts, "name", ["vocabulary", "code"])


def _read_stays(source: Source, visit_concepts: Sequence[int] | None) -> pd.DataFrame:
    stays = source.fetch(
        "visit_occurrence",
        {
            "stay_id": ("visit_occurrence_id", "id"),
            "patient": ("person_id", "id"),
            "concept": ("visit_concept_id", "id"),
            "start": ("visit_start_datetime", "start"),
            "first_day": ("visit_start_date", "start"),
            "end": ("visit_end_datetime", "date"),
            "last_day": ("visit_end_date", "date"),
            "hospital": ("care_site_id", "id"),
            # In versions 5.4 and 5.3
            "admission_source": ("admitted_from_source_value", "text"),
            "admitting": ("admitting_source_value", "text"),
        },
        optional=("start", "end", "hospital", "admission_source", "admitting"),
    )
    stays["admission_source"] = stays["admission_source"].fillna(stays.pop("admitting"))
    stays["start"] = stays["start"].fillna(stays["first_day"])
    stays["end"] = stays["end"].fillna(stays["last_day"])
    concept = stays.pop("concept")
    if visit_concepts is not None:
        stays["of another kind"] = ~concept.isin(list(visit_concepts))
    stays = left_join(stays, _read_persons(source), "patient", "person")
    if source.has("death"):
        columns: Columns = {
            "patient": ("person_id", "id"),
            "death": ("death_datetime", "date"),
            "date": ("death_date", "date"),
        }
        deaths = source.fetch("death", columns, optional=("death",))
        deaths["death"] = deaths["death"].fillna(deaths.pop("date"))
        stays = left_join(stays, deaths, "patient", "death")
        in_stay = (stays["death"] > stays["first_day"]) & (stays["death"] <= stays["last_day"])
        stays["died"] = in_stay.astype(float)
    return stays.drop(columns=["first_day", "last_day"])


def _read_persons(source: Source) -> pd.DataFrame:
    persons = source.fetch(
        "person",
        {
            "patient": ("person_id", "id"),
            "sex": ("gender_concept_id", "id"),
            "year": ("year_of_birth", "number"),
            "month": ("month_of_birth", "number"),
            "day": ("day_of_birth", "number"),
        },
        optional=("month", "day"),
    )
    # A missing month or day is taken as the middle of its range
    dates = persons[["year", "month", "day"]].fillna({"month": 7, "day": 1})
    persons["birth"] = pd.to_datetime(dates, errors="coerce").astype("datetime64[us]")
    persons["sex"] = persons["sex"].map(_SEXES)
    return persons[["patient", "sex", "birth"]]
