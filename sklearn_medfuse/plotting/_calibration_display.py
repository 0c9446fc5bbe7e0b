"""Observed frequency against predicted probability, a panel per label."""

import numpy as np

from ..metrics import calibration_bins, expected_calibration_error
from ._label_panels import check_models, label_panels, name_axes, name_models, write_values
from ._matplotlib import LINES, MARKS
from ._prediction_sources import PredictionSources

_COLUMNS = ["predicted", "observed", "observed_low", "observed_high"]


class CalibrationDisplay(PredictionSources):
    """Reliability curves: one panel per label, one curve per model.

    Of one model alone each bin has a bootstrap interval; those of several would hide each other.

    Parameters
    ----------
    curves : dict of str to list of DataFrame
        For each model the curve of each label: a row per bin, with the columns `predicted`,
        `observed`, `observed_low` and `observed_high`, of which the last two may be NaN.

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
        cls,
        y_true,
        y_probs,
        *,
        n_bins=8,
        strategy="quantile",
        groups=None,
        n_bootstraps=200,
        confidence_level=0.95,
        target_names=None,
        random_state=None,
        axes=None,
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

        groups : array-like of shape (n_samples,), default=None
            The unit to resample for the intervals, usually the patient. None resamples rows.

        n_bootstraps : int, default=200
            Number of resamples where there is one model; 0 draws no intervals.

        confidence_level : float, default=0.95
            Coverage of the intervals.

        target_names : sequence of str, default=None
            Names of the labels. None takes the columns of `y_true`, or numbers.

        random_state : int, RandomState instance or None, default=None
            Source of the resamples.

        axes : sequence of matplotlib Axes, default=None
            A panel per label. None makes a figure.

        Returns
        -------
        display : CalibrationDisplay
            The figure with its numbers.
        """
        truth, probabilities, names = check_models(y_true, y_probs, target_names, "y_probs")
        curves, errors = {}, {}
        for model, values in probabilities.items():
            bins = calibration_bins(
                truth,
                values,
                n_bins=n_bins,
                strategy=strategy,
                groups=groups,
                n_bootstraps=n_bootstraps if len(probabilities) == 1 else 0,
                confidence_level=confidence_level,
                target_names=names,
                random_state=random_state,
            )
            by_label = dict(list(bins.groupby("label", sort=False)))
            curves[model] = [by_label[name][_COLUMNS].reset_index(drop=True) for name in names]
            errors[model] = np.array(
                [
                    expected_calibration_error(y[:, None], p[:, None])
                    for y, p in zip(truth.T, values.T, strict=True)
                ]
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
            if self.errors is not None:
                values = {name: f"{errors[label]:.3f}" for name, errors in self.errors.items()}
                write_values(ax, "ECE", values, "upper left", with_names=axes is not None)
        titles = ("predicted probability", "observed frequency")
        name_axes(self.axes_, *titles, own=axes is None)
        if axes is None:
            name_models(self.axes_)
        return self

    def _draw_label(self, ax, label):
        ends = [0.05]
        ax.axline((0, 0), slope=1, color="0.35", lw=1, ls=(0, (4, 3)), zorder=1)
        for model, (name, curves) in enumerate(self.curves.items()):
            color, marker = MARKS[model % len(MARKS)]
            curve = curves[label]
            ends += [*curve["predicted"], *curve["observed"], *curve["observed_high"].dropna()]
            ax.vlines(
                curve["predicted"],
                curve["observed_low"],
                curve["observed_high"],
                color=color,
                lw=0.8,
                zorder=2,
            )
            ax.plot(
                curve["predicted"],
                curve["observed"],
                color=color,
                marker=marker,
                markersize=3.5,
                ls=LINES[model % len(LINES)],
                lw=1.0,
                label=name,
                clip_on=False,
                zorder=3 + model,
            )
        # rare labels use a corner of the unit square: both axes end alike, where the curves end
        limit = min(1.0, 1.3 * max(ends))
        # a mark of 0 is to be seen whole
        start = -0.03 * limit
        ax.set(xlim=(start, limit), ylim=(start, limit), aspect="equal")
        ax.locator_params(nbins=4)
