"""What drawings share: marks, names that fit, and figures that grow with what they show."""

from __future__ import annotations

import math
from collections.abc import Sequence
from textwrap import fill, wrap
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ._predictions import documented

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Colours of Okabe and Ito (2008), which stay apart under every kind of colour blindness, in an
# order in which neighbours also differ in lightness. Each has a marker of its own.
MARKS = (
    ("#0072B2", "o"),  # Blue
    ("#E69F00", "s"),  # Orange
    ("#009E73", "^"),  # Green
    ("#882255", "D"),  # Wine (Tol 2021): darker in grey print than Okabe and Ito's vermilion
    ("#56B4E9", "v"),  # Sky blue
    ("#CC79A7", "P"),  # Pink
    ("#000000", "X"),  # Black
)

# Line styles beside the colours, so that curves stay apart in grey print
LINES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (2, 1.5)), (0, (7, 2, 1.5, 2)))

REFERENCE: dict[str, Any] = {"color": "0.35", "lw": 1, "ls": (0, (4, 3)), "zorder": 1}

# Inches that a letter and a line of text take in matplotlib's font sizes
LETTER = {"medium": 0.078, "small": 0.065}
LINE = {"medium": 0.17, "small": 0.14}
_LEGEND_LETTERS = 12  # Letters of a legend per inch, marks and gaps included
_PANELS_PER_ROW = 5


