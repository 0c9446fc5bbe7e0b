"""A note in which the text that moves the prediction is marked."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from itertools import pairwise
from textwrap import fill
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd

from ..inspection import NoteAttributions, note_attributions
from ._attribution_display import OUTPUTS, check_one_stay
from ._drawing import LINE, import_pyplot
from ._predictions import check_option, documented

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from sklearn.base import BaseEstimator

_CHARACTERS = 78  # Characters of a line
_ADVANCE = 0.602  # Width of a letter of matplotlib's own monospaced font, in its size
_UNDERLINED = 0.1  # Depth from which what lowers is underlined
_STRONGEST = 0.62  # Depth of the largest attribution; black text stays readable on it
_RAISES, _LOWERS = (230, 159, 0), (86, 180, 233)


@documented
class NoteAttributionDisplay:
    """The text of one note on orange where it raises the prediction, on blue where it lowers it.

    Text that lowers it is also underlined, for print without colours; the depth of the colour is
    the size of the attribution relative to the largest in the note. The picture and the HTML show
    the note in full: both hold patient text and belong where the note belongs.

    Parameters
    ----------
    note : str
        The note.
    spans : list of (int, int)
        Where units begin and end in the note.
    effects : ndarray of shape (n_units,)
        Attributions of the units.
    label : str
        The label.
    output

    Attributes
    ----------
    ax_, figure_

    See Also
    --------
    sklearn_medfuse.inspection.note_attributions : The numbers behind the figure.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_medfuse.plotting import NoteAttributionDisplay
    >>> display = NoteAttributionDisplay(
    ...     "Known COPD. No fever.", [(0, 11), (12, 21)], np.array([0.8, -0.1]), "COPD"
    ... )
    >>> "<mark" in display.to_html()
    True
    >>> display
    NoteAttributionDisplay(2 units, COPD)
    """

    def __init__(
        self,
        note: str,
        spans: Sequence[tuple[int, int]],
        effects: np.ndarray,
        label: str,
        *,
        output: str = "log_odds",
    ):
        self.note = note
        self.spans = spans
        self.effects = effects
        self.label = label
        self.output = output

    @classmethod
    @documented
    def from_estimator(
        cls,
        estimator: BaseEstimator,
        X: pd.DataFrame,
        note_column: str,
        label: str,
        *,
        ax: Axes | None = None,
        **options: Any,
    ) -> Self:
        """Attribute the prediction of one stay to its note, and draw.

        Parameters
        ----------
        estimator
        X : DataFrame of shape (1, n_columns)
            The stay.
        note_column : str
            The column of notes in X.
        label, ax
        **options : dict
            Further parameters of :func:`~sklearn_medfuse.inspection.note_attributions`.

        Returns
        -------
        display
        """
        check_one_stay(X)
        found: Any = note_attributions(estimator, X, note_column, labels=label, **options)
        return cls.from_attributions(found, X, label, ax=ax)

    @classmethod
    @documented
    def from_attributions(
        cls,
        attributions: NoteAttributions,
        X: pd.DataFrame,
        label: str,
        *,
        row: int = 0,
        ax: Axes | None = None,
    ) -> Self:
        """Take the attributions of one stay, and draw.

        Parameters
        ----------
        attributions : NoteAttributions
            What :func:`~sklearn_medfuse.inspection.note_attributions` returned.
        X : DataFrame of shape (n_stays, n_columns)
            The stays that were attributed, with their notes.
        label
        row : int, default=0
            Position of the stay.
        ax

        Returns
        -------
        display
        """
        check_option("label", label, attributions.label_names)
        if not attributions.spans[row]:
            raise ValueError(f"The stay at position {row} has no note to draw.")
        place = attributions.label_names.index(label)
        values = np.asarray(attributions.effects[row])[:, place]
        note = X[attributions.note_column].iloc[row]
        display = cls(note, attributions.spans[row], values, label, output=attributions.output)
        return display.plot(ax=ax)

    def __repr__(self) -> str:
        """Counts only: the note is shown only on request."""
        return f"{type(self).__name__}({len(self.spans)} units, {self.label})"

    def to_html(self) -> str:
        """Write the note as HTML for a report or, with `IPython.display.HTML`, a notebook.

        Returns
        -------
        str
            A ``<div>`` with the whole note; each unit's attribution is its tooltip.
        """
        parts, end = [], 0
        for (start, stop), value, depth in zip(
            self.spans, self.effects, self._depths(), strict=True
        ):
            color = ",".join(map(str, _RAISES if value >= 0 else _LOWERS))
            line = "underline dotted" if depth < -_UNDERLINED else "none"
            parts += [
                escape(self.note[end:start]),
                f'<mark style="color:inherit;background:rgba({color},{abs(depth):.2f});'
                f'text-decoration:{line}" title="{value:+.3f}">'
                f"{escape(self.note[start:stop])}</mark>",
            ]
            end = stop
        parts.append(escape(self.note[end:]))
        style = "white-space:pre-wrap;line-height:1.5;max-width:46em"
        return f'<div style="{style}">{"".join(parts)}</div>'

    @documented
    def plot(self, *, ax: Axes | None = None) -> Self:
        """Draw.

        Parameters
        ----------
        ax

        Returns
        -------
        display
        """
        lines = _lines(self.note)
        most = np.abs(self.effects).max(initial=0.0)
        title = f"{self.label.replace('_', ' ')}: orange raises, blue (underlined) lowers; "
        title = fill(f"{title}deepest {most:.2f} {OUTPUTS[self.output]}", 88)
        if ax is None:
            above = 0.21 + LINE["medium"] * (title.count("\n") + 1)
            height = 0.02 + 0.21 * len(lines) + above
            figure = import_pyplot().figure(figsize=(7.2, height))
            ax = figure.add_axes((0.01, 0.02, 0.98, 1 - above / height))
            assert ax is not None
        self.ax_, self.figure_ = ax, ax.figure
        depth = np.zeros(len(self.note))
        for (start, stop), value in zip(self.spans, self._depths(), strict=True):
            depth[start:stop] = value
        points = ax.get_window_extent().width * 72 / ax.figure.dpi
        font = {"family": "monospace", "fontsize": points / (_CHARACTERS + 1) / _ADVANCE}
        for row, (start, stop) in enumerate(lines):
            self._draw_line(ax, row, self.note[start:stop], depth[start:stop], font)
        ax.set_xlim(-0.5, _CHARACTERS + 0.5)
        ax.set_ylim(len(lines) - 0.4, -0.6)
        ax.axis("off")
        ax.set_title(title, fontsize="medium", loc="left")
        return self

    def _draw_line(self, ax: Axes, row: int, text: str, depth: np.ndarray, font: dict) -> None:
        """Write the runs of characters that have one depth, each on its colour."""
        cuts = [0, *(np.flatnonzero(np.diff(depth)) + 1), len(depth)]
        for start, stop in pairwise(cuts):
            # A dollar sign would start mathematics, and a tab has no width
            run = text[start:stop].replace("$", r"\$").replace("\t", " ")
            ax.text(start, row, run, ha="left", va="center", **font)
            value = depth[start] if stop > start else 0.0
            if not value:
                continue
            box: dict[str, Any] = {"height": 0.86, "left": start, "lw": 0, "zorder": 0}
            box["color"] = np.array(_RAISES if value > 0 else _LOWERS) / 255
            ax.barh(row, stop - start, alpha=abs(value), **box)
            if value < -_UNDERLINED:
                ax.plot([start, stop], [row + 0.4] * 2, color="0.2", lw=0.8, ls=(0, (1, 1)))

    def _depths(self) -> np.ndarray:
        """Signed depth of the colour of each unit."""
        most = np.abs(self.effects).max(initial=0.0)
        return _STRONGEST * np.asarray(self.effects) / (most or 1.0)


def _lines(note: str) -> list[tuple[int, int]]:
    """Where each line of the picture begins and ends in the note."""
    # As many characters as a line takes up to the end of a word, or so many of a longer word
    line = re.compile(
        rf"\S(?:.{{0,{_CHARACTERS - 2}}}\S)?(?=\s|$)|\S{{{_CHARACTERS}}}", flags=re.DOTALL
    )
    lines = []
    for paragraph in re.finditer(r"^.*$", note, flags=re.MULTILINE):
        found = [match.span() for match in line.finditer(note, *paragraph.span())]
        lines += found or [paragraph.span()]
    return lines
