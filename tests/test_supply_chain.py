"""`make audit` never takes silence for a clean result, and a licence that is not allowed fails."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(
    not (ROOT / "Makefile").exists() or shutil.which("make") is None,
    reason="make and the repository's Makefile are needed",
)
NUMPY = {"name": "numpy", "version": "2.0"}


@pytest.fixture
def audit(tmp_path):
    """Return a function that runs `make audit` with a pip-audit of the test's, in a made place."""
    tools = tmp_path / "venv" / "bin"
    tools.mkdir(parents=True)

    def write(name, script):
        (tools / name).write_text(f"#!/bin/sh\n{script}\n")
        (tools / name).chmod(0o755)

    write("python", "exit 1")
    write("pip", "echo numpy==2.0+cpu")
    write("pip-licenses", "exit 0")

    def run(entries, *more):
        answer = tmp_path / "answer.json"
        answer.write_text(json.dumps({"dependencies": entries or [], "fixes": []}))
        status = int(any(entry.get("vulns") for entry in entries or []))
        # Its last argument is where the report goes; without a network it writes none
        write("pip-audit", "exit 1" if entries is None else f"cp {answer} {report}; exit {status}")
        # What make finds newer than its sources is not installed anew
        (tmp_path / "venv" / ".installed-dev").touch()
        done = subprocess.run(
            ["make", "audit", f"VENV={tmp_path / 'venv'}", f"REPORTS={tmp_path}", *more],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    report = tmp_path / "audit.json"
    return run


def test_an_audit_without_advisories_is_clean(audit, tmp_path):
    status, told = audit([NUMPY | {"vulns": []}], "REQUIRE=1")
    assert status == 0
    assert not any(line.startswith("NOT AUDITED") for line in told.splitlines())
    # The index knows no local part of a version
    assert (tmp_path / "audited.txt").read_text() == "numpy==2.0\n"


def test_an_advisory_fails(audit):
    status, told = audit([NUMPY | {"vulns": [{"id": "OSV-1", "fix_versions": []}]}])
    assert status != 0
    assert any(line.startswith("Advisories are known") for line in told.splitlines())


@pytest.mark.parametrize(
    "entries",
    [
        None,
        [],
        [{"name": "numpy", "skip_reason": "Dependency not found on PyPI"}],
        [NUMPY | {"vulns": []}, {"name": "torch", "skip_reason": "Dependency not found on PyPI"}],
    ],
    ids=["no service", "nothing asked", "an index without advisories", "a package not known"],
)
def test_silence_is_no_clean_result(audit, entries):
    status, told = audit(entries)
    assert status == 0
    assert any(line.startswith("NOT AUDITED") for line in told.splitlines())
    assert audit(entries, "REQUIRE=1")[0] != 0


@pytest.mark.parametrize(
    ("licence", "allowed"),
    [
        ("License-Expression: MIT", True),
        ("Classifier: License :: OSI Approved :: MIT License", True),
        ("License-Expression: GPL-3.0-only", False),
        ("License-Expression: MIT AND GPL-3.0-only", False),
        ("License: Free for all good people", False),
        ("Summary: without any", False),
    ],
)
def test_a_licence_that_is_not_allowed_fails(tmp_path, licence, allowed):
    folder = tmp_path / "planted-1.0.dist-info"
    folder.mkdir()
    head = "Metadata-Version: 2.4\nName: planted\nVersion: 1.0"
    (folder / "METADATA").write_text(f"{head}\n{licence}\n")
    done = subprocess.run(
        [sys.executable, "-m", "piplicenses", "--packages", "planted"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode == 0) == allowed
    assert "planted" in (done.stdout if allowed else done.stderr)
