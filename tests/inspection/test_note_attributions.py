"""Attributions to notes name what the notes' factors wrote, and are faithful."""

import re
import sys
from copy import deepcopy
from html import unescape
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.pipeline import Pipeline

from sklearn_medfuse import LLMNoteEncoder, MaskedLabEncoder, make_medfuse_pipeline
from sklearn_medfuse.fusion._insight import differentiable_logits
from sklearn_medfuse.inspection import NoteAttributions, deletion_curve, note_attributions

# Disease 1 comes of the factors shared 0 and notes 1, which write these
FINDINGS = ("shortness of breath", "crackles", "swelling", "confusion", "weakness", "slurred")


@pytest.fixture(scope="module")
def attributions(pipe, stays):
    return note_attributions(pipe, stays[:40], "note")


def test_sentences_that_the_factors_wrote_move_the_prediction(attributions, stays):
    effects = {"named": [], "negated": [], "other": []}
    for row, note in enumerate(stays["note"][:40]):
        if not isinstance(note, str):
            continue
        table = attributions.to_frame(row, note)
        for text, effect in zip(table["text"], table["disease 1"], strict=True):
            own = any(finding in text for finding in FINDINGS)
            kind = ("negated" if text.startswith("No ") else "named") if own else "other"
            effects[kind].append(effect)
    mean = {kind: np.mean(each) for kind, each in effects.items()}
    assert mean["negated"] < mean["other"] < mean["named"]
    assert mean["named"] - mean["negated"] > 0.15
    assert abs(mean["other"]) < 0.02


def test_the_first_named_sentences_matter_more_than_random_ones(attributions, pipe, stays):
    for label in attributions.label_names:
        curve = deletion_curve(
            pipe, stays[:40], attributions, label, max_deleted=4, n_random=5, random_state=0
        )
        gap = curve["random"] - curve["attributed"]
        assert (gap.loc[1:] > 2 * curve["random_std"].loc[1:]).all()
        assert curve["attributed"].loc[4] < 0.8 * curve["random"].loc[4]


def test_an_effect_is_that_of_leaving_the_sentence_out(attributions, pipe, stays):
    note = stays["note"].iloc[3]
    spans = attributions.spans[3]
    copy = stays.iloc[[3]].copy()
    start, stop = spans[1]
    copy["note"] = note[:start] + note[stop:]
    p, q = (pipe.predict_proba(X) for X in (stays.iloc[[3]], copy))
    expected = np.log(p / (1 - p)) - np.log(q / (1 - q))
    np.testing.assert_allclose(attributions.effects[3][1], expected[0], atol=1e-9)
    copy["note"] = None
    q = pipe.predict_proba(copy)
    np.testing.assert_allclose(attributions.base[3], np.log(q / (1 - q))[0], atol=1e-9)


def test_a_stay_without_a_note_has_no_units(attributions):
    assert attributions.spans[1] == []
    assert attributions.effects[1].shape == (0, 2)
    np.testing.assert_allclose(attributions.base[1], attributions.predicted[1])


def test_text_is_neither_shown_nor_kept(attributions, stays):
    n_units = sum(map(len, attributions.spans))
    shown = f"NoteAttributions(40 stays, {n_units} sentences, 2 labels, log_odds)"
    assert repr(attributions) == shown
    kept = str(vars(attributions))
    assert "Patient has" in stays["note"].iloc[3] + stays["note"].iloc[4]
    assert "Patient has" not in kept
    assert "text" not in attributions.to_frame(3)


def test_encoders_that_give_polars_are_explained_alike(attributions, pipe, stays):
    pytest.importorskip("polars")
    other = deepcopy(pipe)
    other[0].set_output(transform="polars")
    found = note_attributions(other, stays[:6], "note")
    for row in range(6):
        np.testing.assert_allclose(found.effects[row], attributions.effects[row], atol=1e-9)


def test_the_only_stay_needs_no_position(attributions, pipe, stays):
    one = note_attributions(pipe, stays.iloc[[3]], "note")
    pd.testing.assert_frame_equal(one.to_frame(), attributions.to_frame(3))
    with pytest.raises(ValueError, match="there are 40; pass its position"):
        attributions.to_frame()


