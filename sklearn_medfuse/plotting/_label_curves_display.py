"""What the displays of a curve per label and model share."""

import numpy as np
import pandas as pd

from ._label_panels import check_models, label_panels, name_models_and_axes, out_of_fold
from ._matplotlib import MARKS

# beside colours, so that curves stay apart in grey print
_LINES = ("-", (0, (5, 2)), (0, (2, 1.5)), (0, (7, 2, 1.5, 2)), "-", (0, (5, 2)), (0, (2, 1.5)))


class LabelCurvesDisplay:
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
    _areas_on_top = False

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

    @classmethod
    def from_estimator(cls, estimators, X, y, *, target_names=None, axes=None):
        """Let fitted models predict rows, and draw.

        Parameters
        ----------
        estimators : estimator, or dict of str to estimator
            Fitted classifiers with `predict_proba`; one alone has its class as a name.

        X : array-like or DataFrame of shape (n_samples, n_features)
            Rows that they were not fitted on.

        y : array-like of shape (n_samples, n_labels)
            True labels, 0 or 1.

        target_names : sequence of str, default=None
            Names of the labels. None takes the columns of `y`.

        axes : sequence of matplotlib Axes, default=None
            A panel per label. None makes a figure.

        Returns
        -------
        display : object of this class
            The figure with its numbers.
        """
        if not isinstance(estimators, dict):
            estimators = {type(estimators).__name__: estimators}
        scores = {name: each.predict_proba(X) for name, each in estimators.items()}
        return cls.from_predictions(y, scores, target_names=target_names, axes=axes)

    @classmethod
    def from_cv_results(cls, cv_results, X, y, *, target_names=None, axes=None):
        """Pool what each fold's model predicts for the rows that it did not see, and draw.

        Parameters
        ----------
        cv_results : dict, or dict of str to dict
            What :func:`~sklearn.model_selection.cross_validate` gives with
            ``return_estimator=True, return_indices=True``; or several of them by the model's name.

        X : array-like or DataFrame of shape (n_samples, n_features)
            The rows of the cross-validation.

        y : array-like of shape (n_samples, n_labels)
            Their labels, 0 or 1.

        target_names : sequence of str, default=None
            Names of the labels. None takes the columns of `y`.

        axes : sequence of matplotlib Axes, default=None
            A panel per label. None makes a figure.

        Returns
        -------
        display : object of this class
            The figure with its numbers.
        """
        several = cv_results if "indices" not in cv_results else {"out of fold": cv_results}
        if target_names is None and isinstance(y, pd.DataFrame):
            target_names = y.columns
        labels = np.asarray(y)
        scores = {}
        for name, results in several.items():
            rows, scores[name] = out_of_fold(results, X, y)
            if len(np.unique(rows)) != len(labels) or len(rows) != len(labels):
                raise ValueError(
                    f"the folds of {name!r} do not hold out every row once; use a splitter whose "
                    "test sets part the rows, not a repeated or random one."
                )
            scores[name] = scores[name][np.argsort(rows)]
        return cls.from_predictions(labels, scores, target_names=target_names, axes=axes)

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
            self._write_areas(ax, label)
            ax.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
            ax.set_xticks([0, 0.5, 1])
            ax.set_yticks([0, 0.5, 1])
        if axes is None:
            titles = next(iter(self.curves.values()))[0].columns
            name_models_and_axes(self.axes_, *titles)
        return self

    def _draw_curve(self, ax, model, name, curve):
        along, up = (curve[column].to_numpy() for column in curve)
        ax.plot(
            along,
            up,
            color=MARKS[model % len(MARKS)][0],
            ls=_LINES[model % len(_LINES)],
            lw=1.4,
            label=name,
            zorder=2 + model,
            drawstyle=self._drawstyle,
        )

    def _write_areas(self, ax, label):
        """One line per model in its colour, where no curve of a useful model runs."""
        lines = list(self.areas.items())
        for model, (_, areas) in enumerate(lines):
            if self._areas_on_top:
                height, alignment = 0.97 - 0.11 * model, "top"
            else:
                height, alignment = 0.05 + 0.11 * (len(lines) - 1 - model), "bottom"
            what = f"{self._area_name} " if model == 0 else ""
            ax.annotate(
                f"{what}{areas[label]:.2f}",
                (0.98, height),
                xycoords="axes fraction",
                ha="right",
                va=alignment,
                color=MARKS[model % len(MARKS)][0],
                fontsize="small",
                bbox={"boxstyle": "square,pad=0.1", "fc": "white", "ec": "none", "alpha": 0.7},
                zorder=20,
            )

    _drawstyle = "default"

    @staticmethod
    def _curve(y, score):
        """Curve and area of one label."""
        raise NotImplementedError

    def _draw_chance(self, ax, label):
        raise NotImplementedError
