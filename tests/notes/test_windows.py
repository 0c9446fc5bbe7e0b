"""Windows lose no token; batches keep to their budget."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sklearn_medfuse.notes._language_model.windows import (
    budget_batches,
    packed_batches,
    window_bounds,
)


@st.composite
def windows(draw):
    window = draw(st.integers(1, 60))
    return draw(st.integers(1, 500)), window, draw(st.integers(0, window - 1))


@given(windows())
def test_windows_cover_every_token_and_share_the_stride(case):
    n_tokens, window, stride = case
    found = window_bounds(n_tokens, window, stride)
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
    found = window_bounds(n_tokens, window, stride)
    lengths = [stop - start for start, stop in found]
    assert max(lengths) - min(lengths) <= 1
    n_fewer = len(found) - 1
    assert n_fewer == 0 or n_fewer * window - (n_fewer - 1) * stride < n_tokens


def test_pieces_are_split_at_the_mark_only(note_encoder):
    notes = ["a\nb\n\nc", None, "\n\n \n\nd", "  "]
    encoder = note_encoder().fit(notes)
    assert encoder.n_chunks_.tolist() == [2, 0, 1, 0]
    assert encoder.n_tokens_.tolist() == [4, 0, 1, 0]
    whole = note_encoder(split_on=None).fit(notes)
    assert whole.n_chunks_.tolist() == [1, 0, 1, 0]


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


@given(st.lists(st.integers(1, 40), max_size=60), st.integers(1, 200))
def test_packed_batches_part_the_windows_longest_first(lengths, batch_tokens):
    lengths = np.array(lengths, dtype=np.int64)
    batches = packed_batches(lengths, batch_tokens)
    taken = np.concatenate([*batches, np.array([], dtype=int)]).astype(int)
    assert sorted(taken.tolist()) == list(range(len(lengths)))
    assert (np.diff(lengths[taken]) <= 0).all()
    assert all(len(batch) == 1 or lengths[batch].sum() <= batch_tokens for batch in batches)
