"""What a lab encoder has learned of how labs go together."""

import numpy as np
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from ._matplotlib import import_pyplot

_CELL = 0.22
_MARGIN = 1.8


class LabCorrelationDisplay:
    """Correlations of the labs as a matrix of colours, related labs side by side.

    Parameters
    ----------
    correlation : DataFrame of shape (n_labs, n_labs)
        Correlations by the labs' names, as `MaskedLabEncoder.lab_correlation` gives them. Labs
        without any are left out of the drawing.

    Attributes
    ----------
    order_ : list
        The drawn labs from top to bottom.

    ax_ : matplotlib Axes
        Axes of the last drawing.

    figure_ : matplotlib Figure
        Their figure.

    See Also
    --------
    LabReconstructionDisplay : How well labs are predicted from each other.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from sklearn_medfuse.plotting import LabCorrelationDisplay
    >>> labs = ["sodium", "urea", "chloride"]
    >>> correlation = pd.DataFrame(
    ...     [[1.0, 0.0, 0.8], [0.0, 1.0, 0.1], [0.8, 0.1, 1.0]], index=labs, columns=labs
    ... )
    >>> display = LabCorrelationDisplay(correlation).plot()
    >>> abs(display.order_.index("sodium") - display.order_.index("chloride"))
    1
    """

    def __init__(self, correlation):
        self.correlation = correlation

    @classmethod
    def from_estimator(cls, estimator, *, ax=None):
        """Take the correlations of a fitted encoder, and draw.

        Parameters
        ----------
        estimator : MaskedLabEncoder
            Fitted.

        ax : matplotlib Axes, default=None
            Where to draw. None makes a figure.

        Returns
        -------
        display : LabCorrelationDisplay
            The figure with its numbers.
        """
        return cls(estimator.lab_correlation()).plot(ax=ax)

    def plot(self, *, ax=None):
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw. None makes a figure.

        Returns
        -------
        display : LabCorrelationDisplay
            This object.
        """
        known = self.correlation.index[np.isfinite(np.diag(self.correlation))]
        if not len(known):
            raise ValueError("`correlation` holds no lab that was measured, so nothing to draw.")
        matrix = self.correlation.loc[known, known].to_numpy()
        order = _related_first(matrix)
        self.order_ = [known[i] for i in order]
        if ax is None:
            width = _MARGIN + _CELL * len(known)
            _, ax = import_pyplot().subplots(figsize=(width + 0.8, width), layout="constrained")
        self.ax_, self.figure_ = ax, ax.figure
        # blue and red of like lightness on both sides of white: no correlation is no ink
        image = ax.imshow(matrix[np.ix_(order, order)], cmap="RdBu_r", vmin=-1, vmax=1)
        ticks = range(len(known))
        ax.set_xticks(ticks, self.order_, rotation=90, fontsize="x-small")
        ax.set_yticks(ticks, self.order_, fontsize="x-small")
        ax.tick_params(length=0)
        bar = self.figure_.colorbar(image, ax=ax, shrink=0.6)
        bar.set_label("learned correlation")
        bar.outline.set_visible(False)
        return self


def _related_first(correlation):
    """Order of the leaves of a tree of labs, whatever the sign of their relation."""
    if len(correlation) < 3:
        return np.arange(len(correlation))
    distance = 1.0 - np.abs((correlation + correlation.T) / 2)
    np.fill_diagonal(distance, 0.0)
    near = squareform(np.maximum(distance, 0.0), checks=False)
    return leaves_list(linkage(near, "average", optimal_ordering=True))
