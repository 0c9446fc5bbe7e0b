"""Macro AUROC and AUPRC that leave out the labels of which a fold holds one class alone."""

from ._bootstrap import with_macro
from ._inputs import check_labels, check_sample_weight, check_scores
from ._weighted_scores import weighted_auprc, weighted_auroc


def macro_auroc(y_true, y_score, *, sample_weight=None):
    """Mean area under the ROC curve of the labels with both classes; NaN where there is none."""
    return _macro(weighted_auroc, y_true, y_score, sample_weight)


def macro_auprc(y_true, y_score, *, sample_weight=None):
    """Mean average precision of the labels with both classes; NaN where there is none."""
    return _macro(weighted_auprc, y_true, y_score, sample_weight)


def _macro(score, y_true, y_score, sample_weight):
    labels, _ = check_labels(y_true)
    scores = check_scores(y_score, labels, labels=y_true)
    weights = check_sample_weight(sample_weight, len(labels))
    return float(with_macro(score(labels, scores, weights[:, None]))[0, -1])
