"""What an epoch costs on a wide sparse panel, against the number of measured cells.

Rows by 1,505 labs as CSR, 3 % measured in panels that are ordered together, from 6,250 rows to
100,000. Every size runs in a process of its own, whose peak memory is read at its end. An epoch is
the difference between a fit of three epochs and one of one: what is done once does not count.

    python benchmarks/labs_scaling.py [--rows 6250 25000 100000]
"""

import argparse
import json
import time
import warnings

import numpy as np
import pandas as pd
import torch
from common import in_a_process, peak_gib
from scipy.sparse import csr_array

from sklearn_medfuse import MaskedLabEncoder

N_LABS, DENSITY, PANEL, N_FACTORS = 1505, 0.03, 15, 10


def make_panel_data(n_rows, seed=0):
    """CSR of correlated labs that are measured panel by panel."""
    rng = np.random.default_rng(seed)
    loadings = np.random.default_rng(1).normal(size=(N_LABS, N_FACTORS)) / np.sqrt(N_FACTORS)
    n_panels = N_LABS // PANEL
    # Some panels are ordered for everyone, most for few
    share = np.random.default_rng(2).dirichlet(np.full(n_panels, 0.3)) * n_panels * DENSITY
    share = np.clip(share, 0.001, 0.9)
    ordered = rng.random((n_rows, n_panels)) < share * DENSITY / share.mean()
    row, panel = np.nonzero(ordered)
    row = np.repeat(row, PANEL)
    lab = (panel[:, None] * PANEL + np.arange(PANEL)).ravel()
    factors = rng.normal(size=(n_rows, N_FACTORS))
    value = (factors[row] * loadings[lab]).sum(axis=1) + 0.5 * rng.normal(size=len(row))
    return csr_array((value, (row, lab)), shape=(n_rows, N_LABS))


def seconds_of_fit(X, max_epochs):
    """Processor seconds of a fit on one thread, which other work on the machine leaves alone."""
    start = time.process_time()
    with warnings.catch_warnings():
        # In the smallest table no row has the last labs
        warnings.simplefilter("ignore", UserWarning)
        MaskedLabEncoder(max_epochs=max_epochs, random_state=0).fit(X)
    return time.process_time() - start


def measure(n_rows):
    """Run one size here."""
    torch.set_num_threads(1)
    X = make_panel_data(n_rows)
    once, thrice = seconds_of_fit(X, 1), seconds_of_fit(X, 3)
    epoch = (thrice - once) / 2
    return {
        "rows": n_rows,
        "cells": X.nnz,
        "density": X.nnz / n_rows / N_LABS,
        "epoch_s": epoch,
        "once_s": once - epoch,
        "peak_GiB": peak_gib(),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[6_250, 12_500, 25_000, 100_000])
    parser.add_argument("--here", type=int, help="run this one size in this process")
    args = parser.parse_args()
    if args.here:
        print(json.dumps(measure(args.here)))
        return
    found = []
    for n_rows in args.rows:
        found.append(in_a_process(__file__, "--here", n_rows))
        print(found[-1], flush=True)
    table = pd.DataFrame(found)
    print(table.round(3).to_string(index=False))
    cells = np.log(table["cells"])
    for column in ("epoch_s", "once_s"):
        slope = np.polyfit(cells, np.log(table[column]), 1)[0]
        print(f"log-log slope of {column} over cells: {slope:.2f}")


if __name__ == "__main__":
    main()
