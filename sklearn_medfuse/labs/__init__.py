"""Lab tests: from a table with gaps to one vector per stay."""

from ._lab_text import LabTextSerializer
from ._masked_lab import MaskedLabEncoder

__all__ = ["LabTextSerializer", "MaskedLabEncoder"]
