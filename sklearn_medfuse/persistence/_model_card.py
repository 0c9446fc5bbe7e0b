"""A README.md that says what a model is for, what it does, how well, and where it fails."""

import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import pandas as pd

from .._private_files import write_private
from .._version import __version__
from ._card_evaluation import (
    describe_calibration,
    describe_metrics,
    describe_subgroups,
    evaluate,
)
from ._card_pipeline import describe_steps, describe_stored, list_steps
from ._card_text import count_identifiers, describe_count, describe_name, make_table

_MARK = "<!-- written by sklearn_medfuse.persistence.model_card -->"
_LIBRARIES = ("numpy", "pandas", "scikit-learn", "scipy", "skorch", "torch", "transformers")
_INTENDED_USE = (
    "Research on the prediction of several diagnoses from laboratory tests and clinical notes. "
    "No use in the care of patients is intended: that would need a validation at the place of "
    "use and the approval that the law there asks for."
)


def model_card(
    estimator,
    cohort,
    folder,
    *,
    intended_use=None,
    limits=(),
    title="Diagnoses from labs and notes",
    license=None,
    trained_on=None,
    y_prob=None,
    y_pred=None,
    subgroups=None,
    min_count=10,
    n_bootstraps=1000,
    confidence_level=0.95,
    random_state=None,
):
    """Write a model card as README.md.

    It says what the model is for; how data flow through its steps and what a saved file of them
    holds; how well it ranks, decides and is calibrated on a cohort, per label and in groups of
    patients, with intervals by bootstrap over patients; where its limits are; and with which
    versions it was made.

    No value of a patient is in it: no note, identifier, lab value or name of a hospital, no count
    below `min_count`, and other counts only rounded.

    Parameters
    ----------
    estimator : object
        A fitted classifier, usually the pipeline of `make_medfuse_pipeline`.

    cohort : Cohort
        Stays of patients that the estimator was not fitted on. Fields used are `X`, `y` and
        `groups`, and where there are some `hospitals` and `subgroups`.

    folder : str or path
        Where README.md is written, as a whole or not at all, for the owner alone. The folder is
        made if need be. A card that is there is replaced; another README.md is not.

    intended_use : str, default=None
        What the model is for, and for whom it is not. None says that it is for research.

    limits : str or sequence of str, default=()
        What you know of the model's limits beyond what the numbers show.

    title : str, default="Diagnoses from labs and notes"
        First line.

    license : str, default=None
        Identifier of the model's licence, such as ``"bsd-3-clause"``, for the front matter.

    trained_on : Cohort, default=None
        The stays that the estimator was fitted on: their number is told, and it is checked that
        no patient is in both.

    y_prob : array-like of shape (n_stays, n_labels), default=None
        Probabilities for `cohort`. None asks the estimator.

    y_pred : array-like of shape (n_stays, n_labels), default=None
        Decisions for `cohort`. None asks the estimator.

    subgroups : DataFrame of shape (n_stays, n_attributes), default=None
        What patients are told apart by. None takes `cohort.subgroups`. Columns of more than 20
        values, and of numbers other than ``age``, are left out. Hospitals are numbered.

    min_count : int, default=10
        Groups of fewer patients, and labels with fewer positive or negative stays, are not shown.

    n_bootstraps : int, default=1000
        Number of resamples. 0 leaves the intervals out.

    confidence_level : float, default=0.95
        Coverage of the intervals.

    random_state : int, RandomState instance or None, default=None
        Source of the resamples.

    Returns
    -------
    path : Path
        The file.

    Raises
    ------
    ValueError
        If the cohort is too small, shares patients with `trained_on`, if the text that you give
        holds an identifier of the cohort, or if there is another README.md.

    See Also
    --------
    sklearn_medfuse.metrics.multilabel_report : The scores per label.
    sklearn_medfuse.metrics.calibration_report : Slope, intercept and error.
    sklearn_medfuse.metrics.subgroup_report : The groups of patients.

    Notes
    -----
    Names of columns and labels, and values of subgroups that at least `min_count` patients share,
    are written as they are. Parameters are written where they are numbers or options; of lists,
    functions and longer texts only the kind and size.

    References
    ----------
    .. [1] M. Mitchell et al. "Model Cards for Model Reporting", FAT*, 2019.
    .. [2] G. S. Collins et al. "TRIPOD+AI Statement: Updated Guidance for Reporting Clinical
       Prediction Models that Use Regression or Machine Learning Methods", BMJ, 2024.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from sklearn.compose import make_column_transformer
    >>> from sklearn.dummy import DummyClassifier
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn_medfuse.datasets import load_eicu_demo
    >>> from sklearn_medfuse.persistence import model_card
    >>> train, test = load_eicu_demo().train_test_split(random_state=0)
    >>> model = make_pipeline(
    ...     make_column_transformer(("passthrough", train.lab_columns)), DummyClassifier()
    ... ).fit(train.X, train.y)
    >>> with TemporaryDirectory() as folder:
    ...     card = model_card(model, test, folder, trained_on=train, n_bootstraps=0).read_text()
    >>> "## Intended use" in card
    True
    """
    path = Path(folder).expanduser() / "README.md"
    _check_arguments(path, cohort, trained_on, min_count, license)
    options = {
        "n_bootstraps": n_bootstraps,
        "confidence_level": confidence_level,
        "random_state": random_state,
    }
    found = evaluate(estimator, cohort, y_prob, y_pred, subgroups, min_count, options)
    steps = list_steps(estimator)
    names = _known_names(cohort)
    stored, with_texts = describe_stored(steps, names)
    own_limits = [limits] if isinstance(limits, str) else list(limits)
    sections = {
        "Intended use": intended_use or _INTENDED_USE,
        "Data": _describe_data(cohort, trained_on, min_count),
        "Data flow": describe_steps(steps, names),
        "What is stored": f"{stored}\n\n{_describe_texts(with_texts)}",
        "Evaluation": f"{_describe_method(options, min_count)}\n\n{describe_metrics(found)}",
        "Calibration": f"{_CALIBRATION}\n\n{describe_calibration(found)}",
        "Subgroups": f"{_SUBGROUPS}\n\n{describe_subgroups(found, min_count)}",
        "Limits": _describe_limits(found, own_limits, min_count),
        "Versions": _describe_versions(),
    }
    card = "\n\n".join(
        [
            _front_matter(license),
            _MARK,
            f"# {title}",
            *(f"## {name}\n\n{text.strip()}" for name, text in sections.items()),
        ]
    )
    _check_identifiers(card, [cohort] if trained_on is None else [cohort, trained_on])
    # the model, made from patients' data, may come to lie beside the card
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private(path, f"{card}\n".encode())
    return path


