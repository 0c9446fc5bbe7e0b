"""Does the pipeline work inside other people's software? Prints works, or fails and why, for each.

    python benchmarks/interoperability.py

Needs optuna, optuna-integration[sklearn], mlflow, skore, fairlearn, imbalanced-learn, skrub and
polars; what is not installed is named and left out.
"""

import logging
import os
import tempfile
import warnings

os.environ |= {"HF_HUB_OFFLINE": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}

import numpy as np
from sklearn.linear_model import LogisticRegression

from sklearn_medfuse import LLMNoteEncoder, MaskedLabEncoder, NoteWordEncoder, make_medfuse_pipeline
from sklearn_medfuse.datasets import make_ehr_cohort
from sklearn_medfuse.model_selection import MultilabelStratifiedGroupKFold
from sklearn_medfuse.persistence import trusted_types

COHORT = make_ehr_cohort(120, n_labels=3, random_state=0)
X, Y, GROUPS, LABS = COHORT.X, COHORT.y, COHORT.groups, list(COHORT.lab_columns)
SEX = np.where(X["sex"].isna(), "unknown", X["sex"].astype(str))


def pipeline(**params):
    """Build a pipeline that is fitted in seconds."""
    labs = MaskedLabEncoder(4, max_epochs=1)
    small = {"n_estimators": 1, "max_epochs": 2, "d_model": 8, "n_heads": 2, "random_state": 0}
    return make_medfuse_pipeline(
        LABS,
        COHORT.note_column,
        lab_encoder=labs,
        note_encoder=NoteWordEncoder(4),
        **small | params,
    )


def optuna_search():
    import optuna
    from optuna.integration import OptunaSearchCV

    search = OptunaSearchCV(
        pipeline(),
        {"medfuse__mi_weight": optuna.distributions.FloatDistribution(1e-4, 0.1, log=True)},
        cv=MultilabelStratifiedGroupKFold(2),
        scoring="average_precision",
        n_trials=2,
    )
    assert search.fit(X, Y, groups=GROUPS).predict_proba(X).shape == Y.shape


def mlflow_log_model():
    import mlflow

    pipe = pipeline().fit(X, Y, groups=GROUPS)
    with tempfile.TemporaryDirectory() as folder:
        mlflow.set_tracking_uri(f"sqlite:///{folder}/runs.db")
        mlflow.create_experiment("medfuse", artifact_location=f"file://{folder}/models")
        mlflow.set_experiment("medfuse")
        with mlflow.start_run():
            types = trusted_types(pipe)
            logged = mlflow.sklearn.log_model(pipe, name="model", skops_trusted_types=types)
        loaded = mlflow.sklearn.load_model(logged.model_uri)
        np.testing.assert_array_equal(loaded.predict_proba(X), pipe.predict_proba(X))


def skore_report():
    import skore

    report = skore.EstimatorReport(
        pipeline(), X_train=X[:80], y_train=Y.iloc[:80, 0], X_test=X[80:], y_test=Y.iloc[80:, 0]
    )
    assert 0 <= report.metrics.roc_auc() <= 1


def fairlearn_metric_frame():
    from fairlearn.metrics import MetricFrame, selection_rate

    y = Y.iloc[:, 0]
    predicted = pipeline().fit(X, y, groups=GROUPS).predict(X)
    frame = MetricFrame(metrics=selection_rate, y_true=y, y_pred=predicted, sensitive_features=SEX)
    assert frame.by_group.between(0, 1).all()


def fairlearn_threshold_optimizer():
    from fairlearn.postprocessing import ThresholdOptimizer

    y = Y.iloc[:, 0]
    model = ThresholdOptimizer(estimator=pipeline(), predict_method="predict_proba")
    model.fit(X, y, sensitive_features=SEX)
    assert len(model.predict(X, sensitive_features=SEX, random_state=0)) == len(X)


def imbalanced_learn_pipeline():
    from imblearn.pipeline import Pipeline
    from imblearn.under_sampling import RandomUnderSampler

    y = Y.iloc[:, 0]
    steps = [("sample", RandomUnderSampler(random_state=0)), *pipeline().steps]
    assert Pipeline(steps).fit(X, y).predict_proba(X).shape == (len(X), 2)


def skrub_apply_to_cols():
    import skrub
    from sklearn.pipeline import make_pipeline

    notes = skrub.ApplyToCols(LLMNoteEncoder(absent="zero"), cols=[COHORT.note_column])
    # Each column by itself, as ApplyToCols does
    labs = skrub.ApplyToCols(MaskedLabEncoder(4, max_epochs=1, absent="zero"), cols=LABS[:2])
    model = make_pipeline(
        skrub.DropCols([*LABS[2:], "age", "sex"]), notes, labs, LogisticRegression()
    )
    assert model.fit(X, Y.iloc[:, 0]).predict_proba(X).shape == (len(X), 2)


def polars_frames():
    import polars as pl

    frame, labels = pl.from_pandas(X), pl.from_pandas(Y)
    pipe = pipeline().fit(frame, labels, groups=pl.Series(GROUPS.to_list()))
    same = pipeline().fit(X, Y, groups=GROUPS)
    assert list(pipe[-1].target_names_) == list(Y.columns)
    np.testing.assert_array_equal(pipe.predict_proba(frame), same.predict_proba(X))


CHECKS = {
    "optuna: OptunaSearchCV": optuna_search,
    "MLflow: log_model, default format": mlflow_log_model,
    "skore: EstimatorReport": skore_report,
    "fairlearn: MetricFrame": fairlearn_metric_frame,
    "fairlearn: ThresholdOptimizer": fairlearn_threshold_optimizer,
    "imbalanced-learn: Pipeline": imbalanced_learn_pipeline,
    "skrub: ApplyToCols": skrub_apply_to_cols,
    "polars: DataFrame and Series": polars_frames,
}

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    for name, check in CHECKS.items():
        try:
            check()
            outcome = "works"
        except ModuleNotFoundError as error:
            outcome = f"not installed: {error.name}"
        except Exception as error:
            outcome = f"FAILS: {type(error).__name__}: {error}"
        print(f"{name:36} {outcome}", flush=True)
