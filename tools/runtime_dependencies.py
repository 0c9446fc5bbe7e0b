"""What a user of the package installs: its requirements and theirs, as they stand here.

The tools that audit and list them share this. What only tests, docs or benchmarks need does not
count, nor what an extra names but is not installed; that is reported.
"""

from importlib.metadata import PackageNotFoundError, distribution
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

PACKAGE = "sklearn-medfuse"
# extras of those who work on the package, not of those who work with it
TOOL_EXTRAS = frozenset({"benchmark", "demo", "dev", "docs", "release", "test"})


class Dependencies(NamedTuple):
    """Versions by name, without local parts such as "+cpu", and names that are not installed."""

    installed: dict[str, str]
    missing: list[str]


def runtime_dependencies(package: str = PACKAGE) -> Dependencies:
    """Follow the requirements of a package, of its users' extras, and of those in turn."""
    offered = distribution(package).metadata.get_all("Provides-Extra") or []
    waiting = [(package, extra) for extra in ("", *offered) if extra not in TOOL_EXTRAS]
    seen: set[tuple[str, str]] = set()
    installed, missing = {}, set()
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        try:
            found = distribution(name)
        except PackageNotFoundError:
            missing.add(name)
            continue
        if name != package:
            installed[canonicalize_name(name)] = Version(found.version).public
        for requirement in map(Requirement, found.requires or []):
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                needed = canonicalize_name(requirement.name)
                waiting += [(needed, each) for each in ("", *requirement.extras)]
    return Dependencies(dict(sorted(installed.items())), sorted(missing))
