"""Weighted scores equal scikit-learn's, with ties and with rows of no weight."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from sklearn_medfuse.metrics._weighted_decisions import weighted_f1
from sklearn_medfuse.metrics._weighted_scores import (
    weighted_auprc,
    weighted_auroc,
    weighted_prevalence,
)


@pytest.mark.parametrize("decimals", [12, 1, 0], ids=["distinct", "ties", "few values"])
def test_equal_to_scikit_learn_under_weights(labels, scores, decimals):
    scores = scores.round(decimals)
    weights = np.random.default_rng(0).integers(4, size=(len(labels), 20)).astype(float)
    truth = labels.astype(float)
    auroc = weighted_auroc(truth, scores, weights)
    auprc = weighted_auprc(truth, scores, weights)
    f1 = weighted_f1(truth, scores - 0.5, weights)
    prevalence = weighted_prevalence(truth, weights)
    for draw in range(weights.shape[1]):
        given_weights = {"sample_weight": weights[:, draw], "average": None}
        np.testing.assert_allclose(auroc[draw], roc_auc_score(labels, scores, **given_weights))
        np.testing.assert_allclose(
            auprc[draw], average_precision_score(labels, scores, **given_weights)
        )
        np.testing.assert_allclose(f1[draw], f1_score(labels, scores >= 0.5, **given_weights))
        np.testing.assert_allclose(
            prevalence[draw], np.average(labels, axis=0, weights=weights[:, draw])
        )


@settings(max_examples=100, deadline=None)
@given(
    arrays(int, 12, elements=st.integers(0, 1)),
    arrays(float, 12, elements=st.sampled_from([0.0, 0.25, 0.5, 1.0])),
    arrays(int, 12, elements=st.integers(0, 3)),
)
def test_weights_are_repeated_rows(label, score, times):
    truth, weights = label[:, None].astype(float), times[:, None].astype(float)
    auroc = weighted_auroc(truth, score[:, None], weights)[0, 0]
    auprc = weighted_auprc(truth, score[:, None], weights)[0, 0]
    repeated = np.repeat(label, times)
    if len(np.unique(repeated)) < 2:
        assert np.isnan([auroc, auprc]).all()
    else:
        assert auroc == pytest.approx(roc_auc_score(repeated, np.repeat(score, times)))
        assert auprc == pytest.approx(average_precision_score(repeated, np.repeat(score, times)))


def test_by_hand():
    # ranking, best first: 1 0 (1 0, tied) 0; 6 pairs of a positive and a negative
    truth = np.array([[1.0], [0.0], [1.0], [0.0], [0.0]])
    scores = np.array([[0.9], [0.8], [0.4], [0.4], [0.1]])
    once = np.ones((5, 1))
    assert weighted_auroc(truth, scores, once) == pytest.approx((3 + 1.5) / 6)
    assert weighted_auprc(truth, scores, once) == pytest.approx((1 / 1 + 2 / 4) / 2)
    assert weighted_f1(truth, scores - 0.4, once) == pytest.approx(2 * 2 / (2 + 4))
    assert weighted_prevalence(truth, once) == pytest.approx(2 / 5)


def test_a_draw_of_one_class_is_undefined_without_a_warning():
    truth = np.array([[1.0], [0.0], [0.0]])
    scores = np.array([[0.9], [0.8], [0.1]])
    weights = np.array([[1.0, 0.0, 3.0], [1.0, 2.0, 0.0], [1.0, 1.0, 0.0]])
    for score in (weighted_auroc, weighted_auprc):
        np.testing.assert_array_equal(score(truth, scores, weights).ravel(), [1.0, np.nan, np.nan])
    f1 = weighted_f1(truth, scores - 0.85, weights).ravel()
    np.testing.assert_array_equal(f1, [1.0, np.nan, np.nan])
    np.testing.assert_allclose(weighted_prevalence(truth, weights).ravel(), [1 / 3, 0.0, 1.0])
