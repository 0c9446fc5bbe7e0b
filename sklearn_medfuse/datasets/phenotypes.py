"""Map ICD-9-CM and ICD-10-CM codes to the 31 Elixhauser groups of Quan et al. (2005).

The groups are those of Table 2, columns "Enhanced ICD-9-CM" and "ICD-10" [1]_, and a code belongs
to a group when it, or a code above it, is listed there. ICD-10-CM refines ICD-10 below the listed
categories, so the same list serves both. No hierarchy is applied: a stay can have both
uncomplicated and complicated diabetes.

References
----------
.. [1] Quan H, Sundararajan V, Halfon P, et al. Coding algorithms for defining comorbidities in
   ICD-9-CM and ICD-10 administrative data. Med Care 2005;43(11):1130-9.
   doi:10.1097/01.mlr.0000182534.19832.83
"""

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from .._input_data import no_values_in_errors

__all__ = ["ELIXHAUSER", "elixhauser_names", "guess_icd_version", "label_stays", "map_codes"]


# Table 2 of Quan et al. (2005), as the paper prints it: name -> (enhanced ICD-9-CM, ICD-10). A code
# stands for itself and everything below it, "425.4-425.9" for a run of codes.
_TABLE_2 = {
    "congestive_heart_failure": (
        "398.91 402.01 402.11 402.91 404.01 404.03 404.11 404.13 404.91 404.93 425.4-425.9 428",
        "I09.9 I11.0 I13.0 I13.2 I25.5 I42.0 I42.5-I42.9 I43 I50 P29.0",
    ),
    "cardiac_arrhythmias": (
        "426.0 426.13 426.7 426.9 426.10 426.12 427.0-427.4 427.6-427.9 785.0 996.01 996.04 "
        "V45.0 V53.3",
        "I44.1-I44.3 I45.6 I45.9 I47-I49 R00.0 R00.1 R00.8 T82.1 Z45.0 Z95.0",
    ),
    "valvular_disease": (
        "093.2 394-397 424 746.3-746.6 V42.2 V43.3",
        "A52.0 I05-I08 I09.1 I09.8 I34-I39 Q23.0-Q23.3 Z95.2-Z95.4",
    ),
    "pulmonary_circulation_disorders": (
        "415.0 415.1 416 417.0 417.8 417.9",
        "I26 I27 I28.0 I28.8 I28.9",
    ),
    "peripheral_vascular_disorders": (
        "093.0 437.3 440 441 443.1-443.9 447.1 557.1 557.9 V43.4",
        "I70 I71 I73.1 I73.8 I73.9 I77.1 I79.0 I79.2 K55.1 K55.8 K55.9 Z95.8 Z95.9",
    ),
    "hypertension_uncomplicated": ("401", "I10"),
    "hypertension_complicated": ("402-405", "I11-I13 I15"),
    "paralysis": (
        "334.1 342 343 344.0-344.6 344.9",
        "G04.1 G11.4 G80.1 G80.2 G81 G82 G83.0-G83.4 G83.9",
    ),
    "other_neurological_disorders": (
        "331.9 332.0 332.1 333.4 333.5 333.92 334 335 336.2 340 341 345 348.1 348.3 780.3 784.3",
        "G10-G13 G20-G22 G25.4 G25.5 G31.2 G31.8 G31.9 G32 G35-G37 G40 G41 G93.1 G93.4 R47.0 R56",
    ),
    "chronic_pulmonary_disease": (
        "416.8 416.9 490-505 506.4 508.1 508.8",
        "I27.8 I27.9 J40-J47 J60-J67 J68.4 J70.1 J70.3",
    ),
    "diabetes_uncomplicated": (
        "250.0-250.3",
        "E10.0 E10.1 E10.9 E11.0 E11.1 E11.9 E12.0 E12.1 E12.9 E13.0 E13.1 E13.9 E14.0 E14.1 E14.9",
    ),
    "diabetes_complicated": (
        "250.4-250.9",
        "E10.2-E10.8 E11.2-E11.8 E12.2-E12.8 E13.2-E13.8 E14.2-E14.8",
    ),
    "hypothyroidism": ("240.9 243 244 246.1 246.8", "E00-E03 E89.0"),
    "renal_failure": (
        "403.01 403.11 403.91 404.02 404.03 404.12 404.13 404.92 404.93 585 586 588.0 V42.0 V45.1 "
        "V56",
        "I12.0 I13.1 N18 N19 N25.0 Z49.0-Z49.2 Z94.0 Z99.2",
    ),
    "liver_disease": (
        "070.22 070.23 070.32 070.33 070.44 070.54 070.6 070.9 456.0-456.2 570 571 572.2-572.8 "
        "573.3 573.4 573.8 573.9 V42.7",
        "B18 I85 I86.4 I98.2 K70 K71.1 K71.3-K71.5 K71.7 K72-K74 K76.0 K76.2-K76.9 Z94.4",
    ),
    "peptic_ulcer_disease_excluding_bleeding": (
        "531.7 531.9 532.7 532.9 533.7 533.9 534.7 534.9",
        "K25.7 K25.9 K26.7 K26.9 K27.7 K27.9 K28.7 K28.9",
    ),
    "aids_hiv": ("042-044", "B20-B22 B24"),
    "lymphoma": ("200-202 203.0 238.6", "C81-C85 C88 C96 C90.0 C90.2"),
    "metastatic_cancer": ("196-199", "C77-C80"),
    "solid_tumor_without_metastasis": (
        "140-172 174-195",
        "C00-C26 C30-C34 C37-C41 C43 C45-C58 C60-C76 C97",
    ),
    "rheumatoid_arthritis_collagen_vascular_diseases": (
        "446 701.0 710.0-710.4 710.8 710.9 711.2 714 719.3 720 725 728.5 728.89 729.30",
        "L94.0 L94.1 L94.3 M05 M06 M08 M12.0 M12.3 M30 M31.0-M31.3 M32-M35 M45 M46.1 M46.8 M46.9",
    ),
    "coagulopathy": ("286 287.1 287.3-287.5", "D65-D68 D69.1 D69.3-D69.6"),
    "obesity": ("278.0", "E66"),
    "weight_loss": ("260-263 783.2 799.4", "E40-E46 R63.4 R64"),
    "fluid_and_electrolyte_disorders": ("253.6 276", "E22.2 E86 E87"),
    "blood_loss_anemia": ("280.0", "D50.0"),
    "deficiency_anemia": ("280.1-280.9 281", "D50.8 D50.9 D51-D53"),
    "alcohol_abuse": (
        "265.2 291.1-291.3 291.5-291.9 303.0 303.9 305.0 357.5 425.5 535.3 571.0-571.3 980 V11.3",
        "F10 E52 G62.1 I42.6 K29.2 K70.0 K70.3 K70.9 T51 Z50.2 Z71.4 Z72.1",
    ),
    "drug_abuse": ("292 304 305.2-305.9 V65.42", "F11-F16 F18 F19 Z71.5 Z72.2"),
    "psychoses": (
        "293.8 295 296.04 296.14 296.44 296.54 297 298",
        "F20 F22-F25 F28 F29 F30.2 F31.2 F31.5",
    ),
    "depression": (
        "296.2 296.3 296.5 300.4 309 311",
        "F20.4 F31.3-F31.5 F32 F33 F34.1 F41.2 F43.2",
    ),
}


