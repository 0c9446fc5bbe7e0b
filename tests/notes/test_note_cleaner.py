"""NoteCleaner: what goes, what stays, what is counted, and the contract of a text transformer."""

from time import process_time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.utils._param_validation import InvalidParameterError

from sklearn_medfuse import NoteCleaner
from sklearn_medfuse._note_sections import split_sections

# In the manner of MIMIC's discharge summaries; nobody's
DISCHARGE = """\
Admission Date:  [**2151-7-16**]       Discharge Date:  [**2151-8-4**]

HISTORY OF PRESENT ILLNESS:
Short of breath
for two days.

Physical Exam:
BP: 120/80
HEENT: normal

Social History: Lives alone.

DISCHARGE DIAGNOSIS:

Heart failure.
"""


def clean(note, **parameters):
    return NoteCleaner(**parameters).fit_transform([note]).item()


def removed(note, **parameters):
    return NoteCleaner(**parameters).fit([note]).removed_


# Marks


@pytest.mark.parametrize(
    "mark",
    ["[**2151-7-16**]", "[**Known lastname 123**]", "[** Hospital1 **]", "[**A\nB**]", "___"],
)
def test_marks_are_removed_replaced_or_left(mark):
    note = f"Seen by Dr. {mark} today."
    assert clean(note) == "Seen by Dr. today."
    assert clean(note, placeholder="someone") == "Seen by Dr. someone today."
    assert clean(note, placeholder=r"\1") == r"Seen by Dr. \1 today."
    assert clean(note, placeholder=None) == note
    assert removed(note)["marks"] == 1
    assert removed(note, placeholder=None)["marks"] == 0


@pytest.mark.parametrize(
    "text", ["[** open", "a [1] b", "x**] y", "snake___case", "[**" + "a" * 300]
)
def test_what_is_no_mark_stays(text):
    assert clean(text) == text


def test_the_mimic_iv_mark_can_be_the_placeholder():
    assert clean("Dr. [**Last Name**] and ___.", placeholder="___") == "Dr. ___ and ___."


# Blanks, rules, tables


@pytest.mark.parametrize(
    ("note", "expected"),
    [
        ("a  b\t\tc\u00a0 d", "a b c d"),
        ("a  \r\n  b", "a\nb"),
        ("a\n\n\n \n\nb", "a\n\nb"),
        ("a\n----------\nb", "a\n\nb"),
        ("a\n__________ \nb", "a\n\nb"),
        ("Signed: ____________", "Signed:"),
        ("a\n|     |    |\n|     |    |\nb", "a\n\nb"),
        ("a\n+----+----+\n|    |    |\n+----+----+\nb", "a\n\nb"),
        ("| WBC |      |     | 12 |", "| WBC | 12 |"),
        ("a\n- - - -\nb", "a\n\nb"),
        ("a\x0cb", "a\nb"),
    ],
)
def test_blanks_rules_and_empty_tables(note, expected):
    assert clean(note) == expected


@pytest.mark.parametrize("note", ["+", "-", "Reflexes\n++", "a-b -- c", "5.0", "😀", "| 12 | 13 |"])
def test_findings_are_no_empty_tables(note):
    assert clean(note) == note


# Copies


def test_second_copies_of_a_paragraph_go():
    note = "Known COPD.\nOn oxygen.\n\nStable.\n\nKnown  COPD. On\noxygen.\n\nStable.\n\nNew fever."
    assert clean(note) == "Known COPD.\nOn oxygen.\n\nStable.\n\nNew fever."
    assert removed(note)["duplicate_paragraphs"] == 2
    assert clean(note, drop_duplicates=False).count("Stable.") == 2


def test_the_same_answer_under_another_heading_stays():
    note = "Chest:\n\nNormal.\n\nAbdomen:\n\nNormal.\n\nChest:\n\nNormal."
    assert clean(note) == "Chest:\nNormal.\n\nAbdomen:\nNormal."


def test_copies_in_other_notes_stay():
    assert NoteCleaner().fit_transform(["Known COPD.", "Known COPD."])[:, 0].tolist() == [
        "Known COPD.",
        "Known COPD.",
    ]


def test_copies_in_another_column_of_the_same_stay_go():
    frame = pd.DataFrame({"admission": ["a\n\nKnown COPD."], "day 2": ["b\n\nKnown COPD."]})
    assert NoteCleaner().fit_transform(frame).item() == "admission:\na\n\nKnown COPD.\n\nday 2:\nb"