_CALIBRATION = (
    "Slope and intercept of the logistic recalibration: a slope below 1 says that probabilities "
    "are too extreme, an intercept below 0 that they are too high on the whole. ECE is the mean "
    "distance of probability and frequency in ten bins of equal width."
)
_SUBGROUPS = (
    "A gap is the score of the group less that of all other stays of which the attribute is known; "
    "an interval that leaves out 0 says that they differ. A macro is over the labels of which the "
    "group has enough positive and negative stays, and n/a where there is none; its gap is over "
    "those that the other stays have too. So compare gaps, not macros. Hospitals are numbered."
)


def _check_arguments(path, cohort, trained_on, min_count, license):
    if not isinstance(min_count, int | np.integer) or min_count < 2:
        raise ValueError(f"`min_count` is {min_count!r}; pass a whole number of at least 2.")
    if license is not None and not re.fullmatch(r"[A-Za-z0-9.-]+", license):
        raise ValueError(f"`license` is {license!r}; pass an identifier such as 'bsd-3-clause'.")
    n_patients = pd.Series(np.asarray(cohort.groups)).nunique()
    if n_patients < min_count:
        raise ValueError(
            f"`cohort` has {n_patients} patients, fewer than min_count={min_count}; pass more."
        )
    if trained_on is not None:
        shared = np.isin(pd.unique(np.asarray(cohort.groups)), np.asarray(trained_on.groups)).sum()
        if shared:
            raise ValueError(
                f"{shared} patients of `cohort` are also in `trained_on`; evaluate on others, e.g. "
                "by cohort.train_test_split()."
            )
    if path.exists() and _MARK not in path.read_text(encoding="utf-8", errors="replace"):
        raise ValueError(
            "The README.md in `folder` is no model card of this function; move it, or name "
            "another folder."
        )


def _check_identifiers(card, cohorts):
    n_found = sum(count_identifiers(card, cohort) for cohort in cohorts)
    if n_found:
        raise ValueError(
            f"The card would hold {n_found} identifiers of stays, patients or hospitals, so it was "
            "not written. Look for them in `title`, `intended_use`, `limits`, the names of "
            "columns, labels and subgroups, and the estimator's parameters."
        )


