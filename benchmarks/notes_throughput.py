"""Tokens per second of note encoders on the same texts and weights, and the gain of each part.

Peers (notes_peers.py): sentence-transformers as a user calls it (float32, batches of 32) and in
bfloat16, ONNX Runtime and OpenVINO on the same weights, and skrub's TextEncoder. All embed the
pieces of the notes between blank lines that the default model takes whole, in the order of the
notes; they take turns, and the best of their runs counts. The rate of plain matrix products of the
model's shapes in bfloat16 is measured in the same run; the share of it that is reached, and the
profile of a run, say what is left. The last table holds what is asked for beside what was measured.

    python benchmarks/notes_throughput.py [--notes notes.parquet] [--n-notes 1000] [--threads 2]

With --instruction-sets it compares ours with sentence-transformers on all instructions of the
processor and on AVX2 alone, in processes that alternate.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from common import load_stays
from notes_peers import AS_CALLED, installed_peers, sentence_transformers
from torch.profiler import ProfilerActivity, profile

from sklearn_medfuse import LLMNoteEncoder
from sklearn_medfuse.notes._language_model.backbone import load_backbone
from sklearn_medfuse.notes._language_model.cache import process_cache
from sklearn_medfuse.notes._language_model.cpu_layers import PrepackedLinear, can_fuse
from sklearn_medfuse.notes._language_model.windows import tokenize

OURS, EXACT = "ours, bfloat16", "ours, float32"
SKRUB = "skrub TextEncoder"
# Settings that torch and oneDNN read as they are loaded
INSTRUCTION_SETS = {
    "all instructions": {},
    "AVX2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
}
# Operators by what they do; each counts once, by the first word that its name contains
PARTS = {
    "matrix products": ("linear", "addmm", "mm", "mkldnn"),
    "attention": ("attention",),
    "norms and activations": ("norm", "gelu", "softmax", "tanh"),
    "embedding": ("embedding",),
    "moving numbers": ("copy", "cat", "add", "index", "view", "transpose", "empty", "to"),
}


def read_pieces(path, n_notes):
    """Pieces of the bundled notes, or of the column `text` of a parquet file."""
    if path is None:
        cohort = load_stays()
        notes = cohort.X[cohort.note_column]
    else:
        notes = pd.read_parquet(path)["text"]
    notes = notes.dropna().tolist()[:n_notes]
    pieces = [piece for note in notes for piece in note.split("\n\n") if piece.strip()]
    backbone = load_backbone(LLMNoteEncoder(device="cpu")._spec())
    lengths = np.array(
        [len(ids) + backbone.n_special for ids in tokenize(backbone.tokenizer, pieces)]
    )
    fits = lengths <= backbone.max_length
    print(
        f"{len(pieces)} pieces; left out as longer than {backbone.max_length} tokens, which peers "
        f"cut: {(~fits).sum()} with {lengths[~fits].sum() / lengths.sum():.1%} of the tokens"
    )
    return [piece for piece, kept in zip(pieces, fits, strict=True) if kept]


def our_encoder(dtype):
    """Give a function that embeds texts anew."""
    encoder = LLMNoteEncoder(dtype=dtype, device="cpu", split_on=None).fit(["warm up"])

    def embed(texts):
        process_cache.clear()
        return encoder.transform(texts)

    return embed


def matmul_rate(rows=4096, repeats=5):
    """Tokens per second of the default model's linear layers alone, in bfloat16, the best way."""
    shapes = [(384, 384)] * 4 + [(384, 1536), (1536, 384)]
    layers = [torch.nn.Linear(i, o, dtype=torch.bfloat16) for i, o in shapes]
    inputs = [torch.randn(rows, layer.in_features, dtype=torch.bfloat16) for layer in layers]
    ways = [[layer.forward for layer in layers]]
    if hasattr(torch.ops.mkldnn, "_reorder_linear_weight"):
        ways.append([PrepackedLinear(layer).forward for layer in layers])
    best = np.inf
    with torch.inference_mode():
        for products in ways * repeats:
            start = time.perf_counter()
            for _ in range(6):
                for product, x in zip(products, inputs, strict=True):
                    product(x)
            best = min(best, time.perf_counter() - start)
    return rows / best


