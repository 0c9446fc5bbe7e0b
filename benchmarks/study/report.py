"""From predictions on disk to a page of tables."""

import json
import platform
from collections import Counter
from datetime import date
from importlib.metadata import distributions
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from common import METRICS, gain_text, one_score
from common import gain as gain_of
from models import DEFAULT, MODELS, OURS, PEERS, TFIDF, TUNED, WITHOUT, WORDS
from settings import prediction_files
from sklearn.metrics import f1_score, precision_score, recall_score

from sklearn_medfuse.metrics import (
    calibration_report,
    multilabel_brier_score,
    multilabel_log_loss,
)

PACKAGES = (
    *("torch", "transformers", "scikit-learn", "numpy", "pandas"),
    *("skrub", "catboost", "lightgbm"),
)
WHOLE, BLEND_WORDS = next(iter(WITHOUT)), next(iter(WORDS))


class Results:
    """Predictions of all models on all stays, for each seed and on average.

    A model has those seeds of which all folds are there.
    """

    def __init__(self, folder, cohort, settings, seeds, names):
        self.y, self.groups = cohort.y, cohort.groups
        self.scores, self.decided, self.seeds = {}, {}, {}
        self.chosen, self.code, self.cost = {}, {}, {}
        for name in names:
            files = {s: prediction_files(folder, name, s, settings.n_splits) for s in seeds}
            there = {s: of for s, of in files.items() if all(file.exists() for file in of)}
            if there:
                self._read(name, there)

    def _read(self, name, files):
        found = [[pd.read_parquet(file) for file in of_seed] for of_seed in files.values()]
        labels = list(self.y.columns)
        shape = len(found), *self.y.shape
        self.scores[name], self.decided[name] = np.full(shape, np.nan), np.zeros(shape, dtype=int)
        for s, of_seed in enumerate(found):
            for fold in of_seed:
                self.scores[name][s, fold["row"]] = fold[labels]
                self.decided[name][s, fold["row"]] = fold[[f"{label} decided" for label in labels]]
        folds = pd.DataFrame([fold.iloc[0] for of_seed in found for fold in of_seed])
        self.seeds[name] = list(files)
        self.chosen[name], self.code[name] = Counter(folds["chosen"]), folds["code"].unique()
        self.cost[name] = {
            "search, s": folds["search_seconds"].median(),
            "fit, s": folds["fit_seconds"].median(),
            "predict, s": folds["predict_seconds"].median(),
            "peak memory, GB": folds["peak_bytes"].max() / 1e9,
        }

    def mean(self, name, seeds=None):
        """Probabilities averaged over the seeds, or over some of them."""
        wanted = [s for s, seed in enumerate(self.seeds[name]) if seeds is None or seed in seeds]
        return self.scores[name][wanted].mean(axis=0)

    def present(self, names):
        """Those of the names that were predicted."""
        return [name for name in names if name in self.scores]


def ranking(results, names, reference):
    """Macro scores, means over seeds, and the gain of the reference on the seeds of both."""
    rows = {}
    for name in results.present(names):
        rows[name] = {}
        for metric in METRICS:
            of_seeds = [one_score(results.y, own, metric) for own in results.scores[name]]
            rows[name][metric.upper()] = f"{np.mean(of_seeds):.4f}"
            rows[name][f"{metric.upper()} by seed"] = " ".join(f"{own:.3f}" for own in of_seeds)
        for metric in METRICS:
            difference = gain(results, reference, name, metric)
            if difference is not None and name != reference:
                rows[name][f"gain of “{reference}”, {metric.upper()}"] = gain_text(difference)
    return pd.DataFrame(rows).T.fillna("")


def gain(results, a, b, metric):
    """Macro score of a less that of b with its interval, on the mean over the seeds of both."""
    if a not in results.scores or not (seeds := set(results.seeds[a]) & set(results.seeds[b])):
        return None
    means = [results.mean(name, seeds) for name in (a, b)]
    return gain_of(results.y, *means, results.groups, metric)


def decisions(results, names):
    """Scores of decisions, proper losses and calibration, means over the seeds."""
    rows = {}
    for name in results.present(names):
        each = zip(results.scores[name], results.decided[name], strict=True)
        rows[name] = pd.DataFrame([decision_scores(results.y, *own) for own in each]).mean()
    return pd.DataFrame(rows).T.map("{:.3f}".format)


