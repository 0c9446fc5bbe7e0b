"""Seconds of MaskedLabEncoder and of ReMasker on the same table with the same number of threads.

Fit and impute of nhanes (5,028 people x 34 labs), a fifth of the cells hidden. ReMasker takes
the same time for each of its 600 epochs, so it runs `--epochs` of them and their time is scaled
up; `--epochs 600` runs it as published, and then its error counts too. Wall time is what a user
waits, on a machine that does nothing else; processor time adds the threads up.

    python benchmarks/labs_time.py FOLDER [--threads 2] [--table nhanes] [--epochs 3]
"""

import argparse
import time

import numpy as np
import pandas as pd
import remasker
import torch
from labs_common import hide, load_tables, rmse

from sklearn_medfuse import MaskedLabEncoder


def timed(call):
    """Return what a call gives, its wall time and its processor time."""
    start = time.perf_counter(), time.process_time()
    result = call()
    return result, time.perf_counter() - start[0], time.process_time() - start[1]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", help="holds clif_demo, nhanes and eicu_demo_dev")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--table", default="nhanes")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    shown, true, hidden = hide(load_tables(args.folder)[args.table], args.seed)

    # the first products of a process set threads and buffers up
    MaskedLabEncoder(max_epochs=1, random_state=0).fit(shown[:256])
    remasker.impute(shown[:128], 0, 1)

    encoder = MaskedLabEncoder(random_state=args.seed)
    _, *fit = timed(lambda: encoder.fit(shown))
    filled, *impute = timed(lambda: encoder.impute(shown))
    ours = np.add(fit, impute)
    guess, *theirs = timed(lambda: remasker.impute(shown, args.seed, args.epochs))
    whole = args.epochs >= remasker.EPOCHS
    theirs = np.array(theirs) * remasker.EPOCHS / args.epochs
    rows = {
        "MaskedLabEncoder, fit": [*fit, np.nan],
        "MaskedLabEncoder, impute": [*impute, np.nan],
        "MaskedLabEncoder, both": [*ours, rmse(filled, true, hidden)],
        "ReMasker, 600 epochs": [*theirs, rmse(guess, true, hidden) if whole else np.nan],
        "ReMasker / MaskedLabEncoder": [*(theirs / ours), np.nan],
    }
    print(f"{args.table} {shown.shape}, {args.threads} threads, seed {args.seed}")
    columns = ["wall s", "processor s", "rmse"]
    print(pd.DataFrame.from_dict(rows, "index", columns=columns).round(3).to_string(na_rep=""))


if __name__ == "__main__":
    main()
