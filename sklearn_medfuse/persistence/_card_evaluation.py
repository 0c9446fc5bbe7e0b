"""What a model card says of the evaluation: metrics, calibration and subgroups with intervals."""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from ..metrics import calibration_report, multilabel_report, subgroup_report
from ..metrics._scorers import predict_positive
from ._card_text import (
    MISSING,
    describe_count,
    describe_interval,
    describe_name,
    describe_row,
    make_table,
)

_RANKING = ("auroc", "auprc", "brier", "prevalence")
# of each share the two cells (truth, decision) that add up to its whole
_DECISIONS = {
    "sensitivity": ((1, 1), (1, 0)),
    "specificity": ((0, 0), (0, 1)),
    "ppv": ((1, 1), (0, 1)),
    "npv": ((0, 0), (1, 0)),
}
_MOST_VALUES = 20


@dataclass
class Evaluation:
    """Reports of a cohort, without labels and groups that are too small.

    Parameters
    ----------
    ranking, decisions, calibration : DataFrame
        Reports per label; `decisions` is None where the estimator makes none.

    subgroups : dict of str to DataFrame
        Report of each metric, empty where the cohort tells nobody apart.

    rare_labels : list of str
        Labels with too few positive or negative stays, which have no score.

    not_shown : dict of str to int
        Attribute → number of groups that are too small.

    left_out : list of str
        Attributes of too many values or of too many numbers.
    """

    ranking: pd.DataFrame
    decisions: pd.DataFrame | None
    calibration: pd.DataFrame
    rare_labels: list[str]
    subgroups: dict[str, pd.DataFrame] = field(default_factory=dict)
    not_shown: dict[str, int] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)


def evaluate(estimator, cohort, y_prob, y_pred, subgroups, min_count, options):
    """Score the cohort.

    Parameters
    ----------
    estimator : object
        A fitted classifier.

    cohort : Cohort
        Stays that it was not fitted on.

    y_prob, y_pred : array-like or None
        Probabilities and decisions; None asks the estimator.

    subgroups : DataFrame or None
        What patients are told apart by.

    min_count : int
        Fewer are not shown.

    options : dict
        `n_bootstraps`, `confidence_level` and `random_state`.

    Returns
    -------
    evaluation : Evaluation
        The reports.
    """
    if y_prob is None:
        y_prob = predict_positive(estimator, cohort.X)
    if y_pred is None and hasattr(estimator, "predict"):
        y_pred = estimator.predict(cohort.X)
    y = pd.DataFrame(cohort.y).astype(float)
    counts = np.minimum((y == 1).sum(), (y == 0).sum())
    rare = counts < min_count
    if rare.all():
        raise ValueError(
            f"No label of `cohort` has {min_count} positive and {min_count} negative stays, so "
            "nothing can be shown; pass a larger cohort."
        )
    # a label that is known of nobody has no score and no share in a mean
    y.loc[:, rare] = np.nan
    options = {"groups": np.asarray(cohort.groups), **options}
    decisions = None
    if y_pred is not None:
        y_pred = np.asarray(y_pred, dtype=float).reshape(y.shape)
        decisions = _score_decisions(y, y_pred, min_count, options)
    found = Evaluation(
        ranking=multilabel_report(
            y, y_prob, metrics=_RANKING, averages=("macro", "micro", "weighted"), **options
        ),
        decisions=decisions,
        calibration=calibration_report(y, y_prob, averages=("macro", "micro"), **options),
        rare_labels=[str(name) for name in y.columns[rare]],
    )
    _compare_groups(found, cohort, y, y_prob, subgroups, min_count, options)
    return found


def _score_decisions(y, y_pred, min_count, options):
    """Score decisions where both parts of a share are large: 4 of 50 would tell the 4."""
    counts = {
        (truth, decision): ((y == truth) & (y_pred == decision)).sum()
        for truth in (0, 1)
        for decision in (0, 1)
    }
    columns: dict[str, pd.Series] = {}
    for metric, cells in _DECISIONS.items():
        shown = np.minimum(*(counts[cell] for cell in cells)) >= min_count
        of_shown = y.copy()
        of_shown.loc[:, ~shown] = np.nan
        report = multilabel_report(of_shown, y_pred, metrics=[metric], **options)
        columns |= {name: report[name] for name in (metric, f"{metric}_low", f"{metric}_high")}
    return pd.DataFrame(columns)


def _compare_groups(found, cohort, y, y_prob, subgroups, min_count, options):
    table = cohort.get("subgroups") if subgroups is None else subgroups
    hospitals = cohort.get("hospitals")
    columns = {} if table is None else {str(name): table[name] for name in table.columns}
    # hospitals have no names in a card, in whichever column they stand
    columns = {
        name: column
        for name, column in columns.items()
        if "hospital" not in name.lower() and not _is_same(column, hospitals)
    }
    columns, found.left_out = _keep_categories(columns)
    if hospitals is not None:
        columns["hospital"] = _number_by_size(hospitals)
    if not columns:
        return
    table = pd.DataFrame({name: np.asarray(column) for name, column in columns.items()})
    for metric in ("auroc", "ece"):
        found.subgroups[metric] = subgroup_report(
            y, y_prob, table, metric=metric, min_count=min_count, **options
        )
    found.not_shown = found.subgroups["auroc"].attrs["n_not_shown"]


