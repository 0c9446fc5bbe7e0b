"""The disentangled transformer: absent blocks are never read, logits are sums over the parts."""

import pytest
import torch

from sklearn_medfuse._nn.fusion import (
    DisentangledFusion,
    FusionParts,
    FusionWithCritic,
)


def make(widths=(3, 5), **options):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        options = {"n_outputs": 4, "d_model": 8, "n_heads": 2, "n_tokens": 2} | options
        return DisentangledFusion(list(widths), **options).double().eval()


def blocks_of(widths=(3, 5), n=6):
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(n, width, generator=generator, dtype=torch.float64) for width in widths]


def logits_of(net, blocks, present):
    return net.forward_head(net.forward_parts(blocks, present))


@pytest.mark.parametrize("widths", [(3,), (3, 5), (3, 5, 2, 4)])
def test_any_number_of_modalities(widths):
    net, blocks = make(widths), blocks_of(widths)
    parts = net.forward_parts(blocks, torch.ones(6, len(widths), dtype=torch.bool))
    assert [part.shape for part in parts.specific] == [(6, 8)] * len(widths)
    assert parts.shared.shape == (6, 8)
    assert net.forward_head(parts).shape == (6, 4)


@pytest.mark.parametrize("garbage", [0.0, 1e9, float("nan"), float("inf")])
def test_the_block_of_an_absent_modality_is_never_read(garbage):
    net, blocks = make(), blocks_of()
    present = torch.tensor([[True, False], [False, True], [False, False]] * 2)
    dirty = [block.masked_fill(~present[:, [m]], garbage) for m, block in enumerate(blocks)]
    torch.testing.assert_close(logits_of(net, dirty, present), logits_of(net, blocks, present))


def test_gradients_are_finite_where_a_modality_is_absent():
    net, blocks = make(), blocks_of()
    present = torch.tensor([[True, False], [False, True], [False, False]] * 2)
    dirty = [block.masked_fill(~present[:, [m]], float("nan")) for m, block in enumerate(blocks)]
    logits_of(net, dirty, present).sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in net.parameters())


def test_absence_is_not_a_block_of_zeros():
    net, blocks = make(), blocks_of()
    blocks[1][:] = 0
    here, gone = (torch.tensor([[True, there]] * 6) for there in (True, False))
    assert not torch.allclose(logits_of(net, blocks, here), logits_of(net, blocks, gone))


def test_rows_do_not_depend_on_each_other():
    net, blocks = make(), blocks_of()
    present = torch.tensor([[True, False], [True, True], [False, False]] * 2)
    together = logits_of(net, blocks, present)
    alone = torch.cat(
        [logits_of(net, [b[i : i + 1] for b in blocks], present[i : i + 1]) for i in range(6)]
    )
    torch.testing.assert_close(alone, together)


def test_what_is_specific_to_a_modality_reads_that_modality_alone():
    net, blocks = make(), blocks_of()
    present = torch.ones(6, 2, dtype=torch.bool)
    before = net.forward_parts(blocks, present)
    after = net.forward_parts([blocks[0], blocks[1] + 1], present)
    torch.testing.assert_close(after.specific[0], before.specific[0])
    assert not torch.allclose(after.specific[1], before.specific[1])
    assert not torch.allclose(after.shared, before.shared)


def test_logits_are_the_sum_of_the_parts_contributions():
    net = make()
    parts = net.forward_parts(blocks_of(), torch.ones(6, 2, dtype=torch.bool))
    nothing = torch.zeros_like(parts.shared)
    bias = net.forward_head(FusionParts([nothing, nothing], nothing))
    contributions = [
        net.forward_head(FusionParts([parts.specific[0], nothing], nothing)) - bias,
        net.forward_head(FusionParts([nothing, parts.specific[1]], nothing)) - bias,
        net.forward_head(FusionParts([nothing, nothing], parts.shared)) - bias,
    ]
    torch.testing.assert_close(net.forward_head(parts), sum(contributions) + bias)


# The ensemble


def test_members_differ_and_their_logits_are_averaged():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = FusionWithCritic(3, [3, 5], 2, d_model=8, n_heads=2).double().eval()
    blocks, present = blocks_of(), torch.ones(6, 2, dtype=torch.bool)
    members = net.forward_logits(net.forward_parts(blocks, present))
    assert members.shape == (3, 6, 2)
    assert not torch.allclose(members[0], members[1])
    torch.testing.assert_close(net(blocks, present), members.mean(dim=0))


def test_the_critic_sees_detached_features():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = FusionWithCritic(2, [3, 5], 2, d_model=8, n_heads=2).double()
    parts = net.forward_parts(blocks_of(), torch.ones(6, 2, dtype=torch.bool))
    net.critic_loss(parts).backward()
    assert all(p.grad is None for p in net.fusion.parameters())
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in net.critic.parameters())
    assert net.mutual_information(parts).shape == (2,)
