"""Resamples draw whole groups; intervals and p-values are those of the draws."""

import numpy as np
import pandas as pd
import pytest

from sklearn_medfuse.metrics import _bootstrap, multilabel_report, paired_difference


def compare_by(differences, **options):
    """Compare two models whose scores differ by the given values, resample by resample."""
    # Sample and resamples are scored in turn, each for the first model, then for the second
    n_draws = len(differences)
    scores = iter([0.0, 0.0, *differences, *np.zeros(n_draws)])
    y_true = np.tile([0, 1], 30)
    return paired_difference(
        y_true,
        y_true,
        y_true,
        metric=lambda y_true, y_score: next(scores),
        averages=[],
        n_bootstraps=n_draws,
        random_state=0,
        **options,
    ).iloc[0]


def test_draws_do_not_depend_on_the_block_size(labels, scores, patients, monkeypatch):
    options = {"groups": patients, "n_bootstraps": 10, "random_state": 0}
    together = multilabel_report(labels, scores, **options)
    monkeypatch.setattr(_bootstrap, "_BLOCK_SIZE", 3 * len(labels))
    pd.testing.assert_frame_equal(together, multilabel_report(labels, scores, **options))


def test_interval_holds_the_middle_of_the_draws():
    found = compare_by(np.arange(101.0), confidence_level=0.9)
    assert found["difference_low"] == pytest.approx(5)
    assert found["difference_high"] == pytest.approx(95)


def test_interval_is_of_the_defined_draws():
    found = compare_by([*np.arange(101.0), np.nan, np.nan], confidence_level=0.9)
    assert found["difference_low"] == pytest.approx(5)
    assert found["difference_high"] == pytest.approx(95)


@pytest.mark.parametrize(
    ("differences", "expected"),
    [
        (np.ones(99), 0.02),  # 2 * (1 + 0) / (1 + 99)
        (-np.ones(99), 0.02),
        (np.zeros(99), 1.0),
        (np.r_[np.ones(90), -np.ones(9)], 0.2),
        (np.full(99, np.nan), np.nan),
    ],
)
def test_p_value_by_hand(differences, expected):
    assert compare_by(differences)["p_value"] == pytest.approx(expected, nan_ok=True)
