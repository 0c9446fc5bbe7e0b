"""Scores, differences and subgroups: figures draw every number of their tables."""

import sys
from functools import partial
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from sklearn_medfuse.metrics import multilabel_report, paired_difference, subgroup_report
from sklearn_medfuse.plotting import LabelScoresDisplay, ModelDifferenceDisplay, SubgroupDisplay

plt = pytest.importorskip("matplotlib.pyplot")


@pytest.fixture
def y_true():
    rng = np.random.default_rng(0)
    values = rng.uniform(size=(300, 3)) < [0.1, 0.6, 0.3]
    return pd.DataFrame(values.astype(int), columns=["sepsis", "heart_failure", "anaemia"])


@pytest.fixture
def y_scores(y_true):
    rng = np.random.default_rng(1)
    return {
        "labs": y_true + 2 * rng.normal(size=y_true.shape),
        "notes": (y_true + rng.normal(size=y_true.shape)).to_numpy(),
    }


@pytest.fixture
def display(y_true, y_scores):
    return LabelScoresDisplay.from_predictions(y_true, y_scores, n_bootstraps=50, random_state=0)


def row_names(ax):
    return [text.get_text() for text in ax.get_yticklabels()]


def model_lines(ax):
    """The marks of the models: lines without the rules of chance and macro, of two points each."""
    return [line for line in ax.lines if len(line.get_xdata()) > 2]


