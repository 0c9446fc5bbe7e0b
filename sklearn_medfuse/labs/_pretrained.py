"""What an encoder has learned, carried to another fit: as a folder, and by the labs they share."""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from numbers import Integral
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy
import torch
from torch import nn

from .._nn.masked_autoencoder import FactorModel, MaskedLabAutoencoder
from .._private_files import read_sealed, seal, write_private
from .._version import __version__
from ._lab_cells import LabScale

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
_FORMAT = "sklearn-medfuse MaskedLabEncoder"
# Parameters of no use elsewhere
_NOT_KEPT = ("initial", "checkpoint_dir", "verbose")
_REMEDY = "Copy again the folder that MaskedLabEncoder.save_pretrained wrote."


def write_folder(folder, config: dict, arrays: dict[str, np.ndarray]) -> None:
    """Write arrays as safetensors, then the json file that makes them valid."""
    folder = Path(folder)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private(folder / WEIGHTS_FILE, safetensors.numpy.save(arrays))
    config = {"format": _FORMAT, "version": __version__, **config}
    sealed = seal(config, folder, [WEIGHTS_FILE])
    write_private(folder / CONFIG_FILE, json.dumps(sealed, indent=2).encode())


def read_folder(folder) -> tuple[dict, dict[str, np.ndarray]]:
    """Read what `write_folder` wrote, after its digests are checked."""
    folder = Path(folder)
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"{folder} holds no {name}; pass a folder that MaskedLabEncoder.save_pretrained "
                "wrote."
            )
    config = read_sealed(folder, CONFIG_FILE, _REMEDY)
    arrays = None
    if config.get("format") == _FORMAT and WEIGHTS_FILE in config["files"]:
        # An error would quote the file; the one below does not
        with suppress(KeyError, TypeError, ValueError, MemoryError, safetensors.SafetensorError):
            arrays = safetensors.numpy.load((folder / WEIGHTS_FILE).read_bytes())
    if arrays is None:
        raise ValueError(
            f"{folder / CONFIG_FILE} or {WEIGHTS_FILE} next to it was not written by "
            f"MaskedLabEncoder.save_pretrained. {_REMEDY}"
        )
    return config, arrays


@contextmanager
def refuse_what_does_not_fit(folder, config: dict) -> Iterator[None]:
    """Raise one ValueError for whatever an encoder cannot take from a folder."""
    try:
        yield
    except Exception:  # What a foreign file holds can fail in any way
        fits = False
    else:
        fits = True
    # Outside the handler, whose error may quote the file
    if not fits:
        raise ValueError(
            f"{folder} does not hold what this version of MaskedLabEncoder writes: {CONFIG_FILE} "
            f"and {WEIGHTS_FILE} do not fit together, or are of version "
            f"{str(config.get('version'))[:20]!r} while this is {__version__!r}."
        )


def params_to_json(params: dict) -> dict:
    """Make parameters such as json can write, without those of no use elsewhere."""
    kept = {name: _plain(each) for name, each in params.items() if name not in _NOT_KEPT}
    kept["device"] = str(kept["device"])
    if not isinstance(kept["random_state"], Integral | None):
        kept["random_state"] = None
    return kept


def _plain(value):
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        # Keys of a json object are texts, but positions are numbers
        return {"pairs": [[_plain(key), each] for key, each in value.items()]}
    return [_plain(part) for part in value] if isinstance(value, tuple | list) else value


def params_from_json(params: dict) -> dict:
    """Undo `params_to_json`; no parameter is a list, so each list was a tuple."""
    given = {name: dict(each["pairs"]) for name, each in params.items() if isinstance(each, dict)}
    tuples = {name: tuple(each) for name, each in params.items() if isinstance(each, list)}
    return params | given | tuples


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
