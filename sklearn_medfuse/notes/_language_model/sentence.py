"""Models in the format of sentence-transformers, which reads its own files; pooling of windows.

What cannot be honoured is refused by name: without one of its modules a model gives other vectors.
"""

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tokenizers import normalizers
from torch import Tensor, nn

from ..._nn.chunk_pooling import pool_tokens
from . import source

# Modules of sentence-transformers that may follow the model
_HONOURED = (
    "Pooling",
    "Dense",
    "Dropout",
    "LayerNorm",
    "Normalize",
    "WeightedLayerPooling",
    "WordWeights",
)
# Settings of its Transformer that do not change the vector of a text that is neither query nor
# document, and those that are honoured
_NO_EFFECT = {"module_output_name", "unpad_inputs", "query_length", "document_length"}
_KNOWN = {"max_seq_length", "do_lower_case", "modality_config", "query_expansion"}
# Its options of from_pretrained functions, each with its name in older files
_OPTIONS = {"model_kwargs": "model_args", "processor_kwargs": "tokenizer_args"}
_OPTIONS["config_kwargs"] = "config_args"
# Options that the encoder sets itself: dtype, device_map and where files come from
_OWN = {"dtype", "torch_dtype", "device_map", "revision", "token", "cache_dir", "local_files_only"}
_OWN |= {"trust_remote_code", "code_revision", "subfolder"}
_CONFIG = "config_sentence_transformers.json"


class WindowPooling(nn.Module):
    """One vector per window from its token states.

    `how` is a pooling of `pool_tokens`, or "auto" for that of `modules`, which are the modules of
    sentence-transformers after the model. `width` is the length to which the vector is cut.
    """

    def __init__(self, how: str = "mean", modules: Sequence[Any] = (), width: int | None = None):
        super().__init__()
        self.how, self.width = how, width
        self.steps = nn.ModuleList(modules)

    def with_pooling(self, how: str) -> "WindowPooling":
        """Return a copy with another pooling; "auto" means its own."""
        if how == "auto" or how == self.how:
            return self
        if self.steps and sum(_name(step) == "Pooling" for step in self.steps) != 1:
            raise ValueError(
                f"pooling={how!r} cannot be used: the model has no pooling of its own to replace. "
                "Use pooling='auto'."
            )
        other = copy.copy(self)
        other.how = how
        return other

    @property
    def reads_more(self) -> bool:
        """Whether it needs more than the last states: tokens, or the states of all layers."""
        return any(_name(step) in ("WeightedLayerPooling", "WordWeights") for step in self.steps)

    def forward(
        self,
        states: Tensor,
        visible: Tensor | None = None,
        ids: Tensor | None = None,
        prompt_length: int = 0,
        layers: tuple[Tensor, ...] | None = None,
    ) -> Tensor:
        """Pool (n, k, d) states of tokens, padded on the right where not `visible`, to (n, width).

        The first `prompt_length` tokens are special ones and those of the prompt.
        """
        if not self.steps:
            return pool_tokens(states, visible, self.how)
        mask = torch.ones(states.shape[:2], device=states.device) if visible is None else visible
        features: dict[str, Any] = {
            "token_embeddings": states,
            "attention_mask": mask.long(),
            "input_ids": ids,
            "all_layer_embeddings": layers,
        }
        if prompt_length:
            features["prompt_length"] = prompt_length
        for step in self.steps:
            if self.how != "auto" and _name(step) == "Pooling":
                pooled = pool_tokens(features["token_embeddings"], visible, self.how)
                features["sentence_embedding"] = pooled
            else:
                features = step(features)
        return features["sentence_embedding"][:, : self.width]


def _name(step: Any) -> str:
    return type(step).__name__


class SentenceFormat(NamedTuple):
    """What the files of sentence-transformers say beside the model."""

    # Folder of the model's own files, and options of its from_pretrained functions
    folder: str
    options: dict[str, dict[str, Any]]
    is_static: bool
    max_length: int | None
    lowercase: bool
    # The prompt before every text, unless another is given
    prompt: str | None
    pooling: WindowPooling
    # What modules.json and config_sentence_transformers.json hold
    modules: list[dict[str, Any]]
    settings: dict[str, Any]


