"""Multi-label scores per disease: reports with intervals, proper losses, scorers by name."""

from ._calibration import calibration_bins, calibration_report, expected_calibration_error
from ._comparison import delong_test, paired_difference
from ._decision_curve import decision_curve
from ._losses import multilabel_brier_score, multilabel_log_loss
from ._reports import multilabel_report, subgroup_report
from ._scorers import get_scorer, get_scorer_names

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
