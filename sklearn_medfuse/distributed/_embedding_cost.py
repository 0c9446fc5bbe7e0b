"""What it costs to embed many notes, by arithmetic on constants that are named here."""

from typing import NamedTuple

# bundled eICU stays: 235,440 tokens and 2 special ones on each of 4,355 windows, in 1,168 notes
TOKENS_PER_NOTE = 209.0
# Medical-Llama3-8B without its embeddings: 32 layers of attention (queries and outputs 4096 x 4096,
# keys and values 4096 x 1024 each) and of three products 4096 x 14336
LLAMA3_8B_WEIGHTS = 6_979_321_856
# dense bfloat16 of an H100 SXM, from NVIDIA's data sheet: 1,979 with sparsity, half of it without
H100_FLOPS = 989.5e12
# an assumption: what long, full batches of a large model commonly reach
UTILISATION = 0.4


class EmbeddingCost(NamedTuple):
    """What `embedding_cost` finds.

    Parameters
    ----------
    tokens : float
        Tokens in all.
    tokens_per_second : float
        Of one device.
    hours : float
        Until all devices are done.
    device_hours : float
        The hours of all devices together.

    Examples
    --------
    >>> from sklearn_medfuse.distributed import EmbeddingCost, embedding_cost
    >>> isinstance(embedding_cost(1000), EmbeddingCost)
    True
    """

    tokens: float
    tokens_per_second: float
    hours: float
    device_hours: float


def embedding_cost(
    n_notes,
    *,
    n_devices=1,
    tokens_per_note=TOKENS_PER_NOTE,
    tokens_per_second=None,
    n_weights=LLAMA3_8B_WEIGHTS,
    peak_flops=H100_FLOPS,
    utilisation=UTILISATION,
):
    r"""Estimate how long the embedding of notes takes.

    One token takes two operations per weight of the linear layers, a product and a sum, so that
    with :math:`W` weights, a device of :math:`F` operations per second and a share :math:`u` of
    them that is reached,

    .. math:: \text{tokens per second} = \frac{u F}{2 W}

    Notes do not depend on each other: devices share them evenly. Reading, tokenising, sending and
    loading the weights are left out, as are the scores of attention, which for windows of a
    hundred tokens are a few hundredths of the operations.

    Parameters
    ----------
    n_notes : int
        Number of notes.
    n_devices : int, default=1
        Number of GPUs or machines.
    tokens_per_note : float, default=209
        Special tokens included. The default is the mean of the bundled eICU stays by MiniLM's
        tokenizer; prose of several pages has ten times as many.
    tokens_per_second : float or None, default=None
        What one device was measured to embed; None calculates it from the parameters below.
    n_weights : int, default=6_979_321_856
        Weights of the linear layers, those that each token passes: the default is that of
        Llama 3 8B, the paper's, MiniLM has 10,616,832.
    peak_flops : float, default=989.5e12
        Operations per second of a device: the default is an NVIDIA H100 SXM in dense bfloat16 by
        its data sheet.
    utilisation : float, default=0.4
        Share of them that is reached, an assumption. Small models reach less.

    Returns
    -------
    EmbeddingCost
        Tokens, tokens per second of a device, hours and device hours.

    Raises
    ------
    ValueError
        If a number is not above zero, or `utilisation` is above one.

    Examples
    --------
    >>> from sklearn_medfuse.distributed import embedding_cost
    >>> embedding_cost(10_000_000, n_devices=8).hours.__round__(1)
    2.6
    >>> measured = embedding_cost(10_000_000, tokens_per_second=29_800)
    >>> round(measured.hours, 1)
    19.5
    """
    numbers = {
        "n_notes": n_notes,
        "n_devices": n_devices,
        "tokens_per_note": tokens_per_note,
        "tokens_per_second": 1 if tokens_per_second is None else tokens_per_second,
        "n_weights": n_weights,
        "peak_flops": peak_flops,
        "utilisation": utilisation,
    }
    for name, number in numbers.items():
        if not number > 0:
            raise ValueError(f"{name}={number} is not above zero; give a positive number.")
    if utilisation > 1:
        raise ValueError(f"utilisation={utilisation} is a share; give at most 1.")
    if tokens_per_second is None:
        tokens_per_second = utilisation * peak_flops / (2 * n_weights)
    tokens = n_notes * tokens_per_note
    device_hours = tokens / tokens_per_second / 3600
    return EmbeddingCost(tokens, tokens_per_second, device_hours / n_devices, device_hours)
