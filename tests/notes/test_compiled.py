"""The compiled model gives what the plain one gives, and is taken where it was found to pay."""

import pickle
from functools import partial

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch._dynamo.testing import CompileCounterWithBackend

from sklearn_medfuse.notes._language_model import compiled, embedding
from sklearn_medfuse.notes._language_model.compiled import CompiledForward
from sklearn_medfuse.notes._llm_note import resolve_compile

BACKBONE = "sklearn_medfuse.notes._language_model.backbone"
# Widths of 8 to 64 tokens, each for several notes
NOTES = ["x" * (7 * i + j) for i in range(1, 8) for j in range(3)] + [None]


# The decision, by a clock that only the two ways move


class Ways:
    """A plain and a compiled way that take seconds of a clock of their own."""

    def __init__(self, plain=1.0, compiled=0.5, compiling=30.0, error=None):
        self.now = 0.0
        self.calls = []
        self.seconds = {"plain": plain, "compiled": compiled}
        self.compiling = compiling
        self.error = error

    def run(self, way, x):
        self.calls.append(way)
        self.now += self.seconds[way]
        return x

    def compile(self):
        self.now += self.compiling
        if self.error is not None:
            raise self.error
        return partial(self.run, "compiled")

    def forward(self, when):
        return CompiledForward(partial(self.run, "plain"), self.compile, when, lambda: self.now)


def run_batches(forward, n_batches, tokens_left=10**6, n_tokens=100):
    """Each batch gets its result back; which of them the compiled way gave."""
    found = [forward(n_tokens, tokens_left, x=i) for i in range(n_batches)]
    assert [result for result, _ in found] == list(range(n_batches))
    return [compiled for _, compiled in found]


def test_the_faster_way_stays_after_one_trial():
    ways = Ways()
    assert run_batches(ways.forward("auto"), 8) == [False] * 5 + [True] * 3
    # The fifth batch ran plain, then compiled once to compile, then twice each way
    assert ways.calls[4:10] == ["plain", "compiled", "plain", "plain", "compiled", "compiled"]
    assert ways.calls[10:] == ["compiled"] * 3


def test_the_slower_way_is_tried_once_and_left():
    ways = Ways(compiled=1.5)
    assert run_batches(ways.forward("auto"), 8) == [False] * 8
    assert ways.calls.count("compiled") == 3
    assert ways.calls[10:] == ["plain"] * 3


@pytest.mark.parametrize(("tokens_left", "tried"), [(59_000, False), (61_000, True)])
def test_a_trial_needs_ten_minutes_of_work_ahead(tokens_left, tried):
    ways = Ways()
    # A hundred tokens a second
    run_batches(ways.forward("auto"), 6, tokens_left)
    assert ("compiled" in ways.calls) == tried


def test_the_first_batches_do_not_count():
    ways = Ways(plain=1000.0)
    forward = ways.forward("auto")
    run_batches(forward, 2, tokens_left=10_000)
    ways.seconds["plain"] = 1.0
    run_batches(forward, 10, tokens_left=10_000)
    assert "compiled" not in ways.calls


def test_little_work_at_a_time_is_never_tried():
    ways = Ways()
    assert run_batches(ways.forward("auto"), 50, tokens_left=0) == [False] * 50
    assert set(ways.calls) == {"plain"}


def test_true_compiles_at_once_and_never_compares():
    ways = Ways(compiled=2.0)
    assert run_batches(ways.forward(True), 3, tokens_left=0) == [True] * 3
    assert ways.calls == ["compiled"] * 3


@pytest.mark.parametrize("when", [True, "auto"])
@pytest.mark.parametrize(
    "error", [RuntimeError("BP 120"), ImportError("BP 120"), OSError("BP 120")]
)
def test_a_failure_is_told_once_and_the_plain_way_goes_on(when, error):
    ways = Ways(error=error)
    forward = ways.forward(when)
    with pytest.warns(UserWarning, match=f"compile={when!r}: torch could not") as caught:
        assert run_batches(forward, 8) == [False] * 8
    assert len(caught) == 1
    assert str(error) not in str(caught[0].message)
    # A copy on another device says nothing more
    other = Ways(error=error)
    copied = CompiledForward(partial(other.run, "plain"), other.compile, True, told=forward.told)
    assert run_batches(copied, 1) == [False]


def test_out_of_memory_is_for_smaller_batches_to_solve():
    forward = Ways(error=torch.OutOfMemoryError("CUDA")).forward(True)
    with pytest.raises(torch.OutOfMemoryError):
        forward(1, 0, x=0)
    # In a trial it only says that the plain way takes less
    assert run_batches(Ways(error=torch.OutOfMemoryError("CUDA")).forward("auto"), 8) == [False] * 8


def test_an_error_of_the_model_itself_is_raised():
    def fail(x):
        raise ValueError("of the model")

    for when in (True, "auto"):
        with pytest.raises(ValueError, match="of the model"):
            CompiledForward(fail, lambda: fail, when)(1, 0, x=0)


