"""Lab results and notes over time of which a cohort's rows are what was known at the index time."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from ._cohort import Cohort
from ._made_cohort import FILLER, FINDINGS

_STAYS_AT_ONCE = 2000
_POOL = 4096
_DAY = 24 * 60
# Of the results beyond those of the cohort: how many are taken before the last one of the first
# day, and how many belong to no admission, both about as in MIMIC.
_SHARE_EARLIER = 0.25
_SHARE_OUTPATIENT = 0.2


@dataclass(frozen=True)
class Stays:
    """The stays of a cohort as a source would know them.

    Attributes
    ----------
    table : DataFrame
        `stay`, `patient` (whole numbers), `start`, `end` (datetime64), `sex` ("F", "M" or None),
        `age` (years) and `hospital` (whole numbers).
    labs : ndarray of float of shape (n_stays, n_labs)
        The cohort's labs.
    notes : ndarray of object of shape (n_stays,)
        The cohort's notes; None where there is none.
    index_minute : int
        The index time, in minutes from the start.
    """

    table: pd.DataFrame
    labs: np.ndarray
    notes: np.ndarray
    index_minute: int


@dataclass(frozen=True)
class Events:
    """Lab results and notes of some of the stays; times in minutes from the start of the stay.

    Attributes
    ----------
    first_stay : int
        Number of the first stay; `lab_stay` and `note_stay` count from it.
    lab_stay, lab_column, lab_minute, lab_stored : ndarray of int of shape (n_results,)
        Stay, column of the cohort, when it was taken and when entered.
    lab_value : ndarray of float of shape (n_results,)
        The result.
    lab_outpatient : ndarray of bool of shape (n_results,)
        Whether it belongs to the patient but to no stay.
    note_stay, note_minute : ndarray of int of shape (n_notes,)
        Stay, and when it was written.
    note_late : ndarray of bool of shape (n_notes,)
        Whether it was written after the index time.
    note_text : Array of str of shape (n_notes,)
        The text.
    """

    first_stay: int
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


def stays_of(cohort: Cohort, index_minute: int, rng: np.random.Generator) -> Stays:
    """Give the stays of a cohort ids, times and patients that a source can hold.

    Parameters
    ----------
    cohort : Cohort
        Any cohort.
    index_minute : int
        Its index time, in minutes from the start of a stay.
    rng : Generator
        Source of the lengths of stay, and of the starts where the cohort has no index times.

    Returns
    -------
    Stays
        In the order of the cohort.
    """
    X, groups = cohort["X"], cohort["groups"]
    n = len(X)
    times = cohort.get("index_times")
    if times is None:
        moved = pd.to_timedelta(rng.integers(0, 730 * _DAY, n), unit="min")
        start = pd.Series(pd.Timestamp("2150-01-01") + moved)
    else:
        start = times.reset_index(drop=True) - pd.Timedelta(minutes=index_minute)
    length = index_minute + rng.integers(_DAY, 10 * _DAY, n)
    subgroups = cohort["subgroups"].reset_index(drop=True)
    nothing = pd.Series(np.nan, index=range(n))
    sex = subgroups.get("sex", nothing).astype(str).str[:1].str.upper()
    hospitals = cohort.get("hospitals")
    table = pd.DataFrame(
        {
            "stay": _numbers(X.index.to_series()),
            "patient": _numbers(groups),
            "start": start.astype("datetime64[s]"),
            "end": (start + pd.to_timedelta(length, unit="min")).astype("datetime64[s]"),
            "sex": sex.where(sex.isin(["F", "M"]), None),
            "age": pd.to_numeric(subgroups.get("age", nothing), errors="coerce").astype(float),
            "hospital": 1 if hospitals is None else _numbers(hospitals),
        }
    )
    notes = X[cohort["note_column"]].astype(object)
    texts = notes.where(notes.notna(), None).to_numpy()
    return Stays(table, _labs_of(cohort), texts, index_minute)


def _labs_of(cohort) -> np.ndarray:
    """Results as floats (n_stays, n_labs)."""
    labs = cohort["X"][cohort["lab_columns"]]
    words = [name for name, kind in labs.dtypes.items() if not pd.api.types.is_numeric_dtype(kind)]
    if words:
        raise ValueError(
            f"{len(words)} lab columns of the cohort, first {words[0]!r}, hold texts, and the "
            "tables hold numbers; leave these columns out."
        )
    return labs.to_numpy(dtype=float)


def _numbers(ids: pd.Series) -> np.ndarray:
    """Ids that are whole numbers as they are, others numbered."""
    if pd.api.types.is_integer_dtype(ids):
        return ids.to_numpy(dtype=np.int64)
    return pd.factorize(ids, sort=True)[0] + 1


def events_of(
    stays: Stays, n_lab_rows: int, n_notes: int, note_chars: int, rng: np.random.Generator
) -> Iterator[Events]:
    """Results and notes, some stays at a time.

    Parameters
    ----------
    stays : Stays
        The stays.
    n_lab_rows, n_notes : int
        Rows in all; those of the cohort itself are always there.
    note_chars : int
        Mean length of the further notes.
    rng : Generator
        Source of all draws.

    Yields
    ------
    Events
        Of up to 2,000 stays.
    """
    n = len(stays.table)
    own_labs, own_notes = int(np.isfinite(stays.labs).sum()), int(sum(map(_n_notes, stays.notes)))
    more_labs, more_notes = max(0, n_lab_rows - own_labs), max(0, n_notes - own_notes)
    pool = _note_pool(note_chars, rng) if more_notes else pa.array([], pa.string())
    for first in range(0, n, _STAYS_AT_ONCE):
        last = min(first + _STAYS_AT_ONCE, n)
        # cut so that all pieces sum to the whole
        n_labs = more_labs * last // n - more_labs * first // n
        n_of_notes = more_notes * last // n - more_notes * first // n
        yield Events(
            first,
            *_lab_rows(stays, slice(first, last), n_labs, rng),
            *_note_rows(stays, slice(first, last), n_of_notes, pool, rng),
        )


def _lab_rows(stays: Stays, part: slice, n_more: int, rng: np.random.Generator):
    """The cohort's values as the last ones before the index time, and others around them."""
    labs, index = stays.labs[part], stays.index_minute
    stay, column = np.nonzero(np.isfinite(labs))
    n_own = len(stay)
    n_more = n_more if n_own else 0
    last = rng.integers(1, index + 1, n_own)
    copied = rng.integers(0, max(n_own, 1), n_more)
    earlier = rng.random(n_more) < _SHARE_EARLIER
    late_minute = index + 1 + (rng.random(n_more) * (_minutes_left(stays, part)[stay[copied]] - 1))
    minute = np.where(earlier, (rng.random(n_more) * last[copied]).astype(int), late_minute)
    minute = np.concatenate([last, minute.astype(int)])
    stored = minute + rng.integers(0, 90, len(minute))
    # What is known at the index time was entered by then.
    stored = np.where(minute <= index, np.minimum(stored, index), stored)
    own = labs[stay, column]
    other = np.abs(own[copied] * (1 + 0.05 * rng.normal(size=n_more))).round(2)
    outpatient = np.concatenate([np.zeros(n_own, bool), rng.random(n_more) < _SHARE_OUTPATIENT])
    stay, column = np.append(stay, stay[copied]), np.append(column, column[copied])
    return stay, column, minute, stored, np.concatenate([own, other]), outpatient


