"""Lab results as hospitals write them ("<0.01", "NEG", 7.4, "1+") and as numbers, both ways."""

import re
from collections import Counter
from collections.abc import Mapping
from decimal import Decimal
from numbers import Complex, Real
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import pandas as pd

# Levels of qualitative results from low to high; the words of one line are one level.
_GRADES = (
    ("low",),
    ("negative", "neg", "none", "nil", "not detected", "absent", "nonreactive", "non-reactive"),
    ("normal", "within normal limits", "wnl"),
    ("borderline", "equivocal", "indeterminate"),
    ("trace", "tr"),
    ("abnormal",),
    ("positive", "pos", "detected", "present", "reactive"),
    ("rare",),
    ("1+", "+1", "+", "small", "few", "occasional", "occ", "slight", "mild"),
    ("2+", "+2", "++", "moderate", "mod"),
    ("3+", "+3", "+++", "large", "many"),
    ("4+", "+4", "++++"),
    ("high",),
)
_GRADE_OF = {word: grade for grade, words in enumerate(_GRADES) for word in words}
_NOT_MEASURED = {"", "nan", "na", "n/a", "<na>", "null", "nat"}
_NUMBER = re.compile(
    r"(?:[<>≤≥]=?|=[<>]?)?\s*([+\-\u2212]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+\-]?[0-9]+)?)"
)
_FIRST_NUMBER = re.compile(r"[<>≤≥=\s]*([0-9]+(?:\.[0-9]+)?)")
# a comma is a decimal sign here and groups thousands there: 1,200 may be 1.2
_COMMA_NUMBER = re.compile(r"[<>≤≥=\s]*[+\-\u2212]?[0-9.]*(?:,[0-9.]+)+")

# What a column of words may hold and still be results and not free text, which could name people.
_MAX_LEVELS = 50
_MAX_LEVEL_LENGTH = 40
_FEW_WORDS = 4
# A word or number of a qualitative column that stands in fewer cells is no level: it may be a
# remark on one patient, who can have several stays, and the levels are saved with the model. Terms
# of notes are kept from as many on.
_MIN_CELLS_OF_A_LEVEL = 3
# What is kept of a lab's numbers comes from so many rows at least: a mean, or a limit, would else
# be a patient's result.
FEWEST_ROWS = 5

Levels = list[str] | None
Unread = dict[str, int]
NUMERIC, QUALITATIVE = "numeric", "qualitative"


class LabResults(NamedTuple):
    """A lab table as numbers.

    Attributes
    ----------
    values : float64 array of shape (n_rows, n_labs)
        Numbers, positions in `levels` for qualitative labs, NaN = not measured.
    levels : list of (list of str, or None)
        Levels of each qualitative lab from low to high, None for a numeric one.
    unread : dict of str to int
        How many measured cells of which columns could not be read; they are NaN in `values`.
    """

    values: np.ndarray
    levels: list[Levels]
    unread: Unread


def parse_number(text: str) -> float | None:
    """Read a number, or the limit of a censored result; None where the text is neither.

    Examples
    --------
    >>> parse_number(" 7.4 "), parse_number("<0.01"), parse_number("≥ 3"), parse_number("1e3")
    (7.4, 0.01, 3.0, 1000.0)
    >>> [parse_number(text) for text in ["1+", "NEG", "1,200", "7.4 mg/dL", "3-5"]]
    [None, None, None, None, None]
    """
    match = _NUMBER.fullmatch(text.strip().lower())
    return float(match[1].replace("\u2212", "-")) if match else None


def level_key(text: str) -> str:
    """Give all spellings of one level the same key.

    Examples
    --------
    >>> {level_key(text) for text in ["NEG", "negative", " Negative "]}
    {'negative'}
    >>> level_key("30"), level_key("30.0"), level_key("Dark  Amber")
    ('30.0', '30.0', 'dark amber')
    """
    word = " ".join(text.casefold().split())
    if word in _GRADE_OF:
        return _GRADES[_GRADE_OF[word]][0]
    number = parse_number(word)
    return word if number is None else repr(number)


def level_order(key: str) -> tuple[int, float, str]:
    """Sort known grades first, then what begins with a number by that number, then other words.

    Examples
    --------
    >>> sorted(["cloudy", "100.0", "trace", "30.0", "3-5", "negative"], key=level_order)
    ['negative', 'trace', '3-5', '30.0', '100.0', 'cloudy']
    """
    if key in _GRADE_OF:
        return 0, _GRADE_OF[key], key
    number = _FIRST_NUMBER.match(key)
    return (1, float(number[1]), key) if number else (2, 0.0, key)


