"""The score against the number of stays to learn from."""

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.model_selection import GroupKFold, check_cv
from sklearn.utils import check_random_state

from .._private_errors import no_values_in_errors
from ..metrics import multilabel_report
from ..metrics._inputs import check_groups, check_labels, check_scores
from ._matplotlib import LINES, MARKS, import_pyplot

_METRICS = {"auroc": "AUROC", "auprc": "AUPRC (average precision)", "f1": "F1"}


class LearningCurveDisplay:
    """Score with interval against the number of stays that a model learned from.

    It says whether more patients would help, or another model. Subsets hold whole patients and lie
    in each other, all are judged on the same stays, and the intervals are over the patients who
    are judged: they say how sure the score is, not how much the choice of the subset matters.

    Parameters
    ----------
    scores : DataFrame of shape (n_models * n_sizes * n_rows, 6)
        Columns `model`, `n_stays` (mean over the folds), `label` (the labels' names and "macro"),
        `score`, `low` and `high`.

    metric : {"auroc", "auprc", "f1"}, default="auroc"
        What the score is.

    confidence_level : float, default=None
        Coverage of the intervals, for the axis title.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes of the last drawing.

    figure_ : matplotlib Figure
        Figure of the last drawing.

    See Also
    --------
    sklearn.model_selection.LearningCurveDisplay : For one score, without groups in the subsets.

    Examples
    --------
    >>> from sklearn.ensemble import RandomForestClassifier
    >>> from sklearn_medfuse.datasets import make_ehr_cohort
    >>> from sklearn_medfuse.plotting import LearningCurveDisplay
    >>> cohort = make_ehr_cohort(300, n_labels=2, random_state=0)
    >>> display = LearningCurveDisplay.from_estimator(
    ...     RandomForestClassifier(10, random_state=0), cohort.X[cohort.lab_columns], cohort.y,
    ...     groups=cohort.groups, sizes=[0.5, 1.0], cv=2, n_bootstraps=20, random_state=0,
    ... )
    >>> display.scores.shape
    (6, 6)
    """

    def __init__(self, scores, *, metric="auroc", confidence_level=None):
        self.scores = scores
        self.metric = metric
        self.confidence_level = confidence_level

    @classmethod
    def from_estimator(
        cls,
        estimators,
        X,
        y,
        *,
        groups=None,
        sizes=(0.1, 0.2, 0.4, 0.7, 1.0),
        cv=5,
        metric="auroc",
        n_bootstraps=500,
        confidence_level=0.95,
        target_names=None,
        label="macro",
        random_state=None,
        ax=None,
    ):
        """Fit on growing shares of the training patients of each fold, and draw.

        Parameters
        ----------
        estimators : estimator, or dict of str to estimator
            Classifiers with `predict_proba`, which are cloned; one alone has its class as a name.

        X : array-like or DataFrame of shape (n_samples, n_features)
            Stays.

        y : array-like of shape (n_samples, n_labels)
            Labels, 0 or 1.

        groups : array-like of shape (n_samples,), default=None
            Patient of each stay, who is learned from whole or not at all. None takes each stay
            for a patient.

        sizes : sequence of float, default=(0.1, 0.2, 0.4, 0.7, 1.0)
            Shares of the training patients of a fold, above 0 and up to 1.

        cv : int or splitter, default=5
            Folds, whose test sets part the stays; a number makes folds of whole patients.

        metric : {"auroc", "auprc", "f1"}, default="auroc"
            What to draw.

        n_bootstraps : int, default=500
            Number of resamples of patients. 0 draws no intervals.

        confidence_level : float, default=0.95
            Coverage of the intervals.

        target_names : sequence of str, default=None
            Names of the labels. None takes the columns of `y`.

        label : str, default="macro"
            The label to draw; "macro" is their mean.

        random_state : int, RandomState instance or None, default=None
            Source of folds, subsets and resamples.

        ax : matplotlib Axes, default=None
            Where to draw. None makes a figure.

        Returns
        -------
        display : LearningCurveDisplay
            The figure with its numbers.
        """
        if not isinstance(estimators, dict):
            estimators = {type(estimators).__name__: estimators}
        sizes = np.sort(np.asarray(sizes, dtype=float))
        if not len(sizes) or sizes[0] <= 0 or sizes[-1] > 1:
            raise ValueError(f"`sizes` is {sizes.tolist()}; pass shares above 0 and up to 1.")
        if metric not in _METRICS:
            raise ValueError(f"`metric` is {metric!r}; pass one of {list(_METRICS)}.")
        labels, names = check_labels(y, target_names)
        rng = check_random_state(random_state)
        patient = check_groups(groups, len(labels))
        folds = _folds(cv, X, labels, patient, groups is not None, rng)
        seed = rng.randint(2**31)
        rows = []
        for model, estimator in estimators.items():
            for size in range(len(sizes)):
                predicted = np.full(labels.shape, np.nan)
                for subsets, test in folds(sizes):
                    fitted = clone(estimator).fit(_take(X, subsets[size]), _take(y, subsets[size]))
                    predicted[test] = check_scores(
                        _probabilities(fitted, _take(X, test)), labels[test]
                    )
                report = multilabel_report(
                    labels,
                    predicted,
                    groups=patient,
                    n_bootstraps=n_bootstraps,
                    confidence_level=confidence_level,
                    target_names=names,
                    random_state=seed,
                )
                table = report[[metric, f"{metric}_low", f"{metric}_high"]]
                table = table.set_axis(["score", "low", "high"], axis=1).rename_axis("label")
                n_stays = np.mean([len(subsets[size]) for subsets, _ in folds(sizes)])
                rows.append(table.reset_index().assign(model=str(model), n_stays=n_stays))
        scores = pd.concat(rows, ignore_index=True)
        scores = scores[["model", "n_stays", "label", "score", "low", "high"]]
        display = cls(scores, metric=metric, confidence_level=confidence_level)
        return display.plot(label=label, ax=ax)

    def plot(self, *, label="macro", ax=None):
        """Draw.

        Parameters
        ----------
        label : str, default="macro"
            The label to draw; "macro" is their mean.

        ax : matplotlib Axes, default=None
            Where to draw. None makes a figure.

        Returns
        -------
        display : LearningCurveDisplay
            This object.
        """
        drawn = self.scores[self.scores["label"] == label]
        if not len(drawn):
            raise ValueError(f"`label` is {label!r}, of which there are no scores.")
        if ax is None:
            _, ax = import_pyplot().subplots(figsize=(5.6, 3.6), layout="constrained")
        self.ax_, self.figure_ = ax, ax.figure
        for number, (model, curve) in enumerate(drawn.groupby("model", sort=False)):
            color, marker = MARKS[number % len(MARKS)]
            # intervals of several models stand side by side
            n_stays = curve["n_stays"] * 1.015**number
            ax.vlines(n_stays, curve["low"], curve["high"], color=color, lw=1.2)
            ax.plot(
                n_stays,
                curve["score"],
                color=color,
                marker=marker,
                markersize=5,
                lw=1.2,
                ls=LINES[number % len(LINES)],
                label=model,
            )
        ax.set_xscale("log")
        ticks = sorted(drawn["n_stays"].round().astype(int).unique())
        ax.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        ax.minorticks_off()
        what = "macro mean of " if label == "macro" else ""
        interval = ""
        if self.confidence_level is not None and drawn["low"].notna().any():
            interval = f",\nwith {100 * self.confidence_level:g} % intervals"
        ax.set_ylabel(f"{what}{_METRICS[self.metric]}{interval}")
        ax.set_xlabel("stays to learn from (log scale)")
        if label != "macro":
            ax.set_title(str(label).replace("_", " "), fontsize="medium")
        ax.grid(axis="y", color="0.85", lw=0.6)
        ax.set_axisbelow(True)
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(frameon=False, loc="lower right")
        return self


