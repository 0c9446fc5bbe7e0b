"""The transformer's layers: hidden tokens are ignored, and dropout meets its definition."""

import numpy as np
import pytest
import torch

from sklearn_medfuse._nn.attention import AttentionBlock, Dropout, masked_mean


def test_attention_ignores_what_is_not_visible():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        block = AttentionBlock(8, 2, 0.0).eval()
        x = torch.randn(2, 3, 8)
    visible = torch.tensor([[True, True, False], [True, False, False]])
    changed = x.masked_fill(~visible[..., None], 50.0)
    torch.testing.assert_close(
        block(changed, visible=visible)[visible], block(x, visible=visible)[visible]
    )


def test_mean_of_nothing_is_zero():
    assert masked_mean(torch.ones(1, 2, 3), torch.zeros(1, 2, dtype=torch.bool)).tolist() == [
        [0.0, 0.0, 0.0]
    ]


@pytest.mark.parametrize("probability", [0.01, 0.3, 0.9])
def test_share_and_mean(probability):
    torch.manual_seed(0)
    x = torch.ones(400_001, dtype=torch.float64)
    dropped = Dropout(probability)(x)
    # Five standard errors of a share, and the rounding to 1/65536
    error = 5 * np.sqrt(probability * (1 - probability) / len(x)) + 1 / 65536
    assert (dropped == 0).double().mean() == pytest.approx(probability, abs=error)
    assert dropped.mean() == pytest.approx(1.0, abs=error / (1 - probability))
    assert dropped.unique().tolist() == pytest.approx([0, 1 / (1 - probability)], rel=2e-4)


def test_neighbours_are_independent():
    torch.manual_seed(0)
    kept = (Dropout(0.5)(torch.ones(4000, 8)) > 0).double().T
    correlation = torch.corrcoef(kept) - torch.eye(8)
    assert correlation.abs().max() < 5 / np.sqrt(4000)


def test_gradient_goes_where_the_value_went():
    torch.manual_seed(0)
    x = torch.randn(7, 5, requires_grad=True)
    dropped = Dropout(0.4)(x)
    dropped.sum().backward()
    torch.testing.assert_close(dropped, x * x.grad)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("shape", [(0,), (3,), (2, 0, 4), (3, 5, 7)])
def test_shape_and_type_are_kept(shape, dtype):
    dropped = Dropout(0.3)(torch.ones(shape, dtype=dtype))
    assert dropped.shape == shape
    assert dropped.dtype == dtype


def test_close_to_one_the_nearest_share_keeps_a_value_in_65536():
    torch.manual_seed(0)
    dropped = Dropout(1 - 1e-9)(torch.ones(400_000))
    assert dropped.unique().tolist() == [0, 65536]


def test_seed_decides():
    def draw(seed):
        torch.manual_seed(seed)
        return Dropout(0.5)(torch.ones(100))

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))


def test_nothing_is_dropped_in_evaluation_or_at_zero():
    x = torch.randn(10)
    assert Dropout(0.5).eval()(x) is x
    assert Dropout(0.0)(x) is x
