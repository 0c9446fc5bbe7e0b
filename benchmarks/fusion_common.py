"""What the fusion benchmarks share: the lexical view, the pipelines, tables with intervals."""

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import Pipeline

from sklearn_medfuse import LLMNoteEncoder, MaskedLabEncoder, MEDFuseClassifier
from sklearn_medfuse.metrics import multilabel_report, paired_difference
from sklearn_medfuse.model_selection import MultilabelStratifiedGroupKFold

METRICS = ("auroc", "auprc")


class LexicalView(TransformerMixin, BaseEstimator):
    """Words and pairs of words of a note, TF-IDF reduced by SVD; NaN where there is no note.

    A sentence embedding loses single words, such as the name of a diagnosis; this view keeps them.
    """

    def __init__(self, n_components=300, random_state=None):
        self.n_components = n_components
        self.random_state = random_state

    def fit(self, X, y=None):
        """Learn vocabulary and components."""
        notes = self._notes(X)
        self.vectorizer_ = TfidfVectorizer(ngram_range=(1, 2), min_df=3, sublinear_tf=True)
        counts = self.vectorizer_.fit_transform(notes)
        width = min(self.n_components, min(counts.shape) - 1)
        self.svd_ = TruncatedSVD(width, random_state=self.random_state).fit(counts)
        return self

    def transform(self, X):
        """Components (n_rows, n_components)."""
        notes = self._notes(X)
        components = self.svd_.transform(self.vectorizer_.transform(notes))
        components[(notes == "").to_numpy()] = np.nan
        return components

    def get_feature_names_out(self, input_features=None):
        """Names of the components."""
        return np.array([f"lexical{i}" for i in range(len(self.svd_.components_))], dtype=object)

    @staticmethod
    def _notes(X):
        column = X.iloc[:, 0] if isinstance(X, pd.DataFrame) else pd.Series(X)
        return column.fillna("")


def medfuse(lab_columns, note_column, seed, *, words=False, note_encoder=None, **params):
    """Pipeline of labs and notes, with the lexical view as a third modality if wanted."""
    views = [
        ("labs", MaskedLabEncoder(random_state=seed), lab_columns),
        ("notes", LLMNoteEncoder() if note_encoder is None else note_encoder, note_column),
    ]
    if words:
        views.append(("words", LexicalView(random_state=seed), note_column))
        # components of an SVD have the sizes that they have for a reason
        params = {"input_scaling": {"words": "block"}} | params
    encode = ColumnTransformer(views).set_output(transform="pandas")
    return Pipeline(
        [("encode", encode), ("medfuse", MEDFuseClassifier(random_state=seed, **params))]
    )


def grouped_folds(cohort, groups, n_splits, seed):
    """Folds that hold out whole groups, an even share of each label in each."""
    splitter = MultilabelStratifiedGroupKFold(n_splits, shuffle=True, random_state=seed)
    return list(splitter.split(cohort.X, cohort.y, groups=groups))


def table(y, scores, groups, reference):
    """Macro scores with intervals by patient, and the gain of `reference` over each model."""
    rows = {}
    for name, score in scores.items():
        report = multilabel_report(y, score, groups=groups, random_state=0)
        rows[name] = {}
        for metric in METRICS:
            value, low, high = report.loc["macro", [metric, f"{metric}_low", f"{metric}_high"]]
            rows[name][metric.upper()] = f"{value:.4f} [{low:.3f}, {high:.3f}]"
            if name != reference:
                gain = paired_difference(
                    y, scores[reference], score, metric=metric, groups=groups, random_state=0
                ).loc["macro"]
                rows[name][f"gain {metric.upper()}"] = (
                    f"{gain['difference']:+.4f} "
                    f"[{gain['difference_low']:+.3f}, {gain['difference_high']:+.3f}]"
                )
    return pd.DataFrame(rows).T.fillna("").to_string()
