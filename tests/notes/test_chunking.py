"""Windows lose no token; batches keep to their budget."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sklearn_medfuse.notes._chunking import (
    budget_batches,
    chunk_tokens,
    split_notes,
    window_starts,
)


@st.composite
def windows(draw):
    window = draw(st.integers(1, 60))
    return draw(st.integers(1, 500)), window, draw(st.integers(0, window - 1))


@given(windows())
def test_windows_cover_every_token_and_share_the_stride(case):
    n_tokens, window, stride = case
    found = window_starts(n_tokens, window, stride)
    assert found[0][0] == 0
    assert found[-1][1] == n_tokens
    for (_, stop), (start, _) in pairwise(found):
        assert stop - start == stride
    lengths = [stop - start for start, stop in found]
    assert min(lengths) >= 1
    assert max(lengths) <= window


@given(windows())
def test_windows_are_as_few_as_possible_and_even(case):
    n_tokens, window, stride = case
    found = window_starts(n_tokens, window, stride)
    lengths = [stop - start for start, stop in found]
    assert max(lengths) - min(lengths) <= 1
    n_fewer = len(found) - 1
    assert n_fewer == 0 or n_fewer * window - (n_fewer - 1) * stride < n_tokens


@given(st.lists(st.integers(0, 30), max_size=8), windows())
def test_no_token_of_any_note_is_lost(lengths, case):
    _, window, stride = case
    ids = [[100 * i + j for j in range(length)] for i, length in enumerate(lengths)]
    chunks = chunk_tokens(ids, np.arange(len(ids)), window, stride)
    for i, tokens in enumerate(ids):
        of_note = [c for c, note in zip(chunks.tokens, chunks.note, strict=True) if note == i]
        assert sorted({token for chunk in of_note for token in chunk}) == tokens


def test_notes_are_split_at_the_mark_only():
    pieces, note = split_notes(["a\nb\n\nc", None, "\n\n \n\nd"], "\n\n")
    assert pieces == ["a\nb", "c", "d"]
    assert note.tolist() == [0, 0, 2]


def test_without_a_mark_a_note_is_one_piece():
    pieces, note = split_notes(["a\n\nb", None, "c"], None)
    assert pieces == ["a\n\nb", "c"]
    assert note.tolist() == [0, 2]


@given(st.lists(st.integers(1, 40), max_size=60), st.integers(1, 200))
def test_batches_part_the_chunks_within_the_budget(widths, batch_tokens):
    widths = np.array(widths, dtype=np.int64)
    batches = budget_batches(widths, batch_tokens)
    taken = np.concatenate([*batches, np.array([], dtype=int)])
    assert sorted(taken.tolist()) == list(range(len(widths)))
    for batch in batches:
        assert len(set(widths[batch])) == 1
        assert len(batch) == 1 or widths[batch].sum() <= batch_tokens


def test_the_widest_batch_comes_first():
    batches = budget_batches(np.array([3, 9, 3, 3]), 9)
    assert [batch.tolist() for batch in batches] == [[1], [0, 2, 3]]


@pytest.mark.parametrize("texts", [[], [None], ["  "]])
def test_nothing_to_split(texts):
    pieces, note = split_notes(texts, "\n\n")
    assert pieces == []
    assert len(note) == 0
    assert chunk_tokens([], note, 5, 0).tokens == []
