"""What a model's folder may not hold: ways out of it, code, and sizes that its weights lack."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import safetensors

from .._sealed_folder import read_json_object
from ._file_digest import version_sha256
from ._model_source import GGUF

_REMEDY = "Get the model's files again, from a source that you trust."
_READ = {".json", ".safetensors", ".bin", ".model", ".txt", GGUF}
_SUBFOLDER = "1_Pooling"
# without these, pooling and window fall back to general ones
_SETTINGS = ("modules.json", "sentence_bert_config.json", f"{_SUBFOLDER}/config.json")
# a net of so many layers is made in seconds, whatever its weights
_ANY_DEPTH = 1000


def check_model_folder(folder: Path, trust_remote_code: bool) -> None:
    """Refuse a folder whose files lead out of it, to code, or to a net larger than its weights.

    Parameters
    ----------
    folder : Path
        A folder in the form of transformers.
    trust_remote_code : bool
        Whether code that is named by a config is wanted.

    Raises
    ------
    OSError
        Where it is refused; the message names the file.
    """
    files = _model_files(folder)
    for file in files:
        _refuse_link(folder, file)
    for file in files:
        if file.name.endswith(".index.json"):
            _refuse_paths(file)
    if (folder / "adapter_config.json").exists():
        raise OSError(
            f"{folder / 'adapter_config.json'} names a model of its own. Merge the adapter into "
            "its model (peft's merge_and_unload) and give the folder of the result."
        )
    if (folder / "config.json").is_file():
        config = _read(folder / "config.json")
        if not trust_remote_code:
            _refuse_kernels(folder / "config.json", config)
        _refuse_depth(folder, config)


def model_sha256(source: str) -> dict[str, str]:
    """Digests of the files that a model is read from, {} for one that is not on disk.

    Parameters
    ----------
    source : str
        Folder, GGUF file or hub id.

    Returns
    -------
    dict of str to str
        By the path within the folder.
    """
    path = Path(source)
    folder = path if path.is_dir() else path.parent
    if not path.exists():
        return {}
    files = [path] if path.is_file() else _model_files(folder)
    if any(file.suffix == ".safetensors" for file in files):
        # is not read beside the others
        files = [file for file in files if file.suffix != ".bin"]
    return {str(file.relative_to(folder)): version_sha256(file) for file in files if file.is_file()}


def refuse_changed_files(model: str, source: str, expected: dict[str, str]) -> None:
    """Refuse files that are not those of fit; one of another name is left to the fingerprint.

    Parameters
    ----------
    model : str
        The parameter, for the message.
    source : str
        Folder, GGUF file or hub id.
    expected : dict of str to str
        What `model_sha256` gave in fit.

    Raises
    ------
    ValueError
        Where one has changed, or one with settings is gone.
    """
    found = model_sha256(source) if expected else {}
    for name, digest in expected.items():
        gone = found and name in _SETTINGS and name not in found
        if gone or found.get(name, digest) != digest:
            raise ValueError(
                f"The files of model={model!r} are not those of fit: {name} is damaged or of "
                "another revision. Give the folder or revision that was used in fit, or fit again."
            )


def _model_files(folder: Path) -> list[Path]:
    places = [folder, folder / _SUBFOLDER]
    return sorted(
        file
        for place in places
        if place.is_dir()
        for file in place.iterdir()
        if file.suffix in _READ and (file.is_symlink() or file.is_file())
    )


def _refuse_link(folder: Path, file: Path) -> None:
    own = [folder.resolve()]
    if folder.resolve().parent.name == "snapshots":
        # the hub's cache keeps the contents beside its snapshots
        own.append(folder.resolve().parents[1] / "blobs")
    target = file.resolve()
    if not any(target.is_relative_to(place) for place in own):
        raise OSError(
            f"{file} is a link to a file outside of the model's folder. Copy the file into the "
            "folder if it belongs there."
        )


def _read(file: Path) -> dict[str, Any]:
    try:
        return read_json_object(file, _REMEDY)
    except ValueError as error:
        raise OSError(str(error)) from None


def _refuse_paths(index: Path) -> None:
    names = _read(index).get("weight_map")
    named = names.values() if isinstance(names, dict) else [None]
    if not all(isinstance(name, str) and Path(name).name == name for name in named):
        raise OSError(f"{index} names weights outside of the model's folder. {_REMEDY}")


def _settings(config: Any) -> Iterator[tuple[str, Any]]:
    """Names and values of a config, those of configs within it too."""
    if isinstance(config, dict):
        for name, value in config.items():
            yield name, value
            yield from _settings(value)


def _refuse_kernels(file: Path, config: dict[str, Any]) -> None:
    """Refuse an implementation that transformers would fetch as code from the hub."""
    for name, value in _settings(config):
        if name.endswith("_implementation") and "/" in str(value):
            raise OSError(
                f"{file} asks by {name!r} for code from the hub. Remove the entry, or set "
                "trust_remote_code=True after you have read the code."
            )


def _refuse_depth(folder: Path, config: dict[str, Any]) -> None:
    """Refuse more layers than there are weights: making them would take for ever."""
    n_weights = _ANY_DEPTH
    for file in folder.glob("*.safetensors"):
        try:
            with safetensors.safe_open(file, "pt") as weights:
                n_weights += len(weights.keys())
        except (safetensors.SafetensorError, ValueError):
            raise OSError(f"{file} is damaged. {_REMEDY}") from None
    for name, value in _settings(config):
        if re.search("layers?$", name) and isinstance(value, int) and value > n_weights:
            raise OSError(
                f"{folder / 'config.json'} asks for more layers ({name}) than the folder holds "
                f"weights. {_REMEDY}"
            )
