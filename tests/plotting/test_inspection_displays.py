"""Figures of attributions, panels, counterfactuals and learning draw the numbers that they hold."""

import re
from html import unescape

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.model_selection import KFold, ShuffleSplit, cross_val_predict, cross_validate
from sklearn.multioutput import MultiOutputClassifier

from sklearn_medfuse import MaskedLabEncoder, NoteWordEncoder, make_medfuse_pipeline
from sklearn_medfuse.datasets import make_ehr_cohort
from sklearn_medfuse.inspection import (
    LabCounterfactual,
    lab_attributions,
    lab_counterfactual,
    note_attributions,
    panel_importance,
)
from sklearn_medfuse.metrics import (
    calibration_bins,
    decision_curve,
    multilabel_report,
    subgroup_report,
)
from sklearn_medfuse.plotting import (
    AttributionDisplay,
    CalibrationDisplay,
    CohortFlowDisplay,
    CounterfactualDisplay,
    DecisionCurveDisplay,
    LabelAttributionDisplay,
    LabelScoresDisplay,
    LearningCurveDisplay,
    NoteAttributionDisplay,
    PanelImportanceDisplay,
    SubgroupDisplay,
)

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
plt = pytest.importorskip("matplotlib.pyplot")


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def cohort():
    return make_ehr_cohort(300, n_labels=2, share_without_notes=0, random_state=0)


@pytest.fixture(scope="module")
def pipe(cohort):
    labs = MaskedLabEncoder(
        8, d_model=8, n_heads=2, n_layers=1, n_factors=4, max_epochs=1, device="cpu"
    )
    pipe = make_medfuse_pipeline(
        cohort.lab_columns,
        "note",
        lab_encoder=labs,
        note_encoder=NoteWordEncoder(20),
        d_model=8,
        n_heads=2,
        n_estimators=1,
        max_epochs=3,
        device="cpu",
        random_state=0,
    )
    return pipe.fit(cohort.X[:200], cohort.y[:200])


@pytest.fixture
def stay(cohort):
    labs = cohort.X[cohort.lab_columns].notna().sum(axis=1)
    return cohort.X.loc[[labs[200:].idxmax()]]


def texts(labels):
    return [text.get_text() for text in labels]


# attributions


def test_bars_lead_from_the_base_to_the_prediction(pipe, cohort, stay):
    display = AttributionDisplay.from_estimator(
        pipe, stay, cohort.lab_columns, "disease 1", units=cohort.units, random_state=0
    )
    found = lab_attributions(pipe, stay, cohort.lab_columns, labels="disease 1", random_state=0)
    bars = display.ax_.patches
    assert len(bars) == 11
    assert bars[0].get_x() == pytest.approx(found.base[0, 0])
    end = bars[-1].get_x() + bars[-1].get_width()
    assert end == pytest.approx(found.predicted[0, 0])
    sizes = [abs(bar.get_width()) for bar in bars[:-1]]
    assert sizes == sorted(sizes, reverse=True)
    names = texts(display.ax_.get_yticklabels())
    first = found.to_frame(0)["disease 1"].abs().idxmax()
    unit = cohort.units[first]
    assert names[0] == f"{first} {stay[first].iloc[0]:g} {unit}".strip()
    assert names[-1] == f"{found.measured.sum() - 10} others"


def test_what_lowers_differs_in_hatch_and_side():
    attributions = pd.Series({"up": 1.0, "down": -0.5})
    up, down = AttributionDisplay(attributions, 0.0, 0.5, "CHF").plot().ax_.patches
    assert (up.get_hatch(), down.get_hatch()) == (None, "////")
    assert up.get_width() > 0 > down.get_width()


def test_stays_that_lack_labs_or_note(pipe, cohort, stay):
    bare = stay.copy()
    bare[cohort.lab_columns] = np.nan
    with pytest.raises(ValueError, match="no lab measured"):
        AttributionDisplay.from_estimator(pipe, bare, cohort.lab_columns, "disease 1")
    labs = cohort.lab_columns
    display = LabelAttributionDisplay.from_estimator(pipe, bare, labs, "note")
    assert (len(display.labs), len(display.note) > 0) == (0, True)
    display = LabelAttributionDisplay.from_estimator(pipe, stay.assign(note=None), labs, "note")
    assert (len(display.labs) > 0, len(display.note)) == (True, 0)
    with pytest.raises(ValueError, match="no lab measured and no note"):
        LabelAttributionDisplay.from_estimator(pipe, bare.assign(note=None), labs, "note")


