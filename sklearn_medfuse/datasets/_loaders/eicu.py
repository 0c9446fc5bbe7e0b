"""The eICU Collaborative Research Database as a `Cohort`."""

from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .._build.cohort_builder import build_cohort, days_between, next_starts
from .._build.events import DayTable, EventTable, Layout
from .._cohort import Cohort
from .._options import lists_choices, make_options
from .._tables.columns import ORIGIN, Kind
from .._tables.source import Columns, Source
from .eicu_forms import FORMS, build_form_notes

DATASET = "the eICU Collaborative Research Database (full 2.0 or demo 2.0.1)"
URL = "https://physionet.org/content/eicu-crd-demo/2.0.1/"
# The name in the scripts of eicu-code
SCHEMAS = ("eicu_crd",)
BUNDLED = Path(__file__).parents[1] / "data" / "eicu_demo"

PATIENT: Columns = {
    "stay_id": ("patientunitstayid", "id"),
    "patient": ("uniquepid", "key"),
    "hospital": ("hospitalid", "id"),
    "sex": ("gender", "text"),
    "age": ("age", "age"),
    "ethnicity": ("ethnicity", "text"),
    "length": ("unitdischargeoffset", "number"),
    "status": ("unitdischargestatus", "text"),
    "height": ("admissionheight", "number"),
    "weight": ("admissionweight", "number"),
    "admission_type": ("unitstaytype", "text"),
    "admission_source": ("unitadmitsource", "text"),
    "unit_type": ("unittype", "text"),
    "hospital_stay": ("patienthealthsystemstayid", "key"),
    "admitted": ("hospitaladmitoffset", "number"),
    "year": ("hospitaldischargeyear", "number"),
}
DEMOGRAPHICS = ("height", "weight", "admission_type", "admission_source", "unit_type")
# Column of apacheApsVar -> its unit, and the same analyte's name in `lab` where that is a lab
# result. What `lab` calls Temperature and Respiratory Rate are settings of a blood-gas analyser
# and of a ventilator, not the patient's vital signs.
DAY_1 = {
    "urine": ("mL/24h", None),
    "wbc": ("K/mcL", "WBC x 1000"),
    "temperature": ("°C", None),
    "respiratoryrate": ("/min", None),
    "sodium": ("mmol/L", "sodium"),
    "heartrate": ("/min", None),
    "meanbp": ("mm Hg", None),
    "ph": ("", "pH"),
    "hematocrit": ("%", "Hct"),
    "creatinine": ("mg/dL", "creatinine"),
    "albumin": ("g/dL", "albumin"),
    "pao2": ("mm Hg", "paO2"),
    "pco2": ("mm Hg", "paCO2"),
    "bun": ("mg/dL", "BUN"),
    "glucose": ("mg/dL", "glucose"),
    "bilirubin": ("mg/dL", "total bilirubin"),
    "fio2": ("%", "FiO2"),
}
# What is measured or set at the bedside: no laboratory tests
VITALS = frozenset(("urine", "temperature", "respiratoryrate", "heartrate", "meanbp", "fio2"))
VITALS |= {"LPM O2", "PEEP", "Vent Rate", "TV", "Respiratory Rate", "Spontaneous Rate"}
VITALS |= {"Temperature", "Pressure Support", "Pressure Control", "Peak Airway/Pressure"}
# Stays in one hospital stay have its clock. Other hospital stays are in the order of their years.
CLOCK = (
    "CASE WHEN e.hospital_stay = s.hospital_stay THEN "
    "to_microseconds(CAST(round((s.admitted - e.admitted) * 60e6) AS BIGINT)) END",
    "coalesce(e.year < s.year, false)",
    ("hospital_stay", "admitted", "year"),
)
NOT_MEASURED = -1
MINUTES_OF_DAY_1 = 24 * 60

# Hospitals send 40, 0.4 and 4000
_PERCENT = "CASE WHEN e.item = 'FiO2' AND e.value <= 1 THEN e.value * 100 ELSE e.value END"

