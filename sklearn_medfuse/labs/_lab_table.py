"""Read lab tables as hospitals write them ("<0.01", "NEG", 7.4, "1+"), and fill them in."""

import warnings
from collections import Counter
from decimal import Decimal
from numbers import Complex, Real

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.utils import check_array
from sklearn.utils.validation import validate_data

from .._input_data import no_values_in_errors, to_pandas
from .._written_results import read_result
from ._levels import is_grade, level_key, level_order, parse_number

_NOT_MEASURED = {"", "nan", "na", "n/a", "<na>", "null", "nat"}

# Beyond these limits a column of words is free text, which could name people
_MAX_LEVELS = 50
_MAX_LEVEL_LENGTH = 40
_FEW_WORDS = 4
# A word or number in fewer cells of a qualitative column is not a level: it may be a remark about
# one patient, who can have several stays, and the levels are saved with the model. Terms of notes
# have the same limit.
_MIN_CELLS_OF_A_LEVEL = 3

Levels = list[str] | None
NUMERIC, QUALITATIVE = "numeric", "qualitative"
# How to read a column: as numeric, as qualitative, with these levels (a list), or in the order of
# these categories (a tuple)
Kind = str | list[str] | tuple[str, ...]
_AS_FLOATS: dict = {"dtype": np.float64, "ensure_all_finite": "allow-nan"}


def validate_labs(estimator, X, levels: list[Levels] | None = None):
    """Check X as scikit-learn does and read its results.

    Checks the names and number of columns, or sets them if there are no `levels` from fit. Returns
    a float64 ndarray or csr_array (n_rows, n_labs) of numbers and positions in the levels, with NaN
    or no entry for what was not measured, and the levels of each qualitative lab, None for a
    numeric one.
    """
    X = X if isinstance(X, pd.DataFrame) else to_pandas(X)
    reset = levels is None
    kinds = _kinds_by_position(estimator, X) if reset else {}
    # Before it refuses infinity, scikit-learn sums X, and infinities of both signs give NaN
    with no_values_in_errors(), np.errstate(invalid="ignore"):
        if sparse.issparse(X):
            values = _validate_sparse(estimator, X, levels)
            return values, levels or [None] * values.shape[1]
        asked = any(kind != NUMERIC for kind in kinds.values())
        table = _as_table(X, always=asked or _any_qualitative(levels))
        if table is None:
            values = validate_data(estimator, X, reset=reset, copy=False, **_AS_FLOATS)
            return values, levels or [None] * values.shape[1]
        validate_data(estimator, X, reset=reset, skip_check_array=True)
        values, levels, unread = read_results(table, levels, kinds)
        values = check_array(values, input_name="X", estimator=estimator, **_AS_FLOATS)
    if unread:
        has_kinds = hasattr(estimator, "kinds")
        warnings.warn(_describe_unread(unread, has_kinds), UserWarning, stacklevel=3)
    return values, levels


def validate_dense_labs(estimator, X, levels: list[Levels] | None = None):
    """Do the same as `validate_labs` for an estimator that takes no sparse X."""
    if sparse.issparse(X):
        raise TypeError(
            f"Sparse data was passed for X, but {type(estimator).__name__} needs dense data; use "
            "X.toarray() or a DataFrame."
        )
    return validate_labs(estimator, X, levels)


def _kinds_by_position(estimator, X) -> dict[int, Kind]:
    """The estimator's `kinds` and `levels` by position, refused if they do not fit X."""
    kinds, levels = (getattr(estimator, name, None) or {} for name in ("kinds", "levels"))
    found: dict[int, Kind] = {}
    if not (kinds or levels):
        return found
    columns = list(getattr(X, "columns", range(np.shape(X)[1] if np.ndim(X) == 2 else 0)))
    for parameter, asked in (("kinds", kinds), ("levels", levels)):
        for name, kind in asked.items():
            refuse_unknown_labs([name], columns, parameter)
            if parameter == "levels":
                kind = _checked_levels(name, kind, kinds.get(name))
            elif kind not in (NUMERIC, QUALITATIVE):
                raise ValueError(f"kinds[{name!r}]={kind!r} must be 'numeric' or 'qualitative'.")
            if kind != NUMERIC and sparse.issparse(X):
                raise ValueError(
                    f"{parameter}[{name!r}] does not fit a sparse X, which holds only numbers. "
                    "Pass a DataFrame."
                )
            found |= {position: kind for position, each in enumerate(columns) if each == name}
    return found


def refuse_unknown_labs(names, columns: list, parameter: str) -> None:
    """Refuse names that are not among the lab columns of X."""
    if unknown := [name for name in names if name not in columns]:
        raise ValueError(
            f"{parameter} names {unknown}, but the lab columns of X are {columns}; use the column "
            "names of a DataFrame or the column positions of an array."
        )