def test_html_holds_the_note_and_marks_its_units(attributions, stays):
    note = "Known <COPD> & asthma. No fever.\n\nCosts $5 and $6 a day."
    spans, effects = [(0, 22), (23, 32), (34, len(note))], np.array([[1.0], [-0.5], [0.0]])
    ends = np.zeros((1, 1))
    marked = NoteAttributions([spans], [effects], ends, ends, "note", ["COPD"])
    html = marked.to_html(note, "COPD")
    assert html.count("<mark") == 3
    assert "Known &lt;COPD&gt; &amp; asthma." in html
    assert 'title="+1.000"' in html
    assert html.count("underline dotted") == 1
    assert unescape(re.sub(r"<[^>]+>", "", html)) == note
    # A notebook shows the note where it is asked for, and nowhere else
    assert not hasattr(marked, "_repr_html_")
    with pytest.raises(ValueError, match="label='CHF' must be one of"):
        marked.to_html(note, "CHF")
    for write in (marked.to_frame, lambda row, other: marked.to_html(other, "COPD", row=row)):
        with pytest.raises(ValueError, match="note has 9 characters, fewer than"):
            write(0, "Too short")
    empty = stays["note"][:40].isna().to_numpy().argmax()
    with pytest.raises(ValueError, match=f"position {empty} has no note"):
        attributions.to_html("", "disease 1", row=empty)


@pytest.mark.parametrize("unit", ["sentence", "word", "section"])
def test_units_cover_all_that_is_not_blank(pipe, stays, unit):
    text = "Known COPD.  BP 120/80 mm. Hg fine!\n\n Plan: home oxygen; follow up.\nEnd"
    (spans,) = note_attributions(pipe, stays[:1].assign(note=text), "note", unit=unit).spans
    assert "".join(text[a:b] for a, b in spans).replace(" ", "").replace("\n", "") == "".join(
        text.split()
    )
    assert all(a < b <= c for (a, b), (c, _) in pairwise(spans))
    assert len(spans) == {"sentence": 5, "word": 13, "section": 2}[unit]


# Integrated gradients


@pytest.fixture(scope="module")
def make_language_pipe(cohort, tiny_bert):
    """Return a function that makes a pipeline with a note encoder of the given parameters."""

    def make(note_column, n_estimators, max_epochs, **params):
        encoder = {"dtype": "float32", "device": "cpu", "stride": 4} | params
        return make_medfuse_pipeline(
            cohort.lab_columns,
            note_column,
            views={},
            lab_encoder=MaskedLabEncoder(
                4, d_model=8, n_heads=2, n_layers=1, max_epochs=1, device="cpu"
            ),
            note_encoder=LLMNoteEncoder(tiny_bert, **encoder),
            d_model=8,
            n_heads=2,
            n_estimators=n_estimators,
            max_epochs=max_epochs,
            device="cpu",
            random_state=0,
        )

    return make


@pytest.fixture(scope="module")
def language_pipe(cohort, make_language_pipe):
    pipe = make_language_pipe("note", n_estimators=2, max_epochs=3)
    return pipe.fit(cohort.X[:120], cohort.y[:120])


def test_gradients_add_up_to_the_change_of_the_log_odds(language_pipe, stays, global_random_state):
    pytest.importorskip("captum")
    before = global_random_state()
    found = note_attributions(
        language_pipe, stays[:3], "note", unit="token", method="integrated_gradients", n_steps=24
    )
    assert global_random_state() == before
    p = language_pipe.predict_proba(stays[:3])
    np.testing.assert_allclose(found.predicted, np.log(p / (1 - p)), atol=1e-4)
    for row in (0, 2):
        change = found.predicted[row] - found.base[row]
        np.testing.assert_allclose(found.effects[row].sum(axis=0), change, atol=5e-3)
        assert np.abs(found.effects[row]).max() > 0
    # The second stay has no note, and the first no labs
    assert found.spans[1] == []
    np.testing.assert_allclose(found.base[1], found.predicted[1])


