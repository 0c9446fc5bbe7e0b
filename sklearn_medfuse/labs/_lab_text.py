"""LabTextSerializer: lab results as text for a language model, the paper's LABTEXT."""

from collections.abc import Mapping
from numbers import Integral

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted

from .._state import VersionedStateMixin
from ._lab_cells import FEWEST_ROWS
from ._lab_table import Levels, refuse_unknown_labs, validate_dense_labs

# Outside these magnitudes a number is written with an exponent
_SMALLEST, _LARGEST = 1e-5, 1e9
# With fewer results, the five lowest are not a tail
_FEWEST_FOR_LIMITS = 20
_MARKS = {-1: " (low)", 0: "", 1: " (high)"}


class LabTextSerializer(VersionedStateMixin, TransformerMixin, BaseEstimator):
    """Write each row's lab results as one text, by default the abnormal ones only.

    A row becomes "creatinine 2.1 mg/dL (high); sodium 128 mmol/L (low)". A result is abnormal if it
    lies outside the lab's reference range; the limits are normal. A lab without a range is judged
    by quantiles of at least 20 values in fit, a qualitative one ("NEG", "TRACE") by quantiles of
    its ordered levels. Labs that were not measured are not mentioned.

    Parameters
    ----------
    reference_ranges : dict of str to (low, high), or None, default=None
        Reference ranges of numeric labs by name, in the column's unit; None or NaN leaves a side
        open.
    abnormal_only : bool, default=True
        Write only abnormal results; False writes every measured one and marks the abnormal ones.
    units : dict of str to str, or None, default=None
        Units by lab name, written after the value.
    quantiles : tuple of two floats, default=(0.05, 0.95)
        Quantiles of the training values that bound the normal range of a lab without a reference
        range. Each limit is the mean of the five nearest values, so that none is a patient's
        result.
    significant_digits : int, default=4
        Number of digits to which a value is rounded in the text, from 1 to 15.
    normal_text : str or None, default=None
        Text of a row whose measured labs are all left out; None means no text. A row without a
        measured lab never has text.
    column_name : str, default="lab_text"
        Name of the text column; `LLMNoteEncoder` writes it above the text if it joins columns.
    levels : dict or None, default=None
        Results of qualitative labs from low to high by column, as of `MaskedLabEncoder`.

    Attributes
    ----------
    n_features_in_ : int
        Number of lab columns.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Their names; only if X had string column names. Otherwise they are called "lab 0" and so on.
    levels_ : list of (list of str, or None)
        Levels of each qualitative lab from low to high, None for a numeric one.
    low_ : ndarray of shape (`n_features_in_`,)
        Lower limit of each lab's normal range, a position in its levels if it is qualitative;
        -inf where open, NaN for a lab that has neither a reference range nor 20 values in fit.
    high_ : ndarray of shape (`n_features_in_`,)
        Upper limit likewise; inf where open.

    See Also
    --------
    LLMNoteEncoder : Embeds the text.
    make_medfuse_pipeline : Joins the text with the note.

    Notes
    -----
    MEDFuse [1]_ passes abnormal labs as "name: value unit" to the language model with the note.
    NOTE[DIFF] (lab text): the quantiles, and the marks "(high)" and "(low)", are ours. Results are
    read as by `MaskedLabEncoder`. The text holds patients' values; the fitted serializer holds only
    limits and levels. A Pipeline with `memory` writes the output of a serializer step into its
    cache; `make_medfuse_pipeline` does not.

    References
    ----------
    .. [1] Phan et al., "MEDFuse: Multimodal EHR Data Fusion with Masked Lab-Test Modeling and
       Large Language Models", CIKM 2024, arXiv 2407.12309.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from sklearn_medfuse import LabTextSerializer
    >>> X = pd.DataFrame({"creatinine": [2.1, 0.9, np.nan], "sodium": [128.0, 140.0, np.nan]})
    >>> serializer = LabTextSerializer(
    ...     {"creatinine": (0.6, 1.2), "sodium": (135, 145)},
    ...     units={"creatinine": "mg/dL", "sodium": "mmol/L"},
    ...     normal_text="no abnormal result",
    ... )
    >>> for (text,) in serializer.fit_transform(X):
    ...     print(text)
    creatinine 2.1 mg/dL (high); sodium 128 mmol/L (low)
    no abnormal result
    None
    """

    _parameter_constraints: dict = {
        "reference_ranges": [Mapping, None],
        "abnormal_only": ["boolean"],
        "units": [Mapping, None],
        "quantiles": [tuple, list],
        "significant_digits": [Interval(Integral, 1, 15, closed="both")],
        "normal_text": [str, None],
        "column_name": [str],
        "levels": [dict, None],
    }

    def __init__(
        self,
        reference_ranges=None,
        abnormal_only=True,
        *,
        units=None,
        quantiles=(0.05, 0.95),
        significant_digits=4,
        normal_text=None,
        column_name="lab_text",
        levels=None,
    ):
        self.reference_ranges = reference_ranges
        self.abnormal_only = abnormal_only
        self.units = units
        self.quantiles = quantiles
        self.significant_digits = significant_digits
        self.normal_text = normal_text
        self.column_name = column_name
        self.levels = levels

    def fit(self, X, y=None):
        """Set each lab's limits, from its reference range or the values in X.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_labs)
            Lab results, numbers or texts; NaN means not measured.
        y : None
            Ignored.

        Returns
        -------
        LabTextSerializer
            The fitted serializer.

        Raises
        ------
        ValueError
            If `reference_ranges` or `units` name a lab that is not in X, or hold invalid values.
        """
        self._validate_params()
        quantiles = self._checked_quantiles()
        X, self.levels_ = validate_dense_labs(self, X)
        names = self._lab_names()
        refuse_unknown_labs(self.units or (), names, "units")
        for name, unit in (self.units or {}).items():
            if not isinstance(unit, str):
                raise ValueError(
                    f"units[{name!r}] is of type {type(unit).__name__}; give a str such as 'mg/dL'."
                )
        ranges = self._checked_ranges(names)
        limits = [
            ranges.get(name) or _training_limits(X[:, lab], quantiles, self.levels_[lab])
            for lab, name in enumerate(names)
        ]
        self.low_, self.high_ = np.array(limits, dtype=np.float64).T
        return self

    def transform(self, X):
        """Write the results of each row as text.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_labs)
            Lab results in the columns of fit; NaN means not measured.

        Returns
        -------
        object ndarray of shape (n_rows, 1)
            Texts; None where there is nothing to write.
        """
        check_is_fitted(self)
        X, _ = validate_dense_labs(self, X, self.levels_)
        flags = self._flags(X)
        measured = ~np.isnan(X)
        names, units = self._lab_names(), self.units or {}
        ends = [f" {units[name]}" if units.get(name) else "" for name in names]
        entries: list[list[str]] = [[] for _ in X]
        for row, lab in zip(*np.nonzero(flags if self.abnormal_only else measured), strict=True):
            value, levels = X[row, lab], self.levels_[lab]
            digits = self.significant_digits
            text = _format_number(value, digits) if levels is None else levels[int(value)]
            entries[row].append(f"{names[lab]} {text}{ends[lab]}{_MARKS[flags[row, lab]]}")
        texts = np.full((len(X), 1), None, dtype=object)
        for row, (parts, known) in enumerate(zip(entries, measured.any(axis=1), strict=True)):
            if known:
                texts[row, 0] = "; ".join(parts) or self.normal_text
        return texts

    def get_feature_names_out(self, input_features=None):
        """Name of the text column.

        Parameters
        ----------
        input_features : array-like of str or None, default=None
            Names of the lab columns; checked against those of fit.

        Returns
        -------
        object ndarray of shape (1,)
            `column_name`.
        """
        check_is_fitted(self)
        _check_feature_names_in(self, input_features)
        return np.array([self.column_name], dtype=object)

    def _checked_quantiles(self) -> tuple[float, float]:
        try:
            low, high = (float(quantile) for quantile in self.quantiles)
            valid = 0 <= low < high <= 1
        except (TypeError, ValueError):
            valid = False
        if not valid:
            raise ValueError(
                f"quantiles={self.quantiles!r} must be two numbers with 0 <= low < high <= 1, such "
                "as (0.05, 0.95)."
            )
        return low, high

    def _lab_names(self) -> list[str]:
        default = [f"lab {i}" for i in range(self.n_features_in_)]
        return list(getattr(self, "feature_names_in_", default))

    def _checked_ranges(self, names: list[str]) -> dict[str, tuple[float, float]]:
        """Reference ranges as numbers, open sides infinite."""
        refuse_unknown_labs(self.reference_ranges or (), names, "reference_ranges")
        ranges = {}
        for name, limits in (self.reference_ranges or {}).items():
            try:
                ends = zip(limits, (-np.inf, np.inf), strict=True)
                low, high = (float(no_end if _is_open(end) else end) for end, no_end in ends)
                valid = low <= high
            except (TypeError, ValueError):
                valid = False
            if not valid:
                raise ValueError(
                    f"reference_ranges[{name!r}]={limits!r} must be (low, high) with low <= high; "
                    "None leaves a side open."
                )
            if self.levels_[names.index(name)] is not None:
                raise ValueError(
                    f"reference_ranges[{name!r}] is for a column that holds words rather than "
                    "numbers; remove it, so that the lab is judged by quantiles."
                )
            ranges[name] = low, high
        return ranges

    def _flags(self, X: np.ndarray) -> np.ndarray:
        """-1 for low, 1 for high, 0 for normal, not measured or without limits."""
        # In single precision 0.1 is not above a limit of 0.1, however the two were stored
        with np.errstate(over="ignore"):
            X, low, high = (a.astype(np.float32) for a in (X, self.low_, self.high_))
        return np.greater(X, high).astype(np.int8) - np.less(X, low)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.transformer_tags.preserves_dtype = []
        return tags


