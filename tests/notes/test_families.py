"""Every family of transformers that reads text gives the vectors that transformers gives.

The list of families is the installed transformers' own: a new release adds its families, and one
that fails turns a test red. Those that cannot work stand in `REFUSED` and in the guide of notes.
"""

import io
import json
import re
import sys
from pathlib import Path

import joblib
import numpy as np
import pytest
import safetensors.torch
import torch

from sklearn_medfuse import LLMNoteEncoder
from tests.notes.tiny_families import FAMILIES, tiny

NOTE, LONG = "denies chest pain", "known copd on oxygen " * 8
GUIDE = Path(__file__).parents[2] / "docs" / "user_guide" / "notes.rst"
# Those with code of their own, and one of each kind
QUICK = "cpmant fnet fsmt gpt2 ibert llama4 mamba mixtral nystromformer reformer squeezebert t5 \
    t5gemma xlnet yoso"
# Families that give no states of tokens for text alone, by what they need
REFUSED = {
    "sound": "musicgen musicgen_melody nemo_speechlm vibevoice_asr voxtral_realtime whisper",
    "images": "gemma3n layoutlmv2 lxmert",
    "boxes": "bros",
    "inputs of its own": "perceiver",
    "llama4_text": "llama4",
    "hashes": "reformer",
    "transformers' own cache": "blt",
}
# Families of which the installed transformers makes no small model to try
UNTRIED = "bailing_hybrid dots3_note dots3_note_text emu3 kimi_linear qwen4_exp qwen4_exp_text \
    seamless_m4t seamless_m4t_v2 xlstm"
# Whose linear layers are no torch.nn.Linear, and what to name in their place
NO_LORA = {"ibert": "query (QuantLinear)", "squeezebert": "query (Conv1d)"}


def families():
    for family in FAMILIES:
        if family not in UNTRIED.split() and family not in " ".join(REFUSED.values()).split():
            yield pytest.param(family, marks=[] if family in QUICK.split() else pytest.mark.slow)


@pytest.fixture(params=families())
def family(request):
    return request.param


@pytest.fixture
def folder(family, tmp_path, byte_tokenizer):
    tiny(family).save_pretrained(tmp_path)
    byte_tokenizer.save_pretrained(tmp_path)
    return str(tmp_path)


@pytest.fixture
def loaded_elsewhere(forget):
    """Return a function that saves and loads, as in a process that has no model yet."""

    def load(encoder):
        file = io.BytesIO()
        joblib.dump(encoder, file)
        file.seek(0)
        forget(models=True)
        return joblib.load(file)

    return load


@pytest.mark.filterwarnings("ignore::UserWarning:transformers", "ignore::FutureWarning")
def test_a_family_gives_its_own_states(family, folder, byte_tokenizer, loaded_elsewhere):
    model = tiny(family)
    if model.config.is_encoder_decoder:
        model = model.get_encoder()
    with torch.no_grad():
        states = model(**byte_tokenizer(NOTE, return_tensors="pt", return_token_type_ids=False))
    expected = states.last_hidden_state[0].mean(dim=0).numpy()
    usual = {"dtype": "float32", "device": "cpu", "max_length": 40}
    frozen = LLMNoteEncoder(folder, **usual).fit([NOTE, LONG])
    vectors = frozen.transform([NOTE, LONG])
    np.testing.assert_allclose(vectors[0], expected, atol=1e-5 * abs(expected).max())
    assert frozen.n_chunks_.tolist() == [1, 7]
    assert frozen.n_tokens_.tolist() == [len(NOTE), len(LONG)]
    np.testing.assert_array_equal(loaded_elsewhere(frozen).transform([NOTE, LONG]), vectors)
    tuned = LLMNoteEncoder(
        folder,
        fine_tuning="lora",
        cv=None,
        max_epochs=1,
        validation_fraction=0.5,
        random_state=0,
        weights="adapter",
        **usual,
    )
    notes = [NOTE, LONG, NOTE + " b", LONG + " c"]
    if family in NO_LORA:
        with pytest.raises(ValueError, match=re.escape(NO_LORA[family])):
            tuned.fit(notes, [0, 1, 0, 1])
        return
    vectors = tuned.fit(notes, [0, 1, 0, 1]).transform([NOTE, LONG])
    np.testing.assert_array_equal(loaded_elsewhere(tuned).transform([NOTE, LONG]), vectors)


