"""The waterfall draws the attributions of `inspection`."""

import numpy as np
import pandas as pd
import pytest

from sklearn_medfuse import MaskedLabEncoder, NoteWordEncoder, make_medfuse_pipeline
from sklearn_medfuse.datasets import make_ehr_cohort
from sklearn_medfuse.inspection import lab_attributions
from sklearn_medfuse.plotting import AttributionDisplay

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
