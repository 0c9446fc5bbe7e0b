"""What predicts: the trained net, the scaling of its inputs, and the linear part beside it."""

from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

import numpy as np
import torch

from .._device_memory import in_fitting_batches
from .._nn.fusion_ensemble import FusionWithCritic
from .._nn.fusion_parts import FusionParts
from ._linear_part import LinearPart
from ._mixing import mix
from ._modalities import BlockScaler

Result = TypeVar("Result")

_PREDICTION_BATCH = 4096


class FusedModel(NamedTuple):
    """A net and a linear model whose logits are averaged.

    Attributes
    ----------
    module : FusionWithCritic
        The net.
    scaler : BlockScaler
        Standardises its inputs.
    linear : LinearPart or None
        The linear part.
    weight : float
        Weight of the linear part's logits, from 0 to 1.
    """

    module: FusionWithCritic
    scaler: BlockScaler
    linear: LinearPart | None
    weight: float

    def parts(self, X: np.ndarray) -> Iterator[list[FusionParts]]:
        """Yield the parts of every member of the net, a batch of rows at a time."""
        return self._run(X, lambda parts: parts)

    def logits(self, X: np.ndarray) -> np.ndarray:
        """Logits (n, n_outputs), averaged over the members of the net and the linear part."""
        return self.mixed(self.deep_logits(X), self.linear_logits(X))

    def deep_logits(self, X: np.ndarray) -> np.ndarray:
        """Logits (n, n_outputs) of the net, averaged over its members."""
        forward = self.module.forward_logits
        batches = list(self._run(X, lambda parts: forward(parts).mean(dim=0).cpu().numpy()))
        return np.concatenate(batches)

    def linear_logits(self, X: np.ndarray) -> np.ndarray | None:
        """Logits (n, n_outputs) of the linear part, None where there is none."""
        return None if self.linear is None else self.linear.logits(self.scaler, X)

    def mixed(self, deep: np.ndarray, linear: np.ndarray | None) -> np.ndarray:
        """The mean of the two, by the linear part's weight."""
        return deep if linear is None else mix(deep, linear, self.weight)

    def contributions(self, X: np.ndarray, part_names: list[str]) -> np.ndarray:
        """What each part adds to the logits, (n, n_parts + 1, n_outputs), the bias last.

        The linear part's share of a modality counts with what is specific to it, or with the one
        part there is.
        """

        def contribute(parts):
            added, bias = self.module.forward_contributions(parts)
            whole = torch.cat([added, bias.expand(1, *added.shape[1:])])
            return whole.transpose(0, 1).cpu().numpy()

        batches = list(self._run(X, contribute))
        total = np.concatenate(batches)
        if self.linear is None:
            return total
        total *= 1 - self.weight
        for name, own in self.linear.contributions(self.scaler, X).items():
            place = part_names.index(name) if name in part_names else 0
            total[:, place] += self.weight * own
        total[:, -1] += self.weight * self.linear.intercept
        return total

    def _run(self, X: np.ndarray, run: Callable[[list[FusionParts]], Result]) -> Iterator[Result]:
        """Run the parts of a batch of rows at a time."""
        blocks, present = self.scaler.blocks(X)
        parameter = next(self.module.parameters())

        @torch.inference_mode()
        def run_rows(rows: slice) -> Result:
            batch = [torch.from_numpy(block[rows]).to(parameter) for block in blocks]
            there = torch.from_numpy(present[rows]).to(parameter.device)
            return run(self.module.forward_parts(batch, there))

        return in_fitting_batches(len(X), _PREDICTION_BATCH, run_rows, parameter.device)
