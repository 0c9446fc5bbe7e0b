"""NaiveBayesNoteEncoder: what the words of a note say of each label, without a leak or a word."""

from numbers import Real

import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.linear_model import LogisticRegression
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted

from .._cross_fitted import CrossFittedLogitsMixin
from .._doc_link import DocLinkMixin
from .._state import VersionedStateMixin
from ._note_terms import TERM_CONSTRAINTS, check_ngram_range, choose_terms, count_terms
from ._texts import NoteColumnsMixin, join_columns


class NaiveBayesNoteEncoder(
    CrossFittedLogitsMixin,
    NoteColumnsMixin,
    DocLinkMixin,
    VersionedStateMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    BaseEstimator,
):
    r"""Embed notes by the logits that regressions on their words give the labels.

    Which words and pairs of words are in a note says much of some labels, more than a vector
    learned without labels keeps. A logistic regression per label reads them, each term weighted
    by how much oftener notes with the label have it than those without, as naive Bayes counts it.
    The logits make a modality of their own, as in
    `make_medfuse_pipeline(naive_bayes_notes=True)`.

    A regression knows the rows it was fitted on better than new ones. `fit_transform` therefore
    gives each row the logits of regressions that were fitted without it (cross-fitting), and
    `transform` those of regressions fitted on all rows: `fit(X, y).transform(X)` is not
    ``fit_transform(X, y)``, and not what to train the next step on.

    Parameters
    ----------
    C : float, default=0.01
        Inverse of the penalty's strength in each logistic regression.
    alpha : float, default=1.0
        Notes added to the count of each term, with the label and without, so that none is zero.
    ngram_range : tuple of two int, default=(1, 2)
        Fewest and most words in a row that count as one term.
    min_df : int, default=3
        Number of notes in which a term must be.
    max_terms : int, default=20_000
        Number of terms at most; those of the most notes are kept.
    cv : int, splitter or iterable, default=5
        Folds of `fit_transform`; each row must be held out exactly once. A number gives shuffled
        folds that keep `groups` together, or else stratify classes.
    absent : {"nan", "zero"}, default="nan"
        What a row without a note becomes: NaN, which `MEDFuseClassifier` reads as absent, or
        zeros.
    random_state : int, RandomState instance or None, default=None
        Seeds the folds.

    Attributes
    ----------
    terms_ : int32 ndarray of shape (n_terms,)
        Hashes of the kept terms.
    coef_ : ndarray of shape (n_terms, n_outputs)
        What a term in the note adds to each logit; 0 where a label had one value only.
    intercept_ : ndarray of shape (n_outputs,)
        Logits of a note without any of the terms.
    classes_ : ndarray of shape (n_classes,)
        The classes; 0 and 1 for a matrix of labels.
    n_features_in_ : int
        Number of text columns seen in fit.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Their names; only when X had string column names.

    See Also
    --------
    NoteWordEncoder : Embeds the words of notes without looking at labels.
    BoostedLabEncoder : Cross-fits likewise on labs.

    Notes
    -----
    The regressions are those of [1]_ (there support vector machines). With
    :math:`f^{(i)} \in \{0, 1\}^V` the terms that note :math:`i` has and :math:`w_i` its weight,

    .. math::

        p = \alpha + \sum_{i: y_i = 1} w_i f^{(i)}, \quad
        q = \alpha + \sum_{i: y_i = 0} w_i f^{(i)}, \quad
        r = \log \frac{p / \lVert p \rVert_1}{q / \lVert q \rVert_1}

    and the regression reads :math:`r \circ f^{(i)}`. Of several classes, each is a label.
    Terms are chosen without labels, once, from the notes of rows with a weight. Their hash is
    that of `NoteWordEncoder`; the fitted encoder holds no word of a patient.

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
        **CrossFittedLogitsMixin._parameter_constraints,
        **TERM_CONSTRAINTS,
        "C": [Interval(Real, 0, None, closed="neither")],
        "alpha": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(
        self,
        C=0.01,
        *,
        alpha=1.0,
        ngram_range=(1, 2),
        min_df=3,
        max_terms=20_000,
        cv=5,
        absent="nan",
        random_state=None,
    ):
        self.C = C
        self.alpha = alpha
        self.ngram_range = ngram_range
        self.min_df = min_df
        self.max_terms = max_terms
        self.cv = cv
        self.absent = absent
        self.random_state = random_state

    def fit(self, X, y, sample_weight=None, groups=None):
        """Choose terms, and fit the regressions on all rows that have a note.

        Parameters
        ----------
        X : Series, list, array of shape (n_notes,) or (n_notes, k), or DataFrame
            Texts; None, NaN and blank mean no note. Several columns are joined.
        y : array-like of shape (n_notes,) or (n_notes, n_labels)
            Classes, or a 0/1 matrix of labels in which NaN says that a label is not known.
        sample_weight : array-like of shape (n_notes,) or None, default=None
            Weights of rows; those of zero are left out. A term's `min_df` notes are counted
            whatever they weigh.
        groups : array-like of shape (n_notes,) or None, default=None
            Ignored; `fit_transform` reads it.

        Returns
        -------
        NaiveBayesNoteEncoder
            The fitted encoder.
        """
        self._fit_all(X, y, sample_weight)
        return self

    def fit_transform(self, X, y, sample_weight=None, groups=None):
        """Fit, and give each row the logits of regressions fitted without it.

        Parameters
        ----------
        X : Series, list, array of shape (n_notes,) or (n_notes, k), or DataFrame
            Texts; None, NaN and blank mean no note. Several columns are joined.
        y : array-like of shape (n_notes,) or (n_notes, n_labels)
            Classes, or a 0/1 matrix of labels in which NaN says that a label is not known.
        sample_weight : array-like of shape (n_notes,) or None, default=None
            Weights of rows; those of zero are not learned from.
        groups : array-like of shape (n_notes,) or None, default=None
            Patient of each row, for `cv`. In a Pipeline it comes by metadata routing,
            ``set_fit_request(groups=True)``, and so do weights.

        Returns
        -------
        float64 ndarray of shape (n_notes, n_outputs)
            A logit per label, for the second of two classes, or for each of several.

        Raises
        ------
        ValueError
            If `cv` does not hold out each row exactly once.
        """
        return self._cross_fit(X, y, sample_weight, groups)

    def transform(self, X):
        """Give the logits of the regressions fitted on all rows.

        Parameters
        ----------
        X : Series, list, array of shape (n_notes,) or (n_notes, k), or DataFrame
            Texts in the columns of fit.

        Returns
        -------
        float64 ndarray of shape (n_notes, n_outputs)
            A logit per label, for the second of two classes, or for each of several; without a
            note NaN or zeros as `absent` says.
        """
        check_is_fitted(self)
        texts, absent = self._join(self._checked_columns(X))
        present = self._present(count_terms(texts, self.ngram_range))
        return self._without_absent(absent, self._logits(present, self.coef_, self.intercept_))

    def _read_first(self, X):
        check_ngram_range(self.ngram_range)
        return self._join(self._first_columns(X))

    def _join(self, columns: list[list]) -> tuple[list[str], np.ndarray]:
        """One text per row, and in which rows there is none."""
        texts = [text or "" for text in join_columns(columns, self._headings())]
        return texts, np.array([not text for text in texts], dtype=bool)

    def _learned_rows(self, texts, absent, weight):
        """Choose terms; give which of them each note has, and no weight to a row without one."""
        weight = np.where(absent, 0.0, weight)
        self._check_some(weight)
        counts = count_terms(texts, self.ngram_range)
        self.terms_, _ = choose_terms(counts[weight > 0], self.min_df, self.max_terms)
        return self._present(counts), weight

    def _check_some(self, weight) -> None:
        if not (weight > 0).any():
            raise ValueError(
                "X and sample_weight leave no row to learn from; give some a note and a weight."
            )

    def _present(self, counts: sparse.csr_array) -> sparse.csr_array:
        """Which terms each note has, ones in (n_notes, n_terms)."""
        present = sparse.csr_array(counts[:, self.terms_])
        present.data[:] = 1
        return present

    def _fit_outputs(self, present, y, weight, seed):
        """Fit a regression per label or class, as columns of weights and their intercepts."""
        if y.ndim == 1:
            # of two classes the second is the label
            outputs = np.arange(len(self.classes_)) if len(self.classes_) > 2 else [1]
            y = (y[:, None] == outputs).astype(float)
        fitted, intercept = self._fit_labels(present, y, weight, seed)
        coef = np.zeros((present.shape[1], len(intercept)))
        for output, regression in enumerate(fitted):
            if regression is not None:
                coef[:, output], intercept[output] = regression
        return coef, intercept

    def _keep(self, coef, intercept):
        self.coef_, self.intercept_ = coef, intercept

    def _fit_label(self, present, y, weight, seed):
        """Weights of the terms and the intercept; None where the label has one value only."""
        if len(np.unique(y)) < 2:
            return None
        p = self.alpha + present.T @ (weight * y)
        q = self.alpha + present.T @ (weight * (1 - y))
        r = np.log(p / p.sum()) - np.log(q / q.sum())
        scaled = present.copy()
        scaled.data = r[present.indices]
        regression = LogisticRegression(C=self.C, max_iter=1000)
        regression.fit(scaled, y, sample_weight=weight)
        return regression.coef_[0] * r, regression.intercept_[0]

    def _logits(self, present, coef, intercept) -> np.ndarray:
        return present @ coef + intercept

    @property
    def _n_features_out(self) -> int:
        return len(self.intercept_)
