"""Partitions and scattered estimators give the results of one process, whatever dies.

One file, so that one cluster serves all of it.
"""

import io
import os
import pickle
import sys
import time
from itertools import pairwise
from uuid import uuid4

import dask.dataframe as dd
import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV
from sklearn.multioutput import MultiOutputClassifier
from sklearn.tree import DecisionTreeClassifier

from sklearn_medfuse import LLMNoteEncoder
from sklearn_medfuse.distributed import (
    _scattering,
    gather,
    predict_proba,
    release,
    scatter,
    transform,
)
from sklearn_medfuse.metrics import get_scorer

CANARY = "Zebulon Quixote"
N_PARTITIONS = 6


@pytest.fixture
def stays(cohort):
    """Rows whose index is an identifier."""
    return cohort.X.set_index(cohort.X.index.map("stay {:04}".format))


def assert_same(lazy, values, source, **tolerance):
    """What is promised before and what is computed are the values, under the rows' index."""
    assert lazy.divisions == source.divisions
    assert lazy._meta.index.dtype == source._meta.index.dtype
    found = lazy.compute()
    pd.testing.assert_frame_equal(lazy._meta, found.iloc[:0])
    assert found.index.equals(source.compute().index)
    assert found.dtypes.eq(values.dtype).all()
    np.testing.assert_allclose(found, values, **tolerance)


def test_vectors_are_those_of_one_process(client, encoder, stays):
    source = dd.from_pandas(stays[["note"]], npartitions=4)
    assert source.npartitions == 4
    lazy = transform(encoder, source["note"])
    assert_same(lazy, encoder.transform(stays["note"]), source, rtol=0)
    assert lazy.columns.tolist() == encoder.get_feature_names_out().tolist()


def test_probabilities_are_those_of_one_process(client, encoder, make_pipeline, stays, cohort):
    pipe = make_pipeline(encoder).fit(stays, cohort.y)
    source = dd.from_pandas(stays, npartitions=4)
    lazy = predict_proba(pipe, source)
    # Float64 throughout; products are blocked by the number of rows
    assert_same(lazy, pipe.predict_proba(stays), source, rtol=1e-9)
    assert lazy.columns.tolist() == list(cohort.target_names)


def slow_partitions(frame, folder=None):
    """Read on the workers, one row after the other; every reading leaves a file in a folder."""

    def read(rows):
        if folder is not None:
            time.sleep(0.3)
            (folder / f"{rows[0]}-{time.time_ns()}").touch()
        return frame.iloc[rows[0] : rows[1]]

    bounds = np.linspace(0, len(frame), N_PARTITIONS + 1).astype(int).tolist()
    return dd.from_map(read, list(pairwise(bounds)), meta=frame.iloc[:0])


@pytest.mark.slow
def test_a_worker_that_is_killed_loses_nothing(client, encoder, stays, kill_a_worker, tmp_path):
    lazy = transform(scatter(encoder, client=client), slow_partitions(stays[["note"]], tmp_path))
    running = client.compute(lazy)
    while len(list(tmp_path.iterdir())) < 3:
        time.sleep(0.05)
    killed = kill_a_worker()
    found = running.result(timeout=300)
    assert len(list(tmp_path.iterdir())) >= N_PARTITIONS
    np.testing.assert_array_equal(found, encoder.transform(stays[["note"]]))
    assert found.index.tolist() == stays.index.tolist()
    client.wait_for_workers(2, timeout=300)
    assert killed not in client.scheduler_info(n_workers=-1)["workers"]


def what_dask_keeps(client):
    """Keys, states, logs and errors of scheduler and workers as text."""

    def of_scheduler(dask_scheduler):
        tasks = [
            (key, ts.group_key, ts.exception_text, ts.traceback_text, ts.annotations)
            for key, ts in dask_scheduler.tasks.items()
        ]
        state = dask_scheduler._to_dict(exclude=("run_spec",))
        return len(tasks), str(tasks) + str(state)

    n_tasks, kept = client.run_on_scheduler(of_scheduler)
    assert n_tasks
    kept += str(client.run(lambda dask_worker: str(dask_worker._to_dict(exclude=("run_spec",)))))
    for logs in (client.get_scheduler_logs(), client.get_worker_logs(nanny=False)):
        kept += str(logs)
    return kept + str(client.get_worker_logs(nanny=True))


