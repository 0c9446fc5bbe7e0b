"""Terms of notes, known by their hashes alone: counted, and chosen by how many notes have them."""

from numbers import Integral

import numpy as np
from scipy import sparse
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.utils._param_validation import Interval

_N_HASHES = 2**20

# of the parameters that say which terms there are
TERM_CONSTRAINTS: dict = {
    "ngram_range": [tuple],
    "min_df": [Interval(Integral, 1, None, closed="left")],
    "max_terms": [Interval(Integral, 1, None, closed="left")],
}


def check_ngram_range(ngram_range: tuple) -> None:
    """Refuse what is not two whole numbers of words in order."""
    whole = len(ngram_range) == 2 and all(isinstance(bound, Integral) for bound in ngram_range)
    if not whole or not 1 <= ngram_range[0] <= ngram_range[1]:
        raise ValueError(
            f"ngram_range={ngram_range!r} must be two numbers of words, the fewer first, from 1."
        )


def count_terms(texts: list[str], ngram_range: tuple[int, int]) -> sparse.csr_array:
    """Counts of hashed terms (n_notes, n_hashes)."""
    vectorizer = HashingVectorizer(
        n_features=_N_HASHES, ngram_range=ngram_range, norm=None, alternate_sign=False
    )
    return sparse.csr_array(vectorizer.transform(texts))


def choose_terms(
    counts: sparse.csr_array, min_df: int, max_terms: int
) -> tuple[np.ndarray, np.ndarray]:
    """Hashes of the terms that at least `min_df` notes have, and how many notes have each.

    Parameters
    ----------
    counts : csr_array of shape (n_notes, n_hashes)
        Counts of terms.
    min_df : int
        Number of notes in which a term must be.
    max_terms : int
        Number of terms at most; those of the most notes are kept.

    Returns
    -------
    terms : int32 ndarray of shape (n_terms,)
        Hashes in ascending order.
    n_notes : ndarray of shape (n_terms,)
        Number of notes with each.
    """
    n_notes = np.bincount(counts.indices, minlength=_N_HASHES)
    kept = np.flatnonzero(n_notes >= min_df)
    if not len(kept):
        raise ValueError(
            f"No term is in min_df={min_df} or more of the {counts.shape[0]} notes; lower min_df, "
            "or give more notes."
        )
    order = np.argsort(-n_notes[kept], kind="stable")[:max_terms]
    terms = np.sort(kept[order]).astype(np.int32)
    return terms, n_notes[terms]
