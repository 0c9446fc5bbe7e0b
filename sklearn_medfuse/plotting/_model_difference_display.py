"""Forest plot: by how much one model is better than others, per disease."""

import numpy as np
import pandas as pd

from ..metrics import paired_difference
from ._label_dots import LabelDots, frames_by_column
from ._label_panels import check_by_model, check_models

_METRICS = {"auroc": "AUROC", "auprc": "AUPRC", "f1": "F1"}


class ModelDifferenceDisplay(LabelDots):
    """Forest plot of paired differences: one row per disease, one mark per other model.

    Right of zero the reference is the better one. All differences of a row come from the same
    resamples, so an interval that leaves out zero says what two models' own intervals, which
    overlap far more often, do not.

    Parameters
    ----------
    estimate : DataFrame of shape (n_labels + 1, n_models)
        Score of the reference less that of each model (columns); the row ``macro`` is drawn apart.

    low, high : DataFrame of shape (n_labels + 1, n_models)
        Ends of the intervals; NaN where there is none.

    reference : str
        Name of the model that the others are compared with.

    prevalence : Series of shape (n_labels,), default=None
        Share of positive rows, shown beside the label's name. None shows names alone.

    metric : {"auroc", "auprc", "f1"}, default="auroc"
        What the score is.

    confidence_level : float, default=None
        Coverage of the intervals, for the axis title. None writes no number.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes of the last drawing.

    figure_ : matplotlib Figure
        Figure of the last drawing.

    See Also
    --------
    sklearn_medfuse.metrics.paired_difference : The numbers behind the figure.
    LabelScoresDisplay : The scores themselves.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_medfuse.plotting import ModelDifferenceDisplay
    >>> rng = np.random.default_rng(0)
    >>> y_true = rng.integers(2, size=(200, 3))
    >>> scores = {
    ...     "labs": y_true + 2 * rng.normal(size=(200, 3)),
    ...     "labs and notes": y_true + rng.normal(size=(200, 3)),
    ... }
    >>> display = ModelDifferenceDisplay.from_predictions(
    ...     y_true, scores, reference="labs and notes", n_bootstraps=100, random_state=0
    ... )
    >>> bool(display.estimate.loc["macro", "labs"] > 0)
    True
    """

    def __init__(
        self,
        estimate,
        low,
        high,
        reference,
        *,
        prevalence=None,
        metric="auroc",
        confidence_level=None,
    ):
        super().__init__(
            estimate,
            low,
            high,
            prevalence=prevalence,
            metric=metric,
            confidence_level=confidence_level,
        )
        self.reference = reference

    @classmethod
    def from_predictions(
        cls,
        y_true,
        y_scores,
        *,
        reference=None,
        metric="auroc",
        threshold=0.5,
        groups=None,
        n_bootstraps=1000,
        confidence_level=0.95,
        target_names=None,
        random_state=None,
        sort_by="prevalence",
        ax=None,
    ):
        """Compare the reference with each other model, and draw.

        Parameters
        ----------
        y_true : array-like of shape (n_samples, n_labels)
            True labels, 0 or 1.

        y_scores : dict of str to array-like of shape (n_samples, n_labels)
            Scores by the model's name, those of the reference among them.

        reference : str, default=None
            The model whose gain is drawn. None takes the last one.

        metric : {"auroc", "auprc", "f1"}, default="auroc"
            What to compare.

        threshold : float or array-like of shape (n_labels,), default=0.5
            For F1 a score at or above it counts as predicted.

        groups : array-like of shape (n_samples,), default=None
            The unit to resample, usually the patient. None resamples rows.

        n_bootstraps : int, default=1000
            Number of resamples. 0 draws dots alone.

        confidence_level : float, default=0.95
            Coverage of the intervals.

        target_names : sequence of str, default=None
            Names of the labels. None takes the columns of `y_true`.

        random_state : int, default=None
            Source of the resamples. With an int all models are compared on the same ones.

        sort_by : {"prevalence", "score"} or None, default="prevalence"
            Order of the labels, greatest on top: by prevalence, by the mean difference, or as
            given.

        ax : matplotlib Axes, default=None
            Where to draw. None makes a figure as high as the labels and models need.

        Returns
        -------
        display : ModelDifferenceDisplay
            The figure with its numbers.
        """
        labels, scores, names = check_models(y_true, y_scores, target_names)
        if len(scores) < 2:
            raise ValueError("`y_scores` has one model; pass at least two to compare.")
        reference = list(scores)[-1] if reference is None else reference
        if reference not in scores:
            raise ValueError(
                f"`reference` is {reference!r}, which is no model of `y_scores`; pass one of "
                f"{list(scores)}."
            )
        found = {
            name: paired_difference(
                labels,
                scores[reference],
                score,
                metric=metric,
                threshold=threshold,
                groups=groups,
                n_bootstraps=n_bootstraps,
                confidence_level=confidence_level,
                target_names=names,
                random_state=random_state,
            )
            for name, score in scores.items()
            if name != reference
        }
        prevalence = pd.Series(labels.mean(axis=0), index=names)
        return cls.from_comparisons(
            found,
            reference=reference,
            prevalence=prevalence,
            metric=metric,
            confidence_level=confidence_level,
            sort_by=sort_by,
            ax=ax,
        )

    @classmethod
    def from_comparisons(
        cls,
        comparisons,
        *,
        reference,
        prevalence=None,
        metric="auroc",
        confidence_level=None,
        sort_by="prevalence",
        ax=None,
    ):
        """Take the differences from comparisons that were made before, and draw.

        Reports of single models do not do: their intervals say nothing of the difference.

        Parameters
        ----------
        comparisons : dict of str to DataFrame
            What :func:`~sklearn_medfuse.metrics.paired_difference` gave for the reference as the
            first model and another one as the second, by the other's name. All must be of the same
            labels.

        reference : str
            Name of the model that was the first of each.

        prevalence : Series of shape (n_labels,), default=None
            Share of positive rows by label, shown beside its name. None shows names alone.

        metric : {"auroc", "auprc", "f1"}, default="auroc"
            What was compared.

        confidence_level : float, default=None
            Coverage of the intervals, for the axis title. None writes no number.

        sort_by : {"prevalence", "score"} or None, default="prevalence"
            Order of the labels, greatest on top: by prevalence, by the mean difference, or as
            given.

        ax : matplotlib Axes, default=None
            Where to draw. None makes a figure as high as the labels and models need.

        Returns
        -------
        display : ModelDifferenceDisplay
            The figure with its numbers.
        """
        check_by_model(comparisons, "comparisons")
        columns = ("difference", "difference_low", "difference_high")
        for table in comparisons.values():
            if not isinstance(table, pd.DataFrame) or not set(columns) <= set(table.columns):
                raise ValueError(
                    "`comparisons` holds what is no table of paired_difference, which has the "
                    f"columns {list(columns)}; a report of one model is none."
                )
        estimate, low, high = frames_by_column(comparisons, columns, "comparisons")
        display = cls(
            estimate,
            low,
            high,
            reference,
            prevalence=prevalence,
            metric=metric,
            confidence_level=confidence_level,
        )
        return display.plot(ax=ax, sort_by=sort_by)

    def _draw_reference_line(self, ax, position):
        ax.axvline(0.0, color="0.35", lw=1, ls=(0, (4, 3)), zorder=1)

    def _name_reference_line(self, ax):
        """Say which side is whose."""
        ax.annotate(
            f"{self.reference} better \N{RIGHTWARDS ARROW}",
            (1, 0),
            xycoords="axes fraction",
            xytext=(-3, 3),
            textcoords="offset points",
            ha="right",
            va="bottom",
            color="0.35",
            fontsize="small",
        )

    def _draw_legend(self, ax, own_figure):
        if self.estimate.shape[1] > 1:
            super()._draw_legend(ax, own_figure)

    def _title(self):
        name = _METRICS[self.metric]
        others = self.estimate.columns
        other = str(others[0]) if len(others) == 1 else "the other"
        return f"{name} of {self.reference} less that of {other}"

    def _limit_scores(self, ax):
        drawn = np.concatenate([frame.to_numpy(float) for frame in (self.low, self.high)])
        drawn = np.concatenate([drawn, self.estimate.to_numpy(float)])
        drawn = drawn[np.isfinite(drawn)]
        low, high = min(drawn.min(initial=0.0), 0.0), max(drawn.max(initial=0.0), 0.0)
        margin = 0.04 * max(high - low, 0.01)
        ax.set_xlim(low - margin, high + margin)
