"""K-fold cross-validation with an even share of every label's positives."""

import warnings

import numpy as np
from sklearn.model_selection._split import _BaseKFold
from sklearn.utils import check_random_state

from .._private_errors import no_values_in_errors
from ._group_stratification import assign_folds
from ._split_inputs import as_indicator, warn_if_too_rare


class MultilabelStratifiedKFold(_BaseKFold):
    """Split into folds with an even share of every label's positives.

    Rows are placed by iterative stratification [1]_: those of the rarest label not yet placed come
    first, each into the fold that lacks most of that label. Then single rows move, or two swap
    folds, for as long as that makes the shares more even.

    Use it where each row is another patient. Where patients have several rows, they must not be
    in two folds: use `MultilabelStratifiedGroupKFold`.

    Parameters
    ----------
    n_splits : int, default=5
        Number of folds, at least 2.

    shuffle : bool, default=False
        Whether to take the rows in random order, for a different partition per `random_state`.
        Without it the split is a function of the data alone.

    random_state : int, RandomState instance or None, default=None
        Decides the order of the rows, hence the partition, when `shuffle` is True. Pass an int
        for the same folds at every call.

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

        groups : object
            Not used, there for scikit-learn's convention.

        Yields
        ------
        train : ndarray of shape (n_train,)
            Positions of the training rows.

        test : ndarray of shape (n_test,)
            Positions of the test rows.

        Raises
        ------
        ValueError
            If `y` is missing, holds missing values or is of another kind, or if there are fewer
            rows than folds.

        Warns
        -----
        UserWarning
            If some label has fewer positives than there are folds: then some fold has none, and a
            ranking metric of that label is undefined there. Or if `groups` is given.
        """
        if groups is not None:
            warnings.warn(
                f"`groups` is given but {type(self).__name__} does not keep groups whole; use "
                "MultilabelStratifiedGroupKFold.",
                UserWarning,
                stacklevel=2,
            )
        with no_values_in_errors():
            yield from super().split(X, y, groups)

    def _iter_test_masks(self, X=None, y=None, groups=None):
        indicator = as_indicator(y)
        warn_if_too_rare(indicator, self.n_splits, "rows")
        rng = check_random_state(self.random_state) if self.shuffle else None
        n_samples = len(indicator)
        fold_of_row = assign_folds(indicator, np.ones(n_samples, dtype=int), self.n_splits, rng)
        for fold in range(self.n_splits):
            yield fold_of_row == fold
