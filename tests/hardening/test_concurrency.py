"""One fitted pipeline serves many callers at once: the same answers, and no more threads."""

import multiprocessing
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import pytest
import threadpoolctl
import torch
from joblib.externals.loky import cpu_count
from sklearn.model_selection import GridSearchCV

from sklearn_medfuse.notes._language_model.cache import process_cache

LAB_NAMES = ["a", "b", "c"]
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform does not fork")


def test_eight_threads_get_the_same_answers(pipeline, table):
    expected = pipeline.predict_proba(table)
    barrier = threading.Barrier(8, timeout=60)

    def serve(i):
        barrier.wait()
        some = []
        for _ in range(2):
            # The vector is the same whichever thread computes it first
            process_cache.clear()
            some.append(pipeline.predict_proba(table.iloc[i:]))
        return some

    with ThreadPoolExecutor(8) as pool:
        for i, answers in enumerate(pool.map(serve, range(8))):
            for answer in answers:
                np.testing.assert_allclose(answer, expected[i:], rtol=0, atol=1e-12)


def test_fits_in_threads_draw_as_they_do_alone(make_pipeline, table, y):
    expected = make_pipeline().fit(table, y).predict_proba(table)
    barrier = threading.Barrier(3, timeout=60)

    def fit(_):
        barrier.wait()
        return make_pipeline().fit(table, y).predict_proba(table)

    before = torch.get_rng_state()
    with ThreadPoolExecutor(3) as pool:
        for answer in pool.map(fit, range(3)):
            np.testing.assert_array_equal(answer, expected)
    assert torch.equal(torch.get_rng_state(), before)


def test_eight_threads_share_a_folder_of_vectors(make_pipeline, table, y, tmp_path):
    expected = make_pipeline().fit(table, y).predict_proba(table)
    pipe = make_pipeline(cache=str(tmp_path / "cache")).fit(table, y)

    def serve(_):
        process_cache.clear()
        return pipe.predict_proba(table)

    with ThreadPoolExecutor(8) as pool:
        for answer in pool.map(serve, range(8)):
            np.testing.assert_array_equal(answer, expected)


def _serve_forked(pipe, table, queue):
    process_cache.clear()
    queue.put(pipe.predict_proba(table))


@needs_fork
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("with_folder", [False, True])
def test_four_forked_processes_get_the_same_answers(make_pipeline, table, y, tmp_path, with_folder):
    folder = str(tmp_path / "cache") if with_folder else None
    pipe = make_pipeline(cache=folder).fit(table, y)
    expected = pipe.predict_proba(table)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    children = [context.Process(target=_serve_forked, args=(pipe, table, queue)) for _ in range(4)]
    for child in children:
        child.start()
    for _ in children:
        np.testing.assert_array_equal(queue.get(timeout=120), expected)
    for child in children:
        child.join(timeout=60)
    assert [child.exitcode for child in children] == [0] * 4
    # The parent goes on
    process_cache.clear()
    np.testing.assert_array_equal(pipe.predict_proba(table), expected)


@needs_fork
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_while_another_thread_holds_the_cache(pipeline, table):
    """A server may fork while it serves: the child inherits the lock, but not its thread."""
    expected = pipeline.predict_proba(table)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_serve_forked, args=(pipeline, table, queue), daemon=True)
    with process_cache._lock:
        child.start()
    np.testing.assert_array_equal(queue.get(timeout=120), expected)
    child.join(timeout=60)


@pytest.mark.slow
def test_four_spawned_processes_get_the_same_answers(pipeline, table, monkeypatch):
    # Sums over several threads round differently; the tests run on one thread
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    expected = pipeline.predict_proba(table)
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        answers = pool.map(pipeline.predict_proba, [table] * 8, chunksize=1)
        pool.close()
        pool.join()
    for answer in answers:
        np.testing.assert_array_equal(answer, expected)


@pytest.mark.slow
def test_workers_share_the_cores(make_pipeline, note_encoder, table, y, own_workers, monkeypatch):
    """Whatever the number of threads here, two workers together use no more than the cores."""
    # The tests' own settings must not be what limits the workers
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)

    def count_threads(estimator=None, X=None, y=None):
        if estimator is not None:
            estimator.predict_proba(X)
        pools = [pool["num_threads"] for pool in threadpoolctl.threadpool_info()]
        return max([torch.get_num_threads(), *pools])

    before = torch.get_num_threads()
    torch.set_num_threads(8)
    try:
        note_encoder(batch_tokens=64, n_jobs=2).fit_transform(table["note"])
        # In the workers that have embedded notes
        found = joblib.Parallel(2)(joblib.delayed(count_threads)() for _ in range(4))
        search = GridSearchCV(
            make_pipeline(),
            {"medfuse__mi_weight": [0.0, 0.1]},
            scoring=count_threads,
            cv=2,
            n_jobs=2,
            refit=False,
            error_score="raise",
        ).fit(table, y)
    finally:
        torch.set_num_threads(before)
    scores = [search.cv_results_[f"split{i}_test_score"] for i in range(2)]
    assert max(*found, *np.ravel(scores)) <= max(1, cpu_count() // 2)
