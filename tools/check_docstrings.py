"""Validate the docstrings, by numpydoc, and the annotations of what is public.

``numpydoc lint`` reads files and takes every function in them for public. What is public here is
what the modules without an underscore name in ``__all__``, so this script imports those. The
checks stand in pyproject.toml under ``[tool.numpydoc_validation]``; an example is asked of public
classes and functions, not of each method.

Run it from the repository's root: ``python tools/check_docstrings.py``.
"""

import functools
import importlib
import inspect
import pkgutil
import sys
import tomllib
from pathlib import Path

from numpydoc.validate import validate

PACKAGE = "sklearn_medfuse"
# The other rooms with annotations have them in private functions too, which mypy checks
ANNOTATED_ROOMS = ("metrics", "model_selection")
ROOT = Path(__file__).parents[1]


def main():
    """Print each fault as ``name: code message``; return 1 if there is one."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    checks = set(settings["tool"]["numpydoc_validation"]["checks"])
    names = sorted(public_names())
    faults = [
        f"{name}: {code} {message}"
        for name, needs_example in names
        for code, message in validate(name)["errors"]
        if code in checks and (needs_example or code != "EX01")
    ]
    faults += [f"{name}: lacks annotations" for name, _ in names if not is_annotated(name)]
    print("\n".join([*faults, f"{len(names)} public docstrings, {len(faults)} faults"]))
    return int(bool(faults))


def public_names():
    """Give (dotted name, needs an example) of public classes, functions and methods."""
    names = set()
    for module_name in public_modules():
        module = importlib.import_module(module_name)
        for name in getattr(module, "__all__", []):
            member = getattr(module, name)
            if inspect.isclass(member) or inspect.isfunction(member):
                names.add((f"{module_name}.{name}", True))
            if inspect.isclass(member):
                names |= {(f"{module_name}.{name}.{method}", False) for method in methods(member)}
    return names


def is_annotated(name):
    """Tell whether a function has all annotations, or is of a room that need not have them."""
    room, *path = name.removeprefix(f"{PACKAGE}.").split(".")
    if room not in ANNOTATED_ROOMS:
        return True
    member = functools.reduce(getattr, path, importlib.import_module(f"{PACKAGE}.{room}"))
    function = member.__init__ if inspect.isclass(member) else member
    if not inspect.isroutine(function):
        return True
    signature = inspect.signature(function)
    wanted = {parameter for parameter in signature.parameters if parameter not in ("self", "cls")}
    return wanted | {"return"} <= set(inspect.unwrap(function).__annotations__)


def public_modules():
    """Give the package and its modules that have no underscore in their path."""
    package = importlib.import_module(PACKAGE)
    found = pkgutil.walk_packages(package.__path__, prefix=f"{PACKAGE}.")
    return [PACKAGE, *(module.name for module in found if "._" not in module.name)]


def methods(public_class):
    """Give the public methods of a class and its bases here, without scikit-learn's requests."""
    own = [base for base in public_class.__mro__ if base.__module__.startswith(PACKAGE)]
    return [
        name
        for name, member in {k: v for base in own for k, v in vars(base).items()}.items()
        if not name.startswith("_")
        and not name.endswith("_request")
        and (
            inspect.isfunction(member) or isinstance(member, classmethod | staticmethod | property)
        )
    ]


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main())
