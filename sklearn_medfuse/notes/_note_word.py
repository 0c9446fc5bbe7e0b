"""NoteWordEncoder: the words of a note as a short vector, without keeping a word."""

from numbers import Integral

import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.decomposition import TruncatedSVD
from sklearn.preprocessing import normalize
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from .._doc_link import DocLinkMixin
from .._state import VersionedStateMixin
from ._note_terms import TERM_CONSTRAINTS, check_ngram_range, choose_terms, count_terms
from ._texts import NoteColumnsMixin, join_columns


class NoteWordEncoder(
    NoteColumnsMixin,
    DocLinkMixin,
    VersionedStateMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    BaseEstimator,
):
    """Embed notes by which words and pairs of words are in them (latent semantic analysis).

    A language model's vector says what a note is about and loses single words, such as the name
    of a diagnosis. This vector keeps them. Beside `LLMNoteEncoder` it makes a modality of its own,
    as in `make_medfuse_pipeline(words=True)`.

    Words are counted by their hashes, so that the fitted encoder holds no word of a patient, and
    those of fewer than `min_df` notes are left out. Counts enter as 1 + log(count), weighted by
    the inverse document frequency; notes have length one; a truncated singular value decomposition
    makes the vector.

    Parameters
    ----------
    n_components : int, default=300
        Width of the vector at most; fewer where notes or words are fewer.
    ngram_range : tuple of two int, default=(1, 2)
        Fewest and most words in a row that count as one term.
    min_df : int, default=3
        Number of notes in which a term must be.
    max_terms : int, default=20_000
        Number of terms at most; those of the most notes are kept.
    absent : {"nan", "zero"}, default="nan"
        What `transform` gives for a row without a note: NaN, which `MEDFuseClassifier` reads as
        absent, or zeros.
    random_state : int, RandomState instance or None, default=None
        Seeds the decomposition.

    Attributes
    ----------
    terms_ : int32 ndarray of shape (n_terms,)
        Hashes of the kept terms.
    idf_ : ndarray of shape (n_terms,)
        Their inverse document frequencies.
    components_ : float32 ndarray of shape (n_components, n_terms)
        The decomposition.
    explained_variance_ratio_ : float
        Share of the variance that the components keep.
    n_features_in_ : int
        Number of text columns seen in fit.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Their names; only when X had string column names.

    See Also
    --------
    LLMNoteEncoder : What a note is about, by a language model.

    Notes
    -----
    Deerwester et al., "Indexing by latent semantic analysis", 1990. The hash is MurmurHash3 of 20
    bits, as in scikit-learn's HashingVectorizer; one in a hundred of ten thousand terms shares one.

    Examples
    --------
    >>> from sklearn_medfuse import NoteWordEncoder
    >>> notes = ["acute heart failure", "heart failure", "acute renal failure", None] * 3
    >>> encoder = NoteWordEncoder(2, random_state=0).fit(notes)
    >>> encoder.transform(notes).shape
    (12, 2)
    """

    _parameter_constraints: dict = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        **TERM_CONSTRAINTS,
        "absent": [StrOptions({"nan", "zero"})],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        n_components=300,
        *,
        ngram_range=(1, 2),
        min_df=3,
        max_terms=20_000,
        absent="nan",
        random_state=None,
    ):
        self.n_components = n_components
        self.ngram_range = ngram_range
        self.min_df = min_df
        self.max_terms = max_terms
        self.absent = absent
        self.random_state = random_state

    def fit(self, X, y=None):
        """Learn terms, their weights and the decomposition.

        Parameters
        ----------
        X : Series, list, array of shape (n_notes,) or (n_notes, k), or DataFrame
            Texts; None, NaN and blank mean no note. Several columns are joined.
        y : None
            Ignored.

        Returns
        -------
        NoteWordEncoder
            The fitted encoder.
        """
        self._validate_params()
        check_ngram_range(self.ngram_range)
        texts = [text for text in join_columns(self._first_columns(X), self._headings()) if text]
        counts = count_terms(texts, self.ngram_range)
        self.terms_, n_notes = choose_terms(counts, self.min_df, self.max_terms)
        self.idf_ = np.log((1 + len(texts)) / (1 + n_notes)) + 1
        weighted = self._weigh(counts)
        # the decomposition wants more terms than components
        width = max(1, min(self.n_components, min(weighted.shape) - 1))
        rng = check_random_state(self.random_state)
        if weighted.shape[1] == 1:
            self.components_ = np.ones((1, 1), dtype=np.float32)
            self.explained_variance_ratio_ = 1.0
        else:
            svd = TruncatedSVD(width, random_state=rng).fit(weighted)
            self.components_ = svd.components_.astype(np.float32)
            self.explained_variance_ratio_ = float(svd.explained_variance_ratio_.sum())
        return self

    def transform(self, X):
        """Embed notes.

        Parameters
        ----------
        X : Series, list, array of shape (n_notes,) or (n_notes, k), or DataFrame
            Texts in the columns of fit.

        Returns
        -------
        float64 ndarray of shape (n_notes, n_components)
            One vector per row; without a note NaN or zeros as `absent` says.
        """
        check_is_fitted(self)
        texts = join_columns(self._checked_columns(X), self._headings())
        there = np.array([text is not None for text in texts], dtype=bool)
        absent = np.nan if self.absent == "nan" else 0.0
        embedding = np.full((len(texts), self._n_features_out), absent)
        if there.any():
            weighted = self._weigh(count_terms([text for text in texts if text], self.ngram_range))
            embedding[there] = weighted @ self.components_.T.astype(np.float64)
        return embedding

    def _weigh(self, counts: sparse.csr_array) -> sparse.csr_array:
        """Weighted terms (n_notes, n_terms), each note of length one."""
        weighted = sparse.csr_array(counts[:, self.terms_])
        weighted.data = 1 + np.log(weighted.data)
        return normalize(sparse.csr_array(weighted.multiply(self.idf_[None])))

    @property
    def _n_features_out(self) -> int:
        return len(self.components_)
