"""The inclusion diagram of a cohort, as CONSORT asks for it, drawn from its counts."""

from collections.abc import Mapping
from itertools import pairwise
from textwrap import fill

_READ, _KEPT, _DROPPED = "stays read", "stays kept", "stays dropped: "
_LINE = 0.34
_GAP = 0.3
_WIDTH = 6.4
_CENTRE = 0.27


def draw_flow(counts: Mapping[str, int], ax=None):
    """Draw one box per step, and to its right what was dropped there.

    Parameters
    ----------
    counts : mapping of str to int
        As `Cohort.report` gives them.
    ax : matplotlib Axes or None
        Where to draw; None makes a figure.

    Returns
    -------
    matplotlib Axes
        The drawing.
    """
    steps = flow_steps(counts)
    heights = [_LINE * (1 + len(side)) + _GAP for _, side in steps]
    if ax is None:
        try:
            import matplotlib.pyplot as plt
        except ImportError as error:
            raise ImportError(
                'Drawing needs matplotlib: run `pip install "sklearn-medfuse[plot]"`.'
            ) from error
        _, ax = plt.subplots(figsize=(_WIDTH, sum(heights) + _GAP), layout="constrained")
    box = {"boxstyle": "square,pad=0.5", "facecolor": "white", "edgecolor": "0.3"}
    y = 0.0
    tops = []
    for (title, side), height in zip(steps, heights, strict=True):
        tops.append(y)
        ax.text(_CENTRE, y, title, ha="center", va="center", fontsize="medium", bbox=box, zorder=3)
        if side:
            beside = y - height / 2
            # the arrow ends at the box, however wide its text makes it
            ax.annotate(
                "\n".join(side),
                (_CENTRE, beside),
                (0.56, beside),
                ha="left",
                va="center",
                fontsize="small",
                bbox=box,
                arrowprops={"arrowstyle": "<-", "color": "0.3", "shrinkB": 0},
            )
        y -= height
    for top, below in pairwise(tops):
        # under the boxes' fill, so it seems to run from edge to edge
        ax.annotate(
            "",
            (_CENTRE, below + 0.8 * _LINE),
            (_CENTRE, top),
            arrowprops={"arrowstyle": "->", "color": "0.3", "shrinkB": 0},
            zorder=1,
        )
    ax.set_xlim(0, 1)
    ax.set_ylim(tops[-1] - _LINE - _GAP, _LINE + 0.1)
    ax.axis("off")
    return ax


def flow_steps(counts: Mapping[str, int]) -> list[tuple[str, list[str]]]:
    """Boxes from top to bottom, each with what is dropped after it.

    Parameters
    ----------
    counts : mapping of str to int
        As `Cohort.report` gives them.

    Returns
    -------
    list of (str, list of str)
        Title of a box, and lines beside the arrow to the next.
    """
    dropped = [
        f"{n:,} {reason.removeprefix(_DROPPED)}"
        for reason, n in counts.items()
        if reason.startswith(_DROPPED) and n
    ]
    n_read = counts.get(_READ, 0)
    n_dropped = sum(n for reason, n in counts.items() if reason.startswith(_DROPPED))
    side = [fill(line, 48, subsequent_indent="   ") for line in dropped]
    if side:
        side = [f"{n_dropped:,} dropped", *side]
    lines = [part for line in side for part in line.split("\n")]
    n_kept = counts.get(_KEPT, n_read - n_dropped)
    without = [
        f"{counts[name]:,} {name.removeprefix('stays kept: ')}"
        for name in counts
        if name.startswith(f"{_KEPT}: ") and counts[name]
    ]
    kept = f"{n_kept:,} stays kept" + (f"\n({', '.join(without)})" if without else "")
    return [(f"{n_read:,} stays read", lines), (kept, [])]
