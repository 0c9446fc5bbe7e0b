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
    return LabBatch(lab, value, value / 10, measured)


def cells_of(batch, row):
    kept = batch.measured[row]
    return sorted(zip(batch.lab[row, kept].tolist(), batch.value[row, kept].tolist(), strict=True))


def doubled(batch, divisor=1):
    return batch._replace(
        value=batch.value.double() / divisor, score=batch.score.double() / divisor
    )


@pytest.fixture
def net():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = MaskedLabAutoencoder(8, 3, d_model=8, n_heads=2, dropout=0.0, n_factors=2)
        for model in (net.prior.of_values, net.prior.of_scores):
            torch.nn.init.normal_(model.loadings)
        torch.nn.init.normal_(net.head[1].weight)
        return net.double()


def polluted(batch, garbage, extra=2):
    """The same cells with more padding, all of it garbage."""
    n = len(batch.lab)
    lab = torch.cat([batch.lab, torch.full((n, extra), 7)], dim=1)
    measured = torch.cat([batch.measured, torch.zeros(n, extra, dtype=torch.bool)], dim=1)
    value, score = (
        torch.cat([part, torch.zeros(n, extra)], dim=1).masked_fill(~measured, garbage)
        for part in (batch.value, batch.score)
    )
    return LabBatch(lab, value, score, measured)


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
    none = torch.zeros(0, 3)
    empty = LabBatch(none.long(), none, none, none.bool())
    visible, hidden = random_masking(empty, torch.zeros(0), torch.Generator())
    assert len(visible.lab) == len(hidden.lab) == 0


@pytest.mark.parametrize("garbage", [0.0, -3.0, 1e30, float("inf"), float("nan")])
def test_the_value_under_an_unobserved_cell_is_never_seen(net, garbage):
    batch = make_batch([3, 1, 0, 5])
    batch = doubled(batch)
    dirty = polluted(batch, garbage)
    query = torch.arange(8).expand(4, -1)
    for clean_output, dirty_output in zip(
        _predict(net, batch, query), _predict(net, dirty, query), strict=True
    ):
        torch.testing.assert_close(dirty_output, clean_output, atol=1e-12, rtol=1e-12)


def _predict(net, batch, query):
    encoded = net.forward_encoder(batch)
    return [encoded.summary, *net.forward_decoder(encoded, query), net.spread(encoded, query)]


@pytest.mark.parametrize("garbage", [5.0, float("nan")])
def test_loss_and_gradients_never_see_an_unobserved_cell(net, garbage):
    visible, hidden = make_batch([2, 3]), make_batch([1, 4])
    visible, hidden = doubled(visible, 100), doubled(hidden, 100)

    def gradients(*batches):
        net.zero_grad()
        loss = net(*batches)
        loss.backward()
        # Identity embeddings of padding cells get zero, not NaN
        return [loss.detach()] + [p.grad.clone() for p in net.parameters() if p.grad is not None]

    clean = gradients(visible, hidden)
    dirty = gradients(polluted(visible, garbage), polluted(hidden, garbage))
    for expected, found in zip(clean, dirty, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-9)


def test_the_order_of_cells_does_not_matter(net):
    batch = make_batch([6])
    batch = doubled(batch)
    shuffled = batch.take(torch.randperm(6)[None])
    torch.testing.assert_close(
        net.forward_encoder(batch).summary, net.forward_encoder(shuffled).summary
    )


def test_loss_is_zero_when_the_prediction_is_right(net):
    hidden = make_batch([3, 2])
    assert net.forward_loss(hidden.value, hidden.value, hidden) == 0


def test_a_row_without_hidden_cells_does_not_count(net):
    hidden = make_batch([3, 0])
    wrong = hidden.value + 1
    alone = LabBatch(*(part[:1] for part in hidden))
    assert net.forward_loss(wrong, wrong, hidden) == net.forward_loss(wrong[:1], wrong[:1], alone)


def test_weights_of_rows_weigh_their_loss(net):
    hidden = make_batch([2, 2])
    wrong = hidden.value + torch.tensor([[1.0], [3.0]])
    alone = LabBatch(*(part[:1] for part in hidden))
    both = net.forward_loss(wrong, wrong, hidden, torch.tensor([2.0, 0.0]))
    torch.testing.assert_close(both, net.forward_loss(wrong[:1], wrong[:1], alone))


def test_draws_scatter_around_the_prediction_as_wide_as_the_spread(net):
    net.prior.values_at.copy_(torch.linspace(-3.5, 3.5, 57).expand(8, -1))
    net.prior.of_values.load_state_dict(net.prior.of_scores.state_dict())
    net.spread_scale.fill_(0.5)
    batch = doubled(make_batch([3]), 10)
    query = torch.arange(8)[None]
    encoded = net.forward_encoder(batch)
    draws = net.draw(encoded, query, 4000, torch.Generator().manual_seed(0))
    value, _ = net.forward_decoder(encoded, query)
    torch.testing.assert_close(draws.mean(dim=0), value, atol=0.1, rtol=0)
    torch.testing.assert_close(draws.std(dim=0), net.spread(encoded, query), atol=0.2, rtol=0)


def test_without_factors_the_net_is_on_its_own():
    net = MaskedLabAutoencoder(8, 3, d_model=8, n_heads=2, n_factors=0)
    assert net.prior is None
    encoded = net.forward_encoder(make_batch([3, 0]))
    value, from_summary = net.forward_decoder(encoded, torch.arange(8).expand(2, -1))
    assert value.shape == from_summary.shape == (2, 8)
    assert encoded.factors is None


def test_rows_taken_out_are_as_wide_as_the_longest_of_them():
    lab = torch.arange(12).view(3, 4)
    measured = torch.tensor([[True] * 4, [True, False, False, False], [True, True, False, False]])
    batch = LabBatch(lab, lab.float(), -lab.float(), measured)
    taken = batch.rows(torch.tensor([2, 1]))
    assert taken.lab.tolist() == [[8, 9], [4, 5]]
    assert taken.measured.tolist() == [[True, True], [True, False]]
    assert batch.rows(torch.tensor([], dtype=torch.long)).lab.shape == (0, 0)
