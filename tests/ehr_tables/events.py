"""Lab results and notes over time, of which a cohort's rows are what the index time knows."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

_POOL = 4096
_DAY = 24 * 60
# Shares of the further results that are taken before the last one of the first day, and that belong
# to no admission, both about as in MIMIC
_SHARE_EARLIER = 0.25
_SHARE_OUTPATIENT = 0.2


class Stays:
    """The stays of a cohort with ids, times and patients that a source can hold.

    Parameters
    ----------
    cohort : Cohort
        Any cohort whose labs are numbers.
    index_minute : int
        Its index time, in minutes from the start of a stay.
    rng : Generator
        Source of the lengths of stay, and of the starts where the cohort has no index times.
    """

    def __init__(self, cohort, index_minute: int, rng: np.random.Generator):
        X = cohort["X"]
        n = len(X)
        self.index_minute = index_minute
        times = cohort.get("index_times")
        if times is None:
            moved = pd.to_timedelta(rng.integers(0, 730 * _DAY, n), unit="min")
            start = pd.Series(pd.Timestamp("2150-01-01") + moved)
        else:
            start = times.reset_index(drop=True) - pd.Timedelta(minutes=index_minute)
        length = index_minute + rng.integers(_DAY, 10 * _DAY, n)
        subgroups = cohort["subgroups"].reset_index(drop=True)
        unknown = pd.Series(np.nan, index=range(n))
        sex = subgroups.get("sex", unknown).astype(str).str[:1].str.upper()
        self.stay = _whole_numbers(X.index.to_series())
        self.patient = _whole_numbers(cohort["groups"])
        self.hospital = _whole_numbers(cohort.get("hospitals", pd.Series(1, index=range(n))))
        self.start = start.to_numpy().astype("datetime64[s]")
        self.end = (start + pd.to_timedelta(length, unit="min")).to_numpy().astype("datetime64[s]")
        self.sex = sex.where(sex.isin(["F", "M"]), None)
        self.age = pd.to_numeric(subgroups.get("age", unknown), errors="coerce").astype(float)
        self.lab_names = list(cohort["lab_columns"])
        self.units = [cohort["units"].get(name) or None for name in self.lab_names]
        self.ranges = [cohort["reference_ranges"].get(name) for name in self.lab_names]
        self.labs = X[self.lab_names].to_numpy(dtype=float)
        notes = X[cohort["note_column"]].astype(object)
        self.paragraphs = [
            [part for part in note.split("\n\n") if part.strip()]
            for note in notes.where(notes.notna(), "")
        ]

    def minutes_left(self, part: slice) -> np.ndarray:
        """Minutes from the index time to the end of the stay."""
        length = (self.end[part] - self.start[part]) / np.timedelta64(1, "m")
        return length - self.index_minute


@dataclass(frozen=True)
class Events:
    """Lab results and notes of some of the stays; times in minutes from the start of the stay.

    Attributes
    ----------
    lab_stay, lab_column, lab_minute, lab_stored : ndarray of int of shape (n_results,)
        Stay, column of the cohort, and when the sample was taken and the result entered.
    lab_value : ndarray of float of shape (n_results,)
        The result.
    lab_outpatient : ndarray of bool of shape (n_results,)
        Whether it belongs to the patient but to no stay.
    note_stay, note_minute : ndarray of int of shape (n_notes,)
        Stay, and when the note was written.
    note_late : ndarray of bool of shape (n_notes,)
        Whether it was written after the index time.
    note_text : Array of str of shape (n_notes,)
        The text.
    """

    lab_stay: np.ndarray
    lab_column: np.ndarray
    lab_minute: np.ndarray
    lab_stored: np.ndarray
    lab_value: np.ndarray
    lab_outpatient: np.ndarray
    note_stay: np.ndarray
    note_minute: np.ndarray
    note_late: np.ndarray
    note_text: pa.Array

    def first_late_note(self) -> np.ndarray:
        """The first note that each stay has after the index time: its discharge summary."""
        first = pd.Series(self.note_stay).where(self.note_late)
        return self.note_late & ~first.duplicated().to_numpy()

    def note_stored(self, index_minute: int) -> np.ndarray:
        """When each note was entered: before the index time if it was written before."""
        later = self.note_minute + 30
        return np.where(self.note_late, later, np.minimum(later, index_minute))


def draw_events(
    stays: Stays, n_lab_rows: int, n_notes: int, note_chars: int, stays_at_once: int, rng
) -> Iterator[Events]:
    """Draw results and notes, some stays at a time; those of the cohort are always there."""
    n = len(stays.stay)
    more_labs = max(0, n_lab_rows - int(np.isfinite(stays.labs).sum()))
    more_notes = max(0, n_notes - sum(map(len, stays.paragraphs)))
    pool = _note_pool(stays, note_chars, rng) if more_notes else None
    for first in range(0, n, stays_at_once):
        last = min(first + stays_at_once, n)
        # Cut so that the pieces sum to the whole
        n_labs = more_labs * last // n - more_labs * first // n
        n_of_notes = more_notes * last // n - more_notes * first // n
        part = slice(first, last)
        lab_stay, *labs = _lab_rows(stays, part, n_labs, rng)
        note_stay, *notes = _note_rows(stays, part, n_of_notes, pool, rng)
        yield Events(first + lab_stay, *labs, first + note_stay, *notes)


def _lab_rows(stays: Stays, part: slice, n_more: int, rng: np.random.Generator):
    """The cohort's values as the last ones before the index time, and others around them."""
    labs, index = stays.labs[part], stays.index_minute
    stay, column = np.nonzero(np.isfinite(labs))
    n_own = len(stay)
    n_more = n_more if n_own else 0
    last = rng.integers(1, index + 1, n_own)
    copied = rng.integers(0, max(n_own, 1), n_more)
    earlier = rng.random(n_more) < _SHARE_EARLIER
    late_minute = index + 1 + (rng.random(n_more) * (stays.minutes_left(part)[stay[copied]] - 1))
    minute = np.where(earlier, (rng.random(n_more) * last[copied]).astype(int), late_minute)
    minute = np.concatenate([last, minute.astype(int)])
    stored = minute + rng.integers(0, 90, len(minute))
    # What is known at the index time was entered by then
    stored = np.where(minute <= index, np.minimum(stored, index), stored)
    own = labs[stay, column]
    other = np.abs(own[copied] * (1 + 0.05 * rng.normal(size=n_more))).round(2)
    outpatient = np.concatenate([np.zeros(n_own, bool), rng.random(n_more) < _SHARE_OUTPATIENT])
    stay, column = np.append(stay, stay[copied]), np.append(column, column[copied])
    return stay, column, minute, stored, np.concatenate([own, other]), outpatient