def _known_names(cohort):
    names = [*cohort.X.columns, *pd.DataFrame(cohort.y).columns]
    return {str(name) for name in names}


def _front_matter(license):
    lines = ["library_name: sklearn-medfuse", "pipeline_tag: tabular-classification"]
    if license is not None:
        lines.append(f"license: {license}")
    tags = ["medical", "multi-label", "sklearn"]
    return "\n".join(["---", *lines, "tags:", *(f"- {tag}" for tag in tags), "---"])


def _describe_data(cohort, trained_on, min_count):
    rows = []
    for name, each in (("fitted on", trained_on), ("evaluated on", cohort)):
        if each is not None:
            rows.append([name, *_describe_cohort(each, min_count)])
    table = make_table(
        ["", "stays", "patients", "hospitals", "cells measured", "with a note"], rows
    )
    labs = ", ".join(describe_name(name) for name in cohort.lab_columns)
    labels = ", ".join(describe_name(name) for name in pd.DataFrame(cohort.y).columns)
    return f"{table}\n\nLabs: {labs}.\n\nLabels: {labels}.\n\nCounts are rounded."


def _describe_cohort(cohort, min_count):
    hospitals = cohort.get("hospitals")
    labs, notes = cohort.X[cohort.lab_columns], cohort.X[cohort.note_column]
    return [
        describe_count(len(cohort.X), min_count),
        describe_count(pd.Series(np.asarray(cohort.groups)).nunique(), min_count),
        "not told" if hospitals is None else f"{pd.Series(np.asarray(hospitals)).nunique():,}",
        f"{100 * labs.notna().to_numpy().mean():.0f} %",
        f"{100 * notes.notna().mean():.0f} %",
    ]


def _describe_texts(with_texts):
    if not with_texts:
        return "The file holds numbers, weights and names of columns, labels and steps alone."
    names = ", ".join(f"`{name}`" for name in with_texts)
    return (
        f"Texts that are no names of columns, labels or steps, and how many, are in: {names}. They "
        "are options of the model or words of notes: look at them before the file leaves the house."
    )


def _describe_method(options, min_count):
    level = f"{100 * options['confidence_level']:g} %"
    method = (
        f"Brackets are {level} intervals by {options['n_bootstraps']:,} bootstrap resamples of "
        "patients."
        if options["n_bootstraps"]
        else "Without intervals."
    )
    return (
        f"On stays that the model was not fitted on. {method} Labels with fewer than {min_count} "
        "positive or negative stays are not shown, and are in no mean: `macro` is the mean over "
        "labels, `weighted` that by their positives, `micro` is of all pairs of stay and label."
    )


def _describe_limits(found, own_limits, min_count):
    limits = [
        "The numbers hold for the cohort above. Elsewhere patients, laboratories, note-taking and "
        "coding differ: validate and recalibrate there first.",
        "Labels are what was coded, which is not the same as what patients had.",
    ]
    if found.rare_labels:
        names = ", ".join(describe_name(name) for name in found.rare_labels)
        limits.append(f"Not evaluated, as fewer than {min_count} stays differ: {names}.")
    labels = found.calibration.drop(index=["macro", "micro"])
    for condition, what in (
        (labels["slope_high"] < 1, "Probabilities are too extreme (slope below 1)"),
        (labels["slope_low"] > 1, "Probabilities are too timid (slope above 1)"),
        (labels["intercept_high"] < 0, "Probabilities are too high (intercept below 0)"),
        (labels["intercept_low"] > 0, "Probabilities are too low (intercept above 0)"),
        (
            found.ranking.loc[labels.index, "auroc_low"] <= 0.5,
            "Ranking is not shown to be better than chance",
        ),
    ):
        if condition.any():
            names = ", ".join(describe_name(name) for name in labels.index[condition])
            limits.append(f"{what}: {names}.")
    limits += [f"Groups of fewer than {min_count} patients were not looked at.", *own_limits]
    return "\n".join(f"- {limit}" for limit in limits)


def _describe_versions():
    rows = [["sklearn-medfuse", __version__], ["Python", platform.python_version()]]
    for name in _LIBRARIES:
        try:
            rows.append([name, version(name)])
        except PackageNotFoundError:
            continue
    return make_table(["library", "version"], rows)
