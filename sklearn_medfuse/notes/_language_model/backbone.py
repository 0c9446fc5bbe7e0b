"""Load a Hugging Face model and run it: token ids of windows in, one vector per window out."""

import functools
import hashlib
import inspect
import json
import tempfile
import warnings
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from packaging.version import Version

from ..._training import torch_seed, with_gradients
from . import source
from .adapter import apply_weights
from .cpu_layers import PACKABLE, can_pack, prepare_packed, run_packed
from .sentence import (
    SentenceFormat,
    WindowPooling,
    lower,
    read_sentence_format,
    write_sentence_format,
)
from .windows import (
    SpecialTokens,
    budget_batches,
    no_panic,
    packed_batches,
    special_tokens,
    tokenize,
)

# transformers, which takes two seconds to import, waits for the first model that is loaded
if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# See Backbone.padded_width
_WIDTH_STEP = 8
# Models that take book-length input get windows of this many tokens unless asked otherwise
_LONGEST_DEFAULT = 2048
# Families whose mixing, convolutions or hashes ignore the mask, so that states depend on padding
_UNPADDED = {"convbert", "cpmant", "fnet", "nystromformer", "yoso"}
# For other families: the least relative change of a state that rounding does not explain
_LEAST_CHANGE = {torch.float32: 1e-4, torch.float16: 0.05, torch.bfloat16: 0.2}
# Entries of a config that no vector depends on
_NOT_CONFIG = {"_name_or_path", "transformers_version", "architectures", "dtype", "id2label"}
_NOT_CONFIG |= {"label2id", "use_cache", "quantization_config", "model_type"}
# What models raise if they take no text, or not in this dtype
_NOT_RUN = (AttributeError, ImportError, LookupError, RuntimeError, TypeError, ValueError)
_PROBE = "The patient denies chest pain."
_OLD_TORCH = Version(torch.__version__) < Version("2.13")


class ModelParts(NamedTuple):
    """A model as it was loaded."""

    tokenizer: "PreTrainedTokenizerBase"
    model: "PreTrainedModel"
    # Tokens per window, including special ones: what the model was made for, and its limit
    max_length: int
    max_positions: int | None
    pooling: WindowPooling
    # Parameters missing from the files
    untrained: frozenset[str] = frozenset()
    # What the files of sentence-transformers say beside the model
    sentence: SentenceFormat | None = None
    # The encoder-decoder of which `model` is the encoder
    whole: "PreTrainedModel | None" = None

    @property
    def prompt(self) -> str | None:
        return None if self.sentence is None else self.sentence.prompt