@pytest.mark.parametrize(
    "note", ["LABS:\nLABS:\nNa 140", "Labs:\n\nLABS:\n\nNa 140", "Labs:\nLabs: Na 140"]
)
def test_a_heading_repeated_at_once_stands_once(note):
    assert clean(note).casefold().count("labs:") == 1
    assert "Na 140" in clean(note)
    assert removed(note)["repeated_headings"] == 1


def test_a_heading_with_other_text_below_stays():
    note = "Plan:\nfluids\n\nPlan:\nantibiotics"
    assert clean(note) == note


# Sections


def test_sections_of_a_discharge_summary():
    sections, _ = split_sections(DISCHARGE.splitlines())
    assert [section.name for section in sections] == [
        "admission date",
        "history of present illness",
        "physical exam",
        "social history",
        "discharge diagnosis",
    ]
    assert sections[2].paragraphs == ["Physical Exam:\nBP: 120/80\nHEENT: normal"]


@pytest.mark.parametrize("name", ["Discharge diagnosis", " DISCHARGE  DIAGNOSIS :"])
def test_keep_sections_keeps_nothing_else(name):
    assert clean(DISCHARGE, keep_sections=[name]) == "DISCHARGE DIAGNOSIS:\nHeart failure."
    assert removed(DISCHARGE, keep_sections=[name])["other_sections"] == 4


def test_drop_sections():
    found = clean(DISCHARGE, drop_sections=["social history", "Discharge Diagnosis"])
    assert "alone" not in found
    assert "Heart failure" not in found
    assert "HEENT" in found
    counts = removed(DISCHARGE, drop_sections=["social history", "no such"])["sections"]
    assert counts == {"social history": 1, "no such": 0}


def test_a_section_named_may_begin_within_a_paragraph():
    assert "HEENT" not in clean(DISCHARGE, drop_sections=["HEENT"])
    assert "120/80" in clean(DISCHARGE, drop_sections=["HEENT"])


def test_kept_and_dropped():
    keep = ["Social history", "Physical exam"]
    assert clean(DISCHARGE, keep_sections=keep, drop_sections=keep[1:]) == (
        "Social History: Lives alone."
    )


def test_text_above_the_first_heading_goes_unless_all_is_kept():
    note = "Preamble.\n\nPlan: rest"
    assert clean(note, keep_sections=["plan"]) == "Plan: rest"
    assert clean(note, drop_sections=["plan"]) == "Preamble."


def test_section_names_from_notes_are_not_kept():
    cleaner = NoteCleaner(keep_sections=["plan"]).fit(["Zebulon Quixote: fell\n\nPlan: rest"])
    assert "quixote" not in str(vars(cleaner)).casefold()
    assert cleaner.removed_["other_sections"] == 1


@pytest.mark.parametrize("line", ["at 12:30", "http://x", "plan: rest", "A " * 40 + ": b", ": x"])
def test_lines_without_heading(line):
    assert [section.name for section in split_sections([line])[0]] == [None]


@given(st.text(alphabet="Ab :\n", max_size=60))
def test_splitting_into_sections_loses_no_word(text):
    lines = [" ".join(line.split()) for line in text.splitlines()]
    sections, n_repeated = split_sections(lines)
    found = " ".join(paragraph for _, texts in sections for paragraph in texts).split()
    if not n_repeated:
        assert found == text.split()


def test_a_column_without_heading_is_a_section_by_its_name():
    frame = pd.DataFrame({"note": ["Plan: rest\n\nSocial history: x"], "abnormal labs": ["Na 1"]})
    both = NoteCleaner(keep_sections=["plan", "Abnormal labs"]).fit_transform(frame)
    assert both.item() == "note:\nPlan: rest\n\nabnormal labs:\nNa 1"
    one = NoteCleaner(keep_sections=["plan"]).fit_transform(frame)
    assert one.item() == "note:\nPlan: rest"
    none = NoteCleaner(keep_sections=["exam"]).fit(frame)
    assert none.transform(frame).item() is None
    assert none.removed_["notes"] == 1


# Patterns


