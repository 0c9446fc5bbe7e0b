"""A README.md that says what a model is for, how well it does, and where it fails."""

import os
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.utils import Bunch

from .._private_files import write_private
from .._version import __version__
from ..metrics import calibration_report, multilabel_report, subgroup_report
from ..metrics._scorers import predict_positive

_MARK = "<!-- written by sklearn_medfuse.persistence.model_card -->"
_LIBRARIES = ["numpy", "pandas", "scikit-learn", "scipy"]
_LIBRARIES += ["skops", "skorch", "torch", "transformers"]
_INTENDED_USE = (
    "Research on predicting several diagnoses from laboratory tests and clinical notes. It is not "
    "intended for patient care, which requires validation at the site of use and the approval that "
    "local law demands."
)
_DECISIONS = (
    "At the thresholds of the model's `predict`. A share is not shown, and enters no mean, if "
    "either of its two parts is below the limit."
)
# Each share with the two cells (truth, decision) that make up its denominator
_SHARES = {
    "sensitivity": ((1, 1), (1, 0)),
    "specificity": ((0, 0), (0, 1)),
    "ppv": ((1, 1), (0, 1)),
    "npv": ((0, 0), (1, 0)),
}
_CALIBRATION = (
    "Slope and intercept are those of logistic recalibration: probabilities are too extreme where "
    "the slope is below 1, and too high overall where the intercept is below 0. ECE is the mean "
    "distance between probability and frequency in ten bins of equal width."
)
_CALIBRATED = ("slope", "intercept", "observed_expected", "ece")
_SUBGROUPS = (
    "A gap is the score of the group minus that of all other stays whose attribute is known; if "
    "its interval excludes 0, the two differ. The macro mean is over the labels for which the "
    "group has enough positive and negative stays, its gap over those for which the other stays "
    "have enough too: compare gaps, not macro scores. Hospitals are numbered by size."
)
_MOST_VALUES = 20
_SHORTEST_IDENTIFIER = 5
_OPTION = re.compile(r"[A-Za-z0-9_.+/-]{1,80}")
_HASH = re.compile(r"[0-9a-f]{40,}")
# Texts that scikit-learn stores in fitted estimators
_OF_SCIKIT_LEARN = {"remainder", "drop", "passthrough", "multilabel-indicator", "binary"}


