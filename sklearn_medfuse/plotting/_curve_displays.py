"""Curves in a panel per label: ROC, precision-recall, calibration and net benefit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import pandas as pd
from sklearn.metrics import (
    average_precision_score,
    precision_recall_curve,
    roc_auc_score,
    roc_curve,
)

from ..metrics import calibration_bins, decision_curve, expected_calibration_error
from ..metrics._inputs import check_option
from ._drawing import LINES, MARKS, REFERENCE, PanelsDisplay
from ._predictions import PredictionSources, check_models, documented

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike

# Titles of the axes, and of the number in a panel
_KINDS = {
    "roc": ("1 - specificity", "sensitivity", "AUROC"),
    "precision_recall": ("recall (sensitivity)", "precision", "AP"),
}
_BINS = ["predicted", "observed", "observed_low", "observed_high"]


@documented
@dataclass(repr=False, eq=False)
class LabelCurvesDisplay(PredictionSources, PanelsDisplay):
    """ROC or precision-recall curves: one panel per label, one curve per model.

    The dashed line is chance: the diagonal of ROC curves, the label's prevalence in
    precision-recall curves. The number of a model is the area under its ROC curve (AUROC) or its
    average precision (AP).

    Parameters
    ----------
    curves : dict of str to list of DataFrame
        For each model the curve of each label: the first column is x, the second y.
    label_names
    areas : dict of str to ndarray of shape (n_labels,)
        Area under each curve; NaN for a label with one class.
    prevalence : ndarray of shape (n_labels,)
        Share of positive rows.
    kind : {"roc", "precision_recall"}, default="roc"
        Kind of the curves.

    Attributes
    ----------
    axes_, figure_

    See Also
    --------
    LabelScoresDisplay : The areas with intervals.
    sklearn.metrics.RocCurveDisplay : ROC curves of one label.
    sklearn.metrics.PrecisionRecallDisplay : Precision-recall curves of one label.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_medfuse.plotting import LabelCurvesDisplay
    >>> rng = np.random.default_rng(0)
    >>> y_true = rng.integers(2, size=(200, 2))
    >>> scores = {"noise": rng.random((200, 2)), "perfect": y_true}
    >>> display = LabelCurvesDisplay.from_predictions(y_true, scores, kind="precision_recall")
    >>> display.areas["perfect"]
    array([1., 1.])
    """

    curves: Mapping[str, Sequence[pd.DataFrame]]
    label_names: Sequence[str]
    areas: Mapping[str, np.ndarray]
    prevalence: np.ndarray
    _: KW_ONLY
    kind: Literal["roc", "precision_recall"] = "roc"

    @classmethod
    @documented
    def from_predictions(
        cls,
        y_true: ArrayLike | pd.DataFrame,
        y_scores: Mapping[str, ArrayLike],
        *,
        kind: Literal["roc", "precision_recall"] = "roc",
        target_names: Iterable[str] | None = None,
        axes: Sequence[Axes] | np.ndarray | None = None,
    ) -> Self:
        """Compute each model's curves from its predictions, and draw.

        Parameters
        ----------
        y_true, y_scores
        kind : {"roc", "precision_recall"}, default="roc"
            Sensitivity against 1 - specificity, or precision against sensitivity. A rare label
            needs the latter.
        target_names, axes

        Returns
        -------
        display
        """
        check_option("kind", kind, _KINDS)
        labels, scores, names = check_models(y_true, y_scores, target_names)
        curves, areas = {}, {}
        for model, score in scores.items():
            found = [_curve(kind, y, s) for y, s in zip(labels.T, score.T, strict=True)]
            curves[model] = [curve for curve, _ in found]
            areas[model] = np.array([area for _, area in found])
        return cls(curves, names, areas, labels.mean(axis=0), kind=kind).plot(axes=axes)

    def _draw_panel(self, ax: Axes, label: int) -> None:
        if self.kind == "roc":
            ax.axline((0, 0), slope=1, **REFERENCE)
        else:
            ax.axhline(self.prevalence[label], **REFERENCE)
        for model, (name, curves) in enumerate(self.curves.items()):
            # Average precision is the area under steps
            steps = "default" if self.kind == "roc" else "steps-post"
            _draw_curve(ax, model, name, *curves[label].to_numpy().T, drawstyle=steps)
        ax.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
        ax.set(xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])

    def _axis_titles(self) -> tuple[str, str]:
        return _KINDS[self.kind][:2]

    def _numbers(self, label: int) -> dict[str, str]:
        what = _KINDS[self.kind][2]
        return {name: f"{what} {areas[label]:.2f}" for name, areas in self.areas.items()}


def _curve(kind: str, y: np.ndarray, score: np.ndarray) -> tuple[pd.DataFrame, float]:
    """Curve and area of one label; neither exists for a label with one class."""
    along_title, up_title, _ = _KINDS[kind]
    if y.min() == y.max():
        return pd.DataFrame(columns=[along_title, up_title], dtype=float), np.nan
    if kind == "roc":
        along, up, _ = roc_curve(y, score)
        area = roc_auc_score(y, score)
    else:
        up, along, _ = precision_recall_curve(y, score)
        area = average_precision_score(y, score)
    return pd.DataFrame({along_title: along, up_title: up}), area


@documented
@dataclass(repr=False, eq=False)
class CalibrationDisplay(PredictionSources, PanelsDisplay):
    """Reliability curves: one panel per label, one curve per model.

    The bins of a single model have bootstrap intervals; those of several would hide each other.

    Parameters
    ----------
    curves : dict of str to list of DataFrame
        For each model the curve of each label: a row per bin, with the columns `predicted`,
        `observed`, `observed_low` and `observed_high`; the last two may be NaN.
    label_names
    errors : dict of str to ndarray of shape (n_labels,), default=None
        Expected calibration error (ECE) of each model and label, written into the panels.

    Attributes
    ----------
    axes_, figure_

    See Also
    --------
    sklearn_medfuse.metrics.expected_calibration_error : The number in the panels.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_medfuse.plotting import CalibrationDisplay
    >>> rng = np.random.default_rng(0)
    >>> probabilities = rng.random((300, 2))
    >>> y_true = (rng.random((300, 2)) < probabilities).astype(int)
    >>> display = CalibrationDisplay.from_predictions(y_true, {"perfect": probabilities})
    >>> len(display.axes_)
    2
    """

    curves: Mapping[str, Sequence[pd.DataFrame]]
    label_names: Sequence[str]
    errors: Mapping[str, np.ndarray] | None = None

    @classmethod
    @documented
    def from_predictions(
        cls,
        y_true: ArrayLike | pd.DataFrame,
        y_probs: Mapping[str, ArrayLike],
        *,
        n_bins: int = 8,
        strategy: Literal["quantile", "uniform"] = "quantile",
        groups: ArrayLike | None = None,
        n_bootstraps: int = 200,
        confidence_level: float = 0.95,
        target_names: Iterable[str] | None = None,
        random_state: int | np.random.RandomState | None = None,
        axes: Sequence[Axes] | np.ndarray | None = None,
    ) -> Self:
        """Bin each model's probabilities, and draw.

        Parameters
        ----------
        y_true, y_probs
        n_bins : int, default=8
            Number of bins at most.
        strategy : {"quantile", "uniform"}, default="quantile"
            Bins with equal numbers of rows, or of equal width.
        groups, n_bootstraps, confidence_level, target_names, random_state, axes

        Returns
        -------
        display
        """
        truth, probabilities, names = check_models(y_true, y_probs, target_names, "y_probs")
        curves, errors = {}, {}
        for model, values in probabilities.items():
            bins = calibration_bins(
                truth,
                values,
                n_bins=n_bins,
                strategy=strategy,
                groups=groups,
                n_bootstraps=n_bootstraps if len(probabilities) == 1 else 0,
                confidence_level=confidence_level,
                target_names=names,
                random_state=random_state,
            )
            by_label = dict(list(bins.groupby("label", sort=False)))
            curves[model] = [by_label[name][_BINS].reset_index(drop=True) for name in names]
            errors[model] = np.asarray(expected_calibration_error(truth, values, average=None))
        return cls(curves, names, errors).plot(axes=axes)

    def _draw_panel(self, ax: Axes, label: int) -> None:
        ends = [0.05]
        ax.axline((0, 0), slope=1, **REFERENCE)
        for model, (name, curves) in enumerate(self.curves.items()):
            color, marker = MARKS[model % len(MARKS)]
            curve = curves[label]
            along, up, low, high = (curve[column] for column in _BINS)
            ends += [*along, *up, *high.dropna()]
            ax.vlines(along, low, high, color=color, lw=0.8, zorder=2)
            style = {"marker": marker, "markersize": 3.5, "lw": 1.0, "clip_on": False}
            _draw_curve(ax, model, name, along, up, **style)
        # Rare labels use a corner of the unit square: both axes end alike, where the curves end
        limit = min(1.0, 1.05 * max(ends))
        # A mark at 0 is drawn whole
        start = -0.03 * limit
        ax.set(xlim=(start, limit), ylim=(start, limit), aspect="equal")
        ax.locator_params(nbins=4)
        ticks = [tick for tick in ax.get_xticks() if 0 <= tick <= limit]
        ax.set(xticks=ticks, yticks=ticks)

    def _axis_titles(self) -> tuple[str, str]:
        return "predicted probability", "observed frequency"

    def _numbers(self, label: int) -> dict[str, str]:
        return {name: f"ECE {found[label]:.3f}" for name, found in (self.errors or {}).items()}


@documented
@dataclass(repr=False, eq=False)
class DecisionCurveDisplay(PredictionSources, PanelsDisplay):
    """Decision curves: one panel per label, one curve per model.

    The grey curve is the benefit of acting on everybody, the line at 0 that of acting on nobody. A
    model is useful at the thresholds at which its curve lies above both.

    Parameters
    ----------
    curves : dict of str to DataFrame
        For each model what :func:`~sklearn_medfuse.metrics.decision_curve` returns.
    label_names

    Attributes
    ----------
    axes_, figure_

    See Also
    --------
    sklearn_medfuse.metrics.decision_curve : The numbers behind the figure.
    CalibrationDisplay : Thresholds mean what they say only if probabilities are calibrated.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_medfuse.plotting import DecisionCurveDisplay
    >>> rng = np.random.default_rng(0)
    >>> probabilities = rng.random((300, 2))
    >>> y_true = (rng.random((300, 2)) < probabilities).astype(int)
    >>> display = DecisionCurveDisplay.from_predictions(y_true, {"perfect": probabilities})
    >>> len(display.axes_)
    2
    """

    curves: Mapping[str, pd.DataFrame]
    label_names: Sequence[str]

    @classmethod
    @documented
    def from_predictions(
        cls,
        y_true: ArrayLike | pd.DataFrame,
        y_probs: Mapping[str, ArrayLike],
        *,
        thresholds: ArrayLike | None = None,
        groups: ArrayLike | None = None,
        n_bootstraps: int = 200,
        confidence_level: float = 0.95,
        target_names: Iterable[str] | None = None,
        random_state: int | np.random.RandomState | None = None,
        axes: Sequence[Axes] | np.ndarray | None = None,
    ) -> Self:
        """Compute each model's net benefit, and draw.

        Parameters
        ----------
        y_true, y_probs
        thresholds : array-like of shape (n_thresholds,), default=None
            Probabilities at which to act. None uses 0.01, 0.02, … 0.5.
        groups, n_bootstraps, confidence_level, target_names, random_state, axes

        Returns
        -------
        display
        """
        truth, probabilities, names = check_models(y_true, y_probs, target_names, "y_probs")
        curves = {
            model: decision_curve(
                truth,
                values,
                thresholds=np.arange(1, 51) / 100 if thresholds is None else thresholds,
                averages=(),
                groups=groups,
                n_bootstraps=n_bootstraps if len(probabilities) == 1 else 0,
                confidence_level=confidence_level,
                target_names=names,
                random_state=random_state,
            )
            for model, values in probabilities.items()
        }
        return cls(curves, names).plot(axes=axes)

    def _draw_panel(self, ax: Axes, label: int) -> None:
        ax.axhline(0, label="act on nobody", **REFERENCE)
        highest = 0.01
        for model, (name, curves) in enumerate(self.curves.items()):
            curve = curves[curves["label"] == self.label_names[label]]
            threshold = curve["threshold"].to_numpy()
            if model == 0:
                ax.plot(threshold, curve["treat_all"], color="0.6", lw=1, label="act on all")
                ax.set_xlim(0, threshold.max())
            band = curve[["net_benefit_low", "net_benefit_high"]].to_numpy().T
            if np.isfinite(band).any():
                color = MARKS[model % len(MARKS)][0]
                ax.fill_between(threshold, *band, color=color, alpha=0.2, lw=0)
            _draw_curve(ax, model, name, threshold, curve["net_benefit"])
            highest = max(highest, curve["net_benefit"].max(), curve["treat_all"].max())
        # Far below 0 nobody would act, however far it is
        ax.set_ylim(-0.25 * highest, 1.1 * highest)
        ax.locator_params(nbins=4)

    def _axis_titles(self) -> tuple[str, str]:
        return "probability at which one acts", "net benefit"


def _draw_curve(ax: Axes, model: int, name: str, along: Any, up: Any, **style: Any) -> None:
    style = {"lw": 1.4, "zorder": 2 + model, "ls": LINES[model % len(LINES)]} | style
    ax.plot(along, up, color=MARKS[model % len(MARKS)][0], label=name, **style)
