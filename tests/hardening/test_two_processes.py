"""Two processes that share a folder give the same result as one."""

import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import joblib
import numpy as np
import pytest

from sklearn_medfuse.notes._language_model import cache as caches

ROOT = Path(__file__).parents[2]
# Both begin at the same moment, as far as one can tell
TOGETHER = """
import sys, time
from pathlib import Path
import joblib
from sklearn_medfuse import MaskedLabEncoder
folder, mine, other = sys.argv[1:]

def wait(what):
    Path(mine + what).touch()
    while not Path(other + what).exists():
        time.sleep(0.001)

encoder, labs = joblib.load(folder + "/encoder.joblib")
wait(" fits")
embedding = encoder.fit(labs).transform(labs)
joblib.dump(embedding, mine + ".joblib")
"""


@pytest.mark.slow
def test_two_fit_with_one_checkpoint(make_lab_encoder, table, tmp_path):
    labs = table[["a", "b", "c"]]
    expected = make_lab_encoder(max_epochs=8).fit(labs).transform(labs)
    encoder = make_lab_encoder(max_epochs=8, checkpoint_dir=str(tmp_path / "states"))
    joblib.dump((encoder, labs), tmp_path / "encoder.joblib")
    marks = [str(tmp_path / "first"), str(tmp_path / "second")]
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", TOGETHER, str(tmp_path), *order],
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        )
        for order in (marks, marks[::-1])
    ]
    assert [run.wait() for run in runs] == [0, 0]
    for mark in marks:
        np.testing.assert_array_equal(joblib.load(f"{mark}.joblib"), expected)
    assert list((tmp_path / "states").iterdir()) == []


def test_one_that_hangs_in_the_middle_of_writing_holds_up_no_other(tmp_path, monkeypatch):
    monkeypatch.setattr(caches, "_TIMEOUT", 0.2)
    cache = caches.FolderCache(tmp_path, 10**6)
    cache.put_many({b"a": b"1"})
    hanging = sqlite3.connect(tmp_path / "vectors.sqlite", isolation_level=None)
    hanging.execute("BEGIN IMMEDIATE")
    with pytest.warns(UserWarning, match="database is locked"):
        cache.put_many({b"b": b"2"})
    begin = time.monotonic()
    for i in range(100):
        cache.put_many({b"%d" % i: b"3"})
        assert cache.get_many([b"a"]) == {b"a": b"1"}
    # It waits in vain once, not a hundred times
    assert time.monotonic() - begin < 10
    hanging.execute("ROLLBACK")
    hanging.close()
    monkeypatch.setattr(caches.time, "monotonic", lambda: begin + 100)
    cache.put_many({b"b": b"2"})
    assert cache.get_many([b"a", b"b"]) == {b"a": b"1", b"b": b"2"}
