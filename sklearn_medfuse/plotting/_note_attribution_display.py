"""A note with what moves the prediction marked in it."""

from html import escape
from itertools import pairwise
from textwrap import wrap

import numpy as np

from ..inspection import note_attributions
from ._attribution_display import OUTPUTS
from ._matplotlib import import_pyplot

_LINE = 78  # characters
_ADVANCE = 0.602  # width of a letter of matplotlib's own monospaced font, in its size
_UNDERLINED = 0.1  # depth from which what lowers is underlined
_STRONGEST = 0.62  # of the colour behind a unit; black text stays readable on it
_RAISES, _LOWERS = (230, 159, 0), (86, 180, 233)


class NoteAttributionDisplay:
    """The text of one note, behind it orange where it raises the prediction, blue where it lowers.

    What lowers is underlined besides, for print without colours; the depth is the size of the
    attribution relative to the largest in the note. The picture and the HTML show the note in
    full: both hold patient text, as their maker asked for, and belong where the note belongs.

    Parameters
    ----------
    note : str
        The note.

    spans : list of (int, int)
        Where units begin and end in it.

    effects : ndarray of shape (n_units,)
        Their attributions.

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

    def __init__(self, note, spans, effects, label, *, output="log_odds"):
        self.note = note
        self.spans = spans
        self.effects = effects
        self.label = label
        self.output = output

    @classmethod
    def from_estimator(cls, estimator, X, note_column, label, *, ax=None, **options):
        """Attribute the prediction of one stay to its note, and draw.

        Parameters
        ----------
        estimator : estimator
            Fitted pipeline or other classifier of `X` with `predict_proba`.

        X : DataFrame of shape (1, n_columns)
            The stay.

        note_column : str
            The column of notes in X.

        label : str
            The label by name.

        ax : matplotlib Axes, default=None
            Where to draw. None makes a figure.

        **options : dict
            Further parameters of :func:`~sklearn_medfuse.inspection.note_attributions`.

        Returns
        -------
        display : NoteAttributionDisplay
            The figure with its numbers.
        """
        if len(X) != 1:
            raise ValueError(f"`X` has {len(X)} rows; pass one stay, as X.iloc[[0]].")
        found = note_attributions(estimator, X, note_column, labels=label, **options)
        return cls.from_attributions(found, X, label, ax=ax)

    @classmethod
    def from_attributions(cls, attributions, X, label, *, row=0, ax=None):
        """Take the attributions of one stay, and draw.

        Parameters
        ----------
        attributions : NoteAttributions
            What :func:`~sklearn_medfuse.inspection.note_attributions` gave.

        X : DataFrame of shape (n_stays, n_columns)
            The stays that were attributed, which have the texts.

        label : str
            The label by name.

        row : int, default=0
            Position of the stay.

        ax : matplotlib Axes, default=None
            Where to draw. None makes a figure.

        Returns
        -------
        display : NoteAttributionDisplay
            The figure with its numbers.
        """
        if label not in attributions.label_names:
            raise ValueError(f"`label` is {label!r}; pass one of {attributions.label_names}.")
        if not attributions.spans[row]:
            raise ValueError(f"The stay at position {row} has no note to draw.")
        place = attributions.label_names.index(label)
        values = np.asarray(attributions.effects[row])[:, place]
        note = X[attributions.note_column].iloc[row]
        display = cls(note, attributions.spans[row], values, label, output=attributions.output)
        return display.plot(ax=ax)

    def __repr__(self):
        """Counts only: the note is shown when it is asked for."""
        return f"{type(self).__name__}({len(self.spans)} units, {self.label})"

    def to_html(self):
        """Write the note as HTML, for a report or, by `IPython.display.HTML`, a notebook.

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

    def plot(self, *, ax=None):
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw. None makes a figure as high as the note needs.

        Returns
        -------
        display : NoteAttributionDisplay
            This object.
        """
        lines = _lines(self.note)
        if ax is None:
            height = 0.4 + 0.21 * len(lines)
            figure = import_pyplot().figure(figsize=(7.2, height))
            ax = figure.add_axes((0.01, 0.02, 0.98, 1 - 0.38 / height))
        self.ax_, self.figure_ = ax, ax.figure
        depth = np.zeros(len(self.note))
        for (start, stop), value in zip(self.spans, self._depths(), strict=True):
            depth[start:stop] = value
        points = ax.get_window_extent().width * 72 / ax.figure.dpi
        font = {"family": "monospace", "fontsize": points / (_LINE + 1) / _ADVANCE}
        for row, (start, stop) in enumerate(lines):
            self._draw_line(ax, row, self.note[start:stop], depth[start:stop], font)
        ax.set_xlim(-0.5, _LINE + 0.5)
        ax.set_ylim(len(lines) - 0.4, -0.6)
        ax.axis("off")
        most = np.abs(self.effects).max(initial=0.0)
        ax.set_title(
            f"{self.label.replace('_', ' ')}: orange raises, blue (underlined) lowers; deepest "
            f"{most:.2f} {OUTPUTS[self.output]}",
            fontsize="medium",
            loc="left",
        )
        return self

    def _draw_line(self, ax, row, text, depth, font):
        """Write the runs of characters that have one depth, each on its colour."""
        cuts = [0, *(np.flatnonzero(np.diff(depth)) + 1), len(depth)]
        for start, stop in pairwise(cuts):
            # a dollar sign would start mathematics, and a tab has no width
            run = text[start:stop].replace("$", r"\$").replace("\t", " ")
            ax.text(start, row, run, ha="left", va="center", **font)
            value = depth[start] if stop > start else 0.0
            if not value:
                continue
            color = np.array(_RAISES if value > 0 else _LOWERS) / 255
            box = {"width": stop - start, "alpha": abs(value), "color": color, "lw": 0, "zorder": 0}
            ax.barh(row, height=0.86, left=start, **box)
            if value < -_UNDERLINED:
                ax.plot([start, stop], [row + 0.4] * 2, color="0.2", lw=0.8, ls=(0, (1, 1)))

    def _depths(self):
        """Signed depth of the colour of each unit."""
        most = np.abs(self.effects).max(initial=0.0)
        return _STRONGEST * np.asarray(self.effects) / (most or 1.0)


def _lines(note):
    """Where each line of the picture begins and ends in the note."""
    lines, start = [], 0
    for paragraph in note.split("\n"):
        place = start
        for line in wrap(paragraph, _LINE, break_on_hyphens=False) or [""]:
            # wrapping drops blanks alone, so the text is found from where the last line ended
            words = line.split()
            place = note.index(words[0], place) if words else place
            stop = place
            for word in words:
                stop = note.index(word, stop) + len(word)
            lines.append((place, stop))
            place = stop
        start += len(paragraph) + 1
    return lines
