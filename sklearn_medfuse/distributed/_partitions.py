"""transform and predict_proba over the partitions of a Dask DataFrame."""

from uuid import uuid4

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted

from ._dask import import_dask


def transform(estimator, X, *, dtype="float32"):
    """Embed the partitions of a Dask DataFrame, lazily.

    Parameters
    ----------
    estimator : transformer
        Fitted, with `get_feature_names_out`; an `LLMNoteEncoder` for instance. One that `scatter`
        gave is not sent again.
    X : dask.dataframe.DataFrame or Series
        What `estimator.transform` takes, in partitions.
    dtype : str or dtype, default="float32"
        What the estimator gives: `LLMNoteEncoder` float32, `MaskedLabEncoder` float64. It is
        checked, as nothing is computed here from which it could be seen.

    Returns
    -------
    dask.dataframe.DataFrame
        In the partitions and with the index of X; columns as `get_feature_names_out` names them.

    Raises
    ------
    ImportError
        Without the extra `distributed`.
    TypeError
        If X is no Dask collection.
    ValueError
        When computed, if the estimator gives another shape or dtype.

    See Also
    --------
    predict_proba : Probabilities in the same way.

    Notes
    -----
    Keys and names of tasks hold random numbers and hashes, no content. What is in a DataFrame made
    by ``from_pandas`` goes into the graph and so through the scheduler; ``read_parquet`` and
    ``from_map`` let each worker read its partitions itself.

    Examples
    --------
    >>> import dask.dataframe as dd
    >>> import pandas as pd
    >>> from sklearn_medfuse import LLMNoteEncoder
    >>> from sklearn_medfuse.distributed import transform
    >>> notes = pd.Series(["Known COPD.", None, "Denies chest pain."], index=[7, 8, 9])
    >>> encoder = LLMNoteEncoder().fit(notes)
    >>> vectors = transform(encoder, dd.from_pandas(notes, npartitions=2))
    >>> vectors.columns[:2].tolist(), vectors.npartitions
    (['llmnoteencoder0', 'llmnoteencoder1'], 2)
    >>> vectors.compute(scheduler="synchronous").shape
    (3, 384)
    """
    check_is_fitted(estimator)
    names = estimator.get_feature_names_out()
    return _map_partitions(estimator, X, "transform", names, dtype)


def predict_proba(estimator, X, *, dtype="float64"):
    """Predict probabilities for the partitions of a Dask DataFrame, lazily.

    Parameters
    ----------
    estimator : classifier
        Fitted: a pipeline of `make_medfuse_pipeline`, a search over one, or any classifier whose
        `predict_proba` is one array. One that `scatter` gave is not sent again.
    X : dask.dataframe.DataFrame
        Columns of fit, in partitions.
    dtype : str or dtype, default="float64"
        What the estimator gives; it is checked.

    Returns
    -------
    dask.dataframe.DataFrame
        In the partitions and with the index of X; one column per class, or per label under its
        name where `fit` saw names.

    Raises
    ------
    ImportError
        Without the extra `distributed`.
    TypeError
        If X is no Dask collection, or the classifier has a list of classes per label.
    ValueError
        When computed, if the estimator gives another shape or dtype.

    See Also
    --------
    transform : Vectors in the same way, with notes on what Dask sees.

    Examples
    --------
    >>> import dask.dataframe as dd
    >>> from sklearn_medfuse import make_medfuse_pipeline
    >>> from sklearn_medfuse.datasets import make_ehr_cohort
    >>> from sklearn_medfuse.distributed import predict_proba
    >>> cohort = make_ehr_cohort(60, random_state=0)
    >>> pipe = make_medfuse_pipeline(cohort.lab_columns, cohort.note_column, max_epochs=1)
    >>> pipe = pipe.fit(cohort.X, cohort.y)
    >>> found = predict_proba(pipe, dd.from_pandas(cohort.X, npartitions=3))
    >>> list(found.columns) == list(cohort.target_names)
    True
    >>> found.compute(scheduler="synchronous").shape
    (60, 5)
    """
    check_is_fitted(estimator)
    return _map_partitions(estimator, X, "predict_proba", _output_names(estimator), dtype)


def _output_names(estimator) -> np.ndarray:
    """Names of the columns of `predict_proba`: labels where there are names, else classes."""
    last = getattr(estimator, "best_estimator_", estimator)
    if hasattr(last, "named_steps"):
        last = last.steps[-1][1]
    names = getattr(last, "target_names_", None)
    if names is None:
        names = estimator.classes_
    if isinstance(names, list):
        raise TypeError(
            f"{type(last).__name__} gives a list of arrays, one per label; give a classifier whose "
            "predict_proba is one array, such as MEDFuseClassifier or a OneVsRestClassifier."
        )
    return names


def _map_partitions(estimator, X, method: str, names, dtype):
    dataframe = import_dask("dask.dataframe")
    dask = import_dask("dask")
    if not isinstance(X, dataframe.DataFrame | dataframe.Series):
        raise TypeError(
            f"X is of type {type(X).__name__}; give a Dask DataFrame or Series, for instance of "
            "dask.dataframe.read_parquet."
        )
    empty = np.empty((0, len(names)), dtype=dtype)
    meta = pd.DataFrame(empty, index=X._meta.index, columns=list(names))
    # one node of the graph: sent to the cluster once, and again only if no worker has it any more;
    # without a name of ours Dask would hash the weights
    node = dask.delayed(estimator, name=f"estimator-{uuid4().hex}", traverse=False)
    return X.map_partitions(_apply, node, method, meta, meta=meta, token=f"medfuse-{method}")


def _apply(partition, estimator, method: str, meta: pd.DataFrame) -> pd.DataFrame:
    """Run the estimator's method on a partition, which may be empty."""
    if not len(partition):
        return meta
    found = getattr(estimator, method)(partition)
    values = found.to_numpy() if isinstance(found, pd.DataFrame) else np.asarray(found)
    dtype = meta.to_numpy().dtype
    if values.dtype != dtype or values.shape != (len(partition), len(meta.columns)):
        raise ValueError(
            f"{method} gave {values.dtype} of shape {values.shape} for a partition of "
            f"{len(partition)} rows, expected {dtype} and {len(meta.columns)} columns; pass "
            "dtype as the estimator gives it."
        )
    return pd.DataFrame(values, index=partition.index, columns=meta.columns)
