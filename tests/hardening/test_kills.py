"""Work that is killed at any moment loses nothing: the same call again gives the same bits."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .scale import SCALE

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the jobs are forked")


def kill(model, jobs, times):
    """Kill each job so often; give the rows of the table."""
    command = [sys.executable, "-m", "tests.hardening.kills", "--model", model]
    done = subprocess.run(
        [*command, "--times", str(times), "--jobs", *jobs],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout)
    return done.stdout.splitlines()[1:]


def test_a_killed_fit_loses_nothing(tiny_bert):
    assert len(kill(tiny_bert, ["labs"], 1)) == 1


@pytest.mark.slow
def test_killed_work_loses_nothing(tiny_bert):
    jobs = ["labs", "notes", "cache"]
    assert len(kill(tiny_bert, jobs, 3 * SCALE)) == len(jobs)
