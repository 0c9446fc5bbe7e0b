"""LabTextSerializer: what is written, what is not, and scikit-learn's contract for text."""

import copy

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError
from sklearn.utils import estimator_checks
from sklearn.utils._param_validation import InvalidParameterError
from sklearn.utils.estimator_checks import parametrize_with_checks

from sklearn_medfuse import LabTextSerializer

RANGES = {"creatinine": (0.6, 1.2), "sodium": (135, 145)}
UNITS = {"creatinine": "mg/dL", "sodium": "mmol/L"}
BOTH_ABNORMAL = "creatinine 2.1 mg/dL (high); sodium 128 mmol/L (low)"


@pytest.fixture
def frame():
    """Both abnormal, none, one measured, nothing measured."""
    return pd.DataFrame(
        {"creatinine": [2.1, 0.9, np.nan, np.nan], "sodium": [128.0, 140.0, 150.0, np.nan]}
    )


def texts(serializer, X):
    return serializer.fit_transform(X)[:, 0].tolist()


# What is written


def test_abnormal_results_by_reference_range(frame):
    assert texts(LabTextSerializer(RANGES, units=UNITS), frame) == [
        BOTH_ABNORMAL,
        None,
        "sodium 150 mmol/L (high)",
        None,
    ]


def test_all_measured_results(frame):
    assert texts(LabTextSerializer(RANGES, abnormal_only=False, units=UNITS), frame) == [
        BOTH_ABNORMAL,
        "creatinine 0.9 mg/dL; sodium 140 mmol/L",
        "sodium 150 mmol/L (high)",
        None,
    ]


def test_normal_text_is_for_rows_with_measured_labs_only(frame):
    found = texts(LabTextSerializer(RANGES, normal_text="all normal"), frame)
    assert found[1] == "all normal"
    assert found[3] is None


def test_limits_belong_to_the_range():
    X = pd.DataFrame({"sodium": [135.0, 145.0, 134.9, 145.1]})
    found = texts(LabTextSerializer({"sodium": (135, 145)}), X)
    assert found == [None, None, "sodium 134.9 (low)", "sodium 145.1 (high)"]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_limits_belong_to_the_range_in_every_precision(dtype):
    X = np.array([[0.1], [0.7]], dtype=dtype)
    assert texts(LabTextSerializer({"lab 0": (0.1, 0.7)}), X) == [None, None]


@pytest.mark.parametrize("nothing", [None, np.nan])
def test_open_ranges(nothing):
    X = np.array([[-1e6, 1e6]])
    found = texts(LabTextSerializer({"lab 0": (nothing, 5), "lab 1": (5, nothing)}), X)
    assert found == [None]
    found = texts(LabTextSerializer({"lab 0": (5, nothing), "lab 1": (nothing, 5)}), X)
    assert found == ["lab 0 -1000000 (low); lab 1 1000000 (high)"]


def test_training_quantiles_where_there_is_no_range():
    X = np.arange(101.0)[:, None]
    serializer = LabTextSerializer(quantiles=(0.1, 0.8)).fit(X)
    assert (serializer.low_.item(), serializer.high_.item()) == (10, 80)
    found = serializer.transform([[9.0], [10.0], [80.0], [81.0]])[:, 0].tolist()
    assert found == ["lab 0 9 (low)", None, None, "lab 0 81 (high)"]


QUANTILES = [(0.05, 0.95), (0.0, 1.0), (0.25, 0.5)]


def test_a_reference_range_goes_before_quantiles(frame):
    serializer = LabTextSerializer({"sodium": (0, 1000)}).fit(frame)
    assert serializer.low_[1] == 0
    assert np.isnan(serializer.low_[0])  # Of two values there is no quantile


def test_limits_are_the_means_of_five_values_around_the_quantiles():
    X = np.random.default_rng(0).permutation(np.arange(101.0))[:, None] ** 2
    at = {quantiles: LabTextSerializer(quantiles=quantiles).fit(X) for quantiles in QUANTILES}
    for (low, high), serializer in at.items():
        for found, quantile in ((serializer.low_[0], low), (serializer.high_[0], high)):
            middle = np.clip(100 * quantile, 2, 98)
            assert found == np.mean((middle + np.arange(-2, 3)) ** 2)


@pytest.mark.parametrize("n_rows", [19, 20])
def test_fewer_than_twenty_values_judge_nothing(n_rows):
    serializer = LabTextSerializer().fit(np.arange(float(n_rows))[:, None])
    assert np.isnan(serializer.low_[0]) == (n_rows < 20)


def test_a_lab_never_measured_in_fit_is_written_but_not_judged():
    serializer = LabTextSerializer(abnormal_only=False).fit([[1.0, np.nan], [2.0, np.nan]])
    assert np.isnan(serializer.low_[1])
    assert serializer.transform([[np.nan, 7.0]]).item() == "lab 1 7"


