"""Units of lab results: spellings, and conversion between units of one lab by what it measures.

Tables of our own rather than a library: of 230 pairs of spellings and units gathered from
hospitals, pint 0.25 converts 35 and ucumvert 0.3 16, none of them by analyte, and both read "K/uL"
as kelvin per microlitre without a word.
"""

import csv
import re
import unicodedata
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

_PREFIXES = {"": 1.0, "k": 1e3, "d": 1e-1, "c": 1e-2, "m": 1e-3} | {
    prefix: 10.0**-power for prefix, power in {"u": 6, "n": 9, "p": 12, "f": 15}.items()
}
# Base -> dimension, size in grams, moles, equivalents, osmoles, enzyme units, litres, metres
_BASES = {
    **{"g": ("mass", 1.0), "mol": ("amount", 1.0), "eq": ("charge", 1.0), "val": ("charge", 1.0)},
    **{"osm": ("osmoles", 1.0), "u": ("enzyme", 1.0), "iu": ("enzyme", 1.0)},
    **{"kat": ("enzyme", 6e7), "l": ("volume", 1.0), "m": ("length", 1.0)},
}
_PARTS: dict[str, tuple[str, float]] = {
    **{
        f"{prefix}{base}": (dimension, size * factor)
        for base, (dimension, size) in _BASES.items()
        for prefix, factor in _PREFIXES.items()
    },
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), ("time", 1.0)),
    **{"min": ("time", 60.0), "h": ("time", 3600.0), "d": ("time", 86400.0)},
    **{"um^3": ("volume", 1e-15), "mm^3": ("volume", 1e-6), "cm^3": ("volume", 1e-3)},
    "100ml": ("volume", 1e-1),
    **{"mmhg": ("pressure", 1.0), "kpa": ("pressure", 7.500617), "mbar": ("pressure", 0.7500617)},
    **{"cmh2o": ("pressure", 0.7355591), "torr": ("pressure", 1.0)},
    **{"%": ("share", 1e-2), "fraction": ("share", 1.0), "ratio": ("share", 1.0)},
    **{"hpf": ("high-power field", 1.0), "lpf": ("low-power field", 1.0)},
    **{"ml/min/1.73m^2": ("clearance by body surface", 1.0), "c": ("temperature", 1.0)},
    **{"f": ("temperature", 5 / 9), "inr": ("inr", 1.0), "ph": ("ph", 1.0)},
}
# Beside those above, what comes before "/" and may be a number of cells
_COUNTS = {
    **dict.fromkeys(("", "#", "1", "cells", "cell", "copies", "breaths", "b", "beats"), 1.0),
    **dict.fromkeys(("k", "th", "ths", "thou", "thous", "thousand", "tsd", "1000", "10^3"), 1e3),
    **dict.fromkeys(("m", "mi", "mil", "mill", "mio", "million", "10^6", "mpt"), 1e6),
    **dict.fromkeys(("10^9", "gpt", "giga", "bil", "bill", "billion"), 1e9),
    **dict.fromkeys(("10^12", "t", "tpt", "tera", "tril", "trillion"), 1e12),
    **{"10^4": 1e4, "10^5": 1e5, "10^2": 1e2},
}
_MOLAR = {"mm": "mmol", "um": "umol", "nm": "nmol", "pm": "pmol"}

