"""From how many notes on does fine-tuning the note model pay?

Vectors of the frozen model, of LoRA by the labels, and of LoRA by masked words first, judged by
logistic regressions whose penalty inner folds choose: on bundled ICU stays, a fifth of the
hospitals held out, or on a simulated hospital, the first 400 characters of each patient's notes.

    python benchmarks/notes_fine_tuning.py RESULTS [--hospital FOLDER] [--figure curve.svg]

RESULTS keeps predictions, so that an interrupted run goes on. `tools/clinosim_tables.py` makes
FOLDER.
"""

import argparse
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from common import gain, hospital_folds, load_stays, penalised
from matplotlib.figure import Figure
from study.settings import load_hospital

from sklearn_medfuse import LLMNoteEncoder
from sklearn_medfuse.metrics import multilabel_report

ARMS = {"frozen": {}, "LoRA": {"fine_tuning": "lora"}}
ARMS["masked words, then LoRA"] = {"fine_tuning": "lora", "objective": "both"}
N_TEST, N_CHARACTERS = 800, 400
TITLES = {"AUPRC": "macro AUPRC", "gain": "gain over the frozen model"}
COLUMNS = [f"{score}{end}" for score in TITLES for end in ("", " low", " high")]


def predict(notes, y, train, test, **how):
    """Logits of the notes held out."""
    encoder = LLMNoteEncoder(dtype="bfloat16", **how).fit(notes.iloc[train], y.iloc[train])
    X, X_test = (encoder.transform(notes.iloc[rows]) for rows in (train, test))
    return (
        penalised([0.001, 0.003, 0.01, 0.03, 0.1]).fit(X, y.iloc[train]).decision_function(X_test)
    )


def draw(table, path):
    """Draw scores and gains with their intervals, a line for each arm and seed."""
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    for ax, score in zip(figure.subplots(1, 2), TITLES, strict=True):
        for (arm, seed), rows in table.groupby(["arm", "seed"], sort=False):
            i = list(ARMS).index(arm)
            if (score, arm) != ("gain", "frozen"):
                error = abs(rows[[f"{score} low", f"{score} high"]].T - rows[score]).to_numpy()
                at = rows["notes"] * 1.04 ** (len(ARMS) * (seed - 0.5) + i - 1)
                line = {"color": f"C{i}", "linewidth": 1, "label": None if seed else arm}
                ax.errorbar(at, rows[score], error, marker="o", markersize=4, **line)
        ax.set(xscale="log", xlabel="notes to train on", title=TITLES[score])
        ax.set_xticks(sizes := sorted(set(table["notes"])), [f"{size:,}" for size in sizes])
        ax.minorticks_off()
    figure.axes[1].axhline(0, color="C0", linewidth=1)
    lines, names = figure.axes[0].get_legend_handles_labels()
    figure.legend(lines, names, frameon=False, loc="outside lower center", ncols=len(names))
    figure.savefig(path)


def main():
    """Print macro AUPRC of each arm and its gain over the frozen model, with its interval."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, help="folder of predictions")
    parser.add_argument("--hospital", help="folder of a simulated hospital's tables")
    parser.add_argument("--notes", type=int, nargs="+", default=[300, 1000, 3000])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--figure", help="file to draw to")
    options = parser.parse_args()
    options.results.mkdir(parents=True, exist_ok=True)
    rows = []
    for n, seed in product(options.notes if options.hospital else ["stays"], options.seeds):
        if options.hospital:
            cohort = load_hospital(Path(options.hospital), "text_without_diagnoses")
            order, how = np.random.default_rng(seed).permutation(len(cohort.y)), {"split_on": None}
            train, test = order[N_TEST : N_TEST + n], order[:N_TEST]
            notes = cohort.X[cohort.note_column].str[:N_CHARACTERS]
        else:
            cohort, how = load_stays(), {}
            cohort = cohort.select(cohort.X[cohort.note_column].notna())
            notes = cohort.X[cohort.note_column]
            train, test = hospital_folds(cohort, 5, seed)[0]
        y, truth, who = cohort.y, cohort.y.iloc[test], np.asarray(cohort.groups)[test]
        for arm in options.arms:
            kept = options.results / f"{n} {seed} {arm}.npy"
            if not kept.exists():
                np.save(kept, predict(notes, y, train, test, random_state=seed, **how, **ARMS[arm]))
            logits, frozen = np.load(kept), np.load(options.results / f"{n} {seed} frozen.npy")
            row = {"notes": len(train), "seed": seed, "arm": arm}
            report = multilabel_report(truth, logits, groups=who, random_state=0).loc["macro"]
            found = [*report[["auprc", "auprc_low", "auprc_high"]]]
            found += [*gain(truth, logits, frozen, who, "auprc")]
            rows.append(row | dict(zip(COLUMNS, found, strict=True)))
    table = pd.DataFrame(rows)
    print(table.round(3).to_string(index=False))
    if options.figure:
        draw(table, options.figure)


if __name__ == "__main__":
    main()
