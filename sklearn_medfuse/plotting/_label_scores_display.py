"""Scores per disease with intervals, for several models."""

from ..metrics import multilabel_report
from ._label_dots import METRICS, LabelDots, check_option, frames_by_column
from ._label_panels import check_by_model


class LabelScoresDisplay(LabelDots):
    """Dots with intervals: one row per disease, one mark per model, the macro mean set apart.

    Make it with :meth:`from_predictions` or :meth:`from_reports`, which draw at once. The numbers
    stay in the attributes, and :meth:`plot` draws them again.

    Parameters
    ----------
    estimate : DataFrame of shape (n_labels + 1, n_models)
        Score of each label (index) and model (columns); the row ``macro`` is drawn apart.

    low, high : DataFrame of shape (n_labels + 1, n_models)
        Ends of the intervals; NaN where there is none.

    prevalence : Series of shape (n_labels + 1,), default=None
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
    sklearn_medfuse.metrics.multilabel_report : The numbers behind the figure.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_medfuse.plotting import LabelScoresDisplay
    >>> rng = np.random.default_rng(0)
    >>> y_true = rng.integers(2, size=(200, 3))
    >>> scores = {
    ...     "labs": y_true + 2 * rng.normal(size=(200, 3)),
    ...     "labs and notes": y_true + rng.normal(size=(200, 3)),
    ... }
    >>> display = LabelScoresDisplay.from_predictions(
    ...     y_true, scores, n_bootstraps=100, target_names=["sepsis", "anaemia", "COPD"]
    ... )
    >>> display.figure_.savefig("scores.png")  # doctest: +SKIP
    """

    @classmethod
    def from_predictions(
        cls,
        y_true,
        y_scores,
        *,
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
        """Score each model by its predictions, and draw.

        Parameters
        ----------
        y_true : array-like or sparse matrix of shape (n_samples, n_labels)
            True labels, 0 or 1.

        y_scores : dict of str to array-like of shape (n_samples, n_labels)
            Scores by the model's name, in the forms that
            :func:`~sklearn_medfuse.metrics.multilabel_report` takes.

        metric : {"auroc", "auprc", "f1"}, default="auroc"
            What to draw.

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

        random_state : int, RandomState instance or None, default=None
            Source of the resamples. With an int all models are scored on the same ones.

        sort_by : {"prevalence", "score"} or None, default="prevalence"
            Order of the labels, greatest on top: by prevalence, by the mean score over models, or
            as given.

        ax : matplotlib Axes, default=None
            Where to draw. None makes a figure as high as the labels and models need.

        Returns
        -------
        display : LabelScoresDisplay
            The figure with its numbers.
        """
        reports = {
            name: multilabel_report(
                y_true,
                y_score,
                threshold=threshold,
                groups=groups,
                n_bootstraps=n_bootstraps,
                confidence_level=confidence_level,
                target_names=target_names,
                random_state=random_state,
            )
            for name, y_score in check_by_model(y_scores, "y_scores").items()
        }
        return cls.from_reports(reports, metric=metric, sort_by=sort_by, ax=ax)

    @classmethod
    def from_reports(cls, reports, *, metric="auroc", sort_by="prevalence", ax=None):
        """Take the scores from reports, and draw.

        Parameters
        ----------
        reports : dict of str to DataFrame
            What :func:`~sklearn_medfuse.metrics.multilabel_report` gave, by the model's name. All
            must be of the same labels.

        metric : {"auroc", "auprc", "f1"}, default="auroc"
            What to draw.

        sort_by : {"prevalence", "score"} or None, default="prevalence"
            Order of the labels, greatest on top: by prevalence, by the mean score over models, or
            as given.

        ax : matplotlib Axes, default=None
            Where to draw. None makes a figure as high as the labels and models need.

        Returns
        -------
        display : LabelScoresDisplay
            The figure with its numbers.
        """
        first = next(iter(check_by_model(reports, "reports").values()))
        check_option("metric", metric, METRICS)
        columns = (metric, f"{metric}_low", f"{metric}_high")
        estimate, low, high = frames_by_column(reports, columns, "reports")
        display = cls(
            estimate,
            low,
            high,
            prevalence=first["prevalence"],
            metric=metric,
            confidence_level=first.attrs.get("confidence_level"),
        )
        return display.plot(ax=ax, sort_by=sort_by)
