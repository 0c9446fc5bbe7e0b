"""Units of lab results: spellings, and conversion between units of one lab.

A table rather than a units library: hospitals write "K/uL", "10^9/L" and "x1000/mm3" for one
thing, "U" is an enzyme's, and between mass and amount stands the molar mass of what is measured.
"""

import re

# Numerator -> (dimension, size in the base of that dimension: gram, mole, cell, enzyme unit).
_PREFIXES = {"": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9, "p": 1e-12, "f": 1e-15, "k": 1e3}
_BASES = {
    "g": "mass",
    "mol": "amount",
    "eq": "charge",
    "osm": "osmoles",
    "u": "enzyme",
    "iu": "enzyme",
}
_AMOUNTS: dict[str, tuple[str, float]] = {
    **{
        f"{prefix}{base}": (dimension, size)
        for base, dimension in _BASES.items()
        for prefix, size in _PREFIXES.items()
    },
    **dict.fromkeys(("k", "x1000", "10^3", "x10^3", "thou", "1000"), ("count", 1e3)),
    **dict.fromkeys(("m", "mil", "10^6", "x10^6", "mill"), ("count", 1e6)),
    **dict.fromkeys(("10^9", "x10^9", "g_cells"), ("count", 1e9)),
    **dict.fromkeys(("10^12", "x10^12", "t"), ("count", 1e12)),
    **dict.fromkeys(("", "#", "cells", "cell", "1"), ("count", 1.0)),
}
# Denominator -> size in litres or kilograms.
_PER_LITRE = {
    **{"l": 1.0, "cl": 1e-2, "ml": 1e-3, "nl": 1e-9, "pl": 1e-12, "fl": 1e-15},
    **dict.fromkeys(("dl", "100ml"), 1e-1),
    **dict.fromkeys(("ul", "mcl", "mm3", "mm^3", "cumm"), 1e-6),
}
_PER_KILOGRAM = {"kg": 1.0, "g": 1e-3}
# Units without a denominator: (dimension, factor, offset) to the base of the dimension.
_SIMPLE = {
    **dict.fromkeys(("%", "percent"), ("share", 1e-2, 0.0)),
    **dict.fromkeys(("fraction", "l/l", "ratio"), ("share", 1.0, 0.0)),
    **dict.fromkeys(("mmhg", "torr"), ("pressure", 1.0, 0.0)),
    "kpa": ("pressure", 7.500617, 0.0),
    **dict.fromkeys(("c", "degc", "celsius"), ("temperature", 1.0, 0.0)),
    **dict.fromkeys(("f", "degf", "fahrenheit"), ("temperature", 5 / 9, -160 / 9)),
    **dict.fromkeys(("s", "sec", "seconds"), ("time", 1.0, 0.0)),
    "min": ("time", 60.0, 0.0),
    **dict.fromkeys(("fl", "um3"), ("volume", 1.0, 0.0)),
    "pg": ("mass alone", 1.0, 0.0),
    "fmol": ("amount alone", 1.0, 0.0),
}

# What is measured, by the beginning of a word in the lab's name -> grams per mole, and charges per
# ion where mEq are in use. Molar masses follow from the atomic weights of IUPAC; urea nitrogen
# counts the two nitrogen atoms of one molecule.
_SUBSTANCES: tuple[tuple[str, float, int], ...] = (
    ("glucose", 180.156, 0),
    ("creatinine", 113.12, 0),
    ("urea nitrogen", 28.014, 0),
    ("bun", 28.014, 0),
    ("urea", 60.056, 0),
    ("bilirubin", 584.67, 0),
    ("cholesterol", 386.66, 0),
    ("triglyceride", 885.4, 0),
    ("calcium", 40.078, 2),
    ("magnesium", 24.305, 2),
    ("phosph", 30.974, 0),
    ("lactate", 89.07, 1),
    ("uric acid", 168.11, 0),
    ("urate", 168.11, 0),
    ("iron", 55.845, 0),
    ("ammonia", 17.031, 0),
    ("sodium", 22.990, 1),
    ("potassium", 39.098, 1),
    ("chloride", 35.45, 1),
    ("bicarbonate", 61.017, 1),
    ("total co2", 61.017, 1),
    ("anion gap", 1.0, 1),
    ("base excess", 1.0, 1),
)
# Enzymes and binding proteins whose names begin with or contain a substance's.
_NOT_A_SUBSTANCE = re.compile(
    r"phosphatase|phosphokinase|lactate dehydrogenase|clearance|ratio|binding|calculated osm"
)


def unit_key(unit: str) -> str:
    """One spelling for all of a unit's: lower case, no spaces, "u" for micro, "^" before powers."""
    key = re.sub(r"\s+", "", unit).lower().replace("µ", "u").replace("μ", "u")
    key = key.replace("°", "").replace("&#176;", "").replace("mcg", "ug").replace("mcmol", "umol")
    key = key.replace("units", "u").replace("unit", "u").replace("*", "^").replace("mcl", "ul")
    # Annotations and brackets of UCUM: {cells}, m[IU]/L.
    key = re.sub(r"\{[^{}]*\}", "", key).replace("[iu]", "iu")
    key = re.sub(r"^x?10e\^?(?=\d)", "10^", key)
    return re.sub(r"^x?10(?=[369]/|12/)", "10^", key)


def conversion(unit: str, target: str, lab: str) -> tuple[float, float] | None:
    """Factor f and offset o of ``value * f + o``; None if there is no way from unit to target."""
    here, there = unit_key(unit), unit_key(target)
    if here == there:
        return 1.0, 0.0
    first, second = _parse(here), _parse(there)
    if first is None or second is None:
        return None
    (dimension, factor, offset), (wanted, target_factor, target_offset) = first, second
    bridge = 1.0 if dimension == wanted else _bridge(dimension, wanted, lab)
    if bridge is None:
        return None
    scale = factor * bridge / target_factor
    # Sizes are powers of ten for the most part: 12 digits hide that they are binary fractions.
    return float(f"{scale:.12g}"), float(f"{(offset - target_offset) / target_factor:.12g}")


def _parse(key: str) -> tuple[str, float, float] | None:
    """(dimension, factor, offset) of a unit in its one spelling."""
    if key in _SIMPLE:
        return _SIMPLE[key]
    numerator, slash, denominator = key.partition("/")
    amount = _AMOUNTS.get(numerator)
    if not slash or amount is None:
        return None
    dimension, size = amount
    if denominator in _PER_LITRE:
        return f"{dimension} per litre", size / _PER_LITRE[denominator], 0.0
    if denominator in _PER_KILOGRAM:
        return f"{dimension} per kilogram", size / _PER_KILOGRAM[denominator], 0.0
    return None


def _bridge(dimension: str, wanted: str, lab: str) -> float | None:
    """Factor between mass, amount and charge per litre of what the lab measures."""
    name = lab.lower()
    if _NOT_A_SUBSTANCE.search(name):
        return None
    for beginning, molar_mass, charges in _SUBSTANCES:
        if re.search(rf"\b{beginning}", name):
            # Mass is amount times molar mass, charge is amount times charges.
            per_mole = {"mass per litre": molar_mass, "amount per litre": 1.0}
            if charges:
                per_mole["charge per litre"] = float(charges)
            if dimension in per_mole and wanted in per_mole:
                return per_mole[wanted] / per_mole[dimension]
            return None
    return None
