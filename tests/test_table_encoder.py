"""TableEncoder on columns as hospitals keep them."""

import datetime as dt
import pickle
import warnings
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import sklearn
from pandas.testing import assert_frame_equal

from sklearn_medfuse import TableEncoder

N_ROWS = 40


@pytest.fixture
def table():
    """Ages 41 to 80, two of them missing with the sex; wards of 34, 5 and 1 rows."""
    age = np.arange(41.0, 81)
    sex = np.array(["F", "M"] * 20, dtype=object)
    age[[3, 9]], sex[[3, 9]] = np.nan, None
    ward = ["ICU"] * 34 + ["burns"] * 5 + ["home of Zebulon"]
    return pd.DataFrame({"age": age, "sex": sex, "ward": ward, "smoker": [True, False] * 20})


def test_values_by_hand(table):
    encoded = TableEncoder().set_output(transform="pandas").fit_transform(table)
    assert encoded.columns.tolist() == ["age", "sex=F", "sex=M", "ward=ICU", "ward=burns", "smoker"]
    known = table["age"].dropna()
    expected = (table["age"] - known.mean()) / known.std(ddof=0)
    np.testing.assert_allclose(encoded["age"], expected.fillna(0))
    np.testing.assert_array_equal(encoded["smoker"], np.tile([1.0, -1.0], 20))
    np.testing.assert_array_equal(encoded["sex=M"], table["sex"] == "M")
    # One row is too few to learn what rare wards have in common
    np.testing.assert_array_equal(encoded.iloc[-1, 3:5], [0, 0])


def test_rare_unknown_and_missing_categories():
    wards = ["ICU"] * 10 + ["A", "B", "C"] * 2 + [None] * 6
    encoder = TableEncoder().fit(pd.DataFrame({"age": range(22), "ward": wards}))
    assert encoder.get_feature_names_out()[1:].tolist() == [
        "ward=ICU",
        "ward=(rare)",
        "ward=(missing)",
    ]
    new = pd.DataFrame({"age": 3, "ward": ["ICU", "A", "new", None, " ICU ", " "]})
    expected = [[1, 0, 0], [0, 1, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0], [0, 0, 1]]
    np.testing.assert_array_equal(encoder.transform(new)[:, 1:], expected)


def test_the_most_frequent_categories_are_kept():
    codes = np.repeat(["a", "b", "c"], [5, 7, 6])
    encoder = TableEncoder(max_categories=2).fit(pd.DataFrame({"code": codes}))
    assert encoder.categories_ == [["b", "c"]]
    assert encoder.has_rare_.all()


@pytest.mark.parametrize("routing", [False, True])
def test_patients_are_counted_where_groups_are_given(routing):
    X = pd.DataFrame(
        {"ward": ["ICU"] * 20 + ["of one patient"] * 20, "weight": [None] * 20 + [70] * 20}
    )
    groups = [*range(20), *[99] * 20]
    assert TableEncoder().fit(X).categories_ == [["ICU", "of one patient"], None]
    with (
        sklearn.config_context(enable_metadata_routing=routing),
        pytest.warns(UserWarning, match=r"1 columns \(weight\) have fewer than 5 patients"),
    ):
        encoder = TableEncoder().fit(X, groups=groups)
    assert encoder.categories_ == [["ICU"], None]
    assert np.isnan(encoder.mean_).all()
    saved = pickle.dumps(encoder)
    assert b"of one" not in saved


def test_a_row_without_any_value_is_absent(table):
    table = table.astype({"smoker": object})
    table.loc[5] = None
    encoded = TableEncoder().fit_transform(table)
    assert np.flatnonzero(np.isnan(encoded).any(axis=1)).tolist() == [5]
    assert np.isnan(encoded[5]).all()
    zeros = TableEncoder(absent="zero").fit_transform(table)
    np.testing.assert_array_equal(zeros, np.nan_to_num(encoded))


NUMBERS = {
    "objects": lambda x: x.astype(object).where(x.notna(), None),
    "Decimal": lambda x: x.map(lambda v: None if np.isnan(v) else Decimal(str(v))).astype(object),
    "Int64": lambda x: x.astype("Int64"),
    "arrow": lambda x: x.astype("double[pyarrow]"),
    "float32": lambda x: x.astype("float32"),
    "sparse": lambda x: x.astype(pd.SparseDtype(float)),
}


@pytest.mark.parametrize("kind", NUMBERS)
def test_numbers_of_every_kind(table, kind):
    other = table.assign(age=NUMBERS[kind](table["age"]))
    encoder = TableEncoder().fit(table)
    expected = encoder.transform(table)
    np.testing.assert_allclose(TableEncoder().fit_transform(other), expected)
    np.testing.assert_allclose(encoder.transform(other), expected)


