"""Run windows of several lengths through a model on a CPU, end to end and without padding.

The windows are laid out in a single row, longest first. Linear layers, norms and activations work
on single tokens, so no time goes into padding. Attention, the only place where tokens meet, is
computed for windows of one length at a time and therefore needs no mask.

If oneDNN has the operators, linear layers take their weights in its own order, and the activation
or addition that follows happens before a result leaves the processor's registers. A model for
which `can_pack` is False runs in padded batches instead.
"""

import functools
import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_NAME = "medfuse_packed"
# Families for which a test shows that packing gives the library's own states
PACKABLE = frozenset({"bert", "electra", "llama", "mistral", "qwen2", "qwen3"})
# Activations that oneDNN can append to a product: the library's names, and oneDNN's
_ACTIVATIONS = {"gelu": ("gelu", "none"), "gelu_new": ("gelu", "tanh"), "relu": ("relu", "")}
# Scores between two products of this size stay in the processor's cache
_SCORE_BYTES = 2**20
# For windows of these lengths, keeping scores is faster than torch's own attention
_SHORTEST, _LONGEST = 32, 1024


def can_pack(model: "PreTrainedModel") -> bool:
    """Whether `run_packed` gives what the model gives for each window alone, all on a CPU."""
    config = model.config.get_text_config()
    return (
        config.model_type in PACKABLE
        and getattr(config, "sliding_window", None) is None
        and all(parameter.device.type == "cpu" for parameter in model.parameters())
    )


def prepare_packed(model: "PreTrainedModel") -> None:
    """Make a frozen model ready for `run_packed`."""
    from transformers import AttentionInterface

    AttentionInterface.register(_NAME, _packed_attention)
    model.set_attn_implementation(_NAME)
    if can_fuse(next(model.parameters()).dtype):
        _fuse_layers(model)


def run_packed(model: "PreTrainedModel", rows: list[list[int]]) -> Iterator[Tensor]:
    """Last hidden states (n_windows, length, d) of the rows of each length, longest first."""
    ids = torch.tensor([token for row in rows for token in row])
    positions = torch.cat([torch.arange(len(row)) for row in rows])
    groups = [(len(list(same)), length) for length, same in itertools.groupby(map(len, rows))]
    options: dict[str, Any] = {"groups": groups}
    is_decoder = getattr(model.config.get_text_config(), "is_decoder", False)
    if is_decoder or hasattr(model.config, "use_cache"):
        # A decoder that writes no text need not store keys and values
        options["use_cache"] = False
    output = model(input_ids=ids[None], position_ids=positions[None], **options)
    sizes = [n_windows * length for n_windows, length in groups]
    for states, group in zip(output.last_hidden_state[0].split(sizes), groups, strict=True):
        yield states.unflatten(0, group)


def _packed_attention(module, query, key, value, attention_mask, scaling=None, **options):
    """Attention within each window, (1, n_heads, n_tokens, d) → (1, n_tokens, n_heads, d).

    The signature is the one that transformers expects; mask and attention weights are not needed.
    """
    _, n_heads, n_tokens, width = query.shape
    attended = query.new_empty(n_tokens, n_heads, width)
    shared = key.shape[1] != n_heads
    causal = bool(getattr(module, "is_causal", False))
    start = 0
    for n_windows, length in options["groups"]:
        stop = start + n_windows * length
        q, k, v = (
            x[0, :, start:stop].unflatten(1, (n_windows, length)).transpose(0, 1)
            for x in (query, key, value)
        )
        # The choice depends on the length alone: no vector may depend on the windows beside it
        by_scores = q.dtype == torch.bfloat16 and _SHORTEST <= length <= _LONGEST
        if by_scores and can_fuse(q.dtype) and not causal and not shared and scaling is not None:
            group = attend_by_scores(q, k, v, scaling)
        else:
            group = F.scaled_dot_product_attention(
                q, k, v, scale=scaling, is_causal=causal and length > 1, enable_gqa=shared
            )
        attended[start:stop].view(n_windows, length, n_heads, width).copy_(group.transpose(1, 2))
        start = stop
    return attended[None], None


