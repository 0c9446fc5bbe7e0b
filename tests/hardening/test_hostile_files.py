"""Damaged and forged files are refused with our own error or change nothing; none runs code."""

import hashlib
import io
import json
import os
import pickle
import zipfile
from functools import partial

import joblib
import numpy as np
import pytest
import safetensors.numpy
import skops.io
import torch
from scipy.stats import loguniform
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import Ridge
from sklearn.model_selection import RandomizedSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from sklearn_medfuse import LLMNoteEncoder, MaskedLabEncoder
from sklearn_medfuse._checkpoint import Checkpoint
from sklearn_medfuse._private_files import _digest as digest_of
from sklearn_medfuse._private_files import seal
from sklearn_medfuse.datasets import Cohort, load_eicu_demo
from sklearn_medfuse.notes._language_model.cache import FolderCache
from sklearn_medfuse.persistence import load_model, save_model

from ..notes.tiny_gguf import write_gguf
from .fuzzing import BAD, Bench, fuzz, table
from .mutations import Canary
from .scale import SCALE
from .targets import make_targets

NOTES = ["Known COPD.", None, "Denies pain."]


@pytest.fixture(scope="module")
def fitted():
    params = {"d_model": 8, "n_heads": 2, "n_layers": 1, "max_epochs": 1, "device": "cpu"}
    X = np.random.default_rng(0).normal(size=(20, 3))
    return MaskedLabEncoder(4, n_factors=2, **params).fit(X)


@pytest.fixture
def cohort_folder(tmp_path):
    load_eicu_demo(n_labels=2).select(range(5)).to_parquet(tmp_path / "cohort")
    return tmp_path / "cohort"


@pytest.fixture
def model_folder(save_bert, tmp_path):
    save_bert(tmp_path / "model")
    return tmp_path / "model"


def note_encoder(folder, **params):
    return LLMNoteEncoder(
        str(folder), dtype="float32", device="cpu", local_files_only=True, **params
    )


def edit(file, **changes):
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


# The fuzzer


@pytest.fixture(scope="module")
def targets(save_bert, tiny_llama):
    """What is fuzzed, by name."""
    return make_targets(save_bert, lambda path: write_gguf(tiny_llama, path))


def fuzzed(targets, n_cases, folder):
    results = fuzz(targets, n_cases, 1, folder)
    print(table(results))
    assert len(results) == n_cases
    assert [line for line in results if line["end"] in BAD] == []
    assert {line["end"] for line in results} >= {"refused", "equal"}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the fuzzer forks")
def test_a_few_fuzzed_files(targets, tmp_path):
    names = ("Cohort.from_parquet", "PrivateMemory store")
    fuzzed([targets[name] for name in names], 40, tmp_path)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the fuzzer forks")
def test_fuzzed_files(targets, tmp_path):
    fuzzed(list(targets.values()), 150 * SCALE, tmp_path)


@pytest.mark.filterwarnings("ignore")
def test_the_fuzzer_sees_what_it_looks_for(targets, tmp_path):
    target = targets["PrivateMemory store"]
    bench = Bench(target, tmp_path)
    bench.restore()
    assert bench.run(False) == ("equal", "")
    read = target.read
    try:
        target.read = lambda folder, beside: read(folder, beside) + 1
        assert bench.run(False)[0] == "silent change"
        target.read = lambda folder, beside: pickle.loads(pickle.dumps(Canary(bench.canary)))
        assert bench.run(False)[0] == "ran code"
        target.read = lambda folder, beside: {}["a"]
        assert bench.run(False)[0] == "wrong error"
        target.read = lambda folder, beside: int("a")
        assert bench.run(False)[0] == "nameless error"
    finally:
        target.read = read


# Folders of cohorts


def test_a_cohort_of_one_changed_byte_is_refused(cohort_folder):
    for file in sorted(cohort_folder.iterdir()):
        content = file.read_bytes()
        at = content.index(b"a", 20)
        file.write_bytes(content[:at] + b"b" + content[at + 1 :])
        with pytest.raises(ValueError, match=f"{file.name} is damaged"):
            Cohort.from_parquet(cohort_folder)
        file.write_bytes(content)
    assert len(Cohort.from_parquet(cohort_folder).X) == 5


def test_the_layout_of_the_json_does_not_count(cohort_folder):
    edit(cohort_folder / "cohort.json")
    assert len(Cohort.from_parquet(cohort_folder).X) == 5


