"""Which labs and which parts of the note each label of a stay looks to."""

import numpy as np
import pandas as pd

from ..inspection import lab_attributions, note_attributions
from ._attribution_display import OUTPUTS
from ._matplotlib import import_pyplot


class LabelAttributionDisplay:
    """A map of one stay: labs and parts of the note down, labels across, attributions as colours.

    It answers what attention maps are drawn for, but is not one. The fusion attends over a few
    tokens that each mix all labs, or the whole note, so its attention weights say nothing of a
    single lab or part, and pooled windows of a note have one weight for all labels. What is drawn
    is what changes: a label's log-odds with a lab put back (Shapley values) or less those without
    the part of the note. Labs and parts of the note are two separate accounts; only the labs'
    adds up.

    Parameters
    ----------
    labs : DataFrame of shape (n_labs, n_labels)
        Attributions of the measured labs.

    note : DataFrame of shape (n_parts, n_labels)
        Attributions of the parts of the note, in its order; may have no row.

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
    AttributionDisplay : One label's labs as bars.
    NoteAttributionDisplay : One label's note as text.
    ModalityContributionDisplay : What labs and notes as a whole add to the labels.

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

    def __init__(self, labs, note, *, output="log_odds"):
        self.labs = labs
        self.note = note
        self.output = output

    @classmethod
    def from_estimator(
        cls,
        estimator,
        X,
        lab_columns,
        note_column,
        *,
        labels=None,
        unit="sentence",
        words=4,
        output="log_odds",
        random_state=None,
        ax=None,
    ):
        """Attribute the predictions of one stay to its labs and to its note, and draw.

        Parameters
        ----------
        estimator : estimator
            Fitted pipeline or other classifier of `X` with `predict_proba`.

        X : DataFrame of shape (1, n_columns)
            The stay.

        lab_columns : list of str
            The lab columns of X.

        note_column : str
            The column of notes in X.

        labels : list of str or None, default=None
            Labels by name; None takes all.

        unit : {"sentence", "section"}, default="sentence"
            What a part of the note is; a section ends with a blank line.

        words : int, default=4
            First words of a part that are written beside its number; 0 writes no patient text.

        output : {"log_odds", "probability"}, default="log_odds"
            What is attributed.

        random_state : int, RandomState instance or None, default=None
            Source of the orders of the labs' Shapley values.

        ax : matplotlib Axes, default=None
            Where to draw. None makes a figure.

        Returns
        -------
        display : LabelAttributionDisplay
            The figure with its numbers.
        """
        if len(X) != 1:
            raise ValueError(f"`X` has {len(X)} rows; pass one stay, as X.iloc[[0]].")
        options = {"labels": labels, "output": output}
        labs = lab_attributions(estimator, X, lab_columns, random_state=random_state, **options)
        note = note_attributions(estimator, X, note_column, unit=unit, **options)
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

    def plot(self, *, n_labs=12, n_parts=12, ax=None):
        """Draw.

        Parameters
        ----------
        n_labs, n_parts : int, default=12
            Labs, and parts of the note, with the largest attributions.

        ax : matplotlib Axes, default=None
            Where to draw. None makes a figure.

        Returns
        -------
        display : LabelAttributionDisplay
            This object.
        """
        size = self.labs.abs().max(axis=1).sort_values(ascending=False, kind="stable")
        labs = self.labs.loc[size.index[:n_labs]]
        kept = self.note.abs().max(axis=1).to_numpy().argsort(kind="stable")[::-1][:n_parts]
        # what is said first stands first
        note = self.note.iloc[np.sort(kept)]
        table = pd.concat([labs, note])
        if not len(table):
            raise ValueError("The stay has no lab measured and no note, so nothing to draw.")
        if ax is None:
            figsize = (3.4 + 0.42 * table.shape[1], 2.2 + 0.22 * len(table))
            _, ax = import_pyplot().subplots(figsize=figsize, layout="constrained")
        self.ax_, self.figure_ = ax, ax.figure
        limit = float(table.abs().to_numpy().max()) or 1.0
        image = ax.imshow(table.to_numpy(), cmap="PuOr_r", vmin=-limit, vmax=limit, aspect="auto")
        # the sign where colours are lost, of what counts
        for row, column in zip(*np.nonzero(table.abs().to_numpy() > limit / 4), strict=True):
            value = table.iloc[row, column]
            ink = "white" if abs(value) > 0.65 * limit else "black"
            ax.text(
                column,
                row,
                f"{value:+.1f}" if limit >= 0.5 else f"{value:+.2f}",
                ha="center",
                va="center",
                fontsize="x-small",
                color=ink,
            )
        if len(labs) and len(note):
            ax.axhline(len(labs) - 0.5, color="black", lw=1)
        ax.set_yticks(range(len(table)), [str(name) for name in table.index], fontsize="small")
        names = [str(name).replace("_", " ") for name in table.columns]
        ax.set_xticks(range(len(names)), names, rotation=90, fontsize="small")
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
        bar = self.figure_.colorbar(image, ax=ax, shrink=0.7)
        bar.set_label(f"adds to the {OUTPUTS[self.output]}")
        bar.outline.set_visible(False)
        return self
