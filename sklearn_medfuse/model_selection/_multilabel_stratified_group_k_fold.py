"""K-fold cross-validation that keeps groups whole and every label's positives even."""

import numpy as np
from sklearn.model_selection._split import GroupsConsumerMixin, _BaseKFold
from sklearn.utils import check_random_state

from .._private_errors import no_values_in_errors
from ._group_stratification import assign_folds
from ._split_inputs import as_indicator, encode_groups, warn_if_too_rare


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
    MultilabelStratifiedKFold : The same for rows that stand alone.
    LeaveHospitalsOut : Whole hospitals by number, labels disregarded.
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
        with no_values_in_errors():
            yield from super().split(X, y, groups)

    def _iter_test_masks(self, X=None, y=None, groups=None):
        group_of_row, n_groups = encode_groups(groups)
        if n_groups < self.n_splits:
            raise ValueError(
                f"n_splits={self.n_splits} is more than the {n_groups} distinct values of "
                f"`groups`: pass n_splits={n_groups} or less, or finer groups."
                if n_groups > 1
                else "`groups` holds a single group, which cannot be split: pass finer groups."
            )
        indicator = as_indicator(y)
        label_counts = np.zeros((n_groups, indicator.shape[1]), dtype=np.int64)
        np.add.at(label_counts, group_of_row, indicator)
        warn_if_too_rare(label_counts, self.n_splits, "groups")

        rng = check_random_state(self.random_state) if self.shuffle else None
        fold_of_group = assign_folds(
            label_counts, np.bincount(group_of_row, minlength=n_groups), self.n_splits, rng
        )
        fold_of_row = fold_of_group[group_of_row]
        for fold in range(self.n_splits):
            yield fold_of_row == fold
