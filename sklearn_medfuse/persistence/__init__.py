"""A cache for pipelines that does not write its input."""

from ._private_memory import PrivateMemory

__all__ = ["PrivateMemory"]
