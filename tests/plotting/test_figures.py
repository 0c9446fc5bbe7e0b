"""Names, axes and figures fit, of every display."""

from functools import cache
from inspect import signature
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from sklearn_medfuse import plotting

plt = pytest.importorskip("matplotlib.pyplot")

LONG = "Natriuretic peptide.B prohormone N-Terminal [Mass/volume] in Serum or Plasma"


@cache
def one_of_each(n_labels):
    """Displays with long names, ready to draw."""
    rng = np.random.default_rng(0)
    names = [f"{number} {LONG}" for number in range(n_labels)]
    y = pd.DataFrame(np.tile([0, 1, 1, 0], (n_labels, 10)).T, columns=names)
    p = {name: rng.random(y.shape) for name in ("labs", "labs and notes")}
    effects = pd.Series(rng.normal(size=n_labels), names)
    groups = {"ward": np.array(names)[np.arange(len(y)) % 2]}
    options = {"n_bootstraps": 0}
    return {
        "attributions": plotting.AttributionDisplay(effects, -1, -1 + effects.sum(), LONG),
        "calibration": plotting.CalibrationDisplay.from_predictions(y, p),
        "curves": plotting.LabelCurvesDisplay.from_predictions(y, p),
        "decisions": plotting.DecisionCurveDisplay.from_predictions(y, p),
        "differences": plotting.ModelDifferenceDisplay.from_predictions(y, p, **options),
        "scores": plotting.LabelScoresDisplay.from_predictions(y, p, **options),
        "subgroups": plotting.SubgroupDisplay.from_predictions(
            y, p["labs"], groups, label=names[0], min_count=1, **options
        ),
    }


NAMES = "attributions", "calibration", "curves", "decisions", "differences", "scores", "subgroups"


def test_every_display_is_tried():
    displays = one_of_each(2)
    assert tuple(displays) == NAMES
    assert {type(display).__name__ for display in displays.values()} == set(plotting.__all__)


def written(ax):
    """Boxes of the names and numbers at an axes that are drawn."""
    ticks: list = []
    for axis, limits in ((ax.xaxis, ax.get_xlim()), (ax.yaxis, ax.get_ylim())):
        low, high = sorted(limits)
        ticks += [tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
    texts = [*ticks, ax.title, *ax.texts]
    return [text.get_window_extent() for text in texts if text.get_text() and text.get_visible()]


@pytest.mark.parametrize("n_labels", [2, 10])
@pytest.mark.parametrize("name", NAMES)
def test_long_names_fit_and_leave_the_axes_their_room(name, n_labels):
    figure = one_of_each(n_labels)[name].plot().figure_
    figure.canvas.draw()
    whole = figure.bbox
    titles = [ax.title.get_window_extent() for ax in figure.axes if ax.get_title()]
    for ax in figure.axes:
        ticks = [text.get_window_extent() for text in ax.get_xticklabels()]
        assert not any(title.overlaps(tick) for title in titles for tick in ticks)
        for box in written(ax):
            assert box.x0 >= -1
            assert box.y0 >= -1
            assert box.x1 <= whole.width + 1
            assert box.y1 <= whole.height + 1
        names = ax.get_yticklabels()
        rows = sorted((text.get_window_extent() for text in names), key=lambda box: box.y0)
        for below, above in pairwise(rows):
            assert below.y1 <= above.y0 + 1
        size = ax.get_window_extent()
        assert min(size.width, size.height) > 0.3 * figure.dpi


def test_numbers_stay_inside_the_axes():
    display = plotting.AttributionDisplay(pd.Series({"a": 1.0, "b": -3.0}), 0, -2, "CHF").plot()
    display.figure_.canvas.draw()
    inside = display.ax_.get_window_extent()
    for text in display.ax_.texts:
        box = text.get_window_extent()
        assert inside.x0 <= box.x0
        assert box.x1 <= inside.x1


@pytest.mark.parametrize("name", NAMES)
def test_each_draws_into_given_axes(name):
    display = one_of_each(2)[name]
    figure, axes = plt.subplots(1, 2)
    takes_panels = "axes" in signature(display.plot).parameters
    given = {"axes": axes} if takes_panels else {"ax": axes[0]}
    assert display.plot(**given) is display
    assert display.figure_ is figure
    if takes_panels:
        assert display.axes_.tolist() == axes.tolist()
    else:
        assert display.ax_ is axes[0]
