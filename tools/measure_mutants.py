"""Change the code in small ways, one at a time, and see whether a test fails for each of them.

    python tools/measure_mutants.py [--sample 240] [--seed 0] [--only labs] [--again]
    python tools/measure_mutants.py --fixed

A mutant has one comparison, sign, constant, `and`, `not`, argument or statement changed. The tests
that ran the changed function run on it, the quickest first, until one fails. The sample is the same
for the same code and seed, and stratified by file. What was found stands in `--results` after each
mutant: the same command goes on where it was interrupted, `--again` tries survivors anew.
tools/equivalent_mutants.toml lists mutants that change no result, and why. `--fixed` tries those
of tools/fixed_mutants.toml instead.

A child is forked for each mutant after torch and the like are imported, and imports the package
with the changed file: a mutant costs a second and its tests. (mutmut leaves out decorated methods
and constants of modules; cosmic-ray imports torch anew for each mutant.) One thread, Linux only.
CONTRIBUTING.md has the score.
"""

import argparse
import ast
import copy
import importlib
import json
import os
import random
import resource
import signal
import sys
import threading
import time
import tomllib
import traceback
from collections import Counter, defaultdict
from importlib.machinery import SourceFileLoader
from pathlib import Path

for _threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_threads] = "1"
os.environ |= {"MPLBACKEND": "Agg", "HF_HUB_OFFLINE": "1"}

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "sklearn_medfuse"
FOLDERS = ("_nn", "fusion", "labs", "metrics")
TESTS = (
    "nn",
    "fusion",
    "labs",
    "metrics",
    "inspection",
    "test_common.py",
    "test_golden.py",
    "test_pipeline.py",
)
# What takes long to import, so that no child has to
LIBRARIES = ("torch", "pandas", "skorch", "sklearn.utils.estimator_checks", "transformers")
LIBRARIES += ("transformers.models.bert.modeling_bert", "matplotlib.pyplot", "skops.io", "pytest")
LIBRARIES += ("scipy.stats", "sklearn.ensemble", "safetensors.torch", "torch._dynamo", "polars")
SECONDS = 60.0  # Of tests for one mutant, as measured on the code as it is
CAUGHT, SURVIVED = "caught", "survived"

COMPARED = {
    ast.Lt: ast.LtE,
    ast.Gt: ast.GtE,
    ast.Eq: ast.NotEq,
    ast.Is: ast.IsNot,
    ast.In: ast.NotIn,
}
COMPARED |= {new: old for old, new in COMPARED.items()}
COMBINED = {ast.Add: ast.Sub, ast.Mult: ast.Div, ast.BitAnd: ast.BitOr, ast.And: ast.Or}
COMBINED |= {new: old for old, new in COMBINED.items()} | {
    ast.FloorDiv: ast.Mult,
    ast.Pow: ast.Mult,
}


# Mutants


