"""scatter: a fitted estimator sent to each worker once, and named from then on."""

import copy
from typing import Any
from uuid import uuid4

from sklearn.frozen import FrozenEstimator
from sklearn.utils.validation import check_is_fitted

from ._dask import import_dask
from ._held import held, keep


class ScatteredEstimator(FrozenEstimator):
    """A fitted estimator that travels as its name.

    `scatter` makes it. Like every FrozenEstimator it does not fit, and passes all else on.

    Parameters
    ----------
    estimator : estimator
        The one that was scattered.
    key : str
        What workers know it by.
    """

    def __init__(self, estimator, key: str):
        self.estimator = estimator
        self.key = key

    def __getattr__(self, name):
        # where it was sent to, the estimator is looked up only when something is asked of it
        if name == "estimator":
            return held(self.key)
        if name.startswith("__") or name == "key":
            raise AttributeError(name)
        return super().__getattr__(name)

    def __reduce__(self):
        return _received, (self.key,)

    def __deepcopy__(self, memo):
        return FrozenEstimator(self.estimator)


def _received(key: str) -> ScatteredEstimator:
    scattered = ScatteredEstimator.__new__(ScatteredEstimator)
    scattered.key = key
    return scattered


def scatter(estimator, *, client=None):
    """Send a fitted estimator to each worker of a Dask cluster, once.

    Tasks then carry its name in place of its weights, however many there are. A worker that
    starts later, in the place of one that died for instance, gets it when it starts.

    Parameters
    ----------
    estimator : estimator
        A fitted encoder, or a whole fitted pipeline. An encoder that does not find its language
        model on the workers' disks wants ``weights="full"``.
    client : distributed.Client or None, default=None
        Client of the cluster; None takes the one in use.

    Returns
    -------
    FrozenEstimator
        Used as the estimator itself in a pipeline, under a search, or by `transform` and
        `predict_proba`. It is not fitted again. Saved as it is, it would be the name alone: save
        what `gather` gives.

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
    gather : Puts the estimator back, to save it.
    release : Lets the workers forget it.

    Notes
    -----
    A method of it, ``scattered.transform`` for instance, is the estimator's own: give tasks the
    object itself. Estimators are pickled, so they are sent to workers that you trust and that trust
    you. What was fitted on patients is made from patients' data: the scheduler and the workers
    hold it too.

    Examples
    --------
    With a client of a cluster, in a search over what follows the encoder:

    .. code-block:: python

        encoder = LLMNoteEncoder(weights="full").fit(cohort.X["note"])
        with Client(address) as client:
            notes = scatter(encoder)
            pipe = make_medfuse_pipeline(labs, "note", note_encoder=notes)
            search = GridSearchCV(pipe, {"medfuse__mi_weight": [0.0, 0.1, 1.0]})
            with joblib.parallel_config("dask"):
                search.fit(cohort.X, cohort.y)
            release(notes)
        joblib.dump(gather(search), "search.joblib")

    One that is not fitted has nothing to send:

    >>> from sklearn_medfuse import LLMNoteEncoder
    >>> from sklearn_medfuse.distributed import scatter
    >>> scatter(LLMNoteEncoder())
    Traceback (most recent call last):
    ...
    sklearn.exceptions.NotFittedError: This LLMNoteEncoder instance is not fitted yet. Call 'fit'
    with appropriate arguments before using this estimator.
    """
    distributed = import_dask("distributed")
    from ._parcel import Parcel

    check_is_fitted(estimator)
    client = _client(client)
    key = uuid4().hex
    keep(key, estimator)
    client.register_plugin(Parcel(key, distributed.protocol.pickle.dumps(estimator)))
    return ScatteredEstimator(estimator, key)


def gather(estimator) -> Any:
    """Copy an estimator with what was scattered of it put back, so that it can be saved.

    Parameters
    ----------
    estimator : estimator
        A scattered one, or a pipeline or search with scattered parts.

    Returns
    -------
    estimator
        A copy in which a FrozenEstimator of the estimator itself stands for each scattered one.

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


def release(estimator, *, client=None) -> None:
    """Let the workers forget a scattered estimator.

    Parameters
    ----------
    estimator : FrozenEstimator
        What `scatter` gave.
    client : distributed.Client or None, default=None
        Client of the cluster; None takes the one in use.

    See Also
    --------
    scatter : Sends an estimator to the workers, and has an example of all three.

    Examples
    --------
    >>> from sklearn_medfuse import LLMNoteEncoder
    >>> from sklearn_medfuse.distributed import release
    >>> release(LLMNoteEncoder())
    Traceback (most recent call last):
    ...
    TypeError: estimator is of type LLMNoteEncoder; give what scatter returned.
    """
    if not isinstance(estimator, ScatteredEstimator):
        raise TypeError(
            f"estimator is of type {type(estimator).__name__}; give what scatter returned."
        )
    client = _client(client)
    from ._parcel import plugin_name

    client.unregister_worker_plugin(plugin_name(estimator.key))


def _client(client):
    """Give the client that was given, or the one in use."""
    distributed = import_dask("distributed")
    if client is not None:
        return client
    try:
        return distributed.get_client()
    except ValueError:
        raise ValueError(
            "There is no Dask client to scatter by; pass client=distributed.Client(address)."
        ) from None
