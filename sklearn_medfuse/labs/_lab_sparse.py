"""Sparse lab tables: an entry is a measured cell, whatever its value."""

import numpy as np
from scipy import sparse


def refuse_ambiguous_format(X) -> None:
    """Raise ValueError for a sparse X that cannot say which cells were measured, or says it twice.

    Examples
    --------
    >>> from scipy import sparse
    >>> refuse_ambiguous_format(sparse.csr_array([[0.0, 1.0]]))
    >>> refuse_ambiguous_format(sparse.coo_array(([4.1, 4.3], ([0, 0], [1, 1])), shape=(1, 2)))
    Traceback (most recent call last):
    ...
    ValueError: Sparse X holds 1 cells more than once. Aggregate them first, for example to ...
    """
    if X.format in ("bsr", "dia"):
        raise ValueError(
            f"Sparse X in {X.format.upper()} format stores zeros for absent entries, so what was "
            "measured cannot be told from what was not. Build X in CSR or COO format."
        )
    if X.format == "coo" and X.ndim == 2:
        # what scipy makes of it has the sum of a cell's entries, and no trace of the second one
        _refuse_repeated(X.nnz - X.tocsr().nnz)


def measured_csr(X) -> sparse.csr_array:
    """Return a CSR matrix whose entries are the measured cells, each once and in column order.

    An entry of 0 is a measured zero; an entry of NaN is dropped.

    Examples
    --------
    >>> from scipy import sparse
    >>> X = sparse.csr_array(([0.0, np.nan, 5.0], [2, 1, 0], [0, 3]), shape=(1, 3))
    >>> measured_csr(X).data, measured_csr(X).indices
    (array([5., 0.]), array([0, 2]...))
    """
    X = sparse.csr_array(X)
    if not X.has_sorted_indices:
        X = X.sorted_indices()
    row = np.repeat(np.arange(X.shape[0]), np.diff(X.indptr))
    _refuse_repeated(int(((np.diff(row) == 0) & (np.diff(X.indices) == 0)).sum()))
    measured = ~np.isnan(X.data)
    if measured.all():
        return X
    row_start = np.concatenate([[0], measured.cumsum()])[X.indptr]
    return sparse.csr_array((X.data[measured], X.indices[measured], row_start), shape=X.shape)


def to_dense(X):
    """Return a CSR matrix as an array with NaN where there is no entry; an array as it is."""
    if isinstance(X, np.ndarray):
        return X
    dense = np.full(X.shape, np.nan)
    dense[np.repeat(np.arange(X.shape[0]), np.diff(X.indptr)), X.indices] = X.data
    return dense


def _refuse_repeated(n_cells: int) -> None:
    if n_cells:
        raise ValueError(
            f"Sparse X holds {n_cells} cells more than once. Aggregate them first, for example to "
            "the last value; scipy would take their sum, which no lab has measured."
        )
