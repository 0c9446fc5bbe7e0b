"""A card that says what a model is for, how well it does, and where it fails."""

from __future__ import annotations

import os
import platform
import re
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sklearn.utils import Bunch

from .._version import __version__
from ..metrics import calibration_report, multilabel_report, subgroup_report
from ..metrics._inputs import as_floats, check_labels
from ..metrics._scorers import predict_positive

if TYPE_CHECKING:
    from skops.card import Card

_LIBRARIES = ["numpy", "pandas", "scikit-learn", "scipy"]
_LIBRARIES += ["skops", "skorch", "torch", "transformers"]
_INTENDED_USE = (
    "Research on predicting several diagnoses from laboratory tests and clinical notes. It is not "
    "intended for patient care, which requires validation at the site of use and the approval that "
    "local law demands."
)
_RANKING = (
    "Scores on stays that the model was not fitted on. Brackets are bootstrap intervals over "
    "patients. `macro` is the mean over labels, `weighted` the mean weighted by positives; `micro` "
    "pools all pairs of stay and label."
)
_DECISIONS = (
    "At the thresholds of the model's `predict`. A share is not shown, and enters no mean, if "
    "either of its two parts is small."
)
_CALIBRATION = (
    "Slope and intercept are those of logistic recalibration: probabilities are too extreme where "
    "the slope is below 1, and too high overall where the intercept is below 0. ECE is the mean "
    "distance between probability and frequency in ten bins of equal width."
)
_SUBGROUPS = (
    "A gap is the score of the group minus that of all other stays whose attribute is known. The "
    "macro mean is over the labels with enough positive and negative stays in the group, its gap "
    "over those that the other stays have too: compare gaps, not macro scores. Hospitals are "
    "numbered by size."
)
_LIMITS = (
    "- The numbers hold for the cohort above. Patients, laboratories, note-taking and coding "
    "differ elsewhere: validate and recalibrate there first.\n"
    "- Labels are what was coded, which may differ from what patients had.\n"
    "- Groups of fewer than {min_count} patients were not examined."
)
_RARE = "\n- Not evaluated (fewer than {min_count} positive or negative stays): {labels}."
# Metrics of the tables, with their digits
_RANKED = {"prevalence": 2, "auroc": 2, "auprc": 2, "brier": 3}
_CALIBRATED = {"slope": 2, "intercept": 2, "observed_expected": 2, "ece": 3}
# Each share with the two cells (truth, decision) that make up its denominator
_SHARES = {
    "sensitivity": ((1, 1), (1, 0)),
    "specificity": ((0, 0), (0, 1)),
    "ppv": ((1, 1), (0, 1)),
    "npv": ((0, 0), (1, 0)),
}
_MOST_VALUES = 20
_SHORTEST_IDENTIFIER = 5
_OPTION = re.compile(r"[A-Za-z0-9_.+/-]{1,80}")