def _take(table, rows):
    return table.iloc[rows] if hasattr(table, "iloc") else np.asarray(table)[rows]


def _probabilities(fitted, X):
    """What the model predicts; a forest has one class of a label that a small subset lacks."""
    with no_values_in_errors():
        found = fitted.predict_proba(X)
    if not isinstance(found, list):
        return found
    return np.column_stack(
        [
            each[:, 1] if each.shape[1] == 2 else np.full(len(each), float(classes[0]))
            for each, classes in zip(found, fitted.classes_, strict=True)
        ]
    )


def _folds(cv, X, labels, patient, grouped, rng):
    """Return a function of sizes that yields (nested subsets of the training rows, test rows)."""
    if isinstance(cv, int):
        splitter = GroupKFold(cv, shuffle=True, random_state=rng.randint(2**31))
    else:
        splitter = check_cv(cv)
    # a splitter that is given without groups need not know any
    with no_values_in_errors():
        parts = list(splitter.split(X, labels, patient if grouped or isinstance(cv, int) else None))
    tests = np.concatenate([test for _, test in parts])
    if len(tests) != len(labels) or len(np.unique(tests)) != len(labels):
        raise ValueError("`cv` does not hold out every row once; pass a number of folds.")
    orders = [rng.permutation(np.unique(patient[train])) for train, _ in parts]

    def folds(sizes):
        for (train, test), order in zip(parts, orders, strict=True):
            counts = np.maximum(1, np.round(sizes * len(order)).astype(int))
            yield [train[np.isin(patient[train], order[:count])] for count in counts], test

    return folds
