"""Curves in panels draw what scikit-learn and the metrics compute."""

from functools import partial

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.model_selection import (
    GridSearchCV,
    KFold,
    ShuffleSplit,
    cross_val_predict,
    cross_validate,
)
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_medfuse.metrics import calibration_bins, decision_curve, expected_calibration_error
from sklearn_medfuse.plotting import (
    CalibrationDisplay,
    DecisionCurveDisplay,
    LabelCurvesDisplay,
    LabelScoresDisplay,
    ModelDifferenceDisplay,
    SubgroupDisplay,
)

plt = pytest.importorskip("matplotlib.pyplot")

CURVES = [("roc", roc_auc_score), ("precision_recall", average_precision_score)]


OPTIONS = {"n_bootstraps": 5, "random_state": 0}
SEX = {"sex": np.arange(200) % 2}
MODELS_DRAWN = {
    "curves": LabelCurvesDisplay.from_estimator,
    "calibration": partial(CalibrationDisplay.from_estimator, n_bootstraps=0),
    "decisions": partial(DecisionCurveDisplay.from_estimator, n_bootstraps=0),
    "scores": partial(LabelScoresDisplay.from_estimator, **OPTIONS),
    "difference": lambda model, X, y: ModelDifferenceDisplay.from_estimator(
        {"a": model, "b": model}, X, y, **OPTIONS
    ),
    "subgroups": partial(SubgroupDisplay.from_estimator, subgroups=SEX, **OPTIONS),
}


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


@pytest.fixture
def calibrated():
    """Labels drawn with the probabilities beside them."""
    rng = np.random.default_rng(0)
    p = rng.random((300, 2))
    return pd.DataFrame((rng.random(p.shape) < p).astype(int), columns=["CHF", "COPD"]), p


def texts(labels):
    return [text.get_text() for text in labels]


def titles(display):
    return texts(ax.title for ax in display.axes_)


def numbers(ax):
    return texts(ax.get_legend().get_texts())


def test_the_drawn_curve_has_the_area_of_scikit_learns_score(predicted):
    y, scores = predicted
    for kind, score in CURVES:
        display = LabelCurvesDisplay.from_predictions(y, scores, kind=kind)
        assert titles(display) == ["CHF", "COPD", "liver tumor"]
        assert texts(display.figure_.legends[0].get_texts()) == ["poor", "good"]
        for label, ax in enumerate(display.axes_):
            drawn = {line.get_label(): line for line in ax.lines}
            for name, values in scores.items():
                expected = score(y.iloc[:, label], values[:, label])
                assert display.areas[name][label] == pytest.approx(expected)
                along, up = drawn[name].get_data()
                if drawn[name].get_drawstyle() == "steps-post":
                    area = -np.sum(np.diff(along) * up[:-1])
                else:
                    area = np.trapezoid(up, along)
                assert area == pytest.approx(expected)
            what = {"roc": "AUROC", "precision_recall": "AP"}[kind]
            assert numbers(ax) == [f"{what} {display.areas[name][label]:.2f}" for name in scores]


def test_chance_of_precision_is_the_prevalence(predicted):
    y, scores = predicted
    display = LabelCurvesDisplay.from_predictions(y, scores, kind="precision_recall")
    for ax, share in zip(display.axes_, y.mean(), strict=True):
        assert ax.lines[0].get_ydata() == pytest.approx([share, share])


@pytest.mark.parametrize("kind", ["roc", "precision_recall"])
def test_a_label_with_one_class_has_an_empty_panel(kind, predicted):
    y, scores = predicted
    y["COPD"] = 0
    display = LabelCurvesDisplay.from_predictions(y, scores, kind=kind)
    assert np.isnan(display.areas["good"][1])
    assert np.isfinite(display.areas["good"][[0, 2]]).all()


def test_the_kind_is_one_of_two(predicted):
    with pytest.raises(ValueError, match="`kind` is 'pr'; pass one of"):
        LabelCurvesDisplay.from_predictions(*predicted, kind="pr")