def test_a_link_out_of_a_folder_is_refused(cohort_folder, tmp_path):
    for file in sorted(cohort_folder.iterdir()):
        file.rename(tmp_path / file.name)
        file.symlink_to(tmp_path / file.name)
        with pytest.raises(ValueError, match=f"{file.name} is a link to a file outside its folder"):
            Cohort.from_parquet(cohort_folder)
        (tmp_path / file.name).replace(file)


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "..", "a/../../b"])
def test_a_json_that_names_a_path_is_refused(cohort_folder, name):
    config = json.loads((cohort_folder / "cohort.json").read_text())
    del config["sha256"]
    sealed = seal(config, cohort_folder, config["files"])
    sealed["files"][name] = "0" * 64
    (cohort_folder / "cohort.json").write_text(json.dumps(sealed))
    with pytest.raises(ValueError, match="damaged"):
        Cohort.from_parquet(cohort_folder)
    sealed.pop("sha256")
    (cohort_folder / "cohort.json").write_text(json.dumps(sealed | {"sha256": digest_of(sealed)}))
    with pytest.raises(ValueError, match="names a file that its folder lacks"):
        Cohort.from_parquet(cohort_folder)


@pytest.mark.parametrize("content", [b"[" * 100_000, b"[]", b"", b"\xff\xfe", b"{" * 10])
def test_a_json_that_is_none(cohort_folder, content):
    (cohort_folder / "cohort.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"cohort\.json is damaged: it holds no json object"):
        Cohort.from_parquet(cohort_folder)


# States of estimators


@pytest.mark.parametrize("change", [{"d_model": 10**9}, {"n_layers": 10**9}, {"n_factors": 10**12}])
def test_a_forged_size_takes_no_memory(fitted, change):
    forged = MaskedLabEncoder.__new__(MaskedLabEncoder)
    with pytest.raises(ValueError, match="do not fit the parameters"):
        forged.__setstate__(fitted.__getstate__() | change)


# Skops files


def test_a_model_comes_back(fitted, tmp_path):
    save_model(fitted, tmp_path / "labs.skops")
    X = np.ones((2, 3))
    loaded = load_model(tmp_path / "labs.skops")
    np.testing.assert_array_equal(loaded.transform(X), fitted.transform(X))
    assert (tmp_path / "labs.skops").stat().st_mode & 0o077 == 0


def test_types_of_others_are_refused_and_run_nothing(tmp_path):
    canary, file = tmp_path / "canary", tmp_path / "harm.skops"
    skops.io.dump(Pipeline([("step", partial(os.system, f"touch {canary}"))]), file)
    with pytest.raises(ValueError, match=r"harm\.skops' holds 2 types that are not known"):
        load_model(file)
    assert not canary.exists()


def test_a_joblib_file_runs_code_and_load_model_does_not_read_one(tmp_path):
    """The user guide warns of the first half."""
    canary, file = tmp_path / "canary", tmp_path / "model.joblib"
    joblib.dump(Canary(canary), file)
    with pytest.raises(ValueError, match="is damaged"):
        load_model(file)
    assert not canary.exists()
    joblib.load(file)
    assert canary.exists()


def rewritten(file, change, method=zipfile.ZIP_STORED):
    with zipfile.ZipFile(file) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    change(parts)
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


def test_an_archive_that_unfolds_is_refused(fitted, tmp_path):
    file = tmp_path / "labs.skops"
    save_model(fitted, file)
    bomb = {"bomb.npy": bytes(2**22)}
    rewritten(file, lambda parts: parts.update(bomb), zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match="is compressed, so it may unpack"):
        load_model(file)


def test_an_array_of_claimed_size_takes_no_memory(fitted, tmp_path):
    file = tmp_path / "labs.skops"
    save_model(fitted, file)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f8", "fortran_order": False, "shape": (2**58,)}
    )

    def claim(parts):
        name = next(name for name in parts if name.endswith(".npy"))
        parts[name] = header.getvalue()

    rewritten(file, claim)
    with pytest.raises(ValueError, match=r"labs\.skops' is damaged"):
        load_model(file)


def named_again(file, n_times):
    def repeat(parts):
        schema = json.loads(parts["schema.json"])
        arrays = [{"file": name} for name in parts if name.endswith(".npy")]
        schema["again"] = arrays * n_times
        parts["schema.json"] = json.dumps(schema).encode()

    rewritten(file, repeat)


