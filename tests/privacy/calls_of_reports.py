"""How the suite calls metrics, splitters, explanations and figures."""

from copy import deepcopy

import numpy as np
from sklearn.dummy import DummyClassifier
from sklearn.model_selection import KFold, cross_validate

from sklearn_medfuse import inspection, metrics, model_selection, plotting

from .calls_of_estimators import routed
from .public import Call

NO_BOOTSTRAP = {"n_bootstraps": 3, "random_state": 0}


def _metric(name, *more, scores=("y_prob",), **options):
    def good(w, f, folder):
        every = {"y_true": w.y, "groups": w.groups, "subgroups": w.cohort.subgroups}
        every |= dict.fromkeys(("y_prob", "y_score", "y_score_a"), w.scores)
        every |= {"y_score_b": w.scores * 0.9, "sample_weight": np.ones(len(w.y))}
        return {each: every[each] for each in ("y_true", *scores, *more)} | options

    return Call(lambda *_: getattr(metrics, name), good, ("y_true", *scores, *more))


_TWO = ("y_score_a", "y_score_b")
CALLS = {
    "metrics.calibration_bins": _metric("calibration_bins", "groups", **NO_BOOTSTRAP),
    "metrics.calibration_report": _metric("calibration_report", "groups", **NO_BOOTSTRAP),
    "metrics.decision_curve": _metric("decision_curve", "groups", **NO_BOOTSTRAP),
    "metrics.delong_test": _metric("delong_test", "groups", scores=_TWO),
    "metrics.expected_calibration_error": _metric("expected_calibration_error", "sample_weight"),
    "metrics.multilabel_brier_score": _metric("multilabel_brier_score", "sample_weight"),
    "metrics.multilabel_log_loss": _metric("multilabel_log_loss", "sample_weight"),
    "metrics.multilabel_report": _metric(
        "multilabel_report", "groups", "sample_weight", scores=("y_score",), **NO_BOOTSTRAP
    ),
    "metrics.paired_difference": _metric(
        "paired_difference", "groups", scores=_TWO, **NO_BOOTSTRAP
    ),
    "metrics.subgroup_report": _metric(
        "subgroup_report", "subgroups", "groups", scores=("y_score",), min_count=3, **NO_BOOTSTRAP
    ),
    "metrics.get_scorer": Call(
        lambda *_: lambda estimator, X, y: metrics.get_scorer("macro_auroc")(estimator, X, y),
        lambda w, f, folder: {"estimator": f.pipe, "X": w.X, "y": w.y},
        ("X", "y"),
    ),
    "metrics.get_scorer_names": Call(lambda *_: metrics.get_scorer_names, lambda *_: {}),
}


def _splits(splitter, **names):
    def split(**data):
        return list(splitter.split(**data))

    def good(w, f, folder):
        return {"X": w.X, "y": w.y} | {name: getattr(w, field) for name, field in names.items()}

    return Call(lambda *_: split, good, ("X", "y", *names))


_SPLITTERS = {
    "LeaveHospitalsOut": (
        model_selection.LeaveHospitalsOut(),
        {"groups": "hospitals", "patients": "patients"},
    ),
    "MultilabelStratifiedGroupKFold": (
        model_selection.MultilabelStratifiedGroupKFold(2),
        {"groups": "groups"},
    ),
    "MultilabelStratifiedKFold": (model_selection.MultilabelStratifiedKFold(2), {}),
    "TemporalSplit": (model_selection.TemporalSplit(2), {"groups": "groups", "times": "times"}),
}
for _name, (_splitter, _arguments) in _SPLITTERS.items():
    CALLS[f"model_selection.{_name}.split"] = _splits(_splitter, **_arguments)
    CALLS[f"model_selection.{_name}.get_n_splits"] = Call(
        lambda *_, each=_splitter: each.get_n_splits,
        lambda w, f, folder, own=tuple(_arguments): {
            "X": w.X,
            "y": w.y,
            **({"groups": w.hospitals} if "groups" in own else {}),
        },
        ("X", "y"),
    )
    CALLS[f"model_selection.{_name}.get_metadata_routing"] = Call(
        lambda *_, each=_splitter: each.get_metadata_routing, lambda *_: {}
    )
    if hasattr(type(_splitter), "set_split_request"):
        CALLS[f"model_selection.{_name}.set_split_request"] = Call(
            lambda *_, each=_splitter: routed(lambda: deepcopy(each).set_split_request()),
            lambda *_: {},
        )