def import_pyplot() -> Any:
    """Import matplotlib.pyplot, or say how to install it."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            "Plots need matplotlib, which is not installed: "
            'run `pip install "sklearn-medfuse[plot]"`.'
        ) from error
    return plt


# Names


def fit_name(name: object, width: int = 36) -> str:
    """Wrap a name to at most three lines, the rest cut off."""
    # A dollar sign would start mathematics
    text = str(name).replace("_", " ").replace("$", r"\$")
    return "\n".join(wrap(text, width, max_lines=3, placeholder=" …", break_on_hyphens=False))


def size_of(names: Sequence[str], fontsize: str = "medium") -> tuple[float, float]:
    """Inches that the longest and the highest of the names take."""
    lines = [line for name in names for line in name.split("\n")]
    height = max(name.count("\n") + 1 for name in names)
    return LETTER[fontsize] * max(map(len, lines)), LINE[fontsize] * height


# Rows


def row_axes(
    ax: Axes | None, names: Sequence[str], *, row: float = 0.3, width: float = 4.6
) -> Axes:
    """Give the axes of a drawing with a row per name: the one given, or a figure that fits."""
    if ax is not None:
        return ax
    name_width, name_height = size_of(names)
    figsize = (width + name_width, 1.0 + len(names) * max(row, name_height + 0.05))
    return import_pyplot().subplots(figsize=figsize, layout="constrained")[1]


def finish_rows(ax: Axes, position: Sequence[float] | np.ndarray, names: Sequence[str]) -> None:
    """Name the rows, the first on top, and draw a grid in place of the frame."""
    ax.set_yticks(position, names)
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(position[-1] + 0.55, position[0] - 0.55)
    ax.locator_params(axis="x", nbins=6)
    ax.grid(axis="x", color="0.85", lw=0.6)
    ax.set_axisbelow(True)
    ax.spines[["top", "right", "left"]].set_visible(False)


def draw_intervals(
    ax: Axes, values: Any, low: Any, high: Any, height: Any, *, mark: int = 0, label: str = ""
) -> None:
    """Draw dots at some heights, with their intervals."""
    color, marker = MARKS[mark % len(MARKS)]
    # A mark that repeats in a long list of models comes back hollow
    face = color if mark < len(MARKS) else "white"
    ax.hlines(height, low, high, color=color, lw=1.5, zorder=2)
    style: dict[str, Any] = {"ls": "none", "marker": marker, "markersize": 5.5, "color": color}
    ax.plot(values, height, markerfacecolor=face, label=label, zorder=3, **style)


def legend_above(ax: Axes, names: Sequence[str], *, whole_figure: bool) -> None:
    """Name the marks above the axes, across the whole figure if it is our own."""
    figure: Any = ax.figure
    width = (figure if whole_figure else ax).get_window_extent().width / figure.dpi
    style: dict[str, Any] = {"frameon": False, "handletextpad": 0.4, "columnspacing": 1.6}
    style["ncols"] = _legend_columns(names, int(_LEGEND_LETTERS * width))
    if whole_figure:
        figure.legend(*ax.get_legend_handles_labels(), loc="outside upper center", **style)
        n_lines = math.ceil(len(names) / style["ncols"])
        figure.set_figheight(figure.get_figheight() + LINE["medium"] * n_lines)
    else:
        style |= {"loc": "lower right", "bbox_to_anchor": (1.0, 1.0), "borderaxespad": 0}
        ax.legend(**style)


def _legend_columns(names: Sequence[str], line_length: int) -> int:
    """Columns of a legend: all names in one line if they fit, else lines of even length."""
    mark = 6  # The room of mark and gaps, in characters
    if sum(len(name) + mark for name in names) <= line_length:
        return len(names)
    fitting = max(1, line_length // (max(map(len, names)) + mark))
    n_lines = math.ceil(len(names) / fitting)
    return math.ceil(len(names) / n_lines)


# Panels


class PanelsDisplay:
    """A display with a panel per label; a subclass draws one panel."""

    label_names: Sequence[str]
    axes_: np.ndarray
    figure_: Figure

    @documented
    def plot(self, *, axes: Sequence[Axes] | np.ndarray | None = None) -> Self:
        """Draw.

        Parameters
        ----------
        axes

        Returns
        -------
        display
        """
        own, n_labels = axes is None, len(self.label_names)
        titles = [fit_name(name, 26) for name in self.label_names]
        self.axes_ = np.asarray(self._make_panels(titles) if axes is None else axes).ravel()
        if len(self.axes_) != n_labels:
            raise ValueError(
                f"`axes` has {len(self.axes_)} panels; pass {n_labels}, one for each label."
            )
        figure = self.figure_ = self.axes_[0].figure
        x_title, y_title = self._axis_titles()
        for label, (ax, title) in enumerate(zip(self.axes_, titles, strict=True)):
            ax.spines[["top", "right"]].set_visible(False)
            ax.set_title(title, fontsize="small")
            self._draw_panel(ax, label)
            if numbers := self._numbers(label):
                _write_numbers(ax, numbers, own=own)
            elif not own:
                ax.legend(frameon=False, fontsize="small")
            if not own:
                ax.set(xlabel=x_title, ylabel=y_title)
        if own:
            letters = int((figure.get_figwidth() - 0.4) / LETTER["medium"])
            figure.supxlabel(fill(x_title, letters), fontsize="medium")
            figure.supylabel(y_title, fontsize="medium")
            if names := self.axes_[0].get_legend_handles_labels()[1]:
                legend_above(self.axes_[0], names, whole_figure=True)
        return self

    def _make_panels(self, titles: Sequence[str]) -> np.ndarray:
        n_columns = min(len(titles), _PANELS_PER_ROW)
        n_rows = math.ceil(len(titles) / n_columns)
        # One or two panels are the whole figure
        width, height = (2.4, 2.4) if len(titles) > 2 else (3.2, 3.3)
        height += size_of(titles, "small")[1] + _number_height(len(self._numbers(0)), own=True)
        figsize = (0.4 + width * n_columns, 0.5 + height * n_rows)
        figure, grid = import_pyplot().subplots(
            n_rows, n_columns, figsize=figsize, layout="constrained", squeeze=False
        )
        for spare in grid.ravel()[len(titles) :]:
            figure.delaxes(spare)
        return grid.ravel()[: len(titles)]

    def _draw_panel(self, ax: Axes, label: int) -> None:
        raise NotImplementedError

    def _axis_titles(self) -> tuple[str, str]:
        raise NotImplementedError

    def _numbers(self, label: int) -> dict[str, str]:
        """Return what to write above the curves of a panel, by model."""
        return {}


def _number_height(n_numbers: int, *, own: bool) -> float:
    """Inches that numbers take: two in a line if the figure's legend names the models."""
    return LINE["small"] * (math.ceil(n_numbers / 2) if own else n_numbers)


def _write_numbers(ax: Axes, numbers: dict[str, str], *, own: bool) -> None:
    """Write the numbers above the curves of a square panel, inside its axes.

    Each number stands beside a sample of its model's line, since colours alone would not tell in
    print whose it is.
    """
    lines = {line.get_label(): line for line in ax.lines}
    texts = [number if own else f"{number} {name}" for name, number in numbers.items()]
    ax.legend(
        [lines[name] for name in numbers],
        texts,
        loc="upper left",
        ncols=2 if own else 1,
        fontsize="small",
        frameon=False,
        borderpad=0.0,
        borderaxespad=0.1,
        labelspacing=0.15,
        handlelength=1.2,
        handletextpad=0.4,
        columnspacing=0.8,
    )
    # Both axes end at the same value; the numbers stand above it
    low, high = ax.get_xlim()
    box = ax.get_window_extent()
    inches = min(box.width, box.height) / ax.figure.dpi
    room = 0.05 + _number_height(len(numbers), own=own)
    ax.set_ylim(low, high + (high - low) * room / inches)
    ax.spines["left"].set_bounds(low, high)