@pytest.mark.parametrize("source", ["from_pandas", "from_map"])
@pytest.mark.parametrize("fails", [False, True])
def test_no_text_is_in_keys_logs_or_states(client, encoder, stays, source, fails):
    marked = stays[["note"]].assign(note=[f"{CANARY} {i}" for i in range(len(stays))])
    if source == "from_pandas":
        frame = dd.from_pandas(marked, npartitions=3)
    else:
        frame = slow_partitions(marked)
    # The wrong dtype is refused on the workers
    lazy = transform(encoder, frame, dtype="float64" if fails else "float32").persist()
    if fails:
        with pytest.raises(ValueError, match="returned float32 of shape") as caught:
            lazy.compute()
        assert CANARY not in str(caught.value)
    else:
        lazy.compute()
    kept = what_dask_keeps(client)
    assert "medfuse-transform" in kept
    assert not fails or "returned float32 of shape" in kept
    assert CANARY not in kept


def test_empty_partitions_and_absent_notes(encoder, stays):
    notes = stays["note"].where(np.arange(len(stays)) % 3 > 0, None)
    frame = dd.from_pandas(notes.to_frame(), npartitions=3)
    none = frame[frame.index > "stay 0050"]
    found = transform(encoder, none["note"]).compute(scheduler="synchronous")
    expected = encoder.transform(notes[notes.index > "stay 0050"])
    np.testing.assert_array_equal(found, expected)
    assert np.isnan(expected[:, 0]).sum() == (notes[notes.index > "stay 0050"].isna()).sum() > 0
    nothing = transform(encoder, frame[frame.index > "x"]["note"])
    assert nothing.compute(scheduler="synchronous").shape == (0, encoder.hidden_size_)


def test_a_search_and_classes_without_names(encoder, stays, cohort):
    y = np.asarray(cohort.y)[:, 0]
    vectors = pd.DataFrame(np.nan_to_num(encoder.transform(stays["note"])), stays.index).add_prefix(
        "v"
    )
    tree = DecisionTreeClassifier(random_state=0, max_depth=2)
    search = GridSearchCV(tree, {"max_depth": [2]}, cv=2).fit(vectors, y)
    found = predict_proba(search, dd.from_pandas(vectors, npartitions=3))
    assert found.columns.tolist() == [0, 1]
    np.testing.assert_array_equal(
        found.compute(scheduler="synchronous"), search.predict_proba(vectors)
    )
    several = MultiOutputClassifier(tree).fit(vectors, np.asarray(cohort.y))
    with pytest.raises(TypeError, match="list of arrays"):
        predict_proba(several, dd.from_pandas(vectors, npartitions=3))


def test_what_is_no_dask_collection_is_refused(encoder, stays):
    with pytest.raises(TypeError, match="X is of type DataFrame; pass a Dask DataFrame"):
        transform(encoder, stays)


def test_without_dask_the_extra_is_named(encoder, stays, monkeypatch):
    monkeypatch.setitem(sys.modules, "dask.dataframe", None)
    with pytest.raises(ImportError, match=r"sklearn-medfuse\[distributed\]"):
        transform(encoder, stays)


# Scattered estimators


@pytest.fixture
def counted(encoder, tmp_path):
    """An encoder that leaves a file with its process's number wherever it is unpickled."""

    class Counted(LLMNoteEncoder):
        def __setstate__(self, state):
            super().__setstate__(state)
            (tmp_path / f"{os.getpid()}-{uuid4().hex}").touch()

    found = Counted(**encoder.get_params())
    vars(found).update(vars(encoder))
    found.loads = lambda: [file.name.split("-")[0] for file in tmp_path.iterdir()]
    return found


def search_over(pipe, cohort):
    grid = {"medfuse__mi_weight": [0.0, 1.0]}
    # No rank: two rows that are nearly tied may change places by the last digits of training
    search = GridSearchCV(pipe, grid, cv=3, scoring=get_scorer("neg_multilabel_log_loss"))
    return search.fit(cohort.X, cohort.y)


