"""Predicting over and over takes no more memory than predicting a few times."""

import gc
import sys
import tracemalloc
from pathlib import Path

import pytest

from sklearn_medfuse.notes._language_model.cache import process_cache

from .scale import SCALE

MEGABYTE = 2**20


@pytest.fixture
def full_cache(monkeypatch):
    """A cache of vectors that is full from the start, as its growth is meant."""
    monkeypatch.setattr(process_cache, "max_bytes", 2000)


def resident():
    """Memory of this process as Linux counts it."""
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * 4096


@pytest.fixture
def predict(pipeline, table, full_cache):
    """Return a function that predicts new notes so often, and gives what Python holds then."""

    def call(first, n_calls):
        for number in range(first, first + n_calls):
            notes = [f"{number} {i}" for i in range(2)]
            pipeline.predict_proba(table.iloc[:2].assign(note=notes))
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    yield call
    tracemalloc.stop()


def test_python_keeps_nothing(predict):
    # The first calls fill what torch and the tokenizer keep for reuse
    sizes = [predict(0, 200)]
    # What other threads of the tests keep meanwhile does not come each time, a leak does
    while len(sizes) < 4 and (len(sizes) < 2 or sizes[-1] - sizes[-2] > 50_000):
        sizes.append(predict(100 * len(sizes) + 100, 100))
    # 100 calls that each left one object of 500 bytes would show
    assert sizes[-1] - sizes[-2] < 50_000


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_the_process_keeps_nothing(predict):
    n_calls = 200 * SCALE
    held, resident_before = predict(0, 200), resident()
    # What other threads of the tests keep meanwhile does not come each time, a leak does
    for attempt in range(3):
        now = predict(200 + attempt * n_calls, n_calls)
        grown, held = (now - held) / MEGABYTE, now
        resident_grown = (resident() - resident_before) / MEGABYTE
        print(f"{n_calls} calls: Python {grown:+.2f} MB, the process {resident_grown:+.2f} MB")
        if grown < 0.1 * SCALE:
            break
    assert grown < 0.1 * SCALE
    assert resident_grown < 5
