"""NaiveBayesNoteEncoder: logits of notes by regressions on words that have not seen them."""

import io
import pickle

import joblib
import numpy as np
import pandas as pd
import pytest
import skops.io
from scipy.special import logit
from sklearn import config_context
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, KFold, ShuffleSplit
from sklearn.pipeline import Pipeline

from sklearn_medfuse import NaiveBayesNoteEncoder
from sklearn_medfuse.persistence import load_model, save_model

WORDS = np.array(["fever", "cough", "rash", "pain", "nausea", "stable", "alert", "fall"])


@pytest.fixture
def cohort():
    """200 notes of four of eight words; one word each says two labels. The eighth row has none."""
    rng = np.random.default_rng(0)
    notes = [" ".join(rng.permutation(WORDS)[:4]) for _ in range(200)]
    y = np.array([[word in note for word in ("fever", "rash")] for note in notes], dtype=float)
    notes[7] = None
    return notes, y


@pytest.fixture
def there(cohort):
    return np.array([note is not None for note in cohort[0]])


def test_labels_that_mean_nothing_give_logits_that_know_nothing():
    rng = np.random.default_rng(1)
    notes = [" ".join(f"w{i}" for i in rng.integers(0, 500, 40)) for _ in range(200)]
    y = rng.integers(0, 2, size=(200, 5))
    encoder = NaiveBayesNoteEncoder(random_state=0)
    held_out = encoder.fit_transform(notes, y)
    seen = encoder.transform(notes)
    known = [roc_auc_score(y[:, j], seen[:, j]) for j in range(5)]
    left = [roc_auc_score(y[:, j], held_out[:, j]) for j in range(5)]
    assert min(known) > 0.9
    assert np.mean(left) == pytest.approx(0.5, abs=0.07)


def test_a_rows_own_label_does_not_change_its_logits(cohort):
    notes, y = cohort
    other = y.copy()
    other[3] = 1 - other[3]
    encoder = NaiveBayesNoteEncoder(random_state=0)
    before, after = encoder.fit_transform(notes, y), encoder.fit_transform(notes, other)
    np.testing.assert_array_equal(after[3], before[3])
    assert not np.array_equal(after, before, equal_nan=True)


def test_the_word_of_a_label_is_found_in_rows_held_out(cohort, there):
    notes, y = cohort
    encoder = NaiveBayesNoteEncoder(ngram_range=(1, 1), random_state=0)
    found = encoder.fit_transform(notes, y)
    assert roc_auc_score(y[there], found[there]) > 0.99
    # alone in a note, no word says more
    says = encoder.transform(WORDS)
    assert WORDS[says.argmax(axis=0)].tolist() == ["fever", "rash"]


def test_logits_are_those_of_the_papers_equations(cohort, there):
    notes, y = cohort
    texts, y = np.array(notes, dtype=object)[there], y[there, 0]
    present = CountVectorizer(ngram_range=(1, 2), min_df=3, binary=True).fit_transform(texts)
    p = 0.5 + present[y == 1].toarray().sum(axis=0)
    q = 0.5 + present[y == 0].toarray().sum(axis=0)
    scaled = present.toarray() * np.log((p / p.sum()) / (q / q.sum()))
    folds = KFold(4, shuffle=True, random_state=3)
    encoder = NaiveBayesNoteEncoder(0.1, alpha=0.5, cv=folds).fit(texts, y)
    expected = LogisticRegression(C=0.1).fit(scaled, y).decision_function(scaled)
    np.testing.assert_allclose(encoder.transform(texts)[:, 0], expected, atol=1e-3)
    held_out = encoder.fit_transform(texts, y)[:, 0]
    for kept, left in folds.split(texts):
        # terms are chosen once, so a fold counts them as the whole does
        p = 0.5 + present[kept][y[kept] == 1].toarray().sum(axis=0)
        q = 0.5 + present[kept][y[kept] == 0].toarray().sum(axis=0)
        scaled = present.toarray() * np.log((p / p.sum()) / (q / q.sum()))
        model = LogisticRegression(C=0.1).fit(scaled[kept], y[kept])
        np.testing.assert_allclose(held_out[left], model.decision_function(scaled[left]), atol=1e-3)


