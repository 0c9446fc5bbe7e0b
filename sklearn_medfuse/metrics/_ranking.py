"""Mean AUROC and AUPRC that leave out the labels of which a fold holds one class alone."""

from ._averages import with_averages
from ._inputs import check_labels, check_sample_weight, check_scores
from ._weighted_scores import weighted_auprc, weighted_auroc


def multilabel_auroc(y_true, y_score, *, average="macro", sample_weight=None):
    """Mean area under the ROC curve of the labels with both classes; NaN where there is none."""
    return _mean(weighted_auroc, y_true, y_score, average, sample_weight)


def multilabel_auprc(y_true, y_score, *, average="macro", sample_weight=None):
    """Mean average precision of the labels with both classes; NaN where there is none."""
    return _mean(weighted_auprc, y_true, y_score, average, sample_weight)


def _mean(score, y_true, y_score, average, sample_weight):
    labels, _ = check_labels(y_true, missing=True)
    scores = check_scores(y_score, labels, labels=y_true)
    weights = check_sample_weight(sample_weight, len(labels))
    return float(with_averages(score, labels, scores, weights[:, None], [average])[0, -1])
