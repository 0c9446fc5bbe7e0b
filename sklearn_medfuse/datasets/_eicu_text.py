"""Notes of eICU: the forms filled in until the index time, as one readable text per stay."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import groupby
from operator import itemgetter

import pandas as pd

from ._cohort import EventWindow
from ._eicu_paths import Phrase, menu_of, read_finding, read_measurement

# Published column -> its role here, in each of the tables with text.
_ROLES = {
    "pastHistory": {
        "patientunitstayid": "stay",
        "pasthistoryoffset": "offset",
        "pasthistoryenteredoffset": "entered",
        "pasthistorypath": "path",
        "pasthistoryvalue": "choice",
        "pasthistoryvaluetext": "text",
    },
    "note": {
        "patientunitstayid": "stay",
        "noteoffset": "offset",
        "noteenteredoffset": "entered",
        "notepath": "path",
        "notevalue": "choice",
        "notetext": "text",
    },
    "physicalExam": {
        "patientunitstayid": "stay",
        "physicalexamoffset": "offset",
        "physicalexampath": "path",
        "physicalexamvalue": "choice",
        "physicalexamtext": "text",
    },
}
_KINDS = {"stay": "integer", "offset": "number", "entered": "number"}
TEXT_COLUMNS = {
    table: {column: _KINDS.get(role, "text") for column, role in roles.items()}
    for table, roles in _ROLES.items()
}

SECTIONS = ("Admission diagnosis", "Past history", "Notes", "Physical exam", "Measurements")
_SECTION_OF = {"pastHistory": "Past history", "note": "Notes", "physicalExam": "Physical exam"}
_PARTS = ["section", "group", "head", "value"]


def build_notes(
    tables: Mapping[str, pd.DataFrame],
    window: EventWindow,
    admission_diagnosis: pd.Series | None = None,
) -> pd.Series:
    """One text per stay, of what was entered until the index time.

    Parameters
    ----------
    tables : mapping of str to DataFrame
        pastHistory, note and physicalExam, with the columns of `TEXT_COLUMNS`.
    window : EventWindow
        Its end is the index time.
    admission_diagnosis : Series of str or None, default=None
        Admission diagnosis of each stay, put first.

    Returns
    -------
    Series of str
        Indexed by stay; a stay without text is not in it.
    """
    parts = [_phrases(tables[table], table, window) for table in _ROLES]
    if admission_diagnosis is not None:
        known = admission_diagnosis.dropna().rename("value").rename_axis(index="stay")
        parts.append(known.reset_index().assign(section=0, group="", head=""))
    phrases = pd.concat([part[["stay", *_PARTS]] for part in parts], ignore_index=True)
    # Sorted by content, so that the order of rows in a file cannot change the text.
    return _compose(phrases.drop_duplicates().sort_values(["stay", *_PARTS], kind="stable"))


def _phrases(rows: pd.DataFrame, table: str, window: EventWindow) -> pd.DataFrame:
    """The entries of one table that are known at the index time, in words."""
    rows = rows.rename(columns=_ROLES[table])
    has_entered = "entered" in rows
    rows = window.keep(rows, table, "offset", known="entered" if has_entered else None)
    rows = rows.assign(time=rows["entered" if has_entered else "offset"])
    rows[["path", "choice", "text"]] = rows[["path", "choice", "text"]].fillna("")

    # A number that is not itself the choice was typed in beside it ("HR Current" 76).
    number = pd.to_numeric(rows["text"], errors="coerce").notna() & (rows["text"] != rows["choice"])
    findings = _in_words(rows[~number], read_finding).assign(section=_section(_SECTION_OF[table]))
    measured = _in_words(rows[number], read_measurement).assign(section=_section("Measurements"))
    measured["value"] = (measured["value"] + " " + measured["text"]).str.strip()
    if table == "physicalExam":
        # Of an examination only the last state counts; a history accumulates.
        findings, measured = _latest(findings, ["menu"]), _latest(measured, ["menu", "choice"])
    window.counts[f"{table} rows dropped: clerical, or superseded by a later examination"] = (
        len(rows) - len(findings) - len(measured)
    )
    window.counts[f"{table} rows kept"] = len(findings) + len(measured)
    return pd.concat([findings, measured], ignore_index=True)


def _section(name: str) -> int:
    return SECTIONS.index(name)


def _in_words(rows: pd.DataFrame, read: Callable[[str, str], Phrase | None]) -> pd.DataFrame:
    """Rows with their menu, group, head and value; without the clerical ones."""
    # Forms are lists to pick from: each distinct entry is put in words once.
    entries = rows[["path", "choice"]].drop_duplicates()
    pairs = list(zip(entries["path"], entries["choice"], strict=True))
    worded = [
        (*pair, menu_of(*pair), *phrase) for pair in pairs if (phrase := read(*pair)) is not None
    ]
    columns = ["path", "choice", "menu", *Phrase._fields]
    entries = pd.DataFrame(worded, columns=columns, dtype=rows["path"].dtype)
    return rows.merge(entries, on=["path", "choice"], how="inner")


def _latest(rows: pd.DataFrame, what: list[str]) -> pd.DataFrame:
    """Of every menu (or item) of a stay, the rows of its last time."""
    last = rows.groupby(["stay", *what])["time"].transform("max")
    rows = rows[rows["time"] == last]
    if "choice" not in what:
        return rows
    # Two numbers entered at the same minute: any rule will do, if it is always the same.
    return rows.sort_values("value").drop_duplicates(["stay", *what], keep="last")


def _compose(phrases: pd.DataFrame) -> pd.Series:
    """Sorted phrases as text: a paragraph per section, a sentence per group."""
    rows = phrases[["stay", *_PARTS]].itertuples(index=False, name=None)
    texts = {
        stay: "\n\n".join(
            f"{SECTIONS[section]}: {'. '.join(_sentences(of_section))}."
            for section, of_section in groupby(of_stay, key=itemgetter(1))
        )
        for stay, of_stay in groupby(rows, key=itemgetter(0))
    }
    return pd.Series(texts, dtype=phrases["value"].dtype)


def _sentences(rows: Iterable[tuple]) -> Iterator[str]:
    """A sentence per group; values with the same head follow it."""
    for group, of_group in groupby(rows, key=itemgetter(2)):
        findings: list[str] = []
        for head, of_head in groupby(of_group, key=itemgetter(3)):
            values = [row[4] for row in of_head]
            findings += [f"{head}: {', '.join(values)}"] if head else values
        yield f"{group}: {'; '.join(findings)}" if group else "; ".join(findings)