def test_one_stay_at_a_time(pipe, cohort):
    with pytest.raises(ValueError, match="`X` has 2 rows"):
        AttributionDisplay.from_estimator(pipe, cohort.X[:2], cohort.lab_columns, "disease 1")
    with pytest.raises(ValueError, match="`X` has 2 rows"):
        NoteAttributionDisplay.from_estimator(pipe, cohort.X[:2], "note", "disease 1")
    with pytest.raises(ValueError, match="`X` has 2 rows"):
        LabelAttributionDisplay.from_estimator(pipe, cohort.X[:2], cohort.lab_columns, "note")


def test_the_map_holds_labs_and_parts_of_the_note(pipe, cohort, stay):
    display = LabelAttributionDisplay.from_estimator(
        pipe, stay, cohort.lab_columns, "note", random_state=0
    )
    labs = lab_attributions(pipe, stay, cohort.lab_columns, random_state=0)
    note = note_attributions(pipe, stay, "note")
    assert list(display.labs.index) == [
        lab for lab, there in zip(cohort.lab_columns, labs.measured[0], strict=True) if there
    ]
    np.testing.assert_allclose(display.labs, labs.to_frame(0)[labs.measured[0]])
    np.testing.assert_allclose(display.note, note.effects[0])
    drawn = display.ax_.get_images()[0]
    names = texts(display.ax_.get_yticklabels())
    assert drawn.get_array().shape == (len(names), 2)
    np.testing.assert_allclose(drawn.get_array()[0], display.labs.loc[names[0]])
    assert names[0] == display.labs.abs().max(axis=1).idxmax()
    assert drawn.norm.vmin == -drawn.norm.vmax
    # parts of the note stand in its order
    numbers = [int(name.split(":")[0].split()[1]) for name in names if ":" in name]
    assert numbers == sorted(numbers)


def test_without_words_no_text_is_drawn(pipe, cohort, stay):
    display = LabelAttributionDisplay.from_estimator(
        pipe, stay, cohort.lab_columns, "note", words=0, random_state=0
    )
    assert list(display.note.index) == [f"sentence {i + 1}" for i in range(len(display.note))]


# notes

NOTE = "Known <COPD> & asthma. No fever.\n\nCosts $5 and $6 a day, " + "word " * 30 + "end."


@pytest.fixture
def marked():
    spans = [(0, 22), (23, 32), (34, len(NOTE))]
    return NoteAttributionDisplay(NOTE, spans, np.array([1.0, -0.5, 0.0]), "COPD")


def test_html_holds_the_note_and_marks_its_units(marked):
    html = marked.to_html()
    assert html.count("<mark") == 3
    assert "Known &lt;COPD&gt; &amp; asthma." in html
    assert 'title="+1.000"' in html
    assert html.count("underline dotted") == 1
    assert unescape(re.sub(r"<[^>]+>", "", html)) == NOTE


def test_the_picture_holds_the_note_and_colours_its_units(marked):
    marked.plot()
    drawn = " ".join(text.get_text() for text in marked.ax_.texts).replace(r"\$", "$")
    assert drawn.split() == NOTE.split()
    wide = [patch.get_width() for patch in marked.ax_.patches]
    assert wide == [22, 9]
    assert marked.ax_.patches[0].get_alpha() == 2 * marked.ax_.patches[1].get_alpha()
    # underlined is what lowers
    assert [line.get_xdata()[0] for line in marked.ax_.lines] == [23]


def test_a_note_is_not_in_the_representation(marked):
    assert repr(marked) == "NoteAttributionDisplay(3 units, COPD)"
    # a notebook shows the text of a display that is asked for it, and of no other
    assert not hasattr(marked, "_repr_html_")


