"""Entries of eICU's forms put in words.

A row of `pastHistory`, `note` or `physicalExam` is one choice in a form: the path through the
form's menus, and the choice at its end, ::

    notes/Progress Notes/Past History/Organ Systems/Cardiovascular (R)/Valve disease/AR    AR

Of such a path the menus that only lead to findings are dropped, the organ system becomes the topic,
and what stands between it and the choice is kept where the choice alone would not say it:
``Cardiovascular: Valve disease: AR``.
"""

import re
from itertools import groupby
from typing import NamedTuple

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

# Menus that hold no finding: what is chosen in them is dropped.
_CLERICAL_MENU = re.compile(
    r"view and save|view options|include .*|skip screen options.*|enter surgery information\?"
    r"|source of patient information|billing options|time-out process|system unique note types"
    r"|sterile procedures employed|type of skin prep",
    re.IGNORECASE,
)
_CLERICAL_CHOICE = re.compile(r"(not )?performed( - .*)?|scored", re.IGNORECASE)
# Menus that only lead to findings: their names are dropped.
_PASSAGE = re.compile(
    r"notes|progress notes|procedure notes|shared|admission page one|past history|physical exam"
    r"|organ systems|systems|.* obtain options|print .*|one|options|technical description"
    r"|vital sign and physiological data|hemodynamic data|weight and i&o",
    re.IGNORECASE,
)


class Phrase(NamedTuple):
    """One entry in words.

    Attributes
    ----------
    topic : str
        What entries are gathered under, mostly an organ system; may be empty.
    head : str
        What the value is about; empty where the value says so itself.
    value : str
        The value.
    """

    topic: str
    head: str
    value: str


def menu_of(path: str, choice: str) -> str:
    """The path without the choice at its end (which may contain the separator).

    Parameters
    ----------
    path, choice : str
        The entry.

    Returns
    -------
    str
        The path of the menu.

    Examples
    --------
    >>> menu_of("notes/Affect/calm/appropriate", "calm/appropriate")
    'notes/Affect'
    """
    if path == choice:
        return ""
    return path.removesuffix(f"/{choice}") if choice else path


def names_of(path: str, choice: str) -> list[str]:
    """Names of all menus that lead to an entry.

    Parameters
    ----------
    path, choice : str
        The entry.

    Returns
    -------
    list of str
        The outermost first.

    Examples
    --------
    >>> names_of("notes/Progress Notes/Past History/Organ Systems/Renal  (R)/none", "none")
    ['notes', 'Progress Notes', 'Past History', 'Organ Systems', 'Renal']
    """
    return _split(menu_of(path, choice))


def read_finding(path: str, choice: str) -> Phrase | None:
    """An entry whose choice is the finding.

    Parameters
    ----------
    path, choice : str
        The entry.

    Returns
    -------
    Phrase or None
        None for a clerical entry, which says nothing about the patient.

    Examples
    --------
    >>> read_finding("notes/Progress Notes/Physical Exam/Physical Exam/Cardiovascular/Pulses/"
    ...              "Dorsalis pedis/L/reduced", "reduced")
    Phrase(topic='Cardiovascular', head='Pulses Dorsalis pedis L', value='reduced')
    """
    menus = _split(menu_of(path, choice))
    value = _tidy(choice)
    if not value or _CLERICAL_CHOICE.fullmatch(value) or any(map(_CLERICAL_MENU.fullmatch, menus)):
        return None
    names = [name for name in menus if not _PASSAGE.fullmatch(name)]
    # Menus repeat their parent's name ("Social History/Social History").
    names = [name for name, _ in groupby(names)]
    topic, heads = (names[0], names[1:]) if names else ("", [])
    if heads and _contains(topic, heads[0]):
        # "Social History / Family History" is the page, "Social History" the topic.
        topic, heads = heads[0], heads[1:]
    return Phrase(topic, " ".join(_without_repetition(heads, value)), value)


def read_measurement(path: str, choice: str) -> Phrase | None:
    """An entry whose choice names a number that was typed in.

    Parameters
    ----------
    path, choice : str
        The entry.

    Returns
    -------
    Phrase or None
        Its value is to be followed by the number. None for a clerical entry.

    Examples
    --------
    >>> read_measurement("notes/Progress Notes/Physical Exam/Physical Exam/Constitutional/"
    ...                  "Vital Sign and Physiological Data/HR/HR Current", "HR Current")
    Phrase(topic='', head='HR', value='Current')
    """
    menus = _split(menu_of(path, choice))
    if any(map(_CLERICAL_MENU.fullmatch, menus)):
        return None
    head = menus[-1] if menus else ""
    return Phrase("", head, _tidy(choice).removeprefix(head).strip())


def _split(menu: str) -> list[str]:
    """Tidy names of the menus on a path."""
    for name in _NAMES_WITH_SLASH:
        menu = menu.replace(name, name.replace("/", _KEPT_SLASH))
    names = (_tidy(name.replace(_KEPT_SLASH, "/")) for name in _SEPARATOR.split(menu))
    return [name for name in names if name]


def _tidy(name: str) -> str:
    """Without the marks of the form: "Renal  (R)" is the right column of a page."""
    name = re.sub(r"\(R\)$", "", " ".join(name.split()))
    return name.replace("&&", "&").strip().rstrip(":")


def _without_repetition(heads: list[str], value: str) -> list[str]:
    """Heads that add something to what follows them.

    "COPD" adds nothing to "COPD - moderate", nor "Cancer" to "Cancer-Primary Site"; and a page
    named after all that is on it, "Ears/Nose/Mouth/Throat", nothing to "Ears".
    """
    kept = []
    for head, after in zip(heads, [*heads, value][1:], strict=True):
        if not _contains(after, head) and not (after is not value and _contains(head, after)):
            kept.append(head)
    return kept


def _contains(text: str, part: str) -> bool:
    """Whether every word of `part` is in `text`, plural or not."""
    return _words(part) <= _words(text)


def _words(text: str) -> set[str]:
    words = re.findall(r"[a-z0-9]+", text.lower().replace("pre-", "pre"))
    return {word.rstrip("s") for word in words}
