"""Labs of eICU: day-1 values of `apacheApsVar`, and `lab`, as one column per analyte."""

import numpy as np
import pandas as pd

from ._cohort import EventWindow, last_values

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
_DAY_1_NAME = {lab: column for column, (_, lab) in DAY_1.items() if lab}

APACHE_COLUMNS = {"patientunitstayid": "integer", **dict.fromkeys(DAY_1, "number")}
LAB_COLUMNS = {
    "patientunitstayid": "integer",
    "labresultoffset": "integer",
    "labname": "text",
    "labresult": "number",
    "labmeasurenamesystem": "text",
    "labresultrevisedoffset": "number",
}

NOT_MEASURED = -1
MINUTES_OF_DAY_1 = 24 * 60


def build_labs(
    apache: pd.DataFrame,
    lab: pd.DataFrame,
    window: EventWindow,
    stay_ids: pd.Index,
    min_coverage: float,
) -> tuple[pd.DataFrame, dict[str, str]]:
    """One column per analyte, one row per stay.

    Parameters
    ----------
    apache : DataFrame
        Columns of `APACHE_COLUMNS`.
    lab : DataFrame
        Columns of `LAB_COLUMNS`.
    window : EventWindow
        The minutes that count.
    stay_ids : Index
        The stays wanted.
    min_coverage : float
        Share of the stays that a lab outside `DAY_1` must be measured in to get a column.

    Returns
    -------
    labs : DataFrame of shape (n_stays, n_labs)
        Floats, NaN where not measured.
    units : dict of str to str
        Unit of each column.
    """
    events = _lab_events(lab, window)
    measured = last_values(events, ["labresultoffset", "labresultrevisedoffset"])
    measured = measured.reindex(index=stay_ids)
    day_1 = _day_1_values(apache, window).reindex(index=stay_ids)

    labs = day_1.combine_first(measured[[name for name in DAY_1 if name in measured]])
    labs = labs.reindex(index=stay_ids)
    labs = labs[[name for name in DAY_1 if name in labs and labs[name].notna().any()]]
    others = measured.loc[:, measured.notna().mean() >= min_coverage]
    others = others[[name for name in others if name not in DAY_1]]

    units = _units(events) | {name: unit for name, (unit, _) in DAY_1.items()}
    labs = pd.concat([labs, others], axis=1)
    return labs, {name: units.get(name, "") for name in labs.columns.astype(str)}


def _day_1_values(apache: pd.DataFrame, window: EventWindow) -> pd.DataFrame:
    """The worst values of the first 24 hours; nothing where the index time is earlier."""
    counts = window.counts
    values = apache.set_index("patientunitstayid")[list(DAY_1)]
    if values.index.has_duplicates:
        raise ValueError(
            f"Table 'apacheApsVar' has {int(values.index.duplicated().sum())} rows more than "
            "stays: it must have one row per stay."
        )
    counts["apacheApsVar rows read"] = len(values)
    values = values[values.index.isin(window.stays)]
    counts["apacheApsVar rows dropped: of stays not used"] = len(apache) - len(values)
    if window.end < MINUTES_OF_DAY_1:
        # They summarise hours that are still to come at the index time.
        counts["apacheApsVar rows dropped: after the index time"] = len(values)
        values = values.iloc[:0]
    counts["apacheApsVar rows kept"] = len(values)
    return values.mask(values == NOT_MEASURED).rename_axis(index="stay").astype(float)


def _lab_events(lab: pd.DataFrame, window: EventWindow) -> pd.DataFrame:
    """Results in the window, under the names of the columns to be."""
    lab = lab.rename(columns={"patientunitstayid": "stay", "labname": "lab", "labresult": "value"})
    # labresultrevisedoffset is when the value now in the table was entered.
    events = window.keep(lab, "lab", "labresultoffset", known="labresultrevisedoffset")
    events = events.assign(lab=events["lab"].replace(_DAY_1_NAME))

    usable = events["value"].notna() & events["lab"].notna()
    window.counts["lab rows dropped: without a name or a number"] = int((~usable).sum())
    events = events[usable]

    plausible = _normalise_fio2(events)
    window.counts["lab rows dropped: FiO2 that is no percentage"] = int(plausible.isna().sum())
    events = events.assign(value=plausible)[plausible.notna()]
    window.counts["lab rows kept"] = len(events)
    return events


def _normalise_fio2(events: pd.DataFrame) -> pd.Series:
    """FiO2 in percent: hospitals send 40, 0.4 and 4000; NaN where no reading is safe."""
    value = events["value"]
    percent = pd.Series(np.where(value <= 1, value * 100, value), index=value.index)
    # Room air has 20.9 %: nobody breathes less, and nobody more than 100 %.
    percent = percent.where(percent.between(20, 100))
    return value.where(events["lab"] != "fio2", percent)


def _units(events: pd.DataFrame) -> dict[str, str]:
    """The most frequent unit of each lab."""
    known = events.dropna(subset="labmeasurenamesystem")
    pairs = known.groupby(["lab", "labmeasurenamesystem"]).size().sort_values(kind="stable")
    # The last one written is the most frequent one.
    return {lab: unit.replace("&#176;", "°") for lab, unit in pairs.index}