def test_patterns_come_first_and_are_counted():
    note = "MRN 4711\nMRN 12\nCough [**1**]."
    parameters = {"patterns": [(r"(?m)^MRN \d+$", ""), (r"(C)ough", r"\1OUGH")]}
    assert clean(note, **parameters) == "COUGH ."
    assert removed(note, **parameters)["pattern_matches"] == 3


@pytest.mark.parametrize(
    "entry", [("(", ""), ("a", r"\7"), ("a",), "abc", ("a", None), (3, "b"), (b"a", b"b"), None]
)
def test_wrong_patterns_are_refused(entry):
    with pytest.raises(ValueError, match=r"patterns\[1\] is not a regular expression"):
        NoteCleaner(patterns=[("a", "b"), entry]).fit(["note"])


# What is counted


def test_counts_of_several_notes():
    notes = ["[**A**] cough", None, "____", "  ", "Plan: rest\n\nPlan: rest"]
    counts = NoteCleaner().fit(notes).removed_
    assert counts == {
        "characters": 8 + 4 + 12,
        "marks": 1,
        "repeated_headings": 0,
        "duplicate_paragraphs": 1,
        "sections": {},
        "other_sections": 0,
        "pattern_matches": 0,
        "notes": 1,
    }


def test_nothing_to_remove_is_counted_as_nothing():
    counts = NoteCleaner().fit(["Known COPD.\n\nPlan: rest", None]).removed_
    assert not any(counts.values())


# Missing


@pytest.mark.parametrize(
    "nothing", [None, np.nan, pd.NA, "", " \n", "____", "[**Name**]", "|  |  |"]
)
def test_missing_or_blank_is_missing(nothing, note_encoder):
    cleaned = NoteCleaner().fit_transform([nothing, "Known COPD."])
    assert cleaned[:, 0].tolist() == [None, "Known COPD."]
    assert np.isnan(note_encoder().fit_transform(cleaned)[0]).all()


def test_paragraphs_are_windows_of_the_encoder(note_encoder):
    pipe = make_pipeline(NoteCleaner(), note_encoder())
    pipe.fit(["Known COPD.\n\n\nKnown COPD.\n_____\nPlan: rest"])
    assert pipe[-1].n_chunks_.tolist() == [2]


# A million characters


MILLION = {
    "marks": "[**A**] " * 125_000,
    "open marks": "[**" * 333_333,
    "open marks with text": ("[**" + "a" * 197) * 5_000,
    "stars": "[" + "*" * 999_999,
    "blanks": " " * 999_999 + "a",
    "blanks on lines": (" " * 999 + "\n") * 1_000 + "a",
    "dashes": "-" * 1_000_000,
    "pairs of dashes": "--a" * 333_333,
    "cells": "|   " * 250_000,
    "cells not empty": "|   a" * 200_000,
    "colons": "A:" * 500_000,
    "one word": "A" * 1_000_000,
    "words": "Aa bb " * 166_666,
    "headings": "Labs:\n" * 166_666,
    "different headings": "".join(f"Labs {i}:\n\nx\n\n" for i in range(60_000)),
    "copies": "Known COPD.\n\n" * 77_000,
}


@pytest.mark.parametrize("kind", MILLION)
def test_a_million_characters_take_linear_time(kind):
    start = process_time()
    clean(MILLION[kind], drop_sections=["plan"])
    assert process_time() - start < 5


# The contract, which scikit-learn does not check for an estimator of text


@given(st.lists(st.one_of(st.none(), st.text(max_size=80)), min_size=1, max_size=4))
def test_any_text_is_cleaned_and_rows_do_not_depend_on_each_other(texts):
    cleaner = NoteCleaner().fit(texts)
    together = cleaner.transform(texts)
    assert together.shape == (len(texts), 1)
    assert [cleaner.transform([text]).item() for text in texts] == together[:, 0].tolist()
    for text in together[:, 0]:
        assert text is None or text.strip()


def test_cleaning_twice_changes_nothing_more():
    once = clean(DISCHARGE)
    assert clean(once) == once


def test_parameters():
    cleaner = NoteCleaner(drop_sections=["plan"], patterns=[("a", "b")])
    assert set(vars(cleaner)) == set(cleaner.get_params()) == set(cleaner._parameter_constraints)
    fitted = clone(cleaner).fit(["a"])
    assert fitted.get_params() == cleaner.get_params() == clone(fitted).get_params()
    assert set(vars(fitted)) - set(vars(cleaner)) == {"n_features_in_", "removed_"}