TEXTS = {
    "category": lambda x: x.astype("category"),
    "string": lambda x: x.astype("string"),
    "arrow": lambda x: x.astype("string[pyarrow]"),
    "objects": lambda x: x.astype(object),
    "numbers": lambda x: x.map({"F": 1.0, "M": 2.0}).astype("category"),
    "age bands": lambda x: pd.cut(x.map({"F": 1.0, "M": 2.0}), [0, 1, 2]),
}


@pytest.mark.parametrize("kind", TEXTS)
def test_categories_of_every_kind(table, kind):
    other = table.assign(sex=TEXTS[kind](table["sex"]))
    expected = TableEncoder().fit_transform(table)
    np.testing.assert_array_equal(TableEncoder().fit_transform(other), expected)


@pytest.mark.parametrize("convert", [pl.from_pandas, pa.Table.from_pandas])
def test_other_libraries_tables(table, convert):
    encoder = TableEncoder().set_output(transform="pandas").fit(table)
    other = TableEncoder().set_output(transform="pandas").fit(convert(table))
    assert other.get_feature_names_out().tolist() == encoder.get_feature_names_out().tolist()
    assert_frame_equal(other.transform(convert(table)), encoder.transform(table))


def test_codes_are_the_same_with_and_without_missing_values():
    codes = pd.Series([1, 2] * 10, dtype="category")
    encoder = TableEncoder().fit(pd.DataFrame({"unit": codes}))
    new = pd.DataFrame({"unit": [1.0, np.nan, 2.0]})
    np.testing.assert_array_equal(encoder.transform(new)[[0, 2]], [[1, 0], [0, 1]])


def test_constant_and_empty_columns_say_nothing(table):
    X = table.assign(site=1.0, never=np.nan, few=[1.0] * 4 + [np.nan] * 36)
    with pytest.warns(UserWarning, match=r"2 columns \(never, few\)"):
        encoder = TableEncoder().fit(X)
    X[["site", "never", "few"]] = 1e300
    assert not encoder.transform(X)[:, -3:].any()


def test_a_number_far_out_is_cut_off(table):
    encoder = TableEncoder().fit(table)
    table.loc[0, "age"] = 1e308
    assert encoder.transform(table)[0, 0] == 10
    large = pd.DataFrame({"age": [1e308, -1e308] * 5})
    np.testing.assert_allclose(TableEncoder().fit_transform(large)[:2, 0], [1, -1])


@pytest.mark.parametrize(
    ("values", "error", "match"),
    [
        (pd.date_range("2020", periods=N_ROWS), TypeError, "'age'.*a number of days"),
        ([dt.date(2020, 1, 1)] * N_ROWS, TypeError, "'age'.*a number of days"),
        (pd.timedelta_range("1D", periods=N_ROWS), TypeError, "'age'.*a number of days"),
        (pd.period_range("2020", periods=N_ROWS), TypeError, "'age'.*a number of days"),
        ([["Zebulon"]] * N_ROWS, TypeError, "'age'.*neither numbers nor texts"),
        ([{"Zebulon": 1}] * N_ROWS, TypeError, "'age'.*neither numbers nor texts"),
        ([b"Zebulon"] * N_ROWS, TypeError, "'age'.*neither numbers nor texts"),
        ([np.inf] * N_ROWS, ValueError, "'age'.*infinity"),
        ([1j] * N_ROWS, ValueError, "Complex"),
    ],
    ids=["dates", "date objects", "durations", "periods", "lists", "dicts", "bytes", "inf", "j"],
)
def test_other_values_are_refused_by_name(table, values, error, match):
    encoder = TableEncoder().fit(table)
    bad = table.assign(age=values)
    for call in (encoder.transform, TableEncoder().fit):
        with pytest.raises(error, match=match) as caught:
            call(bad)
        assert "Zebulon" not in str(caught.value)


def test_an_age_given_as_text(table):
    with pytest.warns(UserWarning, match=r"1 columns \(age\) have texts that are rare in most"):
        TableEncoder().fit(table.assign(age=table["age"].astype(str)))
    encoder = TableEncoder().fit(table)
    texts = table["age"].astype(object)
    texts[:] = [str(age) for age in texts]
    texts[3] = None
    texts[9] = "> 89"
    with pytest.warns(UserWarning, match="1 values of the column 'age' are not numbers"):
        found = encoder.transform(table.assign(age=texts))
    np.testing.assert_array_equal(found, encoder.transform(table))


def test_arrays_and_lists(table):
    numbers = np.column_stack([np.arange(20.0), np.tile([0.0, 1.0], 10)])
    encoder = TableEncoder().fit(numbers)
    assert encoder.get_feature_names_out().tolist() == ["x0", "x1"]
    np.testing.assert_array_equal(encoder.transform(numbers.tolist()), encoder.transform(numbers))
    mixed = TableEncoder().fit(table[["age", "sex"]].to_numpy().tolist())
    assert mixed.categories_ == [None, ["F", "M"]]


def test_nothing_is_written_into_the_input(table):
    before = table.copy(deep=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TableEncoder().fit(table).transform(table)
    assert_frame_equal(table, before)
