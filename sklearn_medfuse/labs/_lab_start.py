"""What another fit takes from a fitted encoder: the weights of the labs that both know."""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from .._nn.masked_autoencoder import FactorModel, MaskedLabAutoencoder
from ._lab_cells import LabScale


@dataclass
class LabStart:
    """What a fitted encoder knows, as a start for another fit."""

    module: MaskedLabAutoencoder
    scale: LabScale
    names: np.ndarray | None
    levels: list
    architecture: dict
    shared: np.ndarray = field(init=False)  # (n, 2): positions here and there of shared labs
    n_labs: int = field(init=False)  # Number of labs here

    def match(self, names, levels: list, architecture: dict) -> None:
        """Match the labs of a new fit by name, or by position if neither has names."""
        for name, known in self.architecture.items():
            if architecture[name] != known:
                raise ValueError(
                    f"{name}={architecture[name]!r} differs from {name}={known!r} of the encoder "
                    "to start from; set it to that value, or fit without initial and warm_start."
                )
        if (names is None) != (self.names is None) or (
            names is None and len(levels) != len(self.levels)
        ):
            raise ValueError(
                "Labs are matched by name: pass a DataFrame to this fit and to that of the encoder "
                "to start from, or the same number of unnamed columns to both."
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
                "X has no lab in common with the encoder to start from: column names must be the "
                "same, and so must the levels of a qualitative lab."
            )
        self.shared = np.array(shared)
        self.n_labs = len(levels)

    def merge_scale(self, fitted: LabScale) -> LabScale:
        """Scales as fitted for new labs, and as learned there for shared ones."""
        merged = LabScale(*(part.copy() for part in fitted))
        here, there = self.shared.T
        for new, old in zip(merged, self.scale, strict=True):
            new[here] = old[there]
        return merged

    def fill(self, module: MaskedLabAutoencoder) -> None:
        """Copy the weights: those of a shared lab to its new position, the general ones as is."""
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
        """Factor model to start from, zero for labs that were unknown there."""
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
