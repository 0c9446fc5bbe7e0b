"""Logits and decisions as the estimator that scikit-learn's scorers ask for."""

from sklearn.base import BaseEstimator, ClassifierMixin

from ._decisions import Decisions


class ScoredModel(ClassifierMixin, BaseEstimator):
    """Answers what scorers ask; it is never fitted, cloned or kept.

    Parameters
    ----------
    decisions : Decisions
        What turns logits into answers.
    logits : callable
        ``logits(X)`` gives logits of shape (n, n_outputs).
    """

    def __init__(self, decisions: Decisions, logits):
        self.decisions = decisions
        self.logits = logits

    @property
    def classes_(self):
        """The classes."""
        return self.decisions.targets.classes

    def fit(self, X, y):
        """Refuse: scikit-learn takes only objects with this method for estimators."""
        raise NotImplementedError("The net is being fitted, or has been, by its owner.")

    def decision_function(self, X):
        """Logits in scikit-learn's shape."""
        return self.decisions.logits(self.logits(X))

    def predict_proba(self, X):
        """Probabilities in scikit-learn's shape."""
        return self.decisions.probabilities(self.logits(X))

    def predict(self, X):
        """Classes, or a 0/1 matrix."""
        return self.decisions.predict(self.logits(X))