LABS = EventTable(
    "lab",
    {
        "stay": ("patientunitstayid", "id"),
        "time": ("labresultoffset", "minutes"),
        "item": ("labname", "name"),
        "value": ("labresult", "number"),
        "unit": ("labmeasurenamesystem", "text"),
        # As the hospital's interface sent it, in a unit of its own
        "text": ("labresulttext", "text"),
        "text_unit": ("labmeasurenameinterface", "text"),
        # When the value now in the table was entered
        "known": ("labresultrevisedoffset", "minutes"),
    },
    optional=("text", "text_unit"),
    # Room air has 20.9 %: nobody breathes less, and nobody more than 100 %
    drop={"FiO2 that is no percentage": f"e.item = 'FiO2' AND NOT {_PERCENT} BETWEEN 20 AND 100"},
    number=_PERCENT,
    names={lab: column for column, (_, lab) in DAY_1.items() if lab and lab != column},
)
DAYS = DayTable(
    "apacheApsVar",
    "patientunitstayid",
    {column: unit for column, (unit, _) in DAY_1.items()},
    NOT_MEASURED,
    MINUTES_OF_DAY_1,
)
_DIAGNOSES = EventTable(
    "diagnosis",
    {
        "stay": ("patientunitstayid", "id"),
        "code": ("icd9code", "code"),
        "time": ("diagnosisoffset", "minutes"),
    },
    # "428.0, I50.9" is the same diagnosis in both versions
    separator=",",
)
# All columns that are read, by their published names: tools/make_eicu_demo.py copies them
TABLES: dict[str, dict[str, Kind]] = {
    "patient": {**dict(PATIENT.values()), "apacheadmissiondx": "text"},
    DAYS.table: {DAYS.stay: "id", **dict.fromkeys(DAYS.units, "number")},
    **{events.table: dict(events.columns.values()) for events in (_DIAGNOSES, LABS, *FORMS)},
}


@lists_choices
def load_eicu(
    path: str | PathLike[str], *, admission_diagnosis: bool = False, **options: Any
) -> Cohort:
    """Load ICU stays of the eICU Collaborative Research Database.

    Reads the published tables patient, diagnosis, lab, apacheApsVar, pastHistory, note and
    physicalExam of the full database (2.0) or the demo (2.0.1).

    Parameters
    ----------
    path : path-like or str
        Folder with the tables, each as .csv, .csv.gz, .csv.zst or .parquet, names of files and
        columns in upper or lower case; a DuckDB file with them; or the URL of a PostgreSQL
        database, see :func:`load_tables`, where the schema eicu_crd is searched first.
    admission_diagnosis : bool, default=False
        Begin the notes with the admission diagnosis of the APACHE score. It is known at admission,
        and may name what is to be predicted.
    **options : dict
        The choices of :class:`CohortOptions`.

    Returns
    -------
    Cohort
        The kept stays, indexed by `patientunitstayid`, without `index_times`, as the source has no
        dates.

    See Also
    --------
    CohortOptions : The choices that every loader offers.
    load_eicu_demo : The stays bundled with the package.
    load_tables : Tables of any other form.

    Notes
    -----
    A stay lasts from the admission to the unit to the discharge from it. The types of notes are
    "pastHistory", "note" and "physicalExam".

    **Labs.** The first seventeen columns have the names of `apacheApsVar`, which holds for each the
    worst value of the first 24 hours (-1 means not measured). Such a value replaces the last
    result; for other aggregates it fills in where `lab` has no result, except for "slope" and
    "count", which use results alone. These columns exist whatever `min_coverage` is, in their
    published units. For stays with an index time before 24 hours, `apacheApsVar` is not used, as it
    covers hours still to come. FiO2 given as a fraction becomes percent.

    **Notes.** The paths of the forms are put in words, and clerical entries are dropped, among them
    "<diagnosis> - evaluation and management", which names what is to be predicted. Of an
    examination the last state before the index time counts, of history and notes every entry. They
    make one text: `max_note_chars` limits it to its newest entries, each whole or not at all, and
    ``note_order="newest_first"`` begins each of its parts with the newest entry.
    `drop_note_sections` removes all entries of menus with such a name, or a part of the text, such
    as "Physical exam".

    **Labels.** `diagnosis` is what clinicians documented during the stay, not billing; most of it
    was entered on the first day. All codes of the stay count, whenever entered, or with
    ``labels="after_index"`` those first entered after the index time. "mortality" is death in the
    unit, "length_of_stay_7d" the time in it. "readmission_30d" is the patient's next stay in a
    unit. It is known within one hospital stay, and for patients without another one that may have
    been later: the source gives only the year of a hospital stay. `first_stay` goes by that year,
    the patient's age and the order within the hospital stay; of hospital stays in one year, the one
    with the lowest id counts as first.

    References
    ----------
    .. [1] Pollard TJ et al. The eICU Collaborative Research Database, a freely available
       multi-center database for critical care research. Sci Data 2018;5:180178.
       doi:10.1038/sdata.2018.178
    """
    chosen = make_options(load_eicu, options)
    layout = Layout(
        describe="eicu",
        stays=read_stays,
        # Many diagnoses have no code of ICD, and some stays none that has
        expected=frozenset({"without a code", "without a diagnosis code"}),
        diagnoses=_DIAGNOSES,
        labs=LABS,
        notes=(),
        subgroups=("sex", "age", "ethnicity", "hospital"),
        demographics=DEMOGRAPHICS,
        vitals=VITALS,
        clock=CLOCK,
        days=DAYS,
        dated=False,
        make_notes=partial(build_form_notes, admission_diagnosis=admission_diagnosis),
    )
    with Source(path, DATASET, URL, chosen, schemas=SCHEMAS) as source:
        cohort = build_cohort(source, layout, chosen)
    cohort["units"] = {lab: unit.replace("&#176;", "°") for lab, unit in cohort["units"].items()}
    return cohort


