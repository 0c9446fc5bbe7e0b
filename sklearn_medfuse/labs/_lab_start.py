"""Where a fit may begin: what another fit has learned of the labs that both know."""

from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from .._nn.factor_model import FactorModel
from .._nn.masked_autoencoder import MaskedLabAutoencoder
from ._lab_scale import LabScale

_ARCHITECTURE = ("d_model", "n_components", "n_layers", "n_decoder_layers", "n_factors")


class LabStart(NamedTuple):
    """Learned state that a fit begins with.

    Attributes
    ----------
    module : MaskedLabAutoencoder
        The trained net.
    scale : LabScale
        The labs' scales.
    shared : array of shape (n_shared, 2)
        Positions (here, there) of the labs that both know.
    """

    module: MaskedLabAutoencoder
    scale: LabScale
    shared: np.ndarray

    def merge_scale(self, fitted: LabScale) -> LabScale:
        """Scales of the new labs as fitted, of the shared ones as they were learned there."""
        merged = LabScale(*(part.copy() for part in fitted))
        here, there = self.shared.T
        for new, old in zip(merged, self.scale, strict=True):
            new[here] = old[there]
        return merged

    def fill(self, module: MaskedLabAutoencoder) -> None:
        """Copy the weights: of a shared lab by name, of what belongs to no lab as it is."""
        here, there = (torch.from_numpy(part) for part in self.shared.T)
        learned = self.module.state_dict()
        with torch.no_grad():
            for name, new in module.state_dict().items():
                if name.startswith("prior."):
                    continue  # the linear part is fitted anew, see `factor_model`
                old = learned[name].to(new)
                if _belongs_to_labs(module, name):
                    new[here.to(new.device)] = old[there.to(new.device)]
                else:
                    new.copy_(old)

    def factor_model(self, part: str, n_labs: int) -> FactorModel | None:
        """Factor model of the new labs to begin with, zero for labs that were not known."""
        if self.module.prior is None:
            return None
        old = getattr(self.module.prior, part)
        here, there = (torch.from_numpy(part) for part in self.shared.T)
        new = FactorModel(n_labs, old.loadings.shape[-1]).to(old.loadings)
        new.loadings[:, here] = old.loadings[-1:, there]
        new.mean[:, here] = old.mean[-1:, there]
        new.noise[here] = old.noise[there]
        new.evidence[here] = old.evidence[there]
        return new


def _belongs_to_labs(module: nn.Module, name: str) -> bool:
    owner = module.get_submodule(name.rpartition(".")[0])
    return isinstance(owner, nn.Embedding) or name == "spread_scale"


class LabKnowledge(NamedTuple):
    """What a fitted encoder knows, kept apart from the encoder that is about to learn.

    Attributes
    ----------
    module : MaskedLabAutoencoder
        The trained net.
    scale : LabScale
        The labs' scales.
    names : list of str, or None
        The labs' names, if they have any.
    levels : list
        The labs' levels.
    architecture : dict
        Parameters that decide the shape of the net.
    """

    module: MaskedLabAutoencoder
    scale: LabScale
    names: list[str] | None
    levels: list
    architecture: dict

    @classmethod
    def of(cls, encoder) -> "LabKnowledge":
        """Take what a fitted MaskedLabEncoder knows."""
        names = getattr(encoder, "feature_names_in_", None)
        return cls(
            encoder._module,
            encoder._scale,
            None if names is None else list(names),
            encoder.levels_,
            {name: getattr(encoder, name) for name in _ARCHITECTURE},
        )

    def shared_with(self, encoder) -> LabStart:
        """Match the labs with those of an encoder that has read its table.

        Parameters
        ----------
        encoder : MaskedLabEncoder
            Its names and levels are set.

        Returns
        -------
        LabStart
            What to begin with.

        Raises
        ------
        ValueError
            Where the architectures differ or no lab is in both.
        """
        for name, known in self.architecture.items():
            if getattr(encoder, name) != known:
                raise ValueError(
                    f"{name}={getattr(encoder, name)!r} differs from the {name}={known!r} of the "
                    "encoder to begin with; set it to that, or fit without initial and warm_start."
                )
        names = getattr(encoder, "feature_names_in_", None)
        if (names is None) != (self.names is None) or (
            names is None and encoder.n_features_in_ != len(self.levels)
        ):
            raise ValueError(
                "Labs are matched by name: pass a DataFrame here and to the fit of the encoder to "
                "begin with, or the same number of unnamed columns to both."
            )
        here = range(encoder.n_features_in_) if names is None else names
        position = {name: there for there, name in enumerate(self.names or range(len(self.levels)))}
        shared = [
            (at, position[name])
            for at, name in enumerate(here)
            if name in position and self.levels[position[name]] == encoder.levels_[at]
        ]
        shared = [pair for pair in shared if self.scale.known[pair[1]]]
        if not shared:
            raise ValueError(
                "X has no lab in common with the encoder to begin with: column names must be the "
                "same, and levels where a lab is qualitative."
            )
        return LabStart(self.module, self.scale, np.array(shared))