def read_results(
    table: pd.DataFrame,
    levels: list[Levels] | None = None,
    kinds: Mapping[int, str] = MappingProxyType({}),
) -> LabResults:
    """Read each column as numbers or as levels.

    Parameters
    ----------
    table : DataFrame of shape (n_rows, n_labs)
        Columns of any numeric, text, categorical or object dtype.
    levels : list of (list of str, or None), default=None
        Levels of each lab as learned before; None learns them from `table`.
    kinds : dict of int to {"numeric", "qualitative"}, default={}
        What columns, by position, are learned as. The others are what most of their cells are.

    Raises
    ------
    TypeError
        Where a cell is neither a number nor a text.
    ValueError
        Where a column to learn from looks like free text.
    """
    values = np.empty(table.shape)
    learned: list[Levels] = []
    unread: Unread = {}
    for position, name in enumerate(table.columns):
        column = table.iloc[:, position]
        where = f"column {name!r}" if isinstance(name, str) else f"column {position}"
        is_numeric = (
            kinds.get(position) != QUALITATIVE if levels is None else levels[position] is None
        )
        if _is_number_dtype(column.dtype) and is_numeric:
            values[:, position] = _numbers(column)
            learned.append(None)
            continue
        code, distinct = _distinct_cells(column, where)
        if levels is None:
            known = _learn_levels(code, distinct, where, kinds.get(position))
        else:
            known = levels[position]
        number = np.array([*_numbers_of(distinct, known), np.nan])
        values[:, position] = number[code]
        measured = np.array([not _is_missing(cell) for cell in distinct] + [False])
        n_unread = int((measured & np.isnan(number))[code].sum())
        if n_unread:
            unread[where] = unread.get(where, 0) + n_unread
        learned.append(known)
    return LabResults(values, learned, unread)


def describe_unread(unread: Unread, remedy: str = "") -> str:
    """Say how many results of which columns were not read, and nothing of what they were."""
    columns = [f"{where} ({n_cells})" for where, n_cells in unread.items()]
    more = f" and {len(columns) - 5} more columns" if len(columns) > 5 else ""
    return (
        f"{sum(unread.values())} results could not be read and count as not measured: "
        f"{', '.join(columns[:5])}{more}. They are texts in a numeric column, or no level of a "
        f"qualitative one (see levels_).{remedy}"
    )


def fill_in(table: pd.DataFrame, values: np.ndarray, filled: np.ndarray, levels: list[Levels]):
    """Copy a table with its missing cells filled, each column in its own way of writing.

    Parameters
    ----------
    table : DataFrame of shape (n_rows, n_labs)
        What was read.
    values : float array of shape (n_rows, n_labs)
        `read_results(table).values`; cells that are NaN here are filled.
    filled : float array of shape (n_rows, n_labs)
        The same without NaN.
    levels : list of (list of str, or None)
        Levels of each lab.

    Returns
    -------
    DataFrame of shape (n_rows, n_labs)
        A copy. Columns without a missing cell are unchanged.
    """
    copy = table.copy()
    missing = np.isnan(values)
    for position in np.flatnonzero(missing.any(axis=0)).tolist():
        column, known = table.iloc[:, position], levels[position]
        new = filled[missing[:, position], position]
        numbers = [parse_number(level) for level in known or ()]
        if _is_number_dtype(column.dtype) and None not in numbers:
            cells = _numbers(column).copy()
            cells[missing[:, position]] = (
                new if known is None else np.array(numbers)[_nearest(new, known)]
            )
            copy.isetitem(position, pd.array(cells, dtype=float_dtype(column.dtype)))
        else:
            copy.isetitem(position, _with_texts(column, missing[:, position], new, known))
    return copy


def float_dtype(dtype):
    """The dtype itself where it holds fractions, else its relative that does."""
    if dtype is None or pd.api.types.is_float_dtype(dtype):
        return np.dtype(np.float64) if dtype is None else dtype
    if isinstance(dtype, pd.ArrowDtype):
        return pd.Series([0.5], dtype="double[pyarrow]").dtype
    is_nullable = pd.api.types.is_extension_array_dtype(dtype) and hasattr(dtype, "numpy_dtype")
    return pd.Float64Dtype() if is_nullable else np.dtype(np.float64)


def _is_number_dtype(dtype) -> bool:
    return pd.api.types.is_numeric_dtype(dtype) or pd.api.types.is_bool_dtype(dtype)


def _numbers(column: pd.Series) -> np.ndarray:
    if pd.api.types.is_complex_dtype(column.dtype):
        raise ValueError("Complex data not supported.")
    if isinstance(column.dtype, pd.SparseDtype):
        return np.asarray(column, dtype=np.float64)
    return column.to_numpy(dtype=np.float64, na_value=np.nan)


def _distinct_cells(column: pd.Series, where: str) -> tuple[np.ndarray, list]:
    """Code of each cell, -1 = not measured, and what each code stands for."""
    if column.dtype == object:
        _check_types(set(map(type, column)), where)
    code, distinct = pd.factorize(column)
    cells = list(distinct)
    _check_types(set(map(type, cells)), where)
    return code, cells


def _check_types(types: set[type], where: str) -> None:
    readable = (str, Real, Decimal, np.bool_, type(None), type(pd.NA), type(pd.NaT))
    for kind in types:
        if issubclass(kind, readable):
            continue
        if issubclass(kind, Complex):
            raise ValueError("Complex data not supported.")
        raise TypeError(
            f"Each cell's argument must be a string or a number, but {where} of X holds a "
            f"{kind.__name__}. Leave the column out or convert it."
        )


