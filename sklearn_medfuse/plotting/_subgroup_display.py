"""Scores, or gaps, of groups of patients."""

import numpy as np

from ..metrics import subgroup_report
from ._matplotlib import MARKS, import_pyplot

_SHOWN = {"score": "{}", "gap": "{} less that of {}"}


class SubgroupDisplay:
    """One row per group of patients: its score with interval, or its gap to the others.

    Parameters
    ----------
    report : DataFrame
        What :func:`~sklearn_medfuse.metrics.subgroup_report` gives.

    metric : str, default="auroc"
        What the score is.

    reference : {"rest", "largest"}, default="rest"
        What a gap is taken to.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes of the last drawing.

    figure_ : matplotlib Figure
        Figure of the last drawing.

    See Also
    --------
    sklearn_medfuse.metrics.subgroup_report : The numbers behind the figure.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_medfuse.plotting import SubgroupDisplay
    >>> rng = np.random.default_rng(0)
    >>> y_true = rng.integers(2, size=(400, 2))
    >>> scores = y_true + rng.normal(size=(400, 2))
    >>> display = SubgroupDisplay.from_predictions(
    ...     y_true, scores, {"sex": rng.choice(["F", "M"], 400)}, n_bootstraps=20, random_state=0
    ... )
    >>> [text.get_text() for text in display.ax_.get_yticklabels()]
    ['all (400)', 'sex', 'M (204)', 'F (196)']
    """

    def __init__(self, report, *, metric="auroc", reference="rest"):
        self.report = report
        self.metric = metric
        self.reference = reference

    @classmethod
    def from_predictions(
        cls, y_true, y_score, subgroups, *, label="macro", show="score", ax=None, **options
    ):
        """Score each group, and draw.

        Parameters
        ----------
        y_true : array-like of shape (n_samples, n_labels)
            True labels, 0 or 1.

        y_score : array-like of shape (n_samples, n_labels)
            Scores of one model.

        subgroups : DataFrame of shape (n_samples, n_attributes), Series or dict of columns
            What patients are told apart by, as a cohort's `subgroups`.

        label : str, default="macro"
            The label to draw; "macro" is their mean.

        show : {"score", "gap"}, default="score"
            The groups' scores, or how far they are from the reference.

        ax : matplotlib Axes, default=None
            Where to draw. None makes a figure as high as the groups need.

        **options : dict
            Further parameters of :func:`~sklearn_medfuse.metrics.subgroup_report`.

        Returns
        -------
        display : SubgroupDisplay
            The figure with its numbers.
        """
        report = subgroup_report(y_true, y_score, subgroups, **options)
        settings = {name: options[name] for name in ("metric", "reference") if name in options}
        return cls(report, **settings).plot(label=label, show=show, ax=ax)

    def plot(self, *, label="macro", show="score", ax=None):
        """Draw.

        Parameters
        ----------
        label : str, default="macro"
            The label to draw; "macro" is their mean.

        show : {"score", "gap"}, default="score"
            The groups' scores, or how far they are from the reference.

        ax : matplotlib Axes, default=None
            Where to draw. None makes a figure as high as the groups need.

        Returns
        -------
        display : SubgroupDisplay
            This object.
        """
        if show not in _SHOWN:
            raise ValueError(f"`show` is {show!r}; pass one of {list(_SHOWN)}.")
        rows = self.report[self.report["label"] == label]
        if not len(rows):
            raise ValueError(f"`label` is {label!r}, of which the report has no row.")
        if show == "gap":
            rows = rows[rows["attribute"] != "all"]
        if ax is None:
            n_attributes = rows["attribute"].nunique()
            height = 0.8 + 0.3 * (len(rows) + n_attributes)
            _, ax = import_pyplot().subplots(figsize=(6.4, height), layout="constrained")
        self.ax_, self.figure_ = ax, ax.figure
        place, ticks = _place_groups(rows)
        color, marker = MARKS[0]
        whole = rows["attribute"] == "all"
        line = 0.0 if show == "gap" else rows.loc[whole, "score"].iloc[0]
        ax.axvline(float(line), color="0.35", lw=1, ls=(0, (4, 3)), zorder=1)
        ax.hlines(place, rows[f"{show}_low"], rows[f"{show}_high"], color=color, lw=1.5)
        ax.plot(rows[show], place, ls="none", marker=marker, markersize=5.5, color=color)
        ax.set_yticks(list(ticks), list(ticks.values()))
        for text, height in zip(ax.get_yticklabels(), ticks, strict=True):
            text.set_fontweight("normal" if height in place else "bold")
        for height in place[rows[show].isna().to_numpy()]:
            ax.annotate(
                "too few",
                (0.01, height),
                xycoords=("axes fraction", "data"),
                va="center",
                fontsize="small",
                color="0.35",
            )
        ax.set_ylim(place[-1] + 0.6, -0.6)
        ax.tick_params(axis="y", length=0)
        ax.grid(axis="x", color="0.85", lw=0.6)
        ax.set_axisbelow(True)
        ax.spines[["top", "right", "left"]].set_visible(False)
        what = _SHOWN[show].format(
            self.metric.upper() if len(self.metric) < 6 else self.metric.replace("_", " "),
            "the rest" if self.reference == "rest" else "the largest group",
        )
        of_label = "macro mean" if label == "macro" else str(label).replace("_", " ")
        ax.set_xlabel(f"{what}, {of_label}")
        return self


def _place_groups(rows):
    """Height of each row, and what is written at which height: a heading above each attribute."""
    place, ticks, height, above = [], {}, 0.0, "all"
    for attribute, group, n_samples in zip(
        rows["attribute"], rows["group"], rows["n_samples"], strict=True
    ):
        if attribute != above:
            height += 0.2 if height else 0.0
            ticks[height] = str(attribute)
            height, above = height + 0.9, attribute
        place.append(height)
        ticks[height] = f"{group} ({n_samples:,})"
        height += 1.0
    return np.array(place), ticks
