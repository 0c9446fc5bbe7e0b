"""Figures that hold their numbers and draw on request."""

from ._attribution_display import AttributionDisplay, LabelAttributionDisplay
from ._counterfactual_display import CounterfactualDisplay
from ._curve_displays import CalibrationDisplay, DecisionCurveDisplay, LabelCurvesDisplay
from ._label_scores_display import LabelScoresDisplay, ModelDifferenceDisplay
from ._missingness_display import MissingnessDisplay
from ._note_attribution_display import NoteAttributionDisplay
from ._subgroup_display import SubgroupDisplay

__all__ = [
    "AttributionDisplay",
    "CalibrationDisplay",
    "CounterfactualDisplay",
    "DecisionCurveDisplay",
    "LabelAttributionDisplay",
    "LabelCurvesDisplay",
    "LabelScoresDisplay",
    "MissingnessDisplay",
    "ModelDifferenceDisplay",
    "NoteAttributionDisplay",
    "SubgroupDisplay",
]
