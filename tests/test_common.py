"""scikit-learn's checks for the estimators of numbers; the same contract for the one of text."""

import ast
import importlib
import inspect
import pickle
import re

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import Pipeline
from sklearn.utils._param_validation import InvalidParameterError
from sklearn.utils.estimator_checks import parametrize_with_checks

from sklearn_medfuse import (
    BoostedLabEncoder,
    LLMNoteEncoder,
    MaskedLabEncoder,
    MEDFuseClassifier,
    MEDFusePipeline,
    TableEncoder,
)

LABS = MaskedLabEncoder(max_epochs=3, d_model=16, n_layers=1, n_components=4)
# The least that parameters of numbers may be, and what is too little or too much
LEAST_OF_A_NET = dict.fromkeys(
    ("d_model", "n_heads", "max_epochs", "batch_size", "n_iter_no_change"), 1
) | {"dropout": 0, "weight_decay": 0, "early_stopping": True, "validation_fraction": 0.5}
LEAST = {
    MaskedLabEncoder: LEAST_OF_A_NET
    | dict.fromkeys(("n_components", "n_layers", "n_decoder_layers"), 1)
    | {"max_epochs": 0, "n_factors": 1},
    MEDFuseClassifier: LEAST_OF_A_NET
    | dict.fromkeys(("n_tokens", "n_estimators", "critic_steps"), 1)
    | {"mi_weight": 0, "modality_dropout": 0, "linear_weight": 0}
    | {"decision_folds": 2, "threshold": 0, "calibration": "sigmoid"},
}
OUTSIDE = {
    "dropout": [-0.1, 1],
    "false_negative_cost": [0],
    "learning_rate": [0],
    "linear_C": [0],
    "linear_weight": [-0.1, 1.1],
    "mask_ratio": [0, 1],
    "mi_weight": [-0.1],
    "modality_dropout": [-0.1, 1],
    "n_factors": [-1],
    "threshold": [-0.1, 1.1],
    "validation_fraction": [0, 1],
    "weight_decay": [-0.1],
}
# Whole batches in float64 without dropout: then weights equal repeated rows to the last digits
FUSE = MEDFuseClassifier(
    max_epochs=40,
    d_model=8,
    n_heads=2,
    n_estimators=1,
    dropout=0.0,
    learning_rate=2e-2,
    batch_size=500,
    precision="float64",
)
# One whose parts exchange information, one whose parts do not, and one of a single modality
FUSIONS = ["disentangled", "late", "labs"]
CANARY = "Zebulon Quixote"


def expected_failures(estimator):
    """What an estimator fails in its defaults, with the reason."""
    if isinstance(estimator, Pipeline):
        return dict.fromkeys(
            ("check_dont_overwrite_parameters", "check_estimators_overwrite_params"),
            "the steps are fitted in place, as those of scikit-learn's Pipeline",
        )
    reason = ""
    if isinstance(estimator, BoostedLabEncoder):
        # Passes with a DecisionTreeClassifier: test_cross_fitted.py
        reason = "the default trees count rows, not weights, in their smallest leaf"
    elif isinstance(estimator, MEDFuseClassifier) and estimator.dropout:
        # Passes with whole batches and without dropout, as FUSE does
        reason = "a repeated row falls into other batches and drops other units"
    return {"check_sample_weight_equivalence_on_dense_data": reason} if reason else {}