@functools.cache
def can_fuse(dtype: torch.dtype) -> bool:
    """Whether `PrepackedLinear` can run; torch has these operators for its compiler."""
    ops = torch.ops.mkldnn
    needed = ("_reorder_linear_weight", "_linear_pointwise", "_is_mkldnn_bf16_supported")
    if not torch.backends.mkldnn.is_available() or not all(hasattr(ops, name) for name in needed):
        return False
    return dtype == torch.float32 or (dtype == torch.bfloat16 and ops._is_mkldnn_bf16_supported())


class PrepackedLinear(nn.Module):
    """Linear layers on one input as one product, with the weight in oneDNN's own order.

    torch would reorder it at every call. Results differ from torch's in the last bit of float32.
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
        """Return x·weightᵀ + bias for x of shape (..., in_features), plus `added`."""
        product = torch.ops.mkldnn._linear_pointwise
        if added is not None:
            return product.binary(x, added, self.weight, self.bias, "add")
        name, algorithm = self.activation
        return product(x, self.weight, self.bias, name, [], algorithm)


class FusedEncoderLayer(nn.Module):
    """A frozen layer of BERT or ELECTRA in four products, two norms and attention."""

    is_causal = False

    def __init__(self, layer: Any, activation: str):
        super().__init__()
        attended, fed = layer.attention, layer.intermediate
        heads = attended.self
        self.n_heads, self.scaling = heads.num_attention_heads, heads.scaling
        self.heads = PrepackedLinear(heads.query, heads.key, heads.value)
        self.joined = PrepackedLinear(attended.output.dense)
        self.first_norm = attended.output.LayerNorm
        self.widened = PrepackedLinear(fed.dense, activation=activation)
        self.narrowed = PrepackedLinear(layer.output.dense)
        self.second_norm = layer.output.LayerNorm

    def forward(self, hidden_states: Tensor, attention_mask=None, *others, **options) -> Tensor:
        """Return the states after the layer, of the same shape (1, n_tokens, d) as before it."""
        heads = self.heads(hidden_states).unflatten(-1, (3, self.n_heads, -1))
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        attended, _ = _packed_attention(
            self, query, key, value, attention_mask, scaling=self.scaling, **options
        )
        states = self.first_norm(self.joined(attended.flatten(-2), hidden_states))
        return self.second_norm(self.narrowed(self.widened(states), states))


def _fuse_layers(model: Any) -> None:
    """Put fused layers in place of known ones, and prepacked linear layers in place of others."""
    from transformers.models.bert.modeling_bert import BertLayer
    from transformers.models.electra.modeling_electra import ElectraLayer

    activation = getattr(model.config.get_text_config(), "hidden_act", None)
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            known = type(child) in (BertLayer, ElectraLayer) and not child.is_decoder
            if known and activation in _ACTIVATIONS:
                setattr(module, name, FusedEncoderLayer(child, activation))
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.Linear:
                setattr(module, name, PrepackedLinear(child))


def attend_by_scores(query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
    """Attention softmax(scaling · q kᵀ) v, all of shape (n_windows, n_heads, length, d).

    torch's kernel on a CPU takes 32 queries at a time. Batched over windows and heads, products run
    near the processor's peak rate.
    """
    length = query.shape[-2]
    at_once = max(1, _SCORE_BYTES // (length * length * query.element_size()))
    parts = []
    # A placeholder that beta=0 leaves out; baddbmm scales the product on the way
    nothing = query.new_empty(())
    by_head = (x.reshape(-1, *x.shape[-2:]).split(at_once) for x in (query, key, value))
    for q, k, v in zip(*by_head, strict=True):
        scores = torch.baddbmm(
            nothing.expand(len(q), length, length), q, k.transpose(1, 2), beta=0, alpha=scaling
        )
        # torch's own softmax is not vectorised if the length is no multiple of 32
        shares = torch.softmax(scores.to_mkldnn(), -1).to_dense(query.dtype)
        parts.append(torch.bmm(shares, v))
    return torch.cat(parts).view(*query.shape[:-1], value.shape[-1])
