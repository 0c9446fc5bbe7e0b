"""MEDFuse against the strongest tabular and text models on the bundled ICU stays.

Folds that hold out whole hospitals, the same for all models; out-of-fold predictions pooled;
intervals and paired differences from resampling patients. Needs catboost, lightgbm and skrub.

    python benchmarks/fusion_peers.py [--seeds 0 2 3] [--n-splits 5] [--quick]
"""

import argparse
import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
from catboost import CatBoostClassifier
from fusion_common import grouped_folds, medfuse, table
from lightgbm import LGBMClassifier
from real_stays import LABS, MEAN, MEDFUSE, TFIDF, make_models
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from skrub import TableVectorizer

from sklearn_medfuse import LLMNoteEncoder
from sklearn_medfuse.datasets import load_eicu_demo

WORDS = "MEDFuse, words, lab text"


class CatBoostPerLabel(ClassifierMixin, BaseEstimator):
    """CatBoost with the note as a text feature, a model per label."""

    def __init__(self, note_column, iterations=300, random_state=None):
        self.note_column = note_column
        self.iterations = iterations
        self.random_state = random_state

    def fit(self, X, y):
        """Fit a model per label."""
        self.models_ = [
            CatBoostClassifier(
                iterations=self.iterations,
                learning_rate=0.05,
                depth=4,
                text_features=[self.note_column],
                random_seed=self.random_state,
                thread_count=1,
                allow_writing_files=False,
                verbose=False,
            ).fit(self._filled(X), column)
            for column in np.asarray(y).T
        ]
        return self

    def predict_proba(self, X):
        """Probabilities (n_rows, n_labels)."""
        return np.stack([m.predict_proba(self._filled(X))[:, 1] for m in self.models_], axis=1)

    def _filled(self, X):
        return X.assign(**{self.note_column: X[self.note_column].fillna("").astype(object)})


def make_peers(cohort, seed, quick):
    """Name → unfitted estimator on the cohort's X."""
    models = make_models(cohort, seed)
    boosting = HistGradientBoostingClassifier(
        learning_rate=0.05, max_leaf_nodes=15, random_state=seed
    )
    light = LGBMClassifier(
        n_estimators=100, learning_rate=0.05, num_leaves=15, n_jobs=1, random_state=seed, verbose=-1
    )
    embedded = ColumnTransformer(
        [
            ("labs", "passthrough", cohort.lab_columns),
            ("notes", LLMNoteEncoder(), cohort.note_column),
        ]
    ).set_output(transform="pandas")
    return models | {
        "skrub + HistGradientBoosting": make_pipeline(
            TableVectorizer(), OneVsRestClassifier(boosting)
        ),
        "CatBoost, text features": CatBoostPerLabel(
            cohort.note_column, 20 if quick else 300, random_state=seed
        ),
        "LightGBM, labs + embeddings": make_pipeline(embedded, OneVsRestClassifier(light)),
        WORDS: medfuse(cohort.lab_columns, cohort.note_column, seed, words=True, lab_text=True),
    }


def main():
    """Run every seed, then the average of each stay's predictions over the seeds."""
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
        scores = {name: np.zeros(cohort.y.shape) for name in make_peers(cohort, seed, False)}
        for train, test in grouped_folds(cohort, cohort.hospitals, options.n_splits, seed):
            for name, model in make_peers(cohort, seed, options.quick).items():
                model.fit(cohort.X.iloc[train], cohort.y.iloc[train])
                scores[name][test] = model.predict_proba(cohort.X.iloc[test])
        scores[MEAN] = (scores[LABS] + scores[TFIDF]) / 2
        for reference in (MEDFUSE, WORDS):
            print(f"\nseed {seed}, gains of {reference}")
            print(table(cohort.y, scores, cohort.groups, reference), flush=True)
        runs.append(scores)
    if len(runs) > 1:
        averaged = {name: np.mean([run[name] for run in runs], axis=0) for name in runs[0]}
        for reference in (MEDFUSE, WORDS):
            print(f"\npredictions averaged over seeds {options.seeds}, gains of {reference}")
            print(table(cohort.y, averaged, cohort.groups, reference))


if __name__ == "__main__":
    main()
