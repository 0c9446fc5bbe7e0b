"""The study as a credentialed user calls it, on made MIMIC-III files with a small random Llama."""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from sklearn_medfuse.datasets import Cohort, make_ehr_cohort

from ..ehr_tables import write_ehr_tables

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
# Parts of names: a searched peer, a blend, and the whole method with the tuned Llama
MODELS = ("TF-IDF", "blend A", "MEDFuse, fine-tuned")
# Of ten labels that are asked for, the made stays have two
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def mimic3(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "mimic3"
    cohort = make_ehr_cohort(60, n_labels=2, random_state=0)
    write_ehr_tables(cohort, folder, "mimic3", suffix=".csv")
    return folder


@pytest.fixture(scope="module")
def arguments(mimic3, tiny_llama):
    """What all calls have in common."""
    return (
        *("--mimic3", str(mimic3), "--index-time", "24h", "--model", tiny_llama),
        *("--fine-tuning", "lora", "--max-epochs", "1", "--seeds", "0", "--n-splits", "2"),
        *("--n-candidates", "2"),
    )


@pytest.fixture(scope="module")
def run_study():
    """Return a function that runs the study in this process, its models too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        for folder in (BENCHMARKS, BENCHMARKS / "study"):
            patch.syspath_prepend(str(folder))
        before = set(sys.modules)
        study, one_model = map(importlib.import_module, ("study.__main__", "one_model"))

        def predict(folder, name, seed, n_splits):
            one_model.main(folder, name, seed)
            return True

        patch.setattr(study, "run", predict)

        def run(folder, *arguments):
            study.main(["--folder", str(folder), *arguments])

        run.one_model = one_model
        yield run
        # Names as short as theirs may be others' too
        for name in set(sys.modules) - before:
            if str(getattr(sys.modules[name], "__file__", "")).startswith(str(BENCHMARKS)):
                del sys.modules[name]


@pytest.fixture(scope="module")
def study(run_study, arguments, tmp_path_factory):
    """Folder of a finished study."""
    folder = tmp_path_factory.mktemp("study") / "here"
    run_study(folder, *arguments, "--models", *MODELS)
    return folder


def test_every_model_predicts_every_stay_once(study):
    places = sorted((study / "predictions").iterdir())
    assert len(places) == len(MODELS)
    for place in places:
        found = pd.concat([pd.read_parquet(file) for file in place.glob("*.parquet")])
        assert sorted(found["row"]) == list(range(len(found)))
        decided = found.filter(like=" decided")
        labels = found[decided.columns.str.removesuffix(" decided")]
        assert labels.shape[1] >= 2
        assert labels.to_numpy().min() >= 0
        assert labels.to_numpy().max() <= 1
        assert decided.dtypes.eq(bool).all()
        # Higher probabilities are decided as positive within a fold
        for file in place.glob("*.parquet"):
            fold = pd.read_parquet(file)
            for label in labels:
                positive = fold[f"{label} decided"]
                assert not fold[label][positive].min() < fold[label][~positive].max()


def test_the_search_sees_no_row_of_the_fold_it_reports_on(run_study, study, monkeypatch):
    """Neither training rows nor the candidate chosen change with the labels held out."""
    one_model = run_study.one_model
    cohort, settings = one_model.read_cohort(study), one_model.read_settings(study)
    train, test = one_model.hospital_folds(cohort, 2, 0)[0]
    seen = []
    fit = one_model.fit
    monkeypatch.setattr(
        one_model, "fit", lambda model, known: [seen.append(known), fit(model, known)][1]
    )
    name = "notes: TF-IDF + logistic"
    arguments = (settings, name, 0, train, test, study)
    found = one_model.predict_fold(cohort, *arguments)
    # Two candidates on three folds, and the last fit
    assert len(seen) == 7
    held_out = set(cohort.groups.iloc[test])
    assert all(held_out.isdisjoint(known.groups) for known in seen)
    assert all(len(known.y) < len(train) for known in seen[:-1])
    changed = cohort.select(range(len(cohort.y)))
    changed["y"] = cohort.y.copy()
    changed.y.iloc[test] = 1 - cohort.y.iloc[test]
    again = one_model.predict_fold(changed, *arguments)
    drop = ["search_seconds", "fit_seconds", "predict_seconds", "peak_bytes"]
    pd.testing.assert_frame_equal(found.drop(columns=drop), again.drop(columns=drop))


def test_the_tables_stand_between_the_marks_of_a_page(run_study, study, arguments, tmp_path):
    page = tmp_path / "page.rst"
    marks = ".. tables of MIMIC-III begin", ".. tables of MIMIC-III end"
    page.write_text(f"before\n\n{marks[0]}\nold\n{marks[1]}\nafter\n", encoding="utf-8")
    run_study(study, *arguments, "--models", *MODELS, "--page", str(page))
    text = page.read_text(encoding="utf-8")
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "\nold\n" not in text
    assert "MEDFuse, fine-tuned" in text


def test_the_page_has_the_tables_and_no_note(study):
    page = (study / "results.rst").read_text(encoding="utf-8")
    for title in ("Ranking", "Decisions and probabilities", "What the searches chose", "Cost"):
        assert title in page
    notes = Cohort.from_parquet(study / "cohort").X["note"].dropna()
    sentences = {part for note in notes for part in re.split(r"(?<=\.)\s+", note)}
    assert len(sentences) > 20
    assert [sentence for sentence in sentences if sentence in page] == []
    ranking = page.split("Decisions and probabilities")[0]
    assert all(part in ranking for part in MODELS)
    assert study.stat().st_mode & 0o077 == 0


def test_a_name_that_no_model_has_is_refused(run_study, study, arguments):
    with pytest.raises(SystemExit, match="No model has a name with 'no such model'"):
        run_study(study, *arguments, "--models", "no such model")


def test_what_is_there_is_not_predicted_again(run_study, study, arguments):
    files = sorted((study / "predictions").rglob("*.parquet"))
    before = [file.stat().st_mtime_ns for file in files]
    files[-1].unlink()
    run_study(study, *arguments, "--models", *MODELS)
    after = [file.stat().st_mtime_ns for file in files]
    assert after[:-1] == before[:-1]
    assert after[-1] > before[-1]


def test_a_folder_keeps_to_its_settings(run_study, study, arguments):
    with pytest.raises(SystemExit, match="other settings"):
        run_study(study, *arguments, "--n-splits", "3")


@pytest.mark.slow
def test_the_command(arguments, tmp_path):
    """Each model is predicted in a process of its own."""
    done = subprocess.run(
        [
            *(sys.executable, BENCHMARKS / "study", "--folder", tmp_path / "study", *arguments),
            *("--models", "TF-IDF", "labs: HistGradientBoosting"),
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "tables:" in done.stdout
    assert (tmp_path / "study" / "results.rst").exists()
