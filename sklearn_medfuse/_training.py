"""What every training loop here shares: device, seeds, progress, batches, early stopping."""

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import numpy as np
import torch
from torch import nn
from tqdm.auto import tqdm

from ._generators import generators_put_back

# Share of the steps in which the learning rate rises. Not 0.1: torch's OneCycleLR divides by zero
# where it makes just one step.
WARM_UP = 0.101


def resolve_device(device: str | torch.device) -> torch.device:
    """Turn the `device` parameter into a torch device; "auto" takes a CUDA GPU if there is one."""
    if isinstance(device, str) and device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError:
        raise ValueError(
            f"device={device!r} is not a torch device; use 'auto', 'cpu', 'cuda' or 'cuda:0'."
        ) from None
    if resolved.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            f"device={device!r} was asked for, but torch sees no CUDA GPU; use device='auto'."
        )
    return resolved


def resolve_device_to_load(device: str | torch.device) -> torch.device:
    """Device of a loaded estimator: a GPU of fit where there is one here, else the CPU."""
    return resolve_device("cpu" if str(device) == "cpu" else "auto")


def resolve_fitted_device(device: str | torch.device) -> torch.device:
    """Device of a fitted estimator: that of fit where it is here too, else as "auto" takes it."""
    wanted = torch.device("cpu" if str(device) == "auto" else device)
    if wanted.type == "cuda" and (wanted.index or 0) >= torch.cuda.device_count():
        device = "auto"
    return resolve_device(device)


def check_heads(d_model: int, n_heads: int) -> None:
    """Refuse a token width that the attention heads cannot share evenly."""
    if d_model % n_heads:
        raise ValueError(
            f"d_model={d_model} is not a multiple of n_heads={n_heads}; choose a d_model that is."
        )


def draw_seed(random_state: np.random.RandomState) -> int:
    """Draw a seed for torch from numpy's generator."""
    return int(random_state.randint(np.iinfo(np.int32).max))


@contextmanager
def torch_seed(seed: int, device: torch.device) -> Iterator[torch.Generator]:
    """Seed torch within the block and put the global generators back afterwards.

    Another thread waits at its own block: it would draw from the same generators.

    Yields
    ------
    torch.Generator
        A CPU generator of the block's own, seeded too, for draws that must not depend on how
        many numbers the layers have used.
    """
    devices = [device] if device.type == "cuda" else []
    with generators_put_back(devices):
        torch.manual_seed(seed)
        yield torch.Generator().manual_seed(seed)


def with_gradients() -> AbstractContextManager:
    """Have torch record gradients within the block, though fit was called under `torch.no_grad()`.

    Examples
    --------
    >>> with torch.no_grad(), with_gradients():
    ...     torch.is_grad_enabled()
    True
    """
    # it switches on what no_grad switched off too
    return torch.inference_mode(False)


def progress_bar(total: int, description: str, unit: str, verbose: int) -> tqdm:
    """Progress bar on standard error, silent with verbose=0; shows counts and losses only."""
    return tqdm(
        total=total,
        desc=description,
        unit=unit,
        disable=not verbose,
        file=sys.stderr,
        dynamic_ncols=True,
        mininterval=0.5,
    )


class BestWeights:
    """Keep the weights of the best epoch, and say when to stop.

    Parameters
    ----------
    patience : int
        Epochs without a new best before `update` says stop.
    tol : float
        What a score has to gain to count as better.
    """

    def __init__(self, patience: int, tol: float = 0.0):
        self.patience = patience
        self.tol = tol
        self.best_score = -np.inf
        self.best_epoch = 0
        self._weights: dict[str, torch.Tensor] = {}

    def update(self, epoch: int, score: float, module: nn.Module) -> bool:
        """Take the score of an epoch, higher is better; True means stop."""
        if score > self.best_score + self.tol:
            self.best_score, self.best_epoch = score, epoch
            self._weights = {
                name: tensor.detach().clone() for name, tensor in module.state_dict().items()
            }
        return epoch - self.best_epoch >= self.patience

    def restore(self, module: nn.Module) -> None:
        """Put the best weights back."""
        if self._weights:
            module.load_state_dict(self._weights)

    def state_dict(self) -> dict:
        """Return what a checkpoint has to keep."""
        return {
            "score": self.best_score,
            "epoch": self.best_epoch,
            "weights": self._weights,
        }

    def load_state_dict(self, state: dict) -> None:
        """Take what a checkpoint has kept."""
        self.best_score, self.best_epoch = float(state["score"]), int(state["epoch"])
        self._weights = state["weights"]


class TensorBatches:
    """Batches sliced from tensors, in place of a DataLoader that collates row by row.

    Parameters
    ----------
    dataset : skorch.dataset.Dataset
        Its X is a dict of tensors, its y a tensor, all with one entry per row.
    batch_size : int
        Rows per batch.
    shuffle : bool, default=False
        Draw a new order at each pass, from torch's generator.
    """

    def __init__(self, dataset, batch_size: int, shuffle: bool = False):
        self.dataset = dataset
        self.batch_size = batch_size
        self.shuffle = shuffle

    def __len__(self) -> int:
        return -(-len(self.dataset) // self.batch_size)

    def __iter__(self):
        n_rows = len(self.dataset)
        order = torch.randperm(n_rows) if self.shuffle else torch.arange(n_rows)
        for rows in order.split(self.batch_size):
            X = {name: tensor[rows] for name, tensor in self.dataset.X.items()}
            yield X, self.dataset.y[rows]
