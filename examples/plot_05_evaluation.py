"""
Evaluation: is it better, is it calibrated, is it fair?
=======================================================

One number per model hides what a reader of a clinical study asks first: how certain it is, whether
a difference is more than luck, whether 20 % means 20 %, and for whom the model is worse. Real ICU
stays, whole hospitals held out.
"""

# %%
# Predictions for every stay
# --------------------------
# Three folds that hold out whole hospitals, each label with an even share of its positives in every
# fold. Each stay is predicted once, by a model that has not seen its hospital.
# The notes are read as words here, which takes a second; a language model reads them in the
# quickstart.
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import cross_val_predict
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline

from sklearn_medfuse import MaskedLabEncoder, MEDFuseClassifier, NoteWordEncoder
from sklearn_medfuse.datasets import load_eicu_demo
from sklearn_medfuse.metrics import multilabel_log_loss, multilabel_report, paired_difference
from sklearn_medfuse.model_selection import MultilabelStratifiedGroupKFold
from sklearn_medfuse.plotting import (
    CalibrationDisplay,
    LabelPrecisionRecallDisplay,
    LabelScoresDisplay,
    ModelDifferenceDisplay,
)

cohort = load_eicu_demo(n_labels=5)
encode = ColumnTransformer(
    [
        ("labs", MaskedLabEncoder(32, max_epochs=5, random_state=0), cohort.lab_columns),
        ("notes", NoteWordEncoder(100, random_state=0), cohort.note_column),
    ]
).set_output(transform="pandas")
# gradient boosting on the labs alone, and labs and notes fused
models = {
    "boosting": Pipeline(
        [
            ("labs", ColumnTransformer([("labs", "passthrough", cohort.lab_columns)])),
            (
                "boosting",
                OneVsRestClassifier(
                    HistGradientBoostingClassifier(learning_rate=0.05, max_iter=50, random_state=0)
                ),
            ),
        ]
    ),
    "MEDFuse": Pipeline(
        [("encode", encode), ("medfuse", MEDFuseClassifier(n_estimators=2, random_state=0))]
    ),
}
folds = MultilabelStratifiedGroupKFold(3, shuffle=True, random_state=0)
scores = {
    name: cross_val_predict(
        model, cohort.X, cohort.y, groups=cohort.hospitals, cv=folds, method="predict_proba"
    )
    for name, model in models.items()
}

# %%
# The report
# ----------
# Intervals come from resampling patients, not stays: two stays of one patient are not two
# independent observations. AUPRC is to be read beside the prevalence, which is what chance gets.
reports = {
    name: multilabel_report(cohort.y, score, groups=cohort.groups, random_state=0)
    for name, score in scores.items()
}
columns = ["n_positive", "prevalence", "auroc", "auroc_low", "auroc_high", "auprc"]
reports["MEDFuse"][columns].round(3)

# %%
LabelScoresDisplay.from_reports(reports, metric="auprc")

# %%
# Is it better?
# -------------
# Both models are scored on the same resamples, so what makes a draw hard for both cancels. Their
# own intervals may overlap where the difference is clear.
difference = paired_difference(
    cohort.y,
    scores["MEDFuse"],
    scores["boosting"],
    groups=cohort.groups,
    random_state=0,
)
difference.round(3)

# %%
ModelDifferenceDisplay.from_predictions(
    cohort.y, scores, reference="MEDFuse", groups=cohort.groups, random_state=0
)

# %%
# Curves of one disease each, where one number is too little.
LabelPrecisionRecallDisplay.from_predictions(cohort.y, scores)

# %%
# Does 20 % mean 20 %?
# --------------------
# Of the stays to which a model gives about 20 %, a fifth should have the disease. The log loss
# puts ranking and calibration into one number; scikit-learn's own takes several labels for several
# classes, so use this one.
CalibrationDisplay.from_predictions(cohort.y, scores, n_bins=5)

# %%
for name, score in scores.items():
    print(f"{name}: log loss {multilabel_log_loss(cohort.y, score):.3f}")

# %%
# For whom is it worse?
# ---------------------
# The same report by sex and by age. Small groups have wide intervals: a gap between two groups
# means little unless they are looked at together.
bands = ["under 50", "50 to 64", "65 to 79", "80 and over"]
age = pd.cut(cohort.subgroups["age"], [0, 50, 65, 80, 120], right=False, labels=bands).astype(str)
groups = pd.concat([cohort.subgroups["sex"], age.rename("age")], axis=1)
score = scores["MEDFuse"]
rows = []
for attribute in groups:
    for value, members in groups.groupby(attribute).groups.items():
        chosen = cohort.X.index.isin(members)
        if chosen.sum() < 50:
            continue  # too few to say anything of
        macro = multilabel_report(
            cohort.y[chosen], score[chosen], groups=cohort.groups[chosen], random_state=0
        ).loc["macro"]
        found = macro[["auroc", "auroc_low", "auroc_high"]]
        rows.append({"attribute": attribute, "group": value, "stays": chosen.sum(), **found})
pd.DataFrame(rows).set_index(["attribute", "group"]).round(3)