class Finder(ast.NodeVisitor):
    """Collect (line, function, node, what is changed, the changed copy of the node)."""

    def __init__(self):
        self.found, self.inside, self.parameters = [], [], []

    def add(self, node, **changed):
        """Note a copy of a node with other fields."""
        new = copy.copy(node)
        new.__dict__ |= changed
        self.replace(node, new)

    def replace(self, node, new):
        """Note another node in the place of one."""
        function = ".".join(self.inside[:-1]) if self.parameters else ""
        self.found.append((node, function, new))

    def visit_FunctionDef(self, node):
        arguments = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
        self.inside += [node.name, "<locals>"]
        names = [each.arg for each in arguments if each.arg not in ("self", "cls")]
        self.parameters.append(names)
        for default in [*node.args.defaults, *filter(None, node.args.kw_defaults)]:
            self.visit(default)
        for statement in node.body:
            self.visit(statement)
        self.parameters.pop()
        del self.inside[-2:]

    def visit_ClassDef(self, node):
        self.inside.append(node.name)
        for statement in node.body:
            self.visit(statement)
        self.inside.pop()

    def visit_AnnAssign(self, node):
        if node.value is not None:
            self.visit(node.value)

    def visit_Return(self, node):
        for name in self.parameters[-1][:1] if node.value is not None else ():
            if not (isinstance(node.value, ast.Name) and node.value.id == name):
                self.add(node, value=ast.Name(name, ast.Load()))
        self.generic_visit(node)

    def visit_Expr(self, node):
        if isinstance(node.value, ast.Call):
            self.replace(node, ast.Pass())
        self.generic_visit(node)

    def visit_Raise(self, node):
        # The text of an error is none of the mutants' business
        self.replace(node, ast.Pass())

    def visit_AugAssign(self, node):
        self.replace(node, ast.Pass())
        if type(node.op) in COMBINED:
            self.add(node, op=COMBINED[type(node.op)]())
        self.generic_visit(node)

    def visit_Assign(self, node):
        if all(isinstance(target, ast.Attribute | ast.Subscript) for target in node.targets):
            self.replace(node, ast.Pass())
        self.generic_visit(node)

    def visit_Compare(self, node):
        if type(node.ops[0]) in COMPARED:
            self.add(node, ops=[COMPARED[type(node.ops[0])](), *node.ops[1:]])
        self.generic_visit(node)

    def visit_BinOp(self, node):
        is_text = any(isinstance(part, ast.JoinedStr) for part in (node.left, node.right))
        if type(node.op) in COMBINED and not is_text:
            self.add(node, op=COMBINED[type(node.op)]())
        self.generic_visit(node)

    def visit_BoolOp(self, node):
        self.add(node, op=COMBINED[type(node.op)]())
        self.generic_visit(node)

    def visit_UnaryOp(self, node):
        self.replace(node, node.operand)
        self.generic_visit(node)

    def visit_Call(self, node):
        if all(isinstance(part, ast.Name | ast.Attribute) for part in [*node.args, node][:2]):
            self.add(node, args=[node.args[1], node.args[0], *node.args[2:]])
        if getattr(node.func, "id", "") != "cast":
            self.generic_visit(node)

    def visit_keyword(self, node):
        # Where a warning points to, and what numpy should not warn of
        if node.arg not in ("stacklevel", "strict"):
            self.generic_visit(node)

    def visit_Constant(self, node):
        if isinstance(node.value, bool):
            self.add(node, value=not node.value)
        elif isinstance(node.value, int | float):
            self.add(node, value=node.value + 1)
            self.add(node, value=node.value - 1)


def mutants_of(path):
    """Yield each mutant of a file: name, function, line before and after, and its tree."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    finder = Finder()
    finder.visit(tree)
    seen = Counter()
    for node, function, new in finder.found:
        before, after = (" ".join(ast.unparse(each).split()) for each in (node, new))
        if before == after:
            continue
        what = f"{path.relative_to(PACKAGE)} | {function} | {before[:120]} -> {after[:120]}"
        seen[what] += 1
        name = what if seen[what] == 1 else f"{what} | {seen[what]}"
        yield name, function, node, new


def code_of(path, node, new):
    """Compile a file with one node replaced."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    place = (type(node), node.lineno, node.col_offset, node.end_lineno, node.end_col_offset)

    class Replace(ast.NodeTransformer):
        def visit(self, each):
            found = (type(each), *(getattr(each, name, None) for name in each._attributes))
            return ast.copy_location(new, each) if found == place else self.generic_visit(each)

    return compile(ast.fix_missing_locations(Replace().visit(tree)), str(path), "exec")


def sample_of(mutants, size, seed):
    """Draw mutants: of each file its share, but two at least."""
    by_file = defaultdict(list)
    for mutant in mutants:
        by_file[mutant[0].split(" | ")[0]].append(mutant)
    rng, drawn = random.Random(seed), []
    for of_file in by_file.values():
        n = max(2, round(size * len(of_file) / len(mutants)))
        drawn += rng.sample(of_file, min(n, len(of_file)))
    return drawn


# Tests on a mutant, in a process of its own


