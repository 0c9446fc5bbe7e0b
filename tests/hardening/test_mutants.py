"""The tests of the method see the mistakes that they were written to see."""

import os
import subprocess
import sys

import pytest

from .conftest import ROOT

TOOL = ROOT / "tools" / "measure_mutants.py"


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="a process is forked for each mutant")
@pytest.mark.skipif(not TOOL.exists(), reason="the repository's tools are needed")
def test_mistakes_in_the_method_turn_a_test_red():
    done = subprocess.run(
        [sys.executable, TOOL, "--fixed"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("caught") == len(done.stdout.splitlines()) > 10
