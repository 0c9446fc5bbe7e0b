"""
From your own tables to a fitted model
======================================

This script reads four tables of any hospital, csv or parquet, reports on held-out patients, saves
the model, loads it as a colleague would, and predicts and explains a patient whom it has not seen.
Pass column names that differ from those of :func:`~sklearn_medfuse.datasets.load_tables` in
`columns`.

    python examples/own_tables.py FOLDER
"""

import sys
from pathlib import Path

from sklearn_medfuse import make_medfuse_pipeline
from sklearn_medfuse.datasets import load_tables
from sklearn_medfuse.inspection import lab_attributions, note_attributions
from sklearn_medfuse.metrics import multilabel_report
from sklearn_medfuse.persistence import load_model, save_model

folder = Path(sys.argv[1])
names = {"stays": "encounters", "labs": "lab_results", "notes": "notes", "diagnoses": "diagnoses"}
cohort = load_tables(
    # .csv, .csv.gz or .parquet
    **{table: next(folder.glob(f"{name}.*"), name) for table, name in names.items()},
    columns={table: {"stay": "encounter_id"} for table in names if table != "stays"}
    | {"stays": {"stay_id": "encounter_id"}},
    index_time="24h",  # Nothing that happened later reaches the model
    n_labels=5,  # The most prevalent diseases
)
print(cohort)

# Probabilities are calibrated and thresholds tuned on patients held out inside fit
train, test = cohort.train_test_split(by="patient", random_state=0)
pipe = make_medfuse_pipeline(cohort.lab_columns, cohort.note_column, random_state=0, verbose=1)
pipe.fit(train.X, train.y, groups=train.groups)

report = multilabel_report(
    test.y,
    pipe.predict_proba(test.X),
    metrics=["auroc", "auprc", "ece", "sensitivity", "ppv"],
    threshold=pipe,
    groups=test.groups,
    random_state=0,
)
print(report.drop(columns=report.filter(regex="_low|_high")).round(3).to_string())
save_model(pipe, folder / "medfuse.skops")

loaded, patient = load_model(folder / "medfuse.skops"), test.X.iloc[:1]
risk = loaded.predict_proba(patient)[0]
label = test.y.columns[risk.argmax()]
print(f"\nThe most probable disease of the first new patient is {label}: {risk.max():.0%}")
labs = lab_attributions(loaded, patient, cohort.lab_columns, labels=label, random_state=0)
note = note_attributions(loaded, patient, cohort.note_column, labels=label)
for why in labs.to_frame(), note.to_frame(note=patient[cohort.note_column].iloc[0]):
    print(why.sort_values(label, key=abs, ascending=False).head(5).round(2).to_string())
