"""Is anything lost when fit, fine-tuning or cache writing is killed at any moment?

Each job is killed (SIGKILL) at moments drawn uniformly over the time that it takes undisturbed,
each time in a new folder, and then run again. The second run has to give the bits of an
undisturbed one; no file under its final name may be torn; nothing half-written may be left. A kill
that came after the job's end is drawn again. Jobs are forked from a process that has imported
everything, and are small: what counts is where the kill falls, not how long the job is.

    python benchmarks/hardening_faults.py [--times 50] [--jobs labs notes ...] [--seed 0]

Exits with 1 if anything was lost.
"""

import argparse
import hashlib
import os
import signal
import sqlite3
import statistics
import sys
import tempfile
import time
import traceback
from functools import partial
from pathlib import Path
from typing import NamedTuple

os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}

import duckdb  # noqa: F401, a job must not wait for it
import joblib
import numpy as np
import pandas as pd
import torch
from hardening_common import save_tiny_bert

from sklearn_medfuse import LLMNoteEncoder, MaskedLabEncoder
from sklearn_medfuse._checkpoint import _DIGEST_BYTES
from sklearn_medfuse.notes._embedding_cache import process_cache

_LONGEST_SECONDS = 300


class Job(NamedTuple):
    """What is killed: a function of a folder that returns what must not change."""

    what: str
    run: object
    count_torn: object


class Outcome(NamedTuple):
    """What a killed job and its second run left."""

    kept: int
    torn: int
    half_written: int
    same: bool
    left: int


def fit_labs(X, folder):
    """Fit a lab encoder that keeps its state."""
    encoder = MaskedLabEncoder(
        8,
        d_model=16,
        n_layers=1,
        n_decoder_layers=1,
        n_factors=2,
        max_epochs=8,
        batch_size=16,
        checkpoint_dir=folder,
        device="cpu",
        random_state=0,
    ).fit(X)
    return (
        encoder.transform(X).tobytes(),
        encoder.impute(X).to_numpy().tobytes(),
        encoder.loss_curve_,
    )


def fine_tune_notes(model, notes, y, folder):
    """Fine-tune a note encoder that keeps its state."""
    encoder = LLMNoteEncoder(
        model,
        fine_tuning="lora",
        max_epochs=20,
        n_iter_no_change=20,
        batch_size=8,
        dtype="float32",
        checkpoint_dir=folder,
        device="cpu",
        random_state=0,
    ).fit(notes, y)
    return encoder.tuned_data_, encoder.validation_loss_


def embed_notes(model, notes, folder):
    """Embed notes into a cache in a folder, a few windows at a time."""
    process_cache.clear()
    encoder = LLMNoteEncoder(
        model, batch_tokens=64, cache=folder, dtype="float32", device="cpu"
    ).fit(notes)
    return encoder.transform(notes).tobytes()


def torn_checkpoints(folder):
    """Count the states that cannot be read."""
    torn = 0
    for file in folder.glob("*.pt"):
        try:
            content = file.read_bytes()
            digest, state = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
            torn += hashlib.sha256(state).digest() != digest
        except OSError:
            torn += 1
    return torn


def torn_database(folder):
    """1 if sqlite finds its file, or the key of the entries, damaged."""
    torn = (folder / "key").exists() and (folder / "key").stat().st_size != 32
    if (folder / "vectors.sqlite").exists():
        # of a copy: to look into it must not mend it
        with tempfile.TemporaryDirectory() as name:
            for file in folder.glob("vectors.sqlite*"):
                (Path(name) / file.name).write_bytes(file.read_bytes())
            connection = sqlite3.connect(Path(name) / "vectors.sqlite")
            torn |= connection.execute("PRAGMA integrity_check").fetchone() != ("ok",)
            connection.close()
    return int(torn)


