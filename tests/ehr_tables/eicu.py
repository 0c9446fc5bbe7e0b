"""Stays, results and notes in the columns in which eICU is published."""

import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from .events import Events
from .mimic import NO_GROUP, Layout, make_table

_NOTE_MENU = "notes/Progress Notes/Comments"
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
_NOT_MEASURED = -1
# Column of apacheApsVar → name of the same analyte in `lab`, None for what is measured at the
# bedside
_DAY_1 = {
    "urine": None,
    "wbc": "WBC x 1000",
    "temperature": None,
    "respiratoryrate": None,
    "sodium": "sodium",
    "heartrate": None,
    "meanbp": None,
    "ph": "pH",
    "hematocrit": "Hct",
    "creatinine": "creatinine",
    "albumin": "albumin",
    "pao2": "paO2",
    "pco2": "paCO2",
    "bun": "BUN",
    "glucose": "glucose",
    "bilirubin": "total bilirubin",
    "fio2": "FiO2",
}
_PATIENT = (
    "patientunitstayid patienthealthsystemstayid gender age ethnicity hospitalid wardid "
    "apacheadmissiondx admissionheight hospitaladmittime24 hospitaladmitoffset "
    "hospitaladmitsource hospitaldischargeyear hospitaldischargetime24 hospitaldischargeoffset "
    "hospitaldischargelocation hospitaldischargestatus unittype unitadmittime24 unitadmitsource "
    "unitvisitnumber unitstaytype admissionweight dischargeweight unitdischargetime24 "
    "unitdischargeoffset unitdischargelocation unitdischargestatus uniquepid"
)
_NO_ROWS = {
    "pastHistory": (
        "pasthistoryid patientunitstayid pasthistoryoffset pasthistoryenteredoffset "
        "pasthistorynotetype pasthistorypath pasthistoryvalue pasthistoryvaluetext"
    ),
    "physicalExam": (
        "physicalexamid patientunitstayid physicalexamoffset physicalexampath physicalexamvalue "
        "physicalexamtext"
    ),
}


class Eicu(Layout):
    """eICU, which gives the codes of both versions of ICD in one cell."""

    def small(self) -> dict[str, pa.Table]:
        """The tables of stays, codes and the first day's physiology, and those without rows."""
        return {
            "patient": self._patient(),
            "diagnosis": self._diagnosis(),
            "apacheApsVar": self._apache(),
            **{name: make_table(columns, 0) for name, columns in _NO_ROWS.items()},
        }

    def events(self, events: Events) -> dict[str, pa.Table]:
        """The tables of results and notes of some of the stays."""
        return {"lab": self._lab(events), "note": self._note(events)}

    def _patient(self) -> pa.Table:
        stays = self.stays
        age = stays.age.round().astype("Int64").astype("string").mask(stays.age > 89, "> 89")
        length = (stays.end - stays.start) // np.timedelta64(1, "m")
        return make_table(
            _PATIENT,
            len(stays.stay),
            patientunitstayid=stays.stay,
            patienthealthsystemstayid=stays.stay,
            gender=stays.sex.map({"F": "Female", "M": "Male"}).astype("string"),
            age=age,
            hospitalid=stays.hospital,
            unitdischargeoffset=length.astype(int),
            unitdischargelocation="Home",
            unitdischargestatus="Alive",
            uniquepid=pd.Series(stays.patient).astype(str),
        )

    def _diagnosis(self) -> pa.Table:
        both = [f"{old}, {new}" for old, new in zip(self.codes[9], self.codes[10], strict=True)]
        stay, code = self.diagnoses(both, f"{NO_GROUP[9]}, {NO_GROUP[10]}")
        return make_table(
            "diagnosisid patientunitstayid activeupondischarge diagnosisoffset diagnosisstring "
            "icd9code diagnosispriority",
            len(stay),
            diagnosisid=self.numbers("diagnosis", len(stay)),
            patientunitstayid=self.stays.stay[stay],
            activeupondischarge="True",
            diagnosisoffset=30,
            icd9code=code,
            diagnosispriority="Other",
        )

    def _apache(self) -> pa.Table:
        """The labs that it has, where the index time leaves the first day complete."""
        stays = self.stays
        values = dict.fromkeys(("intubated", "vent", "dialysis"), 0)
        values |= dict.fromkeys(("eyes", "motor", "verbal", "meds", *_DAY_1), _NOT_MEASURED)
        if stays.index_minute >= 24 * 60:
            for name in set(_DAY_1).intersection(stays.lab_names):
                day_1 = stays.labs[:, stays.lab_names.index(name)]
                values[name] = np.where(np.isfinite(day_1), day_1, _NOT_MEASURED)
        return make_table(
            " ".join(["apacheapsvarid patientunitstayid", *values]),
            len(stays.stay),
            apacheapsvarid=self.numbers("apache", len(stays.stay)),
            patientunitstayid=stays.stay,
            **values,
        )

    def _lab(self, events: Events) -> pa.Table:
        # What is measured at the bedside is in no row of `lab`
        names = [_DAY_1.get(name, name) for name in self.stays.lab_names]
        keep = np.array([name is not None for name in names], dtype=bool)[events.lab_column]
        column = pa.array(events.lab_column[keep])
        value = pa.array(events.lab_value[keep])
        units = pa.array(self.stays.units, pa.string()).take(column)
        return make_table(
            "labid patientunitstayid labresultoffset labtypeid labname labresult labresulttext "
            "labmeasurenamesystem labmeasurenameinterface labresultrevisedoffset",
            len(column),
            labid=self.numbers("lab", len(column)),
            patientunitstayid=self.stays.stay[events.lab_stay[keep]],
            labresultoffset=events.lab_minute[keep],
            labtypeid=1,
            labname=pa.array(names, pa.string()).take(column),
            labresult=value,
            labresulttext=pc.cast(value, pa.string()),
            labmeasurenamesystem=units,
            labmeasurenameinterface=units,
            labresultrevisedoffset=events.lab_stored[keep],
        )

    def _note(self, events: Events) -> pa.Table:
        """A row for every sentence, as a choice in a form."""
        sentences = [
            [part.rstrip(".") for part in _SENTENCE.split(text) if part.strip(" .")]
            for text in events.note_text.to_pylist()
        ]
        row = np.repeat(np.arange(len(sentences)), [len(parts) for parts in sentences])
        values = [part for parts in sentences for part in parts]
        return make_table(
            "noteid patientunitstayid noteoffset noteenteredoffset notetype notepath notevalue "
            "notetext",
            len(row),
            noteid=self.numbers("note", len(row)),
            patientunitstayid=self.stays.stay[events.note_stay[row]],
            noteoffset=events.note_minute[row],
            noteenteredoffset=events.note_stored(self.stays.index_minute)[row],
            notetype="Comprehensive Progress",
            notepath=pa.array([f"{_NOTE_MENU}/{value}" for value in values], pa.string()),
            notevalue=pa.array(values, pa.string()),
            notetext=pa.array(values, pa.string()),
        )
