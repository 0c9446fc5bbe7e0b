"""Figures that hold their numbers and draw when asked."""

from ._calibration_display import CalibrationDisplay
from ._disentanglement_display import DisentanglementDisplay
from ._lab_correlation_display import LabCorrelationDisplay
from ._lab_reconstruction_display import LabReconstructionDisplay
from ._label_scores_display import LabelScoresDisplay
from ._mi_weight_display import MIWeightDisplay
from ._modality_contribution_display import ModalityContributionDisplay

__all__ = [
    "CalibrationDisplay",
    "DisentanglementDisplay",
    "LabCorrelationDisplay",
    "LabReconstructionDisplay",
    "LabelScoresDisplay",
    "MIWeightDisplay",
    "ModalityContributionDisplay",
]
