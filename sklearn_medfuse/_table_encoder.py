"""TableEncoder: age, sex, history and other ordinary columns as one vector per row."""

import warnings
from decimal import Decimal
from numbers import Integral, Real

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import check_array, check_consistent_length
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted, validate_data

from ._input_data import no_values_in_errors, to_pandas
from ._state import VersionedStateMixin

# A number further from the mean, in standard deviations, counts as a typing error
_FURTHEST = 10.0
_CELLS = (str, Real, Decimal, np.bool_, pd.Interval)
_RARE, _MISSING = "(rare)", "(missing)"


class TableEncoder(VersionedStateMixin, TransformerMixin, BaseEstimator):
    """Encode ordinary columns, numbers and categories, as one vector without missing values.

    Age, sex, ward, diagnoses of earlier stays: a modality of `MEDFuseClassifier` beside labs and
    notes, as in ``make_medfuse_pipeline(tables={"demographics": ["age", "sex"]})``.

    Numbers and booleans are standardised, and a missing one becomes the mean; each text or category
    gets a column of 0 and 1. Rare categories share a column, which unknown ones join in
    `transform`, and a column of 0 and 1 says where a value is missing.

    Parameters
    ----------
    min_patients : int, default=5
        Minimum number of patients, or of rows without `groups`, with a category. A column, its rare
        values and its missing values also need that many patients to be learned from.
    max_categories : int, default=50
        Maximum number of categories of a column; the most frequent are kept.
    absent : {"nan", "zero"}, default="nan"
        Output for a row whose columns are all missing: NaN, which `MEDFuseClassifier` reads as
        absent, or zeros.

    Attributes
    ----------
    mean_, scale_ : ndarray of shape (`n_features_in_`,)
        Mean and standard deviation of numbers; NaN for categories, and for numbers that are
        constant or that too few patients have.
    categories_ : list of (list of str, or None)
        Categories of each column in alphabetical order; None for numbers.
    has_rare_, has_missing_ : ndarray of shape (`n_features_in_`,)
        Which columns have an output for rare categories, or for missing values.
    n_features_in_ : int
        Number of columns.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Their names; only when X had string column names.

    See Also
    --------
    MaskedLabEncoder : Encodes labs, most of which are missing.
    sklearn.preprocessing.OneHotEncoder : Encodes categories; it keeps rare ones by name.

    Notes
    -----
    A text column is read as categories even if its texts are numbers, as codes are. If they are
    rare in most rows, a warning says so: convert them if they are numbers. Texts are compared
    without surrounding blanks; a blank one is missing. A text in a column of numbers is read as a
    number; if it is not one, it counts as missing, with a warning. Numbers are cut off ten standard
    deviations from the mean. Dates are refused: a model needs durations.

    The fitted encoder holds no category of fewer than `min_patients`, and no value of a single row.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn_medfuse import TableEncoder
    >>> X = pd.DataFrame({"age": [60, 70, 80, None] * 5, "sex": ["F", "M", "F", "M"] * 5})
    >>> encoder = TableEncoder().fit(X)
    >>> encoder.get_feature_names_out()
    array(['age', 'age=(missing)', 'sex=F', 'sex=M'], dtype=object)
    >>> encoder.transform(X[:2]).round(2)
    array([[-1.22,  0.  ,  1.  ,  0.  ],
           [ 0.  ,  0.  ,  0.  ,  1.  ]])
    """

    # Requested by default under metadata routing, as by scikit-learn's group splitters
    __metadata_request__fit = {"groups": True}

    categories_: list[list[str] | None]

    _parameter_constraints: dict = {
        "min_patients": [Interval(Integral, 1, None, closed="left")],
        "max_categories": [Interval(Integral, 1, None, closed="left")],
        "absent": [StrOptions({"nan", "zero"})],
    }

    def __init__(self, *, min_patients=5, max_categories=50, absent="nan"):
        self.min_patients = min_patients
        self.max_categories = max_categories
        self.absent = absent

    def fit(self, X, y=None, groups=None):
        """Learn means, standard deviations and categories.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_rows, n_columns)
            Numbers, booleans, texts and categories; None and NaN are missing.
        y : object, default=None
            Ignored.
        groups : array-like of shape (n_rows,), default=None
            Patient of each row; `min_patients` counts rows without them.

        Returns
        -------
        TableEncoder
            The fitted encoder.

        Raises
        ------
        ValueError, TypeError
            If a column holds dates, infinity or objects that are neither numbers nor texts.
        """
        self._validate_params()
        X = self._read(X, reset=True)
        patients = np.arange(len(X))
        if groups is not None:
            check_consistent_length(X, groups)
            patients = pd.factorize(np.asarray(groups))[0]
        self.mean_, self.scale_ = np.full((2, X.shape[1]), np.nan)
        self.has_rare_, self.has_missing_ = np.zeros((2, X.shape[1]), dtype=bool)
        self.categories_ = []
        few, mostly_rare = [], []
        for i, name in enumerate(X.columns):
            values, is_number = _read_column(X.iloc[:, i], name)
            known = values.notna().to_numpy()
            learned = self._enough(known, patients)
            self.has_missing_[i] = learned and self._enough(~known, patients)
            self.categories_.append(None if is_number else [])
            if not learned:
                few.append(str(name))
            elif is_number:
                self._learn_scale(i, values[known].to_numpy())
            else:
                rare = self._learn_categories(i, values, patients)
                if rare.sum() > known.sum() / 2:
                    mostly_rare.append(str(name))
        if few:
            _warn(few, f"fewer than {self.min_patients} patients with a value and are ignored")
        if mostly_rare:
            _warn(
                mostly_rare,
                "texts that are rare in most rows and are read as one category. Convert them if "
                "they are numbers",
            )
        return self

    def transform(self, X):
        """Encode rows.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_rows, n_columns)
            The columns of fit.

        Returns
        -------
        ndarray of shape (n_rows, n_outputs)
            The vectors; NaN or zeros, as set by `absent`, where all columns are missing.
        """
        check_is_fitted(self)
        X = self._read(X, reset=False)
        blocks, absent = [], np.ones(len(X), dtype=bool)
        for i, (name, categories) in enumerate(zip(X.columns, self.categories_, strict=True)):
            values, _ = _read_column(X.iloc[:, i], name, categories is None)
            missing = values.isna().to_numpy()
            absent &= missing
            if categories is None:
                numbers = values.to_numpy()
                with np.errstate(over="ignore"):
                    scaled = (numbers - self.mean_[i]) / self.scale_[i]
                blocks.append(np.nan_to_num(scaled).clip(-_FURTHEST, _FURTHEST)[:, None])
            else:
                place = pd.Index(categories, dtype=object).get_indexer(values)
                blocks.append(place[:, None] == np.arange(len(categories)))
                if self.has_rare_[i]:
                    blocks.append((~missing & (place < 0))[:, None])
            if self.has_missing_[i]:
                blocks.append(missing[:, None])
        encoded = np.hstack([np.zeros((len(X), 0)), *blocks])
        encoded[absent] = np.nan if self.absent == "nan" else 0.0
        return encoded

    def get_feature_names_out(self, input_features=None):
        """Name the outputs: "age", "age=(missing)", "sex=F", "ward=(rare)".

        Parameters
        ----------
        input_features : array-like of str, default=None
            Names of the columns; None takes those of fit.

        Returns
        -------
        ndarray of shape (n_outputs,)
            The names.
        """
        check_is_fitted(self)
        found = []
        for i, name in enumerate(_check_feature_names_in(self, input_features)):
            categories = self.categories_[i]
            found += [name] if categories is None else [f"{name}={each}" for each in categories]
            found += [f"{name}={_RARE}"] if self.has_rare_[i] else []
            found += [f"{name}={_MISSING}"] if self.has_missing_[i] else []
        return np.array(found, dtype=object)

    def _read(self, X, reset: bool) -> pd.DataFrame:
        """Check X as scikit-learn does; return it as a DataFrame."""
        X = to_pandas(X)
        with no_values_in_errors():
            if not isinstance(X, pd.DataFrame) or not X.size:
                # NumPy turns a list of numbers and texts into texts
                X = X if hasattr(X, "dtype") else np.array(X, dtype=object)
                X = check_array(X, dtype=None, ensure_all_finite=False, estimator=self)
            validate_data(self, X, reset=reset, skip_check_array=True)
        return pd.DataFrame(X)

    def _enough(self, rows: np.ndarray, patients: np.ndarray) -> bool:
        return len(np.unique(patients[rows])) >= self.min_patients

    def _learn_scale(self, i: int, values: np.ndarray) -> None:
        # Divided first, as squares of large numbers overflow
        largest = np.abs(values).max()
        if values.min() < values.max():
            self.mean_[i] = (values / largest).mean() * largest
            self.scale_[i] = (values / largest).std() * largest

    def _learn_categories(self, i: int, values: pd.Series, patients: np.ndarray) -> np.ndarray:
        """Keep the frequent categories of a column; return where rare ones stand."""
        of_patients = pd.DataFrame({"category": values.to_numpy(), "patient": patients})
        counts = of_patients.drop_duplicates()["category"].value_counts()
        frequent = counts[counts >= self.min_patients].sort_index()
        kept = frequent.sort_values(ascending=False, kind="stable").index[: self.max_categories]
        rare = values.notna().to_numpy() & ~values.isin(kept).to_numpy()
        self.categories_[i] = sorted(kept)
        self.has_rare_[i] = self._enough(rare, patients)
        return rare

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.string = True
        tags.input_tags.categorical = True
        return tags


