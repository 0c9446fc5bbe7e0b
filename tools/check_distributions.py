"""Look into a wheel and a source distribution, and build them again.

    python tools/check_distributions.py [FOLDER]

The wheel holds the package alone, with its data, its licences and py.typed; the source distribution
all that `make check` needs. Both are then built again, from the unpacked source distribution whose
files are given another date, in a place without git: the bits must be the same.
Exit status: 0 without a fault.
"""

import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from email.parser import Parser
from pathlib import Path

ROOT = Path(__file__).parents[1]
IN_WHEEL = (
    "sklearn_medfuse/__init__.py",
    "sklearn_medfuse/py.typed",
    "sklearn_medfuse/datasets/data/LICENSE-ODbL.txt",
    "sklearn_medfuse/datasets/data/eicu_demo/",
    ".dist-info/licenses/LICENSE",
    ".dist-info/licenses/sklearn_medfuse/datasets/data/LICENSE-ODbL.txt",
)
IN_SOURCE = (
    "CHANGELOG.md",
    "CITATION.cff",
    "CONTRIBUTING.md",
    "LICENSE",
    "Makefile",
    "PKG-INFO",
    "README.md",
    "benchmarks/",
    "constraints-latest.txt",
    "constraints-min.txt",
    "constraints.txt",
    "docs/conf.py",
    "examples/",
    "pyproject.toml",
    "sklearn_medfuse/__init__.py",
    "tests/conftest.py",
    "tests/golden/",
    "tools/check_distributions.py",
)
# of the year 2001, so that it would show
ANOTHER_DATE = 1_000_000_000


def main(folder=ROOT / "dist"):
    """Print the faults; return 1 if there is one."""
    wheel, source = only(folder, "*.whl"), only(folder, "*.tar.gz")
    faults = [*wheel_faults(wheel), *source_faults(source), *rebuild_faults(wheel, source)]
    print("\n".join([*faults, f"{wheel.name}, {source.name}: {len(faults)} faults"]))
    return int(bool(faults))


def only(folder, pattern):
    """The one file of a pattern in a folder."""
    (found,) = Path(folder).glob(pattern)
    return found


def wheel_faults(wheel):
    """What is missing in a wheel, or should not be there."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        headers = Parser().parsestr(archive.read(metadata).decode())
    tops = {name.partition("/")[0] for name in names}
    folder = metadata.partition("/")[0]
    if tops != {"sklearn_medfuse", folder}:
        yield f"the wheel holds more than the package: {sorted(tops)}"
    for part in IN_WHEEL:
        if not any(part in name for name in names):
            yield f"the wheel lacks {part}"
    on_disk = {str(path.relative_to(ROOT)) for path in tracked("sklearn_medfuse")}
    different = on_disk ^ {name for name in names if not name.startswith(folder)}
    if different:
        yield f"wheel and tree differ in {sorted(different)}"
    if headers["License-Expression"] != "BSD-3-Clause":
        yield f"the licence in the metadata is {headers['License-Expression']}"
    if "License ::" in str(headers.get_all("Classifier")):
        yield "a classifier names a licence beside the expression"


def tracked(folder):
    """Files below a folder of the tree, without what Python leaves there."""
    found = (ROOT / folder).rglob("*")
    return [path for path in found if path.is_file() and "__pycache__" not in path.parts]


def source_faults(source):
    """What a source distribution lacks, or should not hold."""
    with tarfile.open(source) as archive:
        names = [name.partition("/")[2] for name in archive.getnames()]
    for part in IN_SOURCE:
        if not any(name.startswith(part) for name in names):
            yield f"the source distribution lacks {part}"
    left = [name for name in names if "__pycache__" in name or "_build/" in name]
    if left:
        yield f"the source distribution holds what was left by tools: {left[:3]}"


def rebuild_faults(wheel, source):
    """Where a second build from the source distribution gives other bits."""
    with tempfile.TemporaryDirectory() as name:
        with tarfile.open(source) as archive:
            archive.extractall(name, filter="data")
        (tree,) = Path(name).iterdir()
        for path in tree.rglob("*"):
            os.utime(path, (ANOTHER_DATE, ANOTHER_DATE))
        again = Path(name) / "again"
        command = [sys.executable, "-m", "build", "--outdir", str(again), str(tree)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        for first in (wheel, source):
            if digest(again / first.name) != digest(first):
                yield f"{first.name} is another one when it is built again"


def digest(path):
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
