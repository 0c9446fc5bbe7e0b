"""Odd labs, notes and labels end in a right result or in a ValueError or TypeError of ours."""

import numpy as np
import pytest
from hardening_storms import end_of, storm, through_encoder, through_pipeline, tiny_pipeline
from hardening_strategies import NAME, lab_matrix, stays

from sklearn_medfuse import MEDFuseClassifier


@pytest.fixture
def pipe(tiny_bert):
    return tiny_pipeline(tiny_bert)


def test_whole_pipelines(pipe):
    ends, failures = storm(stays(), lambda example: through_pipeline(pipe, *example), 40)
    assert not failures
    # a storm in which all is refused would show little
    assert ends["result"] > 10


def test_labs_alone():
    ends, failures = storm(lab_matrix(), through_encoder, 60)
    assert not failures
    assert ends["result"] > 10


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
    with pytest.raises(ValueError, match="not 0 and 1"):
        classifier.fit(np.ones((12, 4)), y)
