"""The estimate is the arithmetic that it names, on constants that can be found again."""

import numpy as np
import pytest

from sklearn_medfuse import LLMNoteEncoder
from sklearn_medfuse.datasets import load_eicu_demo
from sklearn_medfuse.distributed import embedding_cost


def test_a_case_by_hand():
    # 100 notes of 50 tokens; 2 operations for each of 1,000 weights, half of 4e6 a second
    cost = embedding_cost(
        100, n_devices=5, tokens_per_note=50, n_weights=1000, peak_flops=4e6, utilisation=0.5
    )
    assert cost.tokens == 5000
    assert cost.tokens_per_second == 1000
    assert cost.device_hours == pytest.approx(5 / 3600)
    assert cost.hours == pytest.approx(1 / 3600)


def test_what_was_measured_goes_before_what_is_calculated():
    cost = embedding_cost(3600, tokens_per_note=10, tokens_per_second=10, utilisation=0.1)
    assert cost.hours == 1


@pytest.mark.slow
def test_tokens_per_note_are_those_of_the_bundled_stays(minilm):
    cohort = load_eicu_demo()
    encoder = LLMNoteEncoder(device="cpu").fit(cohort.X[cohort.note_column])
    counts = encoder.report_
    tokens = counts["tokens"] + 2 * counts["windows"]
    assert tokens / (counts["notes"] - counts["without_text"]) == pytest.approx(
        embedding_cost(1).tokens, abs=0.5
    )


def test_the_weights_are_those_of_the_papers_model():
    width, inner, narrow = 4096, 14336, 1024
    attention = 2 * width * width + 2 * width * narrow
    n_weights = 32 * (attention + 3 * width * inner)
    assert embedding_cost(10) == embedding_cost(10, n_weights=n_weights)
    assert embedding_cost(10) != embedding_cost(10, n_weights=n_weights + 10**8)


@pytest.mark.parametrize(
    ("params", "message"),
    [({"n_devices": 0}, "n_devices=0"), ({"utilisation": 1.5}, "at most 1")],
)
def test_impossible_numbers_are_refused(params, message):
    with pytest.raises(ValueError, match=message):
        embedding_cost(10, **params)
    assert np.isfinite(embedding_cost(10).hours)
