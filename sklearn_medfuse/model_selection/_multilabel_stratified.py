"""K-fold cross-validation that keeps every label's positives even, and groups whole."""

import warnings
from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection._split import GroupsConsumerMixin, _BaseKFold
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import type_of_target

from .._input_data import encode_groups, no_values_in_errors
from ._groups import PerRow, RandomState, Splits, remember_groups

# Local improvement is bounded by work, not by rounds: about a second on one core. A large cohort
# of small groups reaches the bound early, but there the greedy step alone is already even.
_IMPROVEMENT_BUDGET = 300_000_000


class _MultilabelStratified(_BaseKFold):
    """Folds with an even share of every label's positives; rows or groups stay whole."""

    def __init__(
        self, n_splits: int = 5, *, shuffle: bool = False, random_state: RandomState = None
    ) -> None:
        super().__init__(n_splits=n_splits, shuffle=shuffle, random_state=random_state)

    def split(self, X: Any, y: Any = None, groups: PerRow = None) -> Splits:
        """Generate row positions of the training and the test set of each fold.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The data; only its number of rows matters.
        y : array-like or sparse matrix of shape (n_samples,) or (n_samples, n_labels)
            0/1 per label, NaN where it is not known, or one column of classes. In one column, every
            class is spread evenly.
        groups : array-like of shape (n_samples,)
            The group of each row, for example the patient or the hospital. Required by
            `MultilabelStratifiedGroupKFold`; `MultilabelStratifiedKFold` ignores it and warns.

        Yields
        ------
        train, test : ndarrays of int of shapes (n_train,) and (n_test,)
            Positions of the training and of the test rows.

        Raises
        ------
        ValueError
            If `y` or the groups are missing, hold missing values or are of the wrong kind, or if
            there are fewer rows or groups than folds.

        Warns
        -----
        UserWarning
            If some label has positives in fewer rows or groups than there are folds: then some
            fold has none, and a ranking metric of that label is undefined there.
        """
        with no_values_in_errors():
            yield from super().split(X, y, groups)

    def _iter_fold_masks(self, indicator, group_of_row, unit):
        label_counts = np.zeros((group_of_row.max() + 1, indicator.shape[1]), dtype=np.int64)
        np.add.at(label_counts, group_of_row, indicator)
        n_too_rare = int(((label_counts > 0).sum(axis=0) < self.n_splits).sum())
        if n_too_rare:
            warnings.warn(
                f"{n_too_rare} of {indicator.shape[1]} labels in `y` have positives in fewer than "
                f"n_splits={self.n_splits} {unit}, so some folds have none of them. Use fewer "
                "folds or leave these labels out.",
                UserWarning,
                stacklevel=3,
            )
        rng = check_random_state(self.random_state) if self.shuffle else None
        fold_of_group = _assign_folds(label_counts, np.bincount(group_of_row), self.n_splits, rng)
        fold_of_row = fold_of_group[group_of_row]
        for fold in range(self.n_splits):
            yield fold_of_row == fold


class MultilabelStratifiedGroupKFold(GroupsConsumerMixin, _MultilabelStratified):
    """Split into folds with whole groups and an even share of every label's positives.

    A patient's stays are alike, so a patient (or a hospital) must lie in a single fold; and a
    disease of 3 % of the stays must not end up in only two folds out of five. This splitter
    ensures both, for several labels at once.

    Groups are placed by iterative stratification [1]_, applied to each group's label counts: the
    groups of the rarest label not yet placed come first, each in the fold that lacks most of that
    label. Then single groups move, or two groups swap folds, for as long as that makes the
    labels' shares and the fold sizes more even.

    Parameters
    ----------
    n_splits : int, default=5
        Number of folds, at least 2.
    shuffle : bool, default=False
        Whether to take the groups in random order; otherwise the split depends on the data alone.
    random_state : int, RandomState instance or None, default=None
        Controls the order if `shuffle` is True. Pass an int for the same folds in every call.

    See Also
    --------
    MultilabelStratifiedKFold : The same for independent rows.
    LeaveHospitalsOut : Whole hospitals by number, ignoring labels.
    sklearn.model_selection.StratifiedGroupKFold : The same for one binary or multi-class label.
    sklearn.model_selection.GroupKFold : Whole groups and even fold sizes, ignoring labels.

    Notes
    -----
    Shares can only be as even as whole groups allow: one hospital that holds most positives of a
    rare label keeps them together, and the rest of that label is spread over the other folds.

    With scikit-learn's metadata routing enabled, `groups` is requested by default.

    References
    ----------
    .. [1] K. Sechidis, G. Tsoumakas, I. Vlahavas. "On the Stratification of Multi-Label Data",
       ECML PKDD 2011.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_medfuse.model_selection import MultilabelStratifiedGroupKFold
    >>> y = np.array([[1, 0], [1, 0], [0, 1], [0, 0], [1, 1], [0, 0], [1, 1], [0, 0]])
    >>> patients = np.array(["a", "a", "b", "b", "c", "c", "d", "d"])
    >>> splitter = MultilabelStratifiedGroupKFold(n_splits=2)
    >>> for train, test in splitter.split(np.zeros((8, 3)), y, groups=patients):
    ...     print(np.unique(patients[test]), y[test].sum(axis=0))
    ['a' 'b'] [2 1]
    ['c' 'd'] [2 2]
    """

    def _iter_test_masks(self, X=None, y=None, groups=None):
        group_of_row, n_groups = encode_groups(groups)
        remember_groups(X, group_of_row)
        if n_groups < self.n_splits:
            raise ValueError(
                f"n_splits={self.n_splits} is more than the {n_groups} distinct values of "
                f"`groups`: pass n_splits={n_groups} or less, or finer groups."
                if n_groups > 1
                else "`groups` holds a single group, which cannot be split: pass finer groups."
            )
        yield from self._iter_fold_masks(_as_indicator(y), group_of_row, "groups")


