"""Measure what the net and the regressions of `MEDFuseClassifier` predict alone and together.

    python tools/measure_net.py [--dropout 0.3 0.6] [--seeds 1 4] [--splits 5]

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


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dropout", type=float, nargs="+", default=[0.3, 0.6])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--splits", type=int, default=5)
    options = parser.parse_args()
    cohort = load_eicu_demo()
    rows = [row for seed in options.seeds for row in measure(cohort, seed, options.splits, options)]
    columns = ["dropout", "model", "AUROC", "AUPRC", "log loss"]
    table = pd.DataFrame(rows, columns=columns).groupby(["dropout", "model"], sort=False).mean()
    print(table.round(3).to_string())


def measure(cohort, seed, n_splits, options):
    """Yield the scores of each dropout and model on the held-out stays of all folds."""
    splitter = MultilabelStratifiedGroupKFold(n_splits, shuffle=True, random_state=seed)
    models = ("regressions", "net", "both")
    logits = np.zeros((len(options.dropout), len(models), *cohort.y.shape))
    for train, test in splitter.split(cohort.X, cohort.y, groups=cohort.hospitals):
        X, y, groups = cohort.X.iloc[train], cohort.y.iloc[train], np.asarray(cohort.groups)[train]
        pipe = make_medfuse_pipeline(cohort.lab_columns, cohort.note_column, random_state=seed)
        classifier = clone(pipe[-1]).set_params(calibration=None, threshold=0.5)
        # The encoders are the same for all: encode once
        pipe.set_params(medfuse="passthrough")
        vectors = pipe.fit_transform(X, y, groups=groups)
        held_out = pipe.transform(cohort.X.iloc[test])
        for i, dropout in enumerate(options.dropout):
            fitted = clone(classifier).set_params(dropout=dropout).fit(vectors, y, groups=groups)
            net, linear = fitted._model.both_logits(held_out.to_numpy(np.float64))
            for j, own in enumerate((linear, net, (net + linear) / 2)):
                logits[i, j, test] = own
    for dropout, by_model in zip(options.dropout, logits, strict=True):
        for model, own in zip(models, by_model, strict=True):
            ranking = roc_auc_score(cohort.y, own), average_precision_score(cohort.y, own)
            yield dropout, model, *ranking, multilabel_log_loss(cohort.y, expit(own))


if __name__ == "__main__":
    main()
