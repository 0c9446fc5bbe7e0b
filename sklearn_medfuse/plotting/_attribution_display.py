"""What moves the prediction of one stay: bars from the largest attribution down."""

import numpy as np
import pandas as pd

from ..inspection import lab_attributions
from ._matplotlib import import_pyplot

RAISES, LOWERS = "#882255", "#0072B2"
OUTPUTS = {"log_odds": "log-odds", "probability": "probability"}


class AttributionDisplay:
    """Waterfall of one stay: from the prediction without its labs to the one with them.

    The labs with the largest attributions have a bar each, the others one together. What raises
    the prediction is wine red and goes right, what lowers it blue and hatched.

    Parameters
    ----------
    attributions : Series of shape (n_features,)
        Attributions by the features' names.

    base : float
        Prediction without any of them.

    predicted : float
        Prediction with all.

    label : str
        The label.

    output : {"log_odds", "probability"}, default="log_odds"
        What is attributed.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes of the last drawing.

    figure_ : matplotlib Figure
        Figure of the last drawing.

    See Also
    --------
    sklearn_medfuse.inspection.lab_attributions : The numbers behind the figure.
    LabelAttributionDisplay : All labels of a stay, with the parts of its note.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn_medfuse.plotting import AttributionDisplay
    >>> attributions = pd.Series({"creatinine": 1.2, "sodium": -0.3, "urea": 0.6})
    >>> display = AttributionDisplay(attributions, -2.0, -0.5, "renal failure").plot()
    >>> [text.get_text() for text in display.ax_.get_yticklabels()]
    ['creatinine', 'urea', 'sodium']
    """

    def __init__(self, attributions, base, predicted, label, *, output="log_odds"):
        self.attributions = attributions
        self.base = base
        self.predicted = predicted
        self.label = label
        self.output = output

    @classmethod
    def from_estimator(cls, estimator, X, lab_columns, label, *, units=None, ax=None, **options):
        """Attribute the prediction of one stay to its labs, and draw.

        Parameters
        ----------
        estimator : estimator
            Fitted pipeline or other classifier of `X` with `predict_proba`.

        X : DataFrame of shape (1, n_columns)
            The stay, whose values are written beside the labs' names.

        lab_columns : list of str
            The lab columns of X.

        label : str
            The label by name.

        units : dict of str to str, default=None
            Unit of each lab, as a cohort's `units`.

        ax : matplotlib Axes, default=None
            Where to draw. None makes a figure.

        **options : dict
            Further parameters of :func:`~sklearn_medfuse.inspection.lab_attributions`.

        Returns
        -------
        display : AttributionDisplay
            The figure with its numbers.
        """
        if len(X) != 1:
            raise ValueError(f"`X` has {len(X)} rows; pass one stay, as X.iloc[[0]].")
        found = lab_attributions(estimator, X, lab_columns, labels=label, **options)
        values = X.iloc[0]
        names = [_name(lab, values[lab], (units or {}).get(lab, "")) for lab in found.lab_names]
        return cls.from_attributions(found, label, feature_names=names, ax=ax)

    @classmethod
    def from_attributions(cls, attributions, label, *, row=0, feature_names=None, ax=None):
        """Take the attributions of one stay, and draw.

        Parameters
        ----------
        attributions : LabAttributions
            What :func:`~sklearn_medfuse.inspection.lab_attributions` gave.

        label : str
            The label by name.

        row : int, default=0
            Position of the stay.

        feature_names : list of str, default=None
            What to write for each lab. None takes the labs' names.

        ax : matplotlib Axes, default=None
            Where to draw. None makes a figure.

        Returns
        -------
        display : AttributionDisplay
            The figure with its numbers.
        """
        if label not in attributions.label_names:
            raise ValueError(f"`label` is {label!r}; pass one of {attributions.label_names}.")
        place = attributions.label_names.index(label)
        measured = attributions.measured[row]
        names = np.array(feature_names or attributions.lab_names, dtype=object)
        values = attributions.effects[row, measured, place]
        series = pd.Series(values, names[measured])
        base, predicted = attributions.base[row, place], attributions.predicted[row, place]
        return cls(series, base, predicted, label, output=attributions.output).plot(ax=ax)

    def plot(self, *, n_features=10, ax=None):
        """Draw.

        Parameters
        ----------
        n_features : int, default=10
            Features with a bar of their own.

        ax : matplotlib Axes, default=None
            Where to draw. None makes a figure.

        Returns
        -------
        display : AttributionDisplay
            This object.
        """
        if not len(self.attributions):
            raise ValueError("The stay has no lab measured, so there is nothing to draw.")
        order = self.attributions.abs().sort_values(ascending=False, kind="stable").index
        ordered = self.attributions[order]
        shown, others = ordered.iloc[:n_features], ordered.iloc[n_features:]
        if len(others):
            shown = pd.concat([shown, pd.Series({f"{len(others)} others": others.sum()})])
        if ax is None:
            figsize = (6.4, 1.3 + 0.27 * len(shown))
            _, ax = import_pyplot().subplots(figsize=figsize, layout="constrained")
        self.ax_, self.figure_ = ax, ax.figure
        ends = self.base + shown.cumsum().to_numpy()
        starts = np.append(self.base, ends[:-1])
        for row, (start, size) in enumerate(zip(starts, shown, strict=True)):
            ax.barh(
                row,
                size,
                left=start,
                height=0.62,
                color=RAISES if size >= 0 else "white",
                edgecolor=RAISES if size >= 0 else LOWERS,
                hatch=None if size >= 0 else "////",
                lw=1,
            )
            # beside the bar's outer end
            ax.annotate(
                f"{size:+.2f}",
                (start + size, row),
                xytext=(4 if size >= 0 else -4, 0),
                textcoords="offset points",
                ha="left" if size >= 0 else "right",
                va="center",
                fontsize="small",
            )
        for row in range(len(shown) - 1):
            ax.plot([ends[row]] * 2, [row - 0.31, row + 1.31], color="0.5", lw=0.6, zorder=0)
        self._finish(ax, shown)
        return self

    def _finish(self, ax, shown):
        ax.set_yticks(range(len(shown)), [str(name).replace("_", " ") for name in shown.index])
        ax.set_ylim(len(shown) - 0.4, -0.6)
        ax.axvline(self.base, color="0.35", lw=1, ls=(0, (4, 3)), zorder=0)
        ax.margins(x=0.16)
        ax.tick_params(axis="y", length=0)
        ax.spines[["top", "right", "left"]].set_visible(False)
        what = OUTPUTS[self.output]
        ax.set_xlabel(f"{what} of {self.label.replace('_', ' ')}")
        ax.set_title(
            f"without these labs {self.base:.2f} (dashed), with them {self.predicted:.2f}",
            fontsize="small",
        )


def _name(lab, value, unit) -> str:
    if not pd.notna(value):
        return str(lab)
    shown = f"{value:g}" if isinstance(value, int | float | np.number) else str(value)
    return f"{lab} {shown} {unit}".strip()
