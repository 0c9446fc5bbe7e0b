"""Forward chaining: learn from earlier stays, predict later ones."""

import numbers
from contextlib import suppress
from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection._split import BaseCrossValidator, GroupsConsumerMixin
from sklearn.utils import indexable
from sklearn.utils.validation import _num_samples

from .._input_data import encode_groups, no_values_in_errors
from ._groups import PerRow, Splits, remember_groups


class TemporalSplit(GroupsConsumerMixin, BaseCrossValidator):
    """Learn from the stays before a time and predict those after it, several times over.

    A model is used on patients who come after those that it was trained on, and practice, coding
    and the laboratory change in between. Rows are ordered by their index times; each split tests
    on the next stretch of rows and trains on all rows before it.

    Parameters
    ----------
    n_splits : int, default=5
        Number of splits, at least 1.
    test_size : int, default=None
        Rows of each test stretch. None uses ``n_samples // (n_splits + 1)``, so that training
        starts with as many. Rows of equal time stay together, so a stretch can have a few rows
        more or less.
    gap : timedelta, str or number, default=None
        Minimum time between a training row and the first test row: how long it takes until labels
        are known. A duration such as ``"30D"`` for dates, a number where
        times are numbers. None requires only that training rows are earlier.
    time_column : str, default=None
        Column of `X` that holds the times. None takes the `times` passed to :meth:`split`.

    See Also
    --------
    sklearn.model_selection.TimeSeriesSplit : Splits by row order, without times or groups.
    MultilabelStratifiedGroupKFold : Ignores time.

    Notes
    -----
    With `groups`, test rows of patients who also have training rows are left out, as in
    `Cohort.train_test_split`.

    A search passes `times` on only with scikit-learn's metadata routing enabled; `times` and
    `groups` are then requested by default. Without routing, keep the times in a column of `X`
    that no step of the pipeline uses, or pass ``cv=list(splitter.split(X, y, groups, times))``.

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

    def __init__(
        self,
        n_splits: int = 5,
        *,
        test_size: int | None = None,
        gap: Any = None,
        time_column: str | None = None,
    ) -> None:
        for name, value in (("n_splits", n_splits), ("test_size", test_size)):
            optional = name == "test_size" and value is None
            if not optional and (not isinstance(value, numbers.Integral) or value < 1):
                raise ValueError(f"`{name}` is {value!r}; pass a whole number of at least 1.")
        self.n_splits = n_splits
        self.test_size = test_size
        self.gap = gap
        self.time_column = time_column

    def get_n_splits(
        self, X: Any = None, y: Any = None, groups: Any = None, times: Any = None
    ) -> int:
        """Return the number of splits.

        Parameters
        ----------
        X, y, groups, times : object
            Not used, present by convention.

        Returns
        -------
        n_splits : int
            The parameter.
        """
        return self.n_splits

    def split(self, X: Any, y: Any = None, groups: PerRow = None, times: PerRow = None) -> Splits:
        """Generate row positions of the training and the test set of each split, in time.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The data: its number of rows, and its column `time_column`.
        y : object
            Not used, present by convention.
        groups : array-like of shape (n_samples,), default=None
            The patient of each row. None treats each row as a different patient.
        times : array-like of shape (n_samples,), default=None
            The index time of each row: dates with times, or numbers.

        Yields
        ------
        train, test : ndarrays of int of shapes (n_train,) and (n_test,)
            Positions of the training and of the test rows.

        Raises
        ------
        ValueError
            If times or groups are missing or of the wrong kind, or if a split has no training or no
            test rows.
        """
        with no_values_in_errors():
            X, groups, times = indexable(X, groups, times)
        numeric, are_dates = _encode_times(self._choose_times(X, times))
        if len(numeric) != _num_samples(X):
            raise ValueError("`times` must have one value for each row of `X`.")
        gap = self._read_gap(are_dates)
        codes = None if groups is None else encode_groups(groups)[0]
        remember_groups(X, codes)
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
            raise ValueError(f"`X` has no column {self.time_column!r}; pass a DataFrame with it.")
        return X[self.time_column]

    def _read_gap(self, are_dates):
        if self.gap is None:
            return 0
        # Numpy's durations count as whole numbers
        is_number = isinstance(self.gap, numbers.Real) and not isinstance(self.gap, np.timedelta64)
        if is_number != are_dates:
            with suppress(ValueError):
                microsecond = pd.Timedelta(microseconds=1)
                gap = self.gap if is_number else pd.Timedelta(self.gap) // microsecond
                if gap >= 0:
                    return gap
        wanted = "dates; pass a duration such as '30D'" if are_dates else "numbers; pass a number"
        raise ValueError(f"`gap` is {self.gap!r} and `times` are {wanted}, at least 0.")

    def _find_starts(self, numeric):
        """First times of the test stretches."""
        n_samples = len(numeric)
        size = n_samples // (self.n_splits + 1) if self.test_size is None else self.test_size
        first = n_samples - size * self.n_splits
        if size < 1 or first < 1:
            raise ValueError(
                f"n_splits={self.n_splits} and test_size={self.test_size} need more than the "
                f"{n_samples} rows available; choose smaller values."
            )
        return np.sort(numeric)[first::size][: self.n_splits]


def _encode_times(times):
    """Return the times as numbers, dates in microseconds, and whether they are dates."""
    if not isinstance(times, pd.Series):
        times = pd.Series(np.asarray(times) if np.ndim(times) == 1 else list(times))
    times = times.reset_index(drop=True)
    n_missing = int(times.isna().sum())
    if n_missing:
        raise ValueError(
            f"`times` has {n_missing} missing values; pass a time for these rows, or drop them."
        )
    times = times.infer_objects()
    if isinstance(times.dtype, pd.DatetimeTZDtype):
        times = times.dt.tz_convert(None)
    if pd.api.types.is_datetime64_dtype(times.dtype):
        return times.astype("datetime64[us]").astype("int64").to_numpy(), True
    if pd.api.types.is_numeric_dtype(times.dtype) and not pd.api.types.is_bool_dtype(times.dtype):
        return times.to_numpy(), False
    raise ValueError(
        f"`times` is of type {times.dtype}; pass dates, e.g. by pandas.to_datetime, or numbers."
    )