def _is_same(column, hospitals):
    return hospitals is not None and pd.Series(np.asarray(column)).equals(
        pd.Series(np.asarray(hospitals))
    )


def _keep_categories(columns):
    kept, left_out = {}, []
    for name, column in columns.items():
        is_age = name == "age" and pd.api.types.is_numeric_dtype(column)
        is_category = not pd.api.types.is_float_dtype(column) and column.nunique() <= _MOST_VALUES
        if is_age or is_category:
            kept[name] = column
        else:
            left_out.append(name)
    return kept, left_out


def _number_by_size(hospitals):
    hospitals = pd.Series(np.asarray(hospitals))
    order = hospitals.value_counts(sort=True).index
    return hospitals.map({name: f"hospital {i + 1}" for i, name in enumerate(order)})


def describe_metrics(found):
    """Write the tables of ranking and decisions.

    Parameters
    ----------
    found : Evaluation
        The reports.

    Returns
    -------
    text : str
        Markdown.
    """
    rows = [
        [
            describe_name(name),
            _percent(row["prevalence"]),
            *(describe_row(row, metric) for metric in ("auroc", "auprc")),
            describe_row(row, "brier", digits=3),
        ]
        for name, row in found.ranking.iterrows()
        if name not in found.rare_labels
    ]
    parts = [make_table(["label", "prevalence", "AUROC", "AUPRC", "Brier score"], rows)]
    if found.decisions is not None:
        rows = [
            [describe_name(name), *(describe_row(row, metric) for metric in _DECISIONS)]
            for name, row in found.decisions.iterrows()
            if name not in found.rare_labels
        ]
        parts += [
            "At the thresholds of the model, which are those of its `predict`. A share is not "
            "shown, and in no mean, where either of its two parts is below the limit:",
            make_table(["label", "sensitivity", "specificity", "PPV", "NPV"], rows),
        ]
    return "\n\n".join(parts)


def describe_calibration(found):
    """Write the table of slope, intercept, observed to expected, and error.

    Parameters
    ----------
    found : Evaluation
        The reports.

    Returns
    -------
    text : str
        Markdown.
    """
    rows = [
        [
            describe_name(name),
            *(describe_row(row, column) for column in ("slope", "intercept", "observed_expected")),
            describe_row(row, "ece", digits=3),
        ]
        for name, row in found.calibration.iterrows()
        if name not in found.rare_labels
    ]
    return make_table(["label", "slope", "intercept", "observed / expected", "ECE"], rows)


def describe_subgroups(found, min_count):
    """Write macro scores and gaps of the groups, and the greatest gap of a label.

    Parameters
    ----------
    found : Evaluation
        The reports.

    min_count : int
        Fewer are not shown.

    Returns
    -------
    text : str
        Markdown; says so where there is none.
    """
    if not found.subgroups:
        return "The cohort does not tell sex, age, ethnicity or hospital."
    auroc, error = (report[report["attribute"] != "all"] for report in found.subgroups.values())
    rows = []
    for (_, row), (_, row_error) in zip(auroc.iterrows(), error.iterrows(), strict=True):
        if row["label"] == "macro":
            rows.append(
                [
                    describe_name(row["attribute"]),
                    describe_name(row["group"]),
                    describe_count(row["n_samples"], min_count),
                    describe_row(row, "score"),
                    describe_row(row, "gap"),
                    describe_row(row_error, "score", digits=3),
                    describe_row(row_error, "gap", digits=3),
                ]
            )
    header = ["attribute", "group", "stays", "macro AUROC", "gap", "macro ECE", "gap"]
    parts = [make_table(header, rows), *_greatest_gaps(auroc)]
    hidden = [
        f"`{describe_name(name)}` {count}" for name, count in found.not_shown.items() if count
    ]
    if hidden:
        parts.append(
            f"Values not shown, as each is that of fewer than {min_count} patients: "
            f"{', '.join(hidden)}."
        )
    if found.left_out:
        names = ", ".join(f"`{describe_name(name)}`" for name in found.left_out)
        parts.append(f"Not broken down, as they hold numbers or many values: {names}.")
    return "\n\n".join(part for part in parts if part)


def _greatest_gaps(auroc):
    labels = auroc[(auroc["label"] != "macro") & auroc["gap"].notna()]
    lines = []
    for attribute, gaps in labels.groupby("attribute", sort=False):
        row = gaps.loc[gaps["gap"].abs().idxmax()]
        interval = describe_interval(row["gap"], row["gap_low"], row["gap_high"])
        lines.append(
            f"- {describe_name(attribute)}: {describe_name(row['label'])} in "
            f"{describe_name(row['group'])}, {interval}"
        )
    if not lines:
        return []
    title = (
        "The greatest gap in AUROC of a single label, of each attribute (picked among many, so "
        "some are this large by chance):"
    )
    return [title, "\n".join(lines)]


def _percent(share):
    return MISSING if not np.isfinite(share) else f"{100 * share:.0f} %"
