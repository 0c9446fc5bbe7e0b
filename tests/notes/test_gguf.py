"""A model in a GGUF file embeds as the model that the file was written from."""

import importlib.util
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import transformers
from packaging.version import Version
from transformers import AutoModel, AutoTokenizer

from sklearn_medfuse import LLMNoteEncoder
from sklearn_medfuse.notes._language_model.source import OLDEST_TRANSFORMERS
from tests.notes.tiny_gguf import write_gguf

NOTES = ["Known COPD.", None, "Denies pain. " * 20, "Ejection fraction 30%.\n\nRôle of ☤."]


@pytest.fixture(scope="session")
def tiny_gguf(tiny_llama, tmp_path_factory):
    return write_gguf(tiny_llama, tmp_path_factory.mktemp("gguf") / "tiny.gguf")


def encoder(model, **params):
    return LLMNoteEncoder(model, **{"dtype": "float32", "device": "cpu"} | params)


known = pytest.mark.skipif(
    Version(transformers.__version__) < Version(OLDEST_TRANSFORMERS),
    reason="an older transformers is refused, which a test of its own shows",
)


@known
@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_vectors_are_those_of_the_model_in_the_file(tiny_gguf, tiny_llama, pooling):
    expected = encoder(tiny_llama, pooling=pooling).fit(NOTES)
    found = encoder(tiny_gguf, pooling=pooling).fit(NOTES)
    np.testing.assert_array_equal(found.n_tokens_, expected.n_tokens_)
    vectors = found.transform(NOTES)
    assert np.isnan(vectors[1]).all()
    np.testing.assert_allclose(vectors, expected.transform(NOTES), atol=1e-5)
    # Vectors that hardly differ would agree whatever the weights
    assert np.linalg.norm(vectors[0] - vectors[3]) > 0.1


@known
def test_reading_the_file_shows_no_progress_bar(tiny_gguf, capsys, forget):
    for verbose in (0, 1):
        forget(models=True)
        encoder(tiny_gguf, verbose=verbose).fit(NOTES)
        shown = capsys.readouterr()
        assert "GGUF" not in shown.err + shown.out


@known
@pytest.mark.parametrize("weights", ["reference", "full"])
def test_a_saved_encoder_finds_its_file_again_or_does_without(tiny_gguf, tmp_path, weights, forget):
    path = Path(shutil.copy(tiny_gguf, tmp_path / "tiny.gguf"))
    fitted = encoder(str(path), weights=weights).fit(NOTES)
    expected = fitted.transform(NOTES)
    loaded = pickle.loads(pickle.dumps(fitted))
    forget(models=True)
    if weights == "full":
        path.unlink()
    np.testing.assert_array_equal(loaded.transform(NOTES), expected)


@known
def test_other_weights_in_the_file_are_refused(tiny_llama, tmp_path, forget):
    path = write_gguf(tiny_llama, tmp_path / "tiny.gguf")
    fitted = encoder(path).fit(NOTES)
    assert encoder(path).fit(NOTES).fingerprint_ == fitted.fingerprint_
    model = AutoModel.from_pretrained(tiny_llama)
    model.layers[1].mlp.up_proj.weight.data *= 1.5
    model.save_pretrained(tmp_path / "other")
    AutoTokenizer.from_pretrained(tiny_llama).save_pretrained(tmp_path / "other")
    write_gguf(tmp_path / "other", tmp_path / "tiny.gguf")
    forget(models=True)
    with pytest.raises(ValueError, match="used in fit"):
        fitted.transform(NOTES)


@known
def test_an_adapter_is_learned_on_a_gguf_model(tiny_gguf):
    params = {"fine_tuning": "lora", "max_epochs": 1, "weights": "adapter", "random_state": 0}
    fitted = encoder(tiny_gguf, **params).fit(NOTES, [0, 1, 0, 1])
    assert np.isfinite(fitted.transform(NOTES)[[0, 2, 3]]).all()


def test_an_older_transformers_is_refused(tiny_gguf, monkeypatch):
    monkeypatch.setattr(transformers, "__version__", "5.10.4")
    with pytest.raises(ImportError, match=r"transformers>=5.23.*sklearn-medfuse\[gguf\]"):
        encoder(tiny_gguf).fit(NOTES)


def test_without_the_package_the_extra_is_named(tiny_gguf, monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "gguf" else find_spec(name)
    )
    with pytest.raises(ImportError, match=r"sklearn-medfuse\[gguf\]"):
        encoder(tiny_gguf).fit(NOTES)


@known
def test_quantization_is_the_files_own(tiny_gguf):
    with pytest.raises(ValueError, match="quantization=None"):
        encoder(tiny_gguf, quantization="4bit").fit(NOTES)


@known
@pytest.mark.parametrize("share", [0, 1e-4, 0.5, 0.9999])
def test_a_file_cut_short_is_refused(tiny_gguf, tmp_path, share):
    content = Path(tiny_gguf).read_bytes()
    path = tmp_path / "short.gguf"
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(OSError, match=r"short\.gguf.*damaged"):
        encoder(str(path)).fit(NOTES)


@known
def test_what_is_no_gguf_file_is_refused(tmp_path):
    path = tmp_path / "text.gguf"
    path.write_text("no model at all, but text. " * 100)
    with pytest.raises(OSError, match=r"text\.gguf.*damaged"):
        encoder(str(path)).fit(NOTES)
