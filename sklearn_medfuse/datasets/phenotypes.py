"""ICD-9-CM and ICD-10-CM codes to the 31 Elixhauser groups of Quan et al. (2005).

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

from .._private_errors import no_values_in_errors
from ._quan2005 import TABLE_2

__all__ = ["ELIXHAUSER", "elixhauser_names", "guess_icd_version", "label_stays", "map_codes"]


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
        for name, (icd9, icd10) in TABLE_2.items()
    }
)
"""Group name -> ICD version (9 or 10) -> the code prefixes of the group, without points."""

# What precedes the point of a diagnosis code. Two digits before a point is a *procedure* code of
# ICD-9-CM: 31.1 is a tracheostomy, and must not become 311, a depressive disorder.
_CATEGORY = {9: re.compile(r"\d{3}|V\d{2}|E\d{3}"), 10: re.compile(r"[A-Z]\d[0-9A-Z]")}

_ICD9 = re.compile(r"\d{3}\.?\d{0,2}|V\d{2}\.?\d{0,2}|E\d{3}\.\d?|E9\d{2}\d?")
_ICD10 = re.compile(r"[A-Z]\d[0-9A-Z]\.?[0-9A-Z]{0,4}")


def elixhauser_names() -> list[str]:
    """Names of the 31 groups, in the order of the paper's table.

    Returns
    -------
    list of str
        Lower-case names with underscores.

    See Also
    --------
    map_codes : Which codes belong to them.

    Examples
    --------
    >>> from sklearn_medfuse.datasets.phenotypes import elixhauser_names
    >>> len(elixhauser_names()), elixhauser_names()[0]
    (31, 'congestive_heart_failure')
    """
    return list(ELIXHAUSER)


def guess_icd_version(codes: Iterable[Any]) -> np.ndarray:
    """Tell ICD-9-CM from ICD-10-CM by the form of each code.

    Codes that begin with a digit are ICD-9, codes that begin with any letter but V and E are
    ICD-10. The two versions share the letters V and E:

    - V with up to four digits is ICD-9 (``V45.01``). The V codes of ICD-10 are transport
      accidents, mostly longer, and in no group.
    - E with a point is told by its place: ``E879.8`` is ICD-9, ``E87.1`` is ICD-10.
    - E without a point is ICD-9 from ``E900`` on, else ICD-10. This is a choice: ``E8710`` can be
      an external cause in ICD-9 or a low sodium in ICD-10. Give the version where it is known.

    Parameters
    ----------
    codes : array-like of str of shape (n_codes,)
        Codes with or without point, in any case. None, NaN and blank are no code.

    Returns
    -------
    ndarray of int of shape (n_codes,)
        9, 10, or 0 where the form fits neither version or there is no code.

    Raises
    ------
    TypeError
        If a code is neither a string nor missing. The message names its position only.

    See Also
    --------
    map_codes : Which groups codes belong to.

    Examples
    --------
    >>> from sklearn_medfuse.datasets.phenotypes import guess_icd_version
    >>> guess_icd_version(["428.0", "i509", "V45.01", "E87.1", "E879.8", "31.1", None])
    array([ 9, 10,  9, 10,  9,  0,  0])
    """
    uniques, inverse = _unique_codes(codes)
    return np.array([_guess(code) for code in uniques], dtype=int)[inverse]


def map_codes(codes: Iterable[Any], icd_version: Any = "auto") -> pd.DataFrame:
    """Say for every ICD code to which Elixhauser groups it belongs.

    Parameters
    ----------
    codes : array-like of str of shape (n_codes,)
        ICD-9-CM or ICD-10-CM diagnosis codes, with or without point, in any case, with any white
        space around. None, NaN, blank and unknown codes belong to no group.
    icd_version : {"auto", 9, 10} or array-like of {9, 10, 0} of shape (n_codes,), default="auto"
        The version of all codes or of each of them; 0 is an unknown version, in no group. "auto"
        decides by form, see :func:`guess_icd_version` for what is ambiguous.

    Returns
    -------
    DataFrame of bool of shape (n_codes, 31)
        One column per group. The index is that of `codes` if it is a Series.

    Raises
    ------
    TypeError
        If a code is neither a string nor missing: numbers have lost their leading zeros.
    ValueError
        If `icd_version` is none of the above or of another length than `codes`.

    See Also
    --------
    label_stays : The groups of stays.
    guess_icd_version : The version that the form of a code tells.

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
    # A code may occur under both versions, so the unit of work is the pair (code, version).
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
    """Say for every stay which Elixhauser groups its codes give.

    Parameters
    ----------
    code_stay_ids : array-like of shape (n_codes,)
        The stay of each code.
    codes : array-like of str of shape (n_codes,)
        The codes, see :func:`map_codes`.
    stay_ids : array-like of shape (n_stays,)
        The stays wanted, in the order wanted. A stay without a code gets zeros; whether that means
        "none of the diseases" or "nobody coded this stay" is for the caller to know.
    icd_version : {"auto", 9, 10} or array-like of {9, 10, 0} of shape (n_codes,), default="auto"
        The version of the codes, see :func:`map_codes`.

    Returns
    -------
    DataFrame of int of shape (n_stays, 31)
        0 or 1, indexed by `stay_ids`.

    See Also
    --------
    map_codes : The groups of single codes.
    elixhauser_names : The columns of the answer.

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
    # A lenient reading of labels ("ICD-9", "9", "icd9cm") would map mistaken ones silently.
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
