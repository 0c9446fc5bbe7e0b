"""L_prediction: losses of single cells, one per row and label, so that each can have a weight."""

import torch
import torch.nn.functional as F
from torch import Tensor


def log_loss(logits: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy: binary of each label, or over classes where y holds class numbers.

    `y` holds labels of 0 and 1 (n, n_outputs) or int64 class numbers (n,); the losses, in nats,
    have shape (n, n_outputs) or (n, 1).

    Examples
    --------
    >>> import torch
    >>> log_loss(torch.zeros(2, 1), torch.ones(2, 1))
    tensor([[0.6931],
            [0.6931]])
    """
    if y.dtype == torch.int64:
        return F.cross_entropy(logits, y, reduction="none")[:, None]
    return F.binary_cross_entropy_with_logits(logits, y, reduction="none")


def focal_loss(logits: Tensor, y: Tensor, gamma: float = 2.0) -> Tensor:
    """Cross-entropy times (1 - p)^gamma of the true value: less weight to easy cells (Lin 2017).

    Examples
    --------
    >>> import torch
    >>> focal_loss(torch.zeros(1, 1), torch.ones(1, 1))
    tensor([[0.1733]])
    """
    surprise = log_loss(logits, y)
    return (1 - torch.exp(-surprise)) ** gamma * surprise


def asymmetric_loss(
    logits: Tensor, y: Tensor, gamma_negative: float = 4.0, margin: float = 0.05
) -> Tensor:
    """Binary cross-entropy with less weight to easy negatives (Ridnik et al. 2021).

    A positive costs -log p, a negative  -p_m^gamma log(1 - p_m)  with  p_m = max(p - margin, 0), so
    negatives below the margin cost nothing. It is defined for labels, not for classes.

    Examples
    --------
    >>> import torch
    >>> asymmetric_loss(torch.tensor([[0.0, -4.0]]), torch.tensor([[1.0, 0.0]]))
    tensor([[0.6931, 0.0000]])
    """
    shifted = (torch.sigmoid(logits) - margin).clamp(min=0.0)
    negative = -(shifted**gamma_negative) * torch.log1p(-shifted)
    return y * F.softplus(-logits) + (1 - y) * negative


LOSSES = {"log_loss": log_loss, "focal": focal_loss, "asymmetric": asymmetric_loss}