def test_values_under_missing_cells_of_other_rows_do_not_matter(labs):
    serializer = LabTextSerializer().fit(labs)
    alone = [serializer.transform(row[None]).item() for row in labs]
    assert serializer.transform(labs)[:, 0].tolist() == alone


def test_empty_units_leave_no_gap():
    found = texts(LabTextSerializer({"lab 0": (1, 2)}, units={"lab 0": ""}), [[3.0]])
    assert found == ["lab 0 3 (high)"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2.1, "2.1"),
        (np.float32(2.1), "2.1"),
        (140.0, "140"),
        (0.1 + 0.2, "0.3"),
        (7.3849, "7.385"),
        (152349.0, "152300"),
        (0.012, "0.012"),
        (0.0, "0"),
        (-0.0, "0"),
        (-12.5, "-12.5"),
        (1e300, "1e+300"),
        (1.5e-9, "1.5e-09"),
    ],
)
def test_numbers(value, text):
    serializer = LabTextSerializer(abnormal_only=False)
    assert texts(serializer, [[value]]) == [f"lab 0 {text}"]


@given(st.floats(-1e307, 1e307), st.integers(1, 15))
def test_numbers_are_right_to_their_digits(value, digits):
    serializer = LabTextSerializer(abnormal_only=False, significant_digits=digits)
    (text,) = texts(serializer, [[value]])
    text = text.removeprefix("lab 0 ")
    assert float(text) == pytest.approx(value, rel=0.5001 * 10 ** (1 - digits), abs=1e-320)
    assert len(text) <= digits + 12


def test_significant_digits():
    found = texts(LabTextSerializer({"lab 0": (1, 2)}, significant_digits=2), [[7.3849]])
    assert found == ["lab 0 7.4 (high)"]


def test_qualitative_labs_by_the_order_of_their_levels():
    X = pd.DataFrame({"ketones": ["NEG"] * 20 + ["TRACE"] * 20 + ["3+"] * 2 + [None]})
    found = texts(LabTextSerializer(units={"ketones": "dipstick"}), X)
    assert found == [None] * 40 + ["ketones 3+ dipstick (high)"] * 2 + [None]
    found = texts(LabTextSerializer(abnormal_only=False), X)
    assert found[::20] == ["ketones NEG", "ketones TRACE", "ketones 3+ (high)"]


def test_censored_numbers_are_read():
    X = pd.DataFrame({"troponin": ["<0.01", "0.5"]})
    found = texts(LabTextSerializer({"troponin": (None, 0.04)}, abnormal_only=False), X)
    assert found == ["troponin 0.01", "troponin 0.5 (high)"]


# In a pipeline


def test_no_text_is_no_note(frame, note_encoder):
    text = LabTextSerializer(RANGES).fit_transform(frame)
    embedding = note_encoder().fit_transform(text)
    np.testing.assert_array_equal(np.isnan(embedding).all(axis=1), [False, True, False, True])


def test_names_of_the_output(frame):
    serializer = LabTextSerializer().fit(frame)
    assert serializer.get_feature_names_out().tolist() == ["lab_text"]
    with pytest.raises(ValueError, match="feature_names_in_"):
        serializer.get_feature_names_out(["potassium", "sodium"])
    named = LabTextSerializer(column_name="abnormal labs").fit(frame)
    assert named.get_feature_names_out().tolist() == ["abnormal labs"]


def test_column_transformer_with_pandas(frame):
    frame.index = list("abcd")
    encode = ColumnTransformer([("text", LabTextSerializer(RANGES), ["creatinine", "sodium"])])
    out = encode.set_output(transform="pandas").fit_transform(frame)
    assert out.index.tolist() == list("abcd")
    assert out.columns.tolist() == ["text__lab_text"]
    assert out.iloc[:, 0].isna().tolist() == [False, True, False, True]


# Errors


@pytest.mark.parametrize("parameter", ["reference_ranges", "units"])
def test_unknown_labs_are_named_with_the_parameter(frame, parameter):
    entry = (1, 2) if parameter == "reference_ranges" else "mmol/L"
    with pytest.raises(ValueError, match=rf"{parameter} names \['natrium'\]"):
        LabTextSerializer(**{parameter: {"natrium": entry, "sodium": entry}}).fit(frame)


@pytest.mark.parametrize("limits", [(2, 1), 5, (1, 2, 3), ("a", "b"), "ab", None])
def test_wrong_ranges_are_refused(frame, limits):
    with pytest.raises(ValueError, match=r"reference_ranges\['sodium'\]"):
        LabTextSerializer({"sodium": limits}).fit(frame)


def test_wrong_units_are_refused(frame):
    with pytest.raises(ValueError, match=r"units\['sodium'\] is of type int"):
        LabTextSerializer(units={"sodium": 3}).fit(frame)


