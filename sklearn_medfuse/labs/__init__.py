"""Lab tests: from a table with gaps to one vector per stay."""

from ._masked_lab import MaskedLabEncoder

__all__ = ["MaskedLabEncoder"]
