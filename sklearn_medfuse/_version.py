"""Version of the package; apart from `__init__` so that every module may import it."""

__version__ = "0.1.0.dev0"