@pytest.mark.parametrize(
    "parameter",
    [
        {"placeholder": 1},
        {"keep_sections": "plan"},
        {"drop_sections": "plan"},
        {"drop_duplicates": "yes"},
        {"patterns": "a"},
    ],
    ids=lambda parameter: next(iter(parameter)),
)
def test_impossible_parameter_values_are_refused(parameter):
    with pytest.raises(InvalidParameterError, match=next(iter(parameter))):
        NoteCleaner(**parameter).fit(["note"])


@pytest.mark.parametrize("parameter", ["keep_sections", "drop_sections"])
@pytest.mark.parametrize("name", [3, None, " : "])
def test_wrong_section_names_are_refused(parameter, name):
    with pytest.raises(ValueError, match=rf"{parameter}\[1\]="):
        NoteCleaner(**{parameter: ["plan", name]}).fit(["note"])


def test_transform_equals_fit_transform_and_keeps_the_counts(notes):
    cleaner = NoteCleaner()
    expected = cleaner.fit_transform(notes)
    counts = dict(cleaner.removed_)
    np.testing.assert_array_equal(cleaner.transform(notes), expected)
    cleaner.transform(["[**A**]"])
    assert cleaner.removed_ == counts


@pytest.mark.parametrize(
    "form",
    [
        tuple,
        pd.Series,
        lambda notes: pd.DataFrame({"note": notes}),
        lambda notes: np.array(notes, dtype=object)[:, None],
        lambda notes: pd.Series(notes, dtype="str"),
        lambda notes: pd.Series(notes, dtype="string[pyarrow]"),
        lambda notes: pd.Series(notes, dtype="category"),
    ],
    ids=["tuple", "series", "frame", "column", "str dtype", "pyarrow", "categorical"],
)
def test_every_form_of_input_gives_the_same(notes, form):
    expected = NoteCleaner().fit_transform(notes)
    np.testing.assert_array_equal(NoteCleaner().fit_transform(form(notes)), expected)


def test_names_of_input_and_output(notes):
    assert NoteCleaner().fit(notes).get_feature_names_out().tolist() == ["note"]
    cleaner = NoteCleaner().fit(pd.DataFrame({"letter": notes}))
    assert cleaner.get_feature_names_out().tolist() == ["letter"]
    assert cleaner.feature_names_in_.tolist() == ["letter"]
    with pytest.raises(ValueError, match="feature_names_in_"):
        cleaner.get_feature_names_out(["other"])
    with pytest.raises(ValueError, match="feature names should match"):
        cleaner.transform(pd.DataFrame({"other": notes}))
    two = NoteCleaner().fit(pd.DataFrame({"a": notes, "b": notes}))
    assert two.get_feature_names_out().tolist() == ["note"]
    with pytest.raises(ValueError, match="X has 1 features, but NoteCleaner is expecting 2"):
        two.transform(notes)


def test_column_transformer_with_pandas(notes):
    frame = pd.DataFrame({"note": notes}, index=list("abcdef"))
    encode = ColumnTransformer([("clean", NoteCleaner(), "note")]).set_output(transform="pandas")
    out = encode.fit_transform(frame)
    assert out.index.tolist() == list("abcdef")
    assert out.columns.tolist() == ["clean__note"]
    assert out["clean__note"].isna().tolist() == [False, True, False, True, False, False]


def test_not_fitted(notes):
    for call in (NoteCleaner().transform, NoteCleaner().get_feature_names_out):
        with pytest.raises(NotFittedError):
            call(notes)


def test_no_rows_are_refused():
    with pytest.raises(ValueError, match="0 sample"):
        NoteCleaner().fit([])


def test_refused_values_are_not_shown():
    with pytest.raises(TypeError, match="bytes instead of text in row 1") as caught:
        NoteCleaner().fit(["note", b"Zebulon Quixote"])
    assert "Zebulon" not in str(caught.value)


def test_round_trips_clean_the_same(notes, round_trip):
    cleaner = NoteCleaner(patterns=[("COPD", "lung disease")], drop_sections=["plan"]).fit(notes)
    loaded = round_trip(cleaner)
    assert loaded.get_params() == cleaner.get_params()
    assert loaded.removed_ == cleaner.removed_
    np.testing.assert_array_equal(loaded.transform(notes), cleaner.transform(notes))
