"""Dots with intervals by disease: the drawing that displays of scores and of differences share."""

import math
from textwrap import fill

import numpy as np
import pandas as pd

from ._matplotlib import MARKS, import_pyplot
from ._prediction_sources import PredictionSources

METRICS = {
    "auroc": "AUROC",
    "auprc": "AUPRC (average precision)",
    "f1": "F1",
}
_CHANCE_AUROC = 0.5
_LETTERS_PER_INCH = 11
_LINE_LENGTH = 48  # characters of the axis' title that fit below the axes


class LabelDots(PredictionSources):
    """Holds the numbers of a display and draws them; a subclass says where they come from."""

    def __init__(
        self, estimate, low, high, *, prevalence=None, metric="auroc", confidence_level=None
    ):
        self.estimate = estimate
        self.low = low
        self.high = high
        self.prevalence = prevalence
        self.metric = metric
        self.confidence_level = confidence_level

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
        display : LabelScoresDisplay or ModelDifferenceDisplay
            The object itself, with `ax_` and `figure_` set.
        """
        check_option("metric", self.metric, METRICS)
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
        check_option("sort_by", sort_by, ("prevalence", "score", None))
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
        return METRICS[self.metric]

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


def frames_by_column(tables, columns, name):
    """Give for each column a DataFrame (n_labels, n_models) of what the models' tables hold."""
    first, *others = tables.values()
    if any(list(table.index) != list(first.index) for table in others):
        raise ValueError(f"`{name}` are not all of the same labels in the same order.")
    return [
        pd.DataFrame({model: table[column] for model, table in tables.items()})
        for column in columns
    ]


def check_option(name, value, options):
    if value not in options:
        raise ValueError(f"`{name}` is {value!r}; pass one of {list(options)}.")