def test_two_classes_are_one_label_and_several_a_label_each(cohort, there):
    notes, y = cohort
    names = np.array(["well", "ill"])[y[:, 0].astype(int)]
    encoder = NaiveBayesNoteEncoder(random_state=0)
    # "well" comes after "ill"
    as_label = clone(encoder).fit(notes, 1 - y[:, 0])
    as_class = clone(encoder).fit(notes, names)
    assert as_class.classes_.tolist() == ["ill", "well"]
    np.testing.assert_array_equal(as_class.coef_, as_label.coef_)
    kind = np.where(y[:, 0] == 1, "a", np.where(y[:, 1] == 1, "b", "c"))
    found = encoder.fit_transform(notes, kind)
    assert found.shape == (200, 3)
    assert (encoder.classes_[found[there].argmax(axis=1)] == kind[there]).mean() > 0.9
    rest = clone(encoder).fit(notes, np.column_stack([kind == name for name in "abc"]))
    np.testing.assert_array_equal(encoder.coef_, rest.coef_)
    np.testing.assert_array_equal(encoder.intercept_, rest.intercept_)


def test_groups_are_held_out_whole():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(20), 5)
    # each patient's notes share a name and are ill by chance: who has seen one knows the others
    notes = [f"patient{group} was seen" for group in groups]
    y = np.repeat(rng.permutation(np.arange(20) % 2), 5)
    encoder = NaiveBayesNoteEncoder(C=1.0, random_state=0)
    assert roc_auc_score(y, encoder.fit_transform(notes, y)) > 0.95
    whole = encoder.fit_transform(notes, y, groups=groups)
    # of a patient held out it sees "was seen" alone: one logit in each fold
    assert len(np.unique(whole.round(9))) <= 5


def test_groups_and_weights_are_routed(cohort):
    notes, y = cohort
    X = pd.DataFrame({"note": notes})
    groups, weight = np.repeat(np.arange(50), 4), np.arange(200) % 3
    plain = NaiveBayesNoteEncoder(cv=GroupKFold(5))
    expected = plain.fit_transform(X, y, sample_weight=weight, groups=groups)
    with config_context(enable_metadata_routing=True):
        asked = clone(plain).set_fit_request(groups=True, sample_weight=True)
        encode = ColumnTransformer([("naive_bayes", asked, ["note"])])
        pipe = Pipeline([("encode", encode)])
        found = pipe.fit_transform(X, y, groups=groups, sample_weight=weight)
    np.testing.assert_array_equal(found, expected)


def test_missing_labels_are_as_if_their_rows_were_not_there(cohort):
    notes, y = cohort
    unknown = np.arange(200) % 4 == 0
    partly = pd.DataFrame(y).mask(unknown[:, None] & [[True, False]])
    encoder = NaiveBayesNoteEncoder(min_df=1).fit(notes, partly)
    texts = [note for note, gone in zip(notes, unknown, strict=True) if not gone]
    rest = NaiveBayesNoteEncoder(min_df=1).fit(texts, y[~unknown])
    np.testing.assert_array_equal(encoder.terms_, rest.terms_)
    np.testing.assert_allclose(encoder.coef_[:, 0], rest.coef_[:, 0], atol=1e-9)
    assert not np.allclose(encoder.coef_[:, 1], rest.coef_[:, 1], atol=1e-4)
    assert np.isfinite(encoder.fit_transform(notes, partly)[8]).all()


def test_a_label_of_one_value_gives_one_logit(cohort, there):
    notes, y = cohort
    y = np.column_stack([y[:, 0], np.zeros(200)])
    encoder = NaiveBayesNoteEncoder()
    found = encoder.fit(notes, y).transform(notes)
    # of the 199 rows with a note
    np.testing.assert_allclose(found[there, 1], logit(1 / 201))
    assert (encoder.coef_[:, 1] == 0).all()
    assert np.isfinite(encoder.fit_transform(notes, y)[there]).all()
    alone = encoder.fit(notes, np.ones(200)).transform(notes)
    assert alone.shape == (200, 1)
    assert np.isfinite(alone[there]).all()