def test_a_part_that_is_named_twice_is_read_and_one_named_often_refused(tmp_path):
    file = tmp_path / "scaler.skops"
    scaler = StandardScaler().fit(np.random.default_rng(0).normal(size=(3, 10_000)))
    save_model(scaler, file)
    named_again(file, 1)
    np.testing.assert_array_equal(load_model(file).mean_, scaler.mean_)
    named_again(file, 10)
    with pytest.raises(ValueError, match="names its parts many times over"):
        load_model(file)


def test_an_array_under_many_ids_or_none_is_refused(tmp_path):
    """skops reads it each time."""
    file = tmp_path / "scaler.skops"
    for ids in (range(1, 31), [None] * 30):
        save_model(StandardScaler().fit(np.ones((3, 10_000))), file)

        def repeat(parts, ids=ids):
            schema = json.loads(parts["schema.json"])
            name = max(parts, key=lambda name: len(parts[name]))
            schema["again"] = [{"file": name, "__id__": each} for each in ids]
            parts["schema.json"] = json.dumps(schema).encode()

        rewritten(file, repeat)
        with pytest.raises(ValueError, match="names its parts many times over"):
            load_model(file)


TREES = {"left": 2**31, "right": 0, "feature_idx": 4, "is_categorical": 1}


@pytest.mark.parametrize("field", TREES)
def test_forged_trees_are_refused(field, tmp_path):
    """scikit-learn would follow their indices out of its memory, or for ever."""
    X = np.random.default_rng(0).normal(size=(60, 4))
    model = HistGradientBoostingClassifier(max_iter=1).fit(X, X[:, 0] > 0)
    model._predictors[0][0].nodes[field][0] = TREES[field]
    save_model(model, tmp_path / "trees.skops")
    with pytest.raises(ValueError, match="holds trees of histogram gradient boosting"):
        load_model(tmp_path / "trees.skops")


def test_a_cache_in_a_file_is_dropped(tmp_path):
    """Its folder could hold pickles of whoever wrote the file."""
    skops.io.dump(Pipeline([("scale", StandardScaler())], memory="/a/cache"), tmp_path / "p.skops")
    assert load_model(tmp_path / "p.skops").memory is None


@pytest.mark.parametrize(
    "function", [np.load, save_model, partial(np.mean, axis=0), StandardScaler().fit]
)
def test_functions_methods_and_partials_are_refused(function, tmp_path):
    file = tmp_path / "function.skops"
    skops.io.dump(Pipeline([("step", FunctionTransformer(function))]), file)
    with pytest.raises(ValueError, match="not known to be harmless"):
        load_model(file)


def test_distributions_of_scipy_are_refused(tmp_path):
    """They run a text of their state as code."""
    search = RandomizedSearchCV(Ridge(), {"alpha": loguniform(0.1, 1)})
    skops.io.dump(search, tmp_path / "search.skops")
    with pytest.raises(ValueError, match="not known to be harmless: scipy"):
        load_model(tmp_path / "search.skops")


@pytest.mark.parametrize("in_pipeline", [False, True])
def test_a_file_cannot_turn_remote_code_on(tiny_bert, tmp_path, in_pipeline):
    model = note_encoder(tiny_bert, trust_remote_code=True)
    save_model(Pipeline([("notes", model)]) if in_pipeline else model, tmp_path / "n.skops")
    with pytest.raises(ValueError, match="trust_remote_code=True, which runs code"):
        load_model(tmp_path / "n.skops")
    load_model(tmp_path / "n.skops", trust_remote_code=True)


# Folders of language models


def write_code(folder, canary, model_type):
    """Write a config that asks for code, and the code beside it."""
    (folder / "code.py").write_text(f"open({str(canary)!r}, 'w')\nclass Net: ...\nConfig = Net\n")
    auto_map = {"AutoConfig": "code.Config", "AutoModel": "code.Net", "AutoTokenizer": "code.Net"}
    edit(folder / "config.json", auto_map=auto_map, model_type=model_type)
    edit(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["code.Net", "code.Net"]})


@pytest.mark.parametrize("model_type", ["bert", "none of transformers"])
def test_code_beside_a_config_is_not_run(model_folder, tmp_path, model_type):
    canary = tmp_path / "canary"
    write_code(model_folder, canary, model_type)
    edit(model_folder / "config.json", trust_remote_code=True)
    encoder = note_encoder(model_folder)
    if model_type == "bert":
        assert np.isfinite(encoder.fit_transform(["a"])).all()
    else:
        with pytest.raises(OSError, match="trust_remote_code=True"):
            encoder.fit(["a"])
    assert not canary.exists()