def decision_scores(y, probability, decided):
    """Scores of one seed's decisions and probabilities."""
    options = {"average": "macro", "zero_division": 0}
    report = calibration_report(y, probability, n_bootstraps=0).loc["macro"]
    return {
        "F1 macro": f1_score(y, decided, **options),
        "precision": precision_score(y, decided, **options),
        "recall": recall_score(y, decided, **options),
        "log loss": multilabel_log_loss(y, probability),
        "Brier score": multilabel_brier_score(y, probability),
        "calibration error": report["ece"],
        "slope": report["slope"],
    }


def chosen(results, names):
    """What the searches chose, and in how many folds."""
    rows = {}
    for name in results.present(names):
        said, first = [], MODELS[name][1][0]
        varied = {key for key in first if any(own[key] != first[key] for own in MODELS[name][1])}
        for candidate, n_folds in results.chosen[name].most_common():
            params = [f"{k} {value}" for k, value in json.loads(candidate).items() if k in varied]
            said.append(f"{', '.join(params) or 'as it is'} ({n_folds})")
        rows[name] = {
            "candidates chosen (folds)": "; ".join(said),
            "seeds": ", ".join(map(str, results.seeds[name])),
            "code": ", ".join(results.code[name]),
        }
    return pd.DataFrame(rows).T


def write_page(page, folder, cohort, settings, seeds, names, left_out):
    """Put the tables between the marks of a page, or into a new one."""
    results = Results(folder, cohort, settings, seeds, names)
    models = [*PEERS, *OURS, TUNED]
    tables = {
        "Ranking": ranking(results, models, DEFAULT),
        "Decisions and probabilities": decisions(results, models),
        "What each part gives": ranking(results, WITHOUT, WHOLE),
        "What words alone say": ranking(results, (TFIDF, *WORDS), BLEND_WORDS),
        "What the searches chose": chosen(results, MODELS),
        "Cost": pd.DataFrame(results.cost)[results.present(models)].T.round(1),
    }
    begin, end = (f".. tables of {settings.stays} {what}" for what in ("begin", "end"))
    text = [begin, "", about(cohort, settings, seeds, results, left_out), ""]
    for title, table in tables.items():
        if len(table):
            text += [title, "~" * len(title), "", NOTES[title], "", csv_table(table), ""]
    text = "\n".join([*text, end])
    page = Path(page)
    if page.exists() and begin in (before := page.read_text(encoding="utf-8")):
        start, rest = before.split(begin)
        text = start + text + rest.split(end)[1]
    page.write_text(text if text.endswith("\n") else text + "\n", encoding="utf-8")


NOTES = {
    "Ranking": "Macro means over the diseases, averaged over the seeds. Gains are those of "
    "predictions averaged over the seeds that both have, with 95 % intervals from resampling "
    "patients.",
    "Decisions and probabilities": "Thresholds maximise F1 on folds within the training rows; they "
    "are 0.5 where none was. Of MEDFuse, only the default and the searched one are calibrated; "
    "the blends learn one slope.",
    "What each part gives": f"One part removed at a time from “{WHOLE}”, which is the default "
    "without calibration and thresholds; the gain is that of the whole over the row.",
    "What words alone say": "The views “words” (word vector) and “naive_bayes” by themselves, as "
    "they are by default but for what a row names.",
    "What the searches chose": "Code is the last commit of the package when the row was computed.",
    "Cost": "Medians over folds on a machine that other work may have disturbed; peak memory of "
    "the process. Vectors and encoded stays are kept, so the first row that needs them pays.",
}


def about(cohort, settings, seeds, results, left_out):
    """The conditions of the run."""
    known = {own.name: own.version for own in distributions()}
    installed = ", ".join(f"{name} {known[name]}" for name in PACKAGES if name in known)
    held_out = "patients" if cohort.get("hospitals") is None else "whole hospitals"
    said = [
        f"{len(cohort.y)} stays, {cohort.y.shape[1]} diseases; {settings.n_splits} folds that hold "
        f"out {held_out}, a search among at most {settings.n_candidates} candidates on three folds "
        f"within the others; seeds {', '.join(map(str, seeds))}.",
        f"{date.today():%d %B %Y}, {platform.machine()}, {torch.get_num_threads()} thread(s), "
        f"Python {platform.python_version()}, {installed}.",
    ]
    if left_out:
        said.append(f"Left out: {'; '.join(left_out)}.")
    return "\n".join(said)


def csv_table(table):
    """A table in reStructuredText."""
    rows = [["", *table.columns], *table.reset_index().to_numpy()]
    lines = [", ".join('"' + str(cell).replace('"', '""') + '"' for cell in row) for row in rows]
    options = [".. csv-table::", "   :class: stacked", "   :header-rows: 1", ""]
    return "\n".join([*options, *(f"   {line}" for line in lines)])
