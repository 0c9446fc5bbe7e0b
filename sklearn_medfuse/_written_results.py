"""Lab results written as texts: numbers, the limits of censored results, and what follows them.

The loaders and the encoders of labs read results by these rules.
"""

import re
import unicodedata
from typing import Literal, NamedTuple

# A censored result counts as its limit: "<0.01", ">= 500", "LESS THAN 5"
_THAN = r"\s+than(?:\s+or\s+equal(?:\s+to)?)?"
_LIMIT = (
    r"(?:[<>]\s*[=/]?|[≤≥≦≧⩽⩾]|=\s*[<>]?|&(?:lt|gt|le|ge);\s*=?|"
    rf"(?:less|lower|smaller|fewer|greater|more|higher|larger)(?:{_THAN}|\s+or\s+equal\s+to)|"
    r"(?:below|under|above|over|at\s+least|at\s+most|up\s+to|lt|gt|lte|gte|le|ge)\b\.?)"
)
# "1,200" may be 1200 or 1.2; the form of any other number tells which
_THOUSANDS_OR_NOT = re.compile(r"[1-9][0-9]{0,2}[.,][0-9]{3}")
_FORMS = {
    "point": r"[0-9]*\.[0-9]+|[0-9]{1,3}(?:,[0-9]{3})+\.[0-9]+|[0-9]{1,3}(?:,[0-9]{3}){2,}",
    "comma": r"[0-9]*,[0-9]+|[0-9]{1,3}(?:\.[0-9]{3})+,[0-9]+|[0-9]{1,3}(?:\.[0-9]{3}){2,}",
    "": r"[0-9]+",
}
_DECIMALS = {form: re.compile(pattern) for form, pattern in _FORMS.items()}
# Marks that a laboratory puts after a result that is out of range or repeated
_FLAG = r"\*+|[(\[]?\b(?:hh?|ll?|hi|lo|high|low|abn|abnormal|critical)\b[)\]]?"
_RESULT = re.compile(
    rf"(?P<limit>{_LIMIT})?\s*"
    r"(?P<number>[+\-\u2212]?(?:[0-9](?:[0-9.,]*[0-9])?|[.,][0-9]+)(?:e[+\-]?[0-9]+)?)[.,]?"
    rf"(?:\s*(?:{_FLAG}))?[.,]?"
    r"(?:\s*(?P<unit>(?:x?\s?10[*^e(0-9]|[a-zµμ%°/\[])\S*(?:\s\S+)?))?",
    re.IGNORECASE,
)

# What the form of a number says about its decimal sign: nothing, a point, a comma, or perhaps a
# point or a comma, where the number may be a thousand times as large
Decimal = Literal["", "point", "comma", "point?", "comma?"]


class WrittenResult(NamedTuple):
    """A result read from a text."""

    value: float  # With "point?" the point is decimal, with "comma?" the comma marks thousands
    decimal: Decimal
    unit: str  # As written after the number; "" if there is none


def read_result(text: str) -> WrittenResult | None:
    """Read a number or the limit of a censored result; None if the text is neither.

    >>> read_result("< 0,5 mg/L")
    WrittenResult(value=0.5, decimal='comma', unit='mg/L')
    """
    match = _RESULT.fullmatch(unicodedata.normalize("NFKC", text).strip())
    if match is None:
        return None
    number = match["number"].lower().replace("\u2212", "-")
    digits, _, exponent = number.lstrip("+-").partition("e")
    decimal = _decimal(digits)
    if decimal is None:
        return None
    if decimal == "comma":
        digits = digits.replace(".", "").replace(",", ".")
    sign = "-" if number.startswith("-") else ""
    value = float(f"{sign}{digits.replace(',', '')}e{exponent or 0}")
    return WrittenResult(value, decimal, match["unit"] or "")


def _decimal(digits: str) -> Decimal | None:
    if _THOUSANDS_OR_NOT.fullmatch(digits):
        return "comma?" if "," in digits else "point?"
    for form, pattern in _DECIMALS.items():
        if pattern.fullmatch(digits):
            return form  # type: ignore[return-value]
    return None
