"""Stays, results and notes in the columns in which MIMIC-III, MIMIC-IV and eICU are published."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from ._ehr_rows import Events, Stays

Tables = dict[str, pa.Table]

# What a stay without any label is coded with: chest pain, which is in no Elixhauser group.
NO_GROUP = {9: "78650", 10: "R079"}
_FIRST_ITEM = 50800


class Numbers:
    """Counters that go on from one piece of a table to the next."""

    def __init__(self):
        self._used: dict[str, int] = {}

    def take(self, table: str, n: int) -> np.ndarray:
        """The next n numbers of a table, from 1."""
        first = self._used.get(table, 0) + 1
        self._used[table] = first + n - 1
        return np.arange(first, first + n)


def make_table(n: int, **columns: Any) -> pa.Table:
    """A table of n rows; None is an empty column, a single value stands in every row."""
    arrays = {}
    for name, column in columns.items():
        if column is None:
            column = pa.nulls(n, pa.string())
        elif isinstance(column, str | int):
            column = pa.array([column]).take(pa.array(np.zeros(n, dtype=int)))
        arrays[name] = (
            column if isinstance(column, pa.Array) else pa.array(column, from_pandas=True)
        )
    return pa.table(arrays)


def _times(start: np.ndarray, minutes: np.ndarray) -> pa.Array:
    return pa.array(start + minutes.astype("timedelta64[m]"))


def codes_of_stays(labels: np.ndarray, codes: Sequence[str], none: str):
    """Stay and code of every diagnosis, the code of no group first."""
    stay, label = np.nonzero(labels)
    everyone = np.arange(len(labels))
    order = np.argsort(np.concatenate([everyone, stay]), kind="stable")
    code = np.concatenate([np.full(len(labels), none), np.asarray(codes)[label]])
    return np.concatenate([everyone, stay])[order], code[order]


class Mimic3:
    """MIMIC-III.

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

    version = 9

    def __init__(
        self,
        stays: Stays,
        labels: np.ndarray,
        codes: Mapping[int, Sequence[str]],
        labs: Mapping[str, tuple[str, tuple[float, float] | None]],
    ):
        self.stays = stays
        self.labels = labels
        self.codes = codes[self.version]
        self.labs = labs
        self.numbers = Numbers()
        table = stays.table
        self.hadm = table["stay"].to_numpy()
        self.subject = table["patient"].to_numpy()
        self.start = table["start"].to_numpy().astype("datetime64[s]")
        self.end = table["end"].to_numpy().astype("datetime64[s]")

    def small(self) -> Tables:
        """The tables of stays, patients, items and codes."""
        return {
            "ADMISSIONS": _upper(self._admissions()),
            "PATIENTS": _upper(self._patients()),
            "D_LABITEMS": _upper(self._items()),
            "DIAGNOSES_ICD": _upper(self._diagnoses()),
        }

    def events(self, events: Events) -> Tables:
        """The tables of results and notes, for some of the stays."""
        return {
            "LABEVENTS": _upper(self._results(events)),
            "NOTEEVENTS": _upper(self._notes(events)),
        }

    def _admissions(self) -> pa.Table:
        n = len(self.hadm)
        return make_table(
            n,
            row_id=self.numbers.take("admissions", n),
            subject_id=self.subject,
            hadm_id=self.hadm,
            admittime=self.start,
            dischtime=self.end,
            deathtime=None,
            admission_type="EMERGENCY",
            admission_location=None,
            discharge_location="HOME",
            insurance=None,
            language=None,
            religion=None,
            marital_status=None,
            ethnicity=None,
            edregtime=None,
            edouttime=None,
            diagnosis=None,
            hospital_expire_flag=0,
            has_chartevents_data=1,
        )

    def _first_of_patients(self) -> pd.DataFrame:
        """Sex, and age at the first stay, of every patient."""
        ordered = self.stays.table.sort_values("start", kind="stable")
        return ordered.drop_duplicates("patient").sort_values("patient")

    def _patients(self) -> pa.Table:
        first = self._first_of_patients()
        n, age = len(first), first["age"].to_numpy()
        # Everyone older than 89 years was born 300 years before the first stay.
        days = np.where(age > 89, 300 * 365.25, age * 365.2425 + 180)
        known = np.isfinite(days)
        born = first["start"].to_numpy().astype("datetime64[D]")
        born = born - np.where(known, days, 0).astype("timedelta64[D]")
        return make_table(
            n,
            row_id=self.numbers.take("patients", n),
            subject_id=first["patient"].to_numpy(),
            gender=first["sex"],
            dob=pd.Series(np.where(known, born, np.datetime64("NaT")).astype("datetime64[s]")),
            dod=None,
            dod_hosp=None,
            dod_ssn=None,
            expire_flag=0,
        )

    def _items(self) -> pa.Table:
        n = len(self.labs)
        return make_table(
            n,
            row_id=self.numbers.take("d_labitems", n),
            itemid=_FIRST_ITEM + np.arange(n),
            label=list(self.labs),
            fluid="Blood",
            category="Chemistry",
            loinc_code=None,
        )

    def _diagnoses(self) -> pa.Table:
        stay, code = codes_of_stays(self.labels, self.codes, NO_GROUP[self.version])
        n = len(stay)
        first = np.append(0, np.flatnonzero(np.diff(stay)) + 1)
        place = np.arange(n) - np.repeat(first, np.diff(np.append(first, n)))
        return make_table(
            n,
            row_id=self.numbers.take("diagnoses_icd", n),
            subject_id=self.subject[stay],
            hadm_id=self.hadm[stay],
            seq_num=place + 1,
            icd9_code=code.tolist(),
        )

    def _lab_columns(self, events: Events) -> dict[str, Any]:
        stay = events.first_stay + events.lab_stay
        hadm = pd.Series(self.hadm[stay]).astype("Int64").mask(events.lab_outpatient)
        units = pa.array([unit or None for unit, _ in self.labs.values()], pa.string())
        value = pa.array(events.lab_value)
        return {
            "subject_id": self.subject[stay],
            "hadm_id": hadm,
            "itemid": _FIRST_ITEM + events.lab_column,
            "charttime": _times(self.start[stay], events.lab_minute),
            "value": pc.cast(value, pa.string()),
            "valuenum": value,
            "valueuom": units.take(pa.array(events.lab_column)),
        }

    def _results(self, events: Events) -> pa.Table:
        n = len(events.lab_stay)
        row_id = self.numbers.take("labevents", n)
        return make_table(n, row_id=row_id, **self._lab_columns(events), flag=None)

    def _notes(self, events: Events) -> pa.Table:
        stay = events.first_stay + events.note_stay
        n = len(stay)
        stored = _stored(events, self.stays.index_minute)
        charted = self.start[stay] + events.note_minute.astype("timedelta64[m]")
        # Each stay's late notes begin with its discharge summary, which has a date alone.
        summary = _first_late(events)
        date = np.where(summary, self.end[stay], charted).astype("datetime64[D]")
        no_time = np.datetime64("NaT", "s")
        return make_table(
            n,
            row_id=self.numbers.take("noteevents", n),
            subject_id=self.subject[stay],
            hadm_id=self.hadm[stay],
            chartdate=pa.array(date),
            charttime=pd.Series(np.where(summary, no_time, charted)),
            storetime=pd.Series(
                np.where(summary, no_time, self.start[stay] + stored.astype("timedelta64[m]"))
            ),
            category=np.where(summary, "Discharge summary", "Physician ").tolist(),
            description="Report",
            cgid=None,
            iserror=None,
            text=events.note_text,
        )


