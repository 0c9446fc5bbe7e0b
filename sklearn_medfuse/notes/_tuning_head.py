"""The head of supervised fine-tuning: a penalised logistic regression that begins at its optimum.

A head that begins at zero learns the training notes by heart while the model has hardly moved, and
its first gradients distort what the model knew (Kumar et al. 2022).
"""

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

# inverse strengths of the penalty on weights of standardised vectors; those held out choose
_STRENGTHS = (0.001, 0.003, 0.01, 0.1, 1.0)


class LogisticHead(nn.Module):
    """Logits of each label from the notes' vectors, which are standardised first.

    Parameters
    ----------
    width : int
        Width of the vectors.
    n_labels : int
        Number of labels.
    """

    center: Tensor
    scale: Tensor
    strength: Tensor

    def __init__(self, width: int, n_labels: int):
        super().__init__()
        self.linear = nn.Linear(width, n_labels)
        self.register_buffer("center", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))
        self.register_buffer("strength", torch.zeros(()))

    def start(
        self,
        vectors: np.ndarray,
        y: np.ndarray,
        held_out: tuple[np.ndarray, np.ndarray],
        class_weight: str | None,
    ) -> None:
        """Fit to the vectors that the model gives before it is trained.

        Parameters
        ----------
        vectors : float32 array of shape (n_notes, width)
            Vectors of the notes to train on.
        y : float32 array of shape (n_notes, n_labels)
            Their labels.
        held_out : tuple of two arrays
            Vectors and labels of other notes, on which the strength of the penalty is chosen.
        class_weight : "balanced" or None
            Whether both classes weigh the same.
        """
        center, scale = vectors.mean(axis=0), vectors.std(axis=0)
        scale[scale < 1e-6] = 1.0
        standard, others = (vectors - center) / scale, (held_out[0] - center) / scale
        best = np.inf
        for strength in _STRENGTHS:
            coef, intercept = _fit_labels(standard, y, strength, class_weight)
            loss = _loss(others @ coef.T + intercept, held_out[1])
            if loss < best:
                best, chosen = loss, (coef, intercept, strength)
        device = self.center.device
        coef, intercept, strength = chosen
        with torch.no_grad():
            self.center.copy_(torch.tensor(center, device=device))
            self.scale.copy_(torch.tensor(scale, device=device))
            self.linear.weight.copy_(torch.tensor(coef, device=device))
            self.linear.bias.copy_(torch.tensor(intercept, device=device))
            # of the mean over notes and labels, as the loss is
            self.strength.fill_(1 / (2 * strength * y.size))

    def forward(self, vectors: Tensor) -> Tensor:
        """Give logits (n_notes, n_labels) of vectors (n_notes, width)."""
        return self.linear((vectors - self.center) / self.scale)

    def penalty(self) -> Tensor:
        """Give what the weights cost, in addition to the loss."""
        return self.strength * self.linear.weight.square().sum()


def _fit_labels(X, y, strength: float, class_weight) -> tuple[np.ndarray, np.ndarray]:
    coef = np.zeros((y.shape[1], X.shape[1]), dtype=np.float32)
    rate = y.mean(axis=0).clip(1e-3, 1 - 1e-3)
    intercept = np.log(rate / (1 - rate)).astype(np.float32)
    for label, target in enumerate(y.T):
        # a label that all or none have is left to its rate
        if target.min() < target.max():
            model = LogisticRegression(C=strength, class_weight=class_weight, max_iter=1000)
            model.fit(X, target)
            coef[label], intercept[label] = model.coef_[0], model.intercept_[0]
    return coef, intercept


def _loss(logits: np.ndarray, y: np.ndarray) -> float:
    """Mean binary cross-entropy."""
    return float(np.mean(np.logaddexp(0, logits) - y * logits))
