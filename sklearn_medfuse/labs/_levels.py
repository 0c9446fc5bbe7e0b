"""Results in words ("NEG", "1:40", "weakly reactive"): which mean the same, and their order."""

import re

from .._written_results import read_result

# Results from low to high; the words of one line are one level. Blanks and hyphens between letters
# are ignored.
_GRADES = [
    line.split(", ")
    for line in """\
low, lo, l, decreased, reduced, below normal, dec, decr
negative, neg, none, nil, no, false, absent, nonreactive, nonimmune, not detected, undetected, \
undetectable, not reactive, not seen, not present, not observed, not found, not immune, no growth
normal, within normal limits, wnl, nl, norm, n, unremarkable, adequate, desirable
susceptible, sensitive, s
borderline, equivocal, indeterminate, inconclusive, gray zone, grey zone
intermediate, i
trace, tr, traces, minimal, faint, +/-, +-, ±
abnormal, abn, a
weak, (+)
positive, pos, detected, present, seen, reactive, yes, true, immune
resistant, r
rare
occasional, occ
few, scant, scanty, sparse
several
1+, +1, +, small, sm, slight, mild, light
2+, +2, ++, moderate, mod, medium
3+, +3, +++, large, lg, many, marked, heavy, numerous, frequent, gross, severe
4+, +4, ++++
5+, +5, +++++
loaded, packed, innumerable, too numerous to count, tntc
high, hi, h, increased, elevated, above normal, inc, incr
clear
hazy
cloudy, cldy
turbid
colorless, colourless
straw
yellow, yel
amber
brown""".splitlines()
]
# Numbers come among the words, "NEG" < "TRACE" < "30" < "300" < "LARGE", but 0 comes first
_NUMBERS_BEFORE = "moderate"
# Words that put a level below or above the one that follows them: "weakly positive", "very low",
# "light yellow"
_DEGREES = {
    -0.75: "borderline",
    -0.6: "presumptive probable possible suspected",
    -0.5: "weak weakly low faint faintly slight slightly sl slt mild mildly light pale trace "
    "minimally",
    -0.25: "moderate moderately mod",
    0.5: "strong strongly high highly very dark marked markedly heavy heavily gross grossly severe "
    "severely extremely critical critically panic",
}


def _joined(word: str) -> str:
    return re.sub(r"(?<=[a-z])[\s.\-_]+(?=[a-z])|(?<=\+)\s+|\s+(?=\+)", "", word)


_GRADE_OF = {_joined(word): grade for grade, words in enumerate(_GRADES) for word in words}
_NAME_OF = {_joined(word): words[0] for words in _GRADES for word in words}
_DEGREE_OF = {
    word: (shift, words.split()[0]) for shift, words in _DEGREES.items() for word in words.split()
}
_ABBREVIATED = {"ll": "very low", "hh": "very high", "slhazy": "sl hazy", "slcldy": "sl cloudy"}
_DEGREE = re.compile(rf"({'|'.join(sorted(_DEGREE_OF, key=len, reverse=True))})\.?[\s\-_]+(.+)")
# What may follow a level without changing it: what was looked for, a unit, a flag, and the number
# that a dipstick gives beside the grade, as in "1+ (30 mg/dL)"
_BEHIND = re.compile(
    r"(.+?)(?:\s+(?:seen|observed|found|noted|present|detected|growth|amounts?|numbers?)|"
    r"\s+[a-z.0-9]*/[a-z.0-9]+|\s*[(\[](?:a|h|l|abn|[<>=~]*\s*[0-9.]+[^:)\]]*)[)\]]|\s*[.*!]+)"
)
_OF_NUMBER = re.compile(
    r"([<≤]|\b(?:less|below|under|up to)\b|[>≥]|\b(?:greater|more|above|over)\b)?"
    r"[^0-9<>≤≥]*?([0-9]+(?:\.[0-9]+)?)"
)
_TITER = re.compile(r"\b1\s*[:/]\s*(?=[0-9])")


def parse_number(text: str) -> float | None:
    """Read a number, or the limit of a censored result.

    None if the text is neither, if a unit follows, or if it may mean two things, like "1,200":
    nothing here says how the rest of the column is written.
    """
    result = read_result(text)
    return None if result is None or result.unit or result.decimal == "comma?" else result.value


def is_grade(key: str) -> bool:
    """Whether a key is that of a known level, which says nothing about a patient."""
    return _grade(key) is not None


def level_key(text: str) -> str:
    """Give all spellings of one level the same key: "NEG" and " none seen " are "negative"."""
    word = " ".join(text.casefold().split())
    if known := _grade(word):
        return known[1]
    number = parse_number(word)
    return word if number is None else repr(number)


def level_order(key: str) -> tuple[float, float, float, float, str]:
    """Sort known levels by their grade, numbers and titers by size, other words at the end."""
    if known := _grade(key):
        return known[0], 0.0, 0.0, 0.0, key
    number = parse_number(key)
    if number is not None and not key.startswith(("<", ">")):
        return (_NUMBERS if number > 0 else -1), number, 0.0, number, key
    plain = _TITER.sub("", re.sub(r"(?<=[0-9]),(?=[0-9]{3})", "", key))
    found = _OF_NUMBER.findall(plain)
    if not found:
        return _rank_of_phrase(key), 0.0, 0.0, 0.0, key
    (limit, first), (_, last) = found[0], found[-1]
    # "<1:40" comes before "1:40", ">50" after "50"
    side = 0.0 if not limit else -1.0 if limit[0] in "<≤lbu" else 1.0
    return _NUMBERS, float(first), side, float(last), key


_NUMBERS = _GRADE_OF[_NUMBERS_BEFORE] - 0.5


def _rank_of_phrase(key: str) -> float:
    """Rank of the level with which a phrase begins or ends ("few bacteria"), or the last rank."""
    words = re.split(r"[\s,;:-]+", key)
    parts = [words[:n] for n in range(len(words) - 1, 0, -1)]
    parts += [words[n:] for n in range(1, len(words))]
    known = (_grade(" ".join(part)) for part in parts)
    return next((grade[0] for grade in known if grade), len(_GRADES))


def _grade(word: str) -> tuple[float, str] | None:
    """Rank and name of a known level, or None for any other text."""
    word = _ABBREVIATED.get(word, word)
    joined = _joined(word)
    if joined in _GRADE_OF:
        return _GRADE_OF[joined], _NAME_OF[joined]
    if match := _BEHIND.fullmatch(word):
        return _grade(match[1])
    if (match := _DEGREE.fullmatch(word)) and (known := _grade(match[2])):
        shift, degree = _DEGREE_OF[match[1]]
        rank, name = known
        return rank + (shift if rank >= 0.5 else -shift), f"{degree} {name}"
    return None