# How a spelling is changed, step by step: pattern -> what stands in its place
_STEPS = [
    (re.compile(pattern), new)
    for pattern, new in {
        r"&#176;|°|º": "deg",
        "[\u00d7\u2715]": "x",
        r"\[(i?u|hpf|lpf|ph|degf|degc)\]": r"\1",
        r"mm\[hg\]|mm ?\(hg\)|mm of mercury|millimeters? mercury column": "mmhg",
        r"cm\[h2o\]|cm ?/? ?h[2?]?[o0]\b": "cmh2o",
        # Words of OMOP's concepts and of others
        r"\bph units?\b|\[ph\]": "ph",
        r"\b(?:cubic|cu) ?microns?\b|\bu\^?3\b": "um^3",
        r"24 ?h(?:(?:ou)?rs?)?\b": "d",
        r"(?<=/)1 ?h": "h",
        r"\bpercent\b|\bpct\b|\bprozent\b": "%",
        r"\bper\b": "/",
        r"\b(?:international|int'?l?)[ _.]*units?\b|\bint_units?\b|\bi\.u\.": "iu",
        r"(\b|[ _])(?:enzyme )?(?<![a-z])units?(?:\(s\))?\b": r"\1u",
        r"\bkilo(?=[ul]|g|m|pa|i)": "k",
        r"\bdeci(?=l)": "d",
        r"\bmilli[ -]?(?=[a-z])(?!on)": "m",
        r"\bmicro[ -]?(?=[a-z])|\bmc(?=[gul]|mol|iu|kat|eq)": "u",
        r"\bnano(?=[a-z])": "n",
        r"\bpico(?=[a-z])": "p",
        r"\bfemto(?=[a-z])": "f",
        r"uug\b": "pg",
        r"gram+e?s?\b|(?<![a-z])gms?\b|(?<=[mun])g[ms]\b": "g",
        r"(?<=[ munpk])moles?\b|^moles?\b|(?<=[munp])moles?": "mol",
        r"equivalents?\b|equiv\b": "eq",
        r"osmoles?\b|osmol\b": "osm",
        r"lit(?:er|re)s?\b|\bltr?\b|\blit\b": "l",
        r"\bmls\b": "ml",
        r"met(?:er|re)s?\b": "m",
        r"units?\b": "u",
        r"seconds?\(s\)": "s",
        r"\bhours?\b|\bhrs?\b": "h",
        r"\bdays?\b": "d",
        r"\bminutes?\b": "min",
        r"\blpm\b": "l/min",
        r"\bbpm\b": "/min",
        r"\bcubic (m+)\b|\bcu\.? ?(mm)\b\.?": "mm^3",
        r"\bcumm\b|\bcmm\b|\bmm ?cu\b|mm\*?\*?3\b|\bcu ?mm\b": "mm^3",
        r"\bcc\b|\bcm3\b|\bccm\b": "cm^3",
        r"um\*?3\b": "um^3",
        r"1[.,]73[ _]*(?:m\^?\*?2|sq(?:uare|\.)? ?m)": "1.73m^2",
        r"\bdegrees?\b|\bdeg\.? ?(?=[cf])": "deg",
        r"deg ?c(?:els?(?:ius)?)?\b|\bcel(?:s(?:ius)?)?\b|^c$": "c",
        r"deg ?f(?:ahrenheit)?\b|\bfahrenheit\b": "f",
        r"\bmeq\b": "meq",
        # Powers of ten
        r"^x ?1000\b|\b1,000\b": "1000",
        r"(?:[x*] ?|(?<![\d.a-z]))10 ?(?:\*{1,2}|\^|e\+?|exp|x)? ?"
        r"\(?([2-9]|12|0[2-9])\)?(?![\d.])": r"10^\1 ",
        r"10\^0": "10^",
        # What is counted, or dissolved in
        r"\bof\b|\bh2o\b|\bwater\b|\bcreat(?:inine)?\b|\btotal\b|\bthb\b|\bhgb\b|"
        r"\bcalc\b|\(calc\)|cv\b": "",
        r"(?<=[\d ])(?:cells?|wbcs?|rbcs?)\b(?=/)": "",
        r"\b(?:cells?|wbcs?|rbcs?)(?= ?10\^)": "",
    }.items()
]
# Annotations of UCUM that only say what is counted or measured; any other one makes another unit
_SAYS_NOTHING = re.compile(
    r"\{(?:#|cells?|rbcs?|wbcs?|erythrocytes?|leukocytes?|platelets?|nbr|number|count|creat(?:inine)?|"
    r"hgb|hb|total|plasma|serum|blood|breaths?|beats?|copies|clot|h2o|water|calc|100wbcs?)\}"
)
_FIBRINOGEN_OR_DIMER = re.compile(r"[ ({\[]*\b(?:d-)?(feu|ddu)\b[)}\]]*")


class _Unit(NamedTuple):
    dimension: str
    # Times this, plus the offset, is the value in the base of the dimension
    size: float
    offset: float = 0.0


def unit_key(unit: str) -> str:
    """One spelling for all of a unit's: "gm/dL", "g%", "gram per deciliter" are all "g/dl"."""
    if re.fullmatch(r"[mµμun]M", unit.strip()):
        unit = unit.strip()[0] + "mol/L"
    text = unicodedata.normalize("NFKC", re.sub("([³⁶⁹²]|¹²)", r"^\1", unit))
    text = " ".join(text.lower().replace("μ", "u").replace("µ", "u").split())
    meant = "".join(f"{{{found}}}" for found in _FIBRINOGEN_OR_DIMER.findall(text))
    text = _FIBRINOGEN_OR_DIMER.sub("", text)
    text = _SAYS_NOTHING.sub("", text)
    text = re.sub(r"\{(?:inr|ph|ratio|hpf|lpf)\}|\{1\.73_?m2\}", lambda m: m[0][1:-1], text)
    for pattern, new in _STEPS:
        text = pattern.sub(new, text)
    text = re.sub(r"\s+", "", text).strip(".").replace("./", "/")
    text = re.sub(r"^x(?=10\^|1000)", "", text).replace("^*", "^")
    # "10^3ul" lacks its slash; a power of ten alone is per microlitre, or from 10^9 per litre
    text = re.sub(r"^(10\^\d+)(?=[umn]?l$|mm)", r"\1/", text)
    text = re.sub(r"^(10\^)([36])$", r"\1\2/ul", re.sub(r"^(10\^)(9|12)$", r"\1\2/l", text))
    # "g%" is grams per decilitre
    text = re.sub(r"^([mu]?g)%$", r"\1/dl", text)
    return re.sub("^vol%$", "ml/dl", text) + meant


