"""Errors on hidden labs of three real tables, and time, beside other imputers.

A fifth of the measured cells is hidden, values are z-scored, errors clipped at 10 SD. Every method
has the same settings on every table. `--remasker` adds the ReMasker reference, which takes minutes
per table; on nhanes it runs for a few epochs only, which give its time and not its error. Times
are processor seconds, which other work on the machine leaves alone.

    python benchmarks/labs_imputation.py FOLDER [--seeds 0 1 2] [--tables clif_demo] [--remasker]
"""

import argparse
import time
import warnings

import numpy as np
import pandas as pd
import remasker
import torch
from common import hide, load_lab_tables, rmse
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer

from sklearn_medfuse import MaskedLabEncoder

OURS, LINEAR = "MaskedLabEncoder", "MaskedLabEncoder, max_epochs=0"
TREES, REMASKER = "IterativeImputer, 30 extra trees", "ReMasker"
TARGET = 0.97
_LARGE, _FEW_EPOCHS = 100_000, 2


def make_imputers(seed, n_jobs):
    """Name → unfitted imputer."""
    trees = ExtraTreesRegressor(30, n_jobs=n_jobs, random_state=seed)
    return {
        "mean": SimpleImputer(keep_empty_features=True),
        "10 nearest rows": KNNImputer(n_neighbors=10, keep_empty_features=True),
        "IterativeImputer, ridge": IterativeImputer(random_state=seed, keep_empty_features=True),
        TREES: IterativeImputer(trees, max_iter=2, random_state=seed, keep_empty_features=True),
        OURS: MaskedLabEncoder(random_state=seed),
        LINEAR: MaskedLabEncoder(max_epochs=0, random_state=seed),
    }


def run(imputer, shown):
    """Fit and fill one table."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        if isinstance(imputer, MaskedLabEncoder):
            return imputer.fit(shown).impute(shown)
        return imputer.fit_transform(shown)


def run_remasker(shown, seed):
    """Filled table and seconds; a large table is run for few epochs, whose time is scaled up."""
    epochs = remasker.EPOCHS if shown.size < _LARGE else _FEW_EPOCHS
    start = time.process_time()
    filled = remasker.impute(shown, seed, epochs)
    seconds = (time.process_time() - start) * remasker.EPOCHS / epochs
    return (filled if epochs == remasker.EPOCHS else None), seconds


def interval_share(encoder, shown, true, hidden):
    """Share of the hidden values within the 90 % interval of their normal approximation."""
    expected, spread = encoder.impute(shown, return_std=True)
    return float(np.mean(np.abs(expected - true)[hidden] < 1.645 * spread[hidden]))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", help="holds clif_demo, nhanes and eicu_demo_dev")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--tables", nargs="+", default=None)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--remasker", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = []
    for name, table in load_lab_tables(args.folder, args.tables).items():
        print(f"{name}: {table.shape}, {table.isna().to_numpy().mean():.0%} not measured")
        for seed in args.seeds:
            shown, true, hidden = hide(table, seed)
            for method, imputer in make_imputers(seed, args.threads).items():
                start = time.process_time()
                error = rmse(run(imputer, shown), true, hidden)
                rows.append((name, method, seed, error, time.process_time() - start))
                if method == OURS:
                    share = interval_share(imputer, shown, true, hidden)
                    print(f"  seed {seed}: {share:.1%} of hidden values in the 90 % interval")
            if args.remasker and seed == args.seeds[0]:
                filled, seconds = run_remasker(shown, seed)
                error = np.nan if filled is None else rmse(filled, true, hidden)
                rows.append((name, REMASKER, seed, error, seconds))
    results = pd.DataFrame(rows, columns=["table", "method", "seed", "rmse", "seconds"])
    mean = results.groupby(["table", "method"], sort=False)[["rmse", "seconds"]].mean()
    print(mean.round(4).to_string())
    by_seed = results.pivot_table("rmse", ["table", "seed"], "method", sort=False)
    errors = by_seed.groupby("table", sort=False).mean()
    print("\nError of each seed, and as a share of the extra trees'")
    ratio = (by_seed[OURS] / by_seed[TREES]).rename("ratio")
    print(by_seed[[TREES, OURS]].join(ratio).round(4).to_string())
    print(f"\nTarget: at most {TARGET} of the extra trees' error, mean of the seeds")
    print((errors[OURS] / errors[TREES]).round(4).to_string())


if __name__ == "__main__":
    main()
