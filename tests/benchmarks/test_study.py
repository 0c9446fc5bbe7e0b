"""The study as a credentialed user calls it, on made MIMIC-III files with a small random Llama."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from sklearn_medfuse.datasets import make_ehr_cohort

from ..ehr_tables import write_ehr_tables

ROOT = Path(__file__).parents[2]
# Parts of names: one peer, and the whole method with the tuned Llama
MODELS = ("TF-IDF", "all views, fine-tuned")


def run_study(folder, *arguments):
    command = [sys.executable, ROOT / "benchmarks" / "study", "--folder", folder, *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


@pytest.fixture(scope="module")
def mimic3(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "mimic3"
    cohort = make_ehr_cohort(60, n_labels=2, random_state=0)
    write_ehr_tables(cohort, folder, "mimic3", suffix=".csv", random_state=0)
    return folder


@pytest.fixture(scope="module")
def study(mimic3, tiny_llama, tmp_path_factory):
    """Folder of a finished study, its arguments, and what it printed."""
    folder = tmp_path_factory.mktemp("study") / "here"
    arguments = (
        *("--mimic3", mimic3, "--index-time", "24h", "--model", tiny_llama),
        *("--fine-tuning", "lora", "--max-epochs", "1"),
        *("--seeds", "0", "--n-splits", "2", "--models", *MODELS),
    )
    done = run_study(folder, *arguments)
    assert done.returncode == 0, done.stderr
    return folder, arguments, done.stdout


def test_every_model_predicts_every_stay_once(study):
    folder, _, _ = study
    places = sorted((folder / "predictions").iterdir())
    assert len(places) == len(MODELS)
    for place in places:
        found = pd.concat([pd.read_parquet(file) for file in place.glob("*.parquet")])
        assert sorted(found["row"]) == list(range(len(found)))
        labels = found.drop(columns=["row", "fit_seconds", "predict_seconds", "peak_bytes"])
        assert labels.shape[1] >= 2
        assert labels.to_numpy().min() >= 0
        assert labels.to_numpy().max() <= 1


def test_the_report_has_the_tables_and_no_note(study):
    folder, _, printed = study
    page = (folder / "report.html").read_text(encoding="utf-8")
    for title in ("MEDFuse and its peers", "Decisions", "Calibration", "Cost", "Subgroups"):
        assert title in page
    assert "Medication" not in page
    assert "report:" in printed
    table = pd.read_parquet(folder / "tables" / "medfuse-and-its-peers.parquet")
    assert len(table) == len(MODELS)
    assert folder.stat().st_mode & 0o077 == 0


def test_a_name_that_no_model_has_is_refused(study):
    folder, arguments, _ = study
    done = run_study(folder, *arguments, "no such model")
    assert done.returncode == 1
    assert "No model has a name with 'no such model'" in done.stderr


def test_what_is_there_is_not_predicted_again(study):
    folder, arguments, _ = study
    files = sorted((folder / "predictions").rglob("*.parquet"))
    before = [file.stat().st_mtime_ns for file in files]
    files[-1].unlink()
    done = run_study(folder, *arguments)
    assert done.returncode == 0, done.stderr
    after = [file.stat().st_mtime_ns for file in files]
    assert after[:-1] == before[:-1]
    assert after[-1] > before[-1]


def test_a_folder_keeps_to_its_settings(study):
    folder, arguments, _ = study
    done = run_study(folder, *arguments, "--n-splits", "3")
    assert done.returncode == 1
    assert "other settings" in done.stderr
