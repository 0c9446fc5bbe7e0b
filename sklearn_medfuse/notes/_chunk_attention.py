"""Learn from labels which chunks of a note count."""

import numpy as np
import torch
import torch.nn.functional as F

from .._generators import generators_put_back
from .._nn.chunk_pooling import ChunkAttention
from .._training import torch_seed, with_gradients

_HIDDEN = 32
_N_STEPS = 200
_LEARNING_RATE = 1e-2
_WEIGHT_DECAY = 1e-2


def fit_attention(
    vectors: np.ndarray, note: np.ndarray, n_notes: int, y: np.ndarray, seed: int
) -> dict[str, np.ndarray]:
    """Fit the attention and a linear layer on the pooled vectors to the labels.

    Parameters
    ----------
    vectors : float32 array of shape (n_chunks, d)
        Vectors of all chunks.
    note : int64 array of shape (n_chunks,)
        The note of each chunk.
    n_notes : int
        Number of notes; those without chunks are left out.
    y : float32 array of shape (n_notes, n_labels)
        0/1 labels.
    seed : int
        Seeds the initial weights.

    Returns
    -------
    dict of str to float32 array
        Weights of `ChunkAttention`; those of the linear layer are not needed any more.
    """
    with torch_seed(seed, torch.device("cpu")), with_gradients():
        chunks, of_note = torch.tensor(vectors), torch.from_numpy(note)
        kept = torch.from_numpy(np.bincount(note, minlength=n_notes) > 0)
        targets = torch.from_numpy(y)[kept]
        # chunks of unit length would give logits near zero
        scale = chunks.std().clamp(min=1e-6)
        attention = ChunkAttention(chunks.shape[1], _HIDDEN)
        head = torch.nn.Linear(chunks.shape[1], targets.shape[1])
        optimizer = torch.optim.AdamW(
            [*attention.parameters(), *head.parameters()],
            lr=_LEARNING_RATE,
            weight_decay=_WEIGHT_DECAY,
        )
        for _ in range(_N_STEPS):
            logits = head(attention(chunks / scale, of_note, n_notes)[kept])
            optimizer.zero_grad()
            F.binary_cross_entropy_with_logits(logits, targets).backward()
            optimizer.step()
    # the scale goes into the first layer, so that vectors are used as they come
    weights = attention.state_dict()
    weights["hidden.weight"] = weights["hidden.weight"] / scale
    return {name: tensor.numpy() for name, tensor in weights.items()}


def pool_by_attention(
    weights: dict[str, np.ndarray], chunks: torch.Tensor, note: torch.Tensor, n_notes: int
) -> torch.Tensor:
    """One vector per note with weights of `fit_attention`."""
    with generators_put_back():
        attention = ChunkAttention(chunks.shape[1], _HIDDEN)
    attention.load_state_dict({name: torch.tensor(array) for name, array in weights.items()})
    with torch.inference_mode():
        return attention(chunks, note, n_notes)
