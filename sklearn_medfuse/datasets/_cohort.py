"""The `Cohort` every loader returns, and the steps the loaders share."""

from collections.abc import Sequence
from html import escape

import numpy as np
import pandas as pd
from sklearn.utils import Bunch

from ._cohort_tools import CohortTools


class Cohort(CohortTools, Bunch):
    """Stays with labs, notes and labels.

    A scikit-learn `Bunch`: its fields are keys and attributes. All tables have one row per stay,
    in the same order, indexed by the stay's id.

    Parameters
    ----------
    **kwargs : dict
        The fields, as listed below.

    Attributes
    ----------
    X : DataFrame of shape (n_stays, n_labs + 1)
        The lab columns as floats, NaN where not measured, and one string column, NaN where there
        is no note.
    y : DataFrame of int of shape (n_stays, n_labels)
        1 where the stay has the diagnosis, else 0.
    groups : Series of shape (n_stays,)
        Patient of each stay: split by it, or by `hospitals`, never by stay.
    hospitals : Series of shape (n_stays,) or None
        Hospital of each stay, where the source tells.
    subgroups : DataFrame of shape (n_stays, n_subgroup_columns)
        What results are broken down by, such as sex and age. Not part of `X`.
    lab_columns : list of str
        The lab columns of `X`.
    note_column : str
        The note column of `X`.
    units : dict of str to str
        Unit of each lab, "" if it has none or the source tells none.
    reference_ranges : dict of str to (float, float)
        Normal range of each lab, empty where the source gives none.
    target_names : list of str
        The columns of `y`.
    stay_ids : ndarray of shape (n_stays,)
        The stays' ids, the index of the tables.
    counts : dict of str to int
        What was read, kept and dropped, see :meth:`report`.
    DESCR : str
        Description of the source, with its licence and citation.

    See Also
    --------
    CohortOptions : The choices that every loader offers.
    load_tables : A cohort from tables of your own.

    Examples
    --------
    >>> from sklearn_medfuse.datasets import load_eicu_demo
    >>> cohort = load_eicu_demo()
    >>> cohort.X.shape, cohort.y.shape, cohort.note_column
    ((1172, 18), (1172, 10), 'note')
    """

    def report(self) -> dict[str, int]:
        """Say what was read, kept and dropped, and why.

        Returns
        -------
        dict of str to int
            Counts of stays and rows, in the order of the steps.

        Examples
        --------
        >>> from sklearn_medfuse.datasets import load_eicu_demo
        >>> load_eicu_demo().report()["stays read"]
        1470
        """
        return dict(self["counts"])

    def __repr__(self) -> str:
        """Counts only: the fields of a Bunch would print patients' values."""
        X, y = self["X"], self["y"]
        labs, notes = X[self["lab_columns"]], X[self["note_column"]]
        measured = labs.notna().to_numpy().mean() if labs.size else 0.0
        return (
            f"{type(self).__name__}({len(X):,} stays of {self['groups'].nunique():,} patients: "
            f"{labs.shape[1]} labs ({measured:.0%} measured), notes for "
            f"{int(notes.notna().sum()):,} stays, {y.shape[1]} labels)"
        )

    def _repr_html_(self) -> str:
        return f"<pre>{escape(repr(self))}</pre>"

    def __reduce__(self):
        # Bunch's own pickling ignores the state of subclasses: build from the plain dict instead.
        return (_cohort_from_dict, (type(self), dict(self)))


def _cohort_from_dict(cls, fields):
    return cls(**fields)


def choose_labels(labels: pd.DataFrame, n_labels: int | Sequence[str] | None) -> pd.DataFrame:
    """The most prevalent labels, or those named.

    Parameters
    ----------
    labels : DataFrame of shape (n_stays, n_all_labels)
        0 or 1.
    n_labels : int, sequence of str or None
        Number of labels (of equal prevalence, those first in `labels`), or their names, or None
        for all.

    Returns
    -------
    DataFrame of shape (n_stays, n_labels)
        The chosen columns: by falling prevalence, or in the order named.

    Raises
    ------
    ValueError
        If there are fewer labels than wanted, or none of a name.
    """
    if n_labels is None:
        return labels
    if isinstance(n_labels, int | np.integer):
        if not 1 <= n_labels <= labels.shape[1]:
            raise ValueError(f"n_labels must be from 1 to {labels.shape[1]}, got {n_labels}.")
        by_prevalence = labels.sum().sort_values(ascending=False, kind="stable")
        return labels[by_prevalence.index[:n_labels]]
    names = [n_labels] if isinstance(n_labels, str) else list(n_labels)
    unknown = [name for name in names if name not in labels.columns]
    if unknown or not names:
        raise ValueError(
            f"n_labels names no label {unknown}. Known are: {', '.join(map(str, labels.columns))}."
        )
    return labels[names]


def parse_hours(duration: str | float, parameter: str) -> float:
    """A duration such as ``"24h"``, ``"2 days"`` or ``24`` (hours), in minutes.

    Parameters
    ----------
    duration : str or float
        The duration; a number means hours.
    parameter : str
        Name of the parameter, for the error.

    Returns
    -------
    float
        Minutes.

    Raises
    ------
    ValueError
        If it is not a duration, or negative.
    """
    try:
        hours = float(duration) if not isinstance(duration, str) else _to_hours(duration)
    except (ValueError, TypeError):
        hours = float("nan")
    if not 0 <= hours < float("inf"):
        raise ValueError(
            f"{parameter} must be a duration such as '24h' or a number of hours, got {duration!r}."
        )
    return hours * 60


def _to_hours(duration: str) -> float:
    return pd.Timedelta(duration) / pd.Timedelta(hours=1)


def check_require(require: str | Sequence[str]) -> list[str]:
    """Modalities that a stay must have.

    Parameters
    ----------
    require : str or sequence of str
        "labs", "notes", both or none.

    Returns
    -------
    list of str
        The modalities.

    Raises
    ------
    ValueError
        If one is unknown.
    """
    wanted = [require] if isinstance(require, str) else list(require)
    if not set(wanted) <= {"labs", "notes"}:
        raise ValueError(f"require may name 'labs' and 'notes', got {require!r}.")
    return wanted


def drop_stays(
    stays: pd.DataFrame, reasons: dict[str, pd.Series], counts: dict[str, int]
) -> pd.DataFrame:
    """Stays that no reason speaks against; each dropped stay is counted under the first that does.

    Parameters
    ----------
    stays : DataFrame
        One row per stay.
    reasons : dict of str to Series of bool
        Reason -> which stays it drops, indexed as `stays`.
    counts : dict
        Gets the numbers of stays.

    Returns
    -------
    DataFrame
        The kept rows.
    """
    keep = pd.Series(True, index=stays.index)
    for reason, dropped in reasons.items():
        counts[f"stays dropped: {reason}"] = int((dropped & keep).sum())
        keep &= ~dropped
    return stays[keep]
