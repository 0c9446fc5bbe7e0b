"""The models of the study by name: peers, note models, MEDFuse, and MEDFuse without a part."""

from importlib.util import find_spec

import numpy as np
from common import boosting, logistic, words
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_medfuse import LLMNoteEncoder, make_medfuse_pipeline

LABS = "labs: HistGradientBoosting"
TFIDF = "notes: TF-IDF + logistic"
MEAN = "mean of the two"
FROZEN = "notes: frozen vectors + logistic"
TUNED = "notes: fine-tuned vectors + logistic"
SKRUB = "skrub TableVectorizer + HistGradientBoosting"
CATBOOST = "CatBoost with text features"
LIGHTGBM = "LightGBM on labs + frozen vectors"
PAPER = "MEDFuse as in the paper"
PLAIN = "MEDFuse"
FULL = "MEDFuse with words and lab text"
NAIVE_BAYES = "MEDFuse with words, lab text, naive Bayes"
ALL = "MEDFuse with all views"
ALL_TUNED = "MEDFuse with all views, fine-tuned"

PEERS = (LABS, TFIDF, MEAN, FROZEN, SKRUB, CATBOOST, LIGHTGBM)
# What each MEDFuse reads, as views and parameters of its pipeline.
VIEWS = {
    PAPER: {"lab_text": True, "linear_weight": 0.0},
    PLAIN: {},
    FULL: {"lab_text": True, "words": True},
}
VIEWS[NAIVE_BAYES] = VIEWS[FULL] | {"naive_bayes": True}
VIEWS[ALL] = VIEWS[ALL_TUNED] = VIEWS[NAIVE_BAYES] | {"boosted": True}
# The ablation table: what is removed from FULL, as parameters.
WITHOUT = {
    "without LABTEXT": {"lab_text": False},
    "without MLTM and LABTEXT": {"lab_text": False, "imputed": True},
    "without TEXT": {"lab_text": False, "words": False, "fusion": "labs"},
    "without labs": {"lab_text": False, "words": False, "fusion": "notes"},
    "without disentangled module: concat": {"fusion": "concat"},
    "without disentangled module: late": {"fusion": "late"},
    "without disentangled module: kronecker": {"fusion": "kronecker"},
    "without MI": {"mi_weight": 0.0},
    "without words": {"words": False},
    "without linear part": {"linear_weight": 0.0},
}
PACKAGES = {SKRUB: "skrub", CATBOOST: "catboost", LIGHTGBM: "lightgbm"}


def model_names(settings):
    """All models in the order of the report; the mean is taken in the report."""
    peers = [name for name in PEERS if name != MEAN]
    ours = [PAPER, PLAIN, FULL, NAIVE_BAYES, ALL, *WITHOUT]
    return [*peers, TUNED, *ours, ALL_TUNED] if tunes(settings) else [*peers, *ours]


def tunes(settings):
    """Whether the note model is fine-tuned too: asked for, or the default model is at hand."""
    return settings.fine_tuning is not None or settings.model is None


def missing_package(name):
    """The missing package that a model needs, or None."""
    package = PACKAGES.get(name)
    return package if package and find_spec(package) is None else None


def make_model(name, cohort, settings, seed, cache):
    """Unfitted estimator on the cohort's X, with `predict_proba` (n, n_labels)."""
    labs, note = cohort.lab_columns, cohort.note_column
    encoder = note_encoder(settings, seed, cache)
    tuned = note_encoder(settings, seed, cache, tuned=True)
    vectors = [SimpleImputer(keep_empty_features=True), StandardScaler(), logistic(0.003)]
    if name == LABS:
        return on(labs, "passthrough", boosting(seed))
    if name == TFIDF:
        return on(note, words(), logistic(3))
    if name in (FROZEN, TUNED):
        return on(note, tuned if name == TUNED else encoder, *vectors)
    if name == SKRUB:
        from skrub import TableVectorizer

        return make_pipeline(TableVectorizer(), boosting(seed))
    if name == CATBOOST:
        return CatBoostPerLabel(note, random_state=seed)
    if name == LIGHTGBM:
        embedded = ColumnTransformer([("labs", "passthrough", labs), ("notes", encoder, note)])
        return make_pipeline(
            embedded.set_output(transform="pandas"), OneVsRestClassifier(light_boosting(seed))
        )
    return medfuse(name, cohort, tuned if name == ALL_TUNED else encoder, seed)


def medfuse(name, cohort, encoder, seed):
    """MEDFuse, whole or without a part."""
    params = VIEWS[FULL] | WITHOUT[name] if name in WITHOUT else dict(VIEWS[name])
    if params.pop("imputed", False):
        params["lab_encoder"] = make_pipeline(
            SimpleImputer(keep_empty_features=True), StandardScaler()
        )
    names = ("lab_text", "words", "naive_bayes", "boosted")
    return make_medfuse_pipeline(
        cohort.lab_columns,
        cohort.note_column,
        views={view: params.pop(view) for view in names if view in params},
        note_encoder=encoder,
        random_state=seed,
        **params,
    )


def note_encoder(settings, seed, cache, tuned=False):
    """The note model: frozen, with its vectors kept for all models, or fine-tuned."""
    params = {} if settings.model is None else {"model": settings.model}
    if not tuned:
        return LLMNoteEncoder(**params, cache=cache)
    if settings.max_epochs is not None:
        params["max_epochs"] = settings.max_epochs
    if settings.mimic3 is None:
        # On the bundled stays the default, 3, takes three times as long and finds no better epoch.
        params["n_iter_no_change"] = 1
    return LLMNoteEncoder(**params, fine_tuning=settings.fine_tuning or "lora", random_state=seed)


def on(columns, encoder, *steps):
    """Some columns, encoded, then further steps."""
    return make_pipeline(ColumnTransformer([("x", encoder, columns)]), *steps)


def light_boosting(seed):
    """LightGBM for a thousand stays."""
    from lightgbm import LGBMClassifier

    return LGBMClassifier(
        n_estimators=100, learning_rate=0.05, num_leaves=15, n_jobs=1, random_state=seed, verbose=-1
    )


class CatBoostPerLabel(ClassifierMixin, BaseEstimator):
    """CatBoost with the note as a text feature, a model per label.

    Parameters
    ----------
    note_column : str
        Column of the note.
    iterations : int, default=300
        Trees.
    random_state : int or None, default=None
        Seed.
    """

    def __init__(self, note_column, iterations=300, random_state=None):
        self.note_column = note_column
        self.iterations = iterations
        self.random_state = random_state

    def fit(self, X, y):
        """Fit a model per label."""
        from catboost import CatBoostClassifier

        self.models_ = [
            CatBoostClassifier(
                iterations=self.iterations,
                learning_rate=0.05,
                depth=4,
                text_features=[self.note_column],
                random_seed=self.random_state,
                thread_count=1,
                allow_writing_files=False,
                verbose=False,
            ).fit(self._filled(X), column)
            for column in np.asarray(y).T
        ]
        return self

    def predict_proba(self, X):
        """Probabilities (n_rows, n_labels)."""
        return np.stack([m.predict_proba(self._filled(X))[:, 1] for m in self.models_], axis=1)

    def _filled(self, X):
        return X.assign(**{self.note_column: X[self.note_column].fillna("").astype(object)})