def make_jobs(folder):
    """The jobs, by name, on data made in a folder."""
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(60, 6)), columns=list("abcdef"))
    X = X.mask(rng.random(X.shape) < 0.25)
    y = rng.integers(0, 2, (48, 2))
    notes = [f"{'zzz' if a else 'aaa'} and {'qqq' if b else 'bbb'}" for a, b in y]
    sections = [f"Seen in clinic {i}.\n\n{'Denies pain. ' * (i % 5)}" for i in range(40)]
    model = save_tiny_bert(folder / "model")
    return {
        "labs": Job("MaskedLabEncoder.fit, checkpoint_dir", partial(fit_labs, X), torn_checkpoints),
        "notes": Job(
            "LLMNoteEncoder.fit, fine_tuning, checkpoint_dir",
            partial(fine_tune_notes, model, notes, y),
            torn_checkpoints,
        ),
        "cache": Job(
            "LLMNoteEncoder.fit and transform, cache",
            partial(embed_notes, model, sections),
            torn_database,
        ),
    }


def start(job, folder, answer):
    """Run a job in a forked process, which writes a digest of its result to a file."""
    child = os.fork()
    if child:
        return child
    try:
        digest = joblib.hash(job.run(folder))
        answer.write_text(digest, encoding="ascii")
        status = 0
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stderr.flush()
    os._exit(status)


def wait(child):
    """Exit status of a child; one that hangs is an error, not a wait for ever."""
    until = time.monotonic() + _LONGEST_SECONDS
    while time.monotonic() < until:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return status
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    raise RuntimeError("A job hangs.")


def run_undisturbed(job, folder):
    """Digest of the result, and seconds."""
    (folder / "kept").mkdir(parents=True)
    begin = time.monotonic()
    status = wait(start(job, folder / "kept", folder / "answer"))
    if status:
        raise RuntimeError(f"{job.what} failed without being killed.")
    return (folder / "answer").read_text(encoding="ascii"), time.monotonic() - begin


def kill_and_resume(job, folder, after, expected):
    """Kill a job after some seconds and run it again; None where it had ended before."""
    kept, answer = folder / "kept", folder / "answer"
    kept.mkdir(parents=True)
    child = start(job, kept, answer)
    time.sleep(after)
    os.kill(child, signal.SIGKILL)
    if not os.WIFSIGNALED(wait(child)):
        return None
    files = list(kept.iterdir())
    half_written = sum(file.name.startswith(".writing-") for file in files)
    torn = job.count_torn(kept)
    answer.unlink(missing_ok=True)
    status = wait(start(job, kept, answer))
    same = status == 0 and answer.read_text(encoding="ascii") == expected
    return Outcome(
        len(files) - half_written, torn, half_written, same, len(list(kept.glob(".writing-*")))
    )


def shoot(job, folder, times, rng):
    """Kill a job often; print how far we are."""
    runs = [run_undisturbed(job, folder / f"undisturbed{i}") for i in range(3)]
    digests = {digest for digest, _ in runs}
    if len(digests) > 1:
        raise RuntimeError(f"{job.what} gives other bits each time.")
    seconds = statistics.median(seconds for _, seconds in runs)
    outcomes, late = [], 0
    while len(outcomes) < times:
        name = f"run{len(outcomes)}-{late}"
        outcome = kill_and_resume(job, folder / name, rng.uniform(0, seconds), *digests)
        if outcome is None:
            late += 1
        else:
            outcomes.append(outcome)
    return outcomes


def summarise(job, outcomes):
    """One row of the table."""
    return {
        "job": job.what,
        "kills": len(outcomes),
        "found files": sum(outcome.kept > 0 for outcome in outcomes),
        "torn": sum(outcome.torn for outcome in outcomes),
        "half-written": sum(outcome.half_written for outcome in outcomes),
        "left after resume": sum(outcome.left for outcome in outcomes),
        "other result": sum(not outcome.same for outcome in outcomes),
    }


def main():
    """Kill every job and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", nargs="+", choices=["labs", "notes", "cache"])
    options = parser.parse_args()
    # a process that has started threads must not be forked
    torch.set_num_threads(1)
    rng = np.random.default_rng(options.seed)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        jobs = make_jobs(Path(name))
        for job_name in options.jobs or jobs:
            job = jobs[job_name]
            folder = Path(name) / job_name
            # Imports what is imported late.
            job.run(folder / "warm")
            rows.append(summarise(job, shoot(job, folder, options.times, rng)))
            print(pd.DataFrame(rows[-1:]).to_string(index=False, header=len(rows) == 1), flush=True)
    table = pd.DataFrame(rows)
    print("\n" + table.to_string(index=False))
    return int(table[["torn", "left after resume", "other result"]].to_numpy().any())


if __name__ == "__main__":
    sys.exit(main())