def test_tokens_are_where_they_stand_in_the_note(language_pipe, stays):
    pytest.importorskip("captum")
    found = note_attributions(
        language_pipe,
        stays[2:3],
        "note",
        unit="token",
        method="integrated_gradients",
        labels="disease 2",
        n_steps=1,
    )
    note = stays["note"].iloc[2]
    assert found.effects[0].shape == (len(found.spans[0]), 1)
    # A token per byte, other than at the blank lines on which notes are split
    texts = found.to_frame(0, note)["text"].str.cat()
    assert texts == note.replace("\n\n", "")


def test_gradients_of_the_fusion_are_those_of_finite_differences(language_pipe, stays):
    fuse = language_pipe[-1]
    frame = language_pipe[:-1].transform(stays[:4])
    encoded = frame.to_numpy(dtype=float)
    X = torch.tensor(encoded, requires_grad=True)
    logits = differentiable_logits(fuse, X)
    expected = fuse.decision_function(frame)
    np.testing.assert_allclose(logits.detach(), expected, atol=1e-9)
    (gradient,) = torch.autograd.grad(logits[2, 1], X)
    step = np.zeros_like(encoded)
    step[2, -1] = 1e-4
    changed, back = (
        fuse.decision_function(pd.DataFrame(encoded + sign * step, columns=frame.columns))[2, 1]
        for sign in (1, -1)
    )
    assert float(gradient[2, -1]) == pytest.approx((changed - back) / 2e-4, rel=1e-3)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_classes_have_the_log_odds_of_their_probabilities(language_pipe, cohort, stays, n_classes):
    pytest.importorskip("captum")
    pipe = clone(language_pipe).set_params(medfuse__max_epochs=1)
    y = np.arange(60) % n_classes
    pipe.fit(cohort.X[:60], y)
    found = note_attributions(
        pipe, stays[1:3], "note", unit="token", method="integrated_gradients", n_steps=1
    )
    assert found.label_names == [str(number) for number in range(n_classes)]
    p = pipe.predict_proba(stays[1:3])
    np.testing.assert_allclose(found.predicted, np.log(p / (1 - p)), atol=1e-4)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"method": "attention"}, "method='attention'"),
        ({"unit": "token"}, "unit='token'"),
        ({"method": "integrated_gradients"}, "unit='token'"),
        ({"method": "integrated_gradients", "unit": "token", "n_steps": 0}, "n_steps=0"),
        (
            {"method": "integrated_gradients", "unit": "token", "output": "probability"},
            "output='log_odds'",
        ),
        ({"method": "integrated_gradients", "unit": "token"}, "one LLMNoteEncoder alone"),
        ({"note_column": "letter"}, "note_column='letter'"),
    ],
)
def test_what_does_not_go_together_is_refused(pipe, stays, wrong, message):
    pytest.importorskip("captum")
    options = {"note_column": "note", **wrong}
    with pytest.raises(ValueError, match=message):
        note_attributions(pipe, stays[:1], **options)


def test_without_captum_its_extra_is_named(language_pipe, stays, monkeypatch):
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(ImportError, match=r"sklearn-medfuse\[inspection\]"):
        note_attributions(
            language_pipe, stays[:1], "note", unit="token", method="integrated_gradients"
        )


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("chunk_pooling", "attention", "chunk_pooling='attention'"),
        ("quantization", "8bit", "quantization"),
    ],
)
def test_an_encoder_that_gradients_do_not_pass_is_named(
    language_pipe, stays, monkeypatch, name, value, message
):
    pytest.importorskip("captum")
    monkeypatch.setattr(language_pipe[0].named_transformers_["notes"], name, value)
    with pytest.raises(ValueError, match=message):
        note_attributions(
            language_pipe, stays[:1], "note", unit="token", method="integrated_gradients"
        )


GRADIENTS = {"unit": "token", "method": "integrated_gradients"}


@pytest.fixture(scope="module")
def fit_pipe(cohort, make_language_pipe):
    """Return a function that fits such a pipeline on few stays."""

    def fit(X, note_column, **params):
        pipe = make_language_pipe(note_column, n_estimators=1, max_epochs=2, **params)
        return pipe.fit(X[:60], cohort.y[:60])

    return fit