@parametrize_with_checks(
    [
        LABS,
        TableEncoder(),
        *(clone(FUSE).set_params(fusion=name) for name in FUSIONS),
        # scikit-learn seeds no steps of a pipeline
        MEDFusePipeline([("fuse", clone(FUSE).set_params(max_epochs=3, random_state=0))]),
        # Defaults, but for the time that they take
        BoostedLabEncoder(),
        MEDFuseClassifier(max_epochs=2, n_estimators=1),
    ],
    expected_failed_checks=expected_failures,
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


# What scikit-learn's checks skip for an estimator of text


def test_init_only_assigns(note_encoder):
    encoder = note_encoder()
    parameters = set(inspect.signature(LLMNoteEncoder).parameters)
    assert set(vars(encoder)) == parameters == set(encoder.get_params())


def test_every_parameter_has_constraints():
    for estimator in (LLMNoteEncoder, MaskedLabEncoder, MEDFuseClassifier):
        assert set(estimator._parameter_constraints) == set(estimator().get_params())


def test_clone_keeps_parameters_and_drops_what_was_learned(note_encoder, notes):
    encoder = note_encoder(stride=3).fit(notes)
    copy = clone(encoder)
    assert copy.get_params() == encoder.get_params()
    assert set(vars(copy)) == set(encoder.get_params())


def test_set_params_is_read_back_and_refuses_unknown_names(note_encoder):
    assert note_encoder().set_params(stride=5).get_params()["stride"] == 5
    with pytest.raises(ValueError, match="Invalid parameter"):
        note_encoder().set_params(no_such_parameter=1)


def test_fit_returns_self_and_changes_no_parameter(note_encoder, notes):
    encoder = note_encoder()
    before = encoder.get_params()
    assert encoder.fit(notes) is encoder
    assert encoder.get_params() == before


def test_fitting_twice_gives_the_same(note_encoder, notes):
    encoder = note_encoder().fit(["Something else entirely.", "And more."])
    again = encoder.fit(notes)
    np.testing.assert_array_equal(again.transform(notes), note_encoder().fit_transform(notes))
    assert len(again.n_chunks_) == len(notes)


def test_transform_equals_fit_transform(note_encoder, notes):
    encoder = note_encoder()
    np.testing.assert_array_equal(encoder.fit_transform(notes), encoder.transform(notes))


def test_permuting_notes_permutes_their_embeddings(note_encoder, notes):
    encoder = note_encoder().fit(notes)
    order = [4, 0, 5, 2, 1, 3]
    permuted = encoder.transform([notes[i] for i in order])
    np.testing.assert_array_equal(permuted, encoder.transform(notes)[order])


def test_embedding_does_not_depend_on_the_other_notes(note_encoder, notes, forget):
    encoder = note_encoder().fit(notes)
    together = encoder.transform(notes)
    for i, note in enumerate(notes):
        forget()
        np.testing.assert_array_equal(encoder.transform([note])[0], together[i])


def test_names_of_input_and_output(note_encoder, notes):
    frame = pd.DataFrame({"note": notes})
    encoder = note_encoder().fit(frame)
    assert encoder.n_features_in_ == 1
    assert encoder.feature_names_in_.tolist() == ["note"]
    names = encoder.get_feature_names_out()
    assert names.tolist() == [f"llmnoteencoder{i}" for i in range(16)]
    with pytest.raises(ValueError, match="feature_names_in_"):
        encoder.get_feature_names_out(["other"])


def test_unnamed_input_has_no_feature_names(note_encoder, notes):
    encoder = note_encoder().fit(pd.DataFrame({"note": notes})).fit(notes)
    assert not hasattr(encoder, "feature_names_in_")


def test_set_output_gives_a_data_frame_with_the_index(note_encoder, notes):
    series = pd.Series(notes, index=list("abcdef"), name="note")
    frame = note_encoder().set_output(transform="pandas").fit_transform(series)
    assert frame.index.tolist() == list("abcdef")
    assert frame.columns[0] == "llmnoteencoder0"


@pytest.mark.parametrize("kind", LEAST)
def test_the_least_that_a_parameter_may_be(kind):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(40, 4)), np.arange(40) % 2
    params = LEAST[kind] | {"random_state": 0}
    if kind is MEDFuseClassifier:
        params["modalities"] = {"labs": 2, "notes": 2}
        kind(**params | {"threshold": "tune", "false_negative_cost": 0.5}).fit(X, y)
    kind(**params).fit(X, y)
    outside = {
        name: OUTSIDE.get(name, [LEAST[kind].get(name, 0) - 1])
        for name in kind().get_params()
        if name in OUTSIDE or type(LEAST[kind].get(name)) is int
    }
    assert len(outside) > 10
    for name, values in outside.items():
        for value in values:
            with pytest.raises(InvalidParameterError, match=f"'{name}' parameter"):
                kind(**params | {name: value}).fit(X, y)


@pytest.mark.parametrize("kind", LEAST)
def test_groups_are_routed_to_fit_by_default(kind):
    with config_context(enable_metadata_routing=True):
        assert kind().get_metadata_routing().fit.requests["groups"] is True


