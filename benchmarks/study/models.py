"""The models of the study by name, each with the candidates among which its search chooses.

A model is a function from the context and a candidate's parameters to an unfitted estimator with
`predict_proba`. The first candidate is what is used without a search.
"""

from pathlib import Path
from typing import NamedTuple

from blends import (
    Blend,
    Logits,
    character_terms,
    labs_regression,
    note_characters,
    note_phrases,
    on,
)
from common import logistic, words
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.model_selection import ParameterGrid
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from sklearn_medfuse import (
    LLMNoteEncoder,
    NaiveBayesNoteEncoder,
    NoteWordEncoder,
    make_medfuse_pipeline,
)
from sklearn_medfuse.persistence import PrivateMemory

LABS = "labs: HistGradientBoosting"
TFIDF = "notes: TF-IDF + logistic"
FROZEN = "notes: frozen vectors + logistic"
SKRUB = "skrub TableVectorizer + HistGradientBoosting"
CATBOOST = "CatBoost with text features"
LIGHTGBM = "LightGBM on labs + frozen vectors"
BLEND_A = "blend A: words, characters, labs"
BLEND_B = "blend B: A + frozen vectors"
PAPER = "MEDFuse as in the paper"
DEFAULT = "MEDFuse, default"
SEARCHED = "MEDFuse, searched"
NET = "MEDFuse: its net alone, searched"
REGRESSIONS = "MEDFuse: its regressions alone, searched"
TUNED = "MEDFuse, fine-tuned"

PEERS = (LABS, TFIDF, FROZEN, SKRUB, CATBOOST, LIGHTGBM, BLEND_A, BLEND_B)
OURS = (PAPER, DEFAULT, SEARCHED, REGRESSIONS, NET)
PACKAGES = {SKRUB: "skrub", CATBOOST: "catboost", LIGHTGBM: "lightgbm"}
# Ranking needs neither, and a search fits a net per candidate and fold
UNDECIDED = {"calibration": None, "threshold": 0.5}
_ALL_LINEAR = {"linear_weight": 1, "n_estimators": 1, "max_epochs": 1, **UNDECIDED}


class Context(NamedTuple):
    """What a model is made from; `place` is where vectors and encoded stays are kept."""

    cohort: dict
    settings: object
    seed: int
    place: Path


def boosting(context, leaves=4, rate=0.03, trees=100):
    """One boosted ensemble of scikit-learn per label."""
    return OneVsRestClassifier(
        HistGradientBoostingClassifier(
            max_iter=trees, max_leaf_nodes=leaves, learning_rate=rate, random_state=context.seed
        )
    )


def boosted_labs(context, **params):
    """Boosting on labs."""
    return on(context.cohort.lab_columns, "passthrough", boosting(context, **params))


def tfidf(context, analyzer="word", C=3):
    """Logistic regression on terms of words or characters."""
    encoder = words()
    if analyzer == "char_wb":
        encoder.steps[-1] = "terms", character_terms()
    return on(context.cohort.note_column, encoder, logistic(C))


def frozen(context, C=0.003):
    """Logistic regression on vectors of the note model."""
    steps = note_encoder(context), SimpleImputer(keep_empty_features=True), StandardScaler()
    return on(context.cohort.note_column, *steps, logistic(C))


def skrub_boosting(context, **params):
    """Boosting on skrub's table of everything."""
    from skrub import StringEncoder, TableVectorizer

    encoder = TableVectorizer(high_cardinality=StringEncoder(random_state=context.seed))
    return make_pipeline(encoder, boosting(context, **params))


def catboost(context, depth=2, trees=150):
    """CatBoost on labs, with the note as a text feature, a model per label."""
    from catboost import CatBoostClassifier

    note = context.cohort.note_column
    one = CatBoostClassifier(
        iterations=trees,
        learning_rate=0.05,
        depth=depth,
        text_features=(note,),  # A list is copied, and cannot be cloned
        random_seed=context.seed,
        thread_count=1,
        allow_writing_files=False,
        verbose=False,
    )
    fill = FunctionTransformer(lambda X: X.fillna({note: ""}).astype({note: object}))
    return make_pipeline(fill, OneVsRestClassifier(one))


def lightgbm(context, leaves=4, rate=0.05, trees=100):
    """LightGBM on labs and vectors of the note model."""
    from lightgbm import LGBMClassifier

    labs, note = context.cohort.lab_columns, context.cohort.note_column
    parts = [("labs", "passthrough", labs), ("notes", note_encoder(context), note)]
    one = LGBMClassifier(
        n_estimators=trees,
        learning_rate=rate,
        num_leaves=leaves,
        colsample_bytree=0.2,
        n_jobs=1,
        random_state=context.seed,
        verbose=-1,
    )
    encode = ColumnTransformer(parts).set_output(transform="pandas")
    return make_pipeline(encode, OneVsRestClassifier(one))


def blend(context, vectors=False, C=0.03, characters_C=2, labs=0.5):
    """Blend A, or B with vectors."""
    cohort = context.cohort
    members = [(note_phrases(cohort, C), 1), (note_characters(cohort, characters_C), 1)]
    if labs:
        members += [(labs_regression(cohort), labs), (boosted_labs(context), labs)]
    if vectors:
        members.append((frozen(context), 1))
    return Blend(members)


def word_vector(context, C=1, **params):
    """Logistic regression on the vector of a note's words."""
    encoder = NoteWordEncoder(**params, absent="zero", random_state=context.seed)
    memory = PrivateMemory(context.place / "encoded")
    return on(context.cohort.note_column, encoder, logistic(C), memory=memory)


