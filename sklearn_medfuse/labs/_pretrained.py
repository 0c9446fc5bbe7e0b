"""A fitted lab encoder as a folder: weights as safetensors, the rest as json."""

import json
from numbers import Integral
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy
from sklearn.utils.validation import check_is_fitted

from .._private_files import write_private
from .._sealed_folder import read_sealed, seal
from .._state import module_to_bytes
from .._version import __version__

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
_FORMAT = "sklearn-medfuse MaskedLabEncoder"
_REMEDY = "Copy again the folder that MaskedLabEncoder.save_pretrained has written."


# not of use elsewhere, or not for json
_NOT_KEPT = ("initial", "checkpoint_dir", "verbose")
_ATTRIBUTES = (
    "n_features_in_",
    "levels_",
    "loss_curve_",
    "validation_scores_",
    "validation_score_",
    "n_iter_",
    "best_epoch_",
)
_SCALES = ("center_", "scale_", "_knots")


class PretrainedMixin:
    """Folders that outlive the session, for `MaskedLabEncoder`."""

    def save_pretrained(self, folder):
        """Write the fitted encoder to a folder: weights as safetensors, the rest as json.

        The files hold weights, scales and names of labs and levels, and no row of the data. The
        json file holds the digests of both, so that a changed byte is found.

        Parameters
        ----------
        folder : path
            Made if absent; its files are replaced, each whole or not at all.
        """
        check_is_fitted(self)
        write_pretrained(folder, self)

    @classmethod
    def from_pretrained(cls, folder):
        """Read an encoder that `save_pretrained` wrote, ready to transform, impute or go on.

        Nothing in the folder is run. A file that is a link to outside of it is refused.

        Parameters
        ----------
        folder : path
            The folder.

        Returns
        -------
        MaskedLabEncoder
            The fitted encoder. To learn another hospital's labs from there, name the folder, or
            this encoder, as `initial` of a new one.

        Raises
        ------
        FileNotFoundError
            Where a file is not there.
        ValueError
            Where a file is damaged, lies elsewhere or is not what it should be.
        """
        return read_pretrained(cls, folder)


def write_pretrained(folder, encoder) -> None:
    """Write a fitted encoder: the weights first, the config that makes them valid last."""
    folder = Path(folder)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    arrays = {name: np.ascontiguousarray(getattr(encoder, name)) for name in _SCALES}
    weights = {"weights": np.frombuffer(module_to_bytes(encoder._module), dtype=np.uint8)}
    write_private(folder / WEIGHTS_FILE, safetensors.numpy.save({**arrays, **weights}))
    config = {
        "format": _FORMAT,
        "version": __version__,
        "params": _params_for_json(encoder),
        "attributes": {name: getattr(encoder, name) for name in _ATTRIBUTES},
        "feature_names_in_": _names(encoder),
    }
    sealed = seal(config, folder, [WEIGHTS_FILE])
    write_private(folder / CONFIG_FILE, json.dumps(sealed, indent=2).encode())


def read_pretrained(cls, folder):
    """Read a fitted encoder of class `cls` from a folder that `write_pretrained` wrote."""
    config, arrays = _read_files(Path(folder))
    encoder = cls()
    try:
        encoder.set_params(**{name: _as_given(value) for name, value in config["params"].items()})
        encoder._validate_params()
        for name in _ATTRIBUTES:
            setattr(encoder, name, config["attributes"][name])
        for name in _SCALES:
            setattr(encoder, name, arrays[name])
        _check_shapes(encoder)
        if config["feature_names_in_"] is not None:
            encoder.feature_names_in_ = np.array(config["feature_names_in_"], dtype=object)
        encoder._fill_module(arrays["weights"].tobytes())
    except (
        AttributeError,
        KeyError,
        TypeError,
        ValueError,
        RuntimeError,
        MemoryError,
        OverflowError,
        safetensors.SafetensorError,
    ):
        problem = (
            f"{folder} does not hold what this version of MaskedLabEncoder writes: "
            f"{CONFIG_FILE} and {WEIGHTS_FILE} do not fit together, or are of version "
            f"{str(config.get('version'))[:20]!r} while this is {__version__!r}."
        )
    else:
        return encoder
    raise ValueError(problem)


def _params_for_json(encoder) -> dict:
    params = encoder.get_params(deep=False)
    kept = {name: value for name, value in params.items() if name not in _NOT_KEPT}
    kept["device"] = str(kept["device"])
    if not isinstance(kept["random_state"], Integral | None):
        kept["random_state"] = None
    return {name: _plain(value) for name, value in kept.items()}


def _plain(value):
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        # json has no keys but texts, and positions are numbers
        return {"pairs": [[_plain(key), each] for key, each in value.items()]}
    return [_plain(part) for part in value] if isinstance(value, tuple | list) else value


def _as_given(value):
    if isinstance(value, dict):
        return dict(value["pairs"])
    # json knows no tuples; no parameter is a list
    return tuple(value) if isinstance(value, list) else value


def _names(encoder) -> list[str] | None:
    names = getattr(encoder, "feature_names_in_", None)
    return None if names is None else [str(name) for name in names]


def _check_shapes(encoder) -> None:
    n_labs = encoder.n_features_in_
    sizes = [len(encoder.levels_), *(len(getattr(encoder, name)) for name in _SCALES)]
    if any(size != n_labs for size in sizes):
        raise ValueError("The parts are of different numbers of labs.")


def _read_files(folder: Path) -> tuple[dict, dict[str, np.ndarray]]:
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"{folder} holds no {name}; name a folder that "
                "MaskedLabEncoder.save_pretrained has written."
            )
    config = read_sealed(folder, CONFIG_FILE, _REMEDY)
    arrays = None
    if config.get("format") == _FORMAT and WEIGHTS_FILE in config["files"]:
        try:
            arrays = safetensors.numpy.load((folder / WEIGHTS_FILE).read_bytes())
        except (KeyError, TypeError, ValueError, MemoryError, safetensors.SafetensorError):
            # as of a file that is none of ours, told below
            arrays = None
    if arrays is None:
        raise ValueError(
            f"{folder / CONFIG_FILE} or {WEIGHTS_FILE} beside it was not written by "
            f"MaskedLabEncoder.save_pretrained. {_REMEDY}"
        )
    return config, arrays