@pytest.mark.parametrize(
    "module", ["", ".datasets", ".inspection", ".metrics", ".model_selection", ".plotting"]
)
def test_defaults_are_those_that_the_docstrings_tell(module):
    module = importlib.import_module(f"sklearn_medfuse{module}")
    for public in (getattr(module, name) for name in module.__all__):
        if not callable(public):
            continue
        known = inspect.signature(public).parameters
        told = re.findall(r"^(\w+) : .*default=([^ ]+)$", inspect.getdoc(public), re.MULTILINE)
        for name, default in told:
            if name in known and "**" not in default:
                assert known[name].default == ast.literal_eval(default), (public, name)


def test_insight_needs_a_fit():
    X, y = np.zeros((4, 2)), np.array([0, 1, 0, 1])
    for ask in (FUSE.modality_importance, FUSE.score):
        with pytest.raises(NotFittedError):
            ask(X, y)
    for ask in (FUSE.transform, FUSE.mutual_information, LABS.reconstruct, LABS.impute, LABS.score):
        with pytest.raises(NotFittedError):
            ask(X)


def test_not_fitted(note_encoder, notes):
    with pytest.raises(NotFittedError):
        note_encoder().transform(notes)
    with pytest.raises(NotFittedError):
        note_encoder().get_feature_names_out()


def test_wrong_number_of_columns_is_refused(note_encoder, notes):
    encoder = note_encoder().fit(notes)
    with pytest.raises(ValueError, match="X has 2 features, but LLMNoteEncoder is expecting 1"):
        encoder.transform(np.array([["a", "b"]], dtype=object))


def test_wrong_names_are_refused(note_encoder, notes):
    encoder = note_encoder().fit(pd.DataFrame({"note": notes}))
    with pytest.raises(ValueError, match="feature names should match"):
        encoder.transform(pd.DataFrame({"letter": notes}))


def test_no_rows_are_refused(note_encoder):
    with pytest.raises(ValueError, match="0 sample"):
        note_encoder().fit([])


@pytest.mark.parametrize(
    "parameter",
    [
        {"model": 3},
        {"pooling": "max"},
        {"max_length": 0},
        {"stride": -1},
        {"chunk_pooling": "median"},
        {"batch_tokens": 0},
        {"dtype": "int8"},
        {"absent": "mean"},
        {"split_on": 1},
        {"local_files_only": "yes"},
        {"verbose": "loud"},
    ],
    ids=lambda parameter: next(iter(parameter)),
)
def test_impossible_parameter_values_are_refused(note_encoder, notes, parameter):
    with pytest.raises(InvalidParameterError, match=next(iter(parameter))):
        note_encoder(**parameter).fit(notes)


def test_transform_changes_no_attribute(note_encoder, notes):
    encoder = note_encoder().fit(notes)
    before = joblib.hash(vars(encoder))
    encoder.transform(notes[:2])
    assert joblib.hash(vars(encoder)) == before


def test_round_trips_are_bit_identical(note_encoder, notes, round_trip):
    encoder = note_encoder().fit(pd.DataFrame({"note": notes}))
    loaded = round_trip(encoder)
    assert loaded.get_params() == encoder.get_params()
    assert joblib.hash(loaded) == joblib.hash(encoder)
    np.testing.assert_array_equal(loaded.transform(notes), encoder.transform(notes))


def test_input_is_not_changed(note_encoder, notes):
    frame = pd.DataFrame({"note": notes, "letter": notes[::-1]})
    before = frame.copy(deep=True)
    note_encoder().fit_transform(frame)
    pd.testing.assert_frame_equal(frame, before)


