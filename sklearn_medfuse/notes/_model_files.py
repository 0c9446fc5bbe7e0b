"""A model's files as bytes, for an encoder that is saved with all it needs."""

import functools
import hashlib
import json
import tempfile
from pathlib import Path

from ._backbone import Backbone, load_backbone, load_parts
from ._model_source import BackboneSpec


def model_files(spec: BackboneSpec, tuned: tuple | None) -> dict[str, bytes]:
    """Name → content of the files of a model, with what was trained where there is such.

    Weights are safetensors, the rest is JSON: nothing in them is code.
    """
    if spec.quantization is not None:
        raise ValueError("weights='full' needs quantization=None: the files hold plain weights.")
    if tuned is None:
        parts = load_parts(spec)
    else:
        from ._adapter import TunedWeights, apply_weights

        parts = load_parts(spec._replace(dtype="float32"))
        parts = apply_weights(parts, TunedWeights(*tuned))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # one file, so that no index is needed
        parts.model.save_pretrained(folder, max_shard_size="1TB")
        parts.tokenizer.save_pretrained(folder)
        _write_settings(folder, parts.max_length, parts.pooling, parts.normalize)
        return {
            str(file.relative_to(folder)): file.read_bytes()
            for file in sorted(folder.rglob("*"))
            if file.suffix in {".json", ".safetensors"}
        }


@functools.lru_cache(maxsize=2)
def load_files(spec: BackboneSpec, files: tuple[tuple[str, bytes], ...]) -> Backbone:
    """Load a model from its files once per process, without disk cache, hub or network."""
    with tempfile.TemporaryDirectory() as name:
        for path, content in files:
            file = (Path(name) / path).resolve()
            if not file.is_relative_to(Path(name).resolve()):
                raise ValueError("A file of the saved model lies outside of its folder.")
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(content)
        # not by the cached function: the folder's name may come again
        backbone = load_backbone.__wrapped__(
            spec._replace(model=name, revision=None, local_files_only=True)
        )
    digest = hashlib.sha256(backbone.fingerprint.encode())
    for path, content in files:
        if path.endswith(".safetensors"):
            digest.update(content)
    backbone.fingerprint = digest.hexdigest()
    return backbone


def _write_settings(folder: Path, max_length: int, pooling: str, normalize: bool) -> None:
    """Write pooling and window in the form of sentence-transformers, which loading reads."""
    paths = ["", "1_Pooling", *(["2_Normalize"] if normalize else [])]
    (folder / "modules.json").write_text(json.dumps([{"path": path} for path in paths]))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": max_length}))
    (folder / "1_Pooling").mkdir()
    modes = {
        "pooling_mode_cls_token": pooling == "cls",
        "pooling_mode_lasttoken": pooling == "last",
    }
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(modes))
