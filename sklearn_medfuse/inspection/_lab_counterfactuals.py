"""What would be predicted had a lab another value: a sweep, and the middle of its normal range."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from .._private_errors import no_values_in_errors
from ._lab_attributions import check_lab_columns
from ._variants import VariantModel


class LabCounterfactual:
    """Predictions of stays while one lab sweeps through values; made by :func:`lab_counterfactual`.

    Parameters
    ----------
    lab : str
        The lab.

    grid : ndarray of shape (n_values,)
        Values that it was given, in its unit.

    curves : ndarray of shape (n_stays, n_values, n_labels)
        Predicted probabilities at each value, all else as it is.

    predicted : ndarray of shape (n_stays, n_labels)
        Probabilities of the stays as they are.

    not_measured : ndarray of shape (n_stays, n_labels)
        Probabilities had the lab not been measured.

    label_names : list of str
        The labels.

    normal_range : (float, float) or None, default=None
        Normal range of the lab.

    had_been_normal : ndarray of shape (n_stays, n_labels) or None, default=None
        Probabilities had the lab been in the middle of that range.

    See Also
    --------
    sklearn_medfuse.plotting.CounterfactualDisplay : Draws it.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_medfuse.inspection import LabCounterfactual
    >>> LabCounterfactual(
    ...     "creatinine", np.array([1.0, 2.0]), np.array([[[0.1], [0.6]]]), np.array([[0.5]]),
    ...     np.array([[0.2]]), ["renal failure"],
    ... ).mean()
         renal failure
    1.0            0.1
    2.0            0.6
    """

    def __init__(
        self,
        lab,
        grid,
        curves,
        predicted,
        not_measured,
        label_names,
        normal_range=None,
        had_been_normal=None,
    ):
        self.lab = lab
        self.grid = grid
        self.curves = curves
        self.predicted = predicted
        self.not_measured = not_measured
        self.label_names = label_names
        self.normal_range = normal_range
        self.had_been_normal = had_been_normal

    def __repr__(self):
        """Counts only."""
        n_stays, n_values, n_labels = self.curves.shape
        counts = f"{n_stays} stays, {n_values} values, {n_labels} labels"
        return f"{type(self).__name__}({self.lab}, {counts})"

    def mean(self):
        """Give the mean curve over the stays, the partial dependence.

        Returns
        -------
        DataFrame of shape (n_values, n_labels)
            Mean probability by value and label.
        """
        return pd.DataFrame(self.curves.mean(axis=0), index=self.grid, columns=self.label_names)


def lab_counterfactual(
    estimator, X, lab, values=None, *, labels=None, reference_ranges=None, n_values=30
):
    """Predict stays as if one lab had other values, all else as it is.

    The curves are the model's, not the disease's: labs go together, and a stay with one of them
    changed alone may be like none that the model saw. A lab that was not measured counts as if it
    had been. Read them as "what the model would have said", never as what treating the value
    would do.

    Parameters
    ----------
    estimator : estimator
        Fitted pipeline or other classifier of `X` with `predict_proba`.

    X : DataFrame of shape (n_stays, n_columns)
        Stays in the columns of fit.

    lab : str
        Column of the lab, of numbers.

    values : array-like of shape (n_values,), default=None
        Values to go through. None takes `n_values` from the 2nd to the 98th percentile of the
        lab in X, and the normal range; X then needs measured values.

    labels : str, list of str or None, default=None
        Labels by name; None takes all.

    reference_ranges : dict of str to (float, float), default=None
        Normal range of each lab, as a cohort's `reference_ranges`; it gives `had_been_normal`.

    n_values : int, default=30
        Number of values where `values` is None.

    Returns
    -------
    LabCounterfactual
        Curves with their names.

    Raises
    ------
    ValueError
        If a column or label is unknown, or no value is measured and none given.

    See Also
    --------
    had_been_normal : Every abnormal lab of a stay at once.

    Examples
    --------
    >>> from sklearn.ensemble import HistGradientBoostingClassifier
    >>> from sklearn_medfuse.datasets import make_ehr_cohort
    >>> from sklearn_medfuse.inspection import lab_counterfactual
    >>> cohort = make_ehr_cohort(300, random_state=0)
    >>> labs, sick = cohort.X[cohort.lab_columns], cohort.y["disease 1"]
    >>> model = HistGradientBoostingClassifier(max_iter=20).fit(labs, sick)
    >>> ranges = cohort.reference_ranges
    >>> found = lab_counterfactual(model, labs[:5], "sodium", reference_ranges=ranges)
    >>> found.curves.shape, found.had_been_normal.shape
    ((5, 30, 2), (5, 2))
    """
    model = VariantModel(estimator, X)
    check_lab_columns(lab, model.X)
    chosen = model.choose_labels(labels)
    normal_range = _range_of(lab, reference_ranges)
    if values is None:
        values = _usual_values(model.X[lab], normal_range, n_values)
    values = np.asarray(values, dtype=float).ravel()
    if not len(values) or not np.isfinite(values).all():
        raise ValueError("values must be finite numbers, at least one.")
    asked = [*values, np.nan] + ([] if normal_range is None else [np.mean(normal_range)])
    n_rows = len(model.X)
    rows = np.repeat(np.arange(n_rows), len(asked))
    copies = model.X.iloc[rows].reset_index(drop=True)
    copies[lab] = np.tile(np.array(asked, dtype=float), n_rows)
    found = model.predict(rows, copies, [lab])[:, chosen].reshape(n_rows, len(asked), -1)
    return LabCounterfactual(
        lab,
        values,
        found[:, : len(values)],
        model.predict_rows()[:, chosen],
        found[:, len(values)],
        [model.label_names[label] for label in chosen],
        normal_range,
        None if normal_range is None else found[:, -1],
    )


def had_been_normal(estimator, X, reference_ranges, *, labels=None):
    """Predict stays had each abnormal lab, one at a time and all together, been normal.

    An abnormal lab is set to the middle of its normal range, all else as it is.

    Parameters
    ----------
    estimator : estimator
        Fitted pipeline or other classifier of `X` with `predict_proba`.

    X : DataFrame of shape (n_stays, n_columns)
        Stays in the columns of fit.

    reference_ranges : dict of str to (float, float)
        Normal range of each lab, as a cohort's `reference_ranges`. Labs without one stay as they
        are.

    labels : str, list of str or None, default=None
        Labels by name; None takes all.

    Returns
    -------
    DataFrame of shape (n_changes, n_labels + 2)
        A row per stay and abnormal lab, and one per stay with the lab ``all`` where two or more
        are abnormal: `stay`, the position in X; `lab`; and for each label by how much its
        probability would have been higher (above 0) or lower.

    Raises
    ------
    ValueError
        If no range is of a column of X or a label is unknown.

    See Also
    --------
    lab_counterfactual : One lab through all its values.

    Examples
    --------
    >>> from sklearn.ensemble import HistGradientBoostingClassifier
    >>> from sklearn_medfuse.datasets import make_ehr_cohort
    >>> from sklearn_medfuse.inspection import had_been_normal
    >>> cohort = make_ehr_cohort(300, random_state=0)
    >>> labs, sick = cohort.X[cohort.lab_columns], cohort.y["disease 1"]
    >>> model = HistGradientBoostingClassifier(max_iter=20).fit(labs, sick)
    >>> changes = had_been_normal(model, labs[:5], cohort.reference_ranges, labels="1")
    >>> list(changes.columns)
    ['stay', 'lab', '1']
    """
    model = VariantModel(estimator, X)
    chosen = model.choose_labels(labels)
    ranges = {lab: ends for lab, ends in reference_ranges.items() if lab in model.X.columns}
    if not ranges:
        raise ValueError("reference_ranges names no column of X.")
    names = list(ranges)
    low, high = np.array([ranges[lab] for lab in names], dtype=float).T
    with no_values_in_errors():
        numbers = model.X[names].to_numpy(dtype=float, na_value=np.nan)
    abnormal = (numbers < low) | (numbers > high)
    stays, labs = np.nonzero(abnormal)
    changed = np.zeros((len(stays), len(names)), dtype=bool)
    changed[np.arange(len(stays)), labs] = True
    several = np.flatnonzero(abnormal.sum(axis=1) > 1)
    rows = np.concatenate([stays, several])
    changed = np.concatenate([changed, abnormal[several]])
    copies = model.X.iloc[rows].reset_index(drop=True)
    copies[names] = np.where(changed, (low + high) / 2, numbers[rows])
    found = model.predict(rows, copies, names)[:, chosen] - model.predict_rows()[rows][:, chosen]
    table = pd.DataFrame(found, columns=[model.label_names[label] for label in chosen])
    table.insert(0, "lab", [*(names[lab] for lab in labs), *["all"] * len(several)])
    table.insert(0, "stay", rows)
    return table.sort_values("stay", kind="stable", ignore_index=True)


def _range_of(lab: str, reference_ranges) -> tuple[float, float] | None:
    if reference_ranges is None:
        return None
    if not isinstance(reference_ranges, Mapping) or lab not in reference_ranges:
        raise ValueError(f"reference_ranges has no range of {lab!r}; give one, or None.")
    low, high = reference_ranges[lab]
    return float(low), float(high)


def _usual_values(column: pd.Series, normal_range, n_values: int) -> np.ndarray:
    measured = pd.to_numeric(column, errors="coerce").dropna()
    if not len(measured):
        raise ValueError(f"No number of {column.name!r} is measured in X; give values.")
    low, high = measured.quantile([0.02, 0.98])
    if normal_range is not None:
        low, high = min(low, normal_range[0]), max(high, normal_range[1])
    if low == high:
        raise ValueError(f"{column.name!r} has one value only in X; give values.")
    return np.linspace(low, high, n_values)