FORMS = {
    "frame": lambda notes: pd.DataFrame({"note": notes}),
    "series": pd.Series,
    "tuple": tuple,
    "column of lists": lambda notes: [[note] for note in notes],
    "object (n,)": lambda notes: np.array(notes, dtype=object),
    "object (n, 1)": lambda notes: np.array(notes, dtype=object)[:, None],
    "NaN for None": lambda notes: [np.nan if note is None else note for note in notes],
    "str array": lambda notes: np.array([note or "" for note in notes]),
    "StringDtype": lambda notes: pd.Series(notes, dtype="string"),
    "str dtype": lambda notes: pd.Series(notes, dtype="str"),
    "pyarrow": lambda notes: pd.Series(notes, dtype="string[pyarrow]"),
    "categorical": lambda notes: pd.Series(notes, dtype="category"),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_input_gives_the_same(note_encoder, notes, form):
    expected = note_encoder().fit_transform(notes)
    np.testing.assert_array_equal(note_encoder().fit_transform(FORMS[form](notes)), expected)


# Of all three


@pytest.fixture(params=["labs", "notes", "fuse"])
def case(request, labs, notes, note_encoder):
    """An estimator with small settings, its X and its y."""
    if request.param == "labs":
        return clone(LABS), labs, None
    if request.param == "notes":
        return note_encoder(), notes, None
    X = np.nan_to_num(labs)
    return clone(FUSE), X, (X[:, :3] > X[:, :3].mean(axis=0)).astype(int)


def _seeded(estimator, seed=0):
    known = "random_state" in estimator.get_params()
    return clone(estimator).set_params(random_state=seed) if known else clone(estimator)


def test_global_random_state_is_left_as_found(case, global_random_state):
    estimator, X, y = case
    before = global_random_state()
    estimator = _seeded(estimator).fit(X, y)
    estimator.transform(X)
    if y is not None:
        estimator.predict(X)
    assert global_random_state() == before


def test_same_seed_same_result_whatever_the_global_state(case):
    estimator, X, y = case
    first = _seeded(estimator).fit(X, y).transform(X)
    np.random.seed(99)  # noqa: NPY002, a user who seeds the global generator
    np.testing.assert_array_equal(_seeded(estimator).fit(X, y).transform(X), first)


@pytest.mark.parametrize("case", ["labs", "fuse"], indirect=True)
def test_another_seed_gives_another_result(case):
    estimator, X, y = case
    first = _seeded(estimator).fit(X, y).transform(X)
    assert not np.array_equal(_seeded(estimator, 1).fit(X, y).transform(X), first)


@pytest.mark.parametrize("case", ["labs", "fuse"], indirect=True)
def test_a_random_state_instance_is_accepted(case):
    estimator, X, y = case
    results = [
        _seeded(estimator, np.random.RandomState(0)).fit(X, y).transform(X) for _ in range(2)
    ]
    np.testing.assert_array_equal(*results)


def test_repr_and_html_hold_parameters_only(case):
    estimator, X, y = case
    unfitted = repr(_seeded(estimator))
    fitted = _seeded(estimator).fit(X, y)
    assert repr(fitted) == unfitted
    value = X[0] if isinstance(X, list) else str(X[1, 0])
    assert len(value) > 8
    assert value not in fitted._repr_html_()


def test_refused_text_is_not_shown_in_errors(case):
    estimator, X, y = case
    estimator = _seeded(estimator).fit(X, y)
    bad = [CANARY.encode()] if isinstance(X, list) else np.full((1, X.shape[1]), CANARY, object)
    # Labs warn of a result that they cannot read, and warnings are errors here
    with pytest.raises((TypeError, ValueError, UserWarning)) as caught:
        estimator.transform(bad)
    assert CANARY not in "".join(map(str, _chain(caught.value)))


@pytest.mark.parametrize("case", ["labs", "fuse"], indirect=True)
@pytest.mark.parametrize("kind", [float, complex])
def test_refused_numbers_are_not_shown_in_errors(case, kind):
    estimator, X, y = case
    estimator = _seeded(estimator).fit(X, y)
    row = np.full(X.shape[1], 31337.5, dtype=kind)
    with pytest.raises(ValueError, match=r"Reshape|Complex") as caught:
        estimator.transform(row if kind is float else row[None])
    assert "31337" not in "".join(map(str, _chain(caught.value)))


def test_loading_leaves_the_global_random_state_as_found(case, global_random_state):
    estimator, X, y = case
    dumped = pickle.dumps(_seeded(estimator).fit(X, y))
    before = global_random_state()
    pickle.loads(dumped)
    assert global_random_state() == before


def _chain(error):
    """The errors that a traceback would print."""
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