def check_sum(pipe, X, found, rows):
    """The columns' attributions add up to the change of the log-odds that the pipeline predicts."""
    columns = list(found.values())
    p = pipe.predict_proba(X)
    for each in columns:
        np.testing.assert_allclose(each.predicted, np.log(p / (1 - p)), atol=1e-4)
        np.testing.assert_array_equal(each.base, columns[0].base)
    for row in rows:
        total = sum(each.effects[row].sum(axis=0) for each in columns)
        change = columns[0].predicted[row] - columns[0].base[row]
        np.testing.assert_allclose(total, change, atol=5e-3)
        assert np.abs(change).max() > 1e-2


@pytest.mark.parametrize(
    ("prompt", "chunk_pooling"), [("Find the disease: ", "mean"), ('"{text}" means:', "weighted")]
)
def test_a_prompt_is_the_same_at_both_ends(fit_pipe, cohort, stays, prompt, chunk_pooling):
    pytest.importorskip("captum")
    pipe = fit_pipe(cohort.X, "note", prompt=prompt, chunk_pooling=chunk_pooling)
    X = stays[1:4]
    found = note_attributions(pipe, X, "note", n_steps=24, **GRADIENTS)
    check_sum(pipe, X, {"note": found}, rows=(1, 2))
    # The units are the note's own tokens, at their places in it
    note = X["note"].iloc[1]
    assert found.to_frame(1, note)["text"].str.cat() == note.replace("\n\n", "")
    # A list of one column is that column
    (alone,) = note_attributions(pipe, X, ["note"], n_steps=24, **GRADIENTS).values()
    np.testing.assert_array_equal(alone.effects[1], found.effects[1])


@pytest.fixture(scope="module")
def two_columns(cohort, stays):
    """Stays of whom some have a letter beside the note, some one of both, one neither."""

    def add(X):
        letters = [f"Seen on day {i}.\n\nWeakness since." if i % 3 else None for i in range(len(X))]
        return X.assign(letter=letters)

    X = add(stays[:5])
    X.loc[X.index[4], "letter"] = None
    X.loc[X.index[3], "note"] = None
    X.loc[X.index[0], ["note", "letter"]] = None
    return add(cohort.X), X


@pytest.fixture(scope="module")
def two_column_pipe(fit_pipe, two_columns):
    return fit_pipe(two_columns[0], ["note", "letter"])


def test_several_columns_share_the_change_of_the_log_odds(two_column_pipe, two_columns):
    pytest.importorskip("captum")
    X = two_columns[1]
    found = note_attributions(two_column_pipe, X, ["letter", "note"], n_steps=24, **GRADIENTS)
    assert list(found) == ["letter", "note"]
    check_sum(two_column_pipe, X, found, rows=(1, 2, 4))
    for name, of_column in found.items():
        assert of_column.note_column == name
        for row, cell in enumerate(X[name]):
            if not isinstance(cell, str):
                assert of_column.spans[row] == []
                assert of_column.effects[row].shape == (0, 2)
            else:
                texts = of_column.to_frame(row, cell)["text"].str.cat()
                assert texts == cell.replace("\n\n", "")
    np.testing.assert_allclose(found["note"].base[0], found["note"].predicted[0])


def test_one_of_several_columns_leaves_the_others_as_they_are(two_column_pipe, two_columns):
    pytest.importorskip("captum")
    X = two_columns[1]
    both, letter = (
        note_attributions(two_column_pipe, X, columns, n_steps=24, **GRADIENTS)
        for columns in (["note", "letter"], "letter")
    )
    check_sum(two_column_pipe, X, {"letter": letter}, rows=(1, 2))
    # The second stay has no note, so that both ways go along the same path
    np.testing.assert_allclose(letter.effects[1], both["letter"].effects[1], atol=1e-6)
    np.testing.assert_allclose(letter.base[1], both["letter"].base[1], atol=1e-6)
    assert np.abs(letter.base[2] - both["letter"].base[2]).max() > 1e-3
    # The fifth has no letter: nothing to attribute to, whatever its note says
    np.testing.assert_array_equal(letter.base[4], letter.predicted[4])


