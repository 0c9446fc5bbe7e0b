"""Notes of eICU: the forms filled in until the index time, as one readable text per stay.

A row of `pastHistory`, `note` or `physicalExam` is one choice in a form: the path through the
form's menus, and the choice at its end, ::

    notes/Progress Notes/Past History/Organ Systems/Cardiovascular (R)/Valve disease/AR    AR

Of such a path the menus that only lead to findings are dropped, the organ system becomes the topic,
and what stands between it and the choice is kept where the choice alone would not say it:
``Cardiovascular: Valve disease: AR``.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, groupby
from operator import itemgetter

import pandas as pd

from ..._note_sections import section_name
from .._build.events import Condition, EventTable, classify, count_rows
from .._build.notes import as_series, refuse_unknown_sections, refuse_unknown_types
from .._options import CohortOptions
from .._tables.source import Columns, Source


def _form(table: str, *, entered: bool, text: str = "text") -> EventTable:
    """A table of choices, whose columns begin with its own name."""
    name = table.lower()
    known: Columns = {"known": (f"{name}enteredoffset", "minutes")} if entered else {}
    return EventTable(
        table,
        {
            "stay": ("patientunitstayid", "id"),
            "time": (f"{name}offset", "minutes"),
            **known,
            "path": (f"{name}path", "text"),
            "choice": (f"{name}value", "text"),
            "text": (f"{name}{text}", "text"),
        },
    )


HISTORY = _form("pastHistory", entered=True, text="valuetext")
NOTES = _form("note", entered=True)
EXAMINATIONS = _form("physicalExam", entered=False)
FORMS = (HISTORY, NOTES, EXAMINATIONS)

SECTIONS = ("Admission diagnosis", "Past history", "Notes", "Physical exam", "Measurements")
_SECTION_OF = {"pastHistory": "Past history", "note": "Notes", "physicalExam": "Physical exam"}
_WORDS = ["path", "choice", "typed", "menu", "section", "topic", "head", "value", "unwanted"]
# A number that is not itself the choice was typed in beside it ("HR Current" 76)
_TYPED = "coalesce(isfinite(TRY_CAST(text AS DOUBLE)) AND text IS DISTINCT FROM choice, false)"
# Only the last state of an examination counts: the last choices in a menu, the last number of an
# item. Of two numbers entered in the same minute, the choice is arbitrary but always the same.
_LATEST = (
    "QUALIFY CASE WHEN typed THEN row_number() OVER (PARTITION BY stay, menu, choice, typed "
    "ORDER BY happened DESC, value DESC) = 1 "
    "ELSE happened = max(happened) OVER (PARTITION BY stay, menu, typed) END"
)

# Topic: what entries are gathered under, mostly an organ system; may be empty. Head: what the value
# is about; empty if the value is clear without it. Value.
Phrase = tuple[str, str, str]
# Section, topic, head, value, and when it happened
Entry = tuple[int, str, str, str, int]


def build_form_notes(
    source: Source, options: CohortOptions, n_stays: int, counts, *, admission_diagnosis: bool
) -> pd.Series:
    """One text per registered stay, of what was entered until the index time; NaN without one."""
    source.execute(
        "CREATE OR REPLACE TEMP TABLE entries (form VARCHAR, stay BIGINT, section BIGINT, "
        "topic VARCHAR, head VARCHAR, value VARCHAR, happened BIGINT, n BIGINT)",
        "notes",
    )
    refuse_unknown_types(options.note_types or (), [form.table for form in FORMS])
    titles = {section_name(SECTIONS[0])} if admission_diagnosis else set()
    for form in FORMS:
        titles |= _collect(source, form, options, counts)
    refuse_unknown_sections(options, titles)
    if admission_diagnosis and section_name(SECTIONS[0]) not in options.dropped_sections:
        patients = source.select(
            "patient", {"stay": ("patientunitstayid", "id"), "value": ("apacheadmissiondx", "text")}
        )
        source.execute(
            "INSERT INTO entries SELECT 'patient', s.stay, 0, '', '', e.value, 0, 1 "
            f"FROM {patients} e JOIN stays s ON e.stay = s.key WHERE e.value IS NOT NULL",
            "patient",
        )
    texts = as_series(_compose_all(source, options, counts), n_stays)
    source.execute("DROP TABLE entries", "notes")
    return texts


def _collect(source: Source, form: EventTable, options: CohortOptions, counts) -> set[str]:
    """Put the usable entries of a table, in words, into `entries`; give the names of its parts."""
    wanted = options.note_types
    reasons = {}
    if wanted is not None and form.table.lower() not in {name.strip().lower() for name in wanted}:
        reasons["of other types"] = Condition("true", portable=True)
    events = classify(source, form, options, reasons)
    used = {"stay": "stay_number", "happened": "since_start"}
    used |= {name: f"coalesce({name}, '')" for name in ("path", "choice", "text")}
    source.execute(
        f"CREATE OR REPLACE TEMP TABLE read_entries AS SELECT *, {_TYPED} AS typed "
        f"FROM {events.used(used)}",
        form.table,
    )
    count_rows(source, events, "read_entries", counts)
    titles = _put_in_words(source, form, options)
    _use_latest(source, form, counts)
    source.execute("DROP TABLE read_entries", form.table)
    return titles


def _put_in_words(source: Source, form: EventTable, options: CohortOptions) -> set[str]:
    """The table `words`, each entry of a form that has a meaning; gives the names of the parts."""
    # Forms are lists to pick from: each distinct entry is put in words once
    picked = source.query(
        "SELECT DISTINCT path, choice, typed FROM read_entries WHERE reason = 0", form.table
    )
    # All paths begin with the menu "notes", which names no part of them
    dropped, words = options.dropped_sections, []
    seen: set[str] = set()
    for path, choice, typed in picked.itertuples(index=False, name=None):
        phrase = read_measurement(path, choice) if typed else read_finding(path, choice)
        if phrase is None:
            continue
        section = "Measurements" if typed else _SECTION_OF[form.table]
        titles = set(map(section_name, (section, *names_of(path, choice)[1:])))
        seen |= titles
        unwanted = not titles.isdisjoint(dropped)
        place = SECTIONS.index(section)
        words.append((path, choice, typed, menu_of(path, choice), place, *phrase, unwanted))
    # Of texts in every version of pandas, without rows too
    kinds = dict.fromkeys(_WORDS, "string") | {"typed": bool, "section": int, "unwanted": bool}
    source.register("words", pd.DataFrame(words, columns=_WORDS).astype(kinds))
    return seen


def _use_latest(source: Source, form: EventTable, counts) -> None:
    """Put each statement about a stay into `entries` once, with its latest time."""
    said = "CASE WHEN typed THEN trim(w.value || ' ' || e.text) ELSE w.value END"
    latest = _LATEST if form is EXAMINATIONS else ""
    source.execute(
        "CREATE OR REPLACE TEMP TABLE said AS SELECT e.stay, e.happened, typed, choice, w.menu, "
        f"w.section, w.topic, w.head, {said} AS value, w.unwanted "
        "FROM read_entries e JOIN words w USING (path, choice, typed) WHERE e.reason = 0",
        form.table,
    )
    source.execute(
        f"INSERT INTO entries SELECT '{form.table}', stay, section, topic, head, value, "
        "max(happened), count(*) FROM "
        f"(SELECT * FROM said WHERE NOT unwanted {latest}) GROUP BY ALL",
        form.table,
    )
    sums = source.query(
        f"SELECT (SELECT coalesce(sum(n), 0) FROM entries WHERE form = '{form.table}') AS used, "
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


def _compose_all(source, options: CohortOptions, counts) -> Iterator[tuple[int, str | None]]:
    """The text of each stay, by its number."""
    # Sorted by content, so that the order of rows in a file cannot change the text
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
    """The newest entries whose text is within a budget of characters, sorted by their content."""
    used, length = [], 0
    begun: set[tuple] = set()
    for entry in sorted(entries, key=lambda entry: (-entry[4], entry[:4])):
        section, topic, head, value, _ = entry
        # Every part but the first of its kind stands after two characters: a colon and a blank, a
        # mark and a blank, or an empty line
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
    """Sections, topics, heads and values, each by the time of its newest entry, then by content."""
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
    """A paragraph per section, a sentence per topic; the entries of each stand together."""
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


# Entries in words

# Names of single menus that contain the separator. One between spaces separates nothing either.
_NAMES_WITH_SLASH = (
    "Hematology/Oncology",
    "Ears/Nose/Mouth/Throat",
    "Mouth/Pharynx",
    "Drains/Tubes/Fistulas",
    "FEV1/FVC",
    "s/p ",
)
_SEPARATOR = re.compile(r"(?<! )/(?! )")
_KEPT_SLASH = "\x00"

# Menus that hold no finding: what is chosen in them is dropped
_CLERICAL_MENU = re.compile(
    r"view and save|view options|include .*|skip screen options.*|enter surgery information\?"
    r"|source of patient information|billing options|time-out process|system unique note types"
    r"|sterile procedures employed|type of skin prep",
    re.IGNORECASE,
)
# "Sepsis - evaluation and management" is billed and names the diagnosis, which is to be predicted
_CLERICAL_CHOICE = re.compile(
    r"(not )?performed( - .*)?|scored|.* - evaluation (and|&+) management", re.IGNORECASE
)
# Menus that only lead to findings: their names are dropped
_PASSAGE = re.compile(
    r"notes|progress notes|procedure notes|shared|admission page one|past history|physical exam"
    r"|organ systems|systems|.* obtain options|print .*|one|options|technical description"
    r"|vital sign and physiological data|hemodynamic data|weight and i&o",
    re.IGNORECASE,
)


def menu_of(path: str, choice: str) -> str:
    """The path without the choice at its end (which may contain the separator)."""
    if path == choice:
        return ""
    return path.removesuffix(f"/{choice}") if choice else path


def names_of(path: str, choice: str) -> list[str]:
    """Names of all menus that lead to an entry."""
    menu = menu_of(path, choice)
    for name in _NAMES_WITH_SLASH:
        menu = menu.replace(name, name.replace("/", _KEPT_SLASH))
    names = (_tidy(name.replace(_KEPT_SLASH, "/")) for name in _SEPARATOR.split(menu))
    return [name for name in names if name]


def read_finding(path: str, choice: str) -> Phrase | None:
    """An entry whose choice is the finding; None for a clerical one."""
    menus = names_of(path, choice)
    value = _tidy(choice)
    if not value or _CLERICAL_CHOICE.fullmatch(value) or any(map(_CLERICAL_MENU.fullmatch, menus)):
        return None
    names = [name for name in menus if not _PASSAGE.fullmatch(name)]
    # Menus repeat their parent's name ("Social History/Social History")
    names = [name for name, _ in groupby(names)]
    topic, heads = (names[0], names[1:]) if names else ("", [])
    if heads and _contains(topic, heads[0]):
        # "Social History / Family History" is the page, "Social History" the topic
        topic, heads = heads[0], heads[1:]
    return topic, " ".join(_without_repetition(heads, value)), value


def read_measurement(path: str, choice: str) -> Phrase | None:
    """An entry whose choice names a number that was typed in; None for a clerical one."""
    menus = names_of(path, choice)
    if any(map(_CLERICAL_MENU.fullmatch, menus)):
        return None
    head = menus[-1] if menus else ""
    return "", head, _tidy(choice).removeprefix(head).strip()


def _tidy(name: str) -> str:
    """Without the marks of the form: "Renal  (R)" is the right column of a page."""
    name = re.sub(r"\(R\)$", "", " ".join(name.split()))
    return name.replace("&&", "&").strip().rstrip(":")


def _without_repetition(heads: list[str], value: str) -> list[str]:
    """Heads that add to what follows, unlike "COPD" before "COPD - moderate"."""
    return [
        head
        for head, after in zip(heads, [*heads, value][1:], strict=True)
        # A page named after all that is on it, "Ears/Nose/Mouth/Throat", adds nothing to "Ears"
        if not _contains(after, head) and not (after is not value and _contains(head, after))
    ]


def _contains(text: str, part: str) -> bool:
    """Whether every word of `part` is in `text`, plural or not."""
    words, parts = (
        {word.rstrip("s") for word in re.findall(r"[a-z0-9]+", one.lower().replace("pre-", "pre"))}
        for one in (text, part)
    )
    return parts <= words
