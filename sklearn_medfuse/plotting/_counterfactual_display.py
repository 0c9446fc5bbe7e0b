"""What would be predicted if a lab had another value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd

from .._input_data import no_values_in_errors
from ..inspection import LabCounterfactual, lab_counterfactual
from ._drawing import MARKS, PanelsDisplay
from ._predictions import documented

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from sklearn.base import BaseEstimator


@documented
class CounterfactualDisplay(PanelsDisplay):
    """Predicted probability against the value of one lab, a panel per label.

    A thin line is a stay, its dot the stay's own value; the thick line is the mean of the stays.
    The normal range is shaded. The curves are the model's: they do not say what treating the
    value would do.

    Parameters
    ----------
    counterfactual : LabCounterfactual
        What :func:`~sklearn_medfuse.inspection.lab_counterfactual` returns.
    actual : ndarray of shape (n_stays,), default=None
        The stays' own values, NaN where not measured. None draws no dots.
    unit : str, default=""
        Unit of the lab.

    Attributes
    ----------
    axes_, figure_

    See Also
    --------
    sklearn_medfuse.inspection.lab_counterfactual : The numbers behind the figure.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_medfuse.inspection import LabCounterfactual
    >>> from sklearn_medfuse.plotting import CounterfactualDisplay
    >>> counterfactual = LabCounterfactual(
    ...     "creatinine", np.array([1.0, 2.0]), np.array([[[0.1], [0.6]]]), np.array([[0.5]]),
    ...     np.array([[0.2]]), ["renal failure"],
    ... )
    >>> display = CounterfactualDisplay(counterfactual, unit="mg/dL").plot()
    >>> display.figure_.get_supxlabel()
    'creatinine (mg/dL)'
    """

    def __init__(
        self,
        counterfactual: LabCounterfactual,
        actual: np.ndarray | None = None,
        *,
        unit: str = "",
    ):
        self.counterfactual = counterfactual
        self.actual = actual
        self.unit = unit
        self.label_names = counterfactual.label_names

    @classmethod
    @documented
    def from_estimator(
        cls,
        estimator: BaseEstimator,
        X: pd.DataFrame,
        lab: str,
        *,
        unit: str = "",
        axes: Sequence[Axes] | np.ndarray | None = None,
        **options: Any,
    ) -> Self:
        """Sweep a lab of some stays, and draw.

        Parameters
        ----------
        estimator
        X : DataFrame of shape (n_stays, n_columns)
            Stays; a few dozen make a readable figure.
        lab : str
            Column of the lab.
        unit : str, default=""
            Its unit.
        axes
        **options : dict
            Further parameters of :func:`~sklearn_medfuse.inspection.lab_counterfactual`.

        Returns
        -------
        display
        """
        found = lab_counterfactual(estimator, X, lab, **options)
        with no_values_in_errors():
            actual = X[lab].to_numpy(dtype=float, na_value=np.nan)
        return cls(found, actual, unit=unit).plot(axes=axes)

    def _draw_panel(self, ax: Axes, label: int, own: bool) -> None:
        found, color = self.counterfactual, MARKS[0][0]
        # Values may be given in any order
        order = np.argsort(found.grid)
        values = np.asarray(found.grid)[order]
        curves = found.curves[:, order, label]
        if found.normal_range is not None:
            ax.axvspan(*found.normal_range, color="0.9", lw=0, zorder=0)
        ax.plot(values, curves.T, color=color, lw=0.6, alpha=0.45, zorder=2)
        if self.actual is not None:
            inside = (self.actual >= values[0]) & (self.actual <= values[-1])
            values_of_stays = self.actual[inside], found.predicted[inside, label]
            ax.scatter(*values_of_stays, s=6, color=color, zorder=3)
        if len(curves) > 1:
            ax.plot(values, curves.mean(axis=0), color="black", lw=2, zorder=4)
        ax.set_ylim(0, min(1.0, 1.1 * max(curves.max(), 0.01)))
        ax.set_xlim(values[0], values[-1])
        ax.locator_params(nbins=4)

    def _axis_titles(self) -> tuple[str, str]:
        unit = f" ({self.unit})" if self.unit else ""
        return f"{self.counterfactual.lab}{unit}", "predicted probability"
