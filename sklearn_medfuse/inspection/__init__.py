"""What moves a prediction: attributions to labs and notes, panels, counterfactuals."""

from ._deletion_curve import deletion_curve
from ._lab_attributions import LabAttributions, lab_attributions
from ._lab_counterfactuals import LabCounterfactual, had_been_normal, lab_counterfactual
from ._lab_panels import lab_panels
from ._note_attributions import NoteAttributions, note_attributions
from ._panel_importance import PanelImportance, panel_importance

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
