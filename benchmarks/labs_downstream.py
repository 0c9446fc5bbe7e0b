"""What predicts diseases better: the labs as measured, their embedding, or both?

Diseases that a doctor told of (nhanes, five folds) and diagnoses of ICU stays (the bundled ones,
five folds that hold out whole hospitals); pooled out-of-fold probabilities. For logistic regression
the raw labs are made normal by their ranks, imputed by the median and flagged where missing, and
the penalty is chosen by inner folds; boosting takes them as they are. Trees split one column at
a time and lose by many oblique ones, so the raw labs are also joined by the five principal axes
of the embedding alone.

    python benchmarks/labs_downstream.py FOLDER [--seeds 0 1 2] [--tables nhanes]
"""

import argparse

import numpy as np
import pandas as pd
from common import NHANES_LABS, boosting, load_stays, nhanes, penalised
from sklearn.decomposition import PCA
from sklearn.impute import SimpleImputer
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import QuantileTransformer

from sklearn_medfuse import MaskedLabEncoder
from sklearn_medfuse.model_selection import MultilabelStratifiedGroupKFold

_N_AXES = 5


def load_tables(folder):
    """Name → labs, labels and groups."""
    people = nhanes(folder)
    # Not everyone was asked about prediabetes
    diseases = people.filter(like="dx_").drop(columns="dx_prediabetes_told")
    known = diseases.notna().all(axis=1)
    cohort = load_stays()
    return {
        "nhanes": (people.iloc[:, NHANES_LABS][known], diseases[known].astype(int), None),
        "eicu": (cohort.X[cohort.lab_columns], cohort.y, cohort.hospitals),
    }


def make_normal(seed):
    """Complete columns for logistic regression."""
    return make_pipeline(
        QuantileTransformer(n_quantiles=200, output_distribution="normal", random_state=seed),
        SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True),
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", help="holds nhanes")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--tables", nargs="+", default=None)
    args = parser.parse_args()
    rows = []
    for name, (labs, labels, groups) in load_tables(args.folder).items():
        if args.tables and name not in args.tables:
            continue
        for seed in args.seeds:
            splitter = MultilabelStratifiedGroupKFold(5, shuffle=True, random_state=seed)
            whose = np.arange(len(labs)) if groups is None else groups
            folds = list(splitter.split(labs, labels, groups=whose))
            rows += [(name, seed, *row) for row in compare(labs, labels, folds, seed)]
    results = pd.DataFrame(rows, columns=["table", "seed", "classifier", "input", "auroc", "auprc"])
    mean = results.groupby(["table", "classifier", "input"], sort=False)[["auroc", "auprc"]].mean()
    print(mean.round(4).to_string())


def compare(labs, labels, folds, seed, **params):
    """Macro AUROC and AUPRC of every classifier and input."""
    found = {}
    for train, test in folds:
        encoder = MaskedLabEncoder(random_state=seed, **params).fit(labs.iloc[train])
        embedding = encoder.transform(labs)
        # A person without any lab has no embedding
        embedding = np.nan_to_num(embedding)
        axes = PCA(_N_AXES, random_state=seed).fit(embedding[train]).transform(embedding)
        complete = make_normal(seed).fit(labs.iloc[train]).transform(labs)
        for kind, model, raw in [
            (
                "logistic regression",
                penalised([0.001, 0.003, 0.01, 0.03, 0.1, 0.3], cv=3),
                complete,
            ),
            ("boosting", boosting(seed), labs.to_numpy(dtype=float)),
        ]:
            inputs = {
                "raw": raw,
                "embedding": embedding,
                "both": np.hstack([raw, embedding]),
                "raw and 5 axes": np.hstack([raw, axes]),
            }
            for name, X in inputs.items():
                model.fit(X[train], labels.iloc[train])
                scores = found.setdefault((kind, name), np.zeros(labels.shape))
                scores[test] = model.predict_proba(X[test])
    for key, scores in found.items():
        yield (
            *key,
            roc_auc_score(labels, scores, average="macro"),
            average_precision_score(labels, scores, average="macro"),
        )


if __name__ == "__main__":
    main()
