"""Clinical notes: from free text to one vector per stay."""

from ._llm_note import LLMNoteEncoder

__all__ = ["LLMNoteEncoder"]
