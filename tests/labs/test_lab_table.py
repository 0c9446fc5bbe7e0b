"""Tables as hospitals have them: in many forms, with results in words, read and filled in."""

import pickle
import tracemalloc
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import skops.io
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.base import clone
from sklearn.tree import DecisionTreeClassifier

from sklearn_medfuse import BoostedLabEncoder, LabTextSerializer, MaskedLabEncoder
from sklearn_medfuse.labs._lab_table import fill_in, read_results
from sklearn_medfuse.persistence import load_model, save_model

CANARY = "Zebulon Quixote"
NAMES = list("abcdef")
FEW = settings(max_examples=8, deadline=None)
SEEDS = st.integers(0, 2**32 - 1)


def make(**params):
    small = {"n_components": 3, "d_model": 8, "n_heads": 2, "n_layers": 1, "max_epochs": 1}
    return MaskedLabEncoder(**small | {"device": "cpu", "random_state": 0} | params)


def draw_labs(seed, n_rows=14, n_labs=4):
    """A random table with gaps and zeros, in which every lab is measured often enough to learn."""
    rng = np.random.default_rng(seed)
    X = rng.normal(5, 2, size=(n_rows, n_labs)).round(rng.integers(0, 9))
    X[rng.random(X.shape) < 0.1] = 0.0
    X[rng.random(X.shape) < rng.uniform(0, 0.9)] = np.nan
    X[:5] = rng.normal(size=(5, n_labs))
    return X


def as_entries(X):
    """Measured cells as row, column and value."""
    row, lab = np.nonzero(~np.isnan(X))
    return row, lab, X[row, lab]


def as_csr(X):
    row, lab, value = as_entries(X)
    row_start = np.searchsorted(row, np.arange(len(X) + 1))
    return sparse.csr_array((value, lab, row_start), shape=X.shape)


def as_coo(X):
    row, lab, value = as_entries(X)
    return sparse.coo_array((value, (row, lab)), shape=X.shape)


def as_lil(X):
    lil = sparse.lil_array(X.shape)
    for row, lab, value in zip(*as_entries(X), strict=True):
        lil.rows[row].append(lab)
        lil.data[row].append(value)
    return lil


def unsorted(X):
    csr = as_csr(X[:, ::-1])
    return sparse.csr_array((csr.data, X.shape[1] - 1 - csr.indices, csr.indptr), shape=X.shape)


def with_nan_entries(X):
    shape = X.shape
    every_cell = np.tile(np.arange(shape[1]), shape[0]), np.arange(shape[0] + 1) * shape[1]
    return sparse.csr_array((X.ravel(), *every_cell), shape=shape)


def as_texts(X, missing=None):
    cells = [[missing if np.isnan(cell) else repr(cell) for cell in row] for row in X.tolist()]
    return np.array(cells, dtype=object)


def as_frame(X, dtype=None):
    return pd.DataFrame(X, columns=NAMES[: X.shape[1]], dtype=dtype)


# pandas 2.2 has another name for the type
STR = (
    "string[pyarrow_numpy]" if pd.__version__.startswith("2.2") else pd.StringDtype(na_value=np.nan)
)
FORMS = {
    "frame": as_frame,
    "frame of objects": lambda X: as_frame(X).astype(object),
    "Float64": lambda X: as_frame(X).astype("Float64"),
    "Arrow": lambda X: as_frame(X).astype("double[pyarrow]"),
    "Arrow texts": lambda X: as_frame(as_texts(X)).astype("string[pyarrow]"),
    "texts": as_texts,
    "blank texts": lambda X: as_texts(X, "  "),
    "array of str": lambda X: as_texts(X, "nan").astype(str),
    "list": lambda X: as_texts(X).tolist(),
    "mixed list": lambda X: np.where(np.arange(len(X))[:, None] % 2, as_texts(X), X).tolist(),
    "frame of str": lambda X: as_frame(as_texts(X)).astype(STR),
    "frame of string": lambda X: as_frame(as_texts(X)).astype("string"),
    "categories": lambda X: as_frame(as_texts(X)).astype("category"),
    "numeric categories": lambda X: as_frame(X).astype("category"),
    "pandas sparse": lambda X: as_frame(X).astype(pd.SparseDtype("float64")),
    "padded texts": lambda X: as_frame(" " + as_texts(X, "") + "\t"),
    "unequal columns": lambda X: as_frame(X).astype({"a": "Float64", "b": object, "c": "category"}),
    "CSR": as_csr,
    "CSR matrix": lambda X: sparse.csr_matrix(as_csr(X)),
    "CSR unsorted": unsorted,
    "CSR with NaN entries": with_nan_entries,
    "CSC": lambda X: as_csr(X).tocsc(),
    "COO": as_coo,
    "LIL": as_lil,
}


def results(encoder, X):
    return encoder.transform(X), encoder.score(X), encoder.loss_curve_, encoder.center_


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_table_gives_the_same_to_the_bit(form):
    X = draw_labs(3)
    given_as = FORMS[form](X)
    expected = results(make().fit(X), X)
    found = results(make().fit(given_as), given_as)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@FEW
