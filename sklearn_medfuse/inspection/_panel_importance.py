"""How much a score falls when the labs of a panel are shuffled together among the stays."""

from collections.abc import Mapping
from numbers import Integral

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score, log_loss, roc_auc_score
from sklearn.utils import check_random_state

from .._private_errors import no_values_in_errors
from ._lab_attributions import check_lab_columns
from ._lab_panels import lab_panels
from ._variants import VariantModel

METRICS = {
    "auroc": roc_auc_score,
    "auprc": average_precision_score,
    "neg_log_loss": lambda y, p: -log_loss(y, p, labels=[0, 1]),
}
MACRO = "macro"


class PanelImportance:
    """Falls of a score by panel and label; made by :func:`panel_importance`.

    Parameters
    ----------
    importances : ndarray of shape (n_panels, n_labels + 1, n_repeats)
        Score less that with the panel shuffled, for each label and, last, the mean over them.

    scores : Series of shape (n_labels + 1,)
        Scores of the rows as they are, ``macro`` last.

    panels : dict of str to list of str
        Labs of each panel.

    metric : str, default="auroc"
        What the score is.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from sklearn_medfuse.inspection import PanelImportance
    >>> scores = pd.Series([0.9, 0.9], index=["renal failure", "macro"])
    >>> falls = np.array([[[0.2, 0.4], [0.2, 0.4]]])
    >>> PanelImportance(falls, scores, {"chemistry": ["urea"]}).mean()
               renal failure  macro
    chemistry            0.3    0.3
    """

    def __init__(self, importances, scores, panels, metric="auroc"):
        self.importances = importances
        self.scores = scores
        self.panels = panels
        self.metric = metric

    def __repr__(self):
        """Counts only."""
        n_panels, n_labels, n_repeats = self.importances.shape
        counts = f"{n_panels} panels, {n_labels - 1} labels, {n_repeats} repeats"
        return f"{type(self).__name__}({counts}, {self.metric})"

    def mean(self):
        """Give the mean over the shuffles.

        Returns
        -------
        DataFrame of shape (n_panels, n_labels + 1)
            By panel and label, ``macro`` last.
        """
        return self._frame(self.importances.mean(axis=2))

    def std(self):
        """Give the standard deviation over the shuffles.

        Returns
        -------
        DataFrame of shape (n_panels, n_labels + 1)
            By panel and label, ``macro`` last.
        """
        return self._frame(self.importances.std(axis=2))

    def _frame(self, values):
        return pd.DataFrame(values, index=list(self.panels), columns=self.scores.index)


