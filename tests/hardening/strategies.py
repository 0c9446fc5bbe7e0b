"""Hypothesis strategies: odd lab columns, notes and labels of every kind, and tables of them."""

import numpy as np
import pandas as pd
import scipy.sparse
from hypothesis import strategies as st

# Searched for in messages; no column or class has this name
NAME = "Zebulon"
VALUE = 31337.421875
LABS = ["a", "b", "c"]
NOTE = "note"

ODD_NUMBERS = [0.0, -0.0, 1.5, -3.0, 1e300, -1e300, 5e-324, np.inf, -np.inf, np.nan, VALUE]
ODD_TEXTS = [
    f"Patient {NAME}, COPD.",
    "",
    " \n\t",
    "\x00\x07\x1b[31m",
    "\ud800 lone surrogate",
    "مريض يعاني من السعال",
    "🫀" * 20,
    "word " * 400,
    "\n\n".join(["Known CHF."] * 5),
    "<0.01",
    "NaN",
    "x" * 3000,
]
CELLS = [1, 2.5, "3.1", "<0.01", "NEG", f"{NAME}", None, np.nan, True, b"1", pd.NA, [1], {"k": 1}]
CELLS += [1 + 2j, 10**400, np.inf, pd.Timestamp("2024-01-01"), "1e999", "٣"]
SIZES = st.sampled_from([12, 12, 12, 12, 6, 2, 1, 0])


def _numbers(n):
    return st.lists(
        st.one_of(st.sampled_from(ODD_NUMBERS), st.floats(-5, 5)), min_size=n, max_size=n
    )


@st.composite
def lab_column(draw, n):
    """One lab of n rows."""
    kind = draw(st.sampled_from(sorted(_LAB_KINDS)))
    return _LAB_KINDS[kind](draw, n)


def _plain(draw, n):
    return pd.Series(draw(_numbers(n)), dtype=float)


def _usual(draw, n):
    numbers = st.one_of(st.floats(-5, 5), st.just(np.nan))
    return pd.Series(draw(st.lists(numbers, min_size=n, max_size=n)), dtype=float)


def _objects(draw, n):
    values = draw(st.lists(st.sampled_from(CELLS), min_size=n, max_size=n))
    column = pd.Series([None] * n, dtype=object)
    for i, value in enumerate(values):
        column.iat[i] = value  # noqa: PD009, a list among the values is one cell
    return column


def _integers(draw, n):
    return pd.Series(draw(st.lists(st.integers(-9, 9), min_size=n, max_size=n)), dtype="Int64")


def _category(draw, n):
    names = ["NEG", "TRACE", "1+", NAME, None]
    return pd.Series(
        draw(st.lists(st.sampled_from(names), min_size=n, max_size=n)), dtype="category"
    )


def _sparse(draw, n):
    numbers = draw(st.lists(st.sampled_from([0.0, 1.0, np.nan]), min_size=n, max_size=n))
    return pd.Series(pd.arrays.SparseArray(np.array(numbers, dtype=float)))


_LAB_KINDS = {
    "float": _plain,
    "normal": lambda draw, n: pd.Series(np.linspace(-1, 1, n)),
    "float32": lambda draw, n: pd.Series(np.linspace(-1, 1, n), dtype="float32"),
    "float16": lambda draw, n: pd.Series(np.linspace(-1, 1, n), dtype="float16"),
    "object": _objects,
    "Int64": _integers,
    "Float64": lambda draw, n: pd.Series(draw(_numbers(n)), dtype="Float64"),
    "arrow": lambda draw, n: pd.Series(draw(_numbers(n)), dtype="float64[pyarrow]"),
    "arrow text": lambda draw, n: pd.Series(["1.5"] * n, dtype="string[pyarrow]"),
    "category": _category,
    "bool": lambda draw, n: pd.Series(np.arange(n) % 2 == 0),
    "boolean": lambda draw, n: pd.Series([True, None] * n, dtype="boolean").iloc[:n],
    "datetime": lambda draw, n: pd.Series(pd.date_range("2024", periods=n)),
    "timedelta": lambda draw, n: pd.Series(pd.to_timedelta(np.arange(n), unit="h")),
    "zoned": lambda draw, n: pd.Series(pd.date_range("2024", periods=n, tz="UTC")),
    "period": lambda draw, n: pd.Series(pd.period_range("2024", periods=n, freq="D")),
    "complex": lambda draw, n: pd.Series(np.linspace(0, 1, n) + 1j),
    "nothing": lambda draw, n: pd.Series(np.full(n, np.nan)),
    "None": lambda draw, n: pd.Series([None] * n, dtype=object),
    "constant": lambda draw, n: pd.Series(np.full(n, VALUE)),
    "sparse": _sparse,
    "huge integers": lambda draw, n: pd.Series(np.full(n, 2**63, dtype="uint64")),
}


