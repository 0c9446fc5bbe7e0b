"""The eICU Collaborative Research Database as a `Cohort`."""

from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

from ._build import build_cohort, make_options, open_source
from ._cells import Kind
from ._cohort import Cohort
from ._eicu_labs import DAYS, LABS
from ._eicu_stays import PATIENT, read_stays
from ._eicu_text import FORMS, build_form_notes
from ._layout import EventTable, Layout

DATASET = "the eICU Collaborative Research Database (full 2.0 or demo 2.0.1)"
URL = "https://physionet.org/content/eicu-crd-demo/2.0.1/"
# What the scripts of eicu-code call it.
SCHEMAS = ("eicu_crd",)
BUNDLED = Path(__file__).parent / "data" / "eicu_demo"

_DIAGNOSES = EventTable(
    "diagnosis",
    {"stay": ("patientunitstayid", "id"), "code": ("icd9code", "code")},
    # "428.0, I50.9" is the same diagnosis in both versions.
    separator=",",
)
# All that is read, by published names: what tools/make_eicu_demo.py copies.
TABLES: dict[str, dict[str, Kind]] = {
    "patient": {**dict(PATIENT.values()), "apacheadmissiondx": "text"},
    DAYS.table: {DAYS.stay: "id", **dict.fromkeys(DAYS.units, "number")},
    **{events.table: dict(events.columns.values()) for events in (_DIAGNOSES, LABS, *FORMS)},
}

DESCR = """eICU Collaborative Research Database
====================================

ICU stays of 208 hospitals in the United States, 2014-2015 (full 2.0), or of 186 of them (demo
2.0.1). De-identified.

X           Labs and vital signs as floats, NaN where not measured, and the text `note`. Physiology
            of the first 24 hours as recorded for the APACHE score (the worst value of the day), or
            the last result before the index time where there is no such value.
y           Elixhauser groups (Quan et al. 2005) of all ICD codes given during the stay, unless
            other labels were asked for.
groups      Patients. `hospitals` are the hospitals; `subgroups` has sex, age in years ("> 89" is
            90), ethnicity and hospital.
note        Choices from pick-lists, in words: past history, notes, physical examination. They are
            not prose, and none of them is dictated or typed text.

Licence     The demo is under the Open Database License 1.0; the full database needs
            credentialed access at PhysioNet.
Source      https://physionet.org/content/eicu-crd-demo/2.0.1/ (doi:10.13026/4mxk-na84),
            https://physionet.org/content/eicu-crd/2.0/
Citation    Pollard TJ, Johnson AEW, Raffa JD, Celi LA, Mark RG, Badawi O. The eICU Collaborative
            Research Database, a freely available multi-center database for critical care
            research. Scientific Data 2018;5:180178. doi:10.1038/sdata.2018.178
"""


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
        database, see :func:`load_tables`, in which they are looked for in the schema eicu_crd
        first.
    admission_diagnosis : bool, default=False
        Whether the notes begin with the admission diagnosis of the APACHE score. It is known at
        the admission, and it may name what is to be predicted.
    **options : dict
        What becomes of the tables, see :class:`CohortOptions`. A stay begins with the admission to
        the unit and ends with the discharge from it. The types of notes are "pastHistory", "note"
        and "physicalExam".

    Returns
    -------
    Cohort
        The kept stays, indexed by `patientunitstayid`. They have no `index_times`, as the source
        has no dates.

    Raises
    ------
    ConnectionError
        If the server of a database cannot be reached, or does not accept the user.
    FileNotFoundError
        If the folder or a table is not there.
    ValueError
        If a parameter is out of range, a column is missing, or a table is damaged.

    See Also
    --------
    CohortOptions : The choices that every loader offers.
    load_eicu_demo : The stays that come with the package.
    load_tables : Tables of any other form.

    Notes
    -----
    **Labs.** Seventeen columns come first, under the names of `apacheApsVar` (-1 means not measured
    there), which holds for each the worst value of the first 24 hours. Such a value stands for the
    last result; of other aggregates it fills in where `lab` has no result, but "slope" and "count"
    are of results alone. These columns are there whatever `min_coverage` says, and come in their
    published units. For stays with an index time before 24 hours `apacheApsVar` is not used, as it
    tells of hours still to come. FiO2 given as a fraction becomes percent.

    **Notes.** The paths of the forms are put in words, clerical entries dropped. Of an examination
    the last state before the index time counts, of history and notes every entry. They make one
    text: `max_note_chars` limits it to its newest entries, each whole or not at all, and
    ``note_order="newest_first"`` begins each of its parts with what was entered last. With
    `drop_note_sections` all entries of menus with such a name are left out, or a part of the text,
    such as "Physical exam".

    **Labels.** All codes of the stay count, whenever entered. "mortality" is death in the unit,
    "length_of_stay_7d" the time in it. "readmission_30d" is the patient's next stay in a unit; it
    is known within one hospital stay, and where the patient has no other that may have been later:
    of hospital stays nothing but the year is told. `first_stay` goes by that year, the patient's
    age and the order within the hospital stay; of hospital stays in the same year that with the
    lowest id counts as first.

    References
    ----------
    .. [1] Pollard TJ et al. The eICU Collaborative Research Database, a freely available
       multi-center database for critical care research. Sci Data 2018;5:180178.
       doi:10.1038/sdata.2018.178

    Examples
    --------
    >>> from sklearn_medfuse.datasets import load_eicu
    >>> load_eicu("no/such/folder", index_time="12h", aggregate=["min", "max"])
    Traceback (most recent call last):
        ...
    FileNotFoundError: 'no/such/folder' does not exist. ...
    """
    chosen = make_options(options)
    layout = Layout(
        describe=DESCR,
        stays=read_stays,
        diagnoses=_DIAGNOSES,
        labs=LABS,
        notes=(),
        subgroups=("sex", "age", "ethnicity", "hospital"),
        days=DAYS,
        dated=False,
        make_notes=partial(build_form_notes, admission_diagnosis=admission_diagnosis),
    )
    with open_source(path, DATASET, URL, chosen, schemas=SCHEMAS) as source:
        cohort = build_cohort(source, layout, chosen)
    cohort["units"] = {lab: unit.replace("&#176;", "°") for lab, unit in cohort["units"].items()}
    return cohort


def load_eicu_demo(*, admission_diagnosis: bool = False, **options: Any) -> Cohort:
    """Load the real ICU stays that are bundled with the package.

    They are 1,470 unit stays in 109 hospitals from the eICU Collaborative Research Database Demo
    2.0.1, under the Open Database License 1.0. `lab` is there for about 100 of the stays.

    Parameters
    ----------
    admission_diagnosis : bool, default=False
        Whether the notes begin with the admission diagnosis.
    **options : dict
        What becomes of the tables, see :class:`CohortOptions` and :func:`load_eicu`.

    Returns
    -------
    Cohort
        By default the stays with a coded diagnosis and with labs or notes.

    See Also
    --------
    load_eicu : The whole database.
    make_ehr_cohort : Made stays whose factors are known.

    Examples
    --------
    >>> from sklearn_medfuse.datasets import load_eicu_demo
    >>> load_eicu_demo()
    Cohort(1,172 stays of 930 patients: 17 labs (61% measured), notes for 1,168 stays, 10 labels)
    """
    return load_eicu(BUNDLED, admission_diagnosis=admission_diagnosis, **options)
