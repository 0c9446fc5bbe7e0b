"""Multi-label scores per disease, with intervals by bootstrap over patients."""

from ._multilabel_report import multilabel_report
from ._paired_difference import paired_difference

__all__ = ["multilabel_report", "paired_difference"]