def _is_missing(cell) -> bool:
    return isinstance(cell, str) and cell.strip().lower() in _NOT_MEASURED


def _is_word(cell) -> bool:
    """Whether a cell may be a qualitative result: no number and no mere punctuation."""
    return (
        isinstance(cell, str)
        and any(letter.isalnum() or letter == "+" for letter in cell)
        and parse_number(cell) is None
        and not _COMMA_NUMBER.fullmatch(cell.strip())
        and not _is_missing(cell)
    )


def _as_float(cell) -> float:
    if isinstance(cell, str):
        number = parse_number(cell)
        return np.nan if number is None else number
    try:
        return float(cell)
    except OverflowError:
        # an integer beyond float64; scikit-learn's check refuses infinity
        return np.inf


def _numbers_of(cells: list, levels: Levels) -> list[float]:
    if levels is None:
        return [_as_float(cell) for cell in cells]
    position = {level_key(level): float(i) for i, level in enumerate(levels)}
    return [position.get(level_key(str(cell)), np.nan) for cell in cells]


def _learn_levels(code: np.ndarray, distinct: list, where: str, kind: str | None) -> Levels:
    """Levels in order of a column of this kind, or with more words than numbers; or None."""
    if kind == NUMERIC:
        return None
    count = np.bincount(code[code >= 0], minlength=len(distinct)).tolist()
    numbers = sum(
        n for cell, n in zip(distinct, count, strict=True) if not np.isnan(_as_float(cell))
    )
    words = sum(n for cell, n in zip(distinct, count, strict=True) if _is_word(cell))
    if words <= numbers and kind is None:
        return None

    cells_of_key: Counter[str] = Counter()
    spellings: dict[str, Counter[str]] = {}
    for cell, n in zip(distinct, count, strict=True):
        if n and (_is_word(cell) or not np.isnan(_as_float(cell))):
            text = str(cell).strip()
            cells_of_key[level_key(text)] += n
            spellings.setdefault(level_key(text), Counter())[text] += n
    if kind == QUALITATIVE and len(cells_of_key) > _MAX_LEVELS:
        raise ValueError(
            f"kinds says that {where} of X is qualitative, but it holds {len(cells_of_key)} "
            f"different results where {_MAX_LEVELS} are the most; leave it to be numeric, or map "
            "it to fewer results."
        )
    _refuse_free_text(cells_of_key, where)

    kept = [k for k, n in cells_of_key.items() if k in _GRADE_OF or n >= _MIN_CELLS_OF_A_LEVEL]
    # the most frequent spelling stands for the level; of equally frequent ones the last by name
    most = {key: max((n, text) for text, n in spellings[key].items())[1] for key in kept}
    return [most[key] for key in sorted(kept, key=level_order)] or None


def _refuse_free_text(cells_of_key: Counter[str], where: str) -> None:
    unknown = {key: n for key, n in cells_of_key.items() if key not in _GRADE_OF}
    words = {key: n for key, n in unknown.items() if parse_number(key) is None}
    n_cells = sum(words.values())
    if (
        len(cells_of_key) > _MAX_LEVELS
        or any(len(key) > _MAX_LEVEL_LENGTH for key in words)
        or (len(words) > _FEW_WORDS and 2 * len(words) > n_cells)
    ):
        raise ValueError(
            f"{where[0].upper()}{where[1:]} of X looks like free text, which may name people and "
            f"is never learned from: {len(words)} different texts in {n_cells} cells. A lab column "
            f"holds numbers or up to {_MAX_LEVELS} short results such as NEG and POS. Leave the "
            "column out, or map it to numbers or to fewer results."
        )


def _nearest(new: np.ndarray, levels: list[str]) -> np.ndarray:
    return np.clip(np.rint(new), 0, len(levels) - 1).astype(int)


def _with_texts(column: pd.Series, missing: np.ndarray, new: np.ndarray, levels: Levels):
    """Fill the missing cells of a column that is no plain column of numbers."""
    cells = column.astype(object).to_numpy(copy=True)
    is_text_dtype = pd.api.types.is_string_dtype(column.dtype) and column.dtype != object
    if levels is not None:
        cells[missing] = np.array(levels, dtype=object)[_nearest(new, levels)]
    elif is_text_dtype or any(isinstance(cell, str) for cell in cells):
        cells[missing] = np.array([f"{number:.6g}" for number in new.tolist()], dtype=object)
    else:
        cells[missing] = np.array(new.tolist(), dtype=object)

    if levels is not None and isinstance(column.dtype, pd.CategoricalDtype):
        old = column.cat.categories.tolist()
        more = [level for level in levels if level not in old and (cells == level).any()]
        return pd.Categorical(cells, categories=old + more, ordered=column.dtype.ordered)
    return pd.Series(cells, index=column.index, dtype=column.dtype if is_text_dtype else object)
