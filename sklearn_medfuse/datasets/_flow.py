"""The inclusion diagram of a cohort, as CONSORT asks for it, drawn from its counts."""

from collections.abc import Mapping
from textwrap import TextWrapper

_READ, _KEPT, _DROPPED = "stays read", "stays kept", "stays dropped: "
# The units of the drawing are inches: heights of lines in the main boxes and beside them, the space
# within a box and between boxes, and where boxes begin and end
_LINE, _LINE_BESIDE = 0.2, 0.15
_PADDING, _GAP = 0.1, 0.3
_MAIN, _BESIDE = (0.1, 2.6), (3.1, 6.9)
_CHARACTERS_BESIDE = 56


def draw_flow(counts: Mapping[str, int], ax=None):
    """Draw the `counts` of `Cohort.report`: two boxes, and the stays dropped beside the arrow."""
    read, dropped, kept = flow_steps(counts)
    below_read = -_LINE - 2 * _PADDING
    beside = top = below_read - _GAP
    if dropped:
        beside -= _LINE_BESIDE * len(dropped) + 2 * _PADDING
        top = beside - _GAP
    bottom = top - _LINE * len(kept.split("\n")) - 2 * _PADDING
    if ax is None:
        try:
            import matplotlib.pyplot as plt
        except ImportError as error:
            raise ImportError(
                'Drawing needs matplotlib: run `pip install "sklearn-medfuse[plot]"`.'
            ) from error
        _, ax = plt.subplots(figsize=(_BESIDE[1] + 0.1, 0.2 - bottom), layout="constrained")
    middle = sum(_MAIN) / 2
    for text, ends in ((read, (0.0, below_read)), (kept, (top, bottom))):
        _box(ax, _MAIN, *ends)
        ax.text(middle, sum(ends) / 2, text, ha="center", va="center", fontsize="medium")
    if dropped:
        ends = (below_read - _GAP, beside)
        _box(ax, _BESIDE, *ends)
        height, left = sum(ends) / 2, _BESIDE[0] + _PADDING
        ax.text(left, height, "\n".join(dropped), ha="left", va="center", fontsize="small")
        _arrow(ax, (middle, height), (_BESIDE[0], height))
    _arrow(ax, (middle, below_read), (middle, top))
    ax.set_xlim(0, _BESIDE[1] + 0.1)
    ax.set_ylim(bottom - 0.1, 0.1)
    ax.axis("off")
    return ax


def _box(ax, ends: tuple[float, float], top: float, below: float) -> None:
    from matplotlib.patches import Rectangle

    size = (ends[1] - ends[0], top - below)
    ax.add_patch(Rectangle((ends[0], below), *size, facecolor="white", edgecolor="0.3"))


def _arrow(ax, start: tuple[float, float], end: tuple[float, float]) -> None:
    look = {"arrowstyle": "->", "color": "0.3", "shrinkA": 0, "shrinkB": 0}
    ax.annotate("", end, start, arrowprops=look)


def flow_steps(counts: Mapping[str, int]) -> tuple[str, list[str], str]:
    """Text of the first box, lines beside the arrow, and text of the second box."""
    n_read = counts.get(_READ, 0)
    dropped = {
        what.removeprefix(_DROPPED): n for what, n in counts.items() if what.startswith(_DROPPED)
    }
    n_dropped = sum(dropped.values())
    lines = [f"{n_dropped:,} dropped"] if n_dropped else []
    wrapper = TextWrapper(_CHARACTERS_BESIDE, initial_indent="   ", subsequent_indent="      ")
    for reason, n in dropped.items():
        if n:
            lines += wrapper.wrap(f"{n:,} {reason}")
    kept = f"{counts.get(_KEPT, n_read - n_dropped):,} stays kept"
    for what, n in counts.items():
        if what.startswith(f"{_KEPT}: ") and n:
            kept += f"\n{n:,} {what.removeprefix(f'{_KEPT}: ')}"
    return f"{n_read:,} stays read", lines, kept