def _first(w):
    return w.lab_columns[0]


def _explain(name, *data, **more):
    def good(w, f, folder):
        few = name not in ("panel_importance",)
        given = {"estimator": f.pipe, "X": f.few if few else w.X}
        return given | {key: value(w, f) for key, value in more.items()}

    return Call(lambda *_: getattr(inspection, name), good, ("X", *data))


CALLS |= {
    "inspection.lab_attributions": _explain(
        "lab_attributions", lab_columns=lambda w, f: w.lab_columns, n_permutations=lambda w, f: 1
    ),
    "inspection.note_attributions": _explain("note_attributions", note_column=lambda w, f: "note"),
    "inspection.lab_counterfactual": _explain(
        "lab_counterfactual", lab=lambda w, f: _first(w), n_values=lambda w, f: 3
    ),
    "inspection.had_been_normal": _explain(
        "had_been_normal", reference_ranges=lambda w, f: w.cohort.reference_ranges
    ),
    "inspection.panel_importance": _explain(
        "panel_importance",
        "y",
        y=lambda w, f: w.y,
        panels=lambda w, f: f.panels,
        n_repeats=lambda w, f: 1,
    ),
    "inspection.deletion_curve": _explain(
        "deletion_curve",
        attributions=lambda w, f: f.lab_attributions,
        label=lambda w, f: w.y.columns[0],
        max_deleted=lambda w, f: 1,
        n_random=lambda w, f: 1,
    ),
    "inspection.lab_panels": Call(
        lambda *_: inspection.lab_panels, lambda w, f, t: {"lab_columns": w.lab_columns}
    ),
    "inspection.LabAttributions.summary": Call(
        lambda w, f, t: f.lab_attributions.summary, lambda *_: {}
    ),
    "inspection.LabAttributions.to_frame": Call(
        lambda w, f, t: f.lab_attributions.to_frame, lambda *_: {"row": 0}
    ),
    "inspection.LabCounterfactual.mean": Call(lambda w, f, t: f.counterfactual.mean, lambda *_: {}),
    "inspection.NoteAttributions.to_html": Call(
        lambda w, f, t: f.note_attributions.to_html,
        lambda w, f, t: {"note": f.few["note"].iloc[0], "label": _label(w, f), "row": 0},
    ),
    "inspection.NoteAttributions.to_frame": Call(
        lambda w, f, t: f.note_attributions.to_frame,
        lambda w, f, t: {"row": 0, "note": f.few["note"].iloc[0]},
        ("note",),
    ),
    "inspection.PanelImportance.mean": Call(lambda w, f, t: f.panel_importance.mean, lambda *_: {}),
    "inspection.PanelImportance.std": Call(lambda w, f, t: f.panel_importance.std, lambda *_: {}),
}


def _draw(name, method, data, **arguments):
    """A figure's way in; what it draws is saved by the test."""
    return Call(
        lambda *_: getattr(getattr(plotting, name), method),
        lambda w, f, folder: {key: value(w, f) for key, value in arguments.items()},
        data,
    )


def _label(w, f):
    return w.y.columns[0]


def _cv_results(w, f):
    X = w.numeric_labs.reset_index(drop=True)
    return cross_validate(
        DummyClassifier(strategy="prior"),
        X,
        w.y,
        cv=KFold(2),
        return_indices=True,
        return_estimator=True,
    )