def _checked_levels(name, levels, kind: str | None) -> list[str]:
    if kind == NUMERIC:
        raise ValueError(
            f"levels names {name!r}, which is numeric according to kinds; remove it from one of "
            "them."
        )
    texts = [] if isinstance(levels, str) else [str(level).strip() for level in levels]
    if len(texts) < 2 or len(set(map(_same_case, texts))) < len(texts):
        raise ValueError(
            f"levels[{name!r}]={levels!r} must be a list of two or more different results from low "
            "to high, such as ['clear', 'hazy', 'cloudy']."
        )
    return texts


def _any_qualitative(levels: list[Levels] | None) -> bool:
    return levels is not None and any(known is not None for known in levels)


def _as_table(X, *, always: bool) -> pd.DataFrame | None:
    """X as a DataFrame if its cells must be read one by one, or `always`; else None."""
    if isinstance(X, pd.DataFrame):
        plain = all(isinstance(dtype, np.dtype) and dtype.kind in "fiub" for dtype in X.dtypes)
        return None if plain and not always else X
    array = np.asarray(X)
    text = array.dtype.kind in "OUT"
    if array.ndim != 2 or not (text or always):
        return None
    if text and not hasattr(X, "dtype"):
        # NumPy turns a list of numbers and texts into texts
        array = np.array(X, dtype=object)
    return pd.DataFrame(array, dtype=object if text else None)


# Sparse tables: an entry is a measured cell, even if it is zero


def _validate_sparse(estimator, X, levels: list[Levels] | None) -> sparse.csr_array:
    """CSR matrix whose entries are the measured cells, each once and in column order."""
    if _any_qualitative(levels):
        raise ValueError(
            "Sparse X holds only numbers, but this encoder was fitted with qualitative columns "
            "(see levels_). Pass a DataFrame."
        )
    if X.format in ("bsr", "dia"):
        raise ValueError(
            f"Sparse X in {X.format.upper()} format stores zeros for absent entries, so that "
            "measured zeros look the same as absent entries. Build X in CSR or COO format."
        )
    if X.format == "coo" and X.ndim == 2:
        # Conversion silently adds up repeated entries
        _refuse_repeated(X.nnz - X.tocsr().nnz)
    X = validate_data(estimator, X, reset=levels is None, accept_sparse="csr", **_AS_FLOATS)
    X = sparse.csr_array(X)
    if not X.has_sorted_indices:
        X = X.sorted_indices()
    row = np.repeat(np.arange(X.shape[0]), np.diff(X.indptr))
    _refuse_repeated(int(((np.diff(row) == 0) & (np.diff(X.indices) == 0)).sum()))
    measured = ~np.isnan(X.data)
    if measured.all():
        return X
    row_start = np.concatenate([[0], measured.cumsum()])[X.indptr]
    return sparse.csr_array((X.data[measured], X.indices[measured], row_start), shape=X.shape)


def _refuse_repeated(n_cells: int) -> None:
    if n_cells:
        raise ValueError(
            f"Sparse X holds {n_cells} cells more than once. Aggregate them first, for example to "
            "the last value; scipy would take their sum, which no lab has measured."
        )


def to_dense(X) -> np.ndarray:
    """Return a CSR matrix as an array with NaN for absent entries, and an array unchanged."""
    if isinstance(X, np.ndarray):
        return X
    dense = np.full(X.shape, np.nan)
    dense[np.repeat(np.arange(X.shape[0]), np.diff(X.indptr)), X.indices] = X.data
    return dense


# Results: numbers, limits and levels


def read_results(
    table: pd.DataFrame, levels: list[Levels] | None = None, kinds: dict[int, Kind] | None = None
) -> tuple[np.ndarray, list[Levels], dict[str, int]]:
    """Read each column as numbers or as levels, by default as most of its cells are.

    `kinds` has kinds or levels by position. Returns values and levels like `validate_labs`, and the
    number of measured cells by column that could not be read and are NaN too.
    """
    values = np.empty(table.shape)
    learned: list[Levels] = []
    unread: dict[str, int] = {}
    for position, name in enumerate(table.columns):
        column = table.iloc[:, position]
        where = f"column {name!r}" if isinstance(name, str) else f"column {position}"
        kind = (kinds or {}).get(position) or _ordered_categories(column)
        is_numeric = kind in (None, NUMERIC) if levels is None else levels[position] is None
        if is_numeric and _is_number_dtype(column.dtype):
            values[:, position] = _numbers(column)
            learned.append(None)
            continue
        code, distinct = _distinct_cells(column, where)
        if levels is not None:
            known = levels[position]
        elif isinstance(kind, list):
            known = kind
        else:
            known = _learn_levels(code, distinct, where, kind)
        number = np.array([*_numbers_of(distinct, known), np.nan])
        values[:, position] = number[code]
        measured = np.array([not _is_missing(cell) for cell in distinct] + [False])
        n_unread = int((measured & np.isnan(number))[code].sum())
        if n_unread:
            unread[where] = unread.get(where, 0) + n_unread
        learned.append(known)
    return values, learned, unread