class Recorder:
    """Plugin of pytest that notes which functions each test runs, and its processor time."""

    def __init__(self):
        self.functions, self.seconds, self.now = defaultdict(set), Counter(), set()

    def trace(self, frame, event, argument):
        file = frame.f_code.co_filename
        if file.startswith(str(PACKAGE)):
            self.now.add(f"{file[len(str(PACKAGE)) + 1 :]}::{frame.f_code.co_qualname}")

    def pytest_runtest_logstart(self, nodeid):
        self.now, self.began = set(), time.process_time()
        threading.settrace(self.trace)
        sys.settrace(self.trace)

    def pytest_runtest_logreport(self, report):
        # What a fixture runs may serve later tests of the file too
        owner = report.nodeid if report.when != "setup" else report.nodeid.split("::")[0]
        self.functions[owner] |= self.now
        self.functions[report.nodeid] |= self.now
        self.now = set()
        if report.when == "teardown":
            sys.settrace(None)
            threading.settrace(None)
            self.seconds[report.nodeid] += time.process_time() - self.began


class Chosen:
    """Plugin of pytest that keeps some tests, in the order given."""

    def __init__(self, tests):
        self.place = {test: place for place, test in enumerate(tests)}

    def pytest_collection_modifyitems(self, items):
        items[:] = sorted(
            (item for item in items if item.nodeid in self.place),
            key=lambda item: self.place[item.nodeid],
        )


def in_child(work, seconds):
    """Exit status of a function in a forked process; None where it takes too long."""
    pid = os.fork()
    if not pid:
        status = 70
        try:
            resource.setrlimit(resource.RLIMIT_CPU, (int(seconds), int(seconds) + 5))
            resource.setrlimit(resource.RLIMIT_DATA, (8 * 2**30,) * 2)
            signal.alarm(int(20 * seconds))
            sys.path.insert(0, str(ROOT))
            status = work()
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(status)
    _, status = os.waitpid(pid, 0)
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else None


def run_pytest(arguments, plugin, quiet=True):
    """Run pytest in this process."""
    import pytest

    if quiet:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
    options = ["-q", "-x", "-p", "no:cacheprovider", "-m", "not slow", "--rootdir", str(ROOT)]
    options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
    return int(pytest.main([*options, *map(str, arguments)], plugins=[plugin] if plugin else []))


def places_of(tests):
    """Files of tests, but folders of doctests: pytest imports files that it is given in its way."""
    files = {ROOT / test.split("::")[0] for test in tests}
    return sorted({file.parent if file.is_relative_to(PACKAGE) else file for file in files})


def try_mutant(path, code, tests, seconds, files=None):
    """Say whether a test fails with other code in a file."""
    plain = SourceFileLoader.get_code

    def get_code(loader, name):
        return code if loader.path == str(path) else plain(loader, name)

    def work():
        SourceFileLoader.get_code = get_code
        return run_pytest(files or places_of(tests), Chosen(tests) if tests else None)

    status = in_child(work, seconds)
    if status == 5:
        raise RuntimeError(f"No test was found among {tests[:3]}.")
    return SURVIVED if status == 0 else CAUGHT


def read_or_make_map(file, folders):
    """Functions and seconds of each test, measured on the code as it is."""
    if file.exists():
        return json.loads(file.read_text())

    def work():
        recorder = Recorder()
        places = [ROOT / "tests" / test for test in TESTS] + [PACKAGE / each for each in folders]
        status = run_pytest(places, recorder, quiet=False)
        functions = {test: sorted(found) for test, found in recorder.functions.items()}
        if status == 0:
            file.write_text(json.dumps({"functions": functions, "seconds": recorder.seconds}))
        return status

    if in_child(work, 4 * 3600) != 0:
        raise SystemExit("The tests fail on the code as it is, or take too long.")
    return json.loads(file.read_text())