def test_from_estimator_takes_the_note_of_the_stay(pipe, stay):
    display = NoteAttributionDisplay.from_estimator(pipe, stay, "note", "disease 2")
    found = note_attributions(pipe, stay, "note", labels="disease 2")
    np.testing.assert_allclose(display.effects, found.effects[0][:, 0])
    assert display.note == stay["note"].iloc[0]
    with pytest.raises(ValueError, match="has no note"):
        NoteAttributionDisplay.from_estimator(pipe, stay.assign(note=None), "note", "disease 2")


# panels and counterfactuals


def test_panels_stand_by_the_mean_of_their_labels(pipe, cohort):
    X, y = cohort.X[200:], cohort.y[200:]
    display = PanelImportanceDisplay.from_estimator(
        pipe, X, y, cohort.lab_columns, n_repeats=2, random_state=0
    )
    expected = panel_importance(pipe, X, y, cohort.lab_columns, n_repeats=2, random_state=0)
    np.testing.assert_allclose(display.importance.importances, expected.importances)
    macro = expected.mean()["macro"].sort_values(ascending=False, kind="stable")
    np.testing.assert_allclose(display.ax_.lines[-1].get_xdata(), macro)
    names = texts(display.ax_.get_yticklabels())
    assert names[0] == f"{macro.index[0]} ({len(expected.panels[macro.index[0]])})"


def test_curves_dots_and_the_normal_range_are_drawn(pipe, cohort):
    X = cohort.X[200:210]
    ranges = cohort.reference_ranges
    display = CounterfactualDisplay.from_estimator(
        pipe, X, "creatinine", unit="mg/dL", reference_ranges=ranges, n_values=5
    )
    found = lab_counterfactual(pipe, X, "creatinine", reference_ranges=ranges, n_values=5)
    assert texts([ax.title for ax in display.axes_]) == ["disease 1", "disease 2"]
    for label, ax in enumerate(display.axes_):
        curves = np.array([line.get_ydata() for line in ax.lines[:10]])
        np.testing.assert_allclose(curves, found.curves[:, :, label])
        np.testing.assert_allclose(ax.lines[-1].get_ydata(), curves.mean(axis=0))
        low = ax.patches[0].get_x()
        assert (low, low + ax.patches[0].get_width()) == pytest.approx(ranges["creatinine"])
    assert display.figure_.get_supxlabel() == "creatinine (mg/dL)"


def test_values_may_come_in_any_order():
    curves = np.array([[[0.6], [0.1]]])
    found = LabCounterfactual(
        "creatinine", np.array([2.0, 1.0]), curves, np.array([[0.5]]), np.array([[0.2]]), ["CHF"]
    )
    line = CounterfactualDisplay(found).plot().axes_[0].lines[0]
    assert line.get_data()[0].tolist() == [1.0, 2.0]
    assert line.get_data()[1].tolist() == [0.1, 0.6]


# learning curves


class Remembers(RandomForestClassifier):
    """Notes the stays of each fit."""

    fits: list = []

    def fit(self, X, y):
        self.fits.append(X.index)
        return super().fit(X, y)


def test_subsets_hold_whole_patients_and_lie_in_each_other(cohort):
    Remembers.fits = []
    X = cohort.X[cohort.lab_columns]
    display = LearningCurveDisplay.from_estimator(
        Remembers(5, random_state=0),
        X,
        cohort.y,
        groups=cohort.groups,
        sizes=[0.2, 1.0],
        cv=2,
        n_bootstraps=20,
        random_state=0,
    )
    small, large = Remembers.fits[:2], Remembers.fits[2:]
    for part, whole in zip(small, large, strict=True):
        assert set(part) < set(whole)
        patients = cohort.groups[part].unique()
        assert set(cohort.groups[whole][cohort.groups[whole].isin(patients)].index) == set(part)
    # the two folds' training patients are all, without overlap
    assert set(large[0]) | set(large[1]) == set(X.index)
    assert not set(cohort.groups[large[0]]) & set(cohort.groups[large[1]])
    scores = display.scores
    assert scores["n_stays"].unique().tolist() == [
        np.mean([len(part) for part in fits]) for fits in (small, large)
    ]
    assert (scores["low"] <= scores["score"]).all()
    assert (scores["score"] <= scores["high"]).all()
    macro = scores[scores["label"] == "macro"]
    np.testing.assert_allclose(display.ax_.lines[0].get_ydata(), macro["score"])
    assert "95 % intervals" in display.ax_.get_ylabel()