def test_a_heading_is_like_a_prompt(two_column_pipe, two_columns, fit_pipe):
    """A row with a letter alone is to the encoder of two columns what a prompt is to that of one.

    Both are byte by byte the same tokens in one window.
    """
    pytest.importorskip("captum")
    X = two_columns[1].iloc[[1]].assign(note=None, letter="Weak since.")
    several = note_attributions(two_column_pipe, X, "letter", n_steps=8, **GRADIENTS)
    one_column = fit_pipe(two_columns[0], "letter", prompt="letter:\n")
    pipe = Pipeline([("encode", one_column[0]), ("medfuse", two_column_pipe[-1])])
    single = note_attributions(pipe, X, "letter", n_steps=8, **GRADIENTS)
    assert single.spans == several.spans
    np.testing.assert_allclose(single.effects[0], several.effects[0], atol=1e-6)
    np.testing.assert_allclose(single.base, several.base, atol=1e-6)


def test_leaving_out_takes_each_column_by_itself(two_column_pipe, two_columns):
    X = two_columns[1][1:3]
    found = note_attributions(two_column_pipe, X, ["note", "letter"])
    alone = note_attributions(two_column_pipe, X, "letter")
    assert found["letter"].spans == alone.spans
    np.testing.assert_allclose(found["letter"].effects[1], alone.effects[1], atol=1e-9)


@pytest.mark.parametrize("columns", [[], ["note", "note"], ["note", "telegram"]])
def test_columns_are_named_once_each(two_column_pipe, two_columns, columns):
    with pytest.raises(ValueError, match="note_column="):
        note_attributions(two_column_pipe, two_columns[1], columns)


def test_columns_of_several_encoders_are_refused(language_pipe, stays):
    pytest.importorskip("captum")
    X = stays[:2]
    lab = X.columns[0]
    with pytest.raises(ValueError, match=f"one LLMNoteEncoder alone reads 'note' and '{lab}'"):
        note_attributions(language_pipe, X, ["note", lab], **GRADIENTS)


def test_the_first_named_tokens_matter_more_than_random_ones(language_pipe, stays):
    pytest.importorskip("captum")
    X = stays[2:8]
    found = note_attributions(
        language_pipe,
        X,
        "note",
        unit="token",
        method="integrated_gradients",
        labels="disease 1",
        n_steps=4,
    )
    curve = deletion_curve(
        language_pipe, X, found, "disease 1", max_deleted=20, n_random=3, random_state=0
    )
    gap = curve["random"] - curve["attributed"]
    assert gap.loc[20] > 3 * curve["random_std"].loc[20]


# Scikit-learn's own advice for y of one column
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.DataConversionWarning")
@pytest.mark.parametrize("as_frame", [False, True])
def test_one_label_keeps_its_name_and_its_sign(language_pipe, stays, cohort, as_frame):
    """The predictions that gradients start from are those of the label, not of its absence."""
    pytest.importorskip("captum")
    y = cohort.y[["disease 1"]] if as_frame else cohort.y["disease 1"]
    pipe = clone(language_pipe).fit(cohort.X[:120], y[:120])
    found = note_attributions(pipe, stays[2:4], "note", n_steps=1, **GRADIENTS)
    assert found.label_names == ["disease 1"]
    p = pipe.predict_proba(stays[2:4])[:, 1:]
    np.testing.assert_allclose(found.predicted, np.log(p / (1 - p)), atol=1e-4)


def test_gradients_name_the_views_that_they_cannot_follow(cohort, language_pipe):
    pipe = make_medfuse_pipeline(
        cohort.lab_columns,
        cohort.note_column,
        views={"words": True},
        lab_encoder=MaskedLabEncoder(4, max_epochs=1),
        note_encoder=language_pipe[0].named_transformers_["notes"],
        n_estimators=1,
        max_epochs=1,
    ).fit(cohort.X[:60], cohort.y[:60])
    with pytest.raises(ValueError, match="fit one with views="):
        note_attributions(pipe, cohort.X[:1], "note", **GRADIENTS)
