"""The inclusion diagram of a cohort, as CONSORT asks for it, drawn from its counts."""

from collections.abc import Mapping
from itertools import pairwise
from textwrap import fill

_READ, _KEPT, _DROPPED = "stays read", "stays kept", "stays dropped: "
# The units of the drawing are inches: heights of lines in the main boxes and beside them, the space
# within a box and between boxes, and where boxes begin and end.
_LINE, _LINE_BESIDE = 0.2, 0.15
_PADDING, _GAP = 0.1, 0.3
_MAIN, _BESIDE = (0.1, 2.6), (3.1, 6.9)
_CHARACTERS_BESIDE = 56


def draw_flow(counts: Mapping[str, int], ax=None):
    """Draw the `counts` of `Cohort.report`: a box per step, and the stays dropped beside it."""
    steps = flow_steps(counts)
    places = _places(steps)
    bottom = min(place[-1] for place in places if place)
    if ax is None:
        try:
            import matplotlib.pyplot as plt
        except ImportError as error:
            raise ImportError(
                'Drawing needs matplotlib: run `pip install "sklearn-medfuse[plot]"`.'
            ) from error
        _, ax = plt.subplots(figsize=(_BESIDE[1] + 0.1, 0.2 - bottom), layout="constrained")
    middle = sum(_MAIN) / 2
    for (title, side), (top, below, beside_top, beside_below) in zip(steps, places, strict=True):
        _box(ax, _MAIN, top, below)
        ax.text(middle, (top + below) / 2, title, ha="center", va="center", fontsize="medium")
        if side:
            _box(ax, _BESIDE, beside_top, beside_below)
            beside = (beside_top + beside_below) / 2
            left = _BESIDE[0] + _PADDING
            ax.text(left, beside, "\n".join(side), ha="left", va="center", fontsize="small")
            _arrow(ax, (middle, beside), (_BESIDE[0], beside))
    for above, under in pairwise(places):
        _arrow(ax, (middle, above[1]), (middle, under[0]))
    ax.set_xlim(0, _BESIDE[1] + 0.1)
    ax.set_ylim(bottom - 0.1, 0.1)
    ax.axis("off")
    return ax


def _places(steps: list[tuple[str, list[str]]]) -> list[tuple[float, float, float, float]]:
    """Top and bottom of each box, and of the one beside the arrow that leaves it."""
    places, top = [], 0.0
    for title, side in steps:
        below = top - _LINE * len(title.split("\n")) - 2 * _PADDING
        beside_top = below - _GAP
        beside_below = beside_top - (_LINE_BESIDE * len(side) + 2 * _PADDING if side else 0.0)
        places.append((top, below, beside_top, beside_below if side else below))
        top = beside_below - (_GAP if side else 0.0)
    return places


def _box(ax, ends: tuple[float, float], top: float, below: float) -> None:
    from matplotlib.patches import Rectangle

    size = (ends[1] - ends[0], top - below)
    ax.add_patch(Rectangle((ends[0], below), *size, facecolor="white", edgecolor="0.3"))


def _arrow(ax, start: tuple[float, float], end: tuple[float, float]) -> None:
    look = {"arrowstyle": "->", "color": "0.3", "shrinkA": 0, "shrinkB": 0}
    ax.annotate("", end, start, arrowprops=look)


def flow_steps(counts: Mapping[str, int]) -> list[tuple[str, list[str]]]:
    """Boxes from top to bottom: the title, and the lines beside the arrow to the next box."""
    dropped = [
        f"{n:,} {reason.removeprefix(_DROPPED)}"
        for reason, n in counts.items()
        if reason.startswith(_DROPPED) and n
    ]
    n_read = counts.get(_READ, 0)
    n_dropped = sum(n for reason, n in counts.items() if reason.startswith(_DROPPED))
    side = [
        fill(line, _CHARACTERS_BESIDE, initial_indent="   ", subsequent_indent="      ")
        for line in dropped
    ]
    if side:
        side = [f"{n_dropped:,} dropped", *side]
    lines = [part for line in side for part in line.split("\n")]
    n_kept = counts.get(_KEPT, n_read - n_dropped)
    without = [
        f"{counts[name]:,} {name.removeprefix('stays kept: ')}"
        for name in counts
        if name.startswith(f"{_KEPT}: ") and counts[name]
    ]
    kept = f"{n_kept:,} stays kept" + "".join(f"\n{part}" for part in without)
    return [(f"{n_read:,} stays read", lines), (kept, [])]
