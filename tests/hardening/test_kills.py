"""A small version of the benchmark that kills every kind of work at any moment, and resumes it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the jobs are forked")
def test_killed_work_loses_nothing():
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "hardening_faults.py", "--times", "3"],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.split() for line in done.stdout.splitlines() if line and line.split()[-1] == "0"]
    # each job once when it is done, and in the table
    assert len(rows) == 2 * 3
