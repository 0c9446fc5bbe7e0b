"""A figure with one panel per label, and what models predicted for it."""

import math

import numpy as np
import pandas as pd

from .._private_errors import no_values_in_errors
from ..metrics._inputs import check_labels, check_scores
from ._matplotlib import import_pyplot

_COLUMNS = 5


def label_panels(label_names, axes):
    """Give an axes per label: those given, or a figure of its own.

    Parameters
    ----------
    label_names : list of str
        Names of the labels, the panels' titles.
    axes : sequence of matplotlib Axes or None
        A panel per label.

    Returns
    -------
    axes : ndarray of matplotlib Axes
        A panel per label.
    """
    n_labels = len(label_names)
    if axes is None:
        n_columns = min(n_labels, _COLUMNS)
        n_rows = math.ceil(n_labels / n_columns)
        # one or two panels are the whole figure
        width, height = (2.2, 2.4) if n_labels > 2 else (3.2, 3.0)
        figure, axes = import_pyplot().subplots(
            n_rows,
            n_columns,
            figsize=(0.4 + width * n_columns, 0.7 + height * n_rows),
            layout="constrained",
            squeeze=False,
        )
        for spare in axes.ravel()[n_labels:]:
            figure.delaxes(spare)
        axes = axes.ravel()[:n_labels]
    axes = np.asarray(axes).ravel()
    if len(axes) != n_labels:
        raise ValueError(
            f"`axes` has {len(axes)} panels for {n_labels} labels; pass one per label."
        )
    for ax, name in zip(axes, label_names, strict=True):
        ax.spines[["top", "right"]].set_visible(False)
        ax.set_title(str(name).replace("_", " "), fontsize="small")
    return axes


def name_models(axes):
    """Write the models' names once for all panels of a figure of our own."""
    figure = axes[0].figure
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=len(names), frameon=False)


def name_axes(axes, x_title, y_title, *, own):
    """Write the axes' titles: once for all panels of a figure of our own, else at each panel."""
    if own:
        axes[0].figure.supxlabel(x_title, fontsize="medium")
        axes[0].figure.supylabel(y_title, fontsize="medium")
    else:
        for ax in axes:
            ax.set(xlabel=x_title, ylabel=y_title)


def write_values(ax, what, values, corner, *, with_names):
    """Write a number per model into a panel, each beside a sample of the model's line.

    Colours alone would not tell in print whose number it is.

    Parameters
    ----------
    ax : matplotlib Axes
        Panel in which each model has a line with its name as label.
    what : str
        Name of the number.
    values : dict of str to str
        The numbers by the model's name.
    corner : str
        Place of the legend.
    with_names : bool
        Whether to write the models' names too, as where no legend of the figure does.
    """
    lines = {line.get_label(): line for line in ax.lines}
    texts = [f"{name} {value}" if with_names else value for name, value in values.items()]
    ax.legend(
        [lines[name] for name in values],
        texts,
        title=what,
        loc=corner,
        fontsize="small",
        title_fontsize="small",
        alignment="right" if "right" in corner else "left",
        frameon=True,
        framealpha=0.75,
        edgecolor="none",
        borderpad=0.1,
        borderaxespad=0.3,
        labelspacing=0.15,
        handlelength=1.6,
        handletextpad=0.5,
    ).set_zorder(20)


def check_by_model(values, name):
    """Return what is given by the model's name, if it is a dict and not empty."""
    if not isinstance(values, dict) or not values:
        raise ValueError(
            f"`{name}` must be a dict of at least one model, name to values; got "
            f"{'an empty dict' if isinstance(values, dict) else type(values).__name__}."
        )
    return values


def check_models(y_true, y_scores, target_names, name="y_scores"):
    """Labels, the scores of each model as matrices, and the labels' names.

    Parameters
    ----------
    y_true : array-like of shape (n_samples, n_labels)
        True labels, 0 or 1.
    y_scores : dict of str to array-like of shape (n_samples, n_labels)
        By the model's name.
    target_names : sequence of str or None
        Names of the labels.
    name : str, default="y_scores"
        The parameter's name, for errors.

    Returns
    -------
    y_true : ndarray of shape (n_samples, n_labels)
        Labels.
    y_scores : dict of str to ndarray of shape (n_samples, n_labels)
        Scores.
    target_names : list of str
        Names.
    """
    check_by_model(y_scores, name)
    labels, target_names = check_labels(y_true, target_names)
    scores = {
        str(model): check_scores(values, labels, name=name, labels=y_true)
        for model, values in y_scores.items()
    }
    return labels, scores, target_names


def out_of_fold(cv_results, X, y):
    """Predictions of the estimators of a cross-validation for the rows that they did not see.

    Parameters
    ----------
    cv_results : dict
        What `cross_validate` gives with ``return_estimator=True, return_indices=True``.
    X : DataFrame or array of shape (n_samples, ...)
        The rows.
    y : array-like of shape (n_samples, n_labels)
        The labels.

    Returns
    -------
    rows : int array
        Rows that a fold held out.
    y_score : ndarray of shape (n_rows, n_labels)
        Their probabilities.
    """
    if "estimator" not in cv_results or "indices" not in cv_results:
        raise ValueError(
            "`cv_results` lacks the fitted estimators or their rows; call cross_validate with "
            "return_estimator=True and return_indices=True."
        )
    labels, _ = check_labels(y)
    rows = np.concatenate(cv_results["indices"]["test"])
    parts = []
    for estimator, test in zip(cv_results["estimator"], cv_results["indices"]["test"], strict=True):
        held_out = X.iloc[test] if isinstance(X, pd.DataFrame | pd.Series) else X[test]
        with no_values_in_errors():
            predicted = estimator.predict_proba(held_out)
        parts.append(check_scores(predicted, labels[test]))
    return rows, np.concatenate(parts)
