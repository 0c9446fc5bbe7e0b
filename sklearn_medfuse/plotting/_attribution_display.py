"""What moves the prediction of one stay: the labs, one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd

from .._input_data import to_pandas
from ..inspection import LabAttributions, lab_attributions
from ..metrics._inputs import check_option
from ._drawing import REFERENCE, finish_rows, fit_name, row_axes
from ._predictions import documented

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from sklearn.base import BaseEstimator

_OUTPUTS = {"log_odds": "log-odds", "probability": "probability"}
_RAISES, _LOWERS = "#882255", "#0072B2"
_NUMBER = 0.65  # Inches beside the outermost bars


@documented
@dataclass(repr=False, eq=False)
class AttributionDisplay:
    """Waterfall of one stay: from the prediction without its labs to the one with them.

    The labs with the largest attributions have a bar each, the others share one. Labs that raise
    the prediction are wine red and go right, labs that lower it are blue, hatched and go left.

    Parameters
    ----------
    attributions : Series of shape (n_features,)
        Attributions by feature name.
    base : float
        Prediction without any of the features.
    predicted : float
        Prediction with all.
    label : str
        The label.
    output

    Attributes
    ----------
    ax_, figure_

    See Also
    --------
    sklearn_medfuse.inspection.lab_attributions : The numbers behind the figure.
    sklearn_medfuse.inspection.NoteAttributions.to_html : The same for the note.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn_medfuse.plotting import AttributionDisplay
    >>> attributions = pd.Series({"creatinine": 1.2, "sodium": -0.3, "urea": 0.6})
    >>> display = AttributionDisplay(attributions, -2.0, -0.5, "renal failure").plot()
    >>> [text.get_text() for text in display.ax_.get_yticklabels()]
    ['creatinine', 'urea', 'sodium']
    """

    attributions: pd.Series
    base: float
    predicted: float
    label: str
    _: KW_ONLY
    output: str = "log_odds"

    @classmethod
    @documented
    def from_estimator(
        cls,
        estimator: BaseEstimator,
        X: pd.DataFrame,
        lab_columns: Sequence[str],
        label: str,
        *,
        units: Mapping[str, str] | None = None,
        ax: Axes | None = None,
        **options: Any,
    ) -> Self:
        """Attribute the prediction of one stay to its labs, and draw.

        Parameters
        ----------
        estimator
        X : DataFrame of shape (1, n_columns)
            The stay, whose values are written next to the labs' names.
        lab_columns : list of str
            The lab columns of X.
        label
        units : dict of str to str, default=None
            Unit of each lab, as a cohort's `units`.
        ax
        **options : dict
            Further parameters of :func:`~sklearn_medfuse.inspection.lab_attributions`.

        Returns
        -------
        display
        """
        X = to_pandas(X)
        if len(X) != 1:
            raise ValueError(f"`X` has {len(X)} rows; pass one stay, as X[:1].")
        found = lab_attributions(estimator, X, lab_columns, labels=label, **options)
        values = X.iloc[0]
        names = [_name(lab, values[lab], (units or {}).get(lab, "")) for lab in found.lab_names]
        return cls.from_attributions(found, label, feature_names=names, ax=ax)

    @classmethod
    @documented
    def from_attributions(
        cls,
        attributions: LabAttributions,
        label: str,
        *,
        row: int = 0,
        feature_names: Sequence[str] | None = None,
        ax: Axes | None = None,
    ) -> Self:
        """Draw the attributions of one stay.

        Parameters
        ----------
        attributions : LabAttributions
            What :func:`~sklearn_medfuse.inspection.lab_attributions` returned.
        label
        row : int, default=0
            Position of the stay.
        feature_names : list of str, default=None
            What to write for each lab. None uses the labs' names.
        ax

        Returns
        -------
        display
        """
        check_option("label", label, attributions.label_names)
        place = attributions.label_names.index(label)
        measured = attributions.measured[row]
        names = np.array(feature_names or attributions.lab_names, dtype=object)
        values = attributions.effects[row, measured, place]
        series = pd.Series(values, names[measured])
        base, predicted = attributions.base[row, place], attributions.predicted[row, place]
        return cls(series, base, predicted, label, output=attributions.output).plot(ax=ax)

    @documented
    def plot(self, *, n_features: int = 10, ax: Axes | None = None) -> Self:
        """Draw.

        Parameters
        ----------
        n_features : int, default=10
            Features with a bar of their own.
        ax

        Returns
        -------
        display
        """
        if not len(self.attributions):
            raise ValueError("The stay has no lab measured, so there is nothing to draw.")
        order = self.attributions.abs().sort_values(ascending=False, kind="stable").index
        ordered = self.attributions[order]
        shown, others = ordered.iloc[:n_features], ordered.iloc[n_features:]
        if len(others):
            shown = pd.concat([shown, pd.Series({f"{len(others)} others": others.sum()})])
        names = [fit_name(name, 34) for name in shown.index]
        self.ax_ = ax = row_axes(ax, names, row=0.27)
        self.figure_ = ax.figure
        ends = self.base + np.append(0.0, shown.cumsum().to_numpy())
        for row, (start, size) in enumerate(zip(ends, shown, strict=False)):
            self._draw_bar(ax, row, start, size)
        for row, end in enumerate(ends[1:-1]):
            ax.plot([end, end], [row - 0.31, row + 1.31], color="0.5", lw=0.6, zorder=0)
        ax.axvline(self.base, **REFERENCE)
        finish_rows(ax, np.arange(len(shown)), names)
        ax.grid(visible=False)
        width = ax.get_window_extent().width / ax.figure.dpi
        room = (ends.max() - ends.min() or 1.0) * _NUMBER / max(width - 2 * _NUMBER, _NUMBER)
        ax.set_xlim(ends.min() - room, ends.max() + room)
        ax.set_xlabel(fit_name(f"{_OUTPUTS[self.output]} of {self.label}", 56))
        ax.set_title(
            f"without these labs {self.base:.2f} (dashed), with them {self.predicted:.2f}",
            fontsize="small",
        )
        return self

    @staticmethod
    def _draw_bar(ax: Axes, row: int, start: float, size: float) -> None:
        raises = size >= 0
        ax.barh(
            row,
            size,
            left=start,
            height=0.62,
            color=_RAISES if raises else "white",
            edgecolor=_RAISES if raises else _LOWERS,
            hatch=None if raises else "////",
            lw=1,
        )
        # Beside the bar's outer end
        ax.annotate(
            f"{size:+.2f}",
            (start + size, row),
            xytext=(4 if raises else -4, 0),
            textcoords="offset points",
            ha="left" if raises else "right",
            va="center",
            fontsize="small",
        )


def _name(lab: str, value: object, unit: str) -> str:
    if pd.isna(value):
        return str(lab)
    shown = f"{value:g}" if isinstance(value, int | float | np.number) else str(value)
    return f"{lab} {shown} {unit}".strip()