class Mimic4(Mimic3):
    """MIMIC-IV with the notes of MIMIC-IV-Note; the parameters are those of `Mimic3`."""

    version = 10

    def small(self) -> Tables:
        """The tables of stays, patients, items and codes."""
        admissions = self._admissions().drop_columns(
            ["row_id", "religion", "ethnicity", "diagnosis", "has_chartevents_data"]
        )
        return {
            "hosp/admissions": admissions.append_column(
                "race", pa.nulls(len(admissions), pa.string())
            ),
            "hosp/patients": self._patients(),
            "hosp/d_labitems": self._items().select(["itemid", "label", "fluid", "category"]),
            "hosp/diagnoses_icd": self._diagnoses(),
        }

    def events(self, events: Events) -> Tables:
        """The tables of results and notes, for some of the stays."""
        summary = _first_late(events)
        return {
            "hosp/labevents": self._results(events),
            "note/radiology": self._of_notes(events, ~summary, "RR"),
            "note/discharge": self._of_notes(events, summary, "DS"),
        }

    def _patients(self) -> pa.Table:
        first = self._first_of_patients()
        year = first["start"].dt.year.to_numpy()
        return make_table(
            len(first),
            subject_id=first["patient"].to_numpy(),
            gender=first["sex"],
            anchor_age=first["age"].round().clip(upper=91).astype("Int64"),
            anchor_year=year,
            anchor_year_group="2017 - 2019",
            dod=None,
        )

    def _diagnoses(self) -> pa.Table:
        table = super()._diagnoses().drop_columns(["row_id"])
        renamed = table.rename_columns(
            ["icd_code" if name == "icd9_code" else name for name in table.column_names]
        )
        return renamed.append_column("icd_version", pa.array(np.full(len(table), self.version)))

    def _results(self, events: Events) -> pa.Table:
        stay = events.first_stay + events.lab_stay
        n = len(stay)
        column = pa.array(events.lab_column)
        ends = [(None, None) if ends is None else ends for _, ends in self.labs.values()]
        low, high = (pa.array([pair[end] for pair in ends], pa.float64()) for end in (0, 1))
        given = self._lab_columns(events)
        return make_table(
            n,
            labevent_id=self.numbers.take("labevents", n),
            subject_id=given["subject_id"],
            hadm_id=given["hadm_id"],
            specimen_id=None,
            itemid=given["itemid"],
            order_provider_id=None,
            charttime=given["charttime"],
            storetime=_times(self.start[stay], events.lab_stored),
            value=given["value"],
            valuenum=given["valuenum"],
            valueuom=given["valueuom"],
            ref_range_lower=low.take(column),
            ref_range_upper=high.take(column),
            flag=None,
            priority="ROUTINE",
            comments=None,
        )

    def _of_notes(self, events: Events, which: np.ndarray, kind: str) -> pa.Table:
        stay = events.first_stay + events.note_stay[which]
        n = len(stay)
        number = self.numbers.take(kind, n)
        charted = self.start[stay] + events.note_minute[which].astype("timedelta64[m]")
        if kind == "DS":
            charted = self.end[stay].astype("datetime64[D]").astype("datetime64[s]")
        stored = _stored(events, self.stays.index_minute)[which].astype("timedelta64[m]")
        return make_table(
            n,
            note_id=[f"{s}-{kind}-{k}" for s, k in zip(self.subject[stay], number, strict=True)],
            subject_id=self.subject[stay],
            hadm_id=self.hadm[stay],
            note_type=kind,
            note_seq=number,
            charttime=charted,
            storetime=self.start[stay] + stored,
            text=events.note_text.filter(pa.array(which)),
        )


def _upper(table: pa.Table) -> pa.Table:
    return table.rename_columns([name.upper() for name in table.column_names])


def _first_late(events: Events) -> np.ndarray:
    """The first of the notes that each stay has after the index time."""
    first = pd.Series(events.note_stay).where(events.note_late)
    return events.note_late & ~first.duplicated().to_numpy()


def _stored(events: Events, index_minute: int) -> np.ndarray:
    """When each note was entered, in minutes: before the index time if it was written before."""
    later = events.note_minute + 30
    return np.where(events.note_late, later, np.minimum(later, index_minute))
