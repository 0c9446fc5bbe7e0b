"""Figures that hold their numbers and draw when asked."""

from ._calibration_display import CalibrationDisplay
from ._disentanglement_display import DisentanglementDisplay
from ._lab_correlation_display import LabCorrelationDisplay
from ._lab_reconstruction_display import LabReconstructionDisplay
from ._label_precision_recall_display import LabelPrecisionRecallDisplay
from ._label_roc_display import LabelRocDisplay
from ._label_scores_display import LabelScoresDisplay
from ._mi_weight_display import MIWeightDisplay
from ._missingness_display import MissingnessDisplay
from ._modality_contribution_display import ModalityContributionDisplay
from ._model_difference_display import ModelDifferenceDisplay

__all__ = [
    "CalibrationDisplay",
    "DisentanglementDisplay",
    "LabCorrelationDisplay",
    "LabReconstructionDisplay",
    "LabelPrecisionRecallDisplay",
    "LabelRocDisplay",
    "LabelScoresDisplay",
    "MIWeightDisplay",
    "MissingnessDisplay",
    "ModalityContributionDisplay",
    "ModelDifferenceDisplay",
]
