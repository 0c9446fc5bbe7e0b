"""Windows packed and fused on a CPU get the states that the library gives for each alone."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import AutoConfig, AutoModel

from sklearn_medfuse import LLMNoteEncoder
from sklearn_medfuse.notes._language_model import cpu_layers

NOTES = ["Known COPD.", "Denies pain", "ECG", "x", "On home oxygen for two years."]


@pytest.fixture
def save(tmp_path, byte_tokenizer):
    """Return a function that writes a small random model; it returns the model and its folder."""

    def make(family, **more):
        config = AutoConfig.for_model(
            family,
            vocab_size=len(byte_tokenizer),
            hidden_size=16,
            embedding_size=16,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=32,
            max_position_embeddings=80,
            pad_token_id=0,
            **more,
        )
        if hasattr(config, "num_key_value_heads"):
            config.num_key_value_heads = 2
            config.head_dim = 4
        if family == "mistral":
            config.sliding_window = None
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(0)
            model = AutoModel.from_config(config).eval()
            # Norms and biases as random as the rest, so that none can be left out unseen
            for parameter in model.parameters():
                parameter += 0.2 * torch.randn_like(parameter)
        model.save_pretrained(tmp_path)
        byte_tokenizer.save_pretrained(tmp_path)
        return model, str(tmp_path)

    return make


def encoder(folder, **params):
    return LLMNoteEncoder(folder, **{"dtype": "float32", "device": "cpu"} | params)


def alone(model, tokenizer, notes):
    """Means of the states of each note by itself."""
    with torch.no_grad():
        inputs = [tokenizer(note, return_tensors="pt")["input_ids"] for note in notes]
        return np.stack([model(input_ids=i).last_hidden_state[0].mean(dim=0) for i in inputs])


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize(
    ("family", "more"),
    [
        *[(family, {}) for family in sorted(cpu_layers.PACKABLE)],
        *[("bert", {"hidden_act": activation}) for activation in ("gelu_new", "relu", "silu")],
        ("electra", {"hidden_act": "relu"}),
    ],
)
def test_packed_states_are_the_librarys(save, byte_tokenizer, monkeypatch, family, more, fused):
    """Also without oneDNN, where the library's own layers stay."""
    if not fused:
        monkeypatch.setattr(cpu_layers, "can_fuse", lambda dtype: False)
    model, folder = save(family, **more)
    found = encoder(folder).fit_transform(NOTES)
    np.testing.assert_allclose(found, alone(model, byte_tokenizer, NOTES), atol=2e-5)


@pytest.mark.parametrize("family", ["bert", "electra"])
def test_layers_are_fused_where_the_machine_can(save, monkeypatch, family):
    kinds = []
    run = cpu_layers.run_packed
    monkeypatch.setattr(
        "sklearn_medfuse.notes._language_model.backbone.run_packed",
        lambda model, *rest: kinds.extend(map(type, model.modules())) or run(model, *rest),
    )
    encoder(save(family)[1]).fit_transform(NOTES)
    assert (cpu_layers.FusedEncoderLayer in kinds) == cpu_layers.can_fuse(torch.float32)


@pytest.mark.skipif(
    not cpu_layers.can_fuse(torch.bfloat16), reason="the processor has no bfloat16 products"
)
@pytest.mark.parametrize("family", ["bert", "electra", "llama"])
def test_bfloat16_vectors_are_near_those_of_float32(save, byte_tokenizer, family):
    notes = ["ab cd " * 10, "b" * 60, "c" * 33, "d" * 32, "e" * 31, "fg"]
    model, folder = save(family)
    found = encoder(folder, dtype="bfloat16").fit_transform(notes)
    exact = alone(model, byte_tokenizer, notes)
    assert F.cosine_similarity(*map(torch.tensor, (found, exact)), dim=1).min() > 0.999


@pytest.mark.parametrize("score_bytes", [1, 20_000, 2**20])
@pytest.mark.parametrize("length", [1, 31, 32, 90])
def test_attention_by_scores_is_torchs(monkeypatch, score_bytes, length):
    monkeypatch.setattr(cpu_layers, "_SCORE_BYTES", score_bytes)
    heads = torch.randn(3, length, 3, 2, 8, generator=torch.Generator().manual_seed(0))
    # Scores up to two hundred, which exp alone would not take
    heads = (6 * heads).permute(2, 0, 3, 1, 4)
    exact = F.scaled_dot_product_attention(*heads.double(), scale=0.3)
    found = cpu_layers.attend_by_scores(*heads, 0.3)
    torch.testing.assert_close(found.double(), exact, atol=2e-4, rtol=0)


@pytest.mark.parametrize("family", ["mistral", "gemma3_text", "roberta"])
def test_what_is_not_known_to_pack_is_not_packed(save, family):
    model, _ = save(family)
    model.config.sliding_window = 4
    assert not cpu_layers.can_pack(model)


@pytest.mark.parametrize("family", ["bert", "llama", "gemma3_text"])
def test_a_bfloat16_vector_does_not_depend_on_the_notes_beside_it(
    save, tiny_bert, tiny_llama, anew, family
):
    folder = {"bert": tiny_bert, "llama": tiny_llama}.get(family) or save(family)[1]
    rng = np.random.default_rng(0)
    notes = ["".join(rng.choice(list("abcdef"), size)) for size in rng.integers(1, 50, 40)]
    fitted = encoder(folder, dtype="bfloat16", batch_tokens=200).fit(notes)
    one_by_one = np.concatenate([anew(fitted, [note]) for note in notes])
    np.testing.assert_array_equal(anew(fitted, notes), one_by_one)
