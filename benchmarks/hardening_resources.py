"""Does the memory of a process that predicts over and over stay as it is?

A small fitted pipeline predicts the same stays so often, as a service does, with new notes among
them each time, and the process's memory is read on the way: what Python holds (tracemalloc) and
what the system counts (RSS). The cache of vectors in memory is given 32 kB, so that it is full
from early on and its growth, which is meant, does not hide any other.

    python benchmarks/hardening_resources.py [--calls 1000]

Exits with 1 if either grew by more than `--limit` MB from a fifth of the calls on.
"""

import argparse
import gc
import os
import sys
import tempfile
import tracemalloc

os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}

import numpy as np
import pandas as pd
import torch
from hardening_common import save_tiny_bert

from sklearn_medfuse import LLMNoteEncoder, MaskedLabEncoder, make_medfuse_pipeline
from sklearn_medfuse.notes._language_model.cache import process_cache

MEGABYTE = 2**20
CACHE_BYTES = 2**15
PAGE = os.sysconf("SC_PAGE_SIZE")


def make_pipeline(model):
    """Small encoders and a small fusion, unfitted."""
    labs = MaskedLabEncoder(8, d_model=16, n_layers=1, max_epochs=2, device="cpu")
    return make_medfuse_pipeline(
        list("abcdef"),
        "note",
        lab_encoder=labs,
        note_encoder=LLMNoteEncoder(model, device="cpu", dtype="float32"),
        d_model=16,
        n_estimators=2,
        max_epochs=2,
        device="cpu",
        random_state=0,
    )


def make_stays(rng, n_stays=10):
    """Random labs, and notes that no other call has seen."""
    X = pd.DataFrame(rng.normal(size=(n_stays, 6)), columns=list("abcdef"))
    X = X.mask(rng.random(X.shape) < 0.25)
    numbers = rng.integers(10**9, size=n_stays)
    return X.assign(note=[f"Seen {number} times.\n\nDenies pain." for number in numbers])


def resident_megabytes():
    """Memory of this process as Linux counts it."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * PAGE / MEGABYTE


def watch(pipe, n_calls, rng):
    """Table of the memory at ten moments."""
    rows = []
    tracemalloc.start()
    for call in range(1, n_calls + 1):
        pipe.predict_proba(make_stays(rng))
        if call % max(1, n_calls // 10) == 0:
            gc.collect()
            held = tracemalloc.get_traced_memory()[0] / MEGABYTE
            rows.append({"calls": call, "Python MB": held, "RSS MB": resident_megabytes()})
            print(
                pd.DataFrame(rows[-1:]).round(2).to_string(index=False, header=len(rows) == 1),
                flush=True,
            )
    tracemalloc.stop()
    return pd.DataFrame(rows)


def main():
    """Fit, predict often, and say by how much the memory grew."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=1000)
    parser.add_argument("--limit", type=float, default=5.0, help="MB")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    process_cache.max_bytes = CACHE_BYTES
    with tempfile.TemporaryDirectory() as folder:
        X = make_stays(rng, 60)
        pipe = make_pipeline(save_tiny_bert(folder)).fit(X, rng.integers(0, 2, (60, 2)))
        table = watch(pipe, options.calls, rng)
    # the first calls fill the cache and what torch and the tokenizer keep for reuse
    settled = table[table["calls"] >= options.calls / 5].drop(columns="calls")
    grown = settled.iloc[-1] - settled.iloc[0]
    print("grown by", grown.round(2).to_dict())
    return int((grown > options.limit).any())


if __name__ == "__main__":
    sys.exit(main())
