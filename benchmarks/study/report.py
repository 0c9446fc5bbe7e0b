"""From predictions on disk to tables, figures and one page of HTML."""

import base64
import html
import io
import platform
from datetime import date
from importlib.metadata import PackageNotFoundError, version

import numpy as np
import pandas as pd
from common import METRICS, gain_text, hospital_folds, scores_table
from common import gain as gain_of
from models import (
    ALL,
    ALL_TUNED,
    FULL,
    LABS,
    MEAN,
    NAIVE_BAYES,
    PAPER,
    PEERS,
    PLAIN,
    TFIDF,
    TUNED,
    WITHOUT,
)
from settings import prediction_files
from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score

from sklearn_medfuse.metrics import (
    calibration_report,
    multilabel_brier_score,
    multilabel_log_loss,
    multilabel_report,
    subgroup_report,
)

BACKBONES_FIRST = (TUNED, PAPER, PLAIN, FULL, NAIVE_BAYES, ALL, ALL_TUNED)
BEST_FIRST = (ALL, ALL_TUNED, NAIVE_BAYES, FULL, PLAIN, PAPER)
PACKAGES = ("sklearn-medfuse", "torch", "transformers", "scikit-learn", "peft", "numpy", "pandas")

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums }
th, td { padding: .25rem .6rem; border-bottom: 1px solid #ccc; text-align: right;
  white-space: nowrap }
