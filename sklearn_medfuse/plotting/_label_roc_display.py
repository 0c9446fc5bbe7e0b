"""ROC curves, a panel per label."""

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score, roc_curve

from ._label_curves_display import LabelCurvesDisplay

_TITLES = ["1 - specificity", "sensitivity"]


class LabelRocDisplay(LabelCurvesDisplay):
    """ROC curves: one panel per label, one curve per model.

    Parameters
    ----------
    curves : dict of str to list of DataFrame
        For each model the curve of each label, with the columns "1 - specificity" and
        "sensitivity".

    label_names : list of str
        Names of the labels.

    areas : dict of str to ndarray of shape (n_labels,)
        Area under each curve, written into the panels; NaN where a label has one class.

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
    LabelPrecisionRecallDisplay : What a rare label needs beside it.
    sklearn.metrics.RocCurveDisplay : For one label.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_medfuse.plotting import LabelRocDisplay
    >>> rng = np.random.default_rng(0)
    >>> y_true = rng.integers(2, size=(200, 2))
    >>> scores = {"noise": rng.random((200, 2)), "perfect": y_true}
    >>> display = LabelRocDisplay.from_predictions(y_true, scores)
    >>> display.areas["perfect"]
    array([1., 1.])
    """

    _area_name = "AUROC"

    @staticmethod
    def _curve(y, score):
        if y.min() == y.max():
            return pd.DataFrame(columns=_TITLES, dtype=float), np.nan
        along, up, _ = roc_curve(y, score)
        return pd.DataFrame({_TITLES[0]: along, _TITLES[1]: up}), roc_auc_score(y, score)

    def _draw_chance(self, ax, label):
        ax.axline((0, 0), slope=1, color="0.35", lw=1, ls=(0, (4, 3)), zorder=1)
