"""Do damaged and forged files end in an error of ours or in an equal result, case after case?

    python benchmarks/hardening_fuzz.py --cases 10000 --folder FOLDER

A case damages a file of a tiny model, cache or cohort, at times seals the folder again as a forger
would, and reads it in a forked process with a limit of memory and of seconds. The results lie in
FOLDER/results.jsonl: the same command goes on after an interruption. Joblib files are not among the
cases: reading one runs what its writer put in, and no check can come before.
"""

import argparse
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import warnings
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
from hardening_mutations import mutate
from hardening_targets import CANARY_TEXT, TARGETS, forget

# after which a case counts as hanging, on a quiet machine
SECONDS = 30
# beyond what the process holds at its start
MEMORY = 2**31
# how a case may end; the others are failures
FINE = ("refused", "equal", "another model", "refused in use")
BAD = ("silent change", "wrong error", "nameless error", "tells data", "crash", "hang", "ran code")


class Bench:
    """A target with what was written of it, in a folder."""

    def __init__(self, target, place):
        self.target = target
        self.folder, self.beside = place / "case", place / "beside"
        self.canary = place / "canary"
        for folder in (self.folder, self.beside):
            shutil.rmtree(folder, ignore_errors=True)
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
            content = (self.folder / name).read_bytes()
            if rng.random() < 0.03:
                (self.folder / name).write_bytes(b"")
                how.append("emptied")
            else:
                change, content = mutate(name.name, self.files[name], rng, self.canary)
                (self.folder / name).write_bytes(content)
                how.append(change)
        sealed = rng.random() < 0.5 and self.target.reseal(self.folder)
        forged = bool(sealed) or "strange_zip" in how or self.target.may_differ
        return "+".join(how), forged

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
        # the folder or a file of it; of a model in memory, what it is
        if str(self.folder) not in message and "the model" not in message.lower():
            return "nameless error", f"{type(error).__name__}: {message[:200]}"
        return "refused", message.replace(str(self.folder), "")[:60]


def limit():
    """Limit what this process may take from now on."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def run_case(bench, seed, case, out, seconds=SECONDS):
    """Damage, read, and write a line of what came of it."""
    rng = np.random.default_rng([seed, case])
    how, forged = bench.damage(rng)
    line = {"case": case, "target": bench.target.name, "how": how, "forged": forged}
    print(json.dumps(line), file=out, flush=True)
    signal.alarm(seconds)
    line["end"], line["detail"] = bench.run(forged)
    signal.alarm(0)
    print(json.dumps(line), file=out, flush=True)


def run_all(benches, seed, cases, file, seconds=SECONDS):
    """Run cases in forked processes; one that dies is counted, and the next goes on after it."""
    done = len(ended(file))
    while done < len(cases):
        child = os.fork()
        if not child:
            try:
                limit()
                # what a library says on its way is not of interest
                os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
                with file.open("a") as out:
                    for case in cases[done : done + 500]:
                        run_case(benches[case[1]], seed, case[0], out, seconds)
            except BaseException as error:
                with file.open("a") as out:
                    print(json.dumps({"case": -1, "broken": repr(error)[:500]}), file=out)
                os._exit(1)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        after = ended(file)
        if os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            line = last_begun(file)
            line |= {"end": "hang" if number == signal.SIGALRM else "crash", "detail": str(number)}
            with file.open("a") as out:
                print(json.dumps(line), file=out, flush=True)
            after = ended(file)
        elif os.WEXITSTATUS(status):
            raise RuntimeError(f"the bench itself broke, see the end of {file}")
        done = len(after)
        print(f"{done:6,} of {len(cases):,} cases", file=sys.stderr, flush=True)


def lines(file):
    """What was written down."""
    return [json.loads(line) for line in file.open()] if file.exists() else []


def ended(file):
    """Cases that have come to an end."""
    return [line for line in lines(file) if "end" in line]


def last_begun(file):
    """The case that a process died of."""
    return lines(file)[-1]


def table(results):
    """Rows of the table: a target each."""
    counts = defaultdict(Counter)
    for line in results:
        counts[line["target"]][line["end"]] += 1
        counts["all"][line["end"]] += 1
    head = ("cases", *FINE, *BAD)
    rows = [["target", *head]]
    for name in [*(target.name for target in TARGETS if target.name in counts), "all"]:
        row = counts[name]
        rows.append([name, str(row.total()), *(str(row[end]) for end in (*FINE, *BAD))])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def fuzz(n_cases, seed, folder, names="", seconds=SECONDS):
    """Run the cases that a folder lacks; give all results."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    targets = [target for target in TARGETS if names.lower() in target.name.lower()]
    benches = [Bench(target, folder / f"target-{i}") for i, target in enumerate(targets)]
    share = np.repeat(np.arange(len(targets)), [target.share for target in targets])
    cases = [(case, share[case % len(share)]) for case in range(n_cases)]
    run_all(benches, seed, cases, folder / "results.jsonl", seconds)
    return ended(folder / "results.jsonl")


def main():
    """Run and print the table, and an example of each way to fail."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=None, help="where results are kept")
    parser.add_argument("--target", default="", help="part of a target's name")
    parser.add_argument(
        "--seconds", type=int, default=SECONDS, help="a case at most; more on a busy machine"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder = folder.resolve()
        results = fuzz(options.cases, options.seed, folder, options.target, options.seconds)
        print(table(results))
        failed = [line for line in results if line["end"] in BAD]
        shown = {(line["target"], line["end"], line["detail"][:60]): line for line in failed}
        for line in shown.values():
            print(json.dumps(line))
        most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
        print(f"{len(failed)} of {len(results):,} cases failed; most memory held: {most:.2f} GiB")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
