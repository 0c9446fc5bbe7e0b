"""Predict the folds of one model and one seed; the study calls it in a new process.

What a fold reports on, no choice has seen: candidates are compared, and thresholds found, on folds
within the fold's training rows, and these hold out whole hospitals as well.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
import pandas as pd
from common import hospital_folds, hospital_groups, one_score, peak_gib
from models import MODELS, SEARCHED, UNDECIDED, Context
from settings import prediction_files, read_cohort, read_settings
from sklearn.metrics import precision_recall_curve
from sklearn.utils.validation import has_fit_parameter

_INNER_FOLDS = 3


def main(folder, name, seed):
    """Search, fit and predict each missing fold; a file is written whole or not at all."""
    cohort, settings = read_cohort(folder), read_settings(folder)
    splits = hospital_folds(cohort, settings.n_splits, seed)
    files = prediction_files(folder, name, seed, settings.n_splits)
    for (train, test), file in zip(splits, files, strict=True):
        if file.exists():
            continue
        found = predict_fold(cohort, settings, name, seed, train, test, Path(folder))
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_suffix(".part")
        found.to_parquet(unfinished, index=False)
        os.replace(unfinished, file)


def predict_fold(cohort, settings, name, seed, train, test, folder):
    """Probabilities and decisions of the rows held out, and what they cost."""
    start = time.perf_counter()
    known = cohort.select(train)
    make, candidates = MODELS[name]
    candidates = candidates[: settings.n_candidates]
    context = Context(known, settings, seed, folder)
    best, thresholds = 0, 0.5
    if len(candidates) > 1:
        ranked = UNDECIDED if name == SEARCHED else {}
        held_out = [held_out_probability(make, context, each | ranked) for each in candidates]
        scores = [one_score(known.y, probability, "auprc") for probability in held_out]
        best = int(np.argmax(scores))
        labels = zip(held_out[best].T, known.y.to_numpy().T, strict=True)
        thresholds = np.array([best_threshold(*label) for label in labels])
    searched = time.perf_counter()
    model = fit(make(context, **candidates[best]), known)
    fitted = time.perf_counter()
    X = cohort.X.iloc[test]
    probability = model.predict_proba(X)
    # With its own thresholds MEDFuse decides by itself
    tuned = getattr(last_step(model), "threshold", None) == "tune"
    decided = model.predict(X) if tuned else probability >= thresholds
    found = pd.DataFrame(probability, columns=cohort.target_names)
    found.insert(0, "row", test)
    for label, own in zip(cohort.target_names, np.asarray(decided).T, strict=True):
        found[f"{label} decided"] = own.astype(bool)
    found["search_seconds"] = searched - start
    found["fit_seconds"] = fitted - searched
    found["predict_seconds"] = time.perf_counter() - fitted
    found["peak_bytes"] = round(peak_gib() * 2**30)
    found["code"] = code_version()
    found["chosen"] = json.dumps(candidates[best], default=str)
    return found


def held_out_probability(make, context, candidate):
    """Out-of-fold probabilities of a candidate on the rows of training."""
    known = context.cohort
    held_out = np.zeros(known.y.shape)
    for kept, left in hospital_folds(known, _INNER_FOLDS, context.seed):
        model = fit(make(context, **candidate), known.select(kept))
        held_out[left] = model.predict_proba(known.X.iloc[left])
    return held_out


def fit(model, cohort):
    """Fit, and tell the hospitals to models that split once more."""
    splits = has_fit_parameter(last_step(model), "groups")
    groups = {"groups": hospital_groups(cohort)} if splits else {}
    return model.fit(cohort.X, cohort.y, **groups)


def last_step(model):
    """The classifier of a pipeline, or what is none."""
    return model.steps[-1][1] if hasattr(model, "steps") else model


def code_version():
    """The last commit that changed the package."""
    package = Path(__file__).parents[2] / "sklearn_medfuse"
    command = ["git", "-C", package, "log", "-1", "--format=%h", "."]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def best_threshold(score, y):
    """The threshold of greatest F1."""
    if y.min() == y.max():
        return 0.5
    precision, recall, thresholds = precision_recall_curve(y, score)
    return thresholds[np.argmax((precision * recall / (precision + recall + 1e-12))[:-1])]


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
