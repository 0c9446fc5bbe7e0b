"""Every public name, read from the package itself, and how the suite calls each."""

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from typing import NamedTuple

import sklearn_medfuse


class Call(NamedTuple):
    """How a public name is called with patients' data.

    Attributes
    ----------
    target : callable
        (world, fitted, folder) → what is called.
    good : callable
        (world, fitted, folder) → arguments that it takes.
    data : tuple of str
        Those of the arguments that hold patients' data, each replaced by hostile values in turn.
    """

    target: Callable
    good: Callable
    data: tuple[str, ...] = ()


def public_names() -> set[str]:
    """Functions, and classes with each of their public methods, as "room.Class.method"."""
    found: dict[int, str] = {}
    for module in [sklearn_medfuse, *map(importlib.import_module, _public_modules())]:
        room = module.__name__.partition(".")[2]
        for name in _listed(module):
            each = getattr(module, name)
            # Under the shortest of its addresses
            address = f"{room}.{name}" if room else name
            if callable(each):
                found[id(each)] = min(address, found.get(id(each), address), key=len)
    names: set[str] = set()
    for address in found.values():
        each = _resolve(address)
        names |= {f"{address}.{method}" for method in _methods(each)} | {address}
    return names


def _public_modules() -> list[str]:
    walked = pkgutil.walk_packages(sklearn_medfuse.__path__, "sklearn_medfuse.")
    return [module.name for module in walked if "._" not in module.name]


def _listed(module) -> list[str]:
    own = [
        name
        for name, each in vars(module).items()
        if getattr(each, "__module__", None) == module.__name__ and not name.startswith("_")
    ]
    return [name for name in getattr(module, "__all__", own) if not name.startswith("_")]


def _resolve(address: str):
    room, _, name = address.rpartition(".")
    module = importlib.import_module(".".join(filter(None, ["sklearn_medfuse", room])))
    return getattr(module, name)


def _methods(each) -> list[str]:
    """Public methods of a class, those of scikit-learn and joblib included; of a dict's none."""
    if not inspect.isclass(each):
        return []
    of_dict = dir(dict) if issubclass(each, dict) else ()
    return [
        name
        for name in dir(each)
        if not name.startswith("_") and callable(getattr(each, name, None)) and name not in of_dict
    ]