@pytest.mark.parametrize("metric", ["auroc", "auprc", "f1"])
def test_holds_the_reports_numbers(y_true, y_scores, metric):
    options = {"n_bootstraps": 30, "random_state": 0, "groups": np.arange(300) // 2}
    display = LabelScoresDisplay.from_predictions(y_true, y_scores, metric=metric, **options)
    for name, scores in y_scores.items():
        report = multilabel_report(y_true, scores, **options)
        np.testing.assert_array_equal(display.estimate[name], report[metric])
        np.testing.assert_array_equal(display.low[name], report[f"{metric}_low"])
        np.testing.assert_array_equal(display.high[name], report[f"{metric}_high"])


def test_from_reports_is_from_predictions(y_true, y_scores, display):
    reports = {
        name: multilabel_report(y_true, scores, n_bootstraps=50, random_state=0)
        for name, scores in y_scores.items()
    }
    other = LabelScoresDisplay.from_reports(reports)
    pd.testing.assert_frame_equal(other.estimate, display.estimate)
    assert row_names(other.ax_) == row_names(display.ax_)


def test_draws_every_score_and_interval(display):
    rows = ["heart_failure", "anaemia", "sepsis", "macro"]
    drawn = {line.get_label(): line.get_xdata() for line in model_lines(display.ax_)}
    intervals = [segment for lines in display.ax_.collections for segment in lines.get_segments()]
    assert list(drawn) == ["labs", "notes"]
    for name in drawn:
        np.testing.assert_array_equal(drawn[name], display.estimate.loc[rows, name])
    expected = np.c_[
        display.low.loc[rows].to_numpy().T.ravel(), display.high.loc[rows].to_numpy().T.ravel()
    ]
    np.testing.assert_array_equal([segment[:, 0] for segment in intervals], expected)


def test_models_differ_in_colour_and_marker(display):
    lines = model_lines(display.ax_)
    assert len({line.get_color() for line in lines}) == 2
    assert len({line.get_marker() for line in lines}) == 2
    legend = display.figure_.legends[0]
    assert [text.get_text() for text in legend.get_texts()] == ["labs", "notes"]


def test_labels_by_prevalence_and_macro_apart_at_the_bottom(display):
    names = row_names(display.ax_)
    assert [name.split(" (")[0] for name in names] == [
        "heart failure",
        "anaemia",
        "sepsis",
        "macro mean",
    ]
    percent = 100 * display.prevalence["heart_failure"]
    assert names[0] == f"heart failure ({percent:.0f}\N{NO-BREAK SPACE}%)"
    gaps = np.diff(display.ax_.get_yticks())
    assert gaps[-1] > gaps[0]
    top, bottom = display.ax_.get_ylim()[::-1]
    assert top < bottom


@pytest.mark.parametrize("sort_by", ["score", None])
def test_other_orders(display, sort_by):
    display.plot(sort_by=sort_by)
    labels = display.estimate.drop(index="macro").mean(axis=1)
    if sort_by == "score":
        labels = labels.sort_values(ascending=False)
    shown = [name.split(" (")[0] for name in row_names(display.ax_)[:-1]]
    assert shown == [label.replace("_", " ") for label in labels.index]


def test_chance_is_drawn_for_auroc_alone(display):
    def chance_lines(metric):
        drawn = LabelScoresDisplay(
            display.estimate, display.low, display.high, metric=metric
        ).plot()
        return [line for line in drawn.ax_.lines if list(line.get_xdata()) == [0.5, 0.5]]

    assert len(chance_lines("auroc")) == 1
    assert not chance_lines("auprc")


def test_the_axis_shows_chance_and_every_interval(display):
    left, right = display.ax_.get_xlim()
    assert left <= min(0.5, display.low.min(axis=None))
    assert display.high.max(axis=None) <= right <= 1


def test_the_title_tells_the_confidence_level(y_true, y_scores):
    def title(**options):
        display = LabelScoresDisplay.from_predictions(y_true, y_scores, **options)
        return display.ax_.get_xlabel()

    assert title(n_bootstraps=10) == "AUROC, with 95\N{NO-BREAK SPACE}% intervals"
    assert (
        title(n_bootstraps=10, confidence_level=0.8, metric="f1")
        == "F1, with 80\N{NO-BREAK SPACE}% intervals"
    )
    assert title(n_bootstraps=0) == "AUROC"


def test_draws_into_given_axes(y_true, y_scores):
    figure, axes = plt.subplots(1, 2)
    display = LabelScoresDisplay.from_predictions(y_true, y_scores, n_bootstraps=10, ax=axes[1])
    assert display.ax_ is axes[1]
    assert display.figure_ is figure
    assert axes[1].get_legend() is not None
    assert not axes[0].lines


def test_plot_returns_itself_and_makes_a_new_figure(display):
    first = display.figure_
    assert display.plot() is display
    assert display.figure_ is not first


@pytest.mark.parametrize("n_models", [1, 4, 9])
def test_any_number_of_models_fits_the_figure(y_true, y_scores, n_models):
    scores = {f"a model of number {i}": y_scores["notes"] for i in range(n_models)}
    display = LabelScoresDisplay.from_predictions(y_true, scores, n_bootstraps=5)
    display.figure_.canvas.draw()
    for legend in display.figure_.legends:
        box = legend.get_window_extent()
        assert box.x0 >= 0
        assert box.x1 <= display.figure_.bbox.width


def test_a_constant_label_leaves_its_row_empty(y_true, y_scores):
    y_true["sepsis"] = 0
    display = LabelScoresDisplay.from_predictions(y_true, y_scores, n_bootstraps=10)
    display.figure_.canvas.draw()
    assert row_names(display.ax_)[2] == "sepsis (0\N{NO-BREAK SPACE}%)"


def test_a_rare_label_is_not_called_absent(y_true, y_scores):
    y_true["sepsis"] = 0
    y_true.loc[0, "sepsis"] = 1
    display = LabelScoresDisplay.from_predictions(y_true, y_scores, n_bootstraps=10)
    assert row_names(display.ax_)[2] == "sepsis (<1\N{NO-BREAK SPACE}%)"


def test_wrong_options(y_true, y_scores, display):
    with pytest.raises(ValueError, match="`metric` is 'auc'; pass one of"):
        LabelScoresDisplay.from_predictions(y_true, y_scores, metric="auc", n_bootstraps=0)
    with pytest.raises(ValueError, match="`sort_by` is 'name'; pass one of"):
        display.plot(sort_by="name")
    with pytest.raises(ValueError, match="`y_scores` must be a dict"):
        LabelScoresDisplay.from_predictions(y_true, y_scores["labs"])
    with pytest.raises(ValueError, match="`reports` must be a dict"):
        LabelScoresDisplay.from_reports({})
    reports = [multilabel_report(y, y, n_bootstraps=0) for y in (y_true, y_true.iloc[:, :2])]
    with pytest.raises(ValueError, match="`reports` must all have the same labels"):
        LabelScoresDisplay.from_reports({"a": reports[0], "b": reports[1]})


def test_without_matplotlib_the_error_says_what_to_install(display, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"pip install \"sklearn-medfuse\[plot\]"):
        display.plot()


# Differences of models


def test_differences_are_those_of_paired_difference(y_true, y_scores):
    y_scores["middling"] = (y_scores["notes"] + y_scores["labs"]) / 2
    options = {"metric": "auprc", "n_bootstraps": 50, "random_state": 0}
    display = ModelDifferenceDisplay.from_predictions(
        y_true, y_scores, reference="notes", **options
    )
    assert list(display.estimate) == ["labs", "middling"]
    expected = paired_difference(y_true, y_scores["notes"], y_scores["labs"], **options)
    np.testing.assert_allclose(display.estimate["labs"], expected["difference"])
    np.testing.assert_allclose(display.low["labs"], expected["difference_low"])
    np.testing.assert_allclose(display.high["labs"], expected["difference_high"])
    low, high = display.ax_.get_xlim()
    assert low < min(0, display.low.min(axis=None))
    assert high > display.high.max(axis=None)
    assert display.ax_.get_xlabel().startswith("AUPRC of notes minus that of")
    assert [text.get_text() for text in display.ax_.get_yticklabels()][-1] == "macro mean"


def test_the_remark_lies_below_the_marks_and_equal_models_have_readable_ticks(y_true, y_scores):
    y_scores = {"labs": y_scores["labs"], "a model with a name": y_scores["labs"]}
    display = ModelDifferenceDisplay.from_predictions(y_true, y_scores, n_bootstraps=0)
    display.figure_.canvas.draw()
    ax = display.ax_
    lowest = ax.transData.transform((0, ax.get_yticks()[-1]))[1]
    assert ax.texts[0].get_window_extent().y1 < lowest
    low, high = ax.get_xlim()
    ticks = [tick.label1 for tick in ax.xaxis.get_major_ticks() if low <= tick.get_loc() <= high]
    boxes = [text.get_window_extent() for text in ticks]
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))


