"""Seconds of MaskedLabEncoder, of training it in bfloat16, and of ReMasker, on the same table.

Fit and impute of nhanes (5,028 people x 34 labs), a fifth of the cells hidden. ReMasker takes the
same time for each of its 600 epochs, so it runs `--epochs` of them and their time is scaled up;
`--epochs 600` runs it as published, and then its error counts too. In bfloat16 the net trains under
torch's autocast and the linear part stays in float32. Wall time is what a user waits, on a machine
that does nothing else; processor time adds the threads up.

    python benchmarks/labs_time.py FOLDER [--threads 2] [--table nhanes] [--epochs 3]
"""

import argparse
import functools
import time

import numpy as np
import pandas as pd
import remasker
import torch
from common import hide, load_lab_tables, rmse

from sklearn_medfuse import MaskedLabEncoder
from sklearn_medfuse._nn.masked_autoencoder import LabPrior


def timed(call):
    """Return what a call gives, with its wall time and its processor time."""
    start = time.perf_counter(), time.process_time()
    result = call()
    return result, time.perf_counter() - start[0], time.process_time() - start[1]


def in_float32(method):
    """Run a method outside of autocast: triangular systems need all their digits."""

    @functools.wraps(method)
    def run(*args, **kwargs):
        with torch.autocast("cpu", enabled=False):
            return method(*args, **kwargs)

    return run


def our_row(shown, true, hidden, seed, bfloat16):
    """Wall and processor seconds of fit and impute, and the error."""

    def fit_and_impute():
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            encoder = MaskedLabEncoder(random_state=seed).fit(shown)
        return encoder.impute(shown)

    filled, *seconds = timed(fit_and_impute)
    return [*seconds, rmse(filled, true, hidden)]


def main():
    """Print a row per method."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", help="holds clif_demo, nhanes and eicu_demo_dev")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--table", default="nhanes")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    for name in ("forward", "predict"):
        setattr(LabPrior, name, in_float32(getattr(LabPrior, name)))
    shown, true, hidden = hide(load_lab_tables(args.folder)[args.table], args.seed)
    # The first products of a process set threads and buffers up
    MaskedLabEncoder(max_epochs=1, random_state=0).fit(shown[:256])
    remasker.impute(shown[:128], 0, 1)
    rows = {
        f"MaskedLabEncoder, {name}": our_row(shown, true, hidden, args.seed, bfloat16)
        for name, bfloat16 in (("float32", False), ("bfloat16", True))
    }
    guess, *theirs = timed(lambda: remasker.impute(shown, args.seed, args.epochs))
    whole = args.epochs >= remasker.EPOCHS
    theirs = np.array(theirs) * remasker.EPOCHS / args.epochs
    rows["ReMasker, 600 epochs"] = [*theirs, rmse(guess, true, hidden) if whole else np.nan]
    print(f"{args.table} {shown.shape}, {args.threads} threads, seed {args.seed}")
    columns = ["wall s", "processor s", "rmse"]
    print(pd.DataFrame.from_dict(rows, "index", columns=columns).round(3).to_string(na_rep=""))


if __name__ == "__main__":
    main()
