"""Two masks: hidden cells are a part of the measured ones, and padding is never seen."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sklearn_medfuse._nn.masked_autoencoder import LabBatch, MaskedLabAutoencoder, random_masking


def make_batch(counts, width=None):
    """A batch in which the value of a cell tells its row and column."""
    width = max(counts) if width is None else width
    lab = torch.stack([torch.randperm(width) for _ in counts])
    measured = torch.arange(width)[None] < torch.tensor(counts)[:, None]
    value = lab + 100.0 * torch.arange(len(counts))[:, None]
    return LabBatch(lab, value, measured)


def cells_of(batch, row):
    kept = batch.measured[row]
    return sorted(zip(batch.lab[row, kept].tolist(), batch.value[row, kept].tolist(), strict=True))


@pytest.fixture
def net():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return MaskedLabAutoencoder(8, n_components=3, d_model=8, n_heads=2, dropout=0.0).double()


def polluted(batch, garbage, extra=2):
    """The same cells with more padding, all of it garbage."""
    n = len(batch.lab)
    lab = torch.cat([batch.lab, torch.full((n, extra), 7)], dim=1)
    value = torch.cat([batch.value, torch.full((n, extra), garbage)], dim=1)
    measured = torch.cat([batch.measured, torch.zeros(n, extra, dtype=torch.bool)], dim=1)
    return LabBatch(lab, value.masked_fill(~measured, garbage), measured)


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.integers(0, 9), min_size=1, max_size=6),
    ratio=st.floats(0.01, 0.99),
    seed=st.integers(0, 1000),
)
def test_visible_and_hidden_part_the_measured_cells(counts, ratio, seed):
    batch = make_batch(counts, width=10)
    generator = torch.Generator().manual_seed(seed)
    visible, hidden = random_masking(batch, torch.full((len(counts),), ratio), generator)
    for row, count in enumerate(counts):
        assert sorted(cells_of(visible, row) + cells_of(hidden, row)) == cells_of(batch, row)
        n_hidden = len(cells_of(hidden, row))
        assert n_hidden >= min(count, 1)
        assert count - n_hidden >= min(count - 1, 1) or count == 0
        if count >= 2:
            assert abs(n_hidden - ratio * count) <= 1


def test_each_row_has_its_own_ratio():
    generator = torch.Generator().manual_seed(0)
    _, hidden = random_masking(make_batch([10, 10]), torch.tensor([0.2, 0.7]), generator)
    assert hidden.measured.sum(dim=1).tolist() == [2, 7]


def test_every_cell_is_hidden_as_often_as_the_others():
    batch = make_batch([10] * 2000)
    _, hidden = random_masking(batch, torch.full((2000,), 0.3), torch.Generator().manual_seed(0))
    share = torch.bincount(hidden.lab[hidden.measured], minlength=10) / 2000
    torch.testing.assert_close(share, torch.full((10,), 0.3), atol=0.05, rtol=0)


def test_no_rows():
    empty = LabBatch(torch.zeros(0, 3).long(), torch.zeros(0, 3), torch.zeros(0, 3).bool())
    visible, hidden = random_masking(empty, torch.zeros(0), torch.Generator())
    assert len(visible.lab) == len(hidden.lab) == 0


@pytest.mark.parametrize("garbage", [0.0, -3.0, 1e30, float("inf"), float("nan")])
def test_the_value_under_an_unobserved_cell_is_never_seen(net, garbage):
    batch = make_batch([3, 1, 0, 5])
    batch = batch._replace(value=batch.value.double())
    dirty = polluted(batch, garbage)
    query = torch.arange(8).expand(4, -1)
    for clean_output, dirty_output in zip(
        _predict(net, batch, query), _predict(net, dirty, query), strict=True
    ):
        torch.testing.assert_close(dirty_output, clean_output, atol=1e-12, rtol=1e-12)


def _predict(net, batch, query):
    tokens, seen, summary = net.forward_encoder(batch)
    return [summary, *net.forward_decoder(tokens, seen, summary, query)]


@pytest.mark.parametrize("garbage", [5.0, float("nan")])
def test_loss_and_gradients_never_see_an_unobserved_cell(net, garbage):
    visible, hidden = make_batch([2, 3]), make_batch([1, 4])
    visible = visible._replace(value=visible.value.double() / 100)
    hidden = hidden._replace(value=hidden.value.double() / 100)

    def gradients(*batches):
        net.zero_grad()
        loss = net(*batches)
        loss.backward()
        # identity embeddings of padding cells get zero, not NaN
        return [loss.detach()] + [p.grad.clone() for p in net.parameters() if p.grad is not None]

    clean = gradients(visible, hidden)
    dirty = gradients(polluted(visible, garbage), polluted(hidden, garbage))
    for expected, found in zip(clean, dirty, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-9)


def test_the_order_of_cells_does_not_matter(net):
    batch = make_batch([6])
    batch = batch._replace(value=batch.value.double())
    shuffled = batch.take(torch.randperm(6)[None])
    torch.testing.assert_close(net.forward_encoder(batch)[2], net.forward_encoder(shuffled)[2])


def test_loss_is_zero_when_the_prediction_is_right(net):
    hidden = make_batch([3, 2])
    assert net.forward_loss(hidden.value, hidden.value, hidden) == 0


def test_a_row_without_hidden_cells_does_not_count(net):
    hidden = make_batch([3, 0])
    wrong = hidden.value + 1
    alone = LabBatch(*(part[:1] for part in hidden))
    assert net.forward_loss(wrong, wrong, hidden) == net.forward_loss(wrong[:1], wrong[:1], alone)
