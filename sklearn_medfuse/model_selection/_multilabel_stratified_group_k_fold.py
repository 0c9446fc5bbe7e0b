"""K-fold cross-validation that keeps groups whole and every label's positives even."""

import warnings

import numpy as np
import pandas as pd
from sklearn.model_selection._split import GroupsConsumerMixin, _BaseKFold
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import type_of_target

from ._group_stratification import assign_folds


class MultilabelStratifiedGroupKFold(GroupsConsumerMixin, _BaseKFold):
    """Split into folds with whole groups and an even share of every label's positives.

    A patient's stays are alike, so a patient (or a hospital) must lie in one fold alone; and a
    disease that 3 % of the stays have must not end up in two folds out of five. This splitter
    does both, for several labels at once.

    Groups are placed by iterative stratification [1]_, applied to each group's label counts: the
    groups of the rarest label not yet placed come first, each to the fold that lacks most of that
    label. Then single groups move, or two groups swap folds, for as long as that makes the
    labels' shares and the fold sizes more even.

    Parameters
    ----------
    n_splits : int, default=5
        Number of folds, at least 2.

    shuffle : bool, default=False
        Whether to take the groups in random order, for a different partition per
        `random_state`. Without it the split is a function of the data alone.

    random_state : int, RandomState instance or None, default=None
        Decides the order of the groups, hence the partition, when `shuffle` is True. Pass an int
        for the same folds at every call.

    See Also
    --------
    sklearn.model_selection.StratifiedGroupKFold : The same for one binary or multi-class label.
    sklearn.model_selection.GroupKFold : Whole groups and even fold sizes, labels disregarded.

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

    def __init__(self, n_splits=5, *, shuffle=False, random_state=None):
        super().__init__(n_splits=n_splits, shuffle=shuffle, random_state=random_state)

    def split(self, X, y=None, groups=None):
        """Generate row positions of the training and the test set of each fold.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The data; only its number of rows matters.

        y : array-like or sparse matrix of shape (n_samples,) or (n_samples, n_labels)
            0/1 per label, or one column of classes. In one column every class is evened out.

        groups : array-like of shape (n_samples,)
            The group of each row, for example the patient or the hospital.

        Yields
        ------
        train : ndarray of shape (n_train,)
            Positions of the training rows.

        test : ndarray of shape (n_test,)
            Positions of the test rows.

        Raises
        ------
        ValueError
            If `y` or `groups` is missing, holds missing values or is of another kind, or if there
            are fewer groups than folds.

        Warns
        -----
        UserWarning
            If some label has positives in fewer groups than there are folds: then some fold has
            none, and a ranking metric of that label is undefined there.
        """
        yield from super().split(X, y, groups)

    def _iter_test_masks(self, X=None, y=None, groups=None):
        group_of_row, n_groups = _encode_groups(groups)
        if n_groups < self.n_splits:
            raise ValueError(
                f"n_splits={self.n_splits} is more than the {n_groups} distinct values of "
                f"`groups`: pass n_splits={n_groups} or less, or finer groups."
                if n_groups > 1
                else "`groups` holds a single group, which cannot be split: pass finer groups."
            )
        indicator = _as_indicator(y)
        label_counts = np.zeros((n_groups, indicator.shape[1]), dtype=np.int64)
        np.add.at(label_counts, group_of_row, indicator)
        self._warn_if_too_rare(label_counts)

        rng = check_random_state(self.random_state) if self.shuffle else None
        fold_of_group = assign_folds(
            label_counts, np.bincount(group_of_row, minlength=n_groups), self.n_splits, rng
        )
        fold_of_row = fold_of_group[group_of_row]
        for fold in range(self.n_splits):
            yield fold_of_row == fold

    def _warn_if_too_rare(self, label_counts):
        n_too_rare = int(((label_counts > 0).sum(axis=0) < self.n_splits).sum())
        if n_too_rare:
            warnings.warn(
                f"{n_too_rare} of {label_counts.shape[1]} labels in `y` have positives in fewer "
                f"than n_splits={self.n_splits} groups, so some folds have none of them. Use "
                "fewer folds or leave these labels out.",
                UserWarning,
                stacklevel=2,
            )


def _encode_groups(groups):
    """Turn group labels into codes 0 … n_groups-1; the codes do not depend on the row order."""
    if groups is None:
        raise ValueError(
            "`groups` is None. Pass one value per row, e.g. groups=cohort.groups (in a search: "
            "search.fit(X, y, groups=...)), or use np.arange(n_samples) if every row stands alone."
        )
    # a list as objects, so that a NaN among names does not become the name "nan"
    groups = np.asarray(groups, dtype=None if hasattr(groups, "dtype") else object)
    if groups.ndim != 1:
        raise ValueError(
            f"`groups` has {groups.ndim} dimensions; pass one value per row, of shape (n_samples,)."
        )
    codes, uniques = pd.factorize(groups, sort=True)
    n_missing = int((codes < 0).sum())
    if n_missing:
        raise ValueError(
            f"`groups` has {n_missing} missing values; give each of these rows its group, or drop "
            "the rows."
        )
    return codes, len(uniques)


def _as_indicator(y):
    """Turn labels of any accepted kind into a 0/1 array of shape (n_samples, n_labels)."""
    if y is None:
        raise ValueError("`y` is None. Pass the labels: folds are stratified by them.")
    y = y.toarray() if hasattr(y, "toarray") else np.asarray(y)
    n_missing = int(pd.isna(y).sum())
    if n_missing:
        raise ValueError(
            f"`y` has {n_missing} missing values; give every row all its labels, or drop the rows."
        )
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
