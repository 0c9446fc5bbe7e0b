"""The structure of a note: its paragraphs and the sections that headings make."""

import re
from collections.abc import Collection
from typing import NamedTuple

# A capital letter, then at most 60 characters up to a colon that ends a word
_HEADING = re.compile(r"([^\W\d_][\w /&,.'()\-]{0,60}?) ?:(?=\s|$)")
_MOST_WORDS = 6


class Section(NamedTuple):
    """A heading's paragraphs.

    Attributes
    ----------
    name : str or None
        The heading as `section_name` writes it; of the text above a note's first heading, what
        `split_sections` was told.
    paragraphs : list of str
        The first one begins with the heading.
    """

    name: str | None
    paragraphs: list[str]


def section_name(heading: str) -> str:
    """Write a heading so that two of the same name are equal.

    Examples
    --------
    >>> section_name(" DISCHARGE  Diagnosis: ")
    'discharge diagnosis'
    """
    return " ".join(heading.split()).rstrip(": ").casefold()


def read_heading(line: str) -> tuple[str, bool] | None:
    """Read the heading at the start of a line, and whether it has the line for itself.

    Examples
    --------
    >>> read_heading("DISCHARGE DIAGNOSIS:")
    ('discharge diagnosis', True)
    >>> read_heading("Allergies: penicillin")
    ('allergies', False)
    >>> read_heading("seen at 12:30") is None
    True
    """
    found = _HEADING.match(line)
    if found is None or not line[0].isupper() or found[1].count(" ") >= _MOST_WORDS:
        return None
    return section_name(found[1]), found.end() == len(line)


def split_sections(
    lines: list[str], named: Collection[str] = (), first: str | None = None
) -> tuple[list[Section], int]:
    """Put a note's lines into paragraphs, and those into sections.

    Blank lines end a paragraph, except right below a heading, which stays with its text. A
    heading begins a section where it has the line for itself, where it begins a paragraph, or
    where its name is among `named`; so "BP: 120/80" amid an examination begins none. Text above
    the first heading is named `first`. Also counts headings left out because the next line had the
    same one.
    """
    sections = [Section(first, [])]
    paragraph: list[str] = []
    open_heading = None  # Name of a heading whose text is yet to come
    n_repeated = 0

    def end_paragraph() -> None:
        if paragraph:
            sections[-1].paragraphs.append("\n".join(paragraph))
            paragraph.clear()

    for line in lines:
        if not line:
            if open_heading is None:
                end_paragraph()
            continue
        heading = read_heading(line)
        if heading is not None and (not paragraph or heading[1] or heading[0] in named):
            name, alone = heading
            if name == open_heading:
                paragraph.clear()
                n_repeated += 1
            else:
                end_paragraph()
                sections.append(Section(name, []))
            open_heading = name if alone else None
        elif heading is not None and heading[0] == open_heading:
            paragraph.clear()
            n_repeated += 1
            open_heading = None
        else:
            open_heading = None
        paragraph.append(line)
    end_paragraph()
    return [section for section in sections if section.paragraphs], n_repeated


def without_sections(text: str, names: Collection[str]) -> tuple[str, list[str]]:
    """Take the sections of some names out of a note, and give the name of each.

    Examples
    --------
    >>> note = "Alert.\\n\\nDischarge diagnosis:\\nCOPD.\\n\\nPlan: home."
    >>> without_sections(note, {"discharge diagnosis"})
    ('Alert.\\n\\nPlan: home.', ['discharge diagnosis'])
    """
    lines = [line.strip() for line in text.splitlines()]
    sections, _ = split_sections(lines, named=names)
    kept = [section for section in sections if section.name not in names]
    if len(kept) == len(sections):
        return text, []
    paragraphs = [paragraph for section in kept for paragraph in section.paragraphs]
    return "\n\n".join(paragraphs), [name for name, _ in sections if name and name in names]
