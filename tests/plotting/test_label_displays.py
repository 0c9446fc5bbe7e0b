"""Curves, forest plots and maps of missing labs draw the numbers that they hold."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.model_selection import KFold, ShuffleSplit, cross_val_predict, cross_validate
from sklearn.multioutput import MultiOutputClassifier

from sklearn_medfuse.metrics import multilabel_report, paired_difference
from sklearn_medfuse.plotting import (
    CalibrationDisplay,
    LabelPrecisionRecallDisplay,
    LabelRocDisplay,
    MissingnessDisplay,
    ModelDifferenceDisplay,
)

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
plt = pytest.importorskip("matplotlib.pyplot")

CURVES = [
    pytest.param(LabelRocDisplay, roc_auc_score, id="roc"),
    pytest.param(LabelPrecisionRecallDisplay, average_precision_score, id="precision-recall"),
]


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


@pytest.fixture
def predicted():
    """Labels of three diseases, one of them rare, and the scores of two models."""
    rng = np.random.default_rng(0)
    y = pd.DataFrame(rng.random((200, 3)) < [0.5, 0.3, 0.1], columns=["CHF", "COPD", "liver_tumor"])
    y = y.astype(int)
    return y, {
        "poor": y.to_numpy() + 3 * rng.normal(size=y.shape),
        "good": y.to_numpy() + 0.5 * rng.normal(size=y.shape),
    }


def area_under(line, steps):
    x, y = line.get_data()
    return -np.sum(np.diff(x) * y[:-1]) if steps else np.trapezoid(y, x)


# curves


@pytest.mark.parametrize(("display_class", "score"), CURVES)
def test_the_drawn_curve_has_the_area_of_scikit_learns_score(display_class, score, predicted):
    y, scores = predicted
    display = display_class.from_predictions(y, scores)
    assert [ax.get_title() for ax in display.axes_] == ["CHF", "COPD", "liver tumor"]
    for label, ax in enumerate(display.axes_):
        drawn = {line.get_label(): line for line in ax.lines}
        for name, values in scores.items():
            expected = score(y.iloc[:, label], values[:, label])
            assert display.areas[name][label] == pytest.approx(expected)
            steps = drawn[name].get_drawstyle() == "steps-post"
            assert area_under(drawn[name], steps) == pytest.approx(expected)
        written = [text.get_text() for text in ax.get_legend().get_texts()]
        assert written == [f"{display.areas[name][label]:.2f}" for name in scores]
    texts = display.figure_.legends[0].get_texts()
    assert [text.get_text() for text in texts] == ["poor", "good"]


def test_chance_of_precision_is_the_prevalence(predicted):
    y, scores = predicted
    display = LabelPrecisionRecallDisplay.from_predictions(y, scores)
    for ax, share in zip(display.axes_, y.mean(), strict=True):
        assert ax.lines[0].get_ydata() == pytest.approx([share, share])


@pytest.mark.parametrize(("display_class", "score"), CURVES)
def test_a_label_with_one_class_has_an_empty_panel(display_class, score, predicted):
    y, scores = predicted
    y["COPD"] = 0
    display = display_class.from_predictions(y, scores)
    assert np.isnan(display.areas["good"][1])
    assert np.isfinite(display.areas["good"][[0, 2]]).all()


def test_estimators_and_folds_give_what_their_predictions_give(predicted):
    y, _ = predicted
    X = pd.DataFrame(y.to_numpy() + np.random.default_rng(1).normal(size=y.shape))
    model = MultiOutputClassifier(LogisticRegression())
    folds = KFold(3, shuffle=True, random_state=0)
    options = {"cv": folds, "return_estimator": True, "return_indices": True}
    results = cross_validate(model, X, y, scoring=lambda *_: 0.0, **options)
    display = LabelRocDisplay.from_cv_results({"logistic": results}, X, y)
    pooled = cross_val_predict(model, X, y, cv=folds, method="predict_proba")
    expected = LabelRocDisplay.from_predictions(y, {"logistic": pooled})
    np.testing.assert_allclose(display.areas["logistic"], expected.areas["logistic"])

    fitted = model.fit(X[:100], y[:100])
    display = LabelRocDisplay.from_estimator(fitted, X[100:], y[100:])
    expected = roc_auc_score(y["CHF"][100:], fitted.predict_proba(X[100:])[0][:, 1])
    assert display.areas["MultiOutputClassifier"][0] == pytest.approx(expected)


def test_folds_that_do_not_part_the_rows_are_refused(predicted):
    y, _ = predicted
    X = y.to_numpy(dtype=float)
    model = MultiOutputClassifier(LogisticRegression())
    options = {"return_estimator": True, "return_indices": True, "scoring": lambda *_: 0.0}
    with pytest.raises(ValueError, match="return_indices=True"):
        LabelRocDisplay.from_cv_results(cross_validate(model, X, y, cv=3), X, y)
    results = cross_validate(model, X, y, cv=ShuffleSplit(3, random_state=0), **options)
    with pytest.raises(ValueError, match="hold out every row once"):
        LabelRocDisplay.from_cv_results(results, X, y)


@pytest.mark.parametrize(
    "draw", [LabelRocDisplay.from_predictions, CalibrationDisplay.from_predictions]
)
def test_axes_are_as_many_as_labels(draw, predicted):
    y, _ = predicted
    probabilities = {"model": np.full(y.shape, 0.5)}
    _, axes = plt.subplots(1, 3)
    assert draw(y, probabilities, axes=axes).figure_ is axes[0].figure
    with pytest.raises(ValueError, match="2 panels for 3 labels"):
        draw(y, probabilities, axes=axes[:2])
    with pytest.raises(ValueError, match="dict"):
        draw(y, probabilities["model"])


# differences of models


def test_differences_are_those_of_paired_difference(predicted):
    y, scores = predicted
    scores["middling"] = (scores["good"] + scores["poor"]) / 2
    options = {"metric": "auprc", "n_bootstraps": 50, "random_state": 0}
    display = ModelDifferenceDisplay.from_predictions(y, scores, reference="good", **options)
    assert list(display.estimate) == ["poor", "middling"]
    expected = paired_difference(y, scores["good"], scores["poor"], **options)
    np.testing.assert_allclose(display.estimate["poor"], expected["difference"])
    np.testing.assert_allclose(display.low["poor"], expected["difference_low"])
    np.testing.assert_allclose(display.high["poor"], expected["difference_high"])
    low, high = display.ax_.get_xlim()
    assert low < min(0, display.low.min(axis=None))
    assert high > display.high.max(axis=None)
    assert display.ax_.get_xlabel().startswith("AUPRC of good less that of")
    assert [text.get_text() for text in display.ax_.get_yticklabels()][-1] == "macro mean"


def test_the_last_model_is_the_reference(predicted):
    y, scores = predicted
    display = ModelDifferenceDisplay.from_predictions(y, scores, n_bootstraps=0)
    assert display.reference == "good"
    assert (display.estimate["poor"] > 0).all()
    assert "poor" in display.ax_.get_xlabel()


def test_comparisons_that_were_made_before_are_drawn_alike(predicted):
    y, scores = predicted
    options = {"n_bootstraps": 50, "random_state": 0}
    expected = ModelDifferenceDisplay.from_predictions(y, scores, **options)
    comparison = paired_difference(y, scores["good"], scores["poor"], **options)
    prevalence = expected.prevalence
    display = ModelDifferenceDisplay.from_comparisons(
        {"poor": comparison}, reference="good", prevalence=prevalence, confidence_level=0.95
    )
    for name in ("estimate", "low", "high"):
        pd.testing.assert_frame_equal(getattr(display, name), getattr(expected, name))
    for texts in ("get_yticklabels", "get_xticklabels"):
        found, drawn = (
            [text.get_text() for text in getattr(each.ax_, texts)()] for each in (display, expected)
        )
        assert found == drawn
    assert display.ax_.get_xlabel() == expected.ax_.get_xlabel()


def test_reports_of_single_models_make_no_difference(predicted):
    y, scores = predicted
    assert not hasattr(ModelDifferenceDisplay, "from_reports")
    report = multilabel_report(y, scores["good"], n_bootstraps=0)
    with pytest.raises(ValueError, match="a report of one model is none"):
        ModelDifferenceDisplay.from_comparisons({"good": report}, reference="good")


def test_comparisons_are_of_the_same_labels(predicted):
    y, scores = predicted
    found = paired_difference(y, scores["good"], scores["poor"], n_bootstraps=0)
    draw = partial(ModelDifferenceDisplay.from_comparisons, reference="good")
    with pytest.raises(ValueError, match="same labels"):
        draw({"poor": found, "other": found.iloc[1:]})
    with pytest.raises(ValueError, match="at least one"):
        draw({})
    with pytest.raises(ValueError, match="`metric` is 'brier'"):
        draw({"poor": found}, metric="brier")


def test_a_comparison_needs_two_models_and_a_known_reference(predicted):
    y, scores = predicted
    with pytest.raises(ValueError, match="at least two"):
        ModelDifferenceDisplay.from_predictions(y, {"good": scores["good"]})
    with pytest.raises(ValueError, match="`reference` is 'best'"):
        ModelDifferenceDisplay.from_predictions(y, scores, reference="best")


# missing labs


def test_shares_and_bands_count_what_is_measured():
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(1000, 4)), columns=list("abcd"))
    X = X.mask(rng.random(X.shape) < [0.5, 0.1, 1.0, 0.3])
    X["e"] = pd.array(["NEG"] * 1000, dtype="string")
    display = MissingnessDisplay.from_labs(X)
    assert list(display.share.index) == ["e", "b", "d", "a", "c"]
    np.testing.assert_allclose(display.share, X.notna().mean()[display.share.index])
    # bands of as many stays each: their means are the shares again
    np.testing.assert_allclose(display.measured.mean(axis=1), display.share, atol=1e-12)
    # stays with most labs come first
    per_band = display.measured.sum(axis=0).to_numpy()
    assert (np.diff(per_band) <= 1e-12).all()
    assert [bar.get_width() for bar in display.axes_[1].patches] == pytest.approx(
        100 * display.share
    )


def test_only_the_labs_measured_most_often_are_drawn():
    X = pd.DataFrame(np.eye(6) * np.nan, columns=list("abcdef"))
    X.loc[:3, "f"] = 1.0
    X.loc[:1, "c"] = 1.0
    assert list(MissingnessDisplay.from_labs(X, most_labs=2).share.index) == ["f", "c"]
    with pytest.raises(ValueError, match="DataFrame"):
        MissingnessDisplay.from_labs(X.to_numpy())