@st.composite
def note_column(draw, n):
    """Notes of n rows."""
    kind = draw(st.sampled_from(["text", "text", "object", "number", "category", "arrow", "none"]))
    texts = draw(st.lists(st.sampled_from(ODD_TEXTS), min_size=n, max_size=n))
    if kind == "object":
        odd = [*ODD_TEXTS, None, np.nan, b"bytes", 3.5, VALUE, ["a", "list"], {}, pd.NA, True]
        column = pd.Series([None] * n, dtype=object)
        for i, value in enumerate(draw(st.lists(st.sampled_from(odd), min_size=n, max_size=n))):
            column.iat[i] = value  # noqa: PD009, a list among the values is one cell
        return column
    if kind == "number":
        return pd.Series(np.full(n, VALUE))
    if kind == "none":
        return pd.Series([None] * n, dtype=object)
    if kind == "text":
        return pd.Series(texts, dtype=object)
    # Arrow rejects lone surrogates
    sound = [text.replace("\ud800", "") for text in texts]
    return pd.Series(sound, dtype="category" if kind == "category" else "string[pyarrow]")


@st.composite
def table(draw, n, odd):
    """A table of three labs and notes; `odd` names its odd parts."""
    columns = [draw(lab_column(n)) if "labs" in odd else _usual(draw, n) for _ in LABS]
    frame = pd.DataFrame(dict(zip(LABS, columns, strict=True)))
    frame[NOTE] = draw(note_column(n)) if "notes" in odd else [f"note {i % 3}" for i in range(n)]
    if "shape" not in odd:
        return frame
    return _SHAPES[draw(st.sampled_from(sorted(_SHAPES)))](frame)


def _with_index(frame, index):
    return frame.set_axis(index, axis=0)


def _read_only(frame):
    frame["a"] = np.linspace(0, 1, len(frame))
    frame["a"].array._ndarray.flags.writeable = False
    return frame


_SHAPES = {
    "duplicate names": lambda frame: frame.set_axis(["a", "a", "c", NOTE], axis=1),
    "duplicate notes": lambda frame: pd.concat([frame, frame[[NOTE]]], axis=1),
    "names of numbers": lambda frame: frame.set_axis([0, 1, 2, NOTE], axis=1),
    "more columns": lambda frame: frame.assign(**{"bed": 1}),
    "mixed names": lambda frame: frame.assign(**{"bed": 1}).rename(columns={"bed": 7}),
    "levels of names": lambda frame: frame.set_axis(
        pd.MultiIndex.from_product([["x"], [*LABS, NOTE]]), axis=1
    ),
    "levels of rows": lambda frame: _with_index(
        frame, pd.MultiIndex.from_arrays([[NAME] * len(frame), range(len(frame))])
    ),
    "equal rows": lambda frame: _with_index(frame, [NAME] * len(frame)),
    "no column": lambda frame: frame[[]],
    "no lab": lambda frame: frame[[NOTE]],
    "array": lambda frame: frame.to_numpy(dtype=object),
    "list": lambda frame: frame.to_numpy(dtype=object).tolist(),
    "reversed": lambda frame: frame.iloc[::-1],
    "read only": _read_only,
    "none": lambda frame: None,
}


@st.composite
def labels(draw, n, odd):
    """Labels of n rows: two columns of 0 and 1, unless odd."""
    kind = draw(st.sampled_from(sorted(_LABELS))) if odd else "two labels"
    two = np.array(draw(st.lists(st.integers(0, 1), min_size=2 * n, max_size=2 * n)), dtype=int)
    return _LABELS.get(kind, _two_labels)(two.reshape(n, 2))


def _two_labels(y):
    return y


def _with_gap(y):
    y = y.astype(float)
    y[:1] = np.nan
    return y