def is_unit(unit: str) -> bool:
    """Whether a text is a unit that can be converted into others."""
    return _parse(unit_key(unit)) is not None


def conversion(unit: str, target: str, lab: str) -> tuple[float, float] | None:
    """Factor f and offset o of ``value * f + o``; None if there is no way from unit to target."""
    here, there = unit_key(unit), unit_key(target)
    if here == there:
        return 1.0, 0.0
    first, second = _parse(here), _parse(there)
    if first is None or second is None:
        return None
    analyte = analyte_of(lab)
    first, second = _meant(first, here, analyte), _meant(second, there, analyte)
    bridge = (1.0, 0.0)
    if first.dimension != second.dimension:
        found = analyte.bridge(first.dimension, second.dimension)
        if found is None:
            return None
        bridge = found
    elif first.dimension == "share" and "clotting" in analyte.kinds:
        # The ratio of clotting times is not their percentage
        return None
    scale = first.size * bridge[0] / second.size
    offset = (first.offset * bridge[0] + bridge[1] - second.offset) / second.size
    # Sizes are powers of ten for the most part: 12 digits hide that they are binary fractions
    return float(f"{scale:.12g}"), float(f"{offset:.12g}")


def _meant(unit: _Unit, key: str, analyte: "Analyte") -> _Unit:
    """Of cells, "G/L" is no mass but a number; "units" of pH are its own."""
    if "cells" in analyte.kinds and key == "g/l":
        return _Unit("count per volume", 1e9)
    return _Unit("ph", 1.0) if "ph" in analyte.kinds and key in ("u", "1", "#") else unit


def _parse(key: str) -> _Unit | None:
    """A unit in its one spelling."""
    plain, brace, meant = key.partition("{")
    more = brace + meant
    if plain in ("f", "c"):
        offset = -160 / 9 if plain == "f" else 0.0
        return _Unit("temperature", _PARTS[plain][1], offset)
    if (plain in _PARTS and "/" not in plain) or plain == "ml/min/1.73m^2":
        dimension, size = _PARTS[plain]
        return _Unit(dimension + more, size)
    if plain in ("1", "#"):
        return _Unit("number" + more, 1.0)
    above, slash, below = plain.partition("/")
    if not slash or below not in _PARTS:
        return None
    per, size_below = _PARTS[below]
    if per == "volume" and above in _MOLAR:
        above = _MOLAR[above]
    if above == "m" and per == "volume":
        part = ("count", 1e6)
    elif above in _PARTS:
        part = _PARTS[above]
    elif above in _COUNTS:
        part = ("count", _COUNTS[above])
    else:
        return None
    if part[0] == per == "volume" and above == below == "l":
        return _Unit("share" + more, 1.0)
    return _Unit(f"{part[0]} per {per}{more}", part[1] / size_below)


# What a lab measures. Molar masses follow from the atomic weights of IUPAC. Urea nitrogen counts
# the two nitrogen atoms of one molecule, haemoglobin one of its four chains, as laboratories do.


@dataclass(frozen=True)
class Analyte:
    """What is known of a lab's analyte."""

    # Grams per mole, and charges per ion where mEq are in use; 0 where unknown
    molar_mass: float = 0.0
    charges: int = 0
    # Those of `_KINDS` that it is of
    kinds: frozenset[str] = frozenset()

    def bridge(self, dimension: str, wanted: str) -> tuple[float, float] | None:
        """Factor and offset between the bases of two dimensions; None if there is no way."""
        if "a1c" in self.kinds and {dimension, wanted} == {"share", "amount per amount"}:
            # NGSP (%) = 0.09148 * IFCC (mmol/mol) + 2.152; the bases are 1 and mol/mol
            slope, shift = 0.9148, 0.02152
            return (1 / slope, -shift / slope) if dimension == "share" else (slope, shift)
        same = {"amount per mass", "osmoles per mass", "osmoles per volume"}
        if "osmolality" in self.kinds and {dimension, wanted} <= same:
            # Of osmolality a litre stands for a kilogram of water, which is 1000 times the gram
            size = {"osmoles per volume": 1e-3}
            return size.get(dimension, 1.0) / size.get(wanted, 1.0), 0.0
        if "mchc" in self.kinds and {dimension, wanted} == {"share", "mass per volume"}:
            # A percentage of MCHC is grams in a decilitre
            return (1000.0, 0.0) if dimension == "share" else (0.001, 0.0)
        if "clotting" in self.kinds and {dimension, wanted} == {"share", "inr"}:
            return 1.0, 0.0
        for per in (" per volume", " per time", ""):
            # Mass is amount times molar mass, charge is amount times charges
            per_mole = {f"amount{per}": 1.0}
            if self.molar_mass:
                per_mole[f"mass{per}"] = self.molar_mass
            if self.charges:
                per_mole[f"charge{per}"] = float(self.charges)
            if dimension in per_mole and wanted in per_mole:
                return per_mole[wanted] / per_mole[dimension], 0.0
        return None


