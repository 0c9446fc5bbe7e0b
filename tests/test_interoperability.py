"""The pipeline works inside other people's software, which no extra installs.

pip install "optuna-integration[sklearn]" mlflow skore fairlearn imbalanced-learn skrub
"""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from sklearn_medfuse import MaskedLabEncoder
from sklearn_medfuse.datasets import make_ehr_cohort
from sklearn_medfuse.model_selection import MultilabelStratifiedGroupKFold
from sklearn_medfuse.persistence import trusted_types

# What the libraries warn of is theirs
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

COHORT = make_ehr_cohort(120, n_labels=3, random_state=0)
X, Y, GROUPS, LABS = COHORT.X, COHORT.y, COHORT.groups, list(COHORT.lab_columns)
SEX = np.where(X["sex"].isna(), "unknown", X["sex"].astype(str))


@pytest.fixture
def pipe(small_pipeline):
    return small_pipeline(LABS, COHORT.note_column, max_epochs=2)


def test_optuna_searches(pipe):
    optuna = pytest.importorskip("optuna")
    search = pytest.importorskip("optuna_integration").OptunaSearchCV(
        pipe,
        {"medfuse__mi_weight": optuna.distributions.FloatDistribution(1e-4, 0.1, log=True)},
        cv=MultilabelStratifiedGroupKFold(2),
        scoring="average_precision",
        n_trials=2,
    )
    assert search.fit(X, Y, groups=GROUPS).predict_proba(X).shape == Y.shape


def test_mlflow_keeps_a_model(pipe, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    mlflow = pytest.importorskip("mlflow")
    pipe.fit(X, Y, groups=GROUPS)
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/runs.db")
    mlflow.create_experiment("medfuse", artifact_location=f"file://{tmp_path}/models")
    mlflow.set_experiment("medfuse")
    with mlflow.start_run():
        types = trusted_types(pipe)
        logged = mlflow.sklearn.log_model(pipe, name="model", skops_trusted_types=types)
    loaded = mlflow.sklearn.load_model(logged.model_uri)
    np.testing.assert_array_equal(loaded.predict_proba(X), pipe.predict_proba(X))


def test_skore_reports(pipe):
    skore = pytest.importorskip("skore")
    y = Y.iloc[:, 0]
    report = skore.EstimatorReport(
        pipe, X_train=X[:80], y_train=y[:80], X_test=X[80:], y_test=y[80:]
    )
    assert 0 <= report.metrics.roc_auc() <= 1


def test_fairlearn_compares_groups_and_sets_thresholds(pipe):
    fairlearn = pytest.importorskip("fairlearn.metrics")
    from fairlearn.postprocessing import ThresholdOptimizer

    y = Y.iloc[:, 0]
    model = ThresholdOptimizer(estimator=pipe, predict_method="predict_proba")
    predicted = model.fit(X, y, sensitive_features=SEX).predict(X, sensitive_features=SEX)
    frame = fairlearn.MetricFrame(
        metrics=fairlearn.selection_rate, y_true=y, y_pred=predicted, sensitive_features=SEX
    )
    assert frame.by_group.between(0, 1).all()


def test_imbalanced_learn_samples_before_it(pipe):
    imblearn = pytest.importorskip("imblearn.pipeline")
    from imblearn.under_sampling import RandomUnderSampler

    whole = imblearn.Pipeline([("sample", RandomUnderSampler(random_state=0)), *pipe.steps])
    assert whole.fit(X, Y.iloc[:, 0]).predict_proba(X).shape == (len(X), 2)


def test_skrub_applies_encoders_to_columns(note_encoder):
    skrub = pytest.importorskip("skrub")
    notes = skrub.ApplyToCols(note_encoder(absent="zero"), cols=[COHORT.note_column])
    # Each column by itself, as ApplyToCols does
    labs = skrub.ApplyToCols(MaskedLabEncoder(4, max_epochs=1, absent="zero"), cols=LABS[:2])
    model = make_pipeline(
        skrub.DropCols([*LABS[2:], "age", "sex"]), notes, labs, LogisticRegression()
    )
    assert model.fit(X, Y.iloc[:, 0]).predict_proba(X).shape == (len(X), 2)
