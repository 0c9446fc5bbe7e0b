"""Check labels, scores, weights and groups; errors never show a value of the data."""

import inspect
import numbers
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.sparse import sparray, spmatrix
from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline

from .._input_data import encode_groups, to_pandas

# What users pass: labels may be sparse, scores may be a list with one array per label
Labels: TypeAlias = npt.ArrayLike | pd.DataFrame | pd.Series | sparray | spmatrix
Scores: TypeAlias = npt.ArrayLike | pd.DataFrame | pd.Series | Sequence[npt.ArrayLike]
Threshold: TypeAlias = npt.ArrayLike | BaseEstimator
RandomState: TypeAlias = int | np.random.RandomState | None
Documented = TypeVar("Documented", bound=Callable[..., Any])

AVERAGES = ("macro", "micro", "weighted")
_BIN_STRATEGIES = ("uniform", "quantile")


def share_parameters(descriptions: str) -> Callable[[Documented], Documented]:
    """Make a decorator that describes what a docstring's sections list by name alone."""
    entries = {each.split(" : ")[0]: each for each in re.split(r"\n(?=\S)", descriptions.strip())}

    def fill(found: re.Match[str]) -> str:
        names = found[0].split(", ")
        known = entries.keys() >= set(names)
        return "\n".join(entries[name] for name in names) if known else found[0]

    def documented(described: Documented) -> Documented:
        if described.__doc__ is not None:  # As with python -OO
            listed = inspect.cleandoc(described.__doc__) + "\n"
            described.__doc__ = re.sub(r"^\w+(, \w+)*$(?!\n[ -])", fill, listed, flags=re.M)
        return described

    return documented


documented = share_parameters("""
y_true : array-like or sparse matrix of shape (n_samples, n_labels) or (n_samples,)
    True labels, 0 or 1; NaN where unknown, which leaves the pair out.
y_prob : array-like of shape (n_samples, n_labels) or (n_samples,), or list of arrays
    Probabilities as `predict_proba` gives them; a list has one (n_samples, 2) array per label.
y_score : array-like of shape (n_samples, n_labels) or (n_samples,), or list of arrays
    Probabilities or decision values, as `predict_proba` or `decision_function` gives them;
    a list has one (n_samples, 2) array per label.
y_score_a : array-like of shape (n_samples, n_labels), or list of arrays
    Scores of the first model, in the forms that `multilabel_report` takes.
y_score_b : array-like of shape (n_samples, n_labels), or list of arrays
    Scores of the second model.
average : {"macro", "micro", "weighted", None}, default="macro"
    Mean over labels; mean over all pairs of row and label, which is the same where all labels
    are known; mean over labels weighted by their positives; or one score per label.
averages : sequence of {"macro", "micro", "weighted"}, default=("macro",)
    Rows to append: the mean over labels; the score of all pairs of row and label together;
    the mean over labels weighted by their positives.
threshold : float, array-like of shape (n_labels,) or estimator, default=0.5
    For metrics of decisions, such as ``f1``: a score at or above it counts as predicted. A
    fitted model, or a pipeline or search that ends in one, gives its own `thresholds_`.
n_bins : int, default=10
    Number of bins, at least 1.
strategy : {"uniform", "quantile"}, default="uniform"
    Bins as in `expected_calibration_error`. Resamples keep the bins of the sample.
sample_weight : array-like of shape (n_samples,), default=None
    Row weights. A resample multiplies them.
groups : array-like of shape (n_samples,), default=None
    The unit to resample, usually the patient. None resamples rows.
n_bootstraps : int, default=1000
    Number of resamples. 0 leaves intervals and p-values NaN.
confidence_level : float, default=0.95
    Coverage of the intervals.
target_names : sequence of str, default=None
    Names of the labels. None uses the columns of `y_true`, else ``label_0``, ``label_1``, …
random_state : int, RandomState instance or None, default=None
    Source of the draws. Pass an int for the same result in every call.
""")

_NO_LABELS = (
    "`y_true` holds something other than 0 and 1{}; pass one 0/1 column per label, for classes "
    "e.g. by sklearn.preprocessing.label_binarize."
)


