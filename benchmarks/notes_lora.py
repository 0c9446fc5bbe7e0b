"""Does fine-tuning by LoRA make better note vectors than the frozen model, and than TF-IDF?

The bundled ICU stays, folds that hold out whole hospitals, ten labels, notes only: macro AUROC of
a logistic regression on the frozen and on the fine-tuned vectors, and on TF-IDF; seconds and peak
memory of the process. The fine-tuned model sees the training folds alone, and its validation
split parts no hospital.

    python benchmarks/notes_lora.py [--seed 0] [--n-splits 5] [--params '{"max_epochs": 4}']
"""

import argparse
import json
import os
import resource
import time

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from sklearn_medfuse import LLMNoteEncoder
from sklearn_medfuse.datasets import load_eicu_demo
from sklearn_medfuse.metrics import multilabel_report, paired_difference
from sklearn_medfuse.model_selection import MultilabelStratifiedGroupKFold

TFIDF, FROZEN, LORA = "TF-IDF + logistic", "frozen MiniLM + logistic", "LoRA MiniLM + logistic"


def fill_missing_notes(notes):
    """Give scikit-learn's vectoriser an empty string where there is no note."""
    return notes.fillna("")


def logistic(strength):
    """Logistic regression, one per label."""
    return OneVsRestClassifier(LogisticRegression(C=strength, max_iter=1000))


def predict(name, train, test, seed, params):
    """Probabilities for the test stays."""
    notes, y, hospitals = train
    if name == TFIDF:
        words = TfidfVectorizer(ngram_range=(1, 2), min_df=3, sublinear_tf=True)
        model = make_pipeline(FunctionTransformer(fill_missing_notes), words, logistic(3))
        return model.fit(notes, y).predict_proba(test)
    tuning = {"fine_tuning": "lora", "random_state": seed, **params} if name == LORA else {}
    encoder = LLMNoteEncoder(**tuning)
    vectors = encoder.fit_transform(notes, y, groups=hospitals)
    head = make_pipeline(SimpleImputer(), StandardScaler(), logistic(0.003))
    if name == LORA:
        print("  validation loss", np.round(encoder.validation_loss_, 4), flush=True)
    return head.fit(vectors, y).predict_proba(encoder.transform(test))


def out_of_fold(cohort, options):
    """Out-of-fold probabilities and seconds of each model."""
    splitter = MultilabelStratifiedGroupKFold(
        options.n_splits, shuffle=True, random_state=options.seed
    )
    notes, y, hospitals = cohort.X[cohort.note_column], cohort.y, cohort.hospitals
    scores = {name: np.full(y.shape, np.nan) for name in (TFIDF, FROZEN, LORA)}
    seconds = dict.fromkeys(scores, 0.0)
    folds = list(splitter.split(cohort.X, y, groups=hospitals))
    for train, test in folds[: options.n_folds]:
        for name, score in scores.items():
            start = time.perf_counter()
            known = (notes.iloc[train], y.iloc[train], hospitals.iloc[train])
            score[test] = predict(name, known, notes.iloc[test], options.seed, options.params)
            seconds[name] += time.perf_counter() - start
    return scores, seconds


def main():
    """Print one row per model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--n-splits", type=int, default=5)
    parser.add_argument("--n-folds", type=int, default=None, help="run the first folds only")
    parser.add_argument("--params", type=json.loads, default={}, help="of LLMNoteEncoder, as JSON")
    parser.add_argument("--quick", action="store_true", help="one fold, one epoch, one window")
    options = parser.parse_args()
    if options.quick:
        options.n_folds, options.params = 1, {"max_epochs": 1, "max_chunks": 1} | options.params
    cohort = load_eicu_demo()
    scores, seconds = out_of_fold(cohort, options)
    seen = ~np.isnan(scores[LORA]).any(axis=1)
    y, groups = cohort.y[seen], cohort.groups[seen]
    rows = {}
    for name, score in scores.items():
        report = multilabel_report(y, score[seen], groups=groups, random_state=0)
        rows[name] = {"macro AUROC": report.loc["macro", "auroc"], "seconds": seconds[name]}
        if name != LORA:
            gain = paired_difference(
                y, scores[LORA][seen], score[seen], groups=groups, random_state=0
            ).loc["macro"]
            rows[name]["LoRA's gain"] = gain["difference"]
            rows[name]["low"], rows[name]["high"] = gain["difference_low"], gain["difference_high"]
    print(pd.DataFrame(rows).T.round(4).to_string())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"peak memory of the process: {peak:.2f} GiB")


if __name__ == "__main__":
    main()
