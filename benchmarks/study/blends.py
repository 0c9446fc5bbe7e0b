"""Blends of plain scikit-learn models of notes and labs: the peers to beat."""

import re
from itertools import pairwise

import joblib
import numpy as np
from common import logistic
from scipy import sparse
from scipy.special import expit, logit
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import (
    FunctionTransformer,
    QuantileTransformer,
    StandardScaler,
)

from sklearn_medfuse.model_selection import MultilabelStratifiedGroupKFold

_MEASUREMENTS = re.compile(r"^Measurements:.*$", re.MULTILINE)
_NUMBERS = re.compile(r"\d+(?:[.,/]\d+)*")
_WORDS = re.compile(r"\b\w\w+\b")
_KNOWN = {}


def without_numbers(notes):
    """Notes without numbers and lines of measurements; an empty string where there is no note."""
    return [_NUMBERS.sub(" ", _MEASUREMENTS.sub("", note)) for note in notes.fillna("")]


def phrases_and_words(note):
    """Phrases of a pick list, words and pairs of words."""
    phrases = [" ".join(phrase.split()) for phrase in re.split(r"[.;:\n]", note.lower())]
    words = _WORDS.findall(note.lower())
    pairs = [f"{a} {b}" for a, b in pairwise(words)]
    return [f"<{phrase}>" for phrase in phrases if phrase] + words + pairs


def note_phrases(cohort, C):
    """Naive-Bayes-weighted logistic regression on phrases, words and pairs of words."""
    terms = CountVectorizer(analyzer=phrases_and_words, min_df=3, binary=True)
    steps = FunctionTransformer(without_numbers), terms
    return on(cohort.note_column, *steps, OneVsRestClassifier(NaiveBayesLogistic(C)))


def note_characters(cohort, C):
    """Logistic regression on runs of three to five characters."""
    steps = FunctionTransformer(without_numbers), character_terms()
    return on(cohort.note_column, *steps, logistic(C))


def character_terms():
    """Runs of three to five characters."""
    return TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), min_df=3, sublinear_tf=True)


def labs_regression(cohort, C=0.02):
    """Logistic regression on rank-normalised labs, their squares, and what was not measured."""
    rank = QuantileTransformer(n_quantiles=100, output_distribution="normal")
    labs = make_pipeline(rank, SimpleImputer(keep_empty_features=True))
    squares = make_pipeline(clone(labs), FunctionTransformer(np.square))
    features = make_union(labs, squares, MissingIndicator(features="all"))
    return on(cohort.lab_columns, features, StandardScaler(), logistic(C))


def on(columns, *steps, memory=None):
    """Take some columns, encode them by all steps but the last, which classifies."""
    encode = ColumnTransformer([("x", make_pipeline(*steps[:-1]), columns)])
    return make_pipeline(encode, steps[-1], memory=memory)


class NaiveBayesLogistic(ClassifierMixin, BaseEstimator):
    """Logistic regression on terms weighted by naive Bayes (Wang & Manning 2012), for one label."""

    def __init__(self, C=0.03):
        self.C = C

    def fit(self, X, y):
        """Weigh each term by the log ratio of its counts with and without the label."""
        p, q = 1 + X.T @ y, 1 + X.T @ (1 - y)
        self.ratio_ = sparse.diags_array(np.log(p / p.sum()) - np.log(q / q.sum()))
        self.regression_ = LogisticRegression(C=self.C, max_iter=1000).fit(X @ self.ratio_, y)
        self.classes_ = self.regression_.classes_
        return self

    def predict_proba(self, X):
        """Probabilities (n_rows, 2)."""
        return self.regression_.predict_proba(X @ self.ratio_)


class Blend(ClassifierMixin, BaseEstimator):
    """Weighted sum of the members' logits, each z-scored, with a probability learned from it.

    Mean, deviation and the last step come from folds that hold out groups, as a model is too sure
    of the rows that it was fitted on.
    `members` are pairs of a model with `predict_proba` and its weight.
    """

    def __init__(self, members):
        self.members = members

    def fit(self, X, y, groups):
        """Fit the members on all rows and on each fold's."""
        labels = np.asarray(y)
        folds = MultilabelStratifiedGroupKFold(3, shuffle=True, random_state=0)
        held_out = np.zeros((len(self.members), *labels.shape))
        for kept, left in folds.split(X, y, groups):
            for logits, (member, _) in zip(held_out, self.members, strict=True):
                logits[left] = once(logits_of, member, X.iloc[kept], labels[kept], X.iloc[left])
        self.mean_ = held_out.mean(axis=1, keepdims=True)
        self.deviation_ = held_out.std(axis=1, keepdims=True) + 1e-9
        # One slope for all labels: that of a rare one alone may be negative
        of_label = np.tile(np.eye(labels.shape[1]), (len(labels), 1))
        features = np.column_stack([self._sum(held_out).ravel(), of_label])
        last = LogisticRegression(C=100, fit_intercept=False).fit(features, labels.ravel())
        self.slope_, self.intercept_ = last.coef_[0, 0], last.coef_[0, 1:]
        for member, _ in self.members:
            once(fitted, member, X, labels)
        self.rows_ = X, labels
        return self

    def predict_proba(self, X):
        """Probabilities (n_rows, n_labels)."""
        each = [once(logits_of, member, *self.rows_, X) for member, _ in self.members]
        total = self._sum(np.stack(each))
        return expit(total * self.slope_ + self.intercept_)

    def _sum(self, logits):
        weights = np.array([weight for _, weight in self.members])
        return np.tensordot(weights, (logits - self.mean_) / self.deviation_, 1)


def once(function, *arguments):
    """What a function gives, computed once: candidates of a search have members in common."""
    key = joblib.hash((function.__name__, *arguments))
    if key not in _KNOWN:
        _KNOWN[key] = function(*arguments)
    return _KNOWN[key]


def fitted(member, X, y):
    """A member fitted to some rows."""
    return clone(member).fit(X, y)


def logits_of(member, X, y, X_new):
    """Logits of new rows; probabilities may be 0 or 1."""
    probability = once(fitted, member, X, y).predict_proba(X_new)
    return logit(np.clip(probability, 1e-4, 1 - 1e-4))


class Logits(ClassifierMixin, BaseEstimator):
    """Takes its input for logits of the labels."""

    def fit(self, X, y):
        """Learn nothing."""
        self.classes_ = np.arange(y.shape[1])
        return self

    def predict_proba(self, X):
        """Probabilities (n_rows, n_labels)."""
        return expit(np.nan_to_num(X))
