"""What the displays of a curve per label and model share."""

import numpy as np

from ._label_panels import check_models, label_panels, name_axes, name_models, write_values
from ._matplotlib import LINES, MARKS
from ._prediction_sources import PredictionSources


class LabelCurvesDisplay(PredictionSources):
    """A panel per label, a curve per model; subclasses say which curve.

    Parameters
    ----------
    curves : dict of str to list of DataFrame
        For each model the curve of each label: its first column goes along, its second one up.

    label_names : list of str
        Names of the labels.

    areas : dict of str to ndarray of shape (n_labels,)
        Area under each curve, written into the panels; NaN where a label has one class.

    prevalence : ndarray of shape (n_labels,)
        Share of positive rows.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes
        A panel per label.

    figure_ : matplotlib Figure
        Figure of the last drawing.
    """

    _area_name = ""
    _corner = "lower right"

    def __init__(self, curves, label_names, areas, prevalence):
        self.curves = curves
        self.label_names = label_names
        self.areas = areas
        self.prevalence = prevalence

    @classmethod
    def from_predictions(cls, y_true, y_scores, *, target_names=None, axes=None):
        """Compute each model's curves from its predictions, and draw.

        Parameters
        ----------
        y_true : array-like of shape (n_samples, n_labels)
            True labels, 0 or 1.

        y_scores : dict of str to array-like of shape (n_samples, n_labels)
            Scores by the model's name, in the forms that
            :func:`~sklearn_medfuse.metrics.multilabel_report` takes.

        target_names : sequence of str, default=None
            Names of the labels. None takes the columns of `y_true`.

        axes : sequence of matplotlib Axes, default=None
            A panel per label. None makes a figure.

        Returns
        -------
        display : object of this class
            The figure with its numbers.
        """
        labels, scores, names = check_models(y_true, y_scores, target_names)
        curves, areas = {}, {}
        for model, score in scores.items():
            found = [cls._curve(y, s) for y, s in zip(labels.T, score.T, strict=True)]
            curves[model] = [curve for curve, _ in found]
            areas[model] = np.array([area for _, area in found])
        return cls(curves, names, areas, labels.mean(axis=0)).plot(axes=axes)

    def plot(self, *, axes=None):
        """Draw.

        Parameters
        ----------
        axes : sequence of matplotlib Axes, default=None
            A panel per label. None makes a figure.

        Returns
        -------
        display : object of this class
            This object.
        """
        self.axes_ = label_panels(self.label_names, axes)
        self.figure_ = self.axes_[0].figure
        for label, ax in enumerate(self.axes_):
            self._draw_chance(ax, label)
            for model, (name, curves) in enumerate(self.curves.items()):
                self._draw_curve(ax, model, name, curves[label])
            values = {name: f"{areas[label]:.2f}" for name, areas in self.areas.items()}
            write_values(ax, self._area_name, values, self._corner, with_names=axes is not None)
            ax.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
            ax.set_xticks([0, 0.5, 1])
            ax.set_yticks([0, 0.5, 1])
        name_axes(self.axes_, *next(iter(self.curves.values()))[0].columns, own=axes is None)
        if axes is None:
            name_models(self.axes_)
        return self

    def _draw_curve(self, ax, model, name, curve):
        along, up = (curve[column].to_numpy() for column in curve)
        ax.plot(
            along,
            up,
            color=MARKS[model % len(MARKS)][0],
            ls=LINES[model % len(LINES)],
            lw=1.4,
            label=name,
            zorder=2 + model,
            drawstyle=self._drawstyle,
        )

    _drawstyle = "default"

    @staticmethod
    def _curve(y, score):
        """Curve and area of one label."""
        raise NotImplementedError

    def _draw_chance(self, ax, label):
        raise NotImplementedError