def _expand(listed: str) -> tuple[str, ...]:
    """``"425.4-425.9 428"`` -> ``("4254", ..., "4259", "428")``: prefixes without points."""
    prefixes = []
    for item in listed.replace(".", "").split():
        first, _, last = item.partition("-")
        if not last:
            prefixes.append(first)
            continue
        letter = first[0] if first[0].isalpha() else ""
        digits = len(first) - len(letter)
        run = range(int(first[len(letter) :]), int(last[len(letter) :]) + 1)
        prefixes.extend(f"{letter}{number:0{digits}d}" for number in run)
    return tuple(prefixes)


ELIXHAUSER: Mapping[str, Mapping[int, tuple[str, ...]]] = MappingProxyType(
    {
        name: MappingProxyType({9: _expand(icd9), 10: _expand(icd10)})
        for name, (icd9, icd10) in _TABLE_2.items()
    }
)
"""Group name -> ICD version (9 or 10) -> the code prefixes of the group, without points."""

# What precedes the point of a diagnosis code. Two digits before a point is a *procedure* code of
# ICD-9-CM: 31.1 is a tracheostomy, and must not become 311, a depressive disorder.
_CATEGORY = {9: re.compile(r"\d{3}|V\d{2}|E\d{3}"), 10: re.compile(r"[A-Z]\d[0-9A-Z]")}

# E and four digits that ICD-10-CM has: E87.9 and a fifth sign at E87.1 are not among them
_E_OF_ICD10 = (
    r"E8(02[019]|3(0[019]|1[019]|3[01239]|4[0129]|5[0129]|8[19])|41[19]|58[129]|7(2[0129]|7[019])"
    r"|8(0[129]|4[0129]|8[129])|98[19])"
)
_ICD9 = re.compile(
    r"\d{3}\.?\d{0,2}|V\d{2}\.?\d{0,2}|E\d{3}\.\d?|E9\d{2}\d?|E8[12]\d"
    rf"|E0[0-2]\d\d|E030\d|(?!{_E_OF_ICD10})E8\d{{3}}"
)
_ICD10 = re.compile(r"[A-Z]\d[0-9A-Z]\.?[0-9A-Z]{0,4}")


