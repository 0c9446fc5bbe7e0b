"""Predictions that displays draw: checked, and taken from estimators or from their folds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
from sklearn.utils import _safe_indexing

from ..metrics._inputs import check_labels, check_scores, share_parameters
from ..metrics._scorers import predict_positive

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from sklearn.base import BaseEstimator

METRICS = {"auroc": "AUROC", "auprc": "AUPRC (average precision)", "f1": "F1"}

documented = share_parameters("""
y_true : array-like of shape (n_samples, n_labels)
    True labels, 0 or 1.
y_scores : dict of str to array-like of shape (n_samples, n_labels)
    Scores by model name, in any form that
    :func:`~sklearn_medfuse.metrics.multilabel_report` takes.
y_probs : dict of str to array-like of shape (n_samples, n_labels)
    Probabilities by model name.
estimator : estimator
    Fitted pipeline or other classifier of `X` with `predict_proba`.
X : array-like or DataFrame of shape (n_samples, n_features)
    Rows that the model was not fitted on.
y : array-like of shape (n_samples, n_labels)
    True labels, 0 or 1.
subgroups : DataFrame of shape (n_samples, n_attributes), Series or dict of columns
    Attributes that divide the patients into groups, as a cohort's `subgroups`.
show : {"score", "gap"}, default="score"
    The groups' scores, or how far they are from the reference.
metric : {"auroc", "auprc", "f1"}, default="auroc"
    Name of the score.
low : DataFrame of shape (n_labels + 1, n_models)
    Lower ends of the intervals; NaN where there is none.
high : DataFrame of shape (n_labels + 1, n_models)
    Upper ends of the intervals; NaN where there is none.
label : str
    The label by name.
label_names : list of str
    Names of the labels.
output : {"log_odds", "probability"}, default="log_odds"
    What is attributed.
prevalence : Series of shape (n_labels,), default=None
    Share of positive rows, shown next to the label's name. None shows names only.
groups : array-like of shape (n_samples,), default=None
    The unit to resample for the intervals, usually the patient. None resamples rows.
n_bootstraps : int, default=200
    Number of resamples for a single model; 0 draws no intervals.
confidence_level : float, default=0.95
    Coverage of the intervals.
target_names : sequence of str, default=None
    Names of the labels. None uses the columns of `y_true`, else ``label_0``, ``label_1``, …
random_state : int, RandomState instance or None, default=None
    Source of the resamples.
sort_by : {"prevalence", "score"} or None, default="prevalence"
    Order of the labels, greatest on top: by prevalence, by the mean over models, or as given.
ax : matplotlib Axes, default=None
    Where to draw. None makes a figure that fits.
axes : sequence of matplotlib Axes, default=None
    A panel per label. None makes a figure that fits.
ax_ : matplotlib Axes
    Axes of the last drawing.
axes_ : ndarray of matplotlib Axes
    A panel per label.
figure_ : matplotlib Figure
    Figure of the last drawing.
display : object of this class
    The figure with its numbers.
""")


def check_by_model(values: Any, name: str) -> dict[str, Any]:
    """Return what is given by the model's name, if it is a dict and not empty."""
    if not isinstance(values, dict) or not values:
        raise ValueError(
            f"`{name}` must be a dict of at least one model, name to values; got "
            f"{'an empty dict' if isinstance(values, dict) else type(values).__name__}."
        )
    return values


def check_models(
    y_true: ArrayLike, y_scores: Any, target_names: Iterable[str] | None, name: str = "y_scores"
) -> tuple[np.ndarray, dict[str, np.ndarray], list[str]]:
    """Return the labels and the scores of each model as matrices, and the labels' names."""
    labels, names = check_labels(y_true, target_names)
    scores = {
        str(model): check_scores(values, labels, name=name, labels=y_true)
        for model, values in check_by_model(y_scores, name).items()
    }
    return labels, scores, names


class PredictionSources:
    """Class methods of a display that has `from_predictions(y_true, values_by_model, ...)`."""

    # A class method of the display
    from_predictions: Any

    @classmethod
    @documented
    def from_estimator(
        cls,
        estimators: BaseEstimator | Mapping[str, BaseEstimator],
        X: ArrayLike | pd.DataFrame,
        y: ArrayLike | pd.DataFrame,
        **options: Any,
    ) -> Self:
        """Predict with fitted models, and draw.

        Parameters
        ----------
        estimators : estimator, or dict of str to estimator
            Fitted classifiers with `predict_proba`; a single one is named by its class.
        X, y
        **options : dict
            Further parameters of `from_predictions`.

        Returns
        -------
        display
        """
        if not isinstance(estimators, Mapping):
            estimators = {type(estimators).__name__: estimators}
        scores = {name: predict_positive(each, X) for name, each in estimators.items()}
        return cls.from_predictions(y, scores, **options)

    @classmethod
    @documented
    def from_cv_results(
        cls,
        cv_results: Mapping[str, Any],
        X: ArrayLike | pd.DataFrame,
        y: ArrayLike | pd.DataFrame,
        **options: Any,
    ) -> Self:
        """Draw what each fold predicts for the rows that it held out.

        Parameters
        ----------
        cv_results : dict, or dict of str to dict
            What :func:`~sklearn.model_selection.cross_validate` returns with
            ``return_estimator=True, return_indices=True``; or several of them by model name.
        X : array-like or DataFrame of shape (n_samples, n_features)
            The rows of the cross-validation.
        y : array-like of shape (n_samples, n_labels)
            Their labels, 0 or 1.
        **options : dict
            Further parameters of `from_predictions`.

        Returns
        -------
        display
        """
        if not isinstance(cv_results, Mapping):
            raise TypeError(
                f"`cv_results` is of type {type(cv_results).__name__}; pass what cross_validate "
                "returns with return_estimator=True and return_indices=True. A search keeps no "
                "models of its folds: call cross_validate on its best_estimator_."
            )
        several = cv_results if "indices" not in cv_results else {"out of fold": cv_results}
        labels, names = check_labels(y, options.pop("target_names", None))
        scores = {name: _out_of_fold(each, X, labels, name) for name, each in several.items()}
        return cls.from_predictions(labels, scores, target_names=names, **options)


def _out_of_fold(cv_results: Any, X: Any, labels: np.ndarray, name: str) -> np.ndarray:
    """Predictions of a cross-validation's estimators for the rows that they did not see."""
    if "estimator" not in cv_results or "indices" not in cv_results:
        raise ValueError(
            "`cv_results` lacks the fitted estimators or their rows; call cross_validate with "
            "return_estimator=True and return_indices=True."
        )
    tests = cv_results["indices"]["test"]
    rows = np.sort(np.concatenate(tests))
    if not np.array_equal(rows, np.arange(len(labels))):
        raise ValueError(
            f"the folds of {name!r} do not hold out every row once; use a splitter whose test "
            "sets partition the rows, not a repeated or random one."
        )
    scores = np.empty(labels.shape)
    for estimator, test in zip(cv_results["estimator"], tests, strict=True):
        predicted = predict_positive(estimator, _safe_indexing(X, test))
        scores[test] = check_scores(predicted, labels[test])
    return scores