def _warn(names: list[str], what: str) -> None:
    listed = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
    warnings.warn(f"{len(names)} columns ({listed}) have {what}.", UserWarning, stacklevel=3)


def _read_column(column: pd.Series, name, as_number: bool | None = None) -> tuple[pd.Series, bool]:
    """Floats or texts of a column, some of them missing, and whether they are floats.

    `as_number` is what fit found, None in fit.
    """
    kind = column.dtype.kind
    if kind == "c":
        raise ValueError("Complex data not supported.")
    if kind in "fiub" and as_number is not False:
        numbers = column.to_numpy(np.float64, na_value=np.nan)
    else:
        try:
            codes, distinct = pd.factorize(column)
            if not all(isinstance(value, _CELLS) for value in distinct):
                raise TypeError
        except TypeError:
            raise TypeError(
                f"The column {name!r} of X holds values that are neither numbers nor texts. Leave "
                "it out, or convert it: dates to a number of days, for example."
            ) from None
        if as_number is None:
            is_category = isinstance(column.dtype, pd.CategoricalDtype)
            as_number = not is_category and not any(
                isinstance(value, str | pd.Interval) for value in distinct
            )
        # The last entry is what code -1 means
        if not as_number:
            texts = np.array([*map(_to_text, distinct), None], dtype=object)
            return pd.Series(texts[codes], dtype=object), False
        numbers = np.array([*map(_to_number, distinct), np.nan], dtype=np.float64)[codes]
        if n_unread := (np.isnan(numbers) & (codes >= 0)).sum():
            warnings.warn(
                f"{n_unread} values of the column {name!r} are not numbers, unlike those of fit, "
                "and count as missing.",
                UserWarning,
                stacklevel=4,
            )
    if np.isinf(numbers).any():
        raise ValueError(f"The column {name!r} of X contains infinity; NaN means missing.")
    return pd.Series(numbers), True


def _to_text(value) -> str | None:
    if isinstance(value, float) and value.is_integer():
        # The same category from a column of integers and from one with missing values
        value = int(value)
    return str(value).strip() or None


def _to_number(value) -> float:
    if isinstance(value, pd.Interval):
        return np.nan
    try:
        return float(value)
    except ValueError:
        return np.nan
