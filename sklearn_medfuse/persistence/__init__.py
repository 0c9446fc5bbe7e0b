"""Files of models that run no code, a cache that does not write its input, and a model's card."""

from ._model_card import model_card
from ._private_memory import PrivateMemory
from ._saved_model import load_model, save_model, trusted_types

__all__ = ["PrivateMemory", "load_model", "model_card", "save_model", "trusted_types"]
