"""Clinical notes: from free text to one vector per stay."""

from ._llm_note import LLMNoteEncoder
from ._naive_bayes_note import NaiveBayesNoteEncoder
from ._note_cleaner import NoteCleaner
from ._note_word import NoteWordEncoder

__all__ = ["LLMNoteEncoder", "NaiveBayesNoteEncoder", "NoteCleaner", "NoteWordEncoder"]
