"""Several processes, or devices, give what one gives; each has one copy of the weights."""

import sys
from types import SimpleNamespace

import joblib
import numpy as np
import pytest

from sklearn_medfuse.notes._language_model import embedding


@pytest.fixture
def many_notes():
    return [f"Note {i}: " + "denies pain. " * (i % 7) for i in range(40)] + [None, " "]


@pytest.mark.slow
def test_processes_give_the_same_bits_in_the_same_order(
    note_encoder, many_notes, own_workers, anew
):
    """Fine-tuned weights are taken along."""
    y = np.arange(len(many_notes)) % 2
    options = {"fine_tuning": "lora", "max_epochs": 1, "random_state": 0, "batch_tokens": 128}
    encoder = note_encoder(weights="full", **options).fit(many_notes, y)
    expected = anew(encoder, many_notes)
    found = anew(encoder.set_params(n_jobs=2), many_notes)
    np.testing.assert_array_equal(found, expected)
    # What they made is remembered here
    assert encoder.cache_info().entries > 0


def test_a_parallel_config_is_followed(note_encoder, many_notes, monkeypatch, anew):
    asked = []

    class Watched(joblib.Parallel):
        def __init__(self, n_jobs, **options):
            asked.append(n_jobs)
            super().__init__(1, **options)

    encoder = note_encoder(batch_tokens=128).fit(many_notes)
    expected = anew(encoder, many_notes)
    monkeypatch.setattr(embedding.joblib, "Parallel", Watched)
    with joblib.parallel_config("loky", n_jobs=3):
        np.testing.assert_array_equal(anew(encoder, many_notes), expected)
    assert asked == [3]


def test_one_batch_starts_no_process(note_encoder, monkeypatch):
    monkeypatch.setattr(embedding.joblib, "Parallel", None)
    note_encoder(n_jobs=2).fit_transform(["Denies pain."])


def test_a_task_of_a_dask_cluster_asks_for_no_tasks_of_its_own(
    note_encoder, many_notes, monkeypatch, anew
):
    encoder = note_encoder(batch_tokens=128, n_jobs=2).fit(many_notes)
    expected = anew(encoder.set_params(n_jobs=None), many_notes)
    monkeypatch.setattr(embedding.joblib, "Parallel", None)
    monkeypatch.setitem(sys.modules, "distributed", SimpleNamespace(get_worker=lambda: "worker"))
    np.testing.assert_array_equal(anew(encoder.set_params(n_jobs=2), many_notes), expected)


def test_no_jobs_make_no_sense(note_encoder, many_notes):
    encoder = note_encoder(n_jobs=0).fit(many_notes)
    with pytest.raises(ValueError, match="n_jobs == 0"):
        encoder.transform(many_notes)
