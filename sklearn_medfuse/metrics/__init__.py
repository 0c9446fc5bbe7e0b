"""Multi-label scores per disease: reports with intervals, proper losses, scorers by name."""

from ._brier_score import multilabel_brier_score
from ._calibration_error import expected_calibration_error
from ._log_loss import multilabel_log_loss
from ._multilabel_report import multilabel_report
from ._paired_difference import paired_difference
from ._scorers import get_scorer, get_scorer_names

__all__ = [
    "expected_calibration_error",
    "get_scorer",
    "get_scorer_names",
    "multilabel_brier_score",
    "multilabel_log_loss",
    "multilabel_report",
    "paired_difference",
]
