"""NoteCleaner: remove marks, blanks, copies and unwanted sections from clinical notes."""

import re
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted

from .._note_sections import Section, section_name, split_sections
from .._state import VersionedStateMixin
from ._texts import NoteColumnsMixin, join_row

# MIMIC-III's "[**Known lastname 123**]" and MIMIC-IV's "___". Every repetition is bounded or ends
# at a bracket, so that the time stays linear in the note's length.
_MARKS = re.compile(r"\[\*\*[^\[\]]{0,200}\*\*\]|(?<!\w)___(?!\w)")
_RULES = re.compile(r"-{3,}|={3,}|~{3,}|#{3,}|_{4,}|\*{4,}")
_EMPTY_CELLS = re.compile(r"(?:\|[ \t]*){2,}")
# A line of these characters alone is part of an empty table or a rule
_TABLE_CHARACTERS = frozenset(" \t|+-_=.:~#*")
_COUNTED = (
    *("characters", "marks", "repeated_headings", "duplicate_paragraphs"),
    *("sections", "other_sections", "pattern_matches", "notes"),
)


class NoteCleaner(NoteColumnsMixin, VersionedStateMixin, TransformerMixin, BaseEstimator):
    """Remove clutter and unwanted sections from clinical notes.

    Removed are, in this order: the user's patterns, de-identification marks, rules and empty
    tables, runs of blanks, sections by name, and paragraphs repeated within a row. A blank line
    separates the remaining paragraphs; `LLMNoteEncoder` splits notes there.

    Parameters
    ----------
    placeholder : str or None, default=""
        Replacement for a de-identification mark, MIMIC-III's ``[** … **]`` or MIMIC-IV's ``___``;
        the default removes it, None keeps it.
    keep_sections : list of str or None, default=None
        Names of the sections to keep, in upper or lower case; everything else is removed, even text
        above the first heading. None keeps everything.
    drop_sections : list of str or None, default=None
        Names of the sections to remove, in upper or lower case.
    drop_duplicates : bool, default=True
        Remove paragraphs that repeat an earlier one of the row; blanks and line breaks are ignored.
    patterns : list of (str, str) or None, default=None
        Regular expressions and replacements, as in `re.sub`, applied in turn to the original note.

    Attributes
    ----------
    n_features_in_ : int
        Number of text columns.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Their names; only if X has string column names.
    removed_ : dict of str to int, or to dict of str to int
        Counts of what was removed in fit: "characters", "marks", "repeated_headings",
        "duplicate_paragraphs", "sections" by name in `drop_sections`, "other_sections" not in
        `keep_sections`, "pattern_matches", and "notes" that are empty after cleaning.

    See Also
    --------
    LLMNoteEncoder : Embeds the cleaned notes.

    Notes
    -----
    A section begins at a heading: a capitalised text of at most six words and a colon, alone on
    its line ("DISCHARGE DIAGNOSIS:") or at the start of a paragraph ("Allergies: none"). Within a
    paragraph, only headings named in `keep_sections` and `drop_sections` begin one, so that
    "BP: 120/80" remains in the examination around it. A section ends where the next one begins;
    name subheadings as well. Several columns are joined under their names, and the text above the
    first heading of a column is a section of that name: with abnormal labs as text beside the note,
    `keep_sections` has to name "abnormal labs".

    Cleaning does not de-identify. A Pipeline with `memory` caches the cleaned notes.

    Examples
    --------
    >>> from sklearn_medfuse import NoteCleaner
    >>> note = '''Admitted [**2151-7-16**]   to the ward.
    ... SOCIAL HISTORY:
    ... Lives with [**Known lastname 12**].
    ...
    ... DISCHARGE DIAGNOSIS:
    ... Heart failure.'''
    >>> cleaner = NoteCleaner(drop_sections=["Social history"])
    >>> print(cleaner.fit_transform([note])[0, 0])
    Admitted to the ward.
    <BLANKLINE>
    DISCHARGE DIAGNOSIS:
    Heart failure.
    >>> cleaner.removed_["marks"], cleaner.removed_["sections"]
    (2, {'social history': 1})
    """

    _parameter_constraints: dict = {
        "placeholder": [str, None],
        "keep_sections": [list, tuple, None],
        "drop_sections": [list, tuple, None],
        "drop_duplicates": ["boolean"],
        "patterns": [list, tuple, None],
    }

    def __init__(
        self,
        *,
        placeholder="",
        keep_sections=None,
        drop_sections=None,
        drop_duplicates=True,
        patterns=None,
    ):
        self.placeholder = placeholder
        self.keep_sections = keep_sections
        self.drop_sections = drop_sections
        self.drop_duplicates = drop_duplicates
        self.patterns = patterns

    def fit(self, X, y=None):
        """Check the parameters and count what is removed from the notes.

        Parameters
        ----------
        X : list, array, Series, DataFrame or Arrow table of shape (n_notes,) or (n_notes, k)
            Texts; None, NaN, null and blank mean no note. Several columns are joined.
        y : None
            Ignored.

        Returns
        -------
        NoteCleaner
            The fitted cleaner.

        Raises
        ------
        ValueError
            If an entry of `patterns`, `keep_sections` or `drop_sections` cannot be used.
        """
        self.fit_transform(X)
        return self

    def fit_transform(self, X, y=None):
        """Clean the notes and count what is removed.

        Parameters
        ----------
        X : list, array, Series, DataFrame or Arrow table of shape (n_notes,) or (n_notes, k)
            Texts, as in `fit`.
        y : None
            Ignored.

        Returns
        -------
        object ndarray of shape (n_notes, 1)
            The cleaned notes; None if there is no note or nothing is left of it.
        """
        self._validate_params()
        rules = self._rules()
        cleaned, counts = _clean_notes(self._read_columns(X, first=True), self._headings(), rules)
        self.removed_ = _report(counts, rules)
        return cleaned

    def transform(self, X):
        """Clean notes.

        Parameters
        ----------
        X : list, array, Series, DataFrame or Arrow table of shape (n_notes,) or (n_notes, k)
            Texts in the same columns as in fit.

        Returns
        -------
        object ndarray of shape (n_notes, 1)
            The cleaned notes; None if there is no note or nothing is left of it.
        """
        check_is_fitted(self)
        columns = self._read_columns(X, first=False)
        return _clean_notes(columns, self._headings(), self._rules())[0]

    def get_feature_names_out(self, input_features=None):
        """Give the name of the column of text.

        Parameters
        ----------
        input_features : array-like of str or None, default=None
            Names of the text columns; checked against those of fit.

        Returns
        -------
        object ndarray of shape (1,)
            The column's name if fit had only one, else "note".
        """
        check_is_fitted(self)
        names = _check_feature_names_in(self, input_features, generate_names=False)
        only = names is not None and len(names) == 1
        return np.array([names[0] if only else "note"], dtype=object)

    def _rules(self) -> "_Rules":
        keep = self.keep_sections
        return _Rules(
            self.placeholder,
            self.drop_duplicates,
            _compiled(self.patterns or ()),
            None if keep is None else _section_names(keep, "keep_sections"),
            _section_names(self.drop_sections or (), "drop_sections"),
        )