class MultilabelStratifiedKFold(_MultilabelStratified):
    """Split into folds with an even share of every label's positives.

    Rows are placed by iterative stratification [1]_: those of the rarest label not yet placed come
    first, each into the fold that lacks most of that label. Then single rows move, or two swap
    folds, for as long as that makes the shares more even.

    Use it if each row is a different patient. If patients have several rows, those must not be in
    two folds: use `MultilabelStratifiedGroupKFold`.

    Parameters
    ----------
    n_splits : int, default=5
        Number of folds, at least 2.
    shuffle : bool, default=False
        Whether to take the rows in random order; otherwise the split depends on the data alone.
    random_state : int, RandomState instance or None, default=None
        Controls the order if `shuffle` is True. Pass an int for the same folds in every call.

    See Also
    --------
    MultilabelStratifiedGroupKFold : The same with whole patients or hospitals.
    sklearn.model_selection.StratifiedKFold : The same for one binary or multi-class label.

    References
    ----------
    .. [1] K. Sechidis, G. Tsoumakas, I. Vlahavas. "On the Stratification of Multi-Label Data",
       ECML PKDD 2011.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_medfuse.model_selection import MultilabelStratifiedKFold
    >>> y = np.array([[1, 0], [1, 0], [0, 1], [0, 0], [1, 1], [0, 0], [1, 1], [0, 1]])
    >>> for train, test in MultilabelStratifiedKFold(n_splits=2).split(np.zeros((8, 3)), y):
    ...     print(len(test), y[test].sum(axis=0))
    4 [2 2]
    4 [2 2]
    """

    def _iter_test_masks(self, X=None, y=None, groups=None):
        if groups is not None:
            warnings.warn(
                f"`groups` is given but {type(self).__name__} does not keep groups whole; use "
                "MultilabelStratifiedGroupKFold.",
                UserWarning,
                # Past scikit-learn's two `split` and ours
                stacklevel=5,
            )
        remember_groups(X, None)
        indicator = _as_indicator(y)
        yield from self._iter_fold_masks(indicator, np.arange(len(indicator)), "rows")


def _as_indicator(y):
    """Return 0/1 labels; of one column of classes, one column per class."""
    if y is None:
        raise ValueError("`y` is None. Pass the labels: folds are stratified by them.")
    y = y.toarray() if hasattr(y, "toarray") else np.asarray(y)
    missing = pd.isna(y)
    if missing.any():
        if y.ndim < 2:
            raise ValueError(
                f"`y` has {missing.sum()} missing values; give each row its class, or drop it."
            )
        # The positives are spread; a label that is not known is none of them
        y = np.where(missing, 0, y).astype(float)
    kind = type_of_target(y, input_name="y")
    if kind in ("binary", "multiclass"):
        classes, codes = np.unique(y.ravel(), return_inverse=True)
        return np.eye(len(classes), dtype=np.int64)[codes]
    if kind == "multilabel-indicator" and np.isin(y, (0, 1)).all():
        return y.astype(np.int64)
    raise ValueError(
        f"`y` is of kind {kind!r} or holds numbers other than 0 and 1. Pass one 0/1 column per "
        "label, or a single column of classes."
    )


