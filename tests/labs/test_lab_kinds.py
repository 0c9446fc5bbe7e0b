"""Kinds: a column may be read as other than most of its cells are."""

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.base import clone

from sklearn_medfuse import MaskedLabEncoder


def make(**params):
    small = {"n_components": 3, "d_model": 8, "n_heads": 2, "n_layers": 1, "max_epochs": 1}
    return MaskedLabEncoder(**small | {"device": "cpu", "random_state": 0} | params)


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
        ({"glucose": "categorical"}, r"kinds\['glucose'\]='categorical' is not one of numeric"),
        ({"glukose": "numeric"}, "kinds names 'glukose', which is no lab column"),
        ({0: "numeric"}, "kinds names 0, which is no lab column"),
        (["glucose"], "'kinds' parameter of MaskedLabEncoder must be"),
    ],
)
def test_kinds_that_do_not_fit_are_refused(urine, kinds, message):
    with pytest.raises(ValueError, match=message):
        make(kinds=kinds).fit(urine)


def test_a_qualitative_column_of_many_different_numbers_is_refused():
    frame = pd.DataFrame({"sodium": np.arange(60) + 0.25})
    with pytest.raises(ValueError, match="holds 60 different results where 50") as caught:
        make(kinds={"sodium": "qualitative"}).fit(frame)
    assert "0.25" not in str(caught.value)


def test_sparse_input_has_no_qualitative_columns():
    X = sparse.csr_array(np.arange(1.0, 21).reshape(10, 2))
    with pytest.raises(ValueError, match="does not fit a sparse X"):
        make(kinds={1: "qualitative"}).fit(X)
    assert make(kinds={1: "numeric"}).fit(X).levels_ == [None, None]


@pytest.mark.parametrize("kinds", [{"grade": "qualitative"}, {0: "qualitative"}])
def test_kinds_are_kept_by_a_clone_and_in_a_folder(urine, tmp_path, kinds):
    X = urine[["grade"]].assign(other=np.arange(20.0))
    X = X if "grade" in kinds else X.to_numpy()
    encoder = clone(make(kinds=kinds)).fit(X)
    encoder.save_pretrained(tmp_path)
    loaded = MaskedLabEncoder.from_pretrained(tmp_path)
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
