"""Predict the folds of one model and one seed; the study calls it in a new process."""

import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

import pandas as pd
from common import hospital_folds, peak_gib
from models import make_model
from settings import prediction_files, read_cohort, read_settings


def main(folder, name, seed):
    """Fit and predict each missing fold; a file is written whole or not at all."""
    cohort, settings = read_cohort(folder), read_settings(folder)
    splits = hospital_folds(cohort, settings.n_splits, seed)
    files = prediction_files(folder, name, seed, settings.n_splits)
    for (train, test), file in zip(splits, files, strict=True):
        if file.exists():
            continue
        start = time.perf_counter()
        model = make_model(name, cohort, settings, seed, Path(folder) / "embeddings")
        model.fit(cohort.X.iloc[train], cohort.y.iloc[train])
        fitted = time.perf_counter()
        probability = model.predict_proba(cohort.X.iloc[test])
        found = pd.DataFrame(probability, columns=cohort.target_names)
        found.insert(0, "row", test)
        found["fit_seconds"] = fitted - start
        found["predict_seconds"] = time.perf_counter() - fitted
        found["peak_bytes"] = round(peak_gib() * 2**30)
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_suffix(".part")
        found.to_parquet(unfinished, index=False)
        os.replace(unfinished, file)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
