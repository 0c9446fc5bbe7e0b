"""
Evaluation: is it better, is it calibrated, is it fair?
=======================================================

One number per model hides what a reader of a clinical study asks first: how certain it is, whether
a difference is more than luck, whether 20 % means 20 %, and for whom the model is worse. This
example answers these questions on real ICU stays, with whole hospitals held out.
"""

# %%
# Predictions for every stay
# --------------------------
# Three folds hold out whole hospitals, with an even share of each label's positives. Each stay is
# predicted once, by a model that has not seen its hospital. The notes are read as words here, which
# takes a second; in the quickstart a language model reads them.
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import LearningCurveDisplay, cross_val_predict
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline

from sklearn_medfuse import MaskedLabEncoder, MEDFuseClassifier, NoteWordEncoder
from sklearn_medfuse.datasets import load_eicu_demo
from sklearn_medfuse.metrics import (
    calibration_report,
    multilabel_log_loss,
    multilabel_report,
    paired_difference,
)
from sklearn_medfuse.model_selection import MultilabelStratifiedGroupKFold
from sklearn_medfuse.plotting import (
    CalibrationDisplay,
    DecisionCurveDisplay,
    LabelCurvesDisplay,
    LabelScoresDisplay,
    ModelDifferenceDisplay,
    SubgroupDisplay,
)

cohort = load_eicu_demo(n_labels=5)
encode = ColumnTransformer(
    [
        ("labs", MaskedLabEncoder(32, max_epochs=5, random_state=0), cohort.lab_columns),
        ("notes", NoteWordEncoder(100, random_state=0), cohort.note_column),
    ]
).set_output(transform="pandas")
# Gradient boosting on the labs, and MEDFuse on labs and notes
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
# independent observations. Read AUPRC beside the prevalence, which is the AUPRC of chance.
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
# Both models are scored on the same resamples, so what makes a resample hard for both cancels out.
# Their own intervals may overlap even where the difference is clear.
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
# Precision-recall curves of each disease; ``kind="roc"`` draws ROC curves.
LabelCurvesDisplay.from_predictions(cohort.y, scores, kind="precision_recall")

# %%
# Does 20 % mean 20 %?
# --------------------
# Of the stays to which a model gives about 20 %, a fifth should have the disease. The log loss
# measures ranking and calibration in one number; scikit-learn's own treats several labels as
# several classes, so use this one.
CalibrationDisplay.from_predictions(cohort.y, scores, n_bins=5)

# %%
for name, score in scores.items():
    print(f"{name}: log loss {multilabel_log_loss(cohort.y, score):.3f}")

# %%
# A slope below 1 means that probabilities are too extreme, an intercept below 0 that they are too
# high.
calibration = calibration_report(
    cohort.y, scores["MEDFuse"], groups=cohort.groups, n_bootstraps=200, random_state=0
)
calibration[["slope", "slope_low", "slope_high", "intercept", "ece"]].round(3)

# %%
# Is it useful?
# -------------
# Acting at a probability of 20 % or more accepts four false alarms for one hit. At that rate, is
# the model better than acting on everybody, and than acting on nobody?
DecisionCurveDisplay.from_predictions(cohort.y, scores, groups=cohort.groups, random_state=0)

# %%
# For whom is it worse?
# ---------------------
# The figure shows macro AUROC by sex and by age. Small groups have wide intervals, and groups of a
# few patients are not shown. Judge a gap by its interval and by the number of gaps examined.
attributes = cohort.subgroups[["sex", "age"]]
SubgroupDisplay.from_predictions(
    cohort.y, scores["MEDFuse"], attributes, groups=cohort.groups, random_state=0
)

# %%
# Would more patients help?
# -------------------------
# scikit-learn's learning curve takes several labels, and splits by hospital.
LearningCurveDisplay.from_estimator(
    models["boosting"],
    cohort.X,
    cohort.y,
    groups=cohort.hospitals,
    cv=folds,
    train_sizes=[0.3, 0.6, 1.0],
    shuffle=True,
    random_state=0,
    scoring="average_precision",
    score_type="test",
    score_name="macro AUPRC",
)
