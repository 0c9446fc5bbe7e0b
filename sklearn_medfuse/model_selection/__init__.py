"""Splitters for multi-label data with several stays per patient, several hospitals and years."""

from ._leave_hospitals_out import LeaveHospitalsOut
from ._multilabel_stratified import MultilabelStratifiedGroupKFold, MultilabelStratifiedKFold
from ._temporal_split import TemporalSplit

__all__ = [
    "LeaveHospitalsOut",
    "MultilabelStratifiedGroupKFold",
    "MultilabelStratifiedKFold",
    "TemporalSplit",
]
