"""The eICU Collaborative Research Database as a `Cohort`."""

from collections.abc import Sequence
from contextlib import ExitStack
from os import PathLike
from pathlib import Path

import numpy as np
import pandas as pd

from . import phenotypes
from ._cohort import (
    Cohort,
    EventWindow,
    check_require,
    choose_labels,
    drop_stays,
    parse_hours,
)
from ._eicu_labs import APACHE_COLUMNS, LAB_COLUMNS, build_labs
from ._eicu_text import TEXT_COLUMNS, build_notes
from ._sources import Source, is_database
from ._table_database import TableDatabase
from ._tables import TableFolder

DATASET = "the eICU Collaborative Research Database (full 2.0 or demo 2.0.1)"
URL = "https://physionet.org/content/eicu-crd-demo/2.0.1/"
# What the scripts of eicu-code call it.
SCHEMAS = ("eicu_crd",)
BUNDLED = Path(__file__).parent / "data" / "eicu_demo"

# All that is read, by published names: what tools/make_eicu_demo.py copies.
TABLES = {
    "patient": {
        "patientunitstayid": "integer",
        "uniquepid": "text",
        "hospitalid": "integer",
        "gender": "text",
        "age": "text",
        "ethnicity": "text",
        "apacheadmissiondx": "text",
    },
    "diagnosis": {"patientunitstayid": "integer", "icd9code": "text"},
    "lab": LAB_COLUMNS,
    "apacheApsVar": APACHE_COLUMNS,
    **TEXT_COLUMNS,
}

