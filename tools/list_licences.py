"""List the licences of the packages that users install, and refuse one that is not allowed.

pip-licenses reads them from the metadata. What is allowed stands in pyproject.toml under
``[tool.list_licences]`` as SPDX identifiers, beside the names that older metadata use for them. Of
licences joined by AND each must be allowed, of those joined by OR one. A package without a licence
in its metadata, or with one that is not known, is refused until somebody has looked.

    python tools/list_licences.py

Exit status: 0 all are allowed; 1 otherwise. The report is ``artifacts/licences.md``.
"""

import argparse
import json
import subprocess
import sys
import tomllib
from pathlib import Path

from license_expression import ExpressionError, get_spdx_licensing
from packaging.utils import canonicalize_name
from runtime_dependencies import runtime_dependencies

ROOT = Path(__file__).parents[1]
SPDX = get_spdx_licensing()


def main(arguments=None):
    """Write the report and print what is not allowed; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--settings", type=Path, default=ROOT / "pyproject.toml")
    parser.add_argument("--folder", type=Path, default=ROOT / "artifacts")
    options = parser.parse_args(arguments)
    text = options.settings.read_text(encoding="utf-8")
    settings = tomllib.loads(text)["tool"]["list_licences"]
    installed, missing = runtime_dependencies()
    rows = [(*row, expression(*row, settings)) for row in licences(list(installed))]
    refused = [row for row in rows if not is_allowed(row[-1], settings["allowed"])]
    options.folder.mkdir(exist_ok=True)
    (options.folder / "licences.md").write_text(report(rows, installed, missing))
    for name, told, found in refused:
        print(f"{name}: {told} ({found or 'not known'}) is not among the allowed licences")
    if missing:
        print(f"not installed here, so not listed: {', '.join(missing)}")
    print(f"{len(rows)} packages, {len(refused)} with a licence that is not allowed")
    return int(bool(refused))


def licences(names):
    """Give (package, licence as its metadata have it), an expression before a classifier."""
    command = [sys.executable, "-m", "piplicenses", "--from", "mixed", "--format", "json"]
    command += ["--with-system", "--packages", *names]
    listed = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    told = {canonicalize_name(entry["Name"]): entry["License"] for entry in listed}
    return [(name, told.get(name, "UNKNOWN")) for name in names]


def expression(name, told, settings):
    """SPDX expression of a licence, "" where it is not known."""
    told = settings.get("packages", {}).get(name, told)
    parts = [settings["names"].get(part, part) for part in told.split("; ")]
    joined = " AND ".join(parts)
    try:
        return "" if SPDX.unknown_license_keys(joined) else str(SPDX.parse(joined))
    except ExpressionError:
        return ""


def is_allowed(found, allowed):
    """Whether an SPDX expression holds with the allowed licences alone."""
    return bool(found) and _holds(SPDX.parse(found), set(allowed))


def _holds(part, allowed):
    if isinstance(part, SPDX.AND):
        return all(_holds(each, allowed) for each in part.args)
    if isinstance(part, SPDX.OR):
        return any(_holds(each, allowed) for each in part.args)
    return str(part) in allowed


def report(rows, installed, missing):
    """Table of packages, versions and licences in Markdown."""
    lines = ["| package | version | licence |", "|---|---|---|"]
    for name, told, found in rows:
        lines.append(f"| {name} | {installed[name]} | {found or told} |")
    if missing:
        lines += ["", f"Not installed where this was written: {', '.join(missing)}."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
