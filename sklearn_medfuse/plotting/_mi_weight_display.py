"""Score and mutual information against the weight of the mutual information."""

import numpy as np
import pandas as pd

from ._matplotlib import MARKS, import_pyplot


class MIWeightDisplay:
    """Cross-validated score against `mi_weight`, and below it the information left.

    Parameters
    ----------
    scores : DataFrame with the columns mi_weight, mean, std
        Score of each weight, over folds.

    information : DataFrame with the columns mi_weight, mean, std, default=None
        Mutual information likewise, in nats. None draws the score alone.

    score_name : str, default="score"
        Title of the score's axis.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes
        One or two panels.

    figure_ : matplotlib Figure
        Figure of the last drawing.

    See Also
    --------
    sklearn.model_selection.GridSearchCV : Gives the numbers in its `cv_results_`.

    Examples
    --------
    >>> from sklearn_medfuse.plotting import MIWeightDisplay
    >>> results = {
    ...     "param_medfuse__mi_weight": [0.0, 0.1, 1.0],
    ...     "mean_test_score": [0.70, 0.73, 0.71],
    ...     "std_test_score": [0.02, 0.02, 0.03],
    ... }
    >>> display = MIWeightDisplay.from_cv_results(results, score_name="AUPRC")
    >>> display.axes_[0].get_ylabel()
    'AUPRC'
    """

    def __init__(self, scores, information=None, *, score_name="score"):
        self.scores = scores
        self.information = information
        self.score_name = score_name

    @classmethod
    def from_cv_results(
        cls,
        cv_results,
        *,
        param="medfuse__mi_weight",
        metric="score",
        information=None,
        score_name=None,
        axes=None,
    ):
        """Read the results of a search over `mi_weight`, and draw.

        Parameters
        ----------
        cv_results : dict
            `cv_results_` of a fitted search. Where other parameters were searched too, each
            weight is drawn at its best.

        param : str, default="medfuse__mi_weight"
            Name of the weight in the search.

        metric : str, default="score"
            Name of the score; "score" is that of a search with one.

        information : str, default=None
            Name of a score that is the mutual information, made by a scorer that calls
            `mutual_information`. None draws the score alone.

        score_name : str, default=None
            Title of the score's axis. None takes `metric`.

        axes : sequence of matplotlib Axes, default=None
            Where to draw, one or two. None makes a figure.

        Returns
        -------
        display : MIWeightDisplay
            The figure with its numbers.

        Raises
        ------
        ValueError
            If the search knows no such parameter or score.
        """
        wanted = [f"param_{param}"]
        for name in (metric, information):
            wanted += [] if name is None else [f"mean_test_{name}", f"std_test_{name}"]
        unknown = [name for name in wanted if name not in cv_results]
        if unknown:
            raise ValueError(
                f"cv_results has no {unknown[0]!r}; it has {sorted(map(str, cv_results))}."
            )
        table = pd.DataFrame({name: np.asarray(cv_results[name], dtype=float) for name in wanted})
        best = table.groupby(wanted[0])[wanted[1]].idxmax()
        table = table.loc[best].reset_index(drop=True)
        names = ["mi_weight", "mean", "std"]
        scores = table[wanted[:3]].set_axis(names, axis=1)
        left = None
        if information is not None:
            left = table[[wanted[0], *wanted[3:]]].set_axis(names, axis=1)
        display = cls(scores, left, score_name=metric if score_name is None else score_name)
        return display.plot(axes=axes)

    def plot(self, *, axes=None):
        """Draw.

        Parameters
        ----------
        axes : sequence of matplotlib Axes, default=None
            Where to draw, one or two. None makes a figure.

        Returns
        -------
        display : MIWeightDisplay
            This object.
        """
        tables = [(self.scores, self.score_name)]
        if self.information is not None:
            tables.append((self.information, "mutual information (nats)"))
        if axes is None:
            _, axes = import_pyplot().subplots(
                len(tables),
                1,
                sharex=True,
                figsize=(5.4, 0.6 + 2.3 * len(tables)),
                layout="constrained",
                squeeze=False,
            )
        self.axes_ = np.asarray(axes).ravel()
        self.figure_ = self.axes_[0].figure
        for ax, (table, title), (color, marker) in zip(self.axes_, tables, MARKS, strict=False):
            # the weights stand evenly, whatever their values: 0 has no place on a log scale
            ax.errorbar(
                np.arange(len(table)),
                table["mean"],
                yerr=table["std"],
                color=color,
                marker=marker,
                markersize=5.5,
                capsize=3,
                lw=1.2,
            )
            ax.set_ylabel(title)
            ax.grid(axis="y", color="0.85", lw=0.6)
            ax.set_axisbelow(True)
            ax.spines[["top", "right"]].set_visible(False)
        weights = [f"{weight:g}" for weight in self.scores["mi_weight"]]
        self.axes_[-1].set_xticks(np.arange(len(weights)), weights)
        self.axes_[-1].set_xlabel("mi_weight (mean and standard deviation over folds)")
        return self
