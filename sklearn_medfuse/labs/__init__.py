"""Lab tests: from a table with gaps to one vector per stay."""

from ._boosted_lab import BoostedLabEncoder
from ._lab_text import LabTextSerializer
from ._masked_lab import MaskedLabEncoder

__all__ = ["BoostedLabEncoder", "LabTextSerializer", "MaskedLabEncoder"]