def elixhauser_names() -> list[str]:
    """Names of the 31 groups, in the order of the paper's table.

    Returns
    -------
    list of str
        Lower-case names with underscores.

    See Also
    --------
    map_codes : The groups of single codes.

    Examples
    --------
    >>> from sklearn_medfuse.datasets.phenotypes import elixhauser_names
    >>> len(elixhauser_names()), elixhauser_names()[0]
    (31, 'congestive_heart_failure')
    """
    return list(ELIXHAUSER)


def guess_icd_version(codes: Iterable[Any]) -> np.ndarray:
    """Infer the ICD version of each code from its form.

    Codes that begin with a digit are ICD-9, codes that begin with any letter but V and E are
    ICD-10. The two versions share the letters V and E:

    - V with up to four digits is ICD-9 (``V45.01``). The V codes of ICD-10 are transport
      accidents, mostly longer, and in no group.
    - E with a point goes by the place of the point: ``E879.8`` is ICD-9, ``E87.1`` is ICD-10.
    - E without a point is ICD-9 from ``E900`` on and where ICD-10-CM has no such code (``E8710``,
      ``E8788``), else ICD-10. This is a convention: ``E871`` can be an external cause in ICD-9 or a
      low sodium in ICD-10. Give the version if you know it.

    Parameters
    ----------
    codes : array-like of str of shape (n_codes,)
        Codes with or without a point, in any case. None, NaN and blank are not codes.

    Returns
    -------
    ndarray of int of shape (n_codes,)
        9, 10, or 0 if the form fits neither version or there is no code.

    Raises
    ------
    TypeError
        If a code is neither a string nor missing. The message names only its position.

    See Also
    --------
    map_codes : The groups of single codes.

    Examples
    --------
    >>> from sklearn_medfuse.datasets.phenotypes import guess_icd_version
    >>> guess_icd_version(["428.0", "i509", "V45.01", "E87.1", "E879.8", "31.1", None])
    array([ 9, 10,  9, 10,  9,  0,  0])
    """
    uniques, inverse = _unique_codes(codes)
    return np.array([_guess(code) for code in uniques], dtype=int)[inverse]