def check_labels(y_true, target_names=None, *, missing=False):
    """Return the labels as a float matrix, NaN where unknown if `missing`, and a name per label."""
    y_true = to_pandas(y_true)
    if target_names is None and isinstance(y_true, pd.DataFrame):
        target_names = list(y_true.columns)
    labels = _read_labels(y_true)
    labels = labels.reshape(-1, 1) if labels.ndim == 1 else labels
    if labels.ndim != 2 or 0 in labels.shape:
        raise ValueError(
            f"`y_true` has shape {np.shape(y_true)}; pass (n_samples, n_labels), both at least 1."
        )
    known = ~np.isnan(labels) if missing else np.ones(labels.shape, dtype=bool)
    if not np.isin(labels[known], (0, 1)).all():
        raise ValueError(_NO_LABELS.format("" if missing else " (or missing values)"))
    return labels, _check_names(target_names, labels.shape[1])


def _read_labels(y_true):
    if hasattr(y_true, "toarray"):
        y_true = y_true.toarray()
    if isinstance(y_true, pd.DataFrame | pd.Series):
        # The missing value of pandas' nullable columns is unknown to numpy
        values = y_true.to_numpy(dtype=object)
        y_true = np.where(pd.isna(values), np.nan, values)
    return as_floats(y_true, _NO_LABELS.format(""))


def as_floats(values, problem):
    with suppress(TypeError, ValueError, OverflowError):
        return np.asarray(values, dtype=float)
    # Raised out here, as numpy's own message, which shows the value, would become its context
    raise ValueError(problem)


def _check_names(target_names, n_labels):
    if target_names is None:
        return [f"label_{label}" for label in range(n_labels)]
    names = [str(name) for name in target_names]
    if len(names) != n_labels:
        raise ValueError(
            f"`target_names` has {len(names)} names for {n_labels} labels; pass one per label."
        )
    if len(set(names)) < n_labels or set(names) & set(AVERAGES):
        raise ValueError(
            f"`target_names` must be distinct and other than {', '.join(AVERAGES)}, the names of "
            "means over labels; rename the labels."
        )
    return names


def check_scores(y_score, y_true, *, name="y_score", labels=None):
    """Return the scores as a float matrix of the shape of `y_true`, the checked labels.

    All forms that classifiers give are read: a matrix, the list with one (n_samples, 2) array per
    label of scikit-learn's forests, and for one label the (n_samples, 2) of a binary
    `predict_proba`. `labels` are the labels as the user gave them: where both are DataFrames,
    their columns must agree.
    """
    labels = to_pandas(labels)
    both_frames = isinstance(y_score, pd.DataFrame) and isinstance(labels, pd.DataFrame)
    if both_frames and list(y_score.columns) != list(labels.columns):
        raise ValueError(
            f"the columns of `{name}` are not those of `y_true` in the same order; pass "
            f"{name}[y_true.columns]."
        )
    scores = _stack_positive_class(y_score, name)
    if scores.ndim == 1:
        scores = scores.reshape(-1, 1)
    if y_true.shape[1] == 1 and scores.ndim == 2 and scores.shape[1] == 2:
        scores = scores[:, 1:]
    if scores.shape != y_true.shape:
        raise ValueError(
            f"`{name}` has shape {scores.shape} and `y_true` {y_true.shape}; pass one score per "
            "row and label."
        )
    if not np.isfinite(scores).all():
        raise ValueError(
            f"`{name}` has {(~np.isfinite(scores)).sum()} NaN or infinite entries; pass a finite "
            "score for every row and label, or leave these rows out of both arguments."
        )
    return scores


def _stack_positive_class(y_score, name):
    if isinstance(y_score, list | tuple) and y_score and np.ndim(y_score[0]) == 2:
        shapes = {np.shape(proba) for proba in y_score}
        if len(shapes) > 1 or shapes.pop()[1] != 2:
            raise ValueError(
                f"`{name}` is a list of predict_proba arrays, some of them not of shape "
                "(n_samples, 2), as happens if a label has one class in training; pass a matrix "
                "with the positive class of each label."
            )
        y_score = np.column_stack([np.asarray(proba)[:, 1] for proba in y_score])
    return as_floats(
        y_score, f"`{name}` cannot be read as numbers; pass one score per row and label."
    )