def _minutes_left(stays: Stays, part: slice) -> np.ndarray:
    """Minutes from the index time to the end of the stay."""
    table = stays.table.iloc[part]
    length = (table["end"] - table["start"]).dt.total_seconds() / 60
    return length.to_numpy() - stays.index_minute


def paragraphs(note: str | None) -> list[str]:
    """The parts of a note that stand in tables as notes of their own."""
    return [] if note is None else [part for part in note.split("\n\n") if part.strip()]


def _n_notes(note: str | None) -> int:
    return len(paragraphs(note))


def _note_rows(stays: Stays, part: slice, n_more: int, pool: pa.Array, rng: np.random.Generator):
    """The cohort's paragraphs in their order before the index time, and further notes after it."""
    own = [paragraphs(note) for note in stays.notes[part]]
    n_of = np.array([len(parts) for parts in own], dtype=int)
    stay = np.repeat(np.arange(len(own)), n_of)
    place = np.arange(len(stay)) - np.repeat(np.cumsum(n_of) - n_of, n_of)
    minute = (place + 1) * stays.index_minute // (n_of[stay] + 1)
    texts = pa.array([text for parts in own for text in parts], pa.string())
    if not n_more:
        return stay, minute, np.zeros(len(stay), bool), texts
    whose = rng.integers(0, len(own), n_more)
    late = stays.index_minute + 1 + rng.random(n_more) * (_minutes_left(stays, part)[whose] - 1)
    more = pool.take(pa.array(rng.integers(0, len(pool), n_more)))
    is_late = np.arange(len(stay) + n_more) >= len(stay)
    return (
        np.append(stay, whose),
        np.append(minute, late.astype(int)),
        is_late,
        pa.concat_arrays([texts, more]),
    )


def _note_pool(note_chars: int, rng: np.random.Generator) -> pa.Array:
    """Texts of the wanted mean length, from which the further notes are drawn."""
    said = [f"Patient has {finding}." for of_factor in FINDINGS for finding in of_factor]
    sentences = np.array([*said, *FILLER], dtype=object)
    mean = np.mean([len(sentence) + 1 for sentence in sentences])
    # log-normal with the mean asked for: most notes are short, a few are very long
    spread = 0.8
    lengths = note_chars * np.exp(spread * rng.normal(size=_POOL) - spread**2 / 2)
    counts = np.maximum(1, (lengths / mean).round().astype(int))
    drawn = sentences[rng.integers(0, len(sentences), counts.sum())]
    texts = [" ".join(words) for words in np.split(drawn, np.cumsum(counts)[:-1])]
    return pa.array(texts, pa.string())
