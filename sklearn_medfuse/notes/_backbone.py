"""Find, load and run a Hugging Face model that turns token ids into one vector per chunk."""

import copy
import functools
import hashlib
import importlib.util
import json
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import transformers
from packaging.version import Version
from transformers import (
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from .._nn.chunk_pooling import pool_tokens
from .._training import torch_seed, with_gradients
from ._chunking import budget_batches, packed_batches
from ._compiled import compiled_forward
from ._gguf import GGUF, DamagedFileError, check_version, reading_gguf, unmark, unpacking
from ._model_checks import check_model_folder
from ._model_source import (
    BackboneSpec,
    find_model,
    max_positions,
    not_found_message,
    sentence_settings,
)
from ._packing import can_pack, prepare_packed, run_packed
from ._special_tokens import no_panic, special_tokens

# see Backbone.padded_width
_WIDTH_STEP = 8
_OLD_TORCH = Version(torch.__version__) < Version("2.13")
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class ModelParts(NamedTuple):
    """What `Backbone` is made of; the fields are its parameters."""

    tokenizer: PreTrainedTokenizerBase
    model: PreTrainedModel
    max_length: int
    max_positions: int | None
    pooling: str
    normalize: bool
    untrained: frozenset[str]


class EmbeddedBatch(NamedTuple):
    """Vectors of a batch's chunks, float32 of shape (n_chunks, hidden_size).

    `compiled` tells whether the compiled model gave them.
    """

    vectors: np.ndarray
    compiled: bool


class Backbone:
    """A tokenizer and a frozen model.

    Parameters
    ----------
    tokenizer : transformers tokenizer
        A fast tokenizer.
    model : torch.nn.Module
        Returns `last_hidden_state`.
    max_length : int
        Tokens per chunk that the model was made for, special tokens included.
    max_positions : int or None
        Tokens per chunk that the model can take at most.
    pooling : str
        The pooling that the model was trained with, "mean" where it does not say.
    normalize : bool
        Whether the model was trained to give vectors of length one.
    untrained : frozenset of str
        Parameters that the files do not hold.
    compile : {"auto", True, False}, default=False
        Whether torch compiles the model, see `CompiledForward`; then batches are padded.
    """

    def __init__(
        self,
        tokenizer,
        model,
        max_length: int,
        max_positions: int | None,
        pooling: str,
        normalize: bool,
        untrained: frozenset[str] = frozenset(),
        compile: bool | str = False,
    ):
        self.tokenizer = tokenizer
        self.model = model
        self.max_length = max_length
        self.max_positions = max_positions
        self.pooling = pooling
        self.normalize = normalize
        self.hidden_size = int(model.config.get_text_config().hidden_size)
        self.prefix, self.suffix = special_tokens(tokenizer)
        self.n_special = len(self.prefix) + len(self.suffix)
        self.fingerprint = _joined_digest(fingerprint(model, untrained), tokenizer)
        parameter = next(model.parameters())
        self.dtype, self.device = parameter.dtype, parameter.device
        # the layers of a packed run are fused already, with operators that a compiler does not know
        self.packed = not compile and can_pack(model)
        if self.packed:
            prepare_packed(model)
        elif parameter.dtype == torch.bfloat16 and self.device.type == "cpu" and _OLD_TORCH:
            # There a vector depends on whether the chunks beside it are padded.
            model.set_attn_implementation("eager")
        # tokens per batch that fit into the device's memory, as far as one has not
        self.fitting_tokens: int | None = None
        self._compile = compile
        self._forward = compiled_forward(model, self.device, compile) if compile else None
        self._replicas: dict[torch.device, Backbone] = {}

    def replica(self, device: torch.device) -> "Backbone":
        """Give the model on a device, copied there at the first call."""
        if device not in self._replicas:
            other = copy.copy(self)
            if device != self.device:
                other.model, other.device = copy.deepcopy(self.model).to(device), device
                if self._forward is not None:
                    told = self._forward.told
                    other._forward = compiled_forward(other.model, device, self._compile, told)
            self._replicas[device] = other
        return self._replicas[device]

    def tokenize(self, texts: list[str]) -> list[list[int]]:
        """Token ids of each text in full, without special tokens."""
        return tokenize(self.tokenizer, texts)

    def context(self, pooling: str) -> bytes:
        """All that a chunk's vector depends on beside its tokens."""
        # a padded run differs in its last digits from a packed one
        run = (self.dtype, self.device, self.packed)
        around = (pooling, self.normalize, self.prefix, self.suffix)
        return str((self.fingerprint, *run, *around)).encode()

    def padded_width(self, n_tokens: int) -> int:
        """Width at which a chunk of n_tokens is run, special tokens included.

        It depends on the chunk alone. In half precision the last digits of a vector vary with the
        padding, though not with the number of chunks beside it; with a width of its own a chunk
        has the same vector in every batch, process and cross-validation fold.
        """
        width = n_tokens + self.n_special
        if self.packed:
            return width
        rounded = -(-width // _WIDTH_STEP) * _WIDTH_STEP
        return max(width, min(rounded, self.max_positions or rounded))

    def batches(self, chunks: list[list[int]], batch_tokens: int) -> list[np.ndarray]:
        """Positions of the chunks of each batch that `embed` takes."""
        widths = np.array([self.padded_width(len(chunk)) for chunk in chunks], dtype=np.int64)
        return (packed_batches if self.packed else budget_batches)(widths, batch_tokens)

    def embed(self, chunks: list[list[int]], pooling: str, tokens_left: int = 0) -> EmbeddedBatch:
        """Embed the chunks of a batch; tokens_left are those of the batches after it."""
        rows = [[*self.prefix, *chunk, *self.suffix] for chunk in chunks]
        self._refuse_unknown_tokens(rows)
        compiled = False
        with torch.inference_mode():
            if self.packed:
                parts = [
                    pool_tokens(states.float(), None, pooling)
                    for states in run_packed(self.model, rows)
                ]
                pooled = torch.cat(parts)
            else:
                pooled, compiled = self._embed_padded(rows, pooling, tokens_left)
            if self.normalize:
                pooled = torch.nn.functional.normalize(pooled, dim=1)
        return EmbeddedBatch(pooled.cpu().numpy(), compiled)

    def _refuse_unknown_tokens(self, rows: list[list[int]]) -> None:
        """Refuse token ids without a vector; a GPU does not survive the attempt to read one."""
        n_vectors = len(self.model.get_input_embeddings().weight)
        if max(map(max, rows)) >= n_vectors:
            raise ValueError(
                f"The tokenizer of the model gives tokens that its {n_vectors} word vectors lack: "
                "the two do not fit together, or a file of them is damaged. Get the model's files "
                "again."
            )

    def _embed_padded(
        self, rows: list[list[int]], pooling: str, tokens_left: int
    ) -> tuple[torch.Tensor, bool]:
        width = max(self.padded_width(len(row) - self.n_special) for row in rows)
        ids, visible = pad_rows(rows, width, self.tokenizer.pad_token_id, self.device)
        inputs = {"input_ids": ids, "attention_mask": visible.long()}
        if self._forward is None:
            output, compiled = self.model(**inputs), False
        else:
            output, compiled = self._forward(ids.numel(), tokens_left, **inputs)
        return pool_tokens(output.last_hidden_state.float(), visible, pooling), compiled


def tokenize(tokenizer, texts: list[str]) -> list[list[int]]:
    """Token ids of each text in full, without special tokens."""
    with no_panic():
        encoded = tokenizer(
            texts, add_special_tokens=False, return_attention_mask=False, verbose=False
        )
    return encoded["input_ids"]


def pad_rows(
    rows: list[list[int]], width: int, pad: int | None, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids padded on the right, and which of them are visible; both (n_rows, width)."""
    ids = torch.tensor([row + [pad or 0] * (width - len(row)) for row in rows], device=device)
    length = torch.tensor([len(row) for row in rows], device=device)
    return ids, torch.arange(width, device=device)[None] < length[:, None]


def choose_dtype(dtype: str, device: torch.device) -> str:
    """Resolve dtype="auto": bfloat16 where the processor multiplies it natively, else float32."""
    if dtype != "auto":
        return dtype
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        # torch offers no public query yet; on a version without this one float32 is right anyway
        query = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
        native = device.type == "cpu" and query is not None and query()
    return "bfloat16" if native else "float32"


@functools.lru_cache(maxsize=2)
def load_backbone(spec: BackboneSpec) -> Backbone:
    """Load a model once per process; clones in a cross-validation share it."""
    return Backbone(*load_parts(spec), compile=spec.compile)


def load_parts(spec: BackboneSpec) -> ModelParts:
    """Read a model and its tokenizer from disk or hub."""
    source = find_model(spec)
    options = {
        "revision": spec.revision,
        "local_files_only": spec.local_files_only,
        "trust_remote_code": spec.trust_remote_code,
    }
    reading: Any = nullcontext()
    loading: dict[str, Any] = {}
    if source.endswith(GGUF):
        _check_gguf(spec)
        options["gguf_file"] = Path(source).name
        source = str(Path(source).parent)
        reading, loading = reading_gguf(spec.model), unpacking()
    elif Path(source).is_dir():
        check_model_folder(Path(source), spec.trust_remote_code)
    placement = _placement(spec)
    try:
        # parameters that the files do not hold, such as an unused pooler, are drawn at random, and
        # weights that were loaded under inference_mode could never be trained
        with (
            reading,
            no_panic(),
            _quiet_loading(),
            torch_seed(0, torch.device(spec.device)),
            with_gradients(),
        ):
            config = AutoConfig.from_pretrained(source, **options)
            tokenizer = AutoTokenizer.from_pretrained(source, use_fast=True, **options)
            model, report = AutoModel.from_pretrained(
                source,
                config=config,
                dtype=_DTYPES[spec.dtype],
                output_loading_info=True,
                **options,
                **placement,
                **loading,
            )
            # settings that a tokenizer takes as they are may fail at its first text
            special_tokens(tokenizer)
        max_length, pooling, normalize = sentence_settings(spec, source, config, tokenizer)
    except DamagedFileError:
        raise
    except OSError as error:
        raise OSError(not_found_message(spec)) from error
    except (ImportError, torch.OutOfMemoryError):
        # which tell what to install, and how much memory was asked for
        raise
    except Exception as error:
        # of any kind: tokenizers, for one, raises Exception itself
        raise OSError(
            f"The files of model={spec.model!r} cannot be read ({type(error).__name__}): they are "
            "damaged, or do not fit together, or need code of their own, which is not run without "
            "trust_remote_code=True. Get them again, from a source that you trust."
        ) from error
    if loading:
        unmark(model)
    if config.is_encoder_decoder:
        model = model.get_encoder()
    if not placement:
        model = model.to(spec.device)
    model = model.eval().requires_grad_(False)
    untrained = frozenset(report["missing_keys"])
    _refuse_missing_weights(spec, untrained)
    _refuse_missing_vocabulary(spec, tokenizer)
    return ModelParts(
        tokenizer, model, max_length, max_positions(config), pooling, normalize, untrained
    )


def _placement(spec: BackboneSpec) -> dict:
    """Options of from_pretrained that put the weights elsewhere than as they are on one device."""
    placement: dict[str, Any] = {}
    if spec.quantization is not None:
        require("bitsandbytes", "quantization", f"quantization={spec.quantization!r}")
        bits = {f"load_in_{spec.quantization}": True}
        placement["quantization_config"] = transformers.BitsAndBytesConfig(**bits)
    if spec.device_map is not None:
        require("accelerate", "quantization", f"device_map={spec.device_map!r}")
        placement["device_map"] = spec.device_map
    return placement


def _check_gguf(spec: BackboneSpec) -> None:
    require("gguf", "gguf", f"model={spec.model!r} is a GGUF file")
    check_version(spec.model)
    if spec.quantization is not None:
        raise ValueError(
            f"quantization={spec.quantization!r} does not go with a GGUF file, whose weights are "
            "read as they are; use quantization=None."
        )


def require(module: str, extra: str, what: str) -> None:
    """Refuse what needs a package that is not installed, and name the extra that brings it."""
    if importlib.util.find_spec(module) is None:
        raise ImportError(
            f'{what} needs the package {module}: pip install "sklearn-medfuse[{extra}]".'
        )


def fingerprint(model: torch.nn.Module, untrained: frozenset[str] = frozenset()) -> str:
    """Digest of a model's parameters: names, shapes and a sample of values.

    Values are rounded to bfloat16 first, so the digest does not depend on the dtype in which the
    model was loaded, and 64 values per parameter keep it cheap for a model of any size. Parameters
    that are not from the files, but drawn when the model is loaded, do not count.
    """
    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        if name in untrained:
            continue
        flat = parameter.detach().flatten()
        step = max(1, flat.numel() // 64)
        sample = flat[::step][:64].to(torch.bfloat16).float().cpu().numpy()
        digest.update(f"{name}{tuple(parameter.shape)}".encode())
        digest.update(sample.tobytes())
    return digest.hexdigest()


def _refuse_missing_weights(spec: BackboneSpec, untrained: frozenset[str]) -> None:
    """Refuse a checkpoint that lacks weights the states depend on; a pooler is not among them."""
    needed = sorted(name for name in untrained if "pooler" not in name.split("."))
    if needed:
        raise OSError(
            f"The files of model={spec.model!r} lack {len(needed)} of the model's weights, the "
            f"first of them {needed[0]!r}; they would be drawn at random. Give a complete "
            "checkpoint, whose config.json is that of its weights."
        )


def _refuse_missing_vocabulary(spec: BackboneSpec, tokenizer) -> None:
    """Refuse the empty tokenizer that transformers makes where a folder has no tokenizer files."""
    if set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):
        raise OSError(
            f"The files of model={spec.model!r} lack the tokenizer's vocabulary; every word would "
            "be unknown. Give a complete checkpoint, with tokenizer.json."
        )


def _joined_digest(weights: str, tokenizer) -> str:
    """Digest of the weights and of the rules by which text becomes tokens."""
    rules = json.loads(tokenizer.backend_tokenizer.to_str())
    # these are set by each call, not by the model
    for setting in ("truncation", "padding"):
        rules.pop(setting, None)
    digest = hashlib.sha256(json.dumps(rules, sort_keys=True).encode()).digest()
    return hashlib.sha256(weights.encode() + digest).hexdigest()


def base_fingerprint(parts: ModelParts) -> str:
    """Digest of a model's weights and tokenizer, before it is made a `Backbone`."""
    return _joined_digest(fingerprint(parts.model, parts.untrained), parts.tokenizer)


@contextmanager
def _quiet_loading():
    """No progress bar of transformers while a model loads; its setting is put back."""
    logging = transformers.utils.logging
    enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if enabled:
            logging.enable_progress_bar()
