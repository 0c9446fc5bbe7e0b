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

import csv
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from .._input_data import no_values_in_errors

__all__ = ["ELIXHAUSER", "guess_icd_version", "label_stays", "map_codes"]


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


def _read_groups() -> Mapping[str, Mapping[int, tuple[str, ...]]]:
    """Table 2 of Quan et al. (2005) as the paper prints it, with its runs of codes expanded."""
    with open(Path(__file__).parent / "data" / "elixhauser.csv", encoding="utf-8") as file:
        groups = {
            row["group"]: {9: _expand(row["icd_9_cm"]), 10: _expand(row["icd_10"])}
            for row in csv.DictReader(file)
        }
    return MappingProxyType({name: MappingProxyType(codes) for name, codes in groups.items()})


ELIXHAUSER = _read_groups()
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
    return pd.DataFrame(flags[rows], columns=list(ELIXHAUSER), index=index)


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
