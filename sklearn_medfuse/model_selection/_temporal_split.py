"""Forward chaining: learn from earlier stays, predict later ones."""

import numbers

import numpy as np
import pandas as pd
from sklearn.model_selection._split import BaseCrossValidator, GroupsConsumerMixin
from sklearn.utils import indexable

from .._private_errors import no_values_in_errors
from ._split_inputs import encode_groups, encode_times


class TemporalSplit(GroupsConsumerMixin, BaseCrossValidator):
    """Learn from the stays before a time and predict those after it, several times over.

    A model is used on patients who come after those that it has learned from, and practice, coding
    and the laboratory change meanwhile. Rows are put in the order of their index times, and each
    split tests on the next stretch of them and trains on all that lie before it.

    Parameters
    ----------
    n_splits : int, default=5
        Number of splits, at least 1.

    test_size : int, default=None
        Rows of each test stretch. None takes ``n_samples // (n_splits + 1)``, so that training
        starts with as many. Rows of equal time are not parted, so a stretch can have a few more
        or less.

    gap : timedelta, str or number, default=None
        Time between a training row and the first test row, at least: as long as it takes until
        the training row's labels are known. A duration as ``"30D"`` for dates, a number where
        times are numbers. None asks only that training rows are earlier.

    time_column : str, default=None
        Column of `X` that holds the times. None takes them from `times` of :meth:`split`.

    See Also
    --------
    sklearn.model_selection.TimeSeriesSplit : By the order of rows, without times or groups.
    MultilabelStratifiedGroupKFold : Folds at random.

    Notes
    -----
    With `groups`, test rows of patients who are also trained on are left out, as in
    `Cohort.train_test_split`.

    A search hands `times` on only with scikit-learn's metadata routing enabled, where they are
    requested by default, as are `groups`. Without routing, have them in a column of `X` that no
    step of the pipeline takes, or pass ``cv=list(splitter.split(X, y, groups, times))``.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from sklearn_medfuse.model_selection import TemporalSplit
    >>> times = pd.to_datetime(
    ...     ["2024-06-01", "2024-01-01", "2024-03-01", "2024-02-01", "2024-05-01", "2024-04-01"]
    ... )
    >>> for train, test in TemporalSplit(2).split(np.zeros((6, 1)), times=times):
    ...     print(train, test)
    [1 3] [2 5]
    [1 2 3 5] [0 4]
    >>> for train, test in TemporalSplit(2, gap="40D").split(np.zeros((6, 1)), times=times):
    ...     print(train, test)
    [1] [2 5]
    [1 2 3] [0 4]
    """

    __metadata_request__split = {"groups": True, "times": True}

    def __init__(self, n_splits=5, *, test_size=None, gap=None, time_column=None):
        for name, value in (("n_splits", n_splits), ("test_size", test_size)):
            optional = name == "test_size" and value is None
            if not optional and (not isinstance(value, numbers.Integral) or value < 1):
                raise ValueError(f"`{name}` is {value!r}; pass a whole number of at least 1.")
        self.n_splits = n_splits
        self.test_size = test_size
        self.gap = gap
        self.time_column = time_column

    def get_n_splits(self, X=None, y=None, groups=None, times=None):
        """Return the number of splits.

        Parameters
        ----------
        X, y, groups, times : object
            Not used, there for scikit-learn's convention.

        Returns
        -------
        n_splits : int
            The parameter.
        """
        return self.n_splits

    def split(self, X, y=None, groups=None, times=None):
        """Generate row positions of the training and the test set of each split, in time.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The data: its number of rows, and its column `time_column`.

        y : object
            Not used, there for scikit-learn's convention.

        groups : array-like of shape (n_samples,), default=None
            The patient of each row. None takes each row for another patient.

        times : array-like of shape (n_samples,), default=None
            The index time of each row: dates with times, or numbers.

        Yields
        ------
        train : ndarray of shape (n_train,)
            Positions of the training rows.

        test : ndarray of shape (n_test,)
            Positions of the test rows.

        Raises
        ------
        ValueError
            If times or groups are missing or of another kind, or if a split has no training or no
            test rows.
        """
        with no_values_in_errors():
            X, groups, times = indexable(X, groups, times)
        numeric, are_dates = encode_times(self._choose_times(X, times))
        if numeric.shape != (len(numeric),) or len(numeric) != _n_rows(X):
            raise ValueError("`times` must have one value for each row of `X`.")
        gap = self._read_gap(are_dates)
        codes = None if groups is None else encode_groups(groups)[0]
        starts = self._find_starts(numeric)
        for number, start in enumerate(starts):
            train = (numeric < start) & (numeric <= start - gap)
            test = numeric >= start
            if number + 1 < len(starts):
                test &= numeric < starts[number + 1]
            if codes is not None:
                test &= ~np.isin(codes, codes[train])
            for part, rows, remedy in (
                ("training", train, "shorter `gap`, or fewer splits"),
                ("test", test, "greater `test_size`, or fewer splits"),
            ):
                if not rows.any():
                    raise ValueError(f"Split {number} has no {part} rows: choose a {remedy}.")
            yield np.flatnonzero(train), np.flatnonzero(test)

    def _choose_times(self, X, times):
        if self.time_column is None:
            if times is None:
                raise ValueError(
                    "`times` is None; pass the index time of each row, e.g. "
                    "times=cohort.index_times, or name the column of X in `time_column`."
                )
            return times
        if times is not None:
            raise ValueError("`times` and `time_column` are both given; pass one of them.")
        if not isinstance(X, pd.DataFrame) or self.time_column not in X.columns:
            raise ValueError(
                f"`X` has no column {self.time_column!r}; pass a DataFrame that has the "
                "`time_column`."
            )
        return X[self.time_column]

    def _read_gap(self, are_dates):
        if self.gap is None:
            return 0
        gap = None
        # numpy's durations count as whole numbers
        is_number = isinstance(self.gap, numbers.Real) and not isinstance(self.gap, np.timedelta64)
        if not are_dates:
            gap = self.gap if is_number else None
        elif not is_number:
            try:
                gap = pd.Timedelta(self.gap) // pd.Timedelta(microseconds=1)
            except ValueError:
                gap = None
        if gap is None or not gap >= 0:
            wanted = "a duration such as '30D'" if are_dates else "a number"
            raise ValueError(
                f"`gap` is {self.gap!r} and `times` are {'dates' if are_dates else 'numbers'}; "
                f"pass {wanted}, at least 0."
            )
        return gap

    def _find_starts(self, numeric):
        """First times of the test stretches."""
        n_samples = len(numeric)
        size = n_samples // (self.n_splits + 1) if self.test_size is None else self.test_size
        first = n_samples - size * self.n_splits
        if size < 1 or first < 1:
            raise ValueError(
                f"n_splits={self.n_splits} and test_size={self.test_size} need more than the "
                f"{n_samples} rows there are; choose smaller ones."
            )
        return np.sort(numeric)[first::size][: self.n_splits]


def _n_rows(X):
    return X.shape[0] if hasattr(X, "shape") else len(X)
