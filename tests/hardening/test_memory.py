"""Predicting over and over takes no more memory than predicting a few times."""

import gc
import tracemalloc

import pytest

from sklearn_medfuse.notes._language_model.cache import process_cache


@pytest.fixture
def full_cache(monkeypatch):
    """A cache of vectors that is full from the start, as its growth is meant."""
    monkeypatch.setattr(process_cache, "max_bytes", 2000)


def test_memory_stays_flat(pipeline, table, full_cache):
    def predict(first, n_calls):
        for call in range(first, first + n_calls):
            pipeline.predict_proba(table.iloc[:5].assign(note=[f"{call} {i}" for i in range(5)]))
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        # torch and the tokenizer keep some things for reuse
        sizes = [predict(0, 200)]
        # what other threads of the tests keep meanwhile does not come each time, a leak does
        while len(sizes) < 4 and (len(sizes) < 2 or sizes[-1] - sizes[-2] > 50_000):
            sizes.append(predict(100 * len(sizes) + 100, 100))
    finally:
        tracemalloc.stop()
    # 100 calls that each left one object of 500 bytes would show
    assert sizes[-1] - sizes[-2] < 50_000