class _Rules(NamedTuple):
    """A cleaner's parameters, checked and ready for use."""

    placeholder: str | None
    drop_duplicates: bool
    patterns: list[tuple[re.Pattern, str]]
    # Names of sections; None keeps all
    keep: set[str] | None
    drop: set[str]


def _compiled(patterns: Iterable) -> list[tuple[re.Pattern, str]]:
    compiled = []
    for i, entry in enumerate(patterns):
        try:
            expression, replacement = entry
            pattern = re.compile(expression)
            # Finds a wrong group reference in the replacement, which re.compile does not see
            pattern.sub(replacement, "")
            if not isinstance(expression, str) or not isinstance(replacement, str):
                raise TypeError("both must be str")
        except (re.error, TypeError, ValueError, IndexError) as error:
            raise ValueError(
                f"patterns[{i}] is not a regular expression and its replacement: {error}. Give "
                "two str, as for re.sub."
            ) from None
        compiled.append((pattern, replacement))
    return compiled


def _section_names(names: Iterable, parameter: str) -> set[str]:
    for i, name in enumerate(names):
        if not isinstance(name, str) or not section_name(name):
            raise ValueError(
                f"{parameter}[{i}]={name!r} is not a heading; give a str such as "
                "'Discharge diagnosis'."
            )
    return {section_name(name) for name in names}


