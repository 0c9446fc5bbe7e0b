"""What a model card says of the estimator: its steps, their parameters, and what they store."""

import inspect
import os
import re

import numpy as np
import pandas as pd

from ._card_text import describe_name, make_table

_SHORT = re.compile(r"[A-Za-z0-9_.+/-]{1,80}")
_HASH = re.compile(r"[0-9a-f]{40,}")
# what a step reads that is no column of a ColumnTransformer
_INPUT, _BEFORE = object(), object()
# parameters that hold the steps themselves, and names that scikit-learn gives
_OF_COMPOSITION = {"steps", "transformers", "transformer_list", "estimator"}
_OF_SCIKIT_LEARN = {"remainder", "drop", "passthrough", "multilabel-indicator", "binary"}


def list_steps(estimator, name="model"):
    """List an estimator and those within it.

    Parameters
    ----------
    estimator : object
        A fitted estimator, pipeline or search.

    name : str, default="model"
        Its name.

    Returns
    -------
    steps : list of (str, object, columns)
        Path, estimator, and the columns that a ColumnTransformer gives it, or a mark.
    """
    steps = []
    for child, inner, columns in _children(estimator):
        path = child if name == "model" else f"{name}.{child}"
        steps.append((path, inner, columns))
        steps += list_steps(inner, path)
    return steps or ([(name, estimator, _INPUT)] if name == "model" else [])


def _children(estimator):
    if hasattr(estimator, "best_estimator_"):
        return [("best_estimator", estimator.best_estimator_, _INPUT)]
    if hasattr(estimator, "steps"):
        steps = [(name, step) for name, step in estimator.steps if _is_estimator(step)]
        return [(*step, _BEFORE if number else _INPUT) for number, step in enumerate(steps)]
    if hasattr(estimator, "transformers_"):
        return [part for part in estimator.transformers_ if _is_estimator(part[1])]
    if hasattr(estimator, "transformer_list"):
        return [(name, part, _INPUT) for name, part in estimator.transformer_list]
    return []


def _is_estimator(value):
    return hasattr(value, "get_params") and not isinstance(value, type)


def describe_steps(steps, known_names):
    """Write a table of the steps.

    Parameters
    ----------
    steps : list of (str, object, columns)
        As `list_steps` gives them.

    known_names : set of str
        Names of columns and labels, which may be shown.

    Returns
    -------
    table : str
        Markdown.
    """
    rows = []
    for path, estimator, columns in steps:
        rows.append(
            [
                describe_name(path),
                type(estimator).__name__,
                _describe_columns(columns, known_names),
                describe_parameters(estimator, known_names) or "defaults",
            ]
        )
    return make_table(["step", "class", "reads", "parameters that are not defaults"], rows)


def _describe_columns(columns, known_names):
    if columns is _INPUT or columns is _BEFORE:
        return "what it is given" if columns is _INPUT else "what the step before gives"
    names = [columns] if isinstance(columns, str) else list(columns)
    if len(names) <= 3 and all(name in known_names for name in map(str, names)):
        return ", ".join(map(describe_name, names))
    return f"{len(names)} columns"


def describe_parameters(estimator, known_names):
    """Write the parameters that differ from the defaults; no value that could be data.

    Parameters
    ----------
    estimator : object
        An estimator.

    known_names : set of str
        Names of columns and labels, which may be shown.

    Returns
    -------
    text : str
        ``name=value, …``.
    """
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(type(estimator).__init__).parameters.items()
    }
    found = []
    for name, value in sorted(estimator.get_params(deep=False).items()):
        if name not in _OF_COMPOSITION and not _is_default(
            value, defaults.get(name, inspect.Parameter.empty)
        ):
            found.append(f"{name}={_describe_value(value, known_names)}")
    return describe_name(", ".join(found))


def _is_default(value, default):
    if value is default:
        return True
    plain = (bool, int, float, str, tuple)
    return isinstance(value, plain) and type(value) is type(default) and value == default


def _describe_value(value, known_names):
    """A number, an option or a name of the model; of all else the kind and the size."""
    if value is None or isinstance(value, bool | int | float | np.number | np.bool_):
        return f"{value}"
    if isinstance(value, str):
        return _describe_text(value, known_names)
    if _is_estimator(value):
        return type(value).__name__
    if isinstance(value, list | tuple | set | frozenset):
        return f"{type(value).__name__} of {len(value)}"
    if isinstance(value, dict):
        return f"dict of {len(value)}"
    if callable(value):
        return f"function {getattr(value, '__name__', type(value).__name__)}"
    return type(value).__name__


