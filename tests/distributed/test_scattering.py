"""A scattered estimator is sent and loaded once per worker, and works as the estimator itself."""

import io
import os
import pickle
import time
from uuid import uuid4

import joblib
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV

from sklearn_medfuse import LLMNoteEncoder
from sklearn_medfuse.distributed import _held, gather, release, scatter
from sklearn_medfuse.metrics import get_scorer


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
    # no rank: two rows that are nearly tied may change places by the last digits of training
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
    # six fits and as many predictions; each process that took part has loaded it once
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


def test_a_worker_that_starts_later_has_it(client, encoder, kill_a_worker, cohort):
    notes = cohort.X["note"].tolist()[:5]
    scattered = scatter(encoder)
    killed = kill_a_worker()
    while killed in (workers := client.scheduler_info(n_workers=-1)["workers"]) or len(workers) < 2:
        time.sleep(0.1)
    # not `scattered.transform`: a method is the encoder's own and would be sent with it
    for found in client.run(lambda encoder: encoder.transform(notes), scattered).values():
        np.testing.assert_array_equal(found, encoder.transform(notes))


def test_what_was_released_is_forgotten(client, encoder, cohort):
    notes = cohort.X["note"].tolist()[:5]
    scattered = scatter(encoder)
    client.run(lambda encoder: encoder.transform(notes), scattered)
    release(scattered)
    held = client.run(lambda key: key in _held._estimators or key in _held._parcels, scattered.key)
    assert not any(held.values())
    with pytest.raises(LookupError, match="does not hold the scattered estimator"):
        client.submit(lambda encoder: encoder.transform(notes), scattered, pure=False).result()
    # here it is still at hand
    np.testing.assert_array_equal(scattered.transform(notes), encoder.transform(notes))


def test_what_is_gathered_can_be_saved(client, encoder, make_pipeline, cohort):
    pipe = make_pipeline(scatter(encoder)).fit(cohort.X, cohort.y)
    expected = pipe.predict_proba(cohort.X)
    saved = io.BytesIO()
    joblib.dump(gather(pipe), saved)
    alone = pickle.dumps(pipe)
    release(pipe.named_steps["encode"].named_transformers_["notes"])
    _held._estimators.clear()
    saved.seek(0)
    np.testing.assert_array_equal(joblib.load(saved).predict_proba(cohort.X), expected)
    with pytest.raises(LookupError, match="gather"):
        pickle.loads(alone).predict_proba(cohort.X)


def test_only_what_was_scattered_is_released(encoder):
    with pytest.raises(TypeError, match="estimator is of type LLMNoteEncoder"):
        release(encoder)
