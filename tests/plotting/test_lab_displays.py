"""Figures of labs draw the numbers that they hold, of cells that were hidden."""

import numpy as np
import pandas as pd
import pytest

from sklearn_medfuse import MaskedLabEncoder
from sklearn_medfuse.plotting import LabCorrelationDisplay, LabReconstructionDisplay

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
plt = pytest.importorskip("matplotlib.pyplot")

LABS = ["sodium", "urea", "chloride", "ketones", "noise", "never"]


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


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


# reconstruction


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
    with pytest.raises(ValueError, match="no measured lab"):
        LabReconstructionDisplay(cells).plot()


def test_panels_are_the_labs_best_first(encoder, labs):
    display = LabReconstructionDisplay.from_estimator(encoder, labs)
    titles = [ax.get_title().split("\n")[0] for ax in display.axes_]
    assert titles == list(display.r2_.index)
    assert set(titles) == set(LABS) - {"never"}
    assert display.r2_.is_monotonic_decreasing
    assert display.r2_["chloride"] > 0.8
    assert display.r2_["noise"] < 0.2
    for ax, lab in zip(display.axes_, titles, strict=True):
        points = ax.get_lines()[1].get_xydata()
        assert len(points) == (display.cells["lab"] == lab).sum()
        assert ax.get_xlim() == ax.get_ylim()


def test_r2_is_that_of_scikit_learn(encoder, labs):
    from sklearn.metrics import r2_score

    display = LabReconstructionDisplay.from_estimator(encoder, labs, labs=["urea"])
    urea = display.cells[display.cells["lab"] == "urea"]
    assert display.r2_["urea"] == pytest.approx(r2_score(urea["true"], urea["predicted"]))


def test_chosen_labs_in_given_axes(encoder, labs):
    _, axes = plt.subplots(1, 2)
    display = LabReconstructionDisplay.from_estimator(
        encoder, labs, labs=["urea", "sodium"], axes=axes
    )
    assert [ax.get_title().split("\n")[0] for ax in axes] == ["urea", "sodium"]
    assert {ax.get_xlabel() for ax in axes} == {"true value"}
    with pytest.raises(ValueError, match="pass one per lab, that is 1"):
        display.plot(labs=["urea"], axes=axes)
    with pytest.raises(ValueError, match="'never', of which no cell was hidden"):
        display.plot(labs=["never"])


# correlation


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


def test_the_matrix_is_drawn_in_the_order_of_its_ticks(encoder):
    display = LabCorrelationDisplay.from_estimator(encoder)
    correlation = encoder.lab_correlation()
    assert sorted(display.order_) == sorted(set(LABS) - {"never"})
    ticks = [tick.get_text() for tick in display.ax_.get_yticklabels()]
    assert ticks == [tick.get_text() for tick in display.ax_.get_xticklabels()] == display.order_
    drawn = display.ax_.get_images()[0].get_array()
    np.testing.assert_allclose(drawn, correlation.loc[display.order_, display.order_])
    salt = {display.order_.index(lab) for lab in ("sodium", "chloride", "ketones")}
    assert max(salt) - min(salt) == 2


@pytest.mark.parametrize("n_labs", [0, 1, 2])
def test_hardly_any_labs(n_labs):
    correlation = pd.DataFrame(np.eye(n_labs))
    if n_labs:
        assert len(LabCorrelationDisplay(correlation).plot().order_) == n_labs
    else:
        with pytest.raises(ValueError, match="no lab that was measured"):
            LabCorrelationDisplay(correlation).plot()
