"""Stays, results and notes in the columns in which MIMIC-III and MIMIC-IV are published."""

from collections import Counter

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from .events import Events, Stays

# What a stay without any label is coded with: chest pain, which is in no Elixhauser group
NO_GROUP = {9: "78650", 10: "R079"}
_FIRST_ITEM = 50800


def make_table(columns: str, n: int, **known) -> pa.Table:
    """A table of n rows; a single value fills its column, columns without values are null."""
    arrays = {}
    for name in columns.split():
        column = known.pop(name, None)
        if column is None:
            column = pa.nulls(n, pa.string())
        elif isinstance(column, str | int):
            column = pa.repeat(column, n)
        elif not isinstance(column, pa.Array):
            column = pa.array(column, from_pandas=True)
        arrays[name] = column
    if known:
        raise TypeError(f"no columns {sorted(known)}")
    return pa.table(arrays)


class Layout:
    """The tables of a source: `small` once, `events` piece by piece.

    Parameters
    ----------
    stays : Stays
        The stays.
    labels : ndarray of shape (n_stays, n_labels)
        0 or 1.
    codes : mapping of int to sequence of str
        Version of ICD -> the code of each label.
    """

    def __init__(self, stays: Stays, labels: np.ndarray, codes):
        self.stays = stays
        self.labels = labels
        self.codes = codes
        self._used: Counter[str] = Counter()

    def numbers(self, table: str, n: int) -> np.ndarray:
        """The next n numbers of a table, from 1."""
        self._used[table] += n
        return np.arange(self._used[table] - n, self._used[table]) + 1

    def diagnoses(self, codes, none: str):
        """Stay and code of every diagnosis; the first of each stay is in no group."""
        stay, label = np.nonzero(self.labels)
        everyone = np.arange(len(self.labels))
        code = np.concatenate([np.full(len(everyone), none), np.asarray(codes)[label]])
        stay = np.concatenate([everyone, stay])
        order = np.argsort(stay, kind="stable")
        return stay[order], code[order].tolist()


class Mimic3(Layout):
    """MIMIC-III."""

    version = 9

    def small(self) -> dict[str, pa.Table]:
        """The tables of stays, patients, items and codes."""
        return {
            "ADMISSIONS": _upper(self._admissions(["race"])),
            "PATIENTS": _upper(self._patients()),
            "D_LABITEMS": _upper(self._items("row_id itemid label fluid category loinc_code")),
            "DIAGNOSES_ICD": _upper(self._codes("row_id icd9_code")),
        }

    def events(self, events: Events) -> dict[str, pa.Table]:
        """The tables of results and notes of some of the stays."""
        labs = "row_id subject_id hadm_id itemid charttime value valuenum valueuom flag"
        return {
            "LABEVENTS": _upper(self._results(events, labs)),
            "NOTEEVENTS": _upper(self._notes(events)),
        }

    def _admissions(self, left_out: list[str]) -> pa.Table:
        stays = self.stays
        table = make_table(
            "row_id subject_id hadm_id admittime dischtime deathtime admission_type "
            "admission_location discharge_location insurance language religion marital_status "
            "ethnicity race edregtime edouttime diagnosis hospital_expire_flag "
            "has_chartevents_data",
            len(stays.stay),
            row_id=self.numbers("admissions", len(stays.stay)),
            subject_id=stays.patient,
            hadm_id=stays.stay,
            admittime=stays.start,
            dischtime=stays.end,
            admission_type="EMERGENCY",
            discharge_location="HOME",
            hospital_expire_flag=0,
            has_chartevents_data=1,
        )
        return table.drop_columns(left_out)

    def _first_stays(self) -> pd.DataFrame:
        """Sex, and age at the first stay, of every patient."""
        stays = self.stays
        table = pd.DataFrame(
            {"patient": stays.patient, "start": stays.start, "sex": stays.sex, "age": stays.age}
        )
        return table.sort_values("start", kind="stable").drop_duplicates("patient")

    def _patients(self) -> pa.Table:
        first = self._first_stays().sort_values("patient")
        age = first["age"].to_numpy()
        # Everyone older than 89 years was born 300 years before the first stay
        days = np.where(age > 89, 300 * 365.25, age * 365.2425 + 180)
        known = np.isfinite(days)
        born = first["start"].to_numpy().astype("datetime64[D]")
        born = born - np.where(known, days, 0).astype("timedelta64[D]")
        return make_table(
            "row_id subject_id gender dob dod dod_hosp dod_ssn expire_flag",
            len(first),
            row_id=self.numbers("patients", len(first)),
            subject_id=first["patient"],
            gender=first["sex"],
            dob=pd.Series(np.where(known, born, np.datetime64("NaT")).astype("datetime64[s]")),
            expire_flag=0,
        )

    def _items(self, columns: str) -> pa.Table:
        n = len(self.stays.lab_names)
        table = make_table(
            "row_id itemid label fluid category loinc_code",
            n,
            row_id=np.arange(n) + 1,
            itemid=_FIRST_ITEM + np.arange(n),
            label=self.stays.lab_names,
            fluid="Blood",
            category="Chemistry",
        )
        return table.select(columns.split())

    def _codes(self, more: str) -> pa.Table:
        stay, code = self.diagnoses(self.codes[self.version], NO_GROUP[self.version])
        n = len(stay)
        place = pd.Series(stay).groupby(stay).cumcount().to_numpy() + 1
        known = {
            "row_id": self.numbers("diagnoses_icd", n),
            "icd9_code": code,
            "icd_code": code,
            "icd_version": self.version,
        }
        return make_table(
            f"subject_id hadm_id seq_num {more}",
            n,
            subject_id=self.stays.patient[stay],
            hadm_id=self.stays.stay[stay],
            seq_num=place,
            **{name: known[name] for name in more.split()},
        )

    def _results(self, events: Events, columns: str) -> pa.Table:
        stays, stay = self.stays, events.lab_stay
        column = pa.array(events.lab_column)
        number = self.numbers("labevents", len(stay))
        ends = [(None, None) if ends is None else ends for ends in stays.ranges]
        low, high = (pa.array([pair[end] for pair in ends], pa.float64()) for end in (0, 1))
        value = pa.array(events.lab_value)
        known = {
            "row_id": number,
            "labevent_id": number,
            "subject_id": stays.patient[stay],
            "hadm_id": pd.Series(stays.stay[stay]).astype("Int64").mask(events.lab_outpatient),
            "itemid": _FIRST_ITEM + events.lab_column,
            "charttime": _times(stays.start[stay], events.lab_minute),
            "storetime": _times(stays.start[stay], events.lab_stored),
            "value": pc.cast(value, pa.string()),
            "valuenum": value,
            "valueuom": pa.array(stays.units, pa.string()).take(column),
            "ref_range_lower": low.take(column),
            "ref_range_upper": high.take(column),
            "priority": "ROUTINE",
        }
        return make_table(
            columns, len(stay), **{name: known[name] for name in columns.split() if name in known}
        )

    def _notes(self, events: Events) -> pa.Table:
        stays, stay = self.stays, events.note_stay
        summary = events.first_late_note()
        charted = _times(stays.start[stay], events.note_minute)
        stored = _times(stays.start[stay], events.note_stored(stays.index_minute))
        # A discharge summary has a date alone
        date = np.where(summary, stays.end[stay], charted).astype("datetime64[D]")
        no_time = np.datetime64("NaT", "s")
        return make_table(
            "row_id subject_id hadm_id chartdate charttime storetime category description cgid "
            "iserror text",
            len(stay),
            row_id=self.numbers("noteevents", len(stay)),
            subject_id=stays.patient[stay],
            hadm_id=stays.stay[stay],
            chartdate=pa.array(date),
            charttime=pd.Series(np.where(summary, no_time, charted)),
            storetime=pd.Series(np.where(summary, no_time, stored)),
            category=np.where(summary, "Discharge summary", "Physician ").tolist(),
            description="Report",
            text=events.note_text,
        )