thead th { white-space: normal }
th:first-child, td:first-child { text-align: left }
.wide { overflow-x: auto } img { max-width: 100% } .note { color: #444 }
"""


class Results:
    """Predictions of all models on all stays, for each seed and on average.

    Parameters
    ----------
    folder : path
        Folder of the study.
    cohort : Cohort
        Its stays.
    settings : Settings
        Its settings.
    seeds : list of int
        Seeds of folds and models.
    names : list of str
        Models in order; those of which a fold is missing are left out.
    """

    def __init__(self, folder, cohort, settings, seeds, names):
        self.y = cohort.y
        self.groups = cohort.groups
        self.subgroups = cohort.get("subgroups")
        self.seeds = seeds
        self.scores, self.decisions, self.cost = {}, {}, {}
        for name in names:
            files = [prediction_files(folder, name, seed, settings.n_splits) for seed in seeds]
            if all(file.exists() for of_seed in files for file in of_seed):
                self._read(name, files)
        if LABS in self.scores and TFIDF in self.scores:
            self.scores[MEAN] = (self.scores[LABS] + self.scores[TFIDF]) / 2
        tests = [
            [test for _, test in hospital_folds(cohort, settings.n_splits, seed)] for seed in seeds
        ]
        for name, scores in self.scores.items():
            self.decisions[name] = np.stack(
                [
                    decide(score, self.y.to_numpy(), of_seed)
                    for score, of_seed in zip(scores, tests, strict=True)
                ]
            )

    def _read(self, name, files):
        scores = np.full((len(self.seeds), *self.y.shape), np.nan)
        seconds, peak = [], []
        for own, of_seed in zip(scores, files, strict=True):
            for file in of_seed:
                found = pd.read_parquet(file)
                own[found["row"]] = found[list(self.y.columns)]
                seconds.append(found["fit_seconds"].iloc[0] + found["predict_seconds"].iloc[0])
                peak.append(found["peak_bytes"].iloc[0])
        self.scores[name] = scores
        self.cost[name] = {
            "seconds per fold, median": np.median(seconds),
            "peak memory, GB": max(peak) / 1e9,
        }

    def mean(self, name):
        """Probabilities averaged over the seeds."""
        return self.scores[name].mean(axis=0)

    def present(self, names):
        """Those of the names that were predicted."""
        return [name for name in names if name in self.scores]


def decide(score, y, tests):
    """Labels by thresholds that maximise F1 on the other folds' out-of-fold predictions."""
    decided = np.zeros(y.shape, dtype=int)
    for test in tests:
        others = np.setdiff1d(np.arange(len(y)), test)
        for j in range(y.shape[1]):
            decided[test, j] = score[test, j] >= best_threshold(score[others, j], y[others, j])
    return decided


def best_threshold(score, y):
    """The threshold of greatest F1, halfway between two stays' scores."""
    if y.min() == y.max():
        return 0.5
    order = np.argsort(-score, kind="stable")
    sorted_score, hits = score[order], np.cumsum(y[order])
    f1 = 2 * hits / (np.arange(1, len(y) + 1) + hits[-1])
    # Stays of equal score are decided alike.
    last = np.append(np.flatnonzero(np.diff(sorted_score)), len(y) - 1)
    best = last[np.argmax(f1[last])]
    below = sorted_score[best + 1] if best + 1 < len(y) else 0.0
    return (sorted_score[best] + below) / 2


def seeds_table(results, names, reference):
    """Macro scores of the mean over seeds with the reference's gain, and the scores by seed."""
    names = results.present(names)
    if not names:
        return pd.DataFrame()
    means = {name: results.mean(name) for name in names}
    if reference in results.scores:
        means.setdefault(reference, results.mean(reference))
    table = scores_table(results.y, means, results.groups, reference).loc[names]
    for metric in METRICS:
        spread = [
            " ".join(f"{value:.4f}" for value in seed_scores(results, name, metric))
            for name in names
        ]
        title = metric.upper()
        table.insert(table.columns.get_loc(title) + 1, f"{title} by seed", spread)
    return table


def seed_scores(results, name, metric):
    """Macro score of each seed's predictions."""
    return [
        multilabel_report(results.y, score, metrics=(metric,), n_bootstraps=0).loc["macro", metric]
        for score in results.scores[name]
    ]


def gain(results, a, b, metric):
    """Macro score of a less that of b, with its interval."""
    return gain_of(results.y, results.mean(a), results.mean(b), results.groups, metric)


def decisions_table(results, names):
    """The paper's figures: accuracy over all labels, macro precision, recall and F1."""
    y = results.y.to_numpy()
    rows = {}
    for name in results.present(names):
        rows[name] = {
            "accuracy": mean_over_seeds(
                lambda d: accuracy_score(y.ravel(), d.ravel()), results, name
            ),
            "precision": mean_over_seeds(macro(precision_score, y), results, name),
            "recall": mean_over_seeds(macro(recall_score, y), results, name),
            "F1 macro": mean_over_seeds(macro(f1_score, y), results, name),
        }
    return pd.DataFrame(rows).T.round(4)


def macro(score, y):
    """A score of decisions, averaged over labels."""
    return lambda decided: score(y, decided, average="macro", zero_division=0)


def mean_over_seeds(score, results, name):
    """Mean of a score of each seed's decisions."""
    return np.mean([score(decided) for decided in results.decisions[name]])


def calibration_table(results, names):
    """Proper losses, calibration error, slope and intercept, each a mean over labels."""
    rows = {}
    for name in results.present(names):
        probability = results.mean(name)
        report = calibration_report(results.y, probability, n_bootstraps=0).loc["macro"]
        rows[name] = {
            "log loss": multilabel_log_loss(results.y, probability),
            "Brier score": multilabel_brier_score(results.y, probability),
            **{what: report[what] for what in ("ece", "slope", "intercept")},
        }
    return pd.DataFrame(rows).T.round(4)


def subgroups_table(results, name):
    """Macro AUROC in each subgroup that is large enough, and its gap to the others."""
    attributes = results.subgroups.drop(columns="hospital", errors="ignore")
    report = subgroup_report(
        results.y, results.mean(name), attributes, groups=results.groups, random_state=0
    )
    report = report[report["label"] == "macro"]
    return pd.DataFrame(
        {
            "attribute": report["attribute"],
            "group": report["group"].astype(str),
            "stays": report["n_samples"],
            "AUROC": [
                interval_text(row.score, row.score_low, row.score_high, "")
                for row in report.itertuples()
            ],
            "gap to the others": [
                interval_text(row.gap, row.gap_low, row.gap_high, "+")
                for row in report.itertuples()
            ],
        }
    ).set_index("attribute")


def interval_text(value, low, high, sign):
    """A number with its interval, nothing where a label is constant in the group."""
    return "" if np.isnan(value) else f"{value:{sign}.3f} [{low:{sign}.3f}, {high:{sign}.3f}]"


def findings(results):
    """One paragraph from the numbers: what MEDFuse gains, and where it does not help."""
    ours = results.present(BEST_FIRST)
    peers = results.present(PEERS)
    if not ours or not peers:
        return "There are too few models to compare."
    best = ours[0]
    said = []
    for metric in METRICS:
        peer = max(peers, key=lambda name: np.mean(seed_scores(results, name, metric)))
        difference = gain(results, best, peer, metric)
        said.append(
            f"{best} is {gain_text(difference)} macro {metric.upper()} from {peer}, the best peer"
        )
    parts = {}
    if results.present([FULL]):
        parts = {name: gain(results, FULL, name, "auprc") for name in results.present(WITHOUT)}
    helps = [name for name, difference in parts.items() if difference.iloc[1] > 0]
    not_told = [name for name, difference in parts.items() if difference.iloc[1] <= 0]
    report = multilabel_report(
        results.y, results.mean(best), groups=results.groups, random_state=0
    ).drop("macro")
    chance = report.index[report["auroc_low"] <= 0.5]
    text = ". ".join(said) + ". "
    if parts:
        text += f"By AUPRC, intervals that exclude zero: {listed(helps)}. "
        text += f"No gain can be told from chance: {listed(not_told)}. "
    return text + f"Diseases whose AUROC may be that of chance: {listed(chance)}."


def listed(names):
    """Names in a sentence."""
    return ", ".join(names) if len(names) else "none"


def figures(results):
    """Pictures as (title, PNG bytes)."""
    import matplotlib as mpl

    mpl.use("Agg")
    from sklearn_medfuse.plotting import (
        CalibrationDisplay,
        LabelScoresDisplay,
        ModelDifferenceDisplay,
    )

    shown = results.present([ALL, FULL, PLAIN, MEAN, TFIDF, LABS])
    models = {name: results.mean(name) for name in shown}
    drawn = [
        (
            "AUPRC per disease",
            LabelScoresDisplay.from_predictions(
                results.y, models, metric="auprc", groups=results.groups, random_state=0
            ),
        )
    ]
    if len(shown) > 1:
        drawn.append(
            (
                f"AUROC of {shown[0]} less that of the others",
                ModelDifferenceDisplay.from_predictions(
                    results.y, models, reference=shown[0], groups=results.groups, random_state=0
                ),
            )
        )
    drawn.append(
        (
            f"Calibration of {shown[0]}",
            CalibrationDisplay.from_predictions(results.y, {shown[0]: models[shown[0]]}),
        )
    )
    return [(title, png(display.figure_)) for title, display in drawn]


def png(figure):
    """A figure as bytes."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110, bbox_inches="tight")
    return file.getvalue()


def write_report(folder, cohort, settings, seeds, names, left_out):
    """Write tables as parquet and report.html; returns its path."""
    results = Results(folder, cohort, settings, seeds, names)
    reference = (results.present(BEST_FIRST) or list(results.scores))[0]
    tables = {
        "MEDFuse and its peers": seeds_table(results, [*PEERS, *BACKBONES_FIRST], reference),
        "Decisions": decisions_table(results, [*PEERS, *BACKBONES_FIRST]),
        "What each part gives": seeds_table(results, [FULL, *WITHOUT], FULL),
        "Calibration": calibration_table(results, [*PEERS, *BACKBONES_FIRST]),
        "Cost": pd.DataFrame(results.cost).T.round(2),
    }
    if results.subgroups is not None:
        tables[f"Subgroups, {reference}"] = subgroups_table(results, reference)
    place = folder / "tables"
    place.mkdir(exist_ok=True)
    for title, table in tables.items():
        file = title.lower().replace(",", "").replace(" ", "-")
        table.reset_index().astype(str).to_parquet(place / f"{file}.parquet", index=False)
    page = folder / "report.html"
    unfinished = page.with_suffix(".part")
    unfinished.write_text(
        render(cohort, settings, seeds, results, tables, left_out), encoding="utf-8"
    )
    unfinished.replace(page)
    return page


NOTES = {
    "MEDFuse and its peers": "Macro means over the diseases of predictions averaged over the "
    "seeds, 95 % intervals and paired gains from resampling patients.",
    "Decisions": "Thresholds maximise F1 on the out-of-fold predictions of the other folds; means "
    "over the seeds. Accuracy counts all stays and labels alike, so rare labels make it high.",
    "What each part gives": "The paper's ablation; words and the linear part are ours. A gain "
    "whose interval includes zero may be chance.",
    "Calibration": "Of predictions averaged over the seeds. A slope of 1 and an intercept of 0 are "
    "perfect.",
    "Cost": "Fit and predict of one fold. Frozen vectors are embedded by the first model that "
    "needs them and then kept.",
}


def render(cohort, settings, seeds, results, tables, left_out):
    """The page."""
    parts = [
        "<!doctype html><html lang='en'><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width'>",
        f"<title>MEDFuse: the study</title><style>{STYLE}</style><h1>MEDFuse: the study</h1>",
        f"<p>{html.escape(repr(cohort))}. {settings.n_splits} folds, "
        f"{'whole hospitals' if cohort.get('hospitals') is not None else 'patients'} held out, "
        f"seeds {', '.join(map(str, seeds))}. "
        f"Note model: {html.escape(settings.model or 'default')}."
        f" {date.today()}, Python {platform.python_version()}, {installed()}.</p>",
        f"<h2>In short</h2><p>{html.escape(findings(results))}</p>",
    ]
    for title, table in tables.items():
        parts += [f"<h2>{html.escape(title)}</h2><div class='wide'>{table.to_html()}</div>"]
        parts += [f"<p class='note'>{NOTES[title]}</p>"] if title in NOTES else []
    for title, picture in figures(results):
        data = base64.b64encode(picture).decode()
        parts.append(
            f"<h2>{html.escape(title)}</h2>"
            f"<img alt='{html.escape(title)}' src='data:image/png;base64,{data}'>"
        )
    if left_out:
        parts.append(f"<p>Left out: {html.escape('; '.join(left_out))}.</p>")
    return "\n".join(parts)


def installed():
    """Versions of the packages that decide the numbers."""
    found = []
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"{package} from a folder")
    return ", ".join(found)
