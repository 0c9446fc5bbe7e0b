"""What the benchmarks share: data, folds, simple models, and tables with intervals.

Importing it keeps the process off the network, and makes `tests.ehr_tables` importable.
"""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from sklearn_medfuse.datasets import load_eicu, load_eicu_demo
from sklearn_medfuse.metrics import multilabel_report, paired_difference
from sklearn_medfuse.model_selection import MultilabelStratifiedGroupKFold

METRICS = ("auroc", "auprc")
HIDDEN_SHARE = 0.2
LARGEST_ERROR = 10.0
# In NHANES the person and the diseases come before and after the labs
NHANES_LABS = slice(3, 37)
_FEWEST_VALUES = 8


# Stays and folds


def load_stays(n_stays=None):
    """The bundled ICU stays, or the first of them with their commonest three labels."""
    cohort = load_eicu_demo()
    if n_stays is None:
        return cohort
    return load_eicu_demo(n_labels=3).select(np.arange(n_stays))


def hospital_folds(cohort, n_splits, seed):
    """Folds that hold out whole hospitals, or patients where no hospital is known."""
    splitter = MultilabelStratifiedGroupKFold(n_splits, shuffle=True, random_state=seed)
    return list(splitter.split(cohort.X, cohort.y, groups=hospital_groups(cohort)))


def hospital_groups(cohort):
    """Hospital of each stay, or its patient where no hospital is known."""
    return np.asarray(cohort.groups if cohort.get("hospitals") is None else cohort.hospitals)


# Simple models


def words():
    """TF-IDF of a text column in which a note may be missing."""
    return make_pipeline(
        FunctionTransformer(fill_missing_notes),
        TfidfVectorizer(ngram_range=(1, 2), min_df=3, sublinear_tf=True),
    )


def fill_missing_notes(notes):
    """Give a vectoriser an empty string where there is no note."""
    return notes.fillna("")


def logistic(C):
    """One logistic regression per label."""
    return OneVsRestClassifier(LogisticRegression(C=C, max_iter=1000))


def penalised(strengths, cv=4):
    """One logistic regression per label on standardised columns; inner folds choose the penalty."""
    one = LogisticRegressionCV(
        Cs=strengths,
        l1_ratios=[0.0],
        cv=cv,
        scoring="neg_log_loss",
        max_iter=1000,
        use_legacy_attributes=False,
    )
    return make_pipeline(StandardScaler(), OneVsRestClassifier(one))


def boosting(seed):
    """One boosted ensemble per label, for some thousand stays."""
    return OneVsRestClassifier(
        HistGradientBoostingClassifier(learning_rate=0.05, max_leaf_nodes=15, random_state=seed)
    )


# Lab tables


def load_lab_tables(folder, names=None):
    """Name → DataFrame of labs, NaN where not measured, without rows or columns that are empty."""
    folder = Path(folder)
    clif = pd.read_parquet(folder / "clif_demo" / "clif_labs.parquet").pivot_table(
        index="hospitalization_id",
        columns="lab_category",
        values="lab_value_numeric",
        aggfunc="mean",
    )
    cohort = load_eicu(folder / "eicu_demo_dev")
    tables = {
        "clif_demo": clif.loc[:, clif.notna().sum() >= _FEWEST_VALUES],
        "nhanes": nhanes(folder).iloc[:, NHANES_LABS],
        "eicu": cohort.X[cohort.lab_columns],
    }
    return {
        name: table.dropna(how="all").astype(float)
        for name, table in tables.items()
        if names is None or name in names
    }


def nhanes(folder):
    """People by labs and diseases that a doctor told them of."""
    return pd.read_parquet(Path(folder) / "nhanes" / "nhanes_2017_2018.parquet")


def hide(table, seed):
    """Return the table without a fifth of its values, all of it, and what was hidden.

    Both are z-scored by the whole table, so that errors of all labs count alike.
    """
    values = table.to_numpy()
    hidden = ~np.isnan(values) & (np.random.default_rng(seed).random(values.shape) < HIDDEN_SHARE)
    scale = np.nanstd(values, axis=0)
    scale[scale == 0] = 1.0
    true = (values - np.nanmean(values, axis=0)) / scale
    return np.where(hidden, np.nan, true), true, hidden


def rmse(imputed, true, hidden):
    """Root mean squared error of the hidden cells in standard deviations of their labs."""
    error = np.clip(imputed[hidden] - true[hidden], -LARGEST_ERROR, LARGEST_ERROR)
    return float(np.sqrt(np.mean(error**2)))


# Tables and processes


def scores_table(y, scores, groups, reference=None):
    """Macro scores with intervals by patient, and the gain of `reference` over each model."""
    rows = {}
    for name, score in scores.items():
        report = multilabel_report(y, score, groups=groups, random_state=0)
        rows[name] = {}
        for metric in METRICS:
            value, low, high = report.loc["macro", [metric, f"{metric}_low", f"{metric}_high"]]
            rows[name][metric.upper()] = f"{value:.4f} [{low:.3f}, {high:.3f}]"
            if reference in scores and name != reference:
                rows[name][f"gain of {reference}, {metric.upper()}"] = gain_text(
                    gain(y, scores[reference], score, groups, metric)
                )
    return pd.DataFrame(rows).T.fillna("")


def one_score(y, score, metric):
    """Macro score without its interval."""
    return multilabel_report(y, score, metrics=(metric,), n_bootstraps=0).loc["macro", metric]


def gain(y, a, b, groups, metric):
    """Macro score of a less that of b, with its interval."""
    difference = paired_difference(y, a, b, metric=metric, groups=groups, random_state=0)
    return difference.loc["macro", ["difference", "difference_low", "difference_high"]]


def gain_text(difference):
    """A difference with its interval."""
    value, low, high = difference
    return f"{value:+.4f} [{low:+.3f}, {high:+.3f}]"


def peak_gib():
    """Largest memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def in_a_process(script, *arguments):
    """Run a script with some arguments; give what its last line says, as json."""
    command = [sys.executable, script, *map(str, arguments)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(output.splitlines()[-1])
