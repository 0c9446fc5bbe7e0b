"""Scorers by name in searches, and what scikit-learn's own ones do with several labels."""

import pickle

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, log_loss, make_scorer, roc_auc_score
from sklearn.metrics import get_scorer as get_sklearn_scorer
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.multioutput import MultiOutputClassifier
from sklearn.neural_network import MLPClassifier

from sklearn_medfuse.metrics import (
    expected_calibration_error,
    get_scorer,
    get_scorer_names,
    multilabel_brier_score,
    multilabel_log_loss,
    multilabel_report,
)

NAMES = get_scorer_names()
PROBA = "predict_proba"
AVERAGES = ["macro", "micro", "weighted"]


@pytest.fixture
def table():
    """Three diseases that three columns tell, with noise."""
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(240, 3)), columns=["a", "b", "c"])
    y = (X.to_numpy() + rng.normal(size=X.shape) > 0.5).astype(int)
    return X, pd.DataFrame(y, columns=["CHF", "COPD", "sepsis"])


@pytest.fixture
def mlp():
    return MLPClassifier(hidden_layer_sizes=(), solver="lbfgs", max_iter=200, random_state=0)


class Fixed(ClassifierMixin, BaseEstimator):
    """Gives the probabilities that it is asked about, one column per label."""

    def __init__(self, n_labels):
        self.classes_ = [np.arange(2)] * n_labels

    def predict_proba(self, X):
        return np.asarray(X)


def fixed(y):
    return Fixed(y.shape[1])


def positive(y_prob):
    return np.column_stack([pair[:, 1] for pair in y_prob]) if isinstance(y_prob, list) else y_prob


def test_two_labels_in_a_matrix(table, mlp):
    """scikit-learn's scorers take two columns for the two classes of one label, and fail."""
    X, y = table
    y = y.iloc[:, :2]
    mlp.fit(X, y)
    assert mlp.classes_.tolist() == [0, 1]
    expected = roc_auc_score(y, mlp.predict_proba(X))
    assert get_scorer("macro_auroc")(mlp, X, y) == pytest.approx(expected)
    with pytest.raises(ValueError, match="Expected 2D array"):
        get_sklearn_scorer("roc_auc")(mlp, X, y)


@pytest.mark.parametrize("constant", [0, 1])
def test_a_label_that_is_constant_in_training(table, constant):
    X, y = table
    forest = RandomForestClassifier(n_estimators=5, random_state=0)
    forest.fit(X, y.assign(COPD=constant))
    y_prob = np.column_stack([p[:, -1] for p in forest.predict_proba(X)])
    y_prob[:, 1] = constant
    found = get_scorer("neg_multilabel_brier_score")(forest, X, y)
    assert found == pytest.approx(-multilabel_brier_score(y, y_prob))


@pytest.mark.parametrize("classes", [["well", "sick"], [1, 2]])
def test_classes_other_than_0_and_1_are_refused(table, classes):
    """Else their probabilities would be those of the class 1: 0 where no class is so called."""
    X, y = table
    forest = RandomForestClassifier(3, random_state=0).fit(X, np.array(classes)[y])
    with pytest.raises(ValueError, match="classes other than 0 and 1; fit it on one 0/1 column"):
        get_scorer("macro_auroc")(forest, X, y)


def test_names():
    assert NAMES == [
        "macro_auprc",
        "macro_auroc",
        "micro_auprc",
        "micro_auroc",
        "neg_expected_calibration_error",
        "neg_multilabel_brier_score",
        "neg_multilabel_log_loss",
        "weighted_auprc",
        "weighted_auroc",
    ]
    with pytest.raises(ValueError, match="`name` is 'neg_log_loss'; pass one of"):
        get_scorer("neg_log_loss")


@pytest.mark.parametrize(
    "model",
    [
        MLPClassifier(hidden_layer_sizes=(), solver="lbfgs", random_state=0),
        RandomForestClassifier(n_estimators=10, max_depth=3, random_state=0),
        MultiOutputClassifier(LogisticRegression()),
    ],
    ids=lambda model: type(model).__name__,
)
def test_scores_of_matrices_and_of_lists(table, model):
    X, y = table
    model = clone(model).fit(X, y)
    y_prob = positive(model.predict_proba(X))
    expected = {
        "neg_multilabel_log_loss": -multilabel_log_loss(y, y_prob),
        "neg_multilabel_brier_score": -multilabel_brier_score(y, y_prob),
        "neg_expected_calibration_error": -expected_calibration_error(y, y_prob),
        **{f"{a}_auroc": roc_auc_score(y, y_prob, average=a) for a in AVERAGES},
        **{f"{a}_auprc": average_precision_score(y, y_prob, average=a) for a in AVERAGES},
    }
    for name in NAMES:
        assert get_scorer(name)(model, X, y) == pytest.approx(expected[name], rel=1e-12)