def _describe_unread(unread: dict[str, int], has_kinds: bool) -> str:
    """Say how many results in which columns were not read, without quoting them."""
    columns = [f"{where} ({n_cells})" for where, n_cells in unread.items()]
    more = f" and {len(columns) - 5} more columns" if len(columns) > 5 else ""
    remedy = " The parameter kinds tells fit how to read a column." if has_kinds else ""
    return (
        f"{sum(unread.values())} results could not be read and count as not measured: "
        f"{', '.join(columns[:5])}{more}. They are text in a numeric column, or not among the "
        f"levels of a qualitative one (see levels_).{remedy}"
    )


def _is_number_dtype(dtype) -> bool:
    return pd.api.types.is_numeric_dtype(dtype) or pd.api.types.is_bool_dtype(dtype)


def _numbers(column: pd.Series) -> np.ndarray:
    if pd.api.types.is_complex_dtype(column.dtype):
        raise ValueError("Complex data not supported.")
    if isinstance(column.dtype, pd.SparseDtype):
        return np.asarray(column, dtype=np.float64)
    return column.to_numpy(dtype=np.float64, na_value=np.nan)


def _distinct_cells(column: pd.Series, where: str) -> tuple[np.ndarray, list]:
    """Code of each cell, -1 if not measured, and the cell for which each code stands."""
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
    """Whether a cell may be a qualitative result: neither a number nor mere punctuation."""
    if not isinstance(cell, str) or _is_missing(cell):
        return False
    result = read_result(cell)
    is_number = result is not None and not result.unit
    return not is_number and _says_something(cell)


def _says_something(text: str) -> bool:
    return any(letter.isalnum() or letter in "+±" for letter in text)


def _as_float(cell) -> float:
    if isinstance(cell, str):
        number = parse_number(cell)
        return np.nan if number is None else number
    try:
        return float(cell)
    except OverflowError:
        # An integer beyond float64; scikit-learn's check refuses infinity
        return np.inf


def _same_case(text: str) -> str:
    return " ".join(text.casefold().split())


def _numbers_of(cells: list, levels: Levels) -> list[float]:
    if levels is None:
        return [_as_float(cell) for cell in cells]
    # Two levels set by the user may mean the same and differ only in spelling
    by_key = {level_key(level): float(i) for i, level in reversed(list(enumerate(levels)))}
    by_word = {_same_case(level): float(i) for i, level in enumerate(levels)}
    return [
        by_word.get(_same_case(str(cell)), by_key.get(level_key(str(cell)), np.nan))
        for cell in cells
    ]


def _ordered_categories(column: pd.Series) -> tuple[str, ...] | None:
    """Categories of an ordered column, unless they are ascending numbers."""
    if not isinstance(column.dtype, pd.CategoricalDtype) or not column.dtype.ordered:
        return None
    texts = [str(category) for category in column.cat.categories]
    numbers = [parse_number(text) for text in texts]
    ascending = None not in numbers and numbers == sorted(numbers)  # type: ignore[type-var]
    return None if ascending else tuple(texts)


def _learn_levels(code: np.ndarray, distinct: list, where: str, kind) -> Levels:
    """Ordered levels of a column that `kind` or a majority of words makes qualitative, or None."""
    if kind == NUMERIC:
        return None
    count = np.bincount(code[code >= 0], minlength=len(distinct)).tolist()
    is_number = [not np.isnan(_as_float(cell)) for cell in distinct]
    is_word = [_is_word(cell) for cell in distinct]
    if kind is None and np.dot(is_word, count) <= np.dot(is_number, count):
        return None

    cells_of_key: Counter[str] = Counter()
    spellings: dict[str, Counter[str]] = {}
    for cell, n in zip(distinct, count, strict=True):
        text = str(cell).strip()
        if n and not _is_missing(text) and _says_something(text):
            cells_of_key[level_key(text)] += n
            spellings.setdefault(level_key(text), Counter())[text] += n
    if kind is not None and len(cells_of_key) > _MAX_LEVELS:
        raise ValueError(
            f"{where[0].upper()}{where[1:]} of X is to be read as qualitative, but it holds "
            f"{len(cells_of_key)} different results and {_MAX_LEVELS} is the limit; read it as "
            "numeric, or map it to fewer results."
        )
    _refuse_free_text(cells_of_key, where)

    kept = [k for k, n in cells_of_key.items() if is_grade(k) or n >= _MIN_CELLS_OF_A_LEVEL]
    # The most frequent spelling names the level; of equally frequent ones, the last in the alphabet
    most = {key: max((n, text) for text, n in spellings[key].items())[1] for key in kept}
    if isinstance(kind, tuple):
        cells_of_text = Counter(dict(zip(map(str, distinct), count, strict=True)))
        return [
            text.strip()
            for text in kind
            if (n := cells_of_text[text]) >= _MIN_CELLS_OF_A_LEVEL
            or (n and is_grade(level_key(text)))
        ] or None
    return [most[key] for key in sorted(kept, key=level_order)] or None