def map_codes(codes: Iterable[Any], icd_version: Any = "auto") -> pd.DataFrame:
    """Map ICD codes to Elixhauser groups.

    Parameters
    ----------
    codes : array-like of str of shape (n_codes,)
        ICD-9-CM or ICD-10-CM diagnosis codes, with or without a point, in any case; surrounding
        white space is ignored. None, NaN, blank and unknown codes belong to no group.
    icd_version : {"auto", 9, 10} or array-like of {9, 10, 0} of shape (n_codes,), default="auto"
        The version of all codes or of each code; codes of an unknown version, 0, are in no group.
        "auto" goes by the form of each code; :func:`guess_icd_version` lists ambiguous ones.

    Returns
    -------
    DataFrame of bool of shape (n_codes, 31)
        One column per group. The index is that of `codes` if it is a Series.

    Raises
    ------
    TypeError
        If a code is neither a string nor missing: numbers have lost their leading zeros.
    ValueError
        If `icd_version` has other values or another length than `codes`.

    See Also
    --------
    label_stays : The groups of stays.
    guess_icd_version : The version inferred from the form of a code.

    Examples
    --------
    >>> from sklearn_medfuse.datasets.phenotypes import map_codes
    >>> table = map_codes(["428.0", "4280", "I50.9", "Z00"])
    >>> table["congestive_heart_failure"].tolist()
    [True, True, True, False]
    """
    index = codes.index if isinstance(codes, pd.Series) else None
    uniques, inverse = _unique_codes(codes)
    versions = _check_versions(icd_version, uniques, inverse)
    # A code may occur under both versions, so the unit of work is the pair (code, version)
    pairs, rows = np.unique(inverse * 100 + versions, return_inverse=True)
    flags = np.zeros((len(pairs), len(ELIXHAUSER)), dtype=bool)
    for row, pair in enumerate(pairs):
        flags[row, _groups_of(uniques[pair // 100], int(pair % 100))] = True
    return pd.DataFrame(flags[rows], columns=elixhauser_names(), index=index)


def label_stays(
    code_stay_ids: Iterable[Any],
    codes: Iterable[Any],
    stay_ids: Iterable[Any],
    icd_version: Any = "auto",
) -> pd.DataFrame:
    """Label each stay with the Elixhauser groups of its codes.

    Parameters
    ----------
    code_stay_ids : array-like of shape (n_codes,)
        The stay of each code.
    codes : array-like of str of shape (n_codes,)
        The codes, see :func:`map_codes`.
    stay_ids : array-like of shape (n_stays,)
        The stays to label, in this order. A stay without a code gets zeros; the caller must know
        whether that means "none of the diseases" or "not coded".
    icd_version : {"auto", 9, 10} or array-like of {9, 10, 0} of shape (n_codes,), default="auto"
        The version of the codes, see :func:`map_codes`.

    Returns
    -------
    DataFrame of int of shape (n_stays, 31)
        0 or 1, indexed by `stay_ids`.

    See Also
    --------
    map_codes : The groups of single codes.
    elixhauser_names : The columns of the result.

    Examples
    --------
    >>> from sklearn_medfuse.datasets.phenotypes import label_stays
    >>> label_stays([7, 7, 8], ["401.9", "I50.9", "Z00"], [7, 8]).sum(axis=1).tolist()
    [2, 0]
    """
    flags = map_codes(pd.Series(codes).reset_index(drop=True), icd_version)
    stays = pd.Series(code_stay_ids).reset_index(drop=True).rename(None)
    labels = flags.groupby(stays, sort=False).any()
    with no_values_in_errors():
        return labels.reindex(pd.Index(stay_ids), fill_value=False).astype(int)


def _unique_codes(codes: Iterable[Any]) -> tuple[list[str], np.ndarray]:
    """Unique cleaned codes (upper case, no white space) and the place of each code among them."""
    raw = pd.Series(codes, dtype=object).reset_index(drop=True)
    places, raw_uniques = pd.factorize(raw, use_na_sentinel=False)
    strings = np.array([isinstance(code, str) for code in raw_uniques], dtype=bool)
    wrong = np.flatnonzero(~(strings | pd.isna(raw_uniques)))
    if len(wrong):
        position = int(np.flatnonzero(np.isin(places, wrong))[0])
        raise TypeError(
            f"codes must be strings, but the one at position {position} is a "
            f"{type(raw_uniques[wrong[0]]).__name__}. Read ICD codes as text: as numbers they "
            "lose leading zeros."
        )
    cleaned = ["".join(c.split()).upper() if isinstance(c, str) else "" for c in raw_uniques]
    place_of = {code: place for place, code in enumerate(dict.fromkeys(cleaned))}
    again = np.array([place_of[code] for code in cleaned], dtype=int)
    return list(place_of), again[places]


def _check_versions(icd_version: Any, uniques: list[str], inverse: np.ndarray) -> np.ndarray:
    """The ICD version of every code."""
    if isinstance(icd_version, str) and icd_version == "auto":
        return np.array([_guess(code) for code in uniques], dtype=int)[inverse]
    # A lenient reading of labels ("ICD-9", "9", "icd9cm") would map mistaken ones silently
    versions = np.asarray(icd_version, dtype=object)
    if versions.ndim == 0:
        if icd_version not in (0, 9, 10):
            raise ValueError(f"icd_version must be 'auto', 9 or 10, got {icd_version!r}.")
        return np.full(len(inverse), icd_version, dtype=int)
    if versions.shape != inverse.shape:
        raise ValueError(
            f"icd_version must be one value or one per code: it has shape {versions.shape} for "
            f"{len(inverse)} codes."
        )
    n_unknown = sum(value not in (0, 9, 10) for value in versions)
    if n_unknown:
        raise ValueError(
            f"icd_version must hold the numbers 9, 10 or 0: {n_unknown} of its "
            f"{len(versions)} values are something else."
        )
    return versions.astype(int)


def _guess(code: str) -> int:
    """The ICD version of one cleaned code, 0 if neither."""
    if _ICD9.fullmatch(code):
        return 9
    return 10 if _ICD10.fullmatch(code) else 0


def _groups_of(code: str, version: int) -> list[int]:
    """Positions of the groups that hold a cleaned code."""
    category, point, _ = code.partition(".")
    if version == 0 or not code or (point and not _CATEGORY[version].fullmatch(category)):
        return []
    plain = code.replace(".", "")
    ends = range(1, len(plain) + 1)
    return sorted({group for end in ends for group in _PREFIXES[version].get(plain[:end], ())})


def _index_prefixes(version: int) -> dict[str, list[int]]:
    """Prefix -> positions of the groups that list it."""
    index: dict[str, list[int]] = {}
    for group, prefixes in enumerate(ELIXHAUSER.values()):
        for prefix in prefixes[version]:
            index.setdefault(prefix, []).append(group)
    return index


_PREFIXES = {version: _index_prefixes(version) for version in (9, 10)}