def _read_analytes() -> list[tuple[Analyte, re.Pattern, list[str], list[str]]]:
    """Each with words of its name, short names that stand for themselves, and codes of LOINC."""
    with open(Path(__file__).parents[1] / "data" / "analytes.csv", encoding="utf-8") as file:
        return [
            (
                Analyte(float(row["molar_mass"]), int(row["charges"])),
                re.compile(rf"\b(?:{row['names']})\b"),
                row["short_names"].split(),
                row["loinc"].split(),
            )
            for row in csv.DictReader(file)
        ]


_CHECKED = _read_analytes()
_BY_CODE = {code: analyte for analyte, _, _, codes in _CHECKED for code in codes}
_BY_SHORT = {name: analyte for analyte, _, short, _ in _CHECKED for name in short}
# Enzymes, binding proteins, and quantities that are named after a substance
_OTHER = re.compile(
    r"phosphatase|kinase|dehydrogenase|clearance|ratio|binding|transferase|transferrin|saturation|"
    r"antibod|receptor|phospholipid|peroxidase|protein|free light|index|pressure"
)
_KINDS = {
    "cells": re.compile(
        r"\b(?:n?rbc|wbc|plt|plts|leu[ck]o\w*|leu[ck]ocyt\w*|erythrocyt\w*|erythrozyt\w*|"
        r"platelets?|thrombo[cz]yt\w*|thrombo|neutro\w*|lympho\w*|lymphs?|mono|monos|monocyt\w*|"
        r"eosino\w*|eos|baso\w*|retic\w*|granulo\w*|blasts?|bands?|white (?:blood )?cells?|"
        r"red (?:blood )?cells?|(?:white|red) (?:blood )?(?:cell )?count)\b"
    ),
    "clotting": re.compile(r"\b(?:inr|prothrombin|pt|a?ptt|thromboplastin|quick|tpz|thrombin)\b"),
    "ph": re.compile(r"\bph\b"),
    "osmolality": re.compile(r"\bosm"),
    "a1c": re.compile(r"\b(?:hb|hgb|h\w*globin ?)?a1c\b|gly(?:cated|cosylated|co) ?h"),
    "mchc": re.compile(r"\bmchc\b|corpuscular h\w+ concentration"),
}
_A1C = Analyte(kinds=frozenset({"a1c"}))
_BY_CODE |= dict.fromkeys(("4548-4", "17856-6", "59261-8", "4549-2"), _A1C)
_LOINC = re.compile(r"(?:loinc)?[ :/_-]*(\d{1,5}-\d)")
_UNIT = re.compile(r"\b(?:[munp]?(?:g|mol|eq|iu)|k|10\S*) ?/ ?(?:d|m|u)?l\b")


@lru_cache(1024)
def analyte_of(lab: str) -> Analyte:
    """The analyte of a lab by its name, a LOINC code or however written."""
    code = _LOINC.fullmatch(lab.strip().lower())
    if code is not None and code[1] in _BY_CODE:
        return _BY_CODE[code[1]]
    # "SerumCreatinine", "serum_creatinine", "Na+", "Glucose (mg/dL)"
    split = re.sub(r"(?<=[a-z]{2})(?=[A-Z])", " ", lab)
    plain = unicodedata.normalize("NFKD", split).encode("ascii", "ignore").decode().lower()
    name = " ".join(re.sub(r"[^a-z0-9]+", " ", _UNIT.sub(" ", plain)).split())
    kinds = frozenset(kind for kind, pattern in _KINDS.items() if pattern.search(name))
    if "a1c" in kinds:
        return _A1C
    found, rest = set(), name
    if not _OTHER.search(name):
        for analyte, long, _, _ in _CHECKED:
            if long.search(rest):
                found.add(analyte)
                rest = long.sub(" ", rest)
        found |= {_BY_SHORT[word] for word in rest.split() if word in _BY_SHORT}
    if len(found) == 1:
        return replace(found.pop(), kinds=kinds & {"mchc"})
    return Analyte(kinds=kinds - {"mchc"})
