"""Measure what λ, `mi_weight`, does to scores and to the dependence of the parts.

    python tools/measure_mi_weight.py [--seeds 3] [--splits 3]

Two tables: simulated stays of known factors (new patients), and the bundled ICU stays (hospitals
held out). The net stands alone, without the linear part, which λ does not touch. `bound` is the
vCLUB estimate of I([S_A, S_B]; S_C) in nats on test rows, `R2 of S_C` the share of the variance of
S_C on test rows that a ridge regression on [S_A, S_B] explains, and `own in S_C` the mean R² on
test rows of the labs' and the notes' own factors, predicted from S_C. docs/user_guide/fusion.rst
has the figures.
"""

import argparse
import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import pandas as pd
from sklearn.linear_model import RidgeCV
from sklearn.metrics import average_precision_score, r2_score, roc_auc_score

from sklearn_medfuse import LLMNoteEncoder, MaskedLabEncoder, MEDFuseClassifier, NoteWordEncoder
from sklearn_medfuse.datasets import load_eicu_demo, make_ehr_cohort
from sklearn_medfuse.model_selection import MultilabelStratifiedGroupKFold

WEIGHTS = (0.0, 0.0001, 0.001, 0.01, 0.1, 1.0, 10.0)
# The critic of λ = 0 is trained, and steers nothing
UNSTEERED = 1e-9


def main():
    """Print both tables: means over seeds and folds, and deviations of the scores."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--splits", type=int, default=3)
    options = parser.parse_args()
    for title, splits in (
        ("simulated stays, patients held out", simulated(options.seeds, options.splits)),
        ("bundled ICU stays, hospitals held out", bundled(options.seeds, options.splits)),
    ):
        rows = [
            {"mi_weight": weight, **measure(weight, seed, *split)}
            for seed, *split in splits
            for weight in WEIGHTS
        ]
        found = pd.DataFrame(rows).groupby("mi_weight").agg(["mean", "std"]).round(3)
        print(f"\n{title}\n{found.to_string()}", flush=True)


def simulated(n_seeds, n_splits):
    """Yield seed, training and test vectors and targets, and the test rows' own factors."""
    for seed in range(n_seeds):
        cohort = make_ehr_cohort(1500, random_state=seed)
        for train, test in folds(cohort, cohort.groups, n_splits, seed):
            vectors = encode(cohort, train, NoteWordEncoder(32, random_state=seed), seed)
            own = cohort.factors.filter(regex="labs|notes").to_numpy()
            yield (
                seed,
                vectors[train],
                cohort.y.iloc[train],
                vectors[test],
                cohort.y.iloc[test],
                (
                    own[train],
                    own[test],
                ),
            )


def bundled(n_seeds, n_splits):
    """Yield the same of real stays, whose factors nobody knows."""
    cohort = load_eicu_demo()
    notes = LLMNoteEncoder().fit_transform(cohort.X[cohort.note_column])
    for seed in range(n_seeds):
        for train, test in folds(cohort, cohort.hospitals, n_splits, seed):
            vectors = encode(cohort, train, notes, seed)
            yield seed, vectors[train], cohort.y.iloc[train], vectors[test], cohort.y.iloc[test]


def folds(cohort, groups, n_splits, seed):
    """Folds that part no group."""
    splitter = MultilabelStratifiedGroupKFold(n_splits, shuffle=True, random_state=seed)
    return splitter.split(cohort.X, cohort.y, groups=groups)


def encode(cohort, train, notes, seed):
    """Vectors of labs and notes of all stays, the encoders fitted on the training rows."""
    labs = MaskedLabEncoder(32, random_state=seed).fit(cohort.X[cohort.lab_columns].iloc[train])
    if not isinstance(notes, np.ndarray):
        texts = cohort.X[cohort.note_column]
        notes = notes.fit(texts.iloc[train]).transform(texts)
    return np.hstack([labs.transform(cohort.X[cohort.lab_columns]), notes])


def measure(weight, seed, X_train, y_train, X_test, y_test, own=None):
    """Scores of the net and dependence of its parts on the test rows."""
    net = MEDFuseClassifier(
        mi_weight=max(weight, UNSTEERED),
        modalities={"labs": 32, "notes": X_train.shape[1] - 32},
        linear_weight=0,
        random_state=seed,
    ).fit(X_train, y_train)
    shared = np.char.startswith(net.get_feature_names_out().astype(str), "shared")
    parts, parts_test = net.transform(X_train), net.transform(X_test)
    probabilities = net.predict_proba(X_test)
    found = {
        "AUROC": roc_auc_score(y_test, probabilities),
        "AUPRC": average_precision_score(y_test, probabilities),
        "bound": net.mutual_information(X_test),
        "R2 of S_C": explained(parts, parts_test, ~shared, parts[:, shared], parts_test[:, shared]),
    }
    if own is not None:
        found["own in S_C"] = explained(parts, parts_test, shared, *own)
    return found


def explained(parts, parts_test, columns, target, target_test):
    """R² on test rows of a ridge regression of the target on some columns of the parts."""
    ridge = RidgeCV(np.logspace(0, 4, 9)).fit(parts[:, columns], target)
    predicted = ridge.predict(parts_test[:, columns])
    return r2_score(target_test, predicted, multioutput="variance_weighted")


if __name__ == "__main__":
    main()
