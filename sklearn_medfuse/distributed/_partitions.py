"""transform and predict_proba over the partitions of a Dask DataFrame."""

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.utils.validation import check_is_fitted

from ._scattering import import_dask


def transform(estimator: Any, X: Any, *, dtype: npt.DTypeLike = "float32") -> Any:
    """Embed the partitions of a Dask DataFrame, lazily.

    Parameters
    ----------
    estimator : transformer
        Fitted, with `get_feature_names_out`, for example an `LLMNoteEncoder`. A scattered one is
        not sent again.
    X : dask.dataframe.DataFrame or Series
        Input of `estimator.transform`, in partitions.
    dtype : str or dtype, default="float32"
        Type of the estimator's output, checked on `compute`: float32 for `LLMNoteEncoder`, float64
        for `MaskedLabEncoder`.

    Returns
    -------
    dask.dataframe.DataFrame
        Partitions and index of X; columns as in `get_feature_names_out`.

    Raises
    ------
    ImportError
        Without the extra `distributed`.
    TypeError
        If X is not a Dask collection.
    ValueError
        On `compute`, if the output of the estimator has another shape or dtype.

    See Also
    --------
    predict_proba : Probabilities in the same way.

    Notes
    -----
    Names of tasks contain no data. A DataFrame made by ``from_pandas`` passes through the
    scheduler; with ``read_parquet`` and ``from_map`` each worker reads its own partitions.

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


def predict_proba(estimator: Any, X: Any, *, dtype: npt.DTypeLike = "float64") -> Any:
    """Predict probabilities for the partitions of a Dask DataFrame, lazily.

    Parameters
    ----------
    estimator : classifier
        A fitted pipeline of `make_medfuse_pipeline`, a search over one, or any classifier whose
        `predict_proba` returns one array. A scattered one is not sent again.
    X : dask.dataframe.DataFrame
        Columns of fit, in partitions.
    dtype : str or dtype, default="float64"
        Type of the estimator's output, which is checked.

    Returns
    -------
    dask.dataframe.DataFrame
        Partitions and index of X; one column per class, or per label, named if `fit` saw names.

    Raises
    ------
    ImportError
        Without the extra `distributed`.
    TypeError
        If X is not a Dask collection, or the classifier has a list of classes per label.
    ValueError
        On `compute`, if the output of the estimator has another shape or dtype.

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


def _output_names(estimator: Any) -> Sequence[Any]:
    """Return names of labels if there are any, else classes."""
    last = getattr(estimator, "best_estimator_", estimator)
    if hasattr(last, "named_steps"):
        last = last.steps[-1][1]
    names = getattr(last, "target_names_", None)
    # A single label comes as two classes
    if names is None or len(names) == 1:
        names = estimator.classes_
    if isinstance(names, list):
        raise TypeError(
            f"{type(last).__name__} returns a list of arrays, one per label; pass a classifier "
            "whose predict_proba is one array, such as MEDFuseClassifier or OneVsRestClassifier."
        )
    return names


def _map_partitions(
    estimator: Any, X: Any, method: str, names: Sequence[Any], dtype: npt.DTypeLike
) -> Any:
    dataframe = import_dask("dask.dataframe")
    dask = import_dask("dask")
    if not isinstance(X, dataframe.DataFrame | dataframe.Series):
        raise TypeError(
            f"X is of type {type(X).__name__}; pass a Dask DataFrame or Series, for example from "
            "dask.dataframe.read_parquet."
        )
    empty = np.empty((0, len(names)), dtype=dtype)
    meta = pd.DataFrame(empty, index=X._meta.index, columns=list(names))
    # One node of the graph, so that it is sent once, and again only if no worker has it any more;
    # without a given name Dask would hash the weights
    node = dask.delayed(estimator, name=f"estimator-{uuid4().hex}", traverse=False)
    return X.map_partitions(_apply, node, method, meta, meta=meta, token=f"medfuse-{method}")


def _apply(partition: Any, estimator: Any, method: str, meta: pd.DataFrame) -> pd.DataFrame:
    if not len(partition):
        return meta
    found = getattr(estimator, method)(partition)
    values = found.to_numpy() if isinstance(found, pd.DataFrame) else np.asarray(found)
    dtype = meta.to_numpy().dtype
    if values.dtype != dtype or values.shape != (len(partition), len(meta.columns)):
        raise ValueError(
            f"{method} returned {values.dtype} of shape {values.shape} for a partition of "
            f"{len(partition)} rows instead of {dtype} and {len(meta.columns)} columns; pass "
            "the dtype of the estimator's output."
        )
    return pd.DataFrame(values, index=partition.index, columns=meta.columns)
