"""How much the score of each label falls when a panel of labs is shuffled."""

import numpy as np

from ..inspection import panel_importance
from ._matplotlib import MARKS, import_pyplot

_METRICS = {"auroc": "AUROC", "auprc": "AUPRC", "neg_log_loss": "the log-likelihood"}


class PanelImportanceDisplay:
    """One row per panel: the fall of the mean score with its spread, and that of each label.

    Parameters
    ----------
    importance : PanelImportance
        What :func:`~sklearn_medfuse.inspection.panel_importance` gives.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes of the last drawing.

    figure_ : matplotlib Figure
        Figure of the last drawing.

    See Also
    --------
    sklearn_medfuse.inspection.panel_importance : The numbers behind the figure.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from sklearn_medfuse.inspection import PanelImportance
    >>> from sklearn_medfuse.plotting import PanelImportanceDisplay
    >>> scores = pd.Series([0.9, 0.9], index=["renal failure", "macro"])
    >>> falls = np.array([[[0.2, 0.4], [0.2, 0.4]]])
    >>> importance = PanelImportance(falls, scores, {"chemistry": ["urea"]})
    >>> PanelImportanceDisplay(importance).plot().ax_.get_xlabel()
    'fall of AUROC when the panel is shuffled'
    """

    def __init__(self, importance):
        self.importance = importance

    @classmethod
    def from_estimator(cls, estimator, X, y, panels, *, ax=None, **options):
        """Shuffle the panels of some stays, and draw.

        Parameters
        ----------
        estimator : estimator
            Fitted pipeline or other classifier of `X` with `predict_proba`.

        X : DataFrame of shape (n_stays, n_columns)
            Stays, best of patients that were not trained on.

        y : array-like of shape (n_stays, n_labels)
            True labels, 0 or 1.

        panels : dict of str to list of str, or list of str
            Columns of each panel, or lab columns that are sorted into panels.

        ax : matplotlib Axes, default=None
            Where to draw. None makes a figure.

        **options : dict
            Further parameters of :func:`~sklearn_medfuse.inspection.panel_importance`.

        Returns
        -------
        display : PanelImportanceDisplay
            The figure with its numbers.
        """
        return cls(panel_importance(estimator, X, y, panels, **options)).plot(ax=ax)

    def plot(self, *, n_named=3, ax=None):
        """Draw.

        Parameters
        ----------
        n_named : int, default=3
            The labels that fall most are named, so many in the whole figure.

        ax : matplotlib Axes, default=None
            Where to draw. None makes a figure.

        Returns
        -------
        display : PanelImportanceDisplay
            This object.
        """
        mean, std = self.importance.mean(), self.importance.std()
        order = mean["macro"].sort_values(ascending=False, kind="stable").index
        mean, std = mean.loc[order], std.loc[order]
        if ax is None:
            figsize = (6.4, 1.2 + 0.42 * len(mean))
            _, ax = import_pyplot().subplots(figsize=figsize, layout="constrained")
        self.ax_, self.figure_ = ax, ax.figure
        rows = np.arange(len(mean))
        labels = mean.drop(columns="macro")
        ax.axvline(0, color="0.35", lw=1, ls=(0, (4, 3)), zorder=1)
        for name in labels:
            ax.plot(labels[name], rows, ls="none", marker="|", markersize=9, color="0.55", zorder=2)
        color, marker = MARKS[0]
        ax.hlines(rows, mean["macro"] - std["macro"], mean["macro"] + std["macro"], color=color)
        ax.plot(mean["macro"], rows, ls="none", marker=marker, markersize=6, color=color, zorder=3)
        self._name_labels(ax, labels, n_named)
        names = [f"{name} ({len(self.importance.panels[name])})" for name in order]
        ax.set_yticks(rows, names)
        ax.set_ylim(len(mean) - 0.5, -0.6)
        ax.margins(x=0.12)
        ax.tick_params(axis="y", length=0)
        ax.grid(axis="x", color="0.85", lw=0.6)
        ax.set_axisbelow(True)
        ax.spines[["top", "right", "left"]].set_visible(False)
        metric = _METRICS.get(self.importance.metric, "the score")
        ax.set_xlabel(f"fall of {metric} when the panel is shuffled")
        ax.set_title(
            "dot: mean of the labels ± SD of the shuffles; tick: a label", fontsize="small"
        )
        return self

    def _name_labels(self, ax, labels, n_named):
        """Write the names of the labels that fall most, where there is room beside another."""
        room = 0.3 * float(labels.to_numpy().max() - labels.to_numpy().min())
        named: list[tuple[int, float]] = []
        for (panel, label), value in labels.stack().sort_values(ascending=False).items():
            row = list(labels.index).index(panel)
            if len(named) == n_named or not value > 0:
                break
            if any(row == other and abs(value - at) < room for other, at in named):
                continue
            named.append((row, value))
            ax.annotate(
                str(label).replace("_", " "),
                (value, row),
                xytext=(0, 7),
                textcoords="offset points",
                ha="center",
                fontsize="x-small",
                color="0.3",
            )