@lists_choices
def load_eicu_demo(*, admission_diagnosis: bool = False, **options: Any) -> Cohort:
    """Load the real ICU stays bundled with the package.

    They are 1,470 unit stays in 109 hospitals from the eICU Collaborative Research Database Demo
    2.0.1, under the Open Database License 1.0. About 100 of the stays have results in `lab`. In 343
    stays with a code the patient left the unit before hour 24; by default these are dropped.

    Parameters
    ----------
    admission_diagnosis : bool, default=False
        Begin the notes with the admission diagnosis.
    **options : dict
        The choices of :class:`CohortOptions`.

    Returns
    -------
    Cohort
        By default the stays with a coded diagnosis and with labs or notes.

    See Also
    --------
    load_eicu : The whole database.
    make_ehr_cohort : Synthetic stays whose factors are known.

    Examples
    --------
    >>> from sklearn_medfuse.datasets import load_eicu_demo
    >>> load_eicu_demo()
    Cohort(829 stays of 697 patients: 11 labs and 6 vital signs (64% measured), notes for ...
    """
    return load_eicu(BUNDLED, admission_diagnosis=admission_diagnosis, **options)


def read_stays(source: Source) -> pd.DataFrame:
    """Stays of the table patient, whose times are minutes from the admission to the unit alone."""
    stays = source.fetch("patient", PATIENT, optional=DEMOGRAPHICS)
    stays["start"] = pd.Series(ORIGIN, index=stays.index, dtype="datetime64[us]")
    stays["end"] = _moment(stays["length"])
    status = stays.pop("status").str.lower()
    stays["died"] = status.eq("expired").astype(float).where(status.notna())
    stays["turn"] = _turns(stays)
    stays["days_to_next"] = _days_to_next(stays)
    return stays.drop(columns="length")


def _moment(minutes: pd.Series) -> pd.Series:
    """The time that is so many minutes after `ORIGIN`."""
    return (ORIGIN + pd.to_timedelta(minutes, unit="min")).astype("datetime64[us]")


def _turns(stays: pd.DataFrame) -> pd.Series:
    """The order of a patient's stays: by year, age, hospital stay, and admission within it."""
    begins = -stays["admitted"]
    ordered = stays.assign(begins=begins, line=pd.to_numeric(stays["hospital_stay"], "coerce"))
    ordered = ordered.sort_values(
        ["patient", "year", "age", "line", "hospital_stay", "begins", "stay_id"], kind="stable"
    )
    return pd.Series(np.arange(float(len(stays))), index=ordered.index).reindex(stays.index)


def _days_to_next(stays: pd.DataFrame) -> pd.Series:
    """Days from the end of a stay to the patient's next one: inf without one, NaN if unknown."""
    line = stays[["hospital_stay", "admitted", "length"]].rename(
        columns={"hospital_stay": "patient"}
    )
    # Minutes since the admission to the hospital compare the stays within it
    line["start"] = _moment(-line["admitted"])
    line["end"] = _moment(line["length"] - line["admitted"])
    days = days_between(line["end"], next_starts(line, line))
    alone = ~stays["hospital_stay"].duplicated(keep=False)
    told = stays["hospital_stay"].notna() & (alone | stays["admitted"].notna())
    told &= ~stays["hospital_stay"].isin(_with_others_maybe_later(stays)) & stays["length"].notna()
    return days.where(days.notna(), pd.Series(np.inf, index=stays.index).where(told))


def _with_others_maybe_later(stays: pd.DataFrame) -> pd.Series:
    """Hospital stays of patients who have another one that did not end in an earlier year."""
    lines = stays[["patient", "hospital_stay", "year"]].drop_duplicates(
        ["patient", "hospital_stay"]
    )
    pairs = lines.merge(lines, on="patient", suffixes=("", "_of_other"))
    pairs = pairs[pairs["hospital_stay"] != pairs["hospital_stay_of_other"]]
    return pairs.loc[~(pairs["year_of_other"] < pairs["year"]), "hospital_stay"]
