"""What the fusion benchmarks share: pipelines, folds, tables with intervals."""

import pandas as pd

from sklearn_medfuse import make_medfuse_pipeline
from sklearn_medfuse.metrics import multilabel_report, paired_difference
from sklearn_medfuse.model_selection import MultilabelStratifiedGroupKFold

METRICS = ("auroc", "auprc")


def medfuse(lab_columns, note_column, seed, **params):
    """Pipeline of labs and notes."""
    return make_medfuse_pipeline(lab_columns, note_column, random_state=seed, **params)


def grouped_folds(cohort, groups, n_splits, seed):
    """Folds that hold out whole groups, an even share of each label in each."""
    splitter = MultilabelStratifiedGroupKFold(n_splits, shuffle=True, random_state=seed)
    return list(splitter.split(cohort.X, cohort.y, groups=groups))


def table(y, scores, groups, reference):
    """Macro scores with intervals by patient, and the gain of `reference` over each model."""
    rows = {}
    for name, score in scores.items():
        report = multilabel_report(y, score, groups=groups, random_state=0)
        rows[name] = {}
        for metric in METRICS:
            value, low, high = report.loc["macro", [metric, f"{metric}_low", f"{metric}_high"]]
            rows[name][metric.upper()] = f"{value:.4f} [{low:.3f}, {high:.3f}]"
            if name != reference:
                gain = paired_difference(
                    y, scores[reference], score, metric=metric, groups=groups, random_state=0
                ).loc["macro"]
                rows[name][f"gain {metric.upper()}"] = (
                    f"{gain['difference']:+.4f} "
                    f"[{gain['difference_low']:+.3f}, {gain['difference_high']:+.3f}]"
                )
    return pd.DataFrame(rows).T.fillna("").to_string()
