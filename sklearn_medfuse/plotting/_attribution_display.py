"""What moves the predictions of one stay: its labs for one label, labs and note for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd

from ..inspection import LabAttributions, lab_attributions, note_attributions
from ._drawing import REFERENCE, finish_rows, fit_name, import_pyplot, row_axes, size_of
from ._predictions import check_option, documented

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from sklearn.base import BaseEstimator

OUTPUTS = {"log_odds": "log-odds", "probability": "probability"}
_RAISES, _LOWERS = "#882255", "#0072B2"
_NUMBER = 0.65  # Inches beside the outermost bars


@documented
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

    def __init__(
        self,
        attributions: pd.Series,
        base: float,
        predicted: float,
        label: str,
        *,
        output: str = "log_odds",
    ):
        self.attributions = attributions
        self.base = base
        self.predicted = predicted
        self.label = label
        self.output = output

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
        check_one_stay(X)
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
        """Take the attributions of one stay, and draw.

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
        ax.set_xlabel(fit_name(f"{OUTPUTS[self.output]} of {self.label}", 56))
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


def check_one_stay(X: pd.DataFrame) -> None:
    if len(X) != 1:
        raise ValueError(f"`X` has {len(X)} rows; pass one stay, as X.iloc[[0]].")


def _name(lab: str, value: object, unit: str) -> str:
    if pd.isna(value):
        return str(lab)
    shown = f"{value:g}" if isinstance(value, int | float | np.number) else str(value)
    return f"{lab} {shown} {unit}".strip()


@documented
class LabelAttributionDisplay:
    """A map of one stay: labs and parts of the note down, labels across, attributions as colours.

    It answers what attention maps are drawn for, but is not one. The fusion attends over a few
    tokens that each mix all labs, or the whole note, so its attention weights say nothing about a
    single lab or part, and pooled windows of a note have one weight for all labels. The map shows
    changes: a label's log-odds with a lab put back (Shapley values) or minus those without the
    part of the note. Labs and parts of the note are two separate accounts; only that of the labs
    adds up.

    Parameters
    ----------
    labs : DataFrame of shape (n_labs, n_labels)
        Attributions of the measured labs.
    note : DataFrame of shape (n_parts, n_labels)
        Attributions of the parts of the note, in its order; may be empty.
    output

    Attributes
    ----------
    ax_, figure_

    See Also
    --------
    AttributionDisplay : One label's labs as bars.
    NoteAttributionDisplay : One label's note as text.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn_medfuse.plotting import LabelAttributionDisplay
    >>> labs = pd.DataFrame({"CHF": [0.1, 0.4]}, index=["sodium", "BNP"])
    >>> note = pd.DataFrame({"CHF": [0.9]}, index=["sentence 1"])
    >>> display = LabelAttributionDisplay(labs, note).plot()
    >>> [text.get_text() for text in display.ax_.get_yticklabels()]
    ['BNP', 'sodium', 'sentence 1']
    """

    def __init__(self, labs: pd.DataFrame, note: pd.DataFrame, *, output: str = "log_odds"):
        self.labs = labs
        self.note = note
        self.output = output

    @classmethod
    @documented
    def from_estimator(
        cls,
        estimator: BaseEstimator,
        X: pd.DataFrame,
        lab_columns: Sequence[str],
        note_column: str,
        *,
        labels: Sequence[str] | None = None,
        unit: str = "sentence",
        words: int = 4,
        output: str = "log_odds",
        random_state: int | np.random.RandomState | None = None,
        ax: Axes | None = None,
    ) -> Self:
        """Attribute the predictions of one stay to its labs and to its note, and draw.

        Parameters
        ----------
        estimator
        X : DataFrame of shape (1, n_columns)
            The stay.
        lab_columns : list of str
            The lab columns of X.
        note_column : str
            The column of notes in X.
        labels : list of str or None, default=None
            Labels by name; None uses all.
        unit : {"sentence", "section"}, default="sentence"
            What a part of the note is; a section ends with a blank line.
        words : int, default=4
            First words of a part that are written next to its number; 0 writes no patient text.
        output
        random_state : int, RandomState instance or None, default=None
            Source of the orders of the labs' Shapley values.
        ax

        Returns
        -------
        display
        """
        check_one_stay(X)
        options: dict[str, Any] = {"labels": labels, "output": output}
        labs = lab_attributions(estimator, X, lab_columns, random_state=random_state, **options)
        note: Any = note_attributions(estimator, X, note_column, unit=unit, **options)
        parts = note.to_frame(0)
        names = [f"{unit} {number + 1}" for number in range(len(parts))]
        if words and names:
            text = X[note_column].iloc[0]
            names = [
                f"{name}: {' '.join(text[start:stop].split()[:words])} …"
                for name, (start, stop) in zip(names, note.spans[0], strict=True)
            ]
        measured = labs.to_frame(0)[labs.measured[0]]
        return cls(measured, parts.set_axis(names), output=output).plot(ax=ax)

    @documented
    def plot(self, *, n_labs: int = 12, n_parts: int = 12, ax: Axes | None = None) -> Self:
        """Draw.

        Parameters
        ----------
        n_labs, n_parts : int, default=12
            Labs, and parts of the note, with the largest attributions.
        ax

        Returns
        -------
        display
        """
        size = self.labs.abs().max(axis=1).sort_values(ascending=False, kind="stable")
        labs = self.labs.loc[size.index[:n_labs]]
        kept = self.note.abs().max(axis=1).to_numpy().argsort(kind="stable")[::-1][:n_parts]
        # Parts of the note stand in its order
        note = self.note.iloc[np.sort(kept)]
        table = pd.concat([labs, note])
        if not len(table):
            raise ValueError("The stay has neither labs nor a note, so there is nothing to draw.")
        values = table.to_numpy()
        limit = float(np.abs(values).max()) or 1.0
        rows, columns = ([fit_name(name) for name in names] for names in table.axes)
        if ax is None:
            row_width, row_height = size_of(rows, "small")
            column_height, column_width = size_of(columns, "small")
            width = 1.5 + row_width + max(0.42, column_width + 0.03) * len(columns)
            height = 0.3 + column_height + max(0.22, row_height + 0.03) * len(rows)
            figsize = (width, max(2.0, height))
            _, ax = import_pyplot().subplots(figsize=figsize, layout="constrained")
            assert ax is not None
        self.ax_, self.figure_ = ax, ax.figure
        image = ax.imshow(values, cmap="PuOr_r", vmin=-limit, vmax=limit, aspect="auto")
        # Numbers tell the sign of large attributions where colours are lost
        for row, column in zip(*np.nonzero(np.abs(values) > limit / 4), strict=True):
            value = values[row, column]
            ax.text(
                column,
                row,
                f"{value:+.1f}" if limit >= 0.5 else f"{value:+.2f}",
                ha="center",
                va="center",
                fontsize="x-small",
                color="white" if abs(value) > 0.65 * limit else "black",
            )
        if len(labs) and len(note):
            ax.axhline(len(labs) - 0.5, color="black", lw=1)
        ax.set_yticks(range(len(rows)), rows, fontsize="small")
        ax.set_xticks(range(len(columns)), columns, rotation=90, fontsize="small")
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
        bar: Any = ax.figure.colorbar(image, ax=ax, shrink=0.7)
        bar.set_label(f"adds to the {OUTPUTS[self.output]}")
        bar.outline.set_visible(False)
        return self
