"""Precision against recall, a panel per label."""

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score, precision_recall_curve

from ._label_curves_display import LabelCurvesDisplay

_TITLES = ["recall (sensitivity)", "precision"]


class LabelPrecisionRecallDisplay(LabelCurvesDisplay):
    """Precision-recall curves: one panel per label, one curve per model.

    The dashed line is the label's prevalence, the precision of chance.

    Parameters
    ----------
    curves : dict of str to list of DataFrame
        For each model the curve of each label, with the columns "recall (sensitivity)" and
        "precision".

    label_names : list of str
        Names of the labels.

    areas : dict of str to ndarray of shape (n_labels,)
        Average precision, written into the panels; NaN where a label has one class.

    prevalence : ndarray of shape (n_labels,)
        Share of positive rows.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes
        A panel per label.

    figure_ : matplotlib Figure
        Figure of the last drawing.

    See Also
    --------
    LabelRocDisplay : Sensitivity against specificity.
    sklearn.metrics.PrecisionRecallDisplay : For one label.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_medfuse.plotting import LabelPrecisionRecallDisplay
    >>> rng = np.random.default_rng(0)
    >>> y_true = rng.integers(2, size=(200, 2))
    >>> scores = {"noise": rng.random((200, 2)), "perfect": y_true}
    >>> display = LabelPrecisionRecallDisplay.from_predictions(y_true, scores)
    >>> display.areas["perfect"]
    array([1., 1.])
    """

    _area_name = "AP"
    _corner = "upper right"
    # average precision is the area under steps
    _drawstyle = "steps-post"

    @staticmethod
    def _curve(y, score):
        if y.min() == y.max():
            return pd.DataFrame(columns=_TITLES, dtype=float), np.nan
        up, along, _ = precision_recall_curve(y, score)
        area = average_precision_score(y, score)
        return pd.DataFrame({_TITLES[0]: along, _TITLES[1]: up}), area

    def _draw_chance(self, ax, label):
        ax.axhline(self.prevalence[label], color="0.35", lw=1, ls=(0, (4, 3)), zorder=1)
