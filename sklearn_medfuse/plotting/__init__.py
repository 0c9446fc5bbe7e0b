"""Figures that hold their numbers and draw on request."""

from ._attribution_display import AttributionDisplay
from ._curve_displays import CalibrationDisplay, DecisionCurveDisplay, LabelCurvesDisplay
from ._label_scores_display import LabelScoresDisplay, ModelDifferenceDisplay
from ._subgroup_display import SubgroupDisplay

__all__ = [
    "AttributionDisplay",
    "CalibrationDisplay",
    "DecisionCurveDisplay",
    "LabelCurvesDisplay",
    "LabelScoresDisplay",
    "ModelDifferenceDisplay",
    "SubgroupDisplay",
]
