"""Figures of parts, contributions, weights and calibration draw the numbers that they hold."""

import numpy as np
import pandas as pd
import pytest

from sklearn_medfuse import MEDFuseClassifier
from sklearn_medfuse.metrics import expected_calibration_error
from sklearn_medfuse.plotting import (
    CalibrationDisplay,
    DisentanglementDisplay,
    MIWeightDisplay,
    ModalityContributionDisplay,
)

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
plt = pytest.importorskip("matplotlib.pyplot")


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def fitted():
    """A classifier, its X, and its y as a DataFrame."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 7))
    y = pd.DataFrame((X[:, [0, 4]] > 0).astype(int), columns=["heart_failure", "COPD"])
    model = MEDFuseClassifier(
        modalities={"labs": 3, "notes": 4},
        d_model=8,
        n_heads=2,
        n_estimators=2,
        max_epochs=5,
        random_state=0,
        device="cpu",
    )
    return model.fit(X, y), X, y


# parts


def test_a_panel_per_part_holds_every_row_once(fitted):
    model, X, y = fitted
    display = DisentanglementDisplay.from_estimator(model, X, y["COPD"], label="COPD")
    assert [ax.get_title() for ax in display.axes_] == ["labs", "notes", "shared"]
    for ax, points in zip(display.axes_, display.coordinates.values(), strict=True):
        without, with_ = (np.c_[line.get_data()] for line in ax.lines)
        np.testing.assert_array_equal(with_, points[y["COPD"] == 1])
        np.testing.assert_array_equal(without, points[y["COPD"] == 0])
    assert [text.get_text() for text in display.figure_.legends[0].get_texts()] == [
        "without COPD",
        "with COPD",
    ]
    again = DisentanglementDisplay(display.coordinates, display.positive, label="heart_failure")
    assert again.plot().figure_.legends[0].get_texts()[1].get_text() == "with heart failure"


def test_components_are_ordered_and_centred(fitted):
    model, X, _ = fitted
    for points in DisentanglementDisplay.from_estimator(model, X).coordinates.values():
        np.testing.assert_allclose(points.mean(axis=0), 0, atol=1e-9)
        assert points[:, 0].std() >= points[:, 1].std()


def test_panels_that_do_not_match_the_parts_are_refused(fitted):
    model, X, _ = fitted
    with pytest.raises(ValueError, match="holds 2 panels"):
        DisentanglementDisplay.from_estimator(model, X, axes=plt.subplots(1, 2)[1])


# contributions


def test_the_mean_size_of_contributions_is_drawn(fitted):
    model, X, _ = fitted
    display = ModalityContributionDisplay.from_estimator(model, X)
    expected = np.abs(model.contributions(X)[:, :-1]).mean(axis=0)
    drawn = {line.get_label(): line.get_xdata() for line in display.ax_.lines}
    for part, values in zip(["labs", "notes", "shared"], expected, strict=True):
        np.testing.assert_array_equal(drawn[part], values)
    names = [text.get_text() for text in display.ax_.get_yticklabels()]
    assert names == ["heart failure", "COPD"]


def test_one_row_is_drawn_with_its_signs(fitted):
    model, X, _ = fitted
    display = ModalityContributionDisplay.from_estimator(model, X[:1])
    drawn = {line.get_label(): line.get_xdata() for line in display.ax_.lines}
    np.testing.assert_array_equal(drawn["notes"], model.contributions(X[:1])[0, 1])
    assert display.ax_.get_xlabel() == "contribution to the log-odds"


def test_parts_differ_in_colour_and_marker(fitted):
    model, X, _ = fitted
    lines = [
        line
        for line in ModalityContributionDisplay.from_estimator(model, X).ax_.lines
        if line.get_label() in ("labs", "notes", "shared")
    ]
    assert len({line.get_color() for line in lines}) == len({x.get_marker() for x in lines}) == 3


def test_two_classes_have_the_logit_of_the_second(fitted):
    _, X, y = fitted
    words = np.where(y["COPD"], "sick", "healthy")
    model = MEDFuseClassifier(modalities={"a": 3, "b": 4}, max_epochs=1, device="cpu").fit(X, words)
    display = ModalityContributionDisplay.from_estimator(model, X)
    assert [text.get_text() for text in display.ax_.get_yticklabels()] == ["sick"]


# weights


RESULTS = {
    "param_mi": np.ma.array([0.0, 0.0, 0.1, 0.1, 1.0, 1.0]),
    "param_other": np.ma.array([1, 2] * 3),
    "mean_test_score": np.array([0.70, 0.72, 0.71, 0.75, 0.73, 0.69]),
    "std_test_score": np.array([0.01, 0.02, 0.01, 0.03, 0.01, 0.02]),
    "mean_test_mi": np.array([3.0, 2.0, 1.5, 1.0, 0.5, 0.2]),
    "std_test_mi": np.full(6, 0.1),
}


def test_each_weight_is_drawn_at_its_best():
    display = MIWeightDisplay.from_cv_results(RESULTS, param="mi", information="mi")
    assert display.scores["mi_weight"].tolist() == [0.0, 0.1, 1.0]
    assert display.scores["mean"].tolist() == [0.72, 0.75, 0.73]
    assert display.scores["std"].tolist() == [0.02, 0.03, 0.01]
    # the information of the same fits, not the greatest
    assert display.information["mean"].tolist() == [2.0, 1.0, 0.5]
    ticks = [text.get_text() for text in display.axes_[-1].get_xticklabels()]
    assert ticks == ["0", "0.1", "1"]
    np.testing.assert_array_equal(display.axes_[0].lines[0].get_ydata(), [0.72, 0.75, 0.73])


def test_without_information_there_is_one_panel():
    assert len(MIWeightDisplay.from_cv_results(RESULTS, param="mi").axes_) == 1


@pytest.mark.parametrize("wrong", [{"param": "no"}, {"metric": "no"}, {"information": "no"}])
def test_what_the_search_does_not_know_is_named(wrong):
    with pytest.raises(ValueError, match="cv_results has no"):
        MIWeightDisplay.from_cv_results(RESULTS, **{"param": "mi"} | wrong)


# calibration


def test_perfect_probabilities_lie_on_the_diagonal_and_others_do_not():
    rng = np.random.default_rng(0)
    right = rng.random((20000, 2))
    y = pd.DataFrame((rng.random(right.shape) < right).astype(int), columns=["CHF", "COPD"])
    models = {"right": right, "too sure": np.clip(2 * right - 0.5, 0, 1)}
    display = CalibrationDisplay.from_predictions(y, models)
    assert [ax.get_title() for ax in display.axes_] == ["CHF", "COPD"]
    for label, ax in enumerate(display.axes_):
        lines = {line.get_label(): line.get_data() for line in ax.lines}
        gaps = {name: np.abs(np.subtract(*lines[name])).max() for name in models}
        assert gaps["right"] < 0.05
        assert gaps["too sure"] > 0.15
        column = y.to_numpy()[:, [label]]
        for name, values in models.items():
            expected = expected_calibration_error(column, values[:, [label]])
            assert display.errors[name][label] == pytest.approx(expected)
    limits = display.axes_[0].get_xlim()
    assert limits == display.axes_[0].get_ylim()
    assert limits[1] <= 1


def test_draws_into_given_axes():
    axes = plt.subplots(1, 2)[1]
    y = np.array([[0, 1], [1, 0], [1, 1], [0, 0]])
    display = CalibrationDisplay.from_predictions(y, {"a": y * 0.8 + 0.1}, axes=axes)
    assert display.axes_.tolist() == axes.tolist()
    assert display.plot().figure_ is not axes[0].figure