@given(seed=SEEDS, form=st.sampled_from(["texts", "list", "CSR", "COO"]))
def test_any_table_may_change_its_form_between_fit_and_transform(seed, form):
    X = draw_labs(seed)
    given_as = FORMS[form](X)
    expected = make().fit_transform(X)
    np.testing.assert_array_equal(make().fit(given_as).transform(X), expected)
    np.testing.assert_array_equal(make().fit(X).transform(given_as), expected)


@pytest.mark.parametrize("library", [pl.from_pandas, pa.Table.from_pandas], ids=["polars", "Arrow"])
@pytest.mark.parametrize(
    "estimator",
    [
        make(kinds={"grade": "qualitative"}),
        BoostedLabEncoder(DecisionTreeClassifier(random_state=0), random_state=0),
        LabTextSerializer(abnormal_only=False),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_tables_of_other_libraries(estimator, library):
    rng = np.random.default_rng(0)
    numbers = np.where(rng.random((60, 2)) < 0.8, rng.normal(size=(60, 2)), np.nan)
    X = pd.DataFrame(numbers, columns=["sodium", "potassium"])
    X["grade"], X["crp"] = rng.integers(1, 4, 60), ["<0.5", "12", None] * 20
    y = pd.DataFrame({"sepsis": X["sodium"] > 0, "stroke": pd.array([0, 1, None] * 20, "Int64")})
    expected = clone(estimator).fit_transform(X, y)
    for labels in (library(y), library(y)["sepsis"]):
        fitted = clone(estimator).set_output(transform="polars").fit(library(X), labels)
        assert fitted.feature_names_in_.tolist() == list(X)
        found = fitted.transform(library(X))
        assert isinstance(found, pl.DataFrame)
        assert found.columns == fitted.get_feature_names_out().tolist()
    found = clone(estimator).fit_transform(library(X), library(y))
    np.testing.assert_array_equal(found, expected)
    if isinstance(estimator, MaskedLabEncoder):
        imputed = clone(estimator).fit(X).impute(library(X))
        pd.testing.assert_frame_equal(imputed, clone(estimator).fit(X).impute(X))


@pytest.mark.parametrize("dtype", ["int64", "Int64", "int64[pyarrow]", "uint8", "boolean", bool])
def test_whole_numbers_of_any_type(dtype):
    X = np.random.default_rng(0).integers(0, 2, size=(12, 3))
    np.testing.assert_array_equal(
        make().fit_transform(as_frame(X).astype(dtype)), make().fit_transform(X.astype(float))
    )


# Sparse


def test_an_entry_of_zero_is_a_measured_zero():
    X = draw_labs(3)
    X[5] = [0.0, np.nan, np.nan, np.nan]
    X[6] = np.nan
    embedding = make().fit(as_csr(X)).transform(as_csr(X))
    assert np.isfinite(embedding[5]).all()
    assert np.isnan(embedding[6]).all()


def test_sparse_input_is_imputed_to_a_dense_array():
    X = draw_labs(3)
    encoder = make().fit(as_csr(X))
    np.testing.assert_array_equal(encoder.impute(as_csr(X)), encoder.impute(X))


def test_sparse_input_is_not_changed():
    X = unsorted(draw_labs(3))
    before = X.data.copy(), X.indices.copy(), X.indptr.copy()
    make().fit(X).impute(X)
    for one, other in zip((X.data, X.indices, X.indptr), before, strict=True):
        np.testing.assert_array_equal(one, other)


def test_validation_rows_of_sparse_input():
    X = draw_labs(3, n_rows=120)
    params = {"early_stopping": True, "max_epochs": 3}
    sparse_scores = make(**params).fit(as_csr(X)).validation_scores_
    assert len(sparse_scores) == 3
    assert sparse_scores == make(**params).fit(X).validation_scores_


@pytest.mark.parametrize("container", [sparse.csr_array, sparse.csc_array, sparse.coo_array])
def test_cells_with_two_entries_are_refused(container):
    entries = ([4.25, 4.5, 1.0], ([0, 0, 1], [1, 1, 0]))
    X = sparse.coo_array(entries, shape=(2, 2))
    if container is not sparse.coo_array:
        pointer = [0, 2, 3] if container is sparse.csr_array else [0, 1, 3]
        data, index = ([4.25, 4.5, 1.0], [1, 1, 0])
        if container is sparse.csc_array:
            data, index = [1.0, 4.25, 4.5], [1, 0, 0]
        X = container((data, index, pointer), shape=(2, 2))
    with pytest.raises(ValueError, match="1 cells more than once") as caught:
        make().fit(X)
    assert "4.25" not in str(caught.value)


@pytest.mark.parametrize("form", ["bsr", "dia"])
def test_formats_that_store_zeros_for_absent_entries_are_refused(form):
    with pytest.raises(ValueError, match=f"{form.upper()} format"):
        make().fit(as_csr(draw_labs(3)).asformat(form))


def test_sparse_input_is_never_made_dense():
    X = as_csr(draw_labs(3))
    row_start = np.r_[X.indptr, [X.nnz] * 20_000]
    wide = sparse.csr_array((X.data, X.indices, row_start), shape=(len(row_start) - 1, 1505))
    tracemalloc.start()
    try:
        with pytest.warns(UserWarning, match="1501 of 1505 lab columns"):
            encoder = make(n_factors=4).fit(wide)
        assert np.isfinite(encoder.score(wide))
        assert np.isnan(encoder.transform(wide)[-5:]).all()
        # An array of this shape takes 240 MB
        assert tracemalloc.get_traced_memory()[1] < 80e6
    finally:
        tracemalloc.stop()


# Properties


@FEW
@given(seed=SEEDS, other=st.one_of(st.just(np.nan), st.floats(-1e9, 1e9)))
def test_what_stands_in_an_unobserved_cell_of_a_masked_column_never_matters(seed, other):
    X = draw_labs(seed)
    missing = np.isnan(X)
    columns = {
        name: pd.arrays.FloatingArray(np.where(missing[:, i], other, X[:, i]), missing[:, i].copy())
        for i, name in enumerate(NAMES[:4])
    }
    hidden_values = pd.DataFrame(columns)
    expected = make().fit(as_frame(X))
    encoder = make().fit(hidden_values)
    np.testing.assert_array_equal(encoder.transform(hidden_values), expected.transform(as_frame(X)))
    np.testing.assert_array_equal(
        encoder.impute(hidden_values).to_numpy(float), expected.impute(as_frame(X)).to_numpy()
    )


@FEW
@given(seed=SEEDS, form=st.sampled_from(["frame", "texts", "CSR"]))
def test_permuting_rows_permutes_the_embedding(seed, form):
    X = draw_labs(seed)
    order = np.random.default_rng(seed).permutation(len(X))
    encoder = make().fit(FORMS[form](X))
    np.testing.assert_allclose(
        encoder.transform(FORMS[form](X[order])),
        encoder.transform(FORMS[form](X))[order],
        atol=1e-9,
    )


@FEW
@given(seed=SEEDS)
def test_permuting_columns_permutes_what_is_imputed(seed):
    X = draw_labs(seed, n_rows=20)
    order = np.random.default_rng(seed).permutation(4)
    # The net begins with weights by position; at this rate it leaves the linear part unchanged
    encoder, other = make(learning_rate=1e-12), make(learning_rate=1e-12)
    np.testing.assert_allclose(
        other.fit(X[:, order]).impute(X[:, order]), encoder.fit(X).impute(X)[:, order], atol=1e-6
    )


def test_other_columns_and_other_orders_are_refused_by_name():
    frame = as_frame(as_texts(draw_labs(3)))
    encoder = make().fit(frame)
    for method in (encoder.transform, encoder.impute, encoder.score):
        for wrong in (frame[["b", "a", "c", "d"]], frame.rename(columns={"a": "z"})):
            with pytest.raises(ValueError, match="feature names"):
                method(wrong)


@FEW
@given(seed=SEEDS)
def test_observed_cells_come_back_to_the_bit(seed):
    X = draw_labs(seed)
    observed = ~np.isnan(X)
    encoder = make().fit(X)
    imputed = encoder.impute(X)
    assert imputed[observed].tobytes() == X[observed].tobytes()
    assert not np.isnan(imputed).any()
    texts = encoder.impute(as_texts(X))
    assert (texts[observed] == as_texts(X)[observed]).all()
    assert all(isinstance(cell, str) for cell in texts.ravel())


@FEW
@given(seed=SEEDS, form=st.sampled_from(list(FORMS)))
def test_same_seed_same_result(seed, form):
    X = FORMS[form](draw_labs(seed))
    np.testing.assert_array_equal(make().fit_transform(X), make().fit_transform(X))


@FEW
@given(seed=SEEDS)
def test_single_precision_gives_nearly_the_same(seed):
    X = draw_labs(seed)
    single = X.astype(np.float32)
    # One fit, as training may amplify a rounding error where a lab is nearly constant
    encoder = make().fit(X)
    np.testing.assert_allclose(encoder.transform(single), encoder.transform(X), atol=1e-3)
    assert encoder.impute(single).dtype == np.float32
    assert encoder.impute(as_csr(X).astype(np.float32)).dtype == np.float32


@FEW
@given(seed=SEEDS, form=st.sampled_from(["frame", "texts", "Arrow", "categories", "CSR"]))
def test_rows_and_columns_without_a_value(seed, form):
    X = draw_labs(seed)
    X[9], X[:, 2] = np.nan, np.nan
    given_as = FORMS[form](X)
    with pytest.warns(UserWarning, match="1 of 4 lab columns"):
        encoder = make().fit(given_as)
    assert np.isnan(encoder.transform(given_as)[9]).all()
    imputed = pd.DataFrame(encoder.impute(given_as)).astype(object).to_numpy()
    imputed = np.where(pd.isna(imputed), np.nan, imputed).astype(float)
    assert np.isfinite(np.delete(imputed, 2, axis=1)).all()
    assert np.isnan(imputed[:, 2]).all()


def test_a_level_too_rare_to_learn_stays_missing():
    X = pd.DataFrame({"lab": ["NEG", "POS", None, "NEG"] + [None] * 16, "sodium": np.arange(20.0)})
    with pytest.warns(UserWarning, match="1 of 2 lab columns"):
        imputed = make().fit(X).impute(X)
    pd.testing.assert_frame_equal(imputed, X)


# Results that are no plain numbers


@pytest.fixture
def panel():
    return make_panel()


@pytest.fixture(scope="module")
def fitted_panel():
    """Encoder of the panel, fitted once; no test may change it."""
    return make().fit(make_panel())


def make_panel():
    """Eighteen stays with results as a laboratory system exports them."""
    return pd.DataFrame(
        {
            "ketones": ["NEG", "Negative", "TRACE", "1+", None, "2+"] * 3,
            "crp": ["<0.5", 12, "90", ">200", None, 3.25] * 3,
            "colour": pd.Categorical(["amber", "straw", "Amber", "straw", "amber", None] * 3),
            "protein": ["NEG", "30", "NEG", "100", "NEG", ""] * 3,
            "sodium": [140, 141, 138, np.nan, 150, 139] * 3,
        },
        index=[f"stay {i}" for i in range(18)],
    )


def test_levels_are_in_clinical_order(fitted_panel):
    assert fitted_panel.levels_ == [
        ["Negative", "TRACE", "1+", "2+"],
        None,
        ["straw", "amber"],
        ["NEG", "30", "100"],
        None,
    ]


def test_censored_results_and_levels_count_as_numbers(panel):
    numbers = pd.DataFrame(
        {
            "ketones": [0, 0, 1, 2, np.nan, 3] * 3,
            "crp": [0.5, 12, 90, 200, np.nan, 3.25] * 3,
            "colour": [1, 0, 1, 0, 1, np.nan] * 3,
            "protein": [0, 1, 0, 2, 0, np.nan] * 3,
            "sodium": [140, 141, 138, np.nan, 150, 139] * 3,
        }
    )
    np.testing.assert_array_equal(make().fit_transform(panel), make().fit_transform(numbers))


def test_a_mixed_panel_is_imputed_in_its_own_words(panel, fitted_panel):
    before = panel.copy(deep=True)
    encoder = fitted_panel
    imputed = encoder.impute(panel)
    pd.testing.assert_frame_equal(panel, before)
    assert imputed.index.equals(panel.index)
    assert imputed.columns.equals(panel.columns)
    assert imputed.dtypes.equals(panel.dtypes)
    assert not imputed.isna().any(axis=None)
    for name in panel:
        observed = panel[name].notna() & (panel[name] != "")
        assert imputed[name][observed].tolist() == panel[name][observed].tolist()
    for name, levels in zip(panel, encoder.levels_, strict=True):
        if levels:
            assert set(imputed[name]) <= set(levels) | set(panel[name])
    assert isinstance(imputed["crp"].iloc[4], str)
    float(imputed["crp"].iloc[4])


def test_imputed_levels_follow_what_predicts_them():
    rng = np.random.default_rng(0)
    cause = rng.normal(size=300)
    dipstick = np.array(["NEG", "TRACE", "1+", "2+"])[np.digitize(cause, [-1, 0, 1])]
    labs = {f"lab {i}": cause + 0.1 * rng.normal(size=300) for i in range(3)}
    frame = pd.DataFrame({"dipstick": dipstick.astype(object)} | labs)
    hidden = frame.copy()
    hidden.loc[::5, "dipstick"] = None
    encoder = make(max_epochs=20, d_model=16, learning_rate=1e-2, mask_ratio=0.4, dropout=0.0)
    imputed = encoder.fit(hidden).impute(hidden)
    right = imputed["dipstick"][::5].to_numpy() == dipstick[::5]
    assert right.mean() > 0.6


def test_texts_and_arrays_of_objects_keep_their_type(panel):
    encoder = make().fit(panel.to_numpy(dtype=object))
    imputed = encoder.impute(panel.to_numpy(dtype=object))
    assert imputed.dtype == object
    assert imputed[0, 1] == "<0.5"
    assert imputed[1, 1] == 12
    text = np.array([["1.5", "NEG"], ["2.5", "1+"], ["", "NEG"], ["7", ""]] * 3)
    imputed = make().fit(text).impute(text)
    assert imputed.dtype.kind == "U"
    np.testing.assert_array_equal(imputed[text != ""], text[text != ""])
    assert (imputed != "").all()


def test_a_column_of_numbers_where_fit_saw_results(panel, fitted_panel):
    encoder = fitted_panel
    empty = panel.assign(ketones=np.nan, protein=[30.0, 100.0] * 9)
    codes = encoder.transform(panel.assign(ketones=None, protein=["30", "100"] * 9))
    np.testing.assert_array_equal(encoder.transform(empty), codes)
    assert set(encoder.impute(empty)["ketones"]) <= set(encoder.levels_[0])


def test_sparse_input_where_fit_saw_qualitative_results_is_refused(fitted_panel):
    with pytest.raises(ValueError, match="qualitative columns"):
        fitted_panel.transform(sparse.csr_array((2, 5)))


def test_integers_with_gaps_become_floats():
    frame = as_frame(draw_labs(3).round())
    for dtype, expected in [("Int64", "Float64"), ("int64[pyarrow]", "double[pyarrow]")]:
        imputed = make().fit(frame).impute(frame.astype(dtype))
        assert set(map(str, imputed.dtypes)) == {expected}
        assert not imputed.isna().any(axis=None)


def test_results_that_cannot_be_read_warn_once_and_count_as_not_measured(panel, fitted_panel):
    encoder = fitted_panel
    strange = panel.astype({"colour": object})
    strange.iloc[0] = [CANARY, "1,200", "purple", "3+", 140]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        embedding = encoder.transform(strange)
    assert len(caught) == 1
    message = str(caught[0].message)
    assert message.startswith("4 results could not be read")
    assert "column 'crp' (1)" in message
    for value in (CANARY, "1,200", "purple", "3+"):
        assert value not in message
    strange.iloc[0] = [None, None, None, None, 140]
    np.testing.assert_array_equal(embedding, encoder.transform(strange))


def test_unread_results_are_replaced_by_impute(panel, fitted_panel):
    encoder = fitted_panel
    strange = panel.assign(ketones=[CANARY] * 18)
    with pytest.warns(UserWarning, match="18 results"):
        imputed = encoder.impute(strange)
    assert set(imputed["ketones"]) <= set(encoder.levels_[0])


def test_a_remark_among_results_is_not_kept(panel):
    panel["ketones"] = panel["ketones"].astype(object)
    panel.iloc[0, 0] = f"seen by {CANARY}"
    with pytest.warns(UserWarning, match="1 results could not be read"):
        encoder = make().fit(panel)
    assert CANARY.encode() not in pickle.dumps(encoder)
    assert CANARY not in str(vars(encoder))


@pytest.mark.parametrize(
    "texts",
    [
        [f"{CANARY} {i}" for i in range(60)],
        [f"{CANARY} {i // 2}" for i in range(120)],
        [CANARY + " was admitted with chest pain and sent home"] * 8,
        [f"{CANARY} {i}" for i in range(6)],
    ],
    ids=["all different", "too many", "long", "few rows"],
)
def test_free_text_is_refused_and_not_quoted(texts):
    frame = pd.DataFrame({"sodium": np.arange(len(texts)), "comment": texts})
    encoder = make()
    with pytest.raises(ValueError, match="Column 'comment' of X looks like free text") as caught:
        encoder.fit(frame)
    assert CANARY not in str(caught.value)
    assert CANARY.encode() not in pickle.dumps(encoder)


@pytest.mark.parametrize(
    "cell",
    [{"a": 1}, [1], b"1", pd.Timestamp("2020-01-01"), object()],
    ids=lambda c: type(c).__name__,
)
def test_cells_of_other_types_are_refused_and_not_shown(cell):
    X = np.full((3, 2), 1.0, dtype=object)
    X[1, 1] = cell
    with pytest.raises(TypeError, match="column 1 of X holds a"):
        make().fit(X)


def test_dates_and_complex_numbers_are_refused():
    with pytest.raises(TypeError, match="column 'when' of X holds a Timestamp"):
        make().fit(pd.DataFrame({"when": pd.date_range("2020-01-01", periods=3)}))
    for X in (np.array([[1j], [2j]], dtype=object), pd.DataFrame({"a": [1j, 2j]})):
        with pytest.raises(ValueError, match="Complex data not supported"):
            make().fit(X)


@pytest.mark.parametrize("huge", [10**400, "1e999", np.inf], ids=["int", "text", "infinity"])
def test_numbers_beyond_all_bounds_are_refused(huge):
    with pytest.raises(ValueError, match="infinity"):
        make().fit(np.array([[1.0], [2.0], [huge]], dtype=object))


@pytest.mark.parametrize("saver", ["pickle", "skops"])
def test_a_loaded_encoder_reads_results_as_before(panel, saver, fitted_panel):
    encoder = fitted_panel
    if saver == "pickle":
        loaded = pickle.loads(pickle.dumps(encoder))
    else:
        data = skops.io.dumps(encoder)
        own = skops.io.get_untrusted_types(data=data)
        assert own == ["sklearn_medfuse.labs._masked_lab.MaskedLabEncoder"]
        loaded = skops.io.loads(data, trusted=own)
    assert loaded.levels_ == encoder.levels_
    np.testing.assert_array_equal(loaded.transform(panel), encoder.transform(panel))
    pd.testing.assert_frame_equal(loaded.impute(panel), encoder.impute(panel))


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_array], ids=["dense", "sparse"])
def test_infinite_results_of_both_signs_are_refused_without_a_warning(form):
    X = np.arange(40.0).reshape(10, 4)
    X[0, 0], X[1, 1] = np.inf, -np.inf
    with pytest.raises(ValueError, match="infinity"):
        MaskedLabEncoder(4, max_epochs=1).fit(form(X))