def test_binary_targets(table):
    X, y = table
    model = LogisticRegression().fit(X, y["CHF"])
    y_prob = model.predict_proba(X)[:, 1]
    found = get_scorer("neg_multilabel_log_loss")(model, X, y["CHF"])
    assert found == pytest.approx(-log_loss(y["CHF"], y_prob))
    assert get_scorer("macro_auroc")(model, X, y["CHF"]) == pytest.approx(
        roc_auc_score(y["CHF"], y_prob)
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_grid_search_over_several_labels(table, mlp, name):
    X, y = table
    grid = {"alpha": [1e-4, 1e4]}
    search = GridSearchCV(mlp, grid, scoring=get_scorer(name), cv=3, error_score="raise")
    search.fit(X, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    if name in ("neg_multilabel_log_loss", "neg_multilabel_brier_score"):
        assert search.best_params_ == {"alpha": 1e-4}


@pytest.mark.usefixtures("own_workers")
def test_all_scorers_at_once_in_two_workers(table, mlp):
    X, y = table
    scoring = {name: get_scorer(name) for name in NAMES}
    results = cross_validate(mlp, X, y, cv=3, scoring=scoring, n_jobs=2, error_score="raise")
    for name in NAMES:
        assert np.isfinite(results[f"test_{name}"]).all()


def test_pickle_and_clone(table, mlp):
    X, y = table
    mlp.fit(X, y)
    for name in NAMES:
        scorer = get_scorer(name)
        expected = scorer(mlp, X, y)
        assert pickle.loads(pickle.dumps(scorer))(mlp, X, y) == expected
        search = clone(GridSearchCV(mlp, {}, scoring=scorer))
        assert search.scoring(mlp, X, y) == expected


def test_parameters_of_the_score(table, mlp):
    X, y = table
    mlp.fit(X, y)
    scorer = get_scorer("neg_expected_calibration_error", n_bins=3, strategy="quantile")
    expected = expected_calibration_error(y, mlp.predict_proba(X), n_bins=3, strategy="quantile")
    assert scorer(mlp, X, y) == -expected


@pytest.mark.parametrize("name", NAMES)
def test_row_weights(table, mlp, name):
    X, y = table
    mlp.fit(X, y)
    times = np.random.default_rng(0).integers(0, 3, size=len(X))
    rows = np.repeat(np.arange(len(X)), times)
    expected = get_scorer(name)(mlp, X.iloc[rows], y.iloc[rows])
    found = get_scorer(name)(mlp, X, y, sample_weight=times)
    assert found == pytest.approx(expected, rel=1e-9)


def test_row_weights_by_metadata_routing(table, mlp):
    X, y = table
    weights = np.random.default_rng(0).uniform(0.1, 5, size=len(X))
    with sklearn.config_context(enable_metadata_routing=True):
        scorer = get_scorer("neg_multilabel_log_loss").set_score_request(sample_weight=True)
        mlp.set_fit_request(sample_weight=False)
        results = cross_validate(mlp, X, y, cv=2, scoring=scorer, params={"sample_weight": weights})
        plain = cross_validate(mlp, X, y, cv=2, scoring=get_scorer("neg_multilabel_log_loss"))
    assert (results["test_score"] != plain["test_score"]).all()


@pytest.mark.parametrize("many", [False, True])
def test_row_weights_of_a_search_without_routing(table, mlp, many):
    """What scikit-learn passes on reaches one scorer and several alike, as with its own ones."""
    X, y = table
    weights = np.random.default_rng(0).uniform(0.1, 5, size=len(X))
    ours, theirs = get_scorer("macro_auroc"), make_scorer(roc_auc_score, response_method=PROBA)
    ours, theirs = (
        GridSearchCV(mlp, {}, scoring={"a": s} if many else s, cv=2, refit=False)
        .fit(X, y, sample_weight=weights)
        .cv_results_[f"mean_test_{'a' if many else 'score'}"]
        for s in (ours, theirs)
    )
    assert ours == pytest.approx(theirs)


@pytest.mark.parametrize("name", ["macro_auroc", "macro_auprc"])
def test_a_label_that_is_constant_in_a_fold_is_left_out(labels, scores, name):
    labels[:, 2] = 0
    labels[:, 4] = 1
    found = get_scorer(name)(fixed(labels), scores, labels)
    rest = [0, 1, 3, 5]
    expected = get_scorer(name)(fixed(labels[:, rest]), scores[:, rest], labels[:, rest])
    assert found == pytest.approx(expected)
    report = multilabel_report(labels, scores, n_bootstraps=0)
    assert found == pytest.approx(report.loc["macro", name.removeprefix("macro_")])


@pytest.mark.parametrize("name", ["macro_auroc", "macro_auprc"])
def test_no_label_with_both_classes_is_nan(name):
    y = np.array([[0, 1], [0, 1], [0, 1]])
    assert np.isnan(get_scorer(name)(fixed(y), np.full(y.shape, 0.5), y))


def test_scikit_learns_log_loss_does_not_see_false_positives():
    """Everything for everybody costs nothing in its multi-class formula."""
    y = np.array([[1, 0, 0], [0, 1, 0], [1, 0, 1], [0, 0, 1]])
    careful, careless = np.where(y, 0.9, 0.1), np.full(y.shape, 0.9)
    theirs, ours = get_sklearn_scorer("neg_log_loss"), get_scorer("neg_multilabel_log_loss")
    with pytest.warns(UserWarning, match="do not sum to one"):
        assert theirs(fixed(y), careful, y) == pytest.approx(theirs(fixed(y), careless, y))
    assert ours(fixed(y), careful, y) == pytest.approx(np.log(0.9))
    assert ours(fixed(y), careless, y) < -1.3


@pytest.mark.filterwarnings("ignore:The y_prob values do not sum to one:UserWarning")
def test_scikit_learns_brier_score_grows_with_the_number_of_labels(labels, scores):
    theirs, ours = get_sklearn_scorer("neg_brier_score"), get_scorer("neg_multilabel_brier_score")
    y, y_prob = labels[:, 3:], scores[:, 3:]
    twice = np.hstack([y, y]), np.hstack([y_prob, y_prob])
    model = fixed(y)
    assert ours(model, twice[1], twice[0]) == pytest.approx(ours(model, y_prob, y))
    assert theirs(model, twice[1], twice[0]) == pytest.approx(2 * theirs(model, y_prob, y))
