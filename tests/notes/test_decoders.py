"""Decoders: each family by its config, whatever side it pads on, wherever its weights are put."""

import json
import pickle
import shutil

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from sklearn_medfuse import LLMNoteEncoder

# Of unlike lengths, so that one of them is padded; longer than the sliding windows
TEXTS = ["short", "a good deal longer", None, "x"]


def encoder(model, **params):
    return LLMNoteEncoder(str(model), **{"dtype": "float32", "device": "cpu"} | params)


@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_a_decoder_pools_its_own_tokens(tiny_decoder, pooling):
    model = AutoModel.from_pretrained(tiny_decoder).eval()
    tokenizer = AutoTokenizer.from_pretrained(tiny_decoder)
    found = encoder(tiny_decoder, pooling=pooling).fit_transform(TEXTS)
    for text, vector in zip(TEXTS, found, strict=True):
        if text is None:
            assert np.isnan(vector).all()
            continue
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            states = model(ids).last_hidden_state[0]
        expected = states[-1] if pooling == "last" else states.mean(dim=0)
        np.testing.assert_allclose(vector, expected.numpy(), atol=1e-5)


def with_settings(folder, copy, **settings):
    """Copy a model with other settings of its tokenizer, None for one that is taken out."""
    file = shutil.copytree(folder, copy) / "tokenizer_config.json"
    merged = json.loads(file.read_text()) | settings
    file.write_text(json.dumps({key: value for key, value in merged.items() if value is not None}))
    return copy


@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_the_side_of_the_padding_does_not_matter(tiny_decoder, tmp_path, pooling, forget):
    expected = encoder(tiny_decoder, pooling=pooling).fit_transform(TEXTS)
    for side in ("left", "right"):
        folder = with_settings(tiny_decoder, tmp_path / side, padding_side=side)
        assert AutoTokenizer.from_pretrained(folder).padding_side == side
        forget(models=True)
        found = encoder(folder, pooling=pooling).fit_transform(TEXTS)
        np.testing.assert_array_equal(found, expected)


def test_a_decoder_without_padding_token(tiny_llama, tmp_path):
    folder = with_settings(tiny_llama, tmp_path / "none", pad_token=None)
    assert AutoTokenizer.from_pretrained(folder).pad_token is None
    np.testing.assert_array_equal(
        encoder(folder).fit_transform(TEXTS), encoder(tiny_llama).fit_transform(TEXTS)
    )


def test_a_long_note_of_a_decoder_is_cut_into_windows(tiny_decoder):
    fitted = encoder(tiny_decoder).fit(["x" * 300])
    assert fitted.n_tokens_.tolist() == [300]
    assert fitted.n_chunks_.tolist() == [3]


def test_a_device_map_gives_the_same(tiny_decoder):
    pytest.importorskip("accelerate")
    expected = encoder(tiny_decoder).fit_transform(TEXTS)
    found = encoder(tiny_decoder, device_map="cpu").fit_transform(TEXTS)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("fine_tuning", [None, "lora"])
def test_a_saved_decoder_gives_the_same_bits(tiny_decoder, fine_tuning, forget):
    tuning = {"fine_tuning": fine_tuning, "max_epochs": 1, "random_state": 0}
    fitted = encoder(tiny_decoder, weights="adapter" if fine_tuning else "reference", **tuning)
    expected = fitted.fit_transform(TEXTS, [0, 1, 0, 1])
    assert np.isfinite(expected[[0, 1, 3]]).all()
    loaded = pickle.loads(pickle.dumps(fitted))
    forget(models=True)
    np.testing.assert_array_equal(loaded.transform(TEXTS), expected)
