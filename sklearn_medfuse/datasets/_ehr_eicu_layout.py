"""Stays, results and notes in the columns in which eICU is published."""

import re
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ._ehr_layouts import NO_GROUP, Numbers, Tables, codes_of_stays, make_table
from ._ehr_rows import Events, Stays
from ._loaders.eicu import DAY_1, MINUTES_OF_DAY_1, NOT_MEASURED

_NOTE_MENU = "notes/Progress Notes/Comments"
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
# Columns of the published patient table that nothing is known for.
_UNKNOWN = (
    "wardid apacheadmissiondx admissionheight hospitaladmittime24 hospitaladmitoffset "
    "hospitaladmitsource hospitaldischargeyear hospitaldischargetime24 hospitaldischargeoffset "
    "hospitaldischargelocation hospitaldischargestatus unittype unitadmittime24 unitadmitsource "
    "unitvisitnumber unitstaytype admissionweight dischargeweight unitdischargetime24"
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


class Eicu:
    """eICU.

    Parameters
    ----------
    stays : Stays
        The stays.
    labels : ndarray of shape (n_stays, n_labels)
        0 or 1.
    codes : mapping of int to sequence of str
        Version of ICD -> the code of each label.
    labs : mapping of str to (str, (float, float) or None)
        Name of each lab -> its unit and normal range.
    """

    def __init__(
        self,
        stays: Stays,
        labels: np.ndarray,
        codes: Mapping[int, Sequence[str]],
        labs: Mapping[str, tuple[str, tuple[float, float] | None]],
    ):
        self.stays = stays
        self.labels = labels
        # eICU gives the codes of both versions in one cell.
        self.codes = [f"{old}, {new}" for old, new in zip(codes[9], codes[10], strict=True)]
        self.labs = labs
        self.numbers = Numbers()
        self.unit_stay = stays.table["stay"].to_numpy()

    def small(self) -> Tables:
        """The tables of stays, codes and the first day's physiology, and those without rows."""
        no_rows = {
            name: make_table(0, **dict.fromkeys(columns.split()))
            for name, columns in _NO_ROWS.items()
        }
        return {
            "patient": self._patient(),
            "diagnosis": self._diagnosis(),
            "apacheApsVar": self._apache(),
            **no_rows,
        }

    def events(self, events: Events) -> Tables:
        """The tables of results and notes, for some of the stays."""
        return {"lab": self._lab(events), "note": self._note(events)}

    def _patient(self) -> pa.Table:
        table = self.stays.table
        age = table["age"].round().astype("Int64").astype("string")
        length = (table["end"] - table["start"]).dt.total_seconds() // 60
        return make_table(
            len(table),
            patientunitstayid=self.unit_stay,
            patienthealthsystemstayid=self.unit_stay,
            gender=table["sex"].map({"F": "Female", "M": "Male"}).astype("string"),
            age=age.mask(table["age"] > 89, "> 89"),
            ethnicity=None,
            hospitalid=table["hospital"].to_numpy(),
            **dict.fromkeys(_UNKNOWN.split()),
            unitdischargeoffset=length.to_numpy(dtype=int),
            unitdischargelocation="Home",
            unitdischargestatus="Alive",
            uniquepid=table["patient"].astype(str),
        )

    def _diagnosis(self) -> pa.Table:
        none = f"{NO_GROUP[9]}, {NO_GROUP[10]}"
        stay, code = codes_of_stays(self.labels, self.codes, none)
        n = len(stay)
        return make_table(
            n,
            diagnosisid=self.numbers.take("diagnosis", n),
            patientunitstayid=self.unit_stay[stay],
            activeupondischarge="True",
            diagnosisoffset=30,
            diagnosisstring=None,
            icd9code=code.tolist(),
            diagnosispriority="Other",
        )

    def _apache(self) -> pa.Table:
        """The labs that it has, where the index time leaves the first day complete."""
        n = len(self.unit_stay)
        place = {name: k for k, name in enumerate(self.labs)}
        values: dict[str, object] = {}
        for name in DAY_1:
            column = place.get(name)
            if column is None or self.stays.index_minute < MINUTES_OF_DAY_1:
                values[name] = NOT_MEASURED
            else:
                day_1 = self.stays.labs[:, column]
                values[name] = np.where(np.isfinite(day_1), day_1, NOT_MEASURED)
        forms = dict.fromkeys(("intubated", "vent", "dialysis"), 0)
        forms |= dict.fromkeys(("eyes", "motor", "verbal", "meds"), NOT_MEASURED)
        return make_table(
            n,
            apacheapsvarid=self.numbers.take("apache", n),
            patientunitstayid=self.unit_stay,
            **forms,
            **values,
        )

    def _lab(self, events: Events) -> pa.Table:
        # What is measured at the bedside is in no row of `lab`.
        names = [DAY_1[name][1] if name in DAY_1 else name for name in self.labs]
        taken = np.array([name is not None for name in names], dtype=bool)
        keep = taken[events.lab_column]
        column = pa.array(events.lab_column[keep])
        n = len(column)
        value = pa.array(events.lab_value[keep])
        units = pa.array([unit or None for unit, _ in self.labs.values()], pa.string()).take(column)
        return make_table(
            n,
            labid=self.numbers.take("lab", n),
            patientunitstayid=self.unit_stay[events.first_stay + events.lab_stay[keep]],
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
        n = len(row)
        stored = np.where(
            events.note_late,
            events.note_minute + 30,
            np.minimum(events.note_minute + 30, self.stays.index_minute),
        )
        return make_table(
            n,
            noteid=self.numbers.take("note", n),
            patientunitstayid=self.unit_stay[events.first_stay + events.note_stay[row]],
            noteoffset=events.note_minute[row],
            noteenteredoffset=stored[row],
            notetype="Comprehensive Progress",
            notepath=pa.array([f"{_NOTE_MENU}/{value}" for value in values], pa.string()),
            notevalue=pa.array(values, pa.string()),
            notetext=pa.array(values, pa.string()),
        )
