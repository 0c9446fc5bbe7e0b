"""Is lab training in bfloat16 faster on this processor, at the same error?

The net trains under torch's autocast, its linear part stays in float32. Time is that of an epoch:
the difference between a fit of three epochs and one of one, in turns with float32.

    python benchmarks/labs_bfloat16.py FOLDER [--threads 2] [--table nhanes] [--repeats 3]
"""

import argparse
import functools
import time

import pandas as pd
import torch
from labs_common import hide, load_tables, rmse

from sklearn_medfuse import MaskedLabEncoder
from sklearn_medfuse._nn.factor_model import LabPrior


def in_float32(method):
    """Run a method outside of autocast: triangular systems need all their digits."""

    @functools.wraps(method)
    def run(*args, **kwargs):
        with torch.autocast("cpu", enabled=False):
            return method(*args, **kwargs)

    return run


def seconds_of_fit(shown, max_epochs, bfloat16):
    """Wall time of a fit, and the encoder."""
    start = time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        encoder = MaskedLabEncoder(max_epochs=max_epochs, random_state=0).fit(shown)
    return time.perf_counter() - start, encoder


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", help="holds clif_demo, nhanes and eicu_demo_dev")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--table", default="nhanes")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    for name in ("forward", "predict"):
        setattr(LabPrior, name, in_float32(getattr(LabPrior, name)))
    shown, true, hidden = hide(load_tables(args.folder)[args.table], 0)
    seconds_of_fit(shown[:256], 1, bfloat16=False)
    rows = []
    for _ in range(args.repeats):
        for name, bfloat16 in [("float32", False), ("bfloat16", True)]:
            once, _ = seconds_of_fit(shown, 1, bfloat16)
            thrice, encoder = seconds_of_fit(shown, 3, bfloat16)
            rows.append((name, (thrice - once) / 2, rmse(encoder.impute(shown), true, hidden)))
    results = pd.DataFrame(rows, columns=["training in", "epoch_s", "rmse"])
    best = results.groupby("training in", sort=False).agg({"epoch_s": "min", "rmse": "mean"})
    flags = torch.backends.cpu.get_cpu_capability()
    print(f"{args.table} {shown.shape}, {args.threads} threads, {flags}")
    print(best.round(4).to_string())
    ratio = best.loc["bfloat16"] / best.loc["float32"]
    print(f"bfloat16 / float32: time {ratio['epoch_s']:.2f}, error {ratio['rmse']:.4f}")


if __name__ == "__main__":
    main()