# Single results and columns


NUMBERS = {
    "7.4": 7.4,
    " 1200 ": 1200,
    "<0.01": 0.01,
    ">90": 90,
    "<= 5": 5,
    "≥ 3": 3,
    "≤.5": 0.5,
    "=> 2.": 2,
    "=4": 4,
    "-3.5": -3.5,
    "\u22123.5": -3.5,
    "+5": 5,
    "6.02E23": 6.02e23,
    "1e-3": 1e-3,
    "1,5": 1.5,
    "1.234,5": 1234.5,
    "less than 5": 5,
    "7.9 (H)": 7.9,
    ">= 1e-300": 1e-300,
}
NO_NUMBERS = """
NEG | 1+ | 1,200 | 1,2,3 | 7.4 mg/dL | 1:40 | 1/80 | 3-5 | 1 2 | < | inf
0x1F | 1_000 | \u0663 | <<3 | e5 | 12% | .
"""


def test_numbers_and_limits():
    """A column of one result five times has it as its centre."""
    encoder = make(max_epochs=0).fit(pd.DataFrame([list(NUMBERS)] * 5))
    np.testing.assert_allclose(encoder.center_, list(NUMBERS.values()), rtol=1e-15)


def test_what_is_no_number():
    """Five such results beside fifteen numbers are not read, and counted."""
    texts = [text for line in NO_NUMBERS.strip().splitlines() for text in line.split(" | ")]
    table = pd.DataFrame([texts] * 5 + [[8.5] * len(texts)] * 15)
    with pytest.warns(UserWarning, match=f"{5 * len(texts)} results could not be read"):
        encoder = make(max_epochs=0).fit(table)
    assert set(encoder.center_) == {8.5}
    # No warning, which would be an error: these say that nothing was measured
    for text in ("", "nan"):
        make(max_epochs=0).fit(pd.DataFrame({"lab": [text] * 5 + [8.5] * 15}))


