"""Kill fit, fine-tuning or cache writing at any moment, and run it again.

Each job is killed (SIGKILL) at moments drawn uniformly over the time that it takes undisturbed,
each time in a new folder, and then run again. The second run has to give the bits of an undisturbed
one; no file under its final name may be torn; nothing half-written may be left. A kill that came
after the job's end is drawn again. Jobs are forked, so this is a process of its own, without other
threads, which has imported everything. They are small: what counts is where the kill falls.

    python -m tests.hardening.kills --model FOLDER [--times 50] [--jobs labs notes cache]
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
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}

import duckdb  # noqa: F401, a job must not wait for it
import joblib
import numpy as np
import pandas as pd
import torch

from sklearn_medfuse import LLMNoteEncoder, MaskedLabEncoder
from sklearn_medfuse.notes._language_model.cache import process_cache

_LONGEST_SECONDS = 300


@dataclass
class Job:
    """What is killed: a function of a folder that returns what must not change."""

    what: str
    run: Callable
    is_torn: Callable


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
    imputed = encoder.impute(X).to_numpy()
    return encoder.transform(X).tobytes(), imputed.tobytes(), encoder.loss_curve_


def fine_tune_notes(model, notes, y, folder):
    """Fine-tune a note encoder that keeps its state."""
    encoder = LLMNoteEncoder(
        model,
        fine_tuning="lora",
        max_epochs=20,
        batch_size=8,
        dtype="float32",
        checkpoint_dir=folder,
        device="cpu",
        random_state=0,
    ).fit(notes, y)
    return encoder.transform(notes).tobytes(), encoder.validation_loss_


def embed_notes(model, notes, folder):
    """Embed notes into a cache in a folder, a few windows at a time."""
    process_cache.clear()
    encoder = LLMNoteEncoder(
        model, batch_tokens=64, cache=folder, dtype="float32", device="cpu"
    ).fit(notes)
    return encoder.transform(notes).tobytes()


def is_torn_checkpoint(file):
    """Whether a state is not the one of the digest before it."""
    content = file.read_bytes()
    return file.suffix == ".pt" and hashlib.sha256(content[32:]).digest() != content[:32]


def is_torn_database(file):
    """Whether sqlite finds its file, or the key of the entries, damaged."""
    if file.name == "key":
        return file.stat().st_size != 32
    if file.suffix != ".sqlite":
        return False
    with tempfile.TemporaryDirectory() as folder:
        # A copy is read: looking into the file must not mend it
        for each in file.parent.glob(f"{file.name}*"):
            (Path(folder) / each.name).write_bytes(each.read_bytes())
        connection = sqlite3.connect(Path(folder) / file.name)
        sound = connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        connection.close()
    return not sound


def make_jobs(model, folder):
    """The jobs by name, on data made in a folder."""
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(60, 6)), columns=list("abcdef"))
    X = X.mask(rng.random(X.shape) < 0.25)
    y = rng.integers(0, 2, (48, 2))
    notes = [f"{'zzz' if a else 'aaa'} and {'qqq' if b else 'bbb'}" for a, b in y]
    sections = [f"Seen in clinic {i}.\n\n{'Denies pain. ' * (i % 5)}" for i in range(40)]
    runs = {
        "labs": (
            "MaskedLabEncoder.fit, checkpoint_dir",
            partial(fit_labs, X),
            is_torn_checkpoint,
        ),
        "notes": (
            "LLMNoteEncoder.fit, fine_tuning, checkpoint_dir",
            partial(fine_tune_notes, model, notes, y),
            is_torn_checkpoint,
        ),
        "cache": (
            "LLMNoteEncoder.fit and transform, cache",
            partial(embed_notes, model, sections),
            is_torn_database,
        ),
    }
    return {name: Job(*run) for name, run in runs.items()}


def start(job, folder, answer):
    """Run a job in a forked process, which writes a digest of its result to a file."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        answer.write_text(joblib.hash(job.run(folder)), encoding="ascii")
        status = 0
    except BaseException:
        traceback.print_exc()
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
    if wait(start(job, folder / "kept", folder / "answer")):
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
    files = [file for file in kept.rglob("*") if file.is_file()]
    whole = [file for file in files if ".writing-" not in str(file)]
    torn = sum(map(job.is_torn, whole))
    answer.unlink(missing_ok=True)
    status = wait(start(job, kept, answer))
    same = status == 0 and answer.read_text(encoding="ascii") == expected
    left = len(list(kept.rglob(".writing-*")))
    return {
        "found files": int(bool(whole)),
        "torn": torn,
        "half-written": len(files) - len(whole),
        "left after resume": left,
        "other result": int(not same),
    }


def shoot(job, folder, times, rng):
    """Kill a job often; give a row of the table."""
    runs = [run_undisturbed(job, folder / f"undisturbed{i}") for i in range(2)]
    if len({digest for digest, _ in runs}) > 1:
        raise RuntimeError(f"{job.what} gives other bits each time.")
    seconds = statistics.median(seconds for _, seconds in runs)
    outcomes, late = [], 0
    while len(outcomes) < times:
        name = f"run{len(outcomes)}-{late}"
        outcome = kill_and_resume(job, folder / name, rng.uniform(0, seconds), runs[0][0])
        if outcome is None:
            late += 1
        else:
            outcomes.append(outcome)
    return {"job": job.what, "kills": times, **pd.DataFrame(outcomes).sum().to_dict()}


def main():
    """Kill every job and print the table; return 1 if anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="folder of a tiny note model")
    parser.add_argument("--times", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", nargs="+", default=["labs", "notes", "cache"])
    options = parser.parse_args()
    # A process that has started threads must not be forked
    torch.set_num_threads(1)
    rng = np.random.default_rng(options.seed)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        jobs = make_jobs(options.model, Path(name))
        for job_name in options.jobs:
            job, folder = jobs[job_name], Path(name) / job_name
            # Imports what is imported late
            job.run(folder / "warm")
            rows.append(shoot(job, folder, options.times, rng))
    table = pd.DataFrame(rows)
    print(table.to_string(index=False))
    return int(table[["torn", "left after resume", "other result"]].to_numpy().any())


if __name__ == "__main__":
    sys.exit(main())
