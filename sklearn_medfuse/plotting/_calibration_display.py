"""Observed frequency against predicted probability, a panel per label."""

import numpy as np
from sklearn.calibration import calibration_curve

from ..metrics import expected_calibration_error
from ._label_panels import check_models, label_panels, name_models_and_axes
from ._matplotlib import MARKS


class CalibrationDisplay:
    """Reliability curves: one panel per label, one curve per model.

    Parameters
    ----------
    curves : dict of str to list of (observed, predicted)
        For each model the curve of each label, two arrays of one value per bin.

    label_names : list of str
        Names of the labels.

    errors : dict of str to ndarray of shape (n_labels,), default=None
        Expected calibration error of each model and label, written into the panels.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes
        A panel per label.

    figure_ : matplotlib Figure
        Figure of the last drawing.

    See Also
    --------
    sklearn_medfuse.metrics.expected_calibration_error : The number in the panels.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_medfuse.plotting import CalibrationDisplay
    >>> rng = np.random.default_rng(0)
    >>> probabilities = rng.random((300, 2))
    >>> y_true = (rng.random((300, 2)) < probabilities).astype(int)
    >>> display = CalibrationDisplay.from_predictions(y_true, {"perfect": probabilities})
    >>> len(display.axes_)
    2
    """

    def __init__(self, curves, label_names, errors=None):
        self.curves = curves
        self.label_names = label_names
        self.errors = errors

    @classmethod
    def from_predictions(
        cls, y_true, y_probs, *, n_bins=8, strategy="quantile", target_names=None, axes=None
    ):
        """Bin each model's probabilities, and draw.

        Parameters
        ----------
        y_true : array-like of shape (n_samples, n_labels)
            True labels, 0 or 1.

        y_probs : dict of str to array-like of shape (n_samples, n_labels)
            Probabilities by the model's name.

        n_bins : int, default=8
            Number of bins at most.

        strategy : {"quantile", "uniform"}, default="quantile"
            Bins with as many rows each, or of equal width.

        target_names : sequence of str, default=None
            Names of the labels. None takes the columns of `y_true`, or numbers.

        axes : sequence of matplotlib Axes, default=None
            A panel per label. None makes a figure.

        Returns
        -------
        display : CalibrationDisplay
            The figure with its numbers.
        """
        truth, probabilities, names = check_models(y_true, y_probs, target_names, "y_probs")
        curves, errors = {}, {}
        for name, values in probabilities.items():
            columns = list(zip(truth.T, values.T, strict=True))
            curves[name] = [
                calibration_curve(y, p, n_bins=n_bins, strategy=strategy) for y, p in columns
            ]
            errors[name] = np.array(
                [expected_calibration_error(y[:, None], p[:, None]) for y, p in columns]
            )
        return cls(curves, names, errors).plot(axes=axes)

    def plot(self, *, axes=None):
        """Draw.

        Parameters
        ----------
        axes : sequence of matplotlib Axes, default=None
            A panel per label. None makes a figure.

        Returns
        -------
        display : CalibrationDisplay
            This object.
        """
        self.axes_ = label_panels(self.label_names, axes)
        self.figure_ = self.axes_[0].figure
        for label, ax in enumerate(self.axes_):
            self._draw_label(ax, label)
        if axes is None:
            name_models_and_axes(self.axes_, "predicted probability", "observed frequency")
        return self

    def _draw_label(self, ax, label):
        top = 0.05
        ax.axline((0, 0), slope=1, color="0.35", lw=1, ls=(0, (4, 3)), zorder=1)
        for model, (name, curves) in enumerate(self.curves.items()):
            color, marker = MARKS[model % len(MARKS)]
            observed, predicted = curves[label]
            top = max(top, *observed, *predicted)
            ax.plot(
                predicted,
                observed,
                color=color,
                marker=marker,
                markersize=4,
                lw=1.2,
                label=name,
                zorder=2 + model,
            )
            if self.errors is not None:
                whose = f"{name}: " if len(self.curves) > 1 else ""
                ax.annotate(
                    f"{whose}ECE {self.errors[name][label]:.3f}",
                    (0.04, 0.96 - 0.11 * model),
                    xycoords="axes fraction",
                    va="top",
                    color="0.25",
                    fontsize="small",
                )
        # rare labels use a corner of the unit square: both axes end alike, where the curves end
        limit = min(1.0, 1.3 * top)
        ax.set(xlim=(0, limit), ylim=(0, limit), aspect="equal")
        ax.locator_params(nbins=4)
