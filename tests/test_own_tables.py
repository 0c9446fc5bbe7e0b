"""The newcomer's script: from tables to a model, one new patient predicted and explained."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sklearn_medfuse.datasets import load_tables
from sklearn_medfuse.persistence import load_model

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "examples" / "own_tables.py"
SHARED = Path(os.environ.get("MEDFUSE_DATA", ROOT.parent / "shared" / "data"))
SIMULATED = SHARED / "hospital_sim"
# Kidney, heart, lung, weight, thyroid
CODES = ("N18.3", "I50.9", "J44.9", "E66.9", "E03.9")
TABLES = ("encounters", "lab_results", "notes", "diagnoses")
ENDINGS = (".parquet", ".csv.gz", ".csv", ".parquet")


def made_tables(n_stays=60):
    """Tables as a hospital's export has them: times as text, gaps, a stay without notes."""
    rng = np.random.default_rng(0)
    ids = [f"E{i:03}" for i in range(n_stays)]
    start = pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 9000, n_stays), "h")
    sick = rng.random((n_stays, len(CODES))) < 0.4
    encounters = pd.DataFrame(
        {
            "encounter_id": ids,
            "patient_id": [f"P{i // 2}" for i in range(n_stays)],
            "start": start.astype(str),
            "end": (start + pd.Timedelta("3D")).astype(str),
        }
    )
    labs = pd.DataFrame(
        {
            "encounter_id": np.repeat(ids, 2),
            "name": np.tile(["Creatinine", "BNP"], n_stays),
            "value": np.round(1 + sick[:, :2].ravel() + 0.3 * rng.random(2 * n_stays), 2),
            "unit": np.tile(["mg/dL", "ng/L"], n_stays),
            "time": np.repeat((start + pd.Timedelta("2h")).astype(str), 2),
        }
    ).sample(frac=0.8, random_state=0)
    notes = pd.DataFrame(
        {
            "encounter_id": ids,
            "time": (start + pd.Timedelta("1h")).astype(str),
            "text": [
                f"{'Swollen ankles.' if s else 'No oedema.'}\nAlert, calm." for s in sick[:, 1]
            ],
        }
    ).iloc[1:]
    row, column = np.nonzero(np.column_stack([np.ones(n_stays), sick]))
    codes = np.array(["Z00.0", *CODES])
    diagnoses = pd.DataFrame({"encounter_id": np.array(ids)[row], "code": codes[column]})
    return dict(zip(TABLES, (encounters, labs, notes, diagnoses), strict=True))


def simulated_tables(n_stays=300):
    if not SIMULATED.is_dir():
        pytest.skip("the simulated hospital stands beside the repository in CI only")
    tables = {name: pd.read_parquet(SIMULATED / f"{name}.parquet") for name in TABLES}
    encounters = tables["encounters"]
    coded = encounters["encounter_id"].isin(tables["diagnoses"]["encounter_id"])
    start, end = (pd.to_datetime(encounters[name], format="ISO8601") for name in ("start", "end"))
    ids = encounters.loc[coded & (end - start > pd.Timedelta("1D")), "encounter_id"].head(n_stays)
    return {name: table[table["encounter_id"].isin(ids)] for name, table in tables.items()}


def test_the_script_has_fewer_than_forty_lines_of_code():
    tree = ast.parse(SCRIPT.read_text(encoding="utf-8"))
    lines = {line for node in tree.body[1:] for line in range(node.lineno, node.end_lineno + 1)}
    assert len(lines) < 40


@pytest.mark.parametrize("make", [made_tables, simulated_tables])
def test_a_newcomer_gets_a_report_and_a_model(make, tmp_path, minilm):
    """Two of the tables are csv files, one of them compressed, and two parquet."""
    tables = make()
    files = {
        name: tmp_path / f"{name}{ending}" for name, ending in zip(TABLES, ENDINGS, strict=True)
    }
    for name, file in files.items():
        write = tables[name].to_parquet if file.suffix == ".parquet" else tables[name].to_csv
        write(file, index=False)
    done = subprocess.run(
        [sys.executable, "-W", "error", str(SCRIPT), str(tmp_path)],
        env={"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Cohort(")
    macro = next(line.split() for line in done.stdout.splitlines() if line.startswith("macro"))
    assert 0 < float(macro[2]) <= 1
    assert "nan" not in macro
    # The first patient held out is predicted and explained, by labs and by sentences
    told = done.stdout.partition("The most probable disease of the first new patient is ")[2]
    assert re.match(r"\w+: \d+%\n", told)
    explained = told.splitlines()[1:]
    assert make is simulated_tables or {"Creatinine", "BNP"} <= {
        line.split()[0] for line in explained
    }
    assert any("text" in line.split() for line in explained)
    # Views and fusion show that they work
    for step in ("labs", "notes", "NoteWordEncoder", "BoostedLabEncoder", "fusion"):
        assert f"{step}: 100%" in done.stderr

    stay = {"stay": "encounter_id"}
    columns = dict.fromkeys(("labs", "notes", "diagnoses"), stay)
    columns["stays"] = {"stay_id": "encounter_id"}
    stays, labs, notes, diagnoses = files.values()
    cohort = load_tables(labs, notes, diagnoses, stays, columns=columns, n_labels=5)
    file = tmp_path / "medfuse.skops"
    pipe = load_model(file)
    assert pipe.predict_proba(cohort.X[:3]).shape == (3, cohort.y.shape[1])