def tests_of(where, function, measured, seconds):
    """Tests that ran a function, or any of its file: quick files first, up to some seconds."""

    def ran(test):
        return any(
            found == f"{where}::{function}" if function else found.startswith(f"{where}::")
            for found in measured["functions"].get(test, ())
        )

    chosen = [test for test in measured["seconds"] if ran(test) or ran(test.split("::")[0])]
    chosen.sort(key=lambda test: measured["seconds"][test])
    total, kept = 0.0, []
    for test in chosen:
        total += measured["seconds"][test]
        if kept and total > seconds:
            break
        kept.append(test)
    quick = defaultdict(float)
    for test in kept:
        quick[test.split("::")[0]] += measured["seconds"][test]
    order = sorted(kept, key=lambda test: (quick[test.split("::")[0]], measured["seconds"][test]))
    return order, min(total, seconds)


# Commands


def run_sample(options):
    """Try a sample of mutants, print what survives and the share that is caught."""
    options.results.mkdir(parents=True, exist_ok=True)
    measured = read_or_make_map(options.results / "tests.json", FOLDERS)
    log = options.results / "mutants.jsonl"
    known = dict(map(json.loads, log.read_text().splitlines() if log.exists() else ()))
    reasons = tomllib.loads((ROOT / "tools" / "equivalent_mutants.toml").read_text())
    equivalent = {each["mutant"] for each in reasons["equivalent"]}
    paths = [path for folder in FOLDERS for path in sorted((PACKAGE / folder).glob("*.py"))]
    everything = [(name, path, *rest) for path in paths for name, *rest in mutants_of(path)]
    results = {}
    for name, path, function, node, new in sample_of(everything, options.sample, options.seed):
        if options.only and options.only not in name:
            continue
        result = known.get(name)
        if result is None or (options.again and result != CAUGHT and name not in equivalent):
            where = str(path.relative_to(PACKAGE))
            tests, seconds = tests_of(where, function, measured, options.seconds)
            code = code_of(path, node, new)
            result = try_mutant(path, code, tests, 30 + 5 * seconds) if tests else "not run"
            with log.open("a") as stream:
                stream.write(json.dumps([name, result]) + "\n")
        results[name] = result
        if result != CAUGHT and name not in equivalent:
            print(f"{result}: line {node.lineno}: {name}", flush=True)
    summary = defaultdict(Counter)
    for name, result in results.items():
        kind = "equivalent" if result != CAUGHT and name in equivalent else result
        for row in (name.split("/")[0], "all"):
            summary[row][kind] += 1
    for row, counts in summary.items():
        n_real = sum(counts.values()) - counts["equivalent"]
        share = counts[CAUGHT] / max(n_real, 1)
        print(f"{row}: {counts[CAUGHT]} of {n_real} caught, {share:.1%}; {dict(counts)}")


def run_fixed():
    """Try the mutants of the list; return how many survive or fit the code no longer."""
    mutants = tomllib.loads((ROOT / "tools" / "fixed_mutants.toml").read_text())["mutant"]
    n_left = 0
    for mutant in mutants:
        path = PACKAGE / mutant["file"]
        source = path.read_text(encoding="utf-8")
        if source.count(mutant["old"]) != 1:
            result = f"to be renewed, {source.count(mutant['old'])} places are like it"
        else:
            code = compile(source.replace(mutant["old"], mutant["new"]), str(path), "exec")
            files = [ROOT / "tests" / file for file in mutant["tests"]]
            result = try_mutant(path, code, [], 120, files)
        n_left += result != CAUGHT
        print(f"{result}: {mutant['what']}", flush=True)
    return n_left


def main():
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fixed", action="store_true")
    parser.add_argument("--sample", type=int, default=240)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="part of the names of mutants")
    parser.add_argument("--again", action="store_true", help="try survivors anew")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of tests for one mutant")
    parser.add_argument("--results", type=Path, default=ROOT / "artifacts" / "mutants")
    options = parser.parse_args()
    os.chdir(ROOT)
    for library in LIBRARIES:
        importlib.import_module(library)
    return run_fixed() if options.fixed else run_sample(options)


if __name__ == "__main__":
    sys.exit(main())