@pytest.mark.parametrize("nothing", [None, np.nan, "", " \n", pd.NA])
def test_a_row_without_a_note_is_absent_or_zero_and_not_learned_from(cohort, nothing):
    notes, y = cohort
    with_nothing = [*notes[:7], nothing, *notes[8:]]
    encoder = NaiveBayesNoteEncoder(random_state=0)
    for found in (encoder.fit_transform(with_nothing, y), encoder.transform(with_nothing)):
        assert np.isnan(found[7]).all()
        assert np.isfinite(np.delete(found, 7, axis=0)).all()
    without = clone(encoder).fit(np.delete(np.array(notes, object), 7), np.delete(y, 7, axis=0))
    np.testing.assert_array_equal(without.coef_, encoder.coef_)
    zeros = clone(encoder).set_params(absent="zero").fit_transform(with_nothing, y)
    np.testing.assert_array_equal(zeros[7], 0)


def test_a_note_of_unknown_words_has_the_logit_of_the_intercept(cohort):
    encoder = NaiveBayesNoteEncoder().fit(*cohort)
    np.testing.assert_array_equal(encoder.transform(["xyzzy"])[0], encoder.intercept_)


def test_zero_weight_leaves_a_row_out_and_keeps_its_logit(cohort):
    notes, y = cohort
    notes = [*["unheard of"] * 5, *notes[5:]]
    weight = np.r_[np.zeros(20), np.ones(180)]
    weighted = NaiveBayesNoteEncoder().fit(notes, y, sample_weight=weight)
    without = NaiveBayesNoteEncoder().fit(notes[20:], y[20:])
    np.testing.assert_array_equal(weighted.terms_, without.terms_)
    np.testing.assert_array_equal(weighted.transform(notes), without.transform(notes))
    assert np.isfinite(weighted.fit_transform(notes, y, sample_weight=weight)[0]).all()


def test_whole_weights_are_rows_repeated(cohort, there):
    notes, y = cohort
    weight = np.arange(200) % 3 + 1
    weighted = NaiveBayesNoteEncoder(min_df=1).fit(notes, y, sample_weight=weight)
    often = NaiveBayesNoteEncoder(min_df=1).fit(
        np.repeat(np.array(notes, object), weight), np.repeat(y, weight, axis=0)
    )
    np.testing.assert_allclose(
        weighted.transform(notes)[there], often.transform(notes)[there], atol=1e-6
    )


def test_weights_do_not_make_a_rare_term_frequent(cohort):
    notes, y = cohort
    notes = [*notes[:-1], "zanzibarian"]
    weight = np.r_[np.ones(199), 9]
    with_rare = NaiveBayesNoteEncoder().fit(notes, y, sample_weight=weight)
    np.testing.assert_array_equal(with_rare.transform(["zanzibarian"])[0], with_rare.intercept_)


def test_no_word_is_kept(cohort):
    notes, y = cohort
    encoder = NaiveBayesNoteEncoder(min_df=1).fit(["The Zanzibarian", *notes[1:]], y)
    for raw in (pickle.dumps(encoder), repr(vars(encoder)).encode()):
        assert b"anzibarian" not in raw
        assert b"nausea" not in raw
    learned = [np.asarray(each) for name, each in vars(encoder).items() if name.endswith("_")]
    assert {each.dtype.kind for each in learned} <= {"i", "f"}


def test_saved_encoders_give_the_same(cohort, tmp_path):
    notes, y = cohort
    encoder = NaiveBayesNoteEncoder(random_state=0).fit(pd.DataFrame({"note": notes}), y)
    expected = encoder.transform(notes)
    file = io.BytesIO()
    joblib.dump(encoder, file)
    np.testing.assert_array_equal(joblib.load(file).transform(notes), expected)
    data = skops.io.dumps(encoder)
    ours = "sklearn_medfuse.notes._naive_bayes_note.NaiveBayesNoteEncoder"
    assert skops.io.get_untrusted_types(data=data) == [ours]
    np.testing.assert_array_equal(skops.io.loads(data, trusted=[ours]).transform(notes), expected)
    save_model(encoder, tmp_path / "words.skops")
    np.testing.assert_array_equal(load_model(tmp_path / "words.skops").transform(notes), expected)