_LABELS = {
    "one label": lambda y: y[:, 0],
    "frame": lambda y: pd.DataFrame(y, columns=["CHF", "COPD"]),
    "equal names": lambda y: pd.DataFrame(y, columns=["CHF", "CHF"]),
    "bool": lambda y: y.astype(bool),
    "float": lambda y: y.astype(float),
    "gap": _with_gap,
    "texts": lambda y: np.where(y[:, 0] == 1, "ill", "well"),
    "matrix of texts": lambda y: np.where(y == 1, "ill", "well"),
    "objects": lambda y: y.astype(object),
    "objects and None": lambda y: np.where(y == 1, 1, None),
    "zeros": np.zeros_like,
    "ones": np.ones_like,
    "sparse": scipy.sparse.csr_matrix,
    "sparse array": scipy.sparse.csr_array,
    "classes": lambda y: y.sum(axis=1),
    "matrix of classes": lambda y: y * 2,
    "one class": lambda y: np.zeros(len(y), dtype=int),
    "reals": lambda y: y[:, 0] + 0.25,
    "too short": lambda y: y[:-1],
    "three dimensions": lambda y: y[:, :, None],
    "no label": lambda y: y[:, :0],
    "list": lambda y: y.tolist(),
    "None": lambda y: None,
    "series": lambda y: pd.Series(y[:, 0], index=range(5, 5 + len(y))),
    "nullable": lambda y: pd.Series(y[:, 0], dtype="Int64"),
    "nullable with a gap": lambda y: pd.Series([None, *y[1:, 0]], dtype="Int64"),
    "category": lambda y: pd.Series(np.where(y[:, 0] == 1, "ill", "well"), dtype="category"),
    "dates": lambda y: pd.date_range("2024", periods=len(y)).to_numpy(),
    "complex": lambda y: y + 1j,
    "infinite": lambda y: np.where(y == 1, np.inf, 0.0),
}


@st.composite
def stays(draw):
    """A table to learn from, its labels, and a table to predict."""
    parts = st.sets(st.sampled_from(["labs", "notes", "shape", "labels", "size"]), max_size=2)
    odd, odd_new = draw(parts), draw(parts)
    n, n_new = (draw(SIZES) if "size" in each else 12 for each in (odd, odd_new))
    return draw(table(n, odd)), draw(labels(n, "labels" in odd)), draw(table(n_new, odd_new))


@st.composite
def lab_matrix(draw):
    """Labs alone, in the forms of arrays."""
    n = draw(SIZES)
    numbers = np.array(draw(_numbers(3 * n)), dtype=float).reshape(n, 3)
    return _MATRICES[draw(st.sampled_from(sorted(_MATRICES)))](numbers)


def _explicit_zeros(X):
    matrix = scipy.sparse.csr_matrix(np.where(np.isfinite(X), X, 1.0))
    matrix.data[::2] = 0.0
    return matrix


def _frozen(X):
    X.flags.writeable = False
    return X


def _masked(X):
    return np.ma.masked_array(X, mask=~np.isfinite(X))


def _unsorted(X):
    matrix = scipy.sparse.csr_matrix(np.nan_to_num(X, posinf=1, neginf=1))
    return scipy.sparse.csr_matrix(
        (matrix.data[::-1].copy(), matrix.indices[::-1].copy(), matrix.indptr), shape=X.shape
    )


_MATRICES = {
    "dense": lambda X: X,
    "finite": lambda X: np.clip(np.nan_to_num(X), -9, 9),
    "explicit zeros": _explicit_zeros,
    "sparse with gaps": scipy.sparse.csr_matrix,
    "csc": lambda X: scipy.sparse.csc_matrix(np.nan_to_num(X, posinf=1, neginf=1)),
    "coo": lambda X: scipy.sparse.coo_matrix(np.nan_to_num(X, posinf=1, neginf=1)),
    "sparse array": scipy.sparse.csr_array,
    "out of order": _unsorted,
    "read only": _frozen,
    "not contiguous": lambda X: np.repeat(X, 2, axis=1)[:, ::2],
    "reversed": lambda X: X[::-1, ::-1],
    "Fortran": np.asfortranarray,
    "other bytes": lambda X: X.astype(">f8"),
    "masked": _masked,
    "long double": lambda X: X.astype(np.longdouble),
    "records": lambda X: np.zeros(len(X), dtype=[("a", float), ("b", float)]),
    "one dimension": lambda X: X[:, 0],
    "three dimensions": lambda X: X[:, :, None],
    "no column": lambda X: X[:, :0],
    "list": lambda X: X.tolist(),
    "series": lambda X: pd.Series(X[:, 0]),
    "scalar": lambda X: 3.0,
    "text": lambda X: NAME,
}
