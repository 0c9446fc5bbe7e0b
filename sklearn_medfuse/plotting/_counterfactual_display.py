"""What would be predicted had a lab another value."""

import numpy as np

from .._private_errors import no_values_in_errors
from ..inspection import lab_counterfactual
from ._label_panels import label_panels, name_axes
from ._matplotlib import MARKS


class CounterfactualDisplay:
    """Predicted probability against the value of one lab, a panel per label.

    A thin line is a stay, its dot where it is; the thick line is their mean. The normal range is
    shaded. The curves are the model's: they do not say what treating the value would do.

    Parameters
    ----------
    counterfactual : LabCounterfactual
        What :func:`~sklearn_medfuse.inspection.lab_counterfactual` gives.

    actual : ndarray of shape (n_stays,), default=None
        The stays' own values, NaN where not measured. None draws no dots.

    unit : str, default=""
        Unit of the lab.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes
        A panel per label.

    figure_ : matplotlib Figure
        Figure of the last drawing.

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

    def __init__(self, counterfactual, actual=None, *, unit=""):
        self.counterfactual = counterfactual
        self.actual = actual
        self.unit = unit

    @classmethod
    def from_estimator(cls, estimator, X, lab, *, unit="", axes=None, **options):
        """Sweep a lab of some stays, and draw.

        Parameters
        ----------
        estimator : estimator
            Fitted pipeline or other classifier of `X` with `predict_proba`.

        X : DataFrame of shape (n_stays, n_columns)
            Stays; a few dozen make a figure that can be read.

        lab : str
            Column of the lab.

        unit : str, default=""
            Its unit.

        axes : sequence of matplotlib Axes, default=None
            A panel per label. None makes a figure.

        **options : dict
            Further parameters of :func:`~sklearn_medfuse.inspection.lab_counterfactual`.

        Returns
        -------
        display : CounterfactualDisplay
            The figure with its numbers.
        """
        found = lab_counterfactual(estimator, X, lab, **options)
        with no_values_in_errors():
            actual = X[lab].to_numpy(dtype=float, na_value=np.nan)
        return cls(found, actual, unit=unit).plot(axes=axes)

    def plot(self, *, axes=None):
        """Draw.

        Parameters
        ----------
        axes : sequence of matplotlib Axes, default=None
            A panel per label. None makes a figure.

        Returns
        -------
        display : CounterfactualDisplay
            This object.
        """
        found = self.counterfactual
        self.axes_ = label_panels(found.label_names, axes)
        self.figure_ = self.axes_[0].figure
        color = MARKS[0][0]
        # values can be given in any order
        order = np.argsort(found.grid)
        values = np.asarray(found.grid)[order]
        for label, ax in enumerate(self.axes_):
            curves = found.curves[:, order, label]
            if found.normal_range is not None:
                ax.axvspan(*found.normal_range, color="0.9", lw=0, zorder=0)
            ax.plot(values, curves.T, color=color, lw=0.6, alpha=0.45, zorder=2)
            if self.actual is not None:
                inside = (self.actual >= values[0]) & (self.actual <= values[-1])
                ax.plot(
                    self.actual[inside],
                    found.predicted[inside, label],
                    ls="none",
                    marker="o",
                    markersize=2.5,
                    color=color,
                    zorder=3,
                )
            if len(curves) > 1:
                ax.plot(values, curves.mean(axis=0), color="black", lw=2, zorder=4)
            ax.set_ylim(0, min(1.0, 1.1 * max(curves.max(), 0.01)))
            ax.set_xlim(values[0], values[-1])
            ax.locator_params(nbins=4)
        unit = f" ({self.unit})" if self.unit else ""
        titles = (f"{found.lab}{unit}", "predicted probability")
        name_axes(self.axes_, *titles, own=axes is None)
        return self
