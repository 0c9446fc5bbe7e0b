"""Stays of eICU, whose times are minutes from the admission to the unit and nothing else."""

import numpy as np
import pandas as pd

from ._cells import ORIGIN
from ._labels import days_between, next_starts
from ._layout import Columns
from ._sources import Source

PATIENT: Columns = {
    "stay_id": ("patientunitstayid", "id"),
    "patient": ("uniquepid", "key"),
    "hospital": ("hospitalid", "id"),
    "sex": ("gender", "text"),
    "age": ("age", "text"),
    "ethnicity": ("ethnicity", "text"),
    "length": ("unitdischargeoffset", "number"),
    "status": ("unitdischargestatus", "text"),
    "hospital_stay": ("patienthealthsystemstayid", "key"),
    "admitted": ("hospitaladmitoffset", "number"),
    "year": ("hospitaldischargeyear", "number"),
}


def read_stays(source: Source) -> pd.DataFrame:
    """Stays of the table patient.

    Parameters
    ----------
    source : Source
        eICU.

    Returns
    -------
    DataFrame
        As a `Layout` wants it; all stays begin at `ORIGIN`.
    """
    stays = source.fetch("patient", PATIENT)
    stays["start"] = pd.Series(ORIGIN, index=stays.index, dtype="datetime64[us]")
    stays["end"] = _moment(stays["length"])
    status = stays.pop("status").str.lower()
    stays["died"] = status.eq("expired").astype(float).where(status.notna())
    stays["age"] = _years(stays["age"])
    stays["turn"] = _turns(stays)
    stays["days_to_next"] = _days_to_next(stays)
    return stays.drop(columns=["length", "hospital_stay", "admitted", "year"])


def _moment(minutes: pd.Series) -> pd.Series:
    """The time that is so many minutes after `ORIGIN`."""
    return (ORIGIN + pd.to_timedelta(minutes, unit="min")).astype("datetime64[us]")


def _years(age: pd.Series) -> pd.Series:
    """Ages in years; "> 89" is all that is published of the oldest, and counts as 90."""
    digits = age.str.replace(r"\D", "", regex=True)
    return pd.to_numeric(digits, errors="coerce").astype(float) + age.str.startswith(">").eq(True)


def _turns(stays: pd.DataFrame) -> pd.Series:
    """The order of a patient's stays, as far as it is told.

    Stays in one hospital stay are in the order of their admissions, hospital stays in that of the
    years in which they ended and of the patient's age. Of those of one year the source does not
    tell the order: the one with the lower id counts as the earlier one.
    """
    begins = -stays["admitted"]
    ordered = stays.assign(begins=begins, line=pd.to_numeric(stays["hospital_stay"], "coerce"))
    ordered = ordered.sort_values(
        ["patient", "year", "age", "line", "hospital_stay", "begins", "stay_id"], kind="stable"
    )
    return pd.Series(np.arange(float(len(stays))), index=ordered.index).reindex(stays.index)


def _days_to_next(stays: pd.DataFrame) -> pd.Series:
    """Days from the end of a stay to the start of the patient's next one.

    They are told where both are in one hospital stay, and there is no next one where the patient
    has no other hospital stay that may have been later.
    """
    line = stays[["hospital_stay", "admitted", "length"]].rename(
        columns={"hospital_stay": "patient"}
    )
    # Minutes since the admission to the hospital compare the stays within it.
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
