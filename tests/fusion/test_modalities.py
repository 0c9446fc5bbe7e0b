"""Which columns form a modality, which rows lack it, and how it is scaled."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.preprocessing import StandardScaler

from sklearn_medfuse import MEDFuseClassifier
from sklearn_medfuse.pipeline import MEDFusePipeline

TINY = {"d_model": 4, "n_heads": 2, "n_estimators": 1, "max_epochs": 1, "linear_weight": 0.0}
Y = np.arange(20) % 2


def fit(X, **params):
    return MEDFuseClassifier(**TINY | params, device="cpu", random_state=0).fit(X, Y[: len(X)])


def columns_of(X, **params):
    return {name: own.tolist() for name, own in fit(X, **params).modalities_.items()}


def frame_of(columns, n=20):
    X = np.random.default_rng(0).normal(size=(n, len(columns)))
    return pd.DataFrame(X, columns=columns)


@pytest.fixture
def X():
    return np.random.default_rng(0).normal(size=(20, 5))


# Columns


def test_prefixes_of_a_data_frame():
    frame = frame_of(["labs__a", "notes__b", "labs__c__d", "notes__e"])
    assert columns_of(frame) == {"labs": [0, 2], "notes": [1, 3]}


@pytest.mark.parametrize("columns", [["a", "b"], None])
def test_columns_without_prefixes_are_one_modality(columns):
    frame = frame_of(columns or [0, 1])
    assert columns_of(frame if columns else frame.to_numpy()) == {"features": [0, 1]}


def as_polars(frame):
    return pytest.importorskip("polars").from_pandas(frame)


@pytest.mark.parametrize("library", [pd.DataFrame, as_polars, pa.Table.from_pandas])
def test_a_frame_of_any_library_has_modalities_and_predicts_like_any_other(library):
    frame = frame_of(["labs__a", "labs__b", "notes__token0_0", "notes__token1_0"])
    frame.iloc[:3, 2:] = np.nan
    other = library(frame)
    expected, found = fit(frame), fit(other)
    assert list(found.modalities_) == ["labs", "notes"]
    assert found.n_input_tokens_ == {"labs": 0, "notes": 2}
    for model, X in ((expected, other), (found, frame), (found, other)):
        np.testing.assert_array_equal(model.predict_proba(X), expected.predict_proba(frame))
    with pytest.raises(ValueError, match="feature names"):
        found.predict(library(frame.iloc[:, ::-1]))


def test_prefixes_on_some_columns_only_are_refused():
    with pytest.raises(ValueError, match=r"1 of the 2 column names .* set_output"):
        fit(frame_of(["labs__a", "b"]))


def test_many_columns_without_prefixes_warn_that_they_are_one_modality():
    frame = frame_of([f"x{i}" for i in range(40)])
    for X in (frame, frame.to_numpy()):
        with pytest.warns(UserWarning, match="all 40 columns are one modality") as told:
            fit(X)
        assert [warning.filename for warning in told] == [__file__]
        assert columns_of(X, fusion="labs") == {"labs": list(range(40))}
        assert list(columns_of(X, modalities={"features": 40})) == ["features"]


@pytest.mark.parametrize("output", ["pandas", "polars", "default"])
def test_blocks_of_a_column_transformer_need_names(output):
    if output == "polars":
        pytest.importorskip("polars")
    frame = frame_of(["a", "b", "c"])
    both = [("labs", StandardScaler(), ["a"]), ("notes", StandardScaler(), ["b", "c"])]

    def fit_both(blocks, **params):
        encode = ColumnTransformer(blocks, **params).set_output(transform=output)
        classifier = MEDFuseClassifier(**TINY, device="cpu", random_state=0)
        return MEDFusePipeline([("encode", encode), ("medfuse", classifier)]).fit(frame, Y)

    assert len(fit_both([both[0], ("rest", "drop", ["b"])])[-1].modalities_) == 1
    if output == "default":
        with pytest.raises(ValueError, match=r"'labs', 'notes'.*set_output"):
            fit_both(both)
    else:
        assert list(fit_both(both)[-1].modalities_) == ["labs", "notes"]
        with pytest.raises(ValueError, match="verbose_feature_names_out"):
            fit_both(both, verbose_feature_names_out=False)


@pytest.mark.parametrize(
    ("modalities", "expected"),
    [
        ({"labs": 2, "notes": 3}, {"labs": [0, 1], "notes": [2, 3, 4]}),
        ({"labs": np.int64(5)}, {"labs": [0, 1, 2, 3, 4]}),
        ({"notes": slice(2, None), "labs": slice(0, 2)}, {"notes": [2, 3, 4], "labs": [0, 1]}),
        ({"a": slice(0, None, 2), "b": slice(1, None, 2)}, {"a": [0, 2, 4], "b": [1, 3]}),
    ],
)
def test_numbers_of_columns_and_slices(X, modalities, expected):
    assert columns_of(X, modalities=modalities) == expected


@pytest.mark.parametrize(
    "modalities",
    [
        {"labs": 2, "notes": 2},
        {"labs": 2, "notes": 4},
        {"labs": slice(0, 3), "notes": slice(2, 5)},
        {"labs": slice(0, 5), "notes": slice(5, 5)},
        {"labs": 5, "notes": slice(0, 5)},
        {},
    ],
)
def test_every_column_belongs_to_exactly_one_modality(X, modalities):
    with pytest.raises(ValueError, match="exactly once"):
        fit(X, modalities=modalities)


@pytest.mark.parametrize("which", [0, -1, True, 2.0, "2", [0, 1], None])
def test_what_names_no_columns_is_refused(X, which):
    with pytest.raises(ValueError, match="number of columns or a slice"):
        fit(X, modalities={"labs": which, "notes": 3})


# Tokens


def token_frame(n_tokens=3, width=2, n=20):
    return frame_of(
        ["labs__0", *(f"notes__token{t}_{i}" for t in range(n_tokens) for i in range(width))], n
    )


def test_tokens_are_known_by_their_names():
    X = token_frame()
    assert fit(X).n_input_tokens_ == {"labs": 0, "notes": 3}
    assert fit(X, input_tokens={"notes": 2}).n_input_tokens_ == {"labs": 0, "notes": 2}
    sizes = {"labs": 1, "notes": 6}
    assert fit(X.to_numpy(), modalities=sizes).n_input_tokens_ == {"labs": 0, "notes": 0}


def test_tokens_out_of_order_are_refused():
    X = token_frame()
    with pytest.raises(ValueError, match="without gaps"):
        fit(X[[X.columns[0], *X.columns[:0:-1]]])


@pytest.mark.parametrize("tokens", [{"letters": 2}, {"notes": 4}, {"notes": 0}, {"notes": 1.5}])
def test_impossible_numbers_of_tokens_are_refused(tokens):
    with pytest.raises(ValueError, match="input_tokens"):
        fit(token_frame(), input_tokens=tokens)


# Absence and scaling

SIZES = {"labs": 2, "notes": 3}


def predict(X, **params):
    params = {"modalities": SIZES, "linear_weight": 0.5, "precision": "float64"} | params
    return fit(X, **params).predict_proba(X)


@pytest.fixture
def gaps(X):
    """Rows without labs, without notes and without either."""
    X[3:6, :2], X[5:9, 2:] = np.nan, np.nan
    return X


def test_a_block_of_nan_is_absent(gaps):
    """Absence adds the same to every row that lacks the modality alone."""
    model = fit(gaps, modalities=SIZES, fusion="late", linear_weight=0.5)
    said = model.contributions(gaps)
    for part, missing in ((0, slice(3, 5)), (1, slice(6, 9))):
        spread = np.ptp(said[:, part], axis=0)
        assert (spread > 1e-4).all()
        assert (np.ptp(said[missing, part], axis=0) < 1e-9).all()


def test_a_block_that_is_nan_in_part_is_refused_without_showing_values(X):
    X[1, :2] = 31337.5, np.nan
    with pytest.raises(ValueError, match="first at position 1") as caught:
        fit(X, modalities={"labs": 2, "notes": 3})
    message = str(caught.value)
    assert "'labs'" in message
    assert "set_output(transform='pandas')" in message
    assert "31337" not in message


@pytest.mark.parametrize("scaling", ["column", "block", {"labs": "block"}])
def test_units_of_the_columns_do_not_matter(gaps, scaling):
    """Those of a block scaled as one may change together only."""
    expected = predict(gaps, input_scaling=scaling)
    together = gaps * [3.0, 3.0, 50.0, 50.0, 50.0] + [7.0, -1.0, 0.0, 5.0, 1e4]
    np.testing.assert_allclose(predict(together, input_scaling=scaling), expected, atol=1e-6)
    for column, name in ((0, "labs"), (4, "notes")):
        alone = gaps.copy()
        alone[:, column] *= 10
        found = predict(alone, input_scaling=scaling)
        by_block = scaling == "block" or (isinstance(scaling, dict) and name in scaling)
        assert np.allclose(found, expected, atol=1e-6) == (not by_block)


def test_weights_of_scaling_are_repeated_rows(gaps):
    weight = np.arange(20) % 4
    options = {"modalities": SIZES, "fusion": "late", "batch_size": 1000, "dropout": 0.0}
    model = MEDFuseClassifier(**TINY | options, precision="float64", device="cpu", random_state=0)
    expected = model.fit(gaps.repeat(weight, axis=0), Y.repeat(weight)).transform(gaps)
    found = model.fit(gaps, Y, sample_weight=weight).transform(gaps)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("value", [0.0, 7.0, 0.1])
def test_constant_columns_say_nothing(X, value):
    zero, constant = X.copy(), X.copy()
    zero[:, :2], constant[:, :2] = 0.0, value
    np.testing.assert_allclose(predict(constant), predict(zero), atol=1e-6)


def test_a_modality_that_is_always_absent_may_come_later(X):
    present = X.copy()
    X[:, :2] = np.nan
    model = fit(X, modalities=SIZES, linear_weight=0.5)
    assert np.isfinite(model.predict_proba(present)).all()


def test_tokens_are_scaled_alike_wherever_they_stand():
    X = token_frame(n=50).to_numpy(copy=True)
    X[1:, 5:] = np.nan  # The last token is there once
    options = {"modalities": {"labs": 1, "notes": 6}, "input_tokens": {"notes": 3}}
    tokens = np.tile([10.0, 0.1], 3)
    moved = X * [1.0, *tokens] + [0.0, *tokens]
    Y_50 = np.arange(50) % 2
    found, expected = (
        MEDFuseClassifier(**TINY | options, precision="float64", device="cpu", random_state=0)
        .fit(each, Y_50)
        .predict_proba(each)
        for each in (moved, X)
    )
    np.testing.assert_allclose(found, expected, atol=1e-6)
    # A value means the same at each place: a shift of one place alone is seen
    moved[:, 1] += 5
    other = (
        MEDFuseClassifier(**TINY | options, precision="float64", device="cpu", random_state=0)
        .fit(moved, Y_50)
        .predict_proba(moved)
    )
    assert not np.allclose(other, expected, atol=1e-6)


def test_a_token_may_be_absent_but_not_in_part():
    X = np.ones((20, 6))
    X[0, 4:], X[1] = np.nan, np.nan
    options = {"modalities": {"notes": 6}, "input_tokens": {"notes": 3}}
    assert np.isfinite(fit(X, **options).predict_proba(X)).all()
    X[2, 3] = np.nan
    with pytest.raises(ValueError, match="in a token"):
        fit(X, **options)


@pytest.mark.parametrize("wrong", [{"letters": "block"}, {"labs": "none"}])
def test_impossible_scaling_is_refused(X, wrong):
    with pytest.raises(ValueError, match="input_scaling"):
        fit(X, modalities={"labs": 2, "notes": 3}, input_scaling=wrong)
