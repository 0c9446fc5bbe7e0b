"""What each part of MEDFuse gives on the bundled ICU stays: the paper's ablation table.

Full (with lab text and words); without MLTM and LABTEXT (imputed, standardised labs); without TEXT;
without the disentangled module (each other fusion); without MI; without what is ours, the words
and the linear part. Whole hospitals are held out.

    python benchmarks/fusion_ablation.py [--seeds 0 2 3] [--n-splits 5] [--quick]
"""

import argparse
import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
from fusion_common import grouped_folds, table
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_medfuse import make_medfuse_pipeline
from sklearn_medfuse.datasets import load_eicu_demo

FULL = "full"


def make_ablations(cohort, seed):
    """Name → unfitted pipeline."""

    def make(lab_text=True, lab_encoder=None, words=True, **params):
        return make_medfuse_pipeline(
            cohort.lab_columns,
            cohort.note_column,
            lab_encoder=lab_encoder,
            lab_text=lab_text,
            words=words,
            random_state=seed,
            **params,
        )

    imputed = make_pipeline(SimpleImputer(keep_empty_features=True), StandardScaler())
    return {
        FULL: make(),
        "without LABTEXT": make(lab_text=False),
        "without MLTM and LABTEXT": make(lab_text=False, lab_encoder=imputed),
        "without TEXT": make(lab_text=False, words=False, fusion="labs"),
        "without labs": make(lab_text=False, words=False, fusion="notes"),
        "without disentangled module: concat": make(fusion="concat"),
        "without disentangled module: late": make(fusion="late"),
        "without disentangled module: kronecker": make(fusion="kronecker"),
        "without MI": make(mi_weight=0.0),
        "without words": make(words=False),
        "without linear part": make(linear_weight=0.0),
        "without words and linear part": make(words=False, linear_weight=0.0),
    }


def main():
    """Print a table per seed and one of predictions averaged over seeds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 2, 3])
    parser.add_argument("--n-splits", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="200 stays, two folds, one seed")
    options = parser.parse_args()
    cohort = load_eicu_demo()
    if options.quick:
        cohort.X, cohort.y = cohort.X[:200], cohort.y.iloc[:200, :3]
        cohort.groups, cohort.hospitals = cohort.groups[:200], cohort.hospitals[:200]
        options.seeds, options.n_splits = options.seeds[:1], 2
    runs = []
    for seed in options.seeds:
        scores = {name: np.zeros(cohort.y.shape) for name in make_ablations(cohort, seed)}
        for train, test in grouped_folds(cohort, cohort.hospitals, options.n_splits, seed):
            for name, model in make_ablations(cohort, seed).items():
                model.fit(cohort.X.iloc[train], cohort.y.iloc[train])
                scores[name][test] = model.predict_proba(cohort.X.iloc[test])
        print(f"\nseed {seed}; gain is that of the full model")
        print(table(cohort.y, scores, cohort.groups, FULL), flush=True)
        runs.append(scores)
    if len(runs) > 1:
        averaged = {name: np.mean([run[name] for run in runs], axis=0) for name in runs[0]}
        print(f"\npredictions averaged over seeds {options.seeds}")
        print(table(cohort.y, averaged, cohort.groups, FULL))


if __name__ == "__main__":
    main()
