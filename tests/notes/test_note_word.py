"""NoteWordEncoder keeps what single words say, and no word."""

import pickle

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.utils.validation import check_is_fitted

from sklearn_medfuse import NaiveBayesNoteEncoder, NoteWordEncoder
from sklearn_medfuse.datasets import load_eicu_demo


@pytest.fixture(scope="module")
def notes():
    return load_eicu_demo().X["note"].iloc[:200]


def test_likeness_of_notes_is_that_of_tf_idf(notes):
    encoder = NoteWordEncoder(50, phrases=False, drop_numbers=False, random_state=0).fit(notes)
    texts = notes.dropna()
    tfidf = TfidfVectorizer(ngram_range=(1, 2), min_df=3, sublinear_tf=True).fit_transform(texts)
    expected = TruncatedSVD(50, random_state=0).fit_transform(tfidf)
    found = encoder.transform(texts)
    assert found.shape == expected.shape
    # A few hashes are shared by two terms, and components are known up to their sign
    similar, wanted = cosine_similarity(found), cosine_similarity(expected)
    assert np.corrcoef(similar.ravel(), wanted.ravel())[0, 1] > 0.99
    assert encoder.explained_variance_ratio_ == pytest.approx(
        TruncatedSVD(50, random_state=0).fit(tfidf).explained_variance_ratio_.sum(), abs=0.02
    )


def test_a_single_word_moves_the_vector():
    notes = ["patient was seen and is stable"] * 20 + ["patient was seen and has sepsis"] * 20
    vectors = NoteWordEncoder(2, random_state=0).fit_transform(notes)
    assert np.linalg.norm(vectors[0] - vectors[-1]) > 0.5


def test_no_word_is_kept(notes):
    note = "The Zanzibarian " * 3 + notes.iloc[0]
    encoder = NoteWordEncoder(5, min_df=1, random_state=0).fit([note, *notes.dropna()])
    for raw in (pickle.dumps(encoder), repr(vars(encoder)).encode()):
        assert b"anzibarian" not in raw
        assert b"patient" not in raw.lower()


@pytest.mark.parametrize("absent", ["nan", "zero"])
@pytest.mark.parametrize("nothing", [None, np.nan, "", " \n", pd.NA])
def test_rows_without_a_note(notes, absent, nothing):
    encoder = NoteWordEncoder(5, absent=absent, random_state=0).fit(notes)
    vectors = encoder.transform([notes.iloc[0], nothing])
    assert np.isfinite(vectors[0]).all()
    assert np.isnan(vectors[1]).all() if absent == "nan" else (vectors[1] == 0).all()
    assert encoder.transform([nothing]).shape == (1, 5)


def test_rare_terms_are_left_out_and_frequent_ones_kept():
    notes = ["alpha beta", "alpha gamma", "alpha beta", "alpha delta"]
    single = NoteWordEncoder(ngram_range=(1, 1), phrases=False, min_df=2, random_state=0)
    assert len(clone(single).fit(notes).terms_) == 2
    only = single.set_params(max_terms=1).fit(notes)
    assert len(only.terms_) == 1
    assert only.transform(["alpha", "beta"]).ravel().tolist() == [1.0, 0.0]


def test_repeated_words_count_less_than_in_proportion():
    notes = ["sepsis fever", "sepsis", "fever", "rash", "cough"] * 3
    encoder = NoteWordEncoder(3, ngram_range=(1, 1), random_state=0).fit(notes)
    once, often, other = encoder.transform(["sepsis fever", "sepsis " * 5 + "fever", "fever"])
    angle = cosine_similarity([once, often, other])
    assert angle[0, 1] > 0.85
    assert angle[0, 1] < 1


@pytest.mark.parametrize("kind", [NoteWordEncoder, NaiveBayesNoteEncoder])
def test_terms_are_those_that_the_parameters_name(kind):
    def n_terms(note, **params):
        off = {"ngram_range": (1, 1), "phrases": False, "drop_numbers": False, "min_df": 1}
        encoder = kind(**off | params)
        return len(encoder.fit([note] * 4, [0, 1, 0, 1]).terms_)

    note = "Cardiovascular: atrial fibrillation - chronic; AICD.\nWeight 72.5, BP 120/80"
    # Cardiovascular, atrial, fibrillation, chronic, aicd, weight, 72, bp, 120, 80
    assert n_terms(note) == 10
    assert n_terms(note, drop_numbers=True) == 7
    # "atrial fibrillation - chronic", "weight , bp", and two phrases that are also words
    assert n_terms(note, drop_numbers=True, phrases=True) == 11
    # " pa", "pai", "ain", "in ", " pai", "pain", "ain ", and the word
    assert n_terms("pain", char_ngram_range=(3, 4)) == 7 + 1
    assert n_terms("pain", char_ngram_range=None) == 1


