"""Run a model's batches where they are asked to run: here, in processes, or on several GPUs."""

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import NamedTuple

import joblib
import numpy as np
import torch

from ._backbone import Backbone, EmbeddedBatch
from ._model_source import BackboneSpec

# token ids of the chunks of a batch
Batch = list[list[int]]


class Recipe(NamedTuple):
    """How any process gets the model.

    Attributes
    ----------
    load : callable
        ``load(spec)`` gives the `Backbone`, the same one when called again in a process.
    spec : BackboneSpec
        What identifies the model.
    """

    load: Callable[[BackboneSpec], Backbone]
    spec: BackboneSpec

    def backbone(self) -> Backbone:
        """Load the model, or take it if this process holds it."""
        return self.load(self.spec)


def embed_batches(
    recipe: Recipe,
    batches: list[Batch],
    pooling: str,
    n_jobs: int | None,
    tokens_later: int = 0,
) -> Iterator[tuple[int, EmbeddedBatch]]:
    """Embed batches, each as soon as a worker is free.

    On a CPU a worker is a process with weights of its own; on GPUs it is a thread per GPU, as the
    work is done outside Python's lock, with one copy of the weights on each.

    Parameters
    ----------
    recipe : Recipe
        The model.
    batches : list of batches
        Token ids of the chunks of each batch, the longest first.
    pooling : str
        How token states become a chunk's vector.
    n_jobs : int or None
        Number of workers as joblib counts them; one in a task of a Dask cluster.
    tokens_later : int, default=0
        Tokens of batches that another call will bring, as far as that is known.

    Yields
    ------
    int, EmbeddedBatch
        Position of a batch, in any order, and its vectors.
    """
    n_workers = 1 if _in_dask_task() else min(joblib.effective_n_jobs(n_jobs), len(batches))
    backbone = recipe.backbone()
    devices = gpus(torch.device(recipe.spec.device), n_workers)
    if len(devices) > 1:
        left = _tokens_left(backbone, batches, tokens_later, len(devices))
        yield from _on_devices(backbone, devices, batches, pooling, left)
    elif n_workers > 1 and backbone.device.type == "cpu":
        jobs = (
            joblib.delayed(_embed_numbered)(recipe, pooling, i, batch)
            for i, batch in enumerate(batches)
        )
        yield from joblib.Parallel(n_workers, return_as="generator_unordered")(jobs)
    else:
        left = _tokens_left(backbone, batches, tokens_later, 1)
        for i, batch in enumerate(batches):
            yield i, backbone.embed(batch, pooling, left[i])


def _tokens_left(
    backbone: Backbone, batches: list[Batch], tokens_later: int, n_workers: int
) -> list[int]:
    """Tokens that are a worker's share of the batches after each, padding included."""
    width = backbone.padded_width
    tokens = np.array([sum(width(len(chunk)) for chunk in batch) for batch in batches], dtype=int)
    return ((tokens.sum() - tokens.cumsum() + tokens_later) // n_workers).tolist()


def _in_dask_task() -> bool:
    """Whether this is a task of a Dask cluster, whose other tasks are what runs beside it.

    joblib would hand the batches to the same cluster, with the weights, and a task that waits for
    tasks of its own keeps a worker from them.
    """
    distributed = sys.modules.get("distributed")
    if distributed is None:
        return False
    try:
        distributed.get_worker()
    except ValueError:
        return False
    return True


def gpus(device: torch.device, n_workers: int) -> list[torch.device]:
    """The GPUs to use beside one another, unless one is named: as many as there are, or workers."""
    if device.type != "cuda" or device.index is not None:
        return [device]
    return [torch.device("cuda", i) for i in range(min(n_workers, torch.cuda.device_count()))]


def _embed_numbered(
    recipe: Recipe, pooling: str, i: int, batch: Batch
) -> tuple[int, EmbeddedBatch]:
    return i, recipe.backbone().embed(batch, pooling)


def _on_devices(
    backbone: Backbone,
    devices: list[torch.device],
    batches: list[Batch],
    pooling: str,
    tokens_left: list[int],
) -> Iterator[tuple[int, EmbeddedBatch]]:
    free: SimpleQueue[Backbone] = SimpleQueue()
    for device in devices:
        free.put(backbone.replica(device))

    def embed(i: int) -> tuple[int, EmbeddedBatch]:
        mine = free.get()
        try:
            return i, mine.embed(batches[i], pooling, tokens_left[i])
        finally:
            free.put(mine)

    with ThreadPoolExecutor(len(devices), "sklearn-medfuse-gpu") as pool:
        yield from pool.map(embed, range(len(batches)))
