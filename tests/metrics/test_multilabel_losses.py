"""Log loss, Brier score and calibration error against scikit-learn and cases by hand."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.sparse import csr_array
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss

from sklearn_medfuse.metrics import (
    expected_calibration_error,
    multilabel_brier_score,
    multilabel_log_loss,
)

LOSSES = [multilabel_log_loss, multilabel_brier_score, expected_calibration_error]


@pytest.fixture(params=LOSSES, ids=lambda loss: loss.__name__)
def loss(request):
    return request.param


@pytest.fixture
def weights():
    return np.random.default_rng(3).integers(0, 4, size=400)


def calibration_error_by_hand(y_true, y_prob, edges):
    """Sum over bins (low, high], written as the definition."""
    error = 0.0
    for low, high in zip([-1, *edges], [*edges, 1], strict=True):
        inside = (y_prob > low) & (y_prob <= high)
        if inside.any():
            error += inside.mean() * abs(y_true[inside].mean() - y_prob[inside].mean())
    return error


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(multilabel_log_loss, log_loss), (multilabel_brier_score, brier_score_loss)],
)
def test_each_label_equals_scikit_learns_binary_loss(
    labels, scores, weights, ours, theirs, weighted
):
    sample_weight = weights if weighted else None
    found = ours(labels, scores, average=None, sample_weight=sample_weight)
    expected = [
        theirs(labels[:, label], scores[:, label], sample_weight=sample_weight)
        for label in range(labels.shape[1])
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sure_and_wrong_is_clipped_as_in_scikit_learn(dtype):
    y_true = np.array([1, 0, 1])
    y_prob = np.array([0, 1, 1], dtype=dtype)
    assert multilabel_log_loss(y_true, y_prob) == pytest.approx(log_loss(y_true, y_prob), rel=1e-6)


@pytest.mark.parametrize("n_bins", [1, 2, 7, 10])
def test_calibration_error_is_its_definition(labels, scores, n_bins):
    found = expected_calibration_error(labels, scores, n_bins=n_bins, average=None)
    edges = np.linspace(0, 1, n_bins + 1)[1:-1]
    expected = [
        calibration_error_by_hand(y_true, y_prob, edges)
        for y_true, y_prob in zip(labels.T, scores.T, strict=True)
    ]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_bins_are_those_of_scikit_learns_calibration_curve():
    """Eight bins of one row each: the error is the mean gap of the curve."""
    y_prob = (np.arange(8) + 0.3) / 8
    y_true = np.array([0, 1, 0, 0, 1, 1, 0, 1])
    frequency, mean = calibration_curve(y_true, y_prob, n_bins=8)
    found = expected_calibration_error(y_true, y_prob, n_bins=8)
    assert found == pytest.approx(np.abs(frequency - mean).mean())


def test_quantile_bins_hold_the_same_weight():
    # 0.01 … 0.04 in one bin, 0.05 … 0.08 in the other; equal width puts all into one
    y_prob = np.arange(1, 9) / 100
    y_true = np.array([1, 0, 0, 0, 1, 1, 0, 0])
    found = expected_calibration_error(y_true, y_prob, n_bins=2, strategy="quantile")
    assert found == pytest.approx((abs(1 / 4 - 0.025) + abs(2 / 4 - 0.065)) / 2)
    found = expected_calibration_error(y_true, y_prob, n_bins=2)
    assert found == pytest.approx(abs(3 / 8 - 0.045))


def test_equal_probabilities_share_a_quantile_bin():
    y_true = np.array([1, 0, 1, 0])
    error = expected_calibration_error(y_true, np.full(4, 0.5), n_bins=4, strategy="quantile")
    assert error == 0


def test_labels_that_err_in_opposite_directions_cancel_in_micro():
    y_true = np.tile([1, 0], (50, 1))
    y_prob = np.full((50, 2), 0.5)
    assert expected_calibration_error(y_true, y_prob, average="macro") == 0.5
    assert expected_calibration_error(y_true, y_prob, average="micro") == 0


def test_perfect_is_zero(loss, labels):
    assert loss(labels, labels) == pytest.approx(0, abs=1e-12)


def test_a_coin(labels):
    coin = np.full(labels.shape, 0.5)
    assert multilabel_log_loss(labels, coin) == pytest.approx(np.log(2))
    assert multilabel_brier_score(labels, coin) == pytest.approx(0.25)
    balanced = np.tile([[1], [0]], (10, 3))
    assert expected_calibration_error(balanced, np.full(balanced.shape, 0.5)) == 0


@pytest.mark.parametrize("proper", [multilabel_log_loss, multilabel_brier_score])
def test_the_true_probabilities_are_best(proper):
    rng = np.random.default_rng(0)
    truth = rng.uniform(0.05, 0.95, size=(20_000, 3))
    y_true = rng.uniform(size=truth.shape) < truth
    best = proper(y_true, truth)
    for other in (truth**2, np.sqrt(truth), np.full(truth.shape, y_true.mean()), truth > 0.5):
        assert best < proper(y_true, other)


def test_prevalence_for_everybody_is_calibrated_but_not_sharp(labels):
    prevalence = np.tile(labels.mean(axis=0), (len(labels), 1))
    assert expected_calibration_error(labels, prevalence) == pytest.approx(0, abs=1e-12)
    assert multilabel_brier_score(labels, prevalence) > 0.05


@settings(max_examples=30, deadline=None)
@given(data=st.data(), strategy=st.sampled_from(["uniform", "quantile"]))
def test_order_and_weights_of_rows(data, strategy):
    """Permuting rows changes nothing, and a weight of 2 is a row that is there twice."""
    shape = data.draw(st.tuples(st.integers(1, 12), st.integers(1, 3)))
    y_true = data.draw(arrays(int, shape, elements=st.integers(0, 1)))
    # Sixteenths are exact in floating point, so ties stay ties
    y_prob = data.draw(arrays(int, shape, elements=st.integers(0, 16))) / 16
    times = data.draw(arrays(int, shape[0], elements=st.integers(0, 3)).filter(np.any))
    order = data.draw(st.permutations(range(shape[0])))
    rows = np.repeat(np.arange(shape[0]), times)
    for loss in LOSSES:
        params = {"average": None}
        if loss is expected_calibration_error:
            params |= {"strategy": strategy, "n_bins": 4}
        expected = loss(y_true[rows], y_prob[rows], **params)
        assert (expected >= 0).all()
        found = loss(y_true[order], y_prob[order], sample_weight=times[order], **params)
        np.testing.assert_allclose(found, expected, atol=1e-12)


def test_averages(loss, labels, scores):
    each = loss(labels, scores, average=None)
    assert each.shape == (6,)
    assert loss(labels, scores) == loss(labels, scores, average="macro")
    assert loss(labels, scores) == pytest.approx(each.mean())
    weighted = np.average(each, weights=labels.sum(axis=0))
    assert loss(labels, scores, average="weighted") == pytest.approx(weighted)
    pairs = loss(labels.ravel(), scores.ravel())
    assert loss(labels, scores, average="micro") == pytest.approx(pairs)
    assert isinstance(loss(labels, scores), float)


@pytest.mark.parametrize("average", ["macro", "micro", "weighted"])
def test_one_label_has_one_average(loss, labels, scores, average):
    expected = loss(labels[:, 5], scores[:, 5], average=None)
    assert loss(labels[:, 5], scores[:, 5], average=average) == pytest.approx(expected[0])


def test_forms_of_labels_and_probabilities(loss, labels, scores):
    expected = loss(labels, scores)
    names = list("abcdef")
    frames = pd.DataFrame(labels, columns=names), pd.DataFrame(scores, columns=names)
    pairs = [np.column_stack([1 - column, column]) for column in scores.T]
    for y_true, y_prob in [frames, (csr_array(labels), scores), (labels.astype(bool), pairs)]:
        assert loss(y_true, y_prob) == pytest.approx(expected, rel=1e-12)
    one = np.column_stack([1 - scores[:, 0], scores[:, 0]])
    assert loss(labels[:, 0], one) == pytest.approx(loss(labels[:, 0], scores[:, 0]))


def test_labels_that_are_constant_are_scored(loss):
    y_true = np.array([[0, 1], [0, 1]])
    assert loss(y_true, np.array([[0.25, 0.75], [0.25, 0.75]])) > 0


@pytest.mark.parametrize("average", ["macro", "micro", "weighted", None])
def test_labels_not_known_are_left_out(loss, labels, scores, weights, average):
    hidden = np.random.default_rng(4).uniform(size=labels.shape) < 0.3
    found = loss(
        np.where(hidden, np.nan, labels), scores, average=average, sample_weight=weights + 1
    )
    if average == "micro":
        pairs = np.repeat(weights + 1, 6)[~hidden.ravel()]
        expected = loss(labels[~hidden], scores[~hidden], sample_weight=pairs)
    else:
        known = [~column for column in hidden.T]
        each = np.array(
            [
                loss(labels[k, i], scores[k, i], sample_weight=weights[k] + 1)
                for i, k in enumerate(known)
            ]
        )
        positives = [(weights[k] + 1) @ labels[k, i] for i, k in enumerate(known)]
        means = {None: each, "macro": each.mean(), "weighted": np.average(each, weights=positives)}
        expected = means[average]
    np.testing.assert_allclose(found, expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y_prob": [[0.5, 1.5], [0.5, -1]]}, "`y_prob` has 2 entries below 0 or above 1"),
        ({"y_prob": [[0.5, np.nan], [0.5, 0.5]]}, "`y_prob` has 1 NaN"),
        ({"y_prob": [[0.5], [0.5]]}, "`y_prob` has shape"),
        ({"y_true": [[2, 0], [0, 1]]}, "`y_true` holds something other than 0 and 1"),
        ({"average": "samples"}, "`average` is 'samples'"),
        ({"y_true": [[0, 0], [0, 0]], "average": "weighted"}, "no label has a positive row"),
        ({"sample_weight": [1]}, "`sample_weight` has shape"),
        ({"sample_weight": [1, -1]}, "`sample_weight` has a negative"),
        ({"sample_weight": [0, 0]}, "is zero in every row"),
    ],
)
def test_errors(loss, change, message):
    arguments = {"y_true": [[1, 0], [0, 1]], "y_prob": [[0.5, 0.5], [0.5, 0.5]], **change}
    with pytest.raises(ValueError, match=message):
        loss(**arguments)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"n_bins": 0}, "`n_bins` is 0"),
        ({"n_bins": 2.5}, "`n_bins` is 2.5"),
        ({"strategy": "kmeans"}, "`strategy` is 'kmeans'"),
    ],
)
def test_errors_of_bins(params, message):
    with pytest.raises(ValueError, match=message):
        expected_calibration_error([0, 1], [0.5, 0.5], **params)


@pytest.mark.parametrize("odd", [np.ones((5, 1)), np.ones(5), np.ones((5, 3))])
def test_a_list_of_arrays_of_several_shapes_is_refused(loss, odd):
    y, two = np.tile([[0, 1]], (5, 1)), np.full((5, 2), 0.5)
    with pytest.raises(ValueError, match="a list of predict_proba arrays, some of them not of"):
        loss(y, [two, odd])
