"""Figures that hold their numbers and draw when asked."""

from ._attribution_display import AttributionDisplay
from ._calibration_display import CalibrationDisplay
from ._cohort_flow_display import CohortFlowDisplay
from ._counterfactual_display import CounterfactualDisplay
from ._decision_curve_display import DecisionCurveDisplay
from ._disentanglement_display import DisentanglementDisplay
from ._lab_correlation_display import LabCorrelationDisplay
from ._lab_reconstruction_display import LabReconstructionDisplay
from ._label_attribution_display import LabelAttributionDisplay
from ._label_precision_recall_display import LabelPrecisionRecallDisplay
from ._label_roc_display import LabelRocDisplay
from ._label_scores_display import LabelScoresDisplay
from ._learning_curve_display import LearningCurveDisplay
from ._mi_weight_display import MIWeightDisplay
from ._missingness_display import MissingnessDisplay
from ._modality_contribution_display import ModalityContributionDisplay
from ._model_difference_display import ModelDifferenceDisplay
from ._note_attribution_display import NoteAttributionDisplay
from ._panel_importance_display import PanelImportanceDisplay
from ._subgroup_display import SubgroupDisplay

__all__ = [
    "AttributionDisplay",
    "CalibrationDisplay",
    "CohortFlowDisplay",
    "CounterfactualDisplay",
    "DecisionCurveDisplay",
    "DisentanglementDisplay",
    "LabCorrelationDisplay",
    "LabReconstructionDisplay",
    "LabelAttributionDisplay",
    "LabelPrecisionRecallDisplay",
    "LabelRocDisplay",
    "LabelScoresDisplay",
    "LearningCurveDisplay",
    "MIWeightDisplay",
    "MissingnessDisplay",
    "ModalityContributionDisplay",
    "ModelDifferenceDisplay",
    "NoteAttributionDisplay",
    "PanelImportanceDisplay",
    "SubgroupDisplay",
]