@pytest.mark.parametrize("kind", ["roc", "precision_recall"])
def test_numbers_stand_above_the_curves_and_inside_the_axes(kind, predicted):
    y, scores = predicted
    scores |= {f"model {i}": scores["good"] for i in range(4)}
    display = LabelCurvesDisplay.from_predictions(y, scores, kind=kind)
    display.figure_.canvas.draw()
    for ax in display.axes_:
        top_of_curves = ax.transData.transform((0, 1))[1]
        box = ax.get_legend().get_window_extent()
        assert top_of_curves <= box.y0
        assert box.y1 <= ax.get_window_extent().y1 + 1


def test_estimators_and_folds_give_what_their_predictions_give(predicted):
    y, _ = predicted
    X = pd.DataFrame(y.to_numpy() + np.random.default_rng(1).normal(size=y.shape))
    model = MultiOutputClassifier(LogisticRegression())
    folds = KFold(3, shuffle=True, random_state=0)
    options = {"cv": folds, "return_estimator": True, "return_indices": True}
    results = cross_validate(model, X, y, scoring=lambda *_: 0.0, **options)
    pooled = cross_val_predict(model, X, y, cv=folds, method="predict_proba")
    display = LabelCurvesDisplay.from_cv_results({"logistic": results}, X, y)
    expected = LabelCurvesDisplay.from_predictions(y, {"logistic": pooled})
    assert titles(display) == titles(expected)
    np.testing.assert_allclose(display.areas["logistic"], expected.areas["logistic"])
    # One cross-validation needs no name
    display = CalibrationDisplay.from_cv_results(results, X, y, n_bootstraps=0)
    expected = CalibrationDisplay.from_predictions(y, {"model": pooled}, n_bootstraps=0)
    np.testing.assert_allclose(display.errors["out of fold"], expected.errors["model"])

    fitted = model.fit(X[:100], y[:100])
    display = LabelCurvesDisplay.from_estimator(fitted, X[100:], y[100:])
    expected = roc_auc_score(y["CHF"][100:], fitted.predict_proba(X[100:])[0][:, 1])
    assert display.areas["MultiOutputClassifier"][0] == pytest.approx(expected)


@pytest.mark.parametrize("display", MODELS_DRAWN.values(), ids=MODELS_DRAWN)
def test_a_pipeline_a_search_and_targets_of_any_library_are_drawn_alike(display, predicted):
    y, _ = predicted
    X = y + np.random.default_rng(1).normal(size=y.shape)
    pipe = make_pipeline(StandardScaler(), MultiOutputClassifier(LogisticRegression()))
    search = GridSearchCV(pipe, {"standardscaler__with_mean": [True]}, scoring=lambda *_: 0.0)
    fitted, search = pipe.fit(X, y), search.fit(X, y)
    polars = pytest.importorskip("polars")
    for model in (fitted, search):
        for truth in (y, polars.from_pandas(y), pa.Table.from_pandas(y)):
            drawn = display(model, X, truth)
            if hasattr(drawn, "axes_"):
                assert titles(drawn) == ["CHF", "COPD", "liver tumor"]
            else:
                assert "COPD" in str(vars(drawn))
    assert display(fitted, X, y.to_numpy()).figure_


def test_a_forest_may_have_one_class_of_a_label(predicted):
    y, _ = predicted
    forest = RandomForestClassifier(3, random_state=0).fit(y, y.assign(CHF=0))
    display = LabelCurvesDisplay.from_estimator({"forest": forest}, y, y)
    np.testing.assert_allclose(display.areas["forest"], [0.5, 1, 1])


def test_folds_that_do_not_part_the_rows_are_refused(predicted):
    y, _ = predicted
    X = y.to_numpy(dtype=float)
    model = MultiOutputClassifier(LogisticRegression())
    options = {"return_estimator": True, "return_indices": True, "scoring": lambda *_: 0.0}
    with pytest.raises(ValueError, match="return_indices=True"):
        LabelCurvesDisplay.from_cv_results(cross_validate(model, X, y, cv=3), X, y)
    results = cross_validate(model, X, y, cv=ShuffleSplit(3, random_state=0), **options)
    with pytest.raises(ValueError, match="hold out every row once"):
        LabelCurvesDisplay.from_cv_results(results, X, y)