def model_card(
    estimator: Any,
    cohort: Bunch,
    *,
    trained_on: Bunch | None = None,
    min_count: int = 10,
    n_bootstraps: int = 1000,
    confidence_level: float = 0.95,
    random_state: int | np.random.RandomState | None = None,
) -> Card:
    """Make a :class:`skops.card.Card` that tells nothing of a single patient.

    The card states what the model is for, its parameters, limits and versions, and its ranking,
    decisions and calibration on a cohort, per label and by group, with bootstrap intervals over
    patients. It contains no note, identifier, lab value or hospital name, and no count below
    `min_count`; larger counts are rounded. Names of columns and labels, values of subgroups, and
    parameters that are numbers or options appear unchanged. Replace or add sections with
    `Card.add`.

    Parameters
    ----------
    estimator : estimator
        A fitted classifier, usually the pipeline of `make_medfuse_pipeline`.
    cohort : Cohort
        Stays of patients that the estimator was not fitted on. Of its `subgroups`, columns with
        more than 20 values, and numeric ones other than ``age``, are left out.
    trained_on : Cohort, default=None
        The stays that the estimator was fitted on. Their number is reported, and no patient may
        be in both cohorts.
    min_count : int, default=10
        Groups with fewer patients, and labels with fewer positive or negative stays, are not shown.
    n_bootstraps : int, default=1000
        Number of bootstrap resamples. 0 omits the intervals.
    confidence_level : float, default=0.95
        Coverage of the intervals.
    random_state : int, RandomState instance or None, default=None
        Controls the resampling.

    Returns
    -------
    card : skops.card.Card
        ``card.save("README.md")`` writes it.

    Raises
    ------
    ImportError
        If skops is not installed.
    ValueError
        If the cohort is too small or shares patients with `trained_on`, or if the card would
        contain an identifier of a cohort.

    References
    ----------
    .. [1] M. Mitchell et al. "Model Cards for Model Reporting", FAT*, 2019.

    Examples
    --------
    >>> from sklearn.compose import make_column_transformer
    >>> from sklearn.dummy import DummyClassifier
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn_medfuse.datasets import make_ehr_cohort
    >>> from sklearn_medfuse.persistence import model_card
    >>> train, test = make_ehr_cohort(400, random_state=0).train_test_split(random_state=0)
    >>> labs = make_column_transformer(("passthrough", train.lab_columns))
    >>> model = make_pipeline(labs, DummyClassifier()).fit(train.X, train.y)
    >>> card = model_card(model, test, trained_on=train, n_bootstraps=0)
    >>> card = card.add(**{"Intended use": "Research at one hospital."})
    >>> print(card.select("Intended use").content)
    Research at one hospital.
    """
    try:
        from skops.card import Card
    except ImportError:
        raise ImportError('model_card needs skops: pip install "sklearn-medfuse[skops]".') from None
    _check_arguments(cohort, trained_on, min_count)
    y_prob = predict_positive(estimator, cohort.X)
    labels, names = check_labels(cohort.y, missing=True)
    y = pd.DataFrame(labels, columns=names)
    rare = list(y.columns[np.minimum((y == 1).sum(), (y == 0).sum()) < min_count])
    if len(rare) == y.shape[1]:
        raise ValueError(
            f"No label of `cohort` has {min_count} positive and {min_count} negative stays; pass a "
            "larger cohort."
        )
    # Unknown labels enter no score
    y[rare] = np.nan
    options: dict[str, Any] = {
        "groups": np.asarray(cohort.groups),
        "n_bootstraps": n_bootstraps,
        "confidence_level": confidence_level,
        "random_state": random_state,
    }
    decisions = _score_decisions(y, estimator.predict(cohort.X), min_count, options)
    averages = ("macro", "micro", "weighted")
    ranking = multilabel_report(y, y_prob, metrics=list(_RANKED), averages=averages, **options)
    calibration = calibration_report(y, y_prob, averages=averages[:2], **options)
    limits = _LIMITS.format(min_count=min_count)
    if rare:
        limits += _RARE.format(min_count=min_count, labels=", ".join(map(_cell, rare)))
    versions = {"sklearn-medfuse": __version__, "Python": platform.python_version()}
    versions |= {name: version(name) for name in _LIBRARIES}

    card = Card(estimator, template=None, model_diagram=False)
    card.add(**{"Intended use": _INTENDED_USE})
    _add_data(card, cohort, trained_on, names, min_count)
    parameters = getattr(estimator, "best_estimator_", estimator).get_params()
    known = {str(name) for name in (*cohort.X, *y)}
    shown = sorted((name, _describe(value, known)) for name, value in parameters.items())
    _add_table(card, "Parameters", "", pd.DataFrame(shown, columns=["parameter", "value"]))
    for section, text, report, digits in (
        ("Evaluation", _RANKING, ranking, _RANKED),
        ("Evaluation/Decisions", _DECISIONS, decisions, dict.fromkeys(_SHARES, 2)),
        ("Calibration", _CALIBRATION, calibration, _CALIBRATED),
    ):
        table = _write_scores(report.drop(index=rare), digits)
        _add_table(card, section, text, table.rename_axis("label").reset_index())
    _add_subgroups(card, cohort, y, y_prob, min_count, options)
    card.add(Limits=limits)
    table = pd.DataFrame(versions.items(), columns=["library", "version"])
    _add_table(card, "Versions", "", table)
    _check_identifiers(card.render(), [cohort] if trained_on is None else [cohort, trained_on])
    return card