def _refuse_free_text(cells_of_key: Counter[str], where: str) -> None:
    words = {
        key: n for key, n in cells_of_key.items() if not is_grade(key) and parse_number(key) is None
    }
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


# Back to the table


def fill_like(X, values: np.ndarray, filled: np.ndarray, levels: list[Levels]):
    """Return the filled numbers in the type of X, and its measured cells unchanged.

    `values` is what `validate_labs` read from X, and `filled` the same with NaN only in labs about
    which nothing is known.
    """
    if isinstance(X, pd.DataFrame):
        return fill_in(X, values, filled, levels)
    table = None if sparse.issparse(X) else _as_table(X, always=_any_qualitative(levels))
    if table is None:
        return filled.astype(_float_dtype(getattr(X, "dtype", None)), copy=False)
    filled_table = fill_in(table, values, filled, levels)
    if all(dtype.kind == "f" for dtype in filled_table.dtypes):
        return filled_table.to_numpy(dtype=_float_dtype(getattr(X, "dtype", None)))
    imputed = filled_table.to_numpy(dtype=object)
    is_array_of_texts = isinstance(X, np.ndarray) and X.dtype.kind == "U"
    return imputed.astype(str) if is_array_of_texts else imputed


def fill_in(table: pd.DataFrame, values: np.ndarray, filled: np.ndarray, levels: list[Levels]):
    """Copy a table with its missing cells filled, in the notation of each column."""
    copy = table.copy()
    missing = np.isnan(values) & ~np.isnan(filled)
    for position in np.flatnonzero(missing.any(axis=0)).tolist():
        column, known = table.iloc[:, position], levels[position]
        new = filled[missing[:, position], position]
        numbers = [parse_number(level) for level in known or ()]
        if _is_number_dtype(column.dtype) and None not in numbers:
            cells = _numbers(column).copy()
            cells[missing[:, position]] = (
                new if known is None else np.array(numbers)[_nearest(new, known)]
            )
            copy.isetitem(position, pd.array(cells, dtype=_float_dtype(column.dtype)))
        else:
            copy.isetitem(position, _with_texts(column, missing[:, position], new, known))
    return copy


def _float_dtype(dtype):
    """The dtype itself if it holds fractions, else the corresponding one that does."""
    if dtype is None or pd.api.types.is_float_dtype(dtype):
        return np.dtype(np.float64) if dtype is None else dtype
    if isinstance(dtype, pd.ArrowDtype):
        return pd.Series([0.5], dtype="double[pyarrow]").dtype
    is_nullable = pd.api.types.is_extension_array_dtype(dtype) and hasattr(dtype, "numpy_dtype")
    return pd.Float64Dtype() if is_nullable else np.dtype(np.float64)


def _nearest(new: np.ndarray, levels: list[str]) -> np.ndarray:
    return np.clip(np.rint(new), 0, len(levels) - 1).astype(int)


def _with_texts(column: pd.Series, missing: np.ndarray, new: np.ndarray, levels: Levels):
    """Fill the missing cells of a column that does not hold numbers alone."""
    cells = column.astype(object).to_numpy(copy=True)
    is_text_dtype = pd.api.types.is_string_dtype(column.dtype) and column.dtype != object
    is_categorical = isinstance(column.dtype, pd.CategoricalDtype)
    if levels is not None:
        category = {str(each): each for each in column.cat.categories} if is_categorical else {}
        levels = [category.get(level, level) for level in levels]
        cells[missing] = np.array(levels, dtype=object)[_nearest(new, levels)]
    elif is_text_dtype or any(isinstance(cell, str) for cell in cells):
        cells[missing] = np.array([f"{number:.6g}" for number in new.tolist()], dtype=object)
    else:
        cells[missing] = np.array(new.tolist(), dtype=object)

    if levels is not None and is_categorical:
        old = column.cat.categories.tolist()
        more = [level for level in levels if level not in old and (cells == level).any()]
        return pd.Categorical(cells, categories=old + more, ordered=column.dtype.ordered)
    return pd.Series(cells, index=column.index, dtype=column.dtype if is_text_dtype else object)
