"""The disentangled parts in two dimensions, coloured by a label."""

import numpy as np
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from ._matplotlib import MARKS, import_pyplot


class DisentanglementDisplay:
    """One panel per part: rows by the two main components of the part, marked by a label.

    A label that one part alone tells apart is told by that part's modality; one that the shared
    part tells apart is in what the modalities have in common.

    Parameters
    ----------
    coordinates : dict of str to ndarray of shape (n_rows, 2)
        Rows in two dimensions, by the part's name.

    positive : ndarray of shape (n_rows,), default=None
        Which rows have the label. None marks all alike.

    label : str, default="label"
        Its name.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes
        A panel per part.

    figure_ : matplotlib Figure
        Figure of the last drawing.

    See Also
    --------
    ModalityContributionDisplay : What each part adds to the logits.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_medfuse.plotting import DisentanglementDisplay
    >>> rng = np.random.default_rng(0)
    >>> coordinates = {"labs": rng.normal(size=(50, 2)), "shared": rng.normal(size=(50, 2))}
    >>> display = DisentanglementDisplay(coordinates, rng.random(50) > 0.5, label="CHF").plot()
    >>> [axes.get_title() for axes in display.axes_]
    ['labs', 'shared']
    """

    def __init__(self, coordinates, positive=None, *, label="label"):
        self.coordinates = coordinates
        self.positive = positive
        self.label = label

    @classmethod
    def from_estimator(cls, estimator, X, y=None, *, label="label", axes=None):
        """Take the parts of a fitted classifier, and draw.

        Parameters
        ----------
        estimator : MEDFuseClassifier
            Fitted.

        X : array-like of shape (n_rows, n_features)
            Vectors in the columns of fit.

        y : array-like of shape (n_rows,), default=None
            One label, 0 or 1.

        label : str, default="label"
            Its name, for the legend.

        axes : sequence of matplotlib Axes, default=None
            A panel per part. None makes a figure.

        Returns
        -------
        display : DisentanglementDisplay
            The figure with its numbers.
        """
        parts = np.asarray(estimator.transform(X))
        names = [str(name).rstrip("0123456789") for name in estimator.get_feature_names_out()]
        coordinates = {
            part.removesuffix("_specific"): _two_components(parts[:, np.array(names) == part])
            for part in dict.fromkeys(names)
        }
        positive = None if y is None else np.asarray(y).astype(bool)
        return cls(coordinates, positive, label=label).plot(axes=axes)

    def plot(self, *, axes=None):
        """Draw.

        Parameters
        ----------
        axes : sequence of matplotlib Axes, default=None
            A panel per part. None makes a figure.

        Returns
        -------
        display : DisentanglementDisplay
            This object.
        """
        if axes is None:
            n_parts = len(self.coordinates)
            _, axes = import_pyplot().subplots(
                1, n_parts, figsize=(2.9 * n_parts, 3.3), layout="constrained", squeeze=False
            )
            axes = axes[0]
        self.axes_ = np.asarray(axes).ravel()
        if len(self.axes_) != len(self.coordinates):
            raise ValueError(
                f"`axes` holds {len(self.axes_)} panels; pass one per part, that is "
                f"{len(self.coordinates)}."
            )
        self.figure_ = self.axes_[0].figure
        for ax, (part, points) in zip(self.axes_, self.coordinates.items(), strict=True):
            self._draw_part(ax, points)
            ax.set_title(part, fontsize="medium")
            ax.set_xticks([])
            ax.set_yticks([])
            ax.set_xlabel("first component")
        self.axes_[0].set_ylabel("second component")
        if self.positive is not None:
            handles, labels = self.axes_[0].get_legend_handles_labels()
            self.figure_.legend(handles, labels, loc="outside upper center", ncols=2, frameon=False)
        return self

    def _draw_part(self, ax, points):
        if self.positive is None:
            ax.plot(*points.T, ls="none", marker="o", markersize=3, color=MARKS[0][0], alpha=0.6)
            return
        # the fewer lie above the more; in print a cross still differs from a hollow dot
        label = self.label.replace("_", " ")
        for has, name, color, marker, face in (
            (False, f"without {label}", "0.6", "o", "none"),
            (True, f"with {label}", MARKS[0][0], "X", MARKS[0][0]),
        ):
            ax.plot(
                *points[self.positive == has].T,
                ls="none",
                marker=marker,
                markersize=4,
                markeredgewidth=0.6,
                color=color,
                markerfacecolor=face,
                label=name,
            )


def _two_components(part):
    """Two main components of a part whose columns are standardised."""
    standard = StandardScaler().fit_transform(part)
    n_components = min(2, *standard.shape)
    points = np.zeros((len(standard), 2))
    points[:, :n_components] = PCA(n_components, svd_solver="full").fit_transform(standard)
    return points