def model_card(
    estimator: Any,
    cohort: Bunch,
    folder: str | Path,
    *,
    intended_use: str | None = None,
    limits: str | Sequence[str] = (),
    title: str = "Diagnoses from labs and notes",
    license: str | None = None,
    trained_on: Bunch | None = None,
    y_prob: npt.ArrayLike | None = None,
    y_pred: npt.ArrayLike | None = None,
    subgroups: pd.DataFrame | None = None,
    min_count: int = 10,
    n_bootstraps: int = 1000,
    confidence_level: float = 0.95,
    random_state: int | np.random.RandomState | None = None,
) -> Path:
    """Write a model card as README.md, using :class:`skops.card.Card`.

    The card states what the model is for, its parameters, which fitted attributes hold text, its
    limits and versions, and its ranking, decisions and calibration on a cohort, per label and by
    group, with bootstrap intervals over patients. It contains no note, identifier, lab value or
    hospital name, and no count below `min_count`. Larger counts are rounded.

    Parameters
    ----------
    estimator : object
        A fitted classifier, usually the pipeline of `make_medfuse_pipeline`.
    cohort : Cohort
        Stays of patients that the estimator was not fitted on. The fields used are `X`, `y`,
        `groups`, `lab_columns`, `note_column` and, if present, `hospitals` and `subgroups`.
    folder : str or path
        Where README.md is written, readable by its owner only. The folder is created if
        necessary. An existing card is replaced; any other README.md is not.
    intended_use : str, default=None
        What the model is for. None states that it is for research.
    limits : str or sequence of str, default=()
        Known limits of the model that the numbers do not show.
    title : str, default="Diagnoses from labs and notes"
        Heading of the card.
    license : str, default=None
        Identifier of the model's licence, such as ``"bsd-3-clause"``, for the front matter.
    trained_on : Cohort, default=None
        The stays that the estimator was fitted on. Their number is reported, and no patient may
        be in both cohorts.
    y_prob : array-like of shape (n_stays, n_labels), default=None
        Probabilities for `cohort`. None calls the estimator.
    y_pred : array-like of shape (n_stays, n_labels), default=None
        Decisions for `cohort`. None calls the estimator.
    subgroups : DataFrame of shape (n_stays, n_attributes), default=None
        Attributes of patients. None takes `cohort.subgroups`. Columns with more than 20 values,
        and numeric ones other than ``age``, are left out. Hospitals are numbered.
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
    path : Path
        The file.

    Raises
    ------
    ImportError
        If skops is not installed.
    ValueError
        If the cohort is too small or shares patients with `trained_on`, if the card would contain
        an identifier of the cohort, or if the folder holds another README.md.

    Notes
    -----
    Names of columns and labels, values of subgroups that at least `min_count` patients share, and
    parameters that are numbers or options appear unchanged; of other parameters only the type.

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
    >>> from sklearn_medfuse.datasets import make_ehr_cohort
    >>> from sklearn_medfuse.persistence import model_card
    >>> train, test = make_ehr_cohort(400, random_state=0).train_test_split(random_state=0)
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
    probabilities: Any = predict_positive(estimator, cohort.X) if y_prob is None else y_prob
    if y_pred is None and hasattr(estimator, "predict"):
        y_pred = estimator.predict(cohort.X)
    y, rare = _hide_rare_labels(cohort.y, min_count)
    bootstrap: dict[str, Any] = {
        "groups": np.asarray(cohort.groups),
        "n_bootstraps": n_bootstraps,
        "confidence_level": confidence_level,
        "random_state": random_state,
    }
    known = {str(name) for name in (*cohort.X.columns, *y.columns)}
    sections = {
        "Intended use": (intended_use or _INTENDED_USE, None),
        "Data": _describe_data(cohort, trained_on, min_count),
        "Parameters": ("", _list_parameters(estimator, known)),
        "What is stored": (_warn_of_texts(estimator, known), None),
        "Evaluation": _describe_ranking(y, probabilities, rare, min_count, bootstrap),
    }
    if y_pred is not None:
        decisions = _score_decisions(y, np.asarray(y_pred, dtype=float), min_count, bootstrap)
        sections["Evaluation/Decisions"] = _DECISIONS, _score_table(decisions.drop(index=rare))
    calibration = calibration_report(y, probabilities, averages=("macro", "micro"), **bootstrap)
    sections |= {
        "Calibration": (_CALIBRATION, _score_table(calibration.drop(index=rare), _CALIBRATED)),
        "Subgroups": _compare_groups(cohort, subgroups, y, probabilities, min_count, bootstrap),
        "Limits": (_list_limits(limits, rare, min_count), None),
        "Versions": ("", _list_versions()),
    }
    text = _render(estimator, title, license, sections)
    _check_identifiers(text, [cohort] if trained_on is None else [cohort, trained_on])
    # The model, made from patients' data, may be put beside the card
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private(path, text.encode())
    return path


def _check_arguments(
    path: Path, cohort: Bunch, trained_on: Bunch | None, min_count: int, license: str | None
) -> None:
    if not isinstance(min_count, int | np.integer) or min_count < 2:
        raise ValueError(f"`min_count` is {min_count!r}; pass a whole number of at least 2.")
    if license is not None and not re.fullmatch(r"[A-Za-z0-9.-]+", license):
        raise ValueError(f"`license` is {license!r}; pass an identifier such as 'bsd-3-clause'.")
    patients = pd.unique(np.asarray(cohort.groups))
    if len(patients) < min_count:
        raise ValueError(
            f"`cohort` has {len(patients)} patients, fewer than min_count={min_count}; pass more."
        )
    if trained_on is not None:
        shared = np.isin(patients, np.asarray(trained_on.groups)).sum()
        if shared:
            raise ValueError(
                f"{shared} patients of `cohort` are also in `trained_on`; evaluate on other "
                "patients, for example with cohort.train_test_split()."
            )
    if path.exists() and _MARK not in path.read_text(encoding="utf-8", errors="replace"):
        raise ValueError(
            "The README.md in `folder` was not written by model_card; move it, or choose another "
            "folder."
        )


def _render(
    estimator: Any,
    title: str,
    license: str | None,
    sections: Mapping[str, tuple[str, pd.DataFrame | None]],
) -> str:
    try:
        from skops.card import Card
    except ImportError:
        raise ImportError('model_card needs skops: pip install "sklearn-medfuse[skops]".') from None
    card = Card(estimator, template=None, model_diagram=False)
    # In skops a slash separates a section from its parent
    top = title.replace("/", r"\/")
    card.add(**{top: _MARK})
    for name, (text, table) in sections.items():
        key = f"{top}/{name}"
        if table is None or table.empty:
            card.add(**{key: text})
        else:
            card.add_table(description=text, folded=name == "Parameters", **{key: table})
            card.select(key).title = name.split("/")[-1]
    front = ["library_name: sklearn-medfuse", "pipeline_tag: tabular-classification"]
    front += [] if license is None else [f"license: {license}"]
    front += ["tags:", "- medical", "- multi-label", "- sklearn"]
    return "\n".join(["---", *front, "---", card.render()])


def _check_identifiers(card: str, cohorts: Sequence[Bunch]) -> None:
    # A number in a table is no identifier: 0.12345 and 12,345 are one word each
    words = set(re.findall(r"[\w.,-]*\w", card))
    identifiers = {
        str(value)
        for cohort in cohorts
        for field in ("stay_ids", "groups", "hospitals")
        if cohort.get(field) is not None
        for value in pd.unique(np.asarray(cohort[field]))
    }
    found = [
        each
        for each in identifiers
        # Shorter ones are numbers that occur by chance
        if len(each) >= _SHORTEST_IDENTIFIER
        and (each in words or (re.search(r"\W", each) and each in card))
    ]
    if found:
        raise ValueError(
            f"The card would contain {len(found)} identifiers of stays, patients or hospitals, so "
            "it was not written. Look for them in `title`, `intended_use`, `limits`, the names of "
            "columns, labels and subgroups, and the estimator's parameters."
        )


# Cells of tables


def _cell(name: object) -> str:
    """Make a name fit into one cell of a markdown table."""
    text = re.sub(r"\s+", " ", str(name)).strip()
    return re.sub(r"([|<>`\\])", r"\\\1", text)


def _count(n: int, min_count: int) -> str:
    # Rounded, because exact counts of all groups but one would reveal the hidden one
    if n < min_count:
        return f"fewer than {min_count}"
    return f"about {min_count * round(n / min_count):,}"


def _n_distinct(values: Any) -> int:
    return len(pd.unique(np.asarray(values)))


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if np.isfinite(share) else "n/a"


def _score_table(report: pd.DataFrame, metrics: Iterable[str] = tuple(_SHARES)) -> pd.DataFrame:
    """Write scores with their intervals, a row per label and a column per metric."""
    columns = {
        metric: _scores(report, metric, 3 if metric in ("ece", "brier") else 2)
        for metric in metrics
    }
    return pd.DataFrame({"label": [*map(_cell, report.index)], **columns})


def _scores(report: pd.DataFrame, metric: str, digits: int) -> list[str]:
    """Write a column as "0.81 [0.75, 0.86]", or "n/a" where it has no value."""
    cells = []
    for ends in report[[metric, f"{metric}_low", f"{metric}_high"]].to_numpy(dtype=float):
        # Adding 0 turns -0 into 0
        value, low, high = (f"{round(end, digits) + 0.0:.{digits}f}" for end in ends)
        interval = f" [{low}, {high}]" if np.isfinite(ends[1:]).all() else ""
        cells.append(f"{value}{interval}" if np.isfinite(ends[0]) else "n/a")
    return cells


# Sections


def _describe_data(
    cohort: Bunch, trained_on: Bunch | None, min_count: int
) -> tuple[str, pd.DataFrame]:
    table = {}
    for name, each in (("fitted on", trained_on), ("evaluated on", cohort)):
        if each is not None:
            hospitals = each.get("hospitals")
            table[name] = {
                "stays": _count(len(each.X), min_count),
                "patients": _count(_n_distinct(each.groups), min_count),
                "hospitals": "unknown" if hospitals is None else f"{_n_distinct(hospitals):,}",
                "labs measured": _percent(each.X[each.lab_columns].notna().to_numpy().mean()),
                "with a note": _percent(each.X[each.note_column].notna().mean()),
            }
    labs, labels = (
        ", ".join(map(_cell, names)) for names in (cohort.lab_columns, pd.DataFrame(cohort.y))
    )
    text = f"Labs: {labs}.\n\nLabels: {labels}.\n\nCounts are rounded."
    return text, pd.DataFrame(table).T.reset_index(names="cohort")


def _list_parameters(estimator: Any, known: set[str]) -> pd.DataFrame:
    parameters = getattr(estimator, "best_estimator_", estimator).get_params()
    rows = [(_cell(name), _cell(_describe(value, known))) for name, value in parameters.items()]
    return pd.DataFrame(sorted(rows), columns=["parameter", "value"])


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


def _warn_of_texts(estimator: Any, known: set[str]) -> str:
    parameters = getattr(estimator, "best_estimator_", estimator).get_params()
    known = known | _OF_SCIKIT_LEARN
    known |= {part for name in parameters for part in name.split("__")}
    # scikit-learn names outputs after classes, such as pca0
    known |= {type(each).__name__.lower() for each in (estimator, *parameters.values())}
    found: dict[str, int] = {}
    _count_texts(estimator, known, "", found, [])
    names = ", ".join(f"`{path} ({n:,})`" for path, n in sorted(found.items()) if n)
    if not names:
        return "The file holds only numbers, weights, and names of columns, labels and steps."
    return (
        f"Fitted attributes with texts that are not names of columns, labels or steps: {names}. "
        "They are options of the model or words from notes: check them before you share the file."
    )


def _count_texts(
    value: Any, known: set[str], path: str, found: dict[str, int], parents: list[int]
) -> None:
    """Count, by fitted attribute, the texts that are not known names."""
    if id(value) in parents:
        return
    children: list[Any] = []
    if isinstance(value, str):
        # A ColumnTransformer prefixes names with the step, some transformers append a number
        last = value.rsplit("__", 1)[-1]
        is_name = {value, last, last.rstrip("0123456789")} & known or _HASH.fullmatch(value)
        found[path] = found.get(path, 0) + (not is_name)
    elif isinstance(value, pd.DataFrame | pd.Series | pd.Index):
        children = [value.to_numpy()]
    elif isinstance(value, np.ndarray):
        children = value.ravel().tolist() if value.dtype.kind in "OU" else []
    elif isinstance(value, Mapping):
        children = [*value, *value.values()]
    elif isinstance(value, list | tuple | set | frozenset):
        children = [*value]
    elif hasattr(value, "get_params") and not isinstance(value, type):
        # Only what fit added; the steps of a pipeline are a parameter
        own = value.get_params(deep=False)
        for name, each in value.__getstate__().items():
            is_fitted = name not in own and not name.startswith("_sklearn")
            if is_fitted or name in ("steps", "transformer_list"):
                place = f"{type(value).__name__}.{name}"
                _count_texts(each, known, place, found, [*parents, id(value)])
    elif hasattr(value, "__dict__") and not isinstance(value, type):
        children = [*vars(value).values()]
    for child in children:
        _count_texts(child, known, path, found, [*parents, id(value)])


def _hide_rare_labels(y: Any, min_count: int) -> tuple[pd.DataFrame, list[Any]]:
    """Make labels with few positive or negative stays unknown, so that they enter no score."""
    y = pd.DataFrame(y).astype(float)
    rare = y.columns[np.minimum((y == 1).sum(), (y == 0).sum()) < min_count]
    if len(rare) == y.shape[1]:
        raise ValueError(
            f"No label of `cohort` has {min_count} positive and {min_count} negative stays; pass a "
            "larger cohort."
        )
    y[rare] = np.nan
    return y, list(rare)


def _describe_ranking(
    y: pd.DataFrame, y_prob: Any, rare: list[Any], min_count: int, bootstrap: dict[str, Any]
) -> tuple[str, pd.DataFrame]:
    averages, metrics = ("macro", "micro", "weighted"), ("auroc", "auprc", "brier")
    report = multilabel_report(
        y, y_prob, metrics=(*metrics, "prevalence"), averages=averages, **bootstrap
    )
    table = _score_table(report.drop(index=rare), metrics)
    table.insert(1, "prevalence", [*map(_percent, report["prevalence"].drop(index=rare))])
    method = "Without intervals."
    if bootstrap["n_bootstraps"]:
        method = (
            f"Brackets are {100 * bootstrap['confidence_level']:g} % intervals from "
            f"{bootstrap['n_bootstraps']:,} bootstrap resamples of patients."
        )
    text = (
        f"Scores on stays that the model was not fitted on. {method} Labels with fewer than "
        f"{min_count} positive or negative stays are not shown and enter no mean. `macro` is the "
        "mean over labels, `weighted` the mean weighted by positives; `micro` pools all pairs of "
        "stay and label."
    )
    return text, table


def _score_decisions(
    y: pd.DataFrame, y_pred: np.ndarray, min_count: int, bootstrap: dict[str, Any]
) -> pd.DataFrame:
    """Score decisions where both parts of a share are large: a PPV of 4 in 44 reveals the 4."""
    y_pred = y_pred.reshape(y.shape)
    reports = []
    for metric, cells in _SHARES.items():
        counts = [((y == truth) & (y_pred == decision)).sum() for truth, decision in cells]
        shown = y.loc[:, np.minimum(*counts) >= min_count].reindex(columns=y.columns)
        reports.append(multilabel_report(shown, y_pred, metrics=[metric], **bootstrap))
    return pd.concat(reports, axis=1)


def _compare_groups(
    cohort: Bunch,
    subgroups: pd.DataFrame | None,
    y: pd.DataFrame,
    y_prob: Any,
    min_count: int,
    bootstrap: dict[str, Any],
) -> tuple[str, pd.DataFrame | None]:
    groups, left_out = _choose_groups(cohort, subgroups)
    if groups.empty:
        return "The cohort has no attributes such as sex, age, ethnicity or hospital.", None
    table, texts = pd.DataFrame(), [_SUBGROUPS]
    for metric in ("auroc", "ece"):
        report = subgroup_report(y, y_prob, groups, metric=metric, min_count=min_count, **bootstrap)
        macro = report[(report["attribute"] != "all") & (report["label"] == "macro")]
        if table.empty:
            table["attribute"] = [*map(_cell, macro["attribute"])]
            table["group"] = [*map(_cell, macro["group"])]
            table["stays"] = [_count(n, min_count) for n in macro["n_samples"]]
        digits = 3 if metric == "ece" else 2
        table[f"macro {metric}"] = _scores(macro, "score", digits)
        table[f"gap of {metric}"] = _scores(macro, "gap", digits)
    hidden = [f"`{_cell(name)}` {n}" for name, n in report.attrs["n_not_shown"].items() if n]
    if hidden:
        texts.append(f"Values not shown (fewer than {min_count} patients): {', '.join(hidden)}.")
    if left_out:
        names = ", ".join(f"`{_cell(name)}`" for name in left_out)
        texts.append(f"Attributes not shown (numbers or many values): {names}.")
    return "\n\n".join(texts), table


def _choose_groups(cohort: Bunch, subgroups: pd.DataFrame | None) -> tuple[pd.DataFrame, list[str]]:
    """Return the attributes to compare, hospitals by number, and the names of those left out."""
    table = cohort.get("subgroups") if subgroups is None else subgroups
    hospitals = pd.Series(np.asarray(cohort.get("hospitals")))
    kept, left_out = {}, []
    for name, column in {} if table is None else table.items():
        name, column = str(name), pd.Series(np.asarray(column))
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


def _list_limits(limits: str | Sequence[str], rare: list[Any], min_count: int) -> str:
    lines = [
        "The numbers hold for the cohort above. Patients, laboratories, note-taking and coding "
        "differ elsewhere: validate and recalibrate there first.",
        "Labels are what was coded, which may differ from what patients had.",
        f"Groups of fewer than {min_count} patients were not examined.",
    ]
    if rare:
        names = ", ".join(map(_cell, rare))
        lines.append(f"Not evaluated (fewer than {min_count} positive or negative stays): {names}.")
    lines += [limits] if isinstance(limits, str) else limits
    return "\n".join(f"- {line}" for line in lines)


def _list_versions() -> pd.DataFrame:
    versions = {"sklearn-medfuse": __version__, "Python": platform.python_version()}
    for name in _LIBRARIES:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return pd.DataFrame(versions.items(), columns=["library", "version"])