@settings(max_examples=20, deadline=None)
@given(text=st.text(max_size=20).map("x{}".format))
def test_a_level_that_was_learned_is_known_again(text):
    """In its own spelling and in that of the level."""
    table = pd.DataFrame({"lab": [text] * 5 + ["zzz"] * 5})
    serializer = LabTextSerializer().fit(table)
    for spelling in {text, *(serializer.levels_[0] or [])}:
        serializer.transform(pd.DataFrame({"lab": [spelling]}))


def levels_of(cells):
    """Levels that any encoder of labs learns; the serializer is the cheapest."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "[0-9]+ results could not be read", UserWarning)
        return LabTextSerializer().fit(pd.DataFrame({"lab": cells})).levels_[0]


# Each from low to high, as laboratories write them
ORDERS = """
NEG | <1:40 | 1:80 | 1:160 | 1:320 | 1:1280
<1:10 | 1:20 | 1:40 | >1:1,280
Non Reactive | 1:1 | 1:2 | 1:16
negative | Positive 1:80 | Positive 1:640
NEG | TR | SM | MOD | LG
NEGATIVE | TRACE | 30 | 100 | >=300
None | Rare | Occasional | Few | Moderate | Many | TNTC
NONE SEEN | RARE | FEW | MODERATE | MANY
none seen | 0-2 /hpf | 3-5 /hpf | 10-20 /hpf | >50 /hpf
NON REACTIVE | WEAKLY REACTIVE | REACTIVE
Non-Reactive | Borderline | Reactive | Strongly reactive
Not Detected | Indeterminate | Detected
NEGATIVE | EQUIVOCAL | WEAK POSITIVE | POSITIVE | STRONG POSITIVE
LO | NORMAL | HI
LL | L | N | H | HH
Very low | Low | Normal | High | Critically high
normal | 1+ | 2+ | 3+ | 4+
+/- | + | ++ | +++
neg | 1+ (30 mg/dL) | 2+ (100 mg/dL) | 3+ (500 mg/dL)
Clear | Slightly Hazy | Hazy | Sl. Cloudy | Cloudy | Turbid
Clear | SlHazy | Hazy | SlCldy | Cloudy
Colorless | Straw | Light yellow | Yellow | Dark yellow | Amber
No growth | Scant growth | Moderate growth | Heavy growth
NORMAL | Slight | Moderate | Marked
S | I | R
Absent | Present
NO HEMOLYSIS | SLIGHT HEMOLYSIS | MARKED HEMOLYSIS
none | few bacteria | many bacteria
not detected in sample | detected in sample
Small | Medium | Large
0 | trace | 1+ | 2+
Negative | Presumptive positive | Positive
<10,000 | 10,000-50,000 | 50,000-100,000 | >100,000
-2 | -1 | 0 | +1
"""


@pytest.mark.parametrize("order", [line.split(" | ") for line in ORDERS.strip().splitlines()])
def test_levels_are_in_the_orders_that_laboratories_use(order):
    table = pd.DataFrame({"lab": order[::-1] * 3})
    qualitative = {"lab": "qualitative"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        assert make(kinds=qualitative).fit(table).levels_ == [order]


def test_an_ordered_categorical_keeps_its_order():
    order = ["waxy", "LG", "hyaline", "NEG"]
    casts = pd.Categorical(["NEG", "hyaline", "waxy", "LG"] * 5, order, ordered=True)
    table = pd.DataFrame({"casts": casts, "sodium": np.arange(20.0)})
    for estimator in (make(), LabTextSerializer(), BoostedLabEncoder(random_state=0)):
        assert estimator.fit(table, table["sodium"] > 9).levels_ == [order, None]
    numbers = table.assign(casts=casts.map(order.index).astype(float))
    np.testing.assert_array_equal(make().fit_transform(table), make().fit_transform(numbers))


def test_an_ordered_categorical_of_numbers():
    grade = pd.Series([1, 2, 3, None] * 5)
    rising = grade.astype(pd.CategoricalDtype([1, 2, 3], ordered=True))
    assert make().fit(pd.DataFrame({"grade": rising})).levels_ == [None]
    falling = pd.DataFrame({"grade": grade.astype(pd.CategoricalDtype([3, 2, 1], ordered=True))})
    encoder = make().fit(falling)
    assert encoder.levels_ == [["3", "2", "1"]]
    imputed = encoder.impute(falling)["grade"]
    assert imputed.dtype == falling["grade"].dtype
    assert imputed.notna().all()


def test_an_ordered_categorical_keeps_no_category_of_a_few_rows():
    cells = pd.Categorical(["a", "b", "b", "b", "a", "a", CANARY], ["b", CANARY, "a"], ordered=True)
    with pytest.warns(UserWarning, match="1 results could not be read"):
        assert make().fit(pd.DataFrame({"lab": cells})).levels_ == [["b", "a"]]


def test_levels_that_are_set():
    order = ["nil", "none", "Red", "straw"]
    table = pd.DataFrame({"lab": ["straw", "red", "none", "nil", "blue"] * 5})
    for estimator in (
        make(levels={"lab": order}),
        LabTextSerializer(levels={"lab": order}),
        BoostedLabEncoder(levels={"lab": order}, random_state=0),
    ):
        with pytest.warns(UserWarning, match="5 results could not be read"):
            fitted = estimator.fit(table, np.arange(25) % 2)
        assert fitted.levels_ == [order]
    numbers = pd.DataFrame({"lab": [3.0, 2.0, 1.0, 0.0, np.nan] * 5})
    with pytest.warns(UserWarning, match="5 results could not be read"):
        found = make(levels={"lab": order}).fit_transform(table)
    np.testing.assert_array_equal(found, make().fit_transform(numbers))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"levels": {"lub": ["a", "b"]}}, r"levels names \['lub'\], but the lab columns of X are"),
        ({"levels": {"lab": ["a"]}}, "two or more different results"),
        ({"levels": {"lab": "ab"}}, "two or more different results"),
        ({"levels": {"lab": ["a", "b", "A "]}}, "two or more different results"),
        ({"levels": {"lab": ["a", "b"]}, "kinds": {"lab": "numeric"}}, "numeric according"),
    ],
)
def test_levels_that_do_not_fit_are_refused(params, message):
    with pytest.raises(ValueError, match=message):
        make(**params).fit(pd.DataFrame({"lab": ["a", "b"] * 5}))


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
    assert levels_of(cells) == levels


def test_the_most_frequent_spelling_stands_for_a_level():
    assert levels_of(["Neg", "NEG", "NEG", "negative", "POS"]) == ["NEG", "POS"]


def test_the_kind_of_a_column_does_not_depend_on_the_order_of_its_rows():
    cells = ["NEG", "neg", "amber", "straw", "straw", "amber", 3, "3", None]
    expected = levels_of(cells)
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(len(cells))
        assert levels_of([cells[i] for i in order]) == expected


def test_unread_cells_are_counted_by_column():
    table = pd.DataFrame([["x", 1, "1,200"], [3, 2, "1,200"], [4, 3, None]], columns=["a", "b", 7])
    values, _, unread = read_results(table)
    assert unread == {"column 'a'": 1, "column 2": 2}
    assert np.isnan(values).sum() == 4


def test_columns_of_the_same_name_are_kept_apart():
    table = pd.DataFrame([["NEG", 1.0], ["POS", 2.0]], columns=["a", "a"])
    assert read_results(table)[1] == [["NEG", "POS"], None]
    _, _, unread = read_results(table.astype(object).replace({1.0: "x", "NEG": "y"}), [None, None])
    assert unread == {"column 'a'": 3}


def test_categories_that_do_not_occur_are_no_levels():
    assert levels_of(pd.Categorical(["NEG", "POS"], ["NEG", "POS", "TRACE"])) == ["NEG", "POS"]


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


# Kinds


@pytest.fixture
def urine():
    """Dipstick glucose, most of it in mg/dL, and a lab that has one word in ten."""
    return pd.DataFrame(
        {
            "glucose": ["NEG", "NEG", "100", "250", "100", 250, "500", 500, None, "NEG"] * 2,
            "ferritin": [12.0, "pending", 40, 31, 35.5, 80, 55, None, 20, 61] * 2,
            "grade": [1.0, 2, 3, 1, 2, np.nan, 3, 1, 2, 3] * 2,
        }
    )


def test_a_column_of_more_numbers_than_words_loses_its_words_and_says_how_to_keep_them(urine):
    with pytest.warns(UserWarning, match="8 results .* The parameter kinds") as caught:
        assert make().fit(urine).levels_ == [None, None, None]
    assert "NEG" not in str(caught[0].message)


def test_kinds_keeps_the_words(urine):
    with pytest.warns(UserWarning, match="2 results could not be read"):
        encoder = make(kinds={"glucose": "qualitative"}).fit(urine)
    levels = encoder.levels_[0]
    assert [str(level) for level in levels] == ["NEG", "100", "250", "500"]
    with pytest.warns(UserWarning, match="2 results could not be read"):
        embedding = encoder.transform(urine)
    assert not np.allclose(embedding[0], embedding[9])
    with pytest.warns(UserWarning, match="2 results could not be read"):
        imputed = encoder.impute(urine)["glucose"]
    assert set(imputed[urine["glucose"].isna()]) <= set(levels)
    assert imputed.iloc[:8].tolist() == urine["glucose"].iloc[:8].tolist()


def test_kinds_makes_a_column_of_words_numeric():
    frame = pd.DataFrame({"hcg": ["NEG"] * 12 + [f"{n}.5" for n in range(8)], "b": np.arange(20.0)})
    with pytest.warns(UserWarning, match="12 results could not be read"):
        encoder = make(kinds={"hcg": "numeric"}).fit(frame)
    assert encoder.levels_ == [None, None]
    assert encoder.center_[0] == pytest.approx(4.0)


def test_kinds_of_an_array_go_by_position(urine):
    with pytest.warns(UserWarning, match="2 results could not be read"):
        encoder = make(kinds={0: "qualitative"}).fit(urine.to_numpy(dtype=object))
    assert encoder.levels_[0][0] == "NEG"


@pytest.mark.parametrize("as_given", [lambda frame: frame, lambda frame: frame.to_numpy()])
def test_a_qualitative_column_of_numbers_is_imputed_with_numbers(urine, as_given):
    X = as_given(urine[["grade"]].assign(other=np.arange(20.0)))
    name = "grade" if isinstance(X, pd.DataFrame) else 0
    encoder = make(kinds={name: "qualitative"}).fit(X)
    assert encoder.levels_ == [["1.0", "2.0", "3.0"], None]
    imputed = pd.DataFrame(encoder.impute(X)).iloc[:, 0]
    assert set(imputed.astype(float)) <= {1.0, 2.0, 3.0}
    if isinstance(X, pd.DataFrame):
        assert imputed.dtype == np.float64


@pytest.mark.parametrize(
    ("kinds", "message"),
    [
        ({"glucose": "categorical"}, r"kinds\['glucose'\]='categorical' must be 'numeric'"),
        ({"glukose": "numeric"}, r"kinds names \['glukose'\], but the lab columns"),
        ({0: "numeric"}, r"kinds names \[0\], but the lab columns"),
        (["glucose"], "'kinds' parameter of MaskedLabEncoder must be"),
    ],
)
def test_kinds_that_do_not_fit_are_refused(urine, kinds, message):
    with pytest.raises(ValueError, match=message):
        make(kinds=kinds).fit(urine)


def test_a_qualitative_column_of_many_different_numbers_is_refused():
    frame = pd.DataFrame({"sodium": np.arange(60) + 0.25})
    with pytest.raises(ValueError, match="holds 60 different results and 50") as caught:
        make(kinds={"sodium": "qualitative"}).fit(frame)
    assert "0.25" not in str(caught.value)


def test_sparse_input_has_no_qualitative_columns():
    X = sparse.csr_array(np.arange(1.0, 21).reshape(10, 2))
    with pytest.raises(ValueError, match="does not fit a sparse X"):
        make(kinds={1: "qualitative"}).fit(X)
    assert make(kinds={1: "numeric"}).fit(X).levels_ == [None, None]


@pytest.mark.parametrize("kinds", [{"grade": "qualitative"}, {0: "qualitative"}])
def test_kinds_are_kept_by_a_clone_and_in_a_file(urine, tmp_path, kinds):
    X = urine[["grade"]].assign(other=np.arange(20.0))
    X = X if "grade" in kinds else X.to_numpy()
    encoder = clone(make(kinds=kinds)).fit(X)
    save_model(encoder, tmp_path / "labs.skops")
    loaded = load_model(tmp_path / "labs.skops")
    assert loaded.get_params()["kinds"] == kinds
    np.testing.assert_array_equal(loaded.transform(X), encoder.transform(X))


def test_a_file_from_before_a_parameter_has_its_default(urine):
    X = urine[["grade"]]
    encoder = make().fit(X)
    state = encoder.__getstate__()
    del state["kinds"]
    loaded = MaskedLabEncoder.__new__(MaskedLabEncoder)
    loaded.__setstate__(state)
    assert clone(loaded).kinds is None
    np.testing.assert_array_equal(loaded.transform(X), encoder.transform(X))
