"""Both encoders that embed rows by logits of classifiers which have not seen them."""

import io
import pickle
from functools import partial
from types import SimpleNamespace

import joblib
import numpy as np
import pandas as pd
import pytest
import skops.io
from scipy.special import logit
from sklearn import config_context
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, KFold, ShuffleSplit, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.estimator_checks import parametrize_with_checks
from threadpoolctl import threadpool_info, threadpool_limits

from sklearn_medfuse import BoostedLabEncoder, NaiveBayesNoteEncoder
from sklearn_medfuse.persistence import load_model, save_model

WORDS = np.array(["fever", "cough", "rash", "pain", "nausea", "stable", "alert", "fall"])
N_ROWS = 200
ABSENT = 7
PRESENT = np.arange(N_ROWS) != ABSENT

# These want fit_transform(X, y) to equal fit(X, y).transform(X), which cross-fitting forbids
# unless the classifier predicts the same for all rows
SAME_TWICE = {"check_transformer_general", "check_transformer_data_not_an_array"}
SAME_OF_ALL = DummyClassifier(strategy="uniform")


def make_boosted(**params):
    return BoostedLabEncoder(DecisionTreeClassifier(max_depth=3, random_state=0), **params)


def make_labs():
    """Four labs with gaps; the first label hangs on a sharp limit of the first lab."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N_ROWS, 4))
    y = np.stack([np.abs(X[:, 0]) < 0.5, X[:, 1] > 1], axis=1).astype(float)
    X[rng.random(X.shape) < 0.1] = np.nan
    X[ABSENT] = np.nan
    # Rows of one patient are alike, and ill by chance
    patients = np.repeat(rng.normal(size=(20, 2)), 5, axis=0) + rng.normal(size=(100, 2)) * 1e-3
    return SimpleNamespace(
        make=make_boosted,
        X=X,
        y=y,
        noise=X[PRESENT],
        on_noise=BoostedLabEncoder(HistGradientBoostingClassifier(max_iter=30), random_state=0),
        patients=patients,
        on_patients=BoostedLabEncoder(KNeighborsClassifier(1), random_state=0),
        types={
            "sklearn_medfuse.labs._boosted_lab.BoostedLabEncoder",
            "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
        },
        to_save=BoostedLabEncoder(random_state=0),
        name="boostedlabencoder",
    )


def make_notes():
    """Notes of four of eight words; one word each decides two labels."""
    rng = np.random.default_rng(0)
    X = np.array([" ".join(rng.permutation(WORDS)[:4]) for _ in range(N_ROWS)], dtype=object)
    y = np.array([[word in note for word in ("fever", "rash")] for note in X], dtype=float)
    X[ABSENT] = None
    noise = [" ".join(f"w{i}" for i in rng.integers(0, 500, 40)) for _ in range(N_ROWS - 1)]
    return SimpleNamespace(
        make=partial(NaiveBayesNoteEncoder, min_df=1),
        X=X,
        y=y,
        noise=noise,
        on_noise=NaiveBayesNoteEncoder(random_state=0),
        patients=[f"patient{group} was seen" for group in np.repeat(np.arange(20), 5)],
        on_patients=NaiveBayesNoteEncoder(C=1.0, random_state=0),
        types={"sklearn_medfuse.notes._note_words.NaiveBayesNoteEncoder"},
        to_save=NaiveBayesNoteEncoder(random_state=0),
        name="naivebayesnoteencoder",
    )


@pytest.fixture
def labs():
    return make_labs()


@pytest.fixture
def notes():
    return make_notes()


@pytest.fixture(params=[make_labs, make_notes], ids=["labs", "notes"])
def case(request):
    return request.param()


# No leak


def test_labels_that_mean_nothing_give_logits_that_know_nothing(case):
    y = np.random.default_rng(1).integers(0, 2, size=(N_ROWS - 1, 5))
    held_out = case.on_noise.fit_transform(case.noise, y)
    seen = case.on_noise.transform(case.noise)
    assert min(roc_auc_score(y, seen, average=None)) > 0.8
    assert roc_auc_score(y, held_out) == pytest.approx(0.5, abs=0.07)


def test_a_rows_own_label_does_not_change_its_logits(case):
    other = case.y.copy()
    other[3] = 1 - other[3]
    encoder = case.make(random_state=0)
    before, after = encoder.fit_transform(case.X, case.y), encoder.fit_transform(case.X, other)
    np.testing.assert_array_equal(after[3], before[3])
    assert not np.array_equal(after, before, equal_nan=True)


def test_groups_are_held_out_whole(case):
    groups = np.repeat(np.arange(20), 5)
    y = np.repeat(np.random.default_rng(0).permutation(np.arange(20) % 2), 5)
    encoder = case.on_patients
    assert roc_auc_score(y, encoder.fit_transform(case.patients, y)) > 0.95
    assert roc_auc_score(y, encoder.fit_transform(case.patients, y, groups=groups)) < 0.8


def test_groups_and_weights_are_routed(case):
    X = pd.DataFrame(case.X).set_axis(list("abcd")[: pd.DataFrame(case.X).shape[1]], axis=1)
    groups, weight = np.repeat(np.arange(50), 4), np.arange(N_ROWS) % 3
    plain = case.make(cv=GroupKFold(5))
    expected = plain.fit_transform(X, case.y, sample_weight=weight, groups=groups)
    with config_context(enable_metadata_routing=True):
        asked = clone(plain).set_fit_request(groups=True, sample_weight=True)
        pipe = Pipeline([("encode", ColumnTransformer([("view", asked, list(X))]))])
        found = pipe.fit_transform(X, case.y, groups=groups, sample_weight=weight)
    np.testing.assert_array_equal(found, expected)


# Labels


def test_missing_labels_are_as_if_their_rows_were_not_there(case):
    unknown = np.arange(N_ROWS) % 4 == 0
    partly = pd.DataFrame(case.y).mask(unknown[:, None] & [[True, False]])
    encoder = case.make().fit(case.X, partly)
    rest = case.make().fit(case.X[~unknown], case.y[~unknown])
    found, expected = encoder.transform(case.X)[PRESENT], rest.transform(case.X)[PRESENT]
    np.testing.assert_allclose(found[:, 0], expected[:, 0], atol=1e-9)
    assert not np.allclose(found[:, 1], expected[:, 1], atol=1e-4)
    assert np.isfinite(encoder.fit_transform(case.X, partly)[8]).all()


def test_a_label_of_one_value_gives_one_logit(case):
    y = np.column_stack([case.y[:, 0], np.zeros(N_ROWS)])
    encoder = case.make()
    found = encoder.fit(case.X, y).transform(case.X)[PRESENT, 1]
    # A row without a note is not learned from, one without labs is
    n_learned = N_ROWS - isinstance(encoder, NaiveBayesNoteEncoder)
    np.testing.assert_allclose(found, logit(1 / (n_learned + 2)))
    assert np.isfinite(encoder.fit_transform(case.X, y)[PRESENT]).all()


def test_one_class_gives_one_finite_logit(case):
    found = case.make().fit_transform(case.X, np.full(N_ROWS, "well"))
    assert found.shape == (N_ROWS, 1)
    assert (np.isfinite(found[PRESENT]) & (found[PRESENT] < 0)).all()


# Rows


def test_a_row_without_the_modality_is_absent_or_zero(case):
    encoder = case.make(random_state=0)
    for found in (encoder.fit_transform(case.X, case.y), encoder.transform(case.X)):
        assert np.isnan(found[ABSENT]).all()
        assert np.isfinite(found[PRESENT]).all()
    zeros = case.make(absent="zero").fit_transform(case.X, case.y)
    np.testing.assert_array_equal(zeros[ABSENT], 0)


def test_zero_weight_leaves_a_row_out_and_keeps_its_logit(case):
    weight = np.r_[np.zeros(20), np.ones(N_ROWS - 20)]
    weighted = case.make().fit(case.X, case.y, sample_weight=weight)
    without = case.make().fit(case.X[20:], case.y[20:])
    np.testing.assert_array_equal(weighted.transform(case.X), without.transform(case.X))
    assert np.isfinite(weighted.fit_transform(case.X, case.y, sample_weight=weight)[0]).all()


def test_seeds_of_folds(case):
    one, same, other = (case.make(random_state=seed) for seed in (0, 0, 1))
    first = one.fit_transform(case.X, case.y)
    np.testing.assert_array_equal(first, same.fit_transform(case.X, case.y))
    assert not np.array_equal(first, other.fit_transform(case.X, case.y), equal_nan=True)
    # Only the folds are drawn
    np.testing.assert_array_equal(one.transform(case.X), other.transform(case.X))


# State and parameters


def test_saved_encoders_give_the_same(case, tmp_path):
    encoder = case.to_save.fit(case.X, case.y)
    expected = encoder.transform(case.X)
    file = io.BytesIO()
    joblib.dump(encoder, file)
    np.testing.assert_array_equal(joblib.load(file).transform(case.X), expected)
    data = skops.io.dumps(encoder)
    trusted = skops.io.get_untrusted_types(data=data)
    assert set(trusted) == case.types
    loaded = skops.io.loads(data, trusted=trusted)
    np.testing.assert_array_equal(loaded.transform(case.X), expected)


def test_clone_keeps_parameters_and_drops_what_was_learned(case):
    encoder = case.make(cv=3).fit(case.X, case.y)
    copy = clone(encoder)
    assert repr(copy) == repr(encoder)
    params = set(encoder.get_params(deep=False))
    assert set(vars(copy)) == params == set(encoder._parameter_constraints)
    with pytest.raises(NotFittedError):
        copy.transform(case.X)


def test_output_has_names(case):
    found = case.make().set_output(transform="pandas").fit_transform(case.X, case.y)
    assert list(found.columns) == [f"{case.name}0", f"{case.name}1"]


def test_what_does_not_fit_is_refused(case):
    X, y, encoder = case.X, case.y, case.make()
    with pytest.raises(ValueError, match="requires y"):
        encoder.fit(X, None)
    with pytest.raises(ValueError, match="only 0, 1 or NaN"):
        encoder.fit(X, y * 2)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        encoder.fit(X, y[:5])
    with pytest.raises(ValueError, match="exactly once"):
        case.make(cv=ShuffleSplit(3, random_state=0)).fit_transform(X, y)
    with pytest.raises(ValueError, match="only one group"):
        encoder.fit_transform(X, y, groups=np.zeros(N_ROWS))
    with pytest.raises(ValueError, match="leave no row to learn from"):
        encoder.fit_transform(X, y, sample_weight=np.arange(N_ROWS) == 5)
    with pytest.raises(ValueError, match="absent"):
        case.make(absent="mean").fit(X, y)


def test_labels_are_refused_without_their_values(case):
    with pytest.raises(ValueError, match="only 0, 1 or NaN") as caught:
        case.make().fit(case.X, np.full((N_ROWS, 2), "Zebulon", dtype=object))
    assert "Zebulon" not in str(caught.value)
    assert caught.value.__context__ is None


# BoostedLabEncoder


@parametrize_with_checks([BoostedLabEncoder(DecisionTreeClassifier(max_depth=2), cv=3)])
def test_scikit_learn_checks(estimator, check):
    if check.func.__name__ in SAME_TWICE:
        estimator = clone(estimator).set_params(estimator=SAME_OF_ALL)
    check(estimator)


def test_trees_find_a_sharp_limit_in_rows_held_out(labs):
    found = BoostedLabEncoder(random_state=0).fit_transform(labs.X[:150], labs.y[:150])
    there = ~np.isnan(found[:, 0])
    assert roc_auc_score(labs.y[:150][there, 0], found[there, 0]) > 0.8


def test_the_trees_are_those_documented(labs):
    as_documented = HistGradientBoostingClassifier(
        max_iter=100, max_leaf_nodes=4, learning_rate=0.03, random_state=0
    )
    fitted = BoostedLabEncoder(random_state=0).fit(labs.X, labs.y).transform(labs.X)
    expected = BoostedLabEncoder(as_documented).fit(labs.X, labs.y).transform(labs.X)
    np.testing.assert_array_equal(fitted, expected)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_logits_are_those_of_cross_val_predict(n_classes):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(90, 3))
    y = np.digitize(X[:, 0] + rng.normal(size=90), [-0.5, 0.5][: n_classes - 1])
    model = LogisticRegression()
    folds = KFold(4, shuffle=True, random_state=3)
    expected = cross_val_predict(model, X, y, cv=folds, method="predict_proba")
    expected = logit(expected[:, [1]]) if n_classes == 2 else np.log(expected)
    found = BoostedLabEncoder(model, cv=folds).fit_transform(X, y)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    of_all = model.fit(X, y).predict_proba(X)
    expected = logit(of_all[:, [1]]) if n_classes == 2 else np.log(of_all)
    np.testing.assert_allclose(BoostedLabEncoder(model).fit(X, y).transform(X), expected, atol=1e-6)


def test_a_label_of_one_value_has_no_classifier(labs):
    encoder = labs.make().fit(labs.X, np.column_stack([labs.y[:, 0], np.zeros(N_ROWS)]))
    assert isinstance(encoder.estimators_[0], DecisionTreeClassifier)
    assert encoder.estimators_[1] is None


@pytest.mark.parametrize("n_measured", [0, 1, 4])
def test_a_lab_that_few_rows_have_measured_is_ignored(labs, n_measured):
    rare = np.where(np.arange(N_ROWS) < n_measured, 5.0, np.nan)
    with_rare, y = np.column_stack([labs.X, rare]), labs.y
    for encoder in (BoostedLabEncoder(random_state=0), labs.make(random_state=0)):
        found = clone(encoder).fit_transform(with_rare, y)
        expected = clone(encoder).fit_transform(labs.X, y)
        np.testing.assert_array_equal(found[PRESENT], expected[PRESENT])
    nobody = BoostedLabEncoder(random_state=0).fit(with_rare[:, 4:], y)
    assert nobody.estimators_ == [None, None]


def test_a_lab_of_one_hospital_is_ignored_where_that_hospital_is_held_out(labs):
    hospital = np.arange(N_ROWS) % 4
    X = np.where((hospital == 0)[:, None] | (np.arange(4) < 3), labs.X, np.nan)
    encoder = BoostedLabEncoder(random_state=0, cv=GroupKFold(4))
    found = encoder.fit_transform(X, labs.y, groups=hospital)
    without = encoder.fit_transform(X[:, :3], labs.y, groups=hospital)
    measured = PRESENT & ~np.isnan(X[:, :3]).all(axis=1)
    held_out = measured & (hospital == 0)
    np.testing.assert_array_equal(found[held_out], without[held_out])
    assert np.isfinite(found[measured]).all()


def test_qualitative_labs_are_read():
    X = pd.DataFrame({"ketones": ["NEG", "2+"] * 20, "crp": ["<0.5", "12", None, "3"] * 10})
    y = np.tile([[0, 1], [1, 0]], (20, 1))
    encoder = BoostedLabEncoder(DecisionTreeClassifier()).fit(X, y)
    assert encoder.levels_ == [["NEG", "2+"], None]
    assert roc_auc_score(y, encoder.transform(X)) == 1


def test_seeds_of_classifiers(labs):
    tree = DecisionTreeClassifier(max_depth=2, max_features=1)
    one, other = (
        BoostedLabEncoder(tree, random_state=seed).fit(labs.X, labs.y).transform(labs.X)
        for seed in (0, 1)
    )
    assert not np.array_equal(one, other, equal_nan=True)
    own = BoostedLabEncoder(DecisionTreeClassifier(random_state=5)).fit(labs.X, labs.y)
    assert own.estimators_[0].random_state == 5


def test_weights_for_a_classifier_that_takes_none_are_refused(labs):
    encoder = BoostedLabEncoder(KNeighborsClassifier())
    with pytest.raises(TypeError, match="takes no sample_weight"):
        encoder.fit(np.nan_to_num(labs.X), labs.y, sample_weight=np.full(N_ROWS, 2.0))


# NaiveBayesNoteEncoder


def test_the_word_of_a_label_is_found_in_rows_held_out(notes):
    encoder = NaiveBayesNoteEncoder(ngram_range=(1, 1), random_state=0)
    found = encoder.fit_transform(notes.X, notes.y)
    assert roc_auc_score(notes.y[PRESENT], found[PRESENT]) > 0.99
    # Alone in a note, no word tells more
    tells = encoder.transform(WORDS)
    assert WORDS[tells.argmax(axis=0)].tolist() == ["fever", "rash"]


def test_logits_are_those_of_the_papers_equations(notes):
    texts, y = notes.X[PRESENT], notes.y[PRESENT, 0]
    present = CountVectorizer(ngram_range=(1, 2), min_df=3, binary=True).fit_transform(texts)

    def expected(kept, left):
        # Terms are chosen once, so a fold counts them as the whole does
        p = 0.5 + present[kept][y[kept] == 1].toarray().sum(axis=0)
        q = 0.5 + present[kept][y[kept] == 0].toarray().sum(axis=0)
        scaled = present.toarray() * np.log((p / p.sum()) / (q / q.sum()))
        return LogisticRegression(C=0.1).fit(scaled[kept], y[kept]).decision_function(scaled[left])

    folds = KFold(4, shuffle=True, random_state=3)
    encoder = NaiveBayesNoteEncoder(0.1, alpha=0.5, cv=folds).fit(texts, y)
    every = np.arange(len(y))
    np.testing.assert_allclose(encoder.transform(texts)[:, 0], expected(every, every), atol=1e-3)
    held_out = encoder.fit_transform(texts, y)[:, 0]
    for kept, left in folds.split(texts):
        np.testing.assert_allclose(held_out[left], expected(kept, left), atol=1e-3)


def test_two_classes_are_one_label_and_several_a_label_each(notes):
    X, y = notes.X, notes.y
    encoder = NaiveBayesNoteEncoder(random_state=0)
    # "well" comes after "ill"
    as_label = clone(encoder).fit(X, 1 - y[:, 0])
    as_class = clone(encoder).fit(X, np.array(["well", "ill"])[y[:, 0].astype(int)])
    assert as_class.classes_.tolist() == ["ill", "well"]
    np.testing.assert_array_equal(as_class.coef_, as_label.coef_)
    kind = np.where(y[:, 0] == 1, "a", np.where(y[:, 1] == 1, "b", "c"))
    found = encoder.fit_transform(X, kind)
    assert (encoder.classes_[found[PRESENT].argmax(axis=1)] == kind[PRESENT]).mean() > 0.9
    rest = clone(encoder).fit(X, np.column_stack([kind == name for name in "abc"]))
    np.testing.assert_array_equal(encoder.coef_, rest.coef_)
    np.testing.assert_array_equal(encoder.intercept_, rest.intercept_)


@pytest.mark.parametrize("nothing", [None, np.nan, "", " \n", pd.NA])
def test_a_row_without_a_note_is_not_learned_from(notes, nothing):
    X, y = [*notes.X[:ABSENT], nothing, *notes.X[ABSENT + 1 :]], notes.y
    encoder = NaiveBayesNoteEncoder(random_state=0).fit(X, y)
    assert np.isnan(encoder.transform(X)[ABSENT]).all()
    without = clone(encoder).fit(notes.X[PRESENT], y[PRESENT])
    np.testing.assert_array_equal(without.coef_, encoder.coef_)


def test_a_note_of_unknown_words_has_the_logit_of_the_intercept(notes):
    encoder = NaiveBayesNoteEncoder().fit(notes.X, notes.y)
    np.testing.assert_array_equal(encoder.transform(["xyzzy"])[0], encoder.intercept_)


def test_a_label_of_one_value_has_no_weights(notes):
    y = np.column_stack([notes.y[:, 0], np.zeros(N_ROWS)])
    coef = NaiveBayesNoteEncoder().fit(notes.X, y).coef_
    assert (coef[:, 1] == 0).all()
    assert (coef[:, 0] != 0).any()


def test_whole_weights_are_rows_repeated(notes):
    weight = np.arange(N_ROWS) % 3 + 1
    weighted = NaiveBayesNoteEncoder(min_df=1).fit(notes.X, notes.y, sample_weight=weight)
    often = NaiveBayesNoteEncoder(min_df=1).fit(
        np.repeat(notes.X, weight), np.repeat(notes.y, weight, axis=0)
    )
    np.testing.assert_allclose(
        weighted.transform(notes.X)[PRESENT], often.transform(notes.X)[PRESENT], atol=1e-6
    )


def test_weights_do_not_change_which_terms_are_rare(notes):
    X = [*["unheard of"] * 5, *notes.X[5:-1], "zanzibarian"]
    weight = np.r_[np.zeros(5), np.ones(N_ROWS - 6), 9]
    encoder = NaiveBayesNoteEncoder().fit(X, notes.y, sample_weight=weight)
    for rare in ("zanzibarian", "unheard of"):
        np.testing.assert_array_equal(encoder.transform([rare])[0], encoder.intercept_)


def test_no_word_is_kept(notes):
    encoder = NaiveBayesNoteEncoder(min_df=1).fit(["The Zanzibarian", *notes.X[1:]], notes.y)
    for raw in (pickle.dumps(encoder), repr(vars(encoder)).encode()):
        assert b"anzibarian" not in raw
        assert b"nausea" not in raw


def test_a_saved_model_is_trusted(notes, tmp_path):
    encoder = NaiveBayesNoteEncoder(max_terms=5, random_state=0).fit(notes.X, notes.y)
    assert encoder.coef_.shape == (5, 2)
    save_model(encoder, tmp_path / "words.skops")
    loaded = load_model(tmp_path / "words.skops")
    np.testing.assert_array_equal(loaded.transform(notes.X), encoder.transform(notes.X))


def test_several_columns(notes):
    frame = pd.DataFrame({"admission": notes.X, "nursing": notes.X[::-1]})
    encoder = NaiveBayesNoteEncoder().fit(frame, notes.y)
    assert np.isfinite(encoder.transform(frame)).all()
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
    ],
)
def test_impossible_parameters(notes, params, message):
    with pytest.raises(ValueError, match=message):
        NaiveBayesNoteEncoder(**params).fit(notes.X, notes.y)


def test_notes_that_are_no_texts_are_refused_without_their_values(notes):
    with pytest.raises(TypeError, match="row 1") as caught:
        NaiveBayesNoteEncoder().fit([notes.X[0], 987654, *notes.X[2:]], notes.y)
    assert "987654" not in str(caught.value)
    assert caught.value.__context__ is None


def test_no_note_at_all_is_refused(notes):
    with pytest.raises(ValueError, match="leave no row to learn from"):
        NaiveBayesNoteEncoder().fit([None] * N_ROWS, notes.y)


def test_few_rows_take_one_thread_and_the_others_are_given_back():
    """Short parallel regions of boosting wait for threads that torch keeps busy."""
    seen = []

    class Spy(LogisticRegression):
        def fit(self, X, y, sample_weight=None):
            seen.extend(threads())
            return super().fit(X, y, sample_weight)

    def threads():
        return [p["num_threads"] for p in threadpool_info() if p["user_api"] == "openmp"]

    X = np.random.default_rng(0).normal(size=(40, 2))
    with threadpool_limits(2, "openmp"):
        BoostedLabEncoder(Spy(), cv=2).fit_transform(X, X[:, 0] > 0)
        assert set(threads()) == {2}
    assert set(seen) == {1}
