"""MEDFuse against labs only, notes only and their mean on the bundled ICU stays.

Five folds that hold out whole hospitals, ten labels, out-of-fold predictions pooled; intervals and
paired differences from resampling patients. The folds are drawn anew for every seed, and the seed
also seeds the models.

    python benchmarks/real_stays.py [--seeds 0 2 3] [--n-splits 5]
"""

import argparse
import os
import time

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from sklearn_medfuse import LLMNoteEncoder, make_medfuse_pipeline
from sklearn_medfuse.datasets import load_eicu_demo
from sklearn_medfuse.metrics import multilabel_report, paired_difference
from sklearn_medfuse.model_selection import MultilabelStratifiedGroupKFold

LABS = "labs: HistGradientBoosting"
TFIDF = "notes: TF-IDF + logistic"
MINILM = "notes: MiniLM + logistic"
MEAN = "mean of labs and TF-IDF"
MEDFUSE = "MEDFuse"


def fill_missing_notes(notes):
    """Give scikit-learn's vectoriser an empty string where there is no note."""
    return notes.fillna("")


def make_models(cohort, seed):
    """Name → unfitted estimator on the cohort's X."""
    boosting = HistGradientBoostingClassifier(
        learning_rate=0.05, max_leaf_nodes=15, random_state=seed
    )
    logistic = OneVsRestClassifier(LogisticRegression(C=3, max_iter=1000))
    words = make_pipeline(
        FunctionTransformer(fill_missing_notes),
        TfidfVectorizer(ngram_range=(1, 2), min_df=3, sublinear_tf=True),
    )
    sentences = make_pipeline(LLMNoteEncoder(), SimpleImputer(), StandardScaler())
    strong_penalty = OneVsRestClassifier(LogisticRegression(C=0.003, max_iter=1000))

    def on(columns, encoder, classifier):
        return make_pipeline(ColumnTransformer([("x", encoder, columns)]), classifier)

    return {
        LABS: on(cohort.lab_columns, "passthrough", OneVsRestClassifier(boosting)),
        TFIDF: on(cohort.note_column, words, logistic),
        MINILM: on(cohort.note_column, sentences, strong_penalty),
        MEDFUSE: make_medfuse_pipeline(cohort.lab_columns, cohort.note_column, random_state=seed),
    }


def out_of_fold(cohort, seed, n_splits):
    """Out-of-fold probabilities and seconds of every model."""
    splitter = MultilabelStratifiedGroupKFold(n_splits, shuffle=True, random_state=seed)
    scores = {name: np.zeros(cohort.y.shape) for name in make_models(cohort, seed)}
    seconds = dict.fromkeys(scores, 0.0)
    for train, test in splitter.split(cohort.X, cohort.y, groups=cohort.hospitals):
        for name, model in make_models(cohort, seed).items():
            start = time.perf_counter()
            model = clone(model).fit(cohort.X.iloc[train], cohort.y.iloc[train])
            scores[name][test] = model.predict_proba(cohort.X.iloc[test])
            seconds[name] += time.perf_counter() - start
    scores[MEAN] = (scores[LABS] + scores[TFIDF]) / 2
    return scores, seconds


def compare(cohort, scores, seconds):
    """Print one table: macro scores with intervals, and MEDFuse's gain over each other model."""
    rows = {}
    for name, score in scores.items():
        report = multilabel_report(cohort.y, score, groups=cohort.groups, random_state=0)
        rows[name] = {}
        for metric in ("auroc", "auprc"):
            value, low, high = report.loc["macro", [metric, f"{metric}_low", f"{metric}_high"]]
            rows[name][metric.upper()] = f"{value:.4f} [{low:.3f}, {high:.3f}]"
            if name != MEDFUSE:
                gain = paired_difference(
                    cohort.y,
                    scores[MEDFUSE],
                    score,
                    metric=metric,
                    groups=cohort.groups,
                    random_state=0,
                ).loc["macro"]
                rows[name][f"gain {metric.upper()}"] = (
                    f"{gain['difference']:+.4f} "
                    f"[{gain['difference_low']:+.3f}, {gain['difference_high']:+.3f}]"
                )
        rows[name]["fit + predict"] = f"{seconds[name]:.0f} s" if name in seconds else ""
    print(pd.DataFrame(rows).T.fillna("").to_string(), flush=True)


def main():
    """Run every seed, then the average of each stay's predictions over the seeds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 2, 3])
    parser.add_argument("--n-splits", type=int, default=5)
    options = parser.parse_args()
    cohort = load_eicu_demo()
    print(cohort, f"{cohort.hospitals.nunique()} hospitals")
    runs = []
    for seed in options.seeds:
        scores, seconds = out_of_fold(cohort, seed, options.n_splits)
        print(f"\nseed {seed}")
        compare(cohort, scores, seconds)
        runs.append(scores)
    if len(runs) > 1:
        averaged = {name: np.mean([run[name] for run in runs], axis=0) for name in runs[0]}
        print(f"\npredictions averaged over seeds {options.seeds}")
        compare(cohort, averaged, {})


if __name__ == "__main__":
    main()
