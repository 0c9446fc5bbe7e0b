"""The transformer's layers: pre-norm attention, self or cross, and its dropout."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_DROPOUT_LEVELS = 2**16


class Dropout(nn.Module):
    """Dropout (Srivastava et al. 2014) that is cheap on a CPU.

    Torch draws one random number per entry, which takes longer than the matrix products of a net
    this small. Sixteen bits per entry are enough: each 64-bit number decides four entries, and
    `probability` is rounded to a multiple of 1/65536. Other devices use torch's own dropout.

    Examples
    --------
    >>> import torch
    >>> Dropout(0.5)(torch.ones(10_000)).unique()
    tensor([0., 2.])
    >>> Dropout(0.5).eval()(torch.ones(3))
    tensor([1., 1., 1.])
    """

    def __init__(self, probability: float):
        super().__init__()
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        """Values of the same shape; in training some are zero."""
        if not self.training or self.probability == 0:
            return x
        if x.device.type != "cpu":
            return F.dropout(x, self.probability)
        n_dropped = min(round(self.probability * _DROPOUT_LEVELS), _DROPOUT_LEVELS - 1)
        numbers = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
        levels = numbers.view(torch.int16)[: x.numel()].view(x.shape)
        kept = (levels >= n_dropped - _DROPOUT_LEVELS // 2).to(x.dtype)
        return x * kept.mul_(_DROPOUT_LEVELS / (_DROPOUT_LEVELS - n_dropped))


class AttentionBlock(nn.Module):
    """Multi-head attention and a feed-forward layer, each with a skip connection.

    Normalisation comes before each sub-layer (Xiong et al. 2020), which trains stably without a
    long warm-up, as small hospital tables need.

    `d_model` is the width of a token, a multiple of `n_heads`; `dropout` is the probability after
    attention and feed-forward layer.

    Examples
    --------
    >>> import torch
    >>> block = AttentionBlock(8, 2, 0.0)
    >>> block(torch.zeros(4, 3, 8)).shape
    torch.Size([4, 3, 8])
    >>> block(torch.zeros(4, 3, 8), context=torch.zeros(4, 5, 8)).shape
    torch.Size([4, 3, 8])
    """

    def __init__(self, d_model: int, n_heads: int, dropout: float):
        super().__init__()
        self.n_heads = n_heads
        self.norm_query = nn.LayerNorm(d_model)
        self.norm_context = nn.LayerNorm(d_model)
        self.query = nn.Linear(d_model, d_model)
        self.key_value = nn.Linear(d_model, 2 * d_model)
        self.output = nn.Linear(d_model, d_model)
        self.norm_feed_forward = nn.LayerNorm(d_model)
        self.feed_forward = nn.Sequential(
            nn.Linear(d_model, 2 * d_model), nn.GELU(), nn.Linear(2 * d_model, d_model)
        )
        self.dropout = Dropout(dropout)

    def forward(
        self, x: Tensor, context: Tensor | None = None, visible: Tensor | None = None
    ) -> Tensor:
        """Attend from tokens `x` (n, q, d_model) to themselves or to `context` (n, k, d_model).

        `visible` (n, k) is True where a key may be attended to; every row needs one such key.
        """
        query = self.norm_query(x)
        source = query if context is None else self.norm_context(context)
        x = x + self.dropout(self._attend(query, source, visible))
        return x + self.dropout(self.feed_forward(self.norm_feed_forward(x)))

    def _attend(self, query: Tensor, source: Tensor, visible: Tensor | None) -> Tensor:
        q = self._split_heads(self.query(query))
        k, v = (self._split_heads(part) for part in self.key_value(source).chunk(2, dim=-1))
        mask = None if visible is None else visible[:, None, None, :]
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.output(attended.transpose(1, 2).flatten(2))

    def _split_heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)


def masked_mean(x: Tensor, visible: Tensor) -> Tensor:
    """Mean (n, d) of the tokens `x` (n, k, d) that are `visible` (n, k), zero where none is."""
    # Not a product: a hidden token may hold NaN or infinity
    kept = torch.where(visible[..., None], x, 0.0)
    return kept.sum(dim=1) / visible.sum(dim=1, keepdim=True).clamp(min=1).to(x.dtype)
