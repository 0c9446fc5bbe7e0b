"""Notes of the stays as one text per stay."""

from collections.abc import Iterator
from itertools import chain, groupby
from operator import itemgetter

import pandas as pd
import pyarrow as pa

from ..._note_sections import without_sections
from .._options import CohortOptions
from .._tables.columns import TEXT_DTYPE, literal
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
        with source.progress_bar(notes.table):
            _collect(source, notes, options, counts)
    composed = _compose_without_sections if options.dropped_sections else _compose
    texts = as_series(composed(source, options, counts), n_stays)
    source.execute("DROP TABLE note_events", "notes")
    return texts


def _collect(source: Source, notes: EventTable, options: CohortOptions, counts) -> None:
    """Put the usable notes of one table into `note_events`."""
    typed = "type" in notes.columns
    reasons = {"without a text": Condition("nullif(trim(e.text), '') IS NULL")}
    if options.note_types is not None:
        kind = "e.type" if typed else literal(notes.table)
        names = ", ".join(literal(name.strip().lower()) for name in options.note_types) or "NULL"
        # In other collations the lower case of I need not be i.
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


def _compose(source, options, counts) -> Iterator[tuple[int, str | None]]:
    """The notes of each stay within the budget, in order, joined."""
    # The text itself is the last key, so that the order of rows in a file cannot change anything.
    newest_first = "happened DESC, type, text"
    before = "0"
    if options.max_note_chars is not None:
        before = (
            f"sum(len(text)) OVER (PARTITION BY stay ORDER BY {newest_first} "
            "ROWS UNBOUNDED PRECEDING) - len(text)"
        )
    budget = options.max_note_chars
    text = "text" if budget is None else f"left(text, ({budget} - before)::BIGINT)"
    within = "" if budget is None else f"WHERE before < {budget}"
    order = newest_first if options.note_order == "newest_first" else "happened, type, text"
    rows = source.batches(
        f"SELECT stay, {text} FROM (SELECT *, {before} AS before FROM note_events) {within} "
        f"ORDER BY stay, {order}",
        "notes",
    )
    n_used = 0
    # The rows come stay by stay: each text is joined once, and its notes are let go.
    for stay, group in groupby(chain.from_iterable(rows), key=itemgetter(0)):
        of_stay = [note for _, note in group]
        n_used += len(of_stay)
        yield stay, BETWEEN_NOTES.join(of_stay)
    if budget is not None:
        counts["notes used within max_note_chars"] = n_used


def _compose_without_sections(source, options, counts) -> Iterator[tuple[int, str | None]]:
    """As `_compose`, but the budget counts what dropped sections leave of each note."""
    rows = source.batches(
        "SELECT stay, happened, type, text FROM note_events ORDER BY stay, happened, type, text",
        "notes",
    )
    n_used = n_dropped = 0
    for stay, group in groupby(chain.from_iterable(rows), key=itemgetter(0)):
        of_stay = []
        for _, happened, kind, note in group:
            left, n = without_sections(note, options.dropped_sections)
            n_dropped += n
            if left.strip():
                of_stay.append((-happened, kind, left))
        newest_first = _within(sorted(of_stay), options.max_note_chars)
        n_used += len(newest_first)
        if options.note_order == "oldest_first":
            newest_first.sort(key=lambda note: (-note[0], *note[1:]))
        yield stay, BETWEEN_NOTES.join(text for *_, text in newest_first) or None
    counts["note sections dropped"] = n_dropped
    if options.max_note_chars is not None:
        counts["notes used within max_note_chars"] = n_used


def _within(notes: list[tuple], budget: int | None) -> list[tuple]:
    """The first of the notes, the one with which the budget is exceeded cut at its end."""
    if budget is None:
        return notes
    kept = []
    for happened, kind, text in notes:
        if budget <= 0:
            break
        kept.append((happened, kind, text[:budget]))
        budget -= len(text)
    return kept