def test_the_last_model_is_the_reference(y_true, y_scores):
    display = ModelDifferenceDisplay.from_predictions(y_true, y_scores, n_bootstraps=0)
    assert display.reference == "notes"
    assert (display.estimate["labs"] > 0).all()
    assert "labs" in display.ax_.get_xlabel()


def test_comparisons_that_were_made_before_are_drawn_alike(y_true, y_scores):
    options = {"n_bootstraps": 50, "random_state": 0}
    expected = ModelDifferenceDisplay.from_predictions(y_true, y_scores, **options)
    comparison = paired_difference(y_true, y_scores["notes"], y_scores["labs"], **options)
    prevalence = expected.prevalence
    display = ModelDifferenceDisplay.from_comparisons(
        {"labs": comparison}, reference="notes", prevalence=prevalence, confidence_level=0.95
    )
    for name in ("estimate", "low", "high"):
        pd.testing.assert_frame_equal(getattr(display, name), getattr(expected, name))
    for texts in ("get_yticklabels", "get_xticklabels"):
        found, drawn = (
            [text.get_text() for text in getattr(each.ax_, texts)()] for each in (display, expected)
        )
        assert found == drawn
    assert display.ax_.get_xlabel() == expected.ax_.get_xlabel()


def test_reports_of_single_models_make_no_difference(y_true, y_scores):
    assert not hasattr(ModelDifferenceDisplay, "from_reports")
    report = multilabel_report(y_true, y_scores["notes"], n_bootstraps=0)
    with pytest.raises(ValueError, match="reports of single models do not"):
        ModelDifferenceDisplay.from_comparisons({"notes": report}, reference="notes")


def test_comparisons_are_of_the_same_labels(y_true, y_scores):
    found = paired_difference(y_true, y_scores["notes"], y_scores["labs"], n_bootstraps=0)
    draw = partial(ModelDifferenceDisplay.from_comparisons, reference="notes")
    with pytest.raises(ValueError, match="same labels"):
        draw({"labs": found, "other": found.iloc[1:]})
    with pytest.raises(ValueError, match="at least one"):
        draw({})
    with pytest.raises(ValueError, match="`metric` is 'brier'"):
        draw({"labs": found}, metric="brier")


def test_a_comparison_needs_two_models_and_a_known_reference(y_true, y_scores):
    with pytest.raises(ValueError, match="at least two"):
        ModelDifferenceDisplay.from_predictions(y_true, {"notes": y_scores["notes"]})
    with pytest.raises(ValueError, match="`reference` is 'best'"):
        ModelDifferenceDisplay.from_predictions(y_true, y_scores, reference="best")


# Groups of patients


@pytest.mark.parametrize("show", ["score", "gap"])
def test_groups_are_those_of_the_report(y_true, y_scores, show):
    y, p = y_true, y_scores["notes"]
    rng = np.random.default_rng(0)
    subgroups = pd.DataFrame({"sex": rng.choice(["F", "M"], 300), "age": rng.uniform(18, 95, 300)})
    options = {"n_bootstraps": 20, "random_state": 0}
    display = SubgroupDisplay.from_predictions(
        y, p, subgroups, show=show, label="sepsis", **options
    )
    report = subgroup_report(y, p, subgroups, **options)
    rows = report[report["label"] == "sepsis"]
    rows = rows[rows["attribute"] != "all"] if show == "gap" else rows
    drawn = display.ax_.lines[-1].get_xdata()
    np.testing.assert_allclose(drawn, rows[show])
    names = row_names(display.ax_)
    assert [name for name in names if "(" not in name] == ["sex", "age"]
    assert len(names) == len(rows) + 2
    whole = multilabel_report(y, p, n_bootstraps=0).loc["sepsis", "auroc"]
    line = display.ax_.lines[0].get_xdata()[0]
    assert line == pytest.approx(0 if show == "gap" else whole)


def test_groups_too_small_are_said_to_be(y_true, y_scores):
    y, p = y_true, y_scores["notes"]
    y["sepsis"] = (np.arange(300) < 40).astype(int)
    wards = np.where(np.arange(300) < 280, "A", "B")
    display = SubgroupDisplay.from_predictions(
        y, p, {"ward": wards}, label="sepsis", n_bootstraps=0
    )
    assert "too few" in [text.get_text() for text in display.ax_.texts]
