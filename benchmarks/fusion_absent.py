"""How AUROC falls as notes, or labs, are taken from the rows to predict.

One model is trained on both modalities as they are, one with modality dropout; the notes, then the
labs, of 0, 25, 50 and 100 % of the held-out rows are removed. The single-modality models, trained
and tested on what is left, are what neither should fall below. Whole hospitals are held out.

    python benchmarks/fusion_absent.py [--seeds 0 2 3] [--modality-dropout 0.2] [--quick]
"""

import argparse
import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import pandas as pd
from fusion_common import grouped_folds, medfuse
from sklearn.base import clone
from sklearn.metrics import roc_auc_score

from sklearn_medfuse.datasets import load_eicu_demo

SHARES = (0.0, 0.25, 0.5, 1.0)


def remove(X, columns, share, rng):
    """Take a modality's columns from a share of the rows."""
    X = X.copy()
    rows = rng.permutation(len(X))[: round(share * len(X))]
    X.iloc[rows, columns] = np.nan
    return X


def main():
    """Print macro AUROC by model, modality removed and share."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 2, 3])
    parser.add_argument("--n-splits", type=int, default=5)
    parser.add_argument("--modality-dropout", type=float, default=0.2)
    parser.add_argument("--quick", action="store_true", help="200 stays, two folds, one seed")
    options = parser.parse_args()
    cohort = load_eicu_demo()
    if options.quick:
        cohort.X, cohort.y = cohort.X[:200], cohort.y.iloc[:200, :3]
        cohort.groups, cohort.hospitals = cohort.groups[:200], cohort.hospitals[:200]
        options.seeds, options.n_splits = options.seeds[:1], 2
    models = {
        "both": {},
        "both, modality dropout": {"modality_dropout": options.modality_dropout},
        "labs alone": {"fusion": "labs"},
        "notes alone": {"fusion": "notes"},
    }
    rows = []
    for seed in options.seeds:
        scores = {}
        for train, test in grouped_folds(cohort, cohort.hospitals, options.n_splits, seed):
            # the encoders are the same for all models: encode once
            pipe = medfuse(cohort.lab_columns, cohort.note_column, seed)
            X_train = pipe["encode"].fit_transform(cohort.X.iloc[train])
            X_test = pipe["encode"].transform(cohort.X.iloc[test])
            prefix = X_test.columns.str.split("__").str[0]
            for name, params in models.items():
                model = clone(pipe["medfuse"]).set_params(**params)
                model.fit(X_train, cohort.y.iloc[train])
                for removed in ("notes", "labs"):
                    columns = np.flatnonzero(prefix == removed)
                    for share in SHARES:
                        rng = np.random.default_rng(seed)
                        found = model.predict_proba(remove(X_test, columns, share, rng))
                        key = (name, removed, share)
                        scores.setdefault(key, np.zeros(cohort.y.shape))[test] = found
        rows += [(*key, seed, roc_auc_score(cohort.y, score)) for key, score in scores.items()]
    frame = pd.DataFrame(rows, columns=["model", "removed", "share", "seed", "AUROC"])
    shown = frame.pivot_table("AUROC", ["removed", "model"], "share", aggfunc=["mean", "std"])
    print(shown.round(4).to_string())


if __name__ == "__main__":
    main()