def timed(function, texts):
    """Give seconds and what the function gave."""
    start = time.perf_counter()
    found = function(texts)
    return time.perf_counter() - start, np.asarray(found, dtype=np.float64)


def take_turns(encoders, texts, repeats):
    """Seconds of the best run and vectors of each encoder; other load falls on all alike."""
    seconds, vectors = dict.fromkeys(encoders, np.inf), {}
    for _ in range(repeats):
        for name, encode in encoders.items():
            taken, vectors[name] = timed(encode, texts)
            seconds[name] = min(seconds[name], taken)
    return seconds, vectors


def lowest_cosine(found, exact):
    """Cosine with the float32 vector, the lowest of all texts."""
    product = (found * exact).sum(axis=1)
    norms = np.linalg.norm(found, axis=1) * np.linalg.norm(exact, axis=1)
    return (product / norms).min()


def compare(encoders, texts, which, repeats):
    """One row per encoder: tokens per second, share of the matrix rate, cosine."""
    backbone = load_backbone(LLMNoteEncoder(device="cpu")._spec())
    n_tokens = sum(len(ids) + backbone.n_special for ids in tokenize(backbone.tokenizer, texts))
    seconds, vectors = take_turns(encoders, texts, repeats)
    rate = matmul_rate()
    exact = vectors.get(AS_CALLED, vectors[EXACT])
    speed = pd.Series(n_tokens / pd.Series(seconds))
    table = pd.DataFrame(
        {
            "tokens/s": speed.round(0),
            "share of matrix rate": speed / rate,
            "times as called": speed / speed.get(AS_CALLED, np.nan),
            "lowest cosine": {name: lowest_cosine(v, exact) for name, v in vectors.items()},
        }
    )
    print(f"\n{which}: {len(texts)} texts, {n_tokens} tokens, matrix rate {rate:.0f} tokens/s")
    print(table.round(6).to_string(), flush=True)
    return table


