"""Scores per disease with intervals, for several models."""

import math
from textwrap import fill

import numpy as np
import pandas as pd

from ..metrics import multilabel_report
from ._matplotlib import MARKS, import_pyplot
from ._prediction_sources import PredictionSources

_METRICS = {
    "auroc": "AUROC",
    "auprc": "AUPRC (average precision)",
    "f1": "F1",
}
_CHANCE_AUROC = 0.5
_LETTERS_PER_INCH = 11
_LINE_LENGTH = 48  # characters of the axis' title that fit below the axes


class LabelScoresDisplay(PredictionSources):
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

    def __init__(
        self, estimate, low, high, *, prevalence=None, metric="auroc", confidence_level=None
    ):
        self.estimate = estimate
        self.low = low
        self.high = high
        self.prevalence = prevalence
        self.metric = metric
        self.confidence_level = confidence_level

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
            for name, y_score in _check_models(y_scores, "y_scores").items()
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
        first = next(iter(_check_models(reports, "reports").values()))
        if any(list(report.index) != list(first.index) for report in reports.values()):
            raise ValueError("`reports` are not all of the same labels in the same order.")
        _check_option("metric", metric, _METRICS)

        estimate, low, high = (
            pd.DataFrame({name: report[column] for name, report in reports.items()})
            for column in (metric, f"{metric}_low", f"{metric}_high")
        )
        display = cls(
            estimate,
            low,
            high,
            prevalence=first["prevalence"],
            metric=metric,
            confidence_level=first.attrs.get("confidence_level"),
        )
        return display.plot(ax=ax, sort_by=sort_by)

    def plot(self, ax=None, *, sort_by="prevalence"):
        """Draw the scores.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw. None makes a figure as high as the labels and models need.

        sort_by : {"prevalence", "score"} or None, default="prevalence"
            Order of the labels, greatest on top: by prevalence, by the mean score over models, or
            as given.

        Returns
        -------
        display : LabelScoresDisplay
            The object itself, with `ax_` and `figure_` set.
        """
        _check_option("metric", self.metric, _METRICS)
        plt = import_pyplot()
        rows = self._order_rows(sort_by)
        own_figure = ax is None
        if own_figure:
            height = 1.0 + len(rows) * (0.15 + 0.095 * self.estimate.shape[1])  # inches
            _, ax = plt.subplots(figsize=(7.2, height), layout="constrained")

        position = self._place_rows(rows)
        self._draw_background(ax, rows, position)
        self._draw_models(ax, rows, position)
        self._finish_axes(ax, rows, position)
        self._draw_legend(ax, own_figure)
        self.ax_ = ax
        self.figure_ = ax.figure
        return self

    def _order_rows(self, sort_by):
        """Give the labels from top to bottom, the macro row last."""
        _check_option("sort_by", sort_by, ("prevalence", "score", None))
        labels = self.estimate.drop(index="macro", errors="ignore")
        if sort_by == "score":
            labels = labels.loc[labels.mean(axis=1).sort_values(ascending=False).index]
        elif sort_by == "prevalence" and self.prevalence is not None:
            order = self.prevalence[labels.index].sort_values(ascending=False, kind="stable")
            labels = labels.loc[order.index]
        has_macro = "macro" in self.estimate.index
        return [*labels.index, *(["macro"] if has_macro else [])]

    def _place_rows(self, rows):
        """Give each row its height on the axis; the macro row stands a little apart."""
        position = np.arange(len(rows), dtype=float)
        if rows[-1] == "macro":
            position[-1] += 0.25
        return position

    def _draw_background(self, ax, rows, position):
        """Shade every other row, so that the eye finds the label of a mark."""
        for row in range(0, len(rows), 2):
            if rows[row] != "macro":
                ax.axhspan(position[row] - 0.5, position[row] + 0.5, color="0.955", lw=0, zorder=0)
        if rows[-1] == "macro":
            ax.axhline(position[-1] - 0.625, color="0.25", lw=0.8, zorder=1)
        self._draw_reference_line(ax, position)

    def _draw_reference_line(self, ax, position):
        """Draw chance, where the score has one that is the same for all labels."""
        if self.metric == "auroc":
            ax.axvline(_CHANCE_AUROC, color="0.35", lw=1, ls=(0, (4, 3)), zorder=1)

    def _draw_models(self, ax, rows, position):
        n_models = self.estimate.shape[1]
        step = min(0.2, 0.76 / n_models)
        for model, name in enumerate(self.estimate.columns):
            color, marker = MARKS[model % len(MARKS)]
            # a mark that repeats in a long list of models comes back hollow
            face = color if model < len(MARKS) else "white"
            height = position + (model - (n_models - 1) / 2) * step
            low, high = self.low.loc[rows, name], self.high.loc[rows, name]
            ax.hlines(height, low, high, color=color, lw=1.5, zorder=2)
            ax.plot(
                self.estimate.loc[rows, name],
                height,
                ls="none",
                marker=marker,
                markersize=5.5,
                markerfacecolor=face,
                color=color,
                label=str(name),
                zorder=3,
            )

    def _finish_axes(self, ax, rows, position):
        names = [self._row_name(row) for row in rows]
        ax.set_yticks(position, names)
        if rows[-1] == "macro":
            ax.get_yticklabels()[-1].set_fontweight("bold")
        ax.set_ylim(position[-1] + 0.55, position[0] - 0.5)  # the first label on top
        ax.tick_params(axis="y", length=0)
        ax.grid(axis="x", color="0.85", lw=0.6)
        ax.set_axisbelow(True)
        ax.spines[["top", "right", "left"]].set_visible(False)
        # a narrow axes of the user's takes shorter lines
        room = int(_LETTERS_PER_INCH * ax.get_window_extent().width / ax.figure.dpi)
        ax.set_xlabel(fill(self._axis_title(), min(_LINE_LENGTH, max(room, 20))))
        self._limit_scores(ax)
        self._name_reference_line(ax)

    def _name_reference_line(self, ax):
        """Write "chance" between the labels and the mean, where no interval runs."""
        if self.metric != "auroc" or "macro" not in self.estimate.index:
            return
        low, high = ax.get_xlim()
        # on the left there are fewer marks, if there is room at all
        left = _CHANCE_AUROC - low > 0.15 * (high - low)
        ax.annotate(
            "chance",
            (_CHANCE_AUROC, 0),
            xycoords=("data", "axes fraction"),
            xytext=(-4 if left else 4, 3),
            textcoords="offset points",
            ha="right" if left else "left",
            va="bottom",
            color="0.35",
            fontsize="small",
        )

    def _draw_legend(self, ax, own_figure):
        """Name the models above the axes, over the whole width where the figure is our own."""
        if self.estimate.shape[1] == 1:
            ax.set_title(str(self.estimate.columns[0]), fontsize="medium")
            return
        names = [str(name) for name in self.estimate.columns]
        style = {
            "ncols": _legend_columns(names, line_length=88 if own_figure else 44),
            "frameon": False,
            "handletextpad": 0.2,
            "columnspacing": 1.6,
        }
        if own_figure:
            ax.figure.legend(loc="outside upper center", **style)
        else:
            ax.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), borderaxespad=0, **style)

    def _row_name(self, row):
        name = "macro mean" if row == "macro" else str(row).replace("_", " ")
        if self.prevalence is None or row == "macro":
            return name
        percent = 100 * self.prevalence[row]
        return f"{name} (<1 %)" if 0 < percent < 1 else f"{name} ({percent:.0f} %)"

    def _title(self):
        return _METRICS[self.metric]

    def _axis_title(self):
        title = self._title()
        if not np.isfinite(self.low.to_numpy(dtype=float)).any():
            return title
        if self.confidence_level is None:
            return f"{title}, with intervals"
        # the line may not be broken before the sign
        return f"{title}, with {100 * self.confidence_level:g}\N{NO-BREAK SPACE}% intervals"

    def _limit_scores(self, ax):
        """Show all intervals, chance for AUROC, and nothing beyond what the score can reach."""
        drawn = np.concatenate([frame.to_numpy(float) for frame in (self.low, self.high)])
        drawn = np.concatenate([drawn, self.estimate.to_numpy(float)])
        drawn = drawn[np.isfinite(drawn)]
        lowest = min(drawn.min(initial=1.0), _CHANCE_AUROC if self.metric == "auroc" else 0.0)
        margin = 0.02 if lowest > 0 else 0.0
        ax.set_xlim(max(0.0, lowest - margin), min(1.0, drawn.max(initial=0.0) + 0.02))


def _legend_columns(names, line_length):
    """Columns of a legend of so many characters a line: one line, else lines of even length."""
    mark = 6  # the room of mark and gaps, in characters
    if sum(len(name) + mark for name in names) <= line_length:
        return len(names)
    fitting = max(1, line_length // (max(map(len, names)) + mark))
    n_lines = math.ceil(len(names) / fitting)
    return math.ceil(len(names) / n_lines)


def _check_models(models, name):
    if not isinstance(models, dict) or not models:
        raise ValueError(
            f"`{name}` must be a dict of at least one model, name to values; got "
            f"{'an empty dict' if isinstance(models, dict) else type(models).__name__}."
        )
    return models


def _check_option(name, value, options):
    if value not in options:
        raise ValueError(f"`{name}` is {value!r}; pass one of {list(options)}.")
