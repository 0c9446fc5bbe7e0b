"""
From csv tables to a fitted model
=================================

This script reads four csv files of any hospital, reports on held-out patients and saves a model.
Pass column names that differ from those of :func:`~sklearn_medfuse.datasets.load_tables` in
`columns`.

    python examples/own_tables.py FOLDER
"""

import sys
from pathlib import Path

from sklearn_medfuse import make_medfuse_pipeline
from sklearn_medfuse.datasets import load_tables
from sklearn_medfuse.metrics import multilabel_report
from sklearn_medfuse.persistence import save_model

folder = Path(sys.argv[1])
stay = {"stay": "encounter_id"}
cohort = load_tables(
    labs=folder / "lab_results.csv",
    notes=folder / "notes.csv",
    diagnoses=folder / "diagnoses.csv",
    stays=folder / "encounters.csv",
    columns={
        "stays": {"stay_id": "encounter_id"},
        "labs": stay,
        "notes": stay,
        "diagnoses": stay,
    },
    index_time="24h",  # Nothing that happened later reaches the model
    n_labels=5,  # The most prevalent diseases
)
print(cohort)

train, test = cohort.train_test_split(by="patient", random_state=0)
pipe = make_medfuse_pipeline(cohort.lab_columns, cohort.note_column, random_state=0)
pipe.fit(train.X, train.y, groups=train.groups)

predicted = pipe.predict_proba(test.X)
report = multilabel_report(test.y, predicted, groups=test.groups, random_state=0)
print(report[["prevalence", "auroc", "auroc_low", "auroc_high", "auprc"]].round(3))
save_model(pipe, folder / "medfuse.skops")