def give_parts(texts):
    """Print what tokenisation, padding and duplicates cost or save."""
    backbone = load_backbone(LLMNoteEncoder(device="cpu", dtype="bfloat16")._spec())
    seconds, ids = timed(lambda t: [len(i) for i in tokenize(backbone.tokenizer, t)], texts)
    whole, _ = timed(our_encoder("bfloat16"), texts)
    widths = ids + backbone.n_special
    n_batches = max(1, len(widths) // 32)
    in_order = sum(len(part) * part.max() for part in np.array_split(widths, n_batches))
    by_length = np.sort(widths)
    sorted_ = sum(len(part) * part.max() for part in np.array_split(by_length, n_batches))
    unique = {text: i for i, text in enumerate(texts)}
    once = widths[list(unique.values())].sum()
    print(f"\ntokenisation: {seconds:.2f} s, beside the model; the whole run takes {whole:.2f} s")
    print(f"padding of batches of 32 in order: {in_order / widths.sum() - 1:.1%} more tokens")
    print(f"padding of batches of 32 by length: {sorted_ / widths.sum() - 1:.1%}; packed: 0 %")
    print(f"duplicates: {1 - once / widths.sum():.1%} of the tokens, embedded once")


def second_pass(texts):
    """How many times faster the same texts come from memory or from a folder, whichever is less."""
    with tempfile.TemporaryDirectory() as folder:
        encoder = LLMNoteEncoder(device="cpu", dtype="bfloat16", split_on=None, cache=folder)
        process_cache.clear()
        first, _ = timed(encoder.fit_transform, texts)
        memory, _ = timed(encoder.transform, texts)
        process_cache.clear()
        again, _ = timed(encoder.transform, texts)
    print(f"second pass: memory {first / memory:.0f} x, folder {first / again:.0f} x faster")
    return first / max(memory, again)


def give_profile(texts):
    """Print where the processor's time goes, by what operators do."""
    embed = our_encoder("bfloat16")
    with profile(activities=[ProfilerActivity.CPU]) as found:
        embed(texts)
    shares = dict.fromkeys([*PARTS, "other operators"], 0.0)
    for event in found.key_averages():
        part = next(
            (part for part, words in PARTS.items() if any(word in event.key for word in words)),
            "other operators",
        )
        shares[part] += event.self_cpu_time_total
    shares = pd.Series(shares).sort_values(ascending=False)
    print("\nshare of the processor's time in operators")
    print((shares / shares.sum()).round(3).to_string())


def give_verdicts(table, distinct, faster):
    """Print the targets beside what was measured."""
    speed, cosine = distinct["tokens/s"], distinct["lowest cosine"]
    peers = speed.drop([OURS, EXACT])
    best = peers.drop([AS_CALLED, SKRUB], errors="ignore")
    rows = [
        ("times sentence-transformers as called, as they come", OURS, table["times as called"], 5),
        ("times sentence-transformers as called, distinct", OURS, distinct["times as called"], 5),
        (f"times its best, {best.idxmax()}, distinct", OURS, speed / best.max(), 1.3),
        ("times skrub, distinct", OURS, speed / speed.get(SKRUB, np.nan), 1),
        ("lowest cosine", OURS, cosine, 0.999),
        ("float32: times as called, distinct", EXACT, distinct["times as called"], 1.4),
        ("float32: lowest cosine", EXACT, cosine, 0.99999),
        ("share of the matrix rate, distinct", OURS, distinct["share of matrix rate"], 0.8),
    ]
    found = [(what, values[name], target) for what, name, values, target in rows]
    found.append(("second pass from the cache, times faster", faster, 100))
    print()
    verdicts = pd.DataFrame(found, columns=["asked for", "measured", "at least"])
    verdicts["reached"] = verdicts["measured"] >= verdicts["at least"]
    print(verdicts.round(6).to_string(index=False))


def write_speeds(texts, encoders, repeats, file):
    """Write tokens per second of the encoders on distinct texts."""
    backbone = load_backbone(LLMNoteEncoder(device="cpu")._spec())
    n_tokens = sum(len(ids) + backbone.n_special for ids in tokenize(backbone.tokenizer, texts))
    seconds, _ = take_turns(encoders, texts, repeats)
    (n_tokens / pd.Series(seconds)).to_csv(file)


def compare_instruction_sets(arguments, repeats):
    """Print tokens per second by instruction set, the best of processes that take turns."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "speeds.csv"
        for _ in range(repeats):
            for name, settings in INSTRUCTION_SETS.items():
                call = [sys.executable, __file__, *arguments, "--write-speeds", str(file)]
                subprocess.run(call, env=os.environ | settings, check=True)
                speed = pd.read_csv(file, index_col=0).iloc[:, 0]
                found[name] = np.maximum(found.get(name, 0), speed)
    # Rows that only one of the sets has stay empty in the other
    table = pd.DataFrame(found).round(0)
    times = (table / table.loc[AS_CALLED]).round(2).add_suffix(", times as called")
    print(pd.concat([table, times], axis=1).to_string())


def main():
    """Compare all on the texts as they come, then on distinct ones."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--notes", help="parquet file with a column text; default: bundled notes")
    parser.add_argument("--n-notes", type=int, default=None)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="60 notes, once")
    parser.add_argument("--instruction-sets", action="store_true")
    parser.add_argument("--write-speeds", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.quick:
        options.n_notes, options.repeats = 60, 1
    if options.instruction_sets:
        rest = [argument for argument in sys.argv[1:] if argument != "--instruction-sets"]
        compare_instruction_sets(rest, options.repeats)
        return
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")
    texts = read_pieces(options.notes, options.n_notes)
    encoders = {OURS: our_encoder("bfloat16"), EXACT: our_encoder("float32")}
    if options.write_speeds:
        encoders[AS_CALLED] = sentence_transformers()[AS_CALLED]
        if not can_fuse(torch.bfloat16):
            # Emulated, it takes many times as long
            del encoders[OURS]
        write_speeds(list(dict.fromkeys(texts)), encoders, options.repeats, options.write_speeds)
        return
    encoders |= installed_peers()
    table = compare(encoders, texts, "as they come", options.repeats)
    distinct = compare(encoders, list(dict.fromkeys(texts)), "distinct", options.repeats)
    give_parts(texts)
    faster = second_pass(texts)
    give_profile(texts)
    give_verdicts(table, distinct, faster)


if __name__ == "__main__":
    main()
