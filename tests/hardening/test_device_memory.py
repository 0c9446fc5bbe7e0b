"""A device without room for a batch gets smaller ones, with one warning and the same result."""

import numpy as np
import pytest
import torch

from sklearn_medfuse import MEDFuseClassifier
from sklearn_medfuse._training import in_fitting_batches
from sklearn_medfuse.notes import _workers
from sklearn_medfuse.notes._backbone import Backbone
from sklearn_medfuse.notes._embedding_cache import process_cache


@pytest.fixture
def many_notes():
    return [f"Note {i}: " + "denies pain. " * (i % 4) for i in range(60)] + [None, " "]


@pytest.fixture
def limit_memory(monkeypatch):
    """Return a function after which a model takes so many tokens, and a list of what it took."""
    taken = []
    embed = Backbone.embed

    def limit(n_tokens):
        def limited(self, batch, *options):
            size = sum(self.padded_width(len(chunk)) for chunk in batch)
            if size > n_tokens:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            taken.append(size)
            return embed(self, batch, *options)

        monkeypatch.setattr(Backbone, "embed", limited)
        return taken

    return limit


def anew(encoder, notes):
    process_cache.clear()
    return encoder.transform(notes)


@pytest.mark.parametrize("model", ["bert", "llama"])
def test_smaller_batches_give_the_same_bits(
    note_encoder, tiny_bert, tiny_llama, many_notes, limit_memory, model
):
    folder = tiny_bert if model == "bert" else tiny_llama
    encoder = note_encoder(model=folder, batch_tokens=1000).fit(many_notes)
    expected = anew(encoder, many_notes)
    taken = limit_memory(200)
    message = r"batch_tokens=1000 do not fit .* device='cpu'; batches of 1\d\d tokens"
    with pytest.warns(UserWarning, match=message) as caught:
        found = anew(encoder, many_notes)
    assert len(caught) == 1
    np.testing.assert_array_equal(found, expected)
    n_tokens = sum(taken)
    # what fits is known by now: no warning, which would be an error
    np.testing.assert_array_equal(anew(encoder, many_notes), expected)
    assert sum(taken) == 2 * n_tokens


def test_every_chunk_is_embedded_once(note_encoder, many_notes, limit_memory):
    """Batches that had been done when one did not fit are not done again."""
    encoder = note_encoder(batch_tokens=120).fit(many_notes)
    taken = limit_memory(10**6)
    anew(encoder, many_notes)
    total = sum(taken)
    taken.clear()
    limit_memory(60)
    with pytest.warns(UserWarning, match="batch_tokens"):
        anew(encoder, many_notes)
    assert sum(taken) == total


def test_fit_transform_and_a_padded_model_too(note_encoder, many_notes, limit_memory, monkeypatch):
    monkeypatch.setattr("sklearn_medfuse.notes._backbone.can_pack", lambda model: False)
    expected = note_encoder(batch_tokens=1000).fit_transform(many_notes)
    process_cache.clear()
    limit_memory(200)
    with pytest.warns(UserWarning, match="batch_tokens=1000") as caught:
        found = note_encoder(batch_tokens=1000).fit_transform(many_notes)
    assert len(caught) == 1
    np.testing.assert_array_equal(found, expected)


def test_several_devices_too(note_encoder, tiny_llama, many_notes, limit_memory, monkeypatch):
    """Two names of the CPU stand for two GPUs."""
    devices = [torch.device("cpu"), torch.device("cpu", 0)]
    monkeypatch.setattr("sklearn_medfuse.notes._backbone.can_pack", lambda model: False)
    encoder = note_encoder(model=tiny_llama, batch_tokens=400, n_jobs=2).fit(many_notes)
    expected = anew(encoder.set_params(n_jobs=None), many_notes)
    monkeypatch.setattr(_workers, "gpus", lambda device, n_workers: devices[:n_workers])
    limit_memory(100)
    with pytest.warns(UserWarning, match="batch_tokens=400") as caught:
        found = anew(encoder.set_params(n_jobs=2), many_notes)
    assert len(caught) == 1
    np.testing.assert_array_equal(found, expected)


def test_a_window_that_does_not_fit_alone_is_an_error(note_encoder, many_notes, limit_memory):
    encoder = note_encoder().fit(many_notes)
    limit_memory(3)
    with pytest.raises(torch.OutOfMemoryError, match="lower max_length"):
        anew(encoder, many_notes)


@pytest.fixture
def classifier():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(50, 5)), rng.integers(0, 2, (50, 2))
    model = MEDFuseClassifier(
        modalities={"labs": 2, "notes": 3},
        d_model=8,
        n_heads=2,
        n_estimators=2,
        max_epochs=2,
        device="cpu",
        random_state=0,
    )
    return model.fit(X, y), X


def test_predict_takes_fewer_rows_at_once(classifier, monkeypatch):
    model, X = classifier
    methods = ("predict_proba", "transform", "mutual_information")
    expected = [getattr(model, name)(X) for name in methods]
    module = model.net_.module_
    forward, sizes = module.forward_parts, []

    def limited(blocks, present):
        if len(present) > 10:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        sizes.append(len(present))
        return forward(blocks, present)

    monkeypatch.setattr(module, "forward_parts", limited)
    for name, whole in zip(methods, expected, strict=True):
        sizes.clear()
        with pytest.warns(UserWarning, match=r"4096 rows .* batches of 6 are used") as caught:
            found = getattr(model, name)(X)
        assert len(caught) == 1
        assert sum(sizes) == 50
        np.testing.assert_allclose(found, whole, rtol=0, atol=1e-12)


def test_one_row_that_does_not_fit_is_an_error():
    def fail(rows):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    with pytest.raises(torch.OutOfMemoryError):
        list(in_fitting_batches(5, 4, fail, torch.device("cpu")))


def test_batches_that_fit_are_as_large_as_asked_for():
    parts = in_fitting_batches(10, 4, lambda rows: rows.stop - rows.start, torch.device("cpu"))
    assert list(parts) == [4, 4, 2]
