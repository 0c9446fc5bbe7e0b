"""How the suite calls the estimators and the pipeline's builder."""

import joblib
from sklearn import config_context
from sklearn.base import clone

import sklearn_medfuse
from sklearn_medfuse import make_medfuse_pipeline

from .public import Call

# scikit-learn's methods that take no rows
IDLE = {
    "get_feature_names_out": {},
    "get_metadata_routing": {},
    "get_params": {},
    "set_fit_request": {},
    "set_output": {"transform": "default"},
    "set_params": {},
    "set_partial_fit_request": {},
    "set_score_request": {},
    "set_split_request": {},
    "cache_info": {},
    "set_callbacks": {},
}
NAMES = {
    "MaskedLabEncoder": "labs",
    "BoostedLabEncoder": "boosted",
    "LabTextSerializer": "text",
    "LLMNoteEncoder": "notes",
    "NoteWordEncoder": "words",
    "NaiveBayesNoteEncoder": "naive_bayes",
    "NoteCleaner": "cleaner",
    "TableEncoder": "tables",
    "MEDFuseClassifier": "fuse",
}
INPUTS = {
    "labs": "labs_X",
    "boosted": "labs_X",
    "text": "labs_X",
    "notes": "notes_X",
    "words": "notes_X",
    "naive_bayes": "notes_X",
    "cleaner": "notes_X",
    "tables": "table_X",
    "fuse": "Z",
}


def _fresh(kind, method, **params):
    return lambda w, f, folder: getattr(clone(getattr(w, kind)).set_params(**params), method)


def routed(method):
    """A method that there is under metadata routing alone."""

    def call(**arguments):
        with config_context(enable_metadata_routing=True):
            method(**arguments)

    return call


def _routed(kind, method):
    return lambda w, f, folder: routed(lambda: getattr(clone(getattr(w, kind)), method)())


def _known(kind, method):
    return lambda w, f, folder: getattr(getattr(f, kind), method)


def _rows(kind, *more):
    def good(w, f, folder):
        every = {"X": getattr(w, INPUTS[kind]), "y": w.y, "groups": w.groups}
        every["sample_weight"] = w.X["note"].notna().astype(float) + 0.5
        every["sample_weight"].iloc[0] = 9.0
        return {name: every[name] for name in ("X", *more)}

    return good


def _calls() -> dict[str, Call]:
    calls = {}
    for name, kind in NAMES.items():
        labelled = ("y",) if kind in ("boosted", "naive_bayes", "fuse") else ()
        for method in ("fit", "fit_transform"):
            calls[f"{name}.{method}"] = Call(
                _fresh(kind, method), _rows(kind, *labelled), ("X", *labelled)
            )
        calls[f"{name}.transform"] = Call(_known(kind, "transform"), _rows(kind), ("X",))
        for method, arguments in IDLE.items():
            if not hasattr(getattr(sklearn_medfuse, name), method):
                continue
            target = _known(kind, method) if method.startswith("get") else _fresh(kind, method)
            if method.endswith("_request"):
                target = _routed(kind, method)
            calls[f"{name}.{method}"] = Call(target, lambda w, f, t, a=arguments: dict(a))
    return calls


CALLS = _calls()
for _method in ("impute", "score", "reconstruct"):
    CALLS[f"MaskedLabEncoder.{_method}"] = Call(_known("labs", _method), _rows("labs"), ("X",))
for _method in ("fit", "partial_fit"):
    CALLS[f"MaskedLabEncoder.{_method}"] = Call(
        _fresh("labs", _method), _rows("labs", "sample_weight"), ("X", "sample_weight")
    )
CALLS["MaskedLabEncoder.lab_correlation"] = Call(_known("labs", "lab_correlation"), lambda *_: {})
CALLS["TableEncoder.fit"] = Call(
    _fresh("tables", "fit"), _rows("tables", "groups"), ("X", "groups")
)
CALLS["NaiveBayesNoteEncoder.fit_transform"] = Call(
    _fresh("naive_bayes", "fit_transform"),
    _rows("naive_bayes", "y", "groups", "sample_weight"),
    ("X", "y", "groups", "sample_weight"),
)
CALLS["MEDFuseClassifier.fit"] = Call(
    _fresh(
        "fuse",
        "fit",
        early_stopping=True,
        validation_fraction=0.2,
        scoring="accuracy",
        threshold="tune",
        calibration="isotonic",
        decision_folds=2,
    ),
    _rows("fuse", "y", "groups", "sample_weight"),
    ("X", "y", "groups", "sample_weight"),
)
for _method in (
    "contributions",
    "decision_function",
    "mutual_information",
    "predict",
    "predict_log_proba",
    "predict_proba",
):
    CALLS[f"MEDFuseClassifier.{_method}"] = Call(_known("fuse", _method), _rows("fuse"), ("X",))
for _method in ("score", "modality_importance"):
    CALLS[f"MEDFuseClassifier.{_method}"] = Call(
        _known("fuse", _method), _rows("fuse", "y"), ("X", "y")
    )
CALLS["LLMNoteEncoder.fit"] = Call(
    lambda w, f, folder: (
        clone(w.notes)
        .set_params(
            fine_tuning="lora",
            max_epochs=1,
            max_chunks=1,
            batch_size=64,
            cache=folder / "vectors",
            checkpoint_dir=folder / "epochs",
            weights="full",
        )
        .fit
    ),
    _rows("notes", "y", "groups"),
    ("X", "y", "groups"),
)
CALLS["LLMNoteEncoder.fit_transform"] = Call(
    lambda w, f, folder: (
        clone(w.notes).set_params(cache=folder / "vectors", chunk_pooling="attention").fit_transform
    ),
    _rows("notes", "y"),
    ("X", "y"),
)


def _pipeline(w, f, folder):
    """Build a pipeline with every view of the notes, fit it, save and load it."""

    def build_and_use(X, y, stays):
        pipe = make_medfuse_pipeline(
            w.lab_columns,
            "note",
            lab_encoder=w.labs,
            note_encoder=w.notes,
            views={"lab_text": True, "words": w.words, "naive_bayes": w.naive_bayes},
            n_estimators=1,
            max_epochs=1,
            d_model=8,
            n_heads=2,
            device="cpu",
            random_state=0,
            verbose=1,
        ).set_params(verbose=True)
        pipe.fit(X, y)
        pipe.predict_proba(stays)
        joblib.dump(pipe, folder / "pipe.joblib")
        return joblib.load(folder / "pipe.joblib")

    return build_and_use


CALLS["make_medfuse_pipeline"] = Call(
    _pipeline, lambda w, f, folder: {"X": w.X, "y": w.y, "stays": w.X}, ("X", "y", "stays")
)
