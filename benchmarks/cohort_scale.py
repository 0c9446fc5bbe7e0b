"""Does a cohort of MIMIC-III's published size take less than ten minutes and 4 GB?

Makes tables of 58,976 admissions, 27.9 million lab results and 2.08 million notes (3.5 GB of text),
and shares of them, and loads each in a process of its own, whose peak memory is read at its end.
Two plain pandas ways are timed on the share nearest 5 % in the same run, tables joined as a whole
and stay by stay, and all have to give the same cohort. Needs about 10 GB of disk for the whole;
tables that are there already are used again.

    python benchmarks/cohort_scale.py FOLDER [--share 0.016 0.05 0.25 1] [--suffix .csv.gz]
"""

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np
import pandas as pd
from common import in_a_process, peak_gib

from sklearn_medfuse.datasets import load_mimic3, make_ehr_cohort
from tests.ehr_tables import write_ehr_tables

N_STAYS, N_LAB_ROWS, N_NOTES, NOTE_CHARS = 58_976, 27_854_055, 2_083_180, 1_700
# MIMIC-III has 726 items with results; a made cohort has 24 labs, so that each comes ten times
N_COPIES, NOTES_OF_FIRST_DAY = 10, 5
DAY = pd.Timedelta(days=1)
PLAIN_SHARE = 0.05


def make_wide_cohort(share, seed=0):
    """A made cohort with 240 labs, most of them rare, and several notes of the first day."""
    rng = np.random.default_rng(seed)
    cohort = make_ehr_cohort(max(50, round(share * N_STAYS)), n_labels=10, random_state=seed)
    labs = cohort.X[cohort.lab_columns]
    copies = [
        labs.where(rng.random(labs.shape) < 0.5 / k).add_suffix(f" {k}") for k in range(1, N_COPIES)
    ]
    wide = pd.concat([labs, *copies], axis=1)
    told = cohort.X["note"].fillna("Nothing is known.").str.replace("\n\n", " ").to_numpy(object)
    per_note = max(1, round(NOTE_CHARS / np.mean([len(text) for text in told])))
    notes = [
        "\n\n".join(
            [note, *(" ".join(told[rng.integers(0, len(told), per_note)]) for _ in range(n_more))]
        )
        for note, n_more in zip(told, rng.poisson(NOTES_OF_FIRST_DAY, len(told)), strict=True)
    ]
    note = pd.Series(notes, index=wide.index, dtype=cohort.X["note"].dtype)
    return type(cohort)(
        **{
            **cohort,
            "X": wide.assign(note=note.where(cohort.X["note"].notna())),
            "lab_columns": list(wide.columns),
            "units": {name: cohort.units[name.rstrip(" 123456789")] for name in wide.columns},
            "reference_ranges": {},
        }
    )


def make_tables(folder, share, suffix):
    """Write the tables of one share, unless they are there."""
    if (folder / "groups.json").is_file():
        return
    cohort = make_wide_cohort(share)
    groups = write_ehr_tables(
        cohort,
        folder,
        "mimic3",
        suffix=suffix,
        n_lab_rows=round(share * N_LAB_ROWS),
        n_notes=round(share * N_NOTES),
        note_chars=NOTE_CHARS,
        random_state=0,
    )
    (folder / "groups.json").write_text(json.dumps(list(groups.values())))


def load(folder):
    """Labs and notes as the package finds them."""
    groups = json.loads((folder / "groups.json").read_text())
    cohort = load_mimic3(folder, n_labels=groups, min_coverage=0.01, n_jobs=os.cpu_count())
    return cohort.X[[*cohort.lab_columns, cohort.note_column]]


def read_plainly(folder):
    """All tables as a whole, with their times."""
    read = {}
    for name, times in {
        "ADMISSIONS": ["ADMITTIME"],
        "D_LABITEMS": [],
        "LABEVENTS": ["CHARTTIME"],
        "NOTEEVENTS": ["CHARTDATE", "CHARTTIME", "STORETIME"],
        "DIAGNOSES_ICD": [],
    }.items():
        (file,) = folder.glob(f"{name}.*")
        kinds = {"ICD9_CODE": str}
        read[name] = (
            pd.read_parquet(file)
            if file.suffix == ".parquet"
            else pd.read_csv(file, parse_dates=times, dtype=kinds)
        )
    stays = read["ADMISSIONS"][["HADM_ID", "ADMITTIME"]]
    labs = read["LABEVENTS"].merge(stays, on="HADM_ID").merge(read["D_LABITEMS"], on="ITEMID")
    notes = read["NOTEEVENTS"].merge(stays, on="HADM_ID")
    return labs, notes.assign(time=notes["CHARTTIME"].fillna(notes["CHARTDATE"] + DAY))


def known_notes(notes):
    """Notes written and entered in the first day, in order."""
    index_time = notes["ADMITTIME"] + DAY
    notes = notes[(notes["time"] <= index_time) & ~(notes["STORETIME"] > index_time)]
    return notes.sort_values(["time", "CATEGORY", "TEXT"])


def known_labs(labs):
    """Results of the first day and the one before, in order."""
    since = labs["CHARTTIME"] - labs["ADMITTIME"]
    labs = labs[since.between(-DAY, DAY) & labs["VALUENUM"].notna()]
    return labs.sort_values(["CHARTTIME", "VALUENUM"])


def load_joined(folder):
    """The same cohort by pandas, all tables joined as a whole."""
    labs, notes = read_plainly(folder)
    X = known_labs(labs).pivot_table(
        index="HADM_ID", columns="LABEL", values="VALUENUM", aggfunc="last"
    )
    text = known_notes(notes).groupby("HADM_ID")["TEXT"].agg("\n\n".join)
    return covered(X.join(text.rename("note"), how="outer"))


