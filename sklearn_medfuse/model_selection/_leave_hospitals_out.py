"""Cross-validation that holds out whole hospitals."""

import math
import numbers
from typing import Any

import numpy as np
from sklearn.model_selection._split import BaseCrossValidator, GroupsConsumerMixin
from sklearn.utils import check_random_state, indexable

from .._input_data import encode_groups, no_values_in_errors
from ._groups import PerRow, RandomState, Splits, remember_groups


class LeaveHospitalsOut(GroupsConsumerMixin, BaseCrossValidator):
    """Hold out some hospitals at a time, each hospital once.

    A model that will be used elsewhere must work in hospitals that it has never seen: hospitals
    differ in their patients, their laboratories and their documentation.

    Parameters
    ----------
    n_hospitals : int or float, default=1
        Hospitals in each test set: a number of at least 1, or a share within (0, 1). If they do
        not divide evenly, some test sets have one hospital fewer.
    shuffle : bool, default=False
        Whether to assign hospitals at random; otherwise they are assigned by size, so that test
        sets are about even.
    random_state : int, RandomState instance or None, default=None
        Controls the assignment if `shuffle` is True. Pass an int for the same test sets in every
        call.

    See Also
    --------
    MultilabelStratifiedGroupKFold : Whole hospitals and an even share of each label.
    sklearn.model_selection.LeavePGroupsOut : Every choice of p groups.

    Notes
    -----
    Hospitals are the `groups`. A patient can have stays in two hospitals: pass `patients` too, and
    test rows of patients who also have training rows are left out.

    With scikit-learn's metadata routing enabled, `groups` and `patients` are requested by
    default. Without it a search passes on `groups` only.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_medfuse.model_selection import LeaveHospitalsOut
    >>> hospitals = np.array(["a", "a", "a", "b", "b", "c", "d", "d"])
    >>> for train, test in LeaveHospitalsOut(2).split(np.zeros((8, 1)), groups=hospitals):
    ...     print(np.unique(hospitals[test]), len(test))
    ['a' 'c'] 4
    ['b' 'd'] 4
    """

    __metadata_request__split = {"groups": True, "patients": True}

    def __init__(
        self, n_hospitals: float = 1, *, shuffle: bool = False, random_state: RandomState = None
    ) -> None:
        is_number = isinstance(n_hospitals, numbers.Integral) and not isinstance(n_hospitals, bool)
        is_share = isinstance(n_hospitals, float) and 0 < n_hospitals < 1
        if not is_share and not (is_number and n_hospitals >= 1):
            raise ValueError(
                f"`n_hospitals` is {n_hospitals!r}; pass a whole number of at least 1, or a share "
                "within (0, 1)."
            )
        if not isinstance(shuffle, bool):
            raise TypeError(f"`shuffle` is {shuffle!r}; pass True or False.")
        if not shuffle and random_state is not None:
            raise ValueError("`random_state` has no effect without shuffling; pass shuffle=True.")
        self.n_hospitals = n_hospitals
        self.shuffle = shuffle
        self.random_state = random_state

    def get_n_splits(
        self, X: Any = None, y: Any = None, groups: PerRow = None, patients: PerRow = None
    ) -> int:
        """Return the number of splits, which depends on the number of hospitals.

        Parameters
        ----------
        X, y : object
            Not used, present by convention.
        groups : array-like of shape (n_samples,)
            The hospital of each row.
        patients : object
            Not used, present by convention.

        Returns
        -------
        n_splits : int
            Number of hospitals divided by that of a test set, rounded up.
        """
        return self._count_splits(encode_groups(groups)[1])

    def _count_splits(self, n_groups):
        wanted = self.n_hospitals
        if isinstance(wanted, float):
            # A share that is a whole number but for its last digit is that number
            wanted = max(1, math.ceil(wanted * n_groups - 1e-9))
        if wanted >= n_groups:
            raise ValueError(
                f"n_hospitals={self.n_hospitals} leaves none of the {n_groups} distinct values of "
                "`groups` to train on; pass fewer, or finer groups."
            )
        return math.ceil(n_groups / wanted)

    def split(self, X: Any, y: Any = None, groups: PerRow = None, patients: Any = None) -> Splits:
        """Generate row positions of the training and the test set of each split.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The data; only its number of rows matters.
        y : object
            Not used, present by convention.
        groups : array-like of shape (n_samples,)
            The hospital of each row.
        patients : array-like of shape (n_samples,), default=None
            The patient of each row. None assumes that no patient was in two hospitals.

        Yields
        ------
        train, test : ndarrays of int of shapes (n_train,) and (n_test,)
            Positions of the training and of the test rows.

        Raises
        ------
        ValueError
            If `groups` is missing or holds missing values, if there are too few hospitals, or if
            all patients of a test set also have training rows.
        """
        with no_values_in_errors():
            X, groups, patients = indexable(X, groups, patients)
        hospital_of_row, n_groups = encode_groups(groups)
        patient_of_row = None if patients is None else encode_groups(patients, "patients")[0]
        remember_groups(X, patient_of_row)
        n_splits = self._count_splits(n_groups)
        split_of_row = self._assign(hospital_of_row, n_groups, n_splits)[hospital_of_row]
        for number in range(n_splits):
            test = split_of_row == number
            train = ~test
            if patient_of_row is not None:
                test &= ~np.isin(patient_of_row, patient_of_row[train])
            if not test.any():
                raise ValueError(
                    f"All patients of test set {number} also have training rows; pass a larger "
                    "`n_hospitals`."
                )
            yield np.flatnonzero(train), np.flatnonzero(test)

    def _assign(self, hospital_of_row, n_groups, n_splits):
        """Choose the split of each hospital: in turn, every second round backwards."""
        sizes = np.bincount(hospital_of_row, minlength=n_groups)
        order = np.argsort(-sizes, kind="stable")
        if self.shuffle:
            order = check_random_state(self.random_state).permutation(n_groups)
        rounds, place = np.divmod(np.arange(n_groups), n_splits)
        split_of_hospital = np.empty(n_groups, dtype=int)
        split_of_hospital[order] = np.where(rounds % 2 == 1, n_splits - 1 - place, place)
        return split_of_hospital
