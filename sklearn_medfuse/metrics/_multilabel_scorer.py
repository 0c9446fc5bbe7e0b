"""A scorer that reads probabilities of several labels in whatever form a classifier gives them."""

import numpy as np
from sklearn.utils.metadata_routing import MetadataRequest

from .._private_errors import no_values_in_errors


class MultilabelScorer:
    """Score an estimator's probabilities, as ``scorer(estimator, X, y)``.

    It takes the place of :func:`sklearn.metrics.make_scorer`, which misreads two forms of
    `predict_proba`: for two labels the matrix of an `MLPClassifier` is taken for that of a
    binary target, and the single column of a label that a forest only saw as 0 is taken for the
    probability of 1.

    Parameters
    ----------
    score_func : callable
        A function of a module, which takes labels, probabilities and `sample_weight`.

    sign : {1, -1}
        -1 where less of the score is better.

    params : dict
        Further parameters of the function.
    """

    def __init__(self, score_func, sign, params):
        self.score_func = score_func
        self.sign = sign
        self.params = params
        self.set_score_request(sample_weight=None)

    def __call__(self, estimator, X, y_true, *, sample_weight=None):
        """Return the score; more is better."""
        with no_values_in_errors():
            y_prob = predict_positive(estimator, X)
        score = self.score_func(y_true, y_prob, sample_weight=sample_weight, **self.params)
        return self.sign * score

    def __repr__(self):
        """Name the function and its parameters."""
        params = "".join(f", {name}={value!r}" for name, value in self.params.items())
        sign = "" if self.sign > 0 else "-"
        return f"{type(self).__name__}({sign}{self.score_func.__name__}{params})"

    def set_score_request(self, *, sample_weight):
        """Say whether `sample_weight` is to be routed here, as scikit-learn's scorers do."""
        self._request = MetadataRequest(owner=type(self).__name__)
        self._request.score.add_request(param="sample_weight", alias=sample_weight)
        return self

    def get_metadata_routing(self):
        """Return the requests, for scikit-learn."""
        return self._request

    def _accept_sample_weight(self):
        # scikit-learn's searches over several scorers ask this where routing is off
        return True


def predict_positive(estimator, X):
    """Predict probabilities, and turn a list with an array per label into a matrix.

    Parameters
    ----------
    estimator : object
        A fitted classifier.

    X : array-like or DataFrame
        Its input.

    Returns
    -------
    y_prob : array-like
        What `check_scores` reads.
    """
    y_prob = estimator.predict_proba(X)
    if not isinstance(y_prob, list):
        return y_prob
    return np.column_stack(
        [
            pair @ (np.asarray(classes) == 1)
            for pair, classes in zip(y_prob, estimator.classes_, strict=True)
        ]
    )
