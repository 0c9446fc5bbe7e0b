"""Notes of eICU: the forms filled in until the index time, as one readable text per stay."""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import chain, groupby
from operator import itemgetter

import pandas as pd

from .._note_sections import section_name
from ._eicu_paths import menu_of, names_of, read_finding, read_measurement
from ._layout import EventTable
from ._notes import as_series
from ._options import CohortOptions
from ._sources import Source
from ._steps import Steps
from ._window import Condition, classified, count_rows

HISTORY = EventTable(
    "pastHistory",
    {
        "stay": ("patientunitstayid", "id"),
        "time": ("pasthistoryoffset", "minutes"),
        "known": ("pasthistoryenteredoffset", "minutes"),
        "path": ("pasthistorypath", "text"),
        "choice": ("pasthistoryvalue", "text"),
        "text": ("pasthistoryvaluetext", "text"),
    },
)
NOTES = EventTable(
    "note",
    {
        "stay": ("patientunitstayid", "id"),
        "time": ("noteoffset", "minutes"),
        "known": ("noteenteredoffset", "minutes"),
        "path": ("notepath", "text"),
        "choice": ("notevalue", "text"),
        "text": ("notetext", "text"),
    },
)
EXAMINATIONS = EventTable(
    "physicalExam",
    {
        "stay": ("patientunitstayid", "id"),
        "time": ("physicalexamoffset", "minutes"),
        "path": ("physicalexampath", "text"),
        "choice": ("physicalexamvalue", "text"),
        "text": ("physicalexamtext", "text"),
    },
)
FORMS = (HISTORY, NOTES, EXAMINATIONS)

SECTIONS = ("Admission diagnosis", "Past history", "Notes", "Physical exam", "Measurements")
_SECTION_OF = {"pastHistory": "Past history", "note": "Notes", "physicalExam": "Physical exam"}
_WORDS = ["path", "choice", "typed", "menu", "section", "topic", "head", "value", "unwanted"]
# A number that is not itself the choice was typed in beside it ("HR Current" 76).
_TYPED = "coalesce(isfinite(TRY_CAST(text AS DOUBLE)) AND text IS DISTINCT FROM choice, false)"
# Of an examination only the last state counts: of a menu the choices made last, of an item the
# number. Of two numbers entered at one minute any will do, if it is always the same.
_LATEST = (
    "QUALIFY CASE WHEN typed THEN row_number() OVER (PARTITION BY stay, menu, choice, typed "
    "ORDER BY happened DESC, value DESC) = 1 "
    "ELSE happened = max(happened) OVER (PARTITION BY stay, menu, typed) END"
)

# Section, topic, head, value, and when it happened.
Entry = tuple[int, str, str, str, int]


def build_form_notes(
    source: Source,
    options: CohortOptions,
    steps: Steps,
    n_stays: int,
    counts: dict[str, int],
    *,
    admission_diagnosis: bool,
) -> pd.Series:
    """One text per registered stay, of what was entered until the index time.

    Parameters
    ----------
    source : Source
        With the registered stays.
    options : CohortOptions
        Says which entries are used, and in which order.
    steps : Steps
        Runs the reading of each table.
    n_stays : int
        Number of registered stays.
    counts : dict
        Gets the numbers of rows.
    admission_diagnosis : bool
        Whether the admission diagnosis is put first.

    Returns
    -------
    Series of str of shape (n_stays,)
        NaN where there is no text.
    """
    source.execute(
        "CREATE OR REPLACE TEMP TABLE entries (stay BIGINT, section BIGINT, topic VARCHAR, "
        "head VARCHAR, value VARCHAR, happened BIGINT)",
        "notes",
    )
    for form in FORMS:
        steps.run(
            "notes",
            form.table,
            "used_entries",
            partial(_collect, source, form, options),
            counts,
            form,
        )
        source.execute(
            "INSERT INTO entries SELECT stay, section, topic, head, value, happened "
            "FROM used_entries",
            form.table,
        )
        source.execute("DROP TABLE used_entries", form.table)
    if admission_diagnosis and section_name(SECTIONS[0]) not in options.dropped_sections:
        _add_admission_diagnoses(source)
    texts = as_series(_compose_all(source, options, counts), n_stays)
    source.execute("DROP TABLE entries", "notes")
    return texts


