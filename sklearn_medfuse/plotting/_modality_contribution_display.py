"""What each part adds to the logits: on the average of rows, or in one row."""

import numpy as np

from ._matplotlib import MARKS, import_pyplot


class ModalityContributionDisplay:
    """One line per label, one mark per part: its contribution to the logit.

    Of several rows the mean size of the contributions is drawn, so that what raises and what
    lowers does not cancel; of one row the contributions themselves, with their signs.

    Parameters
    ----------
    contributions : ndarray of shape (n_rows, n_parts, n_labels)
        Contributions to the logits, the baseline left out.

    part_names : list of str
        Names of the parts.

    label_names : list of str
        Names of the labels.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes of the last drawing.

    figure_ : matplotlib Figure
        Figure of the last drawing.

    See Also
    --------
    DisentanglementDisplay : The parts themselves.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_medfuse.plotting import ModalityContributionDisplay
    >>> contributions = np.array([[[1.0, 0.2], [-0.5, 0.9]]])
    >>> display = ModalityContributionDisplay(
    ...     contributions, ["labs", "notes"], ["CHF", "COPD"]
    ... ).plot()
    >>> display.ax_.get_xlabel()
    'contribution to the log-odds'
    """

    def __init__(self, contributions, part_names, label_names):
        self.contributions = contributions
        self.part_names = part_names
        self.label_names = label_names

    @classmethod
    def from_estimator(cls, estimator, X, *, label_names=None, ax=None):
        """Take the contributions of a fitted classifier, and draw.

        Parameters
        ----------
        estimator : MEDFuseClassifier
            Fitted.

        X : array-like of shape (n_rows, n_features)
            Vectors in the columns of fit; one row draws that row.

        label_names : sequence of str, default=None
            Names of the outputs. None takes the names of fit, or the classes.

        ax : matplotlib Axes, default=None
            Where to draw. None makes a figure as high as the labels need.

        Returns
        -------
        display : ModalityContributionDisplay
            The figure with its numbers.
        """
        added = estimator.contributions(X)[:, :-1]
        if label_names is None:
            label_names = getattr(estimator, "target_names_", estimator.classes_)
            # of two classes the logit is that of the second
            label_names = label_names[-added.shape[2] :]
        names = [str(name) for name in label_names]
        return cls(added, list(estimator.part_names_[:-1]), names).plot(ax=ax)

    def plot(self, *, ax=None):
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw. None makes a figure as high as the labels need.

        Returns
        -------
        display : ModalityContributionDisplay
            This object.
        """
        n_labels = len(self.label_names)
        if ax is None:
            size_of_figure = (6.4, 1.3 + 0.34 * n_labels)
            _, ax = import_pyplot().subplots(figsize=size_of_figure, layout="constrained")
        self.ax_, self.figure_ = ax, ax.figure
        one_row = len(self.contributions) == 1
        size = self.contributions[0] if one_row else np.abs(self.contributions).mean(axis=0)
        position = np.arange(n_labels)
        for row in range(0, n_labels, 2):
            ax.axhspan(row - 0.5, row + 0.5, color="0.955", lw=0, zorder=0)
        ax.axvline(0, color="0.35", lw=1, zorder=1)
        step = min(0.2, 0.7 / len(self.part_names))
        for part, name in enumerate(self.part_names):
            color, marker = MARKS[part % len(MARKS)]
            height = position + (part - (len(self.part_names) - 1) / 2) * step
            ax.hlines(height, 0, size[part], color=color, lw=1.2, zorder=2)
            ax.plot(
                size[part],
                height,
                ls="none",
                marker=marker,
                markersize=5.5,
                color=color,
                label=name,
                zorder=3,
            )
        ax.set_yticks(position, [name.replace("_", " ") for name in self.label_names])
        ax.set_ylim(n_labels - 0.5, -0.5)
        ax.tick_params(axis="y", length=0)
        ax.locator_params(axis="x", nbins=6)
        ax.grid(axis="x", color="0.85", lw=0.6)
        ax.set_axisbelow(True)
        ax.spines[["top", "right", "left"]].set_visible(False)
        what = "contribution" if one_row else "mean size of the contribution"
        ax.set_xlabel(f"{what} to the log-odds")
        ax.legend(
            loc="lower right",
            bbox_to_anchor=(1.0, 1.0),
            ncols=len(self.part_names),
            frameon=False,
            borderaxespad=0,
            handletextpad=0.2,
        )
        return self
