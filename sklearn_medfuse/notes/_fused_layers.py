"""Parts of a frozen transformer as oneDNN computes them best: fewer passes over the same numbers.

A linear layer takes its weight in oneDNN's own order, and the activation or the addition that
follows it is done before its result leaves the processor's registers. Attention is two batched
matrix products and oneDNN's softmax.
"""

import functools
from typing import Any

import torch
from torch import Tensor, nn
from transformers.models.bert.modeling_bert import BertLayer
from transformers.models.electra.modeling_electra import ElectraLayer

# the library's names of activations that oneDNN appends to a product, with oneDNN's
_ACTIVATIONS = {"gelu": ("gelu", "none"), "gelu_new": ("gelu", "tanh"), "relu": ("relu", "")}
_FUSED = (BertLayer, ElectraLayer)
# of the scores that are between two products at once, so that they stay in the processor's cache
_SCORE_BYTES = 2**20
# within these chunk lengths scores cost less than torch's own attention, which keeps none
_SHORTEST, _LONGEST = 32, 1024


class PrepackedLinear(nn.Module):
    """Linear layers on one input as one product whose weight lies in oneDNN's own order.

    torch reorders the weight at every call otherwise, which costs a tenth or more. In bfloat16 the
    results of a single layer are the same bits, in float32 the same but for the last of them.

    Parameters
    ----------
    *linears : torch.nn.Linear
        Their outputs stand side by side.
    activation : str or None
        A name in `transformers`, applied to the output.
    """

    def __init__(self, *linears: nn.Linear, activation: str | None = None):
        super().__init__()
        weight = torch.cat([linear.weight.detach() for linear in linears])
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight)
        self.bias = None
        if linears[0].bias is not None:
            self.bias = torch.cat([linear.bias.detach() for linear in linears])
        self.activation = ("none", "") if activation is None else _ACTIVATIONS[activation]

    def forward(self, x: Tensor, added: Tensor | None = None) -> Tensor:
        """Give x·weightᵀ + bias for x of shape (..., in_features), plus what is to be added."""
        if added is not None:
            return torch.ops.mkldnn._linear_pointwise.binary(
                x, added, self.weight, self.bias, "add"
            )
        name, algorithm = self.activation
        return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, name, [], algorithm)


class FusedEncoderLayer(nn.Module):
    """A layer of BERT or of one of its kin, frozen, in four products, two norms and attention.

    Parameters
    ----------
    layer : BertLayer or ElectraLayer
        The library's layer; its parts are taken over.
    attention : callable
        As the library calls it: the layer, then queries, keys and values of shape (1, n_heads,
        n_tokens, d), then the mask.
    activation : str
        Name of the activation between the last two products.
    """

    is_causal = False

    def __init__(self, layer: Any, attention, activation: str):
        super().__init__()
        attended, fed = layer.attention, layer.intermediate
        heads = attended.self
        self.attention = attention
        self.n_heads, self.scaling = heads.num_attention_heads, heads.scaling
        self.heads = PrepackedLinear(heads.query, heads.key, heads.value)
        self.joined = PrepackedLinear(attended.output.dense)
        self.first_norm = attended.output.LayerNorm
        self.widened = PrepackedLinear(fed.dense, activation=activation)
        self.narrowed = PrepackedLinear(layer.output.dense)
        self.second_norm = layer.output.LayerNorm

    def forward(self, hidden_states: Tensor, attention_mask=None, *others, **options) -> Tensor:
        """Give the states after the layer, of the shape (1, n_tokens, d) of those before it."""
        heads = self.heads(hidden_states).unflatten(-1, (3, self.n_heads, -1))
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        attended, _ = self.attention(
            self, query, key, value, attention_mask, scaling=self.scaling, **options
        )
        states = self.first_norm(self.joined(attended.flatten(-2), hidden_states))
        return self.second_norm(self.narrowed(self.widened(states), states))


def fuse_layers(model: Any, attention) -> None:
    """Put fused layers in place of those that are known, prepacked ones of other linear layers."""
    activation = getattr(model.config.get_text_config(), "hidden_act", None)
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            known = type(child) in _FUSED and not child.is_decoder
            if known and activation in _ACTIVATIONS:
                setattr(module, name, FusedEncoderLayer(child, attention, activation))
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.Linear:
                setattr(module, name, PrepackedLinear(child))


@functools.cache
def can_fuse(dtype: torch.dtype) -> bool:
    """Whether this torch on this processor has what `PrepackedLinear` needs, for weights of dtype.

    torch offers these operators to its compiler only; where a version lacks them its own stay.
    """
    ops = torch.ops.mkldnn
    needed = ("_reorder_linear_weight", "_linear_pointwise", "_is_mkldnn_bf16_supported")
    if not torch.backends.mkldnn.is_available() or not all(hasattr(ops, name) for name in needed):
        return False
    return dtype == torch.float32 or (dtype == torch.bfloat16 and ops._is_mkldnn_bf16_supported())


def can_keep_scores(query: Tensor) -> bool:
    """Whether `attend_by_scores` is the faster way for queries (..., length, d) on this machine.

    It depends on the length and not on the number of chunks, so that a chunk's vector does not.
    """
    return (
        query.dtype == torch.bfloat16
        and _SHORTEST <= query.shape[-2] <= _LONGEST
        and can_fuse(query.dtype)
    )


def attend_by_scores(query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
    """Attention of all tokens of a chunk to all, softmax(scaling · q kᵀ) v.

    torch's kernel on a CPU takes queries by 32 and does little else than start products of that
    size; batched over chunks and heads they run near the processor's rate.

    Parameters
    ----------
    query, key, value : Tensor of shape (n_chunks, n_heads, length, d)
        Of chunks of one length.
    scaling : float
        Factor of the scores.

    Returns
    -------
    Tensor of shape (n_chunks, n_heads, length, d)
        Attended values.

    Examples
    --------
    >>> import torch
    >>> same = torch.zeros(1, 1, 2, 1)
    >>> attend_by_scores(same, same, torch.tensor([[[[1.0], [3.0]]]]), 1.0).flatten().tolist()
    [2.0, 2.0]
    """
    length = query.shape[-2]
    at_once = max(1, _SCORE_BYTES // (length * length * query.element_size()))
    parts = []
    # the sum of a product and of beta=0 times this is the product, which is scaled on the way
    nothing = query.new_empty(())
    for q, k, v in zip(*(_by_head(x).split(at_once) for x in (query, key, value)), strict=True):
        scores = torch.baddbmm(
            nothing.expand(len(q), length, length), q, k.transpose(1, 2), beta=0, alpha=scaling
        )
        # torch's softmax goes number by number where the length is no multiple of 32
        shares = torch.softmax(scores.to_mkldnn(), -1).to_dense(query.dtype)
        parts.append(torch.bmm(shares, v))
    return torch.cat(parts).view(*query.shape[:-1], value.shape[-1])


def _by_head(x: Tensor) -> Tensor:
    return x.reshape(-1, *x.shape[-2:])