@pytest.mark.parametrize(
    "draw",
    [
        LabelCurvesDisplay.from_predictions,
        CalibrationDisplay.from_predictions,
        DecisionCurveDisplay.from_predictions,
    ],
)
def test_given_axes_are_as_many_as_labels_and_name_the_models(draw, predicted):
    y, _ = predicted
    probabilities = {"model a": np.full(y.shape, 0.5), "model b": np.full(y.shape, 0.4)}
    figure, axes = plt.subplots(1, 3)
    display = draw(y, probabilities, axes=axes)
    assert display.axes_.tolist() == axes.tolist()
    assert all(ax.get_xlabel() for ax in axes)
    named = " ".join(numbers(axes[0]))
    assert "model a" in named
    assert "model b" in named
    assert display.plot().figure_ is not figure
    with pytest.raises(ValueError, match="`axes` has 2 panels; pass 3, one for each label"):
        draw(y, probabilities, axes=axes[:2])
    with pytest.raises(ValueError, match="dict"):
        draw(y, probabilities["model a"])


def test_perfect_probabilities_lie_on_the_diagonal_and_others_do_not():
    rng = np.random.default_rng(0)
    right = rng.random((20000, 2))
    y = pd.DataFrame((rng.random(right.shape) < right).astype(int), columns=["CHF", "COPD"])
    models = {"right": right, "too sure": np.clip(2 * right - 0.5, 0, 1)}
    display = CalibrationDisplay.from_predictions(y, models)
    for label, ax in enumerate(display.axes_):
        lines = {line.get_label(): line.get_data() for line in ax.lines}
        gaps = {name: np.abs(np.subtract(*lines[name])).max() for name in models}
        assert gaps["right"] < 0.05
        assert gaps["too sure"] > 0.15
        column = y.to_numpy()[:, [label]]
        for name, values in models.items():
            expected = expected_calibration_error(column, values[:, [label]])
            assert display.errors[name][label] == pytest.approx(expected)
        # Above the limit of both axes there are the numbers alone
        limit = ax.get_xlim()[1]
        assert limit <= 1
        assert ax.spines["left"].get_bounds() == ax.get_xlim()
        assert max(ax.get_yticks()) <= limit < ax.get_ylim()[1]


def test_bins_and_intervals_are_those_of_the_metric(calibrated):
    y, p = calibrated
    options = {"n_bins": 5, "strategy": "quantile", "n_bootstraps": 50, "random_state": 0}
    display = CalibrationDisplay.from_predictions(y, {"model": p}, **options)
    bins = calibration_bins(y, p, **options)
    for name, curve, ax in zip(y, display.curves["model"], display.axes_, strict=True):
        expected = bins[bins["label"] == name]
        for column in ("predicted", "observed", "observed_low", "observed_high"):
            np.testing.assert_allclose(curve[column], expected[column])
        ends = np.array([path.vertices[:, 1] for path in ax.collections[0].get_paths()])
        np.testing.assert_allclose(ends, expected[["observed_low", "observed_high"]])
    several = CalibrationDisplay.from_predictions(y, {"a": p, "b": p})
    assert several.curves["a"][0]["observed_low"].isna().all()


def test_net_benefits_are_those_of_the_metric(calibrated):
    y, p = calibrated
    display = DecisionCurveDisplay.from_predictions(y, {"model": p}, n_bootstraps=0)
    expected = decision_curve(y, p, thresholds=np.arange(1, 51) / 100, averages=(), n_bootstraps=0)
    for name, ax in zip(y, display.axes_, strict=True):
        drawn = {line.get_label(): line.get_ydata() for line in ax.lines}
        own = expected[expected["label"] == name]
        np.testing.assert_allclose(drawn["model"], own["net_benefit"])
        np.testing.assert_allclose(drawn["act on all"], own["treat_all"])
        assert set(drawn["act on nobody"]) == {0}
