"""From how many notes on does fine-tuning the note model pay?

Vectors of the frozen model, of LoRA by the labels, and of LoRA by masked words first, judged by
logistic regressions whose penalty inner folds choose: on bundled ICU stays, a fifth of the
hospitals held out, or on a simulated hospital, the first 400 characters of each patient's notes.

    python benchmarks/notes_fine_tuning.py RESULTS [--hospital FOLDER] [--figure curve.svg]

RESULTS keeps predictions, so that an interrupted run goes on; `tools/clinosim_tables.py` makes
FOLDER.
"""

import argparse
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from common import gain, hospital_folds, load_stays, one_score, penalised
from fusion_headline import read_patients
from matplotlib.figure import Figure

from sklearn_medfuse import LLMNoteEncoder

ARMS = {"frozen": {}, "LoRA": {"fine_tuning": "lora"}}
ARMS["masked words, then LoRA"] = {"fine_tuning": "lora", "objective": "both"}
N_TEST, N_CHARACTERS = 800, 400


def predict(notes, y, train, test, **how):
    """Logits of the notes held out."""
    encoder = LLMNoteEncoder(dtype="bfloat16", **how).fit(notes.iloc[train], y.iloc[train])
    X, X_test = (encoder.transform(notes.iloc[rows]) for rows in (train, test))
    return (
        penalised([0.001, 0.003, 0.01, 0.03, 0.1]).fit(X, y.iloc[train]).decision_function(X_test)
    )


def draw(table, path):
    """Draw scores and gains with intervals, seed beside seed."""
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    for ax, score in zip(figure.subplots(1, 2), ("AUPRC", "gain"), strict=True):
        for i, (arm, rows) in enumerate(table.groupby("arm", sort=False)):
            if (score, arm) == ("gain", "frozen"):
                ax.axhline(0, color="C0", linewidth=1)
                continue
            error = abs(rows[["low", "high"]].T - rows["gain"]) if score == "gain" else None
            at = rows["notes"] * 1.05 ** (2 * i + rows["seed"])
            ax.errorbar(at, rows[score], error, fmt="o", color=f"C{i}", markersize=4, label=arm)
            mean = rows.groupby("notes")[score].mean()
            ax.plot(mean.index * 1.05 ** (2 * i + 0.5), mean, color=f"C{i}", linewidth=1)
        ax.set(xscale="log", xlabel="notes to train on", title=f"macro AUPRC: {score}")
        ax.set_xticks(sizes := sorted(set(table["notes"])), sizes, minor=False)
        ax.minorticks_off()
        ax.legend(frameon=False)
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
    rows = []
    for n, seed in product(options.notes if options.hospital else ["stays"], options.seeds):
        if options.hospital:
            X, y = read_patients(options.hospital, "text_without_diagnoses")
            who, notes, how = np.arange(len(y)), X["note"].str[:N_CHARACTERS], {"split_on": None}
            test, train = np.split(np.random.default_rng(seed).permutation(who), [N_TEST])
            train = train[:n]
        else:
            cohort = load_stays()
            who, notes, y, how = cohort.groups, cohort.X[cohort.note_column], cohort.y, {}
            train, test = hospital_folds(cohort, 5, seed)[0]
        truth, who = y.iloc[test], np.asarray(who)[test]
        for arm in options.arms:
            kept = options.results / f"{n} {seed} {arm}.npy"
            if not kept.exists():
                np.save(kept, predict(notes, y, train, test, random_state=seed, **how, **ARMS[arm]))
            logits, frozen = np.load(kept), np.load(options.results / f"{n} {seed} frozen.npy")
            row = {"notes": len(train), "seed": seed, "arm": arm}
            row["AUPRC"] = one_score(truth, logits, "auprc")
            row["gain"], row["low"], row["high"] = gain(truth, logits, frozen, who, "auprc")
            rows.append(row)
    table = pd.DataFrame(rows)
    print(table.round(3).to_string(index=False))
    if options.figure:
        draw(table, options.figure)


if __name__ == "__main__":
    main()