def test_the_whole_size_is_the_cross_validated_score(cohort):
    X, y = cohort.X[cohort.lab_columns], cohort.y
    model = RandomForestClassifier(10, random_state=0)
    folds = KFold(3)
    display = LearningCurveDisplay.from_estimator(
        model, X, y, sizes=[1.0], cv=folds, n_bootstraps=0, random_state=0
    )
    options = {"cv": folds, "return_estimator": True, "return_indices": True}
    results = cross_validate(model, X, y, scoring=lambda *_: 0.0, **options)
    expected = LabelScoresDisplay.from_cv_results(results, X, y, n_bootstraps=0)
    np.testing.assert_allclose(display.scores["score"], expected.estimate["out of fold"])


def test_a_subset_without_a_label_is_learned_from(cohort):
    X = cohort.X[cohort.lab_columns]
    y = cohort.y.assign(**{"disease 2": (np.arange(300) % 60 == 0).astype(int)})
    display = LearningCurveDisplay.from_estimator(
        RandomForestClassifier(3, random_state=0), X, y, sizes=[0.02], n_bootstraps=0, cv=2
    )
    assert display.scores["score"].notna().all()


def test_shares_and_folds_of_learning_are_checked(cohort):
    X = cohort.X[cohort.lab_columns]
    model = RandomForestClassifier(3)
    with pytest.raises(ValueError, match="above 0 and up to 1"):
        LearningCurveDisplay.from_estimator(model, X, cohort.y, sizes=[2.0])
    with pytest.raises(ValueError, match="hold out every row once"):
        LearningCurveDisplay.from_estimator(model, X, cohort.y, cv=ShuffleSplit(2))
    with pytest.raises(ValueError, match="`metric` is 'accuracy'"):
        LearningCurveDisplay.from_estimator(model, X, cohort.y, metric="accuracy")


# calibration, decisions, subgroups, flow


@pytest.fixture
def predicted():
    rng = np.random.default_rng(0)
    p = rng.random((300, 2))
    y = pd.DataFrame((rng.random(p.shape) < p).astype(int), columns=["CHF", "COPD"])
    return y, p


def test_bins_and_intervals_are_those_of_the_metric(predicted):
    y, p = predicted
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


def test_calibration_of_estimators_and_folds(predicted):
    y, p = predicted
    X = pd.DataFrame(p, columns=["a", "b"])
    model = MultiOutputClassifier(HistGradientBoostingClassifier(max_iter=5)).fit(X, y)
    display = CalibrationDisplay.from_estimator(model, X, y, n_bootstraps=0)
    fitted = np.column_stack([each[:, 1] for each in model.predict_proba(X)])
    expected = CalibrationDisplay.from_predictions(y, {"model": fitted}, n_bootstraps=0)
    np.testing.assert_allclose(display.errors["MultiOutputClassifier"], expected.errors["model"])
    options = {"cv": KFold(2), "return_estimator": True, "return_indices": True}
    results = cross_validate(model, X, y, scoring=lambda *_: 0.0, **options)
    display = CalibrationDisplay.from_cv_results(results, X, y, n_bootstraps=0)
    assert texts([ax.title for ax in display.axes_]) == ["CHF", "COPD"]
    pooled = cross_val_predict(model, X, y, cv=KFold(2), method="predict_proba")
    expected = CalibrationDisplay.from_predictions(y, {"model": pooled}, n_bootstraps=0)
    np.testing.assert_allclose(display.errors["out of fold"], expected.errors["model"])


def test_given_axes_name_the_models(predicted):
    y, p = predicted
    axes = plt.subplots(1, 2)[1]
    CalibrationDisplay.from_predictions(y, {"a": p, "b": p / 2}, axes=axes)
    assert {ax.get_xlabel() for ax in axes} == {"predicted probability"}
    named = texts(axes[0].get_legend().get_texts())
    assert [name.split()[0] for name in named] == ["a", "b"]


