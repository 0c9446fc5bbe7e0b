"""Measure the net of `MEDFuseClassifier`, without its linear part, and the linear part alone.

    python tools/measure_net.py [--seeds 1 4] [--splits 5]

Bundled stays, whole hospitals held out, the views of `make_medfuse_pipeline(views="full")`, without
calibration. Each line is the mean over the seeds of the macro scores of all held-out predictions.
docs/user_guide/fusion.rst has the figures.
"""

import argparse
import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import pandas as pd
from scipy.special import expit
from sklearn.base import clone
from sklearn.metrics import average_precision_score, roc_auc_score

from sklearn_medfuse import make_medfuse_pipeline
from sklearn_medfuse.datasets import load_eicu_demo
from sklearn_medfuse.metrics import multilabel_log_loss
from sklearn_medfuse.model_selection import MultilabelStratifiedGroupKFold

MODELS = {
    "linear part alone": {"linear_weight": 1, "n_estimators": 1, "max_epochs": 1},
    "net without it": {"linear_weight": 0},
    "net": {},
}


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--splits", type=int, default=5)
    options = parser.parse_args()
    cohort = load_eicu_demo()
    rows = [row for seed in options.seeds for row in measure(cohort, seed, options.splits)]
    table = pd.DataFrame(rows, columns=["model", "AUROC", "AUPRC", "log loss"])
    print(table.groupby("model", sort=False).mean().round(4).to_string())


def measure(cohort, seed, n_splits):
    """Yield the scores of each model on the held-out stays of all folds."""
    splitter = MultilabelStratifiedGroupKFold(n_splits, shuffle=True, random_state=seed)
    logits = np.zeros((len(MODELS), *cohort.y.shape))
    for train, test in splitter.split(cohort.X, cohort.y, groups=cohort.hospitals):
        X, y, groups = cohort.X.iloc[train], cohort.y.iloc[train], np.asarray(cohort.groups)[train]
        pipe = make_medfuse_pipeline(cohort.lab_columns, cohort.note_column, random_state=seed)
        classifier = clone(pipe[-1]).set_params(calibration=None, threshold=0.5)
        # The encoders are the same for all: encode once
        pipe.set_params(medfuse="passthrough")
        vectors = pipe.fit_transform(X, y, groups=groups)
        held_out = pipe.transform(cohort.X.iloc[test])
        for i, params in enumerate(MODELS.values()):
            fitted = clone(classifier).set_params(**params).fit(vectors, y, groups=groups)
            logits[i, test] = fitted.decision_function(held_out)
    for model, own in zip(MODELS, logits, strict=True):
        ranking = roc_auc_score(cohort.y, own), average_precision_score(cohort.y, own)
        yield model, *ranking, multilabel_log_loss(cohort.y, expit(own))


if __name__ == "__main__":
    main()
