"""Net benefit against the probability at which one would act, a panel per label."""

import numpy as np

from ..metrics import decision_curve
from ._label_panels import check_models, label_panels, name_axes, name_models
from ._matplotlib import LINES, MARKS
from ._prediction_sources import PredictionSources


class DecisionCurveDisplay(PredictionSources):
    """Decision curves: one panel per label, one curve per model.

    The grey curve is to act on everybody, the line at 0 to act on nobody. A model is of use at
    the thresholds at which it lies above both.

    Parameters
    ----------
    curves : dict of str to DataFrame
        For each model what :func:`~sklearn_medfuse.metrics.decision_curve` gives.

    label_names : list of str
        Names of the labels.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes
        A panel per label.

    figure_ : matplotlib Figure
        Figure of the last drawing.

    See Also
    --------
    sklearn_medfuse.metrics.decision_curve : The numbers behind the figure.
    CalibrationDisplay : Thresholds mean what they say only where probabilities are calibrated.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_medfuse.plotting import DecisionCurveDisplay
    >>> rng = np.random.default_rng(0)
    >>> probabilities = rng.random((300, 2))
    >>> y_true = (rng.random((300, 2)) < probabilities).astype(int)
    >>> display = DecisionCurveDisplay.from_predictions(y_true, {"perfect": probabilities})
    >>> len(display.axes_)
    2
    """

    def __init__(self, curves, label_names):
        self.curves = curves
        self.label_names = label_names

    @classmethod
    def from_predictions(
        cls,
        y_true,
        y_probs,
        *,
        thresholds=None,
        groups=None,
        n_bootstraps=200,
        confidence_level=0.95,
        target_names=None,
        random_state=None,
        axes=None,
    ):
        """Compute each model's net benefit, and draw.

        Parameters
        ----------
        y_true : array-like of shape (n_samples, n_labels)
            True labels, 0 or 1.

        y_probs : dict of str to array-like of shape (n_samples, n_labels)
            Probabilities by the model's name.

        thresholds : array-like of shape (n_thresholds,), default=None
            Probabilities at which to act. None takes 0.01, 0.02, … 0.5.

        groups : array-like of shape (n_samples,), default=None
            The unit to resample for the intervals, usually the patient. None resamples rows.

        n_bootstraps : int, default=200
            Number of resamples where there is one model, whose interval is a band; 0 draws none.

        confidence_level : float, default=0.95
            Coverage of the band.

        target_names : sequence of str, default=None
            Names of the labels. None takes the columns of `y_true`.

        random_state : int, RandomState instance or None, default=None
            Source of the resamples.

        axes : sequence of matplotlib Axes, default=None
            A panel per label. None makes a figure.

        Returns
        -------
        display : DecisionCurveDisplay
            The figure with its numbers.
        """
        truth, probabilities, names = check_models(y_true, y_probs, target_names, "y_probs")
        curves = {
            model: decision_curve(
                truth,
                values,
                thresholds=np.arange(1, 51) / 100 if thresholds is None else thresholds,
                averages=(),
                groups=groups,
                n_bootstraps=n_bootstraps if len(probabilities) == 1 else 0,
                confidence_level=confidence_level,
                target_names=names,
                random_state=random_state,
            )
            for model, values in probabilities.items()
        }
        return cls(curves, names).plot(axes=axes)

    def plot(self, *, axes=None):
        """Draw.

        Parameters
        ----------
        axes : sequence of matplotlib Axes, default=None
            A panel per label. None makes a figure.

        Returns
        -------
        display : DecisionCurveDisplay
            This object.
        """
        self.axes_ = label_panels(self.label_names, axes)
        self.figure_ = self.axes_[0].figure
        for name, ax in zip(self.label_names, self.axes_, strict=True):
            self._draw_label(ax, name)
        titles = ("probability at which one acts", "net benefit")
        name_axes(self.axes_, *titles, own=axes is None)
        if axes is None:
            name_models(self.axes_)
        else:
            for ax in self.axes_:
                ax.legend(frameon=False, fontsize="small")
        return self

    def _draw_label(self, ax, name):
        ax.axhline(0, color="0.35", lw=1, ls=(0, (4, 3)), zorder=1, label="act on nobody")
        highest = 0.01
        for model, (model_name, curves) in enumerate(self.curves.items()):
            curve = curves[curves["label"] == name]
            threshold = curve["threshold"].to_numpy()
            if model == 0:
                ax.plot(
                    threshold, curve["treat_all"], color="0.6", lw=1, zorder=1, label="act on all"
                )
            color = MARKS[model % len(MARKS)][0]
            band = curve[["net_benefit_low", "net_benefit_high"]].to_numpy().T
            if np.isfinite(band).any():
                ax.fill_between(threshold, *band, color=color, alpha=0.2, lw=0)
            ax.plot(
                threshold,
                curve["net_benefit"],
                color=color,
                ls=LINES[model % len(LINES)],
                lw=1.4,
                zorder=2 + model,
                label=model_name,
            )
            highest = max(highest, curve["net_benefit"].max(), curve["treat_all"].max())
        # far below 0 nobody would act: it is not of interest how far
        ax.set_ylim(-0.25 * highest, 1.1 * highest)
        ax.set_xlim(0, threshold.max())
        ax.locator_params(nbins=4)
