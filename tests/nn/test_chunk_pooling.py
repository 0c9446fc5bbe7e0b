"""Pooling sees visible tokens only, and treats every note for itself."""

import pytest
import torch

from sklearn_medfuse._nn.chunk_pooling import ChunkAttention, pool_chunks, pool_tokens


@pytest.mark.parametrize("how", ["mean", "cls", "last"])
@pytest.mark.parametrize("garbage", [9.0, float("nan"), float("inf")])
def test_padding_is_never_pooled(how, garbage):
    states = torch.randn(3, 4, 2, generator=torch.Generator().manual_seed(0))
    visible = torch.arange(4)[None] < torch.tensor([[1], [2], [4]])
    dirty = states.masked_fill(~visible[..., None], garbage)
    expected = torch.cat(
        [
            pool_tokens(row[None, :length], torch.ones(1, length, dtype=torch.bool), how)
            for row, length in zip(states, [1, 2, 4], strict=True)
        ]
    )
    torch.testing.assert_close(pool_tokens(dirty, visible, how), expected)


@pytest.mark.parametrize("how", ["mean", "cls", "last"])
def test_without_padding_no_mask_is_needed(how):
    states = torch.randn(3, 4, 2, generator=torch.Generator().manual_seed(0))
    visible = torch.ones(3, 4, dtype=torch.bool)
    torch.testing.assert_close(pool_tokens(states, None, how), pool_tokens(states, visible, how))


@pytest.fixture
def attention():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        attention = ChunkAttention(2, 4)
        torch.nn.init.normal_(attention.score.weight, std=3)
    return attention.requires_grad_(False)


def test_attention_pools_each_note_for_itself(attention):
    chunks = torch.randn(6, 2, generator=torch.Generator().manual_seed(0))
    note = torch.tensor([0, 0, 2, 2, 2, 3])
    together = attention(chunks, note, 4)
    assert together[1].isnan().all()
    for i in (0, 2, 3):
        alone = attention(chunks[note == i], torch.zeros((note == i).sum(), dtype=int), 1)
        torch.testing.assert_close(together[i], alone[0])
        weights = attention.score(torch.tanh(attention.hidden(chunks[note == i]))).softmax(dim=0)
        torch.testing.assert_close(together[i], (weights * chunks[note == i]).sum(dim=0))


def test_large_scores_do_not_overflow(attention):
    attention.score.weight *= 1e4
    assert attention(torch.randn(6, 2), torch.tensor([0, 0, 0, 1, 1, 1]), 2).isfinite().all()


@pytest.mark.parametrize("how", ["mean", "weighted", "max"])
def test_each_note_is_pooled_for_itself(how):
    chunks = torch.randn(6, 2, generator=torch.Generator().manual_seed(0))
    note, weight = torch.tensor([0, 0, 2, 2, 2, 3]), torch.tensor([1.0, 3.0, 2.0, 2.0, 5.0, 4.0])
    together = pool_chunks(chunks, note, 4, weight, how)
    assert together[1].isnan().all()
    for i in (0, 2, 3):
        mine = note == i
        alone = pool_chunks(chunks[mine], torch.zeros(mine.sum(), dtype=int), 1, weight[mine], how)
        torch.testing.assert_close(together[i], alone[0])


@pytest.mark.parametrize("how", ["mean", "weighted", "max"])
def test_one_chunk_is_the_note(how):
    chunk = torch.tensor([[1.0, -2.0]])
    note = pool_chunks(chunk, torch.tensor([0]), 1, torch.tensor([7.0]), how)
    torch.testing.assert_close(note, chunk)
