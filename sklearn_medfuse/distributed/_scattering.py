"""Send a fitted estimator to each Dask worker once, and refer to it by name from then on."""

import copy
import importlib
import pickle
import threading
from types import ModuleType
from typing import Any
from uuid import uuid4

from sklearn.frozen import FrozenEstimator
from sklearn.utils.validation import check_is_fitted

# Scattered estimators of this process by key: as received until one is used, then loaded. The
# lock is reentrant because loading one may load another inside it.
_lock = threading.RLock()
_received: dict[str, bytes] = {}
_loaded: dict[str, Any] = {}


class ScatteredEstimator(FrozenEstimator):
    """A fitted estimator that `scatter` made, pickled as its key; it ignores `fit`."""

    def __init__(self, estimator: Any, key: str) -> None:
        self.estimator = estimator
        self.key = key

    def __getattr__(self, name: str) -> Any:
        # On a worker the estimator is looked up only when it is used
        if name == "estimator":
            return _load(self.key)
        if name.startswith("__") or name == "key":
            raise AttributeError(name)
        return super().__getattr__(name)

    def __reduce__(self) -> tuple[Any, ...]:
        return _from_key, (self.key,)

    def __deepcopy__(self, memo: dict[int, Any]) -> FrozenEstimator:
        return FrozenEstimator(self.estimator)


def _from_key(key: str) -> ScatteredEstimator:
    scattered = ScatteredEstimator.__new__(ScatteredEstimator)
    scattered.key = key
    return scattered


def _receive(key: str, data: bytes) -> None:
    with _lock:
        if key not in _loaded:
            _received[key] = data


def _forget(key: str) -> None:
    with _lock:
        _received.pop(key, None)
        _loaded.pop(key, None)


def _load(key: str) -> Any:
    """Return an estimator, which is loaded once in this process."""
    with _lock:
        if key in _received:
            _loaded[key] = pickle.loads(_received.pop(key))
        if key not in _loaded:
            raise LookupError(
                "This process does not hold the scattered estimator: it was released, belongs to "
                "another cluster, or was saved. Save the result of "
                "sklearn_medfuse.distributed.gather(estimator)."
            )
        return _loaded[key]


def scatter(estimator: Any, *, client: Any = None) -> FrozenEstimator:
    """Send a fitted estimator to each worker of a Dask cluster, once.

    Tasks then carry its name instead of its weights. A worker that starts later receives the
    estimator when it starts.

    Parameters
    ----------
    estimator : estimator
        A fitted encoder or pipeline. An encoder whose language model is not on the workers' disks
        needs ``weights="full"``.
    client : distributed.Client or None, default=None
        Client of the cluster; None takes the current one.

    Returns
    -------
    FrozenEstimator
        Use it like the estimator itself. It is not fitted again. Saving it would save only its
        name: save the result of `gather`.

    Raises
    ------
    ImportError
        Without the extra `distributed`.
    NotFittedError
        If the estimator is not fitted.
    ValueError
        If there is no client.

    See Also
    --------
    gather : Puts the estimator back, so that it can be saved.
    release : Removes the estimator from the workers.

    Notes
    -----
    A bound method such as ``scattered.transform`` would send the estimator along: pass the object
    itself to tasks. Estimators are pickled, so the workers and you must trust each other, and the
    scheduler and the workers hold a model derived from patients' data.

    Examples
    --------
    With the client of a cluster, in a search over the steps after the encoder:

    .. code-block:: python

        encoder = LLMNoteEncoder(weights="full").fit(cohort.X["note"])
        with Client(address) as client:
            notes = scatter(encoder)
            pipe = make_medfuse_pipeline(labs, "note", note_encoder=notes)
            search = GridSearchCV(pipe, {"medfuse__mi_weight": [0.0, 0.01, 0.1]})
            with joblib.parallel_config("dask"):
                search.fit(cohort.X, cohort.y)
            release(notes)
        joblib.dump(gather(search), "search.joblib")

    An estimator that is not fitted is refused:

    >>> from sklearn_medfuse import LLMNoteEncoder
    >>> from sklearn_medfuse.distributed import scatter
    >>> scatter(LLMNoteEncoder())
    Traceback (most recent call last):
    ...
    sklearn.exceptions.NotFittedError: This LLMNoteEncoder instance is not fitted yet. Call 'fit'
    with appropriate arguments before using this estimator.
    """
    check_is_fitted(estimator)
    client = _current_client(client)
    from distributed import WorkerPlugin
    from distributed.protocol import pickle as dask_pickle

    key = uuid4().hex
    data = dask_pickle.dumps(estimator)

    class Delivery(WorkerPlugin):
        # The scheduler sends it once to each worker, including those that start later
        name = _plugin_name(key)

        def setup(self, worker: Any) -> None:
            _receive(key, data)

        def teardown(self, worker: Any) -> None:
            _forget(key)

    with _lock:
        _loaded[key] = estimator
    client.register_plugin(Delivery())
    return ScatteredEstimator(estimator, key)


def gather(estimator: Any) -> Any:
    """Copy an estimator and put scattered parts back, so that it can be saved.

    Parameters
    ----------
    estimator : estimator
        A scattered estimator, or a pipeline or search with scattered parts.

    Returns
    -------
    estimator
        A copy in which each scattered part is replaced by a FrozenEstimator of the original.

    See Also
    --------
    scatter : Sends an estimator to the workers.

    Examples
    --------
    >>> from sklearn_medfuse import LLMNoteEncoder
    >>> from sklearn_medfuse.distributed import gather
    >>> gather(LLMNoteEncoder())
    LLMNoteEncoder()
    """
    return copy.deepcopy(estimator)


def release(estimator: FrozenEstimator, *, client: Any = None) -> None:
    """Remove a scattered estimator from the workers.

    Parameters
    ----------
    estimator : FrozenEstimator
        The result of `scatter`.
    client : distributed.Client or None, default=None
        Client of the cluster; None takes the current one.

    Raises
    ------
    TypeError
        If the estimator was not scattered.

    See Also
    --------
    scatter : Sends an estimator to the workers, with an example of all three functions.

    Examples
    --------
    >>> from sklearn_medfuse import LLMNoteEncoder
    >>> from sklearn_medfuse.distributed import release
    >>> release(LLMNoteEncoder())
    Traceback (most recent call last):
    ...
    TypeError: estimator is of type LLMNoteEncoder; pass the result of scatter.
    """
    if not isinstance(estimator, ScatteredEstimator):
        raise TypeError(
            f"estimator is of type {type(estimator).__name__}; pass the result of scatter."
        )
    _current_client(client).unregister_worker_plugin(_plugin_name(estimator.key))


def _plugin_name(key: str) -> str:
    return f"sklearn-medfuse-{key}"


def _current_client(client: Any) -> Any:
    distributed = import_dask("distributed")
    if client is not None:
        return client
    try:
        return distributed.get_client()
    except ValueError:
        raise ValueError(
            "There is no current Dask client; pass client=distributed.Client(address)."
        ) from None


def import_dask(name: str) -> ModuleType:
    """Import a module of the extra `distributed`, or name the extra."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f"sklearn_medfuse.distributed could not import {name}; it needs Dask: "
            'pip install "sklearn-medfuse[distributed]".'
        ) from error
