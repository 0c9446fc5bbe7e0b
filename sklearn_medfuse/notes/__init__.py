"""Clinical notes: from free text to one vector per stay."""

from ._llm_note import LLMNoteEncoder
from ._note_cleaner import NoteCleaner

__all__ = ["LLMNoteEncoder", "NoteCleaner"]