def load_stay_by_stay(folder):
    """The same cohort by pandas, one stay after the other."""
    labs, notes = read_plainly(folder)
    rows = {}
    for stay, of_stay in labs.groupby("HADM_ID"):
        rows[stay] = known_labs(of_stay).groupby("LABEL")["VALUENUM"].last().to_dict()
    for stay, of_stay in notes.groupby("HADM_ID"):
        texts = known_notes(of_stay)["TEXT"]
        if len(texts):
            rows.setdefault(stay, {})["note"] = "\n\n".join(texts)
    return covered(
        pd.DataFrame.from_dict({stay: row for stay, row in rows.items() if row}, "index")
    )


def covered(X):
    """Labs measured in at least 1 % of the stays, and the notes."""
    return X.loc[:, (X.notna().mean() >= 0.01) | (X.columns == "note")]


WAYS = {
    "package": load,
    "joined": load_joined,
    "stay by stay": load_stay_by_stay,
}


def measure(folder, how):
    """Load one share here; seconds, processor seconds and peak memory of this process."""
    start, processor = time.perf_counter(), time.process_time()
    X = WAYS[how](folder)
    seconds, processor = time.perf_counter() - start, time.process_time() - processor
    labs = X.drop(columns="note")
    found = {
        "stays": len(X),
        "labs": labs.shape[1],
        "cells": int(labs.notna().to_numpy().sum()),
        "sum": float(np.nansum(labs.to_numpy(dtype=float))),
        "note_chars": int(X["note"].str.len().sum()),
    }
    return {"seconds": seconds, "processor_s": processor, "peak_GiB": peak_gib(), **found}


def compare_with_pandas(folder, ours):
    """Print how many times as long plain pandas takes; all have to find the same."""
    for way in ("joined", "stay by stay"):
        plain = in_a_process(__file__, folder, "--here", way)
        for name in ("stays", "labs", "cells", "note_chars"):
            assert plain[name] == ours[name], f"{name}: {plain[name]} and {ours[name]}"
        assert np.isclose(plain["sum"], ours["sum"])
        print(
            f"plain pandas, {way}: {plain['seconds']:.1f} s, {plain['peak_GiB']:.2f} GiB; "
            f"load_mimic3 is {plain['seconds'] / ours['seconds']:.1f} times as fast "
            f"({plain['processor_s'] / ours['processor_s']:.1f} in processor time), with "
            f"{plain['peak_GiB'] / ours['peak_GiB']:.1f} times less memory"
        )


def draw(table, file):
    """Time and memory against the size of the tables."""
    import matplotlib.pyplot as plt
    from matplotlib.ticker import NullFormatter

    fig, axes = plt.subplots(1, 2, figsize=(8, 3.5), layout="constrained")
    rows = table["lab_rows"]
    panels = (("seconds", "time (s)", 600), ("peak_GiB", "peak memory (GiB)", 4e9 / 2**30))
    for ax, (column, title, limit) in zip(axes, panels, strict=True):
        ax.plot(rows, table[column], "o-", label="load_mimic3")
        ax.axhline(limit, color="0.5", linestyle="--", label="limit at the full size")
        ax.set(xscale="log", yscale="log", xlabel="lab results in LABEVENTS", ylabel=title)
        ax.grid(alpha=0.3, which="both")
        ax.yaxis.set_major_formatter("{x:g}")
        # Less than a decade has at most one tick at its powers of ten
        few = table[column].max() < 20 * table[column].min()
        ax.yaxis.set_minor_formatter("{x:g}" if few else NullFormatter())
    axes[0].legend()
    file.parent.mkdir(exist_ok=True)
    fig.savefig(file, dpi=150)
    print(f"drawn: {file}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="scratch folder for the tables")
    parser.add_argument("--share", type=float, nargs="+", default=[1 / 64, 0.05, 0.25, 1.0])
    parser.add_argument("--suffix", default=".csv.gz", choices=[".csv", ".csv.gz", ".parquet"])
    parser.add_argument("--figure", type=Path, default=Path("artifacts/cohort_scale.png"))
    parser.add_argument("--here", choices=list(WAYS), help="load this folder here")
    args = parser.parse_args()
    if args.here:
        print(json.dumps(measure(args.folder, args.here)))
        return
    args.folder.mkdir(parents=True, exist_ok=True)
    found, folders = [], {}
    for share in sorted(args.share):
        folders[share] = args.folder / f"share_{share:.4f}{args.suffix.replace('.', '_')}"
        start = time.perf_counter()
        make_tables(folders[share], share, args.suffix)
        made = time.perf_counter() - start
        size = sum(file.stat().st_size for file in folders[share].iterdir()) / 2**30
        row = {"share": share, "lab_rows": round(share * N_LAB_ROWS), "files_GiB": size}
        measured = in_a_process(__file__, folders[share], "--here", "package")
        found.append({**row, **measured, "made_s": made})
        print({name: round(value, 3) for name, value in found[-1].items()}, flush=True)
    small = [row for row in found if row["share"] <= 2 * PLAIN_SHARE]
    if small:
        nearest = min(small, key=lambda row: abs(row["share"] - PLAIN_SHARE))
        compare_with_pandas(folders[nearest["share"]], nearest)
    table = pd.DataFrame(found)
    print(table.round(3).to_string(index=False))
    if len(table) > 1:
        for column in ("seconds", "processor_s", "peak_GiB"):
            slope = np.polyfit(np.log(table["lab_rows"]), np.log(table[column]), 1)[0]
            print(f"log-log slope of {column} over lab rows: {slope:.2f}")
        draw(table, args.figure)


if __name__ == "__main__":
    main()
