"""Ten ICD-10 groups from full notes and labs: does the fusion keep the words that name them?

A simulated hospital (clinosim, long tables): one row per patient, all notes joined, the last value
of each lab, the ten most prevalent ICD-10 groups; a quarter of the patients held out. `text` names
the diagnoses, `text_without_diagnoses` does not. Thresholds are tuned out of fold.

    python benchmarks/fusion_headline.py FOLDER [--seeds 0 2 3] [--quick]
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from common import boosting, logistic, scores_table, words
from sklearn.linear_model import LogisticRegressionCV
from sklearn.metrics import f1_score
from sklearn.model_selection import TunedThresholdClassifierCV, train_test_split
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sklearn_medfuse import make_medfuse_pipeline

N_LABELS = 10
ALL = "MEDFuse with all views"
TUNED = "notes: TF-IDF + logistic, tuned thresholds and penalty"


def read_patients(folder, text):
    """X with labs and a note, y of the ten most prevalent groups, a row per patient."""
    labs, notes, diagnoses = (
        pd.read_parquet(Path(folder) / f"{name}.parquet")
        for name in ("lab_results", "notes", "diagnoses")
    )
    labs["value"] = pd.to_numeric(labs["value"], errors="coerce")
    last = labs.sort_values("time").pivot_table("value", "patient_id", "code", aggfunc="last")
    note = (
        notes.sort_values("time")
        .groupby("patient_id")[text]
        .agg(lambda texts: "\n\n".join(texts.dropna()))
    )
    diagnoses["group"] = diagnoses["code"].str[:3]
    counts = diagnoses.groupby("group")["patient_id"].nunique().nlargest(N_LABELS)
    y = pd.crosstab(diagnoses["patient_id"], diagnoses["group"]).clip(upper=1)[counts.index]
    patients = note.index.union(last.index)
    X = last.reindex(patients).astype(float)
    X.columns = [f"loinc {code}" for code in X.columns]
    X = X.assign(note=note.reindex(patients).astype(object))
    return X, y.reindex(patients, fill_value=0)


def select(columns):
    """Take some columns of a table."""
    return FunctionTransformer(lambda X: X[columns])


def tuned_f1(X, y, train, test):
    """Macro F1 of TF-IDF and logistic regression, penalty and thresholds chosen by inner folds."""
    one = LogisticRegressionCV(
        Cs=[1, 3, 10, 30, 100],
        l1_ratios=[0.0],
        cv=3,
        scoring="neg_log_loss",
        max_iter=1000,
        use_legacy_attributes=False,
    )
    tuned = MultiOutputClassifier(TunedThresholdClassifierCV(one, scoring="f1", cv=5))
    model = make_pipeline(select("note"), words(), tuned).fit(X.iloc[train], y.iloc[train])
    return f1_score(y.iloc[test], model.predict(X.iloc[test]), average="macro")


def make_models(lab_columns, seed):
    """Name → unfitted estimator."""
    options = {
        "threshold": "tune",
        "linear_weight": "auto",
        "decision_folds": 5,
        "max_epochs": 25,
        "random_state": seed,
    }
    views = {
        "MEDFuse without further views": {},
        "MEDFuse with words": {"words": True},
        "MEDFuse with words and boosted labs": {"words": True, "boosted": True},
        "MEDFuse with words and naive Bayes": {"words": True, "naive_bayes": True},
        ALL: {"words": True, "boosted": True, "naive_bayes": True},
    }
    return {
        "labs: HistGradientBoosting": make_pipeline(select(lab_columns), boosting(seed)),
        "notes: TF-IDF + logistic": make_pipeline(select("note"), words(), logistic(3)),
        **{
            name: make_medfuse_pipeline(lab_columns, "note", views=view, **options)
            for name, view in views.items()
        },
    }


def main():
    """Print macro F1 at each model's own decisions, then ranking scores with intervals."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", help="where lab_results, notes and diagnoses.parquet lie")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 2, 3])
    parser.add_argument("--quick", action="store_true", help="150 patients, one seed")
    options = parser.parse_args()
    for text in ("text", "text_without_diagnoses"):
        X, y = read_patients(options.folder, text)
        if options.quick:
            X, y = X[:150].assign(note=X["note"][:150].str[:500]), y.iloc[:150, :4]
            options.seeds = options.seeds[:1]
        # A lab that hardly any patient has tells nothing
        X = X.dropna(axis=1, thresh=30)
        for seed in options.seeds:
            train, test = train_test_split(np.arange(len(X)), test_size=0.25, random_state=seed)
            scores, f1 = {}, {}
            for name, model in make_models(X.columns.drop("note").tolist(), seed).items():
                model.fit(X.iloc[train], y.iloc[train])
                scores[name] = model.predict_proba(X.iloc[test])
                f1[name] = f1_score(y.iloc[test], model.predict(X.iloc[test]), average="macro")
            f1[TUNED] = tuned_f1(X, y, train, test)
            print(f"\n{text}, seed {seed}, {len(train)} patients trained on, {len(test)} held out")
            print(pd.Series(f1, name="macro F1").round(4).to_string())
            table = scores_table(y.iloc[test], scores, y.index[test], ALL)
            print(table.to_string(), flush=True)


if __name__ == "__main__":
    main()
