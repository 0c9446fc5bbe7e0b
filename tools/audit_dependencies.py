"""Ask by pip-audit whether advisories are known for the packages that users install.

pip-audit says "No known vulnerabilities" and exits with 0 where an index holds packages but no
advisories, as mirrors do, and fails with a traceback where there is no network. Both are told apart
from a clean result here: every package counts as audited or as not audited, and a result is clean
only where all were. An advisory that is accepted stands in pyproject.toml under
``[tool.audit_dependencies]``, with the reason.

    python tools/audit_dependencies.py [--require] [--osv-url URL]

Exit status: 0 clean, or not audited (a notice says so, loudly); 1 an advisory was found; 2 with
``--require``, not all packages could be audited. The report is ``artifacts/audit.json``, and beside
it ``audited.txt`` holds the versions, to be audited on a machine with a network:
``pip-audit -r audited.txt --no-deps --disable-pip``.
"""

import argparse
import datetime as dt
import json
import subprocess
import sys
import tomllib
from pathlib import Path

from runtime_dependencies import runtime_dependencies

ROOT = Path(__file__).parents[1]
# the second is asked where the first knows none of the packages or does not answer
SERVICES = ("pypi", "osv")
SECONDS = 300


def main(arguments=None):
    """Audit, write the report, and print what was found; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--require", action="store_true", help="fail where an audit is not whole")
    parser.add_argument("--osv-url", help="ask this OSV service alone, for instance one's own")
    parser.add_argument("--folder", type=Path, default=ROOT / "artifacts")
    options = parser.parse_args(arguments)
    options.folder.mkdir(exist_ok=True)
    installed, missing = runtime_dependencies()
    listed = options.folder / "audited.txt"
    listed.write_text("".join(f"{name}=={version}\n" for name, version in installed.items()))
    service, found = first_answer(listed, options.osv_url)
    audited = [entry for entry in found if "vulns" in entry]
    advisories = advisories_of(audited, accepted_advisories())
    left = sorted(set(installed) - {entry["name"] for entry in audited})
    report = options.folder / "audit.json"
    if audited:
        write_report(report, service, installed, left, advisories)
    print_result(installed, audited, left, missing, advisories, report)
    if any(not advisory["accepted"] for advisory in advisories):
        return 1
    return 2 if left and options.require else 0


def first_answer(listed, osv_url):
    """Ask the services in turn; give the first that knew a package and its entries."""
    for service in ("osv",) if osv_url else SERVICES:
        found, trouble = ask(service, listed, osv_url)
        if any("vulns" in entry for entry in found):
            return service, found
        print(f"{service}: {trouble or 'knows none of the packages'}")
    return None, []


def ask(service, listed, osv_url=None):
    """Entries of pip-audit's report, and what it said where it wrote none."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(listed)]
    command += ["--no-deps", "--disable-pip", "--progress-spinner", "off"]
    command += ["-s", service, "--format", "json", "--desc", "off", "--aliases", "off"]
    command += ["--osv-url", osv_url] if osv_url else []
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return [], f"no answer within {SECONDS} seconds"
    if done.returncode not in (0, 1):
        raise RuntimeError(f"pip-audit could not be run: {done.stderr}")
    if done.stdout:
        return json.loads(done.stdout)["dependencies"], None
    return [], done.stderr.strip().rpartition("\n")[-1][:300]


def accepted_advisories():
    """Id → reason of the advisories that pyproject.toml accepts."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return settings["tool"].get("audit_dependencies", {}).get("accepted", {})


def advisories_of(audited, accepted):
    """Give a row per package and advisory; `accepted` holds the reason, or None."""
    return [
        {
            "package": f"{entry['name']}=={entry['version']}",
            "id": advisory["id"],
            "fixed_in": advisory["fix_versions"],
            "accepted": accepted.get(advisory["id"]),
        }
        for entry in audited
        for advisory in entry["vulns"]
    ]


def write_report(path, service, installed, left, advisories):
    """Write what was asked, when, and what was found."""
    today = dt.datetime.now(dt.UTC).date().isoformat()
    audited = {name: version for name, version in installed.items() if name not in left}
    report = {"date": today, "service": service, "audited": audited, "not_audited": left}
    path.write_text(json.dumps({**report, "advisories": advisories}, indent=1) + "\n")


def print_result(installed, audited, left, missing, advisories, report):
    """Print advisories, then what the audit covers."""
    for advisory in advisories:
        fix = ", ".join(advisory["fixed_in"]) or "no release yet"
        reason = f"; accepted: {advisory['accepted']}" if advisory["accepted"] else ""
        print(f"{advisory['package']}: {advisory['id']}, fixed in {fix}{reason}")
    if missing:
        print(f"not installed here, so not audited: {', '.join(missing)}")
    if not left:
        print(f"{len(audited)} packages audited, {len(advisories)} advisories")
        return
    print(f"NOT AUDITED: {len(left)} of {len(installed)} packages. This is no clean result.")
    if audited:
        print(f"The service does not know: {', '.join(left)}")
        return
    print(last_audit(report, installed))


def last_audit(report, installed):
    """Say what the last report that was written covers of the versions installed now."""
    if not report.exists():
        return f"They were never audited here; {report.with_name('audited.txt')} lists them."
    last = json.loads(report.read_text())
    same = sum(last["audited"].get(name) == version for name, version in installed.items())
    return (
        f"Last audited on {last['date']}: {same} of the {len(installed)} in these versions, "
        f"{len(last['advisories'])} advisories."
    )


if __name__ == "__main__":
    sys.exit(main())