DESCR = """eICU Collaborative Research Database
====================================

ICU stays of 208 hospitals in the United States, 2014-2015 (full 2.0), or of 186 of them (demo
2.0.1). De-identified.

X           Labs and vital signs as floats, NaN where not measured, and the text `note`. Physiology
            of the first 24 hours as recorded for the APACHE score (the worst value of the day), or
            the last result before the index time where there is no such value.
y           Elixhauser groups (Quan et al. 2005) of all ICD codes given during the stay.
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
    path: str | PathLike[str],
    *,
    index_time: str | float = "24h",
    lookback: str | float = "24h",
    n_labels: int | Sequence[str] | None = 10,
    require: str | Sequence[str] = (),
    min_coverage: float = 0.1,
    admission_diagnosis: bool = False,
) -> Cohort:
    """Load ICU stays of the eICU Collaborative Research Database.

    Reads the published tables patient, diagnosis, lab, apacheApsVar, pastHistory, note and
    physicalExam of the full database (2.0) or the demo (2.0.1).

    Parameters
    ----------
    path : path-like or str
        Folder with the tables, each as .csv, .csv.gz or .parquet, names of files and columns in
        upper or lower case; a DuckDB file with them; or the URL of a PostgreSQL database, see
        :func:`load_tables`, in which they are looked for in the schema eicu_crd first.
    index_time : str or float, default="24h"
        Time of prediction after the admission to the unit; a number means hours. No event that
        happened, was entered or was changed later reaches `X`.
    lookback : str or float, default="24h"
        How long before the admission to the unit results of `lab` count. Entries of history, notes
        and examinations count however early.
    n_labels : int, sequence of str or None, default=10
        Number of most prevalent Elixhauser groups among the kept stays, or names of groups, or
        None for all 31.
    require : {"labs", "notes"}, or sequence of them, default=()
        What a stay must have to be kept. Stays with neither are always dropped.
    min_coverage : float, default=0.1
        Share of the stays in which a lab beyond the 17 of `apacheApsVar` must be measured to
        become a column, from 0 to 1.
    admission_diagnosis : bool, default=False
        Whether the notes begin with the admission diagnosis of the APACHE score. It is known at
        the admission, and it may name what is to be predicted.

    Returns
    -------
    Cohort
        The stays, indexed by `patientunitstayid`.

    Raises
    ------
    ConnectionError
        If the server of a database cannot be reached, or does not accept the user.
    FileNotFoundError
        If the folder or a table is not there.
    ValueError
        If a parameter is out of range, a column is missing, or a table is damaged.

    Notes
    -----
    **Labs.** Seventeen columns come from `apacheApsVar` (-1 means not measured there), which holds
    for each the worst value of the first 24 hours; where it has none, the last result of `lab` in
    the window fills in under the same name. With an index time before 24 hours `apacheApsVar` is
    not used, as it tells of hours still to come. The other labs of `lab` become columns by
    `min_coverage`, each the last result in the window. FiO2 given as a fraction becomes percent.

    **Notes.** The paths of the forms are put in words, clerical entries dropped. Of an examination
    the last state before the index time counts, of history and notes every entry.

    **Labels.** All codes of the stay count, whenever entered. A stay with no ICD code has unknown
    labels rather than none, and is dropped. :meth:`Cohort.report` counts all that is dropped.

    References
    ----------
    .. [1] Pollard TJ et al. The eICU Collaborative Research Database, a freely available
       multi-center database for critical care research. Sci Data 2018;5:180178.
       doi:10.1038/sdata.2018.178

    Examples
    --------
    >>> from sklearn_medfuse.datasets import load_eicu
    >>> load_eicu("no/such/folder")
    Traceback (most recent call last):
        ...
    FileNotFoundError: 'no/such/folder' does not exist. ...
    """
    end = parse_hours(index_time, "index_time")
    start = -parse_hours(lookback, "lookback")
    required = check_require(require)
    if not 0 <= min_coverage <= 1:
        raise ValueError(f"min_coverage must be from 0 to 1, got {min_coverage}.")

    tables = _read_tables(path)
    counts: dict[str, int] = {}
    stays = _coded_stays(tables["patient"], tables["diagnosis"], counts)

    # Features are made without a look at the labels.
    labs, units = build_labs(
        tables["apacheApsVar"],
        tables["lab"],
        EventWindow(start, end, stays.index, counts),
        stays.index,
        min_coverage,
    )
    notes = build_notes(
        tables,
        EventWindow(-np.inf, end, stays.index, counts),
        stays["apacheadmissiondx"] if admission_diagnosis else None,
    ).reindex(stays.index)
    stays = _stays_with_input(stays, labs, notes, required, counts)
    labels = _labels(tables["diagnosis"], stays.index, counts)
    return _assemble(stays, labs, notes, choose_labels(labels, n_labels), units, counts)


def load_eicu_demo(
    *,
    index_time: str | float = "24h",
    lookback: str | float = "24h",
    n_labels: int | Sequence[str] | None = 10,
    require: str | Sequence[str] = (),
    min_coverage: float = 0.1,
    admission_diagnosis: bool = False,
) -> Cohort:
    """Load the real ICU stays that are bundled with the package.

    They are 1,470 unit stays in 109 hospitals from the eICU Collaborative Research Database Demo
    2.0.1, under the Open Database License 1.0. See :func:`load_eicu`.

    Parameters
    ----------
    index_time : str or float, default="24h"
        Time of prediction after the admission to the unit.
    lookback : str or float, default="24h"
        How long before the admission to the unit results of `lab` count.
    n_labels : int, sequence of str or None, default=10
        Number of most prevalent labels, or their names, or None for all 31.
    require : {"labs", "notes"}, or sequence of them, default=()
        What a stay must have to be kept.
    min_coverage : float, default=0.1
        Share of the stays in which a lab beyond the 17 of `apacheApsVar` must be measured to
        become a column. Here `lab` is there for about 100 of the stays.
    admission_diagnosis : bool, default=False
        Whether the notes begin with the admission diagnosis.

    Returns
    -------
    Cohort
        The stays with a coded diagnosis and with labs or notes.

    Examples
    --------
    >>> from sklearn_medfuse.datasets import load_eicu_demo
    >>> load_eicu_demo()
    Cohort(1,172 stays of 930 patients: 17 labs (61% measured), notes for 1,168 stays, 10 labels)
    """
    return load_eicu(
        BUNDLED,
        index_time=index_time,
        lookback=lookback,
        n_labels=n_labels,
        require=require,
        min_coverage=min_coverage,
        admission_diagnosis=admission_diagnosis,
    )


def _read_tables(path: str | PathLike[str]) -> dict[str, pd.DataFrame]:
    """All of `TABLES` from the files of a folder, or from a database."""
    place: TableFolder | TableDatabase = TableFolder(Path(path), DATASET, URL)
    with ExitStack() as opened:
        if is_database(path):
            source = Source(path, DATASET, URL, schemas=SCHEMAS)
            place = TableDatabase(opened.enter_context(source))
        return {table: place.read(table, columns) for table, columns in TABLES.items()}


def _coded_stays(
    patient: pd.DataFrame, diagnosis: pd.DataFrame, counts: dict[str, int]
) -> pd.DataFrame:
    """Stays with an ICD code, by id: without one their labels are unknown, not negative."""
    n_repeated = int(patient["patientunitstayid"].duplicated().sum())
    if n_repeated:
        raise ValueError(
            f"Table 'patient' has {n_repeated} rows more than stays: patientunitstayid must be "
            "unique."
        )
    stays = patient.set_index(patient["patientunitstayid"].rename("stay_id")).sort_index()
    counts["stays read"] = len(stays)
    coded = diagnosis.loc[diagnosis["icd9code"].notna(), "patientunitstayid"]
    reasons = {
        "without a diagnosis": ~stays.index.isin(diagnosis["patientunitstayid"]),
        "with diagnoses but no ICD code": ~stays.index.isin(coded),
    }
    flags = {reason: pd.Series(flag, index=stays.index) for reason, flag in reasons.items()}
    return drop_stays(stays, flags, counts)


def _stays_with_input(
    stays: pd.DataFrame,
    labs: pd.DataFrame,
    notes: pd.Series,
    required: Sequence[str],
    counts: dict[str, int],
) -> pd.DataFrame:
    """Stays that have something to predict from, and what is required."""
    without = {"labs": labs.isna().all(axis=1), "notes": notes.isna()}
    reasons = {"with neither labs nor notes": without["labs"] & without["notes"]}
    reasons |= {f"without {modality}": without[modality] for modality in required}
    stays = drop_stays(stays, reasons, counts)
    counts["stays kept"] = len(stays)
    if stays.empty:
        raise ValueError(f"No stay is left. What was dropped: {counts}.")
    counts["stays kept: without labs"] = int(without["labs"][stays.index].sum())
    counts["stays kept: without notes"] = int(without["notes"][stays.index].sum())
    return stays


def _labels(diagnosis: pd.DataFrame, stay_ids: pd.Index, counts: dict[str, int]) -> pd.DataFrame:
    """Elixhauser groups of the stays; a cell holds the codes of both versions, "428.0, I50.9"."""
    counts["diagnosis rows read"] = len(diagnosis)
    coded = diagnosis.dropna(subset="icd9code")
    counts["diagnosis rows dropped: without an ICD code"] = len(diagnosis) - len(coded)
    codes = coded.set_index("patientunitstayid")["icd9code"].str.split(",").explode().str.strip()
    codes = codes[codes != ""]
    versions = phenotypes.guess_icd_version(codes)
    counts["ICD codes read"] = len(codes)
    counts["ICD codes that are no diagnosis code of ICD-9-CM or ICD-10-CM"] = int(
        (versions == 0).sum()
    )
    return phenotypes.label_stays(codes.index, codes, stay_ids, versions)


def _assemble(
    stays: pd.DataFrame,
    labs: pd.DataFrame,
    notes: pd.Series,
    y: pd.DataFrame,
    units: dict[str, str],
    counts: dict[str, int],
) -> Cohort:
    """The fields of the cohort, all with one row per kept stay."""
    age = stays["age"].str.replace(r"\D", "", regex=True)
    subgroups = pd.DataFrame(
        {
            "sex": stays["gender"],
            # "> 89" is all that is published of the oldest.
            "age": pd.to_numeric(age, errors="coerce") + stays["age"].str.startswith(">"),
            "ethnicity": stays["ethnicity"],
            "hospital": stays["hospitalid"],
        }
    )
    return Cohort(
        X=labs.loc[stays.index].assign(note=notes[stays.index]),
        y=y.rename_axis(index="stay_id"),
        groups=stays["uniquepid"].rename("patient"),
        hospitals=stays["hospitalid"].rename("hospital"),
        subgroups=subgroups,
        lab_columns=list(labs.columns),
        note_column="note",
        units=units,
        reference_ranges={},
        target_names=list(y.columns),
        stay_ids=stays.index.to_numpy(),
        counts=counts,
        DESCR=DESCR,
    )
