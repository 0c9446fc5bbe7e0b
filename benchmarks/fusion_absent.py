"""How AUROC falls as notes, or labs, are taken from the rows to predict.

One model is trained on both modalities as they are, one with modality dropout; the notes, then the
labs, of 0, 25, 50 and 100 % of the held-out rows are removed. The single-modality models, trained
and tested on what is left, are what neither should fall below. Whole hospitals are held out.

    python benchmarks/fusion_absent.py [--seeds 0 2 3] [--modality-dropout 0.2] [--quick]
"""

import argparse

import numpy as np
import pandas as pd
from common import hospital_folds, load_stays
from sklearn.base import clone
from sklearn.metrics import roc_auc_score

from sklearn_medfuse import make_medfuse_pipeline

SHARES = (0.0, 0.25, 0.5, 1.0)


def remove(X, columns, share, seed):
    """Take a modality's columns from a share of the rows."""
    X = X.copy()
    rows = np.random.default_rng(seed).permutation(len(X))[: round(share * len(X))]
    X.iloc[rows, columns] = np.nan
    return X


def scores_of_seed(cohort, models, n_splits, seed):
    """Out-of-fold probabilities by (model, modality removed, share)."""
    scores = {}
    for train, test in hospital_folds(cohort, n_splits, seed):
        # The encoders are the same for all models: encode once
        pipe = make_medfuse_pipeline(
            cohort.lab_columns, cohort.note_column, views={}, random_state=seed
        )
        X_train = pipe["encode"].fit_transform(cohort.X.iloc[train])
        X_test = pipe["encode"].transform(cohort.X.iloc[test])
        prefix = X_test.columns.str.split("__").str[0]
        for name, params in models.items():
            model = clone(pipe["medfuse"]).set_params(**params)
            model.fit(X_train, cohort.y.iloc[train])
            for removed in ("notes", "labs"):
                columns = np.flatnonzero(prefix == removed)
                for share in SHARES:
                    found = model.predict_proba(remove(X_test, columns, share, seed))
                    key = (name, removed, share)
                    scores.setdefault(key, np.zeros(cohort.y.shape))[test] = found
    return scores


def main():
    """Print macro AUROC by model, modality removed and share."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 2, 3])
    parser.add_argument("--n-splits", type=int, default=5)
    parser.add_argument("--modality-dropout", type=float, default=0.2)
    parser.add_argument("--quick", action="store_true", help="200 stays, two folds, one seed")
    options = parser.parse_args()
    if options.quick:
        options.seeds, options.n_splits = options.seeds[:1], 2
    cohort = load_stays(200 if options.quick else None)
    models = {
        "both": {},
        "both, modality dropout": {"modality_dropout": options.modality_dropout},
        "labs alone": {"fusion": "labs"},
        "notes alone": {"fusion": "notes"},
    }
    rows = [
        (*key, seed, roc_auc_score(cohort.y, score))
        for seed in options.seeds
        for key, score in scores_of_seed(cohort, models, options.n_splits, seed).items()
    ]
    frame = pd.DataFrame(rows, columns=["model", "removed", "share", "seed", "AUROC"])
    shown = frame.pivot_table("AUROC", ["removed", "model"], "share", aggfunc=["mean", "std"])
    print(shown.round(4).to_string())


if __name__ == "__main__":
    main()
