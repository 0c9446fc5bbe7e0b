"""Scores per disease with intervals, and by how much one model is better than others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from textwrap import fill
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd

from ..metrics import multilabel_report, paired_difference
from ..metrics._inputs import check_option
from ._drawing import (
    REFERENCE,
    draw_intervals,
    finish_rows,
    fit_name,
    legend_above,
    row_axes,
)
from ._predictions import (
    METRICS,
    PredictionSources,
    check_by_model,
    check_models,
    documented,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike

_CHANCE_AUROC = 0.5


@dataclass(repr=False, eq=False)
class _LabelDots(PredictionSources):
    """Dots with intervals by label; subclasses say what they measure."""

    estimate: pd.DataFrame
    low: pd.DataFrame
    high: pd.DataFrame
    _: KW_ONLY
    prevalence: pd.Series | None = None
    metric: str = "auroc"
    confidence_level: float | None = None

    @documented
    def plot(self, ax: Axes | None = None, *, sort_by: str | None = "prevalence") -> Self:
        """Draw.

        Parameters
        ----------
        ax, sort_by

        Returns
        -------
        display
        """
        check_option("metric", self.metric, METRICS)
        rows = self._order_rows(sort_by)
        names = [self._row_name(row) for row in rows]
        position = np.arange(len(rows), dtype=float)
        if rows[-1] == "macro":
            position[-1] += 0.25  # A little apart
        own = ax is None
        n_models = self.estimate.shape[1]
        self.ax_ = ax = row_axes(ax, names, row=0.15 + 0.095 * n_models)
        self.figure_ = ax.figure

        self._draw_background(ax, rows, position)
        step = min(0.2, 0.76 / n_models)
        for model, name in enumerate(self.estimate.columns):
            value, low, high = (t.loc[rows, name] for t in (self.estimate, self.low, self.high))
            height = position + (model - (n_models - 1) / 2) * step
            draw_intervals(ax, value, low, high, height, mark=model, label=str(name))
        finish_rows(ax, position, names)
        if rows[-1] == "macro":
            ax.get_yticklabels()[-1].set_fontweight("bold")
        # A narrow axes of the user's takes shorter lines
        letters = int(11 * ax.get_window_extent().width / ax.figure.dpi)
        ax.set_xlabel(fill(self._axis_title(), max(letters, 20)))
        self._finish(ax)
        if n_models > 1:
            legend_above(ax, [str(name) for name in self.estimate.columns], whole_figure=own)
        return self

    def _order_rows(self, sort_by: str | None) -> list[Any]:
        """Labels from top to bottom, the macro row last."""
        check_option("sort_by", sort_by, ("prevalence", "score", None))
        labels = self.estimate.drop(index="macro", errors="ignore")
        if sort_by == "score":
            labels = labels.loc[labels.mean(axis=1).sort_values(ascending=False).index]
        elif sort_by == "prevalence" and self.prevalence is not None:
            order = self.prevalence[labels.index].sort_values(ascending=False, kind="stable")
            labels = labels.loc[order.index]
        return [*labels.index, *(["macro"] if "macro" in self.estimate.index else [])]

    def _row_name(self, row: object) -> str:
        if row == "macro":
            return "macro mean"
        if self.prevalence is None:
            return fit_name(row)
        percent = 100 * self.prevalence[row]
        share = "<1" if 0 < percent < 1 else f"{percent:.0f}"
        return fit_name(f"{row} ({share}\N{NO-BREAK SPACE}%)")

    def _draw_background(self, ax: Axes, rows: list[Any], position: np.ndarray) -> None:
        """Shade every other row, so that the eye finds the label of a mark."""
        for row in range(0, len(rows), 2):
            if rows[row] != "macro":
                ax.axhspan(position[row] - 0.5, position[row] + 0.5, color="0.955", lw=0, zorder=0)
        if rows[-1] == "macro":
            ax.axhline(position[-1] - 0.625, color="0.25", lw=0.8, zorder=1)

    def _axis_title(self) -> str:
        title = self._title()
        if self.low.isna().all(axis=None):
            return title
        if self.confidence_level is None:
            return f"{title}, with intervals"
        # The line may not be broken before the sign
        return f"{title}, with {100 * self.confidence_level:g}\N{NO-BREAK SPACE}% intervals"

    def _drawn(self) -> np.ndarray:
        values = np.stack([t.to_numpy(float) for t in (self.estimate, self.low, self.high)])
        return values[np.isfinite(values)]

    def _note(self, ax: Axes, text: str, x: float, *, coords: Any, side: str) -> None:
        """Write a remark below the last row, where no interval runs."""
        bottom, top = ax.get_ylim()
        figure: Any = ax.figure
        # Of a figure of our own an inch is left to title, legend and ticks
        inches = min(ax.get_window_extent().height / figure.dpi, figure.get_figheight() - 1.0)
        ax.set_ylim(bottom + 0.18 * (bottom - top) / max(inches, 0.3), top)
        ax.annotate(
            text,
            (x, 0),
            xycoords=coords,
            xytext=(-4 if side == "right" else 4, 2),
            textcoords="offset points",
            ha=side,
            va="bottom",
            color="0.35",
            fontsize="small",
        )

    def _title(self) -> str:
        raise NotImplementedError

    def _finish(self, ax: Axes) -> None:
        """Limit the axis, and draw and name the reference line."""
        raise NotImplementedError


@documented
class LabelScoresDisplay(_LabelDots):
    """Dots with intervals: one row per disease, one mark per model, the macro mean set apart.

    Make it with :meth:`from_predictions` or :meth:`from_reports`, which draw at once. The numbers
    stay in the attributes, and :meth:`plot` draws them again.

    Parameters
    ----------
    estimate : DataFrame of shape (n_labels + 1, n_models)
        Score of each label (index) and model (columns); the row ``macro`` is drawn apart.
    low, high, prevalence, metric
    confidence_level : float, default=None
        Coverage of the intervals, for the axis title. None writes no number.

    Attributes
    ----------
    ax_, figure_

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
    @documented
    def from_predictions(
        cls,
        y_true: ArrayLike | pd.DataFrame,
        y_scores: Mapping[str, ArrayLike],
        *,
        metric: str = "auroc",
        sort_by: str | None = "prevalence",
        ax: Axes | None = None,
        **options: Any,
    ) -> Self:
        """Score each model by its predictions, and draw.

        Parameters
        ----------
        y_true, y_scores, metric, sort_by, ax
        **options : dict
            Further parameters of :func:`~sklearn_medfuse.metrics.multilabel_report`, such as
            `groups`, the unit to resample, and `n_bootstraps`, 0 for dots only. With an int as
            `random_state` all models are scored on the same resamples.

        Returns
        -------
        display
        """
        reports = {
            name: multilabel_report(y_true, y_score, **options)
            for name, y_score in check_by_model(y_scores, "y_scores").items()
        }
        return cls.from_reports(reports, metric=metric, sort_by=sort_by, ax=ax)

    @classmethod
    @documented
    def from_reports(
        cls,
        reports: Mapping[str, pd.DataFrame],
        *,
        metric: str = "auroc",
        sort_by: str | None = "prevalence",
        ax: Axes | None = None,
    ) -> Self:
        """Take the scores from reports, and draw.

        Parameters
        ----------
        reports : dict of str to DataFrame
            What :func:`~sklearn_medfuse.metrics.multilabel_report` returned, by model name. All
            must have the same labels.
        metric, sort_by, ax

        Returns
        -------
        display
        """
        first = next(iter(check_by_model(reports, "reports").values()))
        check_option("metric", metric, METRICS)
        columns = (metric, f"{metric}_low", f"{metric}_high")
        estimate, low, high = _by_column(reports, columns, "reports")
        display = cls(
            estimate,
            low,
            high,
            prevalence=first["prevalence"],
            metric=metric,
            confidence_level=first.attrs.get("confidence_level"),
        )
        return display.plot(ax=ax, sort_by=sort_by)

    def _title(self) -> str:
        return METRICS[self.metric]

    def _finish(self, ax: Axes) -> None:
        # All intervals, chance for AUROC, and nothing beyond what the score can reach
        drawn, has_chance = self._drawn(), self.metric == "auroc"
        lowest = min(drawn.min(initial=1.0), _CHANCE_AUROC if has_chance else 0.0)
        low = max(0.0, lowest - 0.02)
        high = min(1.0, drawn.max(initial=0.0) + 0.02)
        ax.set_xlim(low, high)
        if has_chance:
            ax.axvline(_CHANCE_AUROC, **REFERENCE)
            # There are fewer marks on the left, if there is room at all
            side = "right" if _CHANCE_AUROC - low > 0.15 * (high - low) else "left"
            self._note(ax, "chance", _CHANCE_AUROC, coords=("data", "axes fraction"), side=side)
        if self.estimate.shape[1] == 1:
            ax.set_title(fit_name(self.estimate.columns[0], 60), fontsize="medium")