def _clean_notes(
    columns: list[list[str | None]], names: list[str], rules: _Rules
) -> tuple[np.ndarray, Counter]:
    counts: Counter = Counter()
    # With several columns, the text above the first heading is a section named after its column
    above = [section_name(name) for name in names] if len(names) > 1 else [None]
    cleaned = np.full((len(columns[0]), 1), None, dtype=object)
    for i, row in enumerate(zip(*columns, strict=True)):
        seen: set[str] = set()
        texts = [
            None if text is None else _clean_text(text, name, rules, seen, counts)
            for text, name in zip(row, above, strict=True)
        ]
        cleaned[i, 0] = join_row(texts, names)
        counts["notes"] += cleaned[i, 0] is None and any(text is not None for text in row)
    return cleaned, counts


def _clean_text(
    text: str, above: str | None, rules: _Rules, seen: set[str], counts: Counter
) -> str | None:
    length = len(text)
    text = _replace(text, rules, counts)
    sections, n_repeated = split_sections(
        _tidy_lines(text), rules.drop | (rules.keep or set()), above
    )
    counts["repeated_headings"] += n_repeated
    paragraphs = _wanted(sections, rules, counts)
    if rules.drop_duplicates:
        paragraphs = _without_duplicates(paragraphs, seen, counts)
    cleaned = "\n\n".join(paragraphs)
    counts["characters"] += length - len(cleaned)
    return cleaned or None


def _replace(text: str, rules: _Rules, counts: Counter) -> str:
    for pattern, replacement in rules.patterns:
        text, n = pattern.subn(replacement, text)
        counts["pattern_matches"] += n
    if (placeholder := rules.placeholder) is not None:
        # A function, because a backslash in a replacement string would be an escape
        text, n = _MARKS.subn(lambda _: placeholder, text)
        counts["marks"] += n
    return text


def _tidy_lines(text: str) -> list[str]:
    """Lines with single blanks and without rules; a line of nothing else becomes empty."""
    text = _EMPTY_CELLS.sub("| ", _RULES.sub(" ", text))
    lines = (" ".join(line.split()) for line in text.splitlines())
    # "-", "+" and "++" may be findings
    return [
        line if line == "-" or not line.strip("+") or set(line) - _TABLE_CHARACTERS else ""
        for line in lines
    ]


def _wanted(sections: list[Section], rules: _Rules, counts: Counter) -> list[str]:
    paragraphs = []
    for name, texts in sections:
        if name in rules.drop:
            counts["sections", name] += 1
        elif rules.keep is not None and name not in rules.keep:
            counts["other_sections"] += 1
        else:
            paragraphs += texts
    return paragraphs


def _without_duplicates(paragraphs: list[str], seen: set[str], counts: Counter) -> list[str]:
    new = []
    for paragraph in paragraphs:
        # Lines have single blanks by now, but copies may be wrapped differently
        unwrapped = paragraph.replace("\n", " ")
        if unwrapped in seen:
            counts["duplicate_paragraphs"] += 1
        else:
            seen.add(unwrapped)
            new.append(paragraph)
    return new


def _report(counts: Counter, rules: _Rules) -> dict[str, int | dict[str, int]]:
    """Counts by fixed keys and by the user's names, as a heading in a note may name a person."""
    sections = {name: counts["sections", name] for name in sorted(rules.drop)}
    return {name: counts[name] for name in _COUNTED} | {"sections": sections}
