"""Clinical notes: from free text to one vector per stay."""

from ._llm_note import LLMNoteEncoder
from ._note_cleaner import NoteCleaner
from ._note_words import NaiveBayesNoteEncoder, NoteWordEncoder

__all__ = ["LLMNoteEncoder", "NaiveBayesNoteEncoder", "NoteCleaner", "NoteWordEncoder"]
