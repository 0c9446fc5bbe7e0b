"""Run chunks of several lengths through a model end to end, without padding.

The chunks stand one after the other in a single row, longest first. Linear layers, norms and
activations see tokens only, so nothing is spent on padding; attention, the only place where tokens
meet, is computed for the chunks of one length at a time, so that it needs no mask either.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from transformers import AttentionInterface, PreTrainedModel

from ._fused_layers import attend_by_scores, can_fuse, can_keep_scores, fuse_layers

_NAME = "medfuse_packed"
# families of which a test shows that they give the library's own states when packed
PACKABLE = frozenset({"bert", "electra", "llama", "mistral", "qwen2", "qwen3"})


def packed_attention(module, query, key, value, attention_mask, scaling=None, **options):
    """Attention within each chunk, in the form that transformers calls.

    Parameters
    ----------
    module : torch.nn.Module
        The layer; its `is_causal` says whether a token sees those after it.
    query, key, value : Tensor of shape (1, n_heads, n_tokens, d)
        Of all chunks; keys and values may have fewer heads.
    attention_mask : None
        Not used: chunks of one length need no mask.
    scaling : float or None
        Factor of the scores.
    **options : dict
        `groups`, a list of (number of chunks, tokens per chunk) in order, and what else the
        library gives.

    Returns
    -------
    Tensor of shape (1, n_tokens, n_heads, d) and None
        Attended values; no attention weights.
    """
    _, n_heads, n_tokens, width = query.shape
    attended = query.new_empty(n_tokens, n_heads, width)
    shared = key.shape[1] != n_heads
    causal = bool(getattr(module, "is_causal", False))
    start = 0
    for n_chunks, length in options["groups"]:
        stop = start + n_chunks * length
        q, k, v = (
            x[0, :, start:stop].unflatten(1, (n_chunks, length)).transpose(0, 1)
            for x in (query, key, value)
        )
        if can_keep_scores(q) and not causal and not shared and scaling is not None:
            group = attend_by_scores(q, k, v, scaling)
        else:
            group = F.scaled_dot_product_attention(
                q, k, v, scale=scaling, is_causal=causal and length > 1, enable_gqa=shared
            )
        attended[start:stop].view(n_chunks, length, n_heads, width).copy_(group.transpose(1, 2))
        start = stop
    return attended[None], None


AttentionInterface.register(_NAME, packed_attention)


def can_pack(model: PreTrainedModel) -> bool:
    """Whether `run_packed` gives what the model would give for each chunk alone.

    Only on a CPU: a GPU has kernels of its own for padded batches.
    """
    config = model.config.get_text_config()
    return (
        config.model_type in PACKABLE
        and getattr(config, "sliding_window", None) is None
        and all(parameter.device.type == "cpu" for parameter in model.parameters())
    )


def prepare_packed(model: PreTrainedModel) -> None:
    """Make a frozen model ready for `run_packed`."""
    model.set_attn_implementation(_NAME)
    if can_fuse(next(model.parameters()).dtype):
        fuse_layers(model, packed_attention)


def run_packed(model: PreTrainedModel, rows: list[list[int]]) -> Iterator[torch.Tensor]:
    """Last hidden states of rows of token ids that come longest first.

    Yields
    ------
    Tensor of shape (n_chunks, length, d)
        States of the rows of one length, in order.
    """
    ids = torch.tensor([token for row in rows for token in row])
    positions = torch.cat([torch.arange(len(row)) for row in rows])
    groups = groups_of_lengths([len(row) for row in rows])
    output = model(
        input_ids=ids[None], position_ids=positions[None], groups=groups, **_no_cache(model)
    )
    sizes = [n_chunks * length for n_chunks, length in groups]
    for states, group in zip(output.last_hidden_state[0].split(sizes), groups, strict=True):
        yield states.unflatten(0, group)


def groups_of_lengths(lengths: list[int]) -> list[tuple[int, int]]:
    """Runs of equal lengths.

    Examples
    --------
    >>> groups_of_lengths([5, 5, 3])
    [(2, 5), (1, 3)]
    """
    groups: list[tuple[int, int]] = []
    for length in lengths:
        if groups and groups[-1][1] == length:
            groups[-1] = (groups[-1][0] + 1, length)
        else:
            groups.append((1, length))
    return groups


def _no_cache(model) -> dict[str, bool]:
    """Keep a decoder from storing keys and values for text that it is not asked to write."""
    decoder = getattr(model.config.get_text_config(), "is_decoder", False)
    return {"use_cache": False} if decoder or hasattr(model.config, "use_cache") else {}
