"""Damage a file, read it in a forked process with a limit of memory and seconds, case after case.

At times the folder is sealed again, as a forger would. Joblib files are not among the cases:
reading one runs what its writer put in, and no check can come before.
"""

import json
import os
import resource
import shutil
import signal
import warnings
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import torch

from .mutations import mutate
from .targets import CANARY_TEXT, forget

# After which a case counts as hanging
SECONDS = 60
# Beyond what the process holds at its start
MEMORY = 2**31
# How a case may end; the others are failures
FINE = ("refused", "equal", "another model", "refused in use")
BAD = ("silent change", "wrong error", "nameless error", "tells data", "crash", "hang", "ran code")


class Bench:
    """A target with what was written of it, in a folder."""

    def __init__(self, target, place):
        self.target = target
        self.folder, self.beside = place / "case", place / "beside"
        self.canary = place / "canary"
        for folder in (self.folder, self.beside):
            folder.mkdir(parents=True)
        target.write(self.folder, self.beside)
        forget()
        self.files = {
            file.relative_to(self.folder): file.read_bytes()
            for file in sorted(self.folder.rglob("*"))
            if file.is_file() and file.name != ".gitignore"
        }
        self.expected = target.use(target.read(self.folder, self.beside))

    def restore(self):
        """Put back what was written."""
        for file in [*self.folder.iterdir()]:
            shutil.rmtree(file) if file.is_dir() and not file.is_symlink() else file.unlink()
        for name, content in self.files.items():
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).write_bytes(content)

    def damage(self, rng):
        """Change a file or two; give how, and whether the folder was sealed again."""
        self.restore()
        how = []
        for _ in range(1 + int(rng.random() < 0.1)):
            name = list(self.files)[int(rng.integers(len(self.files)))]
            change, content = mutate(name.name, self.files[name], rng, self.canary)
            if rng.random() < 0.03:
                change, content = "emptied", b""
            (self.folder / name).write_bytes(content)
            how.append(change)
        reseal = self.target.reseal
        sealed = reseal is not None and rng.random() < 0.5 and reseal(self.folder)
        return "+".join(how), bool(sealed) or "strange_zip" in how or self.target.may_differ

    def run(self, forged):
        """Read what is in the folder: (how it ended, detail)."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            end = self._end(forged)
        if self.canary.exists():
            self.canary.unlink()
            return "ran code", end[1]
        if any(CANARY_TEXT in str(warning.message) for warning in caught):
            return "tells data", "a warning"
        return end

    def _end(self, forged):
        try:
            read = self.target.read(self.folder, self.beside)
        except (ValueError, OSError) as error:
            return self._refused(error)
        except BaseException as error:
            return "wrong error", f"{type(error).__name__}: {str(error)[:200]}"
        try:
            found = self.target.use(read)
        except Exception as error:
            end = "refused in use" if forged else "wrong error"
            return end, f"{type(error).__name__}: {str(error)[:200]}"
        if np.array_equal(found, self.expected, equal_nan=True):
            return "equal", ""
        return ("another model" if forged else "silent change"), ""

    def _refused(self, error):
        message = str(error)
        if CANARY_TEXT in message:
            return "tells data", type(error).__name__
        # The folder or a file of it; of a model in memory, what it is
        if str(self.folder) not in message and "the model" not in message.lower():
            return "nameless error", f"{type(error).__name__}: {message[:200]}"
        return "refused", message.replace(str(self.folder), "")[:60]


def fuzz(targets, n_cases, seed, folder):
    """Run cases of the targets in turn, each with its share; give a dict for each case."""
    torch.set_num_threads(1)
    benches = [Bench(target, folder / f"target-{i}") for i, target in enumerate(targets)]
    share = np.repeat(np.arange(len(targets)), [target.share for target in targets])
    cases = [(case, benches[share[case % len(share)]]) for case in range(n_cases)]
    file = folder / "results.jsonl"
    file.touch()
    while len(results := _ended(file)) < n_cases:
        child = os.fork()
        if not child:
            _run_in_child(cases[len(results) : len(results) + 500], seed, file)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            # The case that was begun last is what the process died of; the next ones go on
            number = os.WTERMSIG(status)
            line = json.loads(file.read_text().splitlines()[-1])
            line |= {"end": "hang" if number == signal.SIGALRM else "crash", "detail": str(number)}
            with file.open("a") as out:
                print(json.dumps(line), file=out)
        elif os.WEXITSTATUS(status):
            raise RuntimeError(f"the fuzzer itself broke: {file.read_text()[-500:]}")
    return results


def _run_in_child(cases, seed, file):
    status = 1
    with file.open("a") as out:
        try:
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            most = pages * resource.getpagesize() + MEMORY
            resource.setrlimit(resource.RLIMIT_AS, (most, most))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            # What a library says on its way is not of interest
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            for case, bench in cases:
                how, forged = bench.damage(np.random.default_rng([seed, case]))
                line = {"case": case, "target": bench.target.name, "how": how, "forged": forged}
                print(json.dumps(line), file=out, flush=True)
                signal.alarm(SECONDS)
                line["end"], line["detail"] = bench.run(forged)
                signal.alarm(0)
                print(json.dumps(line), file=out, flush=True)
            status = 0
        except BaseException as error:
            print(json.dumps({"broken": repr(error)[:500]}), file=out, flush=True)
    os._exit(status)


def _ended(file):
    lines = map(json.loads, file.read_text().splitlines())
    return [line for line in lines if "end" in line]


def table(results):
    """A row for each target: its cases by how they ended."""
    counts = defaultdict(Counter)
    for line in results:
        counts[line["target"]][line["end"]] += 1
        counts["all"][line["end"]] += 1
    rows = [
        f"{name:45}" + "".join(f"{counts[name][end]:>8}" for end in (*FINE, *BAD))
        for name in counts
    ]
    return "\n".join([f"ends: {', '.join((*FINE, *BAD))}", *rows])