@documented
@dataclass(repr=False, eq=False)
class ModelDifferenceDisplay(_LabelDots):
    """Forest plot of paired differences: one row per disease, one mark per other model.

    To the right of zero, the reference is better. All differences of a row come from the same
    resamples, so an interval without zero shows a difference that the models' own intervals, which
    overlap far more often, do not show.

    Parameters
    ----------
    estimate : DataFrame of shape (n_labels + 1, n_models)
        Score of the reference minus that of each model (columns); the row ``macro`` is drawn
        apart.
    low, high
    reference : str
        Name of the model that the others are compared with.
    prevalence, metric
    confidence_level : float, default=None
        Coverage of the intervals, for the axis title. None writes no number.

    Attributes
    ----------
    ax_, figure_

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

    reference: str

    @classmethod
    @documented
    def from_predictions(
        cls,
        y_true: ArrayLike | pd.DataFrame,
        y_scores: Mapping[str, ArrayLike],
        *,
        reference: str | None = None,
        metric: str = "auroc",
        confidence_level: float = 0.95,
        target_names: Sequence[str] | None = None,
        sort_by: str | None = "prevalence",
        ax: Axes | None = None,
        **options: Any,
    ) -> Self:
        """Compare the reference with each other model, and draw.

        Parameters
        ----------
        y_true
        y_scores : dict of str to array-like of shape (n_samples, n_labels)
            Scores by model name, the reference included.
        reference : str, default=None
            The model whose gain is drawn. None uses the last one.
        metric, confidence_level, target_names, sort_by, ax
        **options : dict
            Further parameters of :func:`~sklearn_medfuse.metrics.paired_difference`, such as
            `groups`, the unit to resample, and `n_bootstraps`, 0 for dots only. With an int as
            `random_state` all models are compared on the same resamples.

        Returns
        -------
        display
        """
        labels, scores, names = check_models(y_true, y_scores, target_names)
        if len(scores) < 2:
            raise ValueError("`y_scores` has one model; pass at least two to compare.")
        reference = list(scores)[-1] if reference is None else reference
        check_option("reference", reference, scores)
        comparisons = {
            name: paired_difference(
                labels,
                scores[reference],
                score,
                metric=metric,
                confidence_level=confidence_level,
                target_names=names,
                **options,
            )
            for name, score in scores.items()
            if name != reference
        }
        return cls.from_comparisons(
            comparisons,
            reference=reference,
            prevalence=pd.Series(labels.mean(axis=0), index=names),
            metric=metric,
            confidence_level=confidence_level,
            sort_by=sort_by,
            ax=ax,
        )

    @classmethod
    @documented
    def from_comparisons(
        cls,
        comparisons: Mapping[str, pd.DataFrame],
        *,
        reference: str,
        prevalence: pd.Series | None = None,
        metric: str = "auroc",
        confidence_level: float | None = None,
        sort_by: str | None = "prevalence",
        ax: Axes | None = None,
    ) -> Self:
        """Take the differences from tables of `paired_difference`, and draw.

        Reports of single models are not enough: their intervals say nothing about the difference.

        Parameters
        ----------
        comparisons : dict of str to DataFrame
            What :func:`~sklearn_medfuse.metrics.paired_difference` returned for the reference as
            the first model and another one as the second, by the other's name. All must have the
            same labels.
        reference : str
            Name of the model that was the first of each.
        prevalence, metric
        confidence_level : float, default=None
            Coverage of the intervals, for the axis title. None writes no number.
        sort_by, ax

        Returns
        -------
        display
        """
        columns = ("difference", "difference_low", "difference_high")
        for table in check_by_model(comparisons, "comparisons").values():
            if not isinstance(table, pd.DataFrame) or not set(columns) <= set(table.columns):
                raise ValueError(
                    "`comparisons` must hold tables of paired_difference, which have the columns "
                    f"{list(columns)}; reports of single models do not."
                )
        estimate, low, high = _by_column(comparisons, columns, "comparisons")
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

    def _title(self) -> str:
        others = self.estimate.columns
        other = str(others[0]) if len(others) == 1 else "the other"
        name = METRICS[self.metric].split(" (")[0]
        return f"{name} of {self.reference} minus that of {other}"

    def _finish(self, ax: Axes) -> None:
        drawn = self._drawn()
        low, high = drawn.min(initial=0.0), drawn.max(initial=0.0)
        # Equal models, too, get an axis whose ticks can be read
        margin = max(0.04 * (high - low), 0.01)
        ax.set_xlim(low - margin, high + margin)
        ax.axvline(0.0, **REFERENCE)
        better = f"{fit_name(self.reference, 40)} better \N{RIGHTWARDS ARROW}"
        self._note(ax, better, 1.0, coords="axes fraction", side="right")


def _by_column(
    tables: Mapping[str, pd.DataFrame], columns: Iterable[str], name: str
) -> list[pd.DataFrame]:
    """Give for each column a DataFrame (n_labels, n_models) of what the models' tables hold."""
    first, *others = tables.values()
    if any(list(table.index) != list(first.index) for table in others):
        raise ValueError(f"`{name}` must all have the same labels in the same order.")
    return [
        pd.DataFrame({model: table[column] for model, table in tables.items()})
        for column in columns
    ]
