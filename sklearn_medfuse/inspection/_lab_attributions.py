"""How much each lab of a stay moves its prediction: Shapley values, or leaving one lab out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import comb
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils import check_random_state

from ._variants import Labels, RandomState, VariantModel, check_row

Worth = Callable[[np.ndarray], np.ndarray]

_METHODS = ("shapley", "leave_out")


@dataclass(repr=False, eq=False)
class LabAttributions:
    """Contribution of each lab to each stay's prediction; returned by :func:`lab_attributions`.

    It contains no lab value and no identifier.

    Parameters
    ----------
    effects : ndarray of shape (n_stays, n_labs, n_labels)
        Attributions; 0 for a lab that was not measured.
    base : ndarray of shape (n_stays, n_labels)
        Predictions with every lab at its baseline and the note unchanged.
    predicted : ndarray of shape (n_stays, n_labels)
        Predictions of the unchanged stays.
    measured : bool ndarray of shape (n_stays, n_labs)
        Which labs were measured.
    lab_names : list of str
        The labs.
    label_names : list of str
        The labels.
    output : {"log_odds", "probability"}, default="log_odds"
        Scale of the attributions.
    baseline : dict or None, default=None
        Value that replaces each removed lab; None if removed labs are not measured.

    See Also
    --------
    sklearn_medfuse.plotting.AttributionDisplay : Draws one stay.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_medfuse.inspection import LabAttributions
    >>> attributions = LabAttributions(
    ...     np.array([[[0.5], [-0.2]]]), np.array([[-1.0]]), np.array([[-0.7]]),
    ...     np.array([[True, True]]), ["urea", "sodium"], ["renal failure"],
    ... )
    >>> attributions
    LabAttributions(1 stays, 2 labs, 1 labels, log_odds)
    >>> attributions.to_frame(0)
            renal failure
    urea              0.5
    sodium           -0.2
    """

    effects: np.ndarray
    base: np.ndarray
    predicted: np.ndarray
    measured: np.ndarray
    lab_names: list[str]
    label_names: list[str]
    output: str = "log_odds"
    baseline: dict[str, Any] | None = None

    def __repr__(self) -> str:
        """Show counts only."""
        counts = f"{len(self.effects)} stays, {len(self.lab_names)} labs"
        return f"{type(self).__name__}({counts}, {len(self.label_names)} labels, {self.output})"

    def to_frame(self, row: int | None = None) -> pd.DataFrame:
        """Return the attributions of one stay.

        Parameters
        ----------
        row : int or None, default=None
            Its position; None if there is one stay only.

        Returns
        -------
        DataFrame of shape (n_labs, n_labels)
            By lab and label.
        """
        row = check_row(row, len(self.effects))
        return pd.DataFrame(self.effects[row], index=self.lab_names, columns=self.label_names)

    def summary(self) -> pd.DataFrame:
        """Return mean absolute attributions over the stays in which the lab was measured.

        Returns
        -------
        DataFrame of shape (n_labs, n_labels)
            NaN if the lab was measured in no stay.
        """
        there = self.measured[:, :, None]
        n_stays = there.sum(axis=0)
        size = np.abs(np.where(there, self.effects, 0.0)).sum(axis=0)
        mean = np.divide(size, n_stays, out=np.full(size.shape, np.nan), where=n_stays > 0)
        return pd.DataFrame(mean, index=self.lab_names, columns=self.label_names)


def lab_attributions(
    estimator: Any,
    X: pd.DataFrame,
    lab_columns: str | Sequence[str],
    *,
    labels: Labels = None,
    method: str = "shapley",
    baseline: str | Mapping[str, Any] | pd.Series = "missing",
    output: str = "log_odds",
    n_permutations: int = 20,
    random_state: RandomState = None,
) -> LabAttributions:
    """Attribute the prediction of each stay to its labs.

    "shapley" averages the change in the prediction when a lab is put back, over orders in which
    all labs are put back [1]_. The attributions of a stay add up to its prediction minus the one
    without labs, and are exact for a stay with few labs. "leave_out" needs one prediction per lab,
    but if two labs carry the same information, neither seems to matter.

    With the baseline "missing", an attribution includes the fact that the lab was ordered; with
    usual values as baseline it is what this particular value adds.

    Parameters
    ----------
    estimator : estimator
        Fitted pipeline or other classifier of `X` with `predict_proba`.
    X : DataFrame of shape (n_stays, n_columns)
        Stays with the columns of fit.
    lab_columns : list of str
        The lab columns of X.
    labels : str, list of str or None, default=None
        Labels by name; None takes all.
    method : {"shapley", "leave_out"}, default="shapley"
        Shapley values, or the effect of removing one lab.
    baseline : "missing", dict or Series of lab to value, default="missing"
        Replacement for a removed lab, such as ``X_train[lab_columns].median()``; labs that it does
        not name become not measured.
    output : {"log_odds", "probability"}, default="log_odds"
        Scale of the attributions.
    n_permutations : int, default=20
        Number of random orders per stay, at least 1; each is also used in reverse.
    random_state : int, RandomState instance or None, default=None
        Controls the random orders.

    Returns
    -------
    LabAttributions
        Attributions of shape (n_stays, n_labs, n_labels).

    Raises
    ------
    ValueError
        If a column or label is unknown, or a parameter out of range.

    See Also
    --------
    note_attributions : The same for parts of the notes.
    deletion_curve : Tests whether the attributions are faithful.

    References
    ----------
    .. [1] E. Strumbelj, I. Kononenko, "An efficient explanation of individual classifications
       using game theory", JMLR 2010.

    Examples
    --------
    >>> from sklearn.tree import DecisionTreeClassifier
    >>> from sklearn_medfuse.datasets import make_ehr_cohort
    >>> from sklearn_medfuse.inspection import lab_attributions
    >>> cohort = make_ehr_cohort(300, random_state=0)
    >>> labs, sick = cohort.X[cohort.lab_columns], cohort.y["disease 1"]
    >>> model = DecisionTreeClassifier(max_depth=4, random_state=0).fit(labs, sick)
    >>> found = lab_attributions(model, labs[:3], cohort.lab_columns, random_state=0)
    >>> found.effects.shape
    (3, 24, 2)
    """
    model = VariantModel(estimator, X, output)
    lab_columns = model.choose_columns("lab_columns", lab_columns)
    chosen = model.choose_labels(labels)
    if method not in _METHODS:
        raise ValueError(f"method={method!r} must be one of {list(_METHODS)}.")
    if n_permutations < 1:
        raise ValueError(f"n_permutations={n_permutations} must be at least 1.")
    rng = check_random_state(random_state)
    remover = LabRemover(model.X, lab_columns, baseline)
    measured = remover.measured
    effects = np.zeros((*measured.shape, len(chosen)))
    base, predicted = (np.empty((len(measured), len(chosen))) for _ in range(2))
    for row, there in enumerate(measured):
        players = np.flatnonzero(there)
        n_players = len(players)

        def worth(kept: np.ndarray, row: int = row, players: np.ndarray = players) -> np.ndarray:
            """Predict the stay with those of its measured labs that are True: (n, n_labels)."""
            distinct, place = np.unique(kept, axis=0, return_inverse=True)
            all_labs = np.zeros((len(distinct), len(lab_columns)), dtype=bool)
            all_labs[:, players] = distinct
            rows = np.full(len(distinct), row)
            found = model.predict(rows, remover.copies(rows, all_labs), lab_columns)
            return found[place.ravel()][:, chosen]

        base[row], predicted[row] = worth(np.array([[False] * n_players, [True] * n_players]))
        if method == "leave_out":
            effects[row, players] = predicted[row] - worth(~np.eye(n_players, dtype=bool))
        elif n_players:
            effects[row, players] = _shapley(worth, n_players, n_permutations, rng)
    names = [model.label_names[label] for label in chosen]
    return LabAttributions(
        effects, base, predicted, measured, lab_columns, names, output, remover.baseline
    )


class LabRemover:
    """Create copies of stays in which some labs are at their baseline."""

    def __init__(self, X: pd.DataFrame, lab_columns: list[str], baseline: Any) -> None:
        if isinstance(baseline, str) and baseline == "missing":
            self.baseline = None
        elif isinstance(baseline, Mapping | pd.Series):
            self.baseline = dict(baseline)
        else:
            kind = type(baseline).__name__
            given = f"={baseline!r}" if isinstance(baseline, str) else f" of type {kind}"
            raise ValueError(
                f"baseline{given} must be 'missing', or a dict or Series of lab to value."
            )
        self.X = X
        self.lab_columns = lab_columns
        self.measured = X[lab_columns].notna().to_numpy()

    def copies(self, rows: np.ndarray, kept: np.ndarray) -> pd.DataFrame:
        """Return copies of `rows` with only those labs that are True in `kept`."""
        copies = self.X.iloc[rows].reset_index(drop=True)
        for position, lab in enumerate(self.lab_columns):
            keep = kept[:, position] | ~self.measured[rows, position]
            if not keep.all():
                copies[lab] = copies[lab].where(keep, (self.baseline or {}).get(lab, np.nan))
        return copies


def _shapley(
    worth: Worth, n_players: int, n_permutations: int, rng: np.random.RandomState
) -> np.ndarray:
    """Return Shapley values (n_players, n_labels): exact ones if that takes no more predictions."""
    if 2**n_players <= 2 * n_permutations * n_players:
        return _exact_shapley(worth, n_players)
    orders = np.array([rng.permutation(n_players) for _ in range(n_permutations)])
    # An order and its reverse: their errors cancel in part
    orders = np.concatenate([orders, orders[:, ::-1]])
    rank = orders.argsort(axis=1)
    # Kept[o, s] holds the first s labs of order o
    kept = rank[:, None, :] < np.arange(n_players + 1)[None, :, None]
    gained = np.diff(worth(kept.reshape(-1, n_players)).reshape(*kept.shape[:2], -1), axis=1)
    return np.take_along_axis(gained, rank[:, :, None], axis=1).mean(axis=0)


def _exact_shapley(worth: Worth, n_players: int) -> np.ndarray:
    kept = np.array(list(product([False, True], repeat=n_players)))
    values = worth(kept)
    found = np.empty((n_players, values.shape[1]))
    for player in range(n_players):
        # Sets are sorted as binary numbers, so both halves have the same order
        with_it, without = kept[:, player], ~kept[:, player]
        size = kept[without].sum(axis=1)
        weight = 1 / (n_players * np.array([comb(n_players - 1, k) for k in size]))
        found[player] = weight @ (values[with_it] - values[without])
    return found