def check_probabilities(y_prob, y_true, *, name="y_prob", labels=None):
    """Return probabilities as `check_scores` does, all between 0 and 1."""
    probabilities = check_scores(y_prob, y_true, name=name, labels=labels)
    n_outside = ((probabilities < 0) | (probabilities > 1)).sum()
    if n_outside:
        raise ValueError(
            f"`{name}` has {n_outside} entries below 0 or above 1; pass what `predict_proba` gives."
        )
    return probabilities


def check_sample_weight(sample_weight, n_samples):
    """Return the row weights as floats; None gives every row a weight of 1."""
    if sample_weight is None:
        return np.ones(n_samples)
    weights = as_floats(
        sample_weight, "`sample_weight` cannot be read as numbers; pass one number per row."
    )
    if weights.shape != (n_samples,):
        raise ValueError(
            f"`sample_weight` has shape {weights.shape}; pass ({n_samples},), one per row."
        )
    if not np.isfinite(weights).all() or (weights < 0).any() or not weights.any():
        raise ValueError(
            "`sample_weight` has a negative, NaN or infinite entry, or is zero in every row; pass "
            "finite weights of at least 0."
        )
    return weights


def check_groups(groups, n_samples):
    """Return groups as codes 0 … n_groups-1; None makes every row a group of its own."""
    if groups is None:
        return np.arange(n_samples)
    codes, n_groups = encode_groups(groups)
    if len(codes) != n_samples:
        raise ValueError(f"`groups` has shape {codes.shape}; pass ({n_samples},), one per row.")
    if n_groups < 2:
        raise ValueError(
            "`groups` holds a single group, which gives no interval; pass finer groups, or "
            "groups=None to resample rows."
        )
    return codes


def check_confidence_level(confidence_level):
    if not isinstance(confidence_level, numbers.Real) or not 0 < float(confidence_level) < 1:
        raise ValueError(
            f"`confidence_level` is {confidence_level!r}; pass a number between 0 and 1, for "
            "example 0.95."
        )


def check_averages(averages):
    """Return the names of the averages, each once."""
    names = [averages] if isinstance(averages, str) else list(averages)
    if not set(names) <= set(AVERAGES) or len(set(names)) < len(names):
        raise ValueError(f"`averages` is {averages!r}; pass some of {AVERAGES}, each once.")
    return names


def check_bins(n_bins, strategy):
    if not isinstance(n_bins, numbers.Integral) or n_bins < 1:
        raise ValueError(f"`n_bins` is {n_bins!r}; pass a whole number of at least 1.")
    check_option("strategy", strategy, _BIN_STRATEGIES)


def check_option(name, value, options):
    """Refuse a value of the parameter `name` that is not one of its options."""
    if value not in options:
        raise ValueError(f"`{name}` is {value!r}; pass one of {', '.join(map(repr, options))}.")


def check_threshold(threshold, n_labels):
    """Return one threshold, or one per label, as an array; a fitted model gives its own."""
    model = getattr(threshold, "best_estimator_", threshold)
    model = model[-1] if isinstance(model, Pipeline) else model
    if isinstance(model, BaseEstimator) and not hasattr(model, "thresholds_"):
        raise ValueError(
            f"`threshold` is a {type(model).__name__} without `thresholds_`; pass a fitted "
            "MEDFuseClassifier, a pipeline or a search that ends in one, or numbers."
        )
    threshold = np.asarray(getattr(model, "thresholds_", model), dtype=float)
    if threshold.shape not in ((), (n_labels,)) or np.isnan(threshold).any():
        raise ValueError(
            f"`threshold` has shape {threshold.shape} or is NaN; pass one number, or one for each "
            f"of the {n_labels} labels."
        )
    return threshold
