"""The page that a CUDA GPU is checked with is written on a CPU too, with tiny sizes."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu_check.py"
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def gpu_check():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        spec = importlib.util.spec_from_file_location("gpu_check", SCRIPT)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module


def outcomes(page):
    rows = [line.split("|") for line in page.read_text(encoding="utf-8").splitlines()]
    return {row[1].strip(): row[2].strip() for row in rows if len(row) == 5}


def test_every_section_runs_or_says_what_it_needs(gpu_check, tmp_path):
    page = tmp_path / "page.md"
    status = gpu_check.main([str(page), "--tiny", "--here", "--device", "cpu"])
    found = outcomes(page)
    needing = dict.fromkeys(("out of memory", "4 bits", "compiled"), "no CUDA GPU")
    for name in gpu_check.SECTIONS:
        if name in needing:
            assert needing[name] in found[name]
        elif name == "device_map" and "accelerate" in found[name]:
            continue
        else:
            assert found[name] == "passed", page.read_text(encoding="utf-8")
    assert status == 0
    text = page.read_text(encoding="utf-8")
    assert "greatest difference on a CPU" in text


def test_a_section_that_fails_does_not_stop_the_page(gpu_check, tmp_path, monkeypatch):
    def fail(size, device, folder):
        """Fails."""
        yield "before", 1
        raise RuntimeError("CUDA error: an illegal memory access")

    monkeypatch.setitem(gpu_check.SECTIONS, "labs", (fail, 60))
    page = tmp_path / "page.md"
    arguments = [str(page), "--tiny", "--here", "--device", "cpu"]
    assert gpu_check.main([*arguments, "--sections", "labs", "machine"]) == 1
    found = outcomes(page)
    assert (found["labs"], found["machine"]) == ("FAILED", "passed")
    text = page.read_text(encoding="utf-8")
    assert "| before | 1 |" in text
    assert "illegal memory access" in text


@pytest.mark.slow
def test_a_section_ends_at_its_limit(gpu_check, tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    monkeypatch.setitem(gpu_check.SECTIONS, "machine", (gpu_check.machine, 0.2))
    assert gpu_check.main([str(page), "--tiny", "--device", "cpu", "--sections", "machine"]) == 1
    assert outcomes(page)["machine"] == "FAILED: stopped at its limit"


@pytest.mark.slow
def test_each_section_has_a_process_of_its_own(tmp_path):
    page = tmp_path / "page.md"
    command = [sys.executable, SCRIPT, page, "--tiny", "--device", "cpu"]
    done = subprocess.run(
        [*command, "--sections", "labs", "fusion"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + page.read_text(encoding="utf-8")
    assert {outcomes(page)[name] for name in ("labs", "fusion")} == {"passed"}


def test_without_a_gpu_real_sizes_are_refused(gpu_check, tmp_path, capsys):
    with pytest.raises(SystemExit):
        gpu_check.main([str(tmp_path / "page.md"), "--device", "cpu"])
    assert "--tiny" in capsys.readouterr().err
