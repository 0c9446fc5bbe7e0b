"""Hidden lab results against what the encoder makes of them."""

import numpy as np
import pandas as pd

from ._label_panels import name_axes
from ._matplotlib import MARKS, import_pyplot

_PANEL = 2.4
_PANELS_PER_ROW = 4


class LabReconstructionDisplay:
    """One panel per lab: the predicted value of hidden cells against the true one, with R².

    R² is one less the squared error over the squared deviation of the hidden cells from their
    mean: 1 is perfect, 0 is no better than that mean. The axes cover the middle 98 % of the true
    values and of the predicted ones; cells beyond them are marked at the edge.

    Parameters
    ----------
    cells : DataFrame of shape (n_hidden, n_columns)
        Columns `lab`, `true` and `predicted`, as `MaskedLabEncoder.reconstruct` gives them.

    Attributes
    ----------
    r2_ : Series of shape (n_labs,)
        R² of each lab, the best first; NaN for a lab whose hidden cells are all alike.

    axes_ : ndarray of matplotlib Axes
        A panel per drawn lab.

    figure_ : matplotlib Figure
        Figure of the last drawing.

    See Also
    --------
    LabCorrelationDisplay : Which labs the predictions come from.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_medfuse import MaskedLabEncoder
    >>> from sklearn_medfuse.plotting import LabReconstructionDisplay
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 1)) + 0.3 * rng.normal(size=(200, 3))
    >>> encoder = MaskedLabEncoder(max_epochs=1, random_state=0).fit(X)
    >>> display = LabReconstructionDisplay.from_estimator(encoder, X)
    >>> bool((display.r2_ > 0.5).all())
    True
    """

    def __init__(self, cells):
        self.cells = cells

    @classmethod
    def from_estimator(cls, estimator, X, *, labs=None, axes=None):
        """Hide a fifth of the measured cells, predict them from the rest, and draw.

        Parameters
        ----------
        estimator : MaskedLabEncoder
            Fitted.

        X : {array-like, DataFrame, sparse matrix} of shape (n_rows, n_labs)
            Lab results in the columns of fit; best of rows that fit did not see.

        labs : sequence of names or positions, default=None
            Labs to draw, in this order. None draws the twelve that are predicted best.

        axes : sequence of matplotlib Axes, default=None
            A panel per lab. None makes a figure.

        Returns
        -------
        display : LabReconstructionDisplay
            The figure with its numbers.
        """
        return cls(estimator.reconstruct(X)).plot(labs=labs, axes=axes)

    def plot(self, *, labs=None, axes=None):
        """Draw.

        Parameters
        ----------
        labs : sequence of names or positions, default=None
            Labs to draw, in this order. None draws the twelve that are predicted best.

        axes : sequence of matplotlib Axes, default=None
            A panel per lab. None makes a figure.

        Returns
        -------
        display : LabReconstructionDisplay
            This object.
        """
        by_lab = dict(list(self.cells.groupby("lab", sort=False)))
        self.r2_ = pd.Series({lab: _r2(cells) for lab, cells in by_lab.items()}, dtype=float)
        self.r2_ = self.r2_.sort_values(ascending=False)
        labs = list(self.r2_.index[:12] if labs is None else labs)
        if unknown := [lab for lab in labs if lab not in by_lab]:
            raise ValueError(
                f"`labs` names {unknown[0]!r}, of which no cell was hidden; choose from the labs "
                "that are measured in X."
            )
        if not labs:
            raise ValueError("X has no measured lab, so there is nothing to draw.")
        self.axes_ = _panels(len(labs)) if axes is None else np.asarray(axes).ravel()
        if len(self.axes_) != len(labs):
            raise ValueError(
                f"`axes` holds {len(self.axes_)} panels; pass one per lab, that is {len(labs)}."
            )
        self.figure_ = self.axes_[0].figure
        for ax, lab in zip(self.axes_, labs, strict=True):
            _draw_lab(ax, by_lab[lab])
            title = f"{lab}\nR² {self.r2_[lab]:.2f}, n = {len(by_lab[lab])}"
            ax.set_title(title, fontsize="small")
        name_axes(self.axes_, "true value", "predicted value", own=axes is None)
        return self


def _r2(cells):
    total = ((cells["true"] - cells["true"].mean()) ** 2).sum()
    left = ((cells["true"] - cells["predicted"]) ** 2).sum()
    return 1.0 - left / total if total > 0 else np.nan


def _panels(n_labs):
    n_columns = min(n_labs, _PANELS_PER_ROW)
    n_rows = -(-n_labs // n_columns)
    _, axes = import_pyplot().subplots(
        n_rows,
        n_columns,
        figsize=(_PANEL * n_columns, _PANEL * n_rows),
        layout="constrained",
        squeeze=False,
    )
    for ax in axes.ravel()[n_labs:]:
        ax.remove()
    return axes.ravel()[:n_labs]


def _draw_lab(ax, cells):
    shown = cells[["true", "predicted"]].to_numpy()
    low, high = np.quantile(shown, [0.01, 0.99], axis=0)
    low, high = low.min(), high.max()
    margin = 0.05 * (high - low) or 1.0
    limits = (low - margin, high + margin)
    ax.plot(limits, limits, color="0.6", linewidth=0.8, zorder=1)
    ax.plot(
        *np.clip(shown, low, high).T,
        ls="none",
        marker=MARKS[0][1],
        color=MARKS[0][0],
        markersize=3,
        markeredgewidth=0,
        # hundreds of cells lie on each other
        alpha=float(np.clip(60 / len(shown), 0.15, 0.7)),
    )
    ax.set_xlim(limits)
    ax.set_ylim(limits)
    ax.set_aspect("equal")
    ax.locator_params(nbins=4)
    ax.tick_params(labelsize="x-small")