def panel_importance(
    estimator,
    X,
    y,
    panels,
    *,
    labels=None,
    metric="auroc",
    n_repeats=5,
    random_state=None,
):
    """Measure how much a score falls when a panel of labs is shuffled among the stays.

    The labs of a panel move together, gaps and all, so what they say of each other stays and what
    they say of the stay is lost. Lab by lab, as scikit-learn's `permutation_importance` does it,
    one lab of a panel stands in for another and none seems to matter. The importance is that for
    this model: a panel that others can replace in another model may be worth much in this one.

    Parameters
    ----------
    estimator : estimator
        Fitted pipeline or other classifier of `X` with `predict_proba`.

    X : DataFrame of shape (n_stays, n_columns)
        Stays in the columns of fit, best of patients that were not trained on.

    y : DataFrame or array-like of shape (n_stays, n_labels)
        True labels, 0 or 1, in the order of `predict_proba`.

    panels : dict of str to list of str, or list of str
        Columns of each panel; a list of lab columns is sorted by :func:`lab_panels`. Any columns
        can be a panel, the note too.

    labels : str, list of str or None, default=None
        Labels by name; None takes all.

    metric : {"auroc", "auprc", "neg_log_loss"} or callable, default="auroc"
        Score of one label, called as ``metric(y_true, y_prob)`` with two arrays of shape (n,). A
        label of one class has no score and leaves the mean.

    n_repeats : int, default=5
        Shuffles of each panel.

    random_state : int, RandomState instance or None, default=None
        Source of the shuffles.

    Returns
    -------
    PanelImportance
        Falls of the score, by panel, label and repeat.

    Raises
    ------
    ValueError
        If a column or label is unknown or a parameter out of its range.

    See Also
    --------
    lab_panels : Sorts labs into panels by name.
    sklearn_medfuse.MEDFuseClassifier.modality_importance : Of labs and notes as a whole.

    Examples
    --------
    >>> from sklearn.ensemble import HistGradientBoostingClassifier
    >>> from sklearn_medfuse.datasets import make_ehr_cohort
    >>> from sklearn_medfuse.inspection import panel_importance
    >>> cohort = make_ehr_cohort(300, random_state=0)
    >>> labs, y = cohort.X[cohort.lab_columns], cohort.y["disease 1"]
    >>> model = HistGradientBoostingClassifier(max_iter=20).fit(labs, y)
    >>> found = panel_importance(model, labs, y, cohort.lab_columns, labels="1", random_state=0)
    >>> found.mean().shape
    (7, 2)
    """
    model = VariantModel(estimator, X)
    chosen = model.choose_labels(labels)
    names = [model.label_names[label] for label in chosen]
    truth = _truth(y, model.label_names, len(model.X))[:, chosen]
    panels = _check_panels(panels, model.X)
    score = _resolve(metric)
    if not isinstance(n_repeats, Integral) or n_repeats < 1:
        raise ValueError(f"n_repeats={n_repeats!r} must be a whole number, at least 1.")
    rng = check_random_state(random_state)

    scores = _score_labels(score, truth, model.predict_rows()[:, chosen])
    rows = np.arange(len(model.X))
    falls = np.empty((len(panels), len(names) + 1, n_repeats))
    for panel, columns in enumerate(panels.values()):
        for repeat in range(n_repeats):
            shuffled = model.X.copy()
            moved = model.X[columns].iloc[rng.permutation(rows)]
            shuffled[columns] = moved.set_axis(shuffled.index)
            predicted = model.predict(rows, shuffled, columns)[:, chosen]
            falls[panel, :, repeat] = scores - _score_labels(score, truth, predicted)
    name = metric if isinstance(metric, str) else getattr(metric, "__name__", "score")
    return PanelImportance(falls, pd.Series(scores, index=[*names, MACRO]), panels, name)


def _check_panels(panels, X: pd.DataFrame) -> dict[str, list[str]]:
    if not isinstance(panels, Mapping):
        panels = lab_panels(check_lab_columns(panels, X))
    return {str(name): check_lab_columns(columns, X) for name, columns in panels.items()}


def _truth(y, label_names: list[str], n_rows: int) -> np.ndarray:
    truth = np.asarray(y)
    if truth.ndim == 1 or truth.shape[1] == 1 < len(label_names):
        flat = truth.reshape(-1)
        # classes by name, as `predict_proba` has a column of each
        truth = np.column_stack([flat.astype(str) == name for name in label_names])
    if truth.shape != (n_rows, len(label_names)):
        raise ValueError(
            f"y has shape {truth.shape} for {n_rows} rows and {len(label_names)} labels of the "
            "estimator; pass one column per label."
        )
    with no_values_in_errors():
        return truth.astype(int)


def _resolve(metric):
    if callable(metric):
        return metric
    if metric not in METRICS:
        raise ValueError(f"metric={metric!r} is none of {sorted(METRICS)} and no callable.")
    return METRICS[metric]


def _score_labels(score, truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Scores of the labels and their mean; NaN for a label of one class."""
    found = np.array(
        [
            score(y, p) if 0 < y.sum() < len(y) else np.nan
            for y, p in zip(truth.T, predicted.T, strict=True)
        ]
    )
    known = found[np.isfinite(found)]
    return np.append(found, known.mean() if len(known) else np.nan)
