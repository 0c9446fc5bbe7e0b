"""Odd labs, notes and labels end in a right result or in a ValueError or TypeError of ours."""

import traceback
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from sklearn.base import clone

from sklearn_medfuse import LLMNoteEncoder, MaskedLabEncoder, MEDFuseClassifier
from sklearn_medfuse import make_medfuse_pipeline as make_pipeline

from .scale import SCALE
from .strategies import LABS, NAME, NOTE, VALUE, lab_matrix, stays

LAB_NET = {"d_model": 8, "n_heads": 2, "n_layers": 1, "max_epochs": 1, "device": "cpu"}
FUSE = {"d_model": 8, "n_heads": 2, "n_estimators": 1, "max_epochs": 1, "device": "cpu"}
# Scikit-learn looks at tables through narwhals
OURS = ("/sklearn_medfuse/", "/sklearn/", "/narwhals/")


@pytest.fixture(scope="module")
def through_pipeline(tiny_bert):
    """Return a function that fits, predicts, and says what is wrong; None where nothing is."""
    pipe = make_pipeline(
        LABS,
        NOTE,
        lab_encoder=MaskedLabEncoder(4, n_factors=2, **LAB_NET),
        note_encoder=LLMNoteEncoder(tiny_bert, dtype="float32", device="cpu", random_state=0),
        random_state=0,
        **FUSE,
    )

    def run(example):
        X, y, X_new = example
        fitted = clone(pipe).fit(X, y)
        probabilities, predicted = fitted.predict_proba(X_new), fitted.predict(X_new)
        shape = np.shape(y)
        two_labels = len(shape) == 2 and shape[1] > 1
        width = shape[1] if two_labels else len(fitted["medfuse"].classes_)
        if probabilities.shape != (len(X_new), width) or len(predicted) != len(X_new):
            return f"shape {probabilities.shape} of {len(X_new)} stays, labels of shape {shape}"
        if np.isfinite(probabilities).all() and (abs(probabilities - 0.5) <= 0.5 + 1e-9).all():
            return None
        return "numbers that are not probabilities"

    return run


def through_encoder(X):
    """Fit, embed, impute, and say what is wrong with the result; None where nothing is."""
    encoder = MaskedLabEncoder(4, n_factors=2, random_state=0, **LAB_NET).fit(X)
    embedding, filled = encoder.transform(X), encoder.impute(X)
    n = X.shape[0] if hasattr(X, "shape") else len(X)
    if embedding.shape != (n, 4) or np.isinf(embedding).any():
        return "an embedding of another shape, or infinite"
    dense = filled.toarray() if hasattr(filled, "toarray") else np.asarray(filled, dtype=float)
    # A lab of too few rows stays as it was, gaps and all
    gaps = dense[:, ~np.isnan(encoder.center_)]
    return None if dense.shape[0] == n and not np.isnan(gaps).any() else "gaps after impute"


def end_of(function, *args):
    """How a call ended: (kind, detail); kinds in capitals are failures."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        # As errors they show their place
        warnings.simplefilter("error", RuntimeWarning)
        try:
            problem = function(*args)
            end = ("result", "") if problem is None else ("WRONG RESULT", problem)
        except (ValueError, TypeError) as error:
            end = _end_of_error(error)
        except RuntimeWarning as error:
            end = ("RUNTIME WARNING", _where(error))
        except Exception as error:
            end = ("OTHER ERROR", _where(error))
    for warning in caught:
        if _tells(str(warning.message)):
            return "WARNING TELLS DATA", str(warning.message)[:300]
    return end


def _end_of_error(error):
    each = error
    while each is not None:
        if _tells(str(each)):
            return "ERROR TELLS DATA", _where(each)
        # What Python prints, and reports of errors send on
        each = each.__cause__ or (None if each.__suppress_context__ else each.__context__)
    last = traceback.extract_tb(error.__traceback__)[-1].filename
    if any(place in last for place in OURS):
        return f"refused, {type(error).__name__}", ""
    return "FOREIGN ERROR", _where(error)


def _tells(message):
    return NAME in message or str(VALUE) in message or "31337" in message


def _where(error):
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if "sklearn_medfuse/" in f.filename][-3:]
    places = [f"{Path(f.filename).name}:{f.lineno}" for f in (*ours, *frames[-1:])]
    return f"{type(error).__name__} at {' '.join(places)}: {str(error)[:200]}"


def storm(strategy, function, n_examples):
    """Ends of so many examples, with an example's detail where it is a failure, counted."""
    ends = Counter()

    @seed(0)
    @settings(
        max_examples=n_examples,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def run(example):
        kind, detail = end_of(function, example)
        ends[(kind, detail) if kind.isupper() else kind] += 1

    run()
    print(dict(ends))
    failures = [end for end in ends if isinstance(end, tuple)]
    assert failures == []
    # A storm in which all is refused would show little
    assert ends["result"] > n_examples / 6


def test_a_few_pipelines(through_pipeline):
    storm(stays(), through_pipeline, 12)


def test_a_few_lab_encoders():
    storm(lab_matrix(), through_encoder, 20)


@pytest.mark.slow
def test_whole_pipelines(through_pipeline):
    storm(stays(), through_pipeline, 40 * SCALE)


@pytest.mark.slow
def test_labs_alone():
    storm(lab_matrix(), through_encoder, 60 * SCALE)


@pytest.mark.parametrize(
    ("function", "kind"),
    [
        (lambda: {}["a"], "OTHER ERROR"),
        (lambda: int(f"{NAME}"), "ERROR TELLS DATA"),
        (lambda: int("1.5"), "FOREIGN ERROR"),
        (lambda: "a shape", "WRONG RESULT"),
        (lambda: np.log(-np.ones(1)) and None, "RUNTIME WARNING"),
        (lambda: None, "result"),
    ],
)
def test_the_storm_sees_what_it_looks_for(function, kind):
    assert end_of(function)[0] == kind


def test_a_matrix_of_other_numbers_than_0_and_1_is_no_labels():
    y = 2 * np.eye(12, 2, dtype=int)
    classifier = MEDFuseClassifier(modalities={"a": 2, "b": 2})
    with pytest.raises(ValueError, match="other than 0 and 1"):
        classifier.fit(np.ones((12, 4)), y)