@pytest.mark.parametrize(
    ("compile", "device", "placed", "expected"),
    [
        ("auto", "cpu", False, False),
        ("auto", "cuda", False, "auto"),
        ("auto", "cuda:1", False, "auto"),
        ("auto", "cuda", True, False),
        ("auto", "mps", False, False),
        (True, "cpu", False, True),
        (True, "cuda", True, True),
        (False, "cuda", False, False),
    ],
)
def test_auto_is_for_gpus_alone(compile, device, placed, expected):
    assert resolve_compile(compile, torch.device(device), placed) == expected


# The encoder, with a compiler that needs no C++


@pytest.fixture
def graphs(monkeypatch):
    """Stand in for inductor; counts the graphs that were compiled."""
    counter = CompileCounterWithBackend("eager")
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=counter))
    yield counter
    torch.compiler.reset()


@pytest.mark.parametrize("model", ["tiny_bert", "tiny_llama"])
def test_compiled_vectors_are_those_of_the_plain_model(
    note_encoder, request, graphs, model, forget
):
    params = {"model": request.getfixturevalue(model), "batch_tokens": 256}
    expected = note_encoder(**params).fit_transform(NOTES)
    forget()
    encoder = note_encoder(compile=True, **params)
    found = encoder.fit_transform(NOTES)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert encoder.report_["compiled_windows"] == encoder.report_["windows"] == 21
    # Lengths and numbers of rows are symbols: one graph, and one where a single row is special
    assert 1 <= graphs.frame_count <= 2
    # Nothing was embedded this time
    assert encoder.fit(NOTES).report_["compiled_windows"] == 0


def test_a_cpu_compiles_only_where_it_is_told_to(note_encoder, graphs):
    encoder = note_encoder()
    assert encoder.compile == "auto"
    encoder.fit_transform(NOTES)
    assert graphs.frame_count == 0
    assert encoder.report_["compiled_windows"] == 0


def test_nothing_compiled_is_kept(note_encoder, graphs, global_random_state, anew):
    plain = note_encoder().fit(NOTES)
    encoder = note_encoder(compile=True).fit(NOTES)
    before, generators = pickle.dumps(encoder), global_random_state()
    expected = encoder.transform(NOTES)
    assert graphs.frame_count
    assert pickle.dumps(encoder) == before
    assert global_random_state() == generators
    assert encoder.fingerprint_ == plain.fingerprint_
    assert clone(encoder).get_params() == encoder.get_params()
    loaded = pickle.loads(before)
    np.testing.assert_array_equal(anew(loaded, NOTES), expected)


def test_a_compiled_model_finds_what_a_plain_padded_one_put_into_the_cache(
    note_encoder, monkeypatch, graphs
):
    monkeypatch.setattr(f"{BACKBONE}.can_pack", lambda model: False)
    expected = note_encoder().fit_transform(NOTES)
    np.testing.assert_array_equal(note_encoder(compile=True).fit_transform(NOTES), expected)
    assert graphs.frame_count == 0


def test_fine_tuned_weights_are_compiled_too(note_encoder, graphs, anew):
    y = np.arange(len(NOTES)) % 2
    options = {"fine_tuning": "lora", "max_epochs": 1, "learning_rate": 0.01, "random_state": 0}
    encoder = note_encoder(**options).fit(NOTES, y)
    expected = encoder.transform(NOTES)
    found = anew(encoder.set_params(compile=True), NOTES)
    assert graphs.frame_count
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_compiler_that_is_not_there_costs_one_warning(note_encoder, monkeypatch, forget):
    def broken(graph, inputs):
        raise FileNotFoundError("g++")

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=broken))
    expected = note_encoder().fit_transform(NOTES)
    forget()
    encoder = note_encoder(compile=True, batch_tokens=64)
    with pytest.warns(UserWarning, match="compile=True: torch could not compile") as caught:
        found = encoder.fit_transform(NOTES)
    assert len(caught) == 1
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert encoder.report_["compiled_windows"] == 0
    torch.compiler.reset()


def test_auto_knows_how_much_is_left(note_encoder, monkeypatch):
    """Of all blocks and batches, as a GPU would be told."""
    seen = []

    class Watched(CompiledForward):
        def __call__(self, n_tokens, tokens_left, **inputs):
            seen.append((n_tokens, tokens_left))
            return super().__call__(n_tokens, tokens_left, **inputs)

    monkeypatch.setattr(compiled, "CompiledForward", Watched)
    monkeypatch.setattr("sklearn_medfuse.notes._llm_note.resolve_compile", lambda *_: "auto")
    monkeypatch.setattr(embedding, "_BLOCK_NOTES", 10)
    # 40 windows of 32 tokens with the special ones, all different
    notes = [chr(97 + i // 26) + chr(97 + i % 26) + "y" * 28 for i in range(40)]
    note_encoder(batch_tokens=128).fit_transform(notes)
    assert [n for n, _ in seen] == [128, 128, 64] * 4
    left = [tokens for _, tokens in seen]
    # What later blocks bring is guessed without padding and special tokens
    assert left[:3] == [192 + 900, 64 + 900, 900]
    assert left[-3:] == [192, 64, 0]
