"""What does another hospital's encoder add where only 100 stays of the new one exist?

The rows of each table are split into an old and a new hospital. The new one has lost a quarter of
the labs and has a quarter that the old one has not. From 100 of its stays an encoder learns
afresh, or from where the old one ended; both impute hidden cells of the new hospital's other stays.

    python benchmarks/labs_transfer.py FOLDER [--seeds 0 1 2] [--stays 100] [--tables eicu]
"""

import argparse

import numpy as np
import pandas as pd
from common import hide, load_lab_tables, rmse

from sklearn_medfuse import MaskedLabEncoder


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", help="holds clif_demo, nhanes and eicu_demo_dev")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--stays", type=int, default=100)
    parser.add_argument("--tables", nargs="+", default=None)
    args = parser.parse_args()
    rows = []
    for name, table in load_lab_tables(args.folder, args.tables).items():
        if len(table) < 4 * args.stays:
            continue
        for seed in args.seeds:
            rows += [(name, seed, *row) for row in compare(table, seed, args.stays)]
    results = pd.DataFrame(rows, columns=["table", "seed", "cells", "start", "rmse"])
    print(results.pivot_table("rmse", ["table", "cells"], "start").round(4).to_string())


def compare(table, seed, n_stays):
    """Errors with and without the old hospital, on the labs that both have and on new ones."""
    shown, true, hidden = hide(table, seed)
    shown = pd.DataFrame(shown, columns=table.columns)
    order = np.random.default_rng(seed).permutation(len(table))
    old, new = order[: len(order) // 2], order[len(order) // 2 :]
    labs = np.random.default_rng(seed).permutation(table.shape[1])
    quarter = len(labs) // 4
    fresh, lost = labs[:quarter], labs[quarter : 2 * quarter]
    of_old, of_new = np.delete(np.arange(len(labs)), fresh), np.delete(np.arange(len(labs)), lost)
    before = MaskedLabEncoder(random_state=seed).fit(shown.iloc[old, of_old])
    few, others = new[:n_stays], new[n_stays:]
    for start, initial in [("afresh", None), ("from the old hospital", before)]:
        encoder = MaskedLabEncoder(initial=initial, random_state=seed)
        encoder.fit(shown.iloc[few, of_new])
        filled = np.full(shown.shape, np.nan)
        filled[np.ix_(others, of_new)] = encoder.impute(shown.iloc[others, of_new])
        for cells, columns in [("shared labs", np.setdiff1d(of_new, fresh)), ("new labs", fresh)]:
            where = np.ix_(others, columns)
            yield cells, start, rmse(filled[where], true[where], hidden[where])


if __name__ == "__main__":
    main()
