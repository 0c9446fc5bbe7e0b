"""Kinds of models and tokenizers: positions, encoders alone, tokenizers in Python, prompts."""

import numpy as np
import pytest
import torch
from tokenizers import ByteLevelBPETokenizer, Tokenizer, processors
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForTextEncoding,
    ByT5Tokenizer,
    CanineTokenizer,
    PreTrainedTokenizerFast,
)

from sklearn_medfuse import LLMNoteEncoder

NOTES = ["patient denies chest pain", "known copd"]
SIZES = {
    "vocab_size": 264,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
T5_SIZES = {
    "vocab_size": 384,
    "d_model": 16,
    "d_kv": 8,
    "d_ff": 32,
    "num_layers": 2,
    "num_heads": 2,
}


def encoder(folder, **params):
    return LLMNoteEncoder(str(folder), **{"dtype": "float32", "device": "cpu"} | params)


def save(folder, tokenizer, family, kind=AutoModel, seed=0, **settings):
    """Write a random model with a tokenizer, and give it."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = kind.from_config(AutoConfig.for_model(family, **settings)).eval()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model


def mean_states(model, tokenizer, notes=NOTES):
    rows = [tokenizer(note, return_tensors="pt")["input_ids"] for note in notes]
    with torch.no_grad():
        return np.stack([model(row).last_hidden_state[0].mean(dim=0).numpy() for row in rows])


@pytest.mark.parametrize(
    ("family", "more"),
    [
        ("roberta", {}),
        ("xlm-roberta", {}),
        ("camembert", {}),
        ("mpnet", {}),
        ("longformer", {"attention_window": [8, 8]}),
    ],
)
def test_positions_that_begin_after_the_padding_limit_the_window(
    family, more, tmp_path, byte_tokenizer
):
    """Of 66 positions 64 are for tokens: (300 - 16) / (64 - 2 - 16) = 6.2, so seven windows."""
    settings = SIZES | {"max_position_embeddings": 66, "pad_token_id": 1} | more
    model = save(tmp_path, byte_tokenizer, family, **settings)
    fitted = encoder(tmp_path).fit(["x" * 300])
    assert (fitted.n_chunks_.tolist(), fitted.n_tokens_.tolist()) == ([7], [300])
    whole = ["x" * 62]
    np.testing.assert_allclose(
        fitted.transform(whole), mean_states(model, byte_tokenizer, whole), atol=1e-5
    )
    with pytest.raises(ValueError, match="max_length=65 is more than the 64"):
        encoder(tmp_path, max_length=65).fit(whole)


def test_a_model_without_a_limit_of_positions_gets_the_usual_window(tmp_path, byte_tokenizer):
    """(3000 - 16) / (2048 - 2 - 16) = 1.5, so two windows."""
    sizes = {"vocab_size": 264, "d_model": 16, "n_layer": 1, "n_head": 2, "d_inner": 32}
    save(tmp_path, byte_tokenizer, "xlnet", **sizes)
    assert AutoConfig.from_pretrained(tmp_path).max_position_embeddings == -1
    assert encoder(tmp_path).fit(["x" * 3000]).n_chunks_.tolist() == [2]


@pytest.mark.parametrize("family", ["t5", "mt5", "umt5"])
@pytest.mark.parametrize("kind", [AutoModelForTextEncoding, AutoModel])
def test_a_checkpoint_may_hold_the_encoder_alone(family, kind, tmp_path, byte_tokenizer):
    model = save(tmp_path, byte_tokenizer, family, kind, **T5_SIZES)
    states = mean_states(model.get_encoder(), byte_tokenizer)
    np.testing.assert_allclose(encoder(tmp_path).fit_transform(NOTES), states, atol=1e-5)


@pytest.mark.parametrize(
    ("family", "tokenizer", "settings"),
    [
        ("t5", ByT5Tokenizer, T5_SIZES),
        ("canine", CanineTokenizer, SIZES | {"num_hash_functions": 2, "num_hash_buckets": 64}),
    ],
)
def test_a_tokenizer_in_python(family, tokenizer, settings, tmp_path, round_trip):
    model = save(tmp_path, tokenizer(), family, **settings)
    model = model.get_encoder() if family == "t5" else model
    fitted = encoder(tmp_path, weights="full").fit(NOTES)
    expected = mean_states(model, tokenizer())
    np.testing.assert_allclose(fitted.transform(NOTES), expected, atol=1e-5)
    np.testing.assert_allclose(round_trip(fitted).transform(NOTES), expected, atol=1e-5)


LLAMA = SIZES | {"num_key_value_heads": 1, "head_dim": 8, "max_position_embeddings": 64}


@pytest.mark.parametrize(
    ("family", "other"),
    [
        ("llama", {"rope_parameters": {"rope_type": "default", "rope_theta": 3.0}}),
        ("llama", {"hidden_act": "relu"}),
        ("gemma3_text", {"use_bidirectional_attention": True}),
        ("mistral", {"sliding_window": 3}),
    ],
)
def test_the_same_weights_under_another_config_share_no_vectors(
    family, other, tmp_path, byte_tokenizer
):
    for name, more in (("one", {}), ("two", other)):
        model = save(tmp_path / name, byte_tokenizer, family, **LLAMA, **more)
        # Read back, as a config may hold more than the model was made with
        model = AutoModel.from_pretrained(tmp_path / name).eval()
        found = encoder(tmp_path / name, cache=tmp_path / "cache").fit_transform(NOTES)
        np.testing.assert_allclose(found, mean_states(model, byte_tokenizer), atol=1e-5)


@pytest.mark.parametrize("prompt", ["query: ", "query:", "find {text}"])
def test_a_prompt_is_tokenised_with_the_text_that_it_stands_beside(prompt, tmp_path):
    trained = ByteLevelBPETokenizer()
    texts = [*NOTES, *(f"query: {note}" for note in NOTES)] * 20
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    trained.train_from_iterator(texts, vocab_size=320, special_tokens=special)
    rules = Tokenizer.from_str(trained.to_str())
    around = [(token, rules.token_to_id(token)) for token in ("<s>", "</s>")]
    rules.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=around
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=rules, pad_token="<pad>", unk_token="<unk>", bos_token="<s>"
    )
    model = save(
        tmp_path, tokenizer, "bert", **SIZES | {"vocab_size": 330, "max_position_embeddings": 64}
    )
    texts = [prompt.replace("{text}", note) if "{" in prompt else prompt + note for note in NOTES]
    if prompt == "query: ":
        # Apart, the prompt's blank is a token of its own
        apart = len(tokenizer(prompt)["input_ids"]) + len(tokenizer(NOTES[0])["input_ids"]) - 2
        assert apart == len(tokenizer(texts[0])["input_ids"]) + 1
    found = encoder(tmp_path, prompt=prompt).fit_transform(NOTES)
    np.testing.assert_allclose(found, mean_states(model, tokenizer, texts), atol=1e-5)
