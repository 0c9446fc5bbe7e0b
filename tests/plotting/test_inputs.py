"""Displays, reports and explanations take one or several models, and tables of any library."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from sklearn.model_selection import GridSearchCV, cross_validate

from sklearn_medfuse import inspection, metrics, plotting
from sklearn_medfuse.datasets import make_ehr_cohort
from sklearn_medfuse.model_selection import MultilabelStratifiedGroupKFold

plt = pytest.importorskip("matplotlib.pyplot")

COHORT = make_ehr_cohort(60, n_labels=2, share_without_notes=0, random_state=0)
LABS, NOTE = COHORT.lab_columns[:4], COHORT.note_column
X, Y = COHORT.X[[*LABS, NOTE]], COHORT.y
LABEL = Y.columns[0]
WARDS = pd.DataFrame({"ward": np.array(["A", "B"])[np.arange(60) % 2]})
TABLES = {
    "polars": pl.from_pandas,
    "arrow": lambda table: pa.Table.from_pandas(table, preserve_index=False),
}
EXACT = {"n_bootstraps": 0}
SEED = {"random_state": 0}


@pytest.fixture(scope="module")
def search(small_pipeline):
    """A fitted search; its best estimator is the fitted pipeline."""
    pipe = small_pipeline(LABS, NOTE, views={}, max_epochs=1)
    folds = MultilabelStratifiedGroupKFold(2)
    return GridSearchCV(pipe, {"medfuse__mi_weight": [0.1]}, cv=folds).fit(
        X, Y, groups=COHORT.groups
    )


@pytest.fixture(scope="module")
def folds(search):
    return cross_validate(
        search.best_estimator_,
        X,
        Y,
        groups=COHORT.groups,
        cv=MultilabelStratifiedGroupKFold(2),
        return_estimator=True,
        return_indices=True,
    )


def two(model):
    return {"one": model, "the same": model}


# Of a model, of the stays and their labels in some library, and a function that converts a table
OF_MODELS = {
    "CalibrationDisplay": lambda d, m, X, y, _: d.from_estimator(m, X, y, **EXACT),
    "DecisionCurveDisplay": lambda d, m, X, y, _: d.from_estimator(m, X, y, **EXACT),
    "LabelCurvesDisplay": lambda d, m, X, y, _: d.from_estimator(two(m), X, y),
    "LabelScoresDisplay": lambda d, m, X, y, _: d.from_estimator(m, X, y, **EXACT),
    "ModelDifferenceDisplay": lambda d, m, X, y, _: d.from_estimator(two(m), X, y, **EXACT),
    "SubgroupDisplay": lambda d, m, X, y, to: d.from_estimator(m, X, y, to(WARDS), **EXACT),
    "AttributionDisplay": lambda d, m, X, y, _: d.from_estimator(m, X[:1], LABS, LABEL, **SEED),
}


@pytest.mark.parametrize("name", plotting.__all__)
@pytest.mark.parametrize("library", TABLES)
def test_displays_of_models(search, name, library):
    display, to = getattr(plotting, name), TABLES[library]
    expected = numbers(OF_MODELS[name](display, search.best_estimator_, X, Y, pd.DataFrame))
    assert expected
    model = search if library == "polars" else search.best_estimator_
    assert_same(numbers(OF_MODELS[name](display, model, to(X), to(Y), to)), expected)
    plt.close("all")


OF_FOLDS = [
    name for name in plotting.__all__ if hasattr(getattr(plotting, name), "from_cv_results")
]
MORE = {name: {} if name == "LabelCurvesDisplay" else EXACT for name in OF_FOLDS}


@pytest.mark.parametrize("name", OF_FOLDS)
@pytest.mark.parametrize("library", TABLES)
def test_displays_of_folds(folds, name, library):
    display, to = getattr(plotting, name), TABLES[library]
    expected = display.from_cv_results(two(folds), X, Y, **MORE[name])
    found = display.from_cv_results(two(folds), to(X), to(Y), **MORE[name])
    assert_same(numbers(found), numbers(expected))
    plt.close("all")


@pytest.mark.parametrize("name", OF_FOLDS)
def test_a_search_has_no_models_of_its_folds(search, name):
    display = getattr(plotting, name)
    with pytest.raises(TypeError, match=r"type GridSearchCV; .* cross_validate on its best_est"):
        display.from_cv_results(search, X, Y)
    with pytest.raises(ValueError, match="return_estimator=True"):
        display.from_cv_results(search.cv_results_, X, Y)


OF_PREDICTIONS = {
    "calibration_bins": lambda f, y, p, _: f(y, p, **EXACT),
    "calibration_report": lambda f, y, p, _: f(y, p, **EXACT),
    "decision_curve": lambda f, y, p, _: f(y, p, **EXACT),
    "delong_test": lambda f, y, p, _: f(y, p, p),
    "expected_calibration_error": lambda f, y, p, _: f(y, p),
    "multilabel_brier_score": lambda f, y, p, _: f(y, p),
    "multilabel_log_loss": lambda f, y, p, _: f(y, p),
    "multilabel_report": lambda f, y, p, to: f(y, p, groups=patients(to), n_bootstraps=3, **SEED),
    "paired_difference": lambda f, y, p, to: f(
        y, p, p, groups=patients(to), n_bootstraps=3, **SEED
    ),
    "subgroup_report": lambda f, y, p, to: f(y, p, to(WARDS), **EXACT),
    **dict.fromkeys(
        [name for name in OF_MODELS if hasattr(getattr(plotting, name), "from_predictions")],
        None,
    ),
}
# Not of predictions
SCORERS = {"get_scorer", "get_scorer_names"}


def patients(to):
    return to(pd.DataFrame({"patient": COHORT.groups}))["patient"]


@pytest.mark.parametrize("name", OF_PREDICTIONS)
@pytest.mark.parametrize("library", TABLES)
def test_reports_and_displays_of_predictions(search, name, library):
    to, p = TABLES[library], pd.DataFrame(search.predict_proba(X), columns=Y.columns)
    if (make := OF_PREDICTIONS[name]) is not None:
        make_of, function = make, getattr(metrics, name)
    else:
        function = getattr(plotting, name).from_predictions

        def make_of(function, y, p, to):
            wards = [p, to(WARDS)] if name == "SubgroupDisplay" else [two(p)]
            return function(y, *wards, **MORE.get(name, EXACT))

    expected = numbers(make_of(function, Y, p, pd.DataFrame))
    assert_same(numbers(make_of(function, to(Y), to(p), to)), expected)
    plt.close("all")


def test_every_report_is_tried():
    assert set(metrics.__all__) - SCORERS <= set(OF_PREDICTIONS)
    assert set(OF_MODELS) == set(plotting.__all__)


@pytest.mark.parametrize("scorer", metrics.get_scorer_names())
@pytest.mark.parametrize("library", TABLES)
def test_scorers(search, scorer, library):
    to, score = TABLES[library], metrics.get_scorer(scorer)
    assert score(search, to(X), to(Y)) == score(search.best_estimator_, X, Y)


OF_STAYS = {
    "deletion_curve": lambda f, m, X, y: f(
        m, X[:5], inspection.lab_attributions(m, X[:5], LABS, **SEED), LABEL, **SEED
    ),
    "had_been_normal": lambda f, m, X, y: f(m, X[:9], COHORT.reference_ranges),
    "lab_attributions": lambda f, m, X, y: f(m, X[:2], LABS, **SEED),
    "lab_counterfactual": lambda f, m, X, y: f(m, X, LABS[0]),
    "note_attributions": lambda f, m, X, y: f(m, X[:2], NOTE),
    "panel_importance": lambda f, m, X, y: f(m, X, y, LABS, n_repeats=2, **SEED),
}


@pytest.mark.parametrize("name", OF_STAYS)
@pytest.mark.parametrize("library", TABLES)
def test_explanations(search, name, library):
    explain, to = getattr(inspection, name), TABLES[library]
    expected = numbers(OF_STAYS[name](explain, search.best_estimator_, X, Y))
    model = search if library == "polars" else search.best_estimator_
    assert_same(numbers(OF_STAYS[name](explain, model, to(X), to(Y))), expected)


def test_every_explanation_is_tried():
    functions = {name for name in inspection.__all__ if name[0].islower()}
    assert functions - {"lab_panels"} == set(OF_STAYS)


def numbers(found):
    """What a display or a result holds, apart from what it has drawn on."""
    if not hasattr(found, "__dict__") or isinstance(found, pd.DataFrame | np.ndarray):
        return {"value": found}
    return {name: value for name, value in vars(found).items() if not name.endswith("_")}


def assert_same(found, expected):
    """Single models are named by their class, so columns are compared by position."""
    assert type(found) is type(expected)
    if isinstance(expected, pd.DataFrame):
        tables = (table.set_axis(range(table.shape[1]), axis=1) for table in (found, expected))
        pd.testing.assert_frame_equal(*tables, check_index_type=False)
    elif isinstance(expected, pd.Series):
        pd.testing.assert_series_equal(found, expected, check_index_type=False)
    elif isinstance(expected, dict):
        assert_same([*found.values()], [*expected.values()])
    elif isinstance(expected, list | tuple):
        for one, another in zip(found, expected, strict=True):
            assert_same(one, another)
    elif hasattr(expected, "__dataclass_fields__"):
        assert_same(numbers(found), numbers(expected))
    else:
        np.testing.assert_array_equal(found, expected)
