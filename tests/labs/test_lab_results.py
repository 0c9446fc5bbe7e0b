"""Single results and single columns: what is read from which text."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sklearn_medfuse.labs._lab_results import fill_in, level_key, parse_number, read_results


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("7.4", 7.4),
        (" 1200 ", 1200),
        ("<0.01", 0.01),
        (">90", 90),
        ("<= 5", 5),
        ("≥ 3", 3),
        ("≤.5", 0.5),
        ("=> 2.", 2),
        ("=4", 4),
        ("-3.5", -3.5),
        ("\u22123.5", -3.5),
        ("+5", 5),
        ("6.02E23", 6.02e23),
        ("1e-3", 1e-3),
    ],
)
def test_numbers_and_limits(text, number):
    assert parse_number(text) == number


@pytest.mark.parametrize(
    "text",
    [
        *["", "NEG", "1+", "1,200", "1.234,5", "7.4 mg/dL", "3-5", "1 2", "< ", "inf", "nan"],
        *["0x1F", "1_000", "\u0663", "<<3", "e5", "12%", "."],
    ],
)
def test_what_is_no_number(text):
    assert parse_number(text) is None


@given(number=st.floats(allow_nan=False, allow_infinity=False))
def test_a_written_number_is_read_to_the_bit(number):
    assert parse_number(repr(number)) == number
    assert parse_number(f" >= {number!r}") == number


@given(text=st.text(max_size=20))
def test_any_text_has_a_key_that_keeps_its_own(text):
    key = level_key(text)
    assert level_key(key) == key


def levels_of(cells):
    return read_results(pd.DataFrame({"lab": pd.Series(cells, dtype=object)})).levels[0]


@pytest.mark.parametrize(
    ("cells", "levels"),
    [
        (["3+", "neg", "1+", "4+", "TRACE", "2+"], ["neg", "TRACE", "1+", "2+", "3+", "4+"]),
        (["Large", "Small", "None", "Moderate"], ["None", "Small", "Moderate", "Large"]),
        (["POS", "NEG"], ["NEG", "POS"]),
        (["abnormal", "normal"], ["normal", "abnormal"]),
        (["high", "low", "normal"], ["low", "normal", "high"]),
        (["+", "++", "neg", "+++"], ["neg", "+", "++", "+++"]),
        (["3-5", "0-2", "10-20", ">50"] * 3, ["0-2", "3-5", "10-20", ">50"]),
        (["turbid", "clear", "cloudy"] * 3, ["clear", "cloudy", "turbid"]),
        (["NEG", "NEG", "purple", 5.0], ["NEG"]),
        (["NEG", "NEG", "NEG", "purple", "purple", 5.0], ["NEG"]),
        (["NEG", "NEG ", "neg", "Negative"], ["NEG"]),
        (["1", "2", "NEG"], None),
        ([1.0, "NEG"], None),
        ([None, "", "n/a", np.nan, pd.NA], None),
        (["1,2", "1,3"] * 3, None),
        (["-", "?", "..."] * 3, None),
    ],
)
def test_levels(cells, levels):
    found = levels_of(cells)
    if cells[0] == "NEG" and levels == ["NEG"]:
        assert [level_key(level) for level in found] == ["negative"]
    else:
        assert found == levels


def test_the_most_frequent_spelling_stands_for_a_level():
    assert levels_of(["Neg", "NEG", "NEG", "negative", "POS"]) == ["NEG", "POS"]


def test_the_kind_of_a_column_does_not_depend_on_the_order_of_its_rows():
    cells = ["NEG", "neg", "amber", "straw", "straw", "amber", 3, "3", None]
    expected = levels_of(cells)
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(len(cells))
        assert levels_of([cells[i] for i in order]) == expected


def test_unread_cells_are_counted_by_column():
    table = pd.DataFrame([["x", 1, "1,2"], [3, 2, "1,2"], [4, 3, None]], columns=["a", "b", 7])
    results = read_results(table)
    assert results.unread == {"column 'a'": 1, "column 2": 2}
    assert np.isnan(results.values).sum() == 4


def test_columns_of_the_same_name_are_kept_apart():
    table = pd.DataFrame([["NEG", 1.0], ["POS", 2.0]], columns=["a", "a"])
    assert read_results(table).levels == [["NEG", "POS"], None]
    unread = read_results(table.astype(object).replace({1.0: "x", "NEG": "y"}), [None, None]).unread
    assert unread == {"column 'a'": 3}


def test_categories_that_do_not_occur_are_no_levels():
    column = pd.Categorical(["NEG", "POS"], categories=["NEG", "POS", "TRACE"])
    assert read_results(pd.DataFrame({"a": column})).levels == [["NEG", "POS"]]


def test_fill_in_adds_a_category_where_it_needs_one():
    table = pd.DataFrame({"a": pd.Categorical(["NEG", None])})
    filled = fill_in(table, np.array([[0.0], [np.nan]]), np.array([[0.0], [0.9]]), [["NEG", "POS"]])
    assert filled["a"].tolist() == ["NEG", "POS"]
    assert filled["a"].cat.categories.tolist() == ["NEG", "POS"]


def test_fill_in_takes_the_nearest_level_and_stays_within_them():
    table = pd.DataFrame({"a": pd.Series([None] * 4, dtype=object)})
    expected = np.array([[-7.0], [0.4], [1.6], [99.0]])
    filled = fill_in(table, np.full((4, 1), np.nan), expected, [["NEG", "1+", "2+"]])
    assert filled["a"].tolist() == ["NEG", "NEG", "2+", "2+"]


def test_fill_in_writes_numbers_as_the_column_does():
    cells = {"text": ["1", None], "number": [1, None], "both": ["<1", None]}
    table = pd.DataFrame({name: pd.Series(column, dtype=object) for name, column in cells.items()})
    values = np.array([[1.0] * 3, [np.nan] * 3])
    filled = fill_in(table, values, np.where(np.isnan(values), 2 / 3, values), [None] * 3)
    assert filled.iloc[1].tolist() == ["0.666667", 2 / 3, "0.666667"]
    assert filled.iloc[0].tolist() == ["1", 1, "<1"]
