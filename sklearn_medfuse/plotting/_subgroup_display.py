"""Scores, or gaps, of groups of patients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd

from ..metrics import subgroup_report
from ..metrics._inputs import check_option
from ..metrics._scorers import predict_positive
from ._drawing import REFERENCE, draw_intervals, finish_rows, fit_name, row_axes
from ._predictions import documented

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike
    from sklearn.base import BaseEstimator

_SHOWN = {"score": "{}", "gap": "{} minus that of {}"}


@documented
@dataclass(repr=False, eq=False)
class SubgroupDisplay:
    """One row per group of patients: its score with interval, or its gap to the others.

    Parameters
    ----------
    report : DataFrame
        What :func:`~sklearn_medfuse.metrics.subgroup_report` returns.
    metric : str, default="auroc"
        Name of the score.
    reference : {"rest", "largest"}, default="rest"
        What a group's gap is measured against: all others, or the largest group.

    Attributes
    ----------
    ax_, figure_

    See Also
    --------
    sklearn_medfuse.metrics.subgroup_report : The numbers behind the figure.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_medfuse.plotting import SubgroupDisplay
    >>> rng = np.random.default_rng(0)
    >>> y_true = rng.integers(2, size=(400, 2))
    >>> scores = y_true + rng.normal(size=(400, 2))
    >>> display = SubgroupDisplay.from_predictions(
    ...     y_true, scores, {"sex": rng.choice(["F", "M"], 400)}, n_bootstraps=20, random_state=0
    ... )
    >>> [text.get_text() for text in display.ax_.get_yticklabels()]
    ['all (400)', 'sex', 'M (204)', 'F (196)']
    """

    report: pd.DataFrame
    _: KW_ONLY
    metric: str = "auroc"
    reference: str = "rest"

    @classmethod
    @documented
    def from_estimator(
        cls,
        estimator: BaseEstimator,
        X: ArrayLike | pd.DataFrame,
        y: ArrayLike | pd.DataFrame,
        subgroups: pd.DataFrame | pd.Series | Mapping[str, ArrayLike],
        **options: Any,
    ) -> Self:
        """Predict with a fitted model, score each group, and draw.

        Parameters
        ----------
        estimator, X, y, subgroups
        **options : dict
            Further parameters of `from_predictions`.

        Returns
        -------
        display
        """
        return cls.from_predictions(y, predict_positive(estimator, X), subgroups, **options)

    @classmethod
    @documented
    def from_predictions(
        cls,
        y_true: ArrayLike | pd.DataFrame,
        y_score: ArrayLike,
        subgroups: pd.DataFrame | pd.Series | Mapping[str, ArrayLike],
        *,
        label: str = "macro",
        show: str = "score",
        ax: Axes | None = None,
        **options: Any,
    ) -> Self:
        """Score each group, and draw.

        Parameters
        ----------
        y_true
        y_score : array-like of shape (n_samples, n_labels)
            Scores of one model.
        subgroups
        label : str, default="macro"
            The label to draw; "macro" is the mean over labels.
        show, ax
        **options : dict
            Further parameters of :func:`~sklearn_medfuse.metrics.subgroup_report`.

        Returns
        -------
        display
        """
        report = subgroup_report(y_true, y_score, subgroups, **options)
        settings = {name: options[name] for name in ("metric", "reference") if name in options}
        return cls(report, **settings).plot(label=label, show=show, ax=ax)

    @documented
    def plot(self, *, label: str = "macro", show: str = "score", ax: Axes | None = None) -> Self:
        """Draw.

        Parameters
        ----------
        label : str, default="macro"
            The label to draw; "macro" is the mean over labels.
        show, ax

        Returns
        -------
        display
        """
        check_option("show", show, _SHOWN)
        check_option("label", label, list(self.report["label"].unique()))
        rows = self.report[self.report["label"] == label]
        if show == "gap":
            rows = rows[rows["attribute"] != "all"]
        place, ticks = _place_groups(rows)
        self.ax_ = ax = row_axes(ax, list(ticks.values()))
        self.figure_ = ax.figure
        whole = rows.loc[rows["attribute"] == "all", "score"]
        ax.axvline(0.0 if show == "gap" else float(whole.iloc[0]), **REFERENCE)
        draw_intervals(ax, rows[show], rows[f"{show}_low"], rows[f"{show}_high"], place)
        finish_rows(ax, list(ticks), list(ticks.values()))
        for text, height in zip(ax.get_yticklabels(), ticks, strict=True):
            text.set_fontweight("normal" if height in place else "bold")
        for height in place[rows[show].isna().to_numpy()]:
            ax.annotate(
                "too few",
                (0.01, height),
                xycoords=("axes fraction", "data"),
                va="center",
                fontsize="small",
                color="0.35",
            )
        what = _SHOWN[show].format(
            self.metric.upper() if len(self.metric) < 6 else self.metric.replace("_", " "),
            "the rest" if self.reference == "rest" else "the largest group",
        )
        ax.set_xlabel(fit_name(f"{what}, {'macro mean' if label == 'macro' else label}", 56))
        return self


def _place_groups(rows: pd.DataFrame) -> tuple[np.ndarray, dict[float, str]]:
    """Height of each row, and the text at each height: a heading above each attribute."""
    ticks: dict[float, str] = {}
    place, height, above = [], 0.0, "all"
    for attribute, group, n_samples in zip(
        rows["attribute"], rows["group"], rows["n_samples"], strict=True
    ):
        if attribute != above:
            height += 0.2 if height else 0.0
            ticks[height] = fit_name(attribute)
            height, above = height + 0.9, attribute
        place.append(height)
        ticks[height] = fit_name(f"{group} ({n_samples:,})")
        height += 1.0
    return np.array(place), ticks