def test_net_benefits_are_those_of_the_metric(predicted):
    y, p = predicted
    display = DecisionCurveDisplay.from_predictions(y, {"model": p}, n_bootstraps=0)
    expected = decision_curve(y, p, thresholds=np.arange(1, 51) / 100, averages=(), n_bootstraps=0)
    for name, ax in zip(y, display.axes_, strict=True):
        drawn = {line.get_label(): line.get_ydata() for line in ax.lines}
        own = expected[expected["label"] == name]
        np.testing.assert_allclose(drawn["model"], own["net_benefit"])
        np.testing.assert_allclose(drawn["act on all"], own["treat_all"])
        assert set(drawn["act on nobody"]) == {0}
    axes = plt.subplots(1, 2)[1]
    assert DecisionCurveDisplay.from_predictions(y, {"model": p}, axes=axes).axes_[0] is axes[0]
    assert axes[0].get_legend() is not None


@pytest.mark.parametrize("show", ["score", "gap"])
def test_groups_are_those_of_the_report(predicted, show):
    y, p = predicted
    rng = np.random.default_rng(0)
    subgroups = pd.DataFrame({"sex": rng.choice(["F", "M"], 300), "age": rng.uniform(18, 95, 300)})
    options = {"n_bootstraps": 20, "random_state": 0}
    display = SubgroupDisplay.from_predictions(y, p, subgroups, show=show, label="CHF", **options)
    report = subgroup_report(y, p, subgroups, **options)
    rows = report[report["label"] == "CHF"]
    rows = rows[rows["attribute"] != "all"] if show == "gap" else rows
    drawn = display.ax_.lines[-1].get_xdata()
    np.testing.assert_allclose(drawn, rows[show])
    names = texts(display.ax_.get_yticklabels())
    assert [name for name in names if "(" not in name] == ["sex", "age"]
    assert len(names) == len(rows) + 2
    whole = multilabel_report(y, p, n_bootstraps=0).loc["CHF", "auroc"]
    line = display.ax_.lines[0].get_xdata()[0]
    assert line == pytest.approx(0 if show == "gap" else whole)


def test_groups_too_small_are_said_to_be(predicted):
    y, p = predicted
    y["CHF"] = (np.arange(300) < 40).astype(int)
    wards = np.where(np.arange(300) < 280, "A", "B")
    display = SubgroupDisplay.from_predictions(y, p, {"ward": wards}, label="CHF", n_bootstraps=0)
    assert "too few" in texts(display.ax_.texts)


def test_the_flow_is_the_cohorts(cohort):
    ax = plt.figure().add_subplot()
    display = CohortFlowDisplay.from_cohort(cohort, ax=ax)
    assert display.ax_ is ax
    assert texts(ax.texts)[:1] == ["300 stays read"]
    assert display.counts == cohort.report()


@pytest.fixture
def one_of_each(pipe, cohort, stay, marked):
    """Displays of one axes each, drawn once."""
    X, y = cohort.X[200:], cohort.y[200:]
    labs = cohort.lab_columns
    return [
        AttributionDisplay.from_estimator(pipe, stay, labs, "disease 1", n_permutations=1),
        LabelAttributionDisplay.from_estimator(pipe, stay, labs, "note"),
        PanelImportanceDisplay.from_estimator(pipe, X, y, {"salts": ["sodium"]}, n_repeats=1),
        SubgroupDisplay.from_predictions(
            y, pipe.predict_proba(X), cohort.subgroups[200:]["sex"], n_bootstraps=0
        ),
        LearningCurveDisplay(
            pd.DataFrame(
                {"model": "a", "n_stays": [10, 20], "label": "macro", "score": 0.7}
                | {"low": np.nan, "high": np.nan}
            )
        ).plot(),
        CohortFlowDisplay.from_cohort(cohort),
        marked.plot(),
    ]


def test_each_draws_into_given_axes_and_again(one_of_each):
    for display in one_of_each:
        first = display.figure_
        ax = plt.figure().add_subplot()
        assert display.plot(ax=ax) is display
        assert display.ax_ is ax
        assert display.figure_ is ax.figure is not first
        display.figure_.canvas.draw()
