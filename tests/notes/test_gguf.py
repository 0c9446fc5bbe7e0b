"""A model in a GGUF file embeds as the model that the file was written from."""

import importlib.util
from pathlib import Path

import gguf
import joblib
import numpy as np
import pytest
import transformers
from packaging.version import Version
from transformers import AutoModel, AutoTokenizer

from sklearn_medfuse import LLMNoteEncoder
from sklearn_medfuse.notes._backbone import load_backbone
from sklearn_medfuse.notes._gguf import OLDEST_TRANSFORMERS

NOTES = ["Known COPD.", None, "Denies pain. " * 20, "Ejection fraction 30%.\n\nRôle of ☤."]
# names in a GGUF file of the parts of a Llama model
OUTER = {"embed_tokens.weight": "token_embd.weight", "norm.weight": "output_norm.weight"}
LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def gguf_tensors(model):
    """Give (name in the file, float32 array) of the weights of a Llama model."""
    heads = {
        "attn_q": model.config.num_attention_heads,
        "attn_k": model.config.num_key_value_heads,
    }
    for name, weight in model.state_dict().items():
        values = weight.numpy().astype(np.float32)
        if name in OUTER:
            yield OUTER[name], values
            continue
        _, layer, *part, kind = name.split(".")
        part = LAYER[".".join(part)]
        if part in heads:
            # the two halves that rotate together stand side by side in a GGUF file
            halves = values.reshape(heads[part], 2, -1, values.shape[1])
            values = np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(values.shape)
        yield f"blk.{layer}.{part}.{kind}", values


def write_gguf(folder, path):
    """Write the Llama model and the byte tokenizer of a folder as one GGUF file."""
    model, tokenizer = AutoModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(config.vocab_size)
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([token for token, _ in vocabulary])
    writer.add_token_types([gguf.TokenType.NORMAL] * len(vocabulary))
    # in the place of merges, which the byte tokenizer has none of
    writer.add_token_scores([0.0] * len(vocabulary))
    writer.add_pad_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(3)
    writer.add_add_bos_token(False)
    for name, values in gguf_tensors(model):
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return str(path)


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
    # vectors that hardly differ would agree whatever the weights
    assert np.linalg.norm(vectors[0] - vectors[3]) > 0.1


@known
def test_a_saved_encoder_finds_its_file_again(tiny_gguf, round_trip):
    fitted = encoder(tiny_gguf).fit(NOTES)
    loaded = round_trip(fitted)
    load_backbone.cache_clear()
    np.testing.assert_array_equal(loaded.transform(NOTES), fitted.transform(NOTES))


@known
def test_full_weights_do_without_the_file(tiny_llama, tmp_path):
    path = write_gguf(tiny_llama, tmp_path / "gone.gguf")
    fitted = encoder(path, weights="full").fit(NOTES)
    expected = fitted.transform(NOTES)
    joblib.dump(fitted, tmp_path / "encoder.joblib")
    (tmp_path / "gone.gguf").unlink()
    load_backbone.cache_clear()
    loaded = joblib.load(tmp_path / "encoder.joblib")
    np.testing.assert_array_equal(loaded.transform(NOTES), expected)


@known
def test_other_weights_in_the_file_are_refused(tiny_llama, tmp_path):
    path = write_gguf(tiny_llama, tmp_path / "tiny.gguf")
    fitted = encoder(path).fit(NOTES)
    assert encoder(path).fit(NOTES).fingerprint_ == fitted.fingerprint_
    model = AutoModel.from_pretrained(tiny_llama)
    model.layers[1].mlp.up_proj.weight.data *= 1.5
    model.save_pretrained(tmp_path / "other")
    AutoTokenizer.from_pretrained(tiny_llama).save_pretrained(tmp_path / "other")
    write_gguf(tmp_path / "other", tmp_path / "tiny.gguf")
    load_backbone.cache_clear()
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
@pytest.mark.parametrize("share", [0, 1e-4, 0.05, 0.5, 0.9999])
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
