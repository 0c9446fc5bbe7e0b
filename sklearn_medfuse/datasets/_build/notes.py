"""Notes of the stays as one text per stay."""

import sys
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from itertools import chain, groupby
from operator import itemgetter

import pandas as pd
import pyarrow as pa

from ..._note_sections import without_sections
from .._options import CohortOptions, listed
from .._tables.columns import TEXT_DTYPE, is_empty, literal
from .._tables.source import Source
from .events import Condition, EventTable, Layout, classify, count_rows

BETWEEN_NOTES = "\n\n"
_STAYS_IN_BLOCK = 5000


def build_notes(
    source: Source, layout: Layout, options: CohortOptions, n_stays: int, counts: dict[str, int]
) -> pd.Series:
    """One text per registered stay, of the notes known at the index time; NaN without a note."""
    source.execute(
        "CREATE OR REPLACE TEMP TABLE note_events "
        "(stay BIGINT, happened BIGINT, type VARCHAR, text VARCHAR)",
        "notes",
    )
    for notes in layout.notes:
        _collect(source, notes, options, counts)
    if options.note_types is not None and layout.notes:
        _check_types(source, layout.notes, options.note_types)
    texts = as_series(_compose(source, options, counts), n_stays)
    source.execute("DROP TABLE note_events", "notes")
    return texts


def _collect(source: Source, notes: EventTable, options: CohortOptions, counts) -> None:
    """Put the usable notes of one table into `note_events`."""
    typed = "type" in notes.columns
    reasons = {"without a text": Condition(is_empty("e.text"))}
    if options.note_types is not None:
        kind = "e.type" if typed else literal(notes.table)
        names = ", ".join(literal(name.strip().lower()) for name in options.note_types) or "NULL"
        # In other collations the lower case of I need not be i
        others = f'coalesce(lower({kind} COLLATE "C") NOT IN ({names}), true)'
        reasons["of other types"] = Condition(others, portable=True)
    events = classify(source, notes, options, reasons)
    # More than the budget is never needed of a note: long ones are cut on the way in.
    # With sections to drop it is not known yet how much of a note is left.
    whole = options.max_note_chars is None or bool(options.dropped_sections)
    used = {
        "stay": "stay_number",
        "happened": "since_start",
        "type": "type" if typed else literal(notes.table),
        "text": "trim(text)" if whole else f"left(trim(text), {options.max_note_chars})",
    }
    source.execute(
        f"CREATE OR REPLACE TEMP TABLE read_notes AS SELECT * FROM {events.used(used)}", notes.table
    )
    count_rows(source, events, "read_notes", counts)
    source.execute(
        "INSERT INTO note_events SELECT stay, happened, type, text FROM read_notes "
        "WHERE reason = 0",
        notes.table,
    )
    source.execute("DROP TABLE read_notes", notes.table)


def _check_types(source: Source, tables: Sequence[EventTable], wanted: Sequence[str]) -> None:
    """Refuse types that no note has; the tables are read again only if one was not seen."""
    seen = (
        source.query("SELECT DISTINCT type FROM note_events", "notes")["type"].dropna().str.lower()
    )
    if {name.strip().lower() for name in wanted} <= set(seen):
        return
    known: list[str] = []
    for notes in tables:
        if "type" not in notes.columns:
            known.append(notes.table)
            continue
        rows = source.select(notes.table, {"type": notes.columns["type"]}, notes.optional)
        found = f"SELECT type FROM {rows} GROUP BY type ORDER BY count(*) DESC, type"
        known += source.query(found, notes.table)["type"].dropna().tolist()
    refuse_unknown_types(wanted, known)


def refuse_unknown_types(wanted: Sequence[str], known: Sequence[str]) -> None:
    """Refuse types of notes that are not known; the error lists the most frequent that are."""
    lower = {name.lower() for name in known}
    unknown = [name for name in wanted if name.strip().lower() not in lower]
    if unknown:
        there = f"types are {listed(known)}" if known else "notes have no type"
        raise ValueError(f"note_types has {unknown}, but no note has such a type: the {there}.")


def refuse_unknown_sections(options: CohortOptions, found: Collection[str]) -> None:
    """Refuse sections to drop that the user names and no note has: a misspelt one would stay."""
    if options.drop_note_sections != "outcome" and (
        unknown := sorted(options.dropped_sections - set(found))
    ):
        raise ValueError(
            f"drop_note_sections names {unknown}, but no note that is used has such a heading. "
            "Check the spelling, or leave it out."
        )


def as_series(texts: Iterator[tuple[int, str | None]], n_stays: int) -> pd.Series:
    """Put texts, by rising number of the stay, into a Series without ever holding all twice."""
    blocks: list[pa.Array] = []
    ahead = next(texts, None)
    for first in range(0, n_stays, _STAYS_IN_BLOCK):
        block: list[str | None] = [None] * min(_STAYS_IN_BLOCK, n_stays - first)
        while ahead is not None and ahead[0] < first + len(block):
            block[ahead[0] - first] = ahead[1]
            ahead = next(texts, None)
        blocks.append(pa.array(block, pa.large_string()))
    whole = pa.chunked_array(blocks, pa.large_string())
    if isinstance(TEXT_DTYPE, pd.StringDtype):
        return pd.Series(TEXT_DTYPE.__from_arrow__(whole))  # type: ignore[attr-defined]  # stubs
    return whole.to_pandas()


def _compose(source, options: CohortOptions, counts) -> Iterator[tuple[int, str | None]]:
    """The notes of each stay within the budget, in order, without the sections to drop."""
    rows = source.batches("SELECT * FROM note_events ORDER BY stay", "notes")
    n_used = 0
    dropped: Counter[str] = Counter()
    # The rows come stay by stay: each text is joined once, and its notes are let go
    for stay, group in groupby(chain.from_iterable(rows), key=itemgetter(0)):
        notes = []
        for _, happened, kind, text in group:
            if options.dropped_sections:
                text, names = without_sections(text, options.dropped_sections)
                dropped.update(names)
                if not text.strip():
                    continue
            # The text is the last key, so that the order of rows in a file cannot change anything
            notes.append((-happened, kind is None, kind or "", text))
        used, room = [], options.max_note_chars or sys.maxsize
        for before, *_, text in sorted(notes):
            if room > 0:
                used.append((before, text[:room]))
                room -= len(text)
        n_used += len(used)
        if options.note_order == "oldest_first":
            used.sort(key=lambda note: -note[0])
        yield stay, BETWEEN_NOTES.join(text for _, text in used) or None
    if options.dropped_sections:
        counts["note sections dropped"] = dropped.total()
        refuse_unknown_sections(options, dropped)
    if options.max_note_chars is not None:
        counts["notes used within max_note_chars"] = n_used
