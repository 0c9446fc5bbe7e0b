"""A compiled model gives the plain one's vectors."""

import shutil

import numpy as np
import pytest
import torch
from torch._dynamo.utils import counters

NOTES = ["x" * (7 * i + j) for i in range(1, 8) for j in range(3)] + [None]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_the_vectors_are_those_of_the_plain_model_after_two_graphs_at_most(note_encoder, anew):
    """Widths of 8 to 64 tokens, each for several notes."""
    plain = note_encoder(batch_tokens=200).fit(NOTES)
    expected = anew(plain, NOTES)
    torch.compiler.reset()
    compiled = note_encoder(batch_tokens=200, compile=True).fit(NOTES)
    counters.clear()
    np.testing.assert_allclose(anew(compiled, NOTES), expected, rtol=0, atol=1e-5)
    assert counters["stats"]["unique_graphs"] <= 2


def test_a_model_that_torch_cannot_compile_is_an_error(note_encoder, monkeypatch):
    def fail(*args, **inputs):
        raise RuntimeError("no compiler")

    def compile(model, **options):
        model._compiled_call_impl = fail

    monkeypatch.setattr(torch.nn.Module, "compile", compile)
    with pytest.raises(RuntimeError, match="compile=True: torch cannot compile BertModel"):
        note_encoder(compile=True).fit(NOTES)
