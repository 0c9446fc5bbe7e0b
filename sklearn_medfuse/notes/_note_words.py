"""Words of notes as vectors: NoteWordEncoder, and NaiveBayesNoteEncoder for labels."""

import re
from collections.abc import Callable, Iterator
from numbers import Integral, Real

import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import normalize
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from .._cross_fitted import CrossFittedEncoder
from .._state import VersionedStateMixin
from .._training import Announcement, progress_bar
from ._texts import NoteColumnsMixin

_N_HASHES = 2**20
_NUMBERS = re.compile(r"\d+(?:[.,/:]\d+)*")
_PHRASE_ENDS = re.compile(r"[.;:\r\n\u3002\uff1b\uff1a]")

_TERM_CONSTRAINTS: dict = {
    "ngram_range": [tuple],
    "char_ngram_range": [tuple, None],
    "phrases": ["boolean"],
    "drop_numbers": ["boolean"],
    "min_df": [Interval(Integral, 1, None, closed="left")],
    "max_terms": [Interval(Integral, 1, None, closed="left")],
}


class NoteWordEncoder(
    NoteColumnsMixin,
    VersionedStateMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    BaseEstimator,
):
    """Embed notes by their words, pairs of words and phrases (latent semantic analysis).

    A language model's vector represents the topic of a note and loses single words, such as the
    name of a diagnosis. This vector, a modality beside `LLMNoteEncoder`'s, keeps them.

    Terms are counted by their hashes, so that the fitted encoder holds no patient's words. Counts
    enter as 1 + log(count), weighted by the inverse document frequency; notes are scaled to length
    one; a truncated singular value decomposition gives the vector.

    Parameters
    ----------
    n_components : int, default=300
        Maximum width of the vector; it is smaller where there are fewer notes or words.
    ngram_range : tuple of two int, default=(1, 2)
        Minimum and maximum number of consecutive words in a term.
    char_ngram_range : tuple of two int or None, default=None
        Minimum and maximum number of consecutive characters of a word that are a term too, such as
        (3, 5); they relate spellings and forms of a word. None means words only.
    phrases : bool, default=True
        Whether the whole text between two full stops, semicolons, colons or line ends is a term
        too. Notes from pick lists repeat such phrases.
    drop_numbers : bool, default=True
        Whether numbers are left out of all terms.
    min_df : int, default=3
        Minimum number of notes that contain a term.
    max_terms : int, default=20_000
        Maximum number of terms; those in most notes are kept. Raise it with `char_ngram_range`.
    absent : {"nan", "zero"}, default="nan"
        Output for a row without a note: NaN, which `MEDFuseClassifier` reads as absent, or zeros.
    random_state : int, RandomState instance or None, default=None
        Seeds the decomposition.
    verbose : int, default=0
        1 shows a progress bar, and before long work a line with the estimated time.

    Attributes
    ----------
    terms_, idf_ : ndarray of shape (n_terms,)
        Hashes of the kept terms, and their inverse document frequencies.
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
    LLMNoteEncoder : Represents the topic of a note by a language model.

    Notes
    -----
    Deerwester et al., "Indexing by latent semantic analysis", 1990. Hashes have 20 bits; of ten
    thousand terms one in a hundred shares its hash with another.

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
        **_TERM_CONSTRAINTS,
        "absent": [StrOptions({"nan", "zero"})],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        n_components=300,
        *,
        ngram_range=(1, 2),
        char_ngram_range=None,
        phrases=True,
        drop_numbers=True,
        min_df=3,
        max_terms=20_000,
        absent="nan",
        random_state=None,
        verbose=0,
    ):
        self.n_components = n_components
        self.ngram_range = ngram_range
        self.char_ngram_range = char_ngram_range
        self.phrases = phrases
        self.drop_numbers = drop_numbers
        self.min_df = min_df
        self.max_terms = max_terms
        self.absent = absent
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X, y=None):
        """Learn terms, their weights and the decomposition.

        Parameters
        ----------
        X : list, array, Series, DataFrame or Arrow table of shape (n_notes,) or (n_notes, k)
            Texts; None, NaN, null and blank mean no note. Several columns are joined.
        y : None
            Ignored.

        Returns
        -------
        NoteWordEncoder
            The fitted encoder.
        """
        self._validate_params()
        texts = [text for text in self._read_texts(X, first=True) if text]
        if not texts:
            raise ValueError("X has no note to learn words from; fit needs one row with text.")
        counts = _count_terms(texts, self)
        self.terms_, n_notes = _choose_terms(counts, self.min_df, self.max_terms)
        self.idf_ = np.log((1 + len(texts)) / (1 + n_notes)) + 1
        weighted = self._weigh(counts)
        # The decomposition needs more terms than components
        width = max(1, min(self.n_components, min(weighted.shape) - 1))
        if weighted.shape[1] == 1:
            self.components_ = np.ones((1, 1), dtype=np.float32)
            self.explained_variance_ratio_ = 1.0
            return self
        # Notes that are all the same have no variance to divide by
        with np.errstate(invalid="ignore", divide="ignore"):
            svd = TruncatedSVD(width, random_state=self.random_state).fit(weighted)
        self.components_ = svd.components_.astype(np.float32)
        ratio = svd.explained_variance_ratio_
        self.explained_variance_ratio_ = float(ratio[np.isfinite(ratio)].sum())
        return self

    def transform(self, X):
        """Embed notes.

        Parameters
        ----------
        X : list, array, Series, DataFrame or Arrow table of shape (n_notes,) or (n_notes, k)
            Texts in the columns of fit.

        Returns
        -------
        float64 ndarray of shape (n_notes, n_components)
            One vector per row; NaN or zeros, as set by `absent`, without a note.
        """
        check_is_fitted(self)
        texts = self._read_texts(X, first=False)
        there = np.array([text is not None for text in texts], dtype=bool)
        absent = np.nan if self.absent == "nan" else 0.0
        embedding = np.full((len(texts), self._n_features_out), absent)
        if there.any():
            weighted = self._weigh(_count_terms([text for text in texts if text], self))
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


class NaiveBayesNoteEncoder(NoteColumnsMixin, VersionedStateMixin, CrossFittedEncoder):
    r"""Embed notes by the logits of one regression per label on their words.

    The words in a note tell more about some labels than a vector learned without labels keeps. A
    logistic regression per label reads them, each term weighted by how much more often it is in
    notes with the label than in notes without, as in naive Bayes. The logits are a modality of
    their own.

    A regression predicts the rows it was fitted on better than new ones. `fit_transform` therefore
    gives each row the logits of regressions fitted without it (cross-fitting), `transform` those of
    regressions fitted on all rows. The next step must not be trained on ``fit(X, y).transform(X)``.

    Parameters
    ----------
    C : float, default=0.01
        Inverse of the penalty's strength in each logistic regression.
    alpha : float, default=1.0
        Number of notes added to each term's counts with and without the label, so that no count is
        zero.
    ngram_range : tuple of two int, default=(1, 2)
        Minimum and maximum number of consecutive words in a term.
    char_ngram_range : tuple of two int or None, default=None
        Minimum and maximum number of consecutive characters of a word that are a term too, such as
        (3, 5); they relate spellings and forms of a word. None means words only.
    phrases : bool, default=False
        Whether the whole text between two full stops, semicolons, colons or line ends is a term
        too. Notes from pick lists repeat such phrases.
    drop_numbers : bool, default=False
        Whether numbers are left out of all terms.
    min_df : int, default=3
        Minimum number of notes that contain a term, regardless of their weight.
    max_terms : int, default=20_000
        Maximum number of terms; those in most notes are kept. Raise it with `char_ngram_range`.
    cv : int, splitter or iterable, default=5
        Folds of `fit_transform`; each row must be held out exactly once. A number gives shuffled
        folds that keep `groups` together, or else stratify classes.
    absent : {"nan", "zero"}, default="nan"
        Output for a row without a note: NaN, which `MEDFuseClassifier` reads as absent, or zeros.
    random_state : int, RandomState instance or None, default=None
        Seeds the folds.
    verbose : int, default=0
        1 shows progress bars, and before long work a line with the estimated time.

    Attributes
    ----------
    terms_ : int32 ndarray of shape (n_terms,)
        Hashes of the kept terms.
    coef_, intercept_ : ndarray of shape (n_terms, n_outputs) and (n_outputs,)
        What a term in the note adds to each logit, 0 where a label had one value only; logits of a
        note without any of the terms.
    classes_ : ndarray of shape (n_classes,)
        The classes; 0 and 1 for a matrix of labels.
    n_features_in_ : int
        Number of text columns seen in fit.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Their names; only when X had string column names.

    See Also
    --------
    NoteWordEncoder : Embeds the words of notes without looking at labels.
    BoostedLabEncoder : Cross-fits in the same way on labs.

    Notes
    -----
    The regressions are those of [1]_ (there support vector machines). With
    :math:`f^{(i)} \in \{0, 1\}^V` the terms that note :math:`i` has and :math:`w_i` its weight,

    .. math::

        p = \alpha + \sum_{i: y_i = 1} w_i f^{(i)}, \quad
        q = \alpha + \sum_{i: y_i = 0} w_i f^{(i)}, \quad
        r = \log \frac{p / \lVert p \rVert_1}{q / \lVert q \rVert_1}

    and the regression reads :math:`r \circ f^{(i)}`. With several classes, each is a label.
    Terms are chosen once, without labels, from the notes of rows with a weight, and hashed as in
    `NoteWordEncoder`.

    References
    ----------
    .. [1] Wang & Manning, "Baselines and Bigrams: Simple, Good Sentiment and Topic
       Classification", ACL 2012.

    Examples
    --------
    >>> from sklearn_medfuse import NaiveBayesNoteEncoder
    >>> notes = ["acute heart failure", "no heart failure", "acute renal failure", None] * 5
    >>> encoder = NaiveBayesNoteEncoder(C=1.0, random_state=0)
    >>> encoder.fit_transform(notes, [[1, 0], [0, 0], [0, 1], [0, 1]] * 5).shape
    (20, 2)
    >>> encoder.transform(["acute heart failure", "acute renal failure"]) > 0
    array([[ True, False],
           [False,  True]])
    """

    _parameter_constraints: dict = {
        **CrossFittedEncoder._parameter_constraints,
        **_TERM_CONSTRAINTS,
        "C": [Interval(Real, 0, None, closed="neither")],
        "alpha": [Interval(Real, 0, None, closed="neither")],
    }

    _one_vs_rest = True
    _learns_absent = False

    def __init__(
        self,
        C=0.01,
        *,
        alpha=1.0,
        ngram_range=(1, 2),
        char_ngram_range=None,
        phrases=False,
        drop_numbers=False,
        min_df=3,
        max_terms=20_000,
        cv=5,
        absent="nan",
        random_state=None,
        verbose=0,
    ):
        self.C = C
        self.alpha = alpha
        self.ngram_range = ngram_range
        self.char_ngram_range = char_ngram_range
        self.phrases = phrases
        self.drop_numbers = drop_numbers
        self.min_df = min_df
        self.max_terms = max_terms
        self.cv = cv
        self.absent = absent
        self.random_state = random_state
        self.verbose = verbose

    # The reference shows the methods that a class has itself
    fit = CrossFittedEncoder.fit
    fit_transform = CrossFittedEncoder.fit_transform
    transform = CrossFittedEncoder.transform

    @property
    def coef_(self) -> np.ndarray:
        """What a term in the note adds to each logit, of shape (n_terms, n_outputs)."""
        nothing = np.zeros((len(self.terms_), 1))
        return np.hstack([nothing if each is None else each[0] for each, _ in self._fitted])

    @property
    def intercept_(self) -> np.ndarray:
        """Logits of a note without any of the terms, of shape (n_outputs,)."""
        return np.concatenate([usual if each is None else each[1] for each, usual in self._fitted])

    def _read(self, X, first):
        texts = [text or "" for text in self._read_texts(X, first=first)]
        return _count_terms(texts, self), np.array([not text for text in texts])

    def _choose(self, counts, weight=None):
        """Choose terms in fit; return which of them each note has, ones in (n_notes, n_terms)."""
        if weight is not None:
            self.terms_, _ = _choose_terms(counts[weight > 0], self.min_df, self.max_terms)
        present = sparse.csr_array(counts[:, self.terms_])
        present.data[:] = 1
        return present

    def _fit_classifier(self, present, y, weight, seed):
        """Weights of the terms (n_terms, 1) and the intercept (1,)."""
        p = self.alpha + present.T @ (weight * y)
        q = self.alpha + present.T @ (weight * (1 - y))
        r = np.log(p / p.sum()) - np.log(q / q.sum())
        scaled = present.copy()
        scaled.data = r[present.indices]
        regression = LogisticRegression(C=self.C, max_iter=1000)
        regression.fit(scaled, y, sample_weight=weight)
        return (regression.coef_[0] * r)[:, None], regression.intercept_

    def _fill_logits(self, logits, classifier, present):
        coef, intercept = classifier
        logits[:] = present @ coef + intercept


def _count_terms(texts: list[str], encoder) -> sparse.csr_array:
    """Count the terms that an encoder's parameters ask for, by hash (n_notes, n_hashes)."""
    words = _analyzer("word", encoder.ngram_range, "ngram_range", "words")
    characters = None
    if encoder.char_ngram_range is not None:
        bounds = encoder.char_ngram_range
        characters = _analyzer("char_wb", bounds, "char_ngram_range", "characters")

    def terms(text: str) -> Iterator[str]:
        if encoder.drop_numbers:
            text = _NUMBERS.sub(" ", text)
        yield from words(text)
        # Marks tell a word from the same letters inside a longer word and from a one-word phrase
        if characters is not None:
            yield from ("~" + term for term in characters(text))
        if encoder.phrases:
            phrases = (phrase.split() for phrase in _PHRASE_ENDS.split(text.lower()))
            yield from ("=" + " ".join(phrase) for phrase in phrases if phrase)

    vectorizer = HashingVectorizer(
        n_features=_N_HASHES, analyzer=terms, norm=None, alternate_sign=False
    )
    with progress_bar(len(texts), type(encoder).__name__, "note", encoder.verbose) as bar:
        announcement = Announcement(bar)
        announcement.begin(f"{type(encoder).__name__}: counting the terms of {len(texts):,} notes")

        def counted() -> Iterator[str]:
            for text in texts:
                yield text
                bar.update()
                announcement.update(bar.n / len(texts))

        return sparse.csr_array(vectorizer.transform(counted()))


def _analyzer(kind: str, bounds: tuple, parameter: str, unit: str) -> Callable:
    """Return the function that splits a text into terms of so many words or characters."""
    whole = len(bounds) == 2 and all(isinstance(bound, Integral) for bound in bounds)
    if not whole or not 1 <= bounds[0] <= bounds[1]:
        raise ValueError(
            f"{parameter}={bounds!r} must be two numbers of {unit}, 1 or more, the smaller first."
        )
    return HashingVectorizer(analyzer=kind, ngram_range=bounds).build_analyzer()


def _choose_terms(
    counts: sparse.csr_array, min_df: int, max_terms: int
) -> tuple[np.ndarray, np.ndarray]:
    """Hashes of the terms in at least `min_df` notes, ascending, and how many notes have each."""
    n_notes = np.bincount(counts.indices, minlength=_N_HASHES)
    kept = np.flatnonzero(n_notes >= min_df)
    if not len(kept):
        raise ValueError(
            f"No term is in min_df={min_df} or more of the {counts.shape[0]} notes; lower min_df "
            "or give more notes."
        )
    order = np.argsort(-n_notes[kept], kind="stable")[:max_terms]
    terms = np.sort(kept[order]).astype(np.int32)
    return terms, n_notes[terms]
