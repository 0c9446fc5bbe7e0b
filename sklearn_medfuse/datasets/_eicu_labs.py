"""Labs of eICU: results of `lab`, and day-1 values of `apacheApsVar` under the same names."""

from ._layout import DayTable, EventTable

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
NOT_MEASURED = -1
MINUTES_OF_DAY_1 = 24 * 60

# Hospitals send 40, 0.4 and 4000.
_PERCENT = "CASE WHEN e.item = 'FiO2' AND e.value <= 1 THEN e.value * 100 ELSE e.value END"

LABS = EventTable(
    "lab",
    {
        "stay": ("patientunitstayid", "id"),
        "time": ("labresultoffset", "minutes"),
        "item": ("labname", "text"),
        "value": ("labresult", "number"),
        "unit": ("labmeasurenamesystem", "text"),
        # when the value now in the table was entered
        "known": ("labresultrevisedoffset", "minutes"),
    },
    # Room air has 20.9 %: nobody breathes less, and nobody more than 100 %.
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