def _describe_text(value, known_names):
    if value in known_names:
        return value
    if os.path.isabs(value) or value.startswith(("~", ".")) or os.path.exists(value):
        return "a local path"
    return value if _SHORT.fullmatch(value) else f"text of {len(value)} characters"


def describe_stored(steps, known_names):
    """Write what a saved file of the steps holds, by kind and amount.

    Parameters
    ----------
    steps : list of (str, object, columns)
        As `list_steps` gives them.

    known_names : set of str
        Names of columns and labels; other texts are told, as they may come from patients.

    Returns
    -------
    table : str
        Markdown.

    with_texts : list of str
        Attributes that hold texts other than these names.
    """
    rows, with_texts = [], []
    inner = {id(estimator) for _, estimator, _ in steps}
    step_names = {name for path, _, _ in steps for name in path.split(".")}
    # of its outputs scikit-learn makes names such as pca0
    made_names = {type(estimator).__name__.lower() for _, estimator, _ in steps}
    known_names = known_names | step_names | made_names | _OF_SCIKIT_LEARN
    for path, estimator, _ in steps:
        parameters = estimator.get_params(deep=False)
        state = {
            name: value
            for name, value in estimator.__getstate__().items()
            if name not in parameters and not name.startswith("_sklearn")
        }
        total = _Contents(known_names, inner)
        for name, value in state.items():
            of_one = _Contents(known_names, inner)
            of_one.add(value)
            total.merge(of_one)
            if of_one.n_texts:
                with_texts.append(f"{path}.{name} ({of_one.n_texts:,})")
        rows.append([describe_name(path), *total.describe()])
    header = ["step", "numbers", "weights", "names", "other texts"]
    return make_table(header, rows), with_texts


class _Contents:
    """Counts of what lies in an attribute."""

    def __init__(self, known_names, skipped):
        self.known_names = known_names
        self.skipped = skipped
        self.n_numbers = self.n_bytes = self.n_names = self.n_texts = 0

    def add(self, value, depth=0):
        """Count a value and what lies in it."""
        if depth > 8 or id(value) in self.skipped:
            return
        if isinstance(value, str):
            self._add_text(value)
        elif isinstance(value, bytes | bytearray):
            self.n_bytes += len(value)
        elif isinstance(value, bool | int | float | np.number):
            self.n_numbers += 1
        elif isinstance(value, np.ndarray) and value.dtype.kind in "biufc":
            self.n_numbers += value.size
        elif isinstance(value, pd.DataFrame | pd.Series | pd.Index):
            self.add(value.to_numpy(), depth + 1)
        elif hasattr(value, "data") and hasattr(value, "nnz"):
            self.n_numbers += int(value.nnz)
        elif isinstance(value, np.ndarray):
            self._add_all(value.ravel().tolist(), depth)
        elif isinstance(value, dict):
            self._add_all([*value.keys(), *value.values()], depth)
        elif isinstance(value, list | tuple | set | frozenset):
            self._add_all(value, depth)
        elif hasattr(value, "__dict__") and not isinstance(value, type):
            self._add_all(vars(value).values(), depth)

    def _add_all(self, values, depth):
        for value in values:
            self.add(value, depth + 1)

    def _add_text(self, text):
        # a ColumnTransformer puts the step before the name
        last = text.rsplit("__", 1)[-1]
        known = {text, last, last.rstrip("0123456789")} & self.known_names
        if known or _HASH.fullmatch(text):
            self.n_names += 1
        else:
            self.n_texts += 1

    def merge(self, other):
        """Add the counts of another."""
        for name in ("n_numbers", "n_bytes", "n_names", "n_texts"):
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def describe(self):
        """Cells of a table."""
        weights = f"{self.n_bytes / 1e6:.1f} MB" if self.n_bytes else "none"
        # two digits: some steps store a number for each row that they were fitted on
        numbers = f"about {float(f'{self.n_numbers:.2g}'):,.0f}" if self.n_numbers else "none"
        names, texts = (f"{count:,}" if count else "none" for count in (self.n_names, self.n_texts))
        return [numbers, weights, names, texts]
