"""The encoder tells how well it reconstructs hidden cells and which labs it found related."""

import numpy as np
import pandas as pd
import pytest

from sklearn_medfuse import MaskedLabEncoder

LABS = ["sodium", "urea", "chloride", "ketones", "noise", "never"]


@pytest.fixture(scope="module")
def labs():
    rng = np.random.default_rng(0)
    salt = rng.normal(size=400)
    frame = pd.DataFrame(
        {
            "sodium": 140 + 4 * salt,
            "urea": np.exp(rng.normal(size=400)),
            "chloride": 100 + 3 * (salt + 0.2 * rng.normal(size=400)),
            "ketones": np.where(salt > 0, "2+", "NEG"),
            "noise": rng.normal(size=400),
            "never": np.nan,
        }
    )
    return frame.mask(rng.random(frame.shape) < 0.1)


@pytest.fixture(scope="module")
def encoder(labs):
    encoder = MaskedLabEncoder(4, d_model=8, n_heads=2, n_layers=1, max_epochs=2, random_state=0)
    with pytest.warns(UserWarning, match="1 of 6 lab columns"):
        return encoder.fit(labs)


def test_what_was_hidden_is_compared_with_what_was_there(encoder, labs):
    cells = encoder.reconstruct(labs)
    assert len(cells) == pytest.approx(0.2 * labs.notna().sum().sum(), rel=0.25)
    sodium = cells[cells["lab"] == "sodium"]
    there = np.sort(labs["sodium"].dropna())
    nearest = there[np.searchsorted(there, sodium["true"] - 1e-6).clip(max=len(there) - 1)]
    np.testing.assert_allclose(nearest, sodium["true"], rtol=1e-6)
    assert np.corrcoef(sodium["true"], sodium["predicted"])[0, 1] > 0.9
    assert set(cells.loc[cells["lab"] == "ketones", "true"].round(6)) == {0.0, 1.0}
    assert "never" not in set(cells["lab"])
    errors = np.abs(cells["true"] - cells["predicted"])[cells["lab"] == "urea"]
    assert 0.5 < np.mean(errors < 1.645 * cells.loc[errors.index, "std"]) <= 1


def test_nothing_measured_nothing_to_compare(encoder, labs):
    cells = encoder.reconstruct(labs.mask(labs.notna()))
    assert len(cells) == 0


def test_correlations_are_those_of_the_data(encoder):
    correlation = encoder.lab_correlation()
    assert list(correlation.index) == list(correlation.columns) == LABS
    assert correlation.loc["sodium", "chloride"] > 0.8
    assert abs(correlation.loc["sodium", "noise"]) < 0.2
    assert correlation["never"].isna().all()
    known = correlation.drop(index="never", columns="never").to_numpy()
    np.testing.assert_allclose(known, known.T)
    np.testing.assert_allclose(np.diag(known), 1.0)


def test_without_a_linear_part_there_is_none(labs):
    encoder = MaskedLabEncoder(4, d_model=8, n_heads=2, n_factors=0, max_epochs=1)
    encoder.fit(labs[["sodium", "urea"]])
    with pytest.raises(ValueError, match="n_factors above 0"):
        encoder.lab_correlation()