def _note_rows(stays: Stays, part: slice, n_more: int, pool, rng: np.random.Generator):
    """The cohort's paragraphs in their order before the index time, and further notes after it."""
    own = stays.paragraphs[part]
    n_of = np.array([len(parts) for parts in own], dtype=int)
    stay = np.repeat(np.arange(len(own)), n_of)
    place = np.arange(len(stay)) - np.repeat(np.cumsum(n_of) - n_of, n_of)
    minute = (place + 1) * stays.index_minute // (n_of[stay] + 1)
    texts = pa.array([text for parts in own for text in parts], pa.string())
    if not n_more:
        return stay, minute, np.zeros(len(stay), bool), texts
    whose = rng.integers(0, len(own), n_more)
    late = stays.index_minute + 1 + rng.random(n_more) * (stays.minutes_left(part)[whose] - 1)
    more = pool.take(pa.array(rng.integers(0, len(pool), n_more)))
    return (
        np.append(stay, whose),
        np.append(minute, late.astype(int)),
        np.arange(len(stay) + n_more) >= len(stay),
        pa.concat_arrays([texts, more]),
    )


def _note_pool(stays: Stays, note_chars: int, rng: np.random.Generator) -> pa.Array:
    """Texts of the wanted mean length, of sentences of the cohort, to draw further notes from."""
    found = {
        f"{said}." for parts in stays.paragraphs[:2000] for p in parts for said in _sentences(p)
    }
    sentences = np.array(sorted(found) or ["Stable."], dtype=object)
    mean = np.mean([len(sentence) + 1 for sentence in sentences])
    # Log-normal with the mean asked for: most notes are short, a few are very long
    spread = 0.8
    lengths = note_chars * np.exp(spread * rng.normal(size=_POOL) - spread**2 / 2)
    counts = np.maximum(1, (lengths / mean).round().astype(int))
    drawn = sentences[rng.integers(0, len(sentences), counts.sum())]
    texts = [" ".join(words) for words in np.split(drawn, np.cumsum(counts)[:-1])]
    return pa.array(texts, pa.string())


def _sentences(text: str) -> list[str]:
    return [part.strip(" .\n") for part in text.split(". ") if part.strip(" .\n")]


def _whole_numbers(ids: pd.Series) -> np.ndarray:
    """Ids that are whole numbers stay, others are numbered."""
    if pd.api.types.is_integer_dtype(ids):
        return ids.to_numpy(dtype=np.int64)
    return pd.factorize(ids, sort=True)[0] + 1
