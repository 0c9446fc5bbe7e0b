"""Packed chunks get the states that the library gives for each chunk alone."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import AutoConfig, AutoModel

from sklearn_medfuse.notes._language_model import cpu_layers
from sklearn_medfuse.notes._language_model.backbone import load_backbone
from sklearn_medfuse.notes._language_model.cpu_layers import (
    PACKABLE,
    FusedEncoderLayer,
    PrepackedLinear,
    attend_by_scores,
    can_fuse,
    can_pack,
    prepare_packed,
    run_packed,
)
from sklearn_medfuse.notes._language_model.source import ModelSpec

ROWS = [[5, 6, 7, 8, 9], [9, 8, 7, 6, 5], [3, 4, 3], [7]]


def small_model(family, **more):
    config = AutoConfig.for_model(
        family,
        vocab_size=20,
        hidden_size=16,
        embedding_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=32,
        max_position_embeddings=64,
        pad_token_id=0,
        **more,
    )
    if hasattr(config, "num_key_value_heads"):
        config.num_key_value_heads = 2
        config.head_dim = 4
    if family == "mistral":
        config.sliding_window = None
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return AutoModel.from_config(config).eval().requires_grad_(False)


@pytest.mark.parametrize("family", sorted(PACKABLE))
def test_packed_states_are_the_librarys(family):
    model = small_model(family)
    assert can_pack(model)
    with torch.inference_mode():
        alone = [model(input_ids=torch.tensor([row])).last_hidden_state[0] for row in ROWS]
        prepare_packed(model)
        packed = [states for group in run_packed(model, ROWS) for states in group]
    for one, other in zip(alone, packed, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def kinds_of_modules(model):
    return {type(module) for module in model.modules()}


@pytest.mark.parametrize("family", ["bert", "electra"])
@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "relu", "silu"])
def test_fused_layers_give_the_librarys_states(family, activation):
    model = small_model(family, hidden_act=activation)
    # Norms and biases as random as the rest, so that none can be left out unseen
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(1)
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    with torch.inference_mode():
        alone = [model(input_ids=torch.tensor([row])).last_hidden_state[0] for row in ROWS]
        prepare_packed(model)
        packed = [states for group in run_packed(model, ROWS) for states in group]
    fused = can_fuse(torch.float32) and activation != "silu"
    assert (FusedEncoderLayer in kinds_of_modules(model)) == fused
    for one, other in zip(alone, packed, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_without_onednn_the_librarys_layers_stay(monkeypatch):
    monkeypatch.setattr(cpu_layers, "can_fuse", lambda dtype: False)
    model = small_model("bert")
    kinds = kinds_of_modules(model)
    prepare_packed(model)
    assert kinds_of_modules(model) == kinds
    assert not {FusedEncoderLayer, PrepackedLinear} & kinds


@pytest.mark.skipif(not can_fuse(torch.bfloat16), reason="the processor has no bfloat16 products")
@pytest.mark.parametrize("family", ["bert", "electra", "llama"])
def test_bfloat16_states_are_near_those_of_float32(family):
    rng = np.random.default_rng(0)
    rows = [rng.integers(1, 20, size).tolist() for size in (60, 60, 33, 32, 31, 2)]
    model = small_model(family)
    with torch.inference_mode():
        exact = [model(input_ids=torch.tensor([row])).last_hidden_state[0] for row in rows]
        half = model.to(torch.bfloat16)
        prepare_packed(half)
        found = [states.float() for group in run_packed(half, rows) for states in group]
    for one, other in zip(exact, found, strict=True):
        assert F.cosine_similarity(one, other, dim=1).min() > 0.999


@pytest.mark.parametrize("score_bytes", [1, 20_000, 2**20])
@pytest.mark.parametrize("length", [1, 31, 32, 90])
def test_attention_by_scores_is_torchs(monkeypatch, score_bytes, length):
    monkeypatch.setattr(cpu_layers, "_SCORE_BYTES", score_bytes)
    heads = torch.randn(3, length, 3, 2, 8, generator=torch.Generator().manual_seed(0))
    # Scores up to two hundred, which exp alone would not take
    heads = (6 * heads).permute(2, 0, 3, 1, 4)
    exact = F.scaled_dot_product_attention(*heads.double(), scale=0.3)
    found = attend_by_scores(*heads, 0.3)
    torch.testing.assert_close(found.double(), exact, atol=2e-4, rtol=0)


@pytest.mark.parametrize("family", ["mistral", "gemma3_text", "roberta"])
def test_what_is_not_known_to_pack_is_not_packed(family):
    model = small_model(family)
    model.config.sliding_window = 4
    assert not can_pack(model)


@pytest.mark.parametrize("family", ["bert", "llama", "gemma3_text"])
def test_a_bfloat16_vector_does_not_depend_on_the_chunks_beside_it(
    tiny_bert, tiny_llama, tmp_path, family
):
    folder = {"bert": tiny_bert, "llama": tiny_llama}.get(family, str(tmp_path))
    if family == "gemma3_text":
        small_model(family, head_dim=4).save_pretrained(folder)
        llama = ModelSpec(tiny_llama, None, "float32", "cpu", False, False)
        load_backbone(llama).tokenizer.save_pretrained(folder)
    backbone = load_backbone(ModelSpec(folder, None, "bfloat16", "cpu", False, False))
    rng = np.random.default_rng(0)
    longest = min(backbone.max_positions, 60) - 4
    chunks = [rng.integers(4, 20, size).tolist() for size in rng.integers(1, longest, 40)]
    alone = np.concatenate([backbone.embed([chunk], ("mean", 0)) for chunk in chunks])
    together = np.empty_like(alone)
    for batch in backbone.batches(chunks, 200):
        together[batch] = backbone.embed([chunks[i] for i in batch], ("mean", 0))
    np.testing.assert_array_equal(together, alone)