def _add_admission_diagnoses(source: Source) -> None:
    patients = source.select(
        "patient", {"stay": ("patientunitstayid", "id"), "value": ("apacheadmissiondx", "text")}
    )
    source.execute(
        f"INSERT INTO entries SELECT s.stay, 0, '', '', e.value, 0 FROM {patients} e "
        "JOIN stays s ON e.stay = s.key WHERE e.value IS NOT NULL",
        "patient",
    )


def _collect(source: Source, form: EventTable, options: CohortOptions, counts) -> None:
    """The usable entries of one table, in words, in the table `used_entries`."""
    wanted = options.note_types
    reasons = {}
    if wanted is not None and form.table.lower() not in {name.strip().lower() for name in wanted}:
        reasons["of other types"] = Condition("true", "true")
    rows = classified(source, form, options, reasons)
    source.execute(
        "CREATE OR REPLACE TEMP TABLE read_entries AS SELECT *, "
        f"{_TYPED} AS typed FROM (SELECT reason, unstored, stay_number AS stay, "
        "since_start AS happened, coalesce(path, '') AS path, coalesce(choice, '') AS choice, "
        f"coalesce(text, '') AS text FROM {rows.sql})",
        form.table,
    )
    totals = source.query(
        "SELECT reason, count(*) AS n, count(*) FILTER (WHERE unstored) AS n_unstored "
        "FROM read_entries GROUP BY reason",
        form.table,
    ).set_index("reason")
    count_rows(counts, form.table, rows, totals["n"].astype(int).to_dict())
    if n := int(totals["n_unstored"].get(0, 0)):
        counts[f"{form.table} rows kept: without a stored time, judged by the other"] = n
    _put_in_words(source, form, options)
    _use_latest(source, form, counts)
    source.execute("DROP TABLE read_entries", form.table)


def _put_in_words(source: Source, form: EventTable, options: CohortOptions) -> None:
    """The table `words`: what each entry of a form says, of those that say something."""
    # Forms are lists to pick from: each distinct entry is put in words once.
    picked = source.query(
        "SELECT DISTINCT path, choice, typed FROM read_entries WHERE reason = 0", form.table
    )
    # All paths begin with the menu "notes", which names no part of them.
    dropped, words = options.dropped_sections, []
    for path, choice, typed in picked.itertuples(index=False, name=None):
        phrase = read_measurement(path, choice) if typed else read_finding(path, choice)
        if phrase is None:
            continue
        section = "Measurements" if typed else _SECTION_OF[form.table]
        titles = {section, *names_of(path, choice)[1:]}
        unwanted = any(section_name(title) in dropped for title in titles)
        place = SECTIONS.index(section)
        words.append((path, choice, typed, menu_of(path, choice), place, *phrase, unwanted))
    # of texts in every version of pandas, without rows too
    kinds = dict.fromkeys(_WORDS, "string") | {"typed": bool, "section": int, "unwanted": bool}
    source.register("words", pd.DataFrame(words, columns=_WORDS).astype(kinds))


def _use_latest(source: Source, form: EventTable, counts) -> None:
    """The table `used_entries`: each thing said of a stay once, with when it was said last."""
    said = "CASE WHEN typed THEN trim(w.value || ' ' || e.text) ELSE w.value END"
    latest = _LATEST if form is EXAMINATIONS else ""
    source.execute(
        f"CREATE OR REPLACE TEMP TABLE said AS SELECT e.stay, e.happened, typed, choice, w.menu, "
        f"w.section, w.topic, w.head, {said} AS value, w.unwanted "
        "FROM read_entries e JOIN words w USING (path, choice, typed) WHERE e.reason = 0",
        form.table,
    )
    source.execute(
        "CREATE OR REPLACE TEMP TABLE used_entries AS "
        "SELECT stay, section, topic, head, value, max(happened) AS happened, count(*) AS n "
        f"FROM (SELECT * FROM said WHERE NOT unwanted {latest}) GROUP BY ALL",
        form.table,
    )
    sums = source.query(
        "SELECT (SELECT coalesce(sum(n), 0) FROM used_entries) AS used, "
        "(SELECT count(*) FROM said WHERE unwanted) AS unwanted",
        form.table,
    ).iloc[0]
    known = counts[f"{form.table} rows kept"]
    used, unwanted = int(sums["used"]), int(sums["unwanted"])
    if unwanted:
        counts[f"{form.table} rows dropped: in sections to drop"] = unwanted
    counts[f"{form.table} rows dropped: clerical, or superseded by a later examination"] = (
        known - used - unwanted
    )
    counts[f"{form.table} rows kept"] = used
    source.execute("DROP TABLE said", form.table)