@pytest.mark.filterwarnings("ignore::UserWarning:transformers")
@pytest.mark.parametrize("family", ["bros", "llama4", "lxmert", "perceiver", "reformer", "whisper"])
def test_a_family_without_states_of_text_is_refused(family, folder):
    with pytest.raises(OSError, match=type(tiny(family)).__name__.removesuffix("Model")):
        LLMNoteEncoder(folder, device="cpu").fit([NOTE])


@pytest.mark.parametrize("family", ["fnet"])
def test_a_dtype_that_a_family_does_not_compute_is_refused(folder):
    with pytest.raises(OSError, match=r"FNetModel .* torch\.bfloat16 .* dtype='float32'"):
        LLMNoteEncoder(folder, dtype="bfloat16", device="cpu").fit([NOTE])


def test_a_tokenizer_names_the_package_that_it_needs(tmp_path, monkeypatch):
    tiny("biogpt").save_pretrained(tmp_path)
    vocabulary = {token: i for i, token in enumerate(["<s>", "<pad>", "</s>", "<unk>", "a</w>"])}
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary))
    (tmp_path / "merges.txt").write_text("#version: 0.2\na b 1\n")
    monkeypatch.setitem(sys.modules, "sacremoses", None)
    with pytest.raises(ImportError, match="sacremoses"):
        LLMNoteEncoder(str(tmp_path), device="cpu").fit([NOTE])


def test_the_guide_lists_the_families_that_cannot():
    listed = set(re.findall("``([a-z0-9_]+)``", GUIDE.read_text().split("Which models")[1]))
    families = [*REFUSED.values(), UNTRIED, *NO_LORA]
    assert {family for names in families for family in names.split()} <= listed


@pytest.mark.parametrize("targets", [["query", "key"], r".*layer\.0.*\.value", ["word_embeddings"]])
def test_target_modules_are_those_of_peft(tiny_bert, targets, loaded_elsewhere):
    tuned = LLMNoteEncoder(
        tiny_bert, fine_tuning="lora", target_modules=targets, cv=None, max_epochs=1,
        learning_rate=0.1, random_state=0, device="cpu",
    )  # fmt: skip
    notes = [NOTE, LONG, NOTE + " b", LONG + " c"]
    tuned.fit(notes, [0, 1, 0, 1])
    adapted = {
        re.sub(r".*\.(\w+)\.lora_.*", r"\1", name)
        for name in safetensors.torch.load(tuned.tuned_data_)
    }
    assert adapted == (set(targets) if isinstance(targets, list) else {"value"})
    vectors = tuned.transform(notes)
    np.testing.assert_array_equal(loaded_elsewhere(tuned).transform(notes), vectors)


@pytest.mark.parametrize("targets", [["query", "q_proj"], "no.*layer", []])
def test_target_modules_that_the_model_lacks_are_refused(tiny_bert, targets):
    encoder = LLMNoteEncoder(tiny_bert, fine_tuning="lora", target_modules=targets, device="cpu")
    with pytest.raises(ValueError, match=r"target_modules=.*key \(Linear\), .* query \(Linear\)"):
        encoder.fit([NOTE, LONG, NOTE, LONG], [0, 1, 0, 1])


def test_layers_that_are_no_linear_ones_can_be_named(tmp_path, byte_tokenizer, loaded_elsewhere):
    tiny("squeezebert").save_pretrained(tmp_path)
    byte_tokenizer.save_pretrained(tmp_path)
    usual = {"fine_tuning": "lora", "cv": None, "max_epochs": 1, "random_state": 0, "device": "cpu"}
    notes, y = [NOTE, LONG, NOTE + " b", LONG + " c"], [0, 1, 0, 1]
    named = LLMNoteEncoder(str(tmp_path), target_modules=["post_attention.conv1d"], **usual)
    vectors = named.fit(notes, y).transform(notes)
    np.testing.assert_array_equal(loaded_elsewhere(named).transform(notes), vectors)
    # A convolution in groups cannot be merged with its adapter
    with pytest.raises(ValueError, match=r"query \(Conv1d\)"):
        named.set_params(target_modules=["query"]).fit(notes, y)
