"""Modality dropout: in training some modalities are taken for absent."""

import torch
from torch import Tensor


def drop_modalities(present: Tensor, probability: float) -> Tensor:
    """Take away each modality of each row with a probability, but never a row's last one.

    Parameters
    ----------
    present : bool Tensor of shape (n, n_modalities)
        Which rows have which modality.
    probability : float
        Of losing one, in [0, 1).

    Returns
    -------
    bool Tensor of shape (n, n_modalities)
        What is left; a row that would lose all keeps all.

    Examples
    --------
    >>> import torch
    >>> drop_modalities(torch.tensor([[True, False]]), 0.9)
    tensor([[ True, False]])
    """
    kept = present & (torch.rand(present.shape, device=present.device) >= probability)
    return torch.where(kept.any(dim=1, keepdim=True), kept, present)
