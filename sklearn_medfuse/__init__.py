"""Fuse lab tests and clinical notes for multi-label disease prediction, the scikit-learn way.

The estimators follow MEDFuse (Phan et al., CIKM 2024, arXiv 2407.12309). Each name is imported
when it is first used, so `import sklearn_medfuse` stays cheap.
"""

import importlib

from ._version import __version__

_HOMES = {
    "BoostedLabEncoder": "labs",
    "LLMNoteEncoder": "notes",
    "LabTextSerializer": "labs",
    "MEDFuseClassifier": "fusion",
    "MEDFusePipeline": "pipeline",
    "MaskedLabEncoder": "labs",
    "NaiveBayesNoteEncoder": "notes",
    "NoteCleaner": "notes",
    "NoteWordEncoder": "notes",
    "TableEncoder": "_table_encoder",
    "make_medfuse_pipeline": "pipeline",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str):
    if name in _HOMES:
        return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *__all__})
