"""What a fitted encoder gives to another fit: the weights of the labs that both know."""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from .._nn.masked_autoencoder import FactorModel, MaskedLabAutoencoder
from ._lab_cells import LabScale


@dataclass
class LabStart:
    """What a fitted encoder knows, for another fit to begin with."""

    module: MaskedLabAutoencoder
    scale: LabScale
    names: np.ndarray | None
    levels: list
    architecture: dict
    shared: np.ndarray = field(init=False)  # (n, 2): where (here, there) labs that both know are
    n_labs: int = field(init=False)  # Here

    def match(self, names, levels: list, architecture: dict) -> None:
        """Match the labs of a new fit by name, or by position where neither has names."""
        for name, known in self.architecture.items():
            if architecture[name] != known:
                raise ValueError(
                    f"{name}={architecture[name]!r} differs from the {name}={known!r} of the "
                    "encoder to begin with; set it to that, or fit without initial and warm_start."
                )
        if (names is None) != (self.names is None) or (
            names is None and len(levels) != len(self.levels)
        ):
            raise ValueError(
                "Labs are matched by name: pass a DataFrame here and to the fit of the encoder to "
                "begin with, or the same number of unnamed columns to both."
            )
        there = range(len(levels)) if self.names is None else self.names
        position = {name: at for at, name in enumerate(there)}
        shared = [
            (at, position[name])
            for at, name in enumerate(range(len(levels)) if names is None else names)
            if name in position
            and self.levels[position[name]] == levels[at]
            and self.scale.known[position[name]]
        ]
        if not shared:
            raise ValueError(
                "X has no lab in common with the encoder to begin with: column names must be the "
                "same, and levels where a lab is qualitative."
            )
        self.shared = np.array(shared)
        self.n_labs = len(levels)

    def merge_scale(self, fitted: LabScale) -> LabScale:
        """Scales of the new labs as fitted, of the shared ones as they were learned there."""
        merged = LabScale(*(part.copy() for part in fitted))
        here, there = self.shared.T
        for new, old in zip(merged, self.scale, strict=True):
            new[here] = old[there]
        return merged

    def fill(self, module: MaskedLabAutoencoder) -> None:
        """Copy the weights: those of a shared lab to its position, those of no lab unchanged."""
        here, there = (torch.from_numpy(part) for part in self.shared.T)
        learned = self.module.state_dict()
        with torch.no_grad():
            for name, new in module.state_dict().items():
                if name.startswith("prior."):
                    continue  # The linear part is fitted anew, see `factor_model`
                old = learned[name].to(new)
                owner = module.get_submodule(name.rpartition(".")[0])
                if isinstance(owner, nn.Embedding) or name == "spread_scale":
                    new[here.to(new.device)] = old[there.to(new.device)]
                else:
                    new.copy_(old)

    def factor_model(self, part: str) -> FactorModel | None:
        """Factor model of the new labs to begin with, zero for labs that were not known."""
        if self.module.prior is None:
            return None
        old = getattr(self.module.prior, part)
        here, there = (torch.from_numpy(part) for part in self.shared.T)
        new = FactorModel(self.n_labs, old.loadings.shape[-1]).to(old.loadings)
        new.loadings[:, here] = old.loadings[-1:, there]
        new.mean[:, here] = old.mean[-1:, there]
        new.noise[here] = old.noise[there]
        new.evidence[here] = old.evidence[there]
        return new
