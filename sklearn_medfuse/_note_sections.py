"""The structure of a note: its paragraphs and the sections that headings make."""

import re
from collections.abc import Collection
from typing import NamedTuple

# A capital letter, then at most 60 characters up to a colon that ends a word
_HEADING = re.compile(r"([^\W\d_][\w /&,.'()\-]{0,60}?) ?:(?=\s|$)")
_MOST_WORDS = 6


class Section(NamedTuple):
    """A heading and its paragraphs."""

    name: str | None  # As `section_name` writes it
    paragraphs: list[str]  # The first one begins with the heading


def section_name(heading: str) -> str:
    """Normalise a heading: " DISCHARGE  Diagnosis: " is "discharge diagnosis"."""
    return " ".join(heading.split()).rstrip(": ").casefold()


def read_heading(line: str) -> tuple[str, bool] | None:
    """Read the heading at the start of a line, and whether it stands alone on the line."""
    found = _HEADING.match(line)
    if found is None or not line[0].isupper() or found[1].count(" ") >= _MOST_WORDS:
        return None
    return section_name(found[1]), found.end() == len(line)


def split_sections(
    lines: list[str], named: Collection[str] = (), first: str | None = None
) -> tuple[list[Section], int]:
    """Divide a note's lines into paragraphs, and these into sections.

    A blank line ends a paragraph, except right below a heading, which stays with its text. A
    heading begins a section if it stands alone on its line, begins a paragraph, or has one of the
    names `named`; so "BP: 120/80" amid an examination begins none. Text above the first heading is
    named `first`. The number returned counts headings dropped because the next line repeats them.
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
    """Remove the sections with some names from a note; return it and the name of each."""
    lines = [line.strip() for line in text.splitlines()]
    sections, _ = split_sections(lines, named=names)
    kept = [section for section in sections if section.name not in names]
    if len(kept) == len(sections):
        return text, []
    paragraphs = [paragraph for section in kept for paragraph in section.paragraphs]
    return "\n\n".join(paragraphs), [name for name, _ in sections if name and name in names]
