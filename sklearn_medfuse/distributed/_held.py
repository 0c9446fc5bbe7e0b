"""Scattered estimators that this process holds: as they came until one is used, then loaded."""

import pickle
import threading
from typing import Any

# an estimator that is loaded may hold scattered ones itself
_lock = threading.RLock()
_parcels: dict[str, bytes] = {}
_estimators: dict[str, Any] = {}


def keep(key: str, estimator: Any) -> None:
    """Hold an estimator that was made here."""
    with _lock:
        _estimators[key] = estimator


def receive(key: str, data: bytes) -> None:
    """Hold an estimator that was sent here."""
    with _lock:
        if key not in _estimators:
            _parcels[key] = data


def forget(key: str) -> None:
    """Hold it no more."""
    with _lock:
        _parcels.pop(key, None)
        _estimators.pop(key, None)


def held(key: str) -> Any:
    """Give an estimator, loaded once in this process whoever asks."""
    with _lock:
        if key in _parcels:
            _estimators[key] = pickle.loads(_parcels[key])
            del _parcels[key]
        if key not in _estimators:
            raise LookupError(
                "This process does not hold the scattered estimator: it was released, its cluster "
                "is another one, or it was saved. Save what "
                "sklearn_medfuse.distributed.gather(estimator) gives."
            )
        return _estimators[key]
