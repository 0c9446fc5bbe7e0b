"""Where the sentences, words and sections of a note begin and end."""

import re

UNITS = ("sentence", "word", "section")
# a stop ends a sentence where a blank and no small letter follow; so does a line's end
_SENTENCE = re.compile(r"(?<=[.!?;])\s+(?=[^a-z\s])|\s*\n\s*")
_SECTION = re.compile(r"\s*\n\s*\n\s*")
_BLANKS = re.compile(r"\s+")
_CUTS = {"sentence": _SENTENCE, "word": _BLANKS, "section": _SECTION}

Span = tuple[int, int]


def has_note(note) -> bool:
    """Whether a cell holds a note that is not blank.

    Examples
    --------
    >>> has_note("Known COPD."), has_note("  "), has_note(float("nan"))
    (True, False, False)
    """
    return isinstance(note, str) and bool(note.strip())


def split_units(text: str, unit: str) -> list[Span]:
    """Cut a note into units.

    Parameters
    ----------
    text : str
        The note.
    unit : {"sentence", "word", "section"}
        What a unit is; a section ends with a blank line.

    Returns
    -------
    list of (start, stop)
        Positions of characters; what lies between is blank.

    Examples
    --------
    >>> text = "Known COPD. No fever, temp. of 37.2 C.\\nOn oxygen"
    >>> [text[start:stop] for start, stop in split_units(text, "sentence")]
    ['Known COPD.', 'No fever, temp. of 37.2 C.', 'On oxygen']
    """
    spans = []
    start = 0
    for cut in _CUTS[unit].finditer(text):
        spans.append((start, cut.start()))
        start = cut.end()
    spans.append((start, len(text)))
    return [(a, b) for a, b in spans if text[a:b].strip()]


def without_units(text: str, spans: list[Span], removed) -> str:
    """Take units out of a note; the blanks around them stay.

    Examples
    --------
    >>> without_units("Known COPD. No fever.", [(0, 11), (12, 21)], [0])
    ' No fever.'
    """
    parts, start = [], 0
    for unit in sorted(removed):
        parts.append(text[start : spans[unit][0]])
        start = spans[unit][1]
    return "".join([*parts, text[start:]])