def test_weights_as_pickle_run_no_code(model_folder, tmp_path):
    canary = tmp_path / "canary"
    (model_folder / "model.safetensors").unlink()
    (model_folder / "pytorch_model.bin").write_bytes(pickle.dumps(Canary(canary)))
    with pytest.raises(OSError, match="model="):
        note_encoder(model_folder).fit(["a"])
    assert not canary.exists()


@pytest.mark.parametrize(
    "name", ["config.json", "model.safetensors", "tokenizer.json", "1_Pooling/config.json"]
)
def test_a_link_out_of_a_model_is_refused(model_folder, tmp_path, name):
    outside = tmp_path / "outside"
    file = model_folder / name
    module = {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.Pooling"}
    (model_folder / "modules.json").write_text(json.dumps([module]))
    if file.exists():
        file.rename(outside)
    else:
        file.parent.mkdir()
        outside.write_text("{}")
    file.symlink_to(outside)
    with pytest.raises(OSError, match="is a link to a file outside the model's folder"):
        note_encoder(model_folder).fit(["a"])


def test_the_links_of_the_hubs_cache_are_taken(model_folder, tmp_path):
    snapshot, blobs = tmp_path / "hub/snapshots/1", tmp_path / "hub/blobs"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for i, file in enumerate(model_folder.iterdir()):
        file.rename(blobs / str(i))
        (snapshot / file.name).symlink_to(blobs / str(i))
    assert note_encoder(snapshot).fit(["a"]).hidden_size_ == 16


@pytest.mark.parametrize("path", ["../../etc/passwd", "/etc/passwd", 3])
def test_an_index_of_weights_outside_is_refused(model_folder, path):
    index = {"metadata": {}, "weight_map": {"a": path}}
    (model_folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(OSError, match="names weights outside the model's folder"):
        note_encoder(model_folder).fit(["a"])


def test_an_adapter_that_names_its_own_model_is_refused(model_folder):
    adapter = {"base_model_name_or_path": "../../elsewhere", "peft_type": "LORA"}
    (model_folder / "adapter_config.json").write_text(json.dumps(adapter))
    with pytest.raises(OSError, match="Merge the adapter"):
        note_encoder(model_folder).fit(["a"])


def test_kernels_of_the_hub_are_refused(model_folder):
    edit(model_folder / "config.json", attn_implementation="somebody/kernels")
    with pytest.raises(OSError, match=r"'attn_implementation' of .* asks for code"):
        note_encoder(model_folder).fit(["a"])


def test_more_layers_than_weights_are_refused(model_folder):
    edit(model_folder / "config.json", num_hidden_layers=10**9)
    with pytest.raises(OSError, match="asks for more layers"):
        note_encoder(model_folder).fit(["a"])


@pytest.mark.parametrize("length", [[1], {"a": 1}, "long"])
def test_a_length_that_is_no_number_is_refused(model_folder, length):
    edit(model_folder / "tokenizer_config.json", model_max_length=length)
    with pytest.raises(OSError, match=r"model.*cannot be read"):
        note_encoder(model_folder).fit(["a"])


def test_a_tokenizer_that_panics_is_refused(model_folder):
    """Its Rust code panics at a special token without ids; a panic is not an Exception."""
    content = json.loads((model_folder / "tokenizer.json").read_text())
    del content["post_processor"]["special_tokens"]["[CLS]"]
    (model_folder / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(OSError, match=r"model.*cannot be read"):
        note_encoder(model_folder).fit(["a"])


def test_tokens_without_a_vector_are_refused(model_folder):
    content = json.loads((model_folder / "tokenizer.json").read_text())
    content["model"]["vocab"]["a"] = 5000
    (model_folder / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="tokens that its 260 word vectors lack"):
        note_encoder(model_folder).fit_transform(["a"])


def test_weights_that_are_no_numbers_are_refused_and_not_read_as_absence(model_folder):
    file = model_folder / "model.safetensors"
    tensors = safetensors.numpy.load_file(file)
    tensors["embeddings.word_embeddings.weight"][:] = np.nan
    safetensors.numpy.save_file(tensors, file, {"format": "pt"})
    with pytest.raises(ValueError, match="vectors that are not finite"):
        note_encoder(model_folder).fit_transform(["a"])


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_one_byte_of_a_model_after_fit(model_folder, name, forget):
    encoder = note_encoder(model_folder).fit(NOTES)
    file = model_folder / name
    content = bytearray(file.read_bytes())
    # The lowest bit of a number, which no sample of values shows
    at = -2 if name == "model.safetensors" else content.rindex(b"0")
    content[at] ^= 1
    file.write_bytes(content)
    forget(models=True)
    with pytest.raises(ValueError, match=f"not those of fit: {name}"):
        encoder.transform(NOTES)


# Checkpoints and caches


def test_a_checkpoint_of_one_changed_bit_is_refused(tmp_path):
    checkpoint = Checkpoint(tmp_path, "labs", [b"x"])
    checkpoint.save({"weights": np.ones(3).tolist(), "epoch": 1})
    content = checkpoint.path.read_bytes()
    for at in (5, 200, len(content) // 2):
        checkpoint.path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        with pytest.raises(ValueError, match=r"cannot be read\. Remove it"):
            checkpoint.load()


def test_a_checkpoint_that_unfolds_is_refused(tmp_path):
    checkpoint = Checkpoint(tmp_path, "labs", [b"x"])
    checkpoint.save({"epoch": 1})
    packed = tmp_path / "packed"
    packed.write_bytes(checkpoint.path.read_bytes()[32:])
    rewritten(packed, lambda parts: None, zipfile.ZIP_DEFLATED)
    content = packed.read_bytes()
    checkpoint.path.write_bytes(hashlib.sha256(content).digest() + content)
    with pytest.raises(ValueError, match=r"cannot be read\. Remove it"):
        checkpoint.load()


def scale_loadings(factor):
    """Make weights of the right shapes for which the linear part has no solution."""

    def forge(state):
        state["module"]["prior.of_scores.loadings"] *= factor

    return forge


def forge_moments(state):
    next(iter(state["optimizer"]["state"].values()))["exp_avg"] = torch.zeros(3)


def forge_schedule(state):
    state["schedule"]["last_epoch"] = "three"


def forge_best(state):
    """Forge the weights that are restored when training ends."""
    best = state["best"].get("weights", state["best"])
    best["tokens.summary" if "weights" in state["best"] else "head"] = torch.zeros(3)


def forge_losses(state):
    state["loss_curve" if "loss_curve" in state else "losses"] = ["three"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "forge"),
    [
        ("lab checkpoint", scale_loadings(1e30)),
        ("lab checkpoint", scale_loadings(float("nan"))),
        ("lab checkpoint", forge_best),
        ("lab checkpoint", forge_losses),
        ("lab checkpoint", forge_moments),
        ("lab checkpoint", forge_schedule),
        ("fine-tuning checkpoint", forge_best),
        ("fine-tuning checkpoint", forge_losses),
        ("fine-tuning checkpoint", forge_moments),
        ("fine-tuning checkpoint", forge_schedule),
    ],
)
def test_a_forged_checkpoint_is_what_is_at_fault(targets, tmp_path, name, forge):
    """The file is sealed and well-formed, and yet no training can go on from it."""
    target = targets[name]
    folder, beside = tmp_path / "case", tmp_path / "beside"
    folder.mkdir()
    beside.mkdir()
    target.write(folder, beside)
    (file,) = folder.glob("*.pt")
    state = torch.load(io.BytesIO(file.read_bytes()[32:]), weights_only=True)
    forge(state)
    buffer = io.BytesIO()
    torch.save(state, buffer)
    file.write_bytes(hashlib.sha256(buffer.getvalue()).digest() + buffer.getvalue())
    with pytest.raises(ValueError, match=rf"{file.name} .* cannot be read\. Remove it"):
        target.read(folder, beside)


def test_an_entry_under_another_key_or_a_view_is_not_used(tmp_path):
    cache = FolderCache(tmp_path / "cache", 10**6)
    cache.put_many({b"k" * 32: b"one", b"l" * 32: b"two"})
    with cache._connection as connection:
        connection.execute("DELETE FROM entries WHERE key = ?", (b"l" * 32,))
        connection.execute("UPDATE entries SET key = ?", (b"l" * 32,))
    assert cache.get_many([b"l" * 32]) == {}
    cache.put_many({b"k" * 32: b"one"})
    with cache._connection as connection:
        connection.execute("UPDATE entries SET value = 'text', used = 'text'")
    assert cache.get_many([b"k" * 32]) == {}
    with cache._connection as connection:
        connection.execute("ALTER TABLE entries RENAME TO hidden")
        connection.execute(
            "CREATE VIEW entries AS WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n FROM r) "
            "SELECT n AS key, n AS value, n AS checksum, n AS used FROM r"
        )
    cache._close()
    assert cache.get_many([b"k" * 32]) == {}