class Mimic4(Mimic3):
    """MIMIC-IV with the notes of MIMIC-IV-Note."""

    version = 10

    def small(self) -> dict[str, pa.Table]:
        """The tables of stays, patients, items and codes."""
        return {
            "hosp/admissions": self._admissions(
                ["row_id", "religion", "ethnicity", "diagnosis", "has_chartevents_data"]
            ),
            "hosp/patients": self._patients(),
            "hosp/d_labitems": self._items("itemid label fluid category"),
            "hosp/diagnoses_icd": self._codes("icd_code icd_version"),
        }

    def events(self, events: Events) -> dict[str, pa.Table]:
        """The tables of results and notes of some of the stays."""
        labs = (
            "labevent_id subject_id hadm_id specimen_id itemid order_provider_id charttime "
            "storetime value valuenum valueuom ref_range_lower ref_range_upper flag priority "
            "comments"
        )
        summary = events.first_late_note()
        return {
            "hosp/labevents": self._results(events, labs),
            "note/radiology": self._notes_of_kind(events, ~summary, "RR"),
            "note/discharge": self._notes_of_kind(events, summary, "DS"),
        }

    def _patients(self) -> pa.Table:
        first = self._first_stays().sort_values("patient")
        return make_table(
            "subject_id gender anchor_age anchor_year anchor_year_group dod",
            len(first),
            subject_id=first["patient"],
            gender=first["sex"],
            anchor_age=first["age"].round().clip(upper=91).astype("Int64"),
            anchor_year=first["start"].dt.year,
            anchor_year_group="2017 - 2019",
        )

    def _notes_of_kind(self, events: Events, which: np.ndarray, kind: str) -> pa.Table:
        stays, stay = self.stays, events.note_stay[which]
        number = self.numbers(kind, len(stay))
        charted = _times(stays.start[stay], events.note_minute[which])
        if kind == "DS":
            charted = stays.end[stay].astype("datetime64[D]").astype("datetime64[s]")
        names = zip(stays.patient[stay], number, strict=True)
        return make_table(
            "note_id subject_id hadm_id note_type note_seq charttime storetime text",
            len(stay),
            note_id=[f"{subject}-{kind}-{k}" for subject, k in names],
            subject_id=stays.patient[stay],
            hadm_id=stays.stay[stay],
            note_type=kind,
            note_seq=number,
            charttime=charted,
            storetime=_times(stays.start[stay], events.note_stored(stays.index_minute)[which]),
            text=events.note_text.filter(pa.array(which)),
        )


def _times(start: np.ndarray, minutes: np.ndarray) -> np.ndarray:
    return start + minutes.astype("timedelta64[m]")


def _upper(table: pa.Table) -> pa.Table:
    return table.rename_columns([name.upper() for name in table.column_names])
