"""Multi-label scores per disease: reports with intervals, proper losses, scorers by name."""

from ._brier_score import multilabel_brier_score
from ._calibration_bins import calibration_bins
from ._calibration_error import expected_calibration_error
from ._calibration_report import calibration_report
from ._decision_curve import decision_curve
from ._delong_test import delong_test
from ._log_loss import multilabel_log_loss
from ._multilabel_report import multilabel_report
from ._paired_difference import paired_difference
from ._scorers import get_scorer, get_scorer_names
from ._subgroup_report import subgroup_report

__all__ = [
    "calibration_bins",
    "calibration_report",
    "decision_curve",
    "delong_test",
    "expected_calibration_error",
    "get_scorer",
    "get_scorer_names",
    "multilabel_brier_score",
    "multilabel_log_loss",
    "multilabel_report",
    "paired_difference",
    "subgroup_report",
]