def _check_arguments(cohort: Bunch, trained_on: Bunch | None, min_count: int) -> None:
    if not isinstance(min_count, int | np.integer) or min_count < 2:
        raise ValueError(f"`min_count` is {min_count!r}; pass a whole number of at least 2.")
    patients = pd.unique(np.asarray(cohort.groups))
    if len(patients) < min_count:
        raise ValueError(
            f"`cohort` has {len(patients)} patients, fewer than min_count={min_count}; pass more."
        )
    shared = 0 if trained_on is None else np.isin(patients, np.asarray(trained_on.groups)).sum()
    if shared:
        raise ValueError(
            f"{shared} patients of `cohort` are also in `trained_on`; evaluate on other patients, "
            "for example with cohort.train_test_split()."
        )


def _check_identifiers(text: str, cohorts: list[Bunch]) -> None:
    # A number in a table is no identifier: 0.12345 and 12,345 are one word each
    words = set(re.findall(r"[\w.,-]*\w", text))
    columns = [each.get(name) for each in cohorts for name in ("stay_ids", "groups", "hospitals")]
    given = [pd.unique(np.asarray(column)) for column in columns if column is not None]
    values = {str(value) for column in given for value in column}
    # Shorter ones are numbers that occur by chance
    long = [value for value in values if len(value) >= _SHORTEST_IDENTIFIER]
    n_shown = sum(v in words or bool(re.search(r"\W", v) and v in text) for v in long)
    if n_shown:
        raise ValueError(
            f"The card would contain {n_shown} identifiers of stays, patients or hospitals. Look "
            "for them in the names of columns, labels and subgroups, and in the parameters."
        )


def _add_table(card: Card, section: str, text: str, table: pd.DataFrame) -> None:
    if table.empty:
        card.add(**{section: text})
        return
    cells = table.map(_cell)
    card.add_table(description=text, folded=section == "Parameters", **{section: cells})
    card.select(section).title = section.split("/")[-1]


def _cell(name: object) -> str:
    """Make a name fit into one cell of a markdown table."""
    text = re.sub(r"\s+", " ", str(name)).strip()
    return re.sub(r"([|<>`\\])", r"\\\1", text)


def _count(n: int, min_count: int) -> str:
    # Rounded, because exact counts of all groups but one would reveal the hidden one
    if n < min_count:
        return f"fewer than {min_count}"
    return f"about {min_count * round(n / min_count):,}"


def _write_scores(report: pd.DataFrame, digits: dict[str, int]) -> pd.DataFrame:
    """Write scores as "0.81 [0.75, 0.86]", or "n/a" where there is none, a column per metric."""
    table = pd.DataFrame(index=report.index)
    for metric, n_digits in digits.items():
        cells = []
        for ends in report[[metric, f"{metric}_low", f"{metric}_high"]].to_numpy(dtype=float):
            # Adding 0 turns -0 into 0
            value, low, high = (f"{round(end, n_digits) + 0.0:.{n_digits}f}" for end in ends)
            interval = f" [{low}, {high}]" if np.isfinite(ends[1:]).all() else ""
            cells.append(f"{value}{interval}" if np.isfinite(ends[0]) else "n/a")
        table[metric] = cells
    return table


def _add_data(
    card: Card, cohort: Bunch, trained_on: Bunch | None, label_names: list[str], min_count: int
) -> None:
    cohorts = {"fitted on": trained_on, "evaluated on": cohort}
    rows = [
        {
            "cohort": name,
            "stays": _count(len(each.X), min_count),
            "patients": _count(pd.Series(each.groups).nunique(), min_count),
            "hospitals": pd.Series(each.get("hospitals")).nunique() or "unknown",
            "labs measured": f"{100 * each.X[each.lab_columns].notna().to_numpy().mean():.0f} %",
            "with a note": f"{100 * each.X[each.note_column].notna().mean():.0f} %",
        }
        for name, each in cohorts.items()
        if each is not None
    ]
    labs, labels = (", ".join(map(_cell, names)) for names in (cohort.lab_columns, label_names))
    text = f"Labs: {labs}.\n\nLabels: {labels}.\n\nCounts are rounded."
    _add_table(card, "Data", text, pd.DataFrame(rows))