@pytest.mark.parametrize("quantiles", [(0.9, 0.1), (0.5,), (-0.1, 0.5), (0.5, 1.1), ("a", 1)])
def test_wrong_quantiles_are_refused(frame, quantiles):
    with pytest.raises(ValueError, match="quantiles="):
        LabTextSerializer(quantiles=quantiles).fit(frame)


@pytest.mark.parametrize(
    "parameter",
    [
        {"reference_ranges": [1]},
        {"abnormal_only": "yes"},
        {"units": "mg"},
        {"quantiles": 0.05},
        {"significant_digits": 0},
        {"normal_text": 1},
        {"column_name": None},
    ],
    ids=lambda parameter: next(iter(parameter)),
)
def test_impossible_parameter_values_are_refused(frame, parameter):
    with pytest.raises(InvalidParameterError, match=next(iter(parameter))):
        LabTextSerializer(**parameter).fit(frame)


def test_not_fitted(frame):
    for call in (LabTextSerializer().transform, LabTextSerializer().get_feature_names_out):
        with pytest.raises(NotFittedError):
            call(frame)


def test_text_among_the_numbers_is_not_measured_and_not_shown(frame):
    expected = LabTextSerializer(RANGES).fit(frame).transform(frame)
    expected[2] = None
    bad = frame.astype(object)
    bad.iloc[2, 1] = "Zebulon Quixote"
    serializer = LabTextSerializer(RANGES).fit(frame)
    with pytest.warns(UserWarning, match="1 results could not be read") as caught:
        found = serializer.transform(bad)
    assert "Zebulon" not in str(caught[0].message)
    np.testing.assert_array_equal(found, expected)


def test_free_text_is_refused_and_not_shown():
    X = pd.DataFrame({"a": [f"Zebulon Quixote fell {i} times on the ward" for i in range(9)]})
    with pytest.raises(ValueError, match="free text") as caught:
        LabTextSerializer().fit(X)
    assert "Zebulon" not in str(caught.value)


def test_a_reference_range_of_words_is_refused():
    X = pd.DataFrame({"ketones": ["NEG", "TRACE", "NEG"]})
    with pytest.raises(ValueError, match=r"reference_ranges\['ketones'\] is for a column"):
        LabTextSerializer({"ketones": (0, 1)}).fit(X)


def test_sparse_data_is_refused(labs):
    with pytest.raises(TypeError, match="needs dense data"):
        LabTextSerializer().fit(sparse.csr_array(np.nan_to_num(labs)))


# The contract of scikit-learn


@pytest.fixture
def text_is_compared_as_text(monkeypatch):
    """scikit-learn compares outputs by their difference, which texts do not have."""

    def equal(compare):
        def compare_either(actual, desired, *args, **kwargs):
            if getattr(actual, "dtype", None) == np.dtype(object):
                np.testing.assert_array_equal(actual, desired)
            else:
                compare(actual, desired, *args, **kwargs)

        return compare_either

    for name in ("assert_allclose", "assert_allclose_dense_sparse"):
        monkeypatch.setattr(estimator_checks, name, equal(getattr(estimator_checks, name)))


@pytest.mark.usefixtures("text_is_compared_as_text")
@parametrize_with_checks([LabTextSerializer(), LabTextSerializer(abnormal_only=False)])
def test_scikit_learn_checks(estimator, check):
    check(estimator)


def test_every_parameter_has_constraints():
    parameters = LabTextSerializer().get_params()
    assert set(LabTextSerializer._parameter_constraints) == set(parameters)


def test_parameters_and_input_are_not_changed(frame):
    ranges, before = copy.deepcopy(RANGES), frame.copy()
    serializer = LabTextSerializer(ranges, units=UNITS)
    serializer.fit_transform(frame)
    assert ranges == RANGES
    assert serializer.reference_ranges is ranges
    assert clone(serializer).get_params() == serializer.get_params()
    pd.testing.assert_frame_equal(frame, before)


def test_fitted_attributes_are_limits_and_names(frame):
    serializer = LabTextSerializer(RANGES).fit(frame)
    learned = set(vars(serializer)) - set(serializer.get_params())
    assert learned == {"n_features_in_", "feature_names_in_", "levels_", "low_", "high_"}
    np.testing.assert_array_equal(serializer.low_, [0.6, 135])
    np.testing.assert_array_equal(serializer.high_, [1.2, 145])


def test_round_trips_write_the_same(frame, round_trip):
    serializer = LabTextSerializer(RANGES, units=UNITS, normal_text="normal").fit(frame)
    loaded = round_trip(serializer)
    assert loaded.get_params() == serializer.get_params()
    np.testing.assert_array_equal(loaded.transform(frame), serializer.transform(frame))