def _is_open(limit) -> bool:
    return limit is None or np.isnan(limit)


def _training_limits(
    values: np.ndarray, quantiles: tuple[float, float], levels: Levels
) -> tuple[float, float]:
    """Quantiles of the measured values; those of numbers are means of five results."""
    measured = np.sort(values[~np.isnan(values)].astype(np.float64))
    if levels is not None and len(measured):
        # Positions in levels are shared by several rows
        return tuple(np.quantile(measured, quantiles))
    if len(measured) < _FEWEST_FOR_LIMITS:
        return np.nan, np.nan
    middle = np.rint(np.array(quantiles) * (len(measured) - 1)).astype(int)
    starts = (middle - FEWEST_ROWS // 2).clip(0, len(measured) - FEWEST_ROWS)
    low, high = (measured[start : start + FEWEST_ROWS].mean() for start in starts)
    return low, high


def _format_number(value: float, digits: int) -> str:
    """Round to significant digits, without trailing zeros: "2.1", "140", "152300"."""
    value = float(value)
    if value and not _SMALLEST <= abs(value) < _LARGEST:
        return f"{value:.{digits}g}"
    # Adding 0 makes -0 a 0
    return np.format_float_positional(
        value + 0.0, precision=digits, unique=False, fractional=False, trim="-"
    )
