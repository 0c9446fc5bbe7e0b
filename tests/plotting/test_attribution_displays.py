"""Attributions draw the numbers of `inspection`."""

import re
from html import unescape

import numpy as np
import pandas as pd
import pytest

from sklearn_medfuse import MaskedLabEncoder, NoteWordEncoder, make_medfuse_pipeline
from sklearn_medfuse.datasets import make_ehr_cohort
from sklearn_medfuse.inspection import lab_attributions, note_attributions
from sklearn_medfuse.plotting import AttributionDisplay, NoteAttributionDisplay

pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def cohort():
    return make_ehr_cohort(300, n_labels=2, share_without_notes=0, random_state=0)


@pytest.fixture(scope="module")
def pipe(cohort):
    labs = MaskedLabEncoder(
        8, d_model=8, n_heads=2, n_layers=1, n_factors=4, max_epochs=1, device="cpu"
    )
    pipe = make_medfuse_pipeline(
        cohort.lab_columns,
        "note",
        views={},
        lab_encoder=labs,
        note_encoder=NoteWordEncoder(20),
        d_model=8,
        n_heads=2,
        n_estimators=1,
        max_epochs=3,
        device="cpu",
        random_state=0,
    )
    return pipe.fit(cohort.X[:200], cohort.y[:200])


@pytest.fixture
def stay(cohort):
    labs = cohort.X[cohort.lab_columns].notna().sum(axis=1)
    return cohort.X.loc[[labs[200:].idxmax()]]


def texts(labels):
    return [text.get_text() for text in labels]


# Attributions


def test_bars_lead_from_the_base_to_the_prediction(pipe, cohort, stay):
    display = AttributionDisplay.from_estimator(
        pipe, stay, cohort.lab_columns, "disease 1", units=cohort.units, random_state=0
    )
    found = lab_attributions(pipe, stay, cohort.lab_columns, labels="disease 1", random_state=0)
    bars = display.ax_.patches
    assert len(bars) == 11
    assert bars[0].get_x() == pytest.approx(found.base[0, 0])
    end = bars[-1].get_x() + bars[-1].get_width()
    assert end == pytest.approx(found.predicted[0, 0])
    sizes = [abs(bar.get_width()) for bar in bars[:-1]]
    assert sizes == sorted(sizes, reverse=True)
    names = texts(display.ax_.get_yticklabels())
    first = found.to_frame(0)["disease 1"].abs().idxmax()
    unit = cohort.units[first]
    assert names[0] == f"{first} {stay[first].iloc[0]:g} {unit}".strip()
    assert names[-1] == f"{found.measured.sum() - 10} others"


def test_what_lowers_differs_in_hatch_and_side():
    attributions = pd.Series({"up": 1.0, "down": -0.5})
    up, down = AttributionDisplay(attributions, 0.0, 0.5, "CHF").plot().ax_.patches
    assert (up.get_hatch(), down.get_hatch()) == (None, "////")
    assert up.get_width() > 0 > down.get_width()


def test_a_stay_without_labs_is_refused(pipe, cohort, stay):
    stay[cohort.lab_columns] = np.nan
    with pytest.raises(ValueError, match="no lab measured"):
        AttributionDisplay.from_estimator(pipe, stay, cohort.lab_columns, "disease 1")


def test_one_stay_at_a_time(pipe, cohort):
    with pytest.raises(ValueError, match="`X` has 2 rows"):
        AttributionDisplay.from_estimator(pipe, cohort.X[:2], cohort.lab_columns, "disease 1")
    with pytest.raises(ValueError, match="`X` has 2 rows"):
        NoteAttributionDisplay.from_estimator(pipe, cohort.X[:2], "note", "disease 1")


# Notes

NOTE = "Known <COPD> & asthma. No fever.\n\nCosts $5 and $6 a day, " + "word " * 30 + "end."


@pytest.fixture
def marked():
    spans = [(0, 22), (23, 32), (34, len(NOTE))]
    return NoteAttributionDisplay(NOTE, spans, np.array([1.0, -0.5, 0.0]), "COPD")


def test_html_holds_the_note_and_marks_its_units(marked):
    html = marked.to_html()
    assert html.count("<mark") == 3
    assert "Known &lt;COPD&gt; &amp; asthma." in html
    assert 'title="+1.000"' in html
    assert html.count("underline dotted") == 1
    assert unescape(re.sub(r"<[^>]+>", "", html)) == NOTE


def test_the_picture_holds_the_note_and_colours_its_units(marked):
    marked.plot()
    drawn = " ".join(text.get_text() for text in marked.ax_.texts).replace(r"\$", "$")
    assert drawn.split() == NOTE.split()
    wide = [patch.get_width() for patch in marked.ax_.patches]
    assert wide == [22, 9]
    assert marked.ax_.patches[0].get_alpha() == 2 * marked.ax_.patches[1].get_alpha()
    # Underlined is what lowers
    assert [line.get_xdata()[0] for line in marked.ax_.lines] == [23]


def test_a_note_is_not_in_the_representation(marked):
    assert repr(marked) == "NoteAttributionDisplay(3 units, COPD)"
    # A notebook shows the text of a display that is asked for it, and of no other
    assert not hasattr(marked, "_repr_html_")


def test_from_estimator_takes_the_note_of_the_stay(pipe, stay):
    display = NoteAttributionDisplay.from_estimator(pipe, stay, "note", "disease 2")
    found = note_attributions(pipe, stay, "note", labels="disease 2")
    np.testing.assert_allclose(display.effects, found.effects[0][:, 0])
    assert display.note == stay["note"].iloc[0]
    with pytest.raises(ValueError, match="has no note"):
        NoteAttributionDisplay.from_estimator(pipe, stay.assign(note=None), "note", "disease 2")