def _compose_all(
    source: Source, options: CohortOptions, counts
) -> Iterator[tuple[int, str | None]]:
    """The text of each stay, by its number."""
    # Sorted by content, so that the order of rows in a file cannot change the text.
    rows = source.batches(
        "SELECT stay, section, topic, head, value, max(happened) FROM entries GROUP BY ALL "
        "ORDER BY stay, section, topic, head, value",
        "notes",
    )
    n_used = 0
    for stay, of_stay in groupby(chain.from_iterable(rows), key=itemgetter(0)):
        entries: list[Entry] = [row[1:] for row in of_stay]
        if options.max_note_chars is not None:
            entries = within_budget(entries, options.max_note_chars)
        if options.note_order == "newest_first":
            entries = newest_first(entries)
        n_used += len(entries)
        yield stay, compose(entries) or None
    if options.max_note_chars is not None:
        counts["entries of notes used within max_note_chars"] = n_used


def within_budget(entries: Sequence[Entry], budget: int) -> list[Entry]:
    """The newest entries whose text, as :func:`compose` writes it, is no longer than a budget.

    Parameters
    ----------
    entries : sequence of tuple
        Section, topic, head, value, and when it happened.
    budget : int
        Characters.

    Returns
    -------
    list of tuple
        In the order of their content.
    """
    used, length = [], 0
    begun: set[tuple] = set()
    for entry in sorted(entries, key=lambda entry: (-entry[4], entry[:4])):
        section, topic, head, value, _ = entry
        # Every part but the first of its kind stands after two characters: a colon and a blank, a
        # mark and a blank, or an empty line.
        more = len(value) + 2 * bool(begun)
        if (section,) not in begun:
            more += len(SECTIONS[section]) + len(": ") + len(".")
        if topic and (section, topic) not in begun:
            more += len(topic) + len(": ")
        if head and (section, topic, head) not in begun:
            more += len(head) + len(": ")
        if length + more > budget:
            break
        begun |= {(section,), (section, topic), (section, topic, head)}
        used.append(entry)
        length += more
    return sorted(used)


def newest_first(entries: Sequence[Entry]) -> list[Entry]:
    """Sections, topics, heads and values, each by the time of the newest entry in it.

    Parameters
    ----------
    entries : sequence of tuple
        Section, topic, head, value, and when it happened.

    Returns
    -------
    list of tuple
        The newest first; of one time in the order of their content.
    """
    newest: dict[tuple, int] = {}
    for entry in entries:
        for depth in (1, 2, 3):
            newest[entry[:depth]] = max(newest.get(entry[:depth], entry[4]), entry[4])
    return sorted(
        entries,
        key=lambda entry: (
            *((-newest[entry[:depth]], entry[depth - 1]) for depth in (1, 2, 3)),
            (-entry[4], entry[3]),
        ),
    )


def compose(entries: Iterable[Entry]) -> str:
    """A paragraph per section, a sentence per topic.

    Parameters
    ----------
    entries : iterable of tuple
        Section, topic, head, value, and when it happened; those of a section, a topic and a head
        stand together.

    Returns
    -------
    str
        The text.

    Examples
    --------
    >>> compose([(1, "Cardiovascular", "", "angina", 0), (1, "Cardiovascular", "Valves", "AR", 0)])
    'Past history: Cardiovascular: angina; Valves: AR.'
    """
    return "\n\n".join(
        f"{SECTIONS[section]}: {'. '.join(_sentences(of_section))}."
        for section, of_section in groupby(entries, key=itemgetter(0))
    )


def _sentences(entries: Iterable[Entry]) -> Iterator[str]:
    """A sentence per topic; values with the same head follow it."""
    for topic, of_topic in groupby(entries, key=itemgetter(1)):
        findings: list[str] = []
        for head, of_head in groupby(of_topic, key=itemgetter(2)):
            values = [entry[3] for entry in of_head]
            findings += [f"{head}: {', '.join(values)}"] if head else values
        yield f"{topic}: {'; '.join(findings)}" if topic else "; ".join(findings)