def test_seeds_of_folds(cohort):
    one, same, other = (NaiveBayesNoteEncoder(random_state=seed) for seed in (0, 0, 1))
    first = one.fit_transform(*cohort)
    np.testing.assert_array_equal(first, same.fit_transform(*cohort))
    assert not np.array_equal(first, other.fit_transform(*cohort), equal_nan=True)
    # they alone are drawn
    np.testing.assert_array_equal(one.coef_, other.coef_)


def test_clone_keeps_parameters_and_drops_what_was_learned(cohort):
    encoder = NaiveBayesNoteEncoder(0.5, alpha=2.0, max_terms=5, cv=3).fit(*cohort)
    copy = clone(encoder)
    assert copy.get_params() == encoder.get_params()
    assert set(vars(copy)) == set(encoder.get_params()) == set(encoder._parameter_constraints)
    assert encoder.coef_.shape == (5, 2)
    with pytest.raises(NotFittedError):
        copy.transform(["fever"])


def test_names_and_several_columns(cohort):
    notes, y = cohort
    frame = pd.DataFrame({"admission": notes, "nursing": notes[::-1]})
    encoder = NaiveBayesNoteEncoder().set_output(transform="pandas")
    found = encoder.fit_transform(frame, y)
    assert list(found.columns) == ["naivebayesnoteencoder0", "naivebayesnoteencoder1"]
    assert found.notna().all(axis=None)
    with pytest.raises(ValueError, match="feature names should match"):
        encoder.transform(frame[["nursing", "admission"]])


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"C": 0}, "'C'"),
        ({"alpha": 0.0}, "'alpha'"),
        ({"ngram_range": (2, 1)}, "ngram_range"),
        ({"min_df": 300}, "min_df=300"),
        ({"max_terms": 0}, "max_terms"),
        ({"absent": "mean"}, "absent"),
        ({"cv": ShuffleSplit(3, random_state=0)}, "exactly once"),
    ],
)
def test_impossible_parameters(cohort, params, message):
    with pytest.raises(ValueError, match=message):
        NaiveBayesNoteEncoder(**params).fit_transform(*cohort)


def test_what_does_not_fit_is_refused(cohort):
    notes, y = cohort
    encoder = NaiveBayesNoteEncoder()
    with pytest.raises(ValueError, match="requires y"):
        encoder.fit(notes, None)
    with pytest.raises(ValueError, match="0, 1 or NaN only"):
        encoder.fit(notes, y * 2)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        encoder.fit(notes, y[:5])
    with pytest.raises(ValueError, match="one group only"):
        encoder.fit_transform(notes, y, groups=np.zeros(200))
    with pytest.raises(ValueError, match="give some a note and a weight"):
        encoder.fit_transform(notes, y, sample_weight=np.arange(200) == 7)
    with pytest.raises(ValueError, match="give some a note and a weight"):
        encoder.fit([None] * 200, y)


def test_notes_that_are_no_texts_are_refused_without_their_values(cohort):
    notes, y = cohort
    with pytest.raises(TypeError, match="row 1") as caught:
        NaiveBayesNoteEncoder().fit([notes[0], 987654, *notes[2:]], y)
    assert "987654" not in str(caught.value)
    assert caught.value.__context__ is None


def test_labels_are_refused_without_their_values(cohort):
    notes, _ = cohort
    with pytest.raises(ValueError, match="0, 1 or NaN only") as caught:
        NaiveBayesNoteEncoder().fit(notes, np.full((200, 2), "Zebulon", dtype=object))
    assert "Zebulon" not in str(caught.value)
    assert caught.value.__context__ is None
