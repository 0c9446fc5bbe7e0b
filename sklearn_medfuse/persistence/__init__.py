"""A cache for pipelines that does not write its input, and a card that tells no patient's value."""

from ._model_card import model_card
from ._private_memory import PrivateMemory

__all__ = ["PrivateMemory", "model_card"]
