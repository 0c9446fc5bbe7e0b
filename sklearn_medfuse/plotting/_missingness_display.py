"""Which labs are measured, how often, and which are missing together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

import numpy as np
import pandas as pd

from ._drawing import MARKS, fit_name, import_pyplot, size_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_BANDS = 200


class MissingnessDisplay:
    """A map of what is measured: labs down, stays across, and the share of each lab at its side.

    Labs are sorted by how often they are measured, stays by how many labs they have and which, so
    that panels of labs that are ordered together show as blocks. Where there are more stays than
    the picture has room for, neighbours are averaged.

    Parameters
    ----------
    measured : DataFrame of shape (n_labs, n_bands)
        Share of each band's stays in which a lab is measured, from 0 to 1; labs from the most to
        the least often measured.
    share : Series of shape (n_labs,)
        Share of all stays in which each lab is measured.
    n_stays : int
        Number of stays.

    Attributes
    ----------
    axes_ : ndarray of two matplotlib Axes
        The map and the shares.
    figure_ : matplotlib Figure
        Figure of the last drawing.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from sklearn_medfuse.plotting import MissingnessDisplay
    >>> labs = pd.DataFrame({"sodium": [140, 138, np.nan], "lactate": [np.nan, 2.1, np.nan]})
    >>> display = MissingnessDisplay.from_labs(labs)
    >>> display.share.round(2).to_dict()
    {'sodium': 0.67, 'lactate': 0.33}
    """

    def __init__(self, measured: pd.DataFrame, share: pd.Series, n_stays: int):
        self.measured = measured
        self.share = share
        self.n_stays = n_stays

    @classmethod
    def from_labs(
        cls,
        X: pd.DataFrame,
        *,
        most_labs: int = 40,
        axes: Sequence[Axes] | np.ndarray | None = None,
    ) -> Self:
        """Count what is measured, and draw.

        Parameters
        ----------
        X : DataFrame of shape (n_stays, n_labs)
            Labs of any kind; missing where they were not measured.
        most_labs : int, default=40
            Number of labs to draw, those measured most often.
        axes : sequence of two matplotlib Axes, default=None
            Map and shares. None makes a figure.

        Returns
        -------
        display : MissingnessDisplay
            The figure with its numbers.
        """
        if not isinstance(X, pd.DataFrame) or X.empty:
            raise ValueError("`X` must be a DataFrame with a row per stay and a column per lab.")
        observed = X.notna()
        share = observed.mean().sort_values(ascending=False, kind="stable").head(most_labs)
        table = observed[share.index].to_numpy()
        # By number of labs first, then by which they are
        order = np.lexsort([*table.T[::-1], table.sum(axis=1)])[::-1]
        bands = np.array_split(table[order], min(len(table), _MOST_BANDS))
        measured = np.column_stack([band.mean(axis=0) for band in bands])
        return cls(pd.DataFrame(measured, index=share.index), share, len(X)).plot(axes=axes)

    def plot(self, *, axes: Sequence[Axes] | np.ndarray | None = None) -> Self:
        """Draw.

        Parameters
        ----------
        axes : sequence of two matplotlib Axes, default=None
            Map and shares. None makes a figure.

        Returns
        -------
        display : MissingnessDisplay
            The display itself.
        """
        n_labs = len(self.share)
        names = [fit_name(name) for name in self.share.index]
        if axes is None:
            name_width, name_height = size_of(names, "small")
            _, axes = import_pyplot().subplots(
                1,
                2,
                sharey=True,
                width_ratios=[4, 1],
                figsize=(5.8 + name_width, 1.0 + (name_height + 0.05) * n_labs),
                layout="constrained",
            )
        self.axes_ = np.asarray(axes).ravel()
        area, bars = self.axes_
        self.figure_ = area.figure
        area.imshow(
            self.measured.to_numpy(),
            aspect="auto",
            cmap="Blues",
            vmin=0,
            vmax=1,
            interpolation="nearest",
            extent=(0, self.n_stays, n_labs - 0.5, -0.5),
        )
        area.set_yticks(range(n_labs), names, fontsize="small")
        area.tick_params(axis="y", length=0)
        area.set_xlabel("stays, those with most labs first (dark: measured)")
        bars.barh(range(n_labs), 100 * self.share.to_numpy(), color=MARKS[0][0], height=0.7)
        bars.set_xlim(0, 100)
        bars.set_xlabel("measured, %")
        bars.tick_params(axis="y", length=0)
        bars.spines[["top", "right"]].set_visible(False)
        return self
