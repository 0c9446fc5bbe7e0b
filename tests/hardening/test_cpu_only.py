"""A model that was fitted on a GPU loads and predicts without one.

No GPU is needed for this: a device is named by a parameter, and in a checkpoint by a tag of its
tensors. What only a GPU can show, that tensors are copied off it when a fitted estimator is saved,
is left to a machine that has one.
"""

import io
import pickle

import joblib
import numpy as np
import pytest
import torch

from sklearn_medfuse._checkpoint import Checkpoint
from sklearn_medfuse._training import resolve_fitted_device

no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
DEVICES = ("encode__labs__device", "encode__notes__device", "medfuse__device")
FITTED = (
    lambda pipe: pipe.named_steps["encode"].named_transformers_["labs"],
    lambda pipe: pipe.named_steps["encode"].named_transformers_["notes"],
    lambda pipe: pipe.named_steps["medfuse"],
)


def fitted_for(pipeline, device):
    """A copy of a pipeline whose steps say that they were fitted on a device."""
    file = io.BytesIO()
    joblib.dump(pipeline, file)
    file.seek(0)
    other = joblib.load(file)
    for step in FITTED:
        step(other).device = device
    return other


@no_gpu
def test_a_pipeline_of_a_gpu_predicts_on_the_cpu(pipeline, table, round_trip):
    loaded = round_trip(fitted_for(pipeline, "cuda:3"))
    np.testing.assert_array_equal(loaded.predict_proba(table), pipeline.predict_proba(table))
    assert {step(loaded).device for step in FITTED} == {"cuda:3"}


@no_gpu
def test_a_fine_tuned_encoder_of_a_gpu_embeds_on_the_cpu(note_encoder, table, y):
    notes = table["note"]
    encoder = note_encoder(
        fine_tuning="lora", max_epochs=1, weights="full", cv=None, random_state=0
    )
    expected = encoder.fit_transform(notes, y)
    encoder.device = "cuda"
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(encoder)).transform(notes), expected)


@no_gpu
def test_to_fit_it_again_there_is_refused(pipeline, table, y):
    loaded = fitted_for(pipeline, "cuda")
    for step, X in zip(FITTED, (table[["a", "b", "c"]], table["note"], None), strict=True):
        if X is not None:
            with pytest.raises(ValueError, match="torch sees no CUDA GPU; use device='auto'"):
                step(loaded).fit(X, y)


def test_the_gpu_of_fit_is_kept_where_it_is(monkeypatch):
    def empty(size, device):
        if torch.device(device).index == 2:
            raise RuntimeError("invalid device ordinal")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "empty", empty)
    assert str(resolve_fitted_device("cuda:1")) == "cuda:1"
    assert str(resolve_fitted_device("cuda:2")) == "cuda"
    assert str(resolve_fitted_device("cpu")) == "cpu"


def test_a_checkpoint_of_a_gpu_is_read_on_the_cpu(tmp_path, monkeypatch):
    checkpoint = Checkpoint(tmp_path, "test", [b"data"])
    # The file says that its tensors were on a GPU
    monkeypatch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
    checkpoint.save({"weight": torch.ones(2)})
    monkeypatch.undo()
    if not torch.cuda.is_available():
        with pytest.raises(RuntimeError, match="map_location"):
            torch.load(io.BytesIO(checkpoint.path.read_bytes()[32:]), weights_only=True)
    weight = checkpoint.load()["weight"]
    assert weight.device.type == "cpu"
    assert weight.tolist() == [1.0, 1.0]