def test_a_phrase_is_told_from_its_words_in_other_order():
    notes = ["heart failure: mild; renal sign: no", "renal failure: no; heart sign: mild"]
    params = {"ngram_range": (1, 1), "min_df": 1, "random_state": 0}
    with_phrases = NoteWordEncoder(2, phrases=True, **params).fit_transform(notes * 3)
    words_only = NoteWordEncoder(2, phrases=False, **params).fit_transform(notes * 3)
    assert np.linalg.norm(with_phrases[0] - with_phrases[1]) > 0.3
    np.testing.assert_allclose(words_only[0], words_only[1], atol=1e-6)


def test_numbers_change_nothing_where_they_are_left_out():
    notes = ["sepsis, lactate 2.5 at 10:30", "sepsis, lactate 7 at 9:15", "cough, day 3"] * 4
    vectors = NoteWordEncoder(3, min_df=1, random_state=0).fit_transform(notes)
    np.testing.assert_array_equal(vectors[0], vectors[1])
    kept = NoteWordEncoder(3, min_df=1, drop_numbers=False, random_state=0).fit_transform(notes)
    assert np.linalg.norm(kept[0] - kept[1]) > 0.1


def test_a_note_of_numbers_alone_is_a_note_without_terms():
    notes = ["heart failure", "renal failure", "12 34"] * 4
    vectors = NoteWordEncoder(2, random_state=0).fit_transform(notes)
    assert (vectors[2] == 0).all()
    with pytest.raises(ValueError, match="No term is in min_df=3 or more"):
        NoteWordEncoder().fit(["12 34"] * 5)


def test_the_same_seed_gives_the_same_and_saving_keeps_it(notes, tmp_path):
    encoder = NoteWordEncoder(10, random_state=0).fit(notes)
    again = clone(encoder).fit(notes)
    np.testing.assert_array_equal(again.transform(notes), encoder.transform(notes))
    joblib.dump(encoder, tmp_path / "words.joblib")
    loaded = joblib.load(tmp_path / "words.joblib")
    np.testing.assert_array_equal(loaded.transform(notes), encoder.transform(notes))


def test_rows_do_not_depend_on_each_other(notes):
    encoder = NoteWordEncoder(10, random_state=0).fit(notes)
    whole = encoder.transform(notes)
    order = np.random.default_rng(0).permutation(len(notes))[:50]
    np.testing.assert_allclose(encoder.transform(notes.iloc[order]), whole[order], atol=1e-12)


def test_names_and_several_columns(notes):
    frame = pd.DataFrame({"admission": notes, "nursing": notes.shift(1)})
    encoder = NoteWordEncoder(4, random_state=0).fit(frame)
    assert list(encoder.feature_names_in_) == ["admission", "nursing"]
    names = encoder.get_feature_names_out()
    assert names.tolist() == [f"notewordencoder{i}" for i in range(4)]
    with pytest.raises(ValueError, match="feature names should match"):
        encoder.transform(frame[["nursing", "admission"]])
    check_is_fitted(encoder)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"ngram_range": (2, 1)}, "ngram_range"),
        ({"ngram_range": (1, 1.5)}, "ngram_range"),
        ({"char_ngram_range": (0, 3)}, "char_ngram_range=.* characters"),
        ({"char_ngram_range": 3}, "char_ngram_range"),
        ({"phrases": "yes"}, "phrases"),
        ({"n_components": 0}, "n_components"),
        ({"min_df": 300}, "min_df=300"),
        ({"absent": "mean"}, "absent"),
    ],
)
def test_impossible_parameters(notes, params, message):
    with pytest.raises(ValueError, match=message):
        NoteWordEncoder(**params).fit(notes)


def test_no_note_at_all_is_refused():
    with pytest.raises(ValueError, match="X has no note"):
        NoteWordEncoder().fit([None, " "])


def test_notes_that_are_no_texts_are_refused_without_their_values(notes):
    with pytest.raises(TypeError, match="row 1") as caught:
        NoteWordEncoder(5).fit([notes.iloc[0], 987654])
    assert "987654" not in str(caught.value)