def read_sentence_format(spec: source.ModelSpec, place: str) -> SentenceFormat | None:
    """Read what sentence-transformers wrote; None where it wrote nothing."""
    modules = source.setting(spec, place, "modules.json")
    if not modules:
        return None
    source.require("sentence_transformers", "notes", f"model={spec.model!r} has modules, which")
    from sentence_transformers.sentence_transformer.modules import Pooling
    from sentence_transformers.util import import_from_string

    hub: dict[str, Any] = {"revision": spec.revision, "local_files_only": spec.local_files_only}
    settings = source.setting(spec, place, _CONFIG)
    kind = settings.get("model_type", "SentenceTransformer")
    if kind != "SentenceTransformer":
        raise _refusal(spec, f"it is a {kind}, which gives no vectors of whole texts")
    first = modules[0]
    steps = []
    for module in modules:
        reference, path = module["type"], module["path"]
        name = reference.rpartition(".")[2]
        allowed = _HONOURED if module is not first else ("Transformer", "StaticEmbedding")
        if not reference.startswith("sentence_transformers.") or name not in allowed:
            raise _refusal(spec, f"its module {reference!r} (modules.json) is not supported")
        if module is not first:
            made: Any = import_from_string(reference)
            if name == "Dense":
                _check_dense(spec, made.load_config(place, subfolder=path, **hub))
            steps.append(made.load(place, subfolder=path, **hub))
    names = [_name(step) for step in steps]
    is_static = first["type"].endswith("StaticEmbedding")
    if "Pooling" not in names and not is_static:
        raise _refusal(spec, "its modules have no pooling")
    read: dict[str, Any] = {}
    if not is_static:
        transformer: Any = import_from_string(first["type"])
        read = transformer.load_config(place, subfolder=first["path"], **hub)
        _check_transformer(spec, read)
    default = settings.get("default_prompt_name")
    prompts = settings.get("prompts") or {}
    if default is not None and default not in prompts:
        raise _refusal(spec, f"its default prompt {default!r} is not among its prompts")
    if is_static:
        steps.insert(0, Pooling(1, "mean"))
    pooling = WindowPooling("auto", steps, settings.get("truncate_dim"))
    return SentenceFormat(
        folder=first["path"],
        options={name: _options(spec, read, name) for name in _OPTIONS},
        is_static=is_static,
        max_length=read.get("max_seq_length"),
        lowercase=bool(read.get("do_lower_case")),
        prompt=prompts.get(default) or None,
        pooling=pooling.eval().requires_grad_(False),
        modules=modules,
        settings=settings,
    )


def _refusal(spec: source.ModelSpec, what: str) -> source.RefusedModel:
    return source.RefusedModel(
        f"model={spec.model!r} is in the format of sentence-transformers, but {what}, so that its "
        "vectors would not be the intended ones. Use another model, or a copy of the folder "
        "without modules.json, whose token states are pooled as `pooling` says."
    )


def _check_dense(spec: source.ModelSpec, config: dict[str, Any]) -> None:
    # sentence-transformers would use tanh, and leave out what it does not know
    activation = config.get("activation_function") or "torch."
    unknown = config.keys() - {
        *("in_features", "out_features", "bias", "activation_function", "use_residual"),
        *("module_input_name", "module_output_name"),
    }
    if not activation.startswith("torch.") or unknown:
        what = f"setting {sorted(unknown)}" if unknown else f"activation {activation!r}"
        raise _refusal(spec, f"the {what} of its module Dense is not supported")


def _check_transformer(spec: source.ModelSpec, read: dict[str, Any]) -> None:
    """Refuse settings of the first module that change a text's vector and are not honoured."""
    text = {"method": "forward", "method_output_name": "last_hidden_state"}
    modalities = read["modality_config"]
    if "message" in modalities:
        raise _refusal(spec, "it puts texts into a chat template")
    if modalities.get("text") != text or read["module_output_name"] != "token_embeddings":
        raise _refusal(spec, "it does not pool the last states of the tokens")
    if read.get("transformer_task", "feature-extraction") != "feature-extraction":
        raise _refusal(spec, f"its task is {read['transformer_task']!r}")
    known = _NO_EFFECT | _KNOWN | {"transformer_task", *_OPTIONS, *_OPTIONS.values()}
    for name, value in read.items():
        if value and (name not in known or name == "query_expansion"):
            raise _refusal(spec, f"its setting {name!r} is not supported")


def _options(spec: source.ModelSpec, read: dict[str, Any], name: str) -> dict[str, Any]:
    """The model's own options of from_pretrained."""
    found = (read.get(name) or {}) | (read.get(_OPTIONS[name]) or {})
    if not spec.trust_remote_code:
        source.refuse_kernels(f"sentence_bert_config.json of model={spec.model!r}", found)
    return {key: value for key, value in found.items() if key not in _OWN}


def lower(tokenizer: Any) -> None:
    """Make a tokenizer lower-case its input, as sentence-transformers' `do_lower_case` does."""
    rules = tokenizer.backend_tokenizer
    own: Any = rules.normalizer
    is_sequence = isinstance(own, normalizers.Sequence)
    steps = list(own) if is_sequence else [own] if own else []
    if not any(isinstance(step, normalizers.Lowercase) for step in steps):
        rules.normalizer = normalizers.Sequence([normalizers.Lowercase(), *steps])


def write_sentence_format(folder: Path, found: SentenceFormat) -> None:
    """Write what `read_sentence_format` reads beside the model's files in the same folder."""
    first, *others = found.modules
    modules = [first | {"path": ""}, *others]
    settings = {"max_seq_length": found.max_length}
    # Options and lower-casing are in the model's own files by now
    for name, content in (
        ("modules.json", modules),
        (_CONFIG, found.settings),
        ("sentence_bert_config.json", settings),
    ):
        (folder / name).write_text(json.dumps(content))
    steps: list[Any] = list(found.pooling.steps)[1 if found.is_static else 0 :]
    for module, step in zip(others, steps, strict=True):
        (folder / module["path"]).mkdir(exist_ok=True)
        step.save(str(folder / module["path"]))
