"""Dask, imported when it is first used."""

import importlib
from types import ModuleType


def import_dask(name: str) -> ModuleType:
    """Import a module of the extra `distributed`, or say what brings it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f"sklearn_medfuse.distributed could not import {name}; it needs Dask: "
            'pip install "sklearn-medfuse[distributed]".'
        ) from error
