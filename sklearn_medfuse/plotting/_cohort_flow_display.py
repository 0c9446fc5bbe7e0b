"""The inclusion diagram of a cohort."""


class CohortFlowDisplay:
    """Boxes of what was read, dropped for which reason, and kept, as CONSORT asks for it.

    Parameters
    ----------
    counts : dict of str to int
        As `Cohort.report` gives them.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes of the last drawing.

    figure_ : matplotlib Figure
        Figure of the last drawing.

    See Also
    --------
    sklearn_medfuse.datasets.Cohort.flow : The same drawing as a method.
    MissingnessDisplay : What is measured in the stays that are kept.

    Examples
    --------
    >>> from sklearn_medfuse.datasets import load_eicu_demo
    >>> from sklearn_medfuse.plotting import CohortFlowDisplay
    >>> display = CohortFlowDisplay.from_cohort(load_eicu_demo())
    >>> display.ax_.texts[0].get_text()
    '1,470 stays read'
    """

    def __init__(self, counts):
        self.counts = counts

    @classmethod
    def from_cohort(cls, cohort, *, ax=None):
        """Take the counts of a cohort, and draw.

        Parameters
        ----------
        cohort : Cohort
            What a loader gave.

        ax : matplotlib Axes, default=None
            Where to draw. None makes a figure.

        Returns
        -------
        display : CohortFlowDisplay
            The figure with its numbers.
        """
        return cls(cohort.report()).plot(ax=ax)

    def plot(self, *, ax=None):
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw. None makes a figure.

        Returns
        -------
        display : CohortFlowDisplay
            This object.
        """
        # who has counts has imported the loaders; the other displays do without
        from ..datasets._flow import draw_flow

        self.ax_ = draw_flow(self.counts, ax)
        self.figure_ = self.ax_.figure
        return self