_MODEL = {"estimators": lambda w, f: f.pipe, "X": lambda w, f: w.X, "y": lambda w, f: w.y}
_FOLDS = {"cv_results": _cv_results, "X": lambda w, f: w.numeric_labs, "y": lambda w, f: w.y}
_BOOTSTRAPPED = {"n_bootstraps": lambda w, f: 3, "groups": lambda w, f: w.groups}
_MODELS = {"estimators": lambda w, f: {"one": f.pipe, "other": f.pipe}}
_FOLDS_OF_TWO = {"cv_results": lambda w, f: {name: _cv_results(w, f) for name in ("one", "other")}}
for _name, _more in {
    "CalibrationDisplay": _BOOTSTRAPPED,
    "DecisionCurveDisplay": _BOOTSTRAPPED,
    "LabelCurvesDisplay": {},
    "LabelScoresDisplay": _BOOTSTRAPPED,
    "ModelDifferenceDisplay": _BOOTSTRAPPED,
}.items():
    _two = _name == "ModelDifferenceDisplay"
    _groups = ("groups",) if _more else ()
    _scores = "y_probs" if _name in ("CalibrationDisplay", "DecisionCurveDisplay") else "y_scores"
    _of_both = {"y_true": lambda w, f: w.y} | {
        _scores: (lambda w, f: {"one": w.scores, "other": 0.9 * w.scores})
        if _two
        else (lambda w, f: {"one": w.scores})
    }
    CALLS |= {
        f"plotting.{_name}.from_predictions": _draw(
            _name, "from_predictions", ("y_true", _scores, *_groups), **_of_both, **_more
        ),
        f"plotting.{_name}.from_estimator": _draw(
            _name,
            "from_estimator",
            ("X", "y", *_groups),
            **(_MODEL | _more | (_MODELS if _two else {})),
        ),
        f"plotting.{_name}.from_cv_results": _draw(
            _name,
            "from_cv_results",
            ("X", "y", *_groups),
            **(_FOLDS | _more | (_FOLDS_OF_TWO if _two else {})),
        ),
    }


def _report(w, f):
    return metrics.multilabel_report(w.y, w.scores, **NO_BOOTSTRAP)


CALLS |= {
    "plotting.AttributionDisplay.from_attributions": _draw(
        "AttributionDisplay",
        "from_attributions",
        (),
        attributions=lambda w, f: f.lab_attributions,
        label=_label,
    ),
    "plotting.AttributionDisplay.from_estimator": _draw(
        "AttributionDisplay",
        "from_estimator",
        ("X",),
        estimator=lambda w, f: f.pipe,
        X=lambda w, f: f.few.iloc[[0]],
        lab_columns=lambda w, f: w.lab_columns,
        label=_label,
        n_permutations=lambda w, f: 1,
    ),
    "plotting.LabelScoresDisplay.from_reports": _draw(
        "LabelScoresDisplay", "from_reports", (), reports=lambda w, f: {"one": _report(w, f)}
    ),
    "plotting.ModelDifferenceDisplay.from_comparisons": _draw(
        "ModelDifferenceDisplay",
        "from_comparisons",
        (),
        comparisons=lambda w, f: {
            "other": metrics.paired_difference(w.y, w.scores, 0.9 * w.scores, **NO_BOOTSTRAP)
        },
        reference=lambda w, f: "one",
    ),
    "plotting.SubgroupDisplay.from_estimator": _draw(
        "SubgroupDisplay",
        "from_estimator",
        ("X", "y", "subgroups"),
        estimator=lambda w, f: f.pipe,
        X=lambda w, f: w.cohort.X,
        y=lambda w, f: w.y,
        subgroups=lambda w, f: w.cohort.subgroups,
        n_bootstraps=lambda w, f: 3,
        min_count=lambda w, f: 5,
    ),
    "plotting.SubgroupDisplay.from_predictions": _draw(
        "SubgroupDisplay",
        "from_predictions",
        ("y_true", "y_score", "subgroups"),
        y_true=lambda w, f: w.y,
        y_score=lambda w, f: w.scores,
        subgroups=lambda w, f: w.cohort.subgroups,
        n_bootstraps=lambda w, f: 3,
        min_count=lambda w, f: 5,
    ),
}


def _redraw(name, way):
    """Draw a display again."""

    def target(w, f, folder):
        import matplotlib.pyplot as plt

        first = CALLS[f"plotting.{name}.{way}"]
        display = first.target(w, f, folder)(**first.good(w, f, folder))
        # The test of `way` has saved this figure
        plt.close("all")
        return display.plot

    return Call(target, lambda *_: {})


for _address in [each for each in CALLS if each.startswith("plotting.")]:
    _, _name, _way = _address.split(".")
    CALLS.setdefault(f"plotting.{_name}.plot", _redraw(_name, _way))