class Backbone:
    """A tokenizer and a frozen model, whose layers may be replaced by faster ones.

    `content` is what fine-tuning or a file brought; it is part of the fingerprint. A model that
    torch compiles takes padded batches.
    """

    def __init__(self, parts: ModelParts, content: bytes = b"", compile: bool = False):
        self.tokenizer = parts.tokenizer
        self.model: Any = parts.model
        self.max_length, self.max_positions = parts.max_length, parts.max_positions
        self.pooling, self.prompt = parts.pooling, parts.prompt
        self.special = special_tokens(self.tokenizer)
        self.n_special = len(self.special.before) + len(self.special.after)
        self.fingerprint = fingerprint(parts)
        self._config = _config_of(self.model)
        if content:
            joined = self.fingerprint.encode() + content
            self.fingerprint = hashlib.sha256(joined).hexdigest()
        parameter = next(self.model.parameters())
        self.dtype, self.device = parameter.dtype, parameter.device
        self.pooling = self.pooling.to(self.device)
        self.inputs = RowInputs(self.model, self.special)
        self.hidden_size, self.pads = self._probe()
        plain = not self.inputs.with_types and not self.pooling.reads_more
        self.packed = plain and not compile and can_pack(self.model)
        if self.packed:
            prepare_packed(self.model)
        elif self.dtype == torch.bfloat16 and self.device.type == "cpu" and _OLD_TORCH:
            # Here a vector would depend on whether other windows of its batch are padded
            self.model.set_attn_implementation("eager")
        self._compiled = compile
        if compile:
            self._compile()
        # Tokens per batch that fit into the device's memory, once a batch did not
        self.fitting_tokens: int | None = None

    def _compile(self) -> None:
        """Compile the model, once for batches of all shapes, and run it."""
        try:
            with warnings.catch_warnings():
                # The compiler's own use of torch, and speed that other settings would bring
                warnings.filterwarnings("ignore", module=r"torch(\.|$)")
                self.model.compile(dynamic=True)
                self._probe()
        except source.RefusedModel as error:
            raise RuntimeError(
                f"compile=True: torch cannot compile {type(self.model).__name__} here. Install a "
                "C++ compiler (CPU) or triton (GPU), or set compile=False."
            ) from error

    @torch.inference_mode()
    def _probe(self) -> tuple[int, bool]:
        """Width of a vector, and whether windows may be padded."""
        pad = self.tokenizer.pad_token_id or 0
        self._refuse_unknown_tokens([[*self.special.before, *self.special.after, pad]])
        text = tokenize(self.tokenizer, [_PROBE])[0] or [0]
        room = (self.max_positions or _LONGEST_DEFAULT) - self.n_special - _WIDTH_STEP
        known = [token for token in text if token < (self._n_vectors() or token + 1)] or [0]
        row = [*self.special.before, *known[: max(1, room)], *self.special.after]
        try:
            states, pooled = self._run([row], len(row), ("auto", 0))
        except torch.OutOfMemoryError:
            raise
        except _NOT_RUN as error:
            raise source.RefusedModel(
                f"A {type(self.model).__name__} gives no states of tokens for text alone in "
                f"{self.dtype} ({type(error).__name__}). Give a folder of its text model, another "
                "model, or dtype='float32'."
            ) from error
        if self.model.config.model_type in _UNPADDED or room < 1:
            return pooled.shape[1], room < 1
        padded = self._run([row], len(row) + _WIDTH_STEP, ("auto", 0))[0]
        change = (padded[:, : states.shape[1]] - states).abs().max() / states.abs().max()
        # A change that is not finite means damaged weights, which the vectors will show
        return pooled.shape[1], not bool(change > _LEAST_CHANGE.get(self.dtype, 0.2))

    def context(self, how: tuple[str, int]) -> bytes:
        """Everything but its tokens that a window's vector depends on."""
        model = self.fingerprint, self._config, metadata.version("transformers")
        # Packed, padded and compiled runs differ in their last digits, and machines that share a
        # folder may compute half precision differently
        way = self.packed, self._compiled, arithmetic_of(self.dtype, self.device)
        return str((*model, self.dtype, self.device, *way, how, self.special)).encode()

    def padded_width(self, n_tokens: int) -> int:
        """Width at which a window of n_tokens is run, including special tokens.

        In half precision the last digits of a vector vary with the padding: a width that depends
        on the window alone gives it the same vector in every batch and process.
        """
        width = n_tokens + self.n_special
        if self.packed or not self.pads:
            return width
        rounded = -(-width // _WIDTH_STEP) * _WIDTH_STEP
        return max(width, min(rounded, self.max_positions or rounded))

    def batches(self, windows: list[list[int]], batch_tokens: int) -> list[np.ndarray]:
        """Positions of the windows of each batch that `embed` takes."""
        widths = np.array([self.padded_width(len(window)) for window in windows], dtype=np.int64)
        return (packed_batches if self.packed else budget_batches)(widths, batch_tokens)

    def embed(self, windows: list[list[int]], how: tuple[str, int]) -> np.ndarray:
        """Float32 vectors (n_windows, hidden_size).

        `how` is the pooling, and the number of tokens before the text if there is a prompt.
        """
        rows = [[*self.special.before, *window, *self.special.after] for window in windows]
        self._refuse_unknown_tokens(rows)
        with torch.inference_mode():
            if self.packed:
                pool, prompt_length = self.pooling.with_pooling(how[0]), how[1]
                groups = run_packed(self.model, rows)
                pooled = [pool(states.float(), prompt_length=prompt_length) for states in groups]
                return torch.cat(pooled).cpu().numpy()
            width = max(self.padded_width(len(row) - self.n_special) for row in rows)
            return self._run(rows, width, how)[1].cpu().numpy()

    def _n_vectors(self) -> int | None:
        """Number of the tokens that have vectors, where each has its own."""
        try:
            return len(self.model.get_input_embeddings().weight)
        except (AttributeError, NotImplementedError):
            return None

    def _refuse_unknown_tokens(self, rows: list[list[int]]) -> None:
        """Refuse token ids without a vector; a GPU does not survive the attempt to read one."""
        n_vectors = self._n_vectors()
        if n_vectors is not None and max(map(max, rows)) >= n_vectors:
            raise ValueError(
                f"The tokenizer of the model gives tokens that its {n_vectors} word vectors lack: "
                "the two do not fit together, or a file is damaged. Get the model's files again."
            )

    def _run(
        self, rows: list[list[int]], width: int, how: tuple[str, int]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """States and vectors of padded rows."""
        ids, visible = pad_rows(rows, width, self.tokenizer.pad_token_id, self.device)
        output = self.model(**self.inputs(ids, visible))
        states = output.last_hidden_state.float()
        layers = getattr(output, "hidden_states", None) if self.pooling.reads_more else None
        pool = self.pooling.with_pooling(how[0])
        return states, pool(states, visible, ids, how[1], layers)


class RowInputs:
    """A model's inputs for rows of token ids: with a mask, and types if the tokenizer has any."""

    def __init__(self, model: Any, special: SpecialTokens):
        self.special = special
        types = {*(special.types_before or ()), *(special.types_after or ()), special.type}
        accepted = "token_type_ids" in inspect.signature(model.forward).parameters
        # These families assume zeros if there are none
        default = types == {0} and getattr(model.config, "model_type", "") in PACKABLE
        self.with_types = special.types_before is not None and accepted and not default

    def __call__(self, ids: torch.Tensor, visible: torch.Tensor) -> dict[str, torch.Tensor]:
        """Give the arguments by name."""
        inputs = {"input_ids": ids, "attention_mask": visible.long()}
        if self.with_types:
            types = torch.full_like(ids, self.special.type)
            types[:, : len(self.special.before)] = types.new_tensor(self.special.types_before)
            after = self.special.types_after or []
            first = visible.sum(dim=1) - len(after)
            for i, kind in enumerate(after):
                types[torch.arange(len(types), device=ids.device), first + i] = kind
            inputs["token_type_ids"] = types
        return inputs


def pad_rows(
    rows: list[list[int]], width: int, pad: int | None, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids padded on the right, and which of them are visible; both (n_rows, width)."""
    ids = torch.tensor([row + [pad or 0] * (width - len(row)) for row in rows], device=device)
    length = torch.tensor([len(row) for row in rows], device=device)
    return ids, torch.arange(width, device=device)[None] < length[:, None]


def choose_dtype(dtype: str, device: torch.device) -> str:
    """Resolve dtype="auto": bfloat16 on a CUDA GPU that multiplies it natively, else float32."""
    if dtype != "auto":
        return dtype
    return "bfloat16" if device.type == "cuda" and _multiplies_bfloat16(device) else "float32"


def arithmetic_of(dtype: str | torch.dtype, device: torch.device) -> str | None:
    """What the third digit of half-precision vectors depends on; None for float32."""
    if str(dtype).endswith("float32"):
        return None
    if device.type != "cpu":
        return "a CUDA GPU" if device.type == "cuda" else f"device type {device.type!r}"
    return f"a CPU with {'native' if _multiplies_bfloat16(device) else 'emulated'} bfloat16"


def _multiplies_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # torch offers no public query yet
    query = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return query is not None and query()


# Loading


@functools.lru_cache(maxsize=2)
def load_backbone(spec: source.ModelSpec) -> Backbone:
    """Load a model once per process; clones in a cross-validation share it."""
    if spec.files:
        weights = [content for name, content in spec.files if name.endswith(".safetensors")]
        return Backbone(_parts_from_files(spec), b"".join(weights), spec.compile)
    content = b"" if spec.tuned is None else spec.tuned.data
    return Backbone(load_parts(spec), content, spec.compile)


def load_parts(spec: source.ModelSpec) -> ModelParts:
    """Read a model and its tokenizer, with what fine-tuning changed."""
    if spec.tuned is None:
        return _read_parts(spec)
    # An adapter is merged in float32, whatever the dtype of the result
    parts = _read_parts(spec._replace(dtype="float32"))
    if fingerprint(parts) != spec.tuned.base:
        raise ValueError(
            f"The weights or the tokenizer behind model={spec.model!r} are not those that were "
            "fine-tuned; give the folder or revision that was used in fit, or fit again."
        )
    model = apply_weights(parts.model, spec.tuned)
    return parts._replace(model=torch.nn.Module.to(model, dtype=getattr(torch, spec.dtype)))


def _read_parts(spec: source.ModelSpec) -> ModelParts:
    """Read a model and its tokenizer from disk or hub."""
    place = source.find_model(spec)
    options: dict[str, Any] = {
        "revision": spec.revision,
        "local_files_only": spec.local_files_only,
        "trust_remote_code": spec.trust_remote_code,
    }
    unpacked = place.endswith(source.GGUF)
    sentence = None
    if unpacked:
        source.check_gguf(spec)
        options["gguf_file"] = Path(place).name
        place = str(Path(place).parent)
    elif Path(place).is_dir():
        source.check_model_folder(Path(place), spec.trust_remote_code)
    # Parameters missing from the files, such as an unused pooler, are drawn at random; weights
    # loaded under inference_mode could never be trained
    seeded = torch_seed(0, torch.device(spec.device))
    with _reading(spec, unpacked), _quiet_loading(), seeded, with_gradients():
        sentence = None if unpacked else read_sentence_format(spec, place)
        model: Any
        if sentence is not None and sentence.is_static:
            from .static_tokens import read_static

            tokenizer, model = read_static(spec, place, sentence)
            config, missing = model.config, set()
        else:
            tokenizer, model, missing = _read_model(spec, place, options, sentence, unpacked)
            config = model.config
        # A tokenizer with wrong settings may fail only on its first text
        special_tokens(tokenizer)
        if sentence is not None and sentence.lowercase:
            lower(tokenizer)
    quantizer = getattr(model, "hf_quantizer", None)
    if unpacked and quantizer is not None:
        # Marked as quantised, the model could not be saved with its unpacked weights
        quantizer.remove_quantization_config(model)
    whole = None
    if config.is_encoder_decoder and not _is_encoder(type(model)):
        if sentence is not None:
            raise OSError(
                f"model={spec.model!r} is in the format of sentence-transformers, which would pool "
                "the states of its decoder. Give a copy of the folder without modules.json to pool "
                "those of its encoder."
            )
        whole, model = model, model.get_encoder()
        if not hasattr(model, "config"):
            # As in FSMT
            model.config = config
        own = {id(parameter) for parameter in model.parameters()}
        named = dict(whole.named_parameters())
        missing = {name for name in missing if name not in named or id(named[name]) in own}
    if spec.quantization is None and spec.device_map is None:
        model = model.to(spec.device)
    if config.model_type == "reformer":
        raise source.RefusedModel(
            f"model={spec.model!r} is a Reformer, which draws new hashes at each call, so that a "
            "note has no fixed vector. Use another model."
        )
    model = model.eval().requires_grad_(False)
    untrained = frozenset(missing)
    _refuse_incomplete(spec, untrained, tokenizer)
    positions = _position_limit(model)
    asked = None if sentence is None else sentence.max_length
    limits = (asked, positions, tokenizer.model_max_length, _LONGEST_DEFAULT)
    return ModelParts(
        tokenizer,
        model,
        min(int(limit) for limit in limits if limit),
        positions,
        WindowPooling() if sentence is None else sentence.pooling,
        untrained,
        sentence,
        whole,
    )


def _read_model(spec, place: str, options: dict, sentence: SentenceFormat | None, unpacked: bool):
    """Tokenizer and model by transformers, and the names of weights that the files lack."""
    from transformers import AutoConfig, AutoModel, AutoModelForTextEncoding, AutoTokenizer

    own: dict[str, dict] = {} if sentence is None else sentence.options
    if sentence is not None and sentence.folder:
        options = options | {"subfolder": sentence.folder}
    config = AutoConfig.from_pretrained(place, **options | own.get("config_kwargs", {}))
    rules = options | {"use_fast": True} | own.get("processor_kwargs", {})
    tokenizer = AutoTokenizer.from_pretrained(place, **rules)
    if unpacked:
        from transformers import GgufConfig

        options = options | {"quantization_config": GgufConfig(dequantize=True)}
    # A checkpoint of these may hold only the encoder
    encoders: Any = AutoModelForTextEncoding._model_mapping
    is_text_encoder = type(config) in encoders and _is_encoder(encoders[type(config)])
    # T5Gemma's refuses the config of a model with a decoder
    is_text_encoder &= not (config.is_encoder_decoder and hasattr(config, "decoder"))
    model, report = (AutoModelForTextEncoding if is_text_encoder else AutoModel).from_pretrained(
        place,
        config=config,
        dtype=getattr(torch, spec.dtype),
        output_loading_info=True,
        **options | own.get("model_kwargs", {}),
        **_placement(spec),
    )
    return tokenizer, model, set(report["missing_keys"])


def _is_encoder(kind: type) -> bool:
    """Whether a class is the encoder of an encoder-decoder, such as T5's."""
    return kind.__name__.endswith("EncoderModel")


def _position_limit(model: Any) -> int | None:
    """Tokens for which a model has positions; None without a limit."""
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    # XLNet gives -1
    limits = [limit] if isinstance(limit, int) and limit > 0 else []
    for name, module in model.named_modules():
        padding = getattr(module, "padding_idx", None)
        if name.endswith("position_embeddings") and padding is not None:
            # As in RoBERTa, positions begin after that of the padding
            limits.append(len(module.weight) - padding - 1)
    return min(limits, default=None)


def _config_of(model: Any) -> str:
    """The entries of a model's config that its vectors may depend on."""
    found = model.config.to_diff_dict()
    return json.dumps(
        {k: v for k, v in found.items() if k not in _NOT_CONFIG}, sort_keys=True, default=str
    )


@contextmanager
def _reading(spec: source.ModelSpec, unpacked: bool):
    """Say which model cannot be read, and what to do about it."""
    try:
        with no_panic():
            yield
    except source.RefusedModel:
        raise
    except OSError as error:
        raise OSError(source.not_found_message(spec)) from error
    except (ImportError, torch.OutOfMemoryError):
        # They say what to install or how much memory was asked for
        raise
    except Exception as error:
        # Of any kind: tokenizers raises a bare Exception
        if unpacked:
            raise OSError(
                f"The GGUF file of model={spec.model!r} could not be read: it is damaged or "
                "truncated, or this version of transformers does not know its kind of model or "
                "tokenizer. Download it again, or give the model as a folder."
            ) from error
        raise OSError(
            f"The files of model={spec.model!r} cannot be read ({type(error).__name__}): they are "
            "damaged, do not fit together, or need code of their own, which only runs with "
            "trust_remote_code=True. Get them again, from a source that you trust."
        ) from error


def _placement(spec: source.ModelSpec) -> dict[str, Any]:
    """Options of from_pretrained that quantise the weights or spread them over devices."""
    placement: dict[str, Any] = {}
    if spec.quantization is not None:
        source.require("bitsandbytes", "quantization", f"quantization={spec.quantization!r}")
        from transformers import BitsAndBytesConfig

        bits = {f"load_in_{spec.quantization}": True}
        placement["quantization_config"] = BitsAndBytesConfig(**bits)
    if spec.device_map is not None:
        source.require("accelerate", "quantization", f"device_map={spec.device_map!r}")
        placement["device_map"] = spec.device_map
    return placement


def _refuse_incomplete(spec: source.ModelSpec, untrained: frozenset[str], tokenizer) -> None:
    """Refuse files without weights that the states depend on, or without a vocabulary."""
    needed = sorted(name for name in untrained if "pooler" not in name.split("."))
    if needed:
        raise OSError(
            f"The files of model={spec.model!r} lack {len(needed)} of the model's weights, the "
            f"first of them {needed[0]!r}; they would be drawn at random. Give a complete "
            "checkpoint whose config.json matches its weights."
        )
    # transformers makes an empty tokenizer where a folder has no tokenizer files
    if set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):
        raise OSError(
            f"The files of model={spec.model!r} lack the tokenizer's vocabulary; every word would "
            "be unknown. Give a complete checkpoint, with tokenizer.json."
        )


def fingerprint(parts: ModelParts) -> str:
    """Digest of all weights of a model and the modules after it, and of the tokenizer's rules."""
    digest = hashlib.sha256()
    modules: list[Any] = list(parts.pooling.steps)
    steps = [(type(step).__name__, step.get_config_dict()) for step in modules]
    digest.update(str((steps, parts.pooling.width)).encode())
    for name, tensor in (*parts.model.state_dict().items(), *parts.pooling.state_dict().items()):
        if name in parts.untrained:
            continue
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        if not tensor.is_meta:
            content = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            digest.update(content.numpy())
    digest.update(json.dumps(_tokenizer_rules(parts.tokenizer), sort_keys=True).encode())
    return digest.hexdigest()


def _tokenizer_rules(tokenizer: Any) -> dict[str, Any]:
    if not tokenizer.is_fast:
        named = {
            k: str(v) for k, v in tokenizer.init_kwargs.items() if not k.endswith(("file", "path"))
        }
        merges = sorted(getattr(tokenizer, "bpe_ranks", {}).items(), key=lambda item: item[1])
        rules = {"class": type(tokenizer).__name__, "settings": named, "merges": str(merges)}
        # The vocabulary of a tokenizer of characters is all there are
        return rules | (
            {"vocabulary": tokenizer.get_vocab()} if tokenizer.vocab_size < 10**6 else {}
        )
    rules = json.loads(tokenizer.backend_tokenizer.to_str())
    # Set by each call, not by the model
    for setting in ("truncation", "padding"):
        rules.pop(setting, None)
    return rules


@contextmanager
def _quiet_loading():
    """Hide the progress bars of transformers while a model loads, and then restore its settings."""
    from transformers import modeling_gguf_pytorch_utils as gguf_reader
    from transformers.utils import logging

    enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    # The reader of GGUF files calls tqdm directly, which no setting of transformers silences
    gguf_bar = gguf_reader.tqdm
    gguf_reader.tqdm = functools.partial(gguf_bar, disable=True)
    try:
        yield
    finally:
        gguf_reader.tqdm = gguf_bar
        if enabled:
            logging.enable_progress_bar()


def model_files(spec: source.ModelSpec) -> dict[str, bytes]:
    """Name and content of a model's files, safetensors and JSON, which contain no code."""
    if spec.quantization is not None:
        raise ValueError("weights='full' needs quantization=None: the files hold plain weights.")
    parts = load_parts(spec if spec.tuned is None else spec._replace(dtype="float32"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # One file, so that no index is needed
        (parts.whole or parts.model).save_pretrained(folder, max_shard_size="1TB")
        parts.tokenizer.save_pretrained(folder)
        if parts.sentence is not None:
            write_sentence_format(folder, parts.sentence)
        return {
            str(file.relative_to(folder)): file.read_bytes()
            for file in sorted(folder.rglob("*"))
            if file.suffix in {".json", ".safetensors", ".txt", ".model"}
        }


def _parts_from_files(spec: source.ModelSpec) -> ModelParts:
    with tempfile.TemporaryDirectory() as name:
        for path, content in spec.files:
            file = (Path(name) / path).resolve()
            if not file.is_relative_to(Path(name).resolve()):
                raise ValueError("A file of the saved model lies outside its folder.")
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(content)
        return _read_parts(spec._replace(model=name, revision=None, local_files_only=True))