def _describe(value: Any, known: set[str]) -> str:
    """Show a number, an option or a known name; of anything else only the type."""
    if value is None or isinstance(value, bool | int | float | np.number | np.bool_):
        return f"{value}"
    if isinstance(value, str):
        if value in known:
            return value
        if os.path.isabs(value) or value.startswith(("~", ".")) or os.path.exists(value):
            return "a local path"
        return value if _OPTION.fullmatch(value) else f"text of {len(value)} characters"
    if isinstance(value, list | tuple | set | frozenset | dict):
        return f"{type(value).__name__} of {len(value)}"
    return getattr(value, "__name__", type(value).__name__)


def _score_decisions(
    y: pd.DataFrame, predicted: Any, min_count: int, options: dict[str, Any]
) -> pd.DataFrame:
    """Score decisions where both parts of a share are large: a PPV of 4 in 44 reveals the 4."""
    problem = (
        "`estimator` does not predict 0 or 1 for each label of `cohort.y`; fit it on one 0/1 "
        "column per label, for classes e.g. by sklearn.preprocessing.label_binarize."
    )
    y_pred = as_floats(predicted, problem)
    if y_pred.size != y.size or not np.isin(y_pred, (0, 1)).all():
        raise ValueError(problem)
    y_pred = y_pred.reshape(y.shape)
    reports = []
    for metric, cells in _SHARES.items():
        counts = [((y == truth) & (y_pred == decision)).sum() for truth, decision in cells]
        shown = y.loc[:, np.minimum(*counts) >= min_count].reindex(columns=y.columns)
        reports.append(multilabel_report(shown, y_pred, metrics=[metric], **options))
    return pd.concat(reports, axis=1)


def _add_subgroups(
    card: Card, cohort: Bunch, y: pd.DataFrame, y_prob: Any, min_count: int, options: dict[str, Any]
) -> None:
    groups, left_out = _choose_groups(cohort)
    if groups.empty:
        return
    scores = []
    for metric, digits in (("auroc", 2), ("ece", 3)):
        report = subgroup_report(y, y_prob, groups, metric=metric, min_count=min_count, **options)
        macro = report[(report["attribute"] != "all") & (report["label"] == "macro")]
        written = _write_scores(macro, {"score": digits, "gap": digits})
        scores.append(written.set_axis([f"macro {metric}", f"gap of {metric}"], axis=1))
    text = _SUBGROUPS
    hidden = [f"`{_cell(name)}` {n}" for name, n in report.attrs["n_not_shown"].items() if n]
    if hidden:
        text += f"\n\nValues not shown (fewer than {min_count} patients): {', '.join(hidden)}."
    if left_out:
        listed = ", ".join(f"`{_cell(name)}`" for name in left_out)
        text += f"\n\nAttributes not shown (numbers or many values): {listed}."
    stays = [_count(n, min_count) for n in macro["n_samples"]]
    table = pd.concat([macro[["attribute", "group"]].assign(stays=stays), *scores], axis=1)
    _add_table(card, "Subgroups", text, table)


def _choose_groups(cohort: Bunch) -> tuple[pd.DataFrame, list[str]]:
    """Return the attributes to compare, hospitals by number, and the names of those left out."""
    hospitals = pd.Series(np.asarray(cohort.get("hospitals")))
    kept, left_out = {}, []
    for name, column in pd.DataFrame(cohort.get("subgroups")).items():
        name, column = str(name), column.reset_index(drop=True)
        # Hospital names must not appear in a card, whichever column they are in
        if "hospital" in name.lower() or column.equals(hospitals):
            continue
        is_age = name == "age" and pd.api.types.is_numeric_dtype(column)
        is_category = not pd.api.types.is_float_dtype(column) and column.nunique() <= _MOST_VALUES
        if is_age or is_category:
            kept[name] = column
        else:
            left_out.append(name)
    if cohort.get("hospitals") is not None:
        by_size = hospitals.value_counts().index
        kept["hospital"] = hospitals.map({h: f"hospital {i}" for i, h in enumerate(by_size, 1)})
    return pd.DataFrame(kept), left_out
