"""What moves a prediction: attributions to labs and notes, panels, counterfactuals."""

from ._lab_attributions import LabAttributions, lab_attributions
from ._note_attributions import NoteAttributions, note_attributions
from ._perturbations import (
    LabCounterfactual,
    PanelImportance,
    deletion_curve,
    had_been_normal,
    lab_counterfactual,
    lab_panels,
    panel_importance,
)

__all__ = [
    "LabAttributions",
    "LabCounterfactual",
    "NoteAttributions",
    "PanelImportance",
    "deletion_curve",
    "had_been_normal",
    "lab_attributions",
    "lab_counterfactual",
    "lab_panels",
    "note_attributions",
    "panel_importance",
]
