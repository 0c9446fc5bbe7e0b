"""Models in sentence-transformers' format give its own vectors, or are refused by name."""

import json

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, pre_tokenizers
from torch import nn

from sklearn_medfuse import LLMNoteEncoder

st = pytest.importorskip("sentence_transformers")
parts = pytest.importorskip("sentence_transformers.sentence_transformer.modules")

NOTES = ["Patient denies chest pain", "known COPD"]
# The tokens of the tiny model: special ones, then bytes
VOCABULARY = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", *sorted(pre_tokenizers.ByteLevel.alphabet())]
MODES = ["mean", "cls", "max", "lasttoken", "weightedmean", "mean_sqrt_len_tokens"]


def encoder(folder, **params):
    return LLMNoteEncoder(str(folder), **{"dtype": "float32", "device": "cpu"} | params)


@pytest.fixture
def save(tiny_bert, tmp_path):
    """Return a function that saves a model of modules, and gives it."""

    def make(*modules, lowercase=False, all_layers=False, **settings):
        options = {"output_hidden_states": True} if all_layers else None
        first = parts.Transformer(tiny_bert, do_lower_case=lowercase, config_kwargs=options)
        with torch.random.fork_rng():
            torch.manual_seed(1)
            made = [
                module() if callable(module) and not isinstance(module, nn.Module) else module
                for module in modules
            ]
        model = st.SentenceTransformer(modules=[first, *made], device="cpu", **settings)
        model.save(str(tmp_path / "saved"))
        return tmp_path / "saved", model

    return make


LISTS = {
    **{mode: [parts.Pooling(16, mode)] for mode in MODES},
    "two modes": [parts.Pooling(16, ("mean", "max"))],
    "dense": [parts.Pooling(16, "mean"), parts.Dense(16, 8), parts.Normalize()],
    "relu": [parts.Pooling(16, "cls"), parts.Dense(16, 8, activation_function=nn.ReLU())],
    "dense twice": [
        parts.Pooling(16, "mean"),
        parts.Dense(16, 16, use_residual=True),
        parts.Dense(16, 4, bias=False, activation_function=nn.Identity()),
    ],
    "dense on tokens": [
        parts.Dense(16, 8, module_input_name="token_embeddings"),
        parts.Pooling(8, "mean"),
    ],
    "norm": [parts.Pooling(16, "mean"), parts.LayerNorm(16), parts.Dropout(0.5)],
    "layers": [parts.WeightedLayerPooling(16, 2, layer_start=1), parts.Pooling(16, "mean")],
    "word weights": [
        parts.WordWeights(VOCABULARY, {"a": 3.0, "e": 0.5}, unknown_word_weight=0.1),
        parts.Pooling(16, "weightedmean"),
    ],
}
# What sentence-transformers has besides, each with what keeps it from reading notes as texts
REFUSED = {
    "Asym": "routes",
    "Router": "routes",
    "BoW": "its own words",
    "WordEmbeddings": "its own words",
    "CNN": "a net over word vectors",
    "LSTM": "a net over word vectors",
    "CLIPModel": "images",
}


@pytest.mark.parametrize("name", LISTS)
def test_the_vectors_are_those_of_sentence_transformers(save, name, round_trip):
    folder, model = save(*LISTS[name], all_layers=name == "layers")
    fitted = encoder(folder).fit(NOTES)
    np.testing.assert_allclose(fitted.transform(NOTES), model.encode(NOTES), atol=1e-5)
    whole = round_trip(encoder(folder, weights="full").fit(NOTES))
    np.testing.assert_allclose(whole.transform(NOTES), model.encode(NOTES), atol=1e-5)


def test_every_module_that_is_not_honoured_is_refused_by_name(save):
    made = {type(module).__name__ for modules in LISTS.values() for module in modules}
    apart = {"Transformer", "StaticEmbedding", "Module", "InputModule"}
    assert set(parts.__all__) == made | apart | REFUSED.keys()
    folder, _ = save(parts.Pooling(16, "mean"), parts.Normalize())
    modules = json.loads((folder / "modules.json").read_text())
    for name in REFUSED:
        modules[2]["type"] = f"sentence_transformers.sentence_transformer.modules.{name}"
        (folder / "modules.json").write_text(json.dumps(modules))
        with pytest.raises(OSError, match=rf"modules\.{name}'"):
            encoder(folder).fit(NOTES)


@pytest.mark.parametrize("weights", ["reference", "full"])
def test_a_model_in_a_subfolder(save, weights, round_trip, forget):
    """As versions before 3 wrote it, beside the other modules."""
    folder, model = save(parts.Pooling(16, "max"), lowercase=True)
    expected = model.encode(["Known COPD"])
    own = folder / "0_Transformer"
    own.mkdir()
    for file in folder.iterdir():
        if file.is_file() and "modules" not in file.name and "_sentence_tr" not in file.name:
            file.rename(own / file.name)
    modules = json.loads((folder / "modules.json").read_text())
    modules[0]["path"] = "0_Transformer"
    (folder / "modules.json").write_text(json.dumps(modules))
    again = st.SentenceTransformer(str(folder), device="cpu").encode(["Known COPD"])
    np.testing.assert_allclose(again, expected, atol=1e-6)
    fitted = round_trip(encoder(folder, weights=weights).fit(NOTES))
    forget(models=True)
    np.testing.assert_allclose(fitted.transform(["Known COPD"]), expected, atol=1e-5)


def test_lower_case_prompt_and_truncation(save):
    folder, model = save(
        parts.Pooling(16, "mean", include_prompt=False),
        lowercase=True,
        prompts={"q": "query: "},
        default_prompt_name="q",
        truncate_dim=5,
    )
    np.testing.assert_allclose(encoder(folder).fit_transform(NOTES), model.encode(NOTES), atol=1e-5)
    plain = encoder(folder, prompt="").fit_transform(NOTES)
    np.testing.assert_allclose(plain, model.encode(NOTES, prompt=""), atol=1e-5)
    assert plain.shape == (2, 5)


def test_static_word_vectors(tiny_bert, tmp_path):
    rules = Tokenizer.from_file(f"{tiny_bert}/tokenizer.json")
    static = parts.StaticEmbedding(rules, embedding_dim=7)
    model = st.SentenceTransformer(modules=[static, parts.Normalize()], device="cpu")
    model.save(str(tmp_path / "static"))
    found = encoder(tmp_path / "static").fit_transform(NOTES)
    np.testing.assert_allclose(found, model.encode(NOTES), atol=1e-5)


def test_what_is_not_known_is_refused_by_name(save):
    folder, _ = save(parts.Pooling(16, "mean"), parts.Dense(16, 8))
    file = folder / "2_Dense" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"activation_function": "own.Swish"}))
    with pytest.raises(OSError, match=r"own\.Swish"):
        encoder(folder).fit(NOTES)
    modules = json.loads((folder / "modules.json").read_text())
    modules[1]["type"] = "sentence_transformers.models.CNN"
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(OSError, match="CNN"):
        encoder(folder).fit(NOTES)


def test_max_length_beyond_the_positions_is_refused(tiny_bert):
    with pytest.raises(ValueError, match="max_length=65 is more than the 64"):
        encoder(tiny_bert, max_length=65).fit(NOTES)
