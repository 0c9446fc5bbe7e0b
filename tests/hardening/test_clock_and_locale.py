"""Neither the clock nor the language of the machine changes a result."""

import subprocess
import time

import joblib
import numpy as np
import pandas as pd
import pytest

from sklearn_medfuse.notes._language_model import cache as caches

YEAR = 365 * 24 * 3600
# Fits and predicts on tables that a locale could spoil
PROGRAM = """
import joblib
from sklearn_medfuse import LabTextSerializer, MaskedLabEncoder
from sklearn_medfuse.datasets import load_tables

def run(unfitted, tables):
    pipe, table, y = joblib.load(unfitted)
    probabilities = pipe.fit(table, y).predict_proba(table)
    labs = table.assign(a=table["a"].map(lambda v: "<0.5" if v > 1 else f"{v:.3f}"))
    texts = LabTextSerializer(abnormal_only=False).fit_transform(labs[["b", "c"]])
    small = dict(d_model=8, n_heads=2, n_layers=1, max_epochs=1, random_state=0, device="cpu")
    filled = MaskedLabEncoder(4, **small).fit(labs[["a", "b"]]).impute(labs[["a", "b"]])
    names = [f"{tables}/{name}.csv" for name in ("labs", "notes", "stays")]
    cohort = load_tables(
        *names[:2], None, names[2], phenotypes=None, outcomes=["mortality"], min_coverage=0.0,
    )
    return probabilities, texts, filled, cohort.X
"""
IN_ANOTHER = (
    PROGRAM
    + """
import locale, sys
locale.setlocale(locale.LC_ALL, "")
*arguments, result = sys.argv[1:]
joblib.dump((*run(*arguments), locale.localeconv()["decimal_point"]), result)
"""
)


@pytest.fixture(scope="module")
def german(tmp_path_factory):
    """Environment of a locale with a decimal comma, made where the machine has none."""
    folder = tmp_path_factory.mktemp("locale")
    try:
        made = subprocess.run(
            ["localedef", "-i", "de_DE", "-f", "UTF-8", str(folder / "de_DE.UTF-8")],
            capture_output=True,
            check=False,
        )
    except FileNotFoundError:
        pytest.skip("localedef is not installed")
    if made.returncode > 1:
        pytest.skip("the sources of locales are not installed (Debian: package locales)")
    return {"LOCPATH": str(folder), "LC_ALL": "de_DE.UTF-8"}


@pytest.fixture
def case(make_pipeline, table, y, tmp_path):
    """Files of an unfitted pipeline with its data, and of tables with a non-ASCII name."""
    joblib.dump((make_pipeline(), table, y), tmp_path / "case.joblib")
    start = pd.Timestamp("2130-01-01")
    stays = pd.DataFrame({"stay_id": [1, 2], "patient_id": [1, 2], "died": [0, 1]})
    stays = stays.assign(start=start, end=start + pd.Timedelta("3D"))
    hour = start + pd.Timedelta("1h")
    labs = pd.DataFrame({"stay_id": [1, 2], "time": hour, "name": "Kreatinin (µmol)"})
    labs = labs.assign(value=[1.5, 0.25], unit="µmol/L")
    notes = pd.DataFrame({"stay_id": [1, 2], "time": hour, "text": ["Ödeme, 38,5 °C", "ß"]})
    for name, frame in {"stays": stays, "labs": labs, "notes": notes}.items():
        frame.to_csv(tmp_path / f"{name}.csv", index=False, encoding="utf-8")
    return tmp_path / "case.joblib", tmp_path


@pytest.mark.slow
def test_results_do_not_depend_on_the_locale(case, german, in_another_process, tmp_path):
    here = {}
    exec(PROGRAM, here)
    expected = here["run"](*case)
    assert "Ödeme" in "".join(expected[3]["note"])
    # Python itself would use UTF-8 under C, which some launchers forbid
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    for name, environment, point in (("C", plain, "."), ("de", german, ",")):
        arguments = *case, tmp_path / name
        in_another_process(IN_ANOTHER, *arguments, **environment)
        probabilities, texts, filled, X, found_point = joblib.load(tmp_path / name)
        assert found_point == point
        np.testing.assert_array_equal(probabilities, expected[0])
        np.testing.assert_array_equal(np.asarray(texts), np.asarray(expected[1]))
        assert filled.equals(expected[2])
        assert X.equals(expected[3])


def test_a_clock_that_is_set_back_costs_no_entry(tmp_path, monkeypatch):
    clock = [time.time()]
    monkeypatch.setattr(caches.time, "time", lambda: clock[0])
    cache = caches.FolderCache(tmp_path, 200_000)
    clock[0] += 50 * YEAR
    cache.put_many({b"from the future": b"x" * 1500, b"used again": b"x" * 1500})
    clock[0] -= 50 * YEAR
    assert len(cache.get_many([b"from the future", b"used again"])) == 2
    clock[0] += 3600
    cache.get_many([b"used again"])
    for i in range(300):
        clock[0] += 3600
        cache.put_many({b"%d" % i: b"x" * 1500})
        cache.get_many([b"used again"])
    # The used entry is kept; the other does not stay for fifty years
    assert cache.get_many([b"used again"])
    assert not cache.get_many([b"from the future"])
    assert cache.info().n_bytes <= 200_000
