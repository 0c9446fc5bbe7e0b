"""What it costs to embed many notes, calculated from the constants below."""

from typing import NamedTuple

# Bundled eICU stays: 165,658 tokens plus 2 special ones in each of 3,056 windows, in 825 notes
TOKENS_PER_NOTE = 208.0
# Medical-Llama3-8B without its embeddings: 32 layers of attention (queries and outputs 4096 x 4096,
# keys and values 4096 x 1024 each) and three products 4096 x 14336
LLAMA3_8B_WEIGHTS = 6_979_321_856
# Dense bfloat16 on an H100 SXM, from NVIDIA's data sheet: 1,979 with sparsity, half without
H100_FLOPS = 989.5e12
# An assumption: what a large model commonly reaches with long, full batches
UTILISATION = 0.4


class EmbeddingCost(NamedTuple):
    """The estimate that `embedding_cost` returns.

    Parameters
    ----------
    tokens : float
        Total number of tokens.
    tokens_per_second : float
        Speed of one device.
    hours : float
        Time until all devices are done.
    device_hours : float
        Hours summed over devices.

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
    n_notes: float,
    *,
    n_devices: int = 1,
    tokens_per_note: float = TOKENS_PER_NOTE,
    tokens_per_second: float | None = None,
    n_weights: float = LLAMA3_8B_WEIGHTS,
    peak_flops: float = H100_FLOPS,
    utilisation: float = UTILISATION,
) -> EmbeddingCost:
    r"""Estimate how long it takes to embed notes.

    One token takes two operations per weight of the linear layers, a product and a sum. With
    :math:`W` weights and a share :math:`u` of :math:`F` operations per second,

    .. math:: \text{tokens per second} = \frac{u F}{2 W}

    Devices share the notes evenly. Reading, tokenising, loading the weights and the attention
    scores, a few per cent for windows of a hundred tokens, are left out.

    Parameters
    ----------
    n_notes : int
        Number of notes.
    n_devices : int, default=1
        Number of GPUs or machines.
    tokens_per_note : float, default=208
        Includes special tokens. The default is the mean of the bundled eICU stays.
    tokens_per_second : float or None, default=None
        Measured speed of one device; None calculates it from the parameters below.
    n_weights : int, default=6_979_321_856
        Weights of the linear layers. The default is Llama 3 8B's; MiniLM has 10,616,832.
    peak_flops : float, default=989.5e12
        Operations per second of a device. The default is an NVIDIA H100 SXM in dense bfloat16.
    utilisation : float, default=0.4
        Share of the peak that is reached, an assumption. Small models reach less.

    Returns
    -------
    EmbeddingCost
        Tokens, tokens per second of a device, hours and device hours.

    Raises
    ------
    ValueError
        If a number is not positive, or `utilisation` is above one.

    Examples
    --------
    >>> from sklearn_medfuse.distributed import embedding_cost
    >>> embedding_cost(10_000_000, n_devices=8).hours.__round__(1)
    2.5
    """
    parameters = dict(locals())
    for name, number in parameters.items():
        if number is not None and not number > 0:
            raise ValueError(f"{name}={number} is not positive; pass a number above zero.")
    if utilisation > 1:
        raise ValueError(f"utilisation={utilisation} is a share; pass at most 1.")
    if tokens_per_second is None:
        tokens_per_second = utilisation * peak_flops / (2 * n_weights)
    tokens = n_notes * tokens_per_note
    device_hours = tokens / tokens_per_second / 3600
    return EmbeddingCost(tokens, tokens_per_second, device_hours / n_devices, device_hours)