def naive_bayes(context, **params):
    """The logits of the view, of whose cross-fitting nothing is read here."""
    encoder = NaiveBayesNoteEncoder(**params, cv=2, random_state=context.seed)
    return on(context.cohort.note_column, encoder, Logits())


def medfuse(context, views="full", labs=True, notes=True, tuned=False, **params):
    """MEDFuse; what its encoders give is kept for all models with the same views."""
    cohort, tuning = context.cohort, context.settings.fine_tuning if tuned else None
    if views == "paper":
        tuning = "lora"
        params |= {name: cohort[name] for name in ("reference_ranges", "units")}
    return make_medfuse_pipeline(
        cohort.lab_columns if labs else None,
        cohort.note_column if notes else None,
        views=views,
        note_encoder=note_encoder(context, tuning) if notes else None,
        memory=PrivateMemory(context.place / "encoded"),
        random_state=context.seed,
        **params,
    )


def without(view):
    """All views but one."""
    return {name: name != view for name in ("lab_text", "words", "boosted", "naive_bayes")}


def grid(**values):
    """Candidates, the first of each value first."""
    return list(ParameterGrid({name: list(of_name) for name, of_name in values.items()}))


_TREES = {"leaves": (4, 15), "rate": (0.03, 0.06), "trees": (100, 50)}
_BLENDS = {"C": (0.03, 0.01), "characters_C": (2, 10), "labs": (0.5, 1)}
_LINEAR_C = (0.5, 0.02, 0.05, 0.1, 0.2, 1, 2, 5)
_WORDS = grid(C=(1, 0.3, 3, 10))
_CHARACTERS = {"char_ngram_range": (3, 5), "max_terms": 60_000}
# Name → function and its candidates
MODELS = {
    LABS: (boosted_labs, grid(**_TREES)),
    TFIDF: (tfidf, grid(analyzer=("word", "char_wb"), C=(3, 0.3, 1, 10))),
    FROZEN: (frozen, grid(C=(0.003, 0.0003, 0.001, 0.01, 0.03, 0.1, 0.3, 1))),
    SKRUB: (skrub_boosting, grid(**_TREES)),
    # Four or two where a fit takes long: here, and for our nets
    CATBOOST: (catboost, grid(depth=(2, 3), trees=(150, 75))),
    LIGHTGBM: (lightgbm, grid(**_TREES)),
    BLEND_A: (blend, grid(**_BLENDS)),
    BLEND_B: (blend, grid(vectors=(True,), **_BLENDS)),
    PAPER: (medfuse, [{"views": "paper"}]),
    DEFAULT: (medfuse, [{}]),
    SEARCHED: (medfuse, grid(dropout=(0.3, 0.6), linear_weight=(0.5, 0.75))),
    REGRESSIONS: (medfuse, [_ALL_LINEAR | {"linear_C": C} for C in _LINEAR_C]),
    NET: (medfuse, [{"linear_weight": 0.0, "dropout": own, **UNDECIDED} for own in (0.3, 0.6)]),
    TUNED: (medfuse, [{"tuned": True}]),
}
# What words alone say, with the word views as they were, as they are and as they could be
WORDS = {
    "words: the blend's": (blend, grid(labs=(0,), C=(0.03, 0.01), characters_C=(2, 10))),
    "words: vector": (word_vector, _WORDS),
    "words: vector with numbers, without phrases": (
        word_vector,
        [{"drop_numbers": False, "phrases": False} | own for own in _WORDS],
    ),
    "words: vector with characters": (word_vector, [_CHARACTERS | own for own in _WORDS]),
    "words: naive Bayes": (naive_bayes, [{}]),
    "words: naive Bayes with phrases": (naive_bayes, [{"phrases": True}]),
    "words: naive Bayes without numbers": (naive_bayes, [{"drop_numbers": True}]),
}
# The ablation table: what is removed from all views, undecided
WITHOUT = {
    "all views": {},
    "without lab text": {"views": without("lab_text")},
    "without words": {"views": without("words")},
    "without boosted labs": {"views": without("boosted")},
    "without naive Bayes": {"views": without("naive_bayes")},
    "without any view": {"views": {}},
    "without notes": {"notes": False},
    "without labs": {"labs": False},
    "without attention: kronecker": {"fusion": "kronecker"},
    "without disentangled module: concat": {"fusion": "concat"},
    "without mutual information": {"mi_weight": 0.0},
    "without linear part": {"linear_weight": 0.0},
    "one net": {"n_estimators": 1},
}
MODELS |= WORDS | {name: (medfuse, [UNDECIDED | params]) for name, params in WITHOUT.items()}


def model_names(settings):
    """All models in the order of the report."""
    return [name for name in MODELS if name != TUNED or settings.fine_tuning is not None]


def note_encoder(context, fine_tuning=None):
    """The note model: frozen, with its vectors kept for all models, or fine-tuned."""
    settings = context.settings
    params = {} if settings.model is None else {"model": settings.model}
    if fine_tuning is None:
        return LLMNoteEncoder(**params, cache=context.place / "embeddings")
    if settings.max_epochs is not None:
        params["max_epochs"] = settings.max_epochs
    params |= {"fine_tuning": fine_tuning, "random_state": context.seed}
    # Tuned in a third of the time where the processor multiplies it
    return LLMNoteEncoder(**params, dtype="bfloat16")