def test_a_search_sends_the_weights_once_and_finds_the_same(
    client, encoder, counted, make_pipeline, cohort
):
    loads = vars(counted).pop("loads")
    expected = search_over(make_pipeline(FrozenEstimator(encoder)), cohort)
    pipe = make_pipeline(scatter(counted))
    with joblib.parallel_config("dask"):
        found = search_over(pipe, cohort)
    # Six fits and as many predictions; each process that took part has loaded it once
    pids = loads()
    assert 1 <= len(pids) == len(set(pids)) <= 2
    assert str(os.getpid()) not in pids
    weights = sum(map(len, encoder.model_files_.values()))
    task = len(pickle.dumps(clone(pipe)))
    assert task + weights < len(pickle.dumps(clone(make_pipeline(FrozenEstimator(encoder)))))
    for name in ("mean_test_score", "split0_test_score", "split2_test_score"):
        np.testing.assert_allclose(found.cv_results_[name], expected.cv_results_[name], rtol=1e-9)
    np.testing.assert_allclose(
        found.predict_proba(cohort.X), expected.predict_proba(cohort.X), rtol=1e-9
    )


def test_an_encoder_by_reference_is_loaded_once_per_worker(
    client, note_encoder, make_pipeline, cohort
):
    expected = search_over(make_pipeline(note_encoder()), cohort)

    def forget():
        from sklearn_medfuse.notes._language_model.backbone import load_backbone

        load_backbone.cache_clear()

    def misses():
        from sklearn_medfuse.notes._language_model.backbone import load_backbone

        return load_backbone.cache_info().misses

    client.run(forget)
    pipe = make_pipeline(note_encoder())
    with joblib.parallel_config("dask"):
        found = search_over(pipe, cohort)
    counts = client.run(misses).values()
    assert max(counts) == 1
    np.testing.assert_allclose(
        found.cv_results_["mean_test_score"], expected.cv_results_["mean_test_score"], rtol=1e-9
    )


@pytest.mark.slow
def test_a_worker_that_starts_later_has_it(client, encoder, kill_a_worker, cohort):
    notes = cohort.X["note"].tolist()[:5]
    scattered = scatter(encoder)
    killed = kill_a_worker()
    while killed in (workers := client.scheduler_info(n_workers=-1)["workers"]) or len(workers) < 2:
        time.sleep(0.1)
    # Not `scattered.transform`: a bound method would send the encoder with it
    for found in client.run(lambda encoder: encoder.transform(notes), scattered).values():
        np.testing.assert_array_equal(found, encoder.transform(notes))


def test_what_was_released_is_forgotten(client, encoder, cohort):
    notes = cohort.X["note"].tolist()[:5]
    scattered = scatter(encoder)
    client.run(lambda encoder: encoder.transform(notes), scattered)
    release(scattered)
    held = client.run(
        lambda key: key in _scattering._loaded or key in _scattering._received, scattered.key
    )
    assert not any(held.values())
    with pytest.raises(LookupError, match="does not hold the scattered estimator"):
        client.submit(lambda encoder: encoder.transform(notes), scattered, pure=False).result()
    # Here it is still at hand
    np.testing.assert_array_equal(scattered.transform(notes), encoder.transform(notes))


def test_what_is_gathered_can_be_saved(client, encoder, make_pipeline, cohort):
    pipe = make_pipeline(scatter(encoder)).fit(cohort.X, cohort.y)
    expected = pipe.predict_proba(cohort.X)
    saved = io.BytesIO()
    joblib.dump(gather(pipe), saved)
    alone = pickle.dumps(pipe)
    release(pipe.named_steps["encode"].named_transformers_["notes"])
    _scattering._loaded.clear()
    saved.seek(0)
    np.testing.assert_array_equal(joblib.load(saved).predict_proba(cohort.X), expected)
    with pytest.raises(LookupError, match="gather"):
        pickle.loads(alone).predict_proba(cohort.X)


def test_only_what_was_scattered_is_released(encoder):
    with pytest.raises(TypeError, match="estimator is of type LLMNoteEncoder"):
        release(encoder)