def _assign_folds(label_counts, group_sizes, n_folds, rng):
    """Choose a fold for each group, from its positive rows (n_groups, n_labels) and its size."""
    order = np.arange(len(group_sizes)) if rng is None else rng.permutation(len(group_sizes))
    counts = np.column_stack([label_counts, group_sizes])[order].astype(float)

    fold = _iterative_stratification(counts, n_folds, largest_first=rng is None)
    _fill_empty_folds(fold, counts, n_folds)
    _improve(fold, _as_shares(counts), n_folds)
    if rng is not None:
        fold = rng.permutation(n_folds)[fold]

    original = np.empty_like(fold)
    original[order] = fold
    return original


def _iterative_stratification(counts, n_folds, largest_first):
    """Assign the groups of the rarest label first, each to the fold that lacks the label most.

    The last column of `counts`, the groups' sizes, breaks ties and places groups without positives.
    """
    wanted = np.tile(counts.sum(axis=0) / n_folds, (n_folds, 1))
    remaining = counts.sum(axis=0)
    fold = np.full(len(counts), -1)

    while (fold < 0).any():
        labels = np.flatnonzero(remaining[:-1] > 0)
        rarest = labels[np.argmin(remaining[labels])] if len(labels) else -1
        members = np.flatnonzero((fold < 0) & (counts[:, rarest] > 0))
        if largest_first:
            members = members[np.lexsort((-counts[members, -1], -counts[members, rarest]))]
        for group in members:
            # Lexsort's last key is the first criterion
            fold[group] = np.lexsort((-wanted[:, -1], -wanted[:, rarest]))[0]
            wanted[fold[group]] -= counts[group]
            remaining -= counts[group]
    return fold


def _fill_empty_folds(fold, counts, n_folds):
    """Give every empty fold the smallest group of the fold with most groups, in place."""
    # One label whose positives all lie in a few huge groups can leave a fold without any group
    for empty in np.setdiff1d(np.arange(n_folds), fold):
        members = np.flatnonzero(fold == np.argmax(np.bincount(fold, minlength=n_folds)))
        fold[members[np.argmin(counts[members, -1])]] = empty


def _as_shares(counts):
    """Scale columns to sum to 1, so that labels weigh the same; sizes weigh as all labels do."""
    totals = counts.sum(axis=0)
    shares = counts[:, totals > 0] / totals[totals > 0]
    shares[:, -1] *= np.sqrt(max(1, shares.shape[1] - 1))
    return shares


def _improve(fold, shares, n_folds):
    """Move or swap groups, in place, for as long as the folds become more even.

    Unevenness is :math:`\\sum_f \\lVert r_f \\rVert^2`, where :math:`r_f` is what fold f holds
    beyond its :math:`1/k` of every column. Giving fold b the change d that fold a loses alters it
    by :math:`2 d (r_b - r_a) + 2 d d`; d is one group's shares for a move, the difference of two
    groups' shares for a swap.
    """
    residual = np.zeros((n_folds, shares.shape[1]))
    np.add.at(residual, fold, shares)
    residual -= shares.sum(axis=0) / n_folds
    n_groups = np.bincount(fold, minlength=n_folds)
    squared = np.einsum("ij,ij->i", shares, shares)

    visits_left = _IMPROVEMENT_BUDGET // shares.size
    unchanged = 0
    group = 0
    while visits_left > 0 and unchanged < len(shares):
        change, target, partner = _best_change(group, fold, shares, squared, residual, n_groups)
        if change < -1e-12:
            _exchange(group, target, partner, fold, shares, residual, n_groups)
            unchanged = 0
        else:
            unchanged += 1
        group = (group + 1) % len(shares)
        visits_left -= 1


def _best_change(group, fold, shares, squared, residual, n_groups):
    """Return the best change of unevenness, the group's new fold, and its partner or -1."""
    own = fold[group]
    difference = residual - residual[own]
    toward = difference @ shares[group]

    move = 2 * (toward + squared[group])
    move[own] = np.inf
    if n_groups[own] == 1:  # A fold is never emptied
        move[:] = np.inf
    target = int(np.argmin(move))

    partner_toward = np.einsum("ij,ij->i", shares, difference[fold])
    distance = squared + squared[group] - 2 * (shares @ shares[group])
    swap = 2 * (toward[fold] - partner_toward + distance)
    swap[fold == own] = np.inf
    partner = int(np.argmin(swap))

    if swap[partner] < move[target]:
        return swap[partner], int(fold[partner]), partner
    return move[target], target, -1


def _exchange(group, target, partner, fold, shares, residual, n_groups):
    """Carry out the move (partner -1) or swap that `_best_change` found, in place."""
    own = fold[group]
    change = shares[group].copy()
    if partner >= 0:
        change -= shares[partner]
        fold[partner] = own
    else:
        n_groups[own] -= 1
        n_groups[target] += 1
    fold[group] = target
    residual[own] -= change
    residual[target] += change
